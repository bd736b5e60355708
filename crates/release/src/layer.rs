//! Layers: a gzip-compressed tar each, the same bytes for the same files.

use crate::archive::{self, ArchiveError, Bounded, Entry};
use crate::files::at;
use crate::image::{Layer, RELEASE_JSON, ROOT};
use crate::manifest::{FileEntry, ReleaseManifest};
use crate::{files, limits};
use astraler_host::file::FileError;
use flate2::{Compression, GzBuilder, bufread::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use tar::{EntryType, Header};

/// Pinned: another level, or another version of the compressor, changes every digest. A test holds one digest.
const LEVEL: u32 = 6;
/// What the tar adds to a file: header, padding, a long name with its own header and padding.
const OVERHEAD: u64 = 4 << 10;
/// Ends of archives: two zero blocks, and what fills the last record of other writers.
const SLACK: u64 = 64 << 10;

/// Writes a layer of some files of the folder `tree`, in this order, as a blob below `blobs`.
pub(crate) fn write(
    name: &'static str,
    tree: &Path,
    paths: &[&str],
    blobs: &Path,
) -> Result<Layer, FileError> {
    let temporary = blobs.join(format!("{name}.tmp"));
    let failed = || at("write", &temporary);
    let file = File::create_new(&temporary).map_err(at("create", &temporary))?;
    let blob = Hashing::new(BufWriter::new(file));
    // No time and no name of a file or system are in the header.
    let gzip: GzEncoder<_> = GzBuilder::new().mtime(0).write(blob, Compression::new(LEVEL));
    let mut tar = tar::Builder::new(Hashing::new(gzip));
    let mut folders = BTreeSet::new();
    for path in paths {
        let inside = format!("{ROOT}/{path}");
        for (end, _) in inside.match_indices('/') {
            if folders.insert(inside[..end].to_owned()) {
                let name = &inside[..=end];
                let mut header = header(EntryType::Directory, 0);
                tar.append_data(&mut header, name, io::empty())
                    .map_err(failed())?;
            }
        }
        let source = tree.join(path);
        let file = files::open_regular(&source).map_err(at("open", &source))?;
        let size = file.metadata().map_err(at("read", &source))?.len();
        let mut header = header(EntryType::Regular, size);
        tar.append_data(&mut header, &inside, file).map_err(failed())?;
    }
    let gzip = tar.into_inner().map_err(failed())?;
    let diff_id = hex::encode(gzip.hash.finalize());
    let blob = gzip.inner.finish().map_err(failed())?;
    let (sha256, size) = (hex::encode(blob.hash.finalize()), blob.size);
    let file = blob
        .inner
        .into_inner()
        .map_err(|error| failed()(error.into_error()))?;
    finish_blob(&file, &temporary)?;
    let target = blobs.join(&sha256);
    fs::rename(&temporary, &target).map_err(at("rename to", &target))?;
    Ok(Layer {
        name,
        blob: sha256,
        size,
        diff_id,
    })
}

/// Durable, and readable by all whatever the umask.
fn finish_blob(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(at("set the mode of", path))?;
    file.sync_data().map_err(at("sync", path))
}

/// Nothing of the file system's: no time, no owner, one mode for all files and one for all folders.
fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Reads the last layer of a release: `release.json` and nothing else.
pub(crate) fn read_release_json(blob: File, diff_id: &str) -> Result<Vec<u8>, ArchiveError> {
    let mut json = None;
    let visit = |entry: &Entry, bytes: &mut dyn Read| {
        let refused = |reason| ArchiveError::refused(&entry.path, reason);
        if entry.folder && entry.path == ROOT {
            return Ok(());
        }
        if entry.folder || entry.path != format!("{ROOT}/{RELEASE_JSON}") {
            return Err(refused("the last layer holds release.json and nothing else"));
        }
        if entry.size > limits::RELEASE_JSON_BYTES {
            return Err(refused("it is too large"));
        }
        let mut found = Vec::new();
        bytes.read_to_end(&mut found).map_err(ArchiveError::Read)?;
        if found.len() as u64 != entry.size {
            return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        if json.replace(found).is_some() {
            return Err(refused("it is there twice"));
        }
        Ok(())
    };
    read(blob, diff_id, limits::RELEASE_JSON_BYTES, 2, visit)?;
    json.ok_or_else(|| ArchiveError::refused(RELEASE_JSON, "the last layer does not hold it"))
}

/// Reads a layer of files: each must be one of the manifest's, and none may be there twice. `visit` gets each with what
/// the manifest says of it, and compares.
pub(crate) fn read_files<E: From<ArchiveError>>(
    blob: File,
    diff_id: &str,
    manifest: &ReleaseManifest,
    seen: &mut BTreeSet<String>,
    mut visit: impl FnMut(&str, &FileEntry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let bytes = manifest
        .files
        .values()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.size));
    let folders: BTreeSet<&str> = manifest
        .files
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(end, _)| &path[..end]))
        .collect();
    let most = manifest.files.len() + folders.len() + 1;
    let prefix = format!("{ROOT}/");
    read(blob, diff_id, bytes, most, |entry, bytes| {
        let refused = |reason| ArchiveError::refused(&entry.path, reason);
        if entry.folder && entry.path == ROOT {
            return Ok(());
        }
        let path = entry
            .path
            .strip_prefix(&prefix)
            .ok_or_else(|| refused("it is not in the folder of the release"))?;
        if entry.folder {
            let known = folders.contains(path);
            return known
                .then_some(())
                .ok_or_else(|| refused("no file of the release is in this folder").into());
        }
        let described = manifest
            .files
            .get(path)
            .ok_or_else(|| refused("release.json does not know it"))?;
        if entry.size != described.size {
            return Err(refused("release.json says another size").into());
        }
        if !seen.insert(path.to_owned()) {
            return Err(refused("it is there twice").into());
        }
        visit(path, described, bytes)
    })
}

/// Reads the tar in a blob, to its very end, and compares its hash.
fn read<E: From<ArchiveError>>(
    blob: File,
    diff_id: &str,
    content: u64,
    entries: usize,
    visit: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    // Nothing longer than what is announced is ever unpacked: a bomb ends here.
    let limit = content
        .saturating_add(OVERHEAD.saturating_mul(entries as u64))
        .saturating_add(SLACK);
    let gzip = GzDecoder::new(BufReader::new(blob));
    let mut tar = archive::each(Hashing::new(Bounded::new(gzip, limit)), entries, visit)?;
    io::copy(&mut tar, &mut io::sink()).map_err(ArchiveError::Read)?;
    if hex::encode(tar.hash.finalize()) != diff_id {
        return Err(
            ArchiveError::refused("layer", "its content is not what the image's configuration says").into(),
        );
    }
    let mut rest = tar.inner.into_inner().into_inner();
    if !rest.fill_buf().map_err(ArchiveError::Read)?.is_empty() {
        return Err(ArchiveError::refused("layer", "something follows its end").into());
    }
    Ok(())
}

/// Hashes what passes.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
