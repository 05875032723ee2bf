//! The tables that stages write, as SQL shows them: series by name and labels rather than by number, sketches as
//! percentiles.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hashbrown::HashMap;

use super::dimension::{Dimension, text_type};
use super::stream::{BlockingPartition, plan};
use crate::model::{SeriesId, Table};
use crate::stats::Sketch;
use crate::store::Snapshot;

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
        let schema = Arc::new(Schema::new(fields(table, &dimension)));
        DerivedTable { snapshot, dimension, table, schema }
    }
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
            "every" => fields.push(Field::new("every", DataType::Utf8, false)),
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
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let (snapshot, dimension, table) = (self.snapshot.clone(), self.dimension.clone(), self.table);
        let made = schema.clone();
        let partition = BlockingPartition::boxed(schema.clone(), move |out| {
            let rows = snapshot.rows(table).map_err(|error| DataFusionError::External(Box::new(error)))?;
            let columns = made.fields().iter().map(|field| column(&rows, field, &dimension));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            out(RecordBatch::try_new_with_options(made.clone(), columns, &options)?);
            Ok(())
        });
        plan(schema, vec![partition], limit)
    }
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
        "series" => names(series("series")?, &text),
        "series_a" | "series_b" => names(series(field.name())?, &text),
        "metric_a" => names(series("series_a")?, &metric),
        "metric_b" => names(series("series_b")?, &metric),
        "every" => {
            let nanos = stored("every")?.as_primitive::<Int64Type>();
            let told = |nanos: &i64| {
                let length = std::time::Duration::from_nanos(nanos.unsigned_abs());
                humantime::format_duration(length).to_string().replace(' ', "")
            };
            Arc::new(StringArray::from_iter_values(nanos.values().iter().map(told)))
        }
        "avg" => {
            let sums = stored("sum")?.as_primitive::<Float64Type>().values().iter();
            let counts = stored("count")?.as_primitive::<UInt64Type>().values().iter();
            Arc::new(Float64Array::from_iter_values(sums.zip(counts).map(|(sum, &count)| sum / count as f64)))
        }
        name if percentile(name).is_some() && rows.column_by_name("sketch").is_some() => {
            let share = percentile(name).unwrap_or(0.5);
            let sketches = stored("sketch")?.as_binary::<i32>();
            let quantile = |bytes: Option<&[u8]>| Sketch::decode(bytes?).ok()?.quantile(share);
            Arc::new(sketches.iter().map(quantile).collect::<Float64Array>())
        }
        name => match rows.column_by_name(name) {
            Some(column) => column.clone(),
            None => {
                let label = name.strip_prefix("label_").filter(|label| rows.column_by_name(label).is_some());
                let text = dimension.text(label.unwrap_or(name), &series("series")?);
                Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(text.keys), text.values)?)
            }
        },
    })
}

fn percentile(name: &str) -> Option<f64> {
    PERCENTILES.iter().find(|(known, _)| *known == name).map(|(_, share)| *share)
}
