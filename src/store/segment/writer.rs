//! Writes a segment: series by series in the file's order, a row group at a time.

use std::ops::Range;
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::data_type::ByteArray;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnDescPtr;

use super::delta::DeltaEncoder;
use super::index::{Column, Index, IndexEntry};
use super::page::{Chunk, PageCompressor, PageRef, put_levels, put_runs};
use super::schema;
use super::summary::{Summaries, Summariser};
use crate::model::SeriesId;
use crate::store::StoreError;
use crate::store::file::{FileSink, Written};
use crate::store::label::{Label, NewFile};
use crate::store::pieces::Pieces;
use crate::store::points::{Points, Values};
use crate::store::scale::TimeUnit;

/// Rows at which a row group ends: what a reader outside skips or reads as one, and what is held while writing.
const GROUP_ROWS: usize = 1 << 18;
/// Values a data page holds at most: what reading one sample costs, against the weight of page headers.
const PAGE_VALUES: usize = 16_384;
/// Values from which a page ends with its series, so that one that is read alone brings little of others along.
const PAGE_FULL: usize = 4096;

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
    compressor: PageCompressor,
    group: Group,
    index: Index,
    summaries: Summariser,
    rows: u64,
    values: [u32; 2],
    sorted_until: Option<(Box<str>, SeriesId)>,
}

struct Run {
    metric: Arc<str>,
    series: SeriesId,
    rows: usize,
    scale: Option<u8>,
}

/// Rows of the row group to be written.
#[derive(Default)]
struct Group {
    runs: Vec<Run>,
    /// In the file's unit.
    times: Vec<i64>,
    floats: Vec<f64>,
    whole: Vec<i64>,
}

impl SegmentWriter {
    pub fn new(new: NewFile, unit: TimeUnit) -> Result<Self, StoreError> {
        let properties = Arc::new(schema::properties());
        let out = SerializedFileWriter::new(FileSink::new(new.file), schema::schema(unit)?, properties)?;
        Ok(SegmentWriter {
            out,
            label: new.label,
            compressor: PageCompressor::new()?,
            group: Group::default(),
            index: Index { unit, pages: Default::default(), entries: Vec::new(), summaries: Summaries::default() },
            summaries: Summariser::default(),
            rows: 0,
            values: [0; 2],
            sorted_until: None,
        })
    }

    /// Adds all samples of one series. Series come by metric, then number; samples by time, each time once.
    pub fn add(&mut self, metric: &str, series: SeriesId, mut points: Points) -> Result<(), StoreError> {
        points.scale();
        self.begin(metric, series, &points);
        self.put(metric, series, &points)
    }

    /// The same of samples that come a piece at a time. Only where their values differ in kind are all gathered first.
    pub fn add_pieces(&mut self, metric: &str, series: SeriesId, mut pieces: Pieces<'_>) -> Result<(), StoreError> {
        if !pieces.is_uniform() {
            let mut all = Points::default();
            while let Some(points) = pieces.next()? {
                all.append(points);
            }
            return self.add(metric, series, all);
        }
        let mut is_first = true;
        while let Some(points) = pieces.next()? {
            if std::mem::take(&mut is_first) {
                self.begin(metric, series, &points);
            }
            self.put(metric, series, &points)?;
        }
        Ok(())
    }

    /// Begins a series with its first points, which are not added yet.
    fn begin(&mut self, metric: &str, series: SeriesId, points: &Points) {
        let Some(first) = points.first() else { return };
        let place = (Box::from(metric), series);
        assert!(self.sorted_until.as_ref().is_none_or(|before| *before < place), "series come in the file's order");
        self.sorted_until = Some(place);
        let scale = points.values.scale();
        let row = u32::try_from(self.rows).expect("a segment holds fewer than 2^32 samples");
        let (value, first) = (self.values[usize::from(scale.is_some())], first.nanos());
        self.summaries.begin(points);
        self.index.entries.push(IndexEntry { series, row, rows: 0, value, scale, first, last: first });
    }

    /// Adds points to the series that was begun last.
    fn put(&mut self, metric: &str, series: SeriesId, points: &Points) -> Result<(), StoreError> {
        let (Some(last), Some(entry)) = (points.last(), self.index.entries.last_mut()) else { return Ok(()) };
        debug_assert!(points.ordered(), "samples come by time");
        assert!(entry.series == series && entry.scale == points.values.scale(), "pieces are of one series and scale");
        let rows = u32::try_from(points.len()).expect("a segment holds fewer than 2^32 samples");
        entry.rows += rows;
        entry.last = last.nanos();
        self.values[usize::from(entry.scale.is_some())] += rows;
        self.rows += u64::from(rows);

        self.summaries.add(points, &mut self.compressor).map_err(parquet::errors::ParquetError::from)?;
        let mut from = 0;
        while from < points.len() {
            let to = points.len().min(from + GROUP_ROWS - self.group.times.len());
            self.group.add(metric, series, self.index.unit, points, from..to);
            if self.group.times.len() == GROUP_ROWS {
                self.write_group()?;
            }
            from = to;
        }
        Ok(())
    }

    /// Writes what is left, the index and the footer, and makes the file durable.
    pub fn finish(mut self) -> Result<SegmentStats, StoreError> {
        if !self.group.runs.is_empty() {
            self.write_group()?;
        }
        let offset = self.out.bytes_written() as u64;
        let summaries = self.summaries.finish(offset, &mut self.compressor);
        let (bytes, summaries) = summaries.map_err(parquet::errors::ParquetError::from)?;
        self.out.write_all(&bytes).map_err(parquet::errors::ParquetError::from)?;
        self.index.summaries = summaries;
        self.out.flush().map_err(parquet::errors::ParquetError::from)?;
        let body = self.out.inner_mut().end_body().map_err(parquet::errors::ParquetError::from)?;
        let index = self.index.encode().map_err(parquet::errors::ParquetError::from)?;
        self.out.write_all(&index).map_err(parquet::errors::ParquetError::from)?;
        let first = self.index.entries.iter().map(|entry| entry.first).min().unwrap_or(0);
        let last = self.index.entries.iter().map(|entry| entry.last).max().unwrap_or(0);
        self.out.append_key_value_metadata(self.label.entry((first, last), body));
        self.out.finish()?;
        let written = self.out.inner_mut().finish().map_err(parquet::errors::ParquetError::from)?;
        Ok(SegmentStats { rows: self.rows, first, last, written })
    }

    fn write_group(&mut self) -> Result<(), StoreError> {
        let offset = self.out.bytes_written() as u64;
        let columns = self.out.schema_descr().columns().to_vec().into_iter();
        let mut out = self.out.next_row_group()?;
        let mut writer = GroupWriter { out: &mut out, columns, compressor: &mut self.compressor, offset };
        let pages = writer.write(&self.group)?;
        out.close()?;
        for (all, new) in self.index.pages.iter_mut().zip(pages) {
            all.extend(new);
        }
        self.group.clear();
        Ok(())
    }
}

impl Group {
    /// Takes up `rows` of one series.
    fn add(&mut self, metric: &str, series: SeriesId, unit: TimeUnit, points: &Points, rows: Range<usize>) {
        self.times.extend(points.times[rows.clone()].iter().map(|time| time / unit.nanos()));
        match &points.values {
            Values::Scaled { whole, .. } => self.whole.extend_from_slice(&whole[rows.clone()]),
            Values::Floats(floats) => self.floats.extend_from_slice(&floats[rows.clone()]),
        }
        let metric = match self.runs.last() {
            Some(before) if *before.metric == *metric => before.metric.clone(),
            _ => metric.into(),
        };
        self.runs.push(Run { metric, series, rows: rows.len(), scale: points.values.scale() });
    }

    /// Empty again, with the columns' room kept.
    fn clear(&mut self) {
        self.runs.clear();
        self.times.clear();
        self.floats.clear();
        self.whole.clear();
    }
}

/// Writes the columns of one row group, in the schema's order.
struct GroupWriter<'a, 'w> {
    out: &'a mut SerializedRowGroupWriter<'w, FileSink>,
    columns: std::vec::IntoIter<ColumnDescPtr>,
    compressor: &'a mut PageCompressor,
    /// Where the next chunk begins in the file.
    offset: u64,
}

impl GroupWriter<'_, '_> {
    /// The pages of the columns that are read here.
    fn write(&mut self, group: &Group) -> Result<[Vec<PageRef>; 3], StoreError> {
        let rows = group.times.len();
        self.write_metrics(group, rows)?;
        let numbers = || group.runs.iter().map(|run| (run.series.0.cast_signed(), run.rows));
        let range = (numbers().map(|run| run.0).min(), numbers().map(|run| run.0).max());
        self.write_constants(numbers(), rows, Some(Statistics::int32(range.0, range.1, None, Some(0), false)))?;
        let times = self.write_times(group)?;
        let floats = self.write_optional(group, Column::Value)?;
        let whole = self.write_optional(group, Column::Unscaled)?;
        let scales = group.runs.iter().map(|run| (i32::from(run.scale.unwrap_or(0)), run.rows));
        self.write_constants(scales, rows, None)?;
        Ok([times, floats, whole])
    }

    /// A column as a dictionary of metrics and runs of places in it.
    fn write_metrics(&mut self, group: &Group, rows: usize) -> Result<(), StoreError> {
        let (mut plain, mut places, mut metrics) = (Vec::new(), Vec::<(u32, usize)>::new(), Vec::<&Arc<str>>::new());
        for run in &group.runs {
            if metrics.last().is_none_or(|last| **last != run.metric) {
                metrics.push(&run.metric);
                plain.extend_from_slice(&(run.metric.len() as u32).to_le_bytes());
                plain.extend_from_slice(run.metric.as_bytes());
                places.push((metrics.len() as u32 - 1, 0));
            }
            if let Some((_, count)) = places.last_mut() {
                *count += run.rows;
            }
        }
        let range = [metrics.first(), metrics.last()].map(|metric| metric.map(|text| ByteArray::from(text.as_bytes())));
        let [least, greatest] = range;
        let bit_width = (u32::BITS - (metrics.len() as u32 - 1).leading_zeros()).max(1) as u8;
        let mut chunk = Chunk::new(Encoding::RLE_DICTIONARY);
        chunk.add_dictionary(self.compressor, metrics.len(), &plain)?;
        plain.clear();
        plain.push(bit_width);
        put_runs(places, bit_width, &mut plain);
        chunk.add_data(self.compressor, rows, rows, &plain)?;
        self.splice(chunk, rows, Some(Statistics::byte_array(least, greatest, None, Some(0), false))).map(|_| ())
    }

    /// A column of whole numbers, each the same over a run.
    fn write_constants(
        &mut self,
        runs: impl Iterator<Item = (i32, usize)>,
        rows: usize,
        statistics: Option<Statistics>,
    ) -> Result<(), StoreError> {
        let mut plain = Vec::new();
        let mut encoder = DeltaEncoder::new(&mut plain, rows);
        runs.for_each(|(value, count)| encoder.push_run(i64::from(value), count));
        encoder.finish();
        let mut chunk = Chunk::new(Encoding::DELTA_BINARY_PACKED);
        chunk.add_data(self.compressor, rows, rows, &plain)?;
        self.splice(chunk, rows, statistics).map(|_| ())
    }

    fn write_times(&mut self, group: &Group) -> Result<Vec<PageRef>, StoreError> {
        let times = &group.times[..];
        let mut chunk = Chunk::new(Encoding::DELTA_BINARY_PACKED);
        let (mut plain, mut start) = (Vec::new(), 0);
        for page in PageRuns::of(group.runs.iter().map(|run| (true, run.rows))) {
            plain.clear();
            put_whole(&times[start..start + page.values], &mut plain);
            chunk.add_data(self.compressor, page.values, page.values, &plain)?;
            start += page.values;
        }
        let range = (times.iter().min().copied(), times.iter().max().copied());
        self.splice(chunk, times.len(), Some(Statistics::int64(range.0, range.1, None, Some(0), false)))
    }

    /// A column that each run has whole or not at all. A page ends where it is full of values; nulls take no room.
    fn write_optional(&mut self, group: &Group, column: Column) -> Result<Vec<PageRef>, StoreError> {
        let present = |run: &Run| run.scale.is_some() == (column == Column::Unscaled);
        let encoding =
            if column == Column::Value { Encoding::BYTE_STREAM_SPLIT } else { Encoding::DELTA_BINARY_PACKED };
        let mut chunk = Chunk::new(encoding);
        let mut plain = Vec::new();
        let mut start = 0;
        for page in PageRuns::of(group.runs.iter().map(|run| (present(run), run.rows))) {
            plain.clear();
            put_levels(page.runs.iter().copied(), &mut plain);
            let values = start..start + page.values;
            match column {
                Column::Value => put_streams(&group.floats[values], &mut plain),
                _ => put_whole(&group.whole[values], &mut plain),
            }
            chunk.add_data(self.compressor, page.rows, page.values, &plain)?;
            start += page.values;
        }
        self.splice(chunk, group.times.len(), None)
    }

    /// Writes the chunk; its pages with their places in the file.
    fn splice(
        &mut self,
        chunk: Chunk,
        rows: usize,
        statistics: Option<Statistics>,
    ) -> Result<Vec<PageRef>, StoreError> {
        let described = self.columns.next().expect("the schema has a column more");
        let (bytes, close, mut pages) = chunk.close(described, rows, statistics)?;
        pages.iter_mut().for_each(|page| page.offset += self.offset);
        self.offset += bytes.len() as u64;
        self.out.append_column(&bytes, close)?;
        Ok(pages)
    }
}

/// Runs of rows that have a value or not, as pages: each has [`PAGE_VALUES`] values, or ends with a run.
struct PageRuns<I> {
    runs: I,
    /// What is left of a run that a page could not take whole.
    left: Option<(bool, usize)>,
}

impl<I> PageRuns<I> {
    fn of(runs: I) -> PageRuns<I> {
        PageRuns { runs, left: None }
    }
}

struct PageRows {
    runs: Vec<(bool, usize)>,
    rows: usize,
    values: usize,
}

impl<I: Iterator<Item = (bool, usize)>> Iterator for PageRuns<I> {
    type Item = PageRows;

    fn next(&mut self) -> Option<PageRows> {
        let mut page = PageRows { runs: Vec::new(), rows: 0, values: 0 };
        while page.values < PAGE_VALUES {
            let Some((present, rows)) = self.left.take().or_else(|| self.runs.next()) else { break };
            let taken = if present { rows.min(PAGE_VALUES - page.values) } else { rows };
            self.left = (taken < rows).then_some((present, rows - taken));
            page.add(present, taken);
            if present && self.left.is_none() && page.values >= PAGE_FULL {
                break;
            }
        }
        (page.rows > 0).then_some(page)
    }
}

impl PageRows {
    fn add(&mut self, present: bool, rows: usize) {
        match self.runs.last_mut() {
            Some((before, count)) if *before == present => *count += rows,
            _ => self.runs.push((present, rows)),
        }
        self.rows += rows;
        self.values += if present { rows } else { 0 };
    }
}

fn put_whole(values: &[i64], out: &mut Vec<u8>) {
    let mut encoder = DeltaEncoder::new(out, values.len());
    values.iter().for_each(|&value| encoder.push(value));
    encoder.finish();
}

/// BYTE_STREAM_SPLIT: the first bytes of all values, then the second, and so on, little-endian.
fn put_streams(values: &[f64], out: &mut Vec<u8>) {
    for byte in 0..8 {
        out.extend(values.iter().map(|value| (value.to_bits() >> (8 * byte)) as u8));
    }
}
