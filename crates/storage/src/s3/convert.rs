//! Between the store's words and S3's.

use crate::{
    Algorithm, Checksum, Conditions, EtagMatch, HttpMetadata, Metadata, ObjectInfo, StoreError,
    UploadChecksum,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, ETag, ETagCondition, EncodingType, StorageClass, Timestamp,
    TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

/// What `encoding-type=url` leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// The S3 error for one of the store.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub(super) fn error(error: StoreError) -> S3Error {
    if error.is_out_of_space() {
        let code = S3ErrorCode::from_bytes(b"InsufficientStorage").unwrap_or(S3ErrorCode::ServiceUnavailable);
        let mut answer = S3Error::with_message(code, error.to_string());
        answer.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
        return answer;
    }
    let code = match &error {
        StoreError::NoSuchBucket(_) => S3ErrorCode::NoSuchBucket,
        StoreError::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
        StoreError::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
        StoreError::InvalidBucketName(_) => S3ErrorCode::InvalidBucketName,
        StoreError::TooManyBuckets(_) => S3ErrorCode::TooManyBuckets,
        StoreError::NoSuchKey(_) => S3ErrorCode::NoSuchKey,
        StoreError::InvalidKey(_) => S3ErrorCode::KeyTooLongError,
        StoreError::NoSuchUpload(_) => S3ErrorCode::NoSuchUpload,
        StoreError::InvalidPart(_) | StoreError::UnevenParts { .. } => S3ErrorCode::InvalidPart,
        StoreError::InvalidPartNumber(_) => S3ErrorCode::InvalidArgument,
        StoreError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        StoreError::EntityTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        StoreError::EntityTooLarge(_) => S3ErrorCode::EntityTooLarge,
        StoreError::MetadataTooLarge(_) => S3ErrorCode::MetadataTooLarge,
        StoreError::PreconditionFailed { .. } => S3ErrorCode::PreconditionFailed,
        StoreError::NotModified { .. } => S3ErrorCode::NotModified,
        StoreError::InvalidRange { .. } => S3ErrorCode::InvalidRange,
        StoreError::BadDigest { .. } => S3ErrorCode::BadDigest,
        StoreError::InvalidDigest(_) => S3ErrorCode::InvalidDigest,
        StoreError::InvalidRequest(_) => S3ErrorCode::InvalidRequest,
        StoreError::IncompleteBody { .. } => S3ErrorCode::IncompleteBody,
        StoreError::Body(source) => of_body(source),
        StoreError::Closed => S3ErrorCode::ServiceUnavailable,
        _ => S3ErrorCode::InternalError,
    };
    if code == S3ErrorCode::InternalError {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, source, "an S3 request failed in the store");
        return S3Error::with_message(code, "the store could not serve the request");
    }
    let mut answer = S3Error::with_message(code, error.to_string());
    if answer.status_code().is_none() {
        // A code that `s3s` does not know would be a 500, and its client would try again.
        answer.set_status_code(StatusCode::BAD_REQUEST);
    }
    let mut headers = HeaderMap::new();
    match &error {
        StoreError::NotModified { current } => {
            let modified = timestamp(current.uploaded_ms);
            let mut date = Vec::new();
            if modified.format(TimestampFormat::HttpDate, &mut date).is_ok()
                && let Ok(date) = HeaderValue::from_bytes(&date)
            {
                headers.insert(header::LAST_MODIFIED, date);
            }
            if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", current.etag)) {
                headers.insert(header::ETAG, etag);
            }
        }
        StoreError::InvalidRange { size } => {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
                headers.insert(header::CONTENT_RANGE, range);
            }
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        _ => return answer,
    }
    answer.set_headers(headers);
    answer
}

/// `s3s` reports what it finds while the body streams by through the body's error.
fn of_body(error: &std::io::Error) -> S3ErrorCode {
    let text = error.to_string();
    if error.kind() == std::io::ErrorKind::TimedOut {
        S3ErrorCode::RequestTimeout
    } else if text.contains("SignatureMismatch") {
        S3ErrorCode::SignatureDoesNotMatch
    } else if text.contains("Sha256Mismatch") {
        S3ErrorCode::from_bytes(b"XAmzContentSHA256Mismatch").unwrap_or(S3ErrorCode::BadDigest)
    } else {
        S3ErrorCode::IncompleteBody
    }
}

/// The last millisecond that HTTP's and S3's dates can say: their years have four digits.
const LAST_MS: u64 = 253_402_300_799_999;

/// A date; a later one than can be said (JavaScript's go to the year 275760) is the last that can.
pub(super) fn timestamp(ms: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms.min(LAST_MS)))
}

/// A text that a header can say. The R2 binding stores any text; as a header it would fail the whole answer.
pub(super) fn header_text(text: Option<&String>) -> Option<String> {
    text.filter(|text| HeaderValue::from_bytes(text.as_bytes()).is_ok())
        .cloned()
}

/// The custom metadata whose names a header can have, and the number of others.
pub(super) fn custom_metadata(info: &ObjectInfo) -> (Option<HashMap<String, String>>, Option<i32>) {
    let custom = &info.metadata.custom;
    let sayable = custom
        .iter()
        .filter(|(name, _)| header::HeaderName::from_bytes(name.as_bytes()).is_ok());
    let said: HashMap<String, String> = sayable.cloned().collect();
    let missing = i32::try_from(custom.len().saturating_sub(said.len())).ok();
    (
        Some(said).filter(|said| !said.is_empty()),
        missing.filter(|missing| *missing > 0),
    )
}

/// Milliseconds since the Unix epoch; times before it are it.
pub(super) fn milliseconds(time: &Timestamp) -> u64 {
    let mut text = Vec::new();
    if time.format(TimestampFormat::EpochSeconds, &mut text).is_err() {
        return 0;
    }
    let seconds: f64 = String::from_utf8_lossy(&text).parse().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn etag(tag: &str) -> ETag {
    ETag::Strong(tag.to_owned())
}

pub(super) fn conditions(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    modified: Option<&Timestamp>,
    unmodified: Option<&Timestamp>,
) -> Conditions {
    let tags = |condition: &ETagCondition| {
        vec![match condition {
            ETagCondition::Any => EtagMatch::Any,
            ETagCondition::ETag(ETag::Strong(tag)) => EtagMatch::Strong(tag.clone()),
            ETagCondition::ETag(ETag::Weak(tag)) => EtagMatch::Weak(tag.clone()),
        }]
    };
    Conditions {
        if_match: if_match.map(tags),
        if_none_match: if_none_match.map(tags),
        modified_since_ms: modified.map(milliseconds),
        unmodified_since_ms: unmodified.map(milliseconds),
        whole_seconds: true,
    }
}

/// The metadata that an object is given. A macro, because three inputs have the same fields and no common type.
macro_rules! metadata_of {
    ($input:expr) => {
        $crate::s3::convert::metadata(
            $crate::HttpMetadata {
                content_type: $input.content_type.take(),
                content_language: $input.content_language.take(),
                content_disposition: $input.content_disposition.take(),
                content_encoding: $input.content_encoding.take(),
                cache_control: $input.cache_control.take(),
                expires_ms: $input.expires.as_ref().map($crate::s3::convert::milliseconds),
            },
            $input.metadata.take(),
            $input.storage_class.as_ref(),
        )
    };
}
pub(super) use metadata_of;

pub(super) fn metadata(
    mut http: HttpMetadata,
    custom: Option<HashMap<String, String>>,
    storage_class: Option<&StorageClass>,
) -> S3Result<Metadata> {
    // Clients that stream with checksums add their transfer coding; it is not the content's.
    http.content_encoding = http
        .content_encoding
        .map(|encoding| {
            let rest = encoding
                .split(',')
                .map(str::trim)
                .filter(|coding| *coding != "aws-chunked");
            rest.collect::<Vec<_>>().join(", ")
        })
        .filter(|encoding| !encoding.is_empty());
    let storage_class = match storage_class.map(StorageClass::as_str) {
        None | Some(StorageClass::STANDARD) => None,
        Some(StorageClass::STANDARD_IA) => Some("InfrequentAccess".to_owned()),
        Some(_) => return Err(s3_error!(InvalidStorageClass)),
    };
    let mut custom: Vec<(String, String)> = custom.unwrap_or_default().into_iter().collect();
    custom.sort();
    Ok(Metadata {
        http,
        custom,
        storage_class,
    })
}

/// The storage class as S3 names it, when it is not the usual one.
pub(super) fn storage_class(info: &ObjectInfo) -> Option<&'static str> {
    (info.metadata.storage_class.as_deref() == Some("InfrequentAccess")).then_some(StorageClass::STANDARD_IA)
}

pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name.to_ascii_uppercase().as_str() {
        ChecksumAlgorithm::CRC32 => Algorithm::Crc32,
        ChecksumAlgorithm::CRC32C => Algorithm::Crc32c,
        ChecksumAlgorithm::CRC64NVME => Algorithm::Crc64nvme,
        ChecksumAlgorithm::SHA1 => Algorithm::Sha1,
        ChecksumAlgorithm::SHA256 => Algorithm::Sha256,
        _ => return None,
    })
}

pub(super) fn algorithm_name(algorithm: Algorithm) -> Option<ChecksumAlgorithm> {
    Some(ChecksumAlgorithm::from_static(match algorithm {
        Algorithm::Crc32 => ChecksumAlgorithm::CRC32,
        Algorithm::Crc32c => ChecksumAlgorithm::CRC32C,
        Algorithm::Crc64nvme => ChecksumAlgorithm::CRC64NVME,
        Algorithm::Sha1 => ChecksumAlgorithm::SHA1,
        Algorithm::Sha256 => ChecksumAlgorithm::SHA256,
        Algorithm::Md5 | Algorithm::Sha384 | Algorithm::Sha512 => return None,
    }))
}

/// The checksum that a multipart upload asks for. CRC64NVME is always of the whole object, SHA always of the parts.
pub(super) fn upload_checksum(
    name: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> S3Result<Option<UploadChecksum>> {
    let Some(name) = name else {
        return match kind {
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "a checksum type needs a checksum algorithm"
            )),
            None => Ok(None),
        };
    };
    let unknown = || {
        s3_error!(
            InvalidRequest,
            "checksum algorithm {} is not known",
            name.as_str()
        )
    };
    let algorithm = algorithm(name.as_str()).ok_or_else(unknown)?;
    let full = match kind.map(ChecksumType::as_str) {
        None => algorithm == Algorithm::Crc64nvme,
        Some(ChecksumType::FULL_OBJECT) => true,
        Some(_) => false,
    };
    let possible = match algorithm {
        Algorithm::Crc64nvme => full,
        Algorithm::Sha1 | Algorithm::Sha256 => !full,
        _ => true,
    };
    if !possible {
        return Err(s3_error!(
            InvalidRequest,
            "{} does not go with this checksum type",
            name.as_str()
        ));
    }
    Ok(Some(UploadChecksum { algorithm, full }))
}

/// Base64, as S3 writes a checksum; with the number of parts when it is a checksum of checksums.
fn checksum_text(checksum: &Checksum) -> String {
    let value = STANDARD.encode(&checksum.value);
    match checksum.composite {
        Some(parts) => format!("{value}-{parts}"),
        None => value,
    }
}

/// Reads a checksum. The number of parts behind it is dropped: the store knows it.
pub(super) fn checksum(algorithm: Algorithm, text: &str) -> S3Result<Checksum> {
    let value = text.split_once('-').map_or(text, |(value, _)| value);
    let value = STANDARD
        .decode(value)
        .map_err(|_| error(StoreError::InvalidDigest(algorithm)))?;
    let length = match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => 4,
        Algorithm::Crc64nvme => 8,
        Algorithm::Md5 => 16,
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha384 => 48,
        Algorithm::Sha512 => 64,
    };
    if value.len() != length {
        return Err(error(StoreError::InvalidDigest(algorithm)));
    }
    Ok(Checksum {
        algorithm,
        value,
        composite: None,
    })
}

/// The checksum fields that so many of S3's types have.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) kind: Option<ChecksumType>,
}

impl Sums {
    pub(super) fn of(checksums: &[Checksum]) -> Self {
        let mut sums = Self::default();
        for checksum in checksums {
            let text = Some(checksum_text(checksum));
            match checksum.algorithm {
                Algorithm::Crc32 => sums.crc32 = text,
                Algorithm::Crc32c => sums.crc32c = text,
                Algorithm::Crc64nvme => sums.crc64nvme = text,
                Algorithm::Sha1 => sums.sha1 = text,
                Algorithm::Sha256 => sums.sha256 = text,
                Algorithm::Md5 | Algorithm::Sha384 | Algorithm::Sha512 => continue,
            }
            let kind = match checksum.composite {
                Some(_) => ChecksumType::COMPOSITE,
                None => ChecksumType::FULL_OBJECT,
            };
            sums.kind = Some(ChecksumType::from_static(kind));
        }
        sums
    }

    /// Reads those that are there.
    pub(super) fn read(self) -> S3Result<Vec<Checksum>> {
        [
            (Algorithm::Crc32, self.crc32),
            (Algorithm::Crc32c, self.crc32c),
            (Algorithm::Crc64nvme, self.crc64nvme),
            (Algorithm::Sha1, self.sha1),
            (Algorithm::Sha256, self.sha256),
        ]
        .into_iter()
        .filter_map(|(algorithm, text)| Some(checksum(algorithm, &text?)))
        .collect()
    }
}

/// Takes the checksum fields of an input.
macro_rules! sums_of {
    ($input:expr) => {
        $crate::s3::convert::Sums {
            crc32: $input.checksum_crc32.clone(),
            crc32c: $input.checksum_crc32c.clone(),
            crc64nvme: $input.checksum_crc64nvme.clone(),
            sha1: $input.checksum_sha1.clone(),
            sha256: $input.checksum_sha256.clone(),
            kind: None,
        }
    };
}
pub(super) use sums_of;

/// Sets the checksum fields of an output.
macro_rules! set_sums {
    ($output:expr, $checksums:expr) => {{
        let sums = $crate::s3::convert::Sums::of($checksums);
        $output.checksum_crc32 = sums.crc32;
        $output.checksum_crc32c = sums.crc32c;
        $output.checksum_crc64nvme = sums.crc64nvme;
        $output.checksum_sha1 = sums.sha1;
        $output.checksum_sha256 = sums.sha256;
        sums.kind
    }};
}
pub(super) use set_sums;

/// Text in a listing, in the encoding that the client asked for.
pub(super) fn encoder(encoding: Option<&EncodingType>) -> S3Result<fn(&str) -> String> {
    match encoding.map(EncodingType::as_str) {
        None | Some("") => Ok(str::to_owned),
        Some(EncodingType::URL) => Ok(|text| utf8_percent_encode(text, UNRESERVED).to_string()),
        Some(_) => Err(s3_error!(InvalidArgument, "the only encoding type is url")),
    }
}

/// A number of entries, 0 to 1,000; 1,000 when it is absent.
pub(super) fn limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(1000);
    let limit = usize::try_from(asked).map_err(|_| s3_error!(InvalidArgument, "a limit is not negative"))?;
    Ok(limit.min(1000))
}
