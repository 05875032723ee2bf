//! An engine over a store of its own, for tests of what SQL says.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampNanosecondType};

use super::Engine;
use crate::model::{Batch, Ends, Labels, SeriesDef, Timestamp};
use crate::query::{OtherTables, QueryLimits};
use crate::store::{Store, StoreSpec};
use crate::world::World;

pub(super) const S: i64 = 1_000_000_000;
/// 2026-01-31T12:00:00Z.
pub(super) const NOON: i64 = 1_769_860_800 * S;

/// A store with an engine over it; the folder goes when it is dropped.
pub(super) struct Bench {
    pub store: Arc<Store>,
    pub engine: Engine,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(World::real(), folder.path(), StoreSpec::default()).unwrap());
        let engine = Engine::new(store.clone(), OtherTables::default(), 64 << 20, QueryLimits::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Bench { store, engine, runtime, _folder: folder }
    }

    /// Samples of one series: seconds after noon, value.
    pub fn put(&self, metric: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        let id = self.store.registry().intern(SeriesDef::new(metric, Labels::new(labels.iter().copied())));
        let mut batch = Batch::default();
        for &(second, value) in samples {
            batch.push(id, Timestamp::from_nanos(NOON + second * S), value);
        }
        self.store.append(batch).unwrap();
    }

    /// Rows of a measurement: seconds after noon, a value a field.
    pub fn put_fields(&self, name: &str, fields: &[&str], labels: &[(&str, &str)], rows: &[(i64, &[f64])]) {
        let mut batch = Batch::default();
        for (at, field) in fields.iter().enumerate() {
            let mut def = SeriesDef::new(format!("{name}_{field}"), Labels::new(labels.iter().copied()));
            def.measurement_len = name.len() as _;
            let id = self.store.registry().intern(def);
            for (second, values) in rows {
                batch.push(id, Timestamp::from_nanos(NOON + second * S), values[at]);
            }
        }
        self.store.append(batch).unwrap();
    }

    /// Says that a series ended.
    pub fn end(&self, metric: &str, labels: &[(&str, &str)], second: i64) {
        let id = self.store.registry().intern(SeriesDef::new(metric, Labels::new(labels.iter().copied())));
        let mut ends = Ends::default();
        ends.push(id, Timestamp::from_nanos(NOON + second * S));
        let mut batch = Batch::default();
        batch.rows.extend(ends.take());
        self.store.append(batch).unwrap();
    }

    pub fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        self.runtime.block_on(self.engine.collect(sql)).map(|(_, rows)| rows).map_err(|error| error.to_string())
    }

    /// Rows as text, columns between blanks, times as seconds after noon.
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let batches = self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let row = |batch: &RecordBatch, row: usize| -> String {
            let cells: Vec<String> = batch.columns().iter().map(|column| cell(&**column, row)).collect();
            cells.join(" ")
        };
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>()).collect()
    }
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Timestamp(..) => {
            ((column.as_primitive::<TimestampNanosecondType>().value(row) - NOON) as f64 / 1e9).to_string()
        }
        _ => cast(column, &DataType::Utf8).unwrap().as_string::<i32>().value(row).to_owned(),
    }
}

/// The statements of a module's `sql` examples.
pub(super) fn examples(source: &str) -> Vec<String> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    let within = lines.skip_while(|line| *line != "```sql").skip(1).take_while(|line| *line != "```");
    let mut statements = vec![String::new()];
    for line in within {
        if line.starts_with("--") || statements.last().is_some_and(|text| text.ends_with(";\n")) {
            statements.push(String::new());
        }
        statements.last_mut().unwrap().push_str(&format!("{line}\n"));
    }
    statements.retain(|statement| statement.lines().any(|line| !line.starts_with("--")));
    statements
}
