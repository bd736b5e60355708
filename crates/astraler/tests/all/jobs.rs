//! Jobs that deploy: what they reach of the platform from their sandbox, and what is refused.

use crate::git::done;
use crate::push::{began, commit, go, push, push_and_leave, run, state, write};
use crate::support::{eventually, kill, small};
use astraler_testkit::Platform;
use serde_json::Value;
use std::time::Duration;

/// A platform that is up, with a repository whose branch `develop` goes to staging.
fn repository(workflow: &str) -> Platform {
    let platform = small();
    let folder = platform.application().to_owned();
    write(&folder, ".github/workflows/ci.yml", workflow);
    done(&folder, &["init", "--quiet", "--initial-branch=develop"]);
    commit(&folder, "first");
    platform.up(&[]).unwrap().ok();
    platform
}

fn job<'a>(run: &'a Value, id: &str) -> &'a Value {
    let jobs = run["report"]["jobs"].as_array().unwrap();
    jobs.iter().find(|job| job["id"] == id).unwrap()
}

/// What is left of runs on the runtime folder.
fn left(platform: &Platform) -> Vec<String> {
    let sockets = platform.sockets();
    let shown = sockets.iter().map(|path| path.display().to_string());
    shown.filter(|path| path.contains("/runs/")).collect()
}

const DEPLOYS: &str = r#"on: push
jobs:
  look:
    runs-on: ubuntu-latest
    steps:
      - run: test -z "$ASTRALER_SOCKET$ASTRALER_TOKEN_FILE$ASTRALER_ENVIRONMENT" && ! command -v astraler
  other:
    runs-on: ubuntu-latest
    environment: production
    continue-on-error: true
    steps: [{ run: echo it ran }]
  deploy:
    runs-on: ubuntu-latest
    environment: staging
    steps:
      - uses: actions/checkout@v4
      - run: |
          ask() {
            curl -sS -o /dev/null -w '%{http_code} ' --unix-socket "$ASTRALER_SOCKET" "$@"
          }
          auth="Authorization: Bearer $(cat "$ASTRALER_TOKEN_FILE")"
          ask http://a/v1/status
          for path in status audit tokens deployments releases/sha256:00/archive runs git/small.git/info/refs; do
            ask -H "$auth" http://a/v1/$path
          done
          for path in session up down tokens rollback plan; do ask -H "$auth" -X POST http://a/v1/$path; done
          echo asked
      - run: |
          astraler deploy --env production && exit 9
          astraler promote staging production && exit 9
          astraler rollback --env staging && exit 9
          astraler env credential staging postgres_owner_password && exit 9
          astraler deploy --env staging --override hurry && exit 9
          echo refused
      - run: astraler deploy --env staging
      - run: curl -sSf "$ASTRALER_ENVIRONMENT_URL/api/health"
"#;

#[test]
fn a_job_deploys_to_its_environment_and_reaches_nothing_else() {
    let platform = repository(DEPLOYS);
    let folder = platform.application().to_owned();
    let said = push(&folder, &["develop"]);
    assert!(said.contains("run 1: develop → staging, success"), "{said}");
    let logs = platform.run(&["pipeline", "logs", "1"]).unwrap().ok().out;
    for words in [
        "runs of `develop` deploy to staging, not to production",
        "this job deploys to staging, not to production",
        "a job cannot override the gates",
        "refused",
        "serves staging after",
        r#""environment":"staging""#,
    ] {
        assert!(logs.contains(words), "{words}\n{logs}");
    }
    let denied = format!("401 {}asked", "404 ".repeat(13));
    assert!(logs.contains(&denied), "{logs}");
    assert!(!logs.contains("it ran"), "{logs}");
    let shown = run(&platform, 1);
    let ids: Vec<&Value> = shown["report"]["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["id"])
        .collect();
    assert_eq!(ids.len(), 3, "nothing is added where a job deploys: {ids:?}");
    assert_eq!(job(&shown, "other")["conclusion"], "failure");
    let url = job(&shown, "deploy")["url"].as_str().unwrap();
    assert!(url.starts_with("http://staging.localhost:"), "{url}");
    let deployments = platform.run(&["deployments", "--json"]).unwrap().ok().json();
    let deployed = &deployments[0];
    assert_eq!(
        (&deployed["environment"], &deployed["actor"], &deployed["run"]),
        (
            &Value::from("staging"),
            &Value::from("run 1 job deploy"),
            &Value::from(1)
        )
    );
    assert_eq!(
        deployed["commit"],
        done(&folder, &["rev-parse", "HEAD"]).trim(),
        "{deployed}"
    );
    let answer = platform
        .request("GET", "staging.localhost", "/api/health", b"")
        .unwrap();
    assert_eq!(answer.json()["environment"], "staging");
    let audit = platform.run(&["audit", "list"]).unwrap().ok().out;
    assert!(audit.contains("run 1 job deploy"), "{audit}");
    assert_eq!(left(&platform), [""; 0]);
}

const WAITS: &str = r#"on: push
jobs:
  deploy:
    runs-on: ubuntu-latest
    environment: staging
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo began; i=0
          while [ ! -e "$RUNNER_TOOL_CACHE/go" ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done
          astraler deploy --env staging
"#;

#[test]
fn a_daemon_that_is_killed_is_reached_again_from_the_step_that_runs() {
    let platform = repository(WAITS);
    let folder = platform.application().to_owned();
    let within = Duration::from_secs(60);
    push_and_leave(&folder, "develop");
    eventually("it runs", within, || began(&platform, 1));
    assert_eq!(
        left(&platform).len(),
        2,
        "the run's and the job's: {:?}",
        left(&platform)
    );
    kill(platform.pid("daemon").unwrap().unwrap());
    eventually("the daemon is back", within, || {
        platform.run(&["pipeline", "list", "--json"]).unwrap().code == 0
    });
    go(&platform);
    eventually("it ends", within, || state(&platform, 1) != "running");
    let logs = platform.run(&["pipeline", "logs", "1"]).unwrap().ok().out;
    assert_eq!(state(&platform, 1), "success", "{logs}");
    assert!(logs.contains("serves staging after"), "{logs}");
    assert_eq!(left(&platform), [""; 0]);
}

#[test]
fn a_deployment_whose_daemon_is_killed_is_asked_for_again() {
    let platform = repository(WAITS);
    let folder = platform.application().to_owned();
    let within = Duration::from_secs(60);
    push_and_leave(&folder, "develop");
    eventually("it runs", within, || began(&platform, 1));
    go(&platform);
    let states = || {
        let listed = platform
            .run(&["deployments", "--env", "staging", "--json"])
            .unwrap();
        let all: Vec<Value> = serde_json::from_str(&listed.out).unwrap_or_default();
        let states = all.iter().map(|one| one["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    eventually("it deploys", within, || !states().is_empty());
    kill(platform.pid("daemon").unwrap().unwrap());
    eventually("it ends", within, || {
        platform.run(&["pipeline", "list"]).unwrap().code == 0 && state(&platform, 1) != "running"
    });
    let logs = platform.run(&["pipeline", "logs", "1"]).unwrap().ok().out;
    assert_eq!(state(&platform, 1), "success", "{logs}");
    assert!(
        logs.contains("the next one is asked"),
        "it was killed too late\n{logs}"
    );
    let states = states();
    assert_eq!(states[0], "live", "{states:?}");
    assert!(states[1..].iter().all(|state| state != "live"), "{states:?}");
    let answer = platform
        .request("GET", "staging.localhost", "/api/health", b"")
        .unwrap();
    assert_eq!(answer.json()["environment"], "staging");
}
