//! The files of a job, seen from outside of its sandbox. What a step left is hostile: no link is followed.

use crate::glob::{Patterns, segments};
use rustix::fs::{Mode, OFlags, openat};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Most files that one search finds.
pub(crate) const MAX_FILES: usize = 200_000;
/// Deepest folder that a search enters.
const MAX_DEPTH: usize = 64;

/// Folders of the sandbox and where they are on the machine, the most specific first.
#[derive(Debug, Clone)]
pub(crate) struct Confined {
    pub(crate) roots: Vec<(String, PathBuf)>,
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path in the sandbox.
    pub(crate) inside: String,
    /// Its path on the machine.
    pub(crate) outside: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
}

impl Confined {
    /// The root that a path of the sandbox lies in, and the rest of the path. None: no step may write there.
    fn split(&self, inside: &str) -> Option<(&Path, Vec<String>)> {
        let path = segments(inside);
        self.roots.iter().find_map(|(prefix, outside)| {
            let prefix = segments(prefix);
            let rest = path.strip_prefix(prefix.as_slice())?;
            Some((outside.as_path(), rest.to_vec()))
        })
    }

    /// Where it is on the machine, each folder of its path being a folder and no link. It need not be there.
    pub(crate) fn outside(&self, inside: &str) -> io::Result<PathBuf> {
        let (root, rest) = self.split(inside).ok_or_else(|| foreign(inside))?;
        let mut path = root.to_owned();
        for (index, segment) in rest.iter().enumerate() {
            path.push(segment);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.file_type().is_symlink() => return Err(linked(inside)),
                Ok(metadata) if index + 1 < rest.len() && !metadata.is_dir() => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotADirectory,
                        "a file is in the way",
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(path)
    }

    /// Makes a folder, with those above it.
    pub(crate) fn make_dir(&self, inside: &str) -> io::Result<PathBuf> {
        let path = self.outside(inside)?;
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Opens a file, each folder of its path being a folder and no link.
    pub(crate) fn open(&self, inside: &str) -> io::Result<File> {
        let (root, rest) = self.split(inside).ok_or_else(|| foreign(inside))?;
        let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let mut at: OwnedFd = rustix::fs::open(root, folder, Mode::empty())?;
        let (name, folders) = rest.split_last().ok_or_else(|| foreign(inside))?;
        for segment in folders {
            at = openat(at.as_fd(), segment.as_str(), folder, Mode::empty())?;
        }
        // Without NONBLOCK a named pipe would wait for its other end.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(openat(at.as_fd(), name.as_str(), flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no ordinary file",
            ));
        }
        Ok(file)
    }

    /// The text of a file of at most so many bytes.
    pub(crate) fn read(&self, inside: &str, most: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        let file = self.open(inside)?;
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has more than {most} bytes"),
            ));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The ordinary files that the patterns mean, in order of their paths; links are left out.
    pub(crate) fn search(&self, patterns: &Patterns) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for start in patterns.starts() {
            let Ok(outside) = self.outside(&start) else {
                continue;
            };
            let mut queue = VecDeque::from([(start.clone(), outside, 0)]);
            while let Some((inside, outside, depth)) = queue.pop_front() {
                let Ok(metadata) = fs::symlink_metadata(&outside) else {
                    continue;
                };
                if metadata.is_file() && patterns.matches(&inside) {
                    if found.len() >= MAX_FILES {
                        return Err(io::Error::other(format!("more than {MAX_FILES} files match")));
                    }
                    found.push(Found {
                        inside,
                        outside,
                        bytes: metadata.len(),
                    });
                } else if metadata.is_dir() && depth < MAX_DEPTH {
                    for entry in fs::read_dir(&outside)? {
                        let entry = entry?;
                        // A name that is no text cannot be named in a pattern.
                        if let Some(name) = entry.file_name().to_str() {
                            let inside = format!("{}/{name}", inside.trim_end_matches('/'));
                            queue.push_back((inside, entry.path(), depth + 1));
                        }
                    }
                }
            }
        }
        found.sort_by(|left, right| left.inside.cmp(&right.inside));
        Ok(found)
    }
}

fn foreign(inside: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{inside} is outside of what a job may write"),
    )
}

fn linked(inside: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{inside} leads through a symbolic link, which is not followed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed_and_nothing_outside_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let (home, secret) = (folder.path().join("home"), folder.path().join("secret"));
        fs::create_dir_all(home.join("work/a")).unwrap();
        #[allow(clippy::disallowed_methods)]
        for path in [secret.clone(), home.join("work/a/x.txt")] {
            fs::write(path, "text").unwrap();
        }
        symlink(&secret, home.join("work/link")).unwrap();
        symlink(folder.path(), home.join("work/up")).unwrap();
        let confined = Confined {
            roots: vec![("/runner".into(), home)],
        };
        assert_eq!(confined.read("/runner/work/a/x.txt", 10).unwrap(), "text");
        assert!(confined.read("/runner/work/a/x.txt", 3).is_err());
        for path in [
            "/runner/work/link",
            "/runner/work/up/secret",
            "/runner/../../secret",
            "/etc/passwd",
        ] {
            assert!(confined.open(path).is_err(), "{path}");
        }
        assert!(confined.make_dir("/runner/work/up/new").is_err());
        let all = Patterns::new(["**"], "/runner/work", "/runner");
        let found = confined.search(&all).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
