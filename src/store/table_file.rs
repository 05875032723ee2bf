//! A Parquet file of a derived table or of `series`, which stays as long as somebody may read it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::StoreError;
use super::derived::read_rows;
use super::retention::{Tier, tiers};
use crate::catalog::SegmentRecord;
use crate::world::Disk;

/// A file of a table at rest.
pub(super) struct TableFile {
    pub record: SegmentRecord,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    doomed: AtomicBool,
    tiers: OnceLock<Vec<Tier>>,
}

impl TableFile {
    pub fn new(disk: &Arc<dyn Disk>, dir: &Path, record: SegmentRecord) -> Arc<Self> {
        let path = dir.join(&record.path);
        Arc::new(TableFile { record, path, disk: disk.clone(), doomed: AtomicBool::new(false), tiers: OnceLock::new() })
    }

    /// Its rows by length of window: read once.
    pub fn tiers(&self, dir: &Path) -> Result<&[Tier], StoreError> {
        if let Some(known) = self.tiers.get() {
            return Ok(known);
        }
        let batches = read_rows(&*self.disk, dir, &self.record)?;
        let mut found: Vec<Tier> = Vec::new();
        for of_batch in batches.iter().flat_map(tiers) {
            match found.iter_mut().find(|tier| tier.every == of_batch.every) {
                Some(tier) => tier.add(&of_batch),
                None => found.push(of_batch),
            }
        }
        Ok(self.tiers.get_or_init(|| found))
    }

    /// Removes the file when the last reader lets go of it.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // What stays is swept when the store is opened next.
            let _ = self.disk.remove(&self.path);
        }
    }
}
