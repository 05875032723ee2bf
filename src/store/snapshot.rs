//! A snapshot: segments and heads as of one moment, read series by series.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::StoreError;
use super::core::{View, unpoisoned};
use super::derived::{Latest, read_rows};
use super::head::{Counts, Head};
use super::losses::Suspects;
use super::merge_rows::MergedRows;
use super::pieces::Pieces;
use super::points::{Points, Values, merge};
use super::retention::Kept;
use super::segment::{Cursor, IndexEntry, SummaryCache};
use crate::catalog::{Registry, SegmentRecord, TableName};
use crate::model::{Sample, SeriesId, Span, Summary, Table, Timestamp};
use crate::world::Disk;

/// All samples of one series in a span, by time, each time once.
#[derive(Debug, Clone)]
pub struct SeriesRun {
    pub series: SeriesId,
    pub samples: Vec<Sample>,
}

/// The same in columns; times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    pub times: Vec<i64>,
    /// As many, or none where only times were asked for.
    pub values: Vec<f64>,
}

struct HeadView {
    head: Arc<RwLock<Head>>,
    counts: Counts,
}

/// The store as of one moment. Cheap to clone; files it needs stay until it is dropped.
#[derive(Clone)]
pub struct Snapshot {
    view: View,
    heads: Arc<Vec<HeadView>>,
    registry: Arc<Registry>,
    series: usize,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    kept: Kept,
    suspects: Arc<Suspects>,
    summaries: Arc<SummaryCache>,
}

impl Snapshot {
    pub(super) fn new(
        view: View,
        registry: Arc<Registry>,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        kept: Kept,
        suspects: Arc<Suspects>,
        summaries: Arc<SummaryCache>,
    ) -> Snapshot {
        let heads = view.heads().map(|head| {
            let counts = unpoisoned(head.write()).counts();
            HeadView { head: head.clone(), counts }
        });
        let heads = Arc::new(heads.collect());
        Snapshot { heads, series: registry.len(), view, registry, disk, dir, kept, suspects, summaries }
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Series there are, numbered from 0.
    pub fn series_count(&self) -> usize {
        self.series
    }

    /// Reads series in the order given, by which the file's order (metric, then number) is quickest.
    pub fn scan(&self, series: Vec<SeriesId>, span: Span) -> Scan {
        let span = span.intersect(self.kept.span_of_any());
        let touched =
            |segment: &&Arc<super::segment::Segment>| span.touches(segment.record.first(), segment.record.last());
        let cursors = self.view.segments.iter().filter(touched).cloned().map(Cursor::new).collect();
        Scan { snapshot: self.clone(), cursors, span, series: series.into_iter() }
    }

    /// How many samples a series has, where that can be told without reading them: no two parts of it overlap in time, and
    /// nothing of it is expired.
    pub fn count(&self, series: SeriesId) -> Option<u64> {
        let in_heads: u32 = self.heads.iter().map(|view| view.counts.of(series)).sum();
        if in_heads > 0 {
            return None;
        }
        let mut parts: Vec<_> = self.view.segments.iter().filter_map(|segment| segment.entry(series)).collect();
        parts.sort_unstable_by_key(|entry| entry.first);
        if parts.first().is_some_and(|entry| entry.first < self.kept.oldest(series).nanos()) {
            return None;
        }
        let disjoint = parts.windows(2).all(|pair| pair[0].last < pair[1].first);
        disjoint.then(|| parts.iter().map(|entry| u64::from(entry.rows)).sum())
    }

    /// Whether files have summaries of which buckets of a width (one begins at the time given) are made.
    pub fn has_summaries(&self, span: Span, bucket: Option<(i64, i64)>) -> bool {
        let touched =
            self.view.segments.iter().filter(|segment| span.touches(segment.record.first(), segment.record.last()));
        touched.into_iter().any(|segment| segment.has_summaries(|width| is_made_of(bucket, width)))
    }

    /// The numbers of the segments that samples of a span lie in; `None` where some of the series have samples of it in memory,
    /// or some that grow too old.
    pub fn segments_alone(&self, mut series: impl Iterator<Item = SeriesId>, span: Span) -> Option<Vec<u64>> {
        let is_alone = |id: SeriesId| {
            let touches = |(first, last): (Timestamp, Timestamp)| span.touches(first, last);
            let in_memory = self.heads.iter().filter_map(|view| view.time_range(id)).any(touches);
            !in_memory && (self.oldest(id) <= span.start || self.kept.span(id) == Span::ALL)
        };
        let touched =
            |segment: &&Arc<super::segment::Segment>| span.touches(segment.record.first(), segment.record.last());
        let numbers = self.view.segments.iter().filter(touched).map(|segment| segment.record.number);
        series.all(is_alone).then(|| numbers.collect())
    }

    /// The oldest time that is kept of a series.
    pub fn oldest(&self, series: SeriesId) -> Timestamp {
        self.kept.oldest(series)
    }

    /// First and last time of a series, from what is known without reading: `None` where it has no samples. Where part
    /// of it is expired, the first is the oldest time that is kept.
    pub fn time_range(&self, series: SeriesId) -> Option<(Timestamp, Timestamp)> {
        let at_rest = self.view.segments.iter().filter_map(|segment| segment.entry(series));
        let at_rest = at_rest.map(|entry| (Timestamp::from_nanos(entry.first), Timestamp::from_nanos(entry.last)));
        let in_memory = self.heads.iter().filter_map(|view| view.time_range(series));
        let (first, last) = at_rest.chain(in_memory).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let oldest = self.oldest(series);
        (last >= oldest).then_some((first.max(oldest), last))
    }

    /// The segments and files of every table, for `system.segments`.
    pub fn records(&self) -> Vec<SegmentRecord> {
        self.view.records().cloned().collect()
    }

    /// The rows of a derived table that are kept, sorted by its key.
    pub fn rows(&self, table: Table) -> Result<RecordBatch, StoreError> {
        let parts = self.row_parts(table)?.collect::<Result<Vec<_>, _>>()?;
        Ok(concat_batches(&table.schema(), &parts)?)
    }

    /// The same, some rows at a time, so that few of them are in memory at once.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn row_parts(
        &self,
        table: Table,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, StoreError>> + use<>, StoreError> {
        let of_table = |record: &&SegmentRecord| record.table == TableName::Derived(table);
        let records: Vec<SegmentRecord> =
            self.view.files.iter().map(|file| &file.record).filter(of_table).cloned().collect();
        let in_memory = [&self.view.frozen_rows, &self.view.rows].into_iter().filter_map(|rows| rows.get(&table));
        let in_memory: Vec<RecordBatch> = in_memory.flatten().cloned().collect();
        let in_memory = Latest::of(table, &in_memory)?.whole()?;
        let opened = MergedRows::open(&*self.disk, &self.dir, &records, &table.schema(), table.group_columns());
        let merged = opened.inspect_err(|_| self.blame(&records))?.and_memory(in_memory)?;
        // It keeps the files.
        let snapshot = self.clone();
        Ok(merged.map(move |rows| snapshot.kept.filter(table, rows.inspect_err(|_| snapshot.blame(&records))?)))
    }

    /// Names the files among some that do not read.
    fn blame(&self, records: &[SegmentRecord]) {
        for record in records {
            if let Err(error) = read_rows(&*self.disk, &self.dir, record) {
                self.suspects.name(record.number, &error);
            }
        }
    }
}

/// Whether a bucket is made of whole stretches of a width; all of time is.
fn is_made_of(bucket: Option<(i64, i64)>, width: i64) -> bool {
    bucket.is_none_or(|(of, origin)| of % width == 0 && origin % width == 0)
}

/// The stretches within `kept` that one part alone has samples in, as spans.
fn whole_stretches(kept: Span, own: (i64, i64), others: impl Iterator<Item = (i64, i64)>, width: i64) -> Vec<Span> {
    let floor = |time: i64| time.div_euclid(width).saturating_mul(width);
    let behind = |time: i64| floor(time).saturating_add(width);
    let from = if kept.start.nanos() <= floor(own.0) { floor(own.0) } else { behind(kept.start.nanos() - 1) };
    let to = if kept.end.nanos() >= behind(own.1) { behind(own.1) } else { floor(kept.end.nanos()) };
    let span = |start: i64, end: i64| Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end));
    let mut spans = vec![span(from, to.max(from))];
    for (first, last) in others {
        spans = spans.into_iter().flat_map(|before| without(before, span(floor(first), behind(last)))).collect();
    }
    spans.retain(|span| span.start < span.end);
    spans
}

/// What is left of a span before and behind another.
fn without(span: Span, other: Span) -> impl Iterator<Item = Span> {
    let before = Span::new(span.start, span.end.min(other.start).max(span.start));
    let behind = Span::new(span.start.max(other.end).min(span.end), span.end);
    [before, behind].into_iter().filter(|left| left.start < left.end)
}

impl HeadView {
    fn points(&self, series: SeriesId, span: Span) -> Points {
        match self.counts.of(series) {
            0 => Points::default(),
            count => unpoisoned(self.head.read()).points(series, count, span),
        }
    }

    fn time_range(&self, series: SeriesId) -> Option<(Timestamp, Timestamp)> {
        let seen = self.counts.of(series) > 0;
        seen.then(|| unpoisoned(self.head.read()).series_range(series)).flatten()
    }
}

/// Reads one series after another.
pub struct Scan {
    snapshot: Snapshot,
    cursors: Vec<Cursor>,
    span: Span,
    series: std::vec::IntoIter<SeriesId>,
}

impl Scan {
    /// Leaves the next series out.
    pub fn skip_one(&mut self) {
        self.series.next();
    }

    /// What `read` gives of each segment that has samples of a series in the span.
    fn at_rest<T>(
        &mut self,
        series: SeriesId,
        span: Span,
        read: impl Fn(&mut Cursor, &IndexEntry) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut parts = Vec::with_capacity(self.cursors.len() + self.snapshot.heads.len());
        for cursor in &mut self.cursors {
            let Some(entry) = cursor.segment().entry(series).copied() else { continue };
            if span.touches(Timestamp::from_nanos(entry.first), Timestamp::from_nanos(entry.last)) {
                let read = read(cursor, &entry);
                let number = cursor.segment().record.number;
                parts.push(read.inspect_err(|error| self.snapshot.suspects.name(number, error))?);
            }
        }
        Ok(parts)
    }

    fn points(&mut self, series: SeriesId, span: Span) -> Result<Points, StoreError> {
        let span = span.intersect(self.span).intersect(self.snapshot.kept.span(series));
        let mut parts = self.at_rest(series, span, |cursor, entry| cursor.read(entry, span))?;
        parts.extend(self.snapshot.heads.iter().map(|view| view.points(series, span)));
        Ok(merge(parts))
    }

    fn read(&mut self, series: SeriesId) -> Result<SeriesRun, StoreError> {
        Ok(SeriesRun { series, samples: self.points(series, self.span)?.into_samples() })
    }

    /// The samples of any series within a part of the span, by time, each time once. Those that lie side by side in the files
    /// (the order of [`crate::catalog::Registry::file_order`]) cost little.
    ///
    /// # Errors
    /// A segment that does not read.
    pub fn columns(&mut self, series: SeriesId, span: Span) -> Result<Columns, StoreError> {
        let kept = span.intersect(self.span).intersect(self.snapshot.kept.span(series));
        let mut parts = self.at_rest(series, kept, |cursor, entry| cursor.columns_within(entry, kept))?;
        let in_memory =
            self.snapshot.heads.iter().map(|view| view.points(series, kept)).filter(|some| !some.is_empty());
        parts.extend(in_memory.map(Points::into_columns));
        if parts.len() > 1 {
            let floats = |(times, values)| Points { times, values: Values::Floats(values) };
            parts = vec![merge(parts.into_iter().map(floats).collect()).into_columns()];
        }
        let (times, values) = parts.pop().unwrap_or_default();
        Ok(Columns { times, values })
    }

    /// Hands on what files say of whole stretches of a series, with where each begins: of those within the span that are part of
    /// one bucket of the given width (and of which one begins at the given time), and of which no other file and no head has
    /// a sample. What is left is to be read from samples.
    ///
    /// # Errors
    /// A segment that does not read.
    pub fn summaries(
        &mut self,
        series: SeriesId,
        bucket: Option<(i64, i64)>,
        mut take: impl FnMut(i64, &Summary),
    ) -> Result<Vec<Span>, StoreError> {
        let kept = self.span.intersect(self.snapshot.kept.span(series));
        let at_rest = self.cursors.iter().map(Cursor::segment);
        let at_rest = at_rest.map(|segment| segment.entry(series).map(|entry| (entry.first, entry.last)));
        let in_heads = self
            .snapshot
            .heads
            .iter()
            .map(|view| view.time_range(series).map(|(first, last)| (first.nanos(), last.nanos())));
        let parts: Vec<Option<(i64, i64)>> = at_rest.chain(in_heads).collect();
        let mut left = vec![kept];
        for (at, cursor) in self.cursors.iter_mut().enumerate() {
            let (Some(own), Some(of)) = (parts[at], cursor.segment().summarised(series)) else { continue };
            if !is_made_of(bucket, of.width()) {
                continue;
            }
            let others = parts.iter().enumerate().filter(|(other, _)| *other != at).filter_map(|(_, part)| *part);
            for span in whole_stretches(kept, own, others, of.width()) {
                let read = cursor.summaries_within(of, span, &self.snapshot.summaries, &mut take);
                let number = cursor.segment().record.number;
                read.inspect_err(|error| self.snapshot.suspects.name(number, error))?;
                left = left.into_iter().flat_map(|before| without(before, span)).collect();
            }
        }
        let touched = |span: &Span| {
            let touches =
                |&(first, last): &(i64, i64)| span.touches(Timestamp::from_nanos(first), Timestamp::from_nanos(last));
            parts.iter().flatten().any(touches)
        };
        left.retain(touched);
        Ok(left)
    }

    /// The same without values.
    ///
    /// # Errors
    /// As [`Scan::columns`].
    pub fn times(&mut self, series: SeriesId, span: Span) -> Result<Columns, StoreError> {
        let span = span.intersect(self.span).intersect(self.snapshot.kept.span(series));
        let mut parts = self.at_rest(series, span, |cursor, entry| cursor.times_within(entry, span))?;
        parts.extend(self.snapshot.heads.iter().map(|view| view.points(series, span).times));
        let mut times = parts.concat();
        if !times.is_sorted_by(|a, b| a < b) {
            times.sort_unstable();
            times.dedup();
        }
        Ok(Columns { times, values: Vec::new() })
    }
}

impl Scan {
    /// Reads the next series and hands its samples on by time, a piece at a time. `None` behind the last.
    ///
    /// # Errors
    /// A segment that does not read; what was handed on before is right.
    pub fn next_in_pieces(&mut self, take: impl FnMut(&[Sample])) -> Option<Result<SeriesId, StoreError>> {
        let series = self.series.next()?;
        Some(self.read_in_pieces(series, self.span, take).map(|()| series))
    }

    /// The same of any series, within a part of the span. What was read of the files is kept for the next call, so that those
    /// which lie side by side (the order of [`crate::catalog::Registry::file_order`]) cost little.
    ///
    /// # Errors
    /// As [`Scan::next_in_pieces`].
    pub fn read_in_pieces(
        &mut self,
        series: SeriesId,
        span: Span,
        mut take: impl FnMut(&[Sample]),
    ) -> Result<(), StoreError> {
        let span = span.intersect(self.span).intersect(self.snapshot.kept.span(series));
        let mut pieces = Pieces::new(span);
        for cursor in &mut self.cursors {
            if let Some(entry) = cursor.segment().entry(series).copied() {
                pieces.add_rows(cursor, entry);
            }
        }
        self.snapshot.heads.iter().for_each(|view| pieces.add_points(view.points(series, span)));
        loop {
            match pieces.next() {
                Ok(Some(points)) => take(&points.into_samples()),
                Ok(None) => return Ok(()),
                Err(error) => {
                    pieces.at_fault().into_iter().for_each(|number| self.snapshot.suspects.name(number, &error));
                    return Err(error);
                }
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Result<SeriesRun, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let series = self.series.next()?;
        Some(self.read(series))
    }
}
