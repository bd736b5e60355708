//! The R2 binding: what workerd sends for `env.BUCKET.get(…)` and its siblings, answered from the store.
//!
//! Reads are `GET /` with the operation as JSON in `CF-R2-Request`; writes are `PUT /` whose body is that JSON, of
//! `CF-R2-Metadata-Size` bytes, and then the object's. Answers are framed alike; errors travel in `CF-R2-Error`.
//! The operations are those of workerd's `r2-api.capnp`, the error codes those of R2's documentation. Keys of the
//! client's own (SSE-C) are refused.

mod answer;
mod body;
mod wire;

use crate::{Announced, CompletePart, Conditions, GetOptions, ListOptions, PutOptions, Store, StoreError};
use answer::{Answer, Failure};
use body::Upload;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming as HyperBody;
use std::io;
use wire::Operation;

/// The operation of a read.
const REQUEST: &str = "cf-r2-request";
/// Bytes of JSON before the object's own.
const METADATA_SIZE: &str = "cf-r2-metadata-size";
/// The most JSON of a write: 1,000 keys to delete, of 1,024 bytes each, escaped.
const MAX_OPERATION_BYTES: usize = 4 << 20;
/// Rough limit on the bytes of a listing: workerd reads 1 MiB at most.
const MAX_LIST_BYTES: usize = 512 << 10;
/// Keys that one call may delete, as R2.
const MAX_DELETES: usize = 1000;

/// Answers one request of workerd for the bucket that the caller has found to be granted.
pub async fn handle(
    store: &Store,
    bucket: &str,
    request: Request<HyperBody>,
) -> Response<BoxBody<Bytes, io::Error>> {
    let (head, body) = request.into_parts();
    let result = match head.method {
        Method::GET => read(store, bucket, &head.headers).await,
        Method::PUT => {
            let mut upload = Upload::new(body);
            let result = write(store, bucket, &head.headers, &mut upload).await;
            if result.is_err() {
                // workerd looks at the answer only when it has sent all of its body.
                upload.discard().await;
            }
            result
        }
        _ => Err(Failure::invalid("expected GET or PUT")),
    };
    result.unwrap_or_else(Failure::into_answer).into_response()
}

async fn read(store: &Store, bucket: &str, headers: &HeaderMap) -> Result<Answer, Failure> {
    let operation = headers
        .get(REQUEST)
        .ok_or_else(|| Failure::invalid("CF-R2-Request is missing"))?;
    match wire::parse(operation.as_bytes())? {
        Operation::Head { object } => {
            let info = store.head(bucket, &object, &Conditions::default()).await?;
            Ok(Answer::object(&info, None))
        }
        Operation::Get {
            object,
            range,
            range_header,
            only_if,
            ssec,
        } => {
            wire::refuse_ssec(ssec.as_ref())?;
            let options = GetOptions {
                conditions: wire::conditions(only_if),
                range: wire::range(range, range_header.as_deref()),
                part: None,
            };
            let read = match store.get(bucket, &object, options.clone()).await {
                // R2's form of a range may ask for more than there is of an empty object.
                Err(StoreError::InvalidRange { size: 0 }) if wire::from_the_start(options.range.as_ref()) => {
                    let whole = GetOptions {
                        range: None,
                        ..options
                    };
                    store.get(bucket, &object, whole).await?
                }
                other => other?,
            };
            Ok(Answer::body(read))
        }
        Operation::List(list) => {
            let limit = list.limit.unwrap_or(1000);
            if !(1..=1000).contains(&limit) {
                return Err(Failure::max_keys());
            }
            let page = store
                .list(
                    bucket,
                    ListOptions {
                        prefix: list.prefix,
                        delimiter: list.delimiter.filter(|delimiter| !delimiter.is_empty()),
                        start_after: list.start_after,
                        cursor: list.cursor,
                        limit: Some(limit),
                        max_bytes: Some(MAX_LIST_BYTES),
                    },
                )
                .await?;
            // Without `newRuntime` a runtime does not honour `include`, and expects everything.
            let everything = !list.new_runtime;
            let http = everything || list.include.contains(&wire::INCLUDE_HTTP);
            let custom = everything || list.include.contains(&wire::INCLUDE_CUSTOM);
            Ok(Answer::list(page, http, custom))
        }
        other => Err(Failure::invalid(format!("`{}` is not a read", other.name()))),
    }
}

async fn write(
    store: &Store,
    bucket: &str,
    headers: &HeaderMap,
    upload: &mut Upload,
) -> Result<Answer, Failure> {
    let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.parse().ok() };
    let size = number(METADATA_SIZE)
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= MAX_OPERATION_BYTES)
        .ok_or_else(|| Failure::invalid("CF-R2-Metadata-Size is missing or too large"))?;
    let operation = wire::parse(&upload.take(size).await?)?;
    let length = number("content-length").and_then(|length| length.checked_sub(size as u64));
    match operation {
        Operation::Put(put) => {
            wire::refuse_ssec(put.ssec.as_ref())?;
            let options = PutOptions {
                announced: Announced::Now(put.checksums()?),
                metadata: wire::metadata(put.http_fields, put.custom_fields, put.storage_class),
                conditions: wire::conditions(put.only_if),
                checksums: vec![],
                length,
                origin: None,
            };
            let info = store.put(bucket, &put.object, upload.rest(), options).await?;
            Ok(Answer::json(&wire::head(&info, true, true, None)))
        }
        Operation::Delete { object, objects } => {
            let keys: Vec<String> = object.into_iter().chain(objects.unwrap_or_default()).collect();
            if keys.len() > MAX_DELETES {
                return Err(Failure::invalid("at most 1,000 keys can be deleted in one call"));
            }
            store.delete_many(bucket, keys).await?;
            Ok(Answer::empty())
        }
        Operation::CreateMultipartUpload {
            object,
            http_fields,
            custom_fields,
            storage_class,
            ssec,
        } => {
            wire::refuse_ssec(ssec.as_ref())?;
            let metadata = wire::metadata(http_fields, custom_fields, storage_class);
            let id = store.create_upload(bucket, &object, metadata, None).await?;
            Ok(Answer::json(&serde_json::json!({ "uploadId": id })))
        }
        Operation::UploadPart {
            object,
            upload_id,
            part_number,
            ssec,
        } => {
            wire::refuse_ssec(ssec.as_ref())?;
            let (id, nothing) = (&upload_id, Announced::Nothing);
            let part = store
                .put_part(
                    bucket,
                    &object,
                    id,
                    part_number,
                    upload.rest(),
                    length,
                    nothing,
                    &[],
                )
                .await?;
            Ok(Answer::json(&serde_json::json!({ "etag": part.etag })))
        }
        Operation::CompleteMultipartUpload {
            object,
            upload_id,
            mut parts,
        } => {
            // The binding takes parts in any order; the store wants them ascending.
            parts.sort_by_key(|part| part.part);
            let parts = parts
                .into_iter()
                .map(|part| CompletePart {
                    number: part.part,
                    etag: part.etag,
                    checksums: vec![],
                })
                .collect();
            let conditions = Conditions::default();
            let info = store
                .complete_upload(bucket, &object, &upload_id, parts, &conditions, vec![])
                .await?;
            Ok(Answer::json(&wire::head(&info, true, true, None)))
        }
        Operation::AbortMultipartUpload { object, upload_id } => {
            store.abort_upload(bucket, &object, &upload_id).await?;
            Ok(Answer::empty())
        }
        other => Err(Failure::invalid(format!("`{}` is not a write", other.name()))),
    }
}
