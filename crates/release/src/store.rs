//! The folder of releases: what is in it, and how it changes.
//!
//! A change is staged in a folder of its own, made durable, and moved into place under a lock: blobs, then the unpacked
//! folder, then `index.json`, which says what is there. Killed at any instant, it leaves what the index does not know,
//! and the next [`Releases::prepare`] removes that.

use crate::files::{self, at};
use crate::image::{self, ANNOTATION_KEYS};
use crate::{Key, directory_name, limits};
use astraler_host::file::{self, FileError};
use oci_spec::OciSpecError;
use oci_spec::image::{ANNOTATION_TITLE, Descriptor, ImageIndex, MediaType};
use rustix::fs::RenameFlags;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Prefix of folders that are not finished.
const PARTIAL: &str = ".partial-";
/// The lock is held for a few renames and syncs; who waits longer than this waits for something broken.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// A folder of releases. Cheap to clone; several processes may read and write it at once.
#[derive(Clone)]
pub struct Releases {
    folder: PathBuf,
    options: Options,
}

/// Settings for tests.
#[derive(Clone, Default)]
pub struct Options {
    /// Called after each step of a change, so that a test can die there.
    pub step_hook: Option<StepHook>,
}

/// See [`Options::step_hook`].
pub type StepHook = Arc<dyn Fn(Step) + Send + Sync>;

/// A step of a change, after which a crash must leave all well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The folder for what is not finished was made.
    Staging,
    /// A file was written there.
    FileWritten,
    /// A layer was written there.
    LayerWritten,
    /// All is durable there.
    Staged,
    /// A blob took its place.
    BlobMoved,
    /// The unpacked folder took its place.
    FolderMoved,
    /// The index was replaced.
    IndexReplaced,
    /// A file or folder that nothing refers to was removed.
    Removed,
}

/// One release of a folder, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    /// Its digest.
    pub digest: String,
    /// The application's name.
    pub application: String,
    /// Bytes of the image as it is transferred; none when its manifest cannot be read.
    pub size_bytes: Option<u64>,
    /// When it was stored here last, in milliseconds since 1970; it is no part of the release.
    pub stored_at_ms: Option<u64>,
    /// Keys under which it is found.
    pub keys: Vec<String>,
}

/// The folder cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The index is not readable as one.
    #[error("{path} is not the index of a folder of releases")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A document of an image cannot be put together.
    #[error("the documents of the image cannot be written")]
    Image(#[from] OciSpecError),
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody holds the folder's lock.
    #[error("{path} is changed by another process for more than {} s", LOCK_TIMEOUT.as_secs())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The bound on releases is reached.
    #[error("{path} holds {limit} releases: remove some first", limit = limits::RELEASES)]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such release.
    #[error("there is no release {digest}")]
    Unknown {
        /// Which.
        digest: String,
    },
}

/// A short digest does not name one release.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It is no beginning of a digest.
    #[error("`{text}` is not a digest, nor its first four or more hex digits")]
    NotADigest {
        /// What was given.
        text: String,
    },
    /// No release begins like this.
    #[error("there is no release {text}")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// More than one does.
    #[error("{text} is the beginning of {count} digests")]
    Ambiguous {
        /// What was given.
        text: String,
        /// How many.
        count: usize,
    },
    /// The folder cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Releases {
    /// The releases in a folder, for reading; nothing is touched before the first change.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            options: Options::default(),
        }
    }

    /// Makes the folder ready, and removes what a killed process left there.
    pub fn prepare(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::prepare_with(folder, Options::default())
    }

    /// [`Releases::prepare`] with settings of a test.
    pub fn prepare_with(folder: impl Into<PathBuf>, options: Options) -> Result<Self, StoreError> {
        let releases = Self {
            folder: folder.into(),
            options,
        };
        releases.make_layout()?;
        let _lock = releases.lock()?;
        match releases.sweep() {
            // It takes room, and is in nobody's way.
            Err(StoreError::File(error)) if error.operation == "remove" => {
                tracing::warn!(%error, cause = %error.source, "a killed process left something that cannot be removed");
            }
            swept => swept?,
        }
        Ok(releases)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every release, the one that was stored last at the end.
    pub fn list(&self) -> Result<Vec<Stored>, StoreError> {
        let stored = self.index()?.into_iter().filter_map(|entry| {
            let hex = image_of(&entry)?;
            let digest = format!("sha256:{hex}");
            let manifest = self.read_blob(hex, limits::DOCUMENT_BYTES).ok();
            let size_bytes = manifest.and_then(|bytes| {
                let manifest = image::parse_manifest(&bytes).ok()?;
                let layers = manifest.layers().iter().map(Descriptor::size);
                Some(layers.sum::<u64>() + manifest.config().size() + bytes.len() as u64)
            });
            Some(Stored {
                application: annotation(&entry, ANNOTATION_TITLE).to_owned(),
                size_bytes,
                stored_at_ms: fs::metadata(self.unpacked(&digest))
                    .and_then(|metadata| metadata.modified())
                    .ok()
                    .and_then(milliseconds),
                keys: annotation(&entry, ANNOTATION_KEYS)
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect(),
                digest,
            })
        });
        Ok(stored.collect())
    }

    /// The digest that begins like this: `sha256:…`, or four or more of its hex digits.
    pub fn resolve(&self, text: &str) -> Result<String, ResolveError> {
        let hex = text
            .strip_prefix("sha256:")
            .or_else(|| text.strip_prefix("sha256-"))
            .unwrap_or(text);
        let digits = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !(4..=64).contains(&hex.len()) || !digits {
            return Err(ResolveError::NotADigest {
                text: crate::manifest::shown(text),
            });
        }
        let text = text.to_owned();
        let index = self.index()?;
        let mut found = index
            .iter()
            .filter_map(image_of)
            .filter(|candidate| candidate.starts_with(hex));
        match (found.next(), found.count()) {
            (None, _) => Err(ResolveError::Unknown { text }),
            (Some(hex), 0) => Ok(format!("sha256:{hex}")),
            (Some(_), more) => Err(ResolveError::Ambiguous {
                text,
                count: more + 1,
            }),
        }
    }

    /// The release that was built from what the key stands for, if any.
    pub fn find_by_key(&self, key: &Key) -> Result<Option<String>, StoreError> {
        let index = self.index()?;
        let mut newest_first = index.iter().rev();
        let found = newest_first.find(|entry| has_key(entry, key)).and_then(image_of);
        Ok(found.map(|hex| format!("sha256:{hex}")))
    }

    /// Notes that a release was built from what the key stands for. The digest stays as it is; another release that
    /// had this key loses it.
    pub fn set_key(&self, digest: &str, key: &Key) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let mut known = false;
        for entry in &mut index {
            let owner = is_entry_of(entry, digest);
            known |= owner;
            let keys = annotation(entry, ANNOTATION_KEYS).split_whitespace();
            let mut keys: Vec<&str> = keys.filter(|other| *other != key.as_str()).collect();
            if owner {
                keys.push(key.as_str());
            }
            let keys = keys[keys.len().saturating_sub(limits::KEYS)..].join(" ");
            set_annotation(entry, ANNOTATION_KEYS, keys);
        }
        if !known {
            return Err(StoreError::Unknown {
                digest: digest.to_owned(),
            });
        }
        self.write_index(index)
    }

    /// Removes a release, and the blobs that only it had.
    pub fn remove(&self, digest: &str) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let before = index.len();
        index.retain(|entry| !is_entry_of(entry, digest));
        if index.len() == before {
            return Err(StoreError::Unknown {
                digest: digest.to_owned(),
            });
        }
        self.write_index(index)?;
        self.sweep()
    }

    /// Removes all but the `keep` newest releases and those in use. Answers the digests that went.
    pub fn prune(&self, keep: usize, in_use: &BTreeSet<String>) -> Result<Vec<String>, StoreError> {
        let _lock = self.lock()?;
        let index = self.index()?;
        let images = index.iter().filter(|entry| image_of(entry).is_some()).count();
        let mut older = images.saturating_sub(keep);
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for entry in index {
            match image_of(&entry).map(|hex| format!("sha256:{hex}")) {
                Some(digest) if older > 0 => {
                    older -= 1;
                    if in_use.contains(&digest) {
                        kept.push(entry);
                    } else {
                        gone.push(digest);
                    }
                }
                _ => kept.push(entry),
            }
        }
        if !gone.is_empty() {
            self.write_index(kept)?;
            self.sweep()?;
        }
        Ok(gone)
    }

    /// The unpacked folder of a release.
    pub(crate) fn unpacked(&self, digest: &str) -> PathBuf {
        self.folder.join(directory_name(digest))
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, hex: &str) -> PathBuf {
        self.blobs().join(hex)
    }

    /// A document among the blobs, unchecked.
    pub(crate) fn read_blob(&self, hex: &str, limit: u64) -> io::Result<Vec<u8>> {
        files::read_bounded(&self.blob(hex), limit)
    }

    /// Whether the index knows a release.
    pub(crate) fn knows(&self, digest: &str) -> Result<bool, StoreError> {
        Ok(self.index()?.iter().any(|entry| is_entry_of(entry, digest)))
    }

    pub(crate) fn step(&self, step: Step) {
        if let Some(hook) = &self.options.step_hook {
            hook(step);
        }
    }

    /// A folder for what is not finished. Its own lock tells others that somebody is at work in it.
    pub(crate) fn stage(&self) -> Result<Partial, StoreError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        self.make_layout()?;
        let _lock = self.lock()?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = self
            .folder
            .join(format!("{PARTIAL}{}-{number}", std::process::id()));
        // A process of the same number, killed before, may have left one.
        files::remove_tree(&path)?;
        fs::create_dir(&path).map_err(at("make", &path))?;
        let lock = files::try_lock(&path)?.ok_or_else(|| StoreError::Busy { path: path.clone() })?;
        let partial = Partial { path, _lock: lock };
        let blobs = partial.blobs();
        fs::create_dir(&blobs).map_err(at("make", &blobs))?;
        self.step(Step::Staging);
        Ok(partial)
    }

    /// Moves a staged image into place. What has its name already is replaced: it is the same, or it was damaged.
    pub(crate) fn commit(&self, partial: &Partial, staged: &Staged) -> Result<(), StoreError> {
        self.step(Step::Staged);
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let position = index.iter().position(|entry| is_entry_of(entry, &staged.digest));
        let entry = match position {
            // It becomes the newest, and keeps its keys.
            Some(position) => index.remove(position),
            None if index.len() >= limits::RELEASES => {
                return Err(StoreError::Full {
                    path: self.folder.clone(),
                });
            }
            None => {
                let hex = staged.digest.trim_start_matches("sha256:");
                image::index_entry(&staged.application, hex, staged.manifest_size)?
            }
        };
        index.push(entry);
        for hex in &staged.blobs {
            let (from, to) = (partial.blobs().join(hex), self.blob(hex));
            fs::rename(&from, &to).map_err(at("rename to", &to))?;
            self.step(Step::BlobMoved);
        }
        file::sync_dir(self.blobs())?;
        self.move_tree(partial, &staged.digest)?;
        self.write_index(index)
    }

    /// Puts a staged folder in the place of a release's that is known, and nothing else.
    pub(crate) fn replace_tree(&self, partial: &Partial, digest: &str) -> Result<(), StoreError> {
        self.step(Step::Staged);
        let _lock = self.lock()?;
        if !self.knows(digest)? {
            return Err(StoreError::Unknown {
                digest: digest.to_owned(),
            });
        }
        self.move_tree(partial, digest)
    }

    fn move_tree(&self, partial: &Partial, digest: &str) -> Result<(), StoreError> {
        let (from, to) = (partial.tree(), self.unpacked(digest));
        if fs::symlink_metadata(&to).is_ok() {
            // In one step, so that its readers never find nothing.
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                &from,
                rustix::fs::CWD,
                &to,
                RenameFlags::EXCHANGE,
            )
            .map_err(|errno| at("exchange", &to)(errno.into()))?;
        } else {
            fs::rename(&from, &to).map_err(at("rename to", &to))?;
        }
        file::sync_dir(&self.folder)?;
        self.step(Step::FolderMoved);
        Ok(())
    }

    fn make_layout(&self) -> Result<(), StoreError> {
        let layout = self.folder.join("oci-layout");
        if layout.is_file() && self.blobs().is_dir() {
            return Ok(());
        }
        for folder in [self.folder.clone(), self.folder.join("blobs"), self.blobs()] {
            if !folder.is_dir() {
                file::make_dir(&folder, 0o755, None, None)?;
            }
        }
        let _lock = self.lock()?;
        Ok(file::replace(layout, image::LAYOUT, 0o644)?)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this crate blocks: it reads and writes files; who calls it from a task uses a thread for it"
    )]
    fn lock(&self) -> Result<File, StoreError> {
        let tries = LOCK_TIMEOUT.as_millis() / LOCK_POLL.as_millis();
        for _ in 0..tries {
            if let Some(lock) = files::try_lock(&self.folder)? {
                return Ok(lock);
            }
            std::thread::sleep(LOCK_POLL);
        }
        Err(StoreError::Busy {
            path: self.folder.clone(),
        })
    }

    fn index_file(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    /// The entries of the index; none where there is none yet.
    fn index(&self) -> Result<Vec<Descriptor>, StoreError> {
        let path = self.index_file();
        let bytes = match files::read_bounded(&path, INDEX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(at("read", &path)(error).into()),
        };
        let index: ImageIndex =
            serde_json::from_slice(&bytes).map_err(|source| StoreError::Index { path, source })?;
        Ok(index.manifests().clone())
    }

    fn write_index(&self, entries: Vec<Descriptor>) -> Result<(), StoreError> {
        let bytes = image::canonical(&image::index(entries));
        file::replace(self.index_file(), &bytes, 0o644)?;
        self.step(Step::IndexReplaced);
        Ok(())
    }

    /// Removes what the index does not know. The caller has the lock.
    fn sweep(&self) -> Result<(), StoreError> {
        let index = self.index()?;
        let known: BTreeSet<String> = index
            .iter()
            .filter_map(image_of)
            .map(|hex| directory_name(&format!("sha256:{hex}")))
            .collect();
        let mut removals = Removals::default();
        for entry in fs::read_dir(&self.folder)
            .map_err(at("read", &self.folder))?
            .flatten()
        {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            if name.starts_with(PARTIAL) {
                // Somebody may be at work in it; a folder that just went was his.
                if let Ok(Some(_lock)) = files::try_lock(&path) {
                    removals.note(files::remove_tree(&path));
                    self.step(Step::Removed);
                }
            } else if name.starts_with('.') && name.ends_with(".tmp") {
                // Such files are written under the lock, so nobody writes this one.
                removals.note(file::remove_if_present(&path));
            } else if name.starts_with("sha256-") && !known.contains(name.as_ref()) {
                removals.note(files::remove_tree(&path));
                self.step(Step::Removed);
            }
        }
        let blobs = fs::read_dir(self.blobs()).map_err(at("read", &self.blobs()))?;
        let referred = self.referred(&index);
        for entry in blobs.flatten() {
            let name = entry.file_name();
            let needed = referred
                .as_ref()
                .is_none_or(|all| name.to_str().is_some_and(|name| all.contains(name)));
            if !needed {
                removals.note(file::remove_if_present(entry.path()));
                self.step(Step::Removed);
            }
        }
        removals.end()
    }

    /// Every blob that an image of the index needs. None where that is not known, because a manifest is damaged or an
    /// entry is not ours: then no blob is removed.
    fn referred(&self, index: &[Descriptor]) -> Option<BTreeSet<String>> {
        let mut referred = BTreeSet::new();
        for entry in index {
            let hex = image_of(entry)?;
            let bytes = self.read_blob(hex, limits::DOCUMENT_BYTES).ok()?;
            if image::sha256(&bytes) != hex {
                return None;
            }
            let manifest = image::parse_manifest(&bytes).ok()?;
            for descriptor in manifest.layers().iter().chain([manifest.config()]) {
                referred.insert(image::hex_of(descriptor).ok()?.to_owned());
            }
            referred.insert(hex.to_owned());
        }
        Some(referred)
    }
}

/// All that can go, goes; the first that cannot is told at the end.
#[derive(Default)]
struct Removals(Option<FileError>);

impl Removals {
    fn note(&mut self, result: Result<(), FileError>) {
        if let Err(error) = result {
            self.0.get_or_insert(error);
        }
    }

    fn end(self) -> Result<(), StoreError> {
        self.0.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Longer than the index of as many releases as there may be, with all their keys.
const INDEX_BYTES: u64 = 64 << 20;

impl fmt::Debug for Releases {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Releases")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// A folder for what is not finished; it goes with this value.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    _lock: File,
}

impl Partial {
    /// Where the unpacked folder is staged.
    pub(crate) fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// Where blobs are staged.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one that prepares the folder.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// An image that is whole in its staging folder.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) digest: String,
    pub(crate) application: String,
    pub(crate) manifest_size: u64,
    /// Hex digits of every blob, the manifest's among them.
    pub(crate) blobs: BTreeSet<String>,
}

fn milliseconds(time: SystemTime) -> Option<u64> {
    let age = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(age.as_millis()).ok()
}

/// The hex digits of an entry that is an image.
fn image_of(entry: &Descriptor) -> Option<&str> {
    let hex = image::hex_of(entry).ok()?;
    (*entry.media_type() == MediaType::ImageManifest).then_some(hex)
}

fn is_entry_of(entry: &Descriptor, digest: &str) -> bool {
    image_of(entry).is_some_and(|hex| digest.strip_prefix("sha256:") == Some(hex))
}

fn annotation<'e>(entry: &'e Descriptor, name: &str) -> &'e str {
    let annotations = entry.annotations().as_ref();
    annotations
        .and_then(|all| all.get(name))
        .map_or("", String::as_str)
}

fn has_key(entry: &Descriptor, key: &Key) -> bool {
    annotation(entry, ANNOTATION_KEYS)
        .split_whitespace()
        .any(|other| other == key.as_str())
}

fn set_annotation(entry: &mut Descriptor, name: &str, value: String) {
    let mut annotations = entry.annotations().clone().unwrap_or_default();
    if value.is_empty() {
        annotations.remove(name);
    } else {
        annotations.insert(name.to_owned(), value);
    }
    entry.set_annotations(Some(annotations));
}
