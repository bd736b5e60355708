//! git in the application's folder, as a user has it.

use crate::Failure;
use crate::platform::Platform;
use std::process::{Command, Stdio};

/// Commits everything that was changed.
pub(crate) fn commit(platform: &Platform, message: &str) -> Result<(), Failure> {
    git(platform, &["add", "."])?;
    git(platform, &["commit", "--quiet", "-m", message]).map(drop)
}

/// Without this user's own settings. Answers what it says for people.
pub(crate) fn git(platform: &Platform, words: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"])
        .args(words)
        .current_dir(platform.application())
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("git: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("git {words:?} ended with {}:\n{said}", output.status))
    }
}
