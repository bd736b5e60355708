//! A segment: one Parquet file, written whole or not at all. Its name says which flushes it holds and from when to when;
//! its footer also says up to where the sources had been read, so that the rename of the file is the one commit.

use crate::source::Position;
use crate::stream::Stream;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::{ArrowError, Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a batch on its way into a file.
pub(crate) const BATCH_ROWS: usize = 8_192;
/// Rows of a row group: what a query skips or reads as one.
pub(crate) const GROUP_ROWS: usize = 131_072;
const POSITIONS: &str = "astraler.positions";
const TEMPORARY: &str = ".tmp-";

/// How far each source had been read.
pub(crate) type Positions = BTreeMap<String, Position>;

/// A segment cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}", path = path.display())]
pub struct SegmentError {
    /// What was tried.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: ParquetError,
}

impl SegmentError {
    /// The disk or the quota is used up.
    pub(crate) fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self.source);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                return matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
            }
            if let Some(ParquetError::External(error)) = error.downcast_ref::<ParquetError>()
                && let Some(error) = error.downcast_ref::<std::io::Error>()
            {
                return matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
            }
            cause = error.source();
        }
        false
    }
}

/// A segment that lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The first and the last flush that it holds.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Segment {
    /// By its name; anything else in a folder of the store is not ours.
    pub(crate) fn of(path: &Path, bytes: u64) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
        let mut words = stem.split('_');
        let segment = Self {
            first: words.next()?.parse().ok()?,
            last: words.next()?.parse().ok()?,
            min_ms: words.next()?.parse().ok()?,
            max_ms: words.next()?.parse().ok()?,
            path: path.to_owned(),
            bytes,
        };
        words.next().is_none().then_some(segment)
    }

    pub(crate) fn open(&self) -> Result<(File, ArrowReaderMetadata), SegmentError> {
        let failed = failed("read", &self.path);
        let file = File::open(&self.path).map_err(|error| failed(error.into()))?;
        let options = ArrowReaderOptions::new()
            .with_offset_index_policy(parquet::file::metadata::PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&file, options).map_err(failed)?;
        Ok((file, metadata))
    }

    pub(crate) fn rows(&self) -> Result<u64, SegmentError> {
        let (_, metadata) = self.open()?;
        Ok(u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0))
    }

    pub(crate) fn positions(&self) -> Result<Positions, SegmentError> {
        let (_, metadata) = self.open()?;
        let pairs = metadata.metadata().file_metadata().key_value_metadata();
        let text = pairs
            .into_iter()
            .flatten()
            .find(|pair| pair.key == POSITIONS)
            .and_then(|pair| pair.value.as_deref());
        Ok(text
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default())
    }
}

/// `2026-11-27`, the folder of a time.
pub(crate) fn day(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d").to_string()
}

/// A segment that is being written. Dropped before it is finished, it leaves nothing.
pub(crate) struct Draft {
    writer: Option<ArrowWriter<File>>,
    temporary: PathBuf,
    folder: PathBuf,
    rows: usize,
    min_ms: i64,
    max_ms: i64,
}

impl Draft {
    pub(crate) fn begin(folder: &Path, stream: Stream) -> Result<Self, SegmentError> {
        let temporary = folder.join(format!("{TEMPORARY}{}", std::process::id()));
        let failed = failed("write", &temporary);
        let file = File::create(&temporary).map_err(|error| failed(error.into()))?;
        let writer = ArrowWriter::try_new(file, stream.schema(), Some(properties())).map_err(&failed)?;
        Ok(Self {
            writer: Some(writer),
            folder: folder.to_owned(),
            temporary,
            rows: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let failed = failed("write", &self.temporary);
        if let Some(ts) = batch.column(0).as_primitive_opt::<TimestampMillisecondType>() {
            for time in ts.values() {
                self.min_ms = self.min_ms.min(*time);
                self.max_ms = self.max_ms.max(*time);
            }
        }
        self.rows += batch.num_rows();
        match &mut self.writer {
            Some(writer) => writer.write(batch).map_err(failed),
            None => Ok(()),
        }
    }

    /// On disk, and in its place: the commit.
    pub(crate) fn finish(
        mut self,
        first: u64,
        last: u64,
        positions: &Positions,
    ) -> Result<Segment, SegmentError> {
        let failed = failed("write", &self.temporary);
        let Some(mut writer) = self.writer.take() else {
            return Err(failed(ParquetError::General("it is finished".to_owned())));
        };
        let text = serde_json::to_string(positions)
            .map_err(|error| failed(ParquetError::External(Box::new(error))))?;
        writer.append_key_value_metadata(KeyValue::new(POSITIONS.to_owned(), text));
        let file = writer.into_inner().map_err(&failed)?;
        file.sync_all().map_err(|error| failed(error.into()))?;
        let bytes = file.metadata().map_or(0, |found| found.len());
        let folder = self.folder.join(day(self.max_ms));
        let name = format!("{first:010}_{last:010}_{}_{}.parquet", self.min_ms, self.max_ms);
        let path = folder.join(name);
        let moved = std::fs::DirBuilder::new()
            .recursive(true)
            .create(&folder)
            .and_then(|()| std::fs::rename(&self.temporary, &path))
            .and_then(|()| File::open(&folder)?.sync_all())
            .and_then(|()| File::open(&self.folder)?.sync_all());
        moved.map_err(|error| failed(error.into()))?;
        Ok(Segment {
            first,
            last,
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            path,
            bytes,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Removes what a killed writer left.
pub(crate) fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Streams the rows of segments into one, in bounded memory. They must follow each other.
pub(crate) fn merge(
    folder: &Path,
    stream: Stream,
    parts: &[Segment],
) -> Result<Option<Segment>, SegmentError> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Ok(None);
    };
    let mut draft = Draft::begin(folder, stream)?;
    for part in parts {
        let failed = failed("read", &part.path);
        let (file, metadata) = part.open()?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(&failed)?;
        for batch in reader {
            let batch = batch.and_then(|batch| fitted(&batch, &stream.schema()));
            draft.write(&batch.map_err(|error| failed(error.into()))?)?;
        }
    }
    draft.finish(first.first, last.last, &last.positions()?).map(Some)
}

/// With the columns of today: what an older version wrote has fewer.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl Fn(ParquetError) -> SegmentError + use<> {
    let path = path.to_owned();
    move |source| SegmentError {
        operation,
        path: path.clone(),
        source,
    }
}

fn properties() -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_created_by("astraler".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(BATCH_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(column("request_id"), false)
        .set_column_bloom_filter_enabled(column("request_id"), true)
        .set_column_bloom_filter_fpp(column("request_id"), 0.01)
        .set_column_bloom_filter_max_ndv(column("request_id"), GROUP_ROWS as u64);
    for name in ["ts", "duration_us", "upstream_us", "bytes_out"] {
        properties = properties
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    // Mostly different in each row: a dictionary would be filled and given up.
    for name in ["path", "client_ip", "message"] {
        properties = properties.set_column_dictionary_enabled(column(name), false);
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Filter, evaluate};

    /// As a version before some columns wrote it: found, and merged with what has them.
    #[test]
    fn segments_of_an_older_version_are_read_and_merged() {
        let folder = tempfile::tempdir().unwrap();
        let mut columns = Stream::Access.builder();
        let line = br#"{"ts":"2026-11-27T14:41:51.112Z","path":"/a","status":200,"cache":"hit"}"#;
        assert!(columns.push("edge/access.log", line));
        let new = columns.finish().unwrap();
        let old = new.project(&(0..22).collect::<Vec<_>>()).unwrap();
        assert!(old.column_by_name("cache").is_none() && old.column_by_name("blame").is_some());
        for (filter, of_new, of_old) in [("cache=hit", 1, 0), ("cache!=hit", 0, 1), ("cache!=miss", 1, 1)] {
            let filter = Filter::parse(filter, Stream::Access).unwrap();
            let count = |batch: &RecordBatch| evaluate(&filter.root, batch).count_set_bits();
            assert_eq!((count(&new), count(&old)), (of_new, of_old));
        }
        // An older version's file.
        let path = folder.path().join("old.parquet");
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), old.schema(), None).unwrap();
        writer.write(&old).unwrap();
        writer.close().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let read = reader.build().unwrap().next().unwrap().unwrap();
        let fitted = fitted(&read, &Stream::Access.schema()).unwrap();
        let mut draft = Draft::begin(folder.path(), Stream::Access).unwrap();
        draft.write(&fitted).unwrap();
        draft.write(&new).unwrap();
        assert_eq!(draft.finish(1, 2, &Positions::new()).unwrap().rows().unwrap(), 2);
    }
}
