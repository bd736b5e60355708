//! Bodies in both directions, and the checksums that come before or after them.

use super::convert::{self, Sums};
use crate::{Algorithm, Announced, Checksum, Incoming, ObjectBody, StoreError};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use s3s::dto::{ChecksumAlgorithm, StreamingBlob};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Result, StdError, TrailingHeaders, s3_error};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body from the client.
pub(super) fn incoming(body: Option<StreamingBlob>) -> Incoming {
    match body {
        Some(body) => Box::pin(body.map(|piece| piece.map_err(|error| io::Error::other(text(&error))))),
        None => Box::pin(futures_util::stream::empty()),
    }
}

/// The whole chain in one text: the kind of failure of a body is told by it alone.
fn text(error: &StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A body for the client, of a length that is known.
pub(super) fn outgoing(body: ObjectBody) -> StreamingBlob {
    StreamingBlob::new(Sized(body))
}

struct Sized(ObjectBody);

impl Stream for Sized {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0)
            .poll_next(context)
            .map(|piece| piece.map(|piece| piece.map_err(Into::into)))
    }
}

impl ByteStream for Sized {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.0.remaining())
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

/// What the client says of its body's checksums: which to compute, and which must come out.
pub(super) fn announced(
    sums: Sums,
    content_md5: Option<&str>,
    asked: Option<&ChecksumAlgorithm>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> S3Result<(Vec<Algorithm>, Announced)> {
    let mut now = sums.read()?;
    if let Some(md5) = content_md5 {
        now.push(convert::checksum(Algorithm::Md5, md5)?);
    }
    let mut compute: Vec<Algorithm> = now.iter().map(|sum| sum.algorithm).collect();
    compute.retain(|algorithm| *algorithm != Algorithm::Md5);
    if let Some(asked) = asked {
        let unknown = || {
            s3_error!(
                InvalidRequest,
                "checksum algorithm {} is not known",
                asked.as_str()
            )
        };
        compute.push(convert::algorithm(asked.as_str()).ok_or_else(unknown)?);
    }
    let promised: Vec<Algorithm> = headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| {
            convert::algorithm(name.trim().to_ascii_lowercase().strip_prefix("x-amz-checksum-")?)
        })
        .collect();
    compute.extend(&promised);
    let Some(trailers) = trailers.filter(|_| !promised.is_empty()) else {
        return Ok((
            compute,
            if now.is_empty() {
                Announced::Nothing
            } else {
                Announced::Now(now)
            },
        ));
    };
    let later = move || {
        let found = trailers.take().unwrap_or_default();
        for algorithm in promised {
            now.push(from_trailer(algorithm, &found)?);
        }
        Ok(now)
    };
    Ok((compute, Announced::Later(Box::new(later))))
}

fn from_trailer(algorithm: Algorithm, trailers: &HeaderMap) -> Result<Checksum, StoreError> {
    let name = format!(
        "x-amz-checksum-{}",
        algorithm.to_string().to_ascii_lowercase().replace('-', "")
    );
    let text = trailers
        .get(&name)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| StoreError::InvalidRequest(format!("trailer {name} was promised and did not come")))?;
    convert::checksum(algorithm, text).map_err(|_| StoreError::InvalidDigest(algorithm))
}
