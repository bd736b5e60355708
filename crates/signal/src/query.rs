//! Reading: everything that lies in segments, and after it what still waits in the logs. Needs no process of ours: who
//! may read the folders may ask. What cannot match is not read: whole segments by their times, row groups by their
//! statistics and bloom filters, columns by the rows that are left.

mod row;
mod scan;

pub use row::Row;

use crate::filter::{Condition, Filter, evaluate, text_columns};
use crate::histogram::Histogram;
use crate::segment::{Positions, Segment, SegmentError};
use crate::source::{self, Position};
use crate::store::{Found, StoreError, at, lines};
use crate::stream::Stream;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt16Type, UInt64Type};
use arrow_array::{BooleanArray, RecordBatch};
use scan::{Order, Unit};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Bytes of a log that are read at once.
const CHUNK: usize = 1 << 20;

/// Which records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// From this time on.
    pub since_ms: Option<i64>,
    /// Before this time.
    pub until_ms: Option<i64>,
    /// For which this holds.
    pub filter: Option<Filter>,
    /// That have this text somewhere.
    pub grep: Option<String>,
}

impl Query {
    /// Everything that must hold.
    pub(crate) fn conditions(&self, stream: Stream) -> Vec<Condition> {
        use crate::filter::{Compare, Value};
        let time = |compare, ms| Condition::Is {
            column: "ts",
            compare,
            value: Value::Number(ms),
        };
        let since = self.since_ms.map(|ms| time(Compare::GreaterOrEqual, ms));
        let until = self.until_ms.map(|ms| time(Compare::Less, ms));
        let mut all: Vec<Condition> = since.into_iter().chain(until).collect();
        all.extend(self.filter.iter().flat_map(|filter| filter.conjuncts(stream)));
        if let Some(text) = self.grep.as_ref().filter(|text| !text.is_empty()) {
            all.push(Condition::Grep(text.clone(), text_columns(stream)));
        }
        all
    }
}

/// One minute of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Minute {
    /// Records.
    pub records: u64,
    /// Those with a status of 500 or above; lines at level error.
    pub errors: u64,
    /// Latency of requests.
    pub latency: Histogram,
}

/// The reading side of a stream.
#[derive(Debug, Clone)]
pub struct Reader {
    stream: Stream,
    folder: PathBuf,
    logs: PathBuf,
}

impl Reader {
    /// Of the stores below `folder`, whose sources lie below `logs`.
    pub fn new(stream: Stream, folder: &Path, logs: &Path) -> Self {
        Self {
            stream,
            folder: folder.join(stream.name()),
            logs: logs.to_owned(),
        }
    }

    /// The newest records, the oldest of them first.
    pub fn last(&self, query: &Query, count: usize) -> Result<Vec<Row>, StoreError> {
        retried(|| {
            let look = self.look()?;
            let mut rows = Vec::new();
            self.tail(&look, query, |batch| {
                rows.extend(Row::all(batch));
                // What is older than the newest of them cannot be asked for.
                if rows.len() > 2 * count {
                    newest(&mut rows, count);
                }
            })?;
            newest(&mut rows, count);
            if rows.len() >= count {
                return Ok(rows);
            }
            let read = |batches: Vec<RecordBatch>| batches.iter().flat_map(Row::all).collect::<Vec<_>>();
            self.segments(
                &look,
                query,
                Order::NewestFirst,
                None,
                read,
                |mut found: Vec<Row>| {
                    rows.append(&mut found);
                    newest(&mut rows, count);
                    if rows.len() >= count {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            )?;
            Ok(rows)
        })
    }

    /// All records, nearly in the order of their time, until `take` says no.
    pub fn each(&self, query: &Query, mut take: impl FnMut(Row) -> bool) -> Result<(), StoreError> {
        let look = self.look()?;
        let mut open = true;
        let read = |batches: Vec<RecordBatch>| {
            let mut rows: Vec<Row> = batches.iter().flat_map(Row::all).collect();
            rows.sort_by_key(|row| row.ts_ms);
            rows
        };
        self.segments(&look, query, Order::OldestFirst, None, read, |rows: Vec<Row>| {
            for row in rows {
                if !take(row) {
                    open = false;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        if open {
            self.tail(&look, query, |batch| {
                for row in Row::all(batch) {
                    open = open && take(row);
                }
            })?;
        }
        Ok(())
    }

    /// Records in numbers, by the minute in which they began (milliseconds since the epoch).
    pub fn minutes(&self, query: &Query) -> Result<BTreeMap<i64, Minute>, StoreError> {
        retried(|| {
            let look = self.look()?;
            let mut minutes: BTreeMap<i64, Minute> = BTreeMap::new();
            let mut add = |more: BTreeMap<i64, Minute>| {
                for (at, minute) in more {
                    let sum = minutes.entry(at).or_default();
                    sum.records += minute.records;
                    sum.errors += minute.errors;
                    sum.latency.merge(&minute.latency);
                }
            };
            let columns: &[&str] = match self.stream {
                Stream::Access => &["ts", "status", "duration_us"],
                Stream::Application | Stream::Error => &["ts", "level"],
            };
            let read = |batches: Vec<RecordBatch>| {
                let mut minutes = BTreeMap::new();
                for batch in &batches {
                    by_minute(batch, &mut minutes);
                }
                minutes
            };
            self.segments(&look, query, Order::NewestFirst, Some(columns), read, |more| {
                add(more);
                ControlFlow::Continue(())
            })?;
            self.tail(&look, query, |batch| {
                let mut more = BTreeMap::new();
                by_minute(batch, &mut more);
                add(more);
            })?;
            Ok(minutes)
        })
    }

    /// Records from now on.
    pub fn follow(&self, query: Query) -> Result<Follow, StoreError> {
        let mut positions = self.look()?.positions;
        for (name, path) in self.sources()? {
            loop {
                let chunk = source::read(&path, positions.get(&name), CHUNK).map_err(at(&path))?;
                let moved = positions.insert(name.clone(), chunk.position.clone());
                if moved.as_ref() == Some(&chunk.position) {
                    break;
                }
            }
        }
        Ok(Follow {
            reader: self.clone(),
            query,
            positions,
        })
    }

    fn sources(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        self.stream.sources(&self.logs).map_err(at(&self.logs))
    }

    /// Segments, and up to where the sources lie in them: what is flushed after this look is still in the logs.
    fn look(&self) -> Result<Look, StoreError> {
        let found = Found::look(&self.folder)?;
        Ok(Look {
            positions: found.positions()?,
            segments: found.segments,
        })
    }

    fn segments<T: Send>(
        &self,
        look: &Look,
        query: &Query,
        order: Order,
        columns: Option<&[&str]>,
        read: impl Fn(Vec<RecordBatch>) -> T + Sync,
        fold: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let inside = |segment: &&Segment| {
            query.since_ms.is_none_or(|since| segment.max_ms >= since)
                && query.until_ms.is_none_or(|until| segment.min_ms < until)
        };
        let segments: Vec<&Segment> = look.segments.iter().filter(inside).collect();
        let conditions = query.conditions(self.stream);
        let one = |unit: &Unit| Ok(read(unit.rows(&conditions, columns)?));
        Ok(scan::run(segments, order, &conditions, one, fold)?)
    }

    fn tail(&self, look: &Look, query: &Query, mut take: impl FnMut(&RecordBatch)) -> Result<(), StoreError> {
        let conditions = query.conditions(self.stream);
        for (name, path) in self.sources()? {
            let mut position = look.positions.get(&name).cloned();
            while let Some(batch) = self.next(&name, &path, &mut position)? {
                if let Some(batch) = kept(&batch, &conditions)? {
                    take(&batch);
                }
            }
        }
        Ok(())
    }

    /// The next records of a log; `None` at its end.
    fn next(
        &self,
        name: &str,
        path: &Path,
        position: &mut Option<Position>,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let chunk = source::read(path, position.as_ref(), CHUNK).map_err(at(path))?;
        if position.as_ref() == Some(&chunk.position) {
            return Ok(None);
        }
        *position = Some(chunk.position);
        let mut builder = self.stream.builder();
        for line in lines(&chunk.bytes) {
            builder.push(name, line);
        }
        Ok(Some(builder.finish()?))
    }
}

/// One consistent look at a store.
struct Look {
    segments: Vec<Segment>,
    positions: Positions,
}

/// New records as they arrive.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    query: Query,
    positions: Positions,
}

impl Follow {
    /// What arrived since the last call, in the order of its time.
    pub fn new_rows(&mut self) -> Result<Vec<Row>, StoreError> {
        let conditions = self.query.conditions(self.reader.stream);
        let mut rows = Vec::new();
        for (name, path) in self.reader.sources()? {
            let mut position = self.positions.get(&name).cloned();
            let batch = self.reader.next(&name, &path, &mut position)?;
            self.positions.extend(position.map(|position| (name, position)));
            if let Some(batch) = batch
                && let Some(batch) = kept(&batch, &conditions)?
            {
                rows.extend(Row::all(&batch));
            }
        }
        rows.sort_by_key(|row| row.ts_ms);
        Ok(rows)
    }
}

fn kept(batch: &RecordBatch, conditions: &[Condition]) -> Result<Option<RecordBatch>, StoreError> {
    let holds = conditions
        .iter()
        .map(|condition| evaluate(condition, batch))
        .reduce(|left, right| &left & &right);
    let batch = match holds {
        None => batch.clone(),
        Some(holds) => arrow_select::filter::filter_record_batch(batch, &BooleanArray::new(holds, None))?,
    };
    Ok((batch.num_rows() > 0).then_some(batch))
}

fn newest(rows: &mut Vec<Row>, count: usize) {
    rows.sort_by_key(|row| row.ts_ms);
    rows.drain(..rows.len().saturating_sub(count));
}

fn by_minute(batch: &RecordBatch, minutes: &mut BTreeMap<i64, Minute>) {
    const MINUTE: i64 = 60_000;
    let Some(times) = batch
        .column_by_name("ts")
        .and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>())
    else {
        return;
    };
    let status = batch
        .column_by_name("status")
        .and_then(|column| column.as_primitive_opt::<UInt16Type>());
    let duration = batch
        .column_by_name("duration_us")
        .and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let errors = batch.column_by_name("level").map(|_| {
        let error = Condition::Is {
            column: "level",
            compare: crate::filter::Compare::Equal,
            value: crate::filter::Value::Text("error".to_owned()),
        };
        evaluate(&error, batch)
    });
    for row in 0..batch.num_rows() {
        let at = times.value(row).div_euclid(MINUTE) * MINUTE;
        let minute = minutes.entry(at).or_default();
        minute.records += 1;
        let failed = status.map_or_else(
            || errors.as_ref().is_some_and(|errors| errors.value(row)),
            |status| status.value(row) >= 500,
        );
        minute.errors += u64::from(failed);
        if let Some(duration) = duration {
            minute.latency.add(duration.value(row));
        }
    }
}

/// A segment that is merged or kept long enough meanwhile is gone when it is opened: one more look finds its successor.
fn retried<T>(mut read: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..4 {
        match read() {
            Err(StoreError::Segment(error)) if gone(&error) => {}
            other => return other,
        }
    }
    read()
}

fn gone(error: &SegmentError) -> bool {
    !error.path.exists()
}
