//! The JSON of the protocol: `r2-api.capnp` of workerd, whose 64-bit numbers are strings.

use super::answer::Failure;
use crate::{
    Algorithm, ByteRange, Checksum, Conditions, EtagMatch, HttpMetadata, ListPage, Metadata, ObjectInfo,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Values of `include` in a listing.
pub(super) const INCLUDE_HTTP: u16 = 0;
/// Values of `include` in a listing.
pub(super) const INCLUDE_CUSTOM: u16 = 1;
/// The version of the protocol that is spoken.
const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Operation {
    Head {
        object: String,
    },
    Get {
        object: String,
        range: Option<R2Range>,
        range_header: Option<String>,
        only_if: Option<R2Conditional>,
        ssec: Option<serde_json::Value>,
    },
    Put(Box<Put>),
    List(List),
    Delete {
        object: Option<String>,
        objects: Option<Vec<String>>,
    },
    CreateMultipartUpload {
        object: String,
        http_fields: Option<HttpFields>,
        custom_fields: Option<Vec<Record>>,
        storage_class: Option<String>,
        ssec: Option<serde_json::Value>,
    },
    UploadPart {
        object: String,
        upload_id: String,
        part_number: u32,
        ssec: Option<serde_json::Value>,
    },
    CompleteMultipartUpload {
        object: String,
        upload_id: String,
        parts: Vec<PublishedPart>,
    },
    AbortMultipartUpload {
        object: String,
        upload_id: String,
    },
}

impl Operation {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Head { .. } => "head",
            Self::Get { .. } => "get",
            Self::Put(_) => "put",
            Self::List(_) => "list",
            Self::Delete { .. } => "delete",
            Self::CreateMultipartUpload { .. } => "createMultipartUpload",
            Self::UploadPart { .. } => "uploadPart",
            Self::CompleteMultipartUpload { .. } => "completeMultipartUpload",
            Self::AbortMultipartUpload { .. } => "abortMultipartUpload",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Put {
    pub(super) object: String,
    pub(super) custom_fields: Option<Vec<Record>>,
    pub(super) http_fields: Option<HttpFields>,
    pub(super) only_if: Option<R2Conditional>,
    pub(super) storage_class: Option<String>,
    pub(super) ssec: Option<serde_json::Value>,
    /// Base64, unlike the others.
    md5: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
    sha384: Option<String>,
    sha512: Option<String>,
}

impl Put {
    /// The checksums that the worker announced.
    pub(super) fn checksums(&self) -> Result<Vec<Checksum>, Failure> {
        let md5 = self
            .md5
            .as_ref()
            .map(|text| (Algorithm::Md5, STANDARD.decode(text).ok()));
        let others = [
            (Algorithm::Sha1, &self.sha1),
            (Algorithm::Sha256, &self.sha256),
            (Algorithm::Sha384, &self.sha384),
            (Algorithm::Sha512, &self.sha512),
        ];
        let others = others
            .into_iter()
            .filter_map(|(algorithm, text)| Some((algorithm, hex::decode(text.as_ref()?).ok())));
        md5.into_iter()
            .chain(others)
            .map(|(algorithm, value)| {
                let value = value.ok_or(crate::StoreError::InvalidDigest(algorithm))?;
                Ok(Checksum {
                    algorithm,
                    value,
                    composite: None,
                })
            })
            .collect()
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct List {
    #[serde(deserialize_with = "limit")]
    pub(super) limit: Option<usize>,
    pub(super) prefix: String,
    pub(super) cursor: Option<String>,
    pub(super) delimiter: Option<String>,
    pub(super) start_after: Option<String>,
    pub(super) include: Vec<u16>,
    pub(super) new_runtime: bool,
}

#[derive(Deserialize)]
pub(super) struct PublishedPart {
    pub(super) etag: String,
    pub(super) part: u32,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Record {
    k: String,
    v: String,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HttpFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_expiry: Option<Wide>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
pub(super) struct R2Range {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Wide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<Wide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<Wide>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct R2Conditional {
    etag_matches: Vec<R2Etag>,
    etag_does_not_match: Vec<R2Etag>,
    uploaded_before: Option<Wide>,
    uploaded_after: Option<Wide>,
    seconds_granularity: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum R2Etag {
    Strong { value: String },
    Weak { value: String },
    Wildcard,
}

/// A 64-bit number: written as a string, read as either. All ones mean that it is absent.
#[derive(Clone, Copy)]
pub(super) struct Wide(u64);

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
            Either::Number(number) => Ok(Self(number)),
        }
    }
}

impl Serialize for Wide {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn known(wide: Option<Wide>) -> Option<u64> {
    wide.map(|wide| wide.0).filter(|number| *number != u64::MAX)
}

/// An absent limit is all ones.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let limit = Option::<u32>::deserialize(deserializer)?;
    Ok(limit
        .filter(|limit| *limit != u32::MAX)
        .and_then(|limit| limit.try_into().ok()))
}

pub(super) fn parse(json: &[u8]) -> Result<Operation, Failure> {
    serde_json::from_slice(json)
        .map_err(|error| Failure::invalid(format!("the operation cannot be read: {error}")))
}

/// Encryption with a key of the client's is not there: accepting it would store the object in the clear.
pub(super) fn refuse_ssec(ssec: Option<&serde_json::Value>) -> Result<(), Failure> {
    match ssec {
        Some(value) if !value.is_null() => Err(Failure::invalid("ssecKey is not supported yet")),
        _ => Ok(()),
    }
}

pub(super) fn conditions(only_if: Option<R2Conditional>) -> Conditions {
    let Some(only_if) = only_if else {
        return Conditions::default();
    };
    let tags = |tags: Vec<R2Etag>| {
        (!tags.is_empty()).then(|| {
            tags.into_iter()
                .map(|tag| match tag {
                    R2Etag::Strong { value } => EtagMatch::Strong(value),
                    R2Etag::Weak { value } => EtagMatch::Weak(value),
                    R2Etag::Wildcard => EtagMatch::Any,
                })
                .collect()
        })
    };
    Conditions {
        if_match: tags(only_if.etag_matches),
        if_none_match: tags(only_if.etag_does_not_match),
        modified_since_ms: known(only_if.uploaded_after),
        unmodified_since_ms: known(only_if.uploaded_before),
        whole_seconds: only_if.seconds_granularity,
    }
}

/// A `Range` header wins. One that cannot be read is ignored, as HTTP asks.
pub(super) fn range(range: Option<R2Range>, header: Option<&str>) -> Option<ByteRange> {
    if let Some(header) = header.filter(|header| !header.is_empty()) {
        return ByteRange::parse(header);
    }
    let range = range?;
    match (known(range.offset), known(range.length), known(range.suffix)) {
        (_, _, Some(suffix)) => Some(ByteRange::Suffix(suffix)),
        (None, None, None) => None,
        (offset, length, None) => Some(ByteRange::OffsetLength {
            offset: offset.unwrap_or(0),
            length,
        }),
    }
}

/// Whether a range in R2's own form begins at the first byte.
pub(super) fn from_the_start(range: Option<&ByteRange>) -> bool {
    matches!(
        range,
        Some(ByteRange::OffsetLength { offset: 0, .. } | ByteRange::Suffix(_))
    )
}

pub(super) fn metadata(
    http: Option<HttpFields>,
    custom: Option<Vec<Record>>,
    storage_class: Option<String>,
) -> Metadata {
    let http = http.unwrap_or_default();
    Metadata {
        http: HttpMetadata {
            content_type: http.content_type,
            content_language: http.content_language,
            content_disposition: http.content_disposition,
            content_encoding: http.content_encoding,
            cache_control: http.cache_control,
            expires_ms: known(http.cache_expiry),
        },
        custom: custom
            .unwrap_or_default()
            .into_iter()
            .map(|record| (record.k, record.v))
            .collect(),
        storage_class: storage_class.filter(|class| !class.is_empty()),
    }
}

/// `R2HeadResponse`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    name: String,
    version: String,
    size: Wide,
    etag: String,
    uploaded: Wide,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_fields: Option<HttpFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_fields: Option<Vec<Record>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<R2Range>,
    checksums: BTreeMap<&'static str, String>,
    storage_class: String,
}

/// Describes an object.
pub(super) fn head(info: &ObjectInfo, http: bool, custom: bool, range: Option<Range<u64>>) -> Head {
    let mut checksums: BTreeMap<&'static str, String> = info
        .checksums
        .iter()
        .filter(|checksum| checksum.composite.is_none())
        .filter_map(|checksum| Some((number(checksum.algorithm)?, hex::encode(&checksum.value))))
        .collect();
    if info.parts.is_none() {
        checksums.insert("0", info.etag.clone());
    }
    let fields = &info.metadata.http;
    Head {
        name: info.key.clone(),
        version: info.version.clone(),
        size: Wide(info.size),
        etag: info.etag.clone(),
        uploaded: Wide(info.uploaded_ms),
        http_fields: http.then(|| HttpFields {
            content_type: fields.content_type.clone(),
            content_language: fields.content_language.clone(),
            content_disposition: fields.content_disposition.clone(),
            content_encoding: fields.content_encoding.clone(),
            cache_control: fields.cache_control.clone(),
            cache_expiry: fields.expires_ms.map(Wide),
        }),
        custom_fields: custom.then(|| {
            let record = |(k, v): &(String, String)| Record {
                k: k.clone(),
                v: v.clone(),
            };
            info.metadata.custom.iter().map(record).collect()
        }),
        range: range.map(|range| R2Range {
            offset: Some(Wide(range.start)),
            length: Some(Wide(range.end - range.start)),
            suffix: None,
        }),
        checksums,
        storage_class: info
            .metadata
            .storage_class
            .clone()
            .unwrap_or_else(|| "Standard".to_owned()),
    }
}

/// The names of checksums in the protocol.
fn number(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Md5 => Some("0"),
        Algorithm::Sha1 => Some("1"),
        Algorithm::Sha256 => Some("2"),
        Algorithm::Sha384 => Some("3"),
        Algorithm::Sha512 => Some("4"),
        Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64nvme => None,
    }
}

/// `R2ListResponse`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListAnswer {
    objects: Vec<Head>,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    delimited_prefixes: Vec<String>,
}

pub(super) fn list(page: ListPage, http: bool, custom: bool) -> ListAnswer {
    ListAnswer {
        objects: page
            .objects
            .iter()
            .map(|info| head(info, http, custom, None))
            .collect(),
        truncated: page.cursor.is_some(),
        cursor: page.cursor,
        delimited_prefixes: page.prefixes,
    }
}

/// The text of `CF-R2-Error`: ASCII, because it is a header.
pub(super) fn error(code: u32, message: &str) -> String {
    let message: String = message
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    serde_json::json!({ "version": VERSION, "v4code": code, "message": message }).to_string()
}
