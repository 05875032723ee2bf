//! Files that the catalog does not name: left-overs of a crash are removed, all others set aside.

use std::path::Path;
use std::sync::Arc;

use super::aside::set_aside;
use super::described::{describe, label, number_of, supersedes, table_files};
use super::error::DiskContext;
use super::maintain::stretches;
use super::retention::{Fate, Kept, Rules, fate};
use super::segment::Segment;
use super::table_file::TableFile;
use super::wal::wal_files;
use super::{StoreError, StoreSpec};
use crate::catalog::{Catalog, SegmentRecord, TableName};
use crate::world::{Disk, World};

/// What the catalog says of a file that it does not name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unnamed {
    /// Its rows are elsewhere, for certain.
    LeftOver,
    Unknown,
}

/// What is needed to tell.
pub(super) struct Ledger {
    records: Vec<SegmentRecord>,
    next_number: u64,
    floor: u64,
    logs: Vec<u64>,
    /// How many there are.
    series: usize,
    kept: Kept,
}

impl Ledger {
    pub fn of(catalog: &Catalog, world: &World, dir: &Path, spec: &StoreSpec) -> Result<Ledger, StoreError> {
        let wal_dir = dir.join("wal");
        let logs =
            wal_files(&*world.disk, &wal_dir).at("list", &wal_dir)?.into_iter().map(|(number, _)| number).collect();
        let (records, next_number, floor) = (catalog.segments(), catalog.next_number(), catalog.wal_floor());
        let kept = Rules::new(spec.retention.clone(), catalog.registry().clone()).at(world.clock.now());
        Ok(Ledger { records, next_number, floor, logs, series: catalog.registry().len(), kept })
    }

    /// Files of tables that the catalog does not name.
    pub fn unnamed(&self, disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<(String, Unnamed)>, StoreError> {
        let files = table_files(&**disk, dir).at("list", dir)?;
        let unnamed = files.into_iter().filter(|path| !self.records.iter().any(|record| record.path == *path));
        Ok(unnamed.map(|path| (path.clone(), self.judge(disk, dir, &path))).collect())
    }

    fn judge(&self, disk: &Arc<dyn Disk>, dir: &Path, path: &str) -> Unnamed {
        let is_left_over = match label(&**disk, &dir.join(path)) {
            // A write that never ended: no commit ever named so high a number.
            None => number_of(path).is_some_and(|number| number >= self.next_number),
            Some((label, rows)) => {
                let is_live = |number: &u64| self.records.iter().any(|record| record.number == *number);
                let of_merge = !label.inputs.is_empty() && label.inputs.iter().all(is_live);
                let flush = label.flushes.0;
                let of_flush = label.inputs.is_empty() && flush >= self.floor && self.logs.contains(&flush);
                let itself = SegmentRecord {
                    number: label.number,
                    table: label.table,
                    path: path.to_owned(),
                    rows,
                    bytes: 0,
                    first: label.first,
                    last: label.last,
                    flushes: label.flushes,
                    digest: 0,
                    tail: (0, 0),
                };
                let is_elsewhere = self.records.iter().any(|record| supersedes(record, &itself));
                of_merge || of_flush || is_elsewhere || self.is_expired(disk, dir, &itself)
            }
        };
        if is_left_over { Unnamed::LeftOver } else { Unnamed::Unknown }
    }
}

impl Ledger {
    /// Whether a file holds nothing that is kept: one that was dropped, had the process not ended.
    fn is_expired(&self, disk: &Arc<dyn Disk>, dir: &Path, record: &SegmentRecord) -> bool {
        let of_times = self.kept.fate_by_times(record);
        let of_contents = || self.fate_by_contents(disk, dir, &record.path).unwrap_or(Fate::Stays);
        of_times.unwrap_or_else(of_contents) == Fate::Goes
    }

    fn fate_by_contents(&self, disk: &Arc<dyn Disk>, dir: &Path, path: &str) -> Option<Fate> {
        let record = describe(&**disk, dir, path).ok()?.record;
        match record.table {
            TableName::Series => None,
            TableName::Samples => {
                let segment = Segment::open(disk, dir, record).ok()?;
                let is_known = segment.entries().iter().all(|entry| entry.series.index() < self.series);
                is_known.then(|| fate(stretches(&segment, &self.kept)))
            }
            TableName::Derived(table) => {
                let file = TableFile::new(disk, dir, record);
                Some(fate(file.tiers(dir).ok()?.iter().map(|tier| self.kept.rows(table, tier))))
            }
        }
    }
}

/// Clears the folders of what the catalog does not name; what was set aside.
pub(super) fn sweep(disk: &Arc<dyn Disk>, dir: &Path, ledger: &Ledger) -> Result<Vec<String>, StoreError> {
    let mut aside = Vec::new();
    for (path, unnamed) in ledger.unnamed(disk, dir)? {
        let full = dir.join(&path);
        match unnamed {
            Unnamed::LeftOver => disk.remove(&full).at("remove", &full)?,
            Unnamed::Unknown => {
                set_aside(&**disk, dir, &path).at("set aside", &full)?;
                aside.push(path);
            }
        }
    }
    Ok(aside)
}
