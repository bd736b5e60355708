//! Reading: the one place that opens the application's configuration files.

use crate::config::Config;
use crate::diagnostics::{Diagnostic, Diagnostics, Source};
use crate::dns;
use crate::schema::schema;
use crate::validate;
use crate::wrangler::{self, Wrangler};
use crate::{addresses, lists, rules};
use astraler_model::Environment;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item, TableLike};

/// The manifest's file name.
const FILE: &str = "astraler.toml";

/// A configuration file is never larger than this.
const MAX_BYTES: u64 = 4 << 20;

/// Everything that an application says of itself, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its folder.
    pub root: PathBuf,
    /// `astraler.toml`.
    pub config: Config,
    /// Its workers, by name.
    pub workers: Vec<Worker>,
    /// Whether there are workflows in `.github/workflows`.
    pub has_workflows: bool,
}

/// One worker: the manifest's words and wrangler's. Serialised, it is what a release keeps of it: where its files stood
/// is left out, because the same sources give the same release in every folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// The key under `[workers]`.
    pub name: String,
    /// Its folder, absolute.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Its entry, absolute.
    #[serde(skip)]
    pub main: PathBuf,
    /// Path prefixes that it answers: `/api` for `/api/*`, `/` for everything.
    pub routes: Vec<String>,
    /// `YYYY-MM-DD`.
    pub compatibility_date: String,
    /// Flags.
    pub compatibility_flags: Vec<String>,
    /// R2 bindings.
    pub r2: Vec<R2Binding>,
    /// Hyperdrive bindings.
    pub hyperdrive: Vec<HyperdriveBinding>,
    /// wrangler's file.
    #[serde(skip)]
    pub config_file: PathBuf,
    /// Memory of its process.
    pub memory_bytes: Option<u64>,
    vars: BTreeMap<String, Json>,
    wrangler_environments: BTreeMap<String, BTreeMap<String, Json>>,
    environments: BTreeMap<String, BTreeMap<String, String>>,
}

/// A bucket for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct R2Binding {
    /// Name in the code.
    pub binding: String,
    /// Bucket.
    pub bucket: String,
}

/// A database for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HyperdriveBinding {
    /// Name in the code.
    pub binding: String,
}

impl Worker {
    /// Variables in an environment: wrangler's, wrangler's for the environment, the manifest's for the environment;
    /// the later wins.
    pub fn vars_for(&self, environment: Environment) -> BTreeMap<String, Json> {
        let name = kind(environment);
        let mut vars = self.vars.clone();
        vars.extend(self.wrangler_environments.get(name).cloned().unwrap_or_default());
        let own = self.environments.get(name).into_iter().flatten();
        vars.extend(own.map(|(key, value)| (key.clone(), Json::from(value.clone()))));
        vars
    }
}

fn kind(environment: Environment) -> &'static str {
    match environment {
        Environment::Development => "development",
        Environment::Preview(_) => "preview",
        Environment::Staging => "staging",
        Environment::Production => "production",
    }
}

/// The nearest folder, from `start` upwards, with an `astraler.toml`.
pub fn find_root(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|folder| folder.join(FILE).is_file())
        .map(Path::to_owned)
}

/// Reads `astraler.toml` alone. Pure; never panics.
pub fn parse(file_name: &str, text: &str) -> Result<Config, Diagnostics> {
    let source = Source::new(file_name, text);
    let mut errors = Vec::new();
    let config = document(&source, &mut errors, None, |_, _| {});
    finish(config, errors)
}

/// Reads the manifest of a folder and each worker's configuration.
pub fn load(dir: &Path) -> Result<Manifest, Diagnostics> {
    let path = dir.join(FILE);
    let mut errors = Vec::new();
    let Some(source) = read(&path, FILE, &mut errors) else {
        return finish(None, errors);
    };
    let mut workers = Vec::new();
    let base = lists::Base {
        folder: dir,
        is_repository: true,
    };
    let mut config = document(&source, &mut errors, Some(base), |root, errors| {
        workers = read_workers(dir, &source, root, errors);
        check_folders(dir, &source, root, errors);
    });
    if let Some(config) = &mut config {
        let environments: BTreeMap<String, BTreeMap<String, String>> = [
            Environment::Development,
            Environment::Preview(1),
            Environment::Staging,
            Environment::Production,
        ]
        .into_iter()
        .map(|environment| {
            (
                kind(environment).to_owned(),
                config.environments.of(environment).vars.clone(),
            )
        })
        .collect();
        for worker in &mut workers {
            worker.environments.clone_from(&environments);
            worker.memory_bytes = config
                .workers
                .get(&worker.name)
                .and_then(|settings| settings.memory_bytes);
        }
    }
    let manifest = config.map(|config| Manifest {
        root: dir.to_owned(),
        config,
        workers,
        has_workflows: fs::read_dir(dir.join(".github/workflows"))
            .is_ok_and(|mut files| files.next().is_some()),
    });
    finish(manifest, errors)
}

/// A manifest for an existing application, with its choices explained.
pub fn default_toml(name: &str, domain: &str) -> String {
    format!(
        "# `astraler manifest explain KEY` says what a key does. For completion in an editor, write the schema with\n\
         # `astraler manifest schema > astraler.schema.json`, and `#:schema ./astraler.schema.json` as the first line.\n\
         name = {}\n\
         # Production is app.<domain>, staging is staging.<domain>.\n\
         domain = {}\n\
         # The firewall is off until it is asked for: \"detect\" writes down what the OWASP Core Rule Set would refuse\n\
         # (`astraler waf top` lists it), \"block\" refuses it.\n\
         # edge.waf.mode = \"detect\"\n",
        toml_edit::Value::from(name),
        toml_edit::Value::from(domain),
    )
}

pub(crate) fn finish<T>(value: Option<T>, errors: Vec<Diagnostic>) -> Result<T, Diagnostics> {
    match (Diagnostics::of(errors), value) {
        (Some(errors), _) => Err(errors),
        (None, Some(value)) => Ok(value),
        (None, None) => {
            let source = Source::new(FILE, "");
            Err(Diagnostics::one(source.error(
                0..0,
                "invalid",
                "the manifest cannot be read",
                None,
            )))
        }
    }
}

/// Parses, checks against the schema, runs the checks of `more`, and builds the manifest when all that held.
fn document(
    source: &Source,
    errors: &mut Vec<Diagnostic>,
    base: Option<lists::Base<'_>>,
    more: impl FnOnce(&dyn TableLike, &mut Vec<Diagnostic>),
) -> Option<Config> {
    let mut read = lists::Read::default();
    let mut config: Config = toml(source, errors, |root, errors| {
        read = lists::read(source, root, base, errors);
        validate::document(source, &schema(), root, errors);
        check_names(source, root, errors);
        addresses::check(source, root, errors);
        dns::check(source, root, errors);
        rules::check(source, root, errors);
        rules::check_waf(source, root, true, &read.lists, errors);
        rules::check_platform(source, root, errors);
        more(root, errors);
    })?;
    config.edge.take_lists(read);
    Some(config)
}

/// Parses, runs the checks, and builds the value when they held.
pub(crate) fn toml<T: serde::de::DeserializeOwned>(
    source: &Source,
    errors: &mut Vec<Diagnostic>,
    check: impl FnOnce(&dyn TableLike, &mut Vec<Diagnostic>),
) -> Option<T> {
    let document = match Document::parse(source.text.to_string()) {
        Ok(document) => document,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            errors.push(source.error(span, "syntax", error.message().to_owned(), None));
            return None;
        }
    };
    let root = document.as_table();
    check(root, errors);
    if !errors.is_empty() {
        return None;
    }
    match toml_edit::de::from_str(&source.text) {
        Ok(config) => Some(config),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            errors.push(source.error(span, "invalid", error.message().to_owned(), None));
            None
        }
    }
}

fn check_names(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    if let Some((name, span)) = text(root, "name")
        && !is_name(name)
    {
        let help = "1 to 40 lower-case letters, digits and `-`, beginning with a letter".to_owned();
        errors.push(source.error(
            span,
            "wrong-value",
            format!("\"{name}\" cannot name an application"),
            Some(help),
        ));
    }
    if let Some((domain, span)) = text(root, "domain")
        && !is_domain(domain)
    {
        let help =
            "for example \"shop.example\": labels of letters, digits and `-`, joined by dots".to_owned();
        errors.push(source.error(
            span,
            "wrong-value",
            format!("\"{domain}\" is no domain name"),
            Some(help),
        ));
    }
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, worker, at) in workers(root) {
        if !is_name(name) {
            let help = "1 to 40 lower-case letters, digits and `-`, beginning with a letter".to_owned();
            errors.push(source.error(
                at,
                "wrong-value",
                format!("\"{name}\" cannot name a worker"),
                Some(help),
            ));
        }
        for (route, span) in routes(worker) {
            let Some(prefix) = prefix(route) else {
                let help =
                    "a path and what is below it, for example \"/api/*\"; \"/*\" is everything".to_owned();
                errors.push(source.error(
                    span,
                    "wrong-value",
                    format!("\"{route}\" is no route"),
                    Some(help),
                ));
                continue;
            };
            if let Some(other) = seen.insert(prefix, name.to_owned()) {
                let message = format!("\"{route}\" is a route of worker `{other}` already");
                errors.push(source.error(span, "duplicate", message, None));
            }
        }
    }
}

fn check_folders(dir: &Path, source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let table = |table: &'_ str| root.get(table).and_then(Item::as_table_like);
    let migrations = table("database").and_then(|table| text(table, "migrations"));
    let waf = table("edge")
        .and_then(|edge| edge.get("waf"))
        .and_then(Item::as_table_like);
    let rules = waf.and_then(|waf| text(waf, "rules"));
    // What is elsewhere on the machine is looked for when it is needed: the manifest may be checked on another one.
    let rules = rules.filter(|(rules, _)| !rules.starts_with('/'));
    for (folder, span) in migrations.into_iter().chain(rules) {
        if dir.join(folder).is_dir() {
            continue;
        }
        errors.push(source.error(
            span,
            "missing-folder",
            format!("there is no folder {folder}"),
            None,
        ));
    }
}

fn read_workers(
    dir: &Path,
    source: &Source,
    root: &dyn TableLike,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Worker> {
    let mut found = Vec::new();
    for (name, settings, _) in workers(root) {
        let Some((path, span)) = text(settings, "path") else {
            continue;
        };
        let directory = dir.join(path);
        // In wrangler's own order.
        let file = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"]
            .iter()
            .map(|file| directory.join(file))
            .find(|file| file.is_file());
        let Some(file) = file else {
            let message = format!("there is no wrangler.jsonc, wrangler.json or wrangler.toml in {path}");
            errors.push(source.error(span, "missing-file", message, Some("every worker has one".into())));
            continue;
        };
        let shown = file.strip_prefix(dir).unwrap_or(&file).display().to_string();
        let Some(config) = read(&file, &shown, errors) else {
            continue;
        };
        let wrangler = wrangler::read(&config, errors);
        found.extend(worker(name, settings, directory, file, &config, wrangler, errors));
    }
    found
}

fn worker(
    name: &str,
    settings: &dyn TableLike,
    directory: PathBuf,
    config_file: PathBuf,
    source: &Source,
    wrangler: Wrangler,
    errors: &mut Vec<Diagnostic>,
) -> Option<Worker> {
    let (main, span) = wrangler.main?;
    let entry = directory.join(&main);
    if !entry.is_file() {
        errors.push(source.error(span, "missing-file", format!("there is no file {main}"), None));
    }
    Some(Worker {
        name: name.to_owned(),
        main: entry,
        routes: routes(settings).filter_map(|(route, _)| prefix(route)).collect(),
        compatibility_date: wrangler.compatibility_date,
        compatibility_flags: wrangler.compatibility_flags,
        r2: wrangler
            .r2
            .into_iter()
            .map(|(binding, bucket)| R2Binding { binding, bucket })
            .collect(),
        hyperdrive: wrangler
            .hyperdrive
            .into_iter()
            .map(|binding| HyperdriveBinding { binding })
            .collect(),
        config_file,
        memory_bytes: None,
        vars: wrangler.vars,
        wrangler_environments: wrangler.environment_vars,
        environments: BTreeMap::new(),
        directory,
    })
}

fn workers(root: &dyn TableLike) -> impl Iterator<Item = (&str, &dyn TableLike, Range<usize>)> {
    let table = root.get("workers").and_then(Item::as_table_like);
    table.into_iter().flat_map(|table| {
        table.iter().filter_map(move |(name, item)| {
            let at = table.key(name).and_then(toml_edit::Key::span).unwrap_or(0..0);
            Some((name, item.as_table_like()?, at))
        })
    })
}

fn routes(worker: &dyn TableLike) -> impl Iterator<Item = (&str, Range<usize>)> {
    let array = worker.get("routes").and_then(Item::as_array);
    array
        .into_iter()
        .flatten()
        .filter_map(|value| Some((value.as_str()?, value.span().unwrap_or(0..0))))
}

pub(crate) fn text<'t>(table: &'t dyn TableLike, key: &str) -> Option<(&'t str, Range<usize>)> {
    let item = table.get(key)?;
    Some((item.as_str()?, item.span().unwrap_or(0..0)))
}

/// `/api/*` and `/api` → `/api`; `/*` → `/`.
fn prefix(route: &str) -> Option<String> {
    let path = route.strip_suffix("/*").unwrap_or(route).trim_end_matches('/');
    let plain = path.is_empty() || path.starts_with('/');
    let visible = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'?' | b'#' | b'%'));
    if !route.starts_with('/') || !plain || !visible || path.contains("//") {
        return None;
    }
    Some(if path.is_empty() {
        "/".to_owned()
    } else {
        path.to_owned()
    })
}

fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= 253 && domain.split('.').all(label)
}

pub(crate) fn read(path: &Path, shown: &str, errors: &mut Vec<Diagnostic>) -> Option<Source> {
    let nowhere = Source::new(shown, "");
    let too_large = fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_BYTES);
    if too_large {
        errors.push(nowhere.error(0..0, "too-large", "the file is larger than 4 MiB", None));
        return None;
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(Source::new(shown, &text)),
        Err(error) => {
            errors.push(nowhere.error(
                0..0,
                "unreadable",
                format!("the file cannot be read: {error}"),
                None,
            ));
            None
        }
    }
}
