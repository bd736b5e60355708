//! What a bucket holds, in the three forms of S3.

use super::backend::{Backend, common_prefixes, count, length};
use super::convert::{algorithm_name, encoder, error, etag, limit, storage_class, timestamp};
use crate::{ListOptions, ListPage, ObjectInfo};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

impl Backend {
    pub(super) async fn objects_v1(
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

    pub(super) async fn objects_v2(
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

    pub(super) async fn versions(
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
