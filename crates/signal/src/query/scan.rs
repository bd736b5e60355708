//! Row groups, several at once, in order.

use crate::filter::{Compare, Condition, Value, evaluate};
use crate::segment::{Segment, SegmentError, failed};
use arrow_array::{BooleanArray, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::file::statistics::Statistics;
use parquet::schema::types::SchemaDescriptor;
use std::fs::File;
use std::ops::ControlFlow;

const SCAN_ROWS: usize = 16_384;
/// Threads of one query: it shares the machine with requests.
const MAX_THREADS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// One row group of one segment.
pub(super) struct Unit {
    file: File,
    metadata: ArrowReaderMetadata,
    group: usize,
    path: std::path::PathBuf,
}

/// Reads the row groups that may match, `one` of them on each thread, and hands what it made of them to `fold` in order,
/// until that has enough.
pub(super) fn run<T: Send>(
    mut segments: Vec<&Segment>,
    order: Order,
    conditions: &[Condition],
    one: impl Fn(&Unit) -> Result<T, SegmentError> + Sync,
    mut fold: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), SegmentError> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let threads = threads.clamp(1, MAX_THREADS);
    if order == Order::NewestFirst {
        segments.reverse();
    }
    let mut waiting = segments.into_iter().map(|segment| units(segment, order));
    let mut ready: Vec<Unit> = Vec::new();
    loop {
        while ready.len() < threads {
            match waiting.next() {
                Some(units) => ready.extend(units?),
                None => break,
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        let rest = ready.split_off(ready.len().min(threads));
        let wave = std::mem::replace(&mut ready, rest);
        let made: Vec<Result<Option<T>, SegmentError>> = std::thread::scope(|scope| {
            let one = &one;
            let running: Vec<_> = wave
                .iter()
                .map(|unit| {
                    scope.spawn(move || {
                        if unit.may_match(conditions) {
                            one(unit).map(Some)
                        } else {
                            Ok(None)
                        }
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        for made in made {
            if let Some(made) = made?
                && fold(made).is_break()
            {
                return Ok(());
            }
        }
    }
}

fn units(segment: &Segment, order: Order) -> Result<Vec<Unit>, SegmentError> {
    let (file, metadata) = segment.open()?;
    let mut units = Vec::new();
    for group in 0..metadata.metadata().num_row_groups() {
        let file = file
            .try_clone()
            .map_err(|error| failed("read", &segment.path)(error.into()))?;
        units.push(Unit {
            file,
            metadata: metadata.clone(),
            group,
            path: segment.path.clone(),
        });
    }
    if order == Order::NewestFirst {
        units.reverse();
    }
    Ok(units)
}

impl Unit {
    /// The rows for which all conditions hold, with these columns or all.
    pub(super) fn rows(
        &self,
        conditions: &[Condition],
        columns: Option<&[&str]>,
    ) -> Result<Vec<RecordBatch>, SegmentError> {
        let failed = failed("read", &self.path);
        let file = self.file.try_clone().map_err(|error| failed(error.into()))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let schema = builder.parquet_schema();
        let predicates: Vec<Box<dyn ArrowPredicate>> = conditions
            .iter()
            .map(|condition| {
                let names: Vec<&str> = condition.columns().into_iter().collect();
                let condition = condition.clone();
                let predicate = ArrowPredicateFn::new(mask(schema, &names), move |batch: RecordBatch| {
                    Ok(BooleanArray::new(evaluate(&condition, &batch), None))
                });
                Box::new(predicate) as Box<dyn ArrowPredicate>
            })
            .collect();
        let shown = columns.map_or_else(ProjectionMask::all, |columns| mask(schema, columns));
        let reader = builder
            .with_row_groups(vec![self.group])
            .with_batch_size(SCAN_ROWS)
            .with_projection(shown)
            .with_row_filter(RowFilter::new(predicates))
            .build()
            .map_err(&failed)?;
        reader
            .map(|batch| batch.map_err(|error| failed(error.into())))
            .collect()
    }

    /// By what the footer says of the row group.
    fn may_match(&self, conditions: &[Condition]) -> bool {
        conditions.iter().all(|condition| {
            let Condition::Is {
                column,
                compare,
                value,
            } = condition
            else {
                return true;
            };
            let schema = self.metadata.parquet_schema();
            let Some(index) = leaf(schema, column) else {
                return true;
            };
            match value {
                Value::Number(value) => {
                    let statistics = self
                        .metadata
                        .metadata()
                        .row_group(self.group)
                        .column(index)
                        .statistics();
                    statistics.and_then(range).is_none_or(|(min, max)| match compare {
                        Compare::Equal => min <= *value && *value <= max,
                        Compare::Less => min < *value,
                        Compare::LessOrEqual => min <= *value,
                        Compare::Greater => max > *value,
                        Compare::GreaterOrEqual => max >= *value,
                        Compare::Unequal | Compare::Contains | Compare::Lacks => true,
                    })
                }
                Value::Id(id) if *compare == Compare::Equal => {
                    let Ok(file) = self.file.try_clone() else {
                        return true;
                    };
                    let builder =
                        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
                    match builder.get_row_group_column_bloom_filter(self.group, index) {
                        Ok(Some(bloom)) => bloom.check(&id[..]),
                        _ => true,
                    }
                }
                _ => true,
            }
        })
    }
}

fn mask(schema: &SchemaDescriptor, columns: &[&str]) -> ProjectionMask {
    ProjectionMask::leaves(schema, columns.iter().filter_map(|name| leaf(schema, name)))
}

fn leaf(schema: &SchemaDescriptor, name: &str) -> Option<usize> {
    schema.columns().iter().position(|column| column.name() == name)
}

/// Smallest and largest value, where they are numbers that keep their order.
fn range(statistics: &Statistics) -> Option<(i64, i64)> {
    match statistics {
        Statistics::Int32(found) => {
            let (min, max) = (i64::from(*found.min_opt()?), i64::from(*found.max_opt()?));
            (min >= 0).then_some((min, max))
        }
        Statistics::Int64(found) => {
            let (min, max) = (*found.min_opt()?, *found.max_opt()?);
            (min >= 0 && max >= 0).then_some((min, max))
        }
        _ => None,
    }
}
