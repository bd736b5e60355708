//! Bodies of any size on their way to a destination and back, a piece at a time.

use super::{Destination, DestinationError, Listed, PART_BYTES, PARTS_AT_ONCE};
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;

/// Parts of an upload at most; a destination takes 10,000.
const MAX_PARTS: u64 = 9_000;
/// Files that writes which were killed may have left beside one of a folder.
const LEFT_BEHIND: usize = 16;

impl Destination {
    /// Writes a body of a size that is known; returns its SHA-256. A small one goes in one request, a larger one in
    /// parts, two of which are in memory. Nothing is there before its end.
    pub(crate) async fn put_body(
        &self,
        key: &str,
        size: u64,
        body: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> Result<String, DestinationError> {
        self.clear_left_behind(key);
        let file = |source| DestinationError::File {
            path: key.into(),
            source,
        };
        let mut body = body.map_err(file);
        if size <= PART_BYTES as u64 {
            let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
            while let Some(piece) = body.try_next().await? {
                bytes.extend_from_slice(&piece);
            }
            self.check_size(key, size, bytes.len() as u64)?;
            return Ok(self.put(key, bytes.freeze()).await?.sha256);
        }
        let begun = self.store.put_multipart(&self.key(key)).await;
        let upload = begun.map_err(self.failed("writing", key))?;
        let part = usize::try_from(size.div_ceil(MAX_PARTS)).unwrap_or(usize::MAX);
        let mut writer = WriteMultipart::new_with_chunk_size(upload, part.max(PART_BYTES));
        let written = async {
            let mut hasher = Sha256::new();
            let mut written = 0;
            while let Some(piece) = body.try_next().await? {
                hasher.update(&piece);
                written += piece.len() as u64;
                writer
                    .wait_for_capacity(PARTS_AT_ONCE - 1)
                    .await
                    .map_err(self.failed("writing", key))?;
                writer.put(piece);
            }
            self.check_size(key, size, written)?;
            Ok(hex::encode(hasher.finalize()))
        };
        match written.await {
            Ok(sha256) => {
                writer.finish().await.map_err(self.failed("writing", key))?;
                Ok(sha256)
            }
            Err(error) => {
                writer.abort().await.ok();
                Err(error)
            }
        }
    }

    /// Writes a small object of which killed writes may have left an unfinished file.
    pub(crate) async fn put_again(&self, key: &str, bytes: Bytes) -> Result<(), DestinationError> {
        self.clear_left_behind(key);
        self.put(key, bytes).await?;
        Ok(())
    }

    /// Deletes objects, and what killed writes of them have left.
    pub(crate) async fn delete_whole(&self, keys: &[String]) -> Result<(), DestinationError> {
        for key in keys {
            self.clear_left_behind(key);
        }
        self.delete(keys).await
    }

    fn check_size(&self, key: &str, wanted: u64, found: u64) -> Result<(), DestinationError> {
        match wanted == found {
            true => Ok(()),
            false => Err(self.damaged(key, format!("{found} bytes were read of {wanted}"))),
        }
    }

    /// A write that was killed leaves its unfinished file in a folder: nobody else writes this key.
    fn clear_left_behind(&self, key: &str) {
        let Some(folder) = self.folder() else {
            return;
        };
        let path = folder.join(self.key(key).as_ref());
        for number in 1..=LEFT_BEHIND {
            let mut left = path.clone().into_os_string();
            left.push(format!("#{number}"));
            if std::fs::remove_file(left).is_err() {
                return;
            }
        }
    }

    /// Size of an object, where there is one.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, DestinationError> {
        match self.store.head(&self.key(key)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("looking at", key)(error)),
        }
    }

    /// Some bytes of an object, as they come.
    pub(crate) async fn body(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, DestinationError> {
        // No destination knows an empty range.
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options = GetOptions::new().with_range(Some(range));
        let got = self
            .store
            .get_opts(&self.key(key), options)
            .await
            .map_err(self.failed("reading", key))?;
        Ok(got.into_stream().map_err(io::Error::other).boxed())
    }

    /// Objects below a folder in the order of the destination, however many.
    pub(crate) fn each(&self, below: &str) -> BoxStream<'static, Result<Listed, DestinationError>> {
        let prefix = self.key(below);
        let cut = self.prefix.len() + 1;
        let (destination, below) = (self.clone(), below.to_owned());
        self.store
            .list(Some(&prefix))
            .map(move |found| match found {
                Ok(found) => Ok(Listed {
                    key: found.location.as_ref().get(cut..).unwrap_or_default().to_owned(),
                    bytes: found.size,
                }),
                Err(error) => Err(destination.failed("listing", &below)(error)),
            })
            .boxed()
    }
}
