//! SIGKILL in the middle of concurrent writes, again and again on one store.
//!
//! The child is the test itself, as in [`crate::crash`]. Each of its writers has a key of its own and one write under
//! way: what the store holds of a key is what was last acknowledged, or the write after it.

use crate::crash::{CHILD, command, tell, told};
use crate::support::{files_below, noise, options};
use astraler_storage::{
    Announced, CompletePart, Conditions, GetOptions, Metadata, OpenReport, PutOptions, Store, StoreError,
    StoreOptions, body_of,
};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

const WRITERS: usize = 8;
const KILLS: u64 = 20;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;
const TEST: &str = "kill::killed_again_and_again_it_keeps_what_it_acknowledged";

fn kill_options() -> StoreOptions {
    StoreOptions {
        min_part_bytes: 1,
        uniform_parts: false,
        upload_expiry: Duration::ZERO,
        ..options()
    }
}

/// The bytes of a version of a writer's object; none when that version is its deletion.
fn content(writer: usize, version: u64) -> Option<Vec<u8>> {
    let seed = version * 100 + writer as u64;
    let size = match version % 5 {
        0 => return None,
        1 => 200,
        2 => 30_000,
        3 => 90_000,
        _ => 300_000,
    };
    Some(noise(seed, size + writer))
}

async fn write(store: &Store, writer: usize, version: u64) {
    let key = format!("of/{writer}");
    let Some(bytes) = content(writer, version) else {
        return assert!(store.delete("bucket", &key).await.unwrap());
    };
    if version % 5 != 3 {
        let options = PutOptions::default();
        store.put("bucket", &key, body_of(bytes), options).await.unwrap();
        return;
    }
    let id = store
        .create_upload("bucket", &key, Metadata::default(), None)
        .await
        .unwrap();
    let mut parts = Vec::new();
    for (number, bytes) in (1..).zip(bytes.chunks(40_000)) {
        let body = body_of(bytes.to_vec());
        let part = store.put_part("bucket", &key, &id, number, body, None, Announced::Nothing, &[]);
        let etag = part.await.unwrap().etag;
        parts.push(CompletePart {
            number,
            etag,
            checksums: vec![],
        });
    }
    let any = Conditions::default();
    store
        .complete_upload("bucket", &key, &id, parts, &any, vec![])
        .await
        .unwrap();
}

/// Writes for ever, and tells of every version that was acknowledged.
async fn child(folder: &Path, versions: Vec<u64>) {
    let store = Store::open(folder, kill_options()).unwrap();
    let writers = versions.into_iter().enumerate().map(|(writer, last)| {
        let store = store.clone();
        tokio::spawn(async move {
            for version in last + 1.. {
                write(&store, writer, version).await;
                tell(&format!("DONE {writer} {version}"));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Runs a child, kills it a while after its first acknowledged write, and answers what it said.
async fn run_and_kill(folder: &Path, versions: &[u64], after: Duration) -> String {
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    let task = format!("{} {}", folder.display(), versions.join(","));
    let mut child = tokio::process::Command::from(command(TEST, &task))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while told(&text, "DONE").is_empty() {
        let read = tokio::time::timeout(Duration::from_secs(20), output.read_line(&mut text)).await;
        assert_ne!(read.unwrap().unwrap(), 0, "the child ended early: {text}");
    }
    tokio::time::sleep(after).await;
    child.start_kill().unwrap();
    output.read_to_string(&mut text).await.unwrap();
    let status = child.wait().await.unwrap();
    assert_eq!(status.signal(), Some(SIGKILL), "{text}");
    text
}

async fn held(store: &Store, key: &str) -> Option<Vec<u8>> {
    match store.get("bucket", key, GetOptions::default()).await {
        Ok(read) => Some(read.body.collect().await.unwrap()),
        Err(StoreError::NoSuchKey(_)) => None,
        Err(error) => panic!("{key}: {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_keeps_what_it_acknowledged() {
    if let Ok(task) = std::env::var(CHILD) {
        let (folder, versions) = task.rsplit_once(' ').unwrap();
        let versions = versions
            .split(',')
            .map(|version| version.parse().unwrap())
            .collect();
        return child(Path::new(folder), versions).await;
    }
    let started = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let store = Store::open(&root, kill_options()).unwrap();
    store.create_bucket("bucket").await.unwrap();
    let replicated = BTreeMap::from([("bucket".to_owned(), "elsewhere".to_owned())]);
    store.replicate(&replicated).await.unwrap();
    store.close().await;
    // What a second location holds when it takes what is queued after each kill.
    let mut replica = BTreeMap::new();
    let mut versions = vec![0; WRITERS];
    let (mut acknowledged, mut left_behind, mut finished_unheard) = (0, 0, 0);
    for round in 0..KILLS {
        let after = Duration::from_millis(round * 97 % 300);
        let text = run_and_kill(&root, &versions, after).await;
        for line in told(&text, "DONE") {
            let (writer, version) = line.split_once(' ').unwrap();
            versions[writer.parse::<usize>().unwrap()] = version.parse().unwrap();
            acknowledged += 1;
        }
        let store = Store::open(&root, kill_options()).unwrap();
        let report = store.open_report();
        assert_eq!(report.missing, Vec::<String>::new(), "round {round}");
        left_behind += report.temporary_removed + report.orphans_removed;
        let mut files = 0;
        for (writer, last) in versions.iter_mut().enumerate() {
            let found = match store
                .get("bucket", &format!("of/{writer}"), GetOptions::default())
                .await
            {
                Ok(read) => {
                    files += read
                        .info
                        .parts
                        .map_or(u64::from(read.info.size > 16 << 10), |parts| {
                            // The last part may be short enough for the index.
                            u64::from(parts) - u64::from(read.info.size % 40_000 <= 16 << 10)
                        });
                    Some(read.body.collect().await.unwrap())
                }
                Err(StoreError::NoSuchKey(_)) => None,
                Err(error) => panic!("round {round}, writer {writer}: {error:?}"),
            };
            if found != content(writer, *last) {
                let next = content(writer, *last + 1);
                assert!(
                    found == next,
                    "round {round}, writer {writer}: {last} was acknowledged, but {:?} bytes are there",
                    found.map(|bytes| bytes.len())
                );
                *last += 1;
                finished_unheard += 1;
            }
        }
        for change in store.changes(&["bucket".to_owned()], usize::MAX).await.unwrap() {
            replica.insert(change.key.clone(), held(&store, &change.key).await);
            store.change_done(&change).await.unwrap();
        }
        for writer in 0..WRITERS {
            let key = format!("of/{writer}");
            let (seen, held) = (replica.get(&key).cloned().flatten(), held(&store, &key).await);
            assert!(seen == held, "round {round}: a change of {key} was not queued");
        }
        // Uploads under way may stay until they expire; then nothing is on the disk but what the objects hold.
        store.sweep_uploads().await.unwrap();
        store.close().await;
        assert_eq!(
            files_below(&root.join("blobs")).len() as u64,
            files,
            "round {round}"
        );
        assert_eq!(files_below(&root.join("tmp")).len(), 0, "round {round}");
    }
    println!(
        "{KILLS} kills in {:?}: {acknowledged} writes acknowledged, {finished_unheard} finished unheard, \
         {left_behind} files left behind and removed",
        started.elapsed()
    );
    assert!(started.elapsed() < LIMIT);
    // Otherwise the kills hit nothing.
    assert!(left_behind > 0 && acknowledged > 10 * KILLS);
    let store = Store::open(&root, kill_options()).unwrap();
    assert_eq!(store.open_report(), &OpenReport::default());
    let scrubbed = store.scrub(usize::MAX).await.unwrap();
    assert!(scrubbed.finished && scrubbed.damaged.is_empty(), "{scrubbed:?}");
}
