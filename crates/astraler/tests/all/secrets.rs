//! The user's secrets on a real platform: who gets which, when, and that nobody else sees them.

use crate::support::PROGRAM;
use astraler_testkit::{Finished, Platform};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Answers the secrets that it has been given.
const WORKER: &str = r#"
const OWN = ["FILES", "DB", "UPSTASH_REDIS_REST_TOKEN", "UPSTASH_REDIS_REST_URL", "APP_ENVIRONMENT"];
export default {
  async fetch(request, env) {
    const { searchParams } = new URL(request.url);
    if (searchParams.has("wait")) await scheduler.wait(Number(searchParams.get("wait")));
    if (searchParams.has("say")) console.log(`it is ${env[searchParams.get("say")]}`);
    return Response.json(Object.fromEntries(Object.entries(env).filter(([name]) => !OWN.includes(name))));
  },
};
"#;

const MANIFEST: &str = r#"name = "some"
domain = "some.example"
[workers.one]
path = "one"
routes = ["/one/*"]
[workers.two]
path = "two"
routes = ["/two/*"]
[secrets]
rotation_days = 30
[[secrets.required]]
name = "NEEDED"
service = "one"
environments = ["staging"]
"#;

/// Two workers that have what they are granted, and more in their manifest.
pub(crate) fn platform_with(more: &str) -> Platform {
    Platform::new(PROGRAM, |folder| {
        write(&folder.join("astraler.toml"), &format!("{MANIFEST}{more}"));
        for name in ["one", "two"] {
            write(&folder.join(name).join("index.js"), WORKER);
            let mut config = json!({ "name": name, "main": "index.js", "compatibility_date": "2026-10-01" });
            if name == "two" {
                config["r2_buckets"] = json!([{ "binding": "FILES", "bucket_name": "files" }]);
                config["hyperdrive"] = json!([{ "binding": "DB", "id": "0".repeat(32) }]);
            }
            write(&folder.join(name).join("wrangler.json"), &config.to_string());
        }
        Ok(())
    })
    .unwrap()
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Runs a command with something on its standard input.
pub(crate) fn piped(platform: &Platform, arguments: &[&str], input: &str) -> Finished {
    let mut command = platform.command(arguments);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: Duration::ZERO,
    }
}

fn has(platform: &Platform, host: &str, worker: &str) -> Value {
    let answer = platform
        .request("GET", host, &format!("/{worker}/"), b"")
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_secret_reaches_whom_it_is_granted_with_the_next_deployment_and_nobody_else() {
    let platform = platform_with("");
    platform.up(&[]).unwrap().ok();
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        platform.run(&words).unwrap()
    };
    let dev = |worker: &str| has(&platform, "localhost", worker);

    // Set, and nobody has it: deny by default, and workers are what they are until they are deployed.
    let set = piped(
        &platform,
        &["secrets", "set", "KEY", "--env", "development"],
        "first value\n",
    )
    .ok();
    assert!(
        set.out.contains("version 1") && set.out.contains("nobody may have it"),
        "{}",
        set.out
    );
    let again = piped(
        &platform,
        &["secrets", "set", "KEY", "--env", "development"],
        "first value",
    )
    .ok();
    assert!(
        again.out.contains("has this value already: version 1"),
        "{}",
        again.out
    );
    run("secrets apply --env development").ok();
    assert_eq!((dev("one"), dev("two")), (json!({}), json!({})));

    let granted = run("secrets grant KEY --env development --to one").ok();
    assert!(
        granted.out.contains("astraler secrets apply --env development"),
        "{}",
        granted.out
    );
    assert_eq!(dev("one"), json!({}), "not before its next deployment");
    // No request fails while it is applied.
    let (stop, served, failed) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match platform.get("/one/?wait=20") {
                        Ok(answer) if answer.status == 200 => served.store(true, Ordering::Relaxed),
                        _ => failed.store(true, Ordering::Relaxed),
                    }
                }
            });
        }
        run("secrets apply --env development --wait").ok();
        stop.store(true, Ordering::Relaxed);
    });
    assert!(served.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed));
    assert_eq!(
        (dev("one"), dev("two")),
        (json!({ "KEY": "first value" }), json!({}))
    );
    let nothing = run("secrets apply --env development --json").ok();
    assert!(nothing.out.contains(r#""changed":false"#), "{}", nothing.out);

    // A rotation: the old value stays where it runs, also for a process that is started anew.
    let file = platform.application().join("value");
    write(&file, "second value\n");
    let file = file.display().to_string();
    let rotated = run(&format!(
        "secrets rotate KEY --env development --from-file {file}"
    ))
    .ok();
    assert!(rotated.out.contains("version 2"), "{}", rotated.out);
    let same = run(&format!(
        "secrets rotate KEY --env development --from-file {file}"
    ))
    .failed_with(1);
    assert!(same.err.contains("the old one"), "{}", same.err);
    let unit = platform.run(&["status", "--json"]).unwrap().json()["parts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["name"].as_str().unwrap().starts_with("workers-development"))
        .unwrap()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    crate::support::kill(platform.pid(&unit).unwrap().unwrap());
    crate::support::eventually("the worker is back", Duration::from_secs(30), || {
        platform.get("/one/").is_ok_and(|answer| answer.status == 200)
    });
    assert_eq!(dev("one"), json!({ "KEY": "first value" }));
    let history = run("secrets history KEY --env development --json").ok().json();
    let versions = |history: &Value| -> Vec<(u64, bool)> {
        let all = history.as_array().unwrap().iter();
        all.map(|one| (one["version"].as_u64().unwrap(), one["sealed"] == true))
            .collect()
    };
    assert_eq!(versions(&history), [(2, true), (1, true)]);
    // `up` is a deployment like another.
    platform.up(&[]).unwrap().ok();
    assert_eq!(dev("one"), json!({ "KEY": "second value" }));
    let history = run("secrets history KEY --env development --json").ok().json();
    assert_eq!(
        versions(&history),
        [(2, true), (1, false)],
        "the old value is deleted"
    );
    assert!(history[0]["actor"].as_str().unwrap().starts_with("uid "));
    // The plan knows of it: names and versions, no value.
    run("secrets rotate KEY --env development --generate").ok();
    let plan = run("plan --json").failed_with(10);
    assert!(
        plan.out.contains("worker.one.secrets") && !plan.out.contains("second value"),
        "{}",
        plan.out
    );
    platform.run(&["apply", "--yes"]).unwrap().ok();
    let made = dev("one")["KEY"].as_str().unwrap().to_owned();
    assert!(
        made.len() == 32 && made.chars().all(|c| c.is_ascii_alphanumeric()),
        "{made}"
    );
    let back = run("rollback --env development").failed_with(1);
    assert!(
        back.err.contains("no earlier deployment"),
        "secrets alone are nothing to go back to: {}",
        back.err
    );
    // Another release; then back, with the secret of today.
    let code = WORKER.replace(
        "Object.fromEntries(Object.entries(env)",
        "Object.fromEntries([[\"new\", 1], ...Object.entries(env)]",
    );
    write(&platform.application().join("one/index.js"), &code);
    platform.up(&[]).unwrap().ok();
    assert_eq!(dev("one"), json!({ "KEY": made, "new": 1 }));
    write(Path::new(&file), "third value");
    run(&format!(
        "secrets rotate KEY --env development --from-file {file}"
    ))
    .ok();
    run("rollback --env development --wait").ok();
    assert_eq!(dev("one"), json!({ "KEY": "third value" }));
    write(&platform.application().join("one/index.js"), WORKER);
    let made = "third value";

    // Taken back, removed.
    run("secrets grant KEY --env development --to two").ok();
    run("secrets revoke KEY --env development --from one").ok();
    run("secrets apply --env development --wait").ok();
    assert_eq!((dev("one"), dev("two")), (json!({}), json!({ "KEY": made })));
    let removed = run("secrets remove KEY --env development").ok();
    assert!(
        removed.out.contains("secrets apply --env development"),
        "{}",
        removed.out
    );
    run("secrets apply --env development --wait").ok();
    assert_eq!(dev("two"), json!({}));
    let history = run("secrets history KEY --env development --json").ok().json();
    assert_eq!(
        versions(&history),
        [(5, false), (4, false), (3, false), (2, false), (1, false)]
    );
    assert_eq!(run("secrets list --json").ok().json(), json!([]));

    // The chain told each release before it happened.
    let audit = run("audit list -n 200 --json").ok().json();
    let about = |action: &str| -> Vec<&Value> {
        let all = audit.as_array().unwrap().iter();
        all.filter(|entry| entry["action"] == action).collect()
    };
    assert_eq!(about("secret set").len(), 1);
    assert_eq!(about("secret rotate").len(), 3);
    let released = about("secret release");
    let with = |entry: &&&Value| entry["detail"]["one"].to_string().contains("KEY");
    assert!(released.iter().filter(with).count() >= 3, "{released:?}");
    run("audit verify").ok();

    // What the manifest requires: refused by name, with the commands; then it is there, and another environment's is not.
    let refused = platform.up(&["--env", "staging"]).unwrap().failed_with(1);
    for words in [
        "staging has no secret `NEEDED`",
        "`astraler secrets set NEEDED --env staging --from-file FILE`",
        "`astraler secrets grant NEEDED --env staging --to one`",
    ] {
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    piped(
        &platform,
        &["secrets", "set", "NEEDED", "--env", "staging"],
        "of staging",
    )
    .ok();
    let refused = platform.up(&["--env", "staging"]).unwrap().failed_with(1);
    assert!(refused.err.contains("is not granted to one"), "{}", refused.err);
    run("secrets grant NEEDED --env staging --to one").ok();
    piped(
        &platform,
        &["secrets", "set", "NEEDED", "--env", "development"],
        "of development",
    )
    .ok();
    platform.up(&["--env", "staging"]).unwrap().ok();
    assert_eq!(
        has(&platform, "staging.localhost", "one"),
        json!({ "NEEDED": "of staging" })
    );
    let diff = run("env diff development staging --json").ok().json();
    let named = diff.to_string();
    assert!(
        named.contains("NEEDED") && !named.contains("of staging"),
        "{named}"
    );

    let listed = run("secrets list --env staging --json").ok().json();
    let days =
        (listed[0]["due_ms"].as_u64().unwrap() - listed[0]["created_ms"].as_u64().unwrap()) / 86_400_000;
    assert_eq!((days, &listed[0]["grants"]), (30, &json!(["one"])), "{listed}");
    let shown = run("secrets list").ok();
    assert!(
        shown.out.contains("NEEDED") && !shown.out.contains("of staging"),
        "{}",
        shown.out
    );

    // What cannot be meant.
    for (words, expected) in [
        ("secrets set A-B --env staging", "cannot name a secret"),
        (
            "secrets set GITHUB_TOKEN --env staging",
            "the platform fills that name",
        ),
        (
            "secrets set needed --env staging",
            "differs from it by case alone",
        ),
        ("secrets set X --env pr-7", "`pr-7` is `preview` here"),
        ("secrets set X --env nowhere", "has no secrets"),
        ("secrets rotate X --env staging", "there is no secret `X`"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let refused = piped(&platform, &words, "value").failed_with(1);
        assert!(refused.err.contains(expected), "{words:?}: {}", refused.err);
    }
    let empty = piped(&platform, &["secrets", "set", "X", "--env", "staging"], "\n").failed_with(1);
    assert!(empty.err.contains("it is empty"), "{}", empty.err);
    for words in [
        "secrets grant X --env staging --to one",
        "secrets revoke X --env staging --from one",
        "secrets remove X --env staging",
        "secrets history X --env staging",
    ] {
        let refused = run(words).failed_with(1);
        assert!(
            refused.err.contains("there is no secret `X` in staging"),
            "{}",
            refused.err
        );
    }
    let odd = run("secrets grant NEEDED --env staging --to three").ok();
    assert!(
        odd.out.contains("no worker `three` runs in staging"),
        "{}",
        odd.out
    );
    run("secrets set X --env staging value").failed_with(2);
}
