use crate::store;
use astraler_store::{AuditFilter, AuditHead, AuditVerifyError, Store};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;

fn filled(entries: u64) -> (Store, tempfile::TempDir) {
    let (store, folder) = store();
    for n in 0..entries {
        let detail = json!({ "n": n, "why": "grant" });
        store
            .audit(
                "local:0",
                "secret.read",
                &format!("production/db-{n}"),
                &detail,
                1_000 + n,
            )
            .unwrap();
    }
    (store, folder)
}

/// The file as somebody with all rights would open it: without our triggers.
fn raw(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("control.db")).unwrap();
    let drop_all = "DROP TRIGGER audit_appends; DROP TRIGGER audit_keeps; DROP TRIGGER audit_stays;
                    PRAGMA ignore_check_constraints = ON;";
    connection.execute_batch(drop_all).unwrap();
    connection
}

fn broken_at(store: &Store) -> u64 {
    match store.audit_verify() {
        Err(AuditVerifyError::Broken { seq, .. }) => seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_hash_is_what_the_documentation_says() {
    let (store, _folder) = filled(2);
    let entries = store.audit_list(&AuditFilter::default(), 10).unwrap();
    let mut previous = vec![0; 32];
    for entry in entries.iter().rev() {
        let mut bytes = b"astraler-audit-1".to_vec();
        bytes.extend(entry.seq.to_be_bytes());
        bytes.extend(entry.time_ms.to_be_bytes());
        for word in [
            &entry.actor,
            &entry.action,
            &entry.subject,
            &entry.detail.to_string(),
        ] {
            bytes.extend((word.len() as u64).to_be_bytes());
            bytes.extend(word.as_bytes());
        }
        bytes.extend(&previous);
        assert_eq!(entry.previous, hex::encode(&previous));
        previous = Sha256::digest(&bytes).to_vec();
        assert_eq!(entry.hash, hex::encode(&previous));
    }
    assert_eq!(store.audit_head().unwrap().hash, hex::encode(&previous));
}

#[test]
fn any_byte_of_any_field_that_is_changed_is_found() {
    let (store, folder) = filled(3);
    let connection = raw(folder.path());
    for seq in 1..=3u64 {
        for column in ["actor", "action", "subject", "detail", "previous", "hash"] {
            let blob = matches!(column, "previous" | "hash");
            let sql = format!("SELECT CAST({column} AS BLOB) FROM audit WHERE seq = {seq}");
            let original: Vec<u8> = connection.query_row(&sql, (), |row| row.get(0)).unwrap();
            let value = if blob { "?1" } else { "CAST(?1 AS TEXT)" };
            let put = |bytes: &[u8]| {
                let sql = format!("UPDATE audit SET {column} = {value} WHERE seq = {seq}");
                connection.execute(&sql, [bytes]).unwrap();
            };
            for position in 0..original.len() {
                for bit in [0, 7] {
                    let mut changed = original.clone();
                    changed[position] ^= 1 << bit;
                    put(&changed);
                    assert_eq!(broken_at(&store), seq, "{column}, byte {position}");
                }
            }
            put(&original[1..]);
            assert_eq!(broken_at(&store), seq, "{column}, shortened");
            put(&original);
        }
        for delta in [1, -1] {
            connection
                .execute(
                    &format!("UPDATE audit SET time_ms = time_ms + {delta} WHERE seq = {seq}"),
                    (),
                )
                .unwrap();
            assert_eq!(broken_at(&store), seq, "time");
            connection
                .execute(
                    &format!("UPDATE audit SET time_ms = time_ms - {delta} WHERE seq = {seq}"),
                    (),
                )
                .unwrap();
        }
        assert_eq!(store.audit_verify().unwrap().entries, 3, "all of it was put back");
    }
    // A byte moved from one field to its neighbour leaves the concatenation as it was.
    connection
        .execute(
            "UPDATE audit SET actor = 'local:0s', action = 'ecret.read' WHERE seq = 2",
            (),
        )
        .unwrap();
    assert_eq!(broken_at(&store), 2);
}

#[test]
fn what_is_deleted_inserted_or_reordered_is_found() {
    let edits = [
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 3", 3),
        (
            "DELETE FROM audit WHERE seq = 3; UPDATE audit SET seq = seq - 1 WHERE seq > 3",
            3,
        ),
        (
            "UPDATE audit SET seq = 99 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 99",
            2,
        ),
        ("UPDATE audit SET seq = 6 WHERE seq = 5", 5),
        (
            "INSERT INTO audit SELECT 6, time_ms, actor, action, subject, detail, previous, hash FROM audit WHERE seq = 5",
            6,
        ),
        (
            "INSERT INTO audit SELECT 0, time_ms, actor, action, subject, detail, previous, hash FROM audit WHERE seq = 5",
            1,
        ),
    ];
    for (sql, expected) in edits {
        let (store, folder) = filled(5);
        raw(folder.path()).execute_batch(sql).unwrap();
        assert_eq!(broken_at(&store), expected, "{sql}");
    }
}

/// What the chain cannot show by itself, an exported head does.
#[test]
fn a_cut_end_and_a_chain_written_anew_are_found_by_an_exported_head() {
    let (store, folder) = filled(5);
    let head: AuditHead = store.audit_head().unwrap().to_string().parse().unwrap();
    assert_eq!(head, store.audit_head().unwrap());
    store.audit("local:0", "later", "x", &json!({}), 9).unwrap();
    assert_eq!(
        store.audit_verify_against(&head).unwrap().entries,
        6,
        "later entries are fine"
    );
    raw(folder.path())
        .execute_batch("DELETE FROM audit WHERE seq >= 4")
        .unwrap();
    assert_eq!(store.audit_verify().unwrap().entries, 3, "alone, it sees nothing");
    assert!(matches!(
        store.audit_verify_against(&head),
        Err(AuditVerifyError::Broken { seq: 4, .. })
    ));

    let (other, _folder) = store_with_other_history();
    assert!(other.audit_verify().is_ok());
    assert!(matches!(
        other.audit_verify_against(&head),
        Err(AuditVerifyError::Broken { seq: 5, .. })
    ));
    for text in ["", "5", "5:00", "x:00", &format!("5:{}", "Z".repeat(64))] {
        assert!(text.parse::<AuditHead>().is_err(), "{text}");
    }
}

fn store_with_other_history() -> (Store, tempfile::TempDir) {
    let (store, folder) = store();
    for n in 0..5 {
        store.audit("mallory", "nothing", "x", &json!({}), n).unwrap();
    }
    (store, folder)
}

#[test]
fn the_database_itself_refuses_every_change_but_the_next_entry() {
    let (_store, folder) = filled(3);
    let connection = Connection::open(folder.path().join("control.db")).unwrap();
    let copy = "SELECT {}, time_ms, actor, action, subject, detail, previous, hash FROM audit WHERE seq = 3";
    for sql in [
        "UPDATE audit SET actor = 'x' WHERE seq = 1".to_owned(),
        "DELETE FROM audit WHERE seq = 3".to_owned(),
        format!("INSERT OR REPLACE INTO audit {}", copy.replace("{}", "3")),
        format!("INSERT OR REPLACE INTO audit {}", copy.replace("{}", "1")),
        format!("INSERT INTO audit {}", copy.replace("{}", "7")),
        format!("INSERT INTO audit {}", copy.replace("{}", "0")),
    ] {
        assert!(connection.execute(&sql, ()).is_err(), "{sql}");
    }
}

#[test]
fn lists_filter_and_page() {
    let (store, _folder) = filled(30);
    store
        .audit("token:ci", "deploy", "staging", &json!({}), 5_000)
        .unwrap();
    let list = |filter: AuditFilter, limit| {
        store
            .audit_list(&filter, limit)
            .unwrap()
            .into_iter()
            .map(|e| e.seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(AuditFilter::default(), 3), [31, 30, 29]);
    assert_eq!(
        list(
            AuditFilter {
                before_seq: Some(3),
                ..Default::default()
            },
            10
        ),
        [2, 1]
    );
    assert_eq!(
        list(
            AuditFilter {
                actor: Some("token:ci".into()),
                ..Default::default()
            },
            10
        ),
        [31]
    );
    assert_eq!(
        list(
            AuditFilter {
                action: Some("deploy".into()),
                ..Default::default()
            },
            10
        ),
        [31]
    );
    assert_eq!(
        list(
            AuditFilter {
                subject: Some("production/db-4".into()),
                ..Default::default()
            },
            10
        ),
        [5]
    );
    assert_eq!(
        list(
            AuditFilter {
                since_ms: Some(1_029),
                ..Default::default()
            },
            10
        ),
        [31, 30]
    );
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_not_cut() {
    let (store, _folder) = store();
    assert!(store.audit(&"a".repeat(1025), "a", "s", &json!({}), 0).is_err());
    assert!(store.audit("a", "a", "s", &json!("x".repeat(70_000)), 0).is_err());
    assert_eq!(store.audit_head().unwrap().seq, 0);
    assert_eq!(store.audit_verify().unwrap().head, store.audit_head().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_words_are_kept_and_verified(words in prop::collection::vec((".{0,40}", ".{0,40}", ".{0,40}", ".{0,40}", 0u64..1 << 62), 1..4)) {
        let (store, _folder) = store();
        for (actor, action, subject, detail, time) in &words {
            store.audit(actor, action, subject, &json!(detail), *time).unwrap();
        }
        let listed = store.audit_list(&AuditFilter::default(), 10).unwrap();
        for (entry, (actor, action, subject, detail, time)) in listed.iter().rev().zip(&words) {
            prop_assert_eq!((&entry.actor, &entry.action, &entry.subject, entry.time_ms), (actor, action, subject, *time));
            prop_assert_eq!(&entry.detail, &json!(detail));
        }
        prop_assert_eq!(store.audit_verify().unwrap().entries, words.len() as u64);
    }
}
