//! Backups to a second S3 service, and a database brought back from them.

mod bucket;
mod recover;

use crate::support::{PROGRAM, eventually};
use astraler_testkit::{Platform, small_application};
use bucket::{BUCKET, Bucket, KEY_ID, SECRET};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The small application with `[backups]` as told.
fn platform(backups: &str) -> Platform {
    Platform::new(PROGRAM, |folder| {
        small_application(folder)?;
        let mut manifest = std::fs::File::options()
            .append(true)
            .open(folder.join("astraler.toml"))?;
        write!(manifest, "\n[backups]\n{backups}\n")
    })
    .unwrap()
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

fn status(platform: &Platform) -> Value {
    platform.run(&["backup", "status", "--json"]).unwrap().json()
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

    // It is back: what waited goes there by itself.
    bucket = Bucket::start(&store, port);
    eventually(
        "the log reaches the bucket again",
        Duration::from_secs(60),
        || status(&platform)["clusters"][0]["archive"]["waiting"] == 0,
    );
    platform.run(&["backup", "run"]).unwrap().ok();
    assert_eq!(status(&platform)["healthy"], true);

    // Wrong credentials are named as such, without their value; a file that others can read is not used.
    credentials(&file, "wrong-canary");
    to_daemon(&platform, &file);
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(failed.err.contains("refuses the credentials"), "{}", failed.err);
    assert!(!failed.err.contains("wrong-canary"), "{}", failed.err);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failed = platform.run(&["backup", "run"]).unwrap().failed_with(1);
    assert!(failed.err.contains("chmod 600"), "{}", failed.err);

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
    drop(platform);
    drop(bucket);
}
