//! The file of an edge that stands alone: `[edge]` as `astraler.toml` has it, and sites with their origins.

use crate::config::Edge;
use crate::diagnostics::{Diagnostic, Diagnostics, Source};
use crate::dns;
use crate::lists;
use crate::load::{self, text};
use crate::rules;
use crate::validate;
use astraler_model::{DnsName, Origin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use toml_edit::{Item, TableLike};

/// What `astraler edge --config FILE` reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Standalone {
    /// The same as in `astraler.toml`.
    pub edge: Edge,
    /// Who answers for which hosts.
    pub sites: Vec<Site>,
    /// The domain whose zone is served, as `[edge.dns]` says; without it no DNS is.
    pub domain: Option<String>,
    /// Addresses for https, `ADDRESS:PORT`.
    #[schemars(with = "Vec<String>")]
    pub https: Vec<SocketAddr>,
    /// Folder of the local CA, which vouches for private names without a `certificate`, and of what a CA of others has
    /// issued; one of the user's own when absent.
    pub state_folder: Option<PathBuf>,
}

/// Hosts and who answers for them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Host names; a first label `*` stands for any one label. Absent: every host that no other site names.
    pub hosts: Vec<String>,
    /// Where requests go: `http://HOST:PORT` or `unix:/PATH`.
    #[schemars(with = "Option<String>")]
    pub origin: Option<Origin>,
    /// Other origins for paths and what is below them; the longest wins.
    #[schemars(with = "BTreeMap<String, String>")]
    pub paths: BTreeMap<String, Origin>,
    /// Folder of files that answer where no origin does.
    pub root: Option<PathBuf>,
    /// PEM file with the certificate of these hosts and its chain; with its private key, too, where `key` is absent.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
    /// Whether plain HTTP for these hosts leads to https.
    pub redirect_to_https: bool,
}

/// Reads the file of an edge that stands alone. Pure; never panics.
pub fn parse_standalone(file_name: &str, text: &str) -> Result<Standalone, Diagnostics> {
    read(&Source::new(file_name, text), None)
}

/// Reads it from the disk.
pub fn load_standalone(path: &Path) -> Result<Standalone, Diagnostics> {
    let mut errors = Vec::new();
    match load::read(path, &path.display().to_string(), &mut errors) {
        Some(source) => {
            let base = path.parent().map(|folder| lists::Base {
                folder,
                is_repository: false,
            });
            read(&source, base)
        }
        None => load::finish(None, errors),
    }
}

fn read(source: &Source, base: Option<lists::Base<'_>>) -> Result<Standalone, Diagnostics> {
    let mut errors = Vec::new();
    let mut lists = lists::Read::default();
    let mut read: Option<Standalone> = load::toml(source, &mut errors, |root, errors| {
        lists = lists::read(source, root, base, errors);
        validate::document(source, &standalone_schema(), root, errors);
        rules::check(source, root, errors);
        rules::check_waf(source, root, false, &lists.lists, errors);
        check_edge(source, root, errors);
        dns::check(source, root, errors);
        check_sites(source, root, errors);
    });
    if let Some(read) = &mut read {
        read.edge.take_lists(lists);
    }
    load::finish(read, errors)
}

/// The JSON Schema of that file.
pub fn standalone_schema() -> Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA
        .get_or_init(|| schemars::schema_for!(Standalone).to_value())
        .clone()
}

/// Parts of `[edge]` that only a platform has.
fn check_edge(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let domain = text(root, "domain");
    if let Some((name, span)) = &domain
        && let Err(wrong) = name.parse::<DnsName>()
    {
        let help = Some("for example domain = \"shop.com\"".to_owned());
        errors.push(source.error(span.clone(), "wrong-value", wrong.to_string(), help));
    }
    let Some(edge) = root.get("edge").and_then(Item::as_table_like) else {
        return;
    };
    let mut refuse = |table: &dyn TableLike, path: &str, key: &str, help: &str| {
        if let Some(span) = table.key(key).and_then(toml_edit::Key::span) {
            let message = format!("`{path}{key}` is of a platform; an edge that stands alone does without");
            errors.push(source.error(span, "not-supported-here", message, Some(help.to_owned())));
        }
    };
    refuse(
        edge,
        "edge.",
        "https_port",
        "write the addresses: https = [\"0.0.0.0:443\"], above the first table",
    );
    let dns = edge.get("dns").and_then(Item::as_table_like);
    let needs_domain =
        || Some("say whose zone is served: domain = \"shop.com\", above the first table".to_owned());
    if let (None, Some(span)) = (&domain, dns.and(edge.key("dns")).and_then(toml_edit::Key::span)) {
        let message = "`edge.dns` without a domain";
        errors.push(source.error(span, "missing-key", message, needs_domain()));
    }
    let is_off = dns.and_then(|dns| dns.get("port")?.as_integer()) == Some(0);
    let tls = edge.get("tls").and_then(Item::as_table_like);
    if let Some((_, span)) = tls
        .and_then(|tls| text(tls, "acme_challenge"))
        .filter(|(challenge, _)| *challenge == "dns-01" && (domain.is_none() || is_off))
    {
        let message = "dns-01 without a zone that is served here";
        errors.push(source.error(span, "missing-key", message, needs_domain()));
    }
}

fn check_sites(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let https = root.get("https").and_then(Item::as_array);
    for address in https.into_iter().flatten() {
        if address
            .as_str()
            .is_some_and(|text| text.parse::<SocketAddr>().is_err())
        {
            let help = Some("an address and a port, for example \"0.0.0.0:443\"".to_owned());
            let span = address.span().unwrap_or(0..0);
            errors.push(source.error(span, "wrong-value", "no address with a port".to_owned(), help));
        }
    }
    let sites = root.get("sites").and_then(Item::as_array_of_tables);
    for site in sites.into_iter().flatten() {
        let at = site.span().unwrap_or(0..0);
        if let Some(span) = site.key("key").and_then(toml_edit::Key::span)
            && !site.contains_key("certificate")
        {
            let message = "`key` without a certificate";
            errors.push(source.error(span, "missing-key", message, None));
        }
        if !["origin", "paths", "root"]
            .iter()
            .any(|key| site.contains_key(key))
        {
            let help = "origin = \"http://127.0.0.1:8000\"".to_owned();
            errors.push(source.error(
                at,
                "missing-key",
                "a site without an origin, paths or root",
                Some(help),
            ));
        }
        check_origin(source, site, "origin", errors);
        let paths = site.get("paths").and_then(Item::as_table_like);
        for (paths, (path, _)) in paths
            .into_iter()
            .flat_map(|paths| paths.iter().map(move |key| (paths, key)))
        {
            if !path.starts_with('/') {
                let span = paths.key(path).and_then(toml_edit::Key::span).unwrap_or(0..0);
                let help = Some("it begins with `/`".to_owned());
                errors.push(source.error(span, "wrong-value", format!("\"{path}\" is no path"), help));
            }
            check_origin(source, paths, path, errors);
        }
    }
}

fn check_origin(source: &Source, table: &dyn TableLike, key: &str, errors: &mut Vec<Diagnostic>) {
    if let Some((origin, span)) = text(table, key)
        && let Err(error) = origin.parse::<Origin>()
    {
        errors.push(source.error(span, "wrong-value", error.to_string(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_platform_has_is_refused() {
        let text = "https = [\"127.0.0.1:1\"]\nstate_folder = \"ca\"\n[edge]\nhttps_port = 1\n[edge.tls]\nmin_version = \"1.3\"\nacme = true\nhttps_only = \"all\"\n[edge.dns]\nport = 53\n";
        let errors = parse_standalone("edge.toml", text).unwrap_err();
        let mut found: Vec<_> = errors.iter().map(|error| (error.line, error.code)).collect();
        found.sort_unstable();
        assert_eq!(found, [(4, "not-supported-here"), (9, "missing-key")], "{errors}");

        let text = "domain = \"shop.com\"\n[edge.tls]\nacme = true\nacme_challenge = \"dns-01\"\n[edge.dns]\nport = 53\nrecords = [\"www BAD app\"]\n";
        let errors = parse_standalone("edge.toml", text).unwrap_err();
        assert_eq!(
            errors.iter().map(|error| error.line).collect::<Vec<_>>(),
            [7],
            "{errors}"
        );
        let errors = parse_standalone("edge.toml", "domain = \"a..b\"\n").unwrap_err();
        assert_eq!(
            errors.iter().map(|error| error.line).collect::<Vec<_>>(),
            [1],
            "{errors}"
        );
        let errors = parse_standalone("edge.toml", &text.replace("domain", "#")).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| (error.line, error.code)).collect();
        assert_eq!(found, [(4, "missing-key"), (5, "missing-key")], "{errors}");
    }

    #[test]
    fn a_file_is_read_and_each_error_has_its_place() {
        let read = parse_standalone(
            "edge.toml",
            "[edge]\nhttp_port = 8080\n[[sites]]\nhosts = [\"a.test\"]\norigin = \"http://127.0.0.1:8000\"\npaths = { \"/api\" = \"unix:/run/api.sock\" }\n[[sites]]\nroot = \"public\"\n",
        )
        .unwrap();
        assert_eq!(read.edge.http_port, 8080);
        assert_eq!(read.sites[0].origin, "127.0.0.1:8000".parse().ok());
        assert_eq!(read.sites[0].paths["/api"], Origin::Unix("/run/api.sock".into()));
        assert_eq!(read.sites[1].root, Some("public".into()));

        let text = "[edge]\nhttp_prt = 1\n[[sites]]\nhosts = []\n[[sites]]\norigin = \"ftp://a\"\n[sites.paths]\napi = \"http://b\"\n";
        let errors = parse_standalone("edge.toml", text).unwrap_err().to_json();
        let found: Vec<_> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (error["line"].as_u64().unwrap(), error["code"].as_str().unwrap()))
            .collect();
        let wanted = [
            (2, "unknown-key"),
            (3, "missing-key"),
            (6, "wrong-value"),
            (8, "wrong-value"),
        ];
        assert_eq!(found, wanted, "{errors}");
    }
}
