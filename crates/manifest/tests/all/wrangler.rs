//! wrangler's own files, in their three syntaxes.

use astraler_manifest::{Diagnostics, Manifest, load};
use astraler_model::Environment;
use serde_json::json;

const MANIFEST: &str =
    "name = \"a\"\ndomain = \"a.example\"\n[workers.api]\npath = \"api\"\nroutes = [\"/api/*\"]\n";

const JSONC: &str = r#"{
  // comments and trailing commas
  "name": "api",
  "main": "index.js",
  "compatibility_date": "2026-10-01",
  "compatibility_flags": ["nodejs_compat"],
  "vars": { "TEXT": "a", "NUMBER": 7, "NESTED": { "list": [1, true, null] } },
  "r2_buckets": [{ "binding": "FILES", "bucket_name": "files" }],
  "hyperdrive": [{ "binding": "DB", "id": "0" }],
  "env": { "staging": { "vars": { "TEXT": "b" } } },
}
"#;

const TOML: &str = r#"name = "api"
main = "index.js"
compatibility_date = "2026-10-01"
compatibility_flags = ["nodejs_compat"]

[vars]
TEXT = "a"
NUMBER = 7
NESTED = { list = [1, true] }

[[r2_buckets]]
binding = "FILES"
bucket_name = "files"

[[hyperdrive]]
binding = "DB"
id = "0"

[env.staging.vars]
TEXT = "b"
"#;

fn application(files: &[(&str, &str)]) -> Result<Manifest, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    crate::write(&folder.path().join("astraler.toml"), MANIFEST);
    crate::write(&folder.path().join("api/index.js"), "export default {};\n");
    crate::write(&folder.path().join("migrations/0001_a.sql"), "");
    for (name, text) in files {
        crate::write(&folder.path().join("api").join(name), text);
    }
    load(folder.path())
}

#[test]
fn the_three_syntaxes_say_the_same() {
    for (name, text) in [
        ("wrangler.jsonc", JSONC),
        ("wrangler.json", JSONC),
        ("wrangler.toml", TOML),
    ] {
        let manifest = application(&[(name, text)]).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let worker = &manifest.workers[0];
        assert_eq!(
            (worker.name.as_str(), worker.routes.as_slice()),
            ("api", &["/api".to_owned()][..]),
            "{name}"
        );
        assert!(worker.main.ends_with("api/index.js"), "{name}");
        assert_eq!(worker.compatibility_date, "2026-10-01", "{name}");
        assert_eq!(worker.compatibility_flags, ["nodejs_compat"], "{name}");
        let r2 = &worker.r2[0];
        assert_eq!(
            (r2.binding.as_str(), r2.bucket.as_str()),
            ("FILES", "files"),
            "{name}"
        );
        assert_eq!(worker.hyperdrive[0].binding, "DB", "{name}");
        let development = worker.vars_for(Environment::Development);
        assert_eq!(development["TEXT"], json!("a"), "{name}");
        assert_eq!(development["NUMBER"], json!(7), "{name}");
        assert_eq!(development["NESTED"]["list"][1], json!(true), "{name}");
        assert_eq!(
            worker.vars_for(Environment::Staging)["TEXT"],
            json!("b"),
            "{name}"
        );
    }
}

#[test]
fn of_several_files_wranglers_own_order_decides() {
    let other = JSONC.replace("2026-10-01", "2026-09-01");
    let manifest = application(&[("wrangler.toml", TOML), ("wrangler.jsonc", &other)]).unwrap();
    assert_eq!(manifest.workers[0].compatibility_date, "2026-09-01");
    let manifest = application(&[("wrangler.json", JSONC), ("wrangler.jsonc", &other)]).unwrap();
    assert_eq!(manifest.workers[0].compatibility_date, "2026-10-01");
}

#[test]
fn every_error_of_each_syntax_has_its_place() {
    let jsonc = r#"{
  "name": 7,
  "main": "missing.js",
  "compatibility_date": "yesterday",
  "kv_namespaces": [],
  "compatability_flags": [],
  "r2_buckets": [{ "binding": "FILES" }],
  "env": { "staging": { "main": "x.js", "vars": [] } }
}
"#;
    let toml = "name = 7\nmain = \"missing.js\"\ncompatibility_date = \"yesterday\"\nkv_namespaces = []\ncompatability_flags = []\n[[r2_buckets]]\nbinding = \"FILES\"\n[env.staging]\nmain = \"x.js\"\nvars = []\n";
    for (name, text, lines) in [
        ("wrangler.jsonc", jsonc, [2, 3, 4, 5, 6, 7, 8, 8]),
        ("wrangler.toml", toml, [1, 2, 3, 4, 5, 6, 9, 10]),
    ] {
        let errors = application(&[(name, text)]).unwrap_err();
        let found: Vec<usize> = errors.iter().map(|error| error.line).collect();
        assert_eq!(found, lines, "{name}: {errors}");
        assert!(
            errors.iter().all(|error| error.file == format!("api/{name}")),
            "{errors}"
        );
        let codes: Vec<&str> = errors.iter().map(|error| error.code).collect();
        assert_eq!(
            codes,
            [
                "wrong-type",
                "missing-file",
                "wrong-value",
                "not-supported-yet",
                "unknown-key",
                "missing-key",
                "not-supported-yet",
                "wrong-type"
            ],
            "{name}: {errors}"
        );
        assert!(
            errors.to_string().contains("did you mean `compatibility_flags`?"),
            "{errors}"
        );
    }
}

#[test]
fn what_a_worker_needs_is_said() {
    let errors = application(&[("wrangler.jsonc", "{}")]).unwrap_err().to_string();
    assert!(
        errors.contains("`main` is missing") && errors.contains("`compatibility_date` is missing"),
        "{errors}"
    );
    let errors = application(&[]).unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!(
        (error.file.as_str(), error.line, error.code),
        ("astraler.toml", 4, "missing-file")
    );
}

#[test]
fn deep_nesting_and_wrong_syntax_are_errors_like_others() {
    let deep = "[".repeat(1 << 20);
    for (name, text) in [
        ("wrangler.jsonc", deep.as_str()),
        ("wrangler.jsonc", "{\"main\": "),
        ("wrangler.jsonc", "[]"),
        ("wrangler.jsonc", ""),
        ("wrangler.toml", "main = "),
        ("wrangler.toml", deep.as_str()),
    ] {
        let errors = application(&[(name, text)]).unwrap_err();
        assert!(
            errors.iter().all(|error| error.file == format!("api/{name}")),
            "{errors}"
        );
    }
}
