//! `astraler manifest explain`, the schema and the reference.

use astraler_manifest::{explain, parse, reference_markdown, schema};

#[test]
fn a_key_is_explained_with_type_default_and_status() {
    let port = explain("edge.http_port").unwrap();
    assert_eq!(port.default.as_deref(), Some("3000"));
    assert_eq!(port.status, "effective");
    assert!(port.kind.contains("integer"), "{}", port.kind);
    let shown = port.to_string();
    assert!(
        shown.contains("edge.http_port") && shown.contains("Port for HTTP."),
        "{shown}"
    );
}

#[test]
fn below_a_name_of_ones_own_and_for_what_is_planned_too() {
    assert_eq!(explain("workers.api.routes").unwrap().status, "effective");
    assert_eq!(
        explain("backups.destination").map_or("not supported yet", |found| found.status),
        "not supported yet"
    );
    assert_eq!(explain("scaling").unwrap().status, "not supported yet");
}

#[test]
fn a_table_says_what_it_holds() {
    let redis = explain("redis").unwrap();
    let shown = redis.to_string();
    assert!(shown.contains("redis.maxmemory_bytes"), "{shown}");
    assert!(redis.keys.iter().all(|(_, about)| !about.is_empty()), "{shown}");
    let staging = explain("environments.staging").unwrap().to_string();
    assert!(
        staging
            .lines()
            .any(|line| line.contains("environments.staging.target") && line.ends_with("(not supported yet)")),
        "{staging}"
    );
    assert!(explain("edge.http_port").unwrap().keys.is_empty());
}

#[test]
fn a_misspelt_key_gets_the_nearest_names() {
    assert!(
        explain("edge.htp_port")
            .unwrap_err()
            .contains(&"edge.http_port".to_owned())
    );
    assert!(
        explain("databse.pool_size")
            .unwrap_err()
            .contains(&"database.pool_size".to_owned())
    );
}

#[test]
fn the_schema_is_of_one_draft_and_every_reference_in_it_leads_somewhere() {
    let root = schema();
    assert_eq!(root["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(root["additionalProperties"], false);
    let mut references = 0;
    let mut queue = vec![&root];
    while let Some(value) = queue.pop() {
        match value {
            serde_json::Value::Object(object) => {
                if let Some(path) = object.get("$ref").and_then(|path| path.as_str()) {
                    references += 1;
                    assert!(root.pointer(path.trim_start_matches('#')).is_some(), "{path}");
                }
                queue.extend(object.values());
            }
            serde_json::Value::Array(array) => queue.extend(array),
            _ => {}
        }
    }
    assert!(references > 20, "{references}");
}

#[test]
fn the_first_line_may_name_the_schema_for_an_editor() {
    let text = astraler_manifest::default_toml("shop", "shop.example");
    for text in [text.clone(), format!("#:schema ./astraler.schema.json\n{text}")] {
        let config = parse("astraler.toml", &text).unwrap();
        assert_eq!(
            (config.name.as_str(), config.domain.as_str()),
            ("shop", "shop.example")
        );
    }
}

#[test]
fn names_that_would_break_the_manifest_are_quoted() {
    let text = astraler_manifest::default_toml("a\"b\nc = 1", "x");
    assert!(parse("astraler.toml", &text).is_err());
    assert!(!text.contains("\nc = 1\n"), "{text}");
}

#[test]
fn the_committed_reference_is_what_the_types_say() {
    crate::same_as_file("../../docs/reference/manifest.md", &reference_markdown());
}
