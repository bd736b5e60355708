//! SIGKILL at the boundary of every statement of a scripted run, and a look at what the next process finds.
//!
//! The test binary runs itself again as the victim, which traces its own statements and kills itself at the one
//! it was told. What a kill cannot show is power loss: that rests on SQLite's fsync (`synchronous = FULL`).

use crate::{
    Deployment, DeploymentState, NewDeployment, Operation, Outcome, Rewrapped, StepDescription, StepState,
    Store,
};
use astraler_model::Environment;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use serde_json::json;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const FOLDER: &str = "ASTRALER_STORE_CRASH_FOLDER";
const POINT: &str = "ASTRALER_STORE_CRASH_POINT";
/// Written to standard output by the victim: a call returned; the world was changed; it was changed back.
const RETURNED: u8 = b'.';
const EFFECT: u8 = b'E';
const UNDONE: u8 = b'U';

/// Everything that can be read of a store.
type Picture = (
    Vec<Operation>,
    Vec<Deployment>,
    Vec<(String, Vec<u8>)>,
    Vec<Option<Vec<u8>>>,
    u64,
);

#[test]
fn a_kill_at_any_statement_leaves_a_prefix_with_intent_before_and_result_after() {
    if let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) {
        return victim(Path::new(&folder), point.parse().unwrap());
    }
    let pictures = expected();
    let (whole, _) = run(0);
    assert!(whole.status.success(), "{whole:?}");
    let points: u32 = marked(&whole.stderr, "statements=").parse().unwrap();
    assert!(points > 100, "{points} boundaries");
    let next = AtomicU32::new(1);
    // Each victim mostly waits for its disk.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::Relaxed);
                    if point > points {
                        break;
                    }
                    let (output, folder) = run(point);
                    assert_eq!(output.status.signal(), Some(9), "point {point}: {output:?}");
                    check(point, &output.stdout, folder.path(), &pictures);
                }
            });
        }
    });
}

/// What the store must be after no call, one call, two calls…
fn expected() -> Vec<Picture> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("control.db")).unwrap();
    let mut pictures = vec![picture(&store)];
    script(&store, |mark| {
        if mark == RETURNED {
            pictures.push(picture(&store));
        }
    });
    pictures
}

fn check(point: u32, output: &[u8], folder: &Path, pictures: &[Picture]) {
    // The harness prints before the script does: only what follows the marker counts.
    let marks = output.rsplit(|b| *b == b'>').next().unwrap();
    let started = output.contains(&b'>');
    let count = |mark| marks.iter().filter(|m| **m == mark).count();
    let store = Store::open(&folder.join("control.db")).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new(), "point {point}");
    store.audit_verify().unwrap();
    let found = picture(&store);
    let returned = if started { count(RETURNED) } else { 0 };
    // The call that was killed happened wholly or not at all.
    let allowed = &pictures[returned..(returned + 2).min(pictures.len())];
    assert!(
        allowed.contains(&found),
        "point {point}, after {returned} calls: {found:#?}"
    );

    // Of the world: what was done has an intent, and what has a result was done.
    if let Some(operation) = found.0.first() {
        let states: Vec<StepState> = operation.steps.iter().map(|step| step.state).collect();
        let begun = states
            .iter()
            .filter(|state| **state != StepState::Planned)
            .count();
        let settled = states
            .iter()
            .filter(|state| !matches!(state, StepState::Planned | StepState::Intended))
            .count();
        assert!(
            count(EFFECT) <= begun,
            "point {point}: {} effects, {states:?}",
            count(EFFECT)
        );
        assert!(
            count(EFFECT) >= settled,
            "point {point}: {} effects, {states:?}",
            count(EFFECT)
        );
        let undone = states
            .iter()
            .filter(|state| **state == StepState::RolledBack)
            .count();
        let undoing = states
            .iter()
            .filter(|state| **state == StepState::Undoing)
            .count();
        assert!(
            (undone..=undone + undoing).contains(&count(UNDONE)),
            "point {point}: {states:?}"
        );
        let open = store.unfinished().unwrap();
        assert_eq!(
            open.len(),
            usize::from(operation.ended_ms.is_none()),
            "point {point}"
        );
    } else {
        assert_eq!(count(EFFECT), 0, "point {point}: nothing is done without a plan");
    }
}

/// An operation whose third step fails and that is then rolled back; a switch and two rotations beside it.
fn script(store: &Store, mut mark: impl FnMut(u8)) {
    let mut time = 0;
    let mut now = || {
        time += 1;
        time
    };
    let steps: Vec<_> = (0..3)
        .map(|n| StepDescription {
            name: format!("step {n}"),
            detail: json!({ "n": n }),
        })
        .collect();
    let operation = store.operation_begin("up", "development", &steps, now()).unwrap();
    mark(RETURNED);
    for index in 0..3 {
        store.step_intent(operation, index, now()).unwrap();
        mark(RETURNED);
        mark(EFFECT);
        let outcome = if index == 2 {
            Outcome::Failed { error: "no".into() }
        } else {
            Outcome::Done
        };
        store
            .step_result(operation, index, &outcome, Some(&json!({ "pid": index })), now())
            .unwrap();
        mark(RETURNED);
    }
    for index in (0..3).rev() {
        store.step_undo_intent(operation, index, now()).unwrap();
        mark(RETURNED);
        mark(UNDONE);
        store
            .step_result(operation, index, &Outcome::RolledBack, None, now())
            .unwrap();
        mark(RETURNED);
    }
    store
        .operation_end(operation, &Outcome::RolledBack, now())
        .unwrap();
    mark(RETURNED);
    for action in ["deploy", "secret.read"] {
        store
            .audit("daemon", action, "production", &json!({}), now())
            .unwrap();
        mark(RETURNED);
    }
    let environment = Environment::Production;
    for release in ["sha256:1", "sha256:2"] {
        let new = NewDeployment {
            environment,
            release,
            configuration: &json!({ "v": release }),
            actor: "daemon",
            origin: &json!({}),
        };
        let id = store.deployment_create(&new, now()).unwrap().id;
        mark(RETURNED);
        store
            .deployment_transition(id, DeploymentState::Starting, None, now())
            .unwrap();
        mark(RETURNED);
        store.deployment_switch(id, now()).unwrap();
        mark(RETURNED);
    }
    store.scope_key_put("production", b"key 1", now()).unwrap();
    mark(RETURNED);
    for version in [1, 2] {
        store
            .sealed_put("production", "db", version, b"under key 1", now())
            .unwrap();
        mark(RETURNED);
    }
    let moved = [1, 2].map(|version| Rewrapped {
        name: "db".into(),
        version,
        ciphertext: b"under key 2".into(),
    });
    store
        .scope_key_rotate("production", b"key 2", &moved, now())
        .unwrap();
    mark(RETURNED);
    store
        .scope_keys_rewrap(&[("production".into(), b"key 2 under root 2".into())])
        .unwrap();
    mark(RETURNED);
}

fn picture(store: &Store) -> Picture {
    let sealed = [1, 2].map(|v| {
        store
            .sealed_get("production", "db", Some(v))
            .unwrap()
            .map(|r| r.ciphertext)
    });
    (
        store.operations(10).unwrap(),
        store.deployments(None, 10).unwrap(),
        store.scope_keys().unwrap(),
        sealed.to_vec(),
        store.audit_head().unwrap().seq,
    )
}

fn victim(folder: &Path, point: u32) {
    let store = Store::open(&folder.join("control.db")).unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&seen);
    let trace = move |_: TraceEvent<'_>| {
        if counter.fetch_add(1, Ordering::SeqCst) + 1 == point {
            let itself = rustix::process::getpid();
            rustix::process::kill_process(itself, rustix::process::Signal::KILL).unwrap();
            // The signal is on its way: nothing more may happen.
            loop {
                std::thread::park();
            }
        }
    };
    let events = TraceEventCodes::SQLITE_TRACE_STMT | TraceEventCodes::SQLITE_TRACE_PROFILE;
    store.connection().trace_v2(events, Some(trace)).unwrap();
    let mut output = std::fs::File::from(rustix::io::dup(std::io::stdout()).unwrap());
    output.write_all(b">").unwrap();
    script(&store, |mark| output.write_all(&[mark]).unwrap());
    output.write_all(b">").unwrap();
    eprintln!("statements={}", seen.load(Ordering::SeqCst));
}

fn run(point: u32) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let name = "crash::a_kill_at_any_statement_leaves_a_prefix_with_intent_before_and_result_after";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env(POINT, point.to_string())
        .output()
        .unwrap();
    (output, folder)
}

fn marked<'a>(bytes: &'a [u8], label: &str) -> &'a str {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .unwrap_or_else(|| panic!("no `{label}` in {text}"))
}
