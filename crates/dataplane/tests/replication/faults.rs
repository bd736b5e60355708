//! The destination away, slow, tampered with, and not to be opened.

use super::support::{
    FILES, Far, Role, all, credentials, far_keys, files_below, names, noise, put, to_far, to_folder,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const VERIFY: &str = "/replication/verify?environment=production";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_the_destination_is_away_arrives_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("far");
    let far = Far::start(&kept, 0).await;
    let port = far.port;
    let file = folder.path().join("replica.env");
    credentials(&file, 0o600);
    let role = Role::start(&folder.path().join("here"), Some(to_far(port, &file))).await;
    for at in 0..10 {
        put(&role.store, &format!("k/{at}"), vec![1]).await;
    }
    role.settled().await;
    far.end().await;
    for round in 0..3 {
        for at in 0..10 {
            put(&role.store, &format!("k/{at}"), noise(round, 50_000)).await;
        }
    }
    for at in 0..4 {
        role.store.delete(FILES, &format!("k/{at}")).await.unwrap();
    }
    put(&role.store, "new", noise(1, 1000)).await;
    role.until("it is told", |now| {
        now.error.is_some() && now.waiting == 11 && now.lag_ms > 0
    })
    .await;
    let far = Far::start(&kept, port).await;
    role.settled().await;
    assert_eq!(names(far_keys(&far.store).await), (7, 7));
    let (_, verified) = role.ask("POST", VERIFY).await;
    let verified = &verified[FILES];
    assert_eq!(
        (&verified["objects"], &verified["damaged"]),
        (&json!(7), &json!(0)),
        "{verified}"
    );
    role.end().await;
    far.end().await;
}

/// Passes bytes on while it has permits for them.
async fn slow(port: u16, permits: Arc<Semaphore>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let permits = Arc::clone(&permits);
            tokio::spawn(async move {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (mut near_read, mut near_write) = near.into_split();
                let (mut far_read, mut far_write) = far.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut far_read, &mut near_write).await.ok() });
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read) = tokio::io::AsyncReadExt::read(&mut near_read, &mut buffer).await {
                    if read == 0 {
                        break;
                    }
                    permits
                        .acquire_many(u32::try_from(read).unwrap())
                        .await
                        .unwrap()
                        .forget();
                    if tokio::io::AsyncWriteExt::write_all(&mut far_write, &buffer[..read])
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_or_replaced_while_it_is_sent_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let far = Far::start(&folder.path().join("far"), 0).await;
    let file = folder.path().join("replica.env");
    credentials(&file, 0o600);
    // Enough for the first requests, and a part of the objects.
    let permits = Arc::new(Semaphore::new(300 << 10));
    let port = slow(far.port, Arc::clone(&permits)).await;
    let role = Role::start(&folder.path().join("here"), Some(to_far(port, &file))).await;
    put(&role.store, "deleted", noise(1, 2 << 20)).await;
    put(&role.store, "replaced", noise(2, 2 << 20)).await;
    while permits.available_permits() > 64 << 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    role.store.delete(FILES, "deleted").await.unwrap();
    put(&role.store, "replaced", b"short".to_vec()).await;
    permits.add_permits(Semaphore::MAX_PERMITS / 2);
    role.settled().await;
    assert_eq!(names(far_keys(&far.store).await), (1, 1));
    let (_, verified) = role.ask("POST", VERIFY).await;
    assert_eq!(verified[FILES]["objects"], 1, "{verified}");
    assert_eq!(all(&role.store).await["replaced"].1, b"short");
    role.end().await;
    far.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_tampered_with_is_found_and_sent_anew() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let role = Role::start(&folder.path().join("here"), Some(to_folder(&away))).await;
    for key in ["body", "words", "both", "missing", "good"] {
        put(&role.store, key, noise(key.len() as u64, 30_000)).await;
    }
    role.settled().await;
    let description = |key: &str| {
        let name = hash(key);
        let found = files_below(&away)
            .into_iter()
            .find(|path| path.ends_with(&format!("{name}.json")));
        found.unwrap()
    };
    let body = |key: &str| {
        let name = hash(key);
        let of = |path: &String| path.contains(&name) && !path.ends_with(".json");
        files_below(&away).into_iter().find(of).unwrap()
    };
    let flip = |path: &str| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[100] ^= 1;
        write(path, &bytes);
    };
    flip(&body("body"));
    let words = std::fs::read_to_string(description("words")).unwrap();
    write(&description("words"), words.replace("words", "other").as_bytes());
    // Who changes the bytes may change the words beside them as well.
    flip(&body("both"));
    let words = std::fs::read_to_string(description("both")).unwrap();
    let was = serde_json::from_str::<serde_json::Value>(&words).unwrap()["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    let now = sha256(&std::fs::read(body("both")).unwrap());
    write(&description("both"), words.replace(&was, &now).as_bytes());
    std::fs::remove_file(body("missing")).unwrap();

    let (status, found) = role.ask("POST", VERIFY).await;
    let found = &found[FILES];
    assert_eq!(
        (status, &found["damaged"], &found["objects"]),
        (200, &json!(4), &json!(1)),
        "{found}"
    );
    let told = found["errors"].to_string();
    for key in [
        "body: its SHA-256",
        "words: ",
        "both: its description",
        "missing: its body",
    ] {
        assert!(told.contains(key), "{key} in {told}");
    }
    role.settled().await;
    let (_, found) = role.ask("POST", VERIFY).await;
    assert_eq!(
        (&found[FILES]["damaged"], &found[FILES]["objects"]),
        (&json!(0), &json!(5)),
        "{found}"
    );

    // What was tampered with does not come back as if it were good.
    flip(&body("body"));
    role.end().await;
    let role = Role::start(&folder.path().join("new"), Some(to_folder(&away))).await;
    let (_, done) = role
        .ask("POST", "/replication/restore?environment=production")
        .await;
    let done = &done[FILES];
    assert_eq!(
        (&done["objects"], &done["failed"]),
        (&json!(4), &json!(1)),
        "{done}"
    );
    assert!(
        done["errors"].to_string().contains("the replica was changed"),
        "{done}"
    );
    assert!(!all(&role.store).await.contains_key("body"));
    role.end().await;
}

fn write(path: &str, bytes: &[u8]) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), bytes).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))
}

/// The name of a key at the second location.
fn hash(key: &str) -> String {
    sha256(key.as_bytes())
}

#[tokio::test]
async fn credentials_that_others_can_read_are_not_used_until_they_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let far = Far::start(&folder.path().join("far"), 0).await;
    let file = folder.path().join("replica.env");
    credentials(&file, 0o644);
    let role = Role::start(&folder.path().join("here"), Some(to_far(far.port, &file))).await;
    put(&role.store, "a", vec![1]).await;
    let told = |now: &astraler_model::ReplicationStanding| {
        now.error
            .as_ref()
            .is_some_and(|error| error.contains("chmod 600"))
    };
    role.until("the file is refused", told).await;
    assert!(far_keys(&far.store).await.is_empty());
    credentials(&file, 0o600);
    role.settled().await;
    assert_eq!(names(far_keys(&far.store).await), (1, 1));
    role.end().await;
    far.end().await;
}

#[tokio::test]
async fn a_folder_on_the_device_of_the_store_is_no_second_location() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let target = astraler_model::ReplicationTarget {
        allow_same_device: false,
        ..to_folder(&away)
    };
    let role = Role::start(&folder.path().join("here"), Some(target)).await;
    let told = |now: &astraler_model::ReplicationStanding| {
        now.error
            .as_ref()
            .is_some_and(|error| error.contains("allow_same_device"))
    };
    role.until("it is refused", told).await;
    assert!(files_below(&away).is_empty());
    role.end().await;
}
