//! The JSON Schema of `astraler.toml`, generated from the types, and the walk through it.

use crate::config::Config;
use serde_json::Value;
use std::sync::OnceLock;

/// Under this key a schema says `planned` for what is not effective yet.
pub(crate) const STATUS: &str = "x-astraler-status";

/// The whole schema.
pub fn schema() -> Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA
        .get_or_init(|| schemars::schema_for!(Config).to_value())
        .clone()
}

/// A schema with `$ref`, and a sole `anyOf` beside `null`, followed. Keys beside the reference win.
pub(crate) fn resolve(root: &Value, schema: &Value) -> Value {
    let mut found = schema.clone();
    // References of our own types nest a few levels only.
    for _ in 0..16 {
        let target = match (
            found.get("$ref").and_then(Value::as_str),
            found.get("anyOf").and_then(Value::as_array),
        ) {
            (Some(path), _) => path
                .strip_prefix('#')
                .and_then(|path| root.pointer(path))
                .cloned(),
            (None, Some(choices)) => choices.iter().find(|choice| choice["type"] != "null").cloned(),
            (None, None) => return found,
        };
        let (Some(Value::Object(mut target)), Value::Object(own)) = (target, found.clone()) else {
            return found;
        };
        for (key, value) in own {
            if key != "$ref" && key != "anyOf" {
                target.insert(key, value);
            }
        }
        found = Value::Object(target);
    }
    found
}

/// The schema below a key: a property, or what any key may hold.
pub(crate) fn property(root: &Value, schema: &Value, key: &str) -> Option<Value> {
    let named = schema
        .get("properties")
        .and_then(|properties| properties.get(key));
    let any = schema.get("additionalProperties").filter(|any| any.is_object());
    named.or(any).map(|found| resolve(root, found))
}

/// Whether a schema is of a key that is not effective yet.
pub(crate) fn is_planned(schema: &Value) -> bool {
    schema[STATUS] == "planned"
}

/// Types that a schema allows, without `null`.
pub(crate) fn types(schema: &Value) -> Vec<String> {
    match &schema["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .map(str::to_owned)
            .collect(),
        _ => vec![],
    }
}

/// The words that a schema allows, where it lists them.
pub(crate) fn words(schema: &Value) -> Vec<String> {
    let listed = schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    let single = |choice: &Value| match (&choice["const"], &choice["enum"]) {
        (Value::String(word), _) => vec![word.clone()],
        (_, Value::Array(words)) => words
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => vec![],
    };
    listed
        .chain(schema["oneOf"].as_array().into_iter().flatten().flat_map(single))
        .collect()
}
