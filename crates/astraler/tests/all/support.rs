//! What the tests share.

use astraler_testkit::{Platform, small_application};
use std::time::{Duration, Instant};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_astraler");

/// A platform of the small application; nothing runs yet.
pub(crate) fn small() -> Platform {
    Platform::new(PROGRAM, small_application).unwrap()
}

/// Waits for a condition, at most so long.
#[track_caller]
pub(crate) fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        #[expect(clippy::disallowed_methods, reason = "a test thread may wait")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// SIGKILL.
pub(crate) fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "process {pid} is gone already");
}

/// Whether the tests, and so the platforms that they start, run as root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A PATH whose first `node` says that it is an old one; npm runs on it all the same.
pub(crate) fn path_with_old_node(folder: &std::path::Path) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path)
        .map(|folder| folder.join("node"))
        .find(|node| node.is_file())
        .unwrap();
    let old = folder.join("old-node");
    std::fs::create_dir_all(&old).unwrap();
    let node = old.join("node");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo v12.22.9 && exit\nexec '{}' \"$@\"\n",
        real.display()
    );
    std::io::Write::write_all(&mut std::fs::File::create(&node).unwrap(), script.as_bytes()).unwrap();
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut paths = vec![old];
    paths.extend(std::env::split_paths(&path));
    std::env::join_paths(paths).unwrap()
}
