//! Multipart uploads.

use super::backend::{Backend, body_length, count, length, part_number};
use super::bodies::{announced, incoming};
use super::convert::{
    algorithm_name, conditions, encoder, error, etag, limit, metadata_of, set_sums, sums_of, timestamp,
    upload_checksum,
};
use crate::{Announced, ByteRange, CompletePart, GetOptions, StoreError};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

impl Backend {
    pub(super) async fn begin_upload(
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

    pub(super) async fn put_part(
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

    pub(super) async fn copy_part(
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

    pub(super) async fn complete_upload(
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

    pub(super) async fn abort_upload(
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

    pub(super) async fn parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
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

    pub(super) async fn uploads(
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
