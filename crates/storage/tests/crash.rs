//! What a crash leaves behind: a child of this test writes and dies at every step of every write.
//!
//! The child is this test itself, run again with [`CHILD`] in its environment. It says on its output what the store
//! has acknowledged. The page cache survives a process, so this proves order and atomicity, not what a disk keeps
//! when the power goes.

use crate::support::{files_below, noise, options};
use astraler_storage::{
    Announced, CompletePart, Conditions, GetOptions, ListOptions, Metadata, OpenReport, PutOptions, Step,
    Store, StoreOptions, body_of,
};
use s3s::crypto::{Checksum as _, Md5};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set in a child: `<folder> <the step to die at>`.
pub(crate) const CHILD: &str = "ASTRALER_STORAGE_CRASH";
/// More bytes than live in the index.
const LARGE: usize = 40_000;
/// Crashes tried at one time.
const WORKERS: usize = 4;
const SIGABRT: i32 = 6;

/// One write. Contents are [`noise`] of a seed and a size.
#[derive(Debug, Clone, Copy)]
enum Op {
    Bucket,
    Put(&'static str, u64, usize),
    Delete(&'static str),
    DeleteMany(&'static [&'static str]),
    Copy(&'static str, &'static str),
    Begin(&'static str),
    Part(&'static str, u32, u64, usize),
    Complete(&'static str, &'static [u32]),
    Abort(&'static str),
}

/// Every kind of write, on small and on large contents, new and in place of others.
const WRITES: &[Op] = &[
    Op::Bucket,
    Op::Put("small", 1, 100),
    Op::Put("large", 2, LARGE),
    Op::Put("large", 3, LARGE + 1),
    Op::Copy("large", "copy"),
    Op::Put("large", 4, 50),
    Op::Put("small", 5, LARGE),
    Op::Begin("parts"),
    Op::Part("parts", 1, 6, LARGE),
    Op::Part("parts", 2, 7, LARGE),
    Op::Part("parts", 2, 8, LARGE),
    Op::Part("parts", 3, 9, 10),
    Op::Part("parts", 4, 10, LARGE),
    Op::Complete("parts", &[1, 2, 3]),
    Op::Copy("parts", "copy"),
    Op::Begin("aborted"),
    Op::Part("aborted", 1, 11, LARGE),
    Op::Abort("aborted"),
    Op::Delete("parts"),
    Op::DeleteMany(&["small", "copy", "none"]),
    Op::Put("last", 12, LARGE),
];

/// The bytes of a blob, known by their seed.
type Blob = (u64, usize);

/// What the store must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Model {
    bucket: bool,
    objects: BTreeMap<String, Vec<Blob>>,
    uploads: BTreeMap<String, BTreeMap<u32, Blob>>,
}

impl Model {
    fn after(writes: &[Op]) -> Self {
        let mut model = Self::default();
        writes.iter().for_each(|write| model.apply(*write));
        model
    }

    fn apply(&mut self, write: Op) {
        match write {
            Op::Bucket => self.bucket = true,
            Op::Put(key, seed, size) => drop(self.objects.insert(key.into(), vec![(seed, size)])),
            Op::Delete(key) => drop(self.objects.remove(key)),
            Op::DeleteMany(keys) => keys.iter().for_each(|key| drop(self.objects.remove(*key))),
            Op::Copy(from, to) => drop(self.objects.insert(to.into(), self.objects[from].clone())),
            Op::Begin(key) => drop(self.uploads.insert(key.into(), BTreeMap::new())),
            Op::Part(key, number, seed, size) => {
                self.uploads.get_mut(key).unwrap().insert(number, (seed, size));
            }
            Op::Complete(key, numbers) => {
                let parts = self.uploads.remove(key).unwrap();
                let chosen = numbers.iter().map(|number| parts[number]).collect();
                self.objects.insert(key.into(), chosen);
            }
            Op::Abort(key) => drop(self.uploads.remove(key)),
        }
    }

    /// Blobs that are files of their own.
    fn files(&self) -> usize {
        let parts = self.uploads.values().flat_map(|parts| parts.values());
        let blobs: BTreeSet<&Blob> = self.objects.values().flatten().chain(parts).collect();
        blobs.into_iter().filter(|(_, size)| *size >= LARGE).count()
    }
}

fn crash_options() -> StoreOptions {
    StoreOptions {
        min_part_bytes: 1,
        uniform_parts: false,
        ..options()
    }
}

async fn upload_id(store: &Store, key: &str) -> String {
    let page = store.list_uploads("bucket", key, ("", ""), 10).await.unwrap();
    page.uploads
        .into_iter()
        .find(|upload| upload.key == key)
        .unwrap()
        .id
}

async fn perform(store: &Store, write: Op) {
    let any = Conditions::default();
    match write {
        Op::Bucket => drop(store.create_bucket("bucket").await.unwrap()),
        Op::Put(key, seed, size) => {
            let body = body_of(noise(seed, size));
            store
                .put("bucket", key, body, PutOptions::default())
                .await
                .unwrap();
        }
        Op::Delete(key) => assert!(store.delete("bucket", key).await.unwrap()),
        Op::DeleteMany(keys) => {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            store.delete_many("bucket", keys).await.unwrap();
        }
        Op::Copy(from, to) => {
            store
                .copy(("bucket", from), &any, ("bucket", to), &any, None)
                .await
                .unwrap();
        }
        Op::Begin(key) => {
            store
                .create_upload("bucket", key, Metadata::default(), None)
                .await
                .unwrap();
        }
        Op::Part(key, number, seed, size) => {
            let (id, body) = (upload_id(store, key).await, body_of(noise(seed, size)));
            store
                .put_part("bucket", key, &id, number, body, None, Announced::Nothing, &[])
                .await
                .unwrap();
        }
        Op::Complete(key, numbers) => {
            let id = upload_id(store, key).await;
            let parts = store.list_parts("bucket", key, &id, 0, 100).await.unwrap().parts;
            let chosen = parts.into_iter().filter(|part| numbers.contains(&part.number));
            let chosen = chosen
                .map(|part| CompletePart {
                    number: part.number,
                    etag: part.etag,
                    checksums: vec![],
                })
                .collect();
            store
                .complete_upload("bucket", key, &id, chosen, &any, vec![])
                .await
                .unwrap();
        }
        Op::Abort(key) => {
            let id = upload_id(store, key).await;
            store.abort_upload("bucket", key, &id).await.unwrap();
        }
    }
}

/// Reads everything back and says what it is, by comparing bytes with every content that was ever written.
async fn read_all(store: &Store) -> Model {
    let mut model = Model::default();
    if store.list_buckets().await.unwrap().is_empty() {
        return model;
    }
    model.bucket = true;
    let known: Vec<Blob> = WRITES
        .iter()
        .filter_map(|write| match *write {
            Op::Put(_, seed, size) | Op::Part(_, _, seed, size) => Some((seed, size)),
            _ => None,
        })
        .collect();
    let find = |bytes: &[u8]| {
        known
            .iter()
            .find(|(seed, size)| noise(*seed, *size) == bytes)
            .copied()
    };
    for object in store
        .list("bucket", ListOptions::default())
        .await
        .unwrap()
        .objects
    {
        let mut blobs = Vec::new();
        for part in 1..=object.parts.unwrap_or(1) {
            let options = GetOptions {
                part: Some(part),
                ..Default::default()
            };
            let read = store.get("bucket", &object.key, options).await.unwrap();
            let bytes = read.body.collect().await.unwrap();
            blobs.push(find(&bytes).expect("bytes that somebody wrote"));
        }
        assert_eq!(
            blobs.iter().map(|(_, size)| *size as u64).sum::<u64>(),
            object.size
        );
        model.objects.insert(object.key, blobs);
    }
    for upload in store
        .list_uploads("bucket", "", ("", ""), 100)
        .await
        .unwrap()
        .uploads
    {
        let parts = store
            .list_parts("bucket", &upload.key, &upload.id, 0, 100)
            .await
            .unwrap()
            .parts;
        let parts = parts.iter().map(|part| {
            let found = known
                .iter()
                .find(|(seed, size)| part.size == *size as u64 && part.etag == md5(&noise(*seed, *size)));
            (part.number, *found.expect("a part that somebody wrote"))
        });
        model.uploads.insert(upload.key.clone(), parts.collect());
    }
    model
}

fn md5(bytes: &[u8]) -> String {
    hex::encode(Md5::checksum(bytes))
}

/// Writes everything, tells of each write that was acknowledged, and aborts at a step.
async fn child(folder: &Path, die_at: usize) {
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&steps);
    let hook = move |_: Step| {
        if counter.fetch_add(1, Ordering::SeqCst) == die_at {
            std::process::abort();
        }
    };
    let options = StoreOptions {
        step_hook: Some(Arc::new(hook)),
        ..crash_options()
    };
    let store = Store::open(folder, options).unwrap();
    for (number, write) in WRITES.iter().enumerate() {
        perform(&store, *write).await;
        tell(&format!("DONE {number}"));
    }
    store.close().await;
    tell(&format!("STEPS {}", steps.load(Ordering::SeqCst)));
}

/// A folder that needs no disk, where there is one: what a process leaves is the same, and its syncs take no time.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(crate) fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line};").unwrap();
    out.flush().unwrap();
}

/// A child of the named test.
pub(crate) fn command(test: &str, task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, task)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What follows `word` on the whole lines of a child's output.
pub(crate) fn told<'o>(output: &'o str, word: &str) -> Vec<&'o str> {
    let lines = output.lines().filter_map(|line| line.strip_suffix(';'));
    lines
        .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        .collect()
}

#[tokio::test]
async fn a_death_at_any_step_of_any_write_loses_and_leaves_nothing() {
    if let Ok(task) = std::env::var(CHILD) {
        let (folder, die_at) = task.rsplit_once(' ').unwrap();
        return child(Path::new(folder), die_at.parse().unwrap()).await;
    }
    let (done, steps) = die(None).await;
    let steps = steps.expect("a child that is not killed ends well");
    assert_eq!(done, WRITES.len());
    // Three steps for each write (applied, folders, committed), more for files.
    assert!(steps > 3 * WRITES.len(), "{steps}");
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..WORKERS).map(|_| {
        let next = Arc::clone(&next);
        tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            loop {
                let step = next.fetch_add(1, Ordering::SeqCst);
                if step >= steps {
                    return seen;
                }
                let (done, ended) = die(Some(step)).await;
                assert_eq!(ended, None, "the child died at step {step}");
                seen.insert(done);
            }
        })
    });
    let mut seen = BTreeSet::new();
    for worker in workers.collect::<Vec<_>>() {
        seen.extend(worker.await.unwrap());
    }
    // There was a death in every write.
    assert_eq!(seen.range(..WRITES.len()).count(), WRITES.len(), "{seen:?}");
}

/// Runs a child that dies at a step, and judges what it left. Answers how many writes were acknowledged, and how many
/// steps there were when it lived to the end.
async fn die(step: Option<usize>) -> (usize, Option<usize>) {
    let folder = in_memory();
    let root = folder.path().join("store");
    let task = format!("{} {}", root.display(), step.unwrap_or(usize::MAX));
    let name = "crash::a_death_at_any_step_of_any_write_loses_and_leaves_nothing";
    let run = tokio::process::Command::from(command(name, &task))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), run)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    let expected = if step.is_some() { Some(SIGABRT) } else { None };
    assert_eq!(output.status.signal(), expected, "step {step:?}: {text} {report}");
    let done = told(&text, "DONE").len();
    let steps = told(&text, "STEPS").first().map(|steps| steps.parse().unwrap());

    let store = Store::open(&root, crash_options()).unwrap();
    assert_eq!(store.open_report().missing, Vec::<String>::new(), "step {step:?}");
    let found = read_all(&store).await;
    // What was acknowledged is there; the write under way is there as a whole or not at all.
    let before = Model::after(&WRITES[..done]);
    let after = Model::after(&WRITES[..WRITES.len().min(done + 1)]);
    assert!(
        found == before || found == after,
        "step {step:?}, {done} writes acknowledged: found {found:?}, expected {before:?} or {after:?}"
    );
    assert_eq!(files_below(&root.join("tmp")).len(), 0, "step {step:?}");
    assert_eq!(
        files_below(&root.join("blobs")).len(),
        found.files(),
        "step {step:?}"
    );
    // The store goes on as if nothing had happened.
    let rest = if found == after { done + 1 } else { done };
    for write in WRITES.iter().skip(rest) {
        perform(&store, *write).await;
    }
    let whole = Model::after(WRITES);
    assert_eq!(read_all(&store).await, whole, "step {step:?}");
    let scrubbed = store.scrub(usize::MAX).await.unwrap();
    assert!(
        scrubbed.finished && scrubbed.damaged.is_empty(),
        "step {step:?}: {scrubbed:?}"
    );
    store.close().await;
    let store = Store::open(&root, crash_options()).unwrap();
    assert_eq!(store.open_report(), &OpenReport::default(), "step {step:?}");
    assert_eq!(
        files_below(&root.join("blobs")).len(),
        whole.files(),
        "step {step:?}"
    );
    store.close().await;
    (done, steps)
}
