//! The access record: begun when a head arrives, written when the last byte of the answer has left, or when the client
//! has.

mod line;

pub(crate) use line::mask;

use crate::activity::InFlight;
use crate::body::{Body, BoxError, Upload};
use crate::client::{Agreed, Client};
use crate::fault::{Fault, Kind};
use crate::forward::{RequestId, TraceId};
use crate::host::HostName;
use crate::log::AccessLog;
use crate::route::Site;
use crate::run::Counters;
use crate::upstream::Effort;
use astraler_model::WorkerRoute;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use line::{Record, cut, masked_referer, short, shortened, text};
use std::borrow::Cow;
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
/// Characters of a variable: part of its name is the client's.
const MAX_VARIABLE: usize = 80;

/// Where a request went.
#[derive(Debug, Clone, Default)]
pub(crate) enum Route {
    /// Nowhere.
    #[default]
    None,
    /// To nobody: a redirect, a challenge.
    Tls,
    Asset,
    Worker(Arc<WorkerRoute>),
}

/// A rule, and what it led to.
#[derive(Debug)]
struct Decided {
    rule: String,
    action: &'static str,
    /// In which variable a rule of the firewall matched. Never what it held.
    variable: Option<String>,
    /// What it added; of the rule that refuses the request, the sum.
    score: Option<i64>,
}

/// A request in flight. Dropping it writes the record, so none is lost, whatever happens to the request.
pub(crate) struct Access {
    inner: Option<Box<Inner>>,
    /// For those who ask after a tunnel has taken the record along.
    request_id: RequestId,
}

/// What is known so far. What the client sent is shared with the request, not copied.
struct Inner {
    ts: SystemTime,
    begun: Instant,
    request_id: RequestId,
    asked: AskedFor,
    /// As routes know it, once it is known to be sound.
    host: Option<HostName>,
    site: Option<Arc<Site>>,
    status: StatusCode,
    upload: Arc<Upload>,
    bytes_out: u64,
    upstream_us: Option<u64>,
    client_ip: IpAddr,
    peer_ip: Option<IpAddr>,
    route: Route,
    upgraded: bool,
    cache: Option<&'static str>,
    fault: Option<Fault>,
    rules: Vec<Decided>,
    content_type: Option<HeaderValue>,
    content_encoding: Option<HeaderValue>,
    trace_id: Option<TraceId>,
    wait_us: Option<u64>,
    first_byte_us: Option<u64>,
    connect_us: Option<u64>,
    retries: Option<u32>,
    tls: Option<Agreed>,
    log: AccessLog,
    counters: Arc<Counters>,
    in_flight: Option<InFlight>,
    /// It is one of those in flight: until the last of its answer has been taken, so that a client which has read it all
    /// finds it gone.
    counted: bool,
}

/// What a client asked for.
struct AskedFor {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    /// The start of what came instead of a request.
    refused: Option<String>,
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
        client: &Client,
        log: &AccessLog,
        counters: &Arc<Counters>,
    ) -> Self {
        counters.requests_total.fetch_add(1, Ordering::Relaxed);
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        let ts = SystemTime::now();
        let request_id = crate::forward::request_id(ts);
        let inner = Inner {
            ts,
            begun: Instant::now(),
            request_id,
            asked: AskedFor::of(request),
            host: None,
            site: None,
            // Until there is an answer: the client went away.
            status: Kind::ClientGone.status(),
            upload: Arc::default(),
            bytes_out: 0,
            upstream_us: None,
            client_ip: client.address.ip().to_canonical(),
            peer_ip: None,
            route: Route::None,
            upgraded: false,
            cache: None,
            fault: Some(Kind::ClientGone.because("the client went away before the answer")),
            rules: Vec::new(),
            content_type: None,
            content_encoding: None,
            trace_id: None,
            wait_us: None,
            first_byte_us: None,
            connect_us: None,
            retries: None,
            tls: client.tls,
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

    pub(crate) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// Counts the request's body.
    pub(crate) fn upload(&self) -> Arc<Upload> {
        self.inner
            .as_ref()
            .map(|inner| inner.upload.clone())
            .unwrap_or_default()
    }

    /// A refused head was replaced: the record tells of the original.
    pub(crate) fn refused(&mut self, first_line: &str) {
        self.edit(|inner| inner.asked.refused = Some(first_line.to_owned()));
    }

    pub(crate) fn host(&mut self, host: &HostName) {
        let host = host.clone();
        self.edit(|inner| inner.host = Some(host));
    }

    pub(crate) fn host_name(&self) -> &str {
        let host = self.inner.as_ref().and_then(|inner| inner.host.as_ref());
        host.map_or("", HostName::as_str)
    }

    /// Said again when the environment was woken meanwhile.
    pub(crate) fn site(&mut self, site: &Arc<Site>) {
        self.edit(|inner| {
            inner.in_flight = Some(site.activity.begin());
            inner.site = Some(site.clone());
        });
    }

    /// Said by a trusted proxy.
    pub(crate) fn client(&mut self, client: IpAddr) {
        let client = client.to_canonical();
        self.edit(|inner| {
            if inner.client_ip != client {
                inner.peer_ip = Some(inner.client_ip);
                inner.client_ip = client;
            }
        });
    }

    /// What a rule led to.
    pub(crate) fn decided(&mut self, rule: &str, action: &'static str) {
        self.note(Decided {
            rule: rule.to_owned(),
            action,
            variable: None,
            score: None,
        });
    }

    /// What a managed rule of the firewall found.
    pub(crate) fn inspected(&mut self, rule: u64, action: &'static str, variable: Option<&str>, score: i64) {
        self.note(Decided {
            rule: rule.to_string(),
            action,
            variable: variable.map(|variable| variable.chars().take(MAX_VARIABLE).collect()),
            score: Some(score),
        });
    }

    fn note(&mut self, decided: Decided) {
        self.edit(|inner| {
            if inner.rules.len() < MAX_RULES {
                inner.rules.push(decided);
            }
        });
    }

    /// It goes to a worker now.
    pub(crate) fn goes_upstream(&mut self, trace_id: TraceId, now: Instant) {
        self.edit(|inner| {
            inner.trace_id = Some(trace_id);
            let waited = now.saturating_duration_since(inner.begun).as_micros();
            inner.wait_us = Some(u64::try_from(waited).unwrap_or(u64::MAX));
        });
    }

    /// In which form the content goes.
    pub(crate) fn content(&mut self, headers: &HeaderMap) {
        self.edit(|inner| {
            inner.content_type = headers.get(header::CONTENT_TYPE).cloned();
            inner.content_encoding = headers.get(header::CONTENT_ENCODING).cloned();
        });
    }

    pub(crate) fn route(&mut self, route: Route) {
        self.edit(|inner| inner.route = route);
    }

    pub(crate) fn cache(&mut self, word: crate::cache::Word) {
        self.edit(|inner| inner.cache = Some(word.record()));
    }

    pub(crate) fn upstream_took(&mut self, begun: Instant) {
        let took = micros(begun);
        self.edit(|inner| inner.upstream_us = Some(took));
    }

    /// What it took to reach the worker, besides time.
    pub(crate) fn effort(&mut self, effort: &Effort) {
        let some = |number: u64| (number > 0).then_some(number);
        self.edit(|inner| {
            inner.connect_us = some(effort.connect_us.load(Ordering::Relaxed));
            let retries = effort.retries.load(Ordering::Relaxed);
            inner.retries = (retries > 0).then_some(retries);
        });
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.edit(|inner| inner.fault = Some(fault));
    }

    /// The head of the answer is on its way: from here on only the body can fail.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.edit(|inner| {
            inner.status = status;
            inner.first_byte_us = Some(micros(inner.begun));
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
            inner.upgraded = true;
            inner.status = StatusCode::SWITCHING_PROTOCOLS;
            inner.fault = None;
        });
        Self {
            request_id: self.request_id,
            inner: self.inner.take(),
        }
    }

    pub(crate) fn tunnelled(&mut self, bytes_in: u64, bytes_out: u64) {
        self.edit(|inner| {
            inner.upload.bytes.store(bytes_in, Ordering::Relaxed);
            inner.bytes_out = bytes_out;
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
        inner.log.write(|line| inner.record().write(line));
    }
}

impl Inner {
    fn record(&self) -> Record<'_> {
        let (asked, site) = (&self.asked, self.site.as_deref());
        let (method, path, query) = asked.target();
        Record {
            ts: self.ts,
            request_id: &self.request_id,
            environment: site.map(|site| site.environment),
            deployment: site.map(|site| &*site.deployment),
            host: match &self.host {
                Some(host) => Cow::Borrowed(cut(host.as_str(), MAX_SHORT)),
                None => asked.host(),
            },
            method: cut(method, MAX_SHORT),
            path: cut(path, MAX_TEXT),
            query: query.map(|query| shortened(mask(query), MAX_TEXT)),
            status: self.status.as_u16(),
            bytes_in: self.upload.bytes.load(Ordering::Relaxed),
            bytes_out: self.bytes_out,
            duration_us: micros(self.begun),
            upstream_us: self.upstream_us,
            client_ip: self.client_ip,
            peer_ip: self.peer_ip,
            user_agent: short(asked.user_agent.as_ref()),
            referer: asked.referer.as_ref().map(masked_referer),
            route: &self.route,
            protocol: match asked.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_3 => "HTTP/3",
                _ => "HTTP/1.1",
            },
            upgraded: self.upgraded,
            cache: self.cache,
            error: self.fault.map(|fault| fault.kind.code()),
            error_reason: self.fault.map(|fault| fault.reason),
            blame: self.fault.map(|fault| fault.kind.blame()),
            rules: &self.rules,
            content_type: short(self.content_type.as_ref()),
            content_encoding: short(self.content_encoding.as_ref()),
            trace_id: self.trace_id.as_ref().and_then(|id| std::str::from_utf8(id).ok()),
            wait_us: self.wait_us,
            first_byte_us: self.first_byte_us,
            connect_us: self.connect_us,
            retries: self.retries,
            tls_version: self.tls.map(|tls| tls.version),
            tls_cipher: self.tls.and_then(|tls| tls.cipher),
        }
    }
}

impl AskedFor {
    fn of<B>(request: &Request<B>) -> Self {
        let field = |name: HeaderName| request.headers().get(name).cloned();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: field(header::HOST),
            user_agent: field(header::USER_AGENT),
            referer: field(header::REFERER),
            refused: None,
        }
    }

    /// Method, path and query.
    fn target(&self) -> (&str, &str, Option<&str>) {
        let Some(line) = &self.refused else {
            return (self.method.as_str(), self.uri.path(), self.uri.query());
        };
        let mut words = line.split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        match target.split_once('?') {
            Some((path, query)) => (method, path, Some(query)),
            None => (method, target, None),
        }
    }

    /// As the client wrote it.
    fn host(&self) -> Cow<'_, str> {
        let host = self.host.as_ref().filter(|_| self.refused.is_none());
        host.map(|host| text(host, MAX_SHORT)).unwrap_or_default()
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
                inner.status = Kind::ClientGone.status();
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
                self.access.edit(|inner| inner.bytes_out += bytes);
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
            if !whole && inner.fault.is_none() && inner.asked.target().0 != "HEAD" {
                inner.fault =
                    Some(Kind::ClientGone.because("the client went away in the middle of the answer"));
            }
        });
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
