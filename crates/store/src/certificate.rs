//! Certificates, each with how far the next one has come. What a record says is its keeper's; no key is in it.

use crate::database::{at_most, integer, json};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::params;
use serde_json::Value;
use std::collections::BTreeMap;

const MAX_SUBJECT: usize = 300;
const MAX_BODY: usize = 64 << 10;

impl Store {
    /// Keeps what is known of a certificate.
    pub fn certificate_put(&self, subject: &str, body: &Value, now_ms: u64) -> Result<(), StoreError> {
        at_most("the subject of a certificate", subject.as_bytes(), MAX_SUBJECT)?;
        let body = body.to_string();
        at_most("the record of a certificate", body.as_bytes(), MAX_BODY)?;
        let now = integer("a time", now_ms)?;
        self.write("keep what is known of a certificate", |t| {
            let sql = "INSERT INTO certificate (subject, body, changed_ms) VALUES (?1, ?2, ?3)
                       ON CONFLICT (subject) DO UPDATE SET body = ?2, changed_ms = ?3";
            t.prepare_cached(sql)?.execute(params![subject, body, now])?;
            Ok(())
        })
    }

    /// All of them, by subject; at most 1,000.
    pub fn certificates(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        self.read("read what is known of certificates", |t| {
            let sql = "SELECT subject, body FROM certificate ORDER BY subject LIMIT ?";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query([MAX_ROWS])?;
            let mut all = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let body: String = row.get(1)?;
                all.insert(row.get(0)?, json("a certificate", &body)?);
            }
            Ok(all)
        })
    }

    /// Forgets one.
    pub fn certificate_remove(&self, subject: &str) -> Result<(), StoreError> {
        self.write("forget a certificate", |t| {
            t.prepare_cached("DELETE FROM certificate WHERE subject = ?")?
                .execute([subject])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn certificates_are_kept_replaced_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        let store = Store::open(&path).unwrap();
        store
            .certificate_put("b.test", &json!({ "failures": 1 }), 1)
            .unwrap();
        store.certificate_put("a.test", &json!({}), 2).unwrap();
        store
            .certificate_put("b.test", &json!({ "failures": 2 }), 3)
            .unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        let all = store.certificates().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a.test", "b.test"]);
        assert_eq!(all["b.test"], json!({ "failures": 2 }));
        store.certificate_remove("b.test").unwrap();
        store.certificate_remove("b.test").unwrap();
        assert_eq!(store.certificates().unwrap().len(), 1);
        assert!(
            store
                .certificate_put("c", &json!("x".repeat(MAX_BODY)), 4)
                .is_err()
        );
    }
}
