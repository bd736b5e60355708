//! What the edge does with requests and answers of an environment, besides routing them: who a client is, who may come,
//! how often, and what answers carry. The words are the manifest's; a snapshot and a standalone edge say the same.

use crate::{EnvironmentKind, Network, WafConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Rules of one environment, and the state that an operator has set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgePolicy {
    /// Who may say who the client is.
    pub trusted_proxies: Vec<Network>,
    /// By which field they say it.
    pub client_ip_header: ClientIpHeader,
    /// Who may come.
    pub access: Vec<AccessRule>,
    /// How often.
    pub rate_rules: Vec<RateRule>,
    /// The firewall, where there is one.
    pub waf: Option<WafConfig>,
    /// What is different under attack.
    pub under_attack: UnderAttack,
    /// How answers are compressed.
    pub compression: Compression,
    /// What answers carry.
    pub header_rules: Vec<HeaderRule>,
    /// Files of the release that stand in for the edge's own pages.
    pub error_pages: ErrorPages,
    /// Set while an operator has the environment closed.
    pub maintenance: Option<Maintenance>,
    /// Set while an operator has it under attack.
    pub attack: Option<Attack>,
}

/// The field in which a trusted proxy names the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientIpHeader {
    /// `X-Forwarded-For`, read from the right: what trusted proxies have appended.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), read the same way.
    Forwarded,
    /// `CF-Connecting-IP`: one address.
    CfConnectingIp,
}

/// Who may reach some hosts or paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Its name, for the access record.
    pub name: RuleName,
    /// Environments in which it holds; all when absent.
    #[serde(default)]
    pub environments: Vec<EnvironmentKind>,
    /// Hosts; `*` stands for any characters. All when absent.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Paths: each and what is below it; `*` stands for any characters. All when absent.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Networks that may come, in CIDR form. All others get 403.
    pub allow: Vec<Network>,
}

/// How often clients may ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRule {
    /// Its name: in the access record and in the `RateLimit` fields.
    pub name: RuleName,
    /// Environments in which it holds; all when absent.
    #[serde(default)]
    pub environments: Vec<EnvironmentKind>,
    /// Hosts; `*` stands for any characters. All when absent.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Paths: each and what is below it; `*` stands for any characters. All when absent.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Methods; all when absent.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Which requests count, in Cloudflare's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub expression: Option<String>,
    /// What makes two requests one client's: `ip` (IPv6 by /64), `host`, `path`, `header:NAME`, `cookie:NAME`.
    #[serde(default = "by_address")]
    pub characteristics: Vec<Characteristic>,
    /// Seconds in which so many requests come back.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 1, max = 86_400))]
    pub period_s: u32,
    /// Requests in a period.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u32,
    /// Requests at once, at most `requests`; as many when absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<u32>,
    /// What happens above.
    #[serde(default)]
    pub action: RateAction,
    /// Seconds for which a client that came too often is blocked whatever it does; 0 is until its next request is due.
    #[serde(default)]
    #[schemars(range(max = 86_400))]
    pub mitigation_timeout_s: u32,
    /// The longest that `delay` lets an answer wait; what would wait longer gets 429.
    #[serde(default = "five_seconds")]
    #[schemars(range(min = 1, max = 60_000))]
    pub max_delay_ms: u32,
    /// Clients that are remembered: 32 bytes each. When there are more, those that asked least are forgotten first.
    #[serde(default = "many_clients")]
    #[schemars(range(min = 1_024, max = 16_777_216))]
    pub max_clients: u32,
}

fn by_address() -> Vec<Characteristic> {
    vec![Characteristic::Ip]
}

fn a_minute() -> u32 {
    60
}

fn five_seconds() -> u32 {
    5_000
}

fn many_clients() -> u32 {
    65_536
}

impl RateRule {
    /// So many requests in so many seconds from one address; the rest as the manifest has it by default.
    pub fn new(name: RuleName, requests: u32, period_s: u32) -> Self {
        Self {
            name,
            environments: vec![],
            hosts: vec![],
            paths: vec![],
            methods: vec![],
            expression: None,
            characteristics: by_address(),
            period_s,
            requests,
            burst: None,
            action: RateAction::default(),
            mitigation_timeout_s: 0,
            max_delay_ms: five_seconds(),
            max_clients: many_clients(),
        }
    }
}

/// What happens above a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateAction {
    /// 429.
    #[default]
    Block,
    /// The answer waits.
    Delay,
    /// It is written to the access record.
    Log,
}

/// What makes two requests one client's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Characteristic {
    /// The client's address; IPv6 by /64.
    Ip,
    /// The host.
    Host,
    /// The path.
    Path,
    /// The value of a header field.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
}

/// A word of the manifest has another form than it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// No characteristic.
    #[error("\"{0}\" is no characteristic: write ip, host, path, header:NAME or cookie:NAME")]
    Characteristic(String),
    /// No rule's name.
    #[error("\"{0}\" cannot name a rule: write 1 to 40 lower-case letters, digits, `-` and `_`")]
    RuleName(String),
    /// No field's name.
    #[error("\"{0}\" is no name of a header field")]
    FieldName(String),
    /// A field that is not the rules'.
    #[error(
        "\"{0}\" cannot be set by a rule: it says how the message is framed, coded or carried, and the edge writes it"
    )]
    Framing(String),
    /// No field's value.
    #[error("{0:?} is no value of a header field: visible ASCII and spaces, at most 4096 characters")]
    FieldValue(String),
    /// No status.
    #[error("\"{0}\" is no status of an error: write one such as \"404\", or a class, \"4xx\" or \"5xx\"")]
    Status(String),
    /// No file of the assets.
    #[error("\"{0}\" is no file of the assets: write a path that begins with `/`")]
    Page(String),
}

impl TryFrom<String> for Characteristic {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let named = |name: &str| is_token(name).then(|| name.to_owned());
        let found = match (text.as_str(), text.split_once(':')) {
            ("ip", _) => Some(Self::Ip),
            ("host", _) => Some(Self::Host),
            ("path", _) => Some(Self::Path),
            (_, Some(("header", name))) => named(name).map(|name| Self::Header(name.to_ascii_lowercase())),
            (_, Some(("cookie", name))) => named(name).map(Self::Cookie),
            _ => None,
        };
        found.ok_or(WordError::Characteristic(text))
    }
}

impl From<Characteristic> for String {
    fn from(characteristic: Characteristic) -> Self {
        match characteristic {
            Characteristic::Ip => "ip".to_owned(),
            Characteristic::Host => "host".to_owned(),
            Characteristic::Path => "path".to_owned(),
            Characteristic::Header(name) => format!("header:{name}"),
            Characteristic::Cookie(name) => format!("cookie:{name}"),
        }
    }
}

/// A rule's name: it stands in records and in header fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(String);

impl RuleName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RuleName {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if (1..=40).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(WordError::RuleName(text))
        }
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> Self {
        name.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is different while an environment is under attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnderAttack {
    /// Requests of one client in a second, over all paths.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_s: u32,
    /// Rate rules allow a so-many-th of what they say.
    #[schemars(range(min = 1, max = 1_000))]
    pub rate_divisor: u32,
    /// Time for a whole head of a request, on connections that begin meanwhile.
    #[schemars(range(min = 100))]
    pub header_timeout_ms: u64,
    /// Time such a connection may be idle between requests.
    #[schemars(range(min = 100))]
    pub idle_timeout_ms: u64,
    /// Connections of one client at once.
    #[schemars(range(min = 1))]
    pub max_connections_per_client: u32,
}

impl Default for UnderAttack {
    fn default() -> Self {
        Self {
            requests_per_s: 10,
            rate_divisor: 4,
            header_timeout_ms: 3_000,
            idle_timeout_ms: 5_000,
            max_connections_per_client: 16,
        }
    }
}

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

impl Coding {
    /// As `Content-Encoding` says it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// How answers are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// What is offered, the most wanted first; nothing when empty.
    pub codings: Vec<Coding>,
    /// Smaller answers are left as they are.
    pub min_bytes: u64,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            codings: vec![Coding::Br, Coding::Zstd, Coding::Gzip],
            min_bytes: 512,
        }
    }
}

/// What answers of some paths carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderRule {
    /// Environments in which it holds; all when absent.
    pub environments: Vec<EnvironmentKind>,
    /// Hosts; `*` stands for any characters. All when absent.
    pub hosts: Vec<String>,
    /// Paths: each and what is below it; `*` stands for any characters. All when absent.
    pub paths: Vec<String>,
    /// Fields that are taken away.
    pub remove: Vec<FieldName>,
    /// Fields that have this one value.
    pub set: BTreeMap<FieldName, FieldValue>,
    /// Fields that have this value too.
    pub add: BTreeMap<FieldName, FieldValue>,
}

/// The name of a response header field that a rule may touch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldName(String);

/// Fields that frame, code or route a message: what writes them knows more than a rule does.
const FRAMING: [&str; 18] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "etag",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
    "ratelimit",
    "ratelimit-policy",
    "cache-status",
];

impl FieldName {
    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FieldName {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let name = text.to_ascii_lowercase();
        if !is_token(&name) || name.len() > 100 {
            return Err(WordError::FieldName(text));
        }
        if FRAMING.contains(&name.as_str()) {
            return Err(WordError::Framing(text));
        }
        Ok(Self(name))
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0
    }
}

/// The value of a response header field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldValue(String);

impl FieldValue {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FieldValue {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let visible = text
            .bytes()
            .all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic());
        if visible && text.len() <= 4096 && text.trim() == text {
            Ok(Self(text))
        } else {
            Err(WordError::FieldValue(text))
        }
    }
}

impl From<FieldValue> for String {
    fn from(value: FieldValue) -> Self {
        value.0
    }
}

/// By status: the file of the release's assets that is the page of an error of the edge's own.
pub type ErrorPages = BTreeMap<ErrorStatus, PagePath>;

/// A status of an error, or a class of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ErrorStatus(String);

impl ErrorStatus {
    /// `404`, `4xx`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ErrorStatus {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let known = match text.as_bytes() {
            [b'4' | b'5', b'x', b'x'] => true,
            [b'4' | b'5', tens, ones] => tens.is_ascii_digit() && ones.is_ascii_digit(),
            _ => false,
        };
        if known {
            Ok(Self(text))
        } else {
            Err(WordError::Status(text))
        }
    }
}

impl From<ErrorStatus> for String {
    fn from(status: ErrorStatus) -> Self {
        status.0
    }
}

/// A path of the release's assets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PagePath(String);

impl PagePath {
    /// With its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PagePath {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
        match text.strip_prefix('/') {
            Some(name) if name.split('/').all(sound) => Ok(Self(text)),
            _ => Err(WordError::Page(text)),
        }
    }
}

impl From<PagePath> for String {
    fn from(path: PagePath) -> Self {
        path.0
    }
}

/// An environment that answers 503 to all but a few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maintenance {
    /// What its page says.
    pub message: Option<String>,
    /// Networks that are served all the same.
    pub allow: Vec<Network>,
    /// What `Retry-After` says.
    pub retry_after_s: u32,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// An environment whose limits are tightened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attack {
    /// When that ends by itself, in milliseconds since the Unix epoch; never when absent.
    pub until_ms: Option<u64>,
    /// Since when.
    pub since_ms: u64,
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// In a schema they are text; their form is checked when they are read.
macro_rules! text_in_schemas {
    ($($name:ident),*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                String::json_schema(generator)
            }
        }
    )*};
}

text_in_schemas!(
    Characteristic,
    RuleName,
    FieldName,
    FieldValue,
    ErrorStatus,
    PagePath
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_strictly() {
        let name = |text: &str| FieldName::try_from(text.to_owned());
        assert_eq!(name("X-Frame-Options").unwrap().as_str(), "x-frame-options");
        assert!(matches!(name("Content-Length"), Err(WordError::Framing(_))));
        assert!(matches!(name("transfer-encoding"), Err(WordError::Framing(_))));
        for bad in ["", "a b", "a:b", "ä", "a\r\nb"] {
            assert!(matches!(name(bad), Err(WordError::FieldName(_))), "{bad:?}");
        }
        for bad in ["a\r\nb: c", "\n", " a", "a ", "ä", "\u{7f}"] {
            assert!(FieldValue::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for (text, good) in [
            ("404", true),
            ("5xx", true),
            ("200", false),
            ("3xx", false),
            ("4x4", false),
        ] {
            assert_eq!(ErrorStatus::try_from(text.to_owned()).is_ok(), good, "{text}");
        }
        for (text, good) in [
            ("/404.html", true),
            ("404.html", false),
            ("/../x", false),
            ("/", false),
        ] {
            assert_eq!(PagePath::try_from(text.to_owned()).is_ok(), good, "{text}");
        }
        for text in ["ip", "host", "path", "header:x-api-key", "cookie:Session"] {
            let read = Characteristic::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(read), text);
        }
        for bad in ["", "ip.src", "header:", "cookie:a b", "header"] {
            assert!(Characteristic::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_needs_a_name_and_a_number() {
        let rule: RateRule = serde_json::from_str(r#"{"name":"api","requests":5}"#).unwrap();
        assert_eq!(rule, RateRule::new("api".to_owned().try_into().unwrap(), 5, 60));
        assert!(serde_json::from_str::<RateRule>(r#"{"requests":5}"#).is_err());
        let policy: EdgePolicy = serde_json::from_str("{}").unwrap();
        assert_eq!(policy, EdgePolicy::default());
    }
}
