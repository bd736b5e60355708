//! Multipart uploads of the store.

use crate::store::{LARGE, bucket, read};
use crate::support::{files_below, noise, options};
use astraler_storage::{
    Algorithm, Announced, ByteRange, CompletePart, Conditions, GetOptions, Metadata, PutOptions, Store,
    StoreError, StoreOptions, UploadChecksum, body_of,
};
use std::time::Duration;

/// The smallest part.
const PART: usize = 5 << 20;

async fn part(store: &Store, id: &str, number: u32, bytes: Vec<u8>) -> Result<CompletePart, StoreError> {
    let nothing = Announced::default();
    let info = store
        .put_part("bucket", "big", id, number, body_of(bytes), None, nothing, &[])
        .await?;
    Ok(CompletePart {
        number,
        etag: info.etag,
        checksums: vec![],
    })
}

#[tokio::test]
async fn parts_join_to_one_object() {
    let (dir, store) = bucket().await;
    let metadata = Metadata {
        custom: vec![("a".into(), "b".into())],
        ..Default::default()
    };
    let checksum = Some(UploadChecksum {
        algorithm: Algorithm::Crc64nvme,
        full: true,
    });
    let id = store
        .create_upload("bucket", "big", metadata.clone(), checksum)
        .await
        .unwrap();
    let whole: Vec<u8> = [noise(1, PART), noise(2, PART), noise(3, 77)].concat();
    part(&store, &id, 1, noise(9, PART)).await.unwrap();
    part(&store, &id, 7, noise(9, 50_000)).await.unwrap();
    let mut parts = Vec::new();
    for (number, seed, size) in [(1, 1, PART), (2, 2, PART), (5, 3, 77)] {
        parts.push(part(&store, &id, number, noise(seed, size)).await.unwrap());
    }
    let page = store.list_parts("bucket", "big", &id, 1, 2).await.unwrap();
    assert_eq!(
        page.parts.iter().map(|part| part.number).collect::<Vec<_>>(),
        [2, 5]
    );
    assert!(page.truncated);
    let any = Conditions::default();
    let complete =
        |parts: Vec<CompletePart>| store.complete_upload("bucket", "big", &id, parts, &any, vec![]);
    let reversed = parts.iter().rev().cloned().collect();
    assert!(matches!(
        complete(reversed).await,
        Err(StoreError::InvalidPartOrder)
    ));
    assert!(matches!(
        complete(vec![]).await,
        Err(StoreError::InvalidPartOrder)
    ));
    let mut wrong = parts.clone();
    wrong[1].etag = "0".repeat(32);
    assert!(matches!(complete(wrong).await, Err(StoreError::InvalidPart(2))));
    let info = complete(parts.clone()).await.unwrap();
    assert_eq!(info.size, whole.len() as u64);
    assert!(info.etag.ends_with("-3"));
    assert_eq!((info.parts, &info.metadata), (Some(3), &metadata));
    // The combined checksum is that of the whole.
    let sums = PutOptions {
        checksums: vec![Algorithm::Crc64nvme],
        ..Default::default()
    };
    let single = store
        .put("bucket", "single", body_of(whole.clone()), sums)
        .await
        .unwrap();
    assert_eq!(info.checksums, single.checksums);
    // A client that missed the answer asks again.
    assert_eq!(complete(parts.clone()).await.unwrap().version, info.version);
    assert!(matches!(
        part(&store, &id, 1, vec![1]).await,
        Err(StoreError::NoSuchUpload(_))
    ));
    assert_eq!(read(&store, "big").await, whole);
    let range = Some(ByteRange::FromTo {
        first: PART as u64 - 5,
        last: Some(2 * PART as u64 + 5),
    });
    let across = store
        .get(
            "bucket",
            "big",
            GetOptions {
                range,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(
        across.body.collect().await.unwrap(),
        &whole[PART - 5..2 * PART + 6]
    );
    let third = store
        .get(
            "bucket",
            "big",
            GetOptions {
                part: Some(3),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(third.body.collect().await.unwrap(), noise(3, 77));
    // A copy outlives the original, a reader outlives both.
    store
        .copy(("bucket", "big"), &any, ("bucket", "copy"), &any, None)
        .await
        .unwrap();
    store.delete("bucket", "big").await.unwrap();
    let slow = store.get("bucket", "copy", GetOptions::default()).await.unwrap();
    store
        .delete_many("bucket", vec!["copy".into(), "single".into()])
        .await
        .unwrap();
    assert!(matches!(complete(parts).await, Err(StoreError::NoSuchUpload(_))));
    assert_eq!(slow.body.collect().await.unwrap(), whole);
    store.close().await;
    assert_eq!(files_below(&dir.path().join("blobs")).len(), 0);
}

#[tokio::test]
async fn parts_have_the_sizes_that_r2_demands() {
    let (_dir, store) = bucket().await;
    let id = store
        .create_upload("bucket", "big", Metadata::default(), None)
        .await
        .unwrap();
    let small = part(&store, &id, 1, vec![1]).await.unwrap();
    let large = part(&store, &id, 2, noise(1, PART)).await.unwrap();
    let larger = part(&store, &id, 3, noise(1, PART + 1)).await.unwrap();
    let last = part(&store, &id, 4, vec![1]).await.unwrap();
    let any = Conditions::default();
    let complete =
        |parts: Vec<CompletePart>| store.complete_upload("bucket", "big", &id, parts, &any, vec![]);
    let too_small = complete(vec![small, large.clone()]).await;
    assert!(
        matches!(too_small, Err(StoreError::EntityTooSmall { part: 1, .. })),
        "{too_small:?}"
    );
    for parts in [vec![large.clone(), larger.clone(), last], vec![large, larger]] {
        let uneven = complete(parts).await;
        assert!(
            matches!(uneven, Err(StoreError::UnevenParts { part: 3, .. })),
            "{uneven:?}"
        );
    }
}

#[tokio::test]
async fn expired_uploads_are_swept_with_their_parts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        dir.path(),
        StoreOptions {
            upload_expiry: Duration::ZERO,
            ..options()
        },
    )
    .unwrap();
    store.create_bucket("bucket").await.unwrap();
    let id = store
        .create_upload("bucket", "big", Metadata::default(), None)
        .await
        .unwrap();
    part(&store, &id, 1, noise(1, LARGE)).await.unwrap();
    let page = store.list_uploads("bucket", "b", ("", ""), 10).await.unwrap();
    assert_eq!(
        page.uploads.iter().map(|upload| &upload.id).collect::<Vec<_>>(),
        [&id]
    );
    assert_eq!(store.sweep_uploads().await.unwrap(), 1);
    assert!(matches!(
        store.upload("bucket", "big", &id).await,
        Err(StoreError::NoSuchUpload(_))
    ));
    store.close().await;
    assert_eq!(files_below(&dir.path().join("blobs")).len(), 0);
}

#[tokio::test]
async fn a_sweep_goes_on_until_nothing_is_expired() {
    let dir = tempfile::tempdir().unwrap();
    let expired = StoreOptions {
        upload_expiry: Duration::ZERO,
        ..options()
    };
    let store = Store::open(dir.path(), expired).unwrap();
    store.create_bucket("bucket").await.unwrap();
    let begin = (0..1111).map(|_| store.create_upload("bucket", "big", Metadata::default(), None));
    futures_util::future::try_join_all(begin).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(store.sweep_uploads().await.unwrap(), 1111);
    assert_eq!(store.sweep_uploads().await.unwrap(), 0);
    let page = store.list_uploads("bucket", "", ("", ""), 10).await.unwrap();
    assert_eq!(page.uploads, []);
}

#[tokio::test]
async fn an_object_has_ten_thousand_parts() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = StoreOptions {
        min_part_bytes: 1,
        ..options()
    };
    let store = Store::open(dir.path(), tiny).unwrap();
    store.create_bucket("bucket").await.unwrap();
    let upload = store.create_upload("bucket", "big", Metadata::default(), None);
    let id = upload.await.unwrap();
    let bytes = |number: u32| number.to_be_bytes().to_vec();
    let parts = (1..=astraler_storage::MAX_PARTS).map(|number| part(&store, &id, number, bytes(number)));
    let parts: Vec<CompletePart> = futures_util::future::try_join_all(parts).await.unwrap();
    let beyond = part(&store, &id, astraler_storage::MAX_PARTS + 1, vec![1]).await;
    assert!(matches!(beyond, Err(StoreError::InvalidPartNumber(10_001))));
    let any = Conditions::default();
    let even = parts
        .into_iter()
        .filter(|part| part.number.is_multiple_of(2))
        .collect();
    let complete = store.complete_upload("bucket", "big", &id, even, &any, vec![]);
    let started = std::time::Instant::now();
    let info = complete.await.unwrap();
    // All other writes wait for it.
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!((info.size, info.parts), (20_000, Some(5000)));
    let whole: Vec<u8> = (1..=5000).flat_map(|half| bytes(half * 2)).collect();
    assert_eq!(read(&store, "big").await, whole);
    store.delete("bucket", "big").await.unwrap();
    let scrubbed = store.scrub(10).await.unwrap();
    assert_eq!((scrubbed.blobs, scrubbed.finished), (0, true));
}
