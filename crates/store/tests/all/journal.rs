use crate::store;
use astraler_store::{Outcome, StepDescription, StepState, Store, StoreError};
use serde_json::json;

fn plan(names: &[&str]) -> Vec<StepDescription> {
    names
        .iter()
        .map(|name| StepDescription {
            name: (*name).into(),
            detail: json!({ "of": name }),
        })
        .collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result.unwrap_err() {
        StoreError::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operation_reads_back_as_it_went() {
    let (store, folder) = store();
    let id = store
        .operation_begin("up", "development", &plan(&["a", "b", "c"]), 10)
        .unwrap();
    store.step_intent(id, 0, 11).unwrap();
    store
        .step_result(id, 0, &Outcome::Done, Some(&json!({ "pid": 7 })), 12)
        .unwrap();
    store.step_result(id, 1, &Outcome::Skipped, None, 13).unwrap();
    store.step_intent(id, 2, 14).unwrap();
    drop(store);

    // As after a crash: another process opens it.
    let store = Store::open(&folder.path().join("control.db")).unwrap();
    let found = store.unfinished().unwrap();
    assert_eq!(found.len(), 1);
    let operation = &found[0];
    assert_eq!(
        (operation.id, operation.kind.as_str(), operation.started_ms),
        (id, "up", 10)
    );
    let states: Vec<_> = operation.steps.iter().map(|s| s.state).collect();
    assert_eq!(states, [StepState::Done, StepState::Skipped, StepState::Intended]);
    assert_eq!(operation.steps[0].data, Some(json!({ "pid": 7 })));
    assert_eq!(
        (operation.steps[0].intent_ms, operation.steps[0].result_ms),
        (Some(11), Some(12))
    );
    assert_eq!(operation.steps[2].detail, json!({ "of": "c" }));

    // Resumed: the step is taken once more, fails, is taken again and done.
    store.step_intent(id, 2, 20).unwrap();
    store
        .step_result(
            id,
            2,
            &Outcome::Failed {
                error: "é".repeat(10_000),
            },
            None,
            21,
        )
        .unwrap();
    let step = store.operation(id).unwrap().steps.remove(2);
    assert_eq!(
        (step.state, step.attempts, step.error.unwrap().len()),
        (StepState::Failed, 2, 8192)
    );
    store.step_intent(id, 2, 22).unwrap();
    assert_eq!(store.operation(id).unwrap().steps[2].error, None);
    store.step_result(id, 2, &Outcome::Done, None, 23).unwrap();
    store.operation_end(id, &Outcome::Done, 24).unwrap();
    assert_eq!(store.unfinished().unwrap(), []);
    let ended = store.operation(id).unwrap();
    assert_eq!((ended.ended_ms, ended.outcome), (Some(24), Some(Outcome::Done)));
}

#[test]
fn the_journal_refuses_what_cannot_have_happened() {
    let (store, _folder) = store();
    let id = store.operation_begin("up", "x", &plan(&["a", "b"]), 1).unwrap();
    assert_eq!(
        refused(store.step_result(id, 0, &Outcome::Done, None, 2)),
        format!("step 0 of operation {id} is planned")
    );
    refused(store.step_result(id, 0, &Outcome::Failed { error: "x".into() }, None, 2));
    refused(store.step_result(id, 0, &Outcome::RolledBack, None, 2));
    refused(store.step_undo_intent(id, 0, 2));
    assert_eq!(
        refused(store.operation_end(id, &Outcome::Done, 3)),
        "step `a` is planned, not done"
    );
    store.step_intent(id, 0, 4).unwrap();
    store.step_result(id, 0, &Outcome::Done, None, 5).unwrap();
    refused(store.step_intent(id, 0, 6));
    refused(store.step_result(id, 0, &Outcome::Done, None, 6));
    assert_eq!(
        refused(store.operation_end(id, &Outcome::Done, 7)),
        "step `b` is planned, not done"
    );
    store
        .operation_end(
            id,
            &Outcome::Failed {
                error: "gave up".into(),
            },
            8,
        )
        .unwrap();
    refused(store.step_intent(id, 1, 9));
    refused(store.operation_end(id, &Outcome::Failed { error: String::new() }, 9));
    assert_eq!(
        store.operation(id).unwrap().outcome,
        Some(Outcome::Failed {
            error: "gave up".into()
        })
    );
    assert!(
        matches!(store.step_intent(id, 99, 9), Err(StoreError::Refused { .. })),
        "ended is said first"
    );
    let open = store.operation_begin("up", "x", &plan(&["a"]), 10).unwrap();
    assert!(matches!(
        store.step_intent(open, 99, 11),
        Err(StoreError::NotFound { .. })
    ));
}

#[test]
fn a_rollback_is_written_down_like_the_way_there() {
    let (store, _folder) = store();
    let id = store
        .operation_begin("deploy", "production", &plan(&["a", "b"]), 1)
        .unwrap();
    for step in 0..2 {
        store.step_intent(id, step, 2).unwrap();
    }
    store.step_result(id, 0, &Outcome::Done, None, 3).unwrap();
    for step in [1, 0] {
        store.step_undo_intent(id, step, 4).unwrap();
        assert_eq!(store.operation(id).unwrap().steps[step].state, StepState::Undoing);
        store.step_undo_intent(id, step, 5).unwrap();
        store
            .step_result(id, step, &Outcome::RolledBack, None, 6)
            .unwrap();
    }
    refused(store.operation_end(id, &Outcome::Done, 7));
    store.operation_end(id, &Outcome::RolledBack, 7).unwrap();
    assert!(
        store.operation(id).unwrap().steps.iter().all(|s| s.attempts == 1),
        "undoing is no attempt"
    );
}

#[test]
fn sizes_and_lists_are_bounded() {
    let (store, _folder) = store();
    let big = vec![StepDescription {
        name: "a".into(),
        detail: json!("x".repeat(70_000)),
    }];
    assert!(matches!(
        store.operation_begin("up", "x", &big, 1),
        Err(StoreError::TooLarge { .. })
    ));
    assert!(matches!(
        store.operation_begin("up", "x", &plan(&["a"; 1001]), 1),
        Err(StoreError::TooLarge { .. })
    ));
    assert!(matches!(
        store.operation_begin("up", "x", &[], u64::MAX),
        Err(StoreError::Refused { .. })
    ));
    assert_eq!(store.operations(10).unwrap(), [], "a refused plan leaves nothing");

    for n in 0..7 {
        let id = store
            .operation_begin("up", &n.to_string(), &plan(&["a"]), n)
            .unwrap();
        if n != 2 {
            store.operation_end(id, &Outcome::Skipped, n).unwrap();
        }
    }
    assert_eq!(store.operations_prune(2).unwrap(), 4);
    let left: Vec<_> = store
        .operations(10)
        .unwrap()
        .into_iter()
        .map(|o| o.subject)
        .collect();
    assert_eq!(left, ["6", "5", "2"], "what is not ended is never pruned");
    assert_eq!(store.operations(1).unwrap().len(), 1);
}
