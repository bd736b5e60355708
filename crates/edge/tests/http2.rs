//! HTTP/2 from outside: a real client, and raw frames where a real client would not do such things.

use crate::support::{PATIENCE, TestEdge, run};
use astraler_edge::Limits;
use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response, StatusCode};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// `GET` on host `worker.test`.
fn get(target: &str) -> Request<()> {
    request("GET", target, &[])
}

pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://worker.test{target}"))
        .version(http::Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

pub(crate) struct Session {
    pub(crate) send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

pub(crate) struct Whole {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Session {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::with(address, &h2::client::Builder::new()).await
    }

    async fn with(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        Self { send, connection }
    }

    async fn ask(&mut self, request: Request<()>) -> Result<Whole, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, _) = send.send_request(request, true)?;
        whole(response.await?).await
    }

    pub(crate) async fn post(&mut self, request: Request<()>, body: &[u8]) -> Result<Whole, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(Bytes::copy_from_slice(body), true)?;
        whole(response.await?).await
    }

    /// Ends as GOAWAY says.
    async fn reason(self) -> Option<Reason> {
        drop(self.send);
        let ended = tokio::time::timeout(PATIENCE, self.connection).await;
        match ended.expect("the edge keeps the connection").unwrap() {
            Ok(()) => None,
            Err(error) => error.reason(),
        }
    }
}

pub(crate) async fn whole(response: Response<RecvStream>) -> Result<Whole, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Whole {
        head,
        body: body.into(),
        trailers,
    })
}

#[test]
fn requests_and_answers_pass_both_ways() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut session = Session::open(edge.address).await;
        let answer = session.ask(get("/hop?x=1")).await.unwrap();
        assert_eq!((answer.head.status, &*answer.body), (StatusCode::OK, &b"hop"[..]));
        for gone in [
            "connection",
            "keep-alive",
            "x-private",
            "server",
            "transfer-encoding",
        ] {
            assert!(!answer.head.headers.contains_key(gone), "{gone}");
        }
        assert!(answer.head.headers.contains_key("x-request-id"));
        assert!(answer.head.headers.contains_key("date"));
        let seen = worker.take_seen().remove(0);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/hop?x=1"));
        assert_eq!(seen.headers["host"], "worker.test");

        // Bodies larger than every window, in both directions.
        let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let answer = session.post(request("POST", "/echo", &[]), &large).await.unwrap();
        assert!(answer.body == large);
        worker.take_seen();

        let answer = session
            .ask(request("GET", "/trailers", &[("te", "trailers")]))
            .await
            .unwrap();
        assert_eq!(&*answer.body, b"body");
        let trailers = answer.trailers.unwrap();
        assert_eq!(trailers["x-sum"], "42");
        assert!(!trailers.contains_key("content-length"));

        let mut send = session.send.clone().ready().await.unwrap();
        let announced = request("POST", "/x", &[("trailer", "x-mine")]);
        let (response, mut stream) = send.send_request(announced, false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", "7".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        whole(response.await.unwrap()).await.unwrap();
        let seen = worker.take_seen();
        let seen = seen.iter().find(|seen| seen.target == "/x").unwrap();
        assert_eq!(&*seen.body, b"abc");
        assert_eq!(seen.trailers.as_ref().unwrap()["x-mine"], "7");

        let answer = session.ask(request("HEAD", "/length", &[])).await.unwrap();
        assert_eq!(answer.head.headers["content-length"], "1234");
        assert!(answer.body.is_empty());
        let answer = session.ask(get("/nothing")).await.unwrap();
        assert_eq!(answer.head.status, 204);

        let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
        session.ask(request("GET", "/cookies", &crumbs)).await.unwrap();
        let seen = worker.take_seen().pop().unwrap();
        assert_eq!(seen.headers["cookie"], "a=1; b=2");
        drop(session);
        let lines = edge.stop().await;
        assert!(lines.iter().all(|line| line["protocol"] == "HTTP/2"), "{lines:?}");
        assert_eq!(lines[1]["bytes_in"], 3_000_000);
        assert_eq!(lines[1]["bytes_out"], 3_000_000);
    });
}

#[test]
fn many_streams_share_a_connection_and_no_more_than_allowed() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut session = Session::open(edge.address).await;
        session.ask(get("/a")).await.unwrap();
        assert_eq!(session.send.current_max_send_streams(), 128);
        let begun = Instant::now();
        let slow = (0..100).map(|_| {
            let mut session = Session {
                send: session.send.clone(),
                connection: tokio::spawn(async { Ok(()) }),
            };
            async move { session.ask(get("/slow")).await.unwrap().body }
        });
        let bodies = futures_util::future::join_all(slow).await;
        assert!(bodies.iter().all(|body| &**body == b"slow"));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        drop(edge.stop().await);
    });
}

#[test]
fn a_request_that_could_mean_two_things_is_refused() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits {
            max_uri_bytes: 100,
            max_headers: 20,
            ..Limits::default()
        })
        .await;
        let mut session = Session::open(edge.address).await;
        let long = format!("/{}", "a".repeat(100));
        let fields: Vec<(&str, &str)> = vec![("x-many", "1"); 21];
        for (request, status) in [
            (request("GET", "/", &[("host", "other.test")]), 400),
            (
                request("GET", "/", &[("host", "worker.test"), ("host", "worker.test")]),
                400,
            ),
            (request("GET", "/%zz", &[]), 400),
            (request("GET", "/", &[("content_length", "5")]), 400),
            (request("TRACE", "/", &[]), 405),
            (request("GET", &long, &[]), 414),
            (request("GET", "/", &fields), 431),
            (request("GET", "/", &[("expect", "miracles")]), 417),
        ] {
            let shown = format!("{request:?}");
            let answer = session.ask(request).await.unwrap();
            assert_eq!(answer.head.status, status, "{shown}");
        }
        assert!(worker.take_seen().is_empty());
        // The connection is as good as before.
        let same = request("GET", "/", &[("host", "worker.test")]);
        assert_eq!(session.ask(same).await.unwrap().head.status, 200);
        let lines = edge.stop().await;
        assert_eq!(lines.len(), 9);
        assert_eq!(
            (lines[4]["method"].as_str(), lines[4]["error"].as_str()),
            (Some("TRACE"), Some("method_not_allowed"))
        );
    });
}

#[test]
fn bodies_have_a_limit_and_a_pace() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits {
            max_body_bytes: 1000,
            body_idle_timeout_ms: 300,
            ..Limits::default()
        })
        .await;
        let mut session = Session::open(edge.address).await;
        let announced = request("POST", "/x", &[("content-length", "1001")]);
        assert_eq!(
            session.post(announced, &[b'x'; 1001]).await.unwrap().head.status,
            413
        );
        let answer = session
            .post(request("POST", "/x", &[]), &[b'x'; 1001])
            .await
            .unwrap();
        assert_eq!(answer.head.status, 413);
        // A byte each 50 ms keeps every pause short.
        let begun = Instant::now();
        let mut send = session.send.clone().ready().await.unwrap();
        let (response, mut stream) = send.send_request(request("POST", "/x", &[]), false).unwrap();
        let dribble = tokio::spawn(async move {
            while stream.send_data(Bytes::from_static(b"x"), false).is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(response.await.unwrap().status(), 408);
        assert!(
            (250..2_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        dribble.abort();
        assert!(worker.take_seen().is_empty());
        assert_eq!(session.ask(get("/a")).await.unwrap().head.status, 200);
        drop(edge.stop().await);
    });
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_a_worker() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            body_idle_timeout_ms: 400,
            body_min_bytes_per_s: 10_000,
            ..Limits::default()
        })
        .await;
        // It opens a window and never more.
        let mut session =
            Session::with(edge.address, h2::client::Builder::new().initial_window_size(1000)).await;
        let begun = Instant::now();
        let mut send = session.send.clone().ready().await.unwrap();
        let (response, _) = send.send_request(get("/endless"), true).unwrap();
        let (_, mut stream) = response.await.unwrap().into_parts();
        let mut read = 0;
        let error = loop {
            match stream.data().await {
                Some(Ok(data)) => read += data.len(),
                Some(Err(error)) => break error,
                None => panic!("the answer has no end"),
            }
        };
        assert_eq!((read, error.reason()), (1000, Some(Reason::CANCEL)));
        assert!(
            (350..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        // It opens its window by a byte at a time.
        let begun = Instant::now();
        let (response, _) = send.send_request(get("/endless"), true).unwrap();
        let (_, mut stream) = response.await.unwrap().into_parts();
        while let Some(Ok(data)) = stream.data().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
            // h2 sends an update once half of the window is there: small pieces, slowly.
            let _ = stream.flow_control().release_capacity(data.len().min(10));
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(session.ask(get("/nothing")).await.unwrap().head.status, 204);

        // It opens all windows and reads nothing from the socket.
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\x00\x00";
        stream.write_all(settings).await.unwrap();
        stream.write_all(&headers_frame(1, b"/endless")).await.unwrap();
        let begun = Instant::now();
        while edge.status().await["connections"] != 1 {
            assert!(begun.elapsed() < Duration::from_secs(8), "the edge keeps it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(edge.stop().await);
    });
}

/// HEADERS with END_STREAM and END_HEADERS: GET on `worker.test`.
fn headers_frame(stream: u32, path: &[u8]) -> Vec<u8> {
    // Indexed :method GET and :scheme http; literal :path and :authority, not indexed (RFC 7541).
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x01\x0bworker.test");
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 0x5];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, 0];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Reads frames to the end of the connection; the codes of the GOAWAYs.
async fn goaways(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u32> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    let _ = read.expect("the edge keeps the connection");
    let mut codes = Vec::new();
    let mut rest = &all[..];
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 {
            codes.push(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    codes
}

#[test]
fn floods_end_with_enhance_your_calm() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let resets = |n: u32| {
            let stream = 2 * n + 1;
            [headers_frame(stream, b"/slow"), frame(3, stream, &[0, 0, 0, 8])].concat()
        };
        type Flood = fn(u32) -> Vec<u8>;
        let floods: [(&str, Flood); 4] = [
            ("rapid reset", resets),
            ("ping", |_| frame(6, 0, &[0; 8])),
            ("settings", |_| frame(4, 0, &[])),
            ("priority", |_| frame(2, 1, &[0, 0, 0, 3, 1])),
        ];
        for (name, flood) in floods {
            let stream = TcpStream::connect(edge.address).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            write.write_all(PREFACE).await.unwrap();
            let sender = tokio::spawn(async move {
                for n in 0..20_000 {
                    if write.write_all(&flood(n)).await.is_err() {
                        return n;
                    }
                }
                20_000
            });
            let codes = goaways(&mut read).await;
            let sent = sender.await.unwrap();
            // Closing may overtake the last frames.
            assert!(
                codes.is_empty() || codes.ends_with(&[11]),
                "{name}: {codes:?} after {sent}"
            );
        }
        // Somebody else is served as before.
        let mut session = Session::open(edge.address).await;
        assert_eq!(session.ask(get("/a")).await.unwrap().head.status, 200);
        drop(edge.stop().await);
    });
}

#[test]
fn a_head_must_arrive_in_time_and_an_idle_connection_ends() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            header_timeout_ms: 400,
            idle_timeout_ms: 700,
            ..Limits::default()
        })
        .await;
        let dribbles: [(&str, Vec<u8>, Vec<u8>); 3] = [
            ("preface", PREFACE[..5].to_vec(), PREFACE[5..].to_vec()),
            (
                "head",
                [PREFACE, &headers_frame(1, b"/a")[..15]].concat(),
                vec![b'x'; 5],
            ),
            (
                "continuation",
                [PREFACE, b"\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82"].concat(),
                frame(9, 1, &[]).repeat(3),
            ),
        ];
        for (name, first, dribble) in dribbles {
            let mut stream = TcpStream::connect(edge.address).await.unwrap();
            let begun = Instant::now();
            stream.write_all(&first).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let sender = tokio::spawn(async move {
                for byte in dribble.chunks(1) {
                    tokio::time::sleep(Duration::from_millis(80)).await;
                    if write.write_all(byte).await.is_err() {
                        return;
                    }
                }
                tokio::time::sleep(PATIENCE).await;
            });
            goaways(&mut read).await;
            assert!(
                (350..2_500).contains(&begun.elapsed().as_millis()),
                "{name}: {:?}",
                begun.elapsed()
            );
            sender.abort();
        }
        // Pings are no requests.
        let mut session = Session::open(edge.address).await;
        session.ask(get("/slow")).await.unwrap();
        let begun = Instant::now();
        assert_eq!(session.reason().await, None);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        drop(edge.stop().await);
    });
}

#[test]
fn a_drain_says_goaway_and_lets_requests_end() {
    run(async {
        let (mut edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&headers_frame(1, b"/slow")).await.unwrap();
        let mut session = Session::open(edge.address).await;
        let mut send = session.send.clone().ready().await.unwrap();
        let (response, _) = send.send_request(get("/slow"), true).unwrap();
        while edge.status().await["in_flight"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        edge.begin_stop();
        assert_eq!(&*whole(response.await.unwrap()).await.unwrap().body, b"slow");
        assert!(session.ask(get("/a")).await.is_err());
        // The raw client never answers the ping of the first GOAWAY: it is not waited for without end.
        let codes = goaways(&mut stream).await;
        assert!(
            codes.iter().all(|&code| code == 0) && !codes.is_empty(),
            "{codes:?}"
        );
        let lines = edge.stop().await;
        assert_eq!(
            lines.iter().filter(|line| line["status"] == 200).count(),
            2,
            "{lines:?}"
        );
    });
}

#[test]
fn a_cut_answer_is_reset_and_a_request_taken_back_is_let_go() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut session = Session::open(edge.address).await;
        for target in ["/cut", "/cut-chunks"] {
            let error = session.ask(get(target)).await.err().unwrap();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{target}");
        }
        let mut send = session.send.clone().ready().await.unwrap();
        let (response, mut stream) = send.send_request(get("/never"), true).unwrap();
        while edge.status().await["in_flight"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(response);
        while edge.status().await["in_flight"] != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(session.ask(get("/a")).await.unwrap().head.status, 200);
        let lines = edge.stop().await;
        assert_eq!(lines[2]["status"], 499);
    });
}

#[test]
fn an_upload_that_waits_for_100_gets_it() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let mut block = vec![0x83, 0x86, 0x84];
        block.extend_from_slice(b"\x01\x0bworker.test\x00\x06expect\x0c100-continue");
        let mut head = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 0x4, 0, 0, 0, 1];
        head.extend_from_slice(&block);
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&head).await.unwrap();
        // :status 100 as a literal with an indexed name.
        let mut seen = Vec::new();
        while !seen.windows(3).any(|three| three == b"100")
            && !seen.windows(3).any(|three| three == [0x82, 0x08, 0x01])
        {
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut seen)).await;
            assert!(read.expect("no 100").unwrap() > 0);
        }
        let mut data = frame(0, 1, b"abc");
        data[4] = 1;
        stream.write_all(&data).await.unwrap();
        while !worker.take_seen().iter().any(|seen| &*seen.body == b"abc") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(edge.stop().await);
    });
}

#[test]
fn a_websocket_runs_over_a_stream() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut session = Session::open(edge.address).await;
        // The setting comes with the first frames.
        session.ask(get("/a")).await.unwrap();
        assert!(session.send.is_extended_connect_protocol_enabled());
        let connect = |target: &str| {
            let mut request = request("CONNECT", target, &[("sec-websocket-version", "13")]);
            request
                .extensions_mut()
                .insert(h2::ext::Protocol::from_static("websocket"));
            request
        };
        let mut send = session.send.clone().ready().await.unwrap();
        let (response, mut to_edge) = send.send_request(connect("/ws"), false).unwrap();
        let (head, mut from_edge) = response.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert!(!head.headers.contains_key("sec-websocket-accept"));
        for word in ["hello", "again"] {
            to_edge.send_data(Bytes::from(word), false).unwrap();
            let data = tokio::time::timeout(PATIENCE, from_edge.data()).await;
            assert_eq!(&*data.unwrap().unwrap().unwrap(), word.as_bytes());
        }
        to_edge.send_data(Bytes::new(), true).unwrap();
        assert!(
            poll_fn(|cx| from_edge.poll_data(cx))
                .await
                .is_none_or(|data| data.unwrap().is_empty())
        );
        let (response, _stream) = send.send_request(connect("/ws-refused"), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 426);
        let lines = edge.stop().await;
        assert!(
            lines
                .iter()
                .any(|line| line["upgraded"] == true && line["bytes_in"] == 10),
            "{lines:?}"
        );
    });
}
