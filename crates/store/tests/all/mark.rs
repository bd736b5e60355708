//! Protection is kept in the state, and a destruction that was begun is known after a restart.

use astraler_model::Environment;
use astraler_store::{Desired, Store, StoreError};

const E: Environment = Environment::Production;

#[test]
fn a_protected_environment_is_neither_destroyed_nor_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let store = Store::open(&path).unwrap();
    store.environment_set(E, Desired::Up, 1).unwrap();
    assert!(store.mark_protected(E, true).unwrap());
    assert!(!store.mark_protected(E, true).unwrap(), "it was already");
    let refused = store.mark_destroying(E);
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    drop(store);

    let store = Store::open(&path).unwrap();
    assert!(store.marks().unwrap()[0].protected, "it is in the state");
    assert_eq!(store.environments().unwrap()[0].desired, Desired::Up);
    assert!(store.mark_protected(E, false).unwrap());
    assert!(store.mark_destroying(E).unwrap());
    assert_eq!(
        store.environments().unwrap()[0].desired,
        Desired::Down,
        "nobody brings it back"
    );
    assert!(
        matches!(store.mark_protected(E, true), Err(StoreError::Refused { .. })),
        "too late"
    );
    drop(store);

    let store = Store::open(&path).unwrap();
    let marks = store.marks().unwrap();
    assert!(marks[0].destroying && !marks[0].protected);
    store.environment_set(E, Desired::Up, 2).unwrap();
    assert!(!store.marks().unwrap()[0].destroying, "it is asked for anew");
    store.mark_protected(E, true).unwrap();
    assert!(
        matches!(store.environment_remove(E), Err(StoreError::Refused { .. })),
        "not while it is protected"
    );
    store.mark_protected(E, false).unwrap();
    store.mark_destroying(E).unwrap();
    assert!(store.environment_remove(E).unwrap());
    assert_eq!(store.marks().unwrap(), [], "its marks go with it");
}
