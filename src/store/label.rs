//! What a file of a table says of itself: the footer's key `plimsoll.segment`, JSON. From it the catalog is rebuilt.

use std::sync::Arc;

use parquet::file::metadata::{KeyValue, ParquetMetaData};
use serde::{Deserialize, Serialize};

use crate::catalog::TableName;
use crate::world::FileAppend;

/// The footer's key.
const SEGMENT_KEY: &str = "plimsoll.segment";

/// What a file says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Label {
    pub table: TableName,
    pub number: u64,
    /// As in the catalog's record.
    pub flushes: (u64, u64),
    /// Numbers of the files it was made of; none for what a flush wrote.
    pub inputs: Vec<u64>,
    /// The log below this number was covered when the file was written.
    pub floor: u64,
    /// Earliest and latest time in it, nanoseconds since the epoch.
    pub first: i64,
    pub last: i64,
    /// Bytes before the series index or, where there is none, before the footer; and their CRC32C.
    pub body: (u64, u32),
}

/// A file to be written, and what it will say of itself.
pub(super) struct NewFile {
    pub file: Arc<dyn FileAppend>,
    pub label: Label,
}

impl Label {
    /// The entry of the footer, once times and body are known.
    pub fn entry(mut self, times: (i64, i64), body: (u64, u32)) -> KeyValue {
        ((self.first, self.last), self.body) = (times, body);
        KeyValue::new(SEGMENT_KEY.to_owned(), serde_json::to_string(&self).expect("a label is plain data"))
    }

    /// What a footer says; `None` where it says nothing of the kind.
    pub fn of(footer: &ParquetMetaData) -> Option<Label> {
        let pairs = footer.file_metadata().key_value_metadata()?;
        serde_json::from_str(pairs.iter().find(|pair| pair.key == SEGMENT_KEY)?.value.as_ref()?).ok()
    }
}
