//! A request in the form that rules want, of its own: its body and its answer are looked at when the request itself has
//! gone on to the worker.

use super::databases::Whence;
use crate::checks::Checked;
use crate::client::{Client, Scheme};
use astraler_waf::{engine, expression};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version, header};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Names and values, borrowed.
pub(super) type Fields<'t> = [(&'t [u8], &'t [u8])];

/// What is known of a request by now.
pub(crate) struct Call<'a> {
    pub(crate) client: &'a Client,
    pub(crate) checked: &'a Checked,
    pub(crate) parts: &'a Parts,
}

#[derive(Debug)]
pub(super) struct Seen {
    client: SocketAddr,
    whence: Whence,
    tls: Option<&'static str>,
    pub(super) method: Method,
    target: Uri,
    version: Version,
    headers: HeaderMap,
    pub(super) checked: Checked,
    /// HTTP/2 and HTTP/3 have no `Host`; rules look at one.
    host: Option<String>,
    id: String,
    now_ms: u64,
    begun: Instant,
    server_port: u16,
    length: Option<u64>,
}

impl Seen {
    pub(super) fn of(call: &Call<'_>, id: &str, whence: Whence) -> Self {
        let parts = call.parts;
        let authority = call.checked.authority();
        let default_port = match call.client.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(default_port);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = parts.headers.get(header::CONTENT_LENGTH);
        Self {
            client: call.client.address,
            whence,
            tls: call.client.tls.map(|agreed| match agreed.version {
                "1.2" => "TLSv1.2",
                _ => "TLSv1.3",
            }),
            method: parts.method.clone(),
            target: parts.uri.clone(),
            version: parts.version,
            headers: parts.headers.clone(),
            checked: call.checked.clone(),
            host: (!parts.headers.contains_key(header::HOST)).then(|| authority.to_owned()),
            id: id.to_owned(),
            now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            begun: Instant::now(),
            server_port: port,
            length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        }
    }

    pub(super) fn fields(&self) -> Vec<(&[u8], &[u8])> {
        let host = self.host.iter().map(|host| (&b"host"[..], host.as_bytes()));
        host.chain(fields(&self.headers)).collect()
    }

    fn target(&self) -> &str {
        self.target.path_and_query().map_or("/", |target| target.as_str())
    }

    /// For managed rules.
    pub(super) fn request<'t>(&'t self, fields: &'t Fields<'t>) -> engine::Request<'t> {
        engine::Request {
            client: self.client.ip(),
            client_port: self.client.port(),
            server: IpAddr::V4(Ipv4Addr::LOCALHOST),
            server_port: self.server_port,
            method: self.method.as_str().as_bytes(),
            target: self.target().as_bytes(),
            protocol: protocol(self.version),
            headers: fields,
            unique_id: &self.id,
            now: self.now_ms / 1000,
            country: self.whence.country.as_deref(),
        }
    }

    /// What rules may ask beside the request itself: where the client is, and how long it has taken by now.
    pub(super) fn tell<'t>(&'t self, transaction: &mut engine::Transaction<'t>) {
        if let Some(place) = &self.whence.place {
            transaction.set_place(place);
        }
        let elapsed = self.begun.elapsed().as_micros();
        transaction.set_elapsed(u64::try_from(elapsed).unwrap_or(u64::MAX));
    }

    /// For custom rules.
    pub(super) fn subject<'t>(&'t self, fields: &'t Fields<'t>) -> expression::Subject<'t> {
        expression::Subject {
            client: self.client.ip(),
            client_port: self.client.port(),
            country: self.whence.country.as_deref(),
            place: self.whence.place.as_deref(),
            network: self.whence.network,
            method: self.method.as_str().as_bytes(),
            host: self.checked.host.as_str().as_bytes(),
            path: self.checked.path().as_bytes(),
            target: self.target().as_bytes(),
            version: match self.version {
                Version::HTTP_10 => b"HTTP/1.0",
                Version::HTTP_2 => b"HTTP/2",
                Version::HTTP_3 => b"HTTP/3",
                _ => b"HTTP/1.1",
            },
            headers: fields,
            server_port: self.server_port,
            tls: self.tls,
            id: &self.id,
            now_ms: self.now_ms,
            body: None,
            response: None,
        }
    }

    /// The beginning of the body, for custom rules.
    pub(super) fn body<'t>(&self, bytes: &'t [u8], cut: bool) -> expression::Body<'t> {
        expression::Body {
            kept: bytes,
            size: self.length.unwrap_or(bytes.len() as u64),
            truncated: cut,
        }
    }
}

/// Fields as rules want them.
pub(super) fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// As rules know versions. HTTP/3 carries the same messages as HTTP/2; the Core Rule Set 3 refuses what it has not
/// heard of.
fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 | Version::HTTP_3 => b"HTTP/2.0",
        _ => b"HTTP/1.1",
    }
}
