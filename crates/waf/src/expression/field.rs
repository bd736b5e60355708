//! The fields: their names, what they hold.

use super::error::nearest;
use super::value::Type;

/// A field that holds one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Asn,
    BodyMime,
    BodyRaw,
    BodySize,
    BodyTruncated,
    ClientPort,
    ClientTcp,
    Cookie,
    Country,
    European,
    FullUri,
    HeadersTruncated,
    Host,
    Method,
    Path,
    PathExtension,
    Place(Detail),
    Query,
    RawFullUri,
    RawPath,
    RawPathExtension,
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

/// What is known of a place beside its country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    City,
    Continent,
    Latitude,
    Longitude,
    MetroCode,
    PostalCode,
    Region,
    RegionCode,
    Subdivision1,
    Subdivision2,
    Timezone,
}

/// Names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    Args,
    Cookies,
    Form,
    Headers,
    /// Of the client, the one that is wanted most first; they have no names.
    Languages,
    /// The parts of a multipart body, by their names: what is in them.
    Multipart,
    MultipartDispositions,
    MultipartEncodings,
    MultipartFilenames,
    MultipartTypes,
    RawArgs,
    ResponseHeaders,
}

impl Collection {
    /// Whether it is made of the body.
    pub(super) fn is_of_body(self) -> bool {
        match self {
            Self::Form
            | Self::Multipart
            | Self::MultipartDispositions
            | Self::MultipartEncodings
            | Self::MultipartFilenames
            | Self::MultipartTypes => true,
            Self::Args
            | Self::Cookies
            | Self::Headers
            | Self::Languages
            | Self::RawArgs
            | Self::ResponseHeaders => false,
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    One(Field, Type),
    Map(Collection),
    Names(Collection),
    Values(Collection),
    /// Names of parts, each in an array of its own: `[*][0]`.
    NestedNames(Collection),
    /// Values of parts, likewise.
    Nested(Collection),
}

const fn one(field: Field, kind: Type) -> Named {
    Named::One(field, kind)
}

const fn place(detail: Detail) -> Named {
    Named::One(Field::Place(detail), Type::Bytes)
}

const FIELDS: &[(&str, Named)] = &[
    ("cf.edge.client_port", one(Field::ClientPort, Type::Int)),
    ("cf.edge.client_tcp", one(Field::ClientTcp, Type::Bool)),
    ("cf.edge.server_port", one(Field::ServerPort, Type::Int)),
    ("cf.ray_id", one(Field::RayId, Type::Bytes)),
    ("cf.tls_version", one(Field::TlsVersion, Type::Bytes)),
    ("http.cookie", one(Field::Cookie, Type::Bytes)),
    ("http.host", one(Field::Host, Type::Bytes)),
    ("http.referer", one(Field::Referer, Type::Bytes)),
    (
        "http.request.accepted_languages",
        Named::Values(Collection::Languages),
    ),
    ("http.request.body.form", Named::Map(Collection::Form)),
    ("http.request.body.form.names", Named::Names(Collection::Form)),
    ("http.request.body.form.values", Named::Values(Collection::Form)),
    ("http.request.body.mime", one(Field::BodyMime, Type::Bytes)),
    ("http.request.body.multipart", Named::Map(Collection::Multipart)),
    (
        "http.request.body.multipart.content_dispositions",
        Named::Nested(Collection::MultipartDispositions),
    ),
    (
        "http.request.body.multipart.content_transfer_encodings",
        Named::Nested(Collection::MultipartEncodings),
    ),
    (
        "http.request.body.multipart.content_types",
        Named::Nested(Collection::MultipartTypes),
    ),
    (
        "http.request.body.multipart.filenames",
        Named::Nested(Collection::MultipartFilenames),
    ),
    (
        "http.request.body.multipart.names",
        Named::NestedNames(Collection::Multipart),
    ),
    (
        "http.request.body.multipart.values",
        Named::Values(Collection::Multipart),
    ),
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
    ("ip.geoip.asnum", one(Field::Asn, Type::Int)),
    ("ip.geoip.continent", place(Detail::Continent)),
    ("ip.geoip.country", one(Field::Country, Type::Bytes)),
    ("ip.geoip.is_in_european_union", one(Field::European, Type::Bool)),
    ("ip.geoip.subdivision_1_iso_code", place(Detail::Subdivision1)),
    ("ip.geoip.subdivision_2_iso_code", place(Detail::Subdivision2)),
    ("ip.src", one(Field::Source, Type::Ip)),
    ("ip.src.asnum", one(Field::Asn, Type::Int)),
    ("ip.src.city", place(Detail::City)),
    ("ip.src.continent", place(Detail::Continent)),
    ("ip.src.country", one(Field::Country, Type::Bytes)),
    ("ip.src.is_in_european_union", one(Field::European, Type::Bool)),
    ("ip.src.lat", place(Detail::Latitude)),
    ("ip.src.lon", place(Detail::Longitude)),
    ("ip.src.metro_code", place(Detail::MetroCode)),
    ("ip.src.postal_code", place(Detail::PostalCode)),
    ("ip.src.region", place(Detail::Region)),
    ("ip.src.region_code", place(Detail::RegionCode)),
    ("ip.src.subdivision_1_iso_code", place(Detail::Subdivision1)),
    ("ip.src.subdivision_2_iso_code", place(Detail::Subdivision2)),
    ("ip.src.timezone.name", place(Detail::Timezone)),
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
    (
        "raw.http.request.uri.path.extension",
        one(Field::RawPathExtension, Type::Bytes),
    ),
    ("raw.http.request.uri.query", one(Field::Query, Type::Bytes)),
    (
        "raw.http.response.headers",
        Named::Map(Collection::ResponseHeaders),
    ),
    (
        "raw.http.response.headers.names",
        Named::Names(Collection::ResponseHeaders),
    ),
    (
        "raw.http.response.headers.values",
        Named::Values(Collection::ResponseHeaders),
    ),
    ("ssl", one(Field::Ssl, Type::Bool)),
];

/// Beginnings of names that are none here, and why. The first that fits is said.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "cf.tls_client_auth.",
        "this edge asks clients for no certificates",
    ),
    (
        "cf.tls_cipher",
        "ciphers have other names here; write cf.tls_version",
    ),
    (
        "cf.waf.score",
        "the score is of a model of Cloudflare's; managed rules score for themselves, from `edge.waf.inbound_threshold` on",
    ),
    ("cf.waf.content_scan.", "no scanner of files is here"),
    ("cf.waf.credential_check.", "no list of leaked passwords is here"),
    (
        "cf.timings.",
        "times are in the access log, and not known when rules are asked",
    ),
    (
        "http.request.jwt.",
        "tokens are not checked here; let the application do it",
    ),
    (
        "raw.http.request.headers",
        "names of fields have lost their case when rules are asked; write http.request.headers",
    ),
    ("cf.", NETWORK),
    ("ip.src.", NETWORK),
    ("ip.geoip.", NETWORK),
    (
        "tcp.",
        "this is a field of packets; expressions are asked about requests",
    ),
    (
        "udp.",
        "this is a field of packets; expressions are asked about requests",
    ),
    (
        "icmp",
        "this is a field of packets; expressions are asked about requests",
    ),
];

const NETWORK: &str =
    "this field is of Cloudflare's network; docs/waf-expressions.md lists those that are known here";

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
    let found = ELSEWHERE.iter().find(|(start, _)| name.starts_with(start));
    found.map(|(_, why)| (*why).to_owned())
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
