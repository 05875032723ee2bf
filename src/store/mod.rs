//! The store: log, head and segments of samples, and the tables that stages write. Threads and files, no async.
//!
//! What it keeps on the disk is drawn byte by byte in [`mod@format`] (`FORMAT.md`).

mod aside;
mod backup;
mod compaction;
mod core;
mod derived;
mod described;
mod error;
mod file;
mod flush;
mod foreign;
pub mod format;
mod head;
mod keeper;
mod label;
mod losses;
mod maintain;
mod merge_rows;
mod pieces;
mod points;
mod rebuild;
mod recovery;
mod repair;
mod replay;
mod retention;
mod scale;
mod segment;
mod snapshot;
mod spec;
mod sweep;
mod table_file;
mod tap;
mod varint;
mod verify;
mod wal;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod made_tests;
#[cfg(test)]
mod retention_tests;

pub use self::core::{HEAD_FULL, Store, StoreStats, TableStats};
pub use backup::Backup;
pub use derived::latest_rows;
pub use error::{StoreError, told_with_causes};
pub use foreign::{ParquetInput, ParquetOutput};
pub use keeper::Keeper;
pub use snapshot::{Columns, Scan, SeriesRun, Snapshot};
pub use spec::{StoreSpec, Sync};
pub use tap::{Behind, Tap};
pub use verify::{Verified, Wrong};
