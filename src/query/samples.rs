//! The samples as tables: `metrics`, and one a metric.
//!
//! Predicates on metric and labels are worked out on the series and leave a list of them, predicates on time leave a
//! span: what is not asked for is not read. A series' labels are constant over its run, so the label columns are
//! dictionaries built from the catalog; no row is joined.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;

use super::dimension::{Dimension, TextColumn, text_type};
use super::moment::Moment;
use super::stream::{BlockingPartition, Reader, of_store, plan, projected};
use super::tracks::{Track, Tracks, TracksExec};
use crate::model::{Sample, SeriesId, Span, Timestamp};
use crate::store::Snapshot;

pub(super) const BATCH_ROWS: usize = 8192;

/// All samples, or those of one metric.
pub(super) struct SamplesTable {
    snapshot: Snapshot,
    dimension: Arc<Dimension>,
    metric: Option<String>,
    /// Where only the last sample before it is shown.
    moment: Option<Arc<Moment>>,
    schema: SchemaRef,
}

impl fmt::Debug for SamplesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SamplesTable({:?})", self.metric)
    }
}

pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

impl SamplesTable {
    pub fn new(snapshot: Snapshot, dimension: Arc<Dimension>, metric: Option<&str>) -> Self {
        let mut fields = Vec::new();
        match metric {
            None => {
                fields.push(Field::new("metric", text_type(), false));
                fields.extend(dimension.label_fields(None));
            }
            Some(metric) => fields.extend(dimension.label_fields(Some(metric))),
        }
        fields.push(Field::new("time", time_type(), false));
        fields.push(Field::new("value", DataType::Float64, false));
        let schema = Arc::new(Schema::new(fields));
        SamplesTable { snapshot, dimension, metric: metric.map(str::to_owned), moment: None, schema }
    }

    /// The same, of each series only what it was worth at a moment.
    pub fn at(mut self, moment: Moment) -> Self {
        self.moment = Some(Arc::new(moment));
        self
    }
}

/// What a predicate can be answered from.
pub(super) enum Reach {
    Series,
    Time(Span),
    Rows,
}

pub(super) fn reach(filter: &Expr) -> Reach {
    if let Some(span) = span_of(filter) {
        return Reach::Time(span);
    }
    let columns = filter.column_refs();
    let of_series = !columns.is_empty() && columns.iter().all(|column| column.name != "time" && column.name != "value");
    if of_series && !filter.is_volatile() { Reach::Series } else { Reach::Rows }
}

/// The span that filters leave, and those of them that are of series.
pub(super) fn divided(filters: &[Expr], reach: impl Fn(&Expr) -> Reach) -> (Span, Vec<Expr>) {
    let (mut span, mut of_series) = (Span::ALL, Vec::new());
    for filter in filters {
        match reach(filter) {
            Reach::Time(of_filter) => span = span.intersect(of_filter),
            Reach::Series => of_series.push(filter.clone()),
            Reach::Rows => {}
        }
    }
    (span, of_series)
}

/// The span that a comparison of `time` with a constant leaves.
fn span_of(filter: &Expr) -> Option<Span> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (op, literal) = match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(literal, _)) if column.name == "time" => (*op, literal),
        (Expr::Literal(literal, _), Expr::Column(column)) if column.name == "time" => (op.swap()?, literal),
        _ => return None,
    };
    let at = match literal {
        ScalarValue::TimestampSecond(Some(n), _) => n.checked_mul(1_000_000_000)?,
        ScalarValue::TimestampMillisecond(Some(n), _) => n.checked_mul(1_000_000)?,
        ScalarValue::TimestampMicrosecond(Some(n), _) => n.checked_mul(1_000)?,
        ScalarValue::TimestampNanosecond(Some(n), _) => *n,
        _ => return None,
    };
    let (at, after) = (Timestamp::from_nanos(at), Timestamp::from_nanos(at).plus(1));
    match op {
        Operator::Eq => Some(Span::new(at, after)),
        Operator::Lt => Some(Span::new(Timestamp::MIN, at)),
        Operator::LtEq => Some(Span::new(Timestamp::MIN, after)),
        Operator::Gt => Some(Span::new(after, Timestamp::MAX)),
        Operator::GtEq => Some(Span::new(at, Timestamp::MAX)),
        _ => None,
    }
}

#[async_trait]
impl TableProvider for SamplesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match reach(filter) {
            // It asks for the time of the sample that is found, not where to look for it.
            Reach::Time(_) if self.moment.is_some() => TableProviderFilterPushDown::Unsupported,
            Reach::Series | Reach::Time(_) => TableProviderFilterPushDown::Exact,
            Reach::Rows => TableProviderFilterPushDown::Unsupported,
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
        let (span, of_series) = divided(filters, reach);
        let span = self.moment.as_ref().map_or(span, |moment| span.intersect(moment.span));
        let asked = self.dimension.select(state, self.metric.as_deref(), &of_series)?;
        let touches = |id: &SeriesId| {
            let range = self.snapshot.time_range(*id);
            range.is_some_and(|(first, last)| span.touches(first, last))
        };
        let schema = projected(&self.schema, projection)?;
        let series = asked.iter().copied().filter(touches);
        let tracks: Vec<Track> = series.map(|id| Track { series: [Some(id)].into() }).collect();
        let over = (self.snapshot.clone(), self.dimension.clone());
        let fields = vec!["value".to_owned()];
        let tracks = Tracks::new(over, span, fields, (tracks, asked), state.config().target_partitions());
        let (told, moment) =
            (format!("SamplesScan: {}", self.metric.as_deref().unwrap_or("metrics")), self.moment.clone());
        let is_moment = moment.is_some();
        let exec = TracksExec::new(told, tracks, false, move |tracks| {
            let partitions = tracks.parts.iter().map(|part| {
                let series: Vec<SeriesId> = part.iter().map(Track::any).collect();
                partition(tracks, series, &schema, moment.clone(), limit)
            });
            plan(schema.clone(), partitions.collect(), limit)
        })?;
        // Of what a moment shows, nothing can be left out or summed up.
        Ok(if is_moment { exec.inner } else { Arc::new(exec) })
    }
}

/// What fills a column.
enum Column {
    Text(TextColumn),
    Time,
    Value,
}

fn partition(
    tracks: &Tracks,
    series: Vec<SeriesId>,
    schema: &SchemaRef,
    moment: Option<Arc<Moment>>,
    limit: Option<usize>,
) -> Arc<dyn datafusion::physical_plan::streaming::PartitionStream> {
    let column = |field: &Arc<Field>| match field.name().as_str() {
        "time" => Column::Time,
        "value" => Column::Value,
        name => Column::Text(tracks.dimension.text(name, &series)),
    };
    let columns: Arc<Vec<Column>> = Arc::new(schema.fields().iter().map(column).collect());
    let (snapshot, span, made) = (tracks.snapshot.clone(), tracks.span, schema.clone());
    BlockingPartition::boxed(schema.clone(), move |out| {
        let mut batches = Batches::new(&made, &columns);
        // Rows alone can be counted without being read.
        let only_rows = !columns.iter().any(|column| matches!(column, Column::Time | Column::Value));
        let mut left = limit.unwrap_or(usize::MAX);
        let mut scan = snapshot.scan(series.clone(), span);
        for (place, &id) in series.iter().enumerate() {
            let counted = if only_rows && span == Span::ALL { snapshot.count(id) } else { None };
            let wanted = match counted {
                Some(rows) => {
                    scan.skip_one();
                    batches.add_rows(place, rows as usize, out)?
                }
                None => {
                    let Some(run) = scan.next() else { break };
                    let run = run.map_err(of_store)?;
                    let samples = match &moment {
                        Some(moment) => moment.last(id, &run.samples),
                        None => &run.samples,
                    };
                    left = left.saturating_sub(samples.len());
                    batches.add(place, samples, out)?
                }
            };
            if !wanted || left == 0 || out.is_gone() {
                break;
            }
        }
        batches.finish(out)
    })
}

/// Gathers runs into batches of about [`BATCH_ROWS`].
struct Batches<'a> {
    schema: &'a SchemaRef,
    columns: &'a [Column],
    keys: Vec<Vec<Option<i32>>>,
    times: Vec<i64>,
    values: Vec<f64>,
    rows: usize,
}

impl<'a> Batches<'a> {
    fn new(schema: &'a SchemaRef, columns: &'a [Column]) -> Self {
        let keys = columns.iter().map(|_| Vec::new()).collect();
        Batches { schema, columns, keys, times: Vec::new(), values: Vec::new(), rows: 0 }
    }

    /// `Ok(false)` when nobody wants more.
    fn add(&mut self, place: usize, mut samples: &[Sample], out: &mut dyn Reader) -> Result<bool> {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(BATCH_ROWS - self.rows));
            self.times.extend(now.iter().map(|sample| sample.time.nanos()));
            self.values.extend(now.iter().map(|sample| sample.value));
            if !self.add_labels(place, now.len(), out)? {
                return Ok(false);
            }
            samples = later;
        }
        Ok(true)
    }

    fn add_rows(&mut self, place: usize, mut rows: usize, out: &mut dyn Reader) -> Result<bool> {
        while rows > 0 {
            let now = rows.min(BATCH_ROWS - self.rows);
            if !self.add_labels(place, now, out)? {
                return Ok(false);
            }
            rows -= now;
        }
        Ok(true)
    }

    fn add_labels(&mut self, place: usize, rows: usize, out: &mut dyn Reader) -> Result<bool> {
        for (keys, column) in self.keys.iter_mut().zip(self.columns) {
            if let Column::Text(text) = column {
                keys.resize(keys.len() + rows, text.keys[place]);
            }
        }
        self.rows += rows;
        if self.rows < BATCH_ROWS { Ok(true) } else { Ok(out.take(self.take()?)) }
    }

    fn finish(&mut self, out: &mut dyn Reader) -> Result<()> {
        if self.rows > 0 {
            out.take(self.take()?);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let (times, values) = (std::mem::take(&mut self.times), std::mem::take(&mut self.values));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, keys) in self.columns.iter().zip(&mut self.keys) {
            arrays.push(match column {
                Column::Time => times.clone(),
                Column::Value => values.clone(),
                Column::Text(text) => {
                    let keys = Int32Array::from(std::mem::take(keys));
                    text.of_keys(keys)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}
