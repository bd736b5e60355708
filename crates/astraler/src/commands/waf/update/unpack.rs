//! A release of rules, unpacked: of the archive only what the engine reads, and nothing that leads out of its folder.

use astraler_host::file;
use flate2::read::GzDecoder;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use tar::EntryType;

/// All files of an archive together, unpacked.
const MAX_BYTES: u64 = 64 << 20;
const MAX_ENTRIES: usize = 20_000;
/// One file of rules.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// The folder of rules in a release of the Core Rule Set.
const RULES: &str = "rules/";
/// What else of it is kept.
const KEPT: [&str; 3] = ["crs-setup.conf.example", "crs-setup.conf", "LICENSE"];

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("it is no archive of the kind .tar.gz, or it ends early")]
    Read(#[source] io::Error),
    #[error("`{name}` in the archive is refused: {reason}")]
    Refused { name: String, reason: &'static str },
    #[error("the archive holds more than {limit} {of}")]
    TooMuch { limit: u64, of: &'static str },
    #[error("there is no folder `rules` with *.conf files in the archive")]
    NoRules,
    #[error(transparent)]
    Write(#[from] file::FileError),
}

/// Unpacks the rules of a `.tar.gz` into a folder that is there and empty.
pub(super) fn unpack(archive: &[u8], folder: &Path) -> Result<(), UnpackError> {
    file::make_dir(folder.join("rules"), 0o755, None, None)?;
    let mut seen = BTreeSet::new();
    // A bomb ends at the bound, whatever its headers say.
    let mut tar = tar::Archive::new(Bounded {
        inner: GzDecoder::new(archive),
        read: 0,
    });
    for (number, entry) in tar.entries().map_err(failed)?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(UnpackError::TooMuch {
                limit: MAX_ENTRIES as u64,
                of: "entries",
            });
        }
        let mut entry = entry.map_err(failed)?;
        let kind = entry.header().entry_type();
        // Of git: which commit it is.
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let bytes = entry.path_bytes().into_owned();
        let shown: String = String::from_utf8_lossy(&bytes)
            .escape_default()
            .take(200)
            .collect();
        let refused = |reason| UnpackError::Refused {
            name: shown.clone(),
            reason,
        };
        let path = std::str::from_utf8(&bytes).map_err(|_| refused("its name is not UTF-8"))?;
        let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
        if path.chars().any(|c| c.is_control() || c == '\\') {
            return Err(refused("its name has a control character or a backslash"));
        }
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        if !path.is_empty() && !path.split('/').all(is_plain) {
            return Err(refused("its path leads out of the archive"));
        }
        match kind {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Symlink | EntryType::Link => return Err(refused("it is a link")),
            _ => return Err(refused("it is neither a file nor a folder")),
        }
        // All of it stands in one folder that bears the release's name.
        let Some((_, inner)) = path.split_once('/') else {
            continue;
        };
        let in_rules = inner.strip_prefix(RULES).is_some_and(|name| !name.contains('/'));
        if !in_rules && !KEPT.contains(&inner) {
            continue;
        }
        if !seen.insert(inner.to_owned()) {
            return Err(refused("it is there twice"));
        }
        let mut contents = Vec::new();
        let read = (&mut entry).take(MAX_FILE_BYTES + 1).read_to_end(&mut contents);
        read.map_err(failed)?;
        if contents.len() as u64 > MAX_FILE_BYTES {
            return Err(refused("it is too large for a file of rules"));
        }
        file::replace(folder.join(inner), &contents, 0o644)?;
    }
    let has_rules = |name: &String| name.starts_with(RULES) && name.ends_with(".conf");
    if !seen.iter().any(has_rules) {
        return Err(UnpackError::NoRules);
    }
    file::sync_dir(folder)?;
    Ok(())
}

fn failed(error: io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => UnpackError::TooMuch {
            limit: MAX_BYTES,
            of: "bytes",
        },
        _ => UnpackError::Read(error),
    }
}

/// Fails behind the bound, where `Read::take` would seem to end.
struct Bounded<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        if self.read > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use tar::{Builder, Header};

    /// A header says any name, also those that the writer refuses.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, contents) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(contents.len() as u64);
            header.set_mode(0o777);
            header.set_cksum();
            tar.append(&header, *contents).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn error(archive: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("in");
        std::fs::create_dir(&inner).unwrap();
        let error = unpack(archive, &inner).unwrap_err().to_string();
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "something was written beside the folder: {error}");
        error
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn rules_setup_and_licence_are_kept_and_nothing_else() {
        let all = archive(&[
            ("crs-1/", EntryType::Directory, b""),
            ("crs-1/rules/a.conf", FILE, b"SecMarker A\n"),
            ("crs-1/rules/words.data", FILE, b"word\n"),
            ("crs-1/rules/deep/b.conf", FILE, b"SecMarker B\n"),
            ("crs-1/crs-setup.conf.example", FILE, b"SecMarker S\n"),
            ("crs-1/tests/run.sh", FILE, b"exit 1\n"),
            ("crs-1/LICENSE", FILE, b"free\n"),
        ]);
        let folder = tempfile::tempdir().unwrap();
        unpack(&all, folder.path()).unwrap();
        let mut found: Vec<String> = Vec::new();
        for place in [folder.path().to_owned(), folder.path().join("rules")] {
            let names = std::fs::read_dir(place).unwrap();
            found.extend(names.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        }
        found.sort();
        assert_eq!(
            found,
            [
                "LICENSE",
                "a.conf",
                "crs-setup.conf.example",
                "rules",
                "words.data"
            ]
        );
    }

    #[test]
    fn what_leads_out_is_a_link_or_too_much_is_refused() {
        let rules: (&str, EntryType, &[u8]) = ("c/rules/a.conf", FILE, b"");
        for name in [
            "c/rules/../../../evil.conf",
            "/c/rules/a.conf",
            "c//rules/a.conf",
            "c/rules\\a.conf",
        ] {
            let error = error(&archive(&[rules, (name, FILE, b"x")]));
            assert!(error.contains("refused"), "{name}: {error}");
        }
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Fifo,
            EntryType::Char,
            EntryType::GNUSparse,
        ] {
            let error = error(&archive(&[("c/rules/a.conf", kind, b"")]));
            assert!(
                error.contains("refused") || error.contains("no archive"),
                "{kind:?}: {error}"
            );
        }
        let twice = error(&archive(&[rules, rules]));
        assert!(twice.contains("twice"), "{twice}");
        let large = vec![b' '; MAX_FILE_BYTES as usize + 1];
        assert!(error(&archive(&[("c/rules/a.conf", FILE, &large)])).contains("too large"));
        let many: Vec<_> = (0..=MAX_ENTRIES).map(|_| ("c/x", FILE, &b""[..])).collect();
        assert!(error(&archive(&many)).contains("entries"));
        assert!(error(&archive(&[("c/x.conf", FILE, b"")])).contains("no folder `rules`"));
        assert!(error(b"hello").contains("no archive"));
        let whole = archive(&[("c/rules/a.conf", FILE, &large[..1 << 20])]);
        assert!(error(&whole[..whole.len() / 2]).contains("ends early"));
    }

    #[test]
    fn a_bomb_ends_at_the_bound() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let mut header = Header::new_gnu();
        header.set_path("c/elsewhere").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        gzip.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..=(MAX_BYTES >> 20) {
            gzip.write_all(&zeros).unwrap();
        }
        let bomb = gzip.finish().unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(error(&bomb).contains("bytes"), "{}", error(&bomb));
    }
}
