//! Reads a segment: its index once, then exactly the pages asked for. Each page's checksum is looked at before a bit of
//! it is believed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zstd::bulk::Decompressor;

use super::delta;
use super::index::{Column, Index, IndexEntry, TAIL, read_tail};
use super::page::PageRef;
use super::summary::{self, Stretch, Summarised, SummaryCache};
use crate::catalog::SegmentRecord;
use crate::model::{SeriesId, Span, Summary};
use crate::store::StoreError;
use crate::store::error::DiskContext;
use crate::store::file::read_tail_of;
use crate::store::points::{Points, Values};
use crate::store::scale::{TimeUnit, rescale};
use crate::world::{Disk, FileRead};

/// Length of Parquet's footer u32 le, "PAR1".
const PARQUET_TAIL: usize = 8;

/// A segment of samples, open: its index in memory.
pub(in crate::store) struct Segment {
    pub record: SegmentRecord,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    file: Arc<dyn FileRead>,
    index: Index,
    /// First value of each page, by column.
    starts: [Vec<u32>; 3],
    by_series: Vec<u32>,
    /// First summary of each page.
    summary_starts: Vec<u32>,
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
        let tail = read_tail_of(&*file, &record).at("read", &path)?;
        let tail = tail.ok_or_else(|| damaged("its index or footer is not what was written"))?;
        let index = read_index(&tail).ok_or_else(|| damaged("its series index does not read"))?;
        let mut by_series: Vec<u32> = (0..index.entries.len() as u32).collect();
        by_series.sort_unstable_by_key(|&at| index.entries[at as usize].series);
        let starts = index.pages.each_ref().map(|pages| {
            pages.iter().scan(0, |next, page| Some(std::mem::replace(next, *next + page.values))).collect()
        });
        let pages = index.summaries.pages.iter();
        let summary_starts = pages.scan(0, |next, page| Some(std::mem::replace(next, *next + page.values))).collect();
        let (disk, doomed) = (disk.clone(), AtomicBool::new(false));
        Ok(Segment { record, path, disk, file, index, starts, by_series, summary_starts, doomed })
    }

    /// The error that a reader of it gives.
    pub fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason }
    }

    /// Its series in the file's order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.index.entries
    }

    pub fn entry(&self, series: SeriesId) -> Option<&IndexEntry> {
        Some(&self.entries()[self.place(series)?])
    }

    fn place(&self, series: SeriesId) -> Option<usize> {
        let entries = self.entries();
        let at = self.by_series.binary_search_by_key(&series, |&at| entries[at as usize].series).ok()?;
        Some(self.by_series[at] as usize)
    }

    /// Where the summaries of a series lie; `None` where it has none here.
    pub fn summarised(&self, series: SeriesId) -> Option<Summarised> {
        let of = &self.index.summaries.of;
        of.get(self.place(series)?).copied().filter(|of| of.count > 0)
    }

    /// Whether any series has summaries of stretches of which such a width is made.
    pub fn has_summaries(&self, fits: impl Fn(i64) -> bool) -> bool {
        self.index.summaries.of.iter().any(|of| of.count > 0 && fits(of.width()))
    }

    pub fn unit(&self) -> TimeUnit {
        self.index.unit
    }

    /// Bytes the index takes in memory, roughly.
    pub fn index_bytes(&self) -> usize {
        let pages: usize = self.index.pages.iter().chain([&self.index.summaries.pages]).map(Vec::len).sum();
        let summaries = self.index.summaries.of.len() * size_of::<Summarised>();
        self.entries().len() * (size_of::<IndexEntry>() + size_of::<u32>())
            + pages * (size_of::<PageRef>() + 4)
            + summaries
    }

    /// Removes the file when the last reader lets go of it.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
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

/// The index of a file that ends in `tail`; `None` where what is there is no index.
fn read_index(tail: &[u8]) -> Option<Index> {
    let (rest, end) = tail.split_last_chunk::<PARQUET_TAIL>()?;
    let (footer, _) = end.split_first_chunk::<4>().filter(|(_, magic)| *magic == b"PAR1")?;
    let rest = rest.get(..rest.len().checked_sub(u32::from_le_bytes(*footer) as usize)?)?;
    let (rest, index_tail) = rest.split_last_chunk::<TAIL>()?;
    let (packed, crc) = read_tail(index_tail)?;
    let packed = rest.get(rest.len().checked_sub(packed as usize)?..)?;
    (crc32c::crc32c(packed) == crc).then(|| Index::decode(packed)).flatten()
}

/// Reads rows of one segment; keeps the pages it read last.
pub(in crate::store) struct Cursor {
    segment: Arc<Segment>,
    pages: Pages,
    times: ColumnCursor<i64>,
    floats: ColumnCursor<f64>,
    whole: ColumnCursor<i64>,
    /// The page of summaries that was read last.
    summaries: Option<(usize, Arc<[Stretch]>)>,
}

impl Cursor {
    pub fn new(segment: Arc<Segment>) -> Self {
        Cursor {
            pages: Pages::default(),
            segment,
            times: ColumnCursor::new(Column::Time, put_whole),
            floats: ColumnCursor::new(Column::Value, put_floats),
            whole: ColumnCursor::new(Column::Unscaled, put_whole),
            summaries: None,
        }
    }

    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The samples of an entry within `span`, by time.
    pub fn read(&mut self, entry: &IndexEntry, span: Span) -> Result<Points, StoreError> {
        let (times, rows) = self.rows_within(entry, span)?;
        let values = self.values(entry, rows)?;
        Ok(Points { times, values })
    }

    /// The times of these.
    pub fn times_within(&mut self, entry: &IndexEntry, span: Span) -> Result<Vec<i64>, StoreError> {
        Ok(self.rows_within(entry, span)?.0)
    }

    /// The same with values as floats.
    pub fn columns_within(&mut self, entry: &IndexEntry, span: Span) -> Result<(Vec<i64>, Vec<f64>), StoreError> {
        let (times, rows) = self.rows_within(entry, span)?;
        let (segment, pages) = (&*self.segment, &mut self.pages);
        let range = entry.value + rows.start..entry.value + rows.end;
        let mut values = Vec::with_capacity(rows.len());
        match entry.scale {
            None => self.floats.read(segment, pages, range, &mut values)?,
            Some(scale) => {
                self.whole.visit(segment, pages, range, |whole| rescale(whole, scale, &mut values))?;
            }
        }
        Ok((times, values))
    }

    /// Hands on the summaries of the stretches that begin within `span`, with where they begin.
    pub fn summaries_within(
        &mut self,
        of: Summarised,
        span: Span,
        cache: &SummaryCache,
        mut take: impl FnMut(i64, &Summary),
    ) -> Result<(), StoreError> {
        let (width, mut at, end) = (of.width(), of.first, of.first + of.count);
        while at < end {
            let page = self.segment.summary_starts.partition_point(|&start| start <= at) - 1;
            let stretches = self.page_of_summaries(page, cache)?;
            let start = self.segment.summary_starts[page];
            let to = end.min(start + stretches.len() as u32);
            // By time: those of the span lie beside each other.
            for (number, summary) in &stretches[(at - start) as usize..(to - start) as usize] {
                let begins = number.saturating_mul(width);
                if (span.start.nanos()..span.end.nanos()).contains(&begins) {
                    take(begins, summary);
                }
            }
            at = to;
        }
        Ok(())
    }

    fn page_of_summaries(&mut self, page: usize, cache: &SummaryCache) -> Result<Arc<[Stretch]>, StoreError> {
        if let Some((_, stretches)) = self.summaries.as_ref().filter(|(last, _)| *last == page) {
            return Ok(stretches.clone());
        }
        let number = self.segment.record.number;
        let stretches = match cache.get(number, page) {
            Some(known) => known,
            None => {
                let place = &self.segment.index.summaries.pages[page];
                let plain = self.pages.read(&self.segment, place)?;
                let mut stretches = Vec::with_capacity(place.values as usize);
                if summary::decode(plain, place.values as usize, &mut stretches).is_none() {
                    return Err(self.segment.damaged(format!("the summaries at byte {} do not decode", place.offset)));
                }
                let stretches = Arc::from(stretches);
                cache.put(number, page, &stretches);
                stretches
            }
        };
        self.summaries = Some((page, stretches.clone()));
        Ok(stretches)
    }

    /// The times of an entry that lie in a span, and which of its rows these are.
    fn rows_within(&mut self, entry: &IndexEntry, span: Span) -> Result<(Vec<i64>, Range<u32>), StoreError> {
        let segment = &*self.segment;
        let unit = segment.unit().nanos();
        // In units the first at or behind a time.
        let in_units = |time: i64| time.div_euclid(unit).saturating_add(i64::from(time.rem_euclid(unit) > 0));
        let (start, end) = (in_units(span.start.nanos()), in_units(span.end.nanos()));
        let (mut times, mut before, mut rows) = (Vec::new(), 0, 0..0);
        self.times.visit(segment, &mut self.pages, entry.row..entry.row + entry.rows, |some| {
            let from = some.partition_point(|&time| time < start);
            let to = some.partition_point(|&time| time < end).max(from);
            if times.is_empty() {
                rows = before + from as u32..before + from as u32;
                times.reserve_exact(to - from);
            }
            times.extend(some[from..to].iter().map(|time| time.wrapping_mul(unit)));
            rows.end += (to - from) as u32;
            before += some.len() as u32;
        })?;
        self.check_order(entry, &times)?;
        Ok((times, rows))
    }

    fn check_order(&self, entry: &IndexEntry, times: &[i64]) -> Result<(), StoreError> {
        if times.is_sorted_by(|before, after| before < after) {
            return Ok(());
        }
        Err(self.segment.damaged(format!("the samples of series {} do not lie by time", entry.series.0)))
    }

    /// Some of an entry's samples, counted from its first.
    pub fn rows(&mut self, entry: &IndexEntry, rows: Range<u32>) -> Result<Points, StoreError> {
        Ok(Points { times: self.times(entry, rows.clone())?, values: self.values(entry, rows)? })
    }

    fn times(&mut self, entry: &IndexEntry, rows: Range<u32>) -> Result<Vec<i64>, StoreError> {
        let segment = &*self.segment;
        let mut times = Vec::with_capacity(rows.len());
        self.times.read(segment, &mut self.pages, entry.row + rows.start..entry.row + rows.end, &mut times)?;
        let unit = segment.unit().nanos();
        times.iter_mut().for_each(|time| *time = time.wrapping_mul(unit));
        self.check_order(entry, &times)?;
        Ok(times)
    }

    fn values(&mut self, entry: &IndexEntry, rows: Range<u32>) -> Result<Values, StoreError> {
        let (segment, pages) = (&*self.segment, &mut self.pages);
        let range = entry.value + rows.start..entry.value + rows.end;
        match entry.scale {
            None => {
                let mut floats = Vec::with_capacity(rows.len());
                self.floats.read(segment, pages, range, &mut floats)?;
                Ok(Values::Floats(floats))
            }
            Some(scale) => {
                let mut whole = Vec::with_capacity(rows.len());
                self.whole.read(segment, pages, range, &mut whole)?;
                Ok(Values::Scaled { scale, whole })
            }
        }
    }
}

/// Reads pages; keeps its room and tables from page to page.
#[derive(Default)]
struct Pages {
    zstd: Option<Decompressor<'static>>,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Pages {
    /// A page's payload, checked and decompressed.
    fn read(&mut self, segment: &Segment, page: &PageRef) -> Result<&[u8], StoreError> {
        self.fetch(segment, page)?;
        self.unpack(segment, page)
    }

    /// A page as it lies in the file, checked.
    fn fetch(&mut self, segment: &Segment, page: &PageRef) -> Result<&[u8], StoreError> {
        self.packed.resize(page.len as usize, 0);
        segment.file.read_exact_at(page.offset, &mut self.packed).at("read", &segment.path)?;
        if crc32c::crc32c(&self.packed) != page.crc {
            let reason = format!("the page at byte {} has another checksum than the index", page.offset);
            return Err(segment.damaged(reason));
        }
        Ok(&self.packed)
    }

    /// The payload of the page that was fetched last.
    fn unpack(&mut self, segment: &Segment, page: &PageRef) -> Result<&[u8], StoreError> {
        self.plain.clear();
        self.plain.reserve(page.plain as usize);
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(Decompressor::new().at("decompress", &segment.path)?),
        };
        let payload = self.packed.get(page.header as usize..).unwrap_or_default();
        match zstd.decompress_to_buffer(payload, &mut self.plain) {
            Ok(len) if len == page.plain as usize => Ok(&self.plain),
            _ => Err(segment.damaged(format!("the page at byte {} does not decompress", page.offset))),
        }
    }
}

/// Appends the values of a page's payload; `None` where it does not hold as many.
type Decode<T> = fn(&[u8], usize, &mut Vec<T>) -> Option<()>;

struct ColumnCursor<T> {
    column: Column,
    decode: Decode<T>,
    page: Option<usize>,
    values: Vec<T>,
    /// The page as it lies in the file, where it is short. Series that are sampled together have times that are the same to
    /// the byte: these are decoded once.
    packed: Vec<u8>,
}

/// Bytes of a page that are held against the next one's.
const SHORT: u32 = 4096;

impl<T: Copy> ColumnCursor<T> {
    fn new(column: Column, decode: Decode<T>) -> Self {
        ColumnCursor { column, decode, page: None, values: Vec::new(), packed: Vec::new() }
    }

    /// Appends a range of the column's values, nulls not counted.
    fn read(
        &mut self,
        segment: &Segment,
        pages: &mut Pages,
        range: Range<u32>,
        out: &mut Vec<T>,
    ) -> Result<(), StoreError> {
        self.visit(segment, pages, range, |some| out.extend_from_slice(some))
    }

    /// The same, a page's part at a time.
    fn visit(
        &mut self,
        segment: &Segment,
        pages: &mut Pages,
        mut range: Range<u32>,
        mut take: impl FnMut(&[T]),
    ) -> Result<(), StoreError> {
        let starts = &segment.starts[self.column as usize];
        while !range.is_empty() {
            let page = starts.partition_point(|&start| start <= range.start) - 1;
            self.open(segment, pages, page)?;
            let start = starts[page];
            let to = range.end.min(start + self.values.len() as u32);
            take(&self.values[(range.start - start) as usize..(to - start) as usize]);
            range.start = to;
        }
        Ok(())
    }

    fn open(&mut self, segment: &Segment, pages: &mut Pages, page: usize) -> Result<(), StoreError> {
        if self.page == Some(page) {
            return Ok(());
        }
        self.page = None;
        let place = &segment.index.pages[self.column as usize][page];
        let count = place.values as usize;
        let packed = pages.fetch(segment, place)?;
        if !packed.is_empty() && self.packed == packed && self.values.len() == count {
            self.page = Some(page);
            return Ok(());
        }
        self.packed.clear();
        if place.len <= SHORT {
            self.packed.extend_from_slice(packed);
        }
        let plain = pages.unpack(segment, place)?;
        self.values.clear();
        let payload = match self.column {
            Column::Time => Some(plain),
            Column::Value | Column::Unscaled => behind_levels(plain),
        };
        let decoded = payload.and_then(|payload| (self.decode)(payload, count, &mut self.values));
        if decoded.is_none() || self.values.len() != count {
            self.packed.clear();
            return Err(segment.damaged(format!("the page at byte {} does not decode", place.offset)));
        }
        self.page = Some(page);
        Ok(())
    }
}

/// What follows the definition levels: their length u32 le stands before them.
fn behind_levels(plain: &[u8]) -> Option<&[u8]> {
    let (len, rest) = plain.split_first_chunk::<4>()?;
    rest.get(u32::from_le_bytes(*len) as usize..)
}

fn put_whole(payload: &[u8], count: usize, out: &mut Vec<i64>) -> Option<()> {
    delta::decode(payload, count, out)
}

/// BYTE_STREAM_SPLIT.
fn put_floats(payload: &[u8], count: usize, out: &mut Vec<f64>) -> Option<()> {
    (payload.len() == count * 8).then_some(())?;
    let byte = |stream: usize, at: usize| payload[stream * count + at];
    let value = |at: usize| f64::from_le_bytes(std::array::from_fn(|stream| byte(stream, at)));
    out.extend((0..count).map(value));
    Some(())
}
