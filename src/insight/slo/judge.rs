//! Asks about objectives, of whatever answers SQL, and tells what they came to: now, at a moment, or over a stretch of time.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;

use super::check::Slo;
use super::counts::Count;
use super::history::History;
use super::known::{Known, columns_sql, known};
use super::table::{SloRow, by_group};
use crate::model::{Span, Timestamp};

/// Answers a statement, or says why not.
pub type AskSql<'a> = dyn FnMut(&str) -> Result<Vec<RecordBatch>, String> + 'a;

/// What objectives came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// In the order of the objectives, their groups, and time.
    pub rows: Vec<SloRow>,
    /// What is to be known beside them: metrics that are not there, bounds that differ.
    pub notes: Vec<String>,
    /// Objectives that could not be asked about, and why.
    pub failed: Vec<String>,
}

/// At which moments objectives are looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moments {
    At(Timestamp),
    /// Every so many nanoseconds of a span, its end among them.
    Over(Span, i64),
}

impl Moments {
    /// The span whose rows tell them, of an objective.
    fn span(self, slo: &Slo) -> Span {
        let (from, to) = match self {
            Moments::At(at) => (at, at),
            Moments::Over(span, _) => (span.start, span.end),
        };
        Span::new(from.plus(-slo.window).floor(slo.every), to)
    }
}

/// What each of `slos` came to.
pub fn judge(slos: &[Slo], moments: Moments, ask: &mut AskSql<'_>) -> Judged {
    let mut judged = Judged::default();
    let metrics = slos.iter().flat_map(Slo::metrics);
    let known = match ask(&columns_sql(metrics)).and_then(|rows| columns(&rows).map_err(|error| error.to_string())) {
        Ok(columns) => known(columns),
        Err(error) => {
            judged.failed.push(error);
            return judged;
        }
    };
    for slo in slos {
        if let Err(error) = judged.add(slo, moments, known.clone(), ask) {
            judged.failed.push(format!("slo `{}`: {error}", slo.name));
        }
    }
    judged
}

impl Judged {
    fn add(&mut self, slo: &Slo, moments: Moments, mut known: Known, ask: &mut AskSql<'_>) -> Result<(), String> {
        if let Some(shape) = slo.metrics().first().and_then(|metric| known.get_mut(*metric))
            && let Some(statement) = slo.bounds_sql()
        {
            shape.bounds = bounds(&ask(&statement)?).map_err(|error| error.to_string())?;
        }
        let statement = match slo.sql(moments.span(slo), &known) {
            Ok(statement) => statement,
            Err(missing) => {
                self.notes.push(format!("slo `{}`: {missing}", slo.name));
                return Ok(());
            }
        };
        self.notes.extend(statement.notes.iter().map(|note| format!("slo `{}`: {note}", slo.name)));
        let groups = counts(slo, &ask(&statement.text)?).map_err(|error| error.to_string())?;
        for (group, counts) in groups {
            let history = History::new(slo, counts);
            let row = |status| SloRow::new(slo, &group, &status);
            match moments {
                Moments::At(at) => self.rows.push(row(history.at(at))),
                Moments::Over(span, every) => self.rows.extend(history.over(span, every).map(row)),
            }
        }
        Ok(())
    }
}

fn columns(batches: &[RecordBatch]) -> Result<Vec<(String, String)>, ArrowError> {
    let mut columns = Vec::new();
    for batch in batches {
        let texts = [0, 1].map(|at| cast(batch.column(at), &DataType::Utf8));
        let [tables, names] = texts;
        let (tables, names) = (tables?, names?);
        let (tables, names) = (tables.as_string::<i32>(), names.as_string::<i32>());
        columns.extend((0..batch.num_rows()).map(|row| (tables.value(row).to_owned(), names.value(row).to_owned())));
    }
    Ok(columns)
}

fn bounds(batches: &[RecordBatch]) -> Result<Vec<f64>, ArrowError> {
    let mut bounds = Vec::new();
    for batch in batches {
        bounds.extend(cast(batch.column(0), &DataType::Float64)?.as_primitive::<Float64Type>().iter().flatten());
    }
    Ok(bounds)
}

type Groups = BTreeMap<Vec<Option<String>>, Vec<Count>>;

/// Time, the labels that are grouped by, good and total.
fn counts(slo: &Slo, batches: &[RecordBatch]) -> Result<Groups, ArrowError> {
    let labels = slo.group_by.len();
    let mut rows = Vec::new();
    for batch in batches {
        if batch.num_columns() != labels + 3 {
            let told =
                format!("{} columns: `time`, those of group_by, `good` and `total` are wanted", batch.num_columns());
            return Err(ArrowError::SchemaError(told));
        }
        let time = cast(batch.column(0), &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
        let times = time.as_primitive::<TimestampNanosecondType>();
        let texts = (1..=labels).map(|at| cast(batch.column(at), &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
        let numbers = [labels + 1, labels + 2].map(|at| cast(batch.column(at), &DataType::Float64));
        let [good, total] = numbers;
        let (good, total) = (good?, total?);
        let (good, total) = (good.as_primitive::<Float64Type>(), total.as_primitive::<Float64Type>());
        let text = |column: &dyn Array, row: usize| {
            let column = column.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        rows.extend((0..batch.num_rows()).filter(|&row| times.is_valid(row)).map(|row| {
            let number =
                |column: &arrow::array::Float64Array| if column.is_valid(row) { column.value(row) } else { 0.0 };
            let time = Timestamp::from_nanos(times.value(row));
            let group = texts.iter().map(|column| text(column, row)).collect();
            (group, Count { time, good: number(good), total: number(total) })
        }));
    }
    Ok(by_group(rows))
}
