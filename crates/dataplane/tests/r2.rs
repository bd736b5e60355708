//! The R2 binding, used by a worker in the real workerd.

use astraler_storage::{Store, StoreOptions};
use astraler_workers::tools::{self, ToolsConfig};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

const CONFIG: &str = r#"
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker", esModule = embed "r2.mjs")],
      compatibilityDate = "2026-10-01",
      bindings = [(name = "BUCKET", r2Bucket = "store")],
    )),
    (name = "store", external = (address = "unix:store.sock", http = ())),
  ],
  sockets = [(name = "http", address = "unix:http.sock", http = (), service = "main")],
);
"#;

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_uses_a_bucket_as_on_cloudflare() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/workers");
    let config = ToolsConfig {
        directory: std::path::absolute(directory).unwrap(),
    };
    let workerd = tools::ensure(&config).await.unwrap().workerd;

    let folder = tempfile::tempdir().unwrap();
    let store = {
        // The machine that runs the tests may be almost full.
        let options = StoreOptions {
            reserve_bytes: 0,
            ..StoreOptions::default()
        };
        Store::open(&folder.path().join("store"), options).unwrap()
    };
    store.create_bucket("bucket").await.unwrap();
    let listener = UnixListener::bind(folder.path().join("store.sock")).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let store = store.clone();
            let service = service_fn(move |request| {
                let store = store.clone();
                async move { Ok::<_, Infallible>(astraler_storage::r2::handle(&store, "bucket", request).await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });

    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/r2.mjs"),
        folder.path().join("r2.mjs"),
    )
    .unwrap();
    #[expect(clippy::disallowed_methods, reason = "a temporary folder")]
    std::fs::write(folder.path().join("config.capnp"), CONFIG).unwrap();
    let child = Command::new(workerd)
        .args(["serve", "config.capnp"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);

    let answer = tokio::time::timeout(Duration::from_secs(60), post(&folder.path().join("http.sock")))
        .await
        .expect("an answer within a minute");
    assert_eq!(answer, "ok");
}

async fn post(socket: &Path) -> String {
    let stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("/")
        .header("host", "worker")
        .body(Full::new(bytes::Bytes::from_static(b"from the request")))
        .unwrap();
    let body = sender.send_request(request).await.unwrap().into_body();
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
