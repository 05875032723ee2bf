//! What the catalog keeps of rows that are lost.

use serde::{Deserialize, Serialize};

/// Rows that were there and cannot be read any more.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Loss {
    /// The table they belonged to, or `wal` for frames of the log.
    pub table: String,
    /// The damaged file, below the data directory.
    pub path: String,
    /// Whose they were, where that is known.
    pub metric: Option<String>,
    pub series: Option<String>,
    /// Earliest and latest of their times, nanoseconds since the epoch, where known.
    pub first: Option<i64>,
    pub last: Option<i64>,
    /// How many, where known.
    pub rows: Option<u64>,
    pub reason: String,
    /// When it was found, nanoseconds since the epoch.
    pub found: i64,
}

impl Loss {
    /// Whether both tell of the same rows, whenever it was found.
    pub fn is_that_of(&self, other: &Loss) -> bool {
        (&self.path, &self.series, &self.reason) == (&other.path, &other.series, &other.reason)
    }
}
