use crate::store;
use astraler_store::{GateState, NewGate, Store};

fn gate(name: &str, state: GateState) -> NewGate<'_> {
    NewGate {
        name,
        state,
        detail: name,
    }
}

fn found(store: &Store, release: &str) -> Vec<(u64, String, GateState, u64)> {
    let all = store.gates_of_release(release).unwrap().into_iter();
    all.map(|gate| (gate.run, gate.name, gate.state, gate.changed_ms))
        .collect()
}

#[test]
fn a_release_has_the_gates_of_the_trees_it_was_built_from() {
    use GateState::{Expected, Failed, Passed, Skipped};
    let (store, _folder) = store();
    store.release_source_add("sha256:a", "tree", 1, 5).unwrap();
    let put = |run, gates: &[NewGate<'_>], now| store.gates_put("tree", run, gates, now).unwrap();
    put(1, &[gate("lint", Expected), gate("test", Expected)], 10);
    put(1, &[gate("lint", Failed)], 20);
    put(2, &[gate("lint", Passed)], 30);
    // Told again, and promised again: nothing changes.
    put(2, &[gate("lint", Passed)], 40);
    put(2, &[gate("lint", Expected)], 50);
    store.gates_put("other", 3, &[gate("lint", Failed)], 60).unwrap();
    assert_eq!(
        found(&store, "sha256:a"),
        [
            (2, "lint".into(), Passed, 30),
            (1, "lint".into(), Failed, 20),
            (1, "test".into(), Expected, 10),
        ]
    );
    assert_eq!(found(&store, "sha256:b"), []);

    store.gates_close(1, "it was cancelled", 70).unwrap();
    let closed = store.gates_of_release("sha256:a").unwrap().pop().unwrap();
    assert_eq!(
        (closed.state, closed.detail.as_str()),
        (Skipped, "it was cancelled")
    );
}

#[test]
fn gates_are_kept_for_releases_and_for_a_while() {
    let (store, _folder) = store();
    let put = |tree: &str, run| {
        let gates = [gate("lint", GateState::Passed)];
        store.gates_put(tree, run, &gates, 1).unwrap();
    };
    put("old", 1);
    put("kept", 1);
    put("new", 1_001);
    store.release_source_add("sha256:kept", "kept", 1, 1).unwrap();
    store.release_source_add("sha256:old", "old", 1, 1).unwrap();
    store.gates_prune(&["sha256:old".into()]).unwrap();
    assert_eq!(found(&store, "sha256:kept").len(), 1);
    // The same release again: its tree's gates are forgotten, those of a young run are not.
    store.release_source_add("sha256:old", "old", 1_002, 1).unwrap();
    store.release_source_add("sha256:new", "new", 1_002, 1).unwrap();
    assert_eq!(found(&store, "sha256:old"), []);
    assert_eq!(found(&store, "sha256:new").len(), 1);
}
