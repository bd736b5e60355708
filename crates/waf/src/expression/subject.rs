//! What expressions are asked about.

use std::borrow::Cow;
use std::net::IpAddr;

use super::field::Collection;
use crate::transform::decode;
use crate::url;

/// A request, as far as it is known; borrowed from the server.
#[derive(Debug, Clone)]
pub struct Subject<'t> {
    /// Who asks: `ip.src`.
    pub client: IpAddr,
    /// ISO code of the client's country, where the server knows it: `ip.src.country`, else `XX`.
    pub country: Option<&'t str>,
    /// What else is known of where the client is: [`super::Needs::place`].
    pub place: Option<&'t crate::country::Place>,
    /// Number of the client's autonomous system: `ip.src.asnum`.
    pub network: Option<u32>,
    /// The client's port.
    pub client_port: u16,
    /// As it came.
    pub method: &'t [u8],
    /// The host's name, lower case, without port.
    pub host: &'t [u8],
    /// The path in its one form, as the server routes it.
    pub path: &'t [u8],
    /// The request target as it came: path and query.
    pub target: &'t [u8],
    /// `HTTP/1.1`.
    pub version: &'t [u8],
    /// Names and values as they came, in their order.
    pub headers: &'t [(&'t [u8], &'t [u8])],
    /// The port that was asked.
    pub server_port: u16,
    /// `TLSv1.3`; none where the connection is not encrypted.
    pub tls: Option<&'t str>,
    /// A name for the request: `cf.ray_id`.
    pub id: &'t str,
    /// Milliseconds since 1970: this crate has no clock.
    pub now_ms: u64,
    /// The body, as soon as it is there.
    pub body: Option<Body<'t>>,
    /// The response, as soon as it is there.
    pub response: Option<Response<'t>>,
}

/// As much of a request's body as the server kept.
#[derive(Debug, Clone, Copy)]
pub struct Body<'t> {
    /// Its beginning.
    pub kept: &'t [u8],
    /// Bytes of the whole.
    pub size: u64,
    /// Whether there is more than was kept.
    pub truncated: bool,
}

/// A response's head.
#[derive(Debug, Clone, Copy)]
pub struct Response<'t> {
    /// The status.
    pub status: u16,
    /// Names and values in their order.
    pub headers: &'t [(&'t [u8], &'t [u8])],
}

impl<'t> Subject<'t> {
    /// The first value of a request's header; `name` in lower case.
    pub(super) fn header(&self, name: &[u8]) -> Option<&'t [u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// The query as it came.
    pub(super) fn query(&self) -> &'t [u8] {
        url::split_target(self.target).1
    }

    /// The media type in a `Content-Type`, without parameters.
    pub(super) fn media_type(value: &'t [u8]) -> &'t [u8] {
        value
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii()
    }

    /// Hands out the names and values of a collection, until `each` says that it is enough.
    pub(super) fn pairs(&self, collection: Collection, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        let borrowed = |pairs: &[(&[u8], &[u8])], each: &mut dyn FnMut(&[u8], &[u8]) -> bool| {
            for (name, value) in pairs {
                if !each(name, value) {
                    break;
                }
            }
        };
        let decoded = |text: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool| {
            for (name, value) in url::pairs(text, b'&', &mut 0) {
                if !each(&name, &value) {
                    break;
                }
            }
        };
        match collection {
            Collection::Headers => borrowed(self.headers, each),
            Collection::ResponseHeaders => {
                if let Some(response) = self.response {
                    borrowed(response.headers, each);
                }
            }
            Collection::Args => decoded(self.query(), each),
            Collection::RawArgs => {
                for piece in self
                    .query()
                    .split(|byte| *byte == b'&')
                    .filter(|piece| !piece.is_empty())
                {
                    let equals = memchr::memchr(b'=', piece);
                    let (name, value) =
                        equals.map_or((piece, &b""[..]), |at| (&piece[..at], &piece[at + 1..]));
                    if !each(name, value) {
                        break;
                    }
                }
            }
            Collection::Languages => super::languages::each(self.headers, each),
            Collection::Multipart
            | Collection::MultipartDispositions
            | Collection::MultipartEncodings
            | Collection::MultipartFilenames
            | Collection::MultipartTypes => {
                if let (Some(body), Some(kind)) = (self.body, self.header(b"content-type")) {
                    super::parts::each(body.kept, kind, collection, each);
                }
            }
            Collection::Form => {
                let kind = self
                    .header(b"content-type")
                    .map(Self::media_type)
                    .unwrap_or_default();
                if let Some(body) = self.body
                    && kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
                {
                    decoded(body.kept, each);
                }
            }
            Collection::Cookies => {
                let headers = self
                    .headers
                    .iter()
                    .filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
                for (_, header) in headers {
                    for (name, value) in url::cookies(header) {
                        let mut decoded = Vec::new();
                        let name = match decode::url_decode(name, &mut decoded, &mut 0) {
                            true => &decoded[..],
                            false => name,
                        };
                        if !each(name, value) {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// `https://host/path?query`; `raw` with the path as it came.
    pub(super) fn full_uri(&self, raw: bool) -> Vec<u8> {
        let scheme: &[u8] = if self.tls.is_some() {
            b"https://"
        } else {
            b"http://"
        };
        [scheme, self.host, &self.uri(raw)].concat()
    }

    /// `/path?query`.
    pub(super) fn uri(&self, raw: bool) -> Cow<'t, [u8]> {
        let (came, query) = url::split_target(self.target);
        if raw || came == self.path {
            let target = self.target.split(|byte| *byte == b'#').next().unwrap_or_default();
            return Cow::Borrowed(target);
        }
        if query.is_empty() {
            return Cow::Borrowed(self.path);
        }
        Cow::Owned([self.path, b"?", query].concat())
    }
}
