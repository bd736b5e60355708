//! The file with a destination's credentials: `NAME=value` lines, for its owner alone.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file of credentials is small.
const MAX_BYTES: u64 = 64 << 10;

/// The credentials of a destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error(
        "the credentials file {} cannot be read by user {user}, who needs it: make it that user's, with mode 600, in folders that it may enter",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The user that this process runs as.
        user: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("the credentials file {} may be read by others (mode {mode:o}): chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what it should be.
    #[error("line {line} of the credentials file {} is not NAME=value", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// Names in lower case, with their values.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        user: rustix::process::geteuid().as_raw(),
        source,
    };
    // Not through a link that somebody else may turn.
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    let mut values = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| CredentialsError::Line {
            path: path.to_owned(),
            line: index + 1,
        })?;
        values.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_read_when_nobody_else_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup.env");
        let text = b"# R2\nAWS_ACCESS_KEY_ID=a\n\nAWS_SECRET_ACCESS_KEY = b=c\n";
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text).unwrap();
        let mode = |bits| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
        mode(0o644);
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        mode(0o600);
        let values = read(&path).unwrap();
        assert_eq!(
            values,
            [
                ("aws_access_key_id".to_owned(), "a".to_owned()),
                ("aws_secret_access_key".to_owned(), "b=c".to_owned())
            ]
        );
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(matches!(
            read(&folder.path().join("link")).unwrap_err(),
            CredentialsError::Read { .. }
        ));
    }

    #[test]
    fn an_error_names_the_line_and_not_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup.env");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), b"A=b\nsecret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = read(&path).unwrap_err().to_string();
        assert!(text.contains("line 2") && !text.contains("secret"), "{text}");
    }
}
