//! What the catalog keeps of a segment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Table, Timestamp};

/// A table at rest: the samples, the series they belong to, or one that stages write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum TableName {
    Samples,
    Series,
    Derived(Table),
}

impl TableName {
    pub const fn name(self) -> &'static str {
        match self {
            TableName::Samples => "samples",
            TableName::Series => "series",
            TableName::Derived(table) => table.name(),
        }
    }
}

impl From<TableName> for &'static str {
    fn from(table: TableName) -> Self {
        table.name()
    }
}

impl TryFrom<String> for TableName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "samples" => Ok(TableName::Samples),
            "series" => Ok(TableName::Series),
            _ => Table::of_name(&name).map(TableName::Derived).ok_or_else(|| format!("no table `{name}`")),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One Parquet file of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Given once, never again; the file's name.
    pub number: u64,
    pub table: TableName,
    /// Below the data directory, with `/`.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// Earliest and latest time in it, nanoseconds since the epoch.
    pub first: i64,
    pub last: i64,
    /// The flushes whose rows it holds, first and last: of two rows for one series and time, the one of the later
    /// flush stays.
    pub flushes: (u64, u64),
    /// CRC32C of the whole file.
    pub digest: u32,
    /// Where its end begins (series index and footer, by which it is opened), and the CRC32C from there on.
    pub tail: (u64, u32),
}

impl SegmentRecord {
    pub fn first(&self) -> Timestamp {
        Timestamp::from_nanos(self.first)
    }

    pub fn last(&self) -> Timestamp {
        Timestamp::from_nanos(self.last)
    }
}
