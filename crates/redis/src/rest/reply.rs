//! How a result is written.

use crate::resp::{Value, encode_resp2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// JSON whose texts are base64, except the status `OK`: safe for any bytes.
    Base64,
    Resp2,
    /// Both were asked for.
    Contradiction,
}

impl Format {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let is = |name: &str, value: &[u8]| {
            headers
                .get(name)
                .is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value))
        };
        match (
            is("upstash-encoding", b"base64"),
            is("upstash-response-format", b"resp2"),
        ) {
            (false, false) => Self::Json,
            (true, false) => Self::Base64,
            (false, true) => Self::Resp2,
            (true, true) => Self::Contradiction,
        }
    }
}

pub(super) fn refusal(message: &str) -> Bytes {
    let mut out = b"{\"error\":".to_vec();
    string(message, &mut out);
    out.push(b'}');
    out.into()
}

pub(super) fn single(value: &Value, format: Format) -> Bytes {
    if format == Format::Resp2 {
        return resp2(std::slice::from_ref(value));
    }
    let mut out = vec![];
    result(value, format, &mut out);
    out.into()
}

pub(super) fn many(values: &[Value], format: Format) -> Bytes {
    if format == Format::Resp2 {
        return resp2(std::slice::from_ref(&Value::Array(values.to_vec())));
    }
    let mut out = vec![b'['];
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        result(value, format, &mut out);
    }
    out.push(b']');
    out.into()
}

fn resp2(values: &[Value]) -> Bytes {
    let mut out = BytesMut::new();
    values.iter().for_each(|value| encode_resp2(value, &mut out));
    out.freeze()
}

fn result(value: &Value, format: Format, out: &mut Vec<u8>) {
    if let Value::Error(message) | Value::BulkError(message) = value {
        out.extend_from_slice(b"{\"error\":");
        string(&String::from_utf8_lossy(message), out);
    } else {
        out.extend_from_slice(b"{\"result\":");
        json(value, format, out);
    }
    out.push(b'}');
}

fn json(value: &Value, format: Format, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Boolean(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Simple(text) if text.as_ref() == b"OK" => out.extend_from_slice(b"\"OK\""),
        Value::Simple(bytes)
        | Value::Bulk(bytes)
        | Value::Double(bytes)
        | Value::BigNumber(bytes)
        | Value::Error(bytes)
        | Value::BulkError(bytes)
        | Value::Verbatim { text: bytes, .. } => {
            if format == Format::Base64 {
                string(&STANDARD.encode(bytes), out);
            } else {
                string(&String::from_utf8_lossy(bytes), out);
            }
        }
        Value::Array(items) | Value::Map(items) | Value::Set(items) | Value::Push(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json(item, format, out);
            }
            out.push(b']');
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text is JSON, and a Vec takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_ok_is_not_encoded() {
        let value = Value::Array(vec![
            Value::Simple("OK".into()),
            Value::Bulk("OK".into()),
            Value::Integer(7),
            Value::Null,
            Value::Bulk(Bytes::from_static(&[0xff, b'"'])),
        ]);
        assert_eq!(
            single(&value, Format::Base64),
            r#"{"result":["OK","T0s=",7,null,"/yI="]}"#
        );
        assert_eq!(
            single(&value, Format::Json),
            "{\"result\":[\"OK\",\"OK\",7,null,\"\u{fffd}\\\"\"]}"
        );
        assert_eq!(
            many(&[Value::Error("ERR \"x\"".into())], Format::Base64),
            r#"[{"error":"ERR \"x\""}]"#
        );
    }
}
