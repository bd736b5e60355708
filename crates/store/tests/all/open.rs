use crate::store;
use astraler_store::{Desired, Store, StoreError};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn only_one_process_writes_and_the_second_hears_who() {
    let (first, folder) = store();
    let path = folder.path().join("control.db");
    match Store::open(&path).unwrap_err() {
        StoreError::InUse { holder, .. } => assert_eq!(holder, Some(std::process::id())),
        other => panic!("{other}"),
    }
    drop(first);
    Store::open(&path).unwrap();
}

#[test]
fn a_reader_sees_what_is_written_and_changes_nothing() {
    let (store, folder) = store();
    let reader = Store::open_read_only(&folder.path().join("control.db")).unwrap();
    store
        .audit("me", "up", "development", &serde_json::json!({}), 1)
        .unwrap();
    assert_eq!(reader.audit_head().unwrap(), store.audit_head().unwrap());
    assert_eq!(reader.audit_verify().unwrap().entries, 1);
    let error = reader
        .audit("me", "up", "development", &serde_json::json!({}), 2)
        .unwrap_err();
    assert!(matches!(error, StoreError::Sqlite { .. }), "{error}");
    assert_eq!(store.audit_head().unwrap().seq, 1);
}

#[test]
fn nobody_else_can_read_the_files() {
    let (store, folder) = store();
    store
        .environment_set(astraler_model::Environment::Staging, Desired::Up, 1)
        .unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            entry.file_name()
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "control.db",
            "control.db-shm",
            "control.db-wal",
            "control.db.lock"
        ]
    );
}

#[test]
fn refuses_what_is_newer_foreign_or_no_database_and_leaves_it_as_it_is() {
    let (opened, folder) = store();
    drop(opened);
    let path = folder.path().join("control.db");
    let sql = |path, sql: &str| {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    sql(&path, "PRAGMA user_version = 9999");
    for error in [
        Store::open(&path).unwrap_err(),
        Store::open_read_only(&path).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
    }

    let foreign = folder.path().join("foreign.db");
    sql(&foreign, "CREATE TABLE theirs (x); PRAGMA user_version = 1");
    let text = folder.path().join("text.db");
    fs::write(
        &text,
        "this is no database at all, but long enough to have a header of one hundred bytes.".repeat(9),
    )
    .unwrap();
    for path in [&foreign, &text] {
        let before = fs::read(path).unwrap();
        let error = Store::open(path).unwrap_err();
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read(path).unwrap(), before);
    }
}

#[test]
fn says_which_path_could_not_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/control.db");
    for error in [
        Store::open(&missing).unwrap_err(),
        Store::open_read_only(&missing).unwrap_err(),
    ] {
        assert!(error.to_string().contains("no/such/control.db"), "{error}");
    }
    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    let error = Store::open_read_only(&empty).unwrap_err();
    assert!(matches!(error, StoreError::Empty { .. }), "{error}");
}

#[test]
fn threads_take_turns() {
    let (store, _folder) = store();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    store
                        .audit(&format!("thread {thread}"), "a", "s", &serde_json::json!(n), n)
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(store.audit_verify().unwrap().entries, 160);
}
