//! The index when the disk is full.

use crate::{Metadata, PutOptions, Store, StoreError, StoreOptions, body_of};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn blob_files(dir: &Path) -> usize {
    let folders = std::fs::read_dir(dir.join("blobs")).unwrap();
    folders
        .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum()
}

async fn set_pages(store: &Store, most: &'static str) {
    let sql = format!("PRAGMA max_page_count = {most}");
    let set = store.inner.index.write(vec![], move |tx| {
        tx.conn
            .query_row(&sql, [], |_| Ok(()))
            .map_err(StoreError::index("limiting it"))
    });
    set.await.unwrap();
}

/// A commit that fails for want of space takes the files of all its operations with it: that is when their space
/// is needed most.
#[tokio::test]
async fn a_full_index_leaves_no_blobs_behind_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        reserve_bytes: 0,
        inline_bytes: 10,
        ..Default::default()
    };
    let store = Store::open(dir.path(), options).unwrap();
    store.create_bucket("bucket").await.unwrap();
    // SQLite's own limit on its file: no page more than there are.
    set_pages(&store, "1").await;
    let put = |at: usize| {
        let custom = vec![("n".to_owned(), "v".repeat(at * 37 % 2000))];
        let metadata = Metadata {
            custom,
            ..Default::default()
        };
        let options = PutOptions {
            metadata,
            ..Default::default()
        };
        let store = &store;
        async move {
            let body = body_of(vec![1; 1000]);
            store.put("bucket", &format!("k/{at}"), body, options).await
        }
    };
    let results = futures_util::future::join_all((0..200).map(put)).await;
    let stored = results.iter().filter(|result| result.is_ok()).count();
    for result in &results {
        if let Err(error) = result {
            assert!(error.is_out_of_space(), "{error:?}");
        }
    }
    assert!((1..200).contains(&stored), "{stored}");
    assert_eq!(
        store
            .list("bucket", Default::default())
            .await
            .unwrap()
            .objects
            .len(),
        stored
    );
    set_pages(&store, "1000000").await;
    put(1000).await.unwrap();
    store.delete("bucket", "k/1000").await.unwrap();
    store.close().await;
    assert_eq!(blob_files(dir.path()), stored);
}

/// A full disk makes SQLite roll the whole batch back, whichever operation it happens in.
#[tokio::test]
async fn a_batch_that_is_rolled_back_leaves_no_blobs_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        dir.path(),
        StoreOptions {
            reserve_bytes: 0,
            ..Default::default()
        },
    )
    .unwrap();
    store.create_bucket("bucket").await.unwrap();
    let started = Arc::new(AtomicBool::new(false));
    let taken = Arc::clone(&started);
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let queued = || super::QUEUE - store.inner.index.jobs.capacity();
    let until = async |count: usize| {
        while !started.load(Ordering::SeqCst) || queued() != count {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let busy = store.inner.index.write(vec![], move |_| {
        taken.store(true, Ordering::SeqCst);
        let _ = wait.recv();
        Ok(())
    });
    let put = async {
        until(0).await;
        let body = body_of(vec![1; 100_000]);
        store.put("bucket", "k", body, PutOptions::default()).await
    };
    let full = async {
        until(1).await;
        store
            .inner
            .index
            .write(vec![], |tx| {
                tx.conn.execute_batch("ROLLBACK").unwrap();
                Err::<(), _>(StoreError::Closed)
            })
            .await
    };
    let release = async {
        until(2).await;
        go_on.send(()).unwrap();
    };
    let (busy, put, full, ()) = tokio::join!(busy, put, full, release);
    assert!(busy.is_ok() && full.is_err());
    assert!(put.unwrap_err().is_out_of_space());
    // Nothing is poisoned, and the next one is stored.
    let body = body_of(vec![1; 100_000]);
    store
        .put("bucket", "next", body, PutOptions::default())
        .await
        .unwrap();
    store.close().await;
    assert_eq!(blob_files(dir.path()), 1);
}
