//! Reading a tar that somebody else wrote: regular files and folders with plain names, nothing else, each in bounds.
//!
//! Tar has many dialects, and readers differ in what they make of them. Here is one reading only: extended headers,
//! links, devices and sparse files are refused, so that nothing can mean one thing here and another elsewhere. The one
//! extension is GNU's long name, which long paths need.

use crate::limits;
use crate::manifest::shown;
use std::io::{self, Read};
use tar::EntryType;

/// A tar cannot be read, or holds what it must not.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It ends early, or its headers are broken.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// Something in it is refused.
    #[error("`{name}` in the archive is refused: {reason}")]
    Refused {
        /// Its name, escaped.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// There is too much of it.
    #[error("the archive is larger than {limit} {of}")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// Of what.
        of: &'static str,
    },
}

impl ArchiveError {
    pub(crate) fn refused(name: &str, reason: &'static str) -> Self {
        Self::Refused {
            name: shown(name),
            reason,
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path with `/`, without a leading `./` and a trailing `/`.
    pub(crate) path: String,
    /// A folder; else a regular file.
    pub(crate) folder: bool,
    /// Bytes that follow.
    pub(crate) size: u64,
}

/// Calls `visit` for each entry in order. It may leave an entry's bytes unread. Answers the reader, behind the end mark.
pub(crate) fn each<R: Read, E: From<ArchiveError>>(
    reader: R,
    max_entries: usize,
    mut visit: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<R, E> {
    let mut archive = tar::Archive::new(reader);
    let mut long_name = None;
    // Raw: the library's own handling of extensions reads them whole into memory, however long they say they are.
    for (number, entry) in archive
        .entries()
        .map_err(ArchiveError::Read)?
        .raw(true)
        .enumerate()
    {
        // A long name is an entry of its own.
        if number >= max_entries.saturating_mul(2) {
            return Err(ArchiveError::TooLarge {
                limit: max_entries as u64,
                of: "entries",
            }
            .into());
        }
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let header = entry.header();
        let kind = header.entry_type();
        let size = header.entry_size().map_err(ArchiveError::Read)?;
        if kind == EntryType::GNULongName {
            if long_name.is_some() {
                return Err(ArchiveError::refused("././@LongLink", "a long name follows another").into());
            }
            long_name = Some(read_long_name(&mut entry, size)?);
            continue;
        }
        let name = match long_name.take() {
            Some(name) => name,
            None => header.path_bytes().into_owned(),
        };
        let lossy = String::from_utf8_lossy(&name);
        let refused = |reason| ArchiveError::refused(&lossy, reason);
        let folder = match kind {
            EntryType::Regular => false,
            EntryType::Directory if size == 0 => true,
            EntryType::Directory => return Err(refused("a folder has no bytes").into()),
            EntryType::Symlink | EntryType::Link => return Err(refused("it is a link").into()),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(refused("it is a device").into());
            }
            _ => return Err(refused("it is neither a file nor a folder").into()),
        };
        let path = std::str::from_utf8(&name).map_err(|_| refused("its name is not UTF-8"))?;
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = if folder {
            path.strip_suffix('/').unwrap_or(path)
        } else {
            path
        };
        let entry_of = Entry {
            path: path.to_owned(),
            folder,
            size,
        };
        visit(&entry_of, &mut entry)?;
    }
    if long_name.is_some() {
        return Err(ArchiveError::refused("././@LongLink", "nothing follows a long name").into());
    }
    Ok(archive.into_inner())
}

fn read_long_name(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, ArchiveError> {
    // With the NUL at its end and the folder in front.
    if size > limits::PATH_BYTES as u64 + 64 {
        return Err(ArchiveError::refused("././@LongLink", "the name is too long"));
    }
    let mut name = Vec::new();
    entry.read_to_end(&mut name).map_err(ArchiveError::Read)?;
    if name.len() as u64 != size {
        return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// A reader that fails behind its bound, where `Read::take` would seem to end.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    reader: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(reader: R, limit: u64) -> Self {
        Self {
            reader,
            left: limit,
            exceeded: false,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.exceeded {
            return Err(too_large());
        }
        // One byte more than allowed tells an end from an excess.
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(too_large());
            }
        }
        Ok(read)
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than it may be")
}

impl<R> Bounded<R> {
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }
}
