//! The workers' way out: names of the platform lead to its sockets, addresses of this machine lead nowhere.

use astraler_dataplane::egress::{self, Config};
use astraler_model::InternalHost;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};

struct Egress {
    folder: tempfile::TempDir,
}

impl Egress {
    /// Runs as in a platform, with one internal name whose service answers with the head it was sent.
    async fn start(max_in_flight: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = folder.path().join("redis.sock");
        let listener = UnixListener::bind(&service).unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let echo = service_fn(|request: Request<Incoming>| async move {
                    if request.uri().path() == "/slow" {
                        tokio::time::sleep(Duration::from_secs(30)).await;
                    }
                    let head = format!("{} {}\n{:?}", request.method(), request.uri(), request.headers());
                    let mut response = Response::new(Full::new(bytes::Bytes::from(head)));
                    response
                        .headers_mut()
                        .insert("connection", "x-private".parse().unwrap());
                    response.headers_mut().insert("x-private", "1".parse().unwrap());
                    Ok::<_, Infallible>(response)
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), echo),
                );
            }
        });
        let config = Config {
            requests: UnixListener::bind(folder.path().join("egress.sock")).unwrap(),
            status: UnixListener::bind(folder.path().join("status.sock")).unwrap(),
            internal: vec![InternalHost {
                host: "redis.astraler.internal".into(),
                socket: service,
            }],
            max_in_flight,
        };
        tokio::spawn(egress::run(config, std::future::pending()));
        Self { folder }
    }

    async fn fetch(&self, method: &str, uri: &str) -> (StatusCode, http::HeaderMap, String) {
        fetch(&self.folder.path().join("egress.sock"), method, uri).await
    }
}

async fn fetch(socket: &Path, method: &str, uri: &str) -> (StatusCode, http::HeaderMap, String) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "whatever.example")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-kept", "2")
        .body(Full::new(bytes::Bytes::new()))
        .unwrap();
    let response = tokio::time::timeout(Duration::from_secs(20), sender.send_request(request))
        .await
        .expect("an answer in time")
        .unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (head.status, head.headers, text)
}

#[tokio::test]
async fn a_name_of_the_platform_leads_to_its_socket_without_fields_of_the_connection() {
    let egress = Egress::start(8).await;
    let (status, headers, seen) = egress
        .fetch("GET", "http://Redis.Astraler.Internal/get/a?b=c")
        .await;
    assert_eq!(status, StatusCode::OK);
    assert!(seen.starts_with("GET /get/a?b=c\n"), "{seen}");
    assert!(seen.contains(r#""host": "redis.astraler.internal""#), "{seen}");
    assert!(seen.contains("x-kept") && !seen.contains("x-hop"), "{seen}");
    assert!(!headers.contains_key("x-private"), "{headers:?}");
}

#[tokio::test]
async fn no_spelling_of_this_machine_is_connected_to() {
    let egress = Egress::start(8).await;
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = v4.local_addr().unwrap().port();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok();
    let connected = tokio::spawn(async move {
        match v6 {
            Some(v6) => tokio::select! { _ = v4.accept() => {}, _ = v6.accept() => {} },
            None => drop(v4.accept().await),
        }
    });
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
    ] {
        let (status, _, text) = egress.fetch("GET", &format!("http://{host}:{port}/")).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{host}: {text}");
        let refused = text.contains("not a public address") || text.contains("lookup");
        assert!(refused, "{host}: {text}");
    }
    assert!(!connected.is_finished(), "a connection was made");
}

#[tokio::test]
async fn tunnels_and_relative_requests_are_refused_in_words() {
    let egress = Egress::start(8).await;
    let (status, _, text) = egress.fetch("CONNECT", "example.com:443").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("not supported yet"), "{text}");
    let (status, _, text) = egress.fetch("GET", "/relative").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
}

#[tokio::test]
async fn more_requests_than_the_limit_are_told_to_come_later() {
    let egress = Egress::start(1).await;
    let socket = egress.folder.path().join("egress.sock");
    // Takes the one place as soon as it can, and keeps it.
    let slow = tokio::spawn(async move {
        while fetch(&socket, "GET", "http://redis.astraler.internal/slow")
            .await
            .0
            != StatusCode::OK
        {}
    });
    let mut status = StatusCode::OK;
    for _ in 0..100 {
        status = egress.fetch("GET", "http://redis.astraler.internal/").await.0;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    slow.abort();
}
