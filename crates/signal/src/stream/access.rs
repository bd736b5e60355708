//! The access record, as the edge writes it: one JSON object a line.

use super::time_ms;
use arrow_array::builder::{
    FixedSizeBinaryBuilder, StringBuilder, StringDictionaryBuilder, TimestampMillisecondBuilder,
    UInt16Builder, UInt64Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// What the line says. Fields that a later edge adds are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    environment: Option<Cow<'a, str>>,
    #[serde(borrow)]
    deployment: Option<Cow<'a, str>>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    query: Option<Cow<'a, str>>,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    upstream_us: Option<u64>,
    #[serde(borrow)]
    client_ip: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    referer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    route: Cow<'a, str>,
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    upgraded: bool,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    blame: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cache: Option<Cow<'a, str>>,
    connect_us: Option<u64>,
    retries: Option<u16>,
    #[serde(borrow)]
    tls_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tls_cipher: Option<Cow<'a, str>>,
    #[serde(borrow)]
    rules: Vec<Rule<'a>>,
}

/// What a rule of the edge has decided.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule<'a> {
    #[serde(borrow)]
    rule: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    variable: Option<Cow<'a, str>>,
    score: Option<i64>,
}

/// Of what rules have decided about one request, in words.
const MAX_RULES_BYTES: usize = 2 << 10;

/// `949110 block 10, 942100 match ARGS:id 5`: who decided, what, in which variable, with which score.
fn words(rules: &[Rule<'_>]) -> Option<String> {
    let mut text = String::new();
    for one in rules {
        if text.len() > MAX_RULES_BYTES {
            text.push_str(", …");
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&one.rule);
        text.push(' ');
        text.push_str(&one.action);
        if let Some(variable) = &one.variable {
            text.push(' ');
            text.push_str(variable);
        }
        if let Some(score) = one.score {
            text.push_str(&format!(" {score}"));
        }
    }
    (!text.is_empty()).then_some(text)
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let words = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        field("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("request_id", DataType::FixedSizeBinary(16)),
        field("environment", words()),
        field("deployment", words()),
        field("host", words()),
        field("method", words()),
        field("path", DataType::Utf8),
        field("query", DataType::Utf8),
        field("status", DataType::UInt16),
        field("bytes_in", DataType::UInt64),
        field("bytes_out", DataType::UInt64),
        field("duration_us", DataType::UInt64),
        field("upstream_us", DataType::UInt64),
        field("client_ip", DataType::Utf8),
        field("user_agent", words()),
        field("referer", DataType::Utf8),
        field("route", words()),
        field("protocol", words()),
        field("upgraded", DataType::Boolean),
        field("error", words()),
        field("error_reason", words()),
        field("blame", words()),
        field("cache", words()),
        field("connect_us", DataType::UInt64),
        field("retries", DataType::UInt16),
        field("tls_version", words()),
        field("tls_cipher", words()),
        field("rules", DataType::Utf8),
    ]))
});

pub(super) fn schema() -> SchemaRef {
    SCHEMA.clone()
}

type Words = StringDictionaryBuilder<Int32Type>;

/// Columns that fill.
pub(crate) struct Columns {
    rows: usize,
    ts: TimestampMillisecondBuilder,
    request_id: FixedSizeBinaryBuilder,
    environment: Words,
    deployment: Words,
    host: Words,
    method: Words,
    path: StringBuilder,
    query: StringBuilder,
    status: UInt16Builder,
    bytes_in: UInt64Builder,
    bytes_out: UInt64Builder,
    duration_us: UInt64Builder,
    upstream_us: UInt64Builder,
    client_ip: StringBuilder,
    user_agent: Words,
    referer: StringBuilder,
    route: Words,
    protocol: Words,
    upgraded: Vec<bool>,
    error: Words,
    error_reason: Words,
    blame: Words,
    cache: Words,
    connect_us: UInt64Builder,
    retries: UInt16Builder,
    tls_version: Words,
    tls_cipher: Words,
    rules: StringBuilder,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            rows: 0,
            ts: TimestampMillisecondBuilder::new(),
            request_id: FixedSizeBinaryBuilder::new(16),
            environment: Words::new(),
            deployment: Words::new(),
            host: Words::new(),
            method: Words::new(),
            path: StringBuilder::new(),
            query: StringBuilder::new(),
            status: UInt16Builder::new(),
            bytes_in: UInt64Builder::new(),
            bytes_out: UInt64Builder::new(),
            duration_us: UInt64Builder::new(),
            upstream_us: UInt64Builder::new(),
            client_ip: StringBuilder::new(),
            user_agent: Words::new(),
            referer: StringBuilder::new(),
            route: Words::new(),
            protocol: Words::new(),
            upgraded: Vec::new(),
            error: Words::new(),
            error_reason: Words::new(),
            blame: Words::new(),
            cache: Words::new(),
            connect_us: UInt64Builder::new(),
            retries: UInt16Builder::new(),
            tls_version: Words::new(),
            tls_cipher: Words::new(),
            rules: StringBuilder::new(),
        }
    }
}

impl Columns {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn push(&mut self, line: &[u8]) -> bool {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            return false;
        };
        let Some(ts) = time_ms(&line.ts) else { return false };
        self.rows += 1;
        self.ts.append_value(ts);
        match uuid(&line.request_id) {
            Some(id) if self.request_id.append_value(id).is_ok() => {}
            _ => self.request_id.append_null(),
        }
        self.environment.append_option(line.environment);
        self.deployment.append_option(line.deployment);
        self.host.append_value(line.host);
        self.method.append_value(line.method);
        self.path.append_value(line.path);
        self.query.append_option(line.query);
        self.status.append_value(line.status);
        self.bytes_in.append_value(line.bytes_in);
        self.bytes_out.append_value(line.bytes_out);
        self.duration_us.append_value(line.duration_us);
        self.upstream_us.append_option(line.upstream_us);
        self.client_ip.append_value(line.client_ip);
        self.user_agent.append_option(line.user_agent);
        self.referer.append_option(line.referer);
        self.route.append_value(line.route);
        self.protocol.append_value(line.protocol);
        self.upgraded.push(line.upgraded);
        self.error.append_option(line.error);
        self.error_reason.append_option(line.error_reason);
        self.blame.append_option(line.blame);
        self.cache.append_option(line.cache);
        self.connect_us.append_option(line.connect_us);
        self.retries.append_option(line.retries);
        self.tls_version.append_option(line.tls_version);
        self.tls_cipher.append_option(line.tls_cipher);
        self.rules.append_option(words(&line.rules));
        true
    }

    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ts.finish()),
            Arc::new(self.request_id.finish()),
            Arc::new(self.environment.finish()),
            Arc::new(self.deployment.finish()),
            Arc::new(self.host.finish()),
            Arc::new(self.method.finish()),
            Arc::new(self.path.finish()),
            Arc::new(self.query.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.bytes_in.finish()),
            Arc::new(self.bytes_out.finish()),
            Arc::new(self.duration_us.finish()),
            Arc::new(self.upstream_us.finish()),
            Arc::new(self.client_ip.finish()),
            Arc::new(self.user_agent.finish()),
            Arc::new(self.referer.finish()),
            Arc::new(self.route.finish()),
            Arc::new(self.protocol.finish()),
            Arc::new(BooleanArray::from(std::mem::take(&mut self.upgraded))),
            Arc::new(self.error.finish()),
            Arc::new(self.error_reason.finish()),
            Arc::new(self.blame.finish()),
            Arc::new(self.cache.finish()),
            Arc::new(self.connect_us.finish()),
            Arc::new(self.retries.finish()),
            Arc::new(self.tls_version.finish()),
            Arc::new(self.tls_cipher.finish()),
            Arc::new(self.rules.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

/// The sixteen bytes of a UUID, or of 32 hex digits.
pub(crate) fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    let mut digits = 0;
    for byte in text.bytes().filter(|byte| *byte != b'-') {
        let digit = char::from(byte).to_digit(16)?;
        let place = id.get_mut(digits / 2)?;
        *place = *place << 4 | u8::try_from(digit).ok()?;
        digits += 1;
    }
    (digits == 32).then_some(id)
}

/// As the edge writes it.
pub(crate) fn uuid_text(id: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    #[test]
    fn request_ids_come_back_as_they_were() {
        let text = "0193a5b2-7c1e-7f00-8a1b-0123456789ab";
        assert_eq!(uuid_text(&uuid(text).unwrap()), text);
        assert_eq!(uuid(&text.replace('-', "")), uuid(text));
        for wrong in ["", "0193", &format!("{text}0"), &text.replace('f', "g")] {
            assert_eq!(uuid(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let mut columns = Columns::default();
        for line in ["", "{", "null", r#"{"ts":"x"}"#, r#"{"status":200}"#] {
            assert!(!columns.push(line.as_bytes()), "{line}");
        }
        assert!(columns.push(br#"{"ts":"2026-11-27T14:41:51.112Z","status":200,"later":{"a":1}}"#));
        assert_eq!(columns.finish().unwrap().num_rows(), 1);
        assert_eq!(columns.rows(), 0);
    }

    #[test]
    fn what_rules_have_decided_is_told_in_words_and_has_a_bound() {
        let read = |line: &str| {
            let mut columns = Columns::default();
            assert!(columns.push(line.as_bytes()));
            let batch = columns.finish().unwrap();
            let column = batch.column_by_name("rules").unwrap().clone();
            let column = column.as_string::<i32>();
            (!column.is_null(0)).then(|| column.value(0).to_owned())
        };
        let ts = "2026-11-27T14:41:51.112Z";
        let decided = r#"[{"rule":"949110","action":"block","score":10},{"rule":"942100","action":"match","variable":"ARGS:id","score":5},{"rule":"office","action":"log"}]"#;
        assert_eq!(
            read(&format!(r#"{{"ts":"{ts}","rules":{decided}}}"#)).unwrap(),
            "949110 block 10, 942100 match ARGS:id 5, office log"
        );
        assert_eq!(read(&format!(r#"{{"ts":"{ts}","rules":[]}}"#)), None);
        assert_eq!(read(&format!(r#"{{"ts":"{ts}"}}"#)), None);
        let many = vec![r#"{"rule":"a","action":"log"}"#; 2_000].join(",");
        let many = read(&format!(r#"{{"ts":"{ts}","rules":[{many}]}}"#)).unwrap();
        assert!(
            many.len() < MAX_RULES_BYTES + 100 && many.ends_with('…'),
            "{}",
            many.len()
        );
    }
}
