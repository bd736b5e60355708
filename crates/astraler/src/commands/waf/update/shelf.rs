//! Rules that were brought, on disk: a folder for each release, `current` and `former` as links to two of them.
//!
//! A folder is written whole beside the others and renamed; the switch is the rename of one link. Whatever is interrupted,
//! the rules in force are those before or those after, and the next command removes what is left over. The caller holds
//! the lock under which the platform is changed: nobody else writes here.

use astraler_host::file::{self, FileError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const CURRENT: &str = "current";
const FORMER: &str = "former";
/// Begins names of what is not finished.
const UNFINISHED: &str = ".new-";
/// What is known of a release, in its folder.
const ABOUT: &str = "release.json";

/// A release of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Release {
    /// Its version, as its rules say: `4.28.0`.
    pub(super) version: Option<String>,
    /// SHA-256 of the archive.
    pub(super) sha256: String,
    /// Where it came from.
    pub(super) from: String,
}

impl Release {
    /// What its folder is called.
    pub(super) fn folder(&self) -> String {
        let version = self.version.as_deref().unwrap_or("rules");
        let short = self.sha256.get(..12).unwrap_or(&self.sha256);
        format!("{version}-{short}")
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let short = self.sha256.get(..12).unwrap_or(&self.sha256);
        match &self.version {
            Some(version) => format!("{version} (sha256 {short})"),
            None => format!("a rule set without a version (sha256 {short})"),
        }
    }
}

/// Why the shelf cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShelfError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot {what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ShelfError + 'a {
    move |source| ShelfError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Where the links lead.
#[derive(Debug)]
pub(super) struct Standing([(&'static str, Option<String>); 2]);

/// The place.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// Opens the place for writing: makes it, and removes what an interrupted command has left.
    pub(super) fn open(folder: PathBuf) -> Result<Self, ShelfError> {
        file::make_dir(&folder, 0o755, None, None)?;
        let shelf = Self { folder };
        shelf.remove_where(|name| name.starts_with(UNFINISHED))?;
        Ok(shelf)
    }

    /// For looking.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn current(&self) -> Option<Release> {
        self.release(&self.named(CURRENT)?)
    }

    /// The folder of the rules in force.
    pub(super) fn current_folder(&self) -> Option<PathBuf> {
        Some(self.folder.join(self.named(CURRENT)?))
    }

    pub(super) fn former(&self) -> Option<Release> {
        self.release(&self.named(FORMER)?)
    }

    /// A folder for a release that is on its way.
    pub(super) fn begin(&self) -> Result<PathBuf, ShelfError> {
        let folder = self.folder.join(format!("{UNFINISHED}{}", std::process::id()));
        file::make_dir(&folder, 0o755, None, None)?;
        Ok(folder)
    }

    /// Puts a release whose folder is written whole into its place. Nobody goes by it yet.
    pub(super) fn finish(&self, unfinished: &Path, release: &Release) -> Result<(), ShelfError> {
        let json = serde_json::to_vec_pretty(release).unwrap_or_default();
        file::replace(unfinished.join(ABOUT), &json, 0o644)?;
        let name = release.folder();
        let place = self.folder.join(&name);
        if self.named(CURRENT).as_ref() == Some(&name) {
            // It is in force: one like it needs not take its place.
            return remove(unfinished);
        }
        // Of an earlier time, or damaged: nobody reads it.
        remove(&place)?;
        fs::rename(unfinished, &place).map_err(at("rename to", &place))?;
        Ok(file::sync_dir(&self.folder)?)
    }

    /// Makes a release that is in its place the one in force. One rename; what was in force is the former one.
    pub(super) fn switch(&self, release: &Release) -> Result<(), ShelfError> {
        let before = self.named(CURRENT);
        let name = release.folder();
        if before.as_ref() == Some(&name) {
            return Ok(());
        }
        if let Some(before) = before {
            self.link(FORMER, &before)?;
        }
        self.link(CURRENT, &name)
    }

    /// What is in force and what was before, to come back to.
    pub(super) fn standing(&self) -> Standing {
        Standing([CURRENT, FORMER].map(|link| (link, self.named(link))))
    }

    /// As if nothing had been switched since.
    pub(super) fn restore(&self, standing: &Standing) -> Result<(), ShelfError> {
        for (link, to) in &standing.0 {
            match to {
                Some(to) => self.link(link, to)?,
                None => file::remove_if_present(self.folder.join(link))?,
            }
        }
        Ok(())
    }

    /// Removes releases that are neither in force nor the former one.
    pub(super) fn prune(&self) -> Result<(), ShelfError> {
        let kept = [self.named(CURRENT), self.named(FORMER)];
        self.remove_where(|name| {
            !matches!(name, CURRENT | FORMER) && !kept.iter().flatten().any(|kept| kept == name)
        })
    }

    fn release(&self, name: &str) -> Option<Release> {
        serde_json::from_slice(&fs::read(self.folder.join(name).join(ABOUT)).ok()?).ok()
    }

    /// Where a link leads: a folder in this one, or nowhere.
    fn named(&self, link: &str) -> Option<String> {
        let target = fs::read_link(self.folder.join(link)).ok()?;
        let name = target.to_str()?.to_owned();
        (!name.contains('/') && self.folder.join(&name).is_dir()).then_some(name)
    }

    fn link(&self, link: &str, to: &str) -> Result<(), ShelfError> {
        let new = self.folder.join(format!("{UNFINISHED}{link}"));
        file::remove_if_present(&new)?;
        std::os::unix::fs::symlink(to, &new).map_err(at("make the link", &new))?;
        let place = self.folder.join(link);
        fs::rename(&new, &place).map_err(at("rename to", &place))?;
        Ok(file::sync_dir(&self.folder)?)
    }

    fn remove_where(&self, goes: impl Fn(&str) -> bool) -> Result<(), ShelfError> {
        for entry in fs::read_dir(&self.folder).map_err(at("read", &self.folder))? {
            let entry = entry.map_err(at("read", &self.folder))?;
            if entry.file_name().to_str().is_some_and(&goes) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// A folder or a link that need not be there.
fn remove(path: &Path) -> Result<(), ShelfError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    let removed = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str) -> Release {
        Release {
            version: Some(version.to_owned()),
            sha256: format!("{version:0>64}"),
            from: "test".to_owned(),
        }
    }

    fn bring(shelf: &Shelf, version: &str) -> Release {
        let release = release(version);
        let unfinished = shelf.begin().unwrap();
        file::replace(unfinished.join("crs-setup.conf"), version.as_bytes(), 0o644).unwrap();
        shelf.finish(&unfinished, &release).unwrap();
        release
    }

    fn names(shelf: &Shelf) -> Vec<String> {
        let entries = fs::read_dir(&shelf.folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_release_is_in_force_once_it_is_whole_and_the_former_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(root.path().join("waf")).unwrap();
        let empty = shelf.standing();
        let one = bring(&shelf, "1.0.0");
        assert_eq!(shelf.current(), None, "nobody has switched to it");
        shelf.switch(&one).unwrap();
        shelf.switch(&one).unwrap();
        assert_eq!((shelf.current(), shelf.former()), (Some(one.clone()), None));
        let two = bring(&shelf, "2.0.0");
        shelf.switch(&two).unwrap();
        let three = bring(&shelf, "3.0.0");
        shelf.switch(&three).unwrap();
        shelf.prune().unwrap();
        assert_eq!(
            (shelf.current(), shelf.former()),
            (Some(three.clone()), Some(two.clone()))
        );
        assert_eq!(
            names(&shelf).len(),
            4,
            "two folders and two links: {:?}",
            names(&shelf)
        );
        let before = shelf.standing();
        shelf.switch(&two).unwrap();
        assert_eq!(
            (shelf.current(), shelf.former()),
            (Some(two.clone()), Some(three.clone()))
        );
        shelf.restore(&before).unwrap();
        assert_eq!(
            (shelf.current(), shelf.former()),
            (Some(three), Some(two.clone()))
        );
        shelf.switch(&two).unwrap();
        // The same again changes nothing.
        bring(&shelf, "2.0.0");
        assert_eq!(shelf.current(), Some(two));
        shelf.restore(&empty).unwrap();
        assert_eq!((shelf.current(), shelf.former()), (None, None));
    }

    #[test]
    fn what_was_interrupted_is_removed_and_broken_links_lead_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("waf");
        let shelf = Shelf::open(folder.clone()).unwrap();
        let one = bring(&shelf, "1.0.0");
        shelf.switch(&one).unwrap();
        shelf.begin().unwrap();
        std::os::unix::fs::symlink("elsewhere", folder.join(".new-current")).unwrap();
        let shelf = Shelf::open(folder.clone()).unwrap();
        assert_eq!(names(&shelf).len(), 2, "{:?}", names(&shelf));
        for target in ["gone", "/etc", "../waf"] {
            shelf.link(CURRENT, target).unwrap();
            assert_eq!(shelf.current_folder(), None, "{target}");
        }
    }
}
