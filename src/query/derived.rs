//! The tables that stages write, as SQL shows them: series by name and labels rather than by number, sketches as
//! percentiles.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hashbrown::HashMap;

use super::anomalies::{AlarmPairs, Together};
use super::dimension::{Dimension, text_type};
use super::stream::{BlockingPartition, of_store, plan, projected};
use crate::catalog::Registry;
use crate::model::{SeriesId, Table};
use crate::stats::Sketch;
use crate::store::Snapshot;

/// Columns of lengths of time, nanoseconds as they are stored, that are shown as texts.
const LENGTHS: [&str; 4] = ["every", "length", "gap", "step"];
/// Columns of `correlations` that are counted when they are asked for, since alarms may come after it.
const TOGETHER: [(&str, Count); 3] =
    [("alarms_a", |of| of.a), ("alarms_b", |of| of.b), ("alarms_together", |of| of.both)];
type Count = fn(&Together) -> u64;
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// One derived table.
pub(super) struct DerivedTable {
    snapshot: Snapshot,
    dimension: Arc<Dimension>,
    table: Table,
    schema: SchemaRef,
}

impl fmt::Debug for DerivedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DerivedTable({})", self.table.name())
    }
}

impl DerivedTable {
    pub fn new(snapshot: Snapshot, dimension: Arc<Dimension>, table: Table) -> Self {
        let mut fields = fields(table, &dimension);
        if table == Table::Correlations {
            fields.extend(TOGETHER.map(|(name, _)| Field::new(name, DataType::UInt64, false)));
        }
        let schema = Arc::new(Schema::new(fields));
        DerivedTable { snapshot, dimension, table, schema }
    }
}

/// Rows as SQL shows them, from rows as they are stored.
///
/// # Errors
/// Rows that are not of the table.
pub fn shown(registry: &Arc<Registry>, table: Table, rows: &RecordBatch) -> Result<RecordBatch> {
    let dimension = Dimension::new(registry.clone(), registry.len());
    let fields = fields(table, &dimension);
    let columns = fields.iter().map(|field| column(rows, field, &dimension)).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn fields(table: Table, dimension: &Dimension) -> Vec<Field> {
    let stored = table.schema();
    let mut fields = Vec::new();
    for field in stored.fields() {
        match field.name().as_str() {
            "series" => {
                fields.push(Field::new("metric", text_type(), false));
                fields.push(Field::new("series", DataType::Utf8, false));
            }
            "series_a" => fields.extend(["metric_a", "series_a"].map(|name| Field::new(name, DataType::Utf8, false))),
            "series_b" => fields.extend(["metric_b", "series_b"].map(|name| Field::new(name, DataType::Utf8, false))),
            name if LENGTHS.contains(&name) => fields.push(Field::new(name, DataType::Utf8, false)),
            "sketch" => {
                fields.push(Field::new("avg", DataType::Float64, false));
                fields.extend(PERCENTILES.map(|(name, _)| Field::new(name, DataType::Float64, true)));
                fields.push(field.as_ref().clone());
            }
            _ => fields.push(field.as_ref().clone()),
        }
    }
    if stored.field_with_name("series").is_ok() {
        let taken: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        for label in dimension.label_fields(None) {
            let clashes = taken.contains(label.name());
            let name = if clashes { format!("label_{}", label.name()) } else { label.name().clone() };
            fields.push(label.with_name(name));
        }
    }
    fields
}

#[async_trait]
impl TableProvider for DerivedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = projected(&self.schema, projection)?;
        let (snapshot, dimension, table) = (self.snapshot.clone(), self.dimension.clone(), self.table);
        let made = schema.clone();
        let partition = BlockingPartition::boxed(schema.clone(), move |out| {
            let is_counted = made.fields().iter().any(|field| TOGETHER.iter().any(|(name, _)| name == field.name()));
            let alarms = is_counted.then(|| AlarmPairs::of(&snapshot)).transpose()?;
            for rows in snapshot.row_parts(table).map_err(of_store)? {
                let rows = without_empty(table, rows.map_err(of_store)?)?;
                let counted = alarms.as_ref().map(|alarms| together(alarms, &rows)).unwrap_or_default();
                let shown = |field: &Arc<Field>| match TOGETHER.iter().find(|(name, _)| name == field.name()) {
                    Some((_, count)) => {
                        Ok(Arc::new(UInt64Array::from_iter_values(counted.iter().map(count))) as ArrayRef)
                    }
                    None => column(&rows, field, &dimension),
                };
                let columns = made.fields().iter().map(shown).collect::<Result<Vec<_>>>()?;
                let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                if !out.take(RecordBatch::try_new_with_options(made.clone(), columns, &options)?) {
                    break;
                }
            }
            Ok(())
        });
        plan(schema, vec![partition], limit)
    }
}

/// Of each row of `correlations`, the alarms of the two series in its window.
fn together(alarms: &AlarmPairs, rows: &RecordBatch) -> Vec<Together> {
    let stored = |name: &str| rows.column_by_name(name).expect("columns are of the table's schema");
    let series = |name: &str| stored(name).as_primitive::<UInt32Type>().values();
    let time = |name: &str| stored(name).as_primitive::<TimestampNanosecondType>().values();
    let (a, b, from, to) = (series("series_a"), series("series_b"), time("time"), time("end"));
    (0..rows.num_rows()).map(|at| alarms.counts((a[at], b[at]), (from[at], to[at]))).collect()
}

/// The rows but those that say that there is nothing, or nothing any more, at their key.
fn without_empty(table: Table, rows: RecordBatch) -> Result<RecordBatch> {
    let Some(counts) = table.count_column().and_then(|name| rows.column_by_name(name)) else { return Ok(rows) };
    let counts = counts.as_primitive::<UInt64Type>().values();
    if !counts.contains(&0) {
        return Ok(rows);
    }
    let kept: Vec<bool> = counts.iter().map(|&count| count > 0).collect();
    Ok(filter_record_batch(&rows, &BooleanArray::from(kept))?)
}

/// A column as SQL shows it, from the rows as they are stored.
fn column(rows: &RecordBatch, field: &Field, dimension: &Dimension) -> Result<ArrayRef> {
    let stored = |name: &str| {
        rows.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("no stored column {name}")))
    };
    let series = |name: &str| -> Result<Vec<SeriesId>> {
        Ok(stored(name)?.as_primitive::<UInt32Type>().values().iter().map(|&id| SeriesId(id)).collect())
    };
    // A series is named once, however many rows it has.
    let names = |ids: Vec<SeriesId>, of: &dyn Fn(SeriesId) -> String| -> ArrayRef {
        let mut known: HashMap<SeriesId, String> = HashMap::new();
        for &id in &ids {
            known.entry(id).or_insert_with(|| of(id));
        }
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| &known[id])))
    };
    let text = |id: SeriesId| dimension.registry().def(id).to_string();
    let metric = |id: SeriesId| dimension.registry().metric(id);
    Ok(match field.name().as_str() {
        // The metric, or a label, which may have the name of a column of another table.
        name if *field.data_type() == text_type() => {
            let label = name.strip_prefix("label_").filter(|label| is_taken(rows, label));
            let text = dimension.text(label.unwrap_or(name), &series("series")?);
            text.array()?
        }
        "series" => names(series("series")?, &text),
        "series_a" | "series_b" => names(series(field.name())?, &text),
        "metric_a" => names(series("series_a")?, &metric),
        "metric_b" => names(series("series_b")?, &metric),
        name if LENGTHS.contains(&name) => {
            let nanos = stored(name)?.as_primitive::<Int64Type>();
            let told = |nanos: &i64| {
                let length = std::time::Duration::from_nanos(nanos.unsigned_abs());
                humantime::format_duration(length).to_string().replace(' ', "")
            };
            Arc::new(StringArray::from_iter_values(nanos.values().iter().map(told)))
        }
        "avg" => {
            let sums = stored("sum")?.as_primitive::<Float64Type>().values().iter();
            let counts = cast(stored("count")?, &DataType::Float64)?;
            let counts = counts.as_primitive::<Float64Type>().values().iter();
            Arc::new(Float64Array::from_iter_values(sums.zip(counts).map(|(sum, count)| sum / count)))
        }
        name if percentile(name).is_some() => {
            let share = percentile(name).unwrap_or(0.5);
            let sketches = stored("sketch")?.as_binary::<i32>();
            let quantile = |bytes: Option<&[u8]>| Sketch::decode(bytes?).ok()?.quantile(share);
            Arc::new(sketches.iter().map(quantile).collect::<Float64Array>())
        }
        name => stored(name)?.clone(),
    })
}

/// Whether a table shows a column of this name, so that a label must be shown under another one.
fn is_taken(rows: &RecordBatch, name: &str) -> bool {
    let of_sketch = || rows.column_by_name("sketch").is_some() && (name == "avg" || percentile(name).is_some());
    rows.column_by_name(name).is_some() || of_sketch()
}

fn percentile(name: &str) -> Option<f64> {
    PERCENTILES.iter().find(|(known, _)| *known == name).map(|(_, share)| *share)
}

#[cfg(test)]
mod tests {
    use arrow::json::ReaderBuilder;

    use super::super::testing::Bench;
    use super::*;
    use crate::model::Rows;

    const MINUTE: i64 = 60_000_000_000;

    /// Adds a row, made of so many samples, that begins so many minutes after noon.
    fn add(bench: &Bench, table: Table, minute: u32, count: u32) {
        let mut row = serde_json::json!({
            "series": 0, "series_a": 0, "series_b": 0, "length": 15 * MINUTE, "every": 5 * MINUTE, "gap": 90 * MINUTE,
            "time": format!("2026-01-31T12:{minute:02}:00Z"), "end": "2026-01-31T13:00:00Z", "peak": "2026-01-31T13:00:00Z",
            "count": count, "points": count, "sum": 6, "min": 1, "max": 3, "first": 1, "last": 3, "sketch": "00",
            "pipeline": "watch@0", "r": 1, "value": 2, "expected": 1, "score": 9, "error": 0, "samples": count, "method": "z", "kept": "door",
            "zone": "red", "before": "green", "cpu": 0.5, "memory": 0.25, "queue": 1, "cause": "queue",
        });
        let of_forecasts = serde_json::json!({
            "issued": "2026-01-31T11:00:00Z", "mean": 2, "lo": 1, "hi": 3, "level": 0.95, "model": "mstl", "job": "j",
            "step": 5 * MINUTE, "trained_from": "2026-01-30T11:00:00Z", "trained_to": "2026-01-31T11:00:00Z",
            "share_imputed": 0, "scale": 1,
        });
        row.as_object_mut().unwrap().extend(of_forecasts.as_object().unwrap().clone());
        let mut decoder = ReaderBuilder::new(table.schema()).build_decoder().unwrap();
        decoder.serialize(&[row]).unwrap();
        bench.store.add_rows(Rows { table, batch: decoder.flush().unwrap().unwrap() });
    }

    #[test]
    fn every_table_is_shown_with_its_lengths_as_texts_and_labels_of_any_name() {
        let bench = Bench::new();
        let labels = ["gap", "every", "avg", "p50", "series_a", "zone"].map(|name| (name, name));
        bench.put("m", &labels, &[(0, 1.0)]);
        Table::ALL.into_iter().for_each(|table| add(&bench, table, 0, 3));
        for table in Table::ALL {
            assert_eq!(bench.rows(&format!("SELECT * FROM {}", table.name())).len(), 1, "{}", table.name());
        }
        let shown = [
            ("length, every, count, avg, gap FROM sliding", "15m 5m 3 2 gap"),
            ("gap, time, \"end\", avg, label_gap, every FROM sessions", "1h30m 0 3600 2 gap every"),
            ("every, label_every, avg, label_avg, p50, label_p50 FROM rollups", "5m every 2 avg NULL p50"),
            ("time, zone, before, cpu, memory, queue, cause FROM zones", "0 red green 0.5 0.25 1 queue"),
            (
                "error, samples, kept, every, avg, p50, series_a, zone FROM compressed",
                "0 3 door every avg p50 series_a zone",
            ),
            ("count, avg FROM histograms", "3 2"),
            ("issued, time, lo, mean, hi, step, gap FROM forecasts", "-3600 0 1 2 3 5m gap"),
            (
                "alarms_a, alarms_b, alarms_together, label_a FROM (SELECT *, pipeline AS label_a FROM correlations, (SELECT pipeline FROM anomalies))",
                "1 1 1 watch@0",
            ),
        ];
        for (columns, wanted) in shown {
            assert_eq!(bench.rows(&format!("SELECT {columns}")), [wanted], "{columns}");
        }
    }

    #[test]
    fn rows_made_of_nothing_are_kept_and_not_shown() {
        let tables: Vec<Table> = Table::ALL.into_iter().filter(|table| table.count_column().is_some()).collect();
        let bench = Bench::new();
        bench.put("m", &[], &[(0, 1.0)]);
        let told = |wanted: &str| {
            for table in &tables {
                let found = bench.rows(&format!("SELECT count(*), max(time) FROM {}", table.name()));
                assert_eq!(found, [wanted], "{}", table.name());
            }
        };
        tables.iter().for_each(|&table| (0..4).for_each(|minute| add(&bench, table, minute, 1)));
        told("4 180");
        bench.store.flush().unwrap();
        tables.iter().for_each(|&table| add(&bench, table, 3, 0));
        told("3 120");
        for minute in 4..8 {
            bench.store.flush().unwrap();
            tables.iter().for_each(|&table| add(&bench, table, minute, 0));
        }
        bench.store.flush().unwrap();
        told("3 120");
        assert!(bench.store.compact().unwrap() > 0);
        told("3 120");
        for &table in &tables {
            assert_eq!(bench.store.snapshot().rows(table).unwrap().num_rows(), 8, "{}", table.name());
        }
    }
}
