use crate::store;
use astraler_store::{NewUserSecret, Store, StoreError, sealed_name};

fn put(store: &Store, scope: &str, name: &str, version: u64, now: u64) -> Result<(), StoreError> {
    let new = NewUserSecret {
        scope,
        name,
        version,
        ciphertext: b"sealed",
        actor: "anna",
    };
    store.user_secret_put(&new, now)
}

/// (version, removed, whether its value is there), newest first.
fn history(store: &Store, scope: &str, name: &str) -> Vec<(u64, bool, bool)> {
    let all = store.user_secret_history(scope, name).unwrap();
    all.iter()
        .map(|one| (one.version, one.removed, one.sealed))
        .collect()
}

#[test]
fn versions_follow_each_other_and_a_removal_is_one_of_them() {
    let (store, _folder) = store();
    assert_eq!(store.user_secret_next("staging", "KEY").unwrap(), 1);
    put(&store, "staging", "KEY", 1, 10).unwrap();
    let again = put(&store, "staging", "KEY", 1, 11).unwrap_err();
    assert!(again.to_string().contains("version 2 of `KEY`"), "{again}");
    put(&store, "staging", "KEY", 2, 20).unwrap();
    assert!(
        store
            .user_secret_grant("staging", "KEY", "api", "anna", 21)
            .unwrap()
    );
    assert!(
        !store
            .user_secret_grant("staging", "KEY", "api", "anna", 22)
            .unwrap()
    );
    assert!(
        store
            .user_secret_grant("staging", "KEY", "a", "anna", 23)
            .unwrap()
    );
    let listed = store.user_secrets("staging").unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].version, listed[0].created_ms), (2, 20));
    assert_eq!(listed[0].grants, ["a", "api"]);
    assert_eq!(store.user_secrets("production").unwrap(), []);

    assert!(store.user_secret_remove("staging", "KEY", "ben", 30).unwrap());
    assert!(!store.user_secret_remove("staging", "KEY", "ben", 31).unwrap());
    assert_eq!(store.user_secrets("staging").unwrap(), []);
    assert_eq!(
        history(&store, "staging", "KEY"),
        [(3, true, false), (2, false, true), (1, false, true)]
    );
    let ungranted = store.user_secret_grant("staging", "KEY", "api", "anna", 32);
    assert!(
        matches!(ungranted, Err(StoreError::NotFound { .. })),
        "{ungranted:?}"
    );

    // It comes back under a number of its own, and without the grants that it had.
    put(&store, "staging", "KEY", 4, 40).unwrap();
    assert_eq!(store.user_secrets("staging").unwrap()[0].grants, [""; 0]);
    assert!(!store.user_secret_revoke("staging", "KEY", "api").unwrap());
}

#[test]
fn old_values_go_and_that_they_were_there_stays() {
    let (store, _folder) = store();
    for version in 1..=3 {
        put(&store, "staging", "KEY", version, version).unwrap();
    }
    put(&store, "staging", "OTHER", 1, 9).unwrap();
    let waiting = [("staging".to_owned(), "KEY".to_owned(), false, 3)];
    assert_eq!(store.user_secrets_to_wipe().unwrap(), waiting);
    assert_eq!(store.user_secret_wipe("staging", "KEY", &[3, 1]).unwrap(), 1);
    assert_eq!(
        history(&store, "staging", "KEY"),
        [(3, false, true), (2, false, false), (1, false, true)]
    );
    assert_eq!(store.user_secret_wipe("staging", "KEY", &[3]).unwrap(), 1);
    assert_eq!(store.user_secrets_to_wipe().unwrap(), []);
    store.user_secret_remove("staging", "KEY", "ben", 30).unwrap();
    let removed = [("staging".to_owned(), "KEY".to_owned(), true, 4)];
    assert_eq!(store.user_secrets_to_wipe().unwrap(), removed);
    assert_eq!(store.user_secret_wipe("staging", "KEY", &[]).unwrap(), 1);
    let sealed = store.sealed_get("staging", &sealed_name("KEY"), None).unwrap();
    assert_eq!(sealed, None);
    assert!(
        store
            .sealed_get("staging", &sealed_name("OTHER"), None)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_scope_goes_with_its_secrets_history_and_grants() {
    let (store, _folder) = store();
    for scope in ["staging", "production"] {
        put(&store, scope, "KEY", 1, 1).unwrap();
        store.user_secret_grant(scope, "KEY", "api", "anna", 2).unwrap();
    }
    store.scope_remove("staging").unwrap();
    assert_eq!(store.user_secrets("staging").unwrap(), []);
    assert_eq!(history(&store, "staging", "KEY"), []);
    put(&store, "staging", "KEY", 1, 3).unwrap();
    assert_eq!(store.user_secrets("staging").unwrap()[0].grants, [""; 0]);
    assert_eq!(store.user_secrets("production").unwrap()[0].grants, ["api"]);
}

#[test]
fn names_and_numbers_are_bounded() {
    let (store, _folder) = store();
    put(&store, "staging", "Key", 1, 1).unwrap();
    let other = put(&store, "staging", "KEY", 1, 1).unwrap_err();
    assert!(other.to_string().contains("`Key` is there"), "{other}");
    for number in 1..200 {
        put(&store, "staging", &format!("K{number}"), 1, 1).unwrap();
    }
    let more = put(&store, "staging", "MORE", 1, 1).unwrap_err();
    assert!(more.to_string().contains("there are 200 already"), "{more}");
    // History is as long as it is useful, and what is still sealed stays in it.
    for version in 2..=150 {
        put(&store, "staging", "Key", version, version).unwrap();
        store.user_secret_wipe("staging", "Key", &[1, version]).unwrap();
    }
    let versions = history(&store, "staging", "Key");
    assert!((100..=103).contains(&versions.len()), "{}", versions.len());
    assert_eq!(versions.last(), Some(&(1, false, true)));
}
