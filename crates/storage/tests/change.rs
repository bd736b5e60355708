//! What a second location has not seen yet.

use crate::store::{bucket, put, read};
use crate::support::{noise, open, options};
use astraler_storage::{
    Announced, Change, CompletePart, Conditions, HttpMetadata, Metadata, Origin, PutOptions, Store,
    StoreError, StoreOptions, UploadChecksum, body_of,
};
use std::collections::BTreeMap;
use std::time::Duration;

async fn replicated(store: &Store, target: &str) {
    let wanted = BTreeMap::from([("bucket".to_owned(), target.to_owned())]);
    store.replicate(&wanted).await.unwrap();
}

fn buckets() -> Vec<String> {
    vec!["bucket".to_owned()]
}

async fn queued(store: &Store) -> Vec<String> {
    let changes = store.changes(&buckets(), usize::MAX).await.unwrap();
    changes.into_iter().map(|change| change.key).collect()
}

async fn next(store: &Store) -> Change {
    store.changes(&buckets(), 1).await.unwrap().remove(0)
}

async fn take_all(store: &Store) {
    for change in store.changes(&buckets(), usize::MAX).await.unwrap() {
        store.change_done(&change).await.unwrap();
    }
}

async fn multipart(
    store: &Store,
    key: &str,
    parts: &[Vec<u8>],
    origin: Option<Origin>,
) -> Result<(), StoreError> {
    let checksum = Some(UploadChecksum {
        algorithm: astraler_storage::Algorithm::Crc64nvme,
        full: true,
    });
    let id = store
        .create_upload("bucket", key, Metadata::default(), checksum)
        .await?;
    let mut named = Vec::new();
    for (number, bytes) in (1..).zip(parts) {
        let body = body_of(bytes.clone());
        let part = store.put_part("bucket", key, &id, number, body, None, Announced::Nothing, &[]);
        named.push(CompletePart {
            number,
            etag: part.await?.etag,
            checksums: vec![],
        });
    }
    match origin {
        None => {
            let any = Conditions::default();
            store
                .complete_upload("bucket", key, &id, named, &any, vec![])
                .await?
        }
        Some(origin) => store.complete_restored("bucket", key, &id, named, origin).await?,
    };
    Ok(())
}

#[tokio::test]
async fn every_kind_of_write_to_a_replicated_bucket_is_queued_once_for_its_key() {
    let (dir, store) = bucket().await;
    store.create_bucket("other").await.unwrap();
    let any = Conditions::default();
    put(&store, "before", vec![1]).await;
    assert_eq!(queued(&store).await, [""; 0], "nothing is replicated yet");
    replicated(&store, "a").await;
    assert_eq!(queued(&store).await, ["before"], "what was there is queued");
    take_all(&store).await;
    replicated(&store, "a").await;
    assert_eq!(queued(&store).await, [""; 0], "once");

    put(&store, "put", vec![1]).await;
    put(&store, "put", vec![2]).await;
    store
        .copy(("bucket", "put"), &any, ("bucket", "copy"), &any, None)
        .await
        .unwrap();
    multipart(&store, "parts", &[noise(1, 5 << 20), noise(2, 100)], None)
        .await
        .unwrap();
    assert!(store.delete("bucket", "before").await.unwrap());
    assert!(!store.delete("bucket", "none").await.unwrap());
    store
        .put("other", "key", body_of("text"), PutOptions::default())
        .await
        .unwrap();
    // A write that does not happen is no change.
    let conditions = Conditions {
        if_none_match: Some(vec![astraler_storage::EtagMatch::Any]),
        ..Conditions::default()
    };
    let options = PutOptions {
        conditions,
        ..PutOptions::default()
    };
    store
        .put("bucket", "put", body_of("x"), options)
        .await
        .unwrap_err();
    let all = ["put", "copy", "parts", "before"];
    assert_eq!(queued(&store).await, all);
    let lag = store.replication_lag().await.unwrap();
    assert_eq!((lag.len(), lag["bucket"].keys), (1, 4));
    assert!(lag["bucket"].since_ms > 1_700_000_000_000);

    store.close().await;
    let store = open(dir.path());
    assert_eq!(queued(&store).await, all, "it is there after a restart");
    take_all(&store).await;
    assert_eq!(store.replication_lag().await.unwrap()["bucket"].keys, 0);

    // Elsewhere there is nothing yet; nowhere, nothing waits.
    replicated(&store, "b").await;
    assert_eq!(queued(&store).await, ["copy", "parts", "put"]);
    store.replicate(&BTreeMap::new()).await.unwrap();
    assert_eq!(queued(&store).await, [""; 0]);
    put(&store, "put", vec![3]).await;
    assert_eq!(queued(&store).await, [""; 0]);
    assert!(store.replication_lag().await.unwrap().is_empty());
}

#[tokio::test]
async fn many_objects_are_queued_page_by_page_and_in_their_order() {
    let (_dir, store) = bucket().await;
    let keys: Vec<String> = (0..2500).map(|at| format!("{at:04}")).collect();
    let puts = keys.iter().map(|key| put(&store, key, vec![1]));
    futures_util::future::join_all(puts).await;
    replicated(&store, "a").await;
    assert_eq!(queued(&store).await, keys);
    // And are forgotten as they came.
    store.replicate(&BTreeMap::new()).await.unwrap();
    assert_eq!(queued(&store).await, [""; 0]);
}

#[tokio::test]
async fn a_change_while_another_is_sent_is_not_lost() {
    let (_dir, store) = bucket().await;
    replicated(&store, "a").await;
    put(&store, "a", vec![1]).await;
    put(&store, "b", vec![1]).await;
    let first = next(&store).await;
    assert_eq!((first.key.as_str(), &first.sent[..]), ("a", &[][..]));
    let sent = ["v1".to_owned(), "v2".to_owned()];
    store.change_sends(&first, &sent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(store.delete("bucket", "a").await.unwrap());
    store.change_done(&first).await.unwrap();
    assert_eq!(queued(&store).await, ["b", "a"], "it waits behind the others");
    let again = store.changes(&buckets(), 9).await.unwrap().remove(1);
    assert!(
        again.sent.is_empty() && again.since_ms > first.since_ms,
        "{again:?}"
    );
    // Twice done is done once: the later change stays.
    store.change_done(&first).await.unwrap();
    assert_eq!(queued(&store).await, ["b", "a"]);

    // What fails is put off, and is due again at once when the key changes.
    let waiting = next(&store).await;
    let long = Duration::from_secs(3600);
    store.change_failed(&waiting, long).await.unwrap();
    assert_eq!(queued(&store).await, ["a"]);
    put(&store, "b", vec![2]).await;
    assert_eq!(queued(&store).await, ["b", "a"]);
    store
        .change_failed(&next(&store).await, Duration::ZERO)
        .await
        .unwrap();
    let tried = next(&store).await;
    assert_eq!((tried.key.as_str(), tried.attempts), ("b", 1));
    store.change_sends(&tried, &sent).await.unwrap();
    assert_eq!(next(&store).await.sent, sent);
}

#[tokio::test]
async fn who_waits_for_changes_is_woken() {
    let (_dir, store) = bucket().await;
    replicated(&store, "a").await;
    let mut seen = store.watch_changes();
    assert!(!store.waits("bucket", "a").await.unwrap());
    put(&store, "a", vec![1]).await;
    let woken = tokio::time::timeout(Duration::from_secs(10), seen.changed()).await;
    woken.unwrap().unwrap();
    assert!(store.waits("bucket", "a").await.unwrap());
    assert!(store.changes(&["other".to_owned()], 9).await.unwrap().is_empty());
    assert_eq!(store.identity().await.unwrap().len(), 32);
}

#[tokio::test]
async fn an_object_comes_back_as_the_version_that_it_was_and_never_over_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let uneven = StoreOptions {
        min_part_bytes: 1,
        uniform_parts: false,
        ..options()
    };
    let store = Store::open(dir.path(), uneven).unwrap();
    store.create_bucket("bucket").await.unwrap();
    let metadata = Metadata {
        http: HttpMetadata {
            content_type: Some("text/plain".into()),
            ..HttpMetadata::default()
        },
        custom: vec![("a".into(), "b".into())],
        ..Metadata::default()
    };
    let with = |version: &str, uploaded_ms| PutOptions {
        metadata: metadata.clone(),
        origin: Some(Origin {
            version: version.to_owned(),
            uploaded_ms,
        }),
        ..PutOptions::default()
    };
    let head = async |key: &'static str| store.head("bucket", key, &Conditions::default()).await.unwrap();
    let back = store
        .put("bucket", "a", body_of("text"), with("v1", 1000))
        .await
        .unwrap();
    assert_eq!((back.version.as_str(), back.uploaded_ms), ("v1", 1000));
    assert_eq!(head("a").await, back);
    for (version, uploaded_ms) in [("v0", 999), ("v0", 1000), ("v1", 2000)] {
        let refused = store
            .put("bucket", "a", body_of("old"), with(version, uploaded_ms))
            .await;
        assert!(
            matches!(refused, Err(StoreError::PreconditionFailed { current: Some(_) })),
            "{refused:?}"
        );
    }
    assert_eq!(read(&store, "a").await, b"text");
    store
        .put("bucket", "a", body_of("newer"), with("v2", 1001))
        .await
        .unwrap();
    assert_eq!(read(&store, "a").await, b"newer");

    let parts = [noise(1, 70_000), noise(2, 30), noise(3, 20_000)];
    multipart(&store, "parts", &parts, None).await.unwrap();
    let was = head("parts").await;
    let read = store.get("bucket", "parts", Default::default()).await.unwrap();
    assert_eq!(read.parts, [70_000, 30, 20_000]);
    store.delete("bucket", "parts").await.unwrap();
    let origin = Origin {
        version: was.version.clone(),
        uploaded_ms: was.uploaded_ms,
    };
    multipart(&store, "parts", &parts, Some(origin.clone()))
        .await
        .unwrap();
    assert_eq!(head("parts").await, was, "entity tag, parts and checksum too");
    assert!(matches!(
        multipart(&store, "parts", &parts, Some(origin)).await,
        Err(StoreError::PreconditionFailed { .. })
    ));
}
