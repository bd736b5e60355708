//! Where the server's program is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The two servers that speak the same protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Redis 7: the last under a free licence without copyleft.
    Redis,
    /// Valkey 7.2 or newer, its successor.
    Valkey,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// One installed server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// The program.
    pub path: PathBuf,
    /// Which of the two.
    pub flavour: Flavour,
    /// Version, for example `7.0.15`.
    pub version: String,
}

/// No usable server is installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither Redis 7 nor Valkey 7 or newer is installed (found: {found}); install one: {mend}")]
pub struct BinaryError {
    /// What was found instead, in words.
    pub found: String,
    /// The one command that mends it.
    pub mend: &'static str,
}

const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"];

/// The first usable server in the system's folders and `PATH`; Valkey before Redis in each.
pub fn find_binary() -> Result<Binary, BinaryError> {
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    choose(&folders)
}

/// The same in one folder that the user names.
pub fn find_binary_in(directory: &Path) -> Result<Binary, BinaryError> {
    choose(&[directory.to_owned()])
}

fn choose(folders: &[PathBuf]) -> Result<Binary, BinaryError> {
    let mut unusable = vec![];
    for folder in folders {
        for name in ["valkey-server", "redis-server"] {
            match inspect(&folder.join(name)) {
                Some(binary) if usable(&binary) => return Ok(binary),
                Some(binary) => {
                    let words = format!(
                        "{} {} at {}",
                        binary.flavour,
                        binary.version,
                        binary.path.display()
                    );
                    if !unusable.contains(&words) {
                        unusable.push(words);
                    }
                }
                None => {}
            }
        }
    }
    let found = if unusable.is_empty() {
        "none".into()
    } else {
        unusable.join(", ")
    };
    Err(BinaryError {
        found,
        mend: "apt-get install -y redis-server",
    })
}

fn usable(binary: &Binary) -> bool {
    let major: u32 = binary
        .version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or(0);
    match binary.flavour {
        Flavour::Redis => major == 7,
        Flavour::Valkey => major >= 7,
    }
}

fn inspect(path: &Path) -> Option<Binary> {
    if !path.is_file() {
        return None;
    }
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let (flavour, version) = parse_version(std::str::from_utf8(&output.stdout).ok()?)?;
    Some(Binary {
        path: path.to_owned(),
        flavour,
        version,
    })
}

/// `Redis server v=7.0.15 sha=…` or `Valkey server v=8.1.1 …`. A link named `redis-server` may lead to Valkey.
fn parse_version(text: &str) -> Option<(Flavour, String)> {
    let flavour = if text.starts_with("Valkey") {
        Flavour::Valkey
    } else {
        Flavour::Redis
    };
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    Some((flavour, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_write_them() {
        let redis =
            parse_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4");
        assert_eq!(redis, Some((Flavour::Redis, "7.0.15".into())));
        let valkey = parse_version("Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64");
        assert_eq!(valkey, Some((Flavour::Valkey, "8.1.1".into())));
        assert_eq!(parse_version("memcached 1.6"), None);
    }

    #[test]
    fn copyleft_and_old_versions_are_not_used() {
        let version = |flavour, version: &str| Binary {
            path: "/x".into(),
            flavour,
            version: version.into(),
        };
        assert!(usable(&version(Flavour::Redis, "7.2.4")));
        assert!(!usable(&version(Flavour::Redis, "8.0.0")));
        assert!(!usable(&version(Flavour::Redis, "6.2.1")));
        assert!(usable(&version(Flavour::Valkey, "9.0.0")));
    }

    #[test]
    fn the_installed_server_is_found_and_an_empty_folder_has_none() {
        assert!(usable(&find_binary().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let error = find_binary_in(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("found: none") && error.contains("apt-get install"),
            "{error}"
        );
    }
}
