//! Rows of an answer as samples: `value` must be there, `time` and `metric` may be, every other column is a label.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};

use crate::model::{Kind, Labels, SeriesDef};

/// What is missing of an answer without values.
pub(super) const NO_VALUE: &str = "the answer has no column `value`: name one so, as in avg(value) AS value";
/// Columns that are no labels.
const OWN: [&str; 3] = ["time", "metric", "value"];

/// A sample that a row says.
pub struct SaidSample {
    pub def: SeriesDef,
    /// Nanoseconds; `None` where the row has none.
    pub time: Option<i64>,
    pub value: f64,
}

/// How times are told.
pub(super) fn nanos() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// The samples of all rows that have a value; `metric` is what they are called where the row does not say.
///
/// # Errors
/// No column `value`, or one that cannot be what it has to be.
pub fn said_samples(answer: &RecordBatch, metric: &str) -> Result<Vec<SaidSample>, String> {
    let to = |name: &str, kind: &DataType| -> Result<Option<ArrayRef>, String> {
        let Some(column) = answer.column_by_name(name) else { return Ok(None) };
        cast(column, kind).map(Some).map_err(|error| format!("column `{name}`: {error}"))
    };
    let times = to("time", &nanos())?;
    let metrics = to("metric", &DataType::Utf8)?;
    let values = to("value", &DataType::Float64)?.ok_or(NO_VALUE)?;
    let schema = answer.schema();
    let labels = schema.fields().iter().map(|field| field.name().as_str()).filter(|name| !OWN.contains(name));
    let labels: Vec<(&str, ArrayRef)> = labels
        .filter_map(|name| to(name, &DataType::Utf8).map(|at| Some((name, at?))).transpose())
        .collect::<Result<_, _>>()?;
    let text = |column: &ArrayRef, row: usize| -> Option<Box<str>> {
        column.is_valid(row).then(|| column.as_string::<i32>().value(row).into())
    };
    let sample = |row: usize| {
        let time = times.as_ref().filter(|times| times.is_valid(row));
        let metric = metrics.as_ref().and_then(|column| text(column, row)).unwrap_or_else(|| metric.into());
        let of_row = labels.iter().filter_map(|(name, column)| Some((*name, text(column, row)?)));
        SaidSample {
            def: SeriesDef { kind: Kind::Gauge, ..SeriesDef::new(metric, Labels::new(of_row)) },
            time: time.map(|times| times.as_primitive::<TimestampNanosecondType>().value(row)),
            value: values.as_primitive::<Float64Type>().value(row),
        }
    };
    Ok((0..answer.num_rows()).filter(|&row| values.is_valid(row)).map(sample).collect())
}
