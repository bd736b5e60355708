//! The document against the schema: every error at once, each with its place.

use crate::diagnostics::{Diagnostic, Source};
use crate::schema::{is_planned, property, resolve, types, words};
use serde_json::Value as Json;
use std::ops::Range;
use toml_edit::{Item, TableLike, Value};

/// Checks the whole document.
pub(crate) fn document(source: &Source, schema: &Json, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    Walk {
        source,
        schema,
        errors,
    }
    .table(root, schema, &[], 0..0);
}

struct Walk<'a> {
    source: &'a Source,
    schema: &'a Json,
    errors: &'a mut Vec<Diagnostic>,
}

impl Walk<'_> {
    fn error(&mut self, span: Range<usize>, code: &'static str, message: String, help: Option<String>) {
        let diagnostic = self.source.error(span, code, message, help);
        self.errors.push(diagnostic);
    }

    fn table(&mut self, table: &dyn TableLike, schema: &Json, path: &[String], span: Range<usize>) {
        for (key, item) in table.iter() {
            let mut path = path.to_vec();
            path.push(key.to_owned());
            let at = table
                .key(key)
                .and_then(toml_edit::Key::span)
                .or_else(|| item.span())
                .unwrap_or(span.clone());
            let Some(found) = property(self.schema, schema, key) else {
                self.unknown(key, schema, &path, at);
                continue;
            };
            if is_planned(&found) {
                let message = format!("`{}` is not supported yet", path.join("."));
                self.error(
                    at,
                    "not-supported-yet",
                    message,
                    Some("remove it: it would have no effect".into()),
                );
                continue;
            }
            self.item(item, &found, &path, at);
        }
        for required in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !table.contains_key(required) {
                let mut path = path.to_vec();
                path.push(required.to_owned());
                let message = format!("`{}` is missing", path.join("."));
                let help = property(self.schema, schema, required)
                    .and_then(|found| found["description"].as_str().map(first_sentence));
                self.error(span.clone(), "missing-key", message, help);
            }
        }
    }

    fn unknown(&mut self, key: &str, schema: &Json, path: &[String], at: Range<usize>) {
        let known: Vec<&str> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        let help = match nearest(key, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.error(
            at,
            "unknown-key",
            format!("unknown key `{}`", path.join(".")),
            Some(help),
        );
    }

    fn item(&mut self, item: &Item, schema: &Json, path: &[String], at: Range<usize>) {
        let span = item.span().unwrap_or(at);
        match item {
            Item::None => {}
            Item::Value(value) => self.value(value, schema, path, span),
            Item::Table(table) => self.table_where_allowed(table, schema, path, span),
            Item::ArrayOfTables(tables) => {
                if !self.allows(schema, "array", "an array of tables", path, span) {
                    return;
                }
                let items = resolve(self.schema, &schema["items"]);
                for table in tables {
                    self.table(table, &items, path, table.span().unwrap_or(0..0));
                }
            }
        }
    }

    fn table_where_allowed(
        &mut self,
        table: &dyn TableLike,
        schema: &Json,
        path: &[String],
        span: Range<usize>,
    ) {
        if self.allows(schema, "object", "a table", path, span.clone()) {
            self.table(table, schema, path, span);
        }
    }

    fn value(&mut self, value: &Value, schema: &Json, path: &[String], span: Range<usize>) {
        match value {
            Value::InlineTable(table) => self.table_where_allowed(table, schema, path, span),
            Value::Array(array) => {
                if !self.allows(schema, "array", "an array", path, span) {
                    return;
                }
                let items = resolve(self.schema, &schema["items"]);
                for value in array {
                    self.value(value, &items, path, value.span().unwrap_or(0..0));
                }
            }
            Value::String(text) => {
                if self.allows(schema, "string", "a string", path, span.clone()) {
                    self.word(text.value(), schema, path, span);
                }
            }
            Value::Integer(number) => {
                let number = *number.value();
                let kind = if types(schema).iter().any(|kind| kind == "number") {
                    "number"
                } else {
                    "integer"
                };
                if self.allows(schema, kind, "an integer", path, span.clone()) {
                    #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
                    self.range(number as f64, &number.to_string(), schema, path, span);
                }
            }
            Value::Float(number) => {
                if self.allows(schema, "number", "a fraction", path, span.clone()) {
                    self.range(*number.value(), &number.value().to_string(), schema, path, span);
                }
            }
            Value::Boolean(_) => {
                self.allows(schema, "boolean", "true or false", path, span);
            }
            Value::Datetime(_) => {
                self.allows(schema, "datetime", "a date", path, span);
            }
        }
    }

    /// Whether the schema allows a kind; an error otherwise.
    fn allows(
        &mut self,
        schema: &Json,
        kind: &str,
        found: &str,
        path: &[String],
        span: Range<usize>,
    ) -> bool {
        let mut allowed = types(schema);
        if allowed.is_empty() && !words(schema).is_empty() {
            allowed.push("string".into());
        }
        if allowed.is_empty() || allowed.iter().any(|allowed| allowed == kind) {
            return true;
        }
        let expected: Vec<&str> = allowed.iter().map(|kind| in_words(kind)).collect();
        let message = format!(
            "`{}` is {found}; expected {}",
            path.join("."),
            expected.join(" or ")
        );
        self.error(span, "wrong-type", message, None);
        false
    }

    fn word(&mut self, text: &str, schema: &Json, path: &[String], span: Range<usize>) {
        let allowed = words(schema);
        if !allowed.is_empty() && !allowed.iter().any(|word| word == text) {
            let names: Vec<&str> = allowed.iter().map(String::as_str).collect();
            let help = match nearest(text, &names) {
                Some(near) => format!("did you mean \"{near}\"? allowed: {}", names.join(", ")),
                None => format!("allowed: {}", names.join(", ")),
            };
            self.error(
                span,
                "wrong-value",
                format!("`{}` cannot be \"{text}\"", path.join(".")),
                Some(help),
            );
        } else if matches!(schema["format"].as_str(), Some("ip" | "ipv4" | "ipv6"))
            && text.parse::<std::net::IpAddr>().is_err()
        {
            let help = "for example \"127.0.0.1\" or \"::1\"".to_owned();
            self.error(
                span,
                "wrong-value",
                format!("\"{text}\" is no IP address"),
                Some(help),
            );
        }
    }

    fn range(&mut self, number: f64, shown: &str, schema: &Json, path: &[String], span: Range<usize>) {
        let (minimum, maximum) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        let low = minimum.is_some_and(|minimum| number < minimum);
        let high = maximum.is_some_and(|maximum| number > maximum);
        if low || high {
            let expected = match (minimum, maximum) {
                (Some(minimum), Some(maximum)) => format!("{minimum} to {maximum}"),
                (Some(minimum), None) => format!("{minimum} or more"),
                (_, Some(maximum)) => format!("{maximum} or less"),
                _ => String::new(),
            };
            let message = format!("`{}` cannot be {shown}; expected {expected}", path.join("."));
            self.error(span, "out-of-range", message, None);
        }
    }
}

/// The most similar name, when one is similar enough.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |candidate: &str| strsim::jaro_winkler(&name.to_ascii_lowercase(), candidate);
    let best = known
        .iter()
        .map(|candidate| (score(candidate), *candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.8).then_some(best.1)
}

fn in_words(kind: &str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "a table",
        _ => "another type",
    }
}

fn first_sentence(text: &str) -> String {
    text.split(". ").next().unwrap_or(text).replace('\n', " ")
}
