//! SIGKILL in the middle, again and again.
//!
//! The child is the test itself, run again with [`CHILD`] in its environment: it writes and replicates at once.

use super::support::{FILES, Role, files_below, names, noise, put, to_folder};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "ASTRALER_REPLICATION_KILL";
const TEST: &str = "replication::kill::killed_again_and_again_it_goes_on_and_leaves_nothing_behind";
const KILLS: u64 = 8;

/// Writes for ever: small and large objects, replaced and deleted.
async fn child(folder: &Path, seed: u64) {
    let role = Role::start(&folder.join("here"), Some(to_folder(&folder.join("away")))).await;
    for round in seed * 1_000.. {
        let key = format!("k/{}", round % 7);
        match round % 5 {
            0 => drop(role.store.delete(FILES, &key).await.unwrap()),
            1 => drop(put(&role.store, &key, noise(round, 9 << 20)).await),
            _ => drop(put(&role.store, &key, noise(round, 30_000)).await),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_goes_on_and_leaves_nothing_behind() {
    if let Ok(task) = std::env::var(CHILD) {
        let (folder, seed) = task.rsplit_once(' ').unwrap();
        return child(Path::new(folder), seed.parse().unwrap()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    for seed in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", TEST])
            .env(CHILD, format!("{} {seed}", folder.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(250 + seed * 83 % 300)).await;
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let role = Role::start(&folder.path().join("here"), Some(to_folder(&away))).await;
    // So that something is sent in any case, and `settled` has something to see.
    put(&role.store, "last", vec![1]).await;
    role.settled().await;
    let objects = role
        .store
        .list(FILES, Default::default())
        .await
        .unwrap()
        .objects
        .len();
    assert!(objects > 1);
    assert_eq!(
        names(files_below(&away)),
        (objects, objects),
        "{:?}",
        files_below(&away)
    );
    let (_, verified) = role
        .ask("POST", "/replication/verify?environment=production")
        .await;
    let verified = &verified[FILES];
    assert_eq!(
        (&verified["objects"], &verified["damaged"]),
        (&json!(objects), &json!(0)),
        "{verified}"
    );
    role.end().await;
}
