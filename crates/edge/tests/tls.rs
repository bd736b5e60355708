//! TLS as clients meet it: which certificate, which version, what a restart and a new certificate do to them.

use crate::secured::Secured;
use crate::support::{PATIENCE, TestEdge, run};
use astraler_model::{TlsCertificate, TlsSnapshot, TlsVersion};
use rustls::HandshakeKind;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

async fn get(stream: &mut TlsStream<TcpStream>, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// A head and as much as came with it.
async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !all.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn plain(edge: &TestEdge, method: &str, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    all
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    run(async {
        let secured = Secured::start().await;
        let first = secured.issue(&["localhost", "127.0.0.1"]);
        let exact = secured.issue(&["worker.test"]);
        let wild = secured.issue(&["*.preview.test", "*.worker.test"]);
        let certificates = vec![first.clone(), exact.clone(), wild.clone()];
        secured
            .publish(TlsSnapshot {
                certificates,
                ..TlsSnapshot::default()
            })
            .await;
        for (name, file) in [
            ("worker.test", &exact.file),
            ("WORKER.test", &exact.file),
            ("pr-7.preview.test", &wild.file),
            ("a.pr-7.preview.test", &first.file),
            ("localhost", &first.file),
            ("elsewhere.test", &first.file),
            // No name is sent for an address.
            ("127.0.0.1", &first.file),
        ] {
            assert_eq!(&secured.shown(name).await, file, "{name}");
        }
        let mut stream = secured.connect(&secured.usual(), "worker.test").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = get(&mut stream, "worker.test", "/echo").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(stream);
        let seen = secured._worker.seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(seen.headers["x-forwarded-proto"], "https");
        assert!(
            seen.headers["forwarded"]
                .to_str()
                .unwrap()
                .ends_with("proto=https")
        );
        let old = secured.client(&[&rustls::version::TLS12], &[]);
        let mut stream = secured.connect(&old, "worker.test").await.unwrap();
        get(&mut stream, "worker.test", "/old").await;
        drop(stream);
        plain(&secured.edge, "GET", "worker.test", "/plain").await;
        let lines = secured.edge.stop().await;
        let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
        assert_eq!(of("/echo")["tls_version"], "1.3");
        assert!(
            of("/echo")["tls_cipher"]
                .as_str()
                .unwrap()
                .starts_with("TLS13_AES_")
        );
        assert_eq!(of("/old")["tls_version"], "1.2");
        assert!(
            of("/old")["tls_cipher"]
                .as_str()
                .unwrap()
                .starts_with("TLS_ECDHE_")
        );
        assert!(of("/plain").get("tls_version").is_none());
    });
}

#[test]
fn a_new_certificate_is_shown_to_the_next_client_and_drops_nobody() {
    run(async {
        let secured = Secured::start().await;
        let old = secured.issue(&["worker.test"]);
        let tls = |certificate: &TlsCertificate| TlsSnapshot {
            certificates: vec![certificate.clone()],
            ..TlsSnapshot::default()
        };
        secured.publish(tls(&old)).await;
        let client = secured.usual();
        let mut open = secured.connect(&client, "worker.test").await.unwrap();
        assert!(get(&mut open, "worker.test", "/echo").await.contains(" 200 "));

        let new = secured.issue(&["worker.test"]);
        secured.publish(tls(&new)).await;
        assert_eq!(secured.shown("worker.test").await, new.file);
        assert!(get(&mut open, "worker.test", "/echo").await.contains(" 200 "));
        assert_eq!(secured.file_of(&open), old.file);

        // What cannot be read leaves the one before in force, for these names and as the fallback.
        let mut broken = new.clone();
        broken.file = secured.edge.folder.path().join("broken.pem");
        std::fs::write(&broken.file, std::fs::read(&new.file).unwrap().split_at(300).0).unwrap();
        secured.publish(tls(&broken)).await;
        assert_eq!(secured.shown("worker.test").await, new.file);
        assert_eq!(secured.shown("elsewhere.test").await, new.file);
    });
}

#[test]
fn sessions_are_resumed_over_new_certificates_and_the_oldest_version_is_the_snapshots() {
    run(async {
        let secured = Secured::start().await;
        let mut tls = TlsSnapshot {
            certificates: vec![secured.issue(&["worker.test"])],
            ..TlsSnapshot::default()
        };
        secured.publish(tls.clone()).await;
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let client = secured.client(&[version], &["http/1.1"]);
            let kind = async || {
                let mut stream = secured.connect(&client, "worker.test").await.unwrap();
                // Tickets of TLS 1.3 follow the handshake.
                get(&mut stream, "worker.test", "/echo").await;
                stream.get_ref().1.handshake_kind().unwrap()
            };
            assert_eq!(kind().await, HandshakeKind::Full, "{version:?}");
            assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
            tls.certificates = vec![secured.issue(&["worker.test"])];
            secured.publish(tls.clone()).await;
            assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
        }
        tls.min_version = TlsVersion::V1_3;
        secured.publish(tls).await;
        let old = secured.client(&[&rustls::version::TLS12], &["http/1.1"]);
        let refused = secured.connect(&old, "worker.test").await.unwrap_err();
        assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
        secured.connect(&secured.usual(), "worker.test").await.unwrap();
    });
}

#[test]
fn a_challenge_is_shown_to_whoever_validates_and_to_nobody_else() {
    run(async {
        let secured = Secured::start().await;
        let usual = secured.issue(&["worker.test"]);
        let proof = secured.prove("worker.test");
        secured
            .publish(TlsSnapshot {
                certificates: vec![usual.clone()],
                alpn_challenges: [("worker.test".to_owned(), proof.file.clone())].into(),
                http_challenges: [("token".to_owned(), "token.thumbprint".to_owned())].into(),
                ..TlsSnapshot::default()
            })
            .await;
        // Its critical extension is unknown to whoever verifies as usual.
        let validator = Secured::trusting(&secured.client(rustls::ALL_VERSIONS, &["acme-tls/1"]));
        let mut stream = secured.connect(&validator, "worker.test").await.unwrap();
        assert_eq!(secured.file_of(&stream), proof.file);
        let _ = stream
            .write_all(b"GET / HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        assert!(all.is_empty(), "no HTTP on it");
        // A name without a challenge has no certificate for it.
        assert!(secured.connect(&validator, "other.test").await.is_err());
        let both = secured.client(rustls::ALL_VERSIONS, &["acme-tls/1", "http/1.1"]);
        let stream = secured.connect(&both, "worker.test").await.unwrap();
        assert_eq!(secured.file_of(&stream), usual.file);

        let token = "/.well-known/acme-challenge/token";
        let answer = plain(&secured.edge, "GET", "any.test", token).await;
        assert!(
            answer.contains(" 200 ") && answer.ends_with("\r\n\r\ntoken.thumbprint"),
            "{answer}"
        );
        let other = plain(
            &secured.edge,
            "GET",
            "worker.test",
            "/.well-known/acme-challenge/echo",
        )
        .await;
        assert!(!other.contains("thumbprint"), "{other}");
    });
}

#[test]
fn plain_http_leads_to_https_where_the_snapshot_says_so() {
    run(async {
        let secured = Secured::start().await;
        let mut public = secured.issue(&["worker.test"]);
        public.redirect = true;
        public.hsts_max_age_s = 31_536_000;
        let mut tls = TlsSnapshot {
            certificates: vec![secured.issue(&["localhost"]), public],
            https_port: 3443,
            ..TlsSnapshot::default()
        };
        secured.publish(tls.clone()).await;
        let moved = plain(&secured.edge, "POST", "worker.test:3000", "/a%20b?c=d").await;
        assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");
        assert!(
            moved.contains("\r\nlocation: https://worker.test:3443/a%20b?c=d\r\n"),
            "{moved}"
        );
        assert!(!moved.contains("strict-transport-security"), "{moved}");
        let kept = plain(
            &secured.edge,
            "GET",
            "worker.test",
            "/.well-known/acme-challenge/x",
        )
        .await;
        assert!(!kept.contains(" 308 "), "{kept}");
        let local = plain(&secured.edge, "GET", "localhost", "/").await;
        assert!(!local.contains(" 308 "), "{local}");

        let mut stream = secured.connect(&secured.usual(), "worker.test").await.unwrap();
        let answer = get(&mut stream, "worker.test", "/echo").await;
        assert!(
            answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"),
            "{answer}"
        );
        let fault = get(&mut stream, "unknown.test", "/").await;
        assert!(!fault.contains("strict-transport-security"), "{fault}");

        tls.https_port = 443;
        secured.publish(tls).await;
        let moved = plain(&secured.edge, "GET", "worker.test", "/").await;
        assert!(
            moved.contains("\r\nlocation: https://worker.test/\r\n"),
            "{moved}"
        );
    });
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    run(async {
        let secured = Secured::start().await;
        let mut silent = TcpStream::connect(secured.edge.https).await.unwrap();
        let begun = Instant::now();
        let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 16]))
            .await
            .unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        assert!(
            (650..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn handshakes_that_stall_make_room_for_those_that_do_not() {
    run(async {
        // Ten seconds for a handshake, while they are few.
        let secured = Secured::served(astraler_edge::Limits::default()).await;
        let begun = Instant::now();
        let mut stalled = Vec::new();
        for _ in 0..520 {
            stalled.push(TcpStream::connect(secured.edge.https).await.unwrap());
        }
        while secured.edge.status().await["connections"] != 520 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let mut stream = secured.connect(&secured.usual(), "worker.test").await.unwrap();
        let answer = get(&mut stream, "worker.test", "/echo").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // Those beyond 512 are cut off, whichever they are; the others have their ten seconds.
        let cut = |stalled: &[TcpStream]| {
            let is_cut = |stream: &&TcpStream| matches!(stream.try_read(&mut [0; 16]), Ok(0));
            stalled.iter().filter(is_cut).count()
        };
        while cut(&stalled) < 8 {
            assert!(begun.elapsed() < PATIENCE, "{} were cut off", cut(&stalled));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let first = begun.elapsed();
        assert!((5_000..9_500).contains(&first.as_millis()), "{first:?}");
    });
}

#[test]
fn one_handshake_too_many_waits_for_its_turn() {
    run(async {
        let limits = astraler_edge::Limits {
            max_connections_per_client: 0,
            ..astraler_edge::Limits::default()
        };
        let secured = Secured::served(limits).await;
        let mut stalled = Vec::new();
        for _ in 0..2_060 {
            stalled.push(TcpStream::connect(secured.edge.https).await.unwrap());
        }
        while secured.edge.status().await["connections"] != 2_060 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        // A place is free once those that stall have had their two seconds.
        let begun = Instant::now();
        let mut stream = secured.connect(&secured.usual(), "worker.test").await.unwrap();
        let waited = begun.elapsed();
        let answer = get(&mut stream, "worker.test", "/echo").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(waited.as_millis() < 8_000, "{waited:?}");
        drop(stalled);
    });
}
