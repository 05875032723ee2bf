//! Files that the catalog does not name: left-overs of a crash are removed, all others set aside.

use std::path::Path;

use super::StoreError;
use super::aside::set_aside;
use super::described::{label, number_of, supersedes, table_files};
use super::error::DiskContext;
use super::wal::wal_files;
use crate::catalog::{Catalog, SegmentRecord, TableName};
use crate::model::Timestamp;
use crate::world::Disk;

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
    oldest: Timestamp,
}

impl Ledger {
    pub fn of(catalog: &Catalog, disk: &dyn Disk, dir: &Path, oldest: Timestamp) -> Result<Ledger, StoreError> {
        let wal_dir = dir.join("wal");
        let logs = wal_files(disk, &wal_dir).at("list", &wal_dir)?.into_iter().map(|(number, _)| number).collect();
        let (records, next_number, floor) = (catalog.segments(), catalog.next_number(), catalog.wal_floor());
        Ok(Ledger { records, next_number, floor, logs, oldest })
    }

    /// Files of tables that the catalog does not name.
    pub fn unnamed(&self, disk: &dyn Disk, dir: &Path) -> Result<Vec<(String, Unnamed)>, StoreError> {
        let files = table_files(disk, dir).at("list", dir)?;
        let unnamed = files.into_iter().filter(|path| !self.records.iter().any(|record| record.path == *path));
        Ok(unnamed.map(|path| (path.clone(), self.judge(disk, dir, &path))).collect())
    }

    fn judge(&self, disk: &dyn Disk, dir: &Path, path: &str) -> Unnamed {
        let is_left_over = match label(disk, &dir.join(path)) {
            // A write that never ended: no commit ever named so high a number.
            None => number_of(path).is_some_and(|number| number >= self.next_number),
            Some((label, rows)) => {
                let is_live = |number: &u64| self.records.iter().any(|record| record.number == *number);
                let of_merge = !label.inputs.is_empty() && label.inputs.iter().all(is_live);
                let flush = label.flushes.0;
                let of_flush = label.inputs.is_empty() && flush >= self.floor && self.logs.contains(&flush);
                let is_expired = label.table != TableName::Series && Timestamp::from_nanos(label.last) < self.oldest;
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
                of_merge || of_flush || is_expired || self.records.iter().any(|record| supersedes(record, &itself))
            }
        };
        if is_left_over { Unnamed::LeftOver } else { Unnamed::Unknown }
    }
}

/// Clears the folders of what the catalog does not name; what was set aside.
pub(super) fn sweep(disk: &dyn Disk, dir: &Path, ledger: &Ledger) -> Result<Vec<String>, StoreError> {
    let mut aside = Vec::new();
    for (path, unnamed) in ledger.unnamed(disk, dir)? {
        let full = dir.join(&path);
        match unnamed {
            Unnamed::LeftOver => disk.remove(&full).at("remove", &full)?,
            Unnamed::Unknown => {
                set_aside(disk, dir, &path).at("set aside", &full)?;
                aside.push(path);
            }
        }
    }
    Ok(aside)
}
