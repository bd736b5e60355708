//! Where PostgreSQL's programs are.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs of one installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Folder that holds `postgres`, `initdb` and the others.
    pub directory: PathBuf,
    /// Major version, for example 15.
    pub major: u32,
    /// Full version as the program says it, for example `15.14`.
    pub version: String,
}

/// No usable PostgreSQL is installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no PostgreSQL {min} to {max} is installed (found: {found}); install one: {mend}")]
pub struct BinariesError {
    /// Oldest major version that would do.
    pub min: u32,
    /// Newest major version that would do.
    pub max: u32,
    /// What was found instead, in words.
    pub found: String,
    /// The one command that mends it.
    pub mend: &'static str,
}

/// Debian's layout: one folder for each major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// Other places where distributions put the programs, tried after Debian's and before `PATH`.
const OTHER_ROOTS: [&str; 3] = [
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/pgsql/bin",
];

/// The highest installed version from `min` to `max` (majors, both included).
pub fn find_binaries(min: u32, max: u32) -> Result<Binaries, BinariesError> {
    let mut candidates: Vec<PathBuf> = std::fs::read_dir(DEBIAN_ROOT)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    candidates.extend(OTHER_ROOTS.map(PathBuf::from));
    candidates.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    choose(&candidates, min, max)
}

/// The same for one folder that the user names.
pub fn find_binaries_in(directory: &Path, min: u32, max: u32) -> Result<Binaries, BinariesError> {
    choose(&[directory.to_owned()], min, max)
}

fn choose(candidates: &[PathBuf], min: u32, max: u32) -> Result<Binaries, BinariesError> {
    let found: Vec<Binaries> = candidates
        .iter()
        .filter_map(|directory| inspect(directory))
        .collect();
    // The first of equal versions wins: `max_by_key` would take the last, which is the one on PATH.
    let best = found
        .iter()
        .rev()
        .filter(|binaries| (min..=max).contains(&binaries.major))
        .max_by_key(|binaries| (binaries.major, minor(&binaries.version)));
    best.cloned().ok_or_else(|| BinariesError {
        min,
        max,
        found: describe(&found),
        mend: "apt-get install -y postgresql",
    })
}

fn describe(found: &[Binaries]) -> String {
    let mut words = String::new();
    for binaries in found {
        let separator = if words.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(
            words,
            "{separator}{} in {}",
            binaries.version,
            binaries.directory.display()
        );
    }
    if words.is_empty() { "none".into() } else { words }
}

/// A folder counts when it holds both the server and `initdb`, and the server says its version.
fn inspect(directory: &Path) -> Option<Binaries> {
    let server = directory.join("postgres");
    if !server.is_file() || !directory.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(&server)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let (major, version) = parse_version(std::str::from_utf8(&output.stdout).ok()?)?;
    Some(Binaries {
        directory: directory.to_owned(),
        major,
        version,
    })
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` → 15 and `15.14`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text
        .strip_prefix("postgres (PostgreSQL) ")?
        .split_whitespace()
        .next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

fn minor(version: &str) -> u32 {
    version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_program_writes_them() {
        let debian = parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n");
        assert_eq!(debian, Some((15, "15.14".into())));
        assert_eq!(
            parse_version("postgres (PostgreSQL) 18beta1\n"),
            Some((18, "18beta1".into()))
        );
        assert_eq!(parse_version("mysqld 8"), None);
    }

    #[test]
    fn a_version_out_of_range_is_named_in_the_error() {
        let installed = find_binaries(1, 99).unwrap();
        let error = find_binaries_in(&installed.directory, 90, 99).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&installed.version), "{text}");
        assert!(text.contains("apt-get install -y postgresql"), "{text}");
    }

    #[test]
    fn an_empty_folder_holds_no_postgres() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_binaries_in(folder.path(), 14, 18).unwrap_err().found, "none");
    }
}
