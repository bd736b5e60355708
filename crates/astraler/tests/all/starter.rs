//! The starter application in a real browser: page → API worker → PostgreSQL, Redis, object storage.

use crate::support::PROGRAM;
use astraler_testkit::Platform;
use std::path::Path;
use std::process::Command;

/// Sources of the starter, copied so that what building it leaves does not stay in the repository.
fn starter(folder: &Path) -> std::io::Result<()> {
    let target = folder.join("board");
    let output = Command::new(PROGRAM)
        .args(["init", "--starter"])
        .arg(&target)
        .output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// `UPDATE=1` puts the picture that it takes into the README.
#[test]
fn a_task_with_an_attachment_outlives_a_reload_in_chromium() {
    let folder = Platform::new(PROGRAM, starter).unwrap();
    let application = folder.application().join("board");
    let platform = Platform::of(PROGRAM, &application).unwrap();
    platform.up(&[]).unwrap().ok();

    let health = platform.get("/api/health").unwrap();
    assert_eq!(health.status, 200, "{}", health.text());
    for layer in ["database", "cache", "storage"] {
        assert_eq!(health.json()[layer], serde_json::json!(true), "{}", health.text());
    }

    let screenshot = std::env::temp_dir().join(format!("astraler-board-{}.png", std::process::id()));
    let output = Command::new("node")
        .arg("e2e/board.mjs")
        .current_dir(&application)
        .env("BASE_URL", format!("http://localhost:{}", platform.port))
        .env("SCREENSHOT", &screenshot)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        std::fs::metadata(&screenshot).is_ok_and(|file| file.len() > 10_000),
        "a picture of the board"
    );
    if std::env::var_os("UPDATE").is_some() {
        let shown = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images/board.png");
        std::fs::copy(&screenshot, shown).unwrap();
    }
    std::fs::remove_file(&screenshot).ok();
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), []);
    its_own_commands_pass(&application, &pinned_tools(&platform));
}

/// A folder with the `node` and `pnpm` that the platform pins.
fn pinned_tools(platform: &Platform) -> std::path::PathBuf {
    let record = std::fs::read(platform.state().join("installation.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let directory = record["layout"]["tools"].as_str().unwrap().into();
    let tools = astraler_workers::tools::find(&astraler_workers::tools::ToolsConfig { directory }).unwrap();
    let folder = platform.state().join("pinned");
    std::fs::create_dir_all(&folder).unwrap();
    let node = tools.node.display();
    for (name, script) in [
        ("node", format!("#!/bin/sh\nexec '{node}' \"$@\"\n")),
        (
            "pnpm",
            format!("#!/bin/sh\nexec '{node}' '{}' \"$@\"\n", tools.pnpm.display()),
        ),
    ] {
        astraler_host::file::replace(folder.join(name), script.as_bytes(), 0o755).unwrap();
    }
    folder
}

/// What its workflow runs, and what Cloudflare would get. With the pinned pnpm, as the workflow has it.
fn its_own_commands_pass(application: &Path, tools: &Path) {
    let path = std::env::var("PATH").unwrap();
    for script in ["lint", "typecheck", "test:ci", "dry-run"] {
        let output = Command::new(tools.join("pnpm"))
            .args(["run", script])
            .current_dir(application)
            .env("PATH", format!("{}:{path}", tools.display()))
            .env("CI", "true")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "pnpm {script}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(
        application.join("coverage/lcov.info").is_file(),
        "the tests measure coverage"
    );
    for worker in ["api", "auth", "webhooks"] {
        let bundle = application.join(".wrangler/dry-run/workers").join(worker);
        let files = std::fs::read_dir(&bundle).unwrap().count();
        assert!(files > 0, "wrangler bundles {worker}");
    }
}
