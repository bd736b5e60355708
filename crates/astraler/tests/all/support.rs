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
