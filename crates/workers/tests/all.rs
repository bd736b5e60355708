//! The tools, bundles and configurations with the real esbuild and workerd.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use astraler_workers::tools::{self, Tools, ToolsConfig};
use astraler_workers::{BundleError, BundleInput, DeploymentConfig, Module, WorkerConfig, bundle, render};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

async fn tools() -> Tools {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/workers");
    let config = ToolsConfig {
        directory: std::path::absolute(folder).unwrap(),
    };
    tools::ensure(&config).await.unwrap()
}

fn write(path: &Path, contents: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path)
        .unwrap()
        .write_all(contents.as_bytes())
        .unwrap();
}

fn input(folder: &Path, source: &str) -> BundleInput {
    write(&folder.join("src/index.ts"), source);
    BundleInput {
        name: "api".into(),
        main: folder.join("src/index.ts"),
        directory: folder.to_owned(),
        compatibility_flags: vec!["nodejs_compat".into()],
        out: folder.join("out"),
    }
}

#[tokio::test]
async fn a_bundle_holds_its_text_and_binary_modules_and_is_the_same_each_time() {
    let tools = tools().await;
    let mut bundles = Vec::new();
    for round in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("src/hello.txt"), "hello");
        write(
            &folder.path().join("src/lib.ts"),
            "import net from 'net';\nexport const a: number = net.isIP('::1');",
        );
        let source = "import text from './hello.txt';\nimport { a } from './lib';\nexport default { fetch: () => new Response(text + a) };";
        // Somewhere else each time, and not equally deep.
        let elsewhere = tempfile::tempdir().unwrap();
        let out = elsewhere.path().join(["out", "deep/er/out"][round]);
        let input = BundleInput {
            out: out.clone(),
            ..input(folder.path(), source)
        };
        let bundled = bundle(&tools, &[input]).await.unwrap();
        let modules = &bundled[0].modules;
        assert_eq!(modules[0].name, "index.js");
        assert_eq!(modules.len(), 2, "{modules:?}");
        let code = fs::read_to_string(out.join("index.js")).unwrap();
        assert!(code.contains("node:net"), "Node's modules come from the runtime");
        assert!(
            !code.contains(folder.path().to_str().unwrap()),
            "no path of this machine"
        );
        assert_eq!(fs::read_to_string(out.join(&modules[1].path)).unwrap(), "hello");
        let map = fs::read_to_string(out.join("index.js.map")).unwrap();
        assert!(
            map.contains(r#""sources":["src/index.ts","src/lib.ts"]"#),
            "{map}"
        );
        bundles.push((code, map));
    }
    assert_eq!(bundles[0], bundles[1]);
}

#[tokio::test]
async fn an_error_names_file_line_and_column() {
    let tools = tools().await;
    let folder = tempfile::tempdir().unwrap();
    let source = "import x from './missing';\nexport default { fetch() { return new Response( } };";
    match bundle(&tools, &[input(folder.path(), source)]).await {
        Err(error @ BundleError::Sources { .. }) => {
            assert!(error.to_string().contains("src/index.ts:2:"), "{error}");
        }
        other => panic!("no error: {other:?}"),
    }
}

fn config(folder: &Path, vars: BTreeMap<String, serde_json::Value>) -> (DeploymentConfig, PathBuf) {
    let source = folder.join("index.js");
    write(
        &source,
        "export default { async test(controller, env) { for (const [name, value] of Object.entries(env)) console.log(JSON.stringify([name, value])); } };",
    );
    let module = Module {
        name: "index.js".into(),
        kind: astraler_workers::ModuleKind::EsModule,
        path: source.clone(),
    };
    let worker = WorkerConfig {
        name: "api".into(),
        modules: vec![module],
        compatibility_date: "2026-10-01".into(),
        compatibility_flags: vec![],
        vars,
        secrets: BTreeMap::from([("TOKEN".to_owned(), "s3\"cr\\et".to_owned())]),
        r2: BTreeMap::new(),
        hyperdrive: vec![],
    };
    let config = DeploymentConfig {
        id: "d-1".into(),
        environment: astraler_model::Environment::Development,
        workers: vec![worker],
        bindings_socket: folder.join("b.sock"),
        hyperdrive_socket: folder.join("h.sock"),
        egress_socket: folder.join("e.sock"),
    };
    (config, source)
}

/// What a worker sees of its variables, through the real workerd.
fn read_back(
    workerd: &Path,
    vars: BTreeMap<String, serde_json::Value>,
) -> BTreeMap<String, serde_json::Value> {
    let folder = tempfile::tempdir().unwrap();
    let (config, _) = config(folder.path(), vars);
    let file = folder.path().join("w.capnp");
    // The test runner of workerd prints what the worker logs; structured logging would wrap it.
    write(
        &file,
        &render(&config).replace("structuredLogging = true", "structuredLogging = false"),
    );
    let output = Command::new(workerd)
        .args(["test", "--import-path=/", "--socket-addr=w-api=unix:w.sock"])
        .arg(&file)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| serde_json::from_str::<(String, serde_json::Value)>(line.trim()).ok())
        .collect()
}

#[tokio::test]
async fn hostile_values_arrive_as_they_are() {
    let workerd = tools().await.workerd;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(8));
    runner
        .run(
            &(".{0,200}", "[\"\\\\\n\r\t;(){}=\\[\\]]{0,40}"),
            |(any, hostile)| {
                let vars = BTreeMap::from([
                    ("ANY".to_owned(), serde_json::Value::from(any.clone())),
                    ("HOSTILE".to_owned(), serde_json::Value::from(hostile.clone())),
                    ("JSON".to_owned(), serde_json::json!({ "a": [1, any, hostile] })),
                ]);
                let seen = read_back(&workerd, vars.clone());
                for (name, value) in vars {
                    prop_assert_eq!(seen.get(&name), Some(&value), "{}", name);
                }
                prop_assert_eq!(seen.get("TOKEN"), Some(&serde_json::Value::from("s3\"cr\\et")));
                Ok(())
            },
        )
        .unwrap();
}
