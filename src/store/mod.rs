//! The store: log, head and segments of samples, and the tables that stages write. Threads and files, no async.
//!
//! ```text
//! DIR/lock                      held by the process that has the store open
//! DIR/catalog/                  sled: series, segments, how far the log is covered
//! DIR/wal/NNNNNNNNNN.wal        acknowledged, not in segments yet
//! DIR/samples/YYYY-MM/N.parquet samples of that month
//! DIR/series/N.parquet          the series they belong to
//! DIR/TABLE/N.parquet           what stages found
//! DIR/checkpoints/N.state       the stages' state as of the log's floor
//! DIR/generation                how many commits the catalog had, for the day it falls back to an older state
//! DIR/set-aside/                damaged and unknown files
//! ```

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
mod head;
mod keeper;
mod label;
mod losses;
mod maintain;
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
mod retention_tests;

pub use self::core::{Store, StoreStats, TableStats};
pub use backup::Backup;
pub use error::StoreError;
pub use foreign::{ParquetInput, parquet_bytes, write_parquet};
pub use keeper::Keeper;
pub use snapshot::{Scan, SeriesRun, Snapshot};
pub use spec::{StoreSpec, Sync};
pub use tap::{Behind, Tap};
pub use verify::{Verified, Wrong};
