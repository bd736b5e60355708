//! `actions/cache`: entries that are written once, found by key or by the beginning of one, and that go when there
//! are too many, the least used first.

use crate::confined::{Confined, Found};
use crate::store::PROTECTED;
use astraler_host::lock::FileLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest key, as GitHub has it.
const MAX_KEY: usize = 512;

/// The entries that one trust may write, and those of the protected one behind them.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    own: PathBuf,
    protected: Option<PathBuf>,
    most: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    key: String,
    /// Of the paths: an entry fits only who asks for the same.
    version: String,
    created: u128,
}

impl Cache {
    pub(crate) fn open(cache: &Path, trust: &str, most: u64) -> io::Result<Self> {
        let folder = |trust: &str| cache.join("entries").join(trust);
        let own = folder(trust);
        crate::work::make(&own)?;
        Ok(Self {
            own,
            protected: (trust != PROTECTED).then(|| folder(PROTECTED)),
            most,
        })
    }

    /// The entry for a key, or the newest for the first prefix that has one. Gives its key.
    pub(crate) fn find(
        &self,
        version: &str,
        key: &str,
        prefixes: &[String],
    ) -> io::Result<Option<(String, PathBuf)>> {
        for folder in [Some(&self.own), self.protected.as_ref()].into_iter().flatten() {
            let entries = list(folder)?;
            let fits = |wanted: &str, whole: bool| {
                let matching = entries.iter().filter(|(entry, _)| {
                    entry.version == version
                        && if whole {
                            entry.key == wanted
                        } else {
                            entry.key.starts_with(wanted)
                        }
                });
                matching.max_by_key(|(entry, _)| entry.created)
            };
            let found = fits(key, true).or_else(|| {
                std::iter::once(key)
                    .chain(prefixes.iter().map(String::as_str))
                    .find_map(|prefix| fits(prefix, false))
            });
            if let Some((entry, path)) = found {
                // Its time of change says when it was last of use.
                let now = fs::FileTimes::new().set_modified(SystemTime::now());
                File::options().append(true).open(path)?.set_times(now).ok();
                return Ok(Some((entry.key.clone(), path.clone())));
            }
        }
        Ok(None)
    }

    /// Puts an entry's files back. Paths in it are those of the sandbox.
    pub(crate) fn restore(path: &Path, confined: &Confined) -> io::Result<usize> {
        let mut archive = tar::Archive::new(File::open(path)?);
        let mut count = 0;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let inside = format!("/{}", entry.path()?.to_string_lossy());
            let outside = confined.outside(&inside)?;
            if let Some(parent) = outside.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::remove_file(&outside).ok();
            let mut file = File::options().write(true).create_new(true).open(&outside)?;
            io::copy(&mut entry, &mut file)?;
            use std::os::unix::fs::PermissionsExt;
            let mode = entry.header().mode()? & 0o777 | 0o600;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            if let Ok(seconds) = entry.header().mtime() {
                let time = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                file.set_times(fs::FileTimes::new().set_modified(time)).ok();
            }
            count += 1;
        }
        Ok(count)
    }

    /// Writes an entry. False where the key is taken: entries never change.
    pub(crate) fn save(
        &self,
        version: &str,
        key: &str,
        files: &[Found],
        confined: &Confined,
    ) -> io::Result<bool> {
        if key.is_empty() || key.len() > MAX_KEY || key.contains(',') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the key {key:?} is empty, has a comma, or more than {MAX_KEY} bytes"),
            ));
        }
        let path = self.path(version, key);
        if path.exists() {
            return Ok(false);
        }
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        if bytes > self.most {
            return Err(io::Error::other(format!(
                "{bytes} bytes are more than all caches may take"
            )));
        }
        let mut partial = tempfile::NamedTempFile::new_in(&self.own)?;
        let mut archive = tar::Builder::new(partial.as_file_mut());
        for file in files {
            let mut open = confined.open(&file.inside)?;
            archive.append_file(file.inside.trim_start_matches('/'), &mut open)?;
        }
        archive.into_inner()?;
        partial.as_file().sync_all()?;
        let _lock = FileLock::wait(self.own.join("lock"), "writing a cache").map_err(io::Error::other)?;
        self.make_room(bytes)?;
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let entry = Entry {
            key: key.to_owned(),
            version: version.to_owned(),
            created,
        };
        partial.persist(&path).map_err(|error| error.error)?;
        let json = serde_json::to_vec(&entry)?;
        astraler_host::file::replace(path.with_extension("json"), &json, 0o600).map_err(io::Error::other)?;
        Ok(true)
    }

    fn make_room(&self, wanted: u64) -> io::Result<()> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.own)?.flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "tar") {
                let metadata = entry.metadata()?;
                all.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        all.sort();
        let mut used: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in all {
            if used.saturating_add(wanted) <= self.most {
                break;
            }
            fs::remove_file(path.with_extension("json")).ok();
            fs::remove_file(&path)?;
            used -= bytes;
        }
        Ok(())
    }

    fn path(&self, version: &str, key: &str) -> PathBuf {
        let hash = Sha256::digest(format!("{version}\0{key}"));
        self.own.join(format!("{}.tar", hex::encode(hash)))
    }
}

/// What entries for these paths have in common.
pub(crate) fn version(paths: &str) -> String {
    let mut lines: Vec<&str> = paths
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.sort_unstable();
    hex::encode(Sha256::digest(lines.join("\n")))
}

fn list(folder: &Path) -> io::Result<Vec<(Entry, PathBuf)>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|kind| kind == "json") {
            let mut text = String::new();
            let read = File::open(&path).and_then(|file| file.take(1 << 16).read_to_string(&mut text));
            let archive = path.with_extension("tar");
            if let (Ok(_), Ok(entry), true) = (read, serde_json::from_str(&text), archive.is_file()) {
                all.push((entry, archive));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::glob::Patterns;

    fn job(folder: &Path, files: &[(&str, &str)]) -> Confined {
        for (name, text) in files {
            let path = folder.join("home").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(folder.join("home")).unwrap();
        Confined {
            roots: vec![("/runner".into(), folder.join("home"))],
        }
    }

    fn save(cache: &Cache, key: &str, confined: &Confined) -> io::Result<bool> {
        let files = confined.search(&Patterns::new(["~/kept"], "/runner", "/runner"))?;
        cache.save("v", key, &files, confined)
    }

    #[test]
    fn keys_and_prefixes_find_entries_that_never_change() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), PROTECTED, 1 << 20).unwrap();
        let first = job(&folder.path().join("1"), &[("kept/a.txt", "one")]);
        assert!(save(&cache, "npm-1", &first).unwrap());
        let second = job(&folder.path().join("2"), &[("kept/a.txt", "two")]);
        assert!(!save(&cache, "npm-1", &second).unwrap(), "taken");
        assert!(save(&cache, "npm-2", &second).unwrap());
        assert!(cache.find("v", "other", &[]).unwrap().is_none());
        assert!(cache.find("other paths", "npm-1", &[]).unwrap().is_none());
        assert_eq!(cache.find("v", "npm-1", &[]).unwrap().unwrap().0, "npm-1");
        let (key, path) = cache
            .find("v", "npm-3", &["x".into(), "npm-".into()])
            .unwrap()
            .unwrap();
        assert_eq!(key, "npm-2", "the newest");
        let third = job(&folder.path().join("3"), &[]);
        assert_eq!(Cache::restore(&path, &third).unwrap(), 1);
        assert_eq!(third.read("/runner/kept/a.txt", 9).unwrap(), "two");
        let branch = Cache::open(folder.path(), "branch", 1 << 20).unwrap();
        assert_eq!(
            branch.find("v", "npm-1", &[]).unwrap().unwrap().0,
            "npm-1",
            "reads what is protected"
        );
        assert!(save(&branch, "npm-9", &third).unwrap());
        assert!(
            cache.find("v", "npm-9", &[]).unwrap().is_none(),
            "and never writes it"
        );
    }

    #[test]
    fn the_least_used_goes_when_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), PROTECTED, 7_000).unwrap();
        let text = "x".repeat(3_000);
        let confined = job(&folder.path().join("1"), &[("kept/a.txt", &text)]);
        assert!(save(&cache, "a", &confined).unwrap());
        assert!(save(&cache, "b", &confined).unwrap());
        assert!(cache.find("v", "b", &[]).unwrap().is_some());
        assert!(cache.find("v", "a", &[]).unwrap().is_none(), "it had to go");
        assert!(save(&cache, "", &confined).is_err() && save(&cache, "a,b", &confined).is_err());
    }
}
