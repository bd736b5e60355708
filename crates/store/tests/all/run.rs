use crate::store;
use astraler_model::Environment;
use astraler_store::{NewRun, RunConclusion, RunState, StoreError};
use serde_json::json;

#[test]
fn a_run_goes_from_received_to_its_end_and_never_back() {
    let (store, _folder) = store();
    let cause = json!({ "sha": "1" });
    let new = NewRun {
        event: "push",
        cause: &cause,
        line: "branch develop",
        environment: Some(Environment::Staging),
    };
    let numbers = store.runs_receive(&[new.clone(), new.clone()], 10).unwrap();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(store.runs(None, 10).unwrap(), [], "not asked for yet");
    assert!(matches!(store.run_start(1, 11), Err(StoreError::Refused { .. })));
    store.run_forget(2).unwrap();
    assert!(matches!(store.run(2), Err(StoreError::NotFound { .. })));
    store.run_queue(1).unwrap();
    store.run_forget(1).unwrap();
    store.run_start(1, 20).unwrap();
    store.run_start(1, 30).unwrap();
    store.run_queue(1).unwrap();
    let run = store.run(1).unwrap();
    assert_eq!((run.state, run.started_ms), (RunState::Running, Some(20)));
    assert!(store.run_cancel(1).unwrap());
    let report = json!({ "conclusion": "cancelled" });
    store
        .run_end(1, RunConclusion::Cancelled, Some(&report), None, 40)
        .unwrap();
    store
        .run_end(1, RunConclusion::Success, None, Some("late"), 50)
        .unwrap();
    let run = store.run(1).unwrap();
    assert_eq!(run.conclusion, Some(RunConclusion::Cancelled));
    assert_eq!(
        (run.report, run.error, run.ended_ms),
        (Some(report), None, Some(40))
    );
    assert!(!store.run_cancel(1).unwrap(), "it has ended");
    // A number that was given is never given again.
    assert_eq!(store.runs_receive(&[new], 60).unwrap(), [3]);
    assert_eq!(store.runs_open().unwrap().len(), 1);
    assert_eq!(store.runs_prune(0).unwrap(), [1]);
}

#[test]
fn a_pull_request_is_opened_moved_closed_and_opened_again() {
    let (store, _folder) = store();
    let open = |head, now| {
        store
            .pull_request_open(7, "feature/x", "develop", head, now)
            .unwrap();
        store.pull_request(7).unwrap().unwrap()
    };
    assert_eq!(open("1", 10).opened_ms, 10);
    let moved = open("2", 20);
    assert_eq!((moved.head.as_str(), moved.opened_ms), ("2", 10));
    assert!(store.pull_request_close(7, 30).unwrap());
    assert!(!store.pull_request_close(7, 40).unwrap());
    assert_eq!(store.pull_requests().unwrap()[0].closed_ms, Some(30));
    let again = open("3", 50);
    assert_eq!((again.opened_ms, again.closed_ms), (50, None));
    assert_eq!(store.pull_request(8).unwrap(), None);
}
