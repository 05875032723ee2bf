//! Upkeep between flushes: merging segments, dropping what retention no longer keeps.

use std::sync::Arc;

use super::compaction::{Appetite, choose, expired, run};
use super::core::unpoisoned;
use super::derived::{latest, read_rows, sorted};
use super::flush::Origin;
use super::scale::TimeUnit;
use super::segment::{Segment, SegmentWriter};
use super::table_file::TableFile;
use super::{Store, StoreError, StoreSpec};
use crate::catalog::{Commit, SegmentRecord, TableName};
use crate::model::{Span, Timestamp};
use crate::world::World;

/// The oldest time that is kept.
pub(super) fn oldest_kept(world: &World, spec: &StoreSpec) -> Timestamp {
    spec.retention
        .map_or(Timestamp::MIN, |kept| world.clock.now().plus(-i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX)))
}

impl Store {
    /// Merges until nothing is worth it; how many merges there were.
    pub fn compact(&self) -> Result<usize, StoreError> {
        let mut merges = 0;
        while self.merge_once(Appetite::Everything)? {
            merges += 1;
        }
        Ok(merges)
    }

    /// One usual merge, if one is worth it.
    pub fn compact_step(&self) -> Result<bool, StoreError> {
        self.merge_once(Appetite::Usual)
    }

    /// The oldest time that queries see.
    pub(super) fn oldest_kept(&self) -> Timestamp {
        oldest_kept(&self.world, &self.spec)
    }

    /// Drops segments that hold nothing young enough; how many.
    pub fn drop_expired(&self) -> Result<usize, StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        let gone = expired(&self.records(), self.oldest_kept());
        if !gone.is_empty() {
            self.replace(&gone, None)?;
        }
        Ok(gone.len())
    }

    fn records(&self) -> Vec<SegmentRecord> {
        self.view().records().cloned().collect()
    }

    fn merge_once(&self, appetite: Appetite) -> Result<bool, StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        let records = self.records();
        let Some(numbers) = choose(&records, appetite, self.spec.segment_bytes) else { return Ok(false) };
        let mut inputs: Vec<SegmentRecord> =
            records.into_iter().filter(|record| numbers.contains(&record.number)).collect();
        inputs.sort_by_key(|record| record.flushes);
        let merged = match inputs[0].table {
            TableName::Samples => self.merge_samples(&inputs),
            table => self.merge_rows(table, &inputs),
        };
        let merged =
            merged.inspect_err(|error| inputs.iter().for_each(|record| self.suspects.name(record.number, error)))?;
        tracing::debug!(table = %merged.table, inputs = inputs.len(), rows = merged.rows, bytes = merged.bytes, "merged");
        self.replace(&numbers, Some(merged))?;
        Ok(true)
    }

    fn merge_samples(&self, inputs: &[SegmentRecord]) -> Result<SegmentRecord, StoreError> {
        let segments: Vec<Arc<Segment>> = {
            let view = self.view();
            let chosen = |record: &SegmentRecord| view.segments.iter().find(|s| s.record.number == record.number);
            inputs.iter().filter_map(|record| chosen(record).cloned()).collect()
        };
        let unit = segments.iter().map(|segment| segment.unit()).max().unwrap_or(TimeUnit::Millis);
        let folder = format!("samples/{}", inputs[0].first().month());
        let kept = Span::new(self.oldest_kept(), Timestamp::MAX);
        self.write_file(TableName::Samples, &folder, &Origin::merge(inputs), |file| {
            let mut writer = SegmentWriter::new(file, unit)?;
            run(&segments, self.registry(), kept, &mut writer)?;
            writer.finish()
        })
    }

    fn merge_rows(&self, table: TableName, inputs: &[SegmentRecord]) -> Result<SegmentRecord, StoreError> {
        let mut batches = Vec::new();
        for record in inputs {
            batches.push(arrow::compute::concat_batches(
                &self.schema_of(table, record)?,
                &read_rows(&*self.world.disk, &self.dir, record)?,
            )?);
        }
        let merged = match table {
            TableName::Derived(table) => latest(table, &batches)?,
            TableName::Samples | TableName::Series => {
                sorted(&arrow::compute::concat_batches(&batches[0].schema(), &batches)?, 1)?
            }
        };
        self.write_file(table, table.name(), &Origin::merge(inputs), |file| super::derived::write_rows(file, &merged))
    }

    fn schema_of(&self, table: TableName, record: &SegmentRecord) -> Result<arrow::datatypes::SchemaRef, StoreError> {
        match table {
            TableName::Derived(table) => Ok(table.schema()),
            _ => {
                let batches = read_rows(&*self.world.disk, &self.dir, record)?;
                batches.first().map(arrow::array::RecordBatch::schema).ok_or_else(|| StoreError::Damaged {
                    path: self.dir.join(&record.path),
                    reason: "it has no rows".into(),
                })
            }
        }
    }

    /// Swaps segments for one that holds the same, in the catalog, then for queries; the files go when nobody reads them.
    fn replace(&self, removed: &[u64], added: Option<SegmentRecord>) -> Result<(), StoreError> {
        let commit = Commit { add: added.iter().cloned().collect(), remove: removed.to_vec(), ..Commit::default() };
        self.catalog.commit(&commit)?;
        let opened = match &added {
            Some(record) if record.table == TableName::Samples => {
                Some(Arc::new(Segment::open(&self.world.disk, &self.dir, record.clone())?))
            }
            _ => None,
        };
        let mut view = self.view_mut();
        let (gone, mut segments): (Vec<_>, Vec<_>) =
            view.segments.iter().cloned().partition(|segment| removed.contains(&segment.record.number));
        segments.extend(opened);
        segments.sort_by_key(|segment| segment.record.flushes);
        let (gone_files, mut files): (Vec<_>, Vec<_>) =
            view.files.iter().cloned().partition(|file| removed.contains(&file.record.number));
        let added = added.filter(|record| record.table != TableName::Samples);
        files.extend(added.map(|record| TableFile::new(&self.world.disk, &self.dir, record)));
        files.sort_by_key(|file| file.record.flushes);
        view.segments = Arc::new(segments);
        view.files = Arc::new(files);
        drop(view);
        gone.iter().for_each(|segment| segment.doom());
        gone_files.iter().for_each(|file| file.doom());
        Ok(())
    }
}
