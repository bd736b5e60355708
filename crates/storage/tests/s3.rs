//! The S3 API, used by the unchanged boto3 over a loopback port.

use crate::support::open;
use astraler_model::{BucketGrant, DataEnvironment, DataSnapshot, Environment, S3Credential};
use astraler_storage::{HttpMetadata, Metadata, PutOptions, Store, body_of, s3};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long a script may take.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_uses_objects() {
    let server = Server::start().await;
    server.python("objects.py").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_uploads_in_parts_and_copies() {
    let server = Server::start().await;
    server.python("multipart.py").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_is_refused_what_it_may_not_do() {
    let server = Server::start().await;
    server.python("access.py").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_reads_what_a_worker_wrote_with_metadata_that_no_header_can_say() {
    let server = Server::start().await;
    let http = HttpMetadata {
        content_type: Some("text/plain\r\nx-injected: yes".into()),
        content_language: Some("de\n".into()),
        cache_control: Some("\u{0}".into()),
        content_disposition: Some("attachment; filename=\"ü.png\"".into()),
        content_encoding: Some("br".into()),
        // The latest date of JavaScript is in the year 275760, that of HTTP in 9999.
        expires_ms: Some(8_640_000_000_000_000),
    };
    let custom = [("good", "välue"), ("with space", "1"), ("ü", "2")];
    let options = PutOptions {
        metadata: Metadata {
            http,
            custom: custom.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            storage_class: Some("Unheard".into()),
        },
        ..PutOptions::default()
    };
    let put = server
        .store
        .put("staging--files", "foreign", body_of("bytes"), options);
    put.await.unwrap();
    server.python("foreign.py").await;
    server.stop().await;
}

/// A client that stands still holds up a shutdown for the time to drain, and the store no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_cuts_off_who_stands_still() {
    let server = Server::start().await;
    let mut client = tokio::net::TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"PUT /files/k HTTP/1.1\r\nHost:").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let limit = Duration::from_secs(15);
    tokio::time::timeout(limit, server.stop()).await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(1), client.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the connection is still open");
}

/// The API on a port of its own.
struct Server {
    _folder: tempfile::TempDir,
    store: Store,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _snapshot: watch::Sender<Arc<DataSnapshot>>,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        for bucket in ["staging--files", "staging--assets", "production--files"] {
            store.create_bucket(bucket).await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (snapshot, source) = watch::channel(Arc::new(snapshot()));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(s3::serve(listener, store.clone(), source, shutdown));
        Self {
            _folder: folder,
            store,
            address,
            stop,
            serving,
            _snapshot: snapshot,
        }
    }

    /// Runs a script of `tests/boto3`, which ends with 0 when the API does what it expects.
    async fn python(&self, script: &str) {
        let packages = tokio::task::spawn_blocking(installed).await.unwrap();
        let run = tokio::process::Command::new("python3")
            .args(["-B", "-W", "error::ResourceWarning"])
            .arg(scripts().join(script))
            .env("PYTHONPATH", packages)
            .env("S3_ENDPOINT", format!("http://{}", self.address))
            // Nothing of the machine's own configuration.
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(SCRIPT_TIMEOUT, run)
            .await
            .expect("the script ends in time")
            .expect("python3 is needed for this test: scripts/setup.sh installs it");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("\nRan ") && !text.contains("Ran 0 ") && !text.contains("skipped"),
            "{text}"
        );
    }

    /// Stops it and finds the store as sound as before.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        let report = self.store.scrub(usize::MAX).await.unwrap();
        assert!(report.finished && report.damaged.is_empty(), "{report:?}");
        self.store.close().await;
        let reopened = open(self._folder.path());
        assert_eq!(reopened.open_report(), &astraler_storage::OpenReport::default());
    }
}

fn snapshot() -> DataSnapshot {
    let grant = |bucket: &str, write| BucketGrant {
        bucket: bucket.into(),
        write,
    };
    let key = |id: &str, buckets| S3Credential {
        access_key_id: id.into(),
        secret_access_key: format!("secret of {id}"),
        buckets,
    };
    let environment = |names: &[(&str, &str)], s3_credentials| DataEnvironment {
        postgres: None,
        redis: None,
        buckets: names
            .iter()
            .map(|(name, stored)| ((*name).to_owned(), (*stored).to_owned()))
            .collect(),
        replication: None,
        s3_credentials,
    };
    let files = ["staging--files", "staging--assets", "staging--later"];
    let staging = environment(
        &[
            ("files", "staging--files"),
            ("assets", "staging--assets"),
            ("later", "staging--later"),
        ],
        vec![
            key("writer", files.map(|name| grant(name, true)).to_vec()),
            key("reader", vec![grant("staging--files", false)]),
        ],
    );
    let production = environment(
        &[("files", "production--files"), ("books", "production--files")],
        vec![key("production", vec![grant("production--files", true)])],
    );
    DataSnapshot {
        environments: BTreeMap::from([
            (Environment::Staging, staging),
            (Environment::Production, production),
        ]),
        ..DataSnapshot::default()
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boto3")
}

/// A folder with boto3, installed once for each list of requirements.
fn installed() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    fs::create_dir_all(&tools).unwrap();
    let folder = std::path::absolute(tools).unwrap().join("boto3");
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let requirements = scripts().join("requirements.txt");
    let done = folder.join("installed.txt");
    if fs::read(&done).ok() == fs::read(&requirements).ok() {
        return folder;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    let install = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"])
        .args(["--only-binary=:all:", "--no-compile", "--target"])
        .arg(&folder)
        .arg("--requirement")
        .arg(&requirements)
        .output()
        .unwrap();
    assert!(
        install.status.success(),
        "{}",
        String::from_utf8_lossy(&install.stderr)
    );
    fs::copy(requirements, done).unwrap();
    folder
}
