//! Tables about the store itself: `system.series`, `.labels`, `.metrics`, `.segments`, `.losses`, `.memory`, and those
//! that others add. What `labels` and `metrics` say is counted as series come: they answer at once, however many there are.

use std::fmt;
use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};

use super::made::MadeTable;
use super::series::SeriesTable;
use crate::catalog::{LabelStats, Loss, MetricStats};
use crate::store::{Snapshot, Store};

const OWN: [&str; 6] = ["series", "labels", "metrics", "segments", "losses", "memory"];

/// A table `system.NAME` whose rows somebody else knows.
#[derive(Clone)]
pub struct SystemTable {
    pub name: &'static str,
    pub rows: Arc<dyn Fn() -> RecordBatch + Send + Sync>,
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemTable({})", self.name)
    }
}

/// The tables of others.
#[derive(Clone, Debug, Default)]
pub struct OtherTables {
    pub system: Vec<SystemTable>,
    pub live: Vec<LiveTable>,
}

/// A table that somebody else makes when it is asked for, among those of the store.
#[derive(Clone)]
pub struct LiveTable {
    pub name: &'static str,
    pub schema: SchemaRef,
    pub rows: Arc<LiveRows>,
}

/// Makes the rows of a table, on a thread that may wait; or says why not.
pub type LiveRows = dyn Fn() -> Result<RecordBatch, String> + Send + Sync;

impl fmt::Debug for LiveTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveTable({})", self.name)
    }
}

impl LiveTable {
    pub(super) fn provider(&self) -> Arc<dyn TableProvider> {
        let rows = self.rows.clone();
        MadeTable::shared(self.schema.clone(), move |out| {
            out.take(rows().map_err(DataFusionError::Execution)?);
            Ok(())
        })
    }
}

/// A row of `system.memory`.
#[derive(Debug, Clone)]
pub struct MemoryShare {
    pub share: &'static str,
    pub bytes: u64,
    /// Bytes it may take; `None` where it has no limit of its own.
    pub limit: Option<u64>,
    /// What happens at its limit.
    pub at_limit: &'static str,
}

/// Tells the shares of somebody.
pub type TellMemory = Arc<dyn Fn() -> Vec<MemoryShare> + Send + Sync>;

/// The tables of the schema `system`. What they say is looked up when they are asked.
pub(super) struct SystemTables {
    snapshot: Snapshot,
    /// An answer that somebody still reads does not keep the store open.
    store: Weak<Store>,
    memory: TellMemory,
    others: Vec<SystemTable>,
}

impl fmt::Debug for SystemTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemTables")
    }
}

impl SystemTables {
    pub fn new(snapshot: Snapshot, store: Weak<Store>, memory: TellMemory, others: Vec<SystemTable>) -> Self {
        SystemTables { snapshot, store, memory, others }
    }

    fn rows(&self, name: &str) -> Result<Option<RecordBatch>> {
        Ok(Some(match name {
            "labels" => self.labels()?,
            "metrics" => self.metrics()?,
            "segments" => self.segments()?,
            "losses" => loss_rows(&self.store.upgrade().map_or_else(Vec::new, |store| store.losses()))?,
            "memory" => memory_rows(&(self.memory)())?,
            _ => match self.others.iter().find(|other| other.name == name) {
                Some(other) => (other.rows)(),
                None => return Ok(None),
            },
        }))
    }

    fn labels(&self) -> Result<RecordBatch> {
        let all = self.snapshot.registry().len().max(1) as f64;
        let labels = self.snapshot.registry().label_stats();
        let text = |of: fn(&LabelStats) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(labels.iter().map(of)))
        };
        let number =
            |of: fn(&LabelStats) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(labels.iter().map(of))) };
        let share: ArrayRef =
            Arc::new(Float64Array::from_iter_values(labels.iter().map(|label| label.series as f64 / all)));
        Ok(RecordBatch::try_from_iter([
            ("label", text(|label| &label.label)),
            ("values", number(|label| label.values)),
            ("series", number(|label| label.series)),
            ("share", share),
            ("metric", text(|label| &label.metric)),
            ("metric_values", number(|label| label.metric_values)),
            ("example", text(|label| &label.example)),
        ])?)
    }

    fn metrics(&self) -> Result<RecordBatch> {
        let all = self.snapshot.registry().len().max(1) as f64;
        let metrics = self.snapshot.registry().metric_stats();
        let text = |of: &dyn Fn(&MetricStats) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(metrics.iter().map(of)))
        };
        let series: ArrayRef = Arc::new(UInt64Array::from_iter_values(metrics.iter().map(|metric| metric.series)));
        let share: ArrayRef =
            Arc::new(Float64Array::from_iter_values(metrics.iter().map(|metric| metric.series as f64 / all)));
        Ok(RecordBatch::try_from_iter([
            ("metric", text(&|metric| metric.metric.clone())),
            ("series", series),
            ("share", share),
            ("labels", text(&|metric| metric.labels.join(","))),
            ("kind", text(&|metric| metric.kind.name().to_owned())),
            ("unit", text(&|metric| metric.unit.clone())),
            ("help", text(&|metric| metric.help.clone())),
            ("example", text(&|metric| metric.example.clone())),
        ])?)
    }

    fn segments(&self) -> Result<RecordBatch> {
        let records = self.snapshot.records();
        let number = |of: fn(&crate::catalog::SegmentRecord) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(records.iter().map(of)))
        };
        let time = |of: fn(&crate::catalog::SegmentRecord) -> i64| -> ArrayRef {
            let times = TimestampNanosecondArray::from_iter_values(records.iter().map(of));
            Arc::new(times.with_timezone("UTC"))
        };
        let text = |of: fn(&crate::catalog::SegmentRecord) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(records.iter().map(of)))
        };
        Ok(RecordBatch::try_from_iter([
            ("number", number(|record| record.number)),
            ("table", text(|record| record.table.name())),
            ("path", text(|record| &record.path)),
            ("rows", number(|record| record.rows)),
            ("bytes", number(|record| record.bytes)),
            ("first", time(|record| record.first)),
            ("last", time(|record| record.last)),
        ])?)
    }
}

fn memory_rows(shares: &[MemoryShare]) -> Result<RecordBatch, ArrowError> {
    let text =
        |of: fn(&MemoryShare) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(shares.iter().map(of))) };
    let bytes: ArrayRef = Arc::new(UInt64Array::from_iter_values(shares.iter().map(|share| share.bytes)));
    let limits: ArrayRef = Arc::new(shares.iter().map(|share| share.limit).collect::<UInt64Array>());
    RecordBatch::try_from_iter_with_nullable([
        ("share", text(|share| share.share), false),
        ("bytes", bytes, false),
        ("limit", limits, true),
        ("at_limit", text(|share| share.at_limit), false),
    ])
}

/// Losses as rows of `system.losses`.
pub fn loss_rows(losses: &[Loss]) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Loss) -> Option<&str>| -> ArrayRef { Arc::new(losses.iter().map(of).collect::<StringArray>()) };
    let time = |of: fn(&Loss) -> Option<i64>| -> ArrayRef {
        Arc::new(losses.iter().map(of).collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let rows: ArrayRef = Arc::new(losses.iter().map(|loss| loss.rows).collect::<UInt64Array>());
    RecordBatch::try_from_iter([
        ("found", time(|loss| Some(loss.found))),
        ("table", text(|loss| Some(&loss.table))),
        ("path", text(|loss| Some(&loss.path))),
        ("metric", text(|loss| loss.metric.as_deref())),
        ("series", text(|loss| loss.series.as_deref())),
        ("first", time(|loss| loss.first)),
        ("last", time(|loss| loss.last)),
        ("rows", rows),
        ("reason", text(|loss| Some(&loss.reason))),
    ])
}

#[async_trait]
impl SchemaProvider for SystemTables {
    fn table_names(&self) -> Vec<String> {
        OWN.iter().copied().chain(self.others.iter().map(|other| other.name)).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if name == "series" {
            return Ok(Some(Arc::new(SeriesTable::new(self.snapshot.clone()))));
        }
        let Some(batch) = self.rows(name)? else { return Ok(None) };
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        OWN.contains(&name) || self.others.iter().any(|other| other.name == name)
    }
}
