//! Opening files below a folder, whatever the name says.
//!
//! The kernel holds the border: openat2(2) with `RESOLVE_BENEATH`, so that neither `..` nor a symbolic link leads out,
//! also when the tree changes while we look. Where openat2 is missing (old kernels, some sandboxes) each component is
//! opened in turn with `O_NOFOLLOW`: stricter, links inside the folder are refused too.

use bytes::Bytes;
use http::HeaderValue;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::SMALL_BYTES;
use super::cache::Bounded;

/// ETags remembered for one release.
const KEPT_ETAGS: usize = 32_768;

/// A file as it was at one moment. Equal identities are taken for equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// A file that can be served.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Below the folder, without a leading slash, decoded.
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) etag: HeaderValue,
    pub(super) content_type: HeaderValue,
    pub(super) last_modified: HeaderValue,
    pub(super) modified: SystemTime,
    /// The whole of it, when it is small.
    pub(super) content: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    etags: Mutex<Bounded<Identity, (HeaderValue, Option<Bytes>)>>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            etags: Mutex::new(Bounded::new(KEPT_ETAGS + super::KEPT_BYTES / 1024)),
        }
    }

    /// Opens a regular file. `None` when there is none of that name, or it lies outside.
    pub(super) fn open(&self, name: &str) -> io::Result<Option<(File, Identity)>> {
        let directory = rustix::fs::open(
            &self.path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // NONBLOCK: a FIFO must not hold us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = match rustix::fs::openat2(&directory, name, flags, Mode::empty(), beneath) {
            Err(Errno::NOSYS | Errno::PERM) => open_step_by_step(&directory, name, flags),
            other => other,
        };
        let file = match opened {
            Ok(descriptor) => File::from(descriptor),
            Err(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::XDEV
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::INVAL
                | Errno::NXIO
                | Errno::AGAIN,
            ) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        };
        Ok(Some((file, identity)))
    }

    /// Whether a file of that name can be served; which one it is.
    pub(super) fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        Ok(self.open(name)?.map(|(_, identity)| identity))
    }

    /// Everything about a file. Reads it once for each identity, to know its ETag.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<Found>> {
        let Some((mut file, identity)) = self.open(name)? else {
            return Ok(None);
        };
        let known = self
            .etags
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&identity);
        let (etag, content) = match known {
            Some(known) => known,
            None => {
                let hashed = hash(&mut file, identity.size)?;
                let weight = 1 + hashed.1.as_ref().map_or(0, |content| content.len() / 1024);
                let mut etags = self.etags.lock().unwrap_or_else(PoisonError::into_inner);
                etags.insert(identity, hashed.clone(), weight);
                hashed
            }
        };
        let seconds = u64::try_from(identity.modified_ns / 1_000_000_000).unwrap_or(0);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let last_modified =
            HeaderValue::try_from(httpdate::fmt_http_date(modified)).map_err(io::Error::other)?;
        let content_type = content_type(name);
        Ok(Some(Found {
            name: name.to_owned(),
            identity,
            etag,
            content_type,
            last_modified,
            modified,
            content,
        }))
    }
}

fn open_step_by_step(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (parents, last) = name
        .rsplit_once('/')
        .map_or((None, name), |(parents, last)| (Some(parents), last));
    let mut at = directory.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    for component in parents
        .into_iter()
        .flat_map(|parents| parents.split('/'))
        .chain([last])
    {
        if matches!(component, "" | "." | "..") {
            return Err(Errno::NOENT);
        }
    }
    for parent in parents.into_iter().flat_map(|parents| parents.split('/')) {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, parent, step, Mode::empty())?;
    }
    rustix::fs::openat(&at, last, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// Strong ETag: half of the SHA-256 of the content (128 bits: no two files of a release share it).
fn hash(file: &mut File, size: u64) -> io::Result<(HeaderValue, Option<Bytes>)> {
    let mut hasher = Sha256::new();
    let mut kept = (size <= SMALL_BYTES).then(Vec::new);
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        hasher.update(&buffer[..count]);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&buffer[..count]);
        }
        if total > size {
            break;
        }
    }
    if total != size {
        return Err(io::Error::other("the file changed while it was read"));
    }
    let digest = hex::encode(&hasher.finalize()[..16]);
    let etag = HeaderValue::try_from(format!("\"{digest}\"")).map_err(io::Error::other)?;
    Ok((etag, kept.map(Bytes::from)))
}

fn content_type(name: &str) -> HeaderValue {
    let Some(kind) = mime_guess::from_path(name).first_raw() else {
        return HeaderValue::from_static("application/octet-stream");
    };
    let textual = kind.starts_with("text/")
        || matches!(
            kind,
            "application/javascript"
                | "application/json"
                | "application/xml"
                | "application/manifest+json"
                | "image/svg+xml"
        );
    let value = if textual {
        format!("{kind}; charset=utf-8")
    } else {
        kind.to_owned()
    };
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}
