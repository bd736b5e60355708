//! The repository that a run checks out: read from outside, never written by a step.

use crate::spec::{Source, WorkflowFile};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Largest file that is read from a tree.
const MAX_FILE: usize = 4 << 20;
const FOLDER: &str = ".github/workflows";

/// git did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It cannot be run.
    #[error("git cannot be run: it is needed to check sources out")]
    Start(#[source] io::Error),
    /// It failed.
    #[error("git {what} failed in {repository}: {output}", repository = repository.display())]
    Failed {
        /// Which command.
        what: String,
        /// Where.
        repository: PathBuf,
        /// What it said.
        output: String,
    },
    /// A file is too large.
    #[error("{path} has more than {MAX_FILE} bytes")]
    TooLarge {
        /// Which.
        path: String,
    },
}

/// Makes a bare repository with one commit: the working folder as it is now, committed or not, without what
/// `.gitignore` names. The folder's own repository is not touched.
pub fn snapshot(folder: &Path, into: &Path) -> Result<Source, GitError> {
    let work_tree = |arguments: &[&str], input: Option<&[u8]>| {
        let mut command = git(into);
        command.arg("--work-tree").arg(folder).args(arguments);
        finish(command, arguments[0], into, input)
    };
    let mut init = Command::new("git");
    plain(&mut init).args(["init", "--quiet", "--bare"]).arg(into);
    finish(init, "init", into, None)?;
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let mut own = Command::new("git");
    plain(&mut own)
        .arg("-C")
        .arg(folder)
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]);
    let listed = match finish(own_with(own, &listing), "ls-files", folder, None) {
        Ok(listed) => listed,
        // It is in no repository.
        Err(GitError::Failed { .. }) => work_tree(&listing, None)?,
        Err(error) => return Err(error),
    };
    let mut names = Vec::with_capacity(listed.len());
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        use std::os::unix::ffi::OsStrExt;
        // A folder here is a repository of its own.
        let path = folder.join(OsStr::from_bytes(name));
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            names.extend_from_slice(name);
            names.push(0);
        }
    }
    work_tree(
        &["update-index", "-z", "--add", "--remove", "--stdin"],
        Some(&names),
    )?;
    let tree = text(&work_tree(&["write-tree"], None)?);
    let sha = text(&work_tree(
        &["commit-tree", "-m", "The working folder", &tree],
        None,
    )?);
    work_tree(&["update-ref", "refs/heads/snapshot", &sha], None)?;
    Ok(Source {
        repository: into.to_owned(),
        sha,
    })
}

/// The workflow files of a tree.
pub fn workflow_files(source: &Source) -> Result<Vec<WorkflowFile>, GitError> {
    let mut command = git(&source.repository);
    command.args(["ls-tree", "-z", "--name-only", &source.sha, &format!("{FOLDER}/")]);
    let listed = finish(command, "ls-tree", &source.repository, None)?;
    let mut files = Vec::new();
    for path in text(&listed).split('\0') {
        if (path.ends_with(".yml") || path.ends_with(".yaml"))
            && let Some(text) = file(source, path)?
        {
            files.push(WorkflowFile {
                path: path.to_owned(),
                text,
                after: false,
            });
        }
    }
    Ok(files)
}

/// A file of the tree; none where there is no such file.
pub(crate) fn file(source: &Source, path: &str) -> Result<Option<String>, GitError> {
    let object = format!("{}:{path}", source.sha);
    let mut size = git(&source.repository);
    size.args(["cat-file", "-s", &object]);
    let size = match finish(size, "cat-file", &source.repository, None) {
        Ok(size) => text(&size).parse::<usize>().unwrap_or(usize::MAX),
        Err(GitError::Failed { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if size > MAX_FILE {
        return Err(GitError::TooLarge {
            path: path.to_owned(),
        });
    }
    let mut command = git(&source.repository);
    command.args(["cat-file", "blob", &object]);
    match finish(command, "cat-file", &source.repository, None) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(GitError::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn own_with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    plain(&mut command);
    command
        .args(["-c", "safe.directory=*"])
        .arg("--git-dir")
        .arg(repository);
    command
}

/// Only what git itself needs: no configuration of the user's, and a fixed author, so that one tree is one commit.
fn plain(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    command.env_clear().env("PATH", path).envs([
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "astraler"),
        ("GIT_AUTHOR_EMAIL", "astraler@localhost"),
        ("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z"),
        ("GIT_COMMITTER_NAME", "astraler"),
        ("GIT_COMMITTER_EMAIL", "astraler@localhost"),
        ("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z"),
    ])
}

fn finish(
    mut command: Command,
    what: &str,
    repository: &Path,
    input: Option<&[u8]>,
) -> Result<Vec<u8>, GitError> {
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GitError::Start)?;
    // The commands that read print nothing before they have read all.
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input).ok();
    }
    let output = child.wait_with_output().map_err(GitError::Start)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(GitError::Failed {
        what: what.to_owned(),
        repository: repository.to_owned(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_snapshot_is_the_folder_as_it_is_without_what_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        std::fs::create_dir_all(app.join(".github/workflows")).unwrap();
        for (path, text) in [
            (".gitignore", "node_modules\n.env\n"),
            (".env", "SECRET=1"),
            ("kept.txt", "kept"),
            (".github/workflows/ci.yml", "on: push"),
        ] {
            std::fs::write(app.join(path), text).unwrap();
        }
        let outside_of_git = snapshot(&app, &folder.path().join("one.git")).unwrap();
        let mut init = Command::new("git");
        plain(&mut init).arg("init").arg("-q").arg(&app);
        finish(init, "init", &app, None).unwrap();
        let within_git = snapshot(&app, &folder.path().join("two.git")).unwrap();
        assert_eq!(outside_of_git.sha, within_git.sha, "one tree is one commit");
        assert_eq!(file(&within_git, "kept.txt").unwrap().as_deref(), Some("kept"));
        assert_eq!(file(&within_git, ".env").unwrap(), None);
        let files = workflow_files(&within_git).unwrap();
        assert_eq!(files[0].path, ".github/workflows/ci.yml");
        std::fs::remove_file(app.join("kept.txt")).unwrap();
        let without = snapshot(&app, &folder.path().join("three.git")).unwrap();
        assert_eq!(file(&without, "kept.txt").unwrap(), None);
    }
}
