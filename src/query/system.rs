//! Tables about the store itself: `system.series`, `system.segments`, `system.losses`, `system.memory`, and those that others add.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};

use crate::catalog::Loss;
use crate::model::{SeriesDef, SeriesId, Timestamp};
use crate::store::{Snapshot, StoreStats};

const OWN: [&str; 4] = ["series", "segments", "losses", "memory"];

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

/// The tables of the schema `system`.
pub(super) struct SystemTables {
    snapshot: Snapshot,
    stats: StoreStats,
    losses: Vec<Loss>,
    others: Vec<SystemTable>,
}

impl fmt::Debug for SystemTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemTables")
    }
}

impl SystemTables {
    pub fn new(snapshot: Snapshot, stats: StoreStats, losses: Vec<Loss>, others: Vec<SystemTable>) -> Self {
        SystemTables { snapshot, stats, losses, others }
    }

    fn rows(&self, name: &str) -> Result<Option<RecordBatch>> {
        Ok(Some(match name {
            "series" => self.series()?,
            "segments" => self.segments()?,
            "losses" => loss_rows(&self.losses)?,
            "memory" => self.memory()?,
            _ => match self.others.iter().find(|other| other.name == name) {
                Some(other) => (other.rows)(),
                None => return Ok(None),
            },
        }))
    }

    fn series(&self) -> Result<RecordBatch> {
        let count = self.snapshot.series_count();
        let defs = self.snapshot.registry().defs(0..count);
        let text = |of: &dyn Fn(&SeriesDef) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(defs.iter().map(|def| of(def))))
        };
        let ranges: Vec<_> = (0..count as u32).map(|id| self.snapshot.time_range(SeriesId(id))).collect();
        let times = |of: fn(&(Timestamp, Timestamp)) -> Timestamp| -> ArrayRef {
            let times = ranges.iter().map(|range| range.as_ref().map(|range| of(range).nanos()));
            Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
        };
        Ok(RecordBatch::try_from_iter([
            ("number", Arc::new(UInt32Array::from_iter_values(0..count as u32)) as ArrayRef),
            ("series", text(&|def| def.to_string())),
            ("metric", text(&|def| def.metric.to_string())),
            ("kind", text(&|def| def.kind.name().to_owned())),
            ("unit", text(&|def| def.unit.to_string())),
            ("help", text(&|def| def.help.to_string())),
            ("first", times(|range| range.0)),
            ("last", times(|range| range.1)),
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

    fn memory(&self) -> Result<RecordBatch> {
        let shares = [("head and segment indexes", self.stats.memory_bytes), ("log on disk", self.stats.wal_bytes)];
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(shares.iter().map(|share| share.0)));
        let bytes: ArrayRef = Arc::new(UInt64Array::from_iter_values(shares.iter().map(|share| share.1)));
        Ok(RecordBatch::try_from_iter([("share", names), ("bytes", bytes)])?)
    }
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
        let Some(batch) = self.rows(name)? else { return Ok(None) };
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        OWN.contains(&name) || self.others.iter().any(|other| other.name == name)
    }
}
