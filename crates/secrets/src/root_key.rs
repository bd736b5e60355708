//! The key above all others: 32 bytes in a file of their own.

use crate::random;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const LABEL: &str = "astraler-root-key-1";
/// How the name of a key that is being written begins.
const TEMPORARY: &str = ".root-key-";
const MAX_FILE_BYTES: u64 = 256;

/// The root key. It wraps the keys of environments and nothing else.
///
/// Its file is one line: `astraler-root-key-1 <64 hex digits> <8 hex digits of checksum>`; the checksum finds
/// slips of a hand that types it in from paper.
pub struct RootKey {
    // Boxed, so that moving the key does not leave copies on the stack.
    bytes: Box<Zeroizing<[u8; 32]>>,
}

/// Why a root key was not loaded or saved. Carries the path; never carries any part of the key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file could not be read or written.
    #[error("cannot {operation} the root key {}", path.display())]
    Io {
        /// What was tried: `read`, `save`, `replace`…
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a file already, and a root key is never overwritten.
    #[error("{} exists already: a root key is never overwritten, because everything sealed under it would be lost", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is a link, a folder, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error("{} can be read or written by others than its owner (mode {mode:04o}): run `chmod 0400` on it, and rotate the key if anyone else had access", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, but this process runs as user {user}", path.display())]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user of this process.
        user: u32,
    },
    /// It is not a root key, or a damaged one.
    #[error("{} holds no valid root key: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without quoting it.
        reason: &'static str,
    },
}

impl RootKey {
    /// Makes a new key from the kernel's random source.
    pub fn generate() -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; 32]));
        random::fill(&mut **bytes);
        Self { bytes }
    }

    /// Reads a key. Refuses a file that is not regular, is not owned by the effective user of this process, or
    /// can be read by anybody else; all three are asked of the opened file, so it cannot be swapped in between.
    pub fn load(path: &Path) -> Result<Self, RootKeyError> {
        let failed = |source| RootKeyError::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(rustix::io::Errno::LOOP) => {
                return Err(RootKeyError::NotAFile {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(RootKeyError::NotAFile {
                path: path.to_owned(),
            });
        }
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            return Err(RootKeyError::WrongOwner {
                path: path.to_owned(),
                owner: metadata.uid(),
                user,
            });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(RootKeyError::TooOpen {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(512));
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        Self::parse(&text).map_err(|reason| RootKeyError::Malformed {
            path: path.to_owned(),
            reason,
        })
    }

    /// Writes the key to a new file with mode 0400, durably. Refuses to overwrite; a crash leaves either the
    /// whole file or none at `path`. The folder must exist.
    pub fn save_new(&self, path: &Path) -> Result<(), RootKeyError> {
        let failed = |source| RootKeyError::Io {
            operation: "save",
            path: path.to_owned(),
            source,
        };
        let folder = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => {
                return Err(RootKeyError::NotAFile {
                    path: path.to_owned(),
                });
            }
        };
        let mut suffix = [0; 8];
        random::fill(&mut suffix);
        let temporary = folder.join(format!("{TEMPORARY}{}", hex::encode(suffix)));
        let written = self.write(&temporary).and_then(|()| {
            // A link, not a rename: a link never replaces what is there.
            std::fs::hard_link(&temporary, path)
        });
        let removed = std::fs::remove_file(&temporary);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RootKeyError::Exists {
                    path: path.to_owned(),
                });
            }
            other => other.map_err(failed)?,
        }
        removed.map_err(failed)?;
        sync_folder(path).map_err(failed)
    }

    /// Puts the key of one file into the place of another, durably: who reads that one finds the old key or the new one.
    /// Everything must be under the new one by then. Both files are in one folder.
    pub fn replace(from: &Path, to: &Path) -> Result<(), RootKeyError> {
        // Nothing but a key is put there.
        Self::load(from)?;
        let failed = |source| RootKeyError::Io {
            operation: "replace",
            path: to.to_owned(),
            source,
        };
        std::fs::rename(from, to).map_err(failed)?;
        sync_folder(to).map_err(failed)
    }

    /// Removes a key under which nothing is.
    pub fn remove(path: &Path) -> Result<(), RootKeyError> {
        let failed = |source| RootKeyError::Io {
            operation: "remove",
            path: path.to_owned(),
            source,
        };
        std::fs::remove_file(path).map_err(failed)?;
        sync_folder(path).map_err(failed)
    }

    /// Removes what a process that was killed in [`RootKey::save_new`] left in the folder of a key.
    pub fn clear(path: &Path) -> Result<(), RootKeyError> {
        let failed = |source| RootKeyError::Io {
            operation: "look beside",
            path: path.to_owned(),
            source,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(folder).map_err(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                Self::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A name for the key that tells nothing about it: ciphertexts carry it to say which key opens them.
    pub fn id(&self) -> String {
        hex::encode(key_id(self.expose()))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(path)?;
        file.write_all(&self.to_text())?;
        file.sync_all()
    }

    pub(crate) fn to_text(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(vec![0; LABEL.len() + 1 + 64 + 1 + 8 + 1]);
        let (label, rest) = text.split_at_mut(LABEL.len());
        label.copy_from_slice(LABEL.as_bytes());
        let (digits, sum) = (&mut [0; 64], &mut [0; 8]);
        let encoded = hex::encode_to_slice(self.expose(), digits)
            .and_then(|()| hex::encode_to_slice(checksum(self.expose()), sum));
        debug_assert_eq!(encoded, Ok(()), "the slices have the right lengths");
        rest[0] = b' ';
        rest[1..65].copy_from_slice(digits);
        rest[65] = b' ';
        rest[66..74].copy_from_slice(sum);
        rest[74] = b'\n';
        zeroize::Zeroize::zeroize(digits);
        text
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut words = text.split(|b| *b == b' ');
        if words.next() != Some(LABEL.as_bytes()) {
            return Err("it does not begin with `astraler-root-key-1`");
        }
        let (Some(digits), Some(sum), None) = (words.next(), words.next(), words.next()) else {
            return Err("expected the label, 64 hex digits and 8 hex digits of checksum on one line");
        };
        let mut bytes = Box::new(Zeroizing::new([0; 32]));
        hex::decode_to_slice(digits, &mut **bytes).map_err(|_| "the key is not 64 hex digits")?;
        let mut found = [0; 4];
        hex::decode_to_slice(sum, &mut found).map_err(|_| "the checksum is not 8 hex digits")?;
        if found != checksum(&bytes) {
            return Err("its checksum does not match: a digit is wrong");
        }
        Ok(Self { bytes })
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({}, [redacted])", self.id())
    }
}

/// Makes a change of names in the folder of a file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// The first 8 bytes of a hash of the key, in a domain of its own.
pub(crate) fn key_id(key: &[u8; 32]) -> [u8; 8] {
    first(b"astraler key id 1\0", key)
}

fn checksum(key: &[u8; 32]) -> [u8; 4] {
    first(b"astraler root key checksum 1\0", key)
}

fn first<const N: usize>(domain: &[u8], key: &[u8; 32]) -> [u8; N] {
    let digest = Sha256::new().chain_update(domain).chain_update(key).finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_as_written() {
        let key = RootKey::generate();
        let text = key.to_text();
        let copy = RootKey::parse(&text).unwrap();
        assert_eq!(copy.expose(), key.expose());
        assert_eq!(copy.id(), key.id());
        assert_eq!(
            RootKey::parse(&text[..text.len() - 1]).unwrap().id(),
            key.id(),
            "without the newline"
        );
    }

    #[test]
    fn every_changed_byte_is_found() {
        let text = RootKey::generate().to_text();
        for position in 0..text.len() - 1 {
            for other in *b"0f x" {
                let mut copy = text.to_vec();
                if copy[position] != other {
                    copy[position] = other;
                    assert!(RootKey::parse(&copy).is_err(), "byte {position}");
                }
            }
            assert!(RootKey::parse(&text[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn debug_shows_the_id_only() {
        let key = RootKey::generate();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&hex::encode(key.expose())));
        assert_eq!(shown, format!("RootKey({}, [redacted])", key.id()));
    }
}
