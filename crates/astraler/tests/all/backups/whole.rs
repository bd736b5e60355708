//! What belongs to no cluster: the root key and all secrets for whoever holds two shares, releases, the configuration in git.

use super::recover::kill_daemon_at;
use super::{append, platform, status, to_daemon};
use crate::git::done;
use crate::support::eventually;
use astraler_release::Releases;
use astraler_secrets::{RecoveryKey, RootKey, Share};
use astraler_store::Store;
use astraler_testkit::Platform;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TOKEN: &str = "token-of-the-team-41c7";
const CANARY: &str = "canary-of-the-backups-6b1f";

/// Every file below a folder whose name is this.
pub(super) fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(named(&entry.path(), name));
        } else if entry.file_name() == *name {
            found.push(entry.path());
        }
    }
    found
}

/// Of the newest set: their folders are named by their times.
fn newest(folder: &Path, name: &str) -> PathBuf {
    let mut found = named(folder, name);
    found.sort();
    found.pop().unwrap()
}

fn git_says(repository: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "--git-dir"])
        .arg(repository)
        .args(words)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A git server on loopback that one token opens.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/git-http/serve.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(folder)
            .args(["team", TOKEN])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line.trim().parse().unwrap(),
        }
    }

    /// As git's store keeps them.
    fn credentials(&self, platform: &Platform, file: &Path, token: &str) {
        let text = format!("http://team:{token}@127.0.0.1:{}\n", self.port);
        std::fs::File::create(file)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        to_daemon(platform, file);
    }

    /// A wrong token is told of, and not told.
    fn refused(&self, platform: &Platform, file: &Path) {
        self.credentials(platform, file, "wrong-canary");
        eventually("a wrong token is refused", Duration::from_secs(60), || {
            let error = status(platform)["configuration"]["error"].clone();
            error
                .as_str()
                .is_some_and(|error| error.contains("Authentication failed"))
        });
        assert!(!status(platform).to_string().contains("wrong-canary"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn give(platform: &Platform, folder: &Path) {
    to_daemon(platform, folder);
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            give(platform, &entry.path());
        } else {
            to_daemon(platform, &entry.path());
        }
    }
}

#[test]
fn two_shares_open_the_secrets_and_the_configuration_is_in_git() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let backups = folder.path().join("backups");
    std::fs::create_dir(&backups).unwrap();
    let remote = folder.path().join("configuration.git");
    done(folder.path(), &["init", "--quiet", "--bare", "configuration.git"]);

    let server = Server::start(folder.path());
    let file = folder.path().join("git-credentials");
    let platform = platform(&format!(
        "target_url = \"file://{}\"\nsecrets_days = 3\nconfig_git_url = \"http://127.0.0.1:{}/configuration.git\"\n\
         config_git_credentials_file = \"{}\"",
        backups.display(),
        server.port,
        file.display()
    ));
    let made = platform
        .run(&["secrets", "recovery-key", "create", "--json"])
        .unwrap()
        .ok()
        .json();
    let shares: Vec<Share> = made["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|share| Share::parse(share.as_str().unwrap()).unwrap())
        .collect();
    append(&platform, &format!("recovery_recipient = {}", made["recipient"]));
    platform.up(&[]).unwrap().ok();
    give(&platform, &backups);
    server.refused(&platform, &file);
    server.credentials(&platform, &file, TOKEN);
    let value = folder.path().join("value");
    std::fs::File::create(&value)
        .unwrap()
        .write_all(CANARY.as_bytes())
        .unwrap();
    let value = value.to_string_lossy();
    platform
        .run(&[
            "secrets",
            "set",
            "STRIPE_KEY",
            "--env",
            "development",
            "--from-file",
            &value,
        ])
        .unwrap()
        .ok();

    let done = platform.run(&["backup", "run"]).unwrap().ok();
    for part in ["state platform", "secrets "] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    let verified = platform.run(&["backup", "verify"]).unwrap().ok();
    assert!(verified.out.contains("secrets "), "{}", verified.out);
    let report = status(&platform);
    let sealed = report["clusters"][0]["backups"].as_array().unwrap().iter();
    let sealed: Vec<_> = sealed.filter(|one| one["kind"] == "secrets").collect();
    assert_eq!(sealed[0]["interval_ms"], 3 * 24 * 3_600_000, "{report:#}");
    opened(&platform, &backups, &shares);
    released(&platform, &backups);
    configured(&platform, &remote);
    killed(&platform, &backups);

    // Nothing is left of what it was put together from, and no secret is anywhere.
    assert!(!platform.state().join("control/backup").exists());
    let found = Command::new("grep")
        .args(["-rlF", "--", CANARY])
        .args([&backups, &remote, &platform.state(), &platform.runtime()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    platform.run(&["down"]).unwrap().ok();
}

/// Killed at each beginning and each end of a part, what is no set is not taken for one, and the next run makes all.
fn killed(platform: &Platform, backups: &Path) {
    let words = ["backup", "run", "--json"];
    let first = platform.run(&words).unwrap().ok();
    let points: Vec<&str> = first
        .out
        .lines()
        .filter(|line| !line.contains(r#""event":"done""#))
        .collect();
    assert_eq!(points.len(), 8, "base, dump, state, secrets: {points:#?}");
    for (index, point) in points.iter().enumerate() {
        kill_daemon_at(platform, &words, index);
        let list = platform.run(&["backup", "list", "--json"]).unwrap().ok().json();
        let list = list.as_array().unwrap();
        for made in list.iter().filter(|made| made["state"] == "done") {
            let folder = backups.join("small").join(made["location"].as_str().unwrap());
            assert!(folder.join("set.json").is_file(), "killed at {point}: {made:#}");
        }
        platform.run(&["backup", "run"]).unwrap().ok();
        platform.run(&["backup", "verify"]).unwrap().ok();
        let report = status(platform);
        assert_eq!(report["healthy"], true, "killed at {point}: {report:#}");
    }
    platform.run(&["audit", "verify"]).unwrap().ok();
}

/// Two shares give the root key, which is this platform's; one does not, and another key neither.
fn opened(platform: &Platform, backups: &Path, shares: &[Share]) {
    let sealed = std::fs::read(newest(backups, "root.key.age")).unwrap();
    let key = RecoveryKey::combine(&shares[1..]).unwrap();
    let root = key.open_root_key(&sealed).unwrap();
    let own = newest(&platform.config(), "root.key");
    // The test runs as root, and a root key is read by its owner alone.
    let text = std::fs::read_to_string(own).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("root.key");
    let mut written = std::fs::File::create(&copied).unwrap();
    written.write_all(text.as_bytes()).unwrap();
    std::fs::set_permissions(&copied, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(root.id(), RootKey::load(&copied).unwrap().id());
    assert!(RecoveryKey::combine(&shares[..1]).is_err());
    assert!(RecoveryKey::generate().open_root_key(&sealed).is_err());

    let sealed = std::fs::File::open(newest(backups, "control.sqlite.age")).unwrap();
    let mut database = Vec::new();
    key.open(sealed).unwrap().read_to_end(&mut database).unwrap();
    let path = copy.path().join("control.sqlite");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(&database)
        .unwrap();
    let store = Store::open_read_only(&path).unwrap();
    let secrets = store.user_secrets("development").unwrap();
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0].name, "STRIPE_KEY");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    drop(store);
    Store::open_read_only(&newest(backups, "control.sqlite")).unwrap();
}

/// The release that serves is there, as whoever has the file can take it in.
fn released(platform: &Platform, backups: &Path) {
    let live = platform.run(&["deployments", "--json"]).unwrap().ok().json();
    let folder = tempfile::tempdir().unwrap();
    let releases = Releases::prepare(folder.path().join("releases")).unwrap();
    let file = std::fs::File::open(newest(backups, "release.tar")).unwrap();
    let release = releases.import(file).unwrap();
    assert_eq!(live[0]["release"], Value::String(release.digest));
}

/// Committed on change, pushed, and behind only as long as the remote is away.
fn configured(platform: &Platform, remote: &Path) {
    let tip = || git_says(remote, &["rev-parse", "main"]);
    let subject = || git_says(remote, &["log", "-1", "--format=%s", "main"]);
    eventually("the configuration is pushed", Duration::from_secs(30), || {
        subject() == "development d-1"
    });
    let grants = |tip: &str| git_says(remote, &["show", &format!("{tip}:development/grants.json")]);
    eventually("the secret's name is pushed", Duration::from_secs(30), || {
        grants("main").contains("STRIPE_KEY")
    });
    let first = tip();
    let manifest = git_says(remote, &["show", "main:development/manifest.json"]);
    assert!(manifest.contains("\"config_git_url\""), "{manifest}");
    assert_eq!(status(platform)["configuration"]["pushed"], first);

    let away = remote.with_extension("away");
    std::fs::rename(remote, &away).unwrap();
    append(platform, "[release]\nkeep = 7");
    platform.run(&["deploy"]).unwrap().ok();
    eventually(
        "it is told that the remote is away",
        Duration::from_secs(30),
        || status(platform)["configuration"]["error"].is_string(),
    );
    let report = status(platform);
    assert_eq!(report["healthy"], false, "{report:#}");
    assert!(report["configuration"]["behind_since_ms"].is_u64(), "{report:#}");
    std::fs::rename(&away, remote).unwrap();
    eventually("it is pushed when it is back", Duration::from_secs(60), || {
        subject() == "development d-2"
    });
    let difference = git_says(
        remote,
        &["diff", &first, "main", "--", "development/manifest.json"],
    );
    assert!(difference.contains("+    \"keep\": 7"), "{difference}");
    eventually("all is well", Duration::from_secs(30), || {
        status(platform)["configuration"]["error"].is_null()
    });
}
