//! Reads a segment: its index once, then exactly the rows asked for.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{DataType, DoubleType, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::encode::{TimeUnit, rescale};
use super::index::{self, IndexEntry};
use super::schema::{TIME, UNSCALED, VALUE};
use super::writer::INDEX_KEY;
use crate::catalog::SegmentRecord;
use crate::model::{Sample, SeriesId, Span, Timestamp};
use crate::store::StoreError;
use crate::store::error::DiskContext;
use crate::store::file::{Source, tail_is_whole};
use crate::world::Disk;

/// A segment of samples, open: footer and index in memory.
pub(in crate::store) struct Segment {
    pub record: SegmentRecord,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    source: Arc<Source>,
    footer: ParquetMetaData,
    group_starts: Vec<u64>,
    unit: TimeUnit,
    entries: Vec<IndexEntry>,
    by_series: Vec<u32>,
    doomed: AtomicBool,
}

impl Segment {
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, record: SegmentRecord) -> Result<Self, StoreError> {
        let path = dir.join(&record.path);
        let damaged = |reason: &str| StoreError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let file = disk.open(&path).at("open", &path)?;
        if file.len() != record.bytes {
            return Err(damaged(&format!("it has {} bytes, the catalog says {}", file.len(), record.bytes)));
        }
        if !tail_is_whole(&*file, &record).at("read", &path)? {
            return Err(damaged("its index or footer is not what was written"));
        }
        let source = Arc::new(Source::new(file));
        let footer = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .parse_and_finish(&*source)?;
        let unit = unit(&footer).ok_or_else(|| damaged("its column `time` has no unit"))?;
        let entries = read_index(&source, &footer, unit).ok_or_else(|| damaged("its series index does not read"))?;
        let mut by_series: Vec<u32> = (0..entries.len() as u32).collect();
        by_series.sort_unstable_by_key(|&at| entries[at as usize].series);
        let group_starts = footer
            .row_groups()
            .iter()
            .scan(0, |next, group| Some(std::mem::replace(next, *next + group.num_rows() as u64)))
            .collect();
        let disk = disk.clone();
        let doomed = AtomicBool::new(false);
        Ok(Segment { record, path, disk, source, footer, group_starts, unit, entries, by_series, doomed })
    }

    /// The error that a reader of it gives.
    pub fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason }
    }

    /// Its series in the file's order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    pub fn entry(&self, series: SeriesId) -> Option<&IndexEntry> {
        let at = self.by_series.binary_search_by_key(&series, |&at| self.entries[at as usize].series).ok()?;
        Some(&self.entries[self.by_series[at] as usize])
    }

    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// Bytes the index and footer take in memory, roughly.
    pub fn index_bytes(&self) -> usize {
        self.entries.len() * (size_of::<IndexEntry>() + size_of::<u32>()) + self.footer.memory_size()
    }

    /// Removes the file when the last reader lets go of it.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    fn group_of(&self, row: u64) -> usize {
        self.group_starts.partition_point(|&start| start <= row) - 1
    }

    fn group_rows(&self, group: usize) -> Range<u64> {
        let start = self.group_starts[group];
        start..start + self.footer.row_group(group).num_rows() as u64
    }

    fn column<T: DataType>(&self, group: usize, column: usize) -> ParquetResult<ColumnReaderImpl<T>> {
        let chunk = self.footer.row_group(group).column(column);
        let pages = self.footer.offset_index().and_then(|index| index.get(group)?.get(column).cloned());
        let pages = pages.map(|index| index.page_locations().clone());
        let rows = self.footer.row_group(group).num_rows() as usize;
        let reader = SerializedPageReader::new(self.source.clone(), chunk, rows, pages)?;
        let described = self.footer.file_metadata().schema_descr().column(column);
        Ok(get_typed_column_reader(get_column_reader(described, Box::new(reader))))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // What stays is swept when the store is opened next.
            let _ = self.disk.remove(&self.path);
        }
    }
}

fn unit(footer: &ParquetMetaData) -> Option<TimeUnit> {
    use parquet::basic::{LogicalType, TimeUnit as ParquetTimeUnit};
    let column = footer.file_metadata().schema_descr().columns().get(TIME)?.clone();
    match column.logical_type_ref()? {
        LogicalType::Timestamp(stamp) => match stamp.unit {
            ParquetTimeUnit::MILLIS => Some(TimeUnit::Millis),
            ParquetTimeUnit::MICROS => Some(TimeUnit::Micros),
            ParquetTimeUnit::NANOS => Some(TimeUnit::Nanos),
        },
        _ => None,
    }
}

fn read_index(source: &Source, footer: &ParquetMetaData, unit: TimeUnit) -> Option<Vec<IndexEntry>> {
    let pairs = footer.file_metadata().key_value_metadata()?;
    let place = pairs.iter().find(|pair| pair.key == INDEX_KEY)?.value.as_ref()?;
    let mut numbers = place.split(',').map(str::parse::<u64>);
    let (offset, len, crc) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    if offset.checked_add(len)? > source.len() {
        return None;
    }
    let bytes = source.get_bytes(offset, usize::try_from(len).ok()?).ok()?;
    (u64::from(crc32c::crc32c(&bytes)) == crc).then_some(())?;
    let entries = index::decode(&bytes, unit)?;
    let rows: u64 = entries.iter().map(|entry| u64::from(entry.rows)).sum();
    (rows == footer.file_metadata().num_rows() as u64).then_some(entries)
}

/// Reads rows of one segment. Rows in the file's order are read straight on; a step back opens the row group anew.
pub(in crate::store) struct Cursor {
    segment: Arc<Segment>,
    times: ColumnCursor<Int64Type>,
    floats: ColumnCursor<DoubleType>,
    unscaled: ColumnCursor<Int64Type>,
    time_buffer: Vec<i64>,
    whole_buffer: Vec<i64>,
    value_buffer: Vec<f64>,
}

impl Cursor {
    pub fn new(segment: Arc<Segment>) -> Self {
        Cursor {
            segment,
            times: ColumnCursor::new(TIME),
            floats: ColumnCursor::new(VALUE),
            unscaled: ColumnCursor::new(UNSCALED),
            time_buffer: Vec::new(),
            whole_buffer: Vec::new(),
            value_buffer: Vec::new(),
        }
    }

    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Appends the samples of an entry within `span`, by time.
    pub fn read(&mut self, entry: &IndexEntry, span: Span, out: &mut Vec<Sample>) -> Result<(), StoreError> {
        let all = entry.row..entry.row + u64::from(entry.rows);
        self.time_buffer.clear();
        self.times.read(&self.segment, all.clone(), &mut self.time_buffer)?;
        let unit = self.segment.unit.nanos();
        self.time_buffer.iter_mut().for_each(|time| *time *= unit);
        debug_assert!(self.time_buffer.is_sorted(), "a segment's samples lie by time");
        let from = self.time_buffer.partition_point(|&time| time < span.start.nanos());
        let to = self.time_buffer.partition_point(|&time| time < span.end.nanos());
        if from >= to {
            return Ok(());
        }
        let rows = all.start + from as u64..all.start + to as u64;
        self.value_buffer.clear();
        match entry.scale {
            None => self.floats.read(&self.segment, rows, &mut self.value_buffer)?,
            Some(scale) => {
                self.whole_buffer.clear();
                self.unscaled.read(&self.segment, rows, &mut self.whole_buffer)?;
                rescale(&self.whole_buffer, scale, &mut self.value_buffer);
            }
        }
        if self.value_buffer.len() != to - from {
            let reason =
                format!("series {} has {} values for {} times", entry.series.0, self.value_buffer.len(), to - from);
            return Err(StoreError::Damaged { path: self.segment.path.clone(), reason });
        }
        let samples = self.time_buffer[from..to].iter().zip(&self.value_buffer);
        out.extend(samples.map(|(&time, &value)| Sample { time: Timestamp::from_nanos(time), value }));
        Ok(())
    }
}

struct ColumnCursor<T: DataType> {
    column: usize,
    open: Option<(usize, ColumnReaderImpl<T>)>,
    row: u64,
    levels: Vec<i16>,
}

impl<T: DataType> ColumnCursor<T> {
    fn new(column: usize) -> Self {
        ColumnCursor { column, open: None, row: 0, levels: Vec::new() }
    }

    fn read(&mut self, segment: &Segment, rows: Range<u64>, out: &mut Vec<T::T>) -> Result<(), StoreError> {
        let mut row = rows.start;
        while row < rows.end {
            let group = segment.group_of(row);
            let of_group = segment.group_rows(group);
            let upto = rows.end.min(of_group.end);
            self.read_group(segment, group, of_group.start, row..upto, out)?;
            row = upto;
        }
        Ok(())
    }

    fn read_group(
        &mut self,
        segment: &Segment,
        group: usize,
        group_start: u64,
        rows: Range<u64>,
        out: &mut Vec<T::T>,
    ) -> Result<(), StoreError> {
        if !matches!(&self.open, Some((open, _)) if *open == group && self.row <= rows.start) {
            self.open = Some((group, segment.column(group, self.column)?));
            self.row = group_start;
        }
        let Some((_, reader)) = &mut self.open else { return Ok(()) };
        if self.row < rows.start {
            reader.skip_records((rows.start - self.row) as usize)?;
        }
        let mut left = (rows.end - rows.start) as usize;
        while left > 0 {
            self.levels.clear();
            let (records, _, _) = reader.read_records(left, Some(&mut self.levels), None, out)?;
            if records == 0 {
                let reason = format!("column {} ends {left} rows early", self.column);
                return Err(StoreError::Damaged { path: segment.path.clone(), reason });
            }
            left -= records;
        }
        self.row = rows.end;
        Ok(())
    }
}
