//! An edge on a free port, a worker that remembers what it saw, and a client that sends bytes as they are.

use astraler_edge::{AccessLogConfig, Body, BoxError, Config, EdgeSnapshot, Limits};
use astraler_model::{
    AssetConfig, EdgePolicy, Environment, HtmlHandling, NotFoundHandling, Origin, Route, WorkerRoute,
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on a small runtime; a test that hangs fails.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs")
    })
}

/// Whose connections begin with the PROXY protocol.
pub(crate) const BALANCER: &str = "127.0.0.77";

pub(crate) struct TestEdge {
    pub(crate) address: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) snapshots: watch::Sender<Arc<EdgeSnapshot>>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<Result<(), astraler_edge::EdgeError>>,
}

impl TestEdge {
    pub(crate) async fn start(limits: Limits, routes: impl FnOnce(&Path) -> Vec<Route>) -> Self {
        Self::start_with_log(limits, 64 << 20, routes).await
    }

    pub(crate) async fn start_with_log(
        limits: Limits,
        max_file_bytes: u64,
        routes: impl FnOnce(&Path) -> Vec<Route>,
    ) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), limits, max_file_bytes, routes).await
    }

    /// With whatever is in the folder already.
    pub(crate) async fn start_in(
        folder: tempfile::TempDir,
        limits: Limits,
        max_file_bytes: u64,
        routes: impl FnOnce(&Path) -> Vec<Route>,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let https = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let https_address = https.local_addr().unwrap();
        let quic = std::net::UdpSocket::bind(https_address).unwrap();
        let snapshot = EdgeSnapshot {
            version: 1,
            routes: routes(folder.path()),
            proxy_protocol: vec![BALANCER.parse().unwrap()],
            ..EdgeSnapshot::default()
        };
        let (snapshots, snapshot) = watch::channel(Arc::new(snapshot));
        let (stop, stopped) = oneshot::channel::<()>();
        let config = Config {
            listeners: vec![listener],
            https: vec![https],
            quic: vec![quic],
            snapshot,
            in_force: None,
            limits,
            access_log: AccessLogConfig {
                path: folder.path().join("access.log"),
                max_file_bytes,
                keep_files: 2,
            },
            cache_folder: Some(folder.path().join("cache")),
            control: Some(std::os::unix::net::UnixListener::bind(folder.path().join("status.sock")).unwrap()),
            give_back: astraler_edge::trim,
        };
        let task = tokio::spawn(astraler_edge::run(config, async { drop(stopped.await) }));
        Self {
            address,
            https: https_address,
            folder,
            snapshots,
            stop: Some(stop),
            task,
        }
    }

    /// One worker for everything, on host `worker.test`.
    pub(crate) async fn with_worker(limits: Limits) -> (Self, Worker) {
        let edge = Self::start(limits, |folder| {
            vec![route("worker.test", vec![("/", folder.join("w.sock"))])]
        })
        .await;
        let worker = Worker::start(&edge.folder.path().join("w.sock"));
        (edge, worker)
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops it and returns the lines of its access log.
    pub(crate) async fn stop(mut self) -> Vec<serde_json::Value> {
        self.begin_stop();
        tokio::time::timeout(Duration::from_secs(20), &mut self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        self.ask("GET /status HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
            .await
    }

    /// What the daemon asks.
    pub(crate) async fn ask(&self, request: &str) -> serde_json::Value {
        let mut stream = tokio::net::UnixStream::connect(self.folder.path().join("status.sock"))
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

pub(crate) fn route(host: &str, workers: Vec<(&str, PathBuf)>) -> Route {
    Route {
        hosts: vec![host.to_owned()],
        environment: Environment::Development,
        deployment: "dep-1".to_owned(),
        workers: workers
            .into_iter()
            .map(|(prefix, socket)| WorkerRoute {
                prefix: prefix.to_owned(),
                worker: format!("w{}", prefix.trim_end_matches('/').replace('/', "-")),
                origin: Origin::Unix(socket),
            })
            .collect(),
        assets: None,
        wake: None,
        policy: EdgePolicy::default(),
        cache: None,
    }
}

pub(crate) fn assets(
    directory: PathBuf,
    html_handling: HtmlHandling,
    not_found_handling: NotFoundHandling,
) -> Option<AssetConfig> {
    Some(AssetConfig {
        directory,
        html_handling,
        not_found_handling,
    })
}

/// What a worker saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// An HTTP/1.1 server on a Unix socket that behaves as the path asks.
pub(crate) struct Worker {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    listener: std::os::unix::net::UnixListener,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
    name: &'static str,
}

impl Worker {
    pub(crate) fn start(socket: &Path) -> Self {
        Self::named(socket, "worker")
    }

    pub(crate) fn named(socket: &Path, name: &'static str) -> Self {
        Self::on(std::os::unix::net::UnixListener::bind(socket).unwrap(), name)
    }

    fn on(listener: std::os::unix::net::UnixListener, name: &'static str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (saw, open) = (seen.clone(), connections.clone());
        let accepted = listener.try_clone().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let accepted = UnixListener::from_std(accepted).unwrap();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = accepted.accept().await.unwrap();
                let saw = saw.clone();
                let task = tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let saw = saw.clone();
                        async move { answer(request, saw, name).await.map_err(std::io::Error::other) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .half_close(true)
                        .max_headers(200)
                        .serve_connection(TokioIo::new(stream), service);
                    let _ = connection.with_upgrades().await;
                });
                open.lock().unwrap().push(task);
            }
        });
        Self {
            seen,
            listener,
            connections,
            accepting,
            name,
        }
    }

    /// Dies as by SIGKILL: every connection breaks at once. The listening socket lives on in the hand of its supervisor,
    /// as with `keep`; connections queue up there.
    pub(crate) fn kill(&self) -> std::os::unix::net::UnixListener {
        self.accepting.abort();
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
        self.listener.try_clone().unwrap()
    }

    pub(crate) fn successor(&self, listener: std::os::unix::net::UnixListener) -> Self {
        Self::on(listener, self.name)
    }

    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

type Answer = Result<Response<Body>, BoxError>;

fn text(text: impl Into<Bytes>) -> Body {
    Body::full(text)
}

async fn answer(mut request: Request<Incoming>, seen: Arc<Mutex<Vec<Seen>>>, name: &'static str) -> Answer {
    let path = request.uri().path().to_owned();
    if request.headers().contains_key("upgrade") {
        return Ok(websocket(&mut request));
    }
    let (parts, incoming) = request.into_parts();
    let record = |body: Bytes, trailers: Option<HeaderMap>| {
        seen.lock().unwrap().push(Seen {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: parts.headers.clone(),
            body,
            trailers,
        });
    };
    match path.as_str() {
        "/early" => {
            record(Bytes::new(), None);
            Ok(Response::builder().status(403).body(text("no")).unwrap())
        }
        "/stream-back" => {
            // Every piece goes back as soon as it arrives.
            record(Bytes::new(), None);
            Ok(Response::new(Body::new(
                incoming.map_err(|error| -> BoxError { Box::new(error) }),
            )))
        }
        _ => {
            let collected = incoming.collect().await?;
            let trailers = collected.trailers().cloned();
            let body = collected.to_bytes();
            record(body.clone(), trailers);
            special(&path, body, name).await
        }
    }
}

async fn special(path: &str, body: Bytes, name: &'static str) -> Answer {
    let frames = |frames: Vec<Result<http_body::Frame<Bytes>, BoxError>>| {
        Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(
            frames,
        )))
    };
    // The head and the first piece are out before the worker breaks off.
    let cut = || {
        let first = Ok(http_body::Frame::data(Bytes::from_static(b"only this")));
        let stream = futures_util::stream::iter([first]).chain(futures_util::stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err("cut".into())
        }));
        Body::new(http_body_util::StreamBody::new(stream))
    };
    let data = |text: &'static str| Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())));
    Ok(match path {
        "/name" => Response::new(text(name)),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Response::new(text("slow"))
        }
        "/never" => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Response::new(text("never"))
        }
        "/die" => return Err("dies before it answers".into()),
        "/hop" => Response::builder()
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("server", "workerd/1")
            .header("x-public", "1")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(text("hop"))
            .unwrap(),
        "/length" => Response::builder()
            .header("content-length", "1234")
            .body(text(vec![b'x'; 1234]))
            .unwrap(),
        "/page" => Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("etag", "\"v1\"")
            .header("accept-ranges", "bytes")
            .header("server", "workerd/1")
            .body(text("<p>Some words.</p>\n".repeat(200)))
            .unwrap(),
        // A piece, a pause, another.
        "/slow-page" | "/events" => {
            let kind = if path == "/events" {
                "text/event-stream"
            } else {
                "text/html"
            };
            let piece = |text: &'static str| Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())));
            let stream = futures_util::stream::iter([piece("data: first\n\n")]).chain(
                futures_util::stream::once(async move {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    piece("data: second\n\n")
                }),
            );
            Response::builder()
                .header("content-type", kind)
                .body(Body::new(http_body_util::StreamBody::new(stream)))
                .unwrap()
        }
        "/nothing" => Response::builder().status(204).body(text("")).unwrap(),
        "/cut" => Response::builder()
            .header("content-length", "100")
            .body(cut())
            .unwrap(),
        "/cut-chunks" => Response::new(cut()),
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "42".parse().unwrap());
            trailers.insert("content-length", "1".parse().unwrap());
            Response::builder()
                .header("trailer", "x-sum")
                .body(frames(vec![
                    data("body"),
                    Ok(http_body::Frame::trailers(trailers)),
                ]))
                .unwrap()
        }
        "/endless" => {
            let stream = futures_util::stream::unfold((), |()| async {
                Some((Ok(http_body::Frame::data(Bytes::from(vec![b'z'; 64 << 10]))), ()))
            });
            Response::new(Body::new(http_body_util::StreamBody::new(stream)))
        }
        _ => Response::new(text(body)),
    })
}

/// Accepts every handshake and sends back what it gets; `/ws-farewell` says a last word after the client's end.
fn websocket(request: &mut Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/ws-refused" {
        return Response::builder().status(426).body(text("no")).unwrap();
    }
    let farewell = request.uri().path() == "/ws-farewell";
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = vec![0; 4096];
        while let Ok(n) = stream.read(&mut buffer).await {
            if n == 0 {
                break;
            }
            if stream.write_all(&buffer[..n]).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
        if farewell {
            let _ = stream.write_all(b"farewell").await;
        }
        let _ = stream.shutdown().await;
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .body(text(""))
        .unwrap()
}

/// Sends bytes as they are and reads answers.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// `GET` on host `worker.test`.
    pub(crate) async fn get(&mut self, target: &str) -> Reply {
        self.get_with("worker.test", target, "").await
    }

    /// `GET` with further header lines, each with its CRLF.
    pub(crate) async fn get_with(&mut self, host: &str, target: &str, lines: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"))
            .await;
        self.reply().await.expect("no answer")
    }

    pub(crate) async fn fill(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        match tokio::time::timeout(PATIENCE, self.stream.read(&mut piece))
            .await
            .expect("the edge is silent")
        {
            Ok(n) if n > 0 => {
                self.buffer.extend_from_slice(&piece[..n]);
                true
            }
            _ => false,
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..end + 2).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status = self.line().await?;
        let status = status
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no status line: {status:?}"))
            .parse()
            .unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else {
                return Some((status, headers));
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        self.reply_to("GET").await
    }

    /// `None` when the connection ends instead.
    pub(crate) async fn reply_to(&mut self, method: &str) -> Option<Reply> {
        let (status, headers) = self.head().await?;
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
            trailers: Vec::new(),
            cut: false,
        };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let Some(size) = self.line().await else {
                    reply.cut = true;
                    return Some(reply);
                };
                let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
                if size == 0 {
                    while let Some((name, value)) = self.line().await.unwrap().split_once(':') {
                        reply
                            .trailers
                            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
                    }
                    return Some(reply);
                }
                reply.cut |= !self.take(size, &mut reply.body).await;
                if reply.cut {
                    return Some(reply);
                }
                assert_eq!(self.line().await.as_deref(), Some(""));
            }
        }
        match reply
            .header("content-length")
            .map(|length| length.parse::<usize>().unwrap())
        {
            Some(length) => reply.cut = !self.take(length, &mut reply.body).await,
            None => {
                while self.fill().await {}
                reply.body = std::mem::take(&mut self.buffer);
            }
        }
        Some(reply)
    }

    pub(crate) async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> bool {
        while self.buffer.len() < length {
            if !self.fill().await {
                into.append(&mut self.buffer);
                return false;
            }
        }
        into.extend(self.buffer.drain(..length));
        true
    }

    /// Whether the edge ends the connection without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }
}
