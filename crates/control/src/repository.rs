//! What is read from the application's repository, and the copies that runs get of it. Blocking: each call starts git.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Files that one push may change before its filters of paths are not looked at any more.
const MAX_CHANGED_FILES: usize = 10_000;

/// git did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("git cannot be run")]
    Start(#[source] io::Error),
    #[error("git {what} failed: {output}")]
    Failed { what: String, output: String },
    #[error("a copy of the repository cannot be handed over")]
    Give(#[source] io::Error),
    #[error("{branch} conflicts with {base}: merge {base} into it first\n{files}")]
    Conflict {
        branch: String,
        base: String,
        files: String,
    },
}

type Outcome<T> = Result<T, RepositoryError>;

/// A bare repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
}

/// No configuration but the repository's own decides what git does.
pub(crate) fn plain(home: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null());
    command
}

impl Repository {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty one, whose first branch has this name.
    pub(crate) fn init(&self, branch: &str) -> Outcome<()> {
        let mut init = plain(Path::new("/"));
        init.args(["init", "--quiet", "--bare", "--initial-branch", branch])
            .arg(&self.path);
        finish(init, "init").map(drop)
    }

    /// Everything that branches and tags reach, in one file; false where there is nothing.
    pub(crate) fn bundle(&self, to: &Path) -> Outcome<bool> {
        if !self.path.is_dir()
            || self
                .text(&["for-each-ref", "--count=1", "refs/heads", "refs/tags"])?
                .is_empty()
        {
            return Ok(false);
        }
        let mut bundle = self.command(&["bundle", "create", "--quiet"]);
        bundle.arg(to).args(["--branches", "--tags"]);
        finish(bundle, "bundle").map(|_| true)
    }

    /// Takes in what is written in the form of `git fast-import`.
    pub(crate) fn import(&self, stream: &[u8]) -> Outcome<()> {
        let mut import = self.command(&["fast-import", "--quiet", "--force", "--done"]);
        import
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = import.spawn().map_err(RepositoryError::Start)?;
        // It answers nothing before it has read all; an end that comes early is told by its status.
        if let Some(mut input) = child.stdin.take() {
            let _ = io::Write::write_all(&mut input, stream);
        }
        checked(
            child.wait_with_output().map_err(RepositoryError::Start)?,
            "fast-import",
        )
        .map(drop)
    }

    /// The commit that a branch names.
    pub(crate) fn tip(&self, branch: &str) -> Option<String> {
        let reference = format!("refs/heads/{branch}^{{commit}}");
        self.text(&["rev-parse", "--verify", "--quiet", &reference]).ok()
    }

    /// What a reference names.
    pub(crate) fn target(&self, reference: &str) -> Option<String> {
        self.text(&["rev-parse", "--verify", "--quiet", reference]).ok()
    }

    /// The tree of a commit.
    pub(crate) fn tree(&self, sha: &str) -> Outcome<String> {
        self.text(&["rev-parse", "--verify", &format!("{sha}^{{tree}}")])
    }

    /// First line of a commit's message.
    pub(crate) fn subject(&self, sha: &str) -> Outcome<String> {
        self.text(&["show", "--no-patch", "--format=%s", sha])
    }

    /// Whether a tree has a path.
    pub(crate) fn has(&self, tree: &str, path: &str) -> bool {
        self.run(&["cat-file", "-e", &format!("{tree}:{path}")]).is_ok()
    }

    /// Whether a commit is in the history of another.
    pub(crate) fn is_ancestor(&self, old: &str, new: &str) -> bool {
        self.run(&["merge-base", "--is-ancestor", old, new]).is_ok()
    }

    /// Files that differ between two commits, or since where `from` left the history of `to`; none where there are too
    /// many to look at.
    pub(crate) fn changed_files(
        &self,
        from: &str,
        to: &str,
        since_fork: bool,
    ) -> Outcome<Option<Vec<String>>> {
        let range = format!("{from}{}{to}", if since_fork { "..." } else { ".." });
        let listed = self.run(&["diff", "--name-only", "--no-renames", "-z", &range])?;
        let all: Vec<String> = listed
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        Ok((all.len() <= MAX_CHANGED_FILES).then_some(all))
    }

    /// A copy with all of the objects, in which `branch` is `sha`; objects are shared with this one by hard links.
    pub(crate) fn copy(&self, into: &Path, branch: &str, sha: &str) -> Outcome<Self> {
        if into.exists() {
            std::fs::remove_dir_all(into).map_err(RepositoryError::Give)?;
        }
        let mut clone = plain(&self.path);
        clone
            .args(["clone", "--quiet", "--bare", "--local", "--no-tags"])
            .arg(&self.path)
            .arg(into);
        finish(clone, "clone")?;
        let copy = Self::new(into);
        copy.run(&["update-ref", &format!("refs/heads/{branch}"), sha])?;
        Ok(copy)
    }

    /// The commit that merging a branch into its base would make, as GitHub's `refs/pull/N/merge`. The same two commits
    /// give the same one.
    pub(crate) fn merge(&self, base: (&str, &str), branch: (&str, &str)) -> Outcome<String> {
        let merged = self
            .command(&["merge-tree", "--write-tree", "--name-only", base.1, branch.1])
            .output()
            .map_err(RepositoryError::Start)?;
        let text = String::from_utf8_lossy(&merged.stdout);
        let tree = text.lines().next().unwrap_or_default().to_owned();
        if merged.status.code() == Some(1) {
            let files: Vec<&str> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
            return Err(RepositoryError::Conflict {
                branch: branch.0.to_owned(),
                base: base.0.to_owned(),
                files: files.join("\n"),
            });
        }
        checked(merged, "merge-tree")?;
        let when = self.text(&["show", "--no-patch", "--format=%cd", "--date=raw", branch.1])?;
        let message = format!("Merge {} into {}", branch.1, base.1);
        let mut commit = self.command(&["commit-tree", "-p", base.1, "-p", branch.1, "-m", &message, &tree]);
        for role in ["AUTHOR", "COMMITTER"] {
            commit
                .env(format!("GIT_{role}_NAME"), "Astraler")
                .env(format!("GIT_{role}_EMAIL"), "astraler@localhost")
                .env(format!("GIT_{role}_DATE"), &when);
        }
        Ok(String::from_utf8_lossy(&finish(commit, "commit-tree")?)
            .trim()
            .to_owned())
    }

    /// Names a commit, so that it can be fetched.
    pub(crate) fn name(&self, reference: &str, sha: &str) -> Outcome<()> {
        self.run(&["update-ref", reference, sha]).map(drop)
    }

    /// Lets a group read all of it.
    pub(crate) fn give(&self, group: Option<u32>) -> Outcome<()> {
        give(&self.path, group).map_err(RepositoryError::Give)
    }

    pub(crate) fn text(&self, arguments: &[&str]) -> Outcome<String> {
        Ok(String::from_utf8_lossy(&self.run(arguments)?).trim().to_owned())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome<Vec<u8>> {
        finish(self.command(arguments), arguments[0])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = plain(&self.path);
        command.arg("--git-dir").arg(&self.path).args(arguments);
        command
    }
}

fn finish(mut command: Command, what: &str) -> Outcome<Vec<u8>> {
    checked(command.output().map_err(RepositoryError::Start)?, what)
}

fn checked(output: Output, what: &str) -> Outcome<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(RepositoryError::Failed {
        what: what.to_owned(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn give(path: &Path, group: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = path.symlink_metadata()?;
    std::os::unix::fs::lchown(path, None, group)?;
    if metadata.is_dir() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))?;
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), group)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A bare repository with `base` and `work`, which has one commit more; `files` are what that commit writes.
    pub(crate) fn repository(
        folder: &Path,
        base_file: &str,
        work_file: &str,
    ) -> (Repository, String, String) {
        let path = folder.join("r.git");
        let mut init = plain(folder);
        finish(
            {
                init.args(["init", "--quiet", "--bare"]).arg(&path);
                init
            },
            "init",
        )
        .unwrap();
        let repository = Repository::new(&path);
        let commit = |files: &[(&str, &str)], parent: Option<&str>| {
            let mut tree = String::new();
            for (name, text) in files {
                let file = folder.join("blob");
                std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes())
                    .unwrap();
                let blob = repository
                    .text(&["hash-object", "-w", file.to_str().unwrap()])
                    .unwrap();
                tree.push_str(&format!("100644 blob {blob}\t{name}\n"));
            }
            let listing = folder.join("tree");
            std::io::Write::write_all(&mut std::fs::File::create(&listing).unwrap(), tree.as_bytes())
                .unwrap();
            let mut make = repository.command(&["mktree"]);
            make.stdin(std::fs::File::open(&listing).unwrap());
            let tree = String::from_utf8(finish(make, "mktree").unwrap()).unwrap();
            let mut arguments = vec!["commit-tree", "-m", "x", tree.trim()];
            if let Some(parent) = parent {
                arguments.extend(["-p", parent]);
            }
            let mut make = repository.command(&arguments);
            for role in ["AUTHOR", "COMMITTER"] {
                make.env(format!("GIT_{role}_NAME"), "t")
                    .env(format!("GIT_{role}_EMAIL"), "t@example");
            }
            String::from_utf8(finish(make, "commit-tree").unwrap())
                .unwrap()
                .trim()
                .to_owned()
        };
        let root = commit(&[("a", "1"), ("b", "1")], None);
        let base = commit(&[("a", base_file), ("b", "1")], Some(&root));
        let work = commit(&[("a", work_file), ("b", "2")], Some(&root));
        repository.name("refs/heads/base", &base).unwrap();
        repository.name("refs/heads/work", &work).unwrap();
        (repository, base, work)
    }

    #[test]
    fn a_merge_is_the_same_commit_each_time_and_a_conflict_names_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (repository, base, work) = repository(folder.path(), "3", "1");
        let merged = repository.merge(("base", &base), ("work", &work)).unwrap();
        assert_eq!(
            repository.merge(("base", &base), ("work", &work)).unwrap(),
            merged
        );
        assert!(repository.is_ancestor(&base, &merged) && repository.is_ancestor(&work, &merged));
        assert_ne!(repository.tree(&merged).unwrap(), repository.tree(&work).unwrap());

        let other = tempfile::tempdir().unwrap();
        let (repository, base, work) = self::repository(other.path(), "3", "4");
        let conflict = repository.merge(("base", &base), ("work", &work)).unwrap_err();
        assert_eq!(
            conflict.to_string(),
            "work conflicts with base: merge base into it first\na"
        );
    }

    #[test]
    fn a_copy_has_the_commit_whatever_the_branch_names_since() {
        let folder = tempfile::tempdir().unwrap();
        let (repository, base, work) = repository(folder.path(), "1", "1");
        let copy = repository
            .copy(&folder.path().join("copy.git"), "work", &base)
            .unwrap();
        assert_eq!(copy.tip("work"), Some(base.clone()));
        assert_eq!(repository.tip("work"), Some(work.clone()));
        let changed = copy.changed_files(&base, &work, false).unwrap();
        assert_eq!(changed, Some(vec!["b".to_owned()]));
        copy.give(None).unwrap();
    }
}
