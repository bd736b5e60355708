//! The fields: their names, what they hold.

use super::error::nearest;
use super::value::Type;

/// A field that holds one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    BodyMime,
    BodyRaw,
    BodySize,
    BodyTruncated,
    Cookie,
    Country,
    FullUri,
    HeadersTruncated,
    Host,
    Method,
    Path,
    PathExtension,
    Query,
    RawFullUri,
    RawPath,
    RawUri,
    RayId,
    Referer,
    ResponseCode,
    ResponseMediaType,
    ServerPort,
    Source,
    Ssl,
    TimestampMsec,
    TimestampSec,
    TlsVersion,
    Uri,
    UserAgent,
    Version,
    XForwardedFor,
}

/// Names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    Args,
    Cookies,
    Form,
    Headers,
    RawArgs,
    ResponseHeaders,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    One(Field, Type),
    Map(Collection),
    Names(Collection),
    Values(Collection),
}

const fn one(field: Field, kind: Type) -> Named {
    Named::One(field, kind)
}

const FIELDS: &[(&str, Named)] = &[
    ("cf.edge.server_port", one(Field::ServerPort, Type::Int)),
    ("cf.ray_id", one(Field::RayId, Type::Bytes)),
    ("cf.tls_version", one(Field::TlsVersion, Type::Bytes)),
    ("http.cookie", one(Field::Cookie, Type::Bytes)),
    ("http.host", one(Field::Host, Type::Bytes)),
    ("http.referer", one(Field::Referer, Type::Bytes)),
    ("http.request.body.form", Named::Map(Collection::Form)),
    ("http.request.body.form.names", Named::Names(Collection::Form)),
    ("http.request.body.form.values", Named::Values(Collection::Form)),
    ("http.request.body.mime", one(Field::BodyMime, Type::Bytes)),
    ("http.request.body.raw", one(Field::BodyRaw, Type::Bytes)),
    ("http.request.body.size", one(Field::BodySize, Type::Int)),
    (
        "http.request.body.truncated",
        one(Field::BodyTruncated, Type::Bool),
    ),
    ("http.request.cookies", Named::Map(Collection::Cookies)),
    ("http.request.full_uri", one(Field::FullUri, Type::Bytes)),
    ("http.request.headers", Named::Map(Collection::Headers)),
    ("http.request.headers.names", Named::Names(Collection::Headers)),
    (
        "http.request.headers.truncated",
        one(Field::HeadersTruncated, Type::Bool),
    ),
    ("http.request.headers.values", Named::Values(Collection::Headers)),
    ("http.request.method", one(Field::Method, Type::Bytes)),
    (
        "http.request.timestamp.msec",
        one(Field::TimestampMsec, Type::Int),
    ),
    ("http.request.timestamp.sec", one(Field::TimestampSec, Type::Int)),
    ("http.request.uri", one(Field::Uri, Type::Bytes)),
    ("http.request.uri.args", Named::Map(Collection::Args)),
    ("http.request.uri.args.names", Named::Names(Collection::Args)),
    ("http.request.uri.args.values", Named::Values(Collection::Args)),
    ("http.request.uri.path", one(Field::Path, Type::Bytes)),
    (
        "http.request.uri.path.extension",
        one(Field::PathExtension, Type::Bytes),
    ),
    ("http.request.uri.query", one(Field::Query, Type::Bytes)),
    ("http.request.version", one(Field::Version, Type::Bytes)),
    ("http.response.code", one(Field::ResponseCode, Type::Int)),
    (
        "http.response.content_type.media_type",
        one(Field::ResponseMediaType, Type::Bytes),
    ),
    ("http.response.headers", Named::Map(Collection::ResponseHeaders)),
    (
        "http.response.headers.names",
        Named::Names(Collection::ResponseHeaders),
    ),
    (
        "http.response.headers.values",
        Named::Values(Collection::ResponseHeaders),
    ),
    ("http.user_agent", one(Field::UserAgent, Type::Bytes)),
    ("http.x_forwarded_for", one(Field::XForwardedFor, Type::Bytes)),
    ("ip.geoip.country", one(Field::Country, Type::Bytes)),
    ("ip.src", one(Field::Source, Type::Ip)),
    ("ip.src.country", one(Field::Country, Type::Bytes)),
    ("raw.http.request.full_uri", one(Field::RawFullUri, Type::Bytes)),
    ("raw.http.request.uri", one(Field::RawUri, Type::Bytes)),
    ("raw.http.request.uri.args", Named::Map(Collection::RawArgs)),
    (
        "raw.http.request.uri.args.names",
        Named::Names(Collection::RawArgs),
    ),
    (
        "raw.http.request.uri.args.values",
        Named::Values(Collection::RawArgs),
    ),
    ("raw.http.request.uri.path", one(Field::RawPath, Type::Bytes)),
    ("raw.http.request.uri.query", one(Field::Query, Type::Bytes)),
    (
        "raw.http.response.headers",
        Named::Map(Collection::ResponseHeaders),
    ),
    ("ssl", one(Field::Ssl, Type::Bool)),
];

/// Beginnings of names that only Cloudflare's network can answer.
const ELSEWHERE: &[&str] = &[
    "cf.",
    "ip.src.",
    "ip.geoip.",
    "http.request.jwt.",
    "http.request.accepted_languages",
];

/// The field of a name.
pub(super) fn named(name: &str) -> Option<Named> {
    let place = FIELDS.binary_search_by_key(&name, |(known, _)| known).ok()?;
    Some(FIELDS[place].1)
}

/// What to say of a name that is none.
pub(super) fn hint(name: &str) -> Option<String> {
    if let Some(near) = nearest(name, FIELDS.iter().map(|(known, _)| *known)) {
        return Some(format!("did you mean '{near}'?"));
    }
    ELSEWHERE.iter().any(|start| name.starts_with(start)).then(|| {
        "this field is of Cloudflare's network; docs/waf-expressions.md lists those that are known here"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_sorted_and_none_is_elsewhere_by_name_alone() {
        assert!(FIELDS.is_sorted_by_key(|(name, _)| *name));
        assert_eq!(named("ssl"), Some(Named::One(Field::Ssl, Type::Bool)));
        assert_eq!(named("cf.bot_management.score"), None);
        assert_eq!(
            hint("http.request.uri.pth").unwrap(),
            "did you mean 'http.request.uri.path'?"
        );
        assert!(
            hint("cf.bot_management.score")
                .unwrap()
                .contains("Cloudflare's network")
        );
        assert_eq!(hint("x"), None);
    }
}
