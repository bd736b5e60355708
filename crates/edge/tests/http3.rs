//! HTTP/3 from outside: a real client over QUIC.

use crate::secured::Secured;
use crate::support::{PATIENCE, run};
use astraler_edge::Limits;
use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

pub(crate) struct Session {
    send: SendRequest<h3_quinn::OpenStreams, Bytes>,
    quic: quinn::Connection,
    driver: tokio::task::JoinHandle<h3::error::ConnectionError>,
    _endpoint: quinn::Endpoint,
}

pub(crate) struct Whole {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

async fn connect(secured: &Secured) -> (quinn::Endpoint, Result<quinn::Connection, quinn::ConnectionError>) {
    connect_from("127.0.0.1", secured).await
}

async fn connect_from(
    source: &str,
    secured: &Secured,
) -> (quinn::Endpoint, Result<quinn::Connection, quinn::ConnectionError>) {
    let endpoint = quinn::Endpoint::client(format!("{source}:0").parse().unwrap()).unwrap();
    let crypto = secured.client(&[&rustls::version::TLS13], &["h3"]);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, secured.edge.https, "worker.test");
    (endpoint, connecting.unwrap().await)
}

impl Session {
    pub(crate) async fn open(secured: &Secured) -> Self {
        let (_endpoint, quic) = connect(secured).await;
        let quic = quic.unwrap();
        let (mut driver, send) = h3::client::new(h3_quinn::Connection::new(quic.clone()))
            .await
            .unwrap();
        let driver = tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Self {
            send,
            quic,
            driver,
            _endpoint,
        }
    }

    pub(crate) async fn begin(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Stream {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://worker.test{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.send.send_request(request.body(()).unwrap()).await.unwrap()
    }

    async fn ask(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Whole {
        let mut stream = self.begin(method, target, fields).await;
        for piece in body.chunks(100_000) {
            stream.send_data(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        stream.finish().await.unwrap();
        whole(&mut stream).await.unwrap()
    }
}

pub(crate) async fn whole(stream: &mut Stream) -> Result<Whole, h3::error::StreamError> {
    let answer = tokio::time::timeout(PATIENCE, stream.recv_response()).await;
    let (head, ()) = answer.expect("the edge is silent")?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.recv_data().await? {
        body.extend_from_slice(data.chunk());
    }
    let trailers = stream.recv_trailers().await?;
    Ok(Whole { head, body, trailers })
}

#[test]
fn interim_answers_pass_before_the_answer() {
    run(async {
        let secured = Secured::served(Limits::default()).await;
        let socket = secured.edge.folder.path().join("w.sock");
        let script = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: hop\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        drop(crate::scripted::listen(
            &socket,
            script,
            crate::scripted::Then::Stay,
        ));
        let mut session = Session::open(&secured).await;
        let mut stream = session.begin("GET", "/x", &[]).await;
        stream.finish().await.unwrap();
        let hints = tokio::time::timeout(PATIENCE, stream.recv_response()).await;
        let hints = hints.expect("the edge is silent").unwrap();
        assert_eq!(
            (hints.status().as_u16(), &hints.headers()["link"]),
            (103, &"</a>".parse().unwrap())
        );
        assert!(!hints.headers().contains_key("x"));
        let last = whole(&mut stream).await.unwrap();
        assert_eq!((last.head.status, &last.body[..]), (StatusCode::OK, &b"ok"[..]));
        drop(secured.edge.stop().await);
    });
}

#[test]
fn requests_and_answers_pass_both_ways() {
    run(async {
        let secured = Secured::served(Limits::default()).await;
        let mut session = Session::open(&secured).await;
        let answer = session
            .ask("GET", "/hop?x=1", &[("cookie", "a=1"), ("cookie", "b=2")], b"")
            .await;
        assert_eq!(
            (answer.head.status, &answer.body[..]),
            (StatusCode::OK, &b"hop"[..])
        );
        assert!(!answer.head.headers.contains_key("connection"));
        assert!(answer.head.headers.contains_key("date"));
        let seen = secured._worker.take_seen().remove(0);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/hop?x=1"));
        assert_eq!(seen.headers["host"], "worker.test");
        assert_eq!(seen.headers["cookie"], "a=1; b=2");
        assert_eq!(seen.headers["x-forwarded-proto"], "https");
        assert!(
            !seen.headers.contains_key("transfer-encoding"),
            "{:?}",
            seen.headers
        );

        let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        assert!(session.ask("POST", "/echo", &[], &large).await.body == large);
        let length = [("content-length", "3")];
        assert_eq!(session.ask("PUT", "/echo", &length, b"abc").await.body, b"abc");

        let answer = session.ask("GET", "/trailers", &[("te", "trailers")], b"").await;
        assert_eq!(answer.trailers.unwrap()["x-sum"], "42");
        let answer = session.ask("HEAD", "/length", &[], b"").await;
        assert_eq!(answer.head.headers["content-length"], "1234");
        assert_eq!(session.ask("GET", "/nothing", &[], b"").await.head.status, 204);
        let many = (0..50).map(|_| {
            let mut session = Session {
                send: session.send.clone(),
                quic: session.quic.clone(),
                driver: tokio::spawn(std::future::pending()),
                _endpoint: session._endpoint.clone(),
            };
            async move { session.ask("GET", "/slow", &[], b"").await.body }
        });
        let begun = Instant::now();
        let bodies = futures_util::future::join_all(many).await;
        assert!(bodies.iter().all(|body| body == b"slow"));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

        // Those who come over TCP are told.
        let port = secured.edge.https.port();
        let tcp = secured.client(rustls::ALL_VERSIONS, &["h2"]);
        let stream = secured.connect(&tcp, "worker.test").await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get("https://worker.test/").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["alt-svc"], format!("h3=\":{port}\"; ma=86400"));
        connection.abort();
        drop(session);
        let lines = secured.edge.stop().await;
        let over_quic = lines.iter().find(|line| line["protocol"] == "HTTP/3").unwrap();
        assert_eq!(over_quic["tls_version"], "1.3");
        assert_eq!(
            lines.iter().filter(|line| line["protocol"] == "HTTP/3").count(),
            56
        );
    });
}

#[test]
fn nothing_is_taken_from_balancers_that_cannot_say_who_the_client_is() {
    run(async {
        let secured = Secured::served(Limits::default()).await;
        let (_endpoint, refused) = connect_from(crate::support::BALANCER, &secured).await;
        assert!(refused.is_err());
        assert!(connect(&secured).await.1.is_ok());
    });
}

#[test]
fn what_is_wrong_is_refused_as_over_the_other_protocols() {
    run(async {
        let secured = Secured::served(Limits {
            max_uri_bytes: 100,
            max_headers: 20,
            max_body_bytes: 1000,
            body_idle_timeout_ms: 300,
            ..Limits::default()
        })
        .await;
        let mut session = Session::open(&secured).await;
        let long = format!("/{}", "a".repeat(100));
        let fields: Vec<(&str, &str)> = vec![("x-many", "1"); 21];
        for (method, target, fields, status) in [
            ("GET", "/%zz", &[][..], 400),
            ("GET", "/", &[("connection", "close")], 400),
            ("GET", "/", &[("te", "gzip")], 400),
            ("GET", "/", &[("content_length", "5")], 400),
            ("TRACE", "/", &[], 405),
            ("GET", &long, &[], 414),
            ("GET", "/", &fields, 431),
        ] {
            let answer = session.ask(method, target, fields, b"").await;
            assert_eq!(answer.head.status, status, "{method} {target} {fields:?}");
        }
        assert_eq!(
            session.ask("POST", "/x", &[], &[b'x'; 1001]).await.head.status,
            413
        );
        // Less than announced, and more.
        assert_eq!(
            session
                .ask("POST", "/x", &[("content-length", "5")], b"abc")
                .await
                .head
                .status,
            400
        );
        assert_eq!(
            session
                .ask("POST", "/x", &[("content-length", "2")], b"abc")
                .await
                .head
                .status,
            400
        );
        // A byte each 50 ms keeps every pause short.
        let begun = Instant::now();
        let stream = session.begin("POST", "/x", &[]).await;
        let (mut up, mut down) = stream.split();
        let dribble = tokio::spawn(async move {
            while up.send_data(Bytes::from_static(b"x")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(down.recv_response().await.unwrap().status(), 408);
        assert!(
            (250..2_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        dribble.abort();
        assert!(secured._worker.take_seen().is_empty());
        assert_eq!(session.ask("GET", "/a", &[], b"").await.head.status, 200);
        drop(secured.edge.stop().await);
    });
}

#[test]
fn a_cut_answer_is_an_error_and_an_idle_connection_ends() {
    run(async {
        let secured = Secured::served(Limits {
            idle_timeout_ms: 600,
            ..Limits::default()
        })
        .await;
        let mut session = Session::open(&secured).await;
        for target in ["/cut", "/cut-chunks"] {
            let mut stream = session.begin("GET", target, &[]).await;
            stream.finish().await.unwrap();
            assert!(whole(&mut stream).await.is_err(), "{target}");
        }
        let begun = Instant::now();
        let ended = tokio::time::timeout(PATIENCE, session.driver)
            .await
            .unwrap()
            .unwrap();
        assert!(ended.is_h3_no_error(), "{ended}");
        assert!(
            (500..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        drop(secured.edge.stop().await);
    });
}

#[test]
fn a_drain_lets_requests_end() {
    run(async {
        let mut secured = Secured::served(Limits::default()).await;
        let mut session = Session::open(&secured).await;
        let mut busy = session.begin("GET", "/slow", &[]).await;
        busy.finish().await.unwrap();
        while secured.edge.status().await["in_flight"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        secured.edge.begin_stop();
        assert_eq!(whole(&mut busy).await.unwrap().body, b"slow");
        let ended = tokio::time::timeout(PATIENCE, session.driver)
            .await
            .unwrap()
            .unwrap();
        assert!(ended.is_h3_no_error(), "{ended}");
        assert!(session.quic.close_reason().is_some());
        let begun = Instant::now();
        let lines = secured.edge.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(lines[0]["status"], 200);
    });
}

#[test]
fn a_client_has_no_more_connections_than_allowed() {
    run(async {
        let secured = Secured::served(Limits {
            max_connections_per_client: 3,
            ..Limits::default()
        })
        .await;
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut session = Session::open(&secured).await;
            assert_eq!(session.ask("GET", "/a", &[], b"").await.head.status, 200);
            open.push(session);
        }
        // It may hear so at the end of its handshake, or a moment later.
        let reason = match connect(&secured).await {
            (_endpoint, Ok(fourth)) => tokio::time::timeout(PATIENCE, fourth.closed()).await.unwrap(),
            (_endpoint, Err(reason)) => reason,
        };
        assert!(
            matches!(reason, quinn::ConnectionError::ApplicationClosed(_)),
            "{reason}"
        );
        // TCP counts beside it.
        let mut client = secured.edge.connect().await;
        assert_eq!(client.reply().await.unwrap().status, 503);
        open.pop();
        while secured.edge.status().await["connections"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(secured.edge.connect().await.get("/a").await.status, 200);
        drop(secured.edge.stop().await);
    });
}
