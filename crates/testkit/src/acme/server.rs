//! Routes of the server, and the life of an order.

use super::jws::{self, Signed};
use super::validate::validate;
use super::{Account, Order, Shared};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateSigningRequestParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const MAX_BODY: usize = 64 << 10;
const KINDS: [&str; 3] = ["http-01", "tls-alpn-01", "dns-01"];

/// A problem document (RFC 7807).
pub(super) struct Problem {
    status: u16,
    kind: String,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: u16, kind: &str, detail: &str) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            detail: detail.to_owned(),
            retry_after_s: None,
        }
    }

    pub(super) fn malformed(detail: &str) -> Self {
        Self::new(400, "malformed", detail)
    }

    fn body(&self) -> Value {
        json!({ "type": format!("urn:ietf:params:acme:error:{}", self.kind), "detail": self.detail, "status": self.status })
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
    retry_after_s: Option<u64>,
    kind: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            location: None,
            retry_after_s: None,
            kind: "application/json",
            body: body.to_string().into_bytes(),
        }
    }

    fn at(mut self, url: String) -> Self {
        self.location = Some(url);
        self
    }
}

pub(super) fn tls(leaf: &CertificateDer<'static>, key: &KeyPair) -> std::io::Result<TlsAcceptor> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.clone()], key)
        .map_err(std::io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(super) async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(respond(&shared, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let method = request.method().clone();
    let answer = match route(shared, request).await {
        Ok(answer) => answer,
        Err(problem) => {
            *shared
                .book()
                .seen
                .problems
                .entry(problem.kind.clone())
                .or_default() += 1;
            Answer {
                retry_after_s: problem.retry_after_s,
                kind: "application/problem+json",
                ..Answer::json(problem.status, &problem.body())
            }
        }
    };
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", answer.kind)
        .header("cache-control", "no-store");
    if method != Method::GET {
        response = response.header("replay-nonce", nonce(shared));
    }
    if let Some(location) = answer.location {
        response = response.header("location", location);
    }
    if let Some(seconds) = answer.retry_after_s {
        response = response.header("retry-after", seconds);
    }
    response.body(Full::from(answer.body)).unwrap_or_default()
}

fn nonce(shared: &Shared) -> String {
    let mut book = shared.book();
    book.serial += 1;
    let nonce = format!("nonce-{}", book.serial);
    book.nonces.insert(nonce.clone());
    nonce
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Problem> {
    let requests = {
        let mut book = shared.book();
        book.seen.requests += 1;
        book.seen.requests
    };
    let behaviour = shared.behaviour().clone();
    if behaviour.down {
        return Err(Problem::new(503, "serverInternal", "the server is down"));
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let agent = parts.headers.get("user-agent").is_some();
    if !agent {
        return Err(Problem::malformed("no User-Agent (RFC 8555 section 6.1)"));
    }
    match (&parts.method, path.as_str()) {
        (&Method::GET, "/directory") => return Ok(directory(shared)),
        (&Method::HEAD | &Method::GET, "/nonce") => return Ok(Answer::json(200, &json!({}))),
        (&Method::GET, path) if path.starts_with("/renewal/") => {
            let window = shared.behaviour().renewal_ms;
            let at = window.ok_or_else(|| Problem::new(404, "malformed", "no such certificate"))?;
            let body = json!({ "suggestedWindow": { "start": rfc3339(at), "end": rfc3339(at + 1_000) } });
            return Ok(Answer {
                retry_after_s: Some(21_600),
                ..Answer::json(200, &body)
            });
        }
        (&Method::POST, _) => {}
        _ => return Err(Problem::new(405, "malformed", "only POST")),
    }
    if parts
        .headers
        .get("content-type")
        .is_none_or(|kind| kind != "application/jose+json")
    {
        return Err(Problem::new(415, "malformed", "no application/jose+json"));
    }
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|_| Problem::malformed("no body"))?.to_bytes();
    let url = format!("{}{path}", shared.base);
    let signed = jws::verify(shared, &url, &body, path == "/new-account")?;
    let every = behaviour.bad_nonce_every;
    if every > 0 && requests % every == 0 {
        return Err(Problem::new(400, "badNonce", "as the test wants it"));
    }
    let mut words = path.trim_start_matches('/').split('/');
    let (first, number, rest) = (words.next().unwrap_or_default(), words.next(), words.next());
    let number = number.and_then(|number| number.parse::<u64>().ok());
    match (first, number, rest) {
        ("new-account", None, None) => new_account(shared, signed),
        ("account", Some(_), None) => Ok(Answer::json(200, &json!({ "status": "valid" }))),
        ("new-order", None, None) => {
            if let Some(seconds) = behaviour.rate_limited_s {
                return Err(Problem {
                    retry_after_s: Some(seconds),
                    ..Problem::new(429, "rateLimited", "too many certificates")
                });
            }
            new_order(shared, &signed)
        }
        ("order", Some(number), None) => {
            let order = order_of(shared, &signed, number)?;
            Ok(shown(shared, number, &order))
        }
        ("order", Some(number), Some("finalize")) => finalize(shared, &signed, number),
        ("authz", Some(number), None) => {
            let order = order_of(shared, &signed, number)?;
            Ok(Answer::json(200, &authorisation(shared, number, &order)))
        }
        ("challenge", Some(number), Some(kind)) => challenge(shared, &signed, number, kind),
        ("certificate", Some(number), None) => {
            let book = shared.book();
            let mine = book
                .orders
                .values()
                .any(|order| order.account == signed.account && order.certificate == Some(number));
            let pem = book.certificates.get(&number).filter(|_| mine);
            let pem = pem.ok_or_else(|| Problem::new(404, "malformed", "no such certificate"))?;
            Ok(Answer {
                kind: "application/pem-certificate-chain",
                body: pem.clone().into_bytes(),
                ..Answer::json(200, &Value::Null)
            })
        }
        ("revoke", None, None) => Ok(Answer::json(200, &json!({}))),
        _ => Err(Problem::new(404, "malformed", "no such resource")),
    }
}

fn directory(shared: &Shared) -> Answer {
    let at = |path: &str| format!("{}{path}", shared.base);
    let mut all = json!({
        "newNonce": at("/nonce"), "newAccount": at("/new-account"), "newOrder": at("/new-order"),
        "revokeCert": at("/revoke"), "keyChange": at("/key-change"), "meta": {},
    });
    if shared.behaviour().renewal_ms.is_some() {
        all["renewalInfo"] = at("/renewal").into();
    }
    Answer::json(200, &all)
}

fn new_account(shared: &Shared, signed: Signed) -> Result<Answer, Problem> {
    let mut book = shared.book();
    let count = book.accounts.len() + 1;
    if let Some(account) = book.accounts.get(&signed.account) {
        return Ok(Answer::json(200, &json!({ "status": "valid" })).at(account.url.clone()));
    }
    if signed.payload["onlyReturnExisting"] == true {
        return Err(Problem::new(400, "accountDoesNotExist", "no such account"));
    }
    if signed.payload["termsOfServiceAgreed"] != true {
        return Err(Problem::new(403, "userActionRequired", "agree to the terms"));
    }
    let url = format!("{}/account/{count}", shared.base);
    let account = Account {
        url: url.clone(),
        jwk: signed.jwk,
        valid: true,
    };
    book.accounts.insert(signed.account, account);
    Ok(Answer::json(201, &json!({ "status": "valid" })).at(url))
}

fn new_order(shared: &Shared, signed: &Signed) -> Result<Answer, Problem> {
    let identifiers = signed.payload["identifiers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<String> = identifiers
        .iter()
        .filter(|one| one["type"] == "dns")
        .filter_map(|one| one["value"].as_str().map(str::to_owned))
        .collect();
    if names.len() != 1 || identifiers.len() != 1 {
        return Err(Problem::malformed("this CA takes one name an order"));
    }
    let name = &names[0];
    if !name.contains('.') || name.bytes().any(|b| b.is_ascii_uppercase()) || name.ends_with(".refused.test")
    {
        return Err(Problem::new(400, "rejectedIdentifier", "not for this name"));
    }
    let mut book = shared.book();
    book.serial += 1;
    let number = book.serial;
    let replaces = signed.payload["replaces"].as_str().map(str::to_owned);
    book.seen.replaced += usize::from(replaces.is_some());
    let order = Order {
        account: signed.account.clone(),
        names,
        status: "pending",
        token: format!("token-of-order-{number}-with-enough-entropy"),
        proven: None,
        certificate: None,
        ready_at: None,
        replaces,
    };
    book.orders.insert(number, order.clone());
    drop(book);
    let url = format!("{}/order/{number}", shared.base);
    Ok(Answer {
        status: 201,
        ..shown(shared, number, &order)
    }
    .at(url))
}

/// An order, as its own account may see it.
fn order_of(shared: &Shared, signed: &Signed, number: u64) -> Result<Order, Problem> {
    let mut book = shared.book();
    let order = book.orders.get_mut(&number);
    let order = order.ok_or_else(|| Problem::new(404, "malformed", "no such order"))?;
    if order.account != signed.account {
        return Err(Problem::new(403, "unauthorized", "another account's"));
    }
    if order.status == "processing" && order.ready_at.is_some_and(|at| at <= Instant::now()) {
        order.status = "valid";
    }
    Ok(order.clone())
}

fn shown(shared: &Shared, number: u64, order: &Order) -> Answer {
    let base = &shared.base;
    let identifiers: Vec<Value> = order
        .names
        .iter()
        .map(|name| json!({ "type": "dns", "value": name }))
        .collect();
    let mut body = json!({
        "status": order.status, "identifiers": identifiers,
        "authorizations": [format!("{base}/authz/{number}")],
        "finalize": format!("{base}/order/{number}/finalize"),
    });
    if let (Some(certificate), "valid") = (order.certificate, order.status) {
        body["certificate"] = format!("{base}/certificate/{certificate}").into();
    }
    if let Some(replaces) = &order.replaces {
        body["replaces"] = replaces.clone().into();
    }
    if let Some(Err(why)) = &order.proven {
        body["error"] = Problem::new(403, "unauthorized", why).body();
    }
    Answer::json(200, &body)
}

fn authorisation(shared: &Shared, number: u64, order: &Order) -> Value {
    let name = &order.names[0];
    let status = match &order.proven {
        None => "pending",
        Some(Ok(())) => "valid",
        Some(Err(_)) => "invalid",
    };
    let wildcard = name.starts_with("*.");
    let challenges: Vec<Value> = KINDS
        .iter()
        .filter(|kind| !wildcard || **kind == "dns-01")
        .map(|kind| {
            let url = format!("{}/challenge/{number}/{kind}", shared.base);
            let mut one = json!({ "type": kind, "url": url, "token": order.token, "status": status });
            if let Some(Err(why)) = &order.proven {
                one["error"] = Problem::new(403, "unauthorized", why).body();
            }
            one
        })
        .collect();
    json!({
        "status": status, "wildcard": wildcard, "challenges": challenges,
        "identifier": { "type": "dns", "value": name.trim_start_matches("*.") },
    })
}

fn challenge(shared: &Arc<Shared>, signed: &Signed, number: u64, kind: &str) -> Result<Answer, Problem> {
    let order = order_of(shared, signed, number)?;
    if signed.payload != json!({}) {
        return Err(Problem::malformed("an empty object begins a challenge"));
    }
    let kind = kind.to_owned();
    let answer = json!({
        "type": kind, "url": format!("{}/challenge/{number}/{kind}", shared.base), "token": order.token,
        "status": if order.proven.is_none() { "processing" } else { "valid" },
    });
    if order.proven.is_none() && KINDS.contains(&kind.as_str()) {
        let (shared, account) = (Arc::clone(shared), signed.account.clone());
        tokio::spawn(async move {
            let behaviour = shared.behaviour().clone();
            let authorisation = format!("{}.{account}", order.token);
            let proven = validate(&behaviour, &kind, &order.names[0], &order.token, &authorisation).await;
            let mut book = shared.book();
            book.seen.validated += usize::from(proven.is_ok());
            if let Some(order) = book.orders.get_mut(&number) {
                order.status = if proven.is_ok() { "ready" } else { "invalid" };
                order.proven = Some(proven);
            }
        });
    }
    Ok(Answer::json(200, &answer))
}

fn finalize(shared: &Shared, signed: &Signed, number: u64) -> Result<Answer, Problem> {
    let order = order_of(shared, signed, number)?;
    if order.status != "ready" {
        return Err(Problem::new(403, "orderNotReady", order.status));
    }
    let bad = |detail: &str| Problem::new(400, "badCSR", detail);
    let csr = signed.payload["csr"].as_str().ok_or_else(|| bad("no csr"))?;
    let csr = CertificateSigningRequestDer::from(jws::decode(csr)?);
    let mut csr = CertificateSigningRequestParams::from_der(&csr).map_err(|error| bad(&error.to_string()))?;
    let names: Vec<String> = csr
        .params
        .subject_alt_names
        .iter()
        .map(|name| match name {
            SanType::DnsName(name) => name.as_str().to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    if names != order.names {
        return Err(bad("the names are not the order's"));
    }
    let behaviour = shared.behaviour().clone();
    let system = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = behaviour.now_ms.map_or(system, Duration::from_millis);
    let begin = rcgen::date_time_ymd(1970, 1, 1) + now;
    csr.params.not_before = begin;
    csr.params.not_after = begin + behaviour.lifetime;
    csr.params.use_authority_key_identifier_extension = true;
    let issued = csr
        .signed_by(&shared.authority)
        .map_err(|error| bad(&error.to_string()))?;
    let mut book = shared.book();
    book.serial += 1;
    let certificate = book.serial;
    book.certificates
        .insert(certificate, issued.pem() + &shared.authority.pem());
    let Some(order) = book.orders.get_mut(&number) else {
        return Err(Problem::malformed("no such order"));
    };
    order.status = "processing";
    order.certificate = Some(certificate);
    order.ready_at = Some(Instant::now() + behaviour.issue_takes);
    let order = order.clone();
    drop(book);
    Ok(shown(shared, number, &order))
}

fn rfc3339(ms: u64) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().to_string()
}
