//! The operations of S3 on the store.

use super::access::Access;
use super::bodies::{announced, incoming, outgoing};
use super::convert::{
    self, algorithm_name, conditions, custom_metadata, encoder, error, etag, header_text, limit, metadata_of,
    set_sums, storage_class, sums_of, timestamp, upload_checksum,
};
use crate::{
    Announced, ByteRange, CompletePart, Conditions, GetOptions, ListOptions, ListPage, MAX_PARTS, ObjectInfo,
    PutOptions, Store, StoreError,
};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

/// Keys of one DeleteObjects at most.
const MAX_DELETE: usize = 1000;

/// The store behind the protocol.
pub(super) struct Backend {
    store: Store,
    access: Access,
}

impl Backend {
    pub(super) fn new(store: Store, access: Access) -> Self {
        Self { store, access }
    }

    fn readable<T>(&self, request: &S3Request<T>, bucket: &str) -> S3Result<String> {
        self.access.bucket(request.credentials.as_ref(), bucket, false)
    }

    fn writable<T>(&self, request: &S3Request<T>, bucket: &str) -> S3Result<String> {
        self.access.bucket(request.credentials.as_ref(), bucket, true)
    }

    /// The source of a copy, by the store's names.
    fn source<T>(&self, request: &S3Request<T>, source: &CopySource) -> S3Result<(String, String)> {
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
    fn write_error(failed: StoreError, conditions: &Conditions) -> s3s::S3Error {
        match failed {
            StoreError::PreconditionFailed { current: None } if conditions.if_match.is_some() => {
                s3_error!(NoSuchKey, "there is no object that could match")
            }
            other => error(other),
        }
    }

    async fn page(
        &self,
        bucket: &str,
        prefix: Option<&String>,
        delimiter: Option<&String>,
        limit: usize,
        (cursor, start_after): (Option<&String>, Option<&String>),
    ) -> S3Result<ListPage> {
        let options = ListOptions {
            prefix: prefix.cloned().unwrap_or_default(),
            delimiter: delimiter.cloned(),
            start_after: start_after.cloned(),
            cursor: cursor.cloned(),
            limit: Some(limit),
            max_bytes: None,
        };
        self.store.list(bucket, options).await.map_err(error)
    }
}

fn object(info: &ObjectInfo, encode: fn(&str) -> String) -> Object {
    let class = storage_class(info).unwrap_or(ObjectStorageClass::STANDARD);
    Object {
        key: Some(encode(&info.key)),
        e_tag: Some(etag(&info.etag)),
        size: i64::try_from(info.size).ok(),
        last_modified: Some(timestamp(info.uploaded_ms)),
        storage_class: Some(ObjectStorageClass::from_static(class)),
        checksum_algorithm: info
            .checksums
            .iter()
            .filter_map(|sum| algorithm_name(sum.algorithm))
            .map(Some)
            .collect::<Option<Vec<_>>>()
            .filter(|names| !names.is_empty()),
        ..Object::default()
    }
}

fn common_prefixes(prefixes: &[String], encode: fn(&str) -> String) -> Option<Vec<CommonPrefix>> {
    let prefixes: Vec<CommonPrefix> = prefixes
        .iter()
        .map(|prefix| CommonPrefix {
            prefix: Some(encode(prefix)),
        })
        .collect();
    Some(prefixes).filter(|prefixes| !prefixes.is_empty())
}

fn count(number: usize) -> Option<i32> {
    i32::try_from(number).ok()
}

fn length(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn part_number(number: i32) -> S3Result<u32> {
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
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = request.input;
        let encode = encoder(input.encoding_type.as_ref())?;
        let most = limit(input.max_keys)?;
        let places = (None, input.marker.as_ref());
        let page = self
            .page(
                &bucket,
                input.prefix.as_ref(),
                input.delimiter.as_ref(),
                most,
                places,
            )
            .await?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            is_truncated: Some(page.cursor.is_some()),
            next_marker: page.last.as_deref().map(encode),
            common_prefixes: common_prefixes(&page.prefixes, encode),
            contents: Some(
                page.objects
                    .into_iter()
                    .map(|info| object(&info, encode))
                    .collect(),
            ),
            prefix: Some(encode(input.prefix.as_deref().unwrap_or_default())),
            marker: Some(encode(input.marker.as_deref().unwrap_or_default())),
            delimiter: input.delimiter.as_deref().map(encode),
            max_keys: count(most),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = request.input;
        let encode = encoder(input.encoding_type.as_ref())?;
        let most = limit(input.max_keys)?;
        let places = (input.continuation_token.as_ref(), input.start_after.as_ref());
        let page = self
            .page(
                &bucket,
                input.prefix.as_ref(),
                input.delimiter.as_ref(),
                most,
                places,
            )
            .await?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            is_truncated: Some(page.cursor.is_some()),
            key_count: count(page.objects.len() + page.prefixes.len()),
            common_prefixes: common_prefixes(&page.prefixes, encode),
            contents: Some(
                page.objects
                    .into_iter()
                    .map(|info| object(&info, encode))
                    .collect(),
            ),
            prefix: Some(encode(input.prefix.as_deref().unwrap_or_default())),
            delimiter: input.delimiter.as_deref().map(encode),
            start_after: input.start_after.as_deref().map(encode),
            max_keys: count(most),
            continuation_token: input.continuation_token,
            next_continuation_token: page.cursor,
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    /// There are no versions: every object is the latest, with the version `null`.
    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = request.input;
        let encode = encoder(input.encoding_type.as_ref())?;
        let most = limit(input.max_keys)?;
        let places = (None, input.key_marker.as_ref());
        let page = self
            .page(
                &bucket,
                input.prefix.as_ref(),
                input.delimiter.as_ref(),
                most,
                places,
            )
            .await?;
        let version = |info: ObjectInfo| ObjectVersion {
            key: Some(encode(&info.key)),
            version_id: Some("null".into()),
            is_latest: Some(true),
            e_tag: Some(etag(&info.etag)),
            size: length(info.size),
            last_modified: Some(timestamp(info.uploaded_ms)),
            storage_class: Some(ObjectVersionStorageClass::from_static(
                ObjectVersionStorageClass::STANDARD,
            )),
            ..Default::default()
        };
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            is_truncated: Some(page.cursor.is_some()),
            next_key_marker: page.last.as_deref().map(encode),
            next_version_id_marker: page.last.as_ref().map(|_| "null".into()),
            common_prefixes: common_prefixes(&page.prefixes, encode),
            versions: Some(page.objects.into_iter().map(version).collect()),
            prefix: Some(encode(input.prefix.as_deref().unwrap_or_default())),
            key_marker: Some(encode(input.key_marker.as_deref().unwrap_or_default())),
            delimiter: input.delimiter.as_deref().map(encode),
            max_keys: count(most),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let input = &mut request.input;
        let metadata = metadata_of!(input)?;
        let checksum = upload_checksum(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let id = self
            .store
            .create_upload(&bucket, &input.key, metadata, checksum)
            .await
            .map_err(error)?;
        let kind = |full| {
            ChecksumType::from_static(if full {
                ChecksumType::FULL_OBJECT
            } else {
                ChecksumType::COMPOSITE
            })
        };
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(id),
            checksum_algorithm: checksum.and_then(|checksum| algorithm_name(checksum.algorithm)),
            checksum_type: checksum.map(|checksum| kind(checksum.full)),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let input = &mut request.input;
        let (checksums, announced) = announced(
            sums_of!(input),
            input.content_md5.as_deref(),
            input.checksum_algorithm.as_ref(),
            &request.headers,
            request.trailing_headers.take(),
        )?;
        let number = part_number(input.part_number)?;
        let length = body_length(input.content_length, &request.headers);
        let body = incoming(input.body.take());
        let part = self
            .store
            .put_part(
                &bucket,
                &input.key,
                &input.upload_id,
                number,
                body,
                length,
                announced,
                &checksums,
            )
            .await
            .map_err(error)?;
        let mut output = UploadPartOutput {
            e_tag: Some(etag(&part.etag)),
            ..Default::default()
        };
        set_sums!(output, &part.checksums);
        Ok(S3Response::new(output))
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let (source_bucket, source_key) = self.source(&request, &request.input.copy_source)?;
        let input = &request.input;
        let number = part_number(input.part_number)?;
        let asked = match input.copy_source_range.as_deref() {
            None => None,
            Some(text) => match ByteRange::parse(text) {
                Some(range @ ByteRange::FromTo { last: Some(_), .. }) => Some(range),
                _ => return Err(s3_error!(InvalidArgument, "the source range is bytes=first-last")),
            },
        };
        let options = GetOptions {
            conditions: conditions(
                input.copy_source_if_match.as_ref(),
                input.copy_source_if_none_match.as_ref(),
                input.copy_source_if_modified_since.as_ref(),
                input.copy_source_if_unmodified_since.as_ref(),
            ),
            range: asked,
            part: None,
        };
        let read = match self.store.get(&source_bucket, &source_key, options).await {
            Err(StoreError::NotModified { .. }) => return Err(s3_error!(PreconditionFailed)),
            other => other.map_err(error)?,
        };
        if let Some(ByteRange::FromTo { last: Some(last), .. }) = asked
            && last >= read.info.size
        {
            return Err(error(StoreError::InvalidRange { size: read.info.size }));
        }
        let size = read.range.end - read.range.start;
        let part = self
            .store
            .put_part(
                &bucket,
                &input.key,
                &input.upload_id,
                number,
                Box::pin(read.body),
                Some(size),
                Announced::Nothing,
                &[],
            )
            .await
            .map_err(error)?;
        let mut result = CopyPartResult {
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(timestamp(part.uploaded_ms)),
            ..Default::default()
        };
        set_sums!(result, &part.checksums);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let input = request.input;
        let named = input
            .multipart_upload
            .as_ref()
            .and_then(|upload| upload.parts.as_ref());
        let named = named
            .filter(|parts| !parts.is_empty())
            .ok_or_else(|| s3_error!(MalformedXML, "no part is named"))?;
        let mut parts = Vec::with_capacity(named.len());
        for part in named {
            let (Some(number), Some(tag)) = (part.part_number, &part.e_tag) else {
                return Err(s3_error!(MalformedXML, "a part has a number and an entity tag"));
            };
            parts.push(CompletePart {
                number: part_number(number)
                    .map_err(|_| s3_error!(InvalidPart, "part {number} was not uploaded"))?,
                etag: tag.value().to_owned(),
                checksums: sums_of!(part).read()?,
            });
        }
        let conditions = conditions(input.if_match.as_ref(), input.if_none_match.as_ref(), None, None);
        let whole = sums_of!(input).read()?;
        let info = self
            .store
            .complete_upload(&bucket, &input.key, &input.upload_id, parts, &conditions, whole)
            .await
            .map_err(|failed| Self::write_error(failed, &conditions))?;
        if let Some(announced) = input.mpu_object_size
            && length(info.size) != Some(announced)
        {
            tracing::warn!(
                announced,
                size = info.size,
                "a completed upload has another size than its client announced"
            );
        }
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(etag(&info.etag)),
            ..Default::default()
        };
        output.checksum_type = set_sums!(output, &info.checksums);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let bucket = self.writable(&request, &request.input.bucket)?;
        let input = &request.input;
        self.store
            .abort_upload(&bucket, &input.key, &input.upload_id)
            .await
            .map_err(error)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = request.input;
        let most = limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let after =
            u32::try_from(after).map_err(|_| s3_error!(InvalidArgument, "a marker is not negative"))?;
        let page = self
            .store
            .list_parts(&bucket, &input.key, &input.upload_id, after, most)
            .await
            .map_err(error)?;
        let last = page.parts.last().map_or(after, |part| part.number);
        let part = |part: crate::PartInfo| {
            let mut output = Part {
                part_number: i32::try_from(part.number).ok(),
                e_tag: Some(etag(&part.etag)),
                size: length(part.size),
                last_modified: Some(timestamp(part.uploaded_ms)),
                ..Default::default()
            };
            set_sums!(output, &part.checksums);
            output
        };
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm: page
                .upload
                .checksum
                .and_then(|checksum| algorithm_name(checksum.algorithm)),
            part_number_marker: i32::try_from(after).ok(),
            next_part_number_marker: i32::try_from(last).ok().filter(|_| page.truncated),
            is_truncated: Some(page.truncated),
            max_parts: count(most),
            parts: Some(page.parts.into_iter().map(part).collect()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let bucket = self.readable(&request, &request.input.bucket)?;
        let input = request.input;
        if input
            .delimiter
            .as_deref()
            .is_some_and(|delimiter| !delimiter.is_empty())
        {
            return Err(s3_error!(NotImplemented, "uploads are listed without delimiter"));
        }
        let encode = encoder(input.encoding_type.as_ref())?;
        let most = limit(input.max_uploads)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (prefix, key, id) = (
            text(&input.prefix),
            text(&input.key_marker),
            text(&input.upload_id_marker),
        );
        let page = self
            .store
            .list_uploads(&bucket, &prefix, (&key, &id), most)
            .await
            .map_err(error)?;
        let last = page.uploads.last().filter(|_| page.truncated).cloned();
        let upload = |upload: crate::UploadInfo| MultipartUpload {
            key: Some(encode(&upload.key)),
            upload_id: Some(upload.id),
            initiated: Some(timestamp(upload.created_ms)),
            checksum_algorithm: upload
                .checksum
                .and_then(|checksum| algorithm_name(checksum.algorithm)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(encode(&prefix)),
            key_marker: Some(encode(&key)),
            upload_id_marker: Some(id),
            next_key_marker: last.as_ref().map(|upload| encode(&upload.key)),
            next_upload_id_marker: last.map(|upload| upload.id),
            is_truncated: Some(page.truncated),
            max_uploads: count(most),
            uploads: Some(page.uploads.into_iter().map(upload).collect()),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }
}

/// The number of bytes of the object itself: of a body in signed chunks, what the client says it decodes to.
fn body_length(content_length: Option<i64>, headers: &http::HeaderMap) -> Option<u64> {
    let decoded = headers
        .get("x-amz-decoded-content-length")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    decoded.or_else(|| content_length.and_then(|length| u64::try_from(length).ok()))
}

/// `If-Match` and `If-None-Match` of a copy: `s3s` does not read them for this operation.
fn copy_target_conditions(headers: &http::HeaderMap) -> S3Result<Conditions> {
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
