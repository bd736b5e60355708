//! Buckets replicated to a second S3 service and to a folder, and what can go wrong on the way.

mod faults;
mod kill;
mod support;

use astraler_storage::{
    Announced, CompletePart, Conditions, HttpMetadata, Metadata, PutOptions, Store, body_of,
};
use serde_json::json;
use support::{
    FILES, Far, Role, all, credentials, far_keys, files_below, names, noise, put, to_far, to_folder,
};

/// Keys that collide on a file system, that no file can be named by, of every size, and of many parts.
async fn fill(store: &Store) {
    for (key, size) in [
        ("a", 10),
        ("a/b", 20),
        ("../up", 0),
        ("é\u{0}\n", 40_000),
        ("large", 20 << 20),
    ] {
        put(store, key, noise(size as u64, size)).await;
    }
    put(store, &"k".repeat(1024), vec![1]).await;
    let metadata = Metadata {
        http: HttpMetadata {
            content_type: Some("video/mp4".into()),
            expires_ms: Some(1_800_000_000_000),
            ..HttpMetadata::default()
        },
        ..Metadata::default()
    };
    let id = store.create_upload(FILES, "parts", metadata, None).await.unwrap();
    let mut parts = Vec::new();
    for (number, size) in [(1, 5 << 20), (2, 5 << 20), (3, 77)] {
        let body = body_of(noise(u64::from(number), size));
        let part = store.put_part(FILES, "parts", &id, number, body, None, Announced::Nothing, &[]);
        parts.push(CompletePart {
            number,
            etag: part.await.unwrap().etag,
            checksums: vec![],
        });
    }
    let any = Conditions::default();
    store
        .complete_upload(FILES, "parts", &id, parts, &any, vec![])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_reaches_a_second_s3_service_and_comes_back_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let far = Far::start(&folder.path().join("far"), 0).await;
    let file = folder.path().join("replica.env");
    credentials(&file, 0o600);
    let target = to_far(far.port, &file);
    comes_back(folder.path(), &target, async || names(far_keys(&far.store).await)).await;
    far.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_reaches_a_folder_and_comes_back_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    comes_back(folder.path(), &to_folder(&away), async || {
        names(files_below(&away))
    })
    .await;
}

async fn comes_back(
    folder: &std::path::Path,
    target: &astraler_model::ReplicationTarget,
    there: impl AsyncFn() -> (usize, usize),
) {
    let role = Role::start(&folder.join("here"), None).await;
    // One that was there before it was replicated.
    put(&role.store, "before", vec![7]).await;
    role.published
        .send_replace(support::snapshot(2, Some(target.clone())));
    role.settled().await;
    fill(&role.store).await;
    put(&role.store, "gone", vec![1]).await;
    role.settled().await;
    assert_eq!(there().await, (9, 9));
    put(&role.store, "a", noise(99, 99)).await;
    role.store.delete(FILES, "gone").await.unwrap();
    role.settled().await;
    assert_eq!(
        there().await,
        (8, 8),
        "no older body stays, and nothing of what was deleted"
    );
    let standing = role.standing().await;
    assert!(
        standing.objects >= 10 && standing.bytes > 30 << 20,
        "{standing:?}"
    );
    let (status, verified) = role
        .ask("POST", "/replication/verify?environment=production")
        .await;
    assert_eq!(
        (status, &verified[FILES]["damaged"]),
        (200, &json!(0)),
        "{verified}"
    );
    assert_eq!(verified[FILES]["objects"], 8);
    let (_, verified) = role
        .ask("POST", "/replication/verify?environment=production&most=4")
        .await;
    assert_eq!(verified[FILES]["objects"], 4, "a sample");

    // While nothing is replicated, an object is deleted and another one written: that is seen afterwards.
    role.published.send_replace(support::snapshot(3, None));
    while !role.store.replicas().await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    role.store.delete(FILES, "before").await.unwrap();
    put(&role.store, "after", vec![8]).await;
    role.published
        .send_replace(support::snapshot(4, Some(target.clone())));
    role.until("both are seen", |now| now.waiting == 0 && now.last_ms.is_some())
        .await;
    while there().await != (8, 8) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    role.settled().await;
    let had = all(&role.store).await;
    assert_eq!(had.len(), 8);
    role.end().await;

    // The machine is lost. A new store does not write over what it is to be brought back from.
    let role = Role::start(&folder.join("new"), Some(target.clone())).await;
    put(&role.store, "a", b"newer".to_vec()).await;
    let refused = |now: &astraler_model::ReplicationStanding| {
        now.error
            .as_ref()
            .is_some_and(|error| error.contains("recover storage"))
    };
    role.until("it is refused", refused).await;
    let (status, planned) = role
        .ask("POST", "/replication/restore?environment=production&dry_run=1")
        .await;
    assert_eq!(
        (status, &planned[FILES]["objects"]),
        (200, &json!(7)),
        "{planned}"
    );
    assert_eq!(all(&role.store).await.len(), 1, "it was only asked");
    let (status, done) = role
        .ask("POST", "/replication/restore?environment=production&bucket=files")
        .await;
    let done = &done[FILES];
    assert_eq!(
        (status, &done["objects"], &done["failed"]),
        (200, &json!(7), &json!(0)),
        "{done}"
    );
    assert_eq!(done["present"], 1, "what is newer stays");
    let mut back = all(&role.store).await;
    assert_eq!(back.remove("a").unwrap().1, b"newer");
    let mut had = had;
    had.remove("a");
    assert_eq!(back, had, "bytes, versions, times, entity tags, metadata");
    // And it goes on from there.
    role.settled().await;
    assert_eq!(there().await, (8, 8));
    let (_, again) = role
        .ask("POST", "/replication/restore?environment=production")
        .await;
    assert_eq!(
        (&again[FILES]["objects"], &again[FILES]["present"]),
        (&json!(0), &json!(8))
    );
    let (status, unknown) = role
        .ask("POST", "/replication/restore?environment=production&bucket=x")
        .await;
    assert_eq!(status, 404, "{unknown}");
    let (status, unknown) = role.ask("POST", "/replication/verify?environment=staging").await;
    assert_eq!(status, 404, "{unknown}");
    role.end().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_does_not_keep_the_others_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let role = Role::start(&folder.path().join("here"), None).await;
    put(&role.store, "rotten", noise(1, 100_000)).await;
    let blob = files_below(&folder.path().join("here/blobs")).remove(0);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[5] ^= 1;
    std::io::Write::write_all(&mut std::fs::File::create(&blob).unwrap(), &bytes).unwrap();
    role.published
        .send_replace(support::snapshot(2, Some(to_folder(&away))));
    role.until("it is told", |now| now.error.is_some()).await;
    for at in 0..20 {
        put(&role.store, &format!("good/{at}"), vec![1]).await;
    }
    role.until("the others are there", |now| {
        now.waiting == 1 && now.objects == 20
    })
    .await;
    assert_eq!(names(files_below(&away)), (20, 20));
    // It is written anew: nothing waits any more.
    role.store
        .put(FILES, "rotten", body_of("good"), PutOptions::default())
        .await
        .unwrap();
    role.settled().await;
    role.end().await;
}
