//! Files at rest seen from the disk alone: which there are, and what they say of themselves.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::file::metadata::ParquetMetaDataReader;

use super::file::Source;
use super::label::Label;
use crate::catalog::{SegmentRecord, TableName};
use crate::model::Table;
use crate::world::{Disk, FileRead};

const CHUNK: usize = 1 << 20;

/// A file and what it says of itself.
pub(super) struct Described {
    /// What the catalog should know of it. Its digest is that of the file as it was written.
    pub record: SegmentRecord,
    pub label: Label,
    /// Whether the body is as it was written.
    pub is_whole: bool,
}

/// Files of all tables, whether or not the catalog knows them, below `dir` and with `/`.
pub(super) fn table_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    let months = disk.list(&dir.join(TableName::Samples.name()))?;
    let tables = Table::ALL.iter().map(|table| dir.join(table.name()));
    let mut found = Vec::new();
    for folder in months.into_iter().chain(tables).chain([dir.join(TableName::Series.name())]) {
        let files = disk.list(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "parquet"));
        found.extend(files.filter_map(|path| below(dir, &path)));
    }
    Ok(found)
}

/// A path below the data directory as the catalog writes it.
pub(super) fn below(dir: &Path, path: &Path) -> Option<String> {
    let names = path.strip_prefix(dir).ok()?.components().map(|name| name.as_os_str().to_str());
    Some(names.collect::<Option<Vec<_>>>()?.join("/"))
}

/// The number in a file's name.
pub(super) fn number_of(path: &str) -> Option<u64> {
    PathBuf::from(path).file_stem()?.to_str()?.parse().ok()
}

/// What a file says of itself and how many rows it has; `None` where its footer does not read.
pub(super) fn label(disk: &dyn Disk, path: &Path) -> Option<(Label, u64)> {
    let source = Source::new(disk.open(path).ok()?);
    // The parquet crate panics on some footers that are damaged.
    let footer = catch_unwind(AssertUnwindSafe(|| ParquetMetaDataReader::new().parse_and_finish(&source)));
    let footer = footer.ok()?.ok()?;
    Some((Label::of(&footer)?, u64::try_from(footer.file_metadata().num_rows()).ok()?))
}

/// Reads a file whole and tells what the catalog should know of it.
///
/// # Errors
/// A sentence, where it does not say what it is.
pub(super) fn describe(disk: &dyn Disk, dir: &Path, path: &str) -> Result<Described, String> {
    let full = dir.join(path);
    let (label, rows) = label(disk, &full).ok_or("its footer does not say what it is")?;
    let file = disk.open(&full).map_err(|error| error.to_string())?;
    let bytes = file.len();
    let (from, body) = label.body;
    if from > bytes {
        return Err("it is shorter than it says".into());
    }
    let found = digest(&*file, 0..from).map_err(|error| error.to_string())?;
    let tail = digest(&*file, from..bytes).map_err(|error| error.to_string())?;
    let digest = crc32c::crc32c_combine(body, tail, (bytes - from) as usize);
    let record = SegmentRecord {
        number: label.number,
        table: label.table,
        path: path.to_owned(),
        rows,
        bytes,
        first: label.first,
        last: label.last,
        flushes: label.flushes,
        digest,
        tail: (from, tail),
    };
    Ok(Described { record, label, is_whole: found == body })
}

/// CRC32C of a part of a file.
pub(super) fn digest(file: &dyn FileRead, part: std::ops::Range<u64>) -> io::Result<u32> {
    let (mut digest, mut at) = (0, part.start);
    let mut buffer = vec![0; CHUNK];
    while at < part.end {
        let taken = CHUNK.min((part.end - at) as usize);
        file.read_exact_at(at, &mut buffer[..taken])?;
        digest = crc32c::crc32c_append(digest, &buffer[..taken]);
        at += taken as u64;
    }
    Ok(digest)
}

/// Whether `record` holds all that a file of these flushes held: it is newer, of the same table and month, and made of it.
pub(super) fn supersedes(record: &SegmentRecord, other: &SegmentRecord) -> bool {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    record.number > other.number
        && folder(&record.path) == folder(&other.path)
        && record.flushes.0 <= other.flushes.0
        && other.flushes.1 <= record.flushes.1
}
