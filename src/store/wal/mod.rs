//! The write-ahead log: what was acknowledged and is not in segments yet.
//!
//! Its bytes are drawn in [`format`](crate::store::format#the-log-wal). Frames are numbered one after another, over all
//! files of the log. The marker and the head's own checksum let a reader find the next whole frame behind a damaged
//! stretch, and the numbers how many frames lie in it. What ends a file before its frame is whole is a write that never
//! ended: it was not acknowledged.

mod frame;
mod payload;
mod reader;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::SeriesDef;
use crate::world::{Disk, FileAppend};

pub(super) use payload::{Frame, encode_batch};
pub(super) use reader::{Fault, Harm, WalReader};

const MAGIC: &[u8; 8] = b"PLWAL\0\0\x04";

/// A log file being written.
pub(super) struct WalWriter {
    file: Arc<dyn FileAppend>,
    number: u64,
    len: u64,
    sequence: u64,
}

/// Definitions that a frame carries along: those from `first` on.
pub(super) struct NewSeries<'a> {
    pub first: usize,
    pub defs: &'a [SeriesDef],
}

pub(super) fn wal_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.wal"))
}

/// The log files in `dir`, by number.
pub(super) fn wal_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".wal")?.parse::<u64>().ok();
    let paths = disk.list(dir)?;
    Ok(paths.into_iter().filter_map(|path| Some((number(&path)?, path))).collect())
}

impl WalWriter {
    /// A new file, whose first frame will have the number `sequence`.
    pub fn create(disk: &dyn Disk, dir: &Path, number: u64, sequence: u64) -> io::Result<Self> {
        let file = disk.create(&wal_path(dir, number))?;
        file.append(MAGIC)?;
        file.sync()?;
        disk.sync_dir(dir)?;
        Ok(WalWriter { file, number, len: MAGIC.len() as u64, sequence })
    }

    /// Numbers frames on from where another file ends.
    pub fn follow(&mut self, other: &WalWriter) {
        self.sequence = other.sequence;
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn file(&self) -> &Arc<dyn FileAppend> {
        &self.file
    }

    /// Appends one frame: the new definitions and an encoded batch.
    pub fn append(&mut self, new: &NewSeries<'_>, batch: &[u8]) -> io::Result<()> {
        let frame = frame::framed(self.sequence, |payload| payload::encode(new, batch, payload))?;
        self.file.append(&frame)?;
        self.len += frame.len() as u64;
        self.sequence += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
