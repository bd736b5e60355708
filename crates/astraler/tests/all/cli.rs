//! The command line without a platform.

use crate::support::{PROGRAM, small};
use std::process::Command;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAM)
        .args(arguments)
        .current_dir("/")
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn every_public_command_has_help_with_what_it_does() {
    for command in [
        "init",
        "up",
        "down",
        "status",
        "doctor",
        "logs",
        "open",
        "manifest",
        "pipeline",
        "audit",
        "env",
        "waf",
        "completions",
    ] {
        let (code, out, _) = run(&[command, "--help"]);
        assert_eq!(code, 0, "{command}");
        assert!(out.contains("Usage: astraler"), "{command}: {out}");
    }
}

#[test]
fn outside_an_application_the_next_step_is_named() {
    let (code, _, err) = run(&["up"]);
    assert_eq!(code, 3);
    assert!(err.contains("astraler init"), "{err}");
}

#[test]
fn before_up_status_says_so() {
    let platform = small();
    let status = platform.run(&["status"]).unwrap().failed_with(7);
    assert!(status.err.contains("astraler up"), "{}", status.err);
    let down = platform.run(&["down"]).unwrap().ok();
    assert!(down.out.contains("nothing is up"), "{}", down.out);
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("doctor"), "{shell}");
    }
}

#[test]
fn doctor_names_version_and_path_of_every_requirement() {
    let platform = small();
    let checks = platform.run(&["doctor", "--json"]).unwrap().ok().json();
    let checks = checks.as_array().cloned().unwrap();
    for name in [
        "PostgreSQL 14-18",
        "Redis 7 or Valkey",
        "bubblewrap",
        "git",
        "node",
        "npm",
    ] {
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not checked"));
        assert_eq!(check["state"], "ok", "{check}");
        assert!(
            check["found"].as_str().unwrap().contains('/'),
            "it says where: {check}"
        );
    }
}

/// A `node` that says another version and is the real one otherwise: what `up` does with it is shown in `lifecycle`.
#[test]
fn doctor_says_that_an_old_node_is_no_obstacle() {
    let platform = small();
    let path = crate::support::path_with_old_node(platform.application());
    let output = platform
        .command(&["doctor", "--json"])
        .env("PATH", path)
        .output()
        .unwrap();
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let node = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "node")
        .unwrap();
    assert_eq!(node["state"], "note", "{node}");
    assert!(
        node["found"].as_str().unwrap().starts_with("v12.22.9 at "),
        "{node}"
    );
    assert!(node["mend"].as_str().unwrap().contains("astraler up"), "{node}");
    assert_eq!(output.status.code(), Some(0), "nothing that is needed is missing");
}

#[test]
fn init_writes_a_manifest_that_is_valid_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let (code, out, err) = run(&[
        "init",
        "--dir",
        &dir,
        "--name",
        "shop",
        "--domain",
        "shop.example",
    ]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("astraler.toml"), "{out}");
    let (code, _, err) = run(&["manifest", "check", "--dir", &dir]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["init", "--dir", &dir]);
    assert_eq!(code, 1);
    assert!(err.contains("there already"), "{err}");
    assert!(folder.path().join(".github/workflows/ci.yml").is_file());
}

/// What was found in the application is in both files, and in nothing else.
#[test]
fn init_takes_up_the_workers_scripts_and_package_manager_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("shop");
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
    };
    write("migrations/0001_a.sql", "SELECT 1;");
    for worker in ["api", "hooks"] {
        write(&format!("workers/{worker}/index.js"), "export default {};");
        write(
            &format!("workers/{worker}/wrangler.toml"),
            "name = \"x\"\nmain = \"index.js\"\ncompatibility_date = \"2026-10-01\"\n",
        );
    }
    write("pnpm-lock.yaml", "");
    write(
        "package.json",
        r#"{ "scripts": { "lint": "eslint .", "test": "vitest run", "build": "vite build", "e2e": "x" } }"#,
    );
    let shown = dir.display().to_string();
    let (code, _, err) = run(&["init", "--dir", &shown]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["manifest", "check", "--dir", &shown]);
    assert_eq!(code, 0, "{err}");
    let manifest = std::fs::read_to_string(dir.join("astraler.toml")).unwrap();
    for line in [
        "name = \"shop\"",
        "[workers.api]",
        "routes = [\"/hooks/*\"]",
        "command = \"pnpm run build\"",
    ] {
        assert!(manifest.lines().any(|found| found == line), "{line}: {manifest}");
    }
    let workflow = std::fs::read_to_string(dir.join(".github/workflows/ci.yml")).unwrap();
    for line in [
        "  lint:",
        "      - run: pnpm run test",
        "    needs: [lint, test, build]",
        "    needs: deploy-staging",
        "      - run: pnpm run e2e",
        "      - run: astraler deploy --env production",
    ] {
        assert!(workflow.lines().any(|found| found == line), "{line}: {workflow}");
    }
    assert!(!workflow.contains("typecheck"), "no such script: {workflow}");
    let (code, _, err) = run(&["pipeline", "check", "--dir", &shown]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn the_starter_comes_out_of_the_program_valid() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("board");
    let (code, _, err) = run(&["init", "--starter", &target.display().to_string()]);
    assert_eq!(code, 0, "{err}");
    for check in ["manifest", "pipeline"] {
        let (code, _, err) = run(&[check, "check", "--dir", &target.display().to_string()]);
        assert_eq!(code, 0, "{err}");
    }
}

#[test]
fn the_committed_reference_is_what_the_program_says() {
    let (code, out, _) = run(&["reference"]);
    assert_eq!(code, 0);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    if std::env::var_os("UPDATE").is_some() {
        std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), out.as_bytes()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == out,
        "docs/reference/cli.md is stale: run the test with UPDATE=1"
    );
}
