//! The machine is gone: everything comes back from the backups and two shares, on another one.

use super::{append, give_all};
use crate::git::done;
use crate::secrets::{piped, write};
use crate::support::{PROGRAM, eventually, is_root, small};
use astraler_testkit::{API_WORKER, Finished, Platform};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SECRET: &str = "canary-of-the-recovery-93d0";
/// Development and production, each in a cluster of its own.
const HOSTS: [(&str, &str, &str); 2] = [
    ("development", "shared", "localhost"),
    ("production", "production", "app.localhost"),
];

/// For docs/benchmarks.md, with `--nocapture`.
#[expect(clippy::print_stderr, reason = "a figure that a person asked for")]
fn figure(text: &str) {
    eprintln!("{text}");
}

/// A statement as the superuser of a cluster.
#[track_caller]
fn sql(platform: &Platform, environment: &str, cluster: &str, statement: &str) -> String {
    let record = std::fs::read(platform.state().join("installation.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let runtime = Path::new(record["layout"]["runtime"].as_str().unwrap());
    let password = runtime.join(format!("secrets/postgres-{cluster}-superuser"));
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
        .args(["-p", &record["ports"][format!("postgres_{cluster}")].to_string()])
        .args(["-U", "astraler", "-d", environment, "-c", statement])
        .env("PGPASSWORD", std::fs::read_to_string(password).unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{statement}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Gone {
    _folder: tempfile::TempDir,
    backups: PathBuf,
    /// A second location of production's buckets.
    replica: PathBuf,
    shares: Vec<PathBuf>,
    /// Shares of another key.
    others: Vec<PathBuf>,
    commit: String,
    deployments: Value,
}

/// A platform with all that one has, backed up; then every process is killed and every file of it removed.
fn gone() -> Gone {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let backups = folder.path().join("backups");
    let replica = folder.path().join("replica");
    for folder in [&backups, &replica] {
        std::fs::create_dir(folder).unwrap();
    }
    let platform = small();
    let shares = |name: &str| {
        let output = folder.path().join(name);
        std::fs::create_dir(&output).unwrap();
        let made = platform
            .run(&[
                "secrets",
                "recovery-key",
                "create",
                "--json",
                "--output",
                output.to_str().unwrap(),
            ])
            .unwrap()
            .ok()
            .json();
        let files: Vec<PathBuf> = (1..=3)
            .map(|number| output.join(format!("share-{number}.txt")))
            .collect();
        (made["recipient"].as_str().unwrap().to_owned(), files)
    };
    let (recipient, own) = shares("shares");
    let (_, others) = shares("others");
    append(
        &platform,
        &format!(
            "[backups]\ntarget_url = \"file://{}\"\nallow_same_device = true\nrecovery_recipient = \"{recipient}\"\n\
             [storage]\nreplication_url = \"file://{}\"\n",
            backups.display(),
            replica.display()
        ),
    );
    let worker = API_WORKER.replacen(
        "if (pathname === \"/api/count\")",
        "if (pathname === \"/api/secret\") return new Response(env.STRIPE_KEY ?? \"none\");\n    if (pathname === \"/api/count\")",
        1,
    );
    write(&platform.application().join("workers/api/index.js"), &worker);
    let sources = platform.application().to_owned();
    done(&sources, &["init", "--quiet", "--initial-branch=main"]);
    done(&sources, &["add", "."]);
    done(&sources, &["commit", "--quiet", "-m", "first"]);
    platform
        .up(&["--env", "development", "--env", "production"])
        .unwrap()
        .ok();
    done(
        &sources,
        &["push", "--quiet", "-o", "skip-ci", "astraler", "main"],
    );
    give_all(&platform, &backups);
    let data = std::fs::metadata(platform.state().join("storage")).unwrap();
    std::os::unix::fs::chown(&replica, Some(data.uid()), Some(data.gid())).unwrap();
    let put = platform
        .request("PUT", "app.localhost", "/api/files/kept", b"an object")
        .unwrap();
    assert_eq!(put.status, 204, "{}", put.text());
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        platform.run(&words).unwrap().ok()
    };
    piped(
        &platform,
        &["secrets", "set", "STRIPE_KEY", "--env", "production"],
        SECRET,
    )
    .ok();
    run("secrets grant STRIPE_KEY --env production --to api");
    run("secrets apply --env production");
    for (environment, cluster, _) in HOSTS {
        sql(
            &platform,
            environment,
            cluster,
            &format!("INSERT INTO notes VALUES (1, 'before the base in {environment}')"),
        );
    }
    run("backup run");
    // After the base: it comes back from the log alone.
    for (environment, cluster, _) in HOSTS {
        sql(
            &platform,
            environment,
            cluster,
            "INSERT INTO notes VALUES (2, 'from the log')",
        );
    }
    run("backup run");
    eventually(
        "the bucket is at its second location",
        Duration::from_secs(60),
        || {
            let report = super::status(&platform)["storage"].clone();
            report[0]["waiting"] == 0 && report[0]["error"].is_null()
        },
    );
    let gone = Gone {
        backups,
        replica,
        shares: own,
        others,
        commit: done(&sources, &["rev-parse", "HEAD"]),
        deployments: live(&platform),
        _folder: folder,
    };
    burn(platform);
    gone
}

/// Ends every process at once; its files go with it.
fn burn(platform: Platform) {
    for _ in 0..50 {
        let left = platform.processes();
        if left.is_empty() {
            break;
        }
        for (pid, _) in left {
            Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap();
        }
    }
    drop(platform);
}

fn live(platform: &Platform) -> Value {
    let all = platform.run(&["deployments", "--json"]).unwrap().ok().json();
    let mut live: Vec<Value> = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["state"] == "live")
        .map(|one| json!([one["environment"], one["id"], one["release"]]))
        .collect();
    live.sort_by_key(Value::to_string);
    live.into()
}

fn words(gone: &Gone, platform: &Platform, from: &Path, shares: &[PathBuf], more: &[&str]) -> Vec<String> {
    let mut all = vec![
        "recover".to_owned(),
        "full".into(),
        "--from".into(),
        format!("file://{}", from.display()),
        "--port".into(),
        platform.port.to_string(),
    ];
    for share in shares {
        all.extend(["--share-file".into(), share.display().to_string()]);
    }
    all.extend(more.iter().map(ToString::to_string));
    assert!(gone.backups.exists() && gone.replica.exists());
    all
}

fn recover(gone: &Gone, platform: &Platform, shares: &[PathBuf], more: &[&str]) -> Finished {
    let all = words(gone, platform, &gone.backups, shares, more);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    platform.run(&all).unwrap()
}

/// A machine on which nothing is.
fn empty() -> Platform {
    Platform::new(PROGRAM, |_| Ok(())).unwrap()
}

/// Everything that was is, under the same names.
#[track_caller]
fn whole(gone: &Gone, platform: &Platform) {
    assert_eq!(live(platform), gone.deployments);
    for (environment, cluster, host) in HOSTS {
        let answer = platform.request("GET", host, "/api/health", b"").unwrap();
        assert_eq!(answer.status, 200, "{environment}: {}", answer.text());
        assert_eq!(answer.json()["environment"], environment);
        let rows = "SELECT string_agg(text, ', ' ORDER BY id) FROM notes WHERE id < 3";
        assert_eq!(
            sql(platform, environment, cluster, rows),
            format!("before the base in {environment}, from the log")
        );
        // Redis began empty.
        let count = platform.request("GET", host, "/api/count", b"").unwrap();
        assert_eq!(count.json()["count"], 1, "{environment}");
    }
    let secret = |host| platform.request("GET", host, "/api/secret", b"").unwrap().text();
    assert_eq!(
        (secret("localhost").as_str(), secret("app.localhost").as_str()),
        ("none", SECRET)
    );
    let object = platform
        .request("GET", "app.localhost", "/api/files/kept", b"")
        .unwrap();
    assert_eq!((object.status, object.text().as_str()), (200, "an object"));
    let listed = platform
        .run(&["secrets", "list", "--env", "production", "--json"])
        .unwrap()
        .ok();
    assert!(listed.out.contains("STRIPE_KEY"), "{}", listed.out);
    let sources = platform.application();
    assert_eq!(done(sources, &["rev-parse", "HEAD"]), gone.commit);
    assert_eq!(done(sources, &["status", "--porcelain", "--", "workers"]), "");
    assert!(done(sources, &["ls-remote", "astraler"]).contains(&gone.commit));
    platform.run(&["audit", "verify"]).unwrap().ok();
    let found = Command::new("grep")
        .args(["-rlF", "--", SECRET])
        .arg(platform.state())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "",
        "it is sealed here too"
    );
    let key = std::fs::read_dir(platform.config())
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("root.key"))
        .find(|path| path.exists())
        .unwrap();
    let key = std::fs::metadata(key).unwrap();
    let daemon = std::fs::metadata(platform.state().join("control")).unwrap();
    assert_eq!((key.mode() & 0o7777, key.uid()), (0o400, daemon.uid()));
    assert!(!is_root() || key.uid() != 0);
    assert!(
        !platform.state().join("recovery").exists(),
        "what was fetched is gone"
    );
}

#[test]
fn a_machine_that_is_gone_comes_back_from_its_backups_and_two_shares() {
    let gone = gone();
    let two = &gone.shares[..2];
    refusals(&gone);

    // Killed in each step and after each; the same command again goes on.
    let platform = empty();
    let planned = recover(&gone, &platform, &[], &["--dry-run", "--json"])
        .ok()
        .json();
    let kinds: Vec<&str> = planned["sets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| set["kind"].as_str().unwrap())
        .collect();
    for kind in ["state", "secrets", "release", "base"] {
        assert!(kinds.contains(&kind), "{planned:#}");
    }
    assert!(planned["range"]["production"]["to_ms"].is_u64(), "{planned:#}");
    assert!(!platform.state().exists(), "a look makes nothing");
    let mut killed = Vec::new();
    while let Some(step) = kill_at(&gone, &platform, two, killed.len()) {
        killed.push(step);
        assert!(killed.len() < 60, "it never ends: {killed:?}");
    }
    let journal = std::fs::read_to_string(platform.state().join("recovery.jsonl")).unwrap();
    let steps: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["at"] == "end")
        .map(|line| line["step"].clone())
        .collect();
    assert_eq!(
        steps,
        [
            "keys",
            "sources",
            "place",
            "releases",
            "postgres production",
            "postgres shared",
            "platform",
            "objects"
        ]
    );
    for step in &steps {
        assert!(killed.contains(step), "{step} was not cut short: {killed:?}");
    }
    whole(&gone, &platform);
    let again = recover(&gone, &platform, two, &[]).ok();
    assert!(again.out.contains("was recovered here before"), "{}", again.out);

    // It goes on as a platform does: the sources make the same release, and what is written now is backed up, on a timeline
    // of its own.
    platform
        .up(&["--env", "development", "--env", "production"])
        .unwrap()
        .ok();
    assert_eq!(live(&platform), gone.deployments);
    for (environment, cluster, _) in HOSTS {
        sql(
            &platform,
            environment,
            cluster,
            "INSERT INTO notes VALUES (3, 'since')",
        );
    }
    platform.run(&["backup", "run"]).unwrap().ok();
    platform.run(&["backup", "verify"]).unwrap().ok();
    assert_eq!(super::status(&platform)["healthy"], true);
    pause(Duration::from_millis(50));
    let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    let point = sql(&platform, "postgres", "production", now);
    pause(Duration::from_millis(50));
    sql(
        &platform,
        "production",
        "production",
        "INSERT INTO notes VALUES (4, 'too late')",
    );
    platform.run(&["backup", "run"]).unwrap().ok();
    burn(platform);

    // And gone again: to the moment before a point in time.
    let platform = empty();
    let early = recover(
        &gone,
        &platform,
        &gone.shares[1..],
        &["--to", "2020-01-01T00:00:00Z"],
    )
    .failed_with(1);
    assert!(early.err.contains("--dry-run"), "{}", early.err);
    burn(platform);
    let platform = empty();
    let done = recover(&gone, &platform, &gone.shares[1..], &["--to", &point]).ok();
    figure(&format!("recover full: {:.1} s", done.took.as_secs_f64()));
    assert!(done.out.contains("Redis begins empty"), "{}", done.out);
    assert!(done.took < Duration::from_secs(60), "{:?}", done.took);
    whole(&gone, &platform);
    let rows = "SELECT count(*) FROM notes";
    assert_eq!(sql(&platform, "production", "production", rows), "3");
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    assert_eq!(sql(&platform, "production", "production", timeline), "3");
}

/// What is not enough, wrong, changed, or in the way.
fn refusals(gone: &Gone) {
    let platform = empty();
    let refused = recover(gone, &platform, &gone.shares[..1], &[]).failed_with(1);
    assert!(
        refused.err.contains("2 of the 3 shares are needed"),
        "{}",
        refused.err
    );
    let mixed = [gone.shares[0].clone(), gone.others[1].clone()];
    let refused = recover(gone, &platform, &mixed, &[]).failed_with(1);
    assert!(refused.err.contains("of two keys"), "{}", refused.err);
    assert!(!platform.state().exists(), "nothing was begun");
    let named = recover(gone, &platform, &gone.shares[..2], &["--name", "other"]).failed_with(1);
    assert!(named.err.contains("no backups of `other`"), "{}", named.err);

    let file = platform.application().join("somebody's");
    write(&file, "here");
    let refused = recover(gone, &platform, &gone.shares[..2], &[]).failed_with(1);
    assert!(
        refused.err.contains("is not empty: it holds somebody's"),
        "{}",
        refused.err
    );
    std::fs::remove_file(&file).unwrap();
    assert!(!platform.state().exists(), "nothing was begun");

    let refused = recover(gone, &platform, &gone.others[..2], &[]).failed_with(1);
    assert!(refused.err.contains("does not open this"), "{}", refused.err);

    // A byte of a sealed root key, and of what the control plane knew, in a copy of the backups.
    for name in ["root.key.age", "control.sqlite"] {
        let platform = empty();
        let copy = tempfile::tempdir().unwrap();
        let status = Command::new("cp")
            .args(["-r", "--"])
            .arg(&gone.backups)
            .arg(copy.path())
            .status()
            .unwrap();
        assert!(status.success());
        let copy = copy.path().join("backups");
        for path in super::whole::named(&copy, name) {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bytes).unwrap();
        }
        let all = words(gone, &platform, &copy, &gone.shares[..2], &[]);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let refused = platform.run(&all).unwrap().failed_with(8);
        assert!(
            refused.err.contains(name) && refused.err.contains("was changed"),
            "{name}: {}",
            refused.err
        );
    }
}

/// Kills the command in the middle of a step where `count` is even, and right after one where it is odd. `None` when it came
/// to its end.
fn kill_at(gone: &Gone, platform: &Platform, shares: &[PathBuf], count: usize) -> Option<Value> {
    let all = words(gone, platform, &gone.backups, shares, &["--json"]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut child = platform.command(&all).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, events) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            sender.send(serde_json::from_str::<Value>(&line).unwrap()).ok();
        }
    });
    let wanted = if count.is_multiple_of(2) { "begin" } else { "end" };
    let mut last = Value::Null;
    let mut killed = None;
    for event in events.iter() {
        // Those two are no steps: they are made sure of each time.
        let unjournaled = event["part"] == "keep" || event["part"] == "tools";
        if event["event"] == wanted && !unjournaled {
            if wanted == "begin" {
                // Somewhere in it, and elsewhere in each; at its end where it is over sooner.
                let within = Duration::from_millis(20 + (count as u64 * 37) % 150);
                events.recv_timeout(within).ok();
            }
            child.kill().unwrap();
            killed = Some(event["part"].clone());
            break;
        }
        last = event;
    }
    let output = child.wait_with_output().unwrap();
    drop(events);
    reader.join().unwrap();
    if killed.is_some() && output.status.code().is_none() {
        return killed;
    }
    assert!(
        output.status.success(),
        "after {count} kills: {last}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    None
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a test thread may wait")]
    std::thread::sleep(time);
}
