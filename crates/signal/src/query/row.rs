//! A record as a person or a program reads it.

use crate::stream::uuid_text;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMillisecondType, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use serde_json::{Map, Value};

/// One record. Fields that it does not have are not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// When it began.
    pub ts_ms: i64,
    /// Its fields in their order, `ts` first, as the log's own lines have them.
    pub fields: Map<String, Value>,
}

impl Row {
    /// Text of a field.
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Number of a field.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name).and_then(Value::as_u64)
    }

    pub(crate) fn all(batch: &RecordBatch) -> Vec<Self> {
        let schema = batch.schema();
        let mut rows: Vec<Self> = (0..batch.num_rows())
            .map(|_| Self {
                ts_ms: 0,
                fields: Map::new(),
            })
            .collect();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            for (index, row) in rows.iter_mut().enumerate() {
                if let Some(value) = value(column, index) {
                    row.fields.insert(field.name().clone(), value);
                }
                if let DataType::Timestamp(..) = column.data_type() {
                    row.ts_ms = column.as_primitive::<TimestampMillisecondType>().value(index);
                }
            }
        }
        rows
    }
}

fn value(column: &ArrayRef, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Timestamp(..) => {
            let ms = column.as_primitive::<TimestampMillisecondType>().value(row);
            let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            Value::from(format!("{time:.3}"))
        }
        DataType::UInt16 => Value::from(column.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt64 => Value::from(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Boolean => Value::from(column.as_boolean().value(row)),
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => Value::from(uuid_text(column.as_fixed_size_binary().value(row))),
        DataType::Dictionary(..) => {
            let words = column.as_dictionary_opt::<Int32Type>()?;
            let texts = words.values().as_string_opt::<i32>()?;
            Value::from(texts.value(words.key(row)?))
        }
        _ => return None,
    })
}
