//! `system.series`: a row a series, made as they are asked for.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::dimension::Dimension;
use super::samples::time_type;
use super::stream::{BlockingPartition, plan, projected};
use crate::model::{SeriesDef, SeriesId, Timestamp};
use crate::store::Snapshot;

/// Series of a batch.
const BATCH_ROWS: usize = 4096;

/// All series of a snapshot. Predicates on `metric` are answered from the lists of series of each metric; a column that
/// is not asked for is not made.
pub(super) struct SeriesTable {
    snapshot: Snapshot,
    dimension: Dimension,
    schema: SchemaRef,
}

impl fmt::Debug for SeriesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeriesTable")
    }
}

impl SeriesTable {
    pub fn new(snapshot: Snapshot) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let mut fields = vec![Field::new("number", DataType::UInt32, false)];
        fields.extend(["series", "metric", "kind", "unit", "help"].map(text));
        fields.extend(["first", "last"].map(|name| Field::new(name, time_type(), true)));
        let dimension = Dimension::new(snapshot.registry().clone(), snapshot.series_count());
        SeriesTable { snapshot, dimension, schema: Arc::new(Schema::new(fields)) }
    }
}

fn is_of_metric(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|column| column.name == "metric") && !filter.is_volatile()
}

#[async_trait]
impl TableProvider for SeriesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match is_of_metric(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filters: Vec<Expr> = filters.iter().filter(|filter| is_of_metric(filter)).cloned().collect();
        let set = self.dimension.select_set(state, None, &filters)?;
        let series: Vec<SeriesId> = set.iter().take(limit.unwrap_or(usize::MAX)).collect();
        let schema = projected(&self.schema, projection)?;
        let (snapshot, made) = (self.snapshot.clone(), schema.clone());
        let partition = BlockingPartition::boxed(schema.clone(), move |out| {
            for ids in series.chunks(BATCH_ROWS) {
                if !out.take(rows(&snapshot, ids, &made)?) {
                    break;
                }
            }
            Ok(())
        });
        plan(schema, vec![partition], limit)
    }
}

/// The rows of some series, with the columns of `schema`.
fn rows(snapshot: &Snapshot, ids: &[SeriesId], schema: &SchemaRef) -> Result<RecordBatch> {
    let asks = |names: &[&str]| schema.fields().iter().any(|field| names.contains(&field.name().as_str()));
    let defs: Vec<SeriesDef> = if asks(&["series", "kind", "unit", "help"]) {
        ids.iter().map(|&id| snapshot.registry().def(id)).collect()
    } else {
        Vec::new()
    };
    let ranges: Vec<Option<(Timestamp, Timestamp)>> =
        if asks(&["first", "last"]) { ids.iter().map(|&id| snapshot.time_range(id)).collect() } else { Vec::new() };
    let text = |of: &dyn Fn(&SeriesDef) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(defs.iter().map(of)))
    };
    let times = |of: fn((Timestamp, Timestamp)) -> Timestamp| -> ArrayRef {
        let times = ranges.iter().map(|range| range.map(|range| of(range).nanos()));
        Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let column = |field: &Arc<Field>| -> Result<ArrayRef> {
        Ok(match field.name().as_str() {
            "number" => Arc::new(UInt32Array::from_iter_values(ids.iter().map(|id| id.0))),
            "series" => text(&|def| def.to_string()),
            "metric" => Arc::new(StringArray::from_iter_values(ids.iter().map(|&id| snapshot.registry().metric(id)))),
            "kind" => text(&|def| def.kind.name().to_owned()),
            "unit" => text(&|def| def.unit.to_string()),
            "help" => text(&|def| def.help.to_string()),
            "first" => times(|range| range.0),
            "last" => times(|range| range.1),
            other => return Err(DataFusionError::Internal(format!("system.series has no column {other}"))),
        })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
