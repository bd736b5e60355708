//! The REST API, asked over HTTP on loopback.

use crate::instance::{Instance, PASSWORD, SECOND};
use astraler_model::{DataEnvironment, DataSnapshot, Environment, RedisAccess, TokenHash};
use astraler_redis::USER;
use astraler_redis::rest::{RestLimits, Service};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) const TOKEN: &str = "all-rights";
pub(crate) const READ_TOKEN: &str = "may-read";

pub(crate) fn snapshot(instances: &[(Environment, &Instance, &str)]) -> Arc<DataSnapshot> {
    let environments = instances.iter().map(|(environment, instance, prefix)| {
        let access = RedisAccess {
            socket: instance.config.socket.clone(),
            user: USER.into(),
            password: PASSWORD.into(),
            token: TokenHash::of(&format!("{prefix}{TOKEN}")),
            read_only_token: TokenHash::of(&format!("{prefix}{READ_TOKEN}")),
        };
        let data = DataEnvironment {
            postgres: None,
            redis: Some(access),
            buckets: BTreeMap::new(),
            replication: None,
            s3_credentials: vec![],
        };
        (*environment, data)
    });
    Arc::new(DataSnapshot {
        version: 1,
        environments: environments.collect(),
        grants: BTreeMap::new(),
    })
}

/// Serves on a port of its own until the test ends.
pub(crate) async fn listen(service: Arc<Service>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let answer = hyper::service::service_fn(move |request| {
                    let service = Arc::clone(&service);
                    async move { Ok::<_, Infallible>(service.handle(request).await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    address
}

struct Api(Arc<Service>, watch::Sender<Arc<DataSnapshot>>);

impl Api {
    fn of(snapshot: Arc<DataSnapshot>) -> Self {
        let (sender, source) = watch::channel(snapshot);
        Self(Arc::new(Service::new(source)), sender)
    }

    async fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .0
            .handle(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap())
            .await;
        assert!(response.headers().contains_key("upstash-sync-token"));
        text(response).await
    }

    async fn get(&self, uri: &str) -> (u16, String) {
        let (status, body) = self.ask("GET", uri, &[BEARER], "").await;
        (status.as_u16(), body)
    }

    async fn post(&self, uri: &str, body: &str) -> (u16, String) {
        let (status, body) = self.ask("POST", uri, &[BEARER], body).await;
        (status.as_u16(), body)
    }
}

const BEARER: (&str, &str) = ("authorization", "Bearer all-rights");

async fn text(
    response: Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>,
) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn is(answer: &(u16, String), status: u16, body: &str) {
    assert_eq!((answer.0, answer.1.as_str()), (status, body));
}

#[tokio::test]
async fn commands_pipelines_and_transactions() {
    let redis = Instance::running().await;
    let api = Api::of(snapshot(&[(Environment::Preview(7), &redis, "")]));
    is(
        &api.post("/set/foo?EX=100", "b a/r").await,
        200,
        r#"{"result":"OK"}"#,
    );
    is(&api.get("/get/foo").await, 200, r#"{"result":"b a/r"}"#);
    is(&api.get("/get/nothing").await, 200, r#"{"result":null}"#);
    assert!(api.get("/ttl/foo").await.1.contains("100") || api.get("/ttl/foo").await.1.contains("99"));
    is(
        &api.post("/", r#"["HSET","h","a",1,"b","x"]"#).await,
        200,
        r#"{"result":2}"#,
    );
    is(
        &api.get("/hgetall/h").await,
        200,
        r#"{"result":["a","1","b","x"]}"#,
    );
    let wrong = api.get("/incr/foo").await;
    is(
        &wrong,
        400,
        r#"{"error":"ERR value is not an integer or out of range"}"#,
    );
    is(
        &api.get("/blpop/l/0").await,
        400,
        r#"{"error":"ERR Command is not available over REST: 'BLPOP'"}"#,
    );
    is(
        &api.post(
            "/pipeline",
            r#"[["SET","n",1],["INCR","foo"],["SUBSCRIBE","c"],["INCR","n"]]"#,
        )
        .await,
        200,
        r#"[{"result":"OK"},{"error":"ERR value is not an integer or out of range"},{"error":"ERR Command is not available over REST: 'SUBSCRIBE'"},{"result":2}]"#,
    );
    is(
        &api.post("/multi-exec", r#"[["INCR","n"],["INCR","foo"],["GET","n"]]"#)
            .await,
        200,
        r#"[{"result":3},{"error":"ERR value is not an integer or out of range"},{"result":"3"}]"#,
    );
    let (status, body) = api.post("/multi-exec", r#"[["INCR","n"],["NOSUCH"]]"#).await;
    assert!(
        status == 400 && body.contains("unknown command 'NOSUCH'"),
        "{body}"
    );
    is(&api.get("/get/n").await, 200, r#"{"result":"3"}"#);
}

#[tokio::test]
async fn tokens_methods_and_formats() {
    let redis = Instance::running().await;
    let other = Instance::running().await;
    let api = Api::of(snapshot(&[
        (Environment::Staging, &redis, ""),
        (Environment::Production, &other, "prod-"),
    ]));
    is(&api.get("/set/k/staging").await, 200, r#"{"result":"OK"}"#);

    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Basic all-rights")],
        vec![("authorization", "Bearer ")],
    ] {
        let (status, body) = api.ask("GET", "/get/k", &headers, "").await;
        assert_eq!(
            (status.as_u16(), body.as_str()),
            (401, r#"{"error":"Unauthorized"}"#)
        );
    }
    // Each token leads to its own environment.
    let (_, body) = api
        .ask(
            "GET",
            "/get/k",
            &[("authorization", "Bearer prod-all-rights")],
            "",
        )
        .await;
    assert_eq!(body, r#"{"result":null}"#);
    let (_, body) = api.ask("GET", "/get/k?_token=may-read", &[], "").await;
    assert_eq!(body, r#"{"result":"staging"}"#);
    let (status, body) = api.ask("GET", "/set/k/x?_token=may-read", &[], "").await;
    assert!(status == 400 && body.contains("NOPERM"), "{body}");

    let (status, _) = api.ask("DELETE", "/get/k", &[BEARER], "").await;
    assert_eq!(status, 405);
    let (status, body) = api.ask("HEAD", "/get/k", &[BEARER], "").await;
    assert_eq!((status.as_u16(), body.as_str()), (200, ""));

    let base64 = ("upstash-encoding", "base64");
    let resp2 = ("upstash-response-format", "resp2");
    assert_eq!(
        api.ask("GET", "/get/k", &[BEARER, base64], "").await.1,
        r#"{"result":"c3RhZ2luZw=="}"#
    );
    assert_eq!(
        api.ask("GET", "/get/k", &[BEARER, resp2], "").await.1,
        "$7\r\nstaging\r\n"
    );
    assert_eq!(
        api.ask("POST", "/pipeline", &[BEARER, resp2], r#"[["GET","k"]]"#)
            .await
            .1,
        "*1\r\n$7\r\nstaging\r\n"
    );
    assert_eq!(
        api.ask("GET", "/get/k", &[BEARER, resp2, base64], "").await.0,
        400
    );
    assert_eq!(
        api.ask("POST", "/multi-exec", &[BEARER, resp2], r#"[["GET","k"]]"#)
            .await
            .0,
        400
    );

    // A withdrawn token ends at once.
    api.1
        .send(snapshot(&[(Environment::Production, &other, "prod-")]))
        .unwrap();
    assert_eq!(api.get("/get/k").await.0, 401);
}

#[tokio::test]
async fn large_values_many_at_once_and_limits() {
    let redis = Instance::running().await;
    let api = Arc::new(Api::of(snapshot(&[(Environment::Staging, &redis, "")])));
    let big = "x".repeat(5 << 20);
    is(&api.post("/set/big", &big).await, 200, r#"{"result":"OK"}"#);
    assert_eq!(
        api.get("/get/big").await.1.len(),
        big.len() + r#"{"result":""}"#.len()
    );
    let (status, body) = api.post("/set/big", &"x".repeat(11 << 20)).await;
    assert!(
        status == 400 && body.contains("max request size exceeded"),
        "{body}"
    );

    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let api = Arc::clone(&api);
        tasks.spawn(async move {
            is(
                &api.post(&format!("/set/k{n}"), &n.to_string()).await,
                200,
                r#"{"result":"OK"}"#,
            );
            is(
                &api.get(&format!("/get/k{n}")).await,
                200,
                &format!(r#"{{"result":"{n}"}}"#),
            );
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }

    let (_sender, source) = watch::channel(snapshot(&[(Environment::Staging, &redis, "")]));
    let service = Service::with_limits(
        source,
        RestLimits {
            commands: 2,
            ..RestLimits::default()
        },
    );
    let request = Request::post("/pipeline")
        .header(BEARER.0, BEARER.1)
        .body(Full::new(Bytes::from(r#"[["PING"],["PING"],["PING"]]"#)));
    assert_eq!(service.handle(request.unwrap()).await.status(), 400);
}

#[tokio::test]
async fn a_restart_of_redis_is_survived() {
    let mut redis = Instance::running().await;
    let api = Arc::new(Api::of(snapshot(&[(Environment::Staging, &redis, "")])));
    is(&api.get("/set/k/v").await, 200, r#"{"result":"OK"}"#);
    redis.stop("-KILL");
    let (status, body) = api.get("/get/k").await;
    assert!(status == 503 && body.contains("ERR"), "{status} {body}");
    // A request during the restart waits for it.
    let waiting = tokio::spawn({
        let api = Arc::clone(&api);
        async move { api.get("/get/k").await }
    });
    tokio::time::sleep(SECOND / 10).await;
    redis.start();
    is(&waiting.await.unwrap(), 200, r#"{"result":"v"}"#);
}
