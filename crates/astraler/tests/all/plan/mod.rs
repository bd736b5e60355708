//! Plan, apply, drift, destroy and the difference of two environments, on real engines.

#![expect(
    clippy::disallowed_methods,
    reason = "a person's editor does not write durably either"
)]

mod crash;

use crate::support::{eventually, small};
use astraler_testkit::{Finished, Platform};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const NOTHING: i32 = 0;
const WANTED: i32 = 10;
const DRIFT: i32 = 11;
const PROTECTED: i32 = 12;
const STALE: i32 = 13;
const DIFFERS: i32 = 14;

fn run(platform: &Platform, words: &str) -> Finished {
    platform.run(&words.split(' ').collect::<Vec<_>>()).unwrap()
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn manifest(platform: &Platform) -> PathBuf {
    platform.application().join("astraler.toml")
}

/// `kind address` of each action.
fn actions(plan: &Value) -> Vec<String> {
    let actions = plan["actions"].as_array().unwrap().iter();
    actions
        .map(|action| {
            format!(
                "{} {}",
                action["kind"].as_str().unwrap(),
                action["address"].as_str().unwrap()
            )
        })
        .collect()
}

/// What engines, the records' keeper and the committer of the configuration write by themselves.
const BACKGROUND: [&str; 5] = ["data", "logs", "signal", "@configuration.git", "dns.json"];

/// Digests of all that the platform keeps, but for [`BACKGROUND`].
fn state(platform: &Platform) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut queue = vec![platform.state(), platform.runtime()];
    while let Some(folder) = queue.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let own = BACKGROUND.iter().any(|own| name == *own) || name.to_string_lossy().ends_with("-shm");
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !own {
                queue.push(path);
            } else if kind.is_file() && !own {
                let digest = hex::encode(Sha256::digest(std::fs::read(&path).unwrap()));
                found.insert(path, digest);
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

fn runtime(platform: &Platform) -> PathBuf {
    let folders = platform.runtime().read_dir().unwrap().flatten();
    folders
        .map(|entry| entry.path())
        .find(|path| path.join("snapshots").exists())
        .unwrap()
}

/// A statement as the superuser of the shared cluster, who is not bound by any role.
fn superuser(platform: &Platform, database: &str, statement: &str) -> String {
    ask(platform, "shared", database, statement)
}

fn ask(platform: &Platform, cluster: &str, database: &str, statement: &str) -> String {
    let secret = runtime(platform).join(format!("secrets/postgres-{cluster}-superuser"));
    let ports = std::fs::read(platform.state().join("ports.json")).unwrap();
    let ports: Value = serde_json::from_slice(&ports).unwrap();
    let port = ports[format!("postgres_{cluster}")].to_string();
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-At", "-h", "127.0.0.1", "-p", &port])
        .args(["-U", "astraler", "-d", database, "-c", statement])
        .env("PGPASSWORD", std::fs::read_to_string(secret).unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{statement}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn redis(platform: &Platform, environment: &str, words: &[&str]) -> String {
    let password = run(
        platform,
        &format!("env credential {environment} redis_control_password"),
    )
    .ok();
    let socket = runtime(platform)
        .join("redis")
        .join(environment)
        .join("redis.sock");
    let output = Command::new("redis-cli")
        .arg("-s")
        .arg(socket)
        .args(["--user", "control"])
        .args(words)
        .env("REDISCLI_AUTH", password.out.trim())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_plan_is_shown_applied_and_kept_and_what_is_changed_by_hand_is_mended() {
    let platform = small();
    platform
        .up(&["--env", "development", "--env", "staging"])
        .unwrap()
        .ok();
    // Previews' golden copy is made in the background after each deployment of staging.
    eventually("the golden copy is made", Duration::from_secs(60), || {
        let copies = "SELECT count(*) FROM pg_database WHERE datname = 'staging_golden'";
        superuser(&platform, "postgres", copies) == "1"
            && !runtime(&platform).join("secrets/golden.pgpass").exists()
    });
    let before = state(&platform);
    let plan = run(&platform, "plan").failed_with(NOTHING);
    assert!(plan.out.contains("nothing to change"), "{}", plan.out);
    run(&platform, "drift").failed_with(NOTHING);
    let refused = run(&platform, "plan --env production").failed_with(1);
    assert!(
        refused.err.contains("promote staging production"),
        "{}",
        refused.err
    );

    // What the manifest wants.
    append(
        &manifest(&platform),
        "\n[database]\npool_size = 7\nmax_connections = 60\n\n[redis]\nmaxmemory_bytes = 67108864\n\n[edge.limits]\nmax_headers = 50\n",
    );
    let plan = run(&platform, "plan --json").failed_with(WANTED);
    let file = platform.application().join("saved.plan");
    let saved = run(&platform, &format!("plan --out {}", file.display())).failed_with(WANTED);
    assert!(
        saved.out.contains("maxmemory_bytes: 134217728 -> 67108864"),
        "{}",
        saved.out
    );
    assert_eq!(before, state(&platform), "a look writes nothing");
    assert_eq!(
        actions(&plan.json()),
        [
            "replace edge.settings",
            "change postgres.shared.settings",
            "change environment.development.database",
            "change environment.development.redis",
            "replace environment.development.workers",
            "change environment.development.pool",
            "change environment.staging.database",
            "change environment.staging.redis",
            "replace environment.staging.workers",
            "change environment.staging.pool",
        ]
    );
    let text = std::fs::read_to_string(&file).unwrap();
    for name in [
        "postgres_owner_password",
        "redis_password",
        "redis_control_password",
        "s3_secret_access_key",
    ] {
        let secret = run(&platform, &format!("env credential staging {name}")).ok();
        assert!(!text.contains(secret.out.trim()), "{name} is in the plan");
    }

    let nobody = run(&platform, "apply").failed_with(1);
    assert!(nobody.err.contains("--yes"), "{}", nobody.err);
    run(&platform, "plan").failed_with(WANTED);
    let applied = run(&platform, &format!("apply {} --yes", file.display())).ok();
    assert!(applied.out.contains("10 steps done"), "{}", applied.out);
    assert_eq!(superuser(&platform, "postgres", "SHOW max_connections"), "60");
    assert!(redis(&platform, "staging", &["CONFIG", "GET", "maxmemory"]).ends_with("67108864"));
    let data = std::fs::read(runtime(&platform).join("snapshots/data.json")).unwrap();
    let data: Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(data["environments"]["staging"]["postgres"]["pool_size"], 7);
    assert_eq!(platform.get("/api/health").unwrap().status, 200);

    let second = run(&platform, "apply --yes").ok();
    assert!(second.out.contains("nothing was done"), "{}", second.out);
    run(&platform, "plan").failed_with(NOTHING);
    let stale = run(&platform, &format!("apply {} --yes", file.display())).failed_with(STALE);
    assert!(
        stale
            .err
            .contains("environment.staging.pool: nothing is to do any more"),
        "{}",
        stale.err
    );

    // What does not come up: the deployment before serves on, and the manifest as it was wants nothing.
    let good = std::fs::read_to_string(manifest(&platform)).unwrap();
    append(
        &manifest(&platform),
        "\n[deploy]\nhealth_path = \"/api/nothing\"\nhealth_timeout_ms = 300\n",
    );
    let failed = run(&platform, "apply --env development --yes").failed_with(1);
    assert!(
        failed.err.contains("it answered 404 to the probe"),
        "{}",
        failed.err
    );
    assert!(
        failed.err.contains("the old deployment serves on"),
        "{}",
        failed.err
    );
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    std::fs::write(manifest(&platform), good).unwrap();
    run(&platform, "plan").failed_with(NOTHING);

    // What people did.
    for statement in [
        "ALTER ROLE staging_service SET work_mem = '64MB'",
        "ALTER ROLE staging_owner CONNECTION LIMIT 1",
        "ALTER SYSTEM SET work_mem = '3MB'",
        "SELECT pg_reload_conf()",
        "DROP DATABASE development WITH (FORCE)",
    ] {
        superuser(&platform, "postgres", statement);
    }
    assert_eq!(
        redis(&platform, "staging", &["CONFIG", "SET", "maxmemory", "5000000"]),
        "OK"
    );
    append(
        &platform.state().join("redis/development/conf/redis.conf"),
        "maxclients 7\n",
    );
    append(
        &platform.state().join("postgres/shared/conf/pg_hba.conf"),
        "host all all 0.0.0.0/0 trust\n",
    );
    let routes = runtime(&platform).join("snapshots/edge.json");
    let text = std::fs::read_to_string(&routes).unwrap();
    std::fs::write(&routes, text.replace("staging.localhost", "by-hand.localhost")).unwrap();

    let drift = run(&platform, "drift --json").failed_with(DRIFT).json();
    let found = drift["actions"].as_array().unwrap();
    assert!(found.iter().all(|action| action["cause"] == "drift"), "{drift:#}");
    assert_eq!(
        actions(&drift),
        [
            "change postgres.shared.settings",
            "create environment.development.database",
            "change environment.development.redis",
            "change environment.staging.database",
            "change environment.staging.redis",
            "change environment.staging.routes",
        ]
    );
    let shown = run(&platform, "drift").failed_with(DRIFT).out;
    for line in [
        "alter_system.work_mem: 3MB -> none",
        "service.everywhere.work_mem: 64MB -> none",
        "owner.connection_limit: 1 -> 8",
        "maxmemory_bytes: 5000000 -> 67108864",
        "it was made and is gone",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    // Beside it something that is wanted: the two are told apart.
    let text = std::fs::read_to_string(manifest(&platform)).unwrap();
    std::fs::write(
        manifest(&platform),
        text.replace("pool_size = 7", "pool_size = 8"),
    )
    .unwrap();
    let both = run(&platform, "plan --json").failed_with(DRIFT).json();
    let cause = |address: &str| {
        let actions = both["actions"].as_array().unwrap();
        let action = actions.iter().find(|action| action["address"] == address);
        action.map(|action| action["cause"].clone())
    };
    assert_eq!(cause("environment.staging.redis"), Some(json!("drift")));
    assert_eq!(cause("environment.staging.pool"), Some(json!("wanted")));

    run(&platform, "apply --yes").ok();
    run(&platform, "drift").failed_with(NOTHING);
    run(&platform, "plan").failed_with(NOTHING);
    assert_eq!(
        superuser(
            &platform,
            "development",
            "SELECT to_regclass('notes') IS NOT NULL"
        ),
        "t",
        "the database is there again, with its migrations"
    );
    assert!(redis(&platform, "staging", &["CONFIG", "GET", "maxmemory"]).ends_with("67108864"));
    let health = platform
        .request("GET", "staging.localhost", "/api/health", b"")
        .unwrap();
    assert_eq!(health.status, 200, "its route is back");
    run(&platform, "audit verify").ok();
}

#[test]
fn destroying_takes_all_of_an_environment_and_what_is_protected_takes_two_steps() {
    let platform = small();
    platform
        .up(&["--env", "development", "--env", "staging", "--env", "production"])
        .unwrap()
        .ok();
    for host in ["staging.localhost", "app.localhost"] {
        let put = platform.request("PUT", host, "/api/files/kept", b"text").unwrap();
        assert_eq!(put.status, 204);
    }
    let shown = run(&platform, "destroy --env staging --show").failed_with(WANTED);
    assert!(
        shown.out.contains("destroy  environment.staging.bucket.files"),
        "{}",
        shown.out
    );
    for refused in ["destroy --env staging", "destroy --env staging --yes stagin"] {
        run(&platform, refused).failed_with(1);
    }
    let health = |host: &str| platform.request("GET", host, "/api/health", b"").unwrap().status;
    assert_eq!(health("staging.localhost"), 200, "nothing was destroyed yet");

    run(&platform, "destroy --env staging --yes staging").ok();
    assert_eq!(health("staging.localhost"), 421);
    assert_eq!((health("localhost"), health("app.localhost")), (200, 200));
    let left: Vec<(u32, String)> = platform
        .processes()
        .into_iter()
        .filter(|(_, command)| command.contains("staging"))
        .collect();
    assert_eq!(left, [], "no process is left");
    assert!(!platform.state().join("redis/staging").exists());
    let databases = "SELECT count(*) FROM pg_database WHERE datname = 'staging'";
    assert_eq!(superuser(&platform, "postgres", databases), "0");
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'staging%'";
    assert_eq!(superuser(&platform, "postgres", roles), "0");
    let again = run(&platform, "destroy --env staging --yes staging").ok();
    assert!(again.out.contains("nothing was done"), "{}", again.out);
    run(&platform, "plan").failed_with(NOTHING);

    // A new staging begins with nothing of the old one.
    run(&platform, "apply --env staging --yes").ok();
    assert_eq!(health("staging.localhost"), 200);
    let file = platform
        .request("GET", "staging.localhost", "/api/files/kept", b"")
        .unwrap();
    assert_eq!(file.status, 404, "its files are gone");

    // Protected by default; by the manifest; never by what the manifest says at the moment of destroying.
    append(
        &manifest(&platform),
        "\n[environments.staging]\nprotected = true\n",
    );
    run(&platform, "apply --yes").ok();
    for environment in ["production", "staging"] {
        let refused = run(
            &platform,
            &format!("destroy --env {environment} --yes {environment}"),
        )
        .failed_with(PROTECTED);
        assert!(refused.err.contains("two steps"), "{}", refused.err);
    }
    let text = std::fs::read_to_string(manifest(&platform)).unwrap();
    std::fs::write(
        manifest(&platform),
        text.replace("protected = true", "protected = false") + "\n[protection]\nenvironments = []\n",
    )
    .unwrap();
    run(&platform, "destroy --env production --yes production").failed_with(PROTECTED);
    let file = platform
        .request("GET", "app.localhost", "/api/files/kept", b"")
        .unwrap();
    assert_eq!(file.text(), "text", "nothing of it was touched");
    let plan = run(&platform, "plan").failed_with(WANTED);
    assert!(plan.out.contains("protected: true -> false"), "{}", plan.out);
    run(&platform, "apply --yes").ok();
    let name = run(&platform, "destroy").failed_with(1);
    assert!(name.err.contains("--yes small"), "{}", name.err);
    // The power goes when it has begun, and the next `up` needs no cluster of production's.
    let all = ["destroy", "--yes", "small", "--json"];
    crash::kill_at(&platform, &all, r#""event":"begin""#);
    run(&platform, "down").ok();
    platform.up(&[]).unwrap().ok();
    assert_eq!(platform.pid("postgres-production").unwrap(), None);
    let status = run(&platform, "status").ok().out;
    assert!(
        status.contains("the destruction of production was begun"),
        "{status}"
    );
    let plan = run(&platform, "plan").failed_with(WANTED);
    assert!(
        plan.out.contains("destruction of its environment was begun"),
        "{}",
        plan.out
    );
    run(&platform, "apply --yes").ok();
    let status = run(&platform, "status --json").ok().json();
    let left: Vec<&Value> = status["environments"].as_array().unwrap().iter().collect();
    assert_eq!(left.len(), 1, "{status:#}");
    assert_eq!(left[0]["environment"], "development");
    let databases = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname NOT LIKE 'template%'";
    assert_eq!(ask(&platform, "production", "postgres", databases), "postgres");
    run(&platform, "plan").failed_with(NOTHING);
    let nothing = run(&platform, "destroy --env production --yes production").ok();
    assert!(nothing.out.contains("nothing of it is there"), "{}", nothing.out);
    run(&platform, "audit verify").ok();
}

#[test]
fn the_difference_of_two_environments_is_shown_without_values() {
    let platform = small();
    append(
        &manifest(&platform),
        "\n[environments.production.vars]\nGREETING = \"confidential words\"\nONLY_HERE = \"1\"\n",
    );
    platform
        .up(&["--env", "staging", "--env", "production"])
        .unwrap()
        .ok();
    let diff = run(&platform, "env diff staging production --json").ok();
    assert!(!diff.out.contains("confidential"), "{}", diff.out);
    let diff = diff.json();
    let unexpected: Vec<String> = diff["differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|difference| difference["expected"] == false)
        .map(|difference| {
            format!(
                "{} {}",
                difference["group"].as_str().unwrap(),
                difference["name"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(unexpected, ["variables api.ONLY_HERE"], "{diff:#}");
    assert_eq!(diff["unexpected"], 1);

    // The schema as it is, whatever migrations say.
    let password = run(&platform, "env credential staging postgres_owner_password").ok();
    let shown = run(&platform, "env show staging --json").ok().json();
    let changed = Command::new("psql")
        .args(["--no-psqlrc", "-c", "CREATE INDEX by_hand ON notes (text)"])
        .arg(shown["endpoints"]["postgres_owner"].as_str().unwrap())
        .env("PGPASSWORD", password.out.trim())
        .output()
        .unwrap();
    assert!(changed.status.success(), "{changed:?}");
    let gate = run(&platform, "env diff staging production --gate").failed_with(DIFFERS);
    assert!(
        gate.out.contains("index public.by_hand") && gate.out.contains("2 differences"),
        "{}",
        gate.out
    );
    run(&platform, "env diff staging development").failed_with(7);
}
