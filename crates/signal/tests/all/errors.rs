use crate::lines::{NOON, Place, append, time};
use astraler_signal::{Errors, exception_words};
use std::collections::BTreeMap;

fn told(second: i64, name: &str, message: &str, stack: &str, id: &str) -> String {
    let exception = serde_json::json!({
        "worker": "api", "name": name, "message": message, "stack": stack, "request_id": id,
        "method": "GET", "path": "/api/x",
    });
    let line = serde_json::json!({
        "timestamp": 1, "level": "error", "message": format!("astraler.exception {exception}"),
    });
    format!("{} {line}\n", time(NOON + second * 1_000))
}

#[test]
fn exceptions_of_one_place_are_one_group_and_count_once_each() {
    let place = Place::new();
    std::fs::create_dir_all(place.store()).unwrap();
    let log = place.logs().join("workers-production-d-3.log");
    let stack = "    at inner (index.js:2:20)\n    at Object.fetch (index.js:12:5)";
    append(&log, &told(0, "TypeError", "boom 1", stack, "a"));
    append(
        &log,
        "2026-11-27T12:00:00.500Z {\"timestamp\":1,\"level\":\"log\",\"message\":\"hello\"}\n",
    );
    let bundles = BTreeMap::new();
    let mut errors = Errors::open(&place.store()).unwrap();
    errors.tick(&place.logs(), &bundles).unwrap();
    append(
        &log,
        &told(1, "TypeError", "boom 2", &stack.replace(":12:", ":13:"), "b"),
    );
    append(
        &log,
        &told(2, "RangeError", "far", "    at outer (index.js:9:1)", "c"),
    );
    drop(errors);
    let mut errors = Errors::open(&place.store()).unwrap();
    errors.tick(&place.logs(), &bundles).unwrap();
    errors.tick(&place.logs(), &bundles).unwrap();
    // As a person looks, while the keeper writes.
    let look = Errors::look(&place.store()).unwrap().unwrap();
    let groups = look.groups(Some("production"), 10).unwrap();
    let shown: Vec<(String, u64)> = groups
        .iter()
        .map(|group| (group.name.clone(), group.count))
        .collect();
    assert_eq!(shown, [("RangeError".to_owned(), 1), ("TypeError".to_owned(), 2)]);
    assert_eq!(groups[1].message, "boom 2");
    assert_eq!((groups[1].first_ms, groups[1].last_ms), (NOON, NOON + 1_000));
    assert_eq!(groups[1].place.as_deref(), Some("index.js:2:20 (inner)"));
    let occurrences = look.occurrences(&groups[1].id).unwrap();
    let ids: Vec<_> = occurrences
        .iter()
        .map(|one| one.request_id.clone().unwrap())
        .collect();
    assert_eq!(ids, ["b", "a"]);
    assert_eq!(occurrences[0].request.as_deref(), Some("GET /api/x"));
    assert!(look.groups(Some("staging"), 10).unwrap().is_empty());

    for second in 0..50 {
        append(&log, &told(second, "TypeError", "boom", stack, "d"));
    }
    errors.tick(&place.logs(), &bundles).unwrap();
    assert_eq!(look.occurrences(&groups[1].id).unwrap().len(), 20);
    errors.forget(90, NOON + 91 * 86_400_000).unwrap();
    assert!(look.groups(None, 10).unwrap().is_empty());
}

#[test]
fn an_exception_is_told_in_words() {
    let message = r#"astraler.exception {"worker":"api","name":"E","message":"m","stack":"    at f (index.js:1:2)","request_id":"i"}"#;
    assert_eq!(
        exception_words(message).as_deref(),
        Some("Uncaught E: m (request i)\n    at f (index.js:1:2)")
    );
    assert_eq!(exception_words("astraler.exception {"), None);
    assert_eq!(exception_words("hello"), None);
}
