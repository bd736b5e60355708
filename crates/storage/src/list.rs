//! Listing by index: one seek for each common prefix, one row for each key, however many keys lie below a prefix.

use crate::object::{OBJECT_COLUMNS, object_of};
use crate::store::bucket_id;
use crate::{ListOptions, ListPage, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, params};

/// Entries of a page at most.
pub(crate) const MAX_ENTRIES: usize = 1000;
/// What a row costs in a page beside its key and metadata.
const ROW_BYTES: usize = 320;

impl Store {
    /// Lists a page of a bucket, in the order of the keys' bytes.
    pub async fn list(&self, bucket: &str, options: ListOptions) -> Result<ListPage, StoreError> {
        let bucket = bucket.to_owned();
        self.inner
            .index
            .read(move |conn| {
                let bucket = bucket_id(conn, &bucket)?;
                page(conn, bucket, &options)
            })
            .await
    }
}

fn page(conn: &Connection, bucket: i64, options: &ListOptions) -> Result<ListPage, StoreError> {
    let limit = options.limit.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
    let prefix = options.prefix.as_bytes();
    let delimiter = options
        .delimiter
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(str::as_bytes);
    let after = match (&options.cursor, &options.start_after) {
        (Some(cursor), _) => Some(read_cursor(cursor)?),
        (None, Some(key)) => Some(key.clone().into_bytes()),
        (None, None) => None,
    };
    let mut page = ListPage::default();
    if limit == 0 {
        return Ok(page);
    }
    // The first key that may come. An entry that is a common prefix stands for every key below it.
    let mut from = prefix.to_vec();
    if let Some(after) = after {
        let next = match rolled_up(&after, prefix, delimiter) {
            Some(rolled) if rolled.len() == after.len() => match successor(&after) {
                Some(next) => next,
                None => return Ok(page),
            },
            _ => after.iter().copied().chain([0]).collect(),
        };
        from = from.max(next);
    }
    let end = successor(prefix);
    let mut entries = 0;
    let mut bytes = 0;
    let failed = StoreError::index("listing objects");
    let sql = |bound: &str| {
        format!("SELECT {OBJECT_COLUMNS} FROM object WHERE bucket = ?1 AND key >= ?2 {bound} ORDER BY key")
    };
    let mut statement = conn
        .prepare_cached(&sql(if end.is_some() { "AND key < ?3" } else { "" }))
        .map_err(&failed)?;
    'seek: loop {
        let mut rows = match &end {
            Some(end) => statement.query(params![bucket, from, end]),
            None => statement.query(params![bucket, from]),
        }
        .map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let key = row
                .get_ref(0)
                .and_then(|key| Ok(key.as_blob()?))
                .map_err(&failed)?;
            let full = entries == limit || options.max_bytes.is_some_and(|most| entries > 0 && bytes >= most);
            if full {
                page.cursor = page.last.as_deref().map(write_cursor);
                return Ok(page);
            }
            entries += 1;
            bytes += key.len() + ROW_BYTES;
            if let Some(rolled) = rolled_up(key, prefix, delimiter) {
                let entry = String::from_utf8_lossy(rolled).into_owned();
                page.last = Some(entry.clone());
                page.prefixes.push(entry);
                let Some(next) = successor(rolled) else {
                    break 'seek;
                };
                from = next;
                drop(rows);
                continue 'seek;
            }
            let meta = row
                .get_ref(7)
                .and_then(|meta| Ok(meta.as_str()?.len()))
                .map_err(&failed)?;
            bytes += meta;
            let object = object_of(row).map_err(&failed)?.info;
            page.last = Some(object.key.clone());
            page.objects.push(object);
        }
        break;
    }
    page.last = None;
    Ok(page)
}

/// The common prefix that stands for a key: up to and with the first delimiter after the prefix.
fn rolled_up<'k>(key: &'k [u8], prefix: &[u8], delimiter: Option<&[u8]>) -> Option<&'k [u8]> {
    let delimiter = delimiter?;
    let rest = key.strip_prefix(prefix)?;
    let at = rest
        .windows(delimiter.len())
        .position(|window| window == delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

/// The first string that is after all strings that start with `prefix`; `None` when there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

fn write_cursor(entry: &str) -> String {
    URL_SAFE_NO_PAD.encode(entry)
}

fn read_cursor(cursor: &str) -> Result<Vec<u8>, StoreError> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| StoreError::InvalidRequest("the cursor was not made by this store".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreOptions, body_of};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_successor_is_after_everything_below_a_prefix() {
        assert_eq!(successor(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(successor(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(successor(b"\xff\xff"), None);
        assert_eq!(successor(b""), None);
    }

    /// Every entry in order, by walking over all keys.
    fn naive(
        keys: &BTreeSet<String>,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
    ) -> Vec<String> {
        let entry =
            |key: &String| match delimiter.and_then(|d| key[prefix.len()..].find(d).map(|at| at + d.len())) {
                Some(end) => key[..prefix.len() + end].to_owned(),
                None => key.clone(),
            };
        let below = keys.iter().filter(|key| key.starts_with(prefix));
        let entries: BTreeSet<String> = below
            .filter(|key| after.is_none_or(|after| key.as_str() > after && entry(key) != after))
            .map(entry)
            .collect();
        entries.into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn pages_join_to_what_a_naive_walk_finds(
            keys in proptest::collection::btree_set("[ab/.é]{1,5}", 0..30),
            prefix in "[ab/é]{0,2}",
            delimiter in proptest::option::of("[/a]|//|b/|é"),
            after in proptest::option::of("[ab/]{0,3}"),
            limit in 1usize..5,
            max_bytes in proptest::option::of(1usize..2000),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), StoreOptions { reserve_bytes: 0, ..Default::default() }).unwrap();
            runtime.block_on(async {
                store.create_bucket("bucket").await.unwrap();
                store.create_bucket("other").await.unwrap();
                store.put("other", "a/elsewhere", body_of("x"), Default::default()).await.unwrap();
                let puts = keys.iter().map(|key| store.put("bucket", key, body_of("x"), Default::default()));
                futures_util::future::try_join_all(puts).await.unwrap();
                let expected = naive(&keys, &prefix, delimiter.as_deref(), after.as_deref());
                let mut found = Vec::new();
                let mut cursor = None;
                for _ in 0..100 {
                    let options = ListOptions {
                        prefix: prefix.clone(),
                        delimiter: delimiter.clone(),
                        start_after: after.clone(),
                        cursor: cursor.clone(),
                        limit: Some(limit),
                        max_bytes,
                    };
                    let page = store.list("bucket", options).await.unwrap();
                    let mut entries: Vec<String> = page.objects.iter().map(|object| object.key.clone()).collect();
                    entries.extend(page.prefixes.clone());
                    entries.sort();
                    prop_assert!(entries.len() <= limit);
                    prop_assert_eq!(page.cursor.is_some(), page.last.is_some());
                    prop_assert!(page.last.is_none() || page.last.as_ref() == entries.last());
                    found.extend(entries);
                    cursor = page.cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(cursor, None);
                prop_assert_eq!(found, expected);
                Ok(())
            })?;
        }
    }
}
