//! The unchanged npm client.

use crate::instance::Instance;
use crate::rest::{READ_TOKEN, TOKEN, listen, snapshot};
use astraler_model::Environment;
use astraler_redis::rest::Service;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_npm_client_is_content() {
    let redis = Instance::running().await;
    let (_sender, source) = watch::channel(snapshot(&[(Environment::Staging, &redis, "")]));
    let address = listen(Arc::new(Service::new(source))).await;
    let output = tokio::task::spawn_blocking(move || {
        Command::new("node")
            .arg(installed().join("client.mjs"))
            .env("REST_URL", format!("http://{address}"))
            .env("REST_TOKEN", TOKEN)
            .env("REST_READ_TOKEN", READ_TOKEN)
            .output()
    });
    let output = output
        .await
        .unwrap()
        .expect("node is needed for this test: scripts/setup.sh installs it");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// The script with its packages, installed once for each lock file.
fn installed() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/npm");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("astraler-redis-npm");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    fs::copy(source.join("client.mjs"), folder.join("client.mjs")).unwrap();
    let wanted = fs::read(source.join("package-lock.json")).unwrap();
    let done = folder.join("installed.json");
    if fs::read(&done).ok().as_ref() != Some(&wanted) {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), folder.join(name)).unwrap();
        }
        let install = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            install.status.success(),
            "{}",
            String::from_utf8_lossy(&install.stderr)
        );
        fs::write(done, wanted).unwrap();
    }
    folder
}
