//! What production takes: the gates of a release, judged by what runs told of its sources.

use crate::git::done;
use crate::push::{commit, push, write};
use crate::support::small;
use astraler_store::{GateState, NewGate, Store};
use astraler_testkit::Platform;
use serde_json::Value;

const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

fn newest(platform: &Platform) -> Value {
    let listed = platform.run(&["deployments", "-n", "1", "--json"]).unwrap().ok();
    listed.json()[0].clone()
}

/// Lets runs tell of the release that staging runs, while the daemon is down.
fn told(platform: &Platform, release: &str, run: u64, gates: &[(&str, GateState)]) {
    platform.run(&["down"]).unwrap().ok();
    let store = Store::open(&platform.state().join("control/control.db")).unwrap();
    store.release_source_add(release, TREE, run, 1).unwrap();
    let gates: Vec<NewGate<'_>> = gates
        .iter()
        .map(|(name, state)| NewGate {
            name,
            state: *state,
            detail: "a job",
        })
        .collect();
    store.gates_put(TREE, run, &gates, 1).unwrap();
    drop(store);
    platform.up(&["--env", "staging"]).unwrap().ok();
}

#[test]
fn production_takes_what_has_passed_its_gates() {
    let platform = small();
    platform.up(&["--env", "staging"]).unwrap().ok();
    // Built by hand, with the gates that nobody named: that is told, and passes.
    let promoted = platform.run(&["promote", "staging", "production"]).unwrap().ok();
    assert!(
        promoted.out.contains("warning: lint was not run"),
        "{}",
        promoted.out
    );
    let first = newest(&platform);
    assert_eq!(first["gates"][4]["gate"], "e2e");
    assert_eq!(first["gates"][4]["state"], "missing");
    assert_eq!(first["override_reason"], Value::Null);

    let manifest = platform.application().join("astraler.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text = text.replacen(
        "[environments.",
        "[pipeline]\ngates = [\"lint\", \"e2e\"]\n[environments.",
        1,
    );
    std::io::Write::write_all(&mut std::fs::File::create(&manifest).unwrap(), text.as_bytes()).unwrap();
    platform.run(&["deploy", "--env", "staging"]).unwrap().ok();
    let promote = ["promote", "staging", "production"];
    // What a release says of gates counts when production runs it.
    platform.run(&promote).unwrap().ok();
    let named = newest(&platform);
    let text = text.replace("hello development", "hello again");
    std::io::Write::write_all(&mut std::fs::File::create(&manifest).unwrap(), text.as_bytes()).unwrap();
    platform.run(&["deploy", "--env", "staging"]).unwrap().ok();
    let release = newest(&platform)["release"].as_str().unwrap().to_owned();
    assert_ne!(named["release"], release.as_str());
    let blocked = platform.run(&promote).unwrap().failed_with(15);
    assert!(
        blocked.err.contains("lint was not run, e2e was not run"),
        "{}",
        blocked.err
    );

    told(
        &platform,
        &release,
        2,
        &[
            ("lint", GateState::Passed),
            ("e2e", GateState::Failed),
            ("coverage", GateState::Failed),
        ],
    );
    let blocked = platform.run(&promote).unwrap().failed_with(15);
    for words in [
        "e2e failed in run 2",
        "✓ lint      passed   run 2    a job",
        "✗ e2e       failed   run 2    a job",
        "! coverage  warning  run 2    a job",
        "astraler pipeline show 2",
    ] {
        assert!(blocked.err.contains(words), "{words}\n{}", blocked.err);
    }
    // By whichever way, and by whomever: the release is judged, not the command.
    let deploy = ["deploy", "--env", "production", "--release", &release];
    platform.run(&deploy).unwrap().failed_with(15);
    let token = platform
        .run(&["token", "create", "ci", "--scope", "deploy:production"])
        .unwrap()
        .ok();
    let body = format!(r#"{{"environment":"production","release":"{release}","origin":{{"gates":[]}}}}"#);
    let answer = platform
        .api("POST", "/v1/deploy", Some(token.out.trim()), body.as_bytes())
        .unwrap();
    let last: Value = serde_json::from_str(answer.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "blocked", "{last}");
    let live = platform.run(&["status", "--json"]).unwrap().ok().json();
    assert!(
        live.to_string().contains(named["release"].as_str().unwrap()),
        "{live}"
    );

    platform
        .run(&[&promote[..], &["--override", " "]].concat())
        .unwrap()
        .failed_with(1);
    let reason = "the outage of today";
    platform
        .run(&[&promote[..], &["--override", reason]].concat())
        .unwrap()
        .ok();
    let overridden = newest(&platform);
    assert_eq!(overridden["override_reason"], reason);
    assert_eq!(overridden["gates"][1]["state"], "failed");
    let audit = platform.run(&["audit", "list", "--json"]).unwrap().ok().json();
    let entries = audit.as_array().unwrap();
    let entry = |action: &str| {
        let found = entries
            .iter()
            .find(|entry| entry["action"] == action && entry["subject"] == "gates production");
        found.unwrap_or_else(|| panic!("no {action}: {audit}")).clone()
    };
    assert_eq!(entry("override")["detail"]["reason"], reason);
    assert_eq!(entry("override")["detail"]["gates"][0]["gate"], "e2e");
    assert_eq!(entry("refused")["detail"]["gates"][0]["run"], 2);
    // Back to what had served: no gate is asked.
    platform.run(&["rollback", "--env", "production"]).unwrap().ok();

    told(&platform, &release, 3, &[("e2e", GateState::Passed)]);
    // There is nothing to override, and so nothing is.
    let passed = platform
        .run(&[&deploy[..], &["--override", "just in case"]].concat())
        .unwrap()
        .ok();
    assert!(passed.out.contains("lint, e2e passed"), "{}", passed.out);
    let last = newest(&platform);
    assert_eq!(last["override_reason"], Value::Null);
    assert_eq!(last["gates"][1]["run"], 3);
    platform.run(&["audit", "verify"]).unwrap().ok();
}

/// `e2e` on staging alone; the application has a file `broken` where it is to fail.
const CI: &str = r#"
on: push
jobs:
  lint:
    runs-on: ubuntu-latest
    steps: [{ run: "true" }]
  deploy-staging:
    needs: lint
    if: github.ref == 'refs/heads/develop'
    environment: staging
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: astraler deploy --env staging
  e2e:
    needs: deploy-staging
    environment: staging
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: curl --fail --silent --show-error "$ASTRALER_ENVIRONMENT_URL/api/health"
      - run: test ! -e broken
  deploy-production:
    needs: lint
    if: github.ref == 'refs/heads/main'
    environment: production
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: astraler deploy --env production --override "let me" || true
      - run: astraler deploy --env production
"#;

#[test]
fn a_push_to_production_waits_for_what_staging_says_of_its_tree() {
    let platform = small();
    let folder = platform.application().to_owned();
    write(&folder, ".github/workflows/ci.yml", CI);
    done(&folder, &["init", "--quiet", "--initial-branch=main"]);
    commit(&folder, "first");
    platform.up(&[]).unwrap().ok();

    let said = push(&folder, &["main"]);
    for words in [
        "production takes what has passed its gates: e2e was skipped in run 1",
        "✓ lint       passed",
        "! typecheck  missing",
        "push the same commit to a branch of staging",
        "run 1: main → production, failure",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let audit = platform.run(&["audit", "list", "--json"]).unwrap().ok().json();
    let refused = audit.as_array().unwrap().iter().find(|entry| {
        entry["actor"] == "run 1 job deploy-production" && entry["detail"]["override"] == "let me"
    });
    assert!(refused.is_some(), "{audit}");
    let said = push(&folder, &["main:develop"]);
    assert!(said.contains("run 2: develop → staging, success"), "{said}");
    let staging = newest(&platform);

    // The same tree by another commit: what staging said counts, and the release is the same.
    commit(&folder, "again");
    let said = push(&folder, &["main"]);
    assert!(said.contains("run 3: main → production, success"), "{said}");
    let production = newest(&platform);
    assert_eq!(production["environment"], "production");
    assert_eq!(production["release"], staging["release"]);
    assert_eq!(production["override_reason"], Value::Null);
    let gate = |name: &str| {
        let gates = production["gates"].as_array().unwrap();
        let found = gates.iter().find(|gate| gate["gate"] == name);
        found.unwrap().clone()
    };
    assert_eq!(
        (&gate("e2e")["state"], &gate("e2e")["run"]),
        (&"passed".into(), &2.into())
    );
    assert_eq!(
        (&gate("lint")["state"], &gate("lint")["run"]),
        (&"passed".into(), &3.into())
    );
    assert_eq!(gate("typecheck")["state"], "missing");

    write(&folder, "broken", "");
    commit(&folder, "broken");
    let said = push(&folder, &["main:develop"]);
    assert!(said.contains("run 4: develop → staging, failure"), "{said}");
    let said = push(&folder, &["main"]);
    assert!(said.contains("e2e failed in run 4"), "{said}");
    assert!(said.contains("run 5: main → production, failure"), "{said}");
    platform.run(&["audit", "verify"]).unwrap().ok();
}
