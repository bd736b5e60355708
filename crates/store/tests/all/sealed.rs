use crate::store;
use astraler_store::{Rewrapped, StoreError};

fn moved(name: &str, version: u64) -> Rewrapped {
    Rewrapped {
        name: name.into(),
        version,
        ciphertext: b"new".into(),
    }
}

#[test]
fn versions_are_kept_and_never_overwritten() {
    let (store, _folder) = store();
    store.sealed_put("production", "db", 1, b"one", 10).unwrap();
    store.sealed_put("production", "db", 2, b"two", 20).unwrap();
    store.sealed_put("staging", "db", 1, b"other", 30).unwrap();
    assert!(matches!(
        store.sealed_put("production", "db", 2, b"xxx", 40),
        Err(StoreError::Refused { .. })
    ));
    let newest = store.sealed_get("production", "db", None).unwrap().unwrap();
    assert_eq!(
        (newest.version, newest.ciphertext, newest.created_ms),
        (2, b"two".to_vec(), 20)
    );
    assert_eq!(
        store
            .sealed_get("production", "db", Some(1))
            .unwrap()
            .unwrap()
            .ciphertext,
        b"one"
    );
    assert_eq!(store.sealed_get("production", "db", Some(3)).unwrap(), None);
    assert_eq!(store.sealed_get("production", "none", None).unwrap(), None);
    assert_eq!(store.sealed_prune("production", "db", 2).unwrap(), 1);
    assert_eq!(store.sealed_list(Some("production"), None).unwrap().len(), 1);
    assert_eq!(store.scope_remove("production").unwrap(), 1);
    let left = store.sealed_list(None, None).unwrap();
    assert_eq!((left.len(), left[0].scope.as_str()), (1, "staging"));
    assert!(matches!(
        store.sealed_put("s", "n", 1, &vec![0; 2 << 20], 1),
        Err(StoreError::TooLarge { .. })
    ));
    assert!(
        store.sealed_put("s", "n", 0, b"x", 1).is_err(),
        "versions begin at 1"
    );
}

#[test]
fn lists_go_on_page_by_page() {
    let (store, _folder) = store();
    for name in ["a", "b"] {
        for version in [1, 2] {
            store.sealed_put("s", name, version, b"x", 0).unwrap();
        }
    }
    let all = store.sealed_list(None, None).unwrap();
    assert_eq!(all.len(), 4);
    for (index, entry) in all.iter().enumerate() {
        assert_eq!(
            store.sealed_list(Some("s"), Some(entry)).unwrap(),
            all[index + 1..]
        );
    }
}

#[test]
fn a_rotation_takes_every_version_or_does_not_happen() {
    let (store, _folder) = store();
    store.scope_key_put("production", b"old", 1).unwrap();
    assert!(matches!(
        store.scope_key_put("production", b"again", 1),
        Err(StoreError::Refused { .. })
    ));
    store.sealed_put("production", "db", 1, b"old", 1).unwrap();
    store.sealed_put("production", "db", 2, b"old", 1).unwrap();
    for wrong in [
        vec![],
        vec![moved("db", 1)],
        vec![moved("db", 1), moved("db", 1)],
        vec![moved("db", 1), moved("db", 2), moved("db", 3)],
    ] {
        assert!(
            store.scope_key_rotate("production", b"new", &wrong, 2).is_err(),
            "{wrong:?}"
        );
        assert_eq!(
            store.scope_keys().unwrap(),
            [("production".to_owned(), b"old".to_vec())]
        );
        assert_eq!(
            store
                .sealed_get("production", "db", Some(1))
                .unwrap()
                .unwrap()
                .ciphertext,
            b"old"
        );
    }
    store
        .scope_key_rotate("production", b"new", &[moved("db", 2), moved("db", 1)], 2)
        .unwrap();
    assert_eq!(
        store.scope_keys().unwrap(),
        [("production".to_owned(), b"new".to_vec())]
    );
    for version in [1, 2] {
        let record = store
            .sealed_get("production", "db", Some(version))
            .unwrap()
            .unwrap();
        assert_eq!(
            (record.ciphertext, record.created_ms),
            (b"new".to_vec(), 1),
            "rewrapping is no new version"
        );
    }
}

#[test]
fn a_new_root_key_takes_every_scope_or_none() {
    let (store, _folder) = store();
    for scope in ["production", "staging"] {
        store.scope_key_put(scope, b"old", 1).unwrap();
    }
    let to = |scopes: &[&str]| {
        scopes
            .iter()
            .map(|s| ((*s).to_owned(), b"new".to_vec()))
            .collect::<Vec<_>>()
    };
    for wrong in [
        to(&["production"]),
        to(&["production", "none"]),
        to(&["staging", "staging"]),
    ] {
        assert!(store.scope_keys_rewrap(&wrong).is_err());
        assert!(store.scope_keys().unwrap().iter().all(|(_, key)| key == b"old"));
    }
    store.scope_keys_rewrap(&to(&["staging", "production"])).unwrap();
    assert!(store.scope_keys().unwrap().iter().all(|(_, key)| key == b"new"));
}
