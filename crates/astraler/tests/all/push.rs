//! What a push sets going: runs of the application's workflows, one after the other, streamed to the pusher.

use crate::git::{done, git};
use crate::support::{eventually, small};
use astraler_testkit::Platform;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// No branch is deployed: what is looked at is the runs.
const NOWHERE: &str = "\n[environments.development]\nbranches = []\n[environments.staging]\nbranches = []\n\
                       [environments.production]\nbranches = []\n[environments.preview]\nbranches = []\n";

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

/// A platform that is up, with a repository of one commit.
fn repository(workflow: &str) -> Platform {
    let platform = small();
    let folder = platform.application().to_owned();
    let manifest = std::fs::read_to_string(folder.join("astraler.toml")).unwrap();
    write(&folder, "astraler.toml", &format!("{manifest}{NOWHERE}"));
    write(&folder, ".github/workflows/ci.yml", workflow);
    done(&folder, &["init", "--quiet", "--initial-branch=main"]);
    commit(&folder, "first");
    platform.up(&[]).unwrap().ok();
    platform
}

pub(crate) fn commit(folder: &Path, message: &str) {
    done(folder, &["add", "."]);
    done(folder, &["commit", "--quiet", "--allow-empty", "-m", message]);
}

/// Pushes; what the pusher saw.
#[track_caller]
pub(crate) fn push(folder: &Path, arguments: &[&str]) -> String {
    let mut words = vec!["push", "astraler"];
    words.extend(arguments);
    let output = git(folder, &words);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {words:?}\n{text}");
    text
}

fn runs(platform: &Platform) -> Vec<Value> {
    let list = platform.run(&["pipeline", "list", "--json"]).unwrap().ok().json();
    list.as_array().unwrap().clone()
}

/// The state or, once it has ended, the conclusion of a run.
pub(crate) fn state(platform: &Platform, number: u64) -> String {
    let run = run(platform, number);
    let word = match &run["conclusion"] {
        Value::Null => &run["state"],
        conclusion => conclusion,
    };
    word.as_str().unwrap().to_owned()
}

pub(crate) fn run(platform: &Platform, number: u64) -> Value {
    let number = number.to_string();
    platform
        .run(&["pipeline", "show", &number, "--json"])
        .unwrap()
        .ok()
        .json()
}

#[test]
fn a_push_runs_the_workflows_and_its_pusher_sees_them() {
    let platform = repository(
        "name: CI\non: push\njobs:\n  lint:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      \
         - run: echo \"linted $GITHUB_REF_NAME of $GITHUB_ACTOR\"; test -f astraler.toml\n  test:\n    needs: lint\n    \
         runs-on: ubuntu-latest\n    steps:\n      - run: echo why; exit 3\n",
    );
    let folder = platform.application().to_owned();
    let said = push(&folder, &["main:topic"]);
    for words in [
        "run 1: topic, running",
        "lint: success",
        "why",
        "test: failure",
        "run 1: failure",
        "run 1: topic, failure",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(
        !said.contains("linted topic"),
        "output of what went well is not for the pusher\n{said}"
    );
    let logs = platform.run(&["pipeline", "logs", "1"]).unwrap().ok().out;
    assert!(logs.contains("linted topic of uid "), "{logs}");
    let shown = run(&platform, 1);
    assert_eq!(shown["conclusion"], "failure");
    assert_eq!(shown["report"]["jobs"].as_array().unwrap().len(), 2);
    let text = platform.run(&["pipeline", "show", "1"]).unwrap().ok().out;
    assert!(text.contains("gates") && text.contains("FAILED"), "{text}");
    // A branch of which nothing is to be done says so; skip-ci is heard; a deleted one runs nothing.
    push(&folder, &["-o", "skip-ci", "main:quiet"]);
    push(&folder, &[":quiet"]);
    assert_eq!(runs(&platform).len(), 1);
    let refused = git(&folder, &["push", "-o", "prr=7", "astraler", "main:other"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && words.contains("pr=NUMBER"),
        "{words}"
    );
    // Nothing of a run stays but what it said.
    assert_eq!(platform.pid("run-1").unwrap(), None);
    let kept: Vec<_> = std::fs::read_dir(platform.state().join("runs/1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["events.jsonl"]);
}

/// Waits for a file that the test makes, in the tool cache, which steps can see.
const WAITS: &str = "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          \
                     echo began; trap 'echo interrupted; exit 1' INT TERM; i=0\n          \
                     while [ ! -e \"$RUNNER_TOOL_CACHE/go\" ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; echo done\n      \
                     - if: always()\n        run: echo cleaned up\n";

pub(crate) fn began(platform: &Platform, number: u64) -> bool {
    let events = platform.state().join(format!("runs/{number}/events.jsonl"));
    std::fs::read_to_string(events).is_ok_and(|said| said.contains("began"))
}

pub(crate) fn go(platform: &Platform) {
    write(&platform.state().join("pipeline/tools"), "go", "");
}

/// A push whose pusher leaves at once: the run goes on.
pub(crate) fn push_and_leave(folder: &Path, branch: &str) {
    let mut child = std::process::Command::new("git")
        .args(["push", "--quiet", "astraler", branch])
        .current_dir(folder)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let name = branch.split(':').next_back().unwrap();
    let url = done(folder, &["remote", "get-url", "astraler"]);
    eventually("the push is taken", Duration::from_secs(20), || {
        done(folder, &["ls-remote", &url, name]).starts_with(&done(folder, &["rev-parse", "HEAD"]))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn of_pushes_that_wait_the_newest_runs_and_one_can_be_cancelled() {
    let platform = repository(WAITS);
    let folder = platform.application().to_owned();
    let within = Duration::from_secs(60);
    push_and_leave(&folder, "main:topic");
    eventually("the first runs", within, || began(&platform, 1));
    for (number, message) in [(2, "second"), (3, "third")] {
        commit(&folder, message);
        push_and_leave(&folder, "main:topic");
        eventually("it is queued", within, || runs(&platform).len() == number);
    }
    eventually("the second is superseded", within, || {
        state(&platform, 2) == "superseded"
    });
    assert_eq!(run(&platform, 2)["error"], "run 3 came while this one waited");
    assert_eq!(state(&platform, 3), "queued");
    let list = platform.run(&["pipeline", "list"]).unwrap().ok().out;
    assert!(list.contains("superseded") && list.contains("queued"), "{list}");
    // Who may push to it may end it, and nobody else.
    let token = |scope: &str| {
        let words = [
            "token",
            "create",
            scope.split(':').next().unwrap(),
            "--scope",
            scope,
        ];
        platform.run(&words).unwrap().ok().out.trim().to_owned()
    };
    let reader = token("read");
    let cancel = |token: &str| {
        platform
            .api("POST", "/v1/runs/1/cancel", Some(token), b"")
            .unwrap()
    };
    assert_eq!(cancel(&reader).status, 403);
    platform.run(&["pipeline", "cancel", "1"]).unwrap().ok();
    eventually("it ends", within, || state(&platform, 1) == "cancelled");
    let logs = platform.run(&["pipeline", "logs", "1"]).unwrap().ok().out;
    assert!(logs.contains("cleaned up"), "{logs}");
    // Then the newest runs.
    eventually("the third runs", within, || began(&platform, 3));
    go(&platform);
    eventually("the third ends", within, || state(&platform, 3) == "success");
    let pusher = token("push:topic");
    assert_eq!(cancel(&pusher).status, 409, "it has ended");
    platform.run(&["pipeline", "cancel", "9"]).unwrap().failed_with(1);
}

#[test]
fn a_run_outlives_the_daemon_and_a_killed_runner_is_told() {
    let platform = repository(WAITS);
    let folder = platform.application().to_owned();
    let within = Duration::from_secs(60);
    push_and_leave(&folder, "main:topic");
    eventually("it runs", within, || began(&platform, 1));
    let runner = platform.pid("run-1").unwrap().unwrap();
    crate::support::kill(platform.pid("daemon").unwrap().unwrap());
    eventually("the daemon is back", within, || {
        platform.run(&["pipeline", "list", "--json"]).unwrap().code == 0
    });
    assert_eq!(platform.pid("run-1").unwrap(), Some(runner), "the same process");
    assert_eq!(state(&platform, 1), "running");
    go(&platform);
    eventually("it ends", within, || state(&platform, 1) == "success");
    let logs = platform.run(&["pipeline", "logs", "1", "-f"]).unwrap().ok().out;
    assert_eq!(
        logs.matches("|   cleaned up").count(),
        1,
        "nothing is told twice\n{logs}"
    );

    std::fs::remove_file(platform.state().join("pipeline/tools/go")).unwrap();
    commit(&folder, "second");
    push_and_leave(&folder, "main:topic");
    eventually("it runs", within, || began(&platform, 2));
    crate::support::kill(platform.pid("run-2").unwrap().unwrap());
    eventually("its end is told", within, || state(&platform, 2) == "failure");
    let error = run(&platform, 2)["error"].to_string();
    assert!(error.contains("without a report (signal 9"), "{error}");
    // And with it all that its steps had started.
    eventually("nothing of it runs", within, || {
        !platform
            .processes()
            .iter()
            .any(|(_, command)| command.contains("sleep 0.1"))
    });
}

#[test]
fn what_cannot_be_run_is_told_with_file_and_line() {
    let platform = repository(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: some/action@v1\n",
    );
    let folder = platform.application().to_owned();
    let said = push(&folder, &["main:topic"]);
    assert!(
        said.contains(".github/workflows/ci.yml") && said.contains("some/action"),
        "{said}"
    );
    assert!(said.contains("run 1: topic, failure"), "{said}");
    write(
        &folder,
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    needs: b\n    runs-on: x\n    steps: [{run: a}]\n  b:\n    needs: a\n    runs-on: x\n    steps: [{run: a}]\n",
    );
    commit(&folder, "a cycle");
    let said = push(&folder, &["main:topic"]);
    assert!(
        said.contains("ci.yml") && said.contains("run 2: topic, failure"),
        "{said}"
    );
    write(
        &folder,
        ".github/workflows/ci.yml",
        "on:\n  push:\n    branches: [other]\njobs:\n  a:\n    runs-on: x\n    steps: [{run: a}]\n",
    );
    commit(&folder, "nothing for this branch");
    let said = push(&folder, &["main:topic"]);
    assert!(
        said.contains("no workflow runs on this push") && said.contains("skipped"),
        "{said}"
    );
}

/// Branches with other names than the usual ones.
const OTHERS: &str = "\n[environments.development]\nbranches = [\"work/*\"]\n[environments.staging]\nbranches = [\"next\"]\n\
                      [environments.production]\nbranches = [\"release\"]\n[environments.preview]\nbranches = [\"work/a*\"]\n";

#[test]
fn branches_go_where_the_manifest_says() {
    let platform = small();
    let folder = platform.application().to_owned();
    let manifest = std::fs::read_to_string(folder.join("astraler.toml")).unwrap();
    write(&folder, "astraler.toml", &format!("{manifest}{OTHERS}"));
    done(&folder, &["init", "--quiet", "--initial-branch=release"]);
    commit(&folder, "first");
    platform.up(&[]).unwrap().ok();
    let answers = |host: &str, environment: &str| {
        let answer = platform.request("GET", host, "/api/health", b"").unwrap();
        assert_eq!(
            (answer.status, &answer.json()["environment"]),
            (200, &Value::from(environment)),
            "{host}"
        );
    };

    let said = push(&folder, &["release"]);
    assert!(said.contains("run 1: release → production, success"), "{said}");
    assert!(
        said.contains("http://app.localhost:"),
        "the push ends with the URL\n{said}"
    );
    answers("app.localhost", "production");
    // Nobody may send his branch to production by what he pushes.
    write(&folder, "astraler.toml", &manifest);
    commit(&folder, "second");
    let said = push(&folder, &["release:main", "release:feature/x"]);
    assert_eq!(said.matches("skipped after").count(), 2, "{said}");
    let said = push(&folder, &["release:next"]);
    assert!(said.contains("run 4: next → staging, success"), "{said}");
    answers("staging.localhost", "staging");
    done(&folder, &["commit", "--quiet", "--amend", "-m", "third"]);
    let forced = git(&folder, &["push", "--force", "astraler", "release:next"]);
    let words = String::from_utf8_lossy(&forced.stderr);
    assert!(
        !forced.status.success() && words.contains("history cannot be rewritten"),
        "{words}"
    );
    // Development, and a preview for the branches that get one.
    let said = push(&folder, &["-o", "pr=7", "-o", "base=release", "release:work/a"]);
    assert!(said.contains("run 5: work/a → development, success"), "{said}");
    assert!(
        said.contains("run 6: work/a (pull request 7) → pr-7, success"),
        "{said}"
    );
    answers("pr-7.preview.localhost", "pr-7");
    let said = push(&folder, &["-o", "pr=8", "-o", "base=release", "release:work/b"]);
    assert!(said.contains("run 8: work/b (pull request 8), skipped"), "{said}");
    // A tree that was built is not built again.
    let logs = platform.run(&["pipeline", "logs", "7"]).unwrap().ok().out;
    assert!(logs.contains("built before from this tree"), "{logs}");
    // The end of a pull request is the end of its preview.
    push(&folder, &[":work/a"]);
    eventually("the preview is gone", Duration::from_secs(60), || {
        let status = platform.run(&["status", "--json"]).unwrap().ok().json();
        !status.to_string().contains("pr-7")
    });
    let deployments = platform
        .run(&["deployments", "--json", "-n", "20"])
        .unwrap()
        .ok()
        .json();
    let release = |environment: &str| {
        let all = deployments.as_array().unwrap();
        all.iter()
            .find(|one| one["environment"] == environment && one["run"].is_u64())
            .unwrap()["release"]
            .clone()
    };
    assert_eq!(
        release("staging"),
        release("development"),
        "one tree, one release"
    );
    assert_ne!(release("staging"), release("production"));
}
