//! Answers and errors as workerd reads them.

use super::{METADATA_SIZE, wire};
use crate::{ListPage, ObjectBody, ObjectInfo, ObjectRead, StoreError};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use std::io;

/// An error for the worker; its text ends up in the exception that the worker sees.
const ERROR: &str = "cf-r2-error";

/// What goes back.
pub(super) struct Answer {
    status: StatusCode,
    /// JSON of `CF-R2-Error`.
    error: Option<String>,
    metadata: Vec<u8>,
    body: Option<ObjectBody>,
}

/// Why an operation was refused: HTTP status, R2's code and a text.
pub(super) struct Failure {
    status: StatusCode,
    code: u32,
    message: String,
    /// The object that made a precondition fail: a read answers with it.
    current: Option<Box<ObjectInfo>>,
}

impl Answer {
    pub(super) fn empty() -> Self {
        Self {
            status: StatusCode::OK,
            error: None,
            metadata: vec![],
            body: None,
        }
    }

    pub(super) fn json(value: &impl serde::Serialize) -> Self {
        Self {
            // Values of this module's own types always serialise.
            metadata: serde_json::to_vec(value).unwrap_or_default(),
            ..Self::empty()
        }
    }

    pub(super) fn object(info: &ObjectInfo, range: Option<std::ops::Range<u64>>) -> Self {
        Self::json(&wire::head(info, true, true, range))
    }

    pub(super) fn body(read: ObjectRead) -> Self {
        Self {
            body: Some(read.body),
            ..Self::object(&read.info, Some(read.range))
        }
    }

    pub(super) fn list(page: ListPage, http: bool, custom: bool) -> Self {
        Self::json(&wire::list(page, http, custom))
    }

    pub(super) fn into_response(self) -> Response<BoxBody<Bytes, io::Error>> {
        let size = self.metadata.len();
        let length = size as u64 + self.body.as_ref().map_or(0, ObjectBody::remaining);
        let metadata = Bytes::from(self.metadata);
        let body = match self.body {
            None => Full::new(metadata).map_err(|never| match never {}).boxed(),
            Some(body) => {
                let first = futures_util::stream::once(async move { Ok(metadata) });
                BodyExt::boxed(StreamBody::new(
                    first.chain(body).map(|piece| piece.map(Frame::data)),
                ))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if size > 0 {
            headers.insert(METADATA_SIZE, size.into());
        }
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(error) = self.error.and_then(|error| HeaderValue::from_str(&error).ok()) {
            headers.insert(ERROR, error);
        }
        response
    }
}

impl Failure {
    fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            message: message.into(),
            current: None,
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, 10029, message)
    }

    pub(super) fn max_keys() -> Self {
        Self::new(400, 10022, "MaxKeys params must be positive integer <= 1000.")
    }

    pub(super) fn into_answer(self) -> Answer {
        let error = wire::error(self.code, &self.message);
        let answer = match &self.current {
            Some(current) => Answer::object(current, None),
            None => Answer::empty(),
        };
        Answer {
            status: self.status,
            error: Some(error),
            ..answer
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_out_of_space() {
            tracing::error!(%error, "object storage is full");
            return Self::new(507, 10001, error.to_string());
        }
        let (status, code) = match &error {
            StoreError::NoSuchBucket(_) => (404, 10006),
            StoreError::NoSuchKey(_) => (404, 10007),
            StoreError::InvalidKey(_) => (400, 10020),
            StoreError::NoSuchUpload(_) => (400, 10024),
            StoreError::InvalidPart(_) | StoreError::InvalidPartNumber(_) | StoreError::InvalidPartOrder => {
                (400, 10025)
            }
            StoreError::EntityTooSmall { .. } => (400, 10011),
            StoreError::UnevenParts { .. } => (400, 10048),
            StoreError::EntityTooLarge(_) => (400, 100_100),
            StoreError::MetadataTooLarge(_) => (400, 10012),
            StoreError::PreconditionFailed { .. } | StoreError::NotModified { .. } => (412, 10031),
            StoreError::InvalidRange { .. } => (416, 10039),
            StoreError::BadDigest { .. } => (400, 10037),
            StoreError::InvalidDigest(_) | StoreError::InvalidRequest(_) => (400, 10029),
            StoreError::IncompleteBody { .. } | StoreError::Body(_) => (400, 10014),
            _ => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an operation on object storage failed"
                );
                return Self::new(500, 10001, "We encountered an internal error. Please try again.");
            }
        };
        let message = error.to_string();
        let current = match error {
            StoreError::PreconditionFailed { current } => current,
            StoreError::NotModified { current } => Some(current),
            _ => None,
        };
        Self {
            current,
            ..Self::new(status, code, message)
        }
    }
}
