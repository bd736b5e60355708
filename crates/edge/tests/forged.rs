//! What a client says must not become what a worker, or another client, believes.

use crate::cache::origin::{answer, start, word};
use crate::http2::{Session, request};
use crate::support::{TestEdge, route, run};
use astraler_edge::Limits;
use astraler_model::Origin;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_underscore_makes_a_claim_no_truer() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        // CGI, WSGI and Rack make `-` and `_` the same; `Proxy` becomes HTTP_PROXY.
        let lies = "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nCF_Connecting_IP: 6.6.6.6\r\n\
            X_Request-Id: mine\r\nTRUE_CLIENT_IP: 6.6.6.6\r\nClient_IP: 6.6.6.6\r\nX_Original_URL: /admin\r\n\
            Proxy: http://evil\r\nX-Remote-Addr: 6.6.6.6\r\nX_Mine: 1\r\nProxy-Mine: 1\r\n";
        client.get_with("worker.test", "/x", lies).await;
        let seen = worker.take_seen().remove(0).headers;
        for (name, value) in &seen {
            assert!(!name.as_str().contains('_') || name == "x_mine", "{name}");
            assert!(!value.as_bytes().starts_with(b"6.6"), "{name}");
        }
        assert!(!seen.contains_key("proxy") && seen["x-forwarded-proto"] == "http");
        assert_eq!(
            (&seen["x_mine"], &seen["proxy-mine"]),
            (&"1".parse().unwrap(), &"1".parse().unwrap())
        );
        client
            .send(
                "POST /x HTTP/1.1\r\nHost: worker.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
                 X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nX-Sum: 1\r\n\r\n",
            )
            .await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        let trailers = worker.take_seen().remove(0).trailers.unwrap();
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
        edge.stop().await;
    });
}

/// The worker does not see what `Connection` names; so it must not choose among what is stored.
#[test]
fn a_field_of_the_connection_selects_no_stored_answer() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| {
            let asks = seen
                .headers
                .get("origin")
                .map_or("nobody", |value| value.to_str().unwrap());
            answer(
                200,
                &[
                    ("cache-control", "max-age=60"),
                    ("vary", "origin"),
                    ("x-for", asks),
                ],
                "x",
            )
        })
        .await;
        let lines = "Origin: https://a.test\r\nConnection: keep-alive, Origin\r\n";
        let reply = client.get_with("worker.test", "/", lines).await;
        assert_eq!((word(&reply), reply.header("x-for")), ("MISS", Some("nobody")));
        let reply = client
            .get_with("worker.test", "/", "Origin: https://a.test\r\n")
            .await;
        assert_eq!(
            (word(&reply), reply.header("x-for")),
            ("MISS", Some("https://a.test"))
        );
        let reply = client.get("/").await;
        assert_eq!((word(&reply), reply.header("x-for")), ("HIT", Some("nobody")));
        assert_eq!(origin.count(), 2);
        edge.stop().await;
    });
}

/// What the edge writes for the worker is another for each client, whatever the clients send.
#[test]
fn an_answer_that_varies_by_the_clients_address_is_given_to_nobody_else() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| {
            let vary = seen.target.trim_start_matches('/').to_owned();
            answer(200, &[("cache-control", "max-age=60"), ("vary", &vary)], "x")
        })
        .await;
        for (vary, stored) in [
            ("x-forwarded-for", false),
            ("accept,CF-Connecting-IP", false),
            ("x_forwarded_for", false),
            ("forwarded", false),
            ("x-request-id", false),
            ("traceparent", false),
            ("x-forwarded-proto", true),
            ("accept", true),
        ] {
            let before = origin.count();
            let target = format!("/{vary}");
            assert_eq!(
                word(&client.get(&target).await),
                if stored { "MISS" } else { "BYPASS" },
                "{vary}"
            );
            assert_eq!(
                word(&client.get(&target).await),
                if stored { "HIT" } else { "BYPASS" },
                "{vary}"
            );
            assert_eq!(origin.count() - before, if stored { 1 } else { 2 });
        }
        edge.stop().await;
    });
}

#[test]
fn an_answer_to_another_method_is_not_stored_for_get() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| {
            let meant = seen.headers.keys().any(|name| name.as_str().contains("method"));
            answer(
                200,
                &[("cache-control", "max-age=60")],
                if meant { "deleted" } else { "page" },
            )
        })
        .await;
        for name in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
            let reply = client
                .get_with("worker.test", "/", &format!("{name}: DELETE\r\n"))
                .await;
            assert_eq!(
                (word(&reply), reply.text().as_str()),
                ("BYPASS", "deleted"),
                "{name}"
            );
        }
        assert_eq!(client.get("/").await.text(), "page");
        assert_eq!(word(&client.get("/").await), "HIT");
        assert_eq!(origin.count(), 4);
        edge.stop().await;
    });
}

/// Over HTTP/2 a body needs no field that tells of it.
#[test]
fn a_get_with_content_reaches_the_worker_with_it_and_is_not_stored() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| {
            answer(
                200,
                &[("cache-control", "max-age=60")],
                [b"for ", &seen.body[..]].concat(),
            )
        })
        .await;
        let mut session = Session::open(edge.address).await;
        for _ in 0..2 {
            let reply = session.post(request("GET", "/", &[]), b"me").await.unwrap();
            assert_eq!(
                (&reply.body[..], &reply.head.headers["cf-cache-status"]),
                (&b"for me"[..], &"BYPASS".parse().unwrap())
            );
        }
        let reply = client.get("/").await;
        assert_eq!((word(&reply), reply.text().as_str()), ("MISS", "for "));
        let reply = session.post(request("GET", "/", &[]), b"me").await.unwrap();
        assert_eq!(
            &reply.body[..],
            b"for me",
            "nor is it answered from what is stored"
        );
        assert_eq!(origin.count(), 4);
    });
}

#[test]
fn options_go_no_further_than_their_client_wants() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        for (value, reaches) in [
            ("0", None),
            ("3", Some("2")),
            ("99999999999999999999", Some("18446744073709551614")),
            ("x", Some("x")),
        ] {
            client
                .send(&format!(
                    "OPTIONS /x HTTP/1.1\r\nHost: worker.test\r\nMax-Forwards: {value}\r\n\r\n"
                ))
                .await;
            let reply = client.reply().await.unwrap();
            let seen = worker.take_seen();
            assert_eq!(
                seen.first()
                    .map(|seen| seen.headers["max-forwards"].to_str().unwrap()),
                reaches
            );
            assert_eq!(reply.header("allow").is_some(), reaches.is_none(), "{value}");
        }
        // It is nothing to any other method.
        client.get_with("worker.test", "/x", "Max-Forwards: 0\r\n").await;
        assert_eq!(worker.take_seen().len(), 1);
        edge.stop().await;
    });
}

#[test]
fn a_request_says_through_whom_it_has_come_and_goes_round_no_circle() {
    run(async {
        // Its own origin.
        let round = TestEdge::start(Limits::default(), |_| {
            let mut route = route("worker.test", vec![("/", PathBuf::new())]);
            route.workers[0].origin = Origin::Tcp {
                host: "127.0.0.1".into(),
                port: 0,
            };
            vec![route]
        })
        .await;
        let port = round.address.port();
        round.snapshots.send_modify(|snapshot| {
            let mut next = (**snapshot).clone();
            next.version += 1;
            next.routes[0].workers[0].origin = Origin::Tcp {
                host: "127.0.0.1".into(),
                port,
            };
            *snapshot = Arc::new(next);
        });
        while round.status().await["snapshot_version"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reply = round.connect().await.get("/x").await;
        assert_eq!(reply.status, 508);
        let lines = round.stop().await;
        assert_eq!(lines.len(), 9, "the eighth that comes round is the last");

        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .get_with("worker.test", "/x", "Via: 1.1 a, 2 b\r\nVia: 1.0 c (d)\r\n")
            .await;
        assert_eq!(
            worker.take_seen()[0].headers["via"],
            "1.1 a, 2 b, 1.0 c (d), 1.1 astraler"
        );
        edge.stop().await;
    });
}
