//! The operations of S3 on the store.

use super::access::Access;
use super::bodies::{announced, incoming, outgoing};
use super::convert::{
    self, conditions, custom_metadata, error, etag, header_text, metadata_of, set_sums, storage_class,
    sums_of, timestamp,
};
use crate::{ByteRange, Conditions, GetOptions, MAX_PARTS, PutOptions, Store, StoreError};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

/// Keys of one DeleteObjects at most.
const MAX_DELETE: usize = 1000;

/// The store behind the protocol.
pub(super) struct Backend {
    pub(super) store: Store,
    access: Access,
}

impl Backend {
    pub(super) fn new(store: Store, access: Access) -> Self {
        Self { store, access }
    }

    pub(super) fn readable<T>(&self, request: &S3Request<T>, bucket: &str) -> S3Result<String> {
        self.access.bucket(request.credentials.as_ref(), bucket, false)
    }

    pub(super) fn writable<T>(&self, request: &S3Request<T>, bucket: &str) -> S3Result<String> {
        self.access.bucket(request.credentials.as_ref(), bucket, true)
    }

    /// The source of a copy, by the store's names.
    pub(super) fn source<T>(
        &self,
        request: &S3Request<T>,
        source: &CopySource,
    ) -> S3Result<(String, String)> {
        match source {
            CopySource::Bucket {
                bucket,
                key,
                version_id,
            } if version_id.as_deref().is_none_or(|version| version == "null") => {
                Ok((self.readable(request, bucket)?, key.to_string()))
            }
            _ => Err(s3_error!(
                NotImplemented,
                "only a bucket and a key without version can be copied from"
            )),
        }
    }

    /// A write on a condition that needs an object, where there is none, is 404 in S3.
    pub(super) fn write_error(failed: StoreError, conditions: &Conditions) -> s3s::S3Error {
        match failed {
            StoreError::PreconditionFailed { current: None } if conditions.if_match.is_some() => {
                s3_error!(NoSuchKey, "there is no object that could match")
            }
            other => error(other),
        }
    }
}

pub(super) fn common_prefixes(prefixes: &[String], encode: fn(&str) -> String) -> Option<Vec<CommonPrefix>> {
    let prefixes: Vec<CommonPrefix> = prefixes
        .iter()
        .map(|prefix| CommonPrefix {
            prefix: Some(encode(prefix)),
        })
        .collect();
    Some(prefixes).filter(|prefixes| !prefixes.is_empty())
}

pub(super) fn count(number: usize) -> Option<i32> {
    i32::try_from(number).ok()
}

pub(super) fn length(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

pub(super) fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_PARTS).contains(number))
        .ok_or_else(|| s3_error!(InvalidArgument, "a part number is 1 to 10000"))
}

fn range(range: Range) -> ByteRange {
    match range {
        Range::Int { first, last } => ByteRange::FromTo { first, last },
        Range::Suffix { length } => ByteRange::Suffix(length),
    }
}

/// Sets what GetObject and HeadObject say alike.
macro_rules! describe {
    ($output:expr, $info:expr, $checksums:expr) => {{
        let http = &$info.metadata.http;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = header_text(http.cache_control.as_ref());
        $output.content_disposition = header_text(http.content_disposition.as_ref());
        $output.content_encoding = header_text(http.content_encoding.as_ref());
        $output.content_language = header_text(http.content_language.as_ref());
        $output.content_type = Some(
            header_text(http.content_type.as_ref()).unwrap_or_else(|| "application/octet-stream".into()),
        );
        $output.expires = http.expires_ms.map(timestamp);
        $output.e_tag = Some(etag(&$info.etag));
        $output.last_modified = Some(timestamp($info.uploaded_ms));
        ($output.metadata, $output.missing_meta) = custom_metadata(&$info);
        $output.storage_class = storage_class(&$info).map(StorageClass::from_static);
        if $checksums {
            $output.checksum_type = set_sums!($output, &$info.checksums);
        }
    }};
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let reach = self.access.reach(request.credentials.as_ref())?;
        let stored = self.store.list_buckets().await.map_err(error)?;
        let mut buckets = Vec::new();
        for (name, store_name) in reach.buckets() {
            if let Some(found) = stored.iter().find(|bucket| bucket.name == *store_name) {
                buckets.push(Bucket {
                    name: Some(name.clone()),
                    creation_date: Some(timestamp(found.created_ms)),
                    bucket_region: None,
                });
            }
        }
        let id = request.credentials.map(|credentials| credentials.access_key);
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            owner: Some(Owner {
                display_name: id.clone(),
                id,
            }),
            ..Default::default()
        }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        self.store.bucket(&bucket).await.map_err(error)?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some("auto".into()),
            ..Default::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        self.store.bucket(&bucket).await.map_err(error)?;
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: Some(BucketLocationConstraint::from_static("auto")),
        }))
    }

    /// Creates a bucket that the manifest names and the store does not have. A name of the client's own is not in its
    /// reach.
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = &request.input.bucket;
        let bucket = match self.writable(&request, name) {
            Err(denied) if *denied.code() == s3s::S3ErrorCode::NoSuchBucket => {
                return Err(s3_error!(
                    AccessDenied,
                    "buckets are named in the manifest: add {name} there"
                ));
            }
            other => other?,
        };
        self.store.create_bucket(&bucket).await.map_err(error)?;
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(format!("/{name}")),
        }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        self.store.delete_bucket(&bucket).await.map_err(error)?;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let input = &mut request.input;
        let metadata = metadata_of!(input)?;
        let (checksums, announced) = announced(
            sums_of!(input),
            input.content_md5.as_deref(),
            input.checksum_algorithm.as_ref(),
            &request.headers,
            request.trailing_headers.take(),
        )?;
        let conditions = conditions(input.if_match.as_ref(), input.if_none_match.as_ref(), None, None);
        let options = PutOptions {
            metadata,
            conditions: conditions.clone(),
            checksums,
            announced,
            length: body_length(input.content_length, &request.headers),
            origin: None,
        };
        let body = incoming(input.body.take());
        let info = self
            .store
            .put(&bucket, &input.key, body, options)
            .await
            .map_err(|failed| Self::write_error(failed, &conditions))?;
        let mut output = PutObjectOutput {
            e_tag: Some(etag(&info.etag)),
            ..Default::default()
        };
        output.checksum_type = set_sums!(output, &info.checksums);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = &request.input;
        if input.range.is_some() && input.part_number.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "a range and a part number exclude each other"
            ));
        }
        let options = GetOptions {
            conditions: conditions(
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
                input.if_modified_since.as_ref(),
                input.if_unmodified_since.as_ref(),
            ),
            range: input.range.map(range),
            part: input.part_number.map(part_number).transpose()?,
        };
        let partial = options.range.is_some() || options.part.is_some();
        let read = self
            .store
            .get(&bucket, &input.key, options)
            .await
            .map_err(error)?;
        let (info, bytes) = (read.info, read.range);
        let mut output = GetObjectOutput {
            content_length: length(bytes.end - bytes.start),
            content_range: (partial && info.size > 0).then(|| {
                format!(
                    "bytes {}-{}/{}",
                    bytes.start,
                    bytes.end.saturating_sub(1),
                    info.size
                )
            }),
            parts_count: info
                .parts
                .filter(|_| input.part_number.is_some())
                .and_then(|parts| i32::try_from(parts).ok()),
            body: Some(outgoing(read.body)),
            ..Default::default()
        };
        let checksums = !partial && input.checksum_mode.is_some();
        describe!(output, info, checksums);
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = &request.input;
        let options = GetOptions {
            conditions: conditions(
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
                input.if_modified_since.as_ref(),
                input.if_unmodified_since.as_ref(),
            ),
            range: input.range.map(range),
            part: input.part_number.map(part_number).transpose()?,
        };
        let partial = options.range.is_some() || options.part.is_some();
        let (info, bytes) = if partial {
            let read = self
                .store
                .get(&bucket, &input.key, options)
                .await
                .map_err(error)?;
            (read.info, read.range)
        } else {
            let info = self
                .store
                .head(&bucket, &input.key, &options.conditions)
                .await
                .map_err(error)?;
            let size = info.size;
            (info, 0..size)
        };
        let mut output = HeadObjectOutput {
            content_length: length(bytes.end - bytes.start),
            content_range: (partial && info.size > 0).then(|| {
                format!(
                    "bytes {}-{}/{}",
                    bytes.start,
                    bytes.end.saturating_sub(1),
                    info.size
                )
            }),
            parts_count: info
                .parts
                .filter(|_| input.part_number.is_some())
                .and_then(|parts| i32::try_from(parts).ok()),
            ..Default::default()
        };
        let checksums = !partial && input.checksum_mode.is_some();
        describe!(output, info, checksums);
        let status = if partial {
            http::StatusCode::PARTIAL_CONTENT
        } else {
            http::StatusCode::OK
        };
        Ok(S3Response::with_status(output, status))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let input = &request.input;
        if input.if_match.is_some()
            || input.if_match_size.is_some()
            || input.if_match_last_modified_time.is_some()
        {
            return Err(s3_error!(
                NotImplemented,
                "conditional deletes are not implemented"
            ));
        }
        self.store.delete(&bucket, &input.key).await.map_err(error)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let Delete { objects, quiet } = request.input.delete;
        if objects.is_empty() || objects.len() > MAX_DELETE {
            return Err(s3_error!(
                MalformedXML,
                "1 to 1000 keys can be deleted at one time"
            ));
        }
        let conditional = |object: &ObjectIdentifier| {
            object.e_tag.is_some()
                || object.size.is_some()
                || object.last_modified_time.is_some()
                || object
                    .version_id
                    .as_deref()
                    .is_some_and(|version| version != "null")
        };
        if objects.iter().any(conditional) {
            return Err(s3_error!(
                NotImplemented,
                "versions and conditional deletes are not implemented"
            ));
        }
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        self.store
            .delete_many(&bucket, keys.clone())
            .await
            .map_err(error)?;
        let deleted = keys.into_iter().map(|key| DeletedObject {
            key: Some(key),
            ..Default::default()
        });
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (quiet != Some(true)).then(|| deleted.collect()),
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        mut request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let (source_bucket, source_key) = self.source(&request, &request.input.copy_source)?;
        let target_conditions = copy_target_conditions(&request.headers)?;
        let input = &mut request.input;
        let replaces = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
            None | Some(MetadataDirective::COPY) => false,
            Some(MetadataDirective::REPLACE) => true,
            Some(_) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "the metadata directive is COPY or REPLACE"
                ));
            }
        };
        let replaces_class = input.storage_class.is_some();
        if !replaces && !replaces_class && source_bucket == bucket && source_key == input.key {
            return Err(s3_error!(
                InvalidRequest,
                "copying an object onto itself needs new metadata or a new storage class"
            ));
        }
        let source_conditions = conditions(
            input.copy_source_if_match.as_ref(),
            input.copy_source_if_none_match.as_ref(),
            input.copy_source_if_modified_since.as_ref(),
            input.copy_source_if_unmodified_since.as_ref(),
        );
        let given = metadata_of!(input)?;
        let metadata = if replaces {
            Some(given)
        } else if replaces_class {
            let mut kept = self
                .store
                .head(&source_bucket, &source_key, &Conditions::default())
                .await
                .map_err(error)?
                .metadata;
            kept.storage_class = given.storage_class;
            Some(kept)
        } else {
            None
        };
        let info = self
            .store
            .copy(
                (&source_bucket, &source_key),
                &source_conditions,
                (&bucket, &input.key),
                &target_conditions,
                metadata,
            )
            .await
            .map_err(|failed| Self::write_error(failed, &target_conditions))?;
        let mut result = CopyObjectResult {
            e_tag: Some(etag(&info.etag)),
            last_modified: Some(timestamp(info.uploaded_ms)),
            ..Default::default()
        };
        result.checksum_type = set_sums!(result, &info.checksums);
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..Default::default()
        }))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        Backend::objects_v1(self, request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        Backend::objects_v2(self, request).await
    }

    /// There are no versions: every object is the latest, with the version `null`.
    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        Backend::versions(self, request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        Backend::begin_upload(self, request).await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        Backend::put_part(self, request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        Backend::copy_part(self, request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        Backend::complete_upload(self, request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        Backend::abort_upload(self, request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        Backend::parts(self, request).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        Backend::uploads(self, request).await
    }
}

/// The number of bytes of the object itself: of a body in signed chunks, what the client says it decodes to.
pub(super) fn body_length(content_length: Option<i64>, headers: &http::HeaderMap) -> Option<u64> {
    let decoded = headers
        .get("x-amz-decoded-content-length")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    decoded.or_else(|| content_length.and_then(|length| u64::try_from(length).ok()))
}

/// `If-Match` and `If-None-Match` of a copy: `s3s` does not read them for this operation.
pub(super) fn copy_target_conditions(headers: &http::HeaderMap) -> S3Result<Conditions> {
    let read = |name: http::HeaderName| {
        headers
            .get(name)
            .map(|value| ETagCondition::parse_http_header(value.as_bytes()))
            .transpose()
            .map_err(|_| s3_error!(InvalidArgument, "an entity tag in a condition cannot be read"))
    };
    let if_match = read(http::header::IF_MATCH)?;
    let if_none_match = read(http::header::IF_NONE_MATCH)?;
    Ok(convert::conditions(
        if_match.as_ref(),
        if_none_match.as_ref(),
        None,
        None,
    ))
}
