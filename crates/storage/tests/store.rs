//! The store itself.

use crate::support::{files_below, noise, open, options};
use astraler_storage::{
    Algorithm, Announced, ByteRange, Checksum, Conditions, EtagMatch, GetOptions, HttpMetadata, ListOptions,
    Metadata, PutOptions, Store, StoreError, StoreOptions, body_of,
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::Duration;

pub(crate) const LARGE: usize = 700_000;

pub(crate) async fn bucket() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.create_bucket("bucket").await.unwrap();
    (dir, store)
}

pub(crate) async fn put(store: &Store, key: &str, bytes: Vec<u8>) -> astraler_storage::ObjectInfo {
    store
        .put("bucket", key, body_of(bytes), PutOptions::default())
        .await
        .unwrap()
}

pub(crate) async fn read(store: &Store, key: &str) -> Vec<u8> {
    let read = store.get("bucket", key, GetOptions::default()).await.unwrap();
    read.body.collect().await.unwrap()
}

#[tokio::test]
async fn objects_of_every_size_come_back_whole_also_after_a_restart() {
    let (dir, store) = bucket().await;
    let sizes = [0, 1, 16 << 10, (16 << 10) + 1, 256 << 10, (256 << 10) + 1, LARGE];
    for size in sizes {
        let info = put(&store, &format!("of/{size}"), noise(size as u64, size)).await;
        assert_eq!(info.size, size as u64);
    }
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.open_report(), &astraler_storage::OpenReport::default());
    for size in sizes {
        let key = format!("of/{size}");
        assert_eq!(read(&store, &key).await, noise(size as u64, size), "{size}");
        let info = store.head("bucket", &key, &Conditions::default()).await.unwrap();
        assert_eq!((info.size, info.etag.len()), (size as u64, 32));
        if size > 10 {
            let range = Some(ByteRange::FromTo {
                first: 3,
                last: Some(size as u64 - 3),
            });
            let part = store
                .get(
                    "bucket",
                    &key,
                    GetOptions {
                        range,
                        ..Default::default()
                    },
                )
                .await
                .unwrap();
            assert_eq!(part.range, 3..size as u64 - 2);
            assert_eq!(
                part.body.collect().await.unwrap(),
                &noise(size as u64, size)[3..size - 2]
            );
        }
    }
}

#[tokio::test]
async fn a_key_and_a_longer_key_below_it_do_not_collide() {
    let (_dir, store) = bucket().await;
    let keys = ["a", "a/", "a/b", "a//b", "../a", "/", ".", "é\u{0}\n"];
    for key in keys {
        put(&store, key, key.as_bytes().to_vec()).await;
    }
    for key in keys {
        assert_eq!(read(&store, key).await, key.as_bytes());
    }
    assert_eq!(
        store
            .list("bucket", ListOptions::default())
            .await
            .unwrap()
            .objects
            .len(),
        keys.len()
    );
    for key in ["", &"k".repeat(1025)] {
        let result = store
            .put("bucket", key, body_of("x"), PutOptions::default())
            .await;
        assert!(matches!(result, Err(StoreError::InvalidKey(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_reader_finishes_on_the_version_that_it_opened() {
    let (dir, store) = bucket().await;
    put(&store, "k", noise(1, LARGE)).await;
    let old = store.get("bucket", "k", GetOptions::default()).await.unwrap();
    put(&store, "k", noise(2, LARGE)).await;
    assert!(store.delete("bucket", "k").await.unwrap());
    assert!(!store.delete("bucket", "k").await.unwrap());
    assert_eq!(old.body.collect().await.unwrap(), noise(1, LARGE));
    let gone = store.get("bucket", "k", GetOptions::default()).await;
    assert!(matches!(gone, Err(StoreError::NoSuchKey(_))));
    store.close().await;
    assert_eq!(
        files_below(&dir.path().join("blobs")),
        Vec::<std::path::PathBuf>::new()
    );
}

#[tokio::test]
async fn concurrent_overwrites_and_reads_never_mix_versions() {
    let (dir, store) = bucket().await;
    put(&store, "k", noise(0, LARGE)).await;
    let writers = (1..=8).map(|seed| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..6 {
                put(&store, "k", noise(seed * 100 + round, LARGE)).await;
            }
        })
    });
    let readers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..12 {
                let read = store.get("bucket", "k", GetOptions::default()).await.unwrap();
                let etag = read.info.etag.clone();
                let bytes = read.body.collect().await.unwrap();
                let info = store
                    .put(
                        "bucket",
                        &format!("copy/{etag}"),
                        body_of(bytes),
                        PutOptions::default(),
                    )
                    .await
                    .unwrap();
                assert_eq!(
                    info.etag, etag,
                    "the bytes belong to another version than the entity tag"
                );
            }
        })
    });
    let all: Vec<_> = writers.chain(readers.collect::<Vec<_>>()).collect();
    for task in all {
        task.await.unwrap();
    }
    let objects = store
        .list("bucket", ListOptions::default())
        .await
        .unwrap()
        .objects
        .len();
    store.close().await;
    assert_eq!(files_below(&dir.path().join("blobs")).len(), objects);
    assert_eq!(
        open(dir.path()).open_report(),
        &astraler_storage::OpenReport::default()
    );
}

#[tokio::test]
async fn of_many_conditional_creations_one_wins() {
    let (_dir, store) = bucket().await;
    let create = |size: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            let absent = Conditions {
                if_none_match: Some(vec![EtagMatch::Any]),
                ..Default::default()
            };
            let options = PutOptions {
                conditions: absent,
                ..Default::default()
            };
            store
                .put("bucket", "k", body_of(noise(size as u64, size)), options)
                .await
        })
    };
    let tasks: Vec<_> = (0..32)
        .map(|at| create(if at % 2 == 0 { 100 + at } else { 20_000 + at }))
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(info) => won.push(info),
            Err(StoreError::PreconditionFailed { current }) => assert!(current.is_some()),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(read(&store, "k").await.len() as u64, won[0].size);
    let matching = Conditions {
        if_match: Some(vec![EtagMatch::Strong(won[0].etag.clone())]),
        ..Default::default()
    };
    let options = PutOptions {
        conditions: matching,
        ..Default::default()
    };
    store.put("bucket", "k", body_of("new"), options).await.unwrap();
    assert_eq!(read(&store, "k").await, b"new");
}

#[tokio::test]
async fn announced_checksums_and_lengths_are_enforced() {
    let (dir, store) = bucket().await;
    let sum = |algorithm, hex: &str| Checksum {
        algorithm,
        value: hex::decode(hex).unwrap(),
        composite: None,
    };
    let good = sum(Algorithm::Crc64nvme, "ae8b14860a799888");
    let options = PutOptions {
        announced: Announced::Now(vec![good.clone()]),
        length: Some(9),
        ..Default::default()
    };
    let info = store
        .put("bucket", "k", body_of("123456789"), options)
        .await
        .unwrap();
    assert_eq!(info.checksums, [good]);
    let bad = sum(Algorithm::Sha1, "00");
    for size in [9, LARGE] {
        let options = PutOptions {
            announced: Announced::Now(vec![bad.clone()]),
            ..Default::default()
        };
        let result = store.put("bucket", "bad", body_of(noise(1, size)), options).await;
        assert!(matches!(result, Err(StoreError::BadDigest { .. })), "{result:?}");
        for length in [size as u64 - 1, size as u64 + 1] {
            let options = PutOptions {
                length: Some(length),
                ..Default::default()
            };
            let result = store.put("bucket", "bad", body_of(noise(1, size)), options).await;
            assert!(
                matches!(result, Err(StoreError::IncompleteBody { .. })),
                "{result:?}"
            );
        }
    }
    let broken = futures_util::stream::iter([
        Ok(Bytes::from(noise(1, LARGE))),
        Err(std::io::ErrorKind::BrokenPipe.into()),
    ]);
    let result = store
        .put("bucket", "bad", Box::pin(broken), PutOptions::default())
        .await;
    assert!(matches!(result, Err(StoreError::Body(_))));
    assert_eq!(
        store
            .list("bucket", ListOptions::default())
            .await
            .unwrap()
            .objects
            .len(),
        1
    );
    store.close().await;
    assert_eq!(
        files_below(&dir.path().join("tmp")).len() + files_below(&dir.path().join("blobs")).len(),
        0
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let (dir, store) = bucket().await;
    let body =
        futures_util::stream::iter([Ok(Bytes::from(noise(1, LARGE)))]).chain(futures_util::stream::pending());
    let put = store.put("bucket", "k", Box::pin(body), PutOptions::default());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), put)
            .await
            .is_err()
    );
    store.close().await;
    assert_eq!(
        files_below(&dir.path().join("tmp")).len() + files_below(&dir.path().join("blobs")).len(),
        0
    );
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        dir.path(),
        StoreOptions {
            body_idle: Duration::from_millis(50),
            ..options()
        },
    )
    .unwrap();
    store.create_bucket("bucket").await.unwrap();
    let body = Box::pin(futures_util::stream::pending());
    let result = store.put("bucket", "k", body, PutOptions::default()).await;
    assert!(matches!(result, Err(StoreError::Body(error)) if error.kind() == std::io::ErrorKind::TimedOut));
}

#[tokio::test]
async fn the_reserve_of_the_disk_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.create_bucket("bucket").await.unwrap();
    put(&store, "k", noise(1, LARGE)).await;
    store.close().await;
    let store = Store::open(
        dir.path(),
        StoreOptions {
            reserve_bytes: u64::MAX / 2,
            ..options()
        },
    )
    .unwrap();
    let full = |result: Result<(), StoreError>| {
        assert!(
            matches!(result, Err(StoreError::InsufficientStorage { .. })),
            "{result:?}"
        );
    };
    full(
        store
            .put("bucket", "new", body_of("x"), PutOptions::default())
            .await
            .map(drop),
    );
    full(store.create_bucket("another").await.map(drop));
    full(
        store
            .create_upload("bucket", "k", Metadata::default(), None)
            .await
            .map(drop),
    );
    // Reading and making room go on.
    assert_eq!(read(&store, "k").await.len(), LARGE);
    assert!(store.delete("bucket", "k").await.unwrap());
}

#[tokio::test]
async fn metadata_comes_back_and_has_a_limit() {
    let (_dir, store) = bucket().await;
    let metadata = Metadata {
        http: HttpMetadata {
            content_type: Some("text/plain".into()),
            content_language: Some("de".into()),
            content_disposition: Some("inline".into()),
            content_encoding: Some("gzip".into()),
            cache_control: Some("no-store".into()),
            expires_ms: Some(1_000_000),
        },
        custom: vec![("name".into(), "välue".into())],
        storage_class: Some("InfrequentAccess".into()),
    };
    let options = PutOptions {
        metadata: metadata.clone(),
        ..Default::default()
    };
    store.put("bucket", "k", body_of("x"), options).await.unwrap();
    assert_eq!(
        store
            .head("bucket", "k", &Conditions::default())
            .await
            .unwrap()
            .metadata,
        metadata
    );
    let custom = vec![("n".into(), "v".repeat(8192))];
    let options = PutOptions {
        metadata: Metadata {
            custom,
            ..Default::default()
        },
        ..Default::default()
    };
    let result = store.put("bucket", "k", body_of("x"), options).await;
    assert!(matches!(result, Err(StoreError::MetadataTooLarge(8193))));
}

#[tokio::test]
async fn a_copy_shares_the_bytes_until_both_are_gone() {
    let (dir, store) = bucket().await;
    store.create_bucket("other").await.unwrap();
    let original = put(&store, "k", noise(1, LARGE)).await;
    let any = Conditions::default();
    let copy = store
        .copy(("bucket", "k"), &any, ("other", "copy"), &any, None)
        .await
        .unwrap();
    assert_eq!((copy.size, &copy.etag), (original.size, &original.etag));
    assert_ne!(copy.version, original.version);
    // Onto itself: only the metadata changes.
    let metadata = Metadata {
        custom: vec![("a".into(), "b".into())],
        ..Default::default()
    };
    store
        .copy(
            ("bucket", "k"),
            &any,
            ("bucket", "k"),
            &any,
            Some(metadata.clone()),
        )
        .await
        .unwrap();
    assert_eq!(store.head("bucket", "k", &any).await.unwrap().metadata, metadata);
    assert_eq!(files_below(&dir.path().join("blobs")).len(), 1);
    store.delete("bucket", "k").await.unwrap();
    let read = store.get("other", "copy", GetOptions::default()).await.unwrap();
    assert_eq!(read.body.collect().await.unwrap(), noise(1, LARGE));
    store.delete("other", "copy").await.unwrap();
    store.close().await;
    assert_eq!(files_below(&dir.path().join("blobs")).len(), 0);
}

#[tokio::test]
async fn buckets_are_created_once_and_deleted_empty() {
    let (_dir, store) = bucket().await;
    assert!(matches!(
        store.create_bucket("bucket").await,
        Err(StoreError::BucketExists(_))
    ));
    for name in ["ab", "Upper", "a/b", "with space"] {
        assert!(
            matches!(
                store.create_bucket(name).await,
                Err(StoreError::InvalidBucketName(_))
            ),
            "{name}"
        );
    }
    store.create_bucket("production--files").await.unwrap();
    let names: Vec<_> = store
        .list_buckets()
        .await
        .unwrap()
        .into_iter()
        .map(|bucket| bucket.name)
        .collect();
    assert_eq!(names, ["bucket", "production--files"]);
    put(&store, "k", vec![1]).await;
    assert!(matches!(
        store.delete_bucket("bucket").await,
        Err(StoreError::BucketNotEmpty(_))
    ));
    store.delete("bucket", "k").await.unwrap();
    store
        .create_upload("bucket", "k", Metadata::default(), None)
        .await
        .unwrap();
    store.delete_bucket("bucket").await.unwrap();
    let result = store
        .put("bucket", "k", body_of("x"), PutOptions::default())
        .await;
    assert!(matches!(result, Err(StoreError::NoSuchBucket(_))));
}

#[tokio::test]
async fn rot_is_found_by_the_scrubber_and_by_readers() {
    let (dir, store) = bucket().await;
    let keys = ["flipped", "short", "missing", "whole"];
    for (seed, key) in keys.iter().enumerate() {
        put(&store, key, noise(seed as u64 + 1, LARGE)).await;
    }
    put(&store, "inline", noise(1, 100)).await;
    assert_eq!(store.scrub(100).await.unwrap().damaged, []);
    for path in files_below(&dir.path().join("blobs")) {
        let mut bytes = std::fs::read(&path).unwrap();
        let key = (0..4)
            .find(|seed| bytes == noise(seed + 1, LARGE))
            .map(|seed| keys[seed as usize]);
        match key {
            Some("flipped") => bytes[LARGE / 2] ^= 1,
            Some("short") => bytes.truncate(LARGE - 1),
            Some("missing") => std::fs::remove_file(&path).unwrap(),
            _ => {}
        }
        if key == Some("missing") {
            continue;
        }
        #[expect(clippy::disallowed_methods, reason = "damage on purpose")]
        std::fs::write(&path, bytes).unwrap();
    }
    let report = store.scrub(100).await.unwrap();
    let mut found: Vec<_> = report
        .damaged
        .iter()
        .flat_map(|damage| damage.objects.clone())
        .collect();
    found.sort();
    assert_eq!(found, ["bucket/flipped", "bucket/missing", "bucket/short"]);
    assert!(report.finished && report.blobs == 5);
    let body = store
        .get("bucket", "flipped", GetOptions::default())
        .await
        .unwrap()
        .body;
    assert!(body.collect().await.unwrap_err().to_string().contains("damaged"));
    let short = store.get("bucket", "short", GetOptions::default()).await;
    assert!(matches!(short, Err(StoreError::Corrupt { .. })), "{short:?}");
    assert_eq!(read(&store, "whole").await, noise(4, LARGE));
}

#[tokio::test]
async fn opening_removes_orphans_and_reports_what_is_missing() {
    let (dir, store) = bucket().await;
    put(&store, "lost", noise(1, LARGE)).await;
    let lost = files_below(&dir.path().join("blobs")).remove(0);
    put(&store, "kept", noise(2, LARGE)).await;
    store.close().await;
    std::fs::rename(&lost, dir.path().join("tmp").join(lost.file_name().unwrap())).unwrap();
    let orphan = dir.path().join("blobs/05/0000000000000105");
    #[expect(clippy::disallowed_methods, reason = "an orphan on purpose")]
    std::fs::write(&orphan, "x").unwrap();
    let store = open(dir.path());
    let report = store.open_report();
    assert_eq!((report.temporary_removed, report.orphans_removed), (1, 1));
    assert_eq!(report.missing, ["bucket/lost"]);
    let result = store.get("bucket", "lost", GetOptions::default()).await;
    assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{result:?}");
    assert_eq!(read(&store, "kept").await, noise(2, LARGE));
}

#[tokio::test]
async fn one_process_has_it_open_and_a_successor_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let impatient = StoreOptions {
        lock_wait: Duration::ZERO,
        ..options()
    };
    assert!(matches!(
        Store::open(dir.path(), impatient),
        Err(StoreError::Locked(_))
    ));
    let path = dir.path().to_owned();
    let successor = tokio::task::spawn_blocking(move || Store::open(&path, options()));
    store.close().await;
    successor.await.unwrap().unwrap();
}

/// A client that goes away while its read runs must not take a reading connection from somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_reads_cost_others_nothing() {
    let (_dir, store) = bucket().await;
    // So many that a listing takes a while.
    let keys: Vec<String> = (0..1000).map(|at| format!("k/{at:04}")).collect();
    futures_util::future::join_all(keys.iter().map(|key| put(&store, key, vec![1]))).await;
    for round in 0..20 {
        for _ in 0..6 {
            let read = store.list("bucket", ListOptions::default());
            let _ = tokio::time::timeout(Duration::ZERO, read).await;
        }
        let page = store.list("bucket", ListOptions::default()).await;
        let found = page.map(|page| page.objects.len());
        assert!(matches!(found, Ok(1000)), "round {round}: {found:?}");
    }
}

#[tokio::test]
async fn handles_are_closed_in_any_order_and_the_last_one_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (second, third) = (store.clone(), store.clone());
    let now = Duration::from_secs(10);
    // Not the last: nothing to wait for, and the others go on.
    tokio::time::timeout(now, store.close()).await.unwrap();
    tokio::time::timeout(now, second.close()).await.unwrap();
    third.create_bucket("bucket").await.unwrap();
    tokio::time::timeout(now, third.close()).await.unwrap();
    let impatient = StoreOptions {
        lock_wait: Duration::ZERO,
        ..options()
    };
    let store = Store::open(dir.path(), impatient).unwrap();
    assert_eq!(store.list_buckets().await.unwrap().len(), 1);
}
