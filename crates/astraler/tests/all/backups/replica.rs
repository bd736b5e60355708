//! Buckets at a second S3 service: in real time, behind and caught up, verified, and brought back.

use super::bucket::{BUCKET, Bucket, SECRET};
use super::{append, credentials, secret_is_nowhere, status};
use crate::support::{eventually, is_root, kill, small};
use astraler_storage::{ListOptions, PutOptions, Store, StoreOptions, body_of};
use astraler_testkit::Platform;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);

fn put(platform: &Platform, host: &str, name: &str, text: &str) {
    let path = format!("/api/files/{name}");
    let answer = platform.request("PUT", host, &path, text.as_bytes()).unwrap();
    assert_eq!(answer.status, 204, "{name}");
}

fn file(platform: &Platform, name: &str) -> (u16, String) {
    let path = format!("/api/files/{name}");
    let answer = platform.request("GET", "localhost", &path, b"").unwrap();
    (answer.status, answer.text())
}

fn standing(platform: &Platform) -> Value {
    let report = status(platform);
    let all = report["storage"].as_array().unwrap().clone();
    let names: Vec<&str> = all.iter().filter_map(|one| one["environment"].as_str()).collect();
    assert!(
        !names.contains(&"production"),
        "it says that it is not: {report:#}"
    );
    let found = all.iter().find(|one| one["environment"] == "development");
    found.unwrap_or_else(|| panic!("{report:#}")).clone()
}

fn caught_up(platform: &Platform) -> bool {
    let now = standing(platform);
    now["waiting"] == 0 && now["error"].is_null()
}

/// The alert about the replica, while it fires: the channels hear of its end later.
fn alert(platform: &Platform) -> Option<Value> {
    let all = platform.run(&["alerts", "list", "--json"]).unwrap().ok().json();
    let open = all["alerts"].as_array().unwrap().clone();
    open.into_iter()
        .find(|alert| alert["state"] == "firing" && alert.to_string().contains("storage-replication"))
}

/// The store of the second service, while nobody serves it.
async fn far(folder: &Path) -> (Store, Vec<String>) {
    let options = StoreOptions {
        reserve_bytes: 0,
        ..StoreOptions::default()
    };
    let store = Store::open(folder, options).unwrap();
    let page = store.list(BUCKET, ListOptions::default()).await.unwrap();
    let keys = page.objects.into_iter().map(|object| object.key).collect();
    (store, keys)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn a_bucket_is_replicated_watched_verified_and_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kept = folder.path().join("store");
    let mut bucket = Bucket::start(&kept, 0);
    let port = bucket.port;
    let key_file = folder.path().join("replica.env");
    credentials(&key_file, SECRET);
    let platform = small();
    append(
        &platform,
        &format!(
            "[storage]\nreplication_url = \"s3://{BUCKET}/team\"\n\
             replication_endpoint_url = \"http://127.0.0.1:{port}\"\n\
             replication_credentials_file = \"{}\"\n\
             [environments.development]\nreplicate_storage = true\n\
             [environments.staging]\nreplicate_storage = true\n\
             [environments.production]\nreplicate_storage = false\n\
             [recovery]\nrecovery_point_s = 10\n",
            key_file.display()
        ),
    );
    platform
        .up(&["--env", "development", "--env", "staging", "--env", "production"])
        .unwrap()
        .ok();
    if is_root() {
        // The role's own user cannot read it yet: that, and whose it must be, is told.
        eventually("the file is asked for", WITHIN, || {
            standing(&platform)["error"].to_string().contains("mode 600")
        });
    }
    let owner = std::fs::metadata(platform.state().join("storage")).unwrap();
    std::os::unix::fs::chown(&key_file, Some(owner.uid()), Some(owner.gid())).unwrap();
    for name in ["a", "b", "c"] {
        put(&platform, "localhost", name, "first");
    }
    put(&platform, "staging.localhost", "other", "staging");
    put(&platform, "app.localhost", "other", "production");
    eventually("all is there", WITHIN, || caught_up(&platform));
    assert_eq!(standing(&platform)["objects"], 3);
    eventually("staging's too", WITHIN, || status(&platform)["healthy"] == true);
    let verified = platform.run(&["backup", "verify", "--full"]).unwrap().ok();
    assert!(verified.out.contains("3 objects"), "{}", verified.out);

    // Away: the platform serves on, what changes waits, also over a SIGKILL of the role; an alert tells of it.
    drop(bucket);
    put(&platform, "localhost", "a", "second");
    kill(platform.pid("data").unwrap().unwrap());
    eventually("the role is back", WITHIN, || {
        platform
            .request("PUT", "localhost", "/api/files/d", b"new")
            .is_ok_and(|answer| answer.status == 204)
    });
    eventually("the alert is raised", WITHIN, || alert(&platform).is_some());
    let told = alert(&platform).unwrap().to_string();
    assert!(
        told.contains("is behind") && told.contains("development"),
        "{told}"
    );
    let report = status(&platform);
    assert_eq!(report["healthy"], false, "{report:#}");
    assert!(
        standing(&platform)["waiting"].as_u64().unwrap() >= 2,
        "{report:#}"
    );
    let created = platform
        .run(&["token", "create", "scraper", "--scope", "read"])
        .unwrap()
        .ok()
        .out;
    let mut words = created.split_whitespace();
    let token = words.find(|word| word.starts_with("ast_")).unwrap();
    eventually("the numbers tell of it", WITHIN, || {
        let text = platform.api("GET", "/metrics", Some(token), b"").unwrap().text();
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name}{{environment=\"development\"}}")));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
                .unwrap_or(0.0)
        };
        value("astraler_replication_waiting_objects") >= 2.0
            && value("astraler_replication_lag_seconds") > 5.0
    });
    bucket = Bucket::start(&kept, port);
    eventually("it is caught up", WITHIN, || caught_up(&platform));
    eventually("the alert is over", WITHIN, || alert(&platform).is_none());

    // Somebody changes a body at the second service.
    drop(bucket);
    block_on(async {
        let (store, keys) = far(&kept).await;
        let of = |environment: &str| {
            let below = format!("team/small/storage/{environment}--files/");
            let of = keys.iter().filter(move |key| key.starts_with(&below));
            of.cloned().collect::<Vec<String>>()
        };
        // A body and a description each, and whose it is.
        let counts = ["development", "staging", "production"].map(|environment| of(environment).len());
        assert_eq!(counts, [9, 3, 0], "{keys:?}");
        let own = of("development");
        let body = own.iter().find(|key| !key.ends_with(".json")).unwrap();
        let options = PutOptions::default();
        store
            .put(BUCKET, body, body_of("changed"), options)
            .await
            .unwrap();
        store.close().await;
    });
    bucket = Bucket::start(&kept, port);
    let failed = platform
        .run(&["backup", "verify", "--full"])
        .unwrap()
        .failed_with(1);
    assert!(
        failed.err.contains("1 objects at s3://backups/team"),
        "{}",
        failed.err
    );
    eventually("it is sent anew", WITHIN, || caught_up(&platform));
    platform.run(&["backup", "verify", "--full"]).unwrap().ok();

    // The disk is lost. What is new does not write over the copy; the copy brings back what was there.
    platform.run(&["down"]).unwrap().ok();
    for entry in std::fs::read_dir(platform.state().join("storage"))
        .unwrap()
        .flatten()
    {
        let path = entry.path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    platform.up(&["--env", "development"]).unwrap().ok();
    assert_eq!(file(&platform, "a").0, 404);
    put(&platform, "localhost", "c", "newer");
    eventually("the copy is left alone", WITHIN, || {
        standing(&platform)["error"]
            .to_string()
            .contains("recover storage")
    });
    let recover = |more: &[&str]| {
        let all = [&["recover", "storage", "--env", "development"][..], more].concat();
        platform.run(&all).unwrap()
    };
    let planned = recover(&["--dry-run"]).ok();
    assert!(
        planned.out.contains("would bring back 3 objects"),
        "{}",
        planned.out
    );
    assert_eq!(file(&platform, "a").0, 404);
    let unknown = recover(&["--bucket", "none"]).failed_with(1);
    assert!(unknown.err.contains("no such bucket"), "{}", unknown.err);
    let done = recover(&["--bucket", "files"]).ok();
    assert!(
        done.out.contains("3 objects") && done.out.contains("1 were here"),
        "{}",
        done.out
    );
    for (name, text) in [("a", "second"), ("b", "first"), ("c", "newer"), ("d", "new")] {
        assert_eq!(file(&platform, name), (200, text.to_owned()));
    }
    eventually("it goes on from there", WITHIN, || caught_up(&platform));
    platform.run(&["backup", "verify", "--full"]).unwrap().ok();
    secret_is_nowhere(&platform);
    drop(platform);
    drop(bucket);
}
