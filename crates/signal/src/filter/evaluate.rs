//! Conditions on columns. A field that a record does not have is equal to nothing and holds no text.

use super::{Compare, Condition, Value};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMillisecondType, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use memchr::memmem::Finder;

/// For each row, whether the condition holds. A column that is not there holds nothing.
pub(crate) fn evaluate(condition: &Condition, batch: &RecordBatch) -> BooleanBuffer {
    let rows = batch.num_rows();
    match condition {
        Condition::And(sides) => sides
            .iter()
            .map(|side| evaluate(side, batch))
            .reduce(|left, right| &left & &right)
            .unwrap_or_else(|| BooleanBuffer::new_set(rows)),
        Condition::Or(sides) => sides
            .iter()
            .map(|side| evaluate(side, batch))
            .reduce(|left, right| &left | &right)
            .unwrap_or_else(|| BooleanBuffer::new_unset(rows)),
        Condition::Not(side) => !&evaluate(side, batch),
        Condition::Is {
            column,
            compare,
            value,
        } => match batch.column_by_name(column) {
            Some(column) => compared(column, *compare, value),
            // An older version wrote it without: as where a record does not have it.
            None if matches!(compare, Compare::Unequal | Compare::Lacks) => BooleanBuffer::new_set(rows),
            None => BooleanBuffer::new_unset(rows),
        },
        Condition::Grep(text, columns) => {
            let finder = Finder::new(text.as_bytes());
            columns
                .iter()
                .filter_map(|name| batch.column_by_name(name))
                .map(|column| with_text(column, &finder))
                .reduce(|left, right| &left | &right)
                .unwrap_or_else(|| BooleanBuffer::new_unset(rows))
        }
    }
}

fn compared(column: &ArrayRef, compare: Compare, value: &Value) -> BooleanBuffer {
    let rows = column.len();
    match (column.data_type(), value) {
        (DataType::UInt16, Value::Number(value)) => {
            let column = column.as_primitive::<UInt16Type>();
            valid(
                column,
                numbers(compare, *value, rows, |row| i64::from(column.value(row))),
            )
        }
        (DataType::UInt64, Value::Number(value)) => {
            let column = column.as_primitive::<UInt64Type>();
            let at = |row| i64::try_from(column.value(row)).unwrap_or(i64::MAX);
            valid(column, numbers(compare, *value, rows, at))
        }
        (DataType::Timestamp(..), Value::Number(value)) => {
            let column = column.as_primitive::<TimestampMillisecondType>();
            valid(column, numbers(compare, *value, rows, |row| column.value(row)))
        }
        (DataType::Boolean, Value::Bool(value)) => {
            let column = column.as_boolean();
            let same = BooleanBuffer::collect_bool(rows, |row| column.value(row) == *value);
            valid(column, negated(compare, same))
        }
        (DataType::FixedSizeBinary(_), Value::Id(id)) => {
            let column = column.as_fixed_size_binary();
            let same = BooleanBuffer::collect_bool(rows, |row| column.value(row) == id);
            let same = valid(column, same);
            negated(compare, same)
        }
        (_, Value::Text(text)) => {
            let found = match compare {
                Compare::Contains | Compare::Lacks => with_text(column, &Finder::new(text.as_bytes())),
                _ => by_text(column, |texts| {
                    let same = BooleanBuffer::collect_bool(texts.len(), |row| texts.value(row) == text);
                    valid(texts, same)
                }),
            };
            negated(compare, found)
        }
        _ => BooleanBuffer::new_unset(rows),
    }
}

fn negated(compare: Compare, found: BooleanBuffer) -> BooleanBuffer {
    match compare {
        Compare::Unequal | Compare::Lacks => !&found,
        _ => found,
    }
}

fn numbers(compare: Compare, value: i64, rows: usize, at: impl Fn(usize) -> i64) -> BooleanBuffer {
    match compare {
        Compare::Equal => BooleanBuffer::collect_bool(rows, |row| at(row) == value),
        Compare::Unequal => BooleanBuffer::collect_bool(rows, |row| at(row) != value),
        Compare::Less => BooleanBuffer::collect_bool(rows, |row| at(row) < value),
        Compare::LessOrEqual => BooleanBuffer::collect_bool(rows, |row| at(row) <= value),
        Compare::Greater => BooleanBuffer::collect_bool(rows, |row| at(row) > value),
        Compare::GreaterOrEqual => BooleanBuffer::collect_bool(rows, |row| at(row) >= value),
        Compare::Contains | Compare::Lacks => BooleanBuffer::new_unset(rows),
    }
}

fn valid(column: &dyn Array, found: BooleanBuffer) -> BooleanBuffer {
    match column.nulls() {
        Some(nulls) => &found & nulls.inner(),
        None => found,
    }
}

/// Applies `find` to the texts themselves, or to the few different ones that the rows refer to.
fn by_text(column: &ArrayRef, find: impl Fn(&StringArray) -> BooleanBuffer) -> BooleanBuffer {
    if let Some(texts) = column.as_string_opt::<i32>() {
        return find(texts);
    }
    let Some(words) = column.as_dictionary_opt::<Int32Type>() else {
        return BooleanBuffer::new_unset(column.len());
    };
    let Some(texts) = words.values().as_string_opt::<i32>() else {
        return BooleanBuffer::new_unset(column.len());
    };
    let found = find(texts);
    if found.count_set_bits() == 0 {
        return BooleanBuffer::new_unset(column.len());
    }
    let keys = words.keys();
    let rows = BooleanBuffer::collect_bool(column.len(), |row| {
        usize::try_from(keys.value(row)).is_ok_and(|key| key < found.len() && found.value(key))
    });
    valid(keys, rows)
}

fn with_text(column: &ArrayRef, finder: &Finder<'_>) -> BooleanBuffer {
    by_text(column, |texts| valid(texts, rows_with(texts, finder)))
}

/// One search through the bytes of all rows, which lie one behind the other.
fn rows_with(texts: &StringArray, finder: &Finder<'_>) -> BooleanBuffer {
    let needle = finder.needle().len();
    if needle == 0 {
        return BooleanBuffer::new_set(texts.len());
    }
    let offsets = texts.value_offsets();
    let at = |index: usize| usize::try_from(offsets[index]).unwrap_or(0);
    let (begin, end) = (at(0), at(texts.len()));
    let bytes = &texts.value_data()[begin..end];
    let mut found = vec![false; texts.len()];
    let mut from = 0;
    let mut row = 0;
    while let Some(hit) = finder.find(&bytes[from..]) {
        let hit = begin + from + hit;
        // The row that the hit begins in.
        row += offsets[row + 1..].partition_point(|end| usize::try_from(*end).unwrap_or(0) <= hit);
        let row_end = at(row + 1);
        if hit + needle <= row_end {
            found[row] = true;
            from = row_end - begin;
        } else {
            from = hit + 1 - begin;
        }
    }
    BooleanBuffer::from(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn a_hit_across_two_rows_is_none() {
        let texts = StringArray::from(vec![Some("xab"), Some("cx"), None, Some("abc"), Some("")]);
        let found = rows_with(&texts, &Finder::new("abc"));
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            [false, false, false, true, false]
        );
    }

    proptest! {
        #[test]
        fn searching_all_rows_at_once_finds_what_searching_each_finds(
            rows in prop::collection::vec(prop::option::of("[ab]{0,6}"), 0..20),
            needle in "[ab]{1,3}",
            skip in 0_usize..5,
        ) {
            let skip = skip.min(rows.len());
            let texts = StringArray::from(rows.clone()).slice(skip, rows.len() - skip);
            let column: ArrayRef = Arc::new(texts);
            let found = with_text(&column, &Finder::new(&needle));
            let expected: Vec<bool> = rows[skip..]
                .iter()
                .map(|row| row.as_ref().is_some_and(|row| row.contains(&needle)))
                .collect();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        }
    }
}
