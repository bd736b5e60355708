//! The record as a line of JSON, and what of a client's text may stand in it.
//!
//! Written by hand: a general serializer took a tenth of what the edge itself spends on a request.

use super::{Decided, MAX_SHORT, MAX_TEXT, Route};
use crate::fault::Blame;
use crate::text;
use astraler_model::Environment;
use http::header::HeaderValue;
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::time::SystemTime;

/// One line of the access log, made when the request has ended: until then what it says is kept as it came.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) ts: SystemTime,
    pub(super) request_id: &'a str,
    pub(super) environment: Option<Environment>,
    pub(super) deployment: Option<&'a str>,
    pub(super) host: Cow<'a, str>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<Cow<'a, str>>,
    pub(super) status: u16,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) duration_us: u64,
    pub(super) upstream_us: Option<u64>,
    pub(super) client_ip: IpAddr,
    /// The other end of the connection, where that is a proxy which named the client.
    pub(super) peer_ip: Option<IpAddr>,
    pub(super) user_agent: Option<Cow<'a, str>>,
    pub(super) referer: Option<Cow<'a, str>>,
    pub(super) route: &'a Route,
    pub(super) protocol: &'static str,
    pub(super) upgraded: bool,
    /// What the cache did; nothing where it was not asked.
    pub(super) cache: Option<&'static str>,
    pub(super) error: Option<&'static str>,
    pub(super) error_reason: Option<&'static str>,
    pub(super) blame: Option<crate::fault::Blame>,
    /// What rules decided of it, in their order.
    pub(super) rules: &'a [Decided],
    pub(super) content_type: Option<Cow<'a, str>>,
    pub(super) content_encoding: Option<Cow<'a, str>>,
    /// Of W3C Trace Context, where a worker was asked: by it the worker's own traces are found.
    pub(super) trace_id: Option<&'a str>,
    /// Until the request went to a worker: rules, the queue of a delay, a wake.
    pub(super) wait_us: Option<u64>,
    /// Until the head of the answer was ready.
    pub(super) first_byte_us: Option<u64>,
    /// Connecting to the worker, where no open connection was at hand.
    pub(super) connect_us: Option<u64>,
    /// How often the request was sent again.
    pub(super) retries: Option<u32>,
    pub(super) tls_version: Option<&'static str>,
    pub(super) tls_cipher: Option<&'static str>,
}

impl Record<'_> {
    /// Adds it to `out`, as one JSON object.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(1024);
        out.extend_from_slice(br#"{"ts":""#);
        rfc3339_ms(out, self.ts);
        out.push(b'"');
        string(out, r#","request_id":"#, Some(self.request_id));
        match self.environment {
            // A number at most: nothing to escape.
            Some(environment) => {
                let _ = write!(out, r#","environment":"{environment}""#);
            }
            None => string(out, r#","environment":"#, None),
        }
        string(out, r#","deployment":"#, self.deployment);
        string(out, r#","host":"#, Some(&self.host));
        string(out, r#","method":"#, Some(self.method));
        string(out, r#","path":"#, Some(self.path));
        string(out, r#","query":"#, self.query.as_deref());
        number(out, r#","status":"#, u64::from(self.status));
        number(out, r#","bytes_in":"#, self.bytes_in);
        number(out, r#","bytes_out":"#, self.bytes_out);
        number(out, r#","duration_us":"#, self.duration_us);
        match self.upstream_us {
            Some(took) => number(out, r#","upstream_us":"#, took),
            None => out.extend_from_slice(br#","upstream_us":null"#),
        }
        address(out, r#","client_ip":"#, self.client_ip);
        if let Some(peer) = self.peer_ip {
            address(out, r#","peer_ip":"#, peer);
        }
        string(out, r#","user_agent":"#, self.user_agent.as_deref());
        string(out, r#","referer":"#, self.referer.as_deref());
        out.extend_from_slice(br#","route":""#);
        match self.route {
            Route::None => out.extend_from_slice(b"none"),
            Route::Tls => out.extend_from_slice(b"tls"),
            Route::Asset => out.extend_from_slice(b"asset"),
            Route::Worker(worker) => {
                out.extend_from_slice(b"worker:");
                text::json(out, &worker.worker);
            }
        }
        out.push(b'"');
        string(out, r#","protocol":"#, Some(self.protocol));
        let upgraded: &[u8] = match self.upgraded {
            true => br#","upgraded":true"#,
            false => br#","upgraded":false"#,
        };
        out.extend_from_slice(upgraded);
        string(out, r#","cache":"#, self.cache);
        string(out, r#","error":"#, self.error);
        string(out, r#","error_reason":"#, self.error_reason);
        string(out, r#","blame":"#, self.blame.map(Blame::as_str));
        if !self.rules.is_empty() {
            decided(out, self.rules);
        }
        for (name, value) in [
            (r#","content_type":"#, self.content_type.as_deref()),
            (r#","content_encoding":"#, self.content_encoding.as_deref()),
            (r#","trace_id":"#, self.trace_id),
        ] {
            if value.is_some() {
                string(out, name, value);
            }
        }
        for (name, value) in [
            (r#","wait_us":"#, self.wait_us),
            (r#","first_byte_us":"#, self.first_byte_us),
            (r#","connect_us":"#, self.connect_us),
            (r#","retries":"#, self.retries.map(u64::from)),
        ] {
            if let Some(value) = value {
                number(out, name, value);
            }
        }
        for (name, value) in [
            (r#","tls_version":"#, self.tls_version),
            (r#","tls_cipher":"#, self.tls_cipher),
        ] {
            if value.is_some() {
                string(out, name, value);
            }
        }
        out.push(b'}');
    }
}

fn decided(out: &mut Vec<u8>, rules: &[Decided]) {
    out.extend_from_slice(br#","rules":["#);
    for (place, one) in rules.iter().enumerate() {
        let name = if place == 0 { r#"{"rule":"# } else { r#",{"rule":"# };
        string(out, name, Some(&one.rule));
        string(out, r#","action":"#, Some(one.action));
        if one.variable.is_some() {
            string(out, r#","variable":"#, one.variable.as_deref());
        }
        if let Some(score) = one.score {
            let _ = write!(out, r#","score":{score}"#);
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// `name` is the comma, the name and the colon.
fn string(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    out.extend_from_slice(name.as_bytes());
    match value {
        Some(value) => {
            out.push(b'"');
            text::json(out, value);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    text::decimal(out, value);
}

fn address(out: &mut Vec<u8>, name: &str, value: IpAddr) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    text::address(out, value);
    out.push(b'"');
}

/// RFC 3339 with milliseconds; the second is written once for all its records.
fn rfc3339_ms(out: &mut Vec<u8>, time: SystemTime) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(of, text)| {
        if *of != since.as_secs() {
            *of = since.as_secs();
            let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            *text = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        out.extend_from_slice(text.as_bytes());
    });
    let millis = since.subsec_millis();
    let digit = |number: u32| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

pub(super) fn masked_referer(value: &HeaderValue) -> Cow<'_, str> {
    let referer = text(value, MAX_TEXT);
    match referer.split_once('?') {
        Some((page, query)) => format!("{page}?{}", mask(query)).into(),
        None => referer,
    }
}

pub(super) fn short(value: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    value.map(|value| text(value, MAX_SHORT))
}

pub(super) fn text(value: &HeaderValue, max: usize) -> Cow<'_, str> {
    shortened(String::from_utf8_lossy(value.as_bytes()), max)
}

pub(super) fn shortened(text: Cow<'_, str>, max: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(cut(text, max)),
        Cow::Owned(mut text) => {
            text.truncate(cut(&text, max).len());
            Cow::Owned(text)
        }
    }
}

/// Whole characters of at most so many bytes.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Hides the values of query parameters that carry secrets: a log is read by more people than the request was meant for.
pub(crate) fn mask(query: &str) -> Cow<'_, str> {
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
    let is_secret = |pair: &str| {
        pair.split_once('=').is_some_and(|(key, _)| {
            let name = percent_encoding::percent_decode_str(key)
                .decode_utf8_lossy()
                .to_ascii_lowercase();
            SECRET.iter().any(|word| name.contains(word)) || SECRET_EXACT.contains(&&*name)
        })
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if is_secret(pair) => format!("{key}=***"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&").into()
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

    fn empty() -> Record<'static> {
        Record {
            ts: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_007),
            request_id: "01",
            environment: None,
            deployment: None,
            host: "".into(),
            method: "GET",
            path: "/",
            query: None,
            status: 200,
            bytes_in: 0,
            bytes_out: 1,
            duration_us: 2,
            upstream_us: None,
            client_ip: [127, 0, 0, 1].into(),
            peer_ip: None,
            user_agent: None,
            referer: None,
            route: &Route::None,
            protocol: "HTTP/1.1",
            upgraded: false,
            cache: None,
            error: None,
            error_reason: None,
            blame: None,
            rules: &[],
            content_type: None,
            content_encoding: None,
            trace_id: None,
            wait_us: None,
            first_byte_us: None,
            connect_us: None,
            retries: None,
            tls_version: None,
            tls_cipher: None,
        }
    }

    fn read(record: &Record<'_>) -> serde_json::Value {
        let mut line = Vec::new();
        record.write(&mut line);
        assert!(!line.contains(&b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn what_is_not_there_is_null_or_left_out() {
        let expected = serde_json::json!({
            "ts": "2023-11-14T22:13:20.007Z", "request_id": "01", "environment": null, "deployment": null, "host": "",
            "method": "GET", "path": "/", "query": null, "status": 200, "bytes_in": 0, "bytes_out": 1, "duration_us": 2,
            "upstream_us": null, "client_ip": "127.0.0.1", "user_agent": null, "referer": null, "route": "none",
            "protocol": "HTTP/1.1", "upgraded": false, "cache": null, "error": null, "error_reason": null, "blame": null,
        });
        assert_eq!(read(&empty()), expected);
    }

    #[test]
    fn what_a_client_says_stays_inside_of_its_field() {
        let hostile = "\",\"status\":500,\\\u{1}\n\u{e9}";
        let rules = [
            Decided {
                rule: hostile.to_owned(),
                action: "block",
                variable: Some(hostile.to_owned()),
                score: Some(-5),
            },
            Decided {
                rule: "second".to_owned(),
                action: "log",
                variable: None,
                score: None,
            },
        ];
        let record = Record {
            environment: Some(Environment::Preview(7)),
            deployment: Some(hostile),
            host: hostile.into(),
            method: hostile,
            path: hostile,
            query: Some(hostile.into()),
            upstream_us: Some(3),
            peer_ip: Some("::1".parse().unwrap()),
            user_agent: Some(hostile.into()),
            referer: Some(hostile.into()),
            upgraded: true,
            cache: Some("hit"),
            error: Some("e"),
            error_reason: Some("r"),
            blame: Some(Blame::Edge),
            rules: &rules,
            content_type: Some(hostile.into()),
            content_encoding: Some("br".into()),
            trace_id: Some(hostile),
            wait_us: Some(4),
            first_byte_us: Some(5),
            connect_us: Some(6),
            retries: Some(7),
            tls_version: Some("TLSv1.3"),
            tls_cipher: Some("c"),
            ..empty()
        };
        let expected = serde_json::json!({
            "ts": "2023-11-14T22:13:20.007Z", "request_id": "01", "environment": "pr-7", "deployment": hostile,
            "host": hostile, "method": hostile, "path": hostile, "query": hostile, "status": 200, "bytes_in": 0,
            "bytes_out": 1, "duration_us": 2, "upstream_us": 3, "client_ip": "127.0.0.1", "peer_ip": "::1",
            "user_agent": hostile, "referer": hostile, "route": "none", "protocol": "HTTP/1.1", "upgraded": true,
            "cache": "hit", "error": "e", "error_reason": "r", "blame": "edge",
            "rules": [
                { "rule": hostile, "action": "block", "variable": hostile, "score": -5 },
                { "rule": "second", "action": "log" },
            ],
            "content_type": hostile, "content_encoding": "br", "trace_id": hostile, "wait_us": 4, "first_byte_us": 5,
            "connect_us": 6, "retries": 7, "tls_version": "TLSv1.3", "tls_cipher": "c",
        });
        assert_eq!(read(&record), expected);
    }
}
