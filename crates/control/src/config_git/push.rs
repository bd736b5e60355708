//! From the repository to its remote. Never by force: what somebody else committed there stays, and is an error.

use super::commit::BRANCH;
use super::{ConfigGitError, is_kept};
use crate::platform::Platform;
use crate::repository::{Repository, plain};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// A push that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of git's words, the last.
const MAX_WORDS: usize = 400;
/// What the remote had last.
const PUSHED: &str = "refs/astraler/pushed";

/// Where it goes.
pub(super) struct Remote {
    pub(super) url: String,
    credentials: Option<PathBuf>,
}

/// What the remote has.
pub(super) struct Done {
    pub(super) remote: Option<String>,
    pub(super) pushed: Option<String>,
}

/// What the manifest says that governs the others: production's, where it serves.
pub(super) fn remote(platform: &Platform) -> Result<Option<Remote>, ConfigGitError> {
    let mut live = platform.live()?.into_iter();
    let Some((environment, (_, application))) = live.find(|(environment, _)| is_kept(*environment)) else {
        return Ok(None);
    };
    let backups = platform.governing(environment, &application, is_kept)?.backups;
    Ok(backups.config_git_url.map(|url| Remote {
        url,
        credentials: backups.config_git_credentials_file.map(PathBuf::from),
    }))
}

/// Pushes the branch where the remote lacks it.
pub(super) async fn newest(platform: &Platform) -> Result<Done, ConfigGitError> {
    let repository = Repository::new(platform.installation.layout.config_git());
    let (head, pushed) = (repository.tip(BRANCH), repository.target(PUSHED));
    let Some(remote) = remote(platform)? else {
        return Ok(Done { remote: None, pushed });
    };
    if let Some(head) = head.as_ref().filter(|head| Some(*head) != pushed.as_ref()) {
        push(&repository, &remote).await?;
        repository.name(PUSHED, head)?;
    }
    Ok(Done {
        remote: Some(remote.url),
        pushed: head,
    })
}

async fn push(repository: &Repository, remote: &Remote) -> Result<(), ConfigGitError> {
    let mut git = tokio::process::Command::from(plain(repository.path()));
    // Whom to ask for a password there is nobody.
    git.env("GIT_TERMINAL_PROMPT", "0");
    git.arg("--git-dir").arg(repository.path());
    let mut ssh = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes".to_owned();
    if let Some(file) = &remote.credentials {
        let file = file.display();
        match remote.url.starts_with("http") {
            true => {
                git.args(["-c", &format!("credential.helper=store --file='{file}'")]);
            }
            false => ssh = format!("{ssh} -o IdentitiesOnly=yes -i '{file}'"),
        }
    }
    git.env("GIT_SSH_COMMAND", ssh);
    git.args(["push", "--quiet", "--", &remote.url])
        .arg(format!("refs/heads/{BRANCH}:refs/heads/{BRANCH}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, git.output()).await;
    let output = ended
        .map_err(|_| ConfigGitError::Slow {
            remote: remote.url.clone(),
            seconds: PATIENCE.as_secs(),
        })?
        .map_err(|source| ConfigGitError::File {
            path: "git".into(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let from = words.len().saturating_sub(MAX_WORDS);
    let from = (from..words.len())
        .find(|at| words.is_char_boundary(*at))
        .unwrap_or(0);
    Err(ConfigGitError::Remote {
        remote: remote.url.clone(),
        output: words[from..].trim().to_owned(),
    })
}
