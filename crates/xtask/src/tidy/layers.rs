//! Dependencies point downwards only, and crates of one layer never import each other.

use super::{Finding, Tree};

/// The layers of the workspace, lowest first: `ARCHITECTURE.md` says what each is.
const LAYERS: &[&[&str]] = &[
    &["model", "waf", "workflow", "http-cache"],
    &["manifest", "host", "store", "plan"],
    &[
        "edge", "dns", "postgres", "redis", "storage", "secrets", "release", "tls",
    ],
    &[
        "workers", "auth", "webhooks", "pipeline", "signal", "alert", "recovery", "cloud",
    ],
    &["control", "dataplane"],
    &["console"],
    &["astraler"],
];
/// Not part of the product: they may use anything, and others use them in tests only.
const DEVELOPMENT: &[&str] = &["testkit", "xtask"];

pub(super) fn dependencies_point_downwards(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, manifest) in tree.crates() {
        let place = format!("crates/{name}/Cargo.toml");
        let layer = layer(name);
        if layer.is_none() && !DEVELOPMENT.contains(&name) {
            findings.push(format!(
                "{place}: `{name}` has no layer: add it to LAYERS in xtask and to ARCHITECTURE.md"
            ));
            continue;
        }
        let manifest: toml::Table = match manifest.parse() {
            Ok(table) => table,
            Err(error) => {
                findings.push(format!("{place}: {error}"));
                continue;
            }
        };
        for (section, needed) in ours(&manifest) {
            let development = section.contains("dev-dependencies");
            let allowed = match self::layer(&needed) {
                // A test may look at its own layer, never above.
                Some(below) => layer.is_none_or(|own| below < own || (development && below == own)),
                None => layer.is_none() || (development && DEVELOPMENT.contains(&needed.as_str())),
            };
            if !allowed {
                findings.push(format!(
                    "{place}: [{section}] names `{needed}`, which is not in a layer below `{name}`: \
                     what both need goes down into a lower crate, as a noun or a small trait"
                ));
            }
        }
    }
    findings
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// The crates of this workspace that a manifest names, without their prefix, by section; also those under
/// `[target.…]`.
fn ours(manifest: &toml::Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for name in manifest
            .get(section)
            .and_then(toml::Value::as_table)
            .into_iter()
            .flat_map(toml::Table::keys)
        {
            let own = name
                .strip_prefix("astraler-")
                .or_else(|| (name == "astraler" || name == "xtask").then_some(name.as_str()));
            found.extend(own.map(|own| (section.to_owned(), own.to_owned())));
        }
    }
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    for (target, table) in targets.into_iter().flatten() {
        let nested = table.as_table().map(ours).unwrap_or_default();
        found.extend(
            nested
                .into_iter()
                .map(|(section, name)| (format!("target.{target}.{section}"), name)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    fn findings(name: &str, manifest: &str) -> Vec<Finding> {
        dependencies_point_downwards(&tree(&[(&format!("crates/{name}/Cargo.toml"), manifest)]))
    }

    #[test]
    fn only_lower_layers_may_be_named() {
        let names = |name: &str, section: &str, needed: &str| {
            !findings(name, &format!("[{section}]\n{needed}.workspace = true\n")).is_empty()
        };
        assert!(!names("control", "dependencies", "astraler-workers"));
        assert!(names("workers", "dependencies", "astraler-control"), "upwards");
        assert!(names("host", "dependencies", "astraler-store"), "the same layer");
        assert!(
            !names("redis", "dev-dependencies", "astraler-storage"),
            "a test may use its own layer"
        );
        assert!(
            names("redis", "dev-dependencies", "astraler-control"),
            "but not a higher one"
        );
        assert!(
            names("redis", "dependencies", "astraler-testkit"),
            "the kit is for tests"
        );
        assert!(!names("redis", "dev-dependencies", "astraler-testkit"));
        assert!(!names("testkit", "dependencies", "astraler-control"));
        assert!(names(
            "edge",
            "target.'cfg(unix)'.dependencies",
            "astraler-storage"
        ));
        assert!(names("edge", "build-dependencies", "astraler"));
        assert!(names("utils", "dependencies", "serde"), "no layer");
        assert_eq!(
            findings("model", "[dependencies]\nserde = '1'\n"),
            Vec::<Finding>::new()
        );
    }
}
