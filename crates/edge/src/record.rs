//! The access record: begun when a head arrives, written when the last byte of the answer has left, or when the client
//! has.

use crate::activity::{Activity, InFlight};
use crate::body::{Body, BoxError, Upload};
use crate::fault::{Fault, Kind};
use crate::log::AccessLog;
use crate::run::Counters;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use serde::Serialize;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

/// Text of a client is cut after so many bytes.
const MAX_TEXT: usize = 1024;
const MAX_SHORT: usize = 256;
/// Decisions of rules that one record tells.
const MAX_RULES: usize = 32;

/// One line of the access log.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    #[serde(serialize_with = "rfc3339_ms")]
    ts: SystemTime,
    request_id: String,
    environment: Option<String>,
    deployment: Option<String>,
    host: String,
    method: String,
    path: String,
    query: Option<String>,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    upstream_us: Option<u64>,
    client_ip: IpAddr,
    /// The other end of the connection, where that is a proxy which named the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_ip: Option<IpAddr>,
    user_agent: Option<String>,
    referer: Option<String>,
    /// `worker:NAME`, `asset`, `tls` (a redirect, a challenge) or `none`.
    route: String,
    protocol: &'static str,
    upgraded: bool,
    /// What the cache did; nothing where it was not asked.
    cache: Option<&'static str>,
    error: Option<&'static str>,
    error_reason: Option<&'static str>,
    blame: Option<crate::fault::Blame>,
    /// What rules decided of it, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Decided>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "field")]
    content_type: Option<HeaderValue>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "field")]
    content_encoding: Option<HeaderValue>,
    /// Of W3C Trace Context, where a worker was asked: by it the worker's own traces are found.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "trace_id")]
    trace_id: Option<HeaderValue>,
    /// Until the request went to a worker: rules, the queue of a delay, a wake.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_us: Option<u64>,
    /// Until the head of the answer was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
}

/// A rule, and what it led to.
#[derive(Debug, Serialize)]
struct Decided {
    rule: String,
    action: &'static str,
}

/// A request in flight. Dropping it writes the record, so none is lost, whatever happens to the request.
pub(crate) struct Access {
    request_id: String,
    inner: Option<Box<Inner>>,
}

struct Inner {
    record: Record,
    begun: Instant,
    upload: Arc<Upload>,
    fault: Option<Fault>,
    log: AccessLog,
    counters: Arc<Counters>,
    in_flight: Option<InFlight>,
    /// It is one of those in flight: until the last of its answer has been taken, so that a client which has read it all
    /// finds it gone.
    counted: bool,
}

impl Inner {
    fn no_more_in_flight(&mut self) {
        self.in_flight = None;
        if std::mem::take(&mut self.counted) {
            self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Access {
    pub(crate) fn begin<B>(
        request: &Request<B>,
        client_ip: IpAddr,
        log: &AccessLog,
        counters: &Arc<Counters>,
    ) -> Self {
        counters.requests_total.fetch_add(1, Ordering::Relaxed);
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        let headers = request.headers();
        let request_id = crate::forward::request_id();
        let record = Record {
            ts: SystemTime::now(),
            request_id: request_id.clone(),
            environment: None,
            deployment: None,
            host: text_of(headers, header::HOST, MAX_SHORT).unwrap_or_default(),
            method: cut(request.method().as_str(), MAX_SHORT),
            path: cut(request.uri().path(), MAX_TEXT),
            query: request.uri().query().map(|query| cut(&mask(query), MAX_TEXT)),
            // Until there is an answer: the client went away.
            status: Kind::ClientGone.status().as_u16(),
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 0,
            upstream_us: None,
            client_ip: client_ip.to_canonical(),
            peer_ip: None,
            user_agent: text_of(headers, header::USER_AGENT, MAX_SHORT),
            referer: text_of(headers, header::REFERER, MAX_TEXT).map(|referer| {
                match referer.split_once('?') {
                    Some((page, query)) => format!("{page}?{}", mask(query)),
                    None => referer,
                }
            }),
            route: "none".to_owned(),
            protocol: match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_3 => "HTTP/3",
                _ => "HTTP/1.1",
            },
            upgraded: false,
            cache: None,
            error: None,
            error_reason: None,
            blame: None,
            rules: Vec::new(),
            content_type: None,
            content_encoding: None,
            trace_id: None,
            wait_us: None,
            first_byte_us: None,
        };
        let inner = Inner {
            record,
            begun: Instant::now(),
            upload: Arc::default(),
            fault: Some(Kind::ClientGone.because("the client went away before the answer")),
            log: log.clone(),
            counters: counters.clone(),
            in_flight: None,
            counted: true,
        };
        Self {
            request_id,
            inner: Some(Box::new(inner)),
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Inner)) {
        if let Some(inner) = &mut self.inner {
            change(inner);
        }
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Counts the request's body.
    pub(crate) fn upload(&self) -> Arc<Upload> {
        self.inner
            .as_ref()
            .map(|inner| inner.upload.clone())
            .unwrap_or_default()
    }

    /// A refused head was replaced before hyper saw it: the record tells of the original.
    pub(crate) fn refused(&mut self, first_line: &str) {
        let mut words = first_line.split(' ');
        let method = cut(words.next().unwrap_or_default(), MAX_SHORT);
        let target = words.next().unwrap_or_default();
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        let (path, query) = (
            cut(path, MAX_TEXT),
            query.map(|query| cut(&mask(query), MAX_TEXT)),
        );
        self.edit(|inner| {
            inner.record.method = method;
            inner.record.path = path;
            inner.record.query = query;
            inner.record.host = String::new();
        });
    }

    pub(crate) fn host(&mut self, host: &str) {
        let host = cut(host, MAX_SHORT);
        self.edit(|inner| inner.record.host = host);
    }

    pub(crate) fn host_name(&self) -> &str {
        self.inner.as_ref().map_or("", |inner| inner.record.host.as_str())
    }

    /// Said again when the environment was woken meanwhile.
    pub(crate) fn site(&mut self, environment: String, deployment: &str, activity: &Arc<Activity>) {
        let deployment = deployment.to_owned();
        self.edit(|inner| {
            inner.in_flight = Some(activity.begin());
            inner.record.environment = Some(environment);
            inner.record.deployment = Some(deployment);
        });
    }

    /// Said by a trusted proxy.
    pub(crate) fn client(&mut self, client: IpAddr) {
        let client = client.to_canonical();
        self.edit(|inner| {
            if inner.record.client_ip != client {
                inner.record.peer_ip = Some(inner.record.client_ip);
                inner.record.client_ip = client;
            }
        });
    }

    /// What a rule led to.
    pub(crate) fn decided(&mut self, rule: &str, action: &'static str) {
        let rule = rule.to_owned();
        self.edit(|inner| {
            if inner.record.rules.len() < MAX_RULES {
                inner.record.rules.push(Decided { rule, action });
            }
        });
    }

    /// These fields go to a worker now.
    pub(crate) fn goes_upstream(&mut self, headers: &HeaderMap) {
        self.edit(|inner| {
            inner.record.trace_id = headers.get("traceparent").cloned();
            inner.record.wait_us = Some(micros(inner.begun));
        });
    }

    /// In which form the content goes.
    pub(crate) fn content(&mut self, headers: &HeaderMap) {
        self.edit(|inner| {
            inner.record.content_type = headers.get(header::CONTENT_TYPE).cloned();
            inner.record.content_encoding = headers.get(header::CONTENT_ENCODING).cloned();
        });
    }

    pub(crate) fn route(&mut self, route: String) {
        self.edit(|inner| inner.record.route = route);
    }

    pub(crate) fn cache(&mut self, word: crate::cache::Word) {
        self.edit(|inner| inner.record.cache = Some(word.record()));
    }

    pub(crate) fn upstream_took(&mut self, begun: Instant) {
        let took = micros(begun);
        self.edit(|inner| inner.record.upstream_us = Some(took));
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.edit(|inner| inner.fault = Some(fault));
    }

    /// The head of the answer is on its way: from here on only the body can fail.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.edit(|inner| {
            inner.record.status = status.as_u16();
            inner.record.first_byte_us = Some(micros(inner.begun));
            if inner
                .fault
                .is_some_and(|fault| fault.kind == Kind::ClientGone && fault.kind.status() != status)
            {
                inner.fault = None;
            }
        });
    }

    /// Goes with a tunnel, and ends with it.
    pub(crate) fn split_off_for_tunnel(&mut self) -> Self {
        self.edit(|inner| {
            inner.record.upgraded = true;
            inner.record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
            inner.fault = None;
        });
        Self {
            request_id: self.request_id.clone(),
            inner: self.inner.take(),
        }
    }

    pub(crate) fn tunnelled(&mut self, bytes_in: u64, bytes_out: u64) {
        self.edit(|inner| {
            inner.upload.bytes.store(bytes_in, Ordering::Relaxed);
            inner.record.bytes_out = bytes_out;
        });
    }

    /// Goes with the body of the answer, and ends with it.
    pub(crate) fn with_body(mut self, inner: Body) -> Recorded {
        let ended = inner.is_end_stream();
        if ended {
            self.edit(Inner::no_more_in_flight);
        }
        Recorded {
            inner,
            access: self,
            ended,
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else {
            return;
        };
        inner.no_more_in_flight();
        inner.record.duration_us = micros(inner.begun);
        inner.record.bytes_in = inner.upload.bytes.load(Ordering::Relaxed);
        if let Some(fault) = inner.fault {
            inner.record.error = Some(fault.kind.code());
            inner.record.error_reason = Some(fault.reason);
            inner.record.blame = Some(fault.kind.blame());
        }
        inner.log.write(&inner.record);
    }
}

/// An answer's body with the record that ends with it.
pub(crate) struct Recorded {
    inner: Body,
    access: Access,
    ended: bool,
}

impl Recorded {
    /// All was written, and came back.
    pub(crate) fn client_left(&mut self) {
        let whole = self.ended;
        self.access.edit(|inner| {
            if inner.fault.is_some() {
                return;
            }
            if whole {
                inner.record.status = Kind::ClientGone.status().as_u16();
                inner.fault = Some(Kind::ClientGone.because("the client went away before the answer"));
            } else {
                inner.fault =
                    Some(Kind::ClientGone.because("the client went away in the middle of the answer"));
            }
        });
    }
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            None => self.ended = true,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.access.edit(|inner| inner.record.bytes_out += bytes);
                self.ended = self.inner.is_end_stream();
            }
            Some(Err(error)) => {
                self.ended = true;
                let fault = crate::fault::find(&**error)
                    .unwrap_or(Kind::AssetUnreadable.because("the file could not be read on"));
                self.access.fault(fault);
            }
        }
        if self.ended {
            self.access.edit(Inner::no_more_in_flight);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // Nobody asks on when all announced bytes are out; a HEAD's body it never asks for.
        let whole = self.ended || self.inner.is_end_stream() || self.inner.size_hint().exact() == Some(0);
        self.access.edit(|inner| {
            if !whole && inner.fault.is_none() && inner.record.method != "HEAD" {
                inner.fault =
                    Some(Kind::ClientGone.because("the client went away in the middle of the answer"));
            }
        });
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn rfc3339_ms<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = jiff::Timestamp::try_from(*time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// The second of the four parts of `traceparent`.
fn trace_id<S: serde::Serializer>(parent: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    let parent = parent
        .as_ref()
        .and_then(|parent| parent.to_str().ok())
        .unwrap_or_default();
    serializer.serialize_str(parent.split('-').nth(1).unwrap_or_default())
}

fn field<S: serde::Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = value.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
    serializer.serialize_str(&cut(&String::from_utf8_lossy(bytes), MAX_SHORT))
}

fn text_of(headers: &HeaderMap, name: HeaderName, max: usize) -> Option<String> {
    headers
        .get(name)
        .map(|value| cut(&String::from_utf8_lossy(value.as_bytes()), max))
}

fn cut(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Hides the values of query parameters that carry secrets: a log is read by more people than the request was meant for.
pub(crate) fn mask(query: &str) -> String {
    const SECRET: [&str; 12] = [
        "token",
        "password",
        "passwd",
        "secret",
        "signature",
        "apikey",
        "api_key",
        "api-key",
        "credential",
        "jwt",
        "otp",
        "session",
    ];
    const SECRET_EXACT: [&str; 6] = ["code", "sig", "auth", "key", "state", "pwd"];
    let pairs = query.split('&').map(|pair| {
        let Some((key, _)) = pair.split_once('=') else {
            return pair.to_owned();
        };
        let name = percent_encoding::percent_decode_str(key)
            .decode_utf8_lossy()
            .to_ascii_lowercase();
        if SECRET.iter().any(|word| name.contains(word)) || SECRET_EXACT.contains(&&*name) {
            format!("{key}=***")
        } else {
            pair.to_owned()
        }
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_queries_are_masked() {
        for (query, masked) in [
            ("a=1&b=2", "a=1&b=2"),
            ("token=x&a=1", "token=***&a=1"),
            ("refresh_token=x", "refresh_token=***"),
            (
                "X-Amz-Signature=x&X-Amz-Security-Token=y&X-Amz-Date=z",
                "X-Amz-Signature=***&X-Amz-Security-Token=***&X-Amz-Date=z",
            ),
            ("%74oken=x", "%74oken=***"),
            ("PassWord=x&&flag", "PassWord=***&&flag"),
            ("code=x&zipcode=1", "code=***&zipcode=1"),
        ] {
            assert_eq!(mask(query), masked);
        }
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(cut("aäb", 2), "a");
        assert_eq!(cut("aäb", 3), "aä");
    }
}
