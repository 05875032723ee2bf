//! A Parquet file of a derived table or of `series`, which stays as long as somebody may read it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::catalog::SegmentRecord;
use crate::world::Disk;

/// A file of a table at rest.
pub(super) struct TableFile {
    pub record: SegmentRecord,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    doomed: AtomicBool,
}

impl TableFile {
    pub fn new(disk: &Arc<dyn Disk>, dir: &Path, record: SegmentRecord) -> Arc<Self> {
        let path = dir.join(&record.path);
        Arc::new(TableFile { record, path, disk: disk.clone(), doomed: AtomicBool::new(false) })
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
