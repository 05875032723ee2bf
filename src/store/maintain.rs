//! Upkeep between flushes: merging segments, dropping what retention no longer keeps.

use std::sync::Arc;

use super::compaction::{Appetite, choose, run};
use super::core::{View, unpoisoned};
use super::derived::{series_schema, write_chunks};
use super::error::DiskContext;
use super::flush::Origin;
use super::merge_rows::MergedRows;
use super::retention::{Fate, Kept, Stretch, Tier, fate};
use super::scale::TimeUnit;
use super::segment::{IndexEntry, Segment, SegmentWriter};
use super::table_file::TableFile;
use super::{Store, StoreError};
use crate::catalog::{Commit, SegmentRecord, TableName};

/// The samples of a segment by the rules for them.
pub(super) fn stretches(segment: &Segment, kept: &Kept) -> impl Iterator<Item = Stretch> {
    let of_entry = |entry: &IndexEntry| kept.samples(entry.series, u64::from(entry.rows), entry.first, entry.last);
    segment.entries().iter().map(of_entry)
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

    /// What is kept now: what queries see.
    pub(super) fn kept(&self) -> Kept {
        self.rules.at(self.world.clock.now())
    }

    /// Drops what retention no longer keeps: files that hold nothing else go, and those that hold mostly that are
    /// written anew without it, one after another. How many files.
    pub fn drop_expired(&self) -> Result<usize, StoreError> {
        let mut files = 0;
        loop {
            let now = self.expire_step()?;
            files += now;
            if now == 0 {
                return Ok(files);
            }
        }
    }

    /// Drops the files that hold nothing else; where there is none, writes one anew. How many files.
    pub fn expire_step(&self) -> Result<usize, StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        let (view, kept) = (self.view().clone(), self.kept());
        let fates = view.records().map(|record| Ok((record.clone(), self.fate(&view, record, &kept)?)));
        let fates = fates.collect::<Result<Vec<_>, StoreError>>()?;
        let gone: Vec<u64> = fates.iter().filter(|of| of.1 == Fate::Goes).map(|(record, _)| record.number).collect();
        if !gone.is_empty() {
            self.replace(&gone, None)?;
            return Ok(gone.len());
        }
        let Some((record, _)) = fates.into_iter().find(|of| of.1 == Fate::Shrinks) else { return Ok(0) };
        let before = record.rows;
        self.merge(&[record]).map(|rows| usize::from(rows < before))
    }

    fn fate(&self, view: &View, record: &SegmentRecord, kept: &Kept) -> Result<Fate, StoreError> {
        if let Some(fate) = kept.fate_by_times(record) {
            return Ok(fate);
        }
        if let Some(segment) = view.segments.iter().find(|segment| segment.record.number == record.number) {
            return Ok(fate(stretches(segment, kept)));
        }
        let TableName::Derived(table) = record.table else { return Ok(Fate::Stays) };
        if kept.is_uniform(table) {
            let tier = Tier { every: None, rows: record.rows, first: record.first, last: record.last };
            return Ok(fate([kept.rows(table, &tier)]));
        }
        let file = view.files.iter().find(|file| file.record.number == record.number);
        let tiers = file.map_or(Ok(&[][..]), |file| file.tiers(&self.dir));
        let tiers = tiers.inspect_err(|error| self.suspects.name(record.number, error))?;
        Ok(fate(tiers.iter().map(|tier| kept.rows(table, tier))))
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
        self.merge(&inputs).map(|_| true)
    }

    /// Writes what is kept of some files, in the order of their flushes, as one in their place; as none where nothing is.
    /// How many rows.
    fn merge(&self, inputs: &[SegmentRecord]) -> Result<u64, StoreError> {
        let numbers: Vec<u64> = inputs.iter().map(|record| record.number).collect();
        let merged = match inputs[0].table {
            TableName::Samples => self.merge_samples(inputs),
            table => self.merge_rows(table, inputs),
        };
        let merged =
            merged.inspect_err(|error| inputs.iter().for_each(|record| self.suspects.name(record.number, error)))?;
        tracing::debug!(table = %merged.table, inputs = inputs.len(), rows = merged.rows, bytes = merged.bytes, "merged");
        let rows = merged.rows;
        if rows > 0 {
            return self.replace(&numbers, Some(merged)).map(|()| rows);
        }
        let path = self.dir.join(&merged.path);
        self.world.disk.remove(&path).at("remove", &path)?;
        self.replace(&numbers, None).map(|()| rows)
    }

    fn merge_samples(&self, inputs: &[SegmentRecord]) -> Result<SegmentRecord, StoreError> {
        let segments: Vec<Arc<Segment>> = {
            let view = self.view();
            let chosen = |record: &SegmentRecord| view.segments.iter().find(|s| s.record.number == record.number);
            inputs.iter().filter_map(|record| chosen(record).cloned()).collect()
        };
        let unit = segments.iter().map(|segment| segment.unit()).max().unwrap_or(TimeUnit::Millis);
        let folder = format!("samples/{}", inputs[0].first().month());
        let kept = self.kept();
        self.write_file(TableName::Samples, &folder, &Origin::merge(inputs), |file| {
            let mut writer = SegmentWriter::new(file, unit)?;
            run(&segments, self.registry(), &kept, &mut writer)?;
            writer.finish()
        })
    }

    fn merge_rows(&self, table: TableName, inputs: &[SegmentRecord]) -> Result<SegmentRecord, StoreError> {
        let derived = if let TableName::Derived(table) = table { Some(table) } else { None };
        // A series is in one file.
        let (schema, columns) =
            derived.map_or_else(|| (series_schema(), 1), |table| (table.schema(), table.group_columns()));
        let merged = MergedRows::open(&*self.world.disk, &self.dir, inputs, &schema, columns)?;
        let (unit, kept) = (merged.unit(), self.kept());
        let chunks = merged.map(|chunk| match derived {
            Some(table) => kept.filter(table, chunk?),
            None => chunk,
        });
        let origin = Origin::merge(inputs);
        self.write_file(table, table.name(), &origin, |file| write_chunks(file, &schema, unit, chunks))
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
