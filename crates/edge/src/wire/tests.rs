//! The wire against scripted clients.

use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn everything_passed(script: &[u8], cut: usize) -> (Vec<u8>, Arc<Link>) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let link = Arc::new(Link::default());
    let mut wire = Wire::new(server, link.clone(), Arc::new(Limits::default()));
    let script = script.to_vec();
    let sender = tokio::spawn(async move {
        for piece in script.chunks(cut) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut out = Vec::new();
    let mut buffer = [0; 333];
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(200), wire.read(&mut buffer)).await {
        if n == 0 {
            break;
        }
        out.extend_from_slice(&buffer[..n]);
    }
    drop(sender.await);
    (out, link)
}

#[test]
fn nothing_of_the_client_follows_a_refused_head() {
    runtime().block_on(async {
        let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let bad = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let script = format!("{good}{bad}0\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
        let (out, link) = everything_passed(script.as_bytes(), 7).await;
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!("{good}{}", String::from_utf8_lossy(STAND_IN))
        );
        assert!(link.refusal(0).is_none());
        assert_eq!(link.refusal(1).unwrap().fault.kind, Kind::Malformed);
        assert_eq!(link.refusal(1).unwrap().first_line, "POST /2 HTTP/1.1");
    });
}

fn short() -> Arc<Limits> {
    Arc::new(Limits {
        header_timeout_ms: 300,
        idle_timeout_ms: 700,
        body_idle_timeout_ms: 300,
        ..Limits::default()
    })
}

#[test]
fn a_dribbled_head_ends_at_its_deadline_and_an_idle_connection_at_its_own() {
    runtime().block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let link = Arc::new(Link::default());
        let mut wire = Wire::new(server, link.clone(), short());
        let begun = Instant::now();
        let dribble = tokio::spawn(async move {
            while client.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut buffer = vec![0; 1024];
        let n = wire.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..n], STAND_IN);
        assert_eq!(link.refusal(0).unwrap().fault.kind, Kind::HeadTimeout);
        assert!(
            (290..690).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        dribble.abort();

        let (_client, server) = tokio::io::duplex(1 << 10);
        let mut wire = Wire::new(server, Arc::new(Link::default()), short());
        let begun = Instant::now();
        assert!(!wire.wake().await);
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 0);
        assert!(
            (690..1500).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_dribbled_body_ends_although_every_pause_is_short() {
    runtime().block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut wire = Wire::new(server, Arc::new(Link::default()), short());
        let begun = Instant::now();
        let dribble = tokio::spawn(async move {
            client
                .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
                .await
                .unwrap();
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut all = Vec::new();
        let error = wire.read_to_end(&mut all).await.unwrap_err();
        assert_eq!(crate::fault::find(&error).unwrap().kind, Kind::BodyTimeout);
        assert!(
            (290..900).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        dribble.abort();
    });
}

#[test]
fn an_idle_connection_naps_and_wakes_without_losing_a_byte() {
    runtime().block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut wire = Wire::new(server, Arc::new(Link::default()), Arc::new(Limits::default()));
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut buffer = vec![0; 1024];
        for _ in 0..3 {
            client.write_all(head).await.unwrap();
            assert!(wire.wake().await);
            assert!(!wire.is_asleep());
            assert_eq!(wire.read(&mut buffer).await.unwrap(), head.len());
            // An answer in the making is no idleness.
            let busy = tokio::time::timeout(NAP_AFTER * 2, wire.read(&mut buffer)).await;
            assert!(busy.is_err());
            wire.link.answered.fetch_add(1, Ordering::Release);
            assert_eq!(wire.read(&mut buffer).await.unwrap(), 0);
            assert!(wire.is_asleep());
            wire.shutdown().await.unwrap();
        }
        drop(client);
        assert!(!wire.wake().await);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pipelined_requests_pass_unchanged_however_they_are_cut(
        bodies in proptest::collection::vec((0_u8..3, proptest::collection::vec(any::<u8>(), 0..500)), 1..6),
        cut in 1_usize..700,
    ) {
        let mut script = Vec::new();
        for (kind, body) in &bodies {
            match kind {
                0 => script.extend_from_slice(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"),
                1 => {
                    script.extend_from_slice(format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
                    script.extend_from_slice(body);
                }
                _ => {
                    script.extend_from_slice(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                    for piece in body.chunks(97) {
                        script.extend_from_slice(format!("{:x};ext=1\r\n", piece.len()).as_bytes());
                        script.extend_from_slice(piece);
                        script.extend_from_slice(b"\r\n");
                    }
                    script.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
                }
            }
        }
        let (out, link) = runtime().block_on(everything_passed(&script, cut));
        prop_assert!(link.refused.get().is_none(), "{:?}", link.refused.get());
        prop_assert_eq!(out, script);
    }
}
