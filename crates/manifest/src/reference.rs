//! What each key means: for `astraler manifest explain` and the reference page.

use crate::schema::{is_planned, property, resolve, schema, types, words};
use crate::validate::nearest;
use serde::Serialize;
use serde_json::Value;
use std::fmt::{self, Write};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Dotted; `<name>` stands for a name of yours.
    pub key: String,
    /// Type and limits in words.
    pub kind: String,
    /// Default as TOML, when there is one.
    pub default: Option<String>,
    /// What it does.
    pub description: String,
    /// `effective`, or `not supported yet`.
    pub status: &'static str,
    /// What a table holds: dotted keys, each with the first sentence about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<(String, String)>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} · {}", self.key, self.kind)?;
        if let Some(default) = &self.default {
            writeln!(f, "default: {default}")?;
        }
        writeln!(f, "{}", self.description)?;
        write!(f, "status: {}", self.status)?;
        let width = self.keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        for (key, description) in &self.keys {
            write!(f, "\n  {key:width$}  {description}")?;
        }
        Ok(())
    }
}

/// Says what a dotted key does; the nearest names when there is none.
pub fn explain(key: &str) -> Result<Explanation, Vec<String>> {
    let root = schema();
    let all = explanations(&root);
    let mut found = root.clone();
    let mut planned = false;
    for part in key.split('.') {
        let Some(next) = property(&root, &found, part) else {
            let keys: Vec<&str> = all.iter().map(|explanation| explanation.key.as_str()).collect();
            return Err(nearest(key, &keys).into_iter().map(str::to_owned).collect());
        };
        planned |= is_planned(&next);
        found = next;
    }
    let mut explanation = explanation(key, &found, planned);
    let below = found["properties"].as_object().into_iter().flatten();
    explanation.keys = below
        .map(|(name, schema)| {
            let mut about = first_sentence(&resolve(&root, schema));
            if !planned && is_planned(&resolve(&root, schema)) {
                about.push_str(" (not supported yet)");
            }
            (format!("{key}.{name}"), about)
        })
        .collect();
    Ok(explanation)
}

fn first_sentence(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let text = text.replace('\n', " ");
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text,
    }
}

/// The reference page.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Manifest\n\nGenerated from the types of `astraler.toml`; do not edit. A key that is not supported yet is refused.\n\n\
         | Key | Type | Default | What it does |\n|---|---|---|---|\n",
    );
    for found in explanations(&schema()) {
        let default = found
            .default
            .map(|default| format!("`{default}`"))
            .unwrap_or_default();
        let status = if found.status == "effective" {
            ""
        } else {
            " *Not supported yet.*"
        };
        let description = found.description.replace('|', "\\|");
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {}{} |",
            found.key, found.kind, default, description, status
        );
    }
    page
}

/// Every key, in the order of the types.
pub(crate) fn explanations(root: &Value) -> Vec<Explanation> {
    let mut all = Vec::new();
    collect(root, root, "", false, &mut all);
    all
}

fn collect(root: &Value, schema: &Value, path: &str, planned: bool, all: &mut Vec<Explanation>) {
    let named = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, found)| (key.as_str(), found));
    let any = schema
        .get("additionalProperties")
        .filter(|any| any.is_object())
        .map(|found| ("<name>", found));
    for (key, found) in named.chain(any) {
        let mut found = resolve(root, found);
        // A value under a name of the user's is described by the table that holds it.
        if key == "<name>" && found.get("description").is_none() {
            found["description"] = schema["description"].clone();
        }
        let path = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        let planned = planned || is_planned(&found);
        if found.get("properties").is_none()
            && found
                .get("additionalProperties")
                .is_none_or(|any| !any.is_object())
        {
            all.push(explanation(&path, &found, planned));
        }
        collect(root, &found, &path, planned, all);
    }
}

fn explanation(key: &str, schema: &Value, planned: bool) -> Explanation {
    let allowed = words(schema);
    let mut kind = if allowed.is_empty() {
        types(schema).join(" or ").replace("object", "table")
    } else {
        allowed
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let integer = schema["type"].as_str() == Some("integer");
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(low), Some(high)) if integer => kind = format!("{kind}, {low} to {high}"),
        (Some(low), None) if integer && low > 0.0 => kind = format!("{kind}, {low} or more"),
        _ => {}
    }
    let default = schema
        .get("default")
        .filter(|default| !default.is_null() && !default.is_object());
    Explanation {
        key: key.to_owned(),
        kind,
        default: default.map(Value::to_string),
        description: schema["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " "),
        status: if planned { "not supported yet" } else { "effective" },
        keys: vec![],
    }
}
