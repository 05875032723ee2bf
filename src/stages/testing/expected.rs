//! Rows that a test expects, and how they are held against those that were found.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use serde::Deserialize;
use toml::Value;

use super::notation::read_series;
use crate::model::{SeriesId, Table, Timestamp};
use crate::stats::Sketch;
use crate::store::Store;

/// How far apart two numbers may be, as a share of the larger one.
const TOLERANCE: f64 = 1e-9;
/// Columns worked out of a sketch, and of which share of what it holds.
const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// Columns of a row that are looked at, and what they must say.
type Wanted = BTreeMap<String, Value>;

/// One `[[tests.expect]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectSpec {
    /// Whose rows.
    pub table: String,
    /// What the rows say in the columns that are named; others may say anything.
    #[serde(default)]
    pub rows: Vec<Wanted>,
    /// Only rows that say this are looked at.
    #[serde(default, rename = "where")]
    pub only: Wanted,
    /// How many rows there are; without it, as many as `rows`.
    pub count: Option<usize>,
    /// Whether there may be other rows.
    #[serde(default)]
    pub contains: bool,
}

/// A cell of a row that was found.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Number(f64),
    Time(i64),
    /// Nanoseconds.
    Length(i64),
    Text(String),
    Series(String),
}

impl ExpectSpec {
    /// What is wrong: the text to point at, and what to write.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let makes = |table: &Table| !table.is_logged();
        let Some(table) = Table::of_name(&self.table).filter(makes) else {
            let known: Vec<&str> = Table::ALL.iter().filter(|table| makes(table)).map(|table| table.name()).collect();
            let told = format!("pipelines make no table `{}`: write one of {}", self.table, known.join(", "));
            return vec![(self.table.clone(), told)];
        };
        let mut faults = Vec::new();
        if self.rows.is_empty() && self.count.is_none() {
            let told = "no rows are expected: write rows = [{ … }], or count = 0 where there are to be none";
            faults.push(("table".to_owned(), told.to_owned()));
        }
        for (name, value) in self.rows.iter().chain([&self.only]).flatten() {
            match like(table, name) {
                None => {
                    let known: Vec<String> = columns(table).collect();
                    faults.push((
                        name.clone(),
                        format!("{} has no column `{name}`: it has {}", self.table, known.join(", ")),
                    ));
                }
                Some(like) => {
                    faults.extend(read(value, &like, Timestamp::default()).err().map(|error| (name.clone(), error)));
                }
            }
        }
        faults
    }

    pub fn table(&self) -> Option<Table> {
        Table::of_name(&self.table)
    }

    /// What is not as expected, in lines; none where all is.
    pub(super) fn compare(&self, store: &Store, start: Timestamp, rows: &RecordBatch) -> Vec<String> {
        let agrees = |row: usize, wanted: &Wanted| {
            wanted.iter().all(|(name, value)| {
                let found = cell(store, rows, name, row);
                let wanted = found.as_ref().and_then(|found| read(value, found, start).ok());
                wanted.zip(found).is_some_and(|(wanted, found)| wanted.is_near(&found))
            })
        };
        let mut left: Vec<usize> = (0..rows.num_rows()).filter(|&row| agrees(row, &self.only)).collect();
        let found = left.len();
        let mut missing = Vec::new();
        for wanted in &self.rows {
            match left.iter().position(|&row| agrees(row, wanted)) {
                Some(at) => {
                    left.remove(at);
                }
                None => missing.push(wanted),
            }
        }
        let wanted = self.count.unwrap_or(self.rows.len());
        let is_counted = self.count.is_some() || !self.contains;
        if missing.is_empty() && (!is_counted || found == wanted) {
            return Vec::new();
        }
        let mut lines = vec![format!("{}: {found} rows, expected {wanted}", self.table)];
        if !is_counted {
            lines = vec![format!("{}: {found} rows, of which {} expected ones are none", self.table, missing.len())];
        }
        lines.extend(
            missing.iter().map(|wanted| {
                format!("- {}", told(wanted.iter().map(|(name, value)| (name.clone(), value.to_string()))))
            }),
        );
        lines.extend(left.iter().take(LINES_MAX).map(|&row| format!("+ {}", self.told(store, rows, row))));
        if left.len() > LINES_MAX {
            lines.push(format!("+ … {} more", left.len() - LINES_MAX));
        }
        lines
    }

    /// A row in the columns that are looked at, or in all.
    fn told(&self, store: &Store, rows: &RecordBatch, row: usize) -> String {
        let mut names: Vec<String> =
            self.rows.iter().chain([&self.only]).flat_map(|wanted| wanted.keys().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names = rows
                .schema()
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .filter(|name| name != "sketch")
                .collect();
        }
        told(names.into_iter().filter_map(|name| {
            let found = cell(store, rows, &name, row)?.to_string();
            Some((name, found))
        }))
    }
}

/// Rows told of one expectation.
const LINES_MAX: usize = 20;

fn told(cells: impl Iterator<Item = (String, String)>) -> String {
    let cells: Vec<String> = cells.map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{{ {} }}", cells.join(", "))
}

/// The columns of a table that can be looked at.
fn columns(table: Table) -> impl Iterator<Item = String> {
    let schema = table.schema();
    let of_sketch = schema.field_with_name("sketch").is_ok();
    let stored: Vec<String> =
        schema.fields().iter().map(|field| field.name().clone()).filter(|name| name != "sketch").collect();
    let worked_out = std::iter::once("avg").chain(SHARES.map(|(name, _)| name)).filter(move |_| of_sketch);
    stored.into_iter().chain(worked_out.map(str::to_owned))
}

/// What a column holds, as an example.
fn like(table: Table, name: &str) -> Option<Cell> {
    if !columns(table).any(|column| column == name) {
        return None;
    }
    Some(match table.schema().field_with_name(name).map(|field| field.data_type().clone()) {
        Ok(DataType::Timestamp(..)) => Cell::Time(0),
        Ok(DataType::Int64) => Cell::Length(0),
        Ok(DataType::UInt32) => Cell::Series(String::new()),
        Ok(DataType::Utf8) => Cell::Text(String::new()),
        _ => Cell::Number(0.0),
    })
}

fn cell(store: &Store, rows: &RecordBatch, name: &str, row: usize) -> Option<Cell> {
    let Some(column) = rows.column_by_name(name) else { return worked_out(rows, name, row) };
    Some(match column.data_type() {
        DataType::Timestamp(..) => Cell::Time(column.as_primitive::<TimestampNanosecondType>().value(row)),
        DataType::Int64 => Cell::Length(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => {
            Cell::Series(store.registry().def(SeriesId(column.as_primitive::<UInt32Type>().value(row))).to_string())
        }
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(row).to_owned()),
        DataType::UInt64 => Cell::Number(column.as_primitive::<UInt64Type>().value(row) as f64),
        DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
        _ => return None,
    })
}

fn worked_out(rows: &RecordBatch, name: &str, row: usize) -> Option<Cell> {
    let column = |name: &str| rows.column_by_name(name);
    if name == "avg" {
        let sum = column("sum")?.as_primitive_opt::<Float64Type>()?.value(row);
        return Some(Cell::Number(sum / column("count")?.as_primitive_opt::<UInt64Type>()?.value(row) as f64));
    }
    let share = SHARES.iter().find(|(known, _)| *known == name)?.1;
    let sketch = Sketch::decode(column("sketch")?.as_binary_opt::<i32>()?.value(row)).ok()?;
    sketch.quantile(share).map(Cell::Number)
}

/// What is expected of a cell like the one given.
fn read(value: &Value, like: &Cell, start: Timestamp) -> Result<Cell, String> {
    let wrong = |what: &str| format!("{value} is {what}");
    Ok(match (like, value) {
        (Cell::Number(_), Value::Integer(number)) => Cell::Number(*number as f64),
        (Cell::Number(_), Value::Float(number)) => Cell::Number(*number),
        (Cell::Number(_), _) => return Err(wrong("no number: write it as in 1.5")),
        (Cell::Time(_), Value::Datetime(time)) => {
            Cell::Time(read_time(&time.to_string(), start).map_err(|_| wrong("no time"))?)
        }
        (Cell::Time(_), Value::String(text)) => Cell::Time(read_time(text, start)?),
        (Cell::Time(_), _) => return Err(wrong("no time: write it as in \"2026-01-31T12:00:00Z\" or \"+1h\"")),
        (Cell::Length(_), Value::String(text)) => {
            let length =
                humantime::parse_duration(text).map_err(|_| wrong("no length of time: write it as in \"1h\""))?;
            Cell::Length(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))
        }
        (Cell::Length(_), _) => return Err(wrong("no length of time: write it as in \"1h\"")),
        (Cell::Series(_), Value::String(text)) => Cell::Series(read_series(text)?.to_string()),
        (Cell::Series(_), _) => return Err(wrong("no series: write it as in 'cpu{host=\"a\"}'")),
        (Cell::Text(_), Value::String(text)) => Cell::Text(text.clone()),
        (Cell::Text(_), _) => return Err(wrong("no text: write it in quotes")),
    })
}

/// A time, or how long it is after the test's start.
fn read_time(text: &str, start: Timestamp) -> Result<i64, String> {
    let Some(after) = text.strip_prefix('+') else {
        return Timestamp::parse(text).map(Timestamp::nanos).map_err(|error| error.to_string());
    };
    let after = if after == "0" { Ok(std::time::Duration::ZERO) } else { humantime::parse_duration(after) };
    let after = after.map_err(|_| format!("`{text}` is no time after the start: write it as in \"+1h\""))?;
    Ok(start.plus(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)).nanos())
}

impl Cell {
    fn is_near(&self, other: &Cell) -> bool {
        match (self, other) {
            (Cell::Number(a), Cell::Number(b)) => {
                a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
            }
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cell::Number(number) => write!(f, "{number}"),
            Cell::Time(nanos) => write!(f, "\"{}\"", Timestamp::from_nanos(*nanos)),
            Cell::Length(nanos) => {
                let length = std::time::Duration::from_nanos(nanos.unsigned_abs());
                write!(f, "\"{}\"", humantime::format_duration(length).to_string().replace(' ', ""))
            }
            Cell::Text(text) => write!(f, "{text:?}"),
            Cell::Series(text) => write!(f, "'{text}'"),
        }
    }
}
