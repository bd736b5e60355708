//! Backups to a second S3 service, and a database brought back from them.

mod bucket;
mod disk;
mod full;
mod recover;
mod replica;
mod whole;

use crate::support::{eventually, small};
use astraler_store::{NewBackup, Store};
use astraler_testkit::Platform;
use bucket::{BUCKET, Bucket, KEY_ID, SECRET};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The small application with `[backups]` as told.
fn platform(backups: &str) -> Platform {
    let platform = small();
    append(&platform, &format!("[backups]\n{backups}\n"));
    platform
}

/// More at the end of a manifest.
fn append(platform: &Platform, text: &str) {
    let path = platform.application().join("astraler.toml");
    let mut manifest = std::fs::File::options().append(true).open(path).unwrap();
    write!(manifest, "\n{text}").unwrap();
}

/// A statement as the superuser of the shared cluster.
fn sql(platform: &Platform, database: &str, statement: &str) -> Result<String, String> {
    let runtime = std::fs::read_dir(platform.runtime())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("snapshots").exists())
        .unwrap();
    let ports: Value =
        serde_json::from_slice(&std::fs::read(platform.state().join("ports.json")).unwrap()).unwrap();
    let password = std::fs::read_to_string(runtime.join("secrets/postgres-shared-superuser")).unwrap();
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
        .args(["-p", &ports["postgres_shared"].to_string()])
        .args(["-U", "astraler", "-d", database, "-c", statement])
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Gives a file or folder to the daemon's own user, where it has one.
fn to_daemon(platform: &Platform, path: &Path) {
    let owner = std::fs::metadata(platform.state().join("control")).unwrap();
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn credentials(path: &Path, secret: &str) {
    let text = format!("AWS_ACCESS_KEY_ID={KEY_ID}\nAWS_SECRET_ACCESS_KEY={secret}\n");
    std::fs::File::create(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// `/metrics`, as Prometheus asks for it.
fn metrics(platform: &Platform) -> String {
    let token = platform
        .run(&["token", "create", "prometheus", "--scope", "read"])
        .unwrap()
        .ok();
    let token = token.out.trim().to_owned();
    let answer = platform.api("GET", "/metrics", Some(&token), b"").unwrap();
    platform.run(&["token", "revoke", "prometheus"]).unwrap().ok();
    assert_eq!(answer.status, 200);
    answer.text()
}

/// Not in the state, not at run time.
fn secret_is_nowhere(platform: &Platform) {
    for place in [platform.state(), platform.runtime()] {
        let found = Command::new("grep")
            .args(["-rlF", "--", SECRET])
            .arg(&place)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&found.stdout),
            "",
            "the secret is nowhere"
        );
    }
}

fn status(platform: &Platform) -> Value {
    let told = platform.run(&["backup", "status", "--json"]).unwrap();
    assert!(!told.out.is_empty(), "{}", told.err);
    told.json()
}

#[test]
fn logs_bases_and_dumps_reach_a_bucket_and_trouble_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = folder.path().join("store");
    let mut bucket = Bucket::start(&store, 0);
    let file = folder.path().join("backup.env");
    credentials(&file, SECRET);
    let platform = platform(&format!(
        "target_url = \"s3://{BUCKET}/team\"\nendpoint_url = \"http://127.0.0.1:{}\"\ncredentials_file = \"{}\"",
        bucket.port,
        file.display()
    ));
    platform.up(&[]).unwrap().ok();
    to_daemon(&platform, &file);

    let made = platform.run(&["backup", "run"]).unwrap().ok();
    assert!(
        made.out.contains("base shared") && made.out.contains("dump development"),
        "{}",
        made.out
    );
    let report = status(&platform);
    assert_eq!(report["healthy"], true, "{report:#}");
    let archive = &report["clusters"][0]["archive"];
    assert_eq!(archive["waiting"], 0, "{report:#}");
    assert!(archive["segment"].is_string(), "{report:#}");
    let list = platform.run(&["backup", "list", "--json"]).unwrap().ok().json();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|one| one["kind"] == "base" && one["state"] == "done"),
        "{list:#}"
    );

    // The bucket is away: the platform serves on, the log waits, and that is told.
    let port = bucket.port;
    drop(bucket);
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(failed.err.contains("s3://backups/team"), "{}", failed.err);
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    let report = status(&platform);
    assert_eq!(report["healthy"], false);
    assert!(
        report["clusters"][0]["archive"]["waiting"].as_u64().unwrap() > 0,
        "{report:#}"
    );

    eventually("an alert is raised", Duration::from_secs(30), || {
        let alerts = platform.run(&["alerts", "list", "--json"]).unwrap().ok().json();
        let mut open = alerts["alerts"].as_array().unwrap().iter();
        open.any(|alert| {
            alert["summary"]
                .as_str()
                .unwrap()
                .contains("dump development was not made")
        })
    });
    let metrics = metrics(&platform);
    for line in [
        "astraler_backup_success{kind=\"dump\",subject=\"development\"} 0",
        "astraler_backup_healthy{kind=\"base\",subject=\"shared\"} 0",
        "# TYPE astraler_backup_log_lag_seconds gauge",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    // It is back: what waited goes there by itself.
    bucket = Bucket::start(&store, port);
    eventually(
        "the log reaches the bucket again",
        Duration::from_secs(60),
        || status(&platform)["clusters"][0]["archive"]["waiting"] == 0,
    );
    platform.run(&["backup", "run"]).unwrap().ok();
    assert_eq!(status(&platform)["healthy"], true);
    eventually("the alert is over", Duration::from_secs(30), || {
        let alerts = platform.run(&["alerts", "list", "--json"]).unwrap().ok().json();
        let mut open = alerts["alerts"].as_array().unwrap().iter();
        open.all(|alert| alert["state"] == "resolved")
    });
    let metrics = self::metrics(&platform);
    let size = metrics.lines().find_map(|line| {
        line.strip_prefix("astraler_backup_size_bytes{kind=\"dump\",subject=\"development\"} ")
    });
    assert!(size.unwrap().parse::<u64>().unwrap() > 1_000, "{metrics}");
    assert!(
        metrics.contains("astraler_backup_log_waiting_segments{cluster=\"shared\"} 0"),
        "{metrics}"
    );

    // Wrong credentials are named as such, without their value; a file that others can read is not used.
    credentials(&file, "wrong-canary");
    to_daemon(&platform, &file);
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(failed.err.contains("refuses the credentials"), "{}", failed.err);
    assert!(!failed.err.contains("wrong-canary"), "{}", failed.err);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(failed.err.contains("chmod 600"), "{}", failed.err);

    secret_is_nowhere(&platform);
    drop(platform);
    drop(bucket);
}

#[test]
fn backups_are_as_their_keys_say() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let target = folder.path().join("backups");
    let platform = small();
    platform.up(&[]).unwrap().ok();
    assert_eq!(status(&platform)["clusters"], serde_json::json!([]));
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(failed.err.contains("backups.target_url"), "{}", failed.err);
    platform.run(&["down"]).unwrap().ok();

    // A dump that is older than `database_hours`, a base that is not; one set within the retention, one beyond it.
    {
        let store = Store::open(&platform.state().join("control/control.db")).unwrap();
        for (kind, subject, hours) in [("dump", "development", 7), ("base", "shared", 5)] {
            let at = now_ms() - hours * 3_600_000;
            let id = store.backup_begin(kind, subject, at).unwrap();
            let made = NewBackup {
                location: "planted",
                sha256: "",
                bytes: 1,
            };
            store.backup_end(id, Ok(&made), at).unwrap();
        }
    }
    let beyond = plant(&target, 8);
    let within = plant(&target, 6);
    give_all(&platform, &target);
    let manifest = std::fs::read_to_string(platform.application().join("astraler.toml")).unwrap();
    let settings = format!(
        "[backups]\ntarget_url = \"file://{}\"\ndatabase_hours = 6\nretention_days = 7\n",
        target.display()
    );
    append(
        &platform,
        &format!("[recovery]\nrecovery_point_s = 40\n{settings}"),
    );
    platform.up(&[]).unwrap().ok();
    eventually("what is due is made", Duration::from_secs(30), || {
        !beyond.exists()
    });
    assert!(within.exists(), "it may stay");
    let made = platform.run(&["backup", "list", "--json"]).unwrap().ok().json();
    let made: Vec<(&str, &str)> = made
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["kind"].as_str().unwrap(), one["location"].as_str().unwrap()))
        .filter(|(kind, location)| matches!(*kind, "base" | "dump") && *location != "planted")
        .collect();
    assert!(
        made.len() == 1 && made[0].0 == "dump" && made[0].1.starts_with("dump/development/"),
        "the base is not due: {made:?}"
    );
    assert_eq!(sql(&platform, "postgres", "SHOW archive_timeout").unwrap(), "20s");

    // Without the log there are dumps alone; and production's may not be on its own device, unless that is said.
    std::fs::File::create(platform.application().join("astraler.toml"))
        .unwrap()
        .write_all(manifest.as_bytes())
        .unwrap();
    append(&platform, &format!("{settings}wal = false\n"));
    platform
        .up(&["--env", "development", "--env", "production"])
        .unwrap()
        .ok();
    assert_eq!(sql(&platform, "postgres", "SHOW archive_mode").unwrap(), "off");
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(
        failed.err.contains("is on the device that it protects") && failed.err.contains("allow_same_device"),
        "{}",
        failed.err
    );
    let report = status(&platform);
    assert_eq!(report["healthy"], false);
    let of = |cluster: &str| {
        let all = report["clusters"].as_array().unwrap();
        let found = all.iter().find(|one| one["cluster"] == cluster);
        found.unwrap_or_else(|| panic!("{report:#}")).clone()
    };
    assert_eq!(of("shared")["archive"], Value::Null);
    assert_eq!(of("shared")["backups"].as_array().unwrap().len(), 1, "{report:#}");
    let refused = of("production")["backups"][0]["error"].to_string();
    assert!(refused.contains("allow_same_device"), "{report:#}");
    append(&platform, "allow_same_device = true\n");
    platform.up(&["--env", "production"]).unwrap().ok();
    let made = platform.run(&["backup", "run"]).unwrap().ok();
    assert!(made.out.contains("dump production"), "{}", made.out);
    assert_eq!(status(&platform)["healthy"], true);
}

#[test]
fn a_drill_proves_a_restore_and_says_when_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let target = folder.path().join("backups");
    std::fs::create_dir(&target).unwrap();
    let platform = platform(&format!(
        "target_url = \"file://{}\"\n[recovery]\ndrill_hours = 1",
        target.display()
    ));
    platform.up(&[]).unwrap().ok();
    to_daemon(&platform, &target);
    platform.run(&["backup", "run"]).unwrap().ok();
    let shown = platform.run(&["status"]).unwrap().ok().out;
    assert!(shown.contains("no restore is proven yet"), "{shown}");

    // What was proven two hours ago is proven anew, by itself.
    platform.run(&["down"]).unwrap().ok();
    {
        let store = Store::open(&platform.state().join("control/control.db")).unwrap();
        let at = now_ms() - 2 * 3_600_000;
        let id = store.drill_begin("shared", at).unwrap();
        store.drill_end(id, Ok("{}"), at).unwrap();
    }
    platform.up(&[]).unwrap().ok();
    let drill = || platform.run(&["status", "--json"]).unwrap().ok().json()["drills"][0].clone();
    eventually("a drill by itself", Duration::from_secs(60), || {
        drill()["proven_ms"].as_u64().unwrap() > now_ms() - 3_600_000
    });
    let first = drill();
    assert!(first["proof"]["databases"].as_u64().unwrap() >= 1, "{first:#}");
    assert!(first["proof"]["bytes"].as_u64().unwrap() > 1_000, "{first:#}");
    assert!(first["proof"]["tables"].as_u64().unwrap() > 50, "{first:#}");
    assert!(first["proof"]["indexes"].as_u64().unwrap() > 50, "{first:#}");
    assert_eq!(first["proof"]["pages"], true, "{first:#}");
    assert_eq!(first["error"], Value::Null, "{first:#}");

    let made = platform.run(&["drill", "--env", "development"]).unwrap().ok();
    assert!(made.out.contains("is proven"), "{}", made.out);
    let shown = platform.run(&["status"]).unwrap().ok().out;
    assert!(shown.contains("postgres shared: a restore to "), "{shown}");
    let report = platform.run(&["status", "--json"]).unwrap().ok().json();
    assert_eq!(report["last_proven_restore"], drill(), "{report:#}");
    let other = platform
        .run(&["drill", "--env", "production"])
        .unwrap()
        .failed_with(1);
    assert!(other.err.contains("nothing to restore from"), "{}", other.err);
    for left in ["scratch", "fetched"] {
        assert!(!platform.state().join("postgres").join(left).exists(), "{left}");
    }

    // A backup that somebody changed proves nothing: what was proven before is still shown, and people are told.
    for base in recover::find(&target, "base.tar.gz") {
        let mut bytes = std::fs::read(&base).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::File::create(&base).unwrap().write_all(&bytes).unwrap();
    }
    let failed = platform.run(&["drill"]).unwrap().failed_with(1);
    assert!(failed.err.contains("was changed"), "{}", failed.err);
    let last = drill();
    assert!(last["proven_ms"].is_u64(), "{last:#}");
    assert!(
        last["error"].as_str().unwrap().contains("was changed"),
        "{last:#}"
    );
    let alerts = platform.run(&["alerts", "list", "--json"]).unwrap().ok().json();
    let mut open = alerts["alerts"].as_array().unwrap().iter();
    assert!(
        open.any(|alert| alert["key"]["rule"] == "drill" && alert["severity"] == "high"),
        "{alerts:#}"
    );
}

/// A set of another database that ended so many days ago; returns its folder.
fn plant(target: &Path, days: u64) -> std::path::PathBuf {
    let folder = target.join(format!("small/dump/staging/{days}-days-ago"));
    std::fs::create_dir_all(&folder).unwrap();
    let at = now_ms() - days * 86_400_000;
    let set = serde_json::json!({
        "format": 1, "kind": "dump", "subject": "staging", "postgres": "15.1",
        "started_ms": at, "ended_ms": at, "objects": [],
    });
    let path = folder.join("set.json");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(set.to_string().as_bytes())
        .unwrap();
    path
}

/// A folder with all that is in it.
fn give_all(platform: &Platform, path: &Path) {
    to_daemon(platform, path);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            give_all(platform, &entry.path());
        }
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
