//! Who may come in: clients that a proxy introduces, and no more connections of each than allowed.

use crate::secured::Secured;
use crate::support::{BALANCER, Client, TestEdge, run};
use astraler_edge::Limits;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 80\r\n";

/// Version 2: a client at 192.0.2.`last`.
fn v2(last: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend([192, 0, 2, last, 198, 51, 100, 1, 0x30, 0x39, 0, 80]);
    bytes
}

async fn from(source: &str, to: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let stream: TcpStream = socket.connect(to).await.unwrap();
    Client {
        stream,
        buffer: Vec::new(),
    }
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits {
            header_timeout_ms: 400,
            ..Limits::default()
        })
        .await;
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
        for (header, client) in [
            (V1.to_vec(), "192.0.2.7"),
            (v2(9), "192.0.2.9"),
            (local, BALANCER),
            (b"PROXY UNKNOWN\r\n".to_vec(), BALANCER),
        ] {
            for cut in [usize::MAX, 5] {
                let mut proxy = from(BALANCER, edge.address).await;
                for piece in header.chunks(cut.min(header.len())) {
                    proxy.send(piece).await;
                    tokio::task::yield_now().await;
                }
                assert_eq!(proxy.get("/a").await.status, 200);
                assert_eq!(proxy.get("/b").await.status, 200);
                for seen in worker.take_seen() {
                    assert_eq!(seen.headers["cf-connecting-ip"], client);
                }
            }
        }
        // HTTP/2 behind it.
        let mut proxy = from(BALANCER, edge.address).await;
        proxy.send(v2(11)).await;
        let (mut send, connection) = h2::client::handshake(proxy.stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://worker.test/").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        assert_eq!(worker.take_seen()[0].headers["cf-connecting-ip"], "192.0.2.11");
        connection.abort();

        // Nothing else is answered.
        for first in [
            b"GET / HTTP/1.1\r\nHost: worker.test\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c".to_vec(),
        ] {
            let mut stranger = from(BALANCER, edge.address).await;
            stranger.send(&first).await;
            assert!(stranger.is_closed().await);
        }
        // A dribbled header ends.
        let mut slow = from(BALANCER, edge.address).await;
        slow.send(&V1[..9]).await;
        let begun = Instant::now();
        assert!(slow.is_closed().await);
        assert!(
            (300..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        // From elsewhere the header is no request.
        let mut client = edge.connect().await;
        client
            .send([V1, b"GET / HTTP/1.1\r\nHost: worker.test\r\n\r\n"].concat())
            .await;
        assert_eq!(client.reply().await.unwrap().status, 400);
        assert!(worker.take_seen().is_empty());
        let lines = edge.stop().await;
        assert_eq!(lines[0]["client_ip"], "192.0.2.7");
    });
}

#[test]
fn a_trusted_proxy_introduces_clients_that_speak_tls_too() {
    run(async {
        let secured = Secured::served(Limits::default()).await;
        for (alpn, client) in [("http/1.1", 21), ("h2", 22)] {
            let config = secured.client(rustls::ALL_VERSIONS, &[alpn]);
            let mut proxy = from(BALANCER, secured.edge.https).await;
            proxy.send(v2(client)).await;
            let stream = secured.over(proxy.stream, &config, "worker.test").await.unwrap();
            if alpn == "h2" {
                let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
                let connection = tokio::spawn(connection);
                let request = http::Request::get("https://worker.test/").body(()).unwrap();
                let (response, _) = send.send_request(request, true).unwrap();
                assert_eq!(response.await.unwrap().status(), 200);
                connection.abort();
            } else {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut stream = stream;
                let request = b"GET / HTTP/1.1\r\nHost: worker.test\r\nConnection: close\r\n\r\n";
                stream.write_all(request).await.unwrap();
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                assert!(answer.starts_with(b"HTTP/1.1 200"));
            }
            let seen = secured._worker.take_seen();
            assert_eq!(seen[0].headers["cf-connecting-ip"], format!("192.0.2.{client}"));
            assert_eq!(seen[0].headers["x-forwarded-proto"], "https");
        }
        // Without the header there is no handshake.
        let proxy = from(BALANCER, secured.edge.https).await;
        let config = secured.usual();
        assert!(secured.over(proxy.stream, &config, "worker.test").await.is_err());
        drop(secured.edge.stop().await);
    });
}

#[test]
fn a_client_has_no_more_connections_than_allowed() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            max_connections_per_client: 8,
            ..Limits::default()
        })
        .await;
        // All at once, from two addresses.
        let many = (0..60).map(|n| {
            let source = if n % 2 == 0 { "127.0.0.2" } else { "127.0.0.3" };
            let to = edge.address;
            async move {
                let mut client = from(source, to).await;
                client.send("GET /a HTTP/1.1\r\nHost: worker.test\r\n\r\n").await;
                (source, client.reply().await.unwrap().status, client)
            }
        });
        let all = futures_util::future::join_all(many).await;
        for source in ["127.0.0.2", "127.0.0.3"] {
            let of = |status: u16| {
                all.iter()
                    .filter(|one| one.0 == source && one.1 == status)
                    .count()
            };
            assert_eq!((of(200), of(503)), (8, 22), "{source}");
        }
        assert_eq!(edge.status().await["turned_away_total"], 44);
        assert_eq!(edge.connect().await.get("/a").await.status, 200);
        drop(all);
        while edge.status().await["connections"] != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(from("127.0.0.2", edge.address).await.get("/a").await.status, 200);

        // Behind a proxy each client counts for itself.
        let mut held = Vec::new();
        for n in 0..9 {
            let mut proxy = from(BALANCER, edge.address).await;
            proxy.send(v2(1)).await;
            proxy.send("GET /a HTTP/1.1\r\nHost: worker.test\r\n\r\n").await;
            let expected = if n < 8 { 200 } else { 503 };
            assert_eq!(proxy.reply().await.unwrap().status, expected, "{n}");
            held.push(proxy);
        }
        let mut proxy = from(BALANCER, edge.address).await;
        proxy.send(v2(2)).await;
        assert_eq!(proxy.get("/a").await.status, 200);
        drop(edge.stop().await);
    });
}
