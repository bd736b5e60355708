//! `wrangler.jsonc`, `wrangler.json` or `wrangler.toml` beside a worker: read as it stands, never written.
//! <https://developers.cloudflare.com/workers/wrangler/configuration/>

mod node;

use crate::diagnostics::{Diagnostic, Diagnostics, Source};
use crate::validate::nearest;
use node::{Node, Property, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::ops::Range;

/// Keys that are read.
const EFFECTIVE: &[&str] = &[
    "name",
    "main",
    "compatibility_date",
    "compatibility_flags",
    "vars",
    "r2_buckets",
    "hyperdrive",
    "env",
];

/// Keys that matter to Cloudflare's own deploy only.
const CLOUDFLARE_ONLY: &[&str] = &[
    "$schema",
    "account_id",
    "routes",
    "route",
    "workers_dev",
    "preview_urls",
    "observability",
    "placement",
    "dev",
    "keep_vars",
    "logpush",
    "upload_source_maps",
    "send_metrics",
    "minify",
    "find_additional_modules",
    "rules",
];

/// Keys that change what the worker can do, and are not there yet.
const PLANNED: &[&str] = &[
    "kv_namespaces",
    "queues",
    "durable_objects",
    "migrations",
    "d1_databases",
    "triggers",
    "services",
    "ratelimits",
    "assets",
    "tail_consumers",
    "limits",
    "ai",
    "browser",
    "vectorize",
    "workflows",
    "containers",
    "send_email",
    "analytics_engine_datasets",
    "dispatch_namespaces",
    "mtls_certificates",
    "unsafe",
    "version_metadata",
    "build",
    "define",
    "alias",
    "no_bundle",
    "base_dir",
    "secrets_store_secrets",
    "pipelines",
    "images",
    "wasm_modules",
    "text_blobs",
    "data_blobs",
    "site",
    "tsconfig",
    "jsx_factory",
    "jsx_fragment",
    "preserve_file_names",
];

/// What is read of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wrangler {
    pub(crate) main: Option<(String, Range<usize>)>,
    pub(crate) compatibility_date: String,
    pub(crate) compatibility_flags: Vec<String>,
    pub(crate) vars: BTreeMap<String, Json>,
    pub(crate) environment_vars: BTreeMap<String, BTreeMap<String, Json>>,
    pub(crate) r2: Vec<(String, String)>,
    pub(crate) hyperdrive: Vec<String>,
}

/// Checks wrangler's file alone; its name says in which syntax it is. Pure; never panics.
pub fn check_wrangler(file_name: &str, text: &str) -> Result<(), Diagnostics> {
    let mut errors = Vec::new();
    read(&Source::new(file_name, text), &mut errors);
    Diagnostics::of(errors).map_or(Ok(()), Err)
}

/// Reads wrangler's file; its name says in which syntax it is.
pub(crate) fn read(source: &Source, errors: &mut Vec<Diagnostic>) -> Wrangler {
    let parsed = if source.name.ends_with(".toml") {
        node::toml(source, errors)
    } else {
        node::jsonc(source, errors)
    };
    match parsed {
        None => Wrangler::default(),
        Some(Node {
            value: Value::Object(properties),
            span,
        }) => Reader { source, errors }.root(&properties, &span),
        Some(_) => {
            errors.push(source.error(0..1, "wrong-type", "expected an object `{…}`", None));
            Wrangler::default()
        }
    }
}

struct Reader<'a> {
    source: &'a Source,
    errors: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&mut self, span: Range<usize>, code: &'static str, message: String, help: Option<String>) {
        let diagnostic = self.source.error(span, code, message, help);
        self.errors.push(diagnostic);
    }

    fn root(&mut self, properties: &[Property], at: &Range<usize>) -> Wrangler {
        let mut wrangler = Wrangler::default();
        self.keys(properties, "");
        for property in properties {
            let value = &property.value;
            match property.name.as_str() {
                "main" => wrangler.main = self.text(value, "main").map(|text| (text, value.span.clone())),
                "name" => drop(self.text(value, "name")),
                "compatibility_date" => {
                    wrangler.compatibility_date = self.date(value);
                }
                "compatibility_flags" => {
                    wrangler.compatibility_flags = self.texts(value, "compatibility_flags");
                }
                "vars" => wrangler.vars = self.vars(value, "vars"),
                "r2_buckets" => {
                    wrangler.r2 = self.bindings(value, "r2_buckets", &["bucket_name"]);
                }
                "hyperdrive" => {
                    wrangler.hyperdrive = self
                        .bindings(value, "hyperdrive", &[])
                        .into_iter()
                        .map(|(binding, _)| binding)
                        .collect();
                }
                "env" => wrangler.environment_vars = self.environments(value),
                _ => {}
            }
        }
        for required in ["main", "compatibility_date"] {
            if !properties.iter().any(|property| property.name == required) {
                let help = match required {
                    "main" => "the entry of the worker, for example \"src/index.ts\"",
                    _ => "a date, for example \"2026-10-01\"",
                };
                self.error(
                    at.start..at.start + 1,
                    "missing-key",
                    format!("`{required}` is missing"),
                    Some(help.into()),
                );
            }
        }
        wrangler
    }

    fn keys(&mut self, properties: &[Property], path: &str) {
        for property in properties {
            let name = property.name.as_str();
            if EFFECTIVE.contains(&name) || CLOUDFLARE_ONLY.contains(&name) {
                continue;
            }
            let at = property.span.clone();
            if PLANNED.contains(&name) {
                let help = "remove it: the worker would not get it".to_owned();
                self.error(
                    at,
                    "not-supported-yet",
                    format!("`{path}{name}` is not supported yet"),
                    Some(help),
                );
            } else {
                let known: Vec<&str> = EFFECTIVE
                    .iter()
                    .chain(CLOUDFLARE_ONLY)
                    .chain(PLANNED)
                    .copied()
                    .collect();
                let help = nearest(name, &known).map(|near| format!("did you mean `{near}`?"));
                self.error(at, "unknown-key", format!("unknown key `{path}{name}`"), help);
            }
        }
    }

    fn environments(&mut self, value: &Node) -> BTreeMap<String, BTreeMap<String, Json>> {
        let mut all = BTreeMap::new();
        let Some(object) = self.object(value, "env") else {
            return all;
        };
        for environment in object {
            let name = environment.name.as_str().to_owned();
            let path = format!("env.{name}");
            let Some(settings) = self.object(&environment.value, &path) else {
                continue;
            };
            self.keys(settings, &format!("{path}."));
            for property in settings {
                match property.name.as_str() {
                    "vars" => {
                        let vars = self.vars(&property.value, &format!("{path}.vars"));
                        all.insert(name.clone(), vars);
                    }
                    key if EFFECTIVE.contains(&key) && key != "name" => {
                        let message = format!("`{path}.{key}` is not supported yet");
                        let help =
                            "every environment runs the same code and bindings: put it at the top".to_owned();
                        self.error(property.span.clone(), "not-supported-yet", message, Some(help));
                    }
                    _ => {}
                }
            }
        }
        all
    }

    fn object<'v>(&mut self, node: &'v Node, path: &str) -> Option<&'v [Property]> {
        if let Value::Object(properties) = &node.value {
            return Some(properties);
        }
        self.error(
            node.span.clone(),
            "wrong-type",
            format!("`{path}` must be an object"),
            None,
        );
        None
    }

    fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        if let Value::Text(text) = &node.value {
            return Some(text.clone());
        }
        self.error(
            node.span.clone(),
            "wrong-type",
            format!("`{path}` must be a string"),
            None,
        );
        None
    }

    fn texts(&mut self, node: &Node, path: &str) -> Vec<String> {
        let Value::Array(elements) = &node.value else {
            self.error(
                node.span.clone(),
                "wrong-type",
                format!("`{path}` must be an array of strings"),
                None,
            );
            return vec![];
        };
        elements
            .iter()
            .filter_map(|element| self.text(element, path))
            .collect()
    }

    fn date(&mut self, node: &Node) -> String {
        let text = self.text(node, "compatibility_date").unwrap_or_default();
        let parts: Vec<&str> = text.split('-').collect();
        let digits =
            |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
        let valid = matches!(parts.as_slice(), [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2));
        if !valid && matches!(node.value, Value::Text(_)) {
            let help = "for example \"2026-10-01\"".to_owned();
            self.error(
                node.span.clone(),
                "wrong-value",
                format!("\"{text}\" is no date"),
                Some(help),
            );
        }
        text
    }

    fn vars(&mut self, node: &Node, path: &str) -> BTreeMap<String, Json> {
        let Some(object) = self.object(node, path) else {
            return BTreeMap::new();
        };
        object
            .iter()
            .map(|property| (property.name.clone(), property.value.json()))
            .collect()
    }

    /// `[{binding, …}]`; `named` is the key whose value goes with the binding.
    fn bindings(&mut self, node: &Node, path: &str, named: &[&str]) -> Vec<(String, String)> {
        let Value::Array(elements) = &node.value else {
            self.error(
                node.span.clone(),
                "wrong-type",
                format!("`{path}` must be an array of bindings"),
                None,
            );
            return vec![];
        };
        let mut found = Vec::new();
        for element in elements {
            let Some(object) = self.object(element, path) else {
                continue;
            };
            let mut read = |key: &str| {
                let property = object.iter().find(|property| property.name == key);
                match property {
                    Some(property) => self.text(&property.value, &format!("{path}.{key}")),
                    None => {
                        self.error(
                            element.span.clone(),
                            "missing-key",
                            format!("`{path}` needs a `{key}`"),
                            None,
                        );
                        None
                    }
                }
            };
            let binding = read("binding");
            let name = named.first().map_or(Some(String::new()), |key| read(key));
            if let (Some(binding), Some(name)) = (binding, name) {
                found.push((binding, name));
            }
        }
        found
    }
}
