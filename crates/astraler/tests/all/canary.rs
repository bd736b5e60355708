//! Canaries: values of every kind of secret, searched for wherever they have no business to be.

use crate::git::done;
use crate::push::{commit, push};
use crate::secrets::{piped, platform_with, write};
use crate::support::{eventually, kill};
use astraler_testkit::Platform;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Jobs say how long what they see is; one says the value itself, which is masked. `topic` goes nowhere, `next` to
/// staging; the step that names `astraler deploy` keeps the platform from adding a job of its own.
const WORKFLOW: &str = r#"on: push
jobs:
  usual:
    runs-on: ubuntu-latest
    env: { JOB: "${{ secrets.JOB }}", STAGED: "${{ secrets.STAGED }}" }
    steps:
      - run: echo "usual sees ${#JOB} and ${#STAGED}, and it is $JOB"; echo "$JOB" | base64
  staged:
    runs-on: ubuntu-latest
    environment: staging
    env: { JOB: "${{ secrets.JOB }}", STAGED: "${{ secrets.STAGED }}" }
    steps:
      - run: echo "staged sees ${#JOB} and ${#STAGED}, not by astraler deploy"
"#;

const BRANCHES: &str = "[environments.development]\nbranches = []\n[environments.staging]\nbranches = [\"next\"]\n\
                        [environments.production]\nbranches = []\n[environments.preview]\nbranches = []\n";

/// What was seen of the program.
struct Seen<'a> {
    platform: &'a Platform,
    text: String,
}

impl Seen<'_> {
    fn run(&mut self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let finished = self.platform.run(&words).unwrap();
        self.text.push_str(&finished.out);
        self.text.push_str(&finished.err);
        finished.out
    }

    fn set(&mut self, name: &str, place: &str, value: &str, service: Option<&str>) {
        let set = piped(self.platform, &["secrets", "set", name, "--env", place], value).ok();
        self.text.push_str(&set.out);
        if let Some(service) = service {
            self.run(&format!("secrets grant {name} --env {place} --to {service}"));
        }
    }
}

#[test]
fn canaries_of_every_kind_of_secret_are_found_with_their_reader_alone() {
    let platform = platform_with(BRANCHES);
    let folder = platform.application().to_owned();
    write(&folder.join(".github/workflows/ci.yml"), WORKFLOW);
    done(&folder, &["init", "--quiet", "--initial-branch=main"]);
    commit(&folder, "first");
    platform.up(&[]).unwrap().ok();
    let mut seen = Seen {
        platform: &platform,
        text: String::new(),
    };
    // The user's: for a worker, for jobs, for nobody, for the platform; an old version, and one that was removed.
    let own: BTreeMap<&str, &str> = [
        ("worker", "canary-5bd1e9b0-of-one-worker"),
        ("old", "canary-7f2c41aa-of-a-version-before"),
        ("jobs", "canary-90c3d1f4-of-jobs"),
        ("staged", "canary-3e07a65c-of-staging"),
        ("nobody", "canary-c48fd2b6-of-nobody"),
        ("platform", "canary-1a9e5c77-of-the-platform"),
        ("removed", "canary-e6b0f318-of-what-was-removed"),
    ]
    .into();
    seen.set("KEY", "development", own["old"], Some("one"));
    let pem = format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", own["worker"]);
    seen.run("secrets apply --env development --wait");
    let rotated = piped(
        &platform,
        &["secrets", "rotate", "KEY", "--env", "development"],
        &pem,
    )
    .ok();
    seen.text.push_str(&rotated.out);
    seen.set("JOB", "development", own["jobs"], Some("pipeline"));
    seen.set("STAGED", "staging", own["staged"], Some("pipeline"));
    seen.set("ALONE", "development", own["nobody"], None);
    seen.set("SLACK_URL", "platform", own["platform"], Some("alerts"));
    seen.set("GONE", "development", own["removed"], Some("two"));
    let plan = folder.join("saved.plan").display().to_string();
    seen.run(&format!("plan --out {plan}"));
    seen.run("secrets remove GONE --env development");
    seen.run("secrets apply --env development --wait");

    // Those of the platform itself.
    let shown = seen.run("env show development --json");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let mut generated: BTreeMap<String, String> = BTreeMap::new();
    for name in shown["credentials"].as_object().unwrap().keys() {
        let value = platform
            .run(&["env", "credential", "development", name])
            .unwrap()
            .ok();
        generated.insert(name.clone(), value.out.trim().to_owned());
    }
    assert!(generated.len() >= 9, "{generated:?}");
    let runtime = runtime_of(&platform);
    let deployment = only(&runtime, "workerd.capnp");
    let text = std::fs::read_to_string(&deployment).unwrap();
    let (_, after) = text.split_once("x-astraler-token\", value = \"").unwrap();
    generated.insert("bucket".into(), after.split('"').next().unwrap().to_owned());
    let root = find(platform.state().parent().unwrap(), "root.key")
        .pop()
        .unwrap();
    let key = std::fs::read_to_string(&root).unwrap();
    generated.insert("root key".into(), key.split(' ').nth(1).unwrap().to_owned());

    // Runs: what is granted is there, masked; a branch that does not go to staging has nothing of it.
    let said = push(&folder, &["main:topic"]) + &push(&folder, &["main:next"]);
    let (logs, next) = (seen.run("pipeline logs 1"), seen.run("pipeline logs 2"));
    let lengths = |name: &str, here: bool| {
        let staged = if here { own["staged"].len() } else { 0 };
        format!("{name} sees {} and {staged}", own["jobs"].len())
    };
    assert!(logs.contains(&lengths("usual", false)), "{said}\n{logs}");
    assert!(logs.contains("and it is ***"), "{logs}");
    assert!(!logs.contains(&lengths("staged", true)), "{logs}");
    assert!(next.contains(&lengths("usual", false)), "{said}\n{next}");
    assert!(next.contains(&lengths("staged", true)), "{said}\n{next}");
    seen.text.push_str(&said);
    for words in [
        "secrets list --json",
        "secrets history KEY --env development --json",
        "status --json",
        "env diff development development --json",
        "deployments --json",
        "audit list -n 200 --json",
        "pipeline show 1 --json",
        "drift --json",
        "doctor",
        "logs -n 10000",
    ] {
        seen.run(words);
    }

    let all: BTreeMap<String, String> = own
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(generated.clone())
        .collect();
    // Not in what was printed, not in any file for keeps.
    for (name, value) in &all {
        assert!(!seen.text.contains(value), "{name} was printed");
    }
    let kept = with(&[&platform.state(), &folder], &all);
    assert_eq!(kept, BTreeMap::new(), "files for keeps");
    // Not in the arguments or the environment of any process of this machine.
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for name in ["environ", "cmdline"] {
            let bytes = std::fs::read(process.path().join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            for (of, value) in &all {
                assert!(
                    !text.contains(value),
                    "{of} in {}/{name}",
                    process.path().display()
                );
            }
        }
    }
    // On the runtime folder: with its reader alone.
    let found = with(&[&runtime], &all);
    for (file, names) in &found {
        let mode = std::fs::metadata(file).unwrap().mode() & 0o777;
        assert_eq!(mode & 0o137, 0, "{} has mode {mode:o}", file.display());
        let file = file.strip_prefix(&runtime).unwrap().display().to_string();
        let allowed: &[&str] = match file.as_str() {
            deployment if deployment.ends_with("/workerd.capnp") => {
                &["worker", "redis_rest_token", "bucket", "postgres_client_token"]
            }
            "snapshots/data.json" => &[
                "postgres_service_password",
                "redis_password",
                "s3_access_key_id",
                "s3_secret_access_key",
            ],
            _ => &[],
        };
        let others: Vec<_> = names
            .iter()
            .filter(|name| !allowed.contains(&name.as_str()))
            .collect();
        assert!(others.is_empty(), "{others:?} in {file}");
    }
    assert_eq!(
        found.get(&deployment).map(|names| names.contains("worker")),
        Some(true)
    );

    // What a worker says of its own secret is masked where it is read.
    platform.get("/one/?say=KEY").unwrap();
    let mut logs = String::new();
    eventually("the worker's line", Duration::from_secs(10), || {
        logs = platform.run(&["logs", "workers-development"]).unwrap().ok().out;
        logs.contains("it is")
    });
    let raw = platform.run(&["logs", "--raw"]).unwrap().ok().out;
    assert!(
        !logs.contains(own["worker"]) && !raw.contains(own["worker"]),
        "{logs}"
    );
    assert!(logs.contains("***"), "{logs}");

    rotated_keys(&platform, &root, &key, own["worker"]);
}

/// New keys under what runs: nothing restarts, everything is readable, by the next daemon too.
fn rotated_keys(platform: &Platform, root: &Path, old: &str, value: &str) {
    let served = |worker: &str| platform.get(&format!("/{worker}/")).unwrap().json();
    let before = platform.pid("edge").unwrap();
    for words in [
        &["secrets", "rotate-keys"][..],
        &["secrets", "rotate-keys", "--root"],
    ] {
        let said = platform.run(words).unwrap().ok();
        assert!(said.out.contains("steps done"), "{}", said.out);
    }
    assert_ne!(std::fs::read_to_string(root).unwrap(), old);
    assert_eq!(std::fs::metadata(root).unwrap().mode() & 0o777, 0o400);
    kill(platform.pid("daemon").unwrap().unwrap());
    eventually("the daemon is back", Duration::from_secs(20), || {
        platform.run(&["secrets", "list"]).unwrap().code == 0
    });
    assert_eq!(platform.pid("edge").unwrap(), before);
    platform
        .run(&["secrets", "grant", "KEY", "--env", "development", "--to", "two"])
        .unwrap()
        .ok();
    platform
        .run(&["secrets", "apply", "--env", "development", "--wait"])
        .unwrap()
        .ok();
    assert!(served("two")["KEY"].as_str().unwrap().contains(value));
    assert_ne!(served("one")["KEY"], json!(null));
    platform.run(&["audit", "verify"]).unwrap().ok();
}

/// The platform's own runtime folder.
fn runtime_of(platform: &Platform) -> PathBuf {
    let snapshots = only(&platform.runtime(), "data.json");
    snapshots.parent().unwrap().parent().unwrap().to_owned()
}

fn only(folder: &Path, name: &str) -> PathBuf {
    let mut found = find(folder, name);
    assert_eq!(found.len(), 1, "{found:?}");
    found.pop().unwrap()
}

fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(find(&entry.path(), name)),
            Ok(_) if entry.file_name() == name => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// Files below folders that hold a value, as it is or in hexadecimal: file → names of values.
fn with(folders: &[&Path], values: &BTreeMap<String, String>) -> BTreeMap<PathBuf, BTreeSet<String>> {
    let list = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<String> = values
        .values()
        .flat_map(|value| [value.clone(), hex::encode(value)])
        .collect();
    write(list.path(), &lines.join("\n"));
    let output = Command::new("grep")
        .args(["-rlaF", "--devices=skip", "-f"])
        .arg(list.path())
        .args(folders)
        .output()
        .unwrap();
    // 2: files went while it looked.
    assert!(output.status.code().is_some(), "{output:?}");
    let mut found = BTreeMap::new();
    for file in String::from_utf8(output.stdout).unwrap().lines() {
        let bytes = std::fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let names = values
            .iter()
            .filter(|(_, value)| text.contains(*value) || text.contains(&hex::encode(value)))
            .map(|(name, _)| name.clone());
        found.insert(PathBuf::from(file), names.collect());
    }
    found
}
