//! Writes a segment: series by series in the file's order, a row group at a time.

use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};

use super::encode::{TimeUnit, scaled};
use super::index::{self, IndexEntry};
use super::schema;
use crate::model::{Sample, SeriesId};
use crate::store::StoreError;
use crate::store::file::{FileSink, Written};
use crate::store::label::{Label, NewFile};

const GROUP_ROWS: usize = 1 << 19;
/// Rows handed to a column writer at once.
const CHUNK: usize = 8192;

/// Where the index lies: `offset,length,crc32c`, decimal.
pub(super) const INDEX_KEY: &str = "plimsoll.index";

/// What the catalog needs to know of a finished segment.
#[derive(Debug)]
pub(in crate::store) struct SegmentStats {
    pub rows: u64,
    pub first: i64,
    pub last: i64,
    pub written: Written,
}

/// Writes a segment.
pub(in crate::store) struct SegmentWriter {
    out: SerializedFileWriter<FileSink>,
    label: Label,
    unit: TimeUnit,
    group: Group,
    index: Vec<IndexEntry>,
    rows: u64,
    sorted_until: Option<(Box<str>, SeriesId)>,
}

struct Run {
    metric: ByteArray,
    series: SeriesId,
    rows: usize,
    scale: Option<u8>,
}

#[derive(Default)]
struct Group {
    runs: Vec<Run>,
    times: Vec<i64>,
    values: Vec<f64>,
    unscaled: Vec<i64>,
}

impl SegmentWriter {
    pub fn new(new: NewFile, unit: TimeUnit) -> Result<Self, StoreError> {
        let properties = Arc::new(schema::properties()?);
        let out = SerializedFileWriter::new(FileSink::new(new.file), schema::schema(unit)?, properties)?;
        let label = new.label;
        Ok(SegmentWriter { out, label, unit, group: Group::default(), index: Vec::new(), rows: 0, sorted_until: None })
    }

    /// Adds all samples of one series. Series come by metric, then number; samples by time, each time once.
    pub fn add(&mut self, metric: &str, series: SeriesId, samples: &[Sample]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(()) };
        let place = (Box::from(metric), series);
        assert!(self.sorted_until.as_ref().is_none_or(|before| *before < place), "series come in the file's order");
        debug_assert!(samples.windows(2).all(|pair| pair[0].time < pair[1].time), "samples come by time");
        self.sorted_until = Some(place);

        let scale = scaled(samples, &mut self.group.unscaled);
        if scale.is_none() {
            self.group.values.extend(samples.iter().map(|sample| sample.value));
        }
        let unit = self.unit.nanos();
        self.group.times.extend(samples.iter().map(|sample| sample.time.nanos() / unit));
        self.group.runs.push(Run { metric: ByteArray::from(metric), series, rows: samples.len(), scale });
        self.index.push(IndexEntry {
            series,
            row: self.rows,
            rows: u32::try_from(samples.len()).expect("a segment holds fewer than 2^32 samples of a series"),
            scale,
            first: first.time.nanos(),
            last: last.time.nanos(),
        });
        self.rows += samples.len() as u64;
        if self.group.times.len() >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left, the index and the footer, and makes the file durable.
    pub fn finish(mut self) -> Result<SegmentStats, StoreError> {
        if !self.group.runs.is_empty() {
            self.write_group()?;
        }
        self.out.flush().map_err(parquet::errors::ParquetError::from)?;
        let body = self.out.inner_mut().end_body().map_err(parquet::errors::ParquetError::from)?;
        let index = index::encode(&self.index, self.unit).map_err(parquet::errors::ParquetError::from)?;
        let place = format!("{},{},{}", self.out.bytes_written(), index.len(), crc32c::crc32c(&index));
        self.out.write_all(&index).map_err(parquet::errors::ParquetError::from)?;
        self.out.append_key_value_metadata(KeyValue::new(INDEX_KEY.to_owned(), place));
        let first = self.index.iter().map(|entry| entry.first).min().unwrap_or(0);
        let last = self.index.iter().map(|entry| entry.last).max().unwrap_or(0);
        self.out.append_key_value_metadata(self.label.entry((first, last), body));
        self.out.finish()?;
        let written = self.out.inner_mut().finish().map_err(parquet::errors::ParquetError::from)?;
        Ok(SegmentStats { rows: self.rows, first, last, written })
    }

    fn write_group(&mut self) -> Result<(), StoreError> {
        let group = std::mem::take(&mut self.group);
        let mut out = self.out.next_row_group()?;
        group.write(&mut out)?;
        out.close()?;
        // Keep the columns' room for the next group.
        self.group = Group { times: cleared(group.times), unscaled: cleared(group.unscaled), ..Group::default() };
        Ok(())
    }
}

fn cleared(mut column: Vec<i64>) -> Vec<i64> {
    column.clear();
    column
}

impl Group {
    fn write(&self, out: &mut SerializedRowGroupWriter<'_, FileSink>) -> Result<(), StoreError> {
        column(out, |to| constant::<ByteArrayType>(to, self.runs.iter().map(|run| (run.metric.clone(), run.rows))))?;
        column(out, |to| {
            constant::<Int32Type>(to, self.runs.iter().map(|run| (run.series.0.cast_signed(), run.rows)))
        })?;
        column(out, |to| {
            to.typed::<Int64Type>().write_batch(&self.times, None, None)?;
            Ok(())
        })?;
        let floats = self.runs.iter().map(|run| (run.scale.is_none(), run.rows));
        column(out, |to| optional::<DoubleType>(to, &self.values, floats))?;
        let whole = self.runs.iter().map(|run| (run.scale.is_some(), run.rows));
        column(out, |to| optional::<Int64Type>(to, &self.unscaled, whole))?;
        column(out, |to| {
            constant::<Int32Type>(to, self.runs.iter().map(|run| (i32::from(run.scale.unwrap_or(0)), run.rows)))
        })
    }
}

fn column(
    out: &mut SerializedRowGroupWriter<'_, FileSink>,
    write: impl FnOnce(&mut SerializedColumnWriter<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut to = out.next_column()?.expect("the schema has a column more");
    write(&mut to)?;
    to.close()?;
    Ok(())
}

/// Writes a column that is constant over each run.
fn constant<T: DataType>(
    to: &mut SerializedColumnWriter<'_>,
    runs: impl Iterator<Item = (T::T, usize)>,
) -> Result<(), StoreError> {
    let to = to.typed::<T>();
    let mut buffer: Vec<T::T> = Vec::with_capacity(CHUNK);
    for (value, mut rows) in runs {
        while rows > 0 {
            let taken = rows.min(CHUNK - buffer.len());
            buffer.resize(buffer.len() + taken, value.clone());
            rows -= taken;
            if buffer.len() == CHUNK {
                to.write_batch(&buffer, None, None)?;
                buffer.clear();
            }
        }
    }
    to.write_batch(&buffer, None, None)?;
    Ok(())
}

/// Writes a column that each run has whole or not at all; `values` holds those that have it.
fn optional<T: DataType>(
    to: &mut SerializedColumnWriter<'_>,
    values: &[T::T],
    runs: impl Iterator<Item = (bool, usize)>,
) -> Result<(), StoreError> {
    let to = to.typed::<T>();
    let mut levels: Vec<i16> = Vec::new();
    for (present, rows) in runs {
        levels.resize(levels.len() + rows, i16::from(present));
    }
    to.write_batch(values, Some(&levels), None)?;
    Ok(())
}
