//! Compression (RFC 9110 sections 8.4 and 12.5.3): what is sent in which coding, and what the fields must then say.
//!
//! What is compressed on its way is another representation, so a strong ETag becomes weak, lengths and ranges are gone, and
//! `Vary` tells caches why, also on the answers that were left as they are. Files of a release are compressed once
//! ([`whole`]), by `asset`; answers of workers while they stream.
//!
//! # BREACH
//!
//! Who can make a browser send requests with its cookies, and sees how long the answers are, can guess what stands beside
//! a text of his own in a compressed answer. Such requests come from other sites: browsers say so
//! (`Sec-Fetch-Site: cross-site`), and those that carry credentials are answered uncompressed. See
//! `docs/decisions/0033`.

mod body;
mod encoder;
mod negotiate;

pub(crate) use encoder::whole;
pub(crate) use negotiate::is_compressible;

use crate::body::Body;
use astraler_model::{Coding, Compression};
use encoder::Encoder;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Answers that are compressed at once, at about a megabyte each; one more is sent as it is.
const MAX_STREAMS: usize = 128;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the client would like, and what the environment offers.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// `None`: nothing is ever compressed here.
    offered: Option<Offered>,
    if_none_match: Option<HeaderValue>,
    head: bool,
}

#[derive(Debug, Clone, Copy)]
struct Offered {
    coding: Option<Coding>,
    min_bytes: u64,
}

/// Places for streams being compressed.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl Wish {
    pub(crate) fn of(method: &Method, headers: &HeaderMap, compression: &Compression) -> Self {
        if compression.codings.is_empty() {
            return Self::default();
        }
        let exposed = headers
            .get(SEC_FETCH_SITE)
            .is_some_and(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"))
            && (headers.contains_key(header::COOKIE) || headers.contains_key(header::AUTHORIZATION));
        // A part of a compressed answer would be a part of something else.
        let ranged = headers.contains_key(header::RANGE);
        // RFC 9111 section 5.2.1.6.
        let untouched = negotiate::lists(headers, &header::CACHE_CONTROL, "no-transform");
        let coding = if exposed || ranged || untouched {
            None
        } else {
            negotiate::coding(headers, &compression.codings)
        };
        Self {
            offered: Some(Offered {
                coding,
                min_bytes: compression.min_bytes,
            }),
            // Of other methods it is a condition for doing something, which the worker has judged (RFC 9110 section
            // 13.1.2).
            if_none_match: headers
                .get(header::IF_NONE_MATCH)
                .filter(|_| matches!(*method, Method::GET | Method::HEAD))
                .cloned(),
            head: *method == Method::HEAD,
        }
    }

    /// The coding for a file of this type and size: none, and whether another client might get one.
    pub(crate) fn of_file(&self, content_type: &HeaderValue, size: u64) -> (Option<Coding>, bool) {
        match self.offered {
            Some(offered) if size >= offered.min_bytes && is_compressible(Some(content_type)) => {
                (offered.coding, true)
            }
            _ => (None, false),
        }
    }
}

/// Whoever made it knows what can be known of its codings: [`apply`] leaves it as it is.
#[derive(Debug, Clone, Copy)]
struct Settled;

/// See [`Settled`].
pub(crate) fn settle(response: &mut Response<Body>) {
    response.extensions_mut().insert(Settled);
}

/// Compresses an answer, where that is wanted and allowed.
pub(crate) fn apply(response: Response<Body>, wish: &Wish, places: &Places) -> Response<Body> {
    let Some(offered) = wish.offered else {
        return response;
    };
    if response.extensions().get::<Settled>().is_some() {
        return response;
    }
    if response.status() == StatusCode::NOT_MODIFIED {
        return not_modified(response, wish);
    }
    if !may_be(&response, offered.min_bytes) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    vary(&mut parts.headers);
    let Some(coding) = offered.coding else {
        return Response::from_parts(parts, body);
    };
    if parts.status == StatusCode::OK && matches_weakened(wish, &parts.headers) {
        // The client has what it would get: its tag is the one that we made weak, and not every worker knows it again.
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        weaken(&mut parts.headers);
        return Response::from_parts(parts, Body::empty());
    }
    let body = if wish.head {
        body
    } else {
        let size = body.size_hint().exact();
        let encoder = Encoder::new(coding, size);
        match (places.0.clone().try_acquire_owned(), encoder) {
            (Ok(place), Ok(encoder)) => Body::new(body::Compressed::new(body, encoder, place)),
            _ => return Response::from_parts(parts, body),
        }
    };
    mark(&mut parts.headers, coding);
    Response::from_parts(parts, body)
}

/// Says that an answer is compressed.
pub(crate) fn mark(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    // Digests of RFC 9530: that of the content is of other bytes now; that of the representation too.
    headers.remove("content-digest");
    headers.remove("repr-digest");
    headers.remove("content-md5");
    weaken(headers);
}

/// Whether this answer would be compressed for some client.
fn may_be(response: &Response<Body>, min_bytes: u64) -> bool {
    let headers = response.headers();
    let status = response.status();
    let sized = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .or_else(|| response.body().size_hint().exact().filter(|&size| size > 0));
    let has_content = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
        );
    has_content
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !negotiate::lists(headers, &header::CACHE_CONTROL, "no-transform")
        && is_compressible(headers.get(header::CONTENT_TYPE))
        && sized.is_none_or(|size| size >= min_bytes)
}

/// A 304 carries the fields that the 200 would have carried (RFC 9110 section 15.4.5).
fn not_modified(mut response: Response<Body>, wish: &Wish) -> Response<Body> {
    let headers = response.headers_mut();
    let fixed = headers.contains_key(header::CONTENT_ENCODING)
        || negotiate::lists(headers, &header::CACHE_CONTROL, "no-transform")
        || headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| !is_compressible(Some(kind)));
    if !fixed {
        vary(headers);
        if matches_weakened(wish, headers) {
            weaken(headers);
        }
    }
    response
}

/// Whether the client asked with the weak form of the answer's strong ETag.
fn matches_weakened(wish: &Wish, headers: &HeaderMap) -> bool {
    let (Some(asked), Some(tag)) = (&wish.if_none_match, headers.get(header::ETAG)) else {
        return false;
    };
    let (asked, tag) = (asked.as_bytes(), tag.as_bytes());
    tag.starts_with(b"\"") && memchr::memmem::find_iter(asked, tag).any(|at| asked[..at].ends_with(b"W/"))
}

/// A strong ETag is weak from here on.
pub(crate) fn weaken(headers: &mut HeaderMap) {
    let weak = headers.get(header::ETAG).and_then(|tag| {
        let strong = tag.as_bytes().starts_with(b"\"");
        strong.then(|| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok())?
    });
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}

/// Adds `Accept-Encoding`, unless it is there or everything varies.
pub(crate) fn vary(headers: &mut HeaderMap) {
    let there = negotiate::lists(headers, &header::VARY, "accept-encoding")
        || negotiate::lists(headers, &header::VARY, "*");
    if !there {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoder::tests::{ALL, decoded};
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, StreamBody};

    fn wish(fields: &[(&'static str, &'static str)]) -> Wish {
        wish_of(&Method::GET, fields)
    }

    fn wish_of(method: &Method, fields: &[(&'static str, &'static str)]) -> Wish {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Wish::of(method, &headers, &Compression::default())
    }

    fn answer(fields: &[(&'static str, &'static str)], size: usize) -> Response<Body> {
        let mut response = Response::new(Body::full(vec![b'x'; size]));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }

    fn of<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
        response
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn what_is_compressed_and_what_is_not() {
        let br = &[("accept-encoding", "br")][..];
        let places = Places::default();
        for (asked, said, size, coding, varies) in [
            (br, &[][..], 1000, "br", "Accept-Encoding"),
            (&[], &[], 1000, "", "Accept-Encoding"),
            (br, &[("vary", "Cookie")], 1000, "br", "Cookie"),
            (br, &[("vary", "*")], 1000, "br", "*"),
            (br, &[], 100, "", ""),
            (br, &[("content-type", "image/png")], 1000, "", ""),
            (br, &[("content-type", "text/event-stream")], 1000, "", ""),
            (br, &[("cache-control", "public, No-Transform")], 1000, "", ""),
            (br, &[("content-encoding", "gzip")], 1000, "gzip", ""),
            (
                &[("accept-encoding", "br"), ("range", "bytes=0-1")],
                &[],
                1000,
                "",
                "Accept-Encoding",
            ),
            (
                &[
                    ("accept-encoding", "br"),
                    ("sec-fetch-site", "cross-site"),
                    ("cookie", "a=b"),
                ],
                &[],
                1000,
                "",
                "Accept-Encoding",
            ),
            (
                &[("accept-encoding", "br"), ("sec-fetch-site", "cross-site")],
                &[],
                1000,
                "br",
                "Accept-Encoding",
            ),
            (
                &[
                    ("accept-encoding", "br"),
                    ("sec-fetch-site", "same-origin"),
                    ("cookie", "a=b"),
                ],
                &[],
                1000,
                "br",
                "Accept-Encoding",
            ),
        ] {
            let response = apply(answer(said, size), &wish(asked), &places);
            assert_eq!(of(&response, "content-encoding"), coding, "{asked:?} {said:?}");
            assert_eq!(of(&response, "vary"), varies, "{asked:?} {said:?}");
            assert_eq!(of(&response, "content-length").is_empty(), coding == "br");
        }
    }

    #[test]
    fn tags_become_weak_and_match_as_such() {
        let places = Places::default();
        let tagged = |value| answer(&[("etag", value)], 1000);
        let response = apply(tagged("\"a\""), &wish(&[("accept-encoding", "br")]), &places);
        assert_eq!(of(&response, "etag"), "W/\"a\"");
        let response = apply(tagged("W/\"a\""), &wish(&[("accept-encoding", "br")]), &places);
        assert_eq!(of(&response, "etag"), "W/\"a\"");
        let response = apply(tagged("\"a\""), &wish(&[]), &places);
        assert_eq!(of(&response, "etag"), "\"a\"");

        // The weak form that we made comes back; the worker took it for another.
        for (asked, status) in [
            ("W/\"a\"", 304),
            ("\"x\", W/\"a\"", 304),
            ("\"a\"", 200),
            ("W/\"aa\"", 200),
        ] {
            let wish = wish(&[("accept-encoding", "br"), ("if-none-match", asked)]);
            let response = apply(tagged("\"a\""), &wish, &places);
            assert_eq!(response.status(), status, "{asked}");
            assert_eq!(of(&response, "etag"), "W/\"a\"", "{asked}");
            assert_eq!(of(&response, "vary"), "Accept-Encoding");
        }
        // The worker knew it.
        let wish = wish(&[("accept-encoding", "br"), ("if-none-match", "W/\"a\"")]);
        let mut known = Response::new(Body::empty());
        *known.status_mut() = StatusCode::NOT_MODIFIED;
        known
            .headers_mut()
            .insert(header::ETAG, HeaderValue::from_static("\"a\""));
        let response = apply(known, &wish, &places);
        assert_eq!(
            (of(&response, "etag"), of(&response, "vary")),
            ("W/\"a\"", "Accept-Encoding")
        );
    }

    #[test]
    fn a_head_says_what_a_get_would() {
        let wish = wish_of(&Method::HEAD, &[("accept-encoding", "gzip")]);
        let mut head = answer(&[("etag", "\"a\"")], 1000);
        *head.body_mut() = Body::empty();
        let response = apply(head, &wish, &Places::default());
        assert_eq!(of(&response, "content-encoding"), "gzip");
        assert_eq!(
            (of(&response, "content-length"), of(&response, "etag")),
            ("", "W/\"a\"")
        );
    }

    #[tokio::test]
    async fn a_stream_is_readable_where_it_pauses_and_short_where_it_breaks() {
        for coding in ALL {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<&str, BoxErrorText>>();
            let source = tokio_stream(receiver);
            let places = Places::default();
            let token: &'static str = coding.token();
            let mut response = Response::new(Body::new(StreamBody::new(source)));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            let mut response = apply(response, &wish(&[("accept-encoding", token)]), &places);
            assert_eq!(of(&response, "content-encoding"), token);
            let body = response.body_mut();
            let mut seen = Vec::new();
            for piece in ["<h1>first", " piece</h1>", "<p>second"] {
                sender.send(Ok(piece)).unwrap();
                let before = decoded(coding, &seen).0.len();
                while decoded(coding, &seen).0.len() < before + piece.len() {
                    let frame = body.frame().await.unwrap().unwrap();
                    seen.extend_from_slice(frame.data_ref().unwrap());
                }
            }
            sender.send(Err(BoxErrorText)).unwrap();
            assert!(body.frame().await.unwrap().is_err(), "{coding:?}");
            assert!(!decoded(coding, &seen).1, "{coding:?} must not look whole");
            drop(response);
            assert_eq!(places.0.available_permits(), MAX_STREAMS);
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct BoxErrorText;

    fn tokio_stream(
        mut receiver: tokio::sync::mpsc::UnboundedReceiver<Result<&'static str, BoxErrorText>>,
    ) -> impl futures_util::Stream<Item = Result<http_body::Frame<bytes::Bytes>, crate::body::BoxError>> + Send
    {
        futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(|item| {
            item.map(|text| http_body::Frame::data(bytes::Bytes::from_static(text.as_bytes())))
                .map_err(|error| Box::new(error) as crate::body::BoxError)
        })
    }

    #[tokio::test]
    async fn with_no_place_left_it_is_sent_as_it_is() {
        let places = Places::default();
        let all = places.0.clone().acquire_many_owned(128).await.unwrap();
        let response = apply(answer(&[], 1000), &wish(&[("accept-encoding", "br")]), &places);
        assert_eq!(of(&response, "content-encoding"), "");
        assert_eq!(of(&response, "content-length"), "1000");
        drop(all);
    }

    #[tokio::test]
    async fn large_answers_come_back_whole_with_their_trailers() {
        let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        for coding in ALL {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            let frames = vec![
                Ok(http_body::Frame::data(bytes::Bytes::from(text.clone()))),
                Ok(http_body::Frame::trailers(trailers)),
            ];
            let mut response = Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            let wish = wish(&[("accept-encoding", coding.token())]);
            let collected = apply(response, &wish, &Places::default())
                .into_body()
                .collect()
                .await
                .unwrap();
            assert_eq!(collected.trailers().unwrap()["x-sum"], "1");
            assert_eq!(decoded(coding, &collected.to_bytes()), (text.clone(), true));
        }
    }
}
