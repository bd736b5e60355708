use astraler_secrets::{RootKey, RootKeyError};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn saves_with_mode_0400_loads_again_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    let key = RootKey::generate();
    key.save_new(&path).unwrap();
    assert_eq!(mode(&path), 0o400);
    assert_eq!(RootKey::load(&path).unwrap().id(), key.id());

    let before = fs::read(&path).unwrap();
    let error = RootKey::generate().save_new(&path).unwrap_err();
    assert!(matches!(error, RootKeyError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["root.key"], "no temporary file is left");
}

#[test]
fn refuses_every_mode_that_lets_others_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    RootKey::generate().save_new(&path).unwrap();
    for bits in 0..0o1000 {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        match RootKey::load(&path) {
            Ok(_) => assert_eq!(bits & 0o077, 0, "mode {bits:o} was accepted"),
            // Root opens everything; anyone else cannot open a file without the owner's read bit.
            Err(RootKeyError::Io { .. }) => assert_eq!(bits & 0o400, 0, "mode {bits:o}"),
            Err(RootKeyError::TooOpen { mode, .. }) => {
                assert_eq!(mode, bits);
                assert_ne!(bits & 0o077, 0, "mode {bits:o} was refused");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn refuses_links_folders_and_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("root.key");
    RootKey::generate().save_new(&key).unwrap();
    let link = folder.path().join("link");
    symlink(&key, &link).unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o400),
        0,
    )
    .unwrap();
    for path in [link.as_path(), folder.path(), &pipe] {
        let error = RootKey::load(path).unwrap_err();
        assert!(
            matches!(error, RootKeyError::NotAFile { .. }),
            "{}: {error}",
            path.display()
        );
    }
}

#[test]
fn says_what_is_wrong_without_quoting_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    let missing = RootKey::load(&path).unwrap_err();
    assert!(missing.to_string().contains("root.key") && matches!(missing, RootKeyError::Io { .. }));
    for text in ["", "hunter2", "astraler-root-key-1 00 00", &"x".repeat(100_000)] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = RootKey::load(&path).unwrap_err();
        assert!(matches!(error, RootKeyError::Malformed { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

/// Only root can give a file away, and only somebody else's file can be refused: as another user than root the
/// refusal is shown on a file that root owns.
#[test]
fn refuses_a_file_of_another_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    RootKey::generate().save_new(&path).unwrap();
    let other = if rustix::process::geteuid().is_root() {
        chown(&path, Some(65_534), None).unwrap();
        path.as_path()
    } else {
        Path::new("/etc/hostname")
    };
    let error = RootKey::load(other).unwrap_err();
    assert!(matches!(error, RootKeyError::WrongOwner { .. }), "{error}");
}
