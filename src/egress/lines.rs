//! Samples and rows as lines: what files, stdout and webhooks are told.
//!
//! ```text
//! {"metric":"cpu","labels":{"host":"a"},"time":"2026-01-31T12:00:00Z","value":0.5}
//! {"table":"anomalies","series":"cpu{host=\"a\"}","time":"2026-01-31T12:00:00Z","score":4.1,…}
//! ```
//! The first is what `import` reads. Numbers of series are told as their texts; sketches are left out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt32Type, UInt64Type};
use serde_json::{Map, Value, json};

use crate::flow::{LineFormat, Names, Parcel};
use crate::model::{Batch, Rows, SeriesDef, SeriesId, Timestamp};

/// Series whose names are kept; with more all are asked for anew.
const KEPT: usize = 100_000;

/// What series are called, each asked for once.
pub(super) struct Known {
    names: Names,
    by_id: HashMap<SeriesId, Arc<SeriesDef>>,
}

impl Known {
    pub fn new(names: Names) -> Self {
        Known { names, by_id: HashMap::new() }
    }

    pub fn def(&mut self, id: SeriesId) -> Arc<SeriesDef> {
        if self.by_id.len() >= KEPT {
            self.by_id.clear();
        }
        self.by_id.entry(id).or_insert_with(|| Arc::new((self.names)(id))).clone()
    }
}

/// Appends a line for each sample or row.
pub(super) fn write_lines(parcel: &Parcel, format: LineFormat, known: &mut Known, out: &mut Vec<u8>) {
    let mut line = |value: &Value| {
        out.extend_from_slice(value.to_string().as_bytes());
        out.push(b'\n');
    };
    match (parcel, format) {
        (Parcel::Samples(batch), LineFormat::Ndjson) => {
            batch.iter().for_each(|(id, sample)| line(&sample_object(&known.def(id), sample.time, sample.value)));
        }
        (Parcel::Samples(batch), LineFormat::Csv) => write_csv(batch, known, out),
        (Parcel::Rows(rows), LineFormat::Ndjson) => objects(rows, known).iter().for_each(&mut line),
        // A file of one set of columns takes none.
        (Parcel::Rows(_), LineFormat::Csv) => {}
    }
}

/// The first line of a file.
pub(super) fn header(format: LineFormat) -> &'static [u8] {
    match format {
        LineFormat::Ndjson => b"",
        LineFormat::Csv => b"series,time,value\n",
    }
}

fn write_csv(batch: &Batch, known: &mut Known, out: &mut Vec<u8>) {
    for (id, sample) in batch.iter() {
        let series = known.def(id).to_string().replace('"', "\"\"");
        out.extend_from_slice(format!("\"{series}\",{},{}\n", sample.time, sample.value).as_bytes());
    }
}

fn sample_object(def: &SeriesDef, time: Timestamp, value: f64) -> Value {
    let labels: Map<String, Value> =
        def.labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    json!({ "metric": &*def.metric, "labels": labels, "time": time.to_string(), "value": value })
}

/// Rows as objects: the table, and its columns by their names.
pub(super) fn objects(rows: &Rows, known: &mut Known) -> Vec<Value> {
    (0..rows.batch.num_rows())
        .map(|row| {
            let mut object = Map::from_iter([("table".to_owned(), Value::from(rows.table.name()))]);
            for (place, field) in rows.batch.schema().fields().iter().enumerate() {
                if let Some(value) = cell(&rows.batch, place, row, known) {
                    object.insert(field.name().clone(), value);
                }
            }
            Value::Object(object)
        })
        .collect()
}

/// `None` for what is for the program alone.
fn cell(batch: &RecordBatch, place: usize, row: usize, known: &mut Known) -> Option<Value> {
    let column = batch.column(place);
    if column.is_null(row) {
        return Some(Value::Null);
    }
    Some(match column.data_type() {
        // The only numbers of 32 bits are those of series.
        DataType::UInt32 => {
            Value::from(known.def(SeriesId(column.as_primitive::<UInt32Type>().value(row))).to_string())
        }
        DataType::UInt64 => Value::from(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Int64 => Value::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::from(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = column.as_primitive::<TimestampNanosecondType>().value(row);
            Value::from(Timestamp::from_nanos(nanos).to_string())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ends, Labels};

    fn known() -> Known {
        Known::new(Arc::new(|id: SeriesId| SeriesDef::new(format!("m{}", id.0), Labels::new([("host", "a\"b")]))))
    }

    #[test]
    fn samples_are_lines_of_objects_or_of_columns() {
        let mut batch = Batch::default();
        batch.push(SeriesId(7), Timestamp::from_nanos(1_500_000_000), 0.25);
        let parcel = Parcel::Samples(Arc::new(batch));
        let lines = |format| {
            let mut out = Vec::new();
            write_lines(&parcel, format, &mut known(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let ndjson =
            "{\"labels\":{\"host\":\"a\\\"b\"},\"metric\":\"m7\",\"time\":\"1970-01-01T00:00:01.5Z\",\"value\":0.25}\n";
        assert_eq!(lines(LineFormat::Ndjson), ndjson);
        assert_eq!(lines(LineFormat::Csv), "\"m7{host=\"\"a\\\"\"b\"\"}\",1970-01-01T00:00:01.5Z,0.25\n");
    }

    #[test]
    fn rows_name_their_table_and_series() {
        let mut ends = Ends::default();
        ends.push(SeriesId(1), Timestamp::from_nanos(0));
        let objects = objects(&ends.take().unwrap(), &mut known());
        let told = json!({ "table": "staleness", "series": "m1{host=\"a\\\"b\"}", "time": "1970-01-01T00:00:00Z" });
        assert_eq!(objects, [told]);
    }
}
