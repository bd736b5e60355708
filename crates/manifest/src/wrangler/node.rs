//! A document with the place of each of its values, whichever syntax it was written in.

use crate::diagnostics::{Diagnostic, Source};
use jsonc_parser::ast::Value as Jsonc;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::Value as Json;
use std::ops::Range;
use toml_edit::{Document, Item, TableLike, Value as Toml};

/// Brackets may nest so deep: what reads them recurses.
const MAX_DEPTH: usize = 64;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What it is; only what the reader tells apart.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Object(Vec<Property>),
    Array(Vec<Node>),
    Text(String),
    /// A number, a boolean, null.
    Other(Json),
}

/// One key of an object.
#[derive(Debug, Clone)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    fn new(span: Range<usize>, value: Value) -> Self {
        Self { span, value }
    }

    /// The value alone.
    pub(super) fn json(&self) -> Json {
        match &self.value {
            Value::Object(properties) => properties
                .iter()
                .map(|property| (property.name.clone(), property.value.json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(elements) => elements.iter().map(Self::json).collect(),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Other(value) => value.clone(),
        }
    }
}

/// JSON with comments and trailing commas.
pub(super) fn jsonc(source: &Source, errors: &mut Vec<Diagnostic>) -> Option<Node> {
    if let Some(at) = too_deep(&source.text) {
        let message = format!("brackets nest deeper than {MAX_DEPTH}");
        errors.push(source.error(at..at + 1, "syntax", message, None));
        return None;
    }
    match parse_to_ast(&source.text, &CollectOptions::default(), &ParseOptions::default()) {
        Ok(parsed) => match parsed.value {
            Some(value) => Some(of_jsonc(value)),
            None => {
                errors.push(source.error(0..0, "wrong-type", "expected an object `{…}`", None));
                None
            }
        },
        Err(error) => {
            let range = error.range();
            errors.push(source.error(range.start..range.end, "syntax", error.kind().to_string(), None));
            None
        }
    }
}

/// Where brackets nest too deep, strings and comments counted in: a bracket in them is rare, 64 of them absurd.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

fn of_jsonc(value: Jsonc<'_>) -> Node {
    let range = value.range();
    let span = range.start..range.end;
    let value = match value {
        Jsonc::StringLit(text) => Value::Text(text.value.into_owned()),
        Jsonc::Array(array) => Value::Array(array.elements.into_iter().map(of_jsonc).collect()),
        Jsonc::Object(object) => Value::Object(
            object
                .properties
                .into_iter()
                .map(|property| {
                    let range = property.name.range();
                    Property {
                        span: range.start..range.end,
                        name: property.name.into_string(),
                        value: of_jsonc(property.value),
                    }
                })
                .collect(),
        ),
        other => Value::Other(Json::from(other)),
    };
    Node::new(span, value)
}

/// TOML.
pub(super) fn toml(source: &Source, errors: &mut Vec<Diagnostic>) -> Option<Node> {
    match Document::parse(source.text.to_string()) {
        Ok(document) => Some(Node::new(0..0, of_table(document.as_table()))),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            errors.push(source.error(span, "syntax", error.message().to_owned(), None));
            None
        }
    }
}

fn of_table(table: &dyn TableLike) -> Value {
    let properties = table.iter().filter_map(|(name, item)| {
        let span = table.key(name).and_then(toml_edit::Key::span);
        Some(Property {
            name: name.to_owned(),
            span: span.or_else(|| item.span()).unwrap_or(0..0),
            value: of_item(item)?,
        })
    });
    Value::Object(properties.collect())
}

fn of_item(item: &Item) -> Option<Node> {
    let span = item.span().unwrap_or(0..0);
    match item {
        Item::None => None,
        Item::Value(value) => Some(of_toml(value)),
        Item::Table(table) => Some(Node::new(span, of_table(table))),
        Item::ArrayOfTables(tables) => {
            let elements = tables
                .iter()
                .map(|table| Node::new(table.span().unwrap_or(0..0), of_table(table)));
            Some(Node::new(span, Value::Array(elements.collect())))
        }
    }
}

fn of_toml(value: &Toml) -> Node {
    let span = value.span().unwrap_or(0..0);
    let value = match value {
        Toml::String(text) => Value::Text(text.value().clone()),
        Toml::Array(array) => Value::Array(array.iter().map(of_toml).collect()),
        Toml::InlineTable(table) => of_table(table),
        Toml::Integer(number) => Value::Other((*number.value()).into()),
        Toml::Float(number) => Value::Other((*number.value()).into()),
        Toml::Boolean(truth) => Value::Other((*truth.value()).into()),
        // JSON has no dates; wrangler makes them strings too.
        Toml::Datetime(date) => Value::Text(date.value().to_string()),
    };
    Node::new(span, value)
}
