//! Series as rows of a table: those that share their labels stand beside each other, a column each.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};

use super::cache::Scanned;
use super::dimension::Dimension;
use super::stream::of_store;
use crate::model::{SeriesId, Span, Timestamp};
use crate::store::Snapshot;

/// Rows that are read at one go, at most, of a track.
const ROWS: u64 = 1 << 16;
/// Nanoseconds from sample to sample where nobody knows.
const STEP: u64 = 1_000_000_000;
/// Samples that are read sooner than a second thread has begun; tests have few and want several partitions.
const FEW: f64 = if cfg!(test) { 256.0 } else { 65_536.0 };

/// Series of the same labels, by field: a row of theirs is a time at which any of them has a sample.
pub(super) struct Track {
    pub series: Box<[Option<SeriesId>]>,
}

impl Track {
    /// One whose labels are those of all.
    pub fn any(&self) -> SeriesId {
        self.all().next().unwrap_or(SeriesId(0))
    }

    pub fn all(&self) -> impl Iterator<Item = SeriesId> {
        self.series.iter().flatten().copied()
    }
}

/// What a scan is over.
#[derive(Clone)]
pub(super) struct Tracks {
    pub snapshot: Snapshot,
    pub dimension: Arc<Dimension>,
    pub span: Span,
    /// Names of the columns of values, in the order of the series of each track.
    pub fields: Vec<String>,
    /// A list for each partition.
    pub parts: Vec<Arc<[Track]>>,
    /// All series that were asked for, those that have nothing in the span yet among them.
    pub asked: Arc<[SeriesId]>,
}

impl Tracks {
    /// Tracks of a snapshot in lists, at most as many as there are to be partitions and none without enough to do.
    pub fn new(
        (snapshot, dimension): (Snapshot, Arc<Dimension>),
        span: Span,
        fields: Vec<String>,
        (tracks, asked): (Vec<Track>, Vec<SeriesId>),
        partitions: usize,
    ) -> Tracks {
        let mut made = Tracks { snapshot, dimension, span, fields, parts: Vec::new(), asked: asked.into() };
        let samples: f64 = tracks.iter().flat_map(Track::all).map(|id| made.samples(id)).sum();
        let partitions = ((samples / FEW) as usize).clamp(1, partitions.max(1));
        let share = tracks.len().div_ceil(partitions).max(1);
        let mut rest = tracks.into_iter().peekable();
        while rest.peek().is_some() {
            made.parts.push(rest.by_ref().take(share).collect());
        }
        if made.parts.is_empty() {
            made.parts.push(Arc::new([]));
        }
        made
    }

    /// About as many samples of a series lie in the span.
    fn samples(&self, series: SeriesId) -> f64 {
        self.range(series)
            .map_or(0.0, |(first, last)| last.saturating_sub(first) as f64 * self.rows_a_nanosecond(series))
    }

    /// First and last time that a series may have in the span; `None` where it has none.
    pub fn range(&self, series: SeriesId) -> Option<(i64, i64)> {
        let (first, last) = self.snapshot.time_range(series)?;
        let (first, last) = (first.max(self.span.start).nanos(), last.nanos().min(self.span.end.nanos() - 1));
        (first <= last).then_some((first, last))
    }

    /// The same of several.
    pub fn range_of(&self, series: impl Iterator<Item = SeriesId>) -> Option<(i64, i64)> {
        series.filter_map(|id| self.range(id)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// What is read; `None` where some of it is in memory, or is about to be too old to be kept: then it is not the same for long.
    pub fn scanned(&self) -> Option<Scanned> {
        let segments = self.snapshot.segments_alone(self.asked.iter().copied(), self.span)?;
        Some(Scanned { series: self.asked.clone(), span: self.span, segments })
    }

    /// The range in which some series have samples, in pieces of so many rows that a piece of each of them takes little
    /// memory.
    pub fn pieces(&self, series: &[SeriesId]) -> Vec<Span> {
        let Some((first, last)) = self.range_of(series.iter().copied()) else { return Vec::new() };
        let densest = series.iter().map(|&id| self.rows_a_nanosecond(id)).fold(0.0, f64::max);
        let length = ((ROWS as f64 / densest) as i64).max(1);
        let span = |start: i64| {
            let end = start.saturating_add(length).min(last.saturating_add(1));
            Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end))
        };
        let next = |span: &Span| Some(span.end.nanos()).filter(|&end| end <= last && end < i64::MAX);
        std::iter::successors(Some(span(first)), |before| next(before).map(span)).collect()
    }

    /// The part of the span, up to its end or from its beginning, in which at least so many rows are; `None` where that is
    /// half of it and more.
    fn end_with(&self, rows: usize, latest: bool) -> Result<Option<Span>> {
        let tracks = || self.parts.iter().flat_map(|part| part.iter());
        let Some((first, last)) = self.range_of(tracks().flat_map(Track::all)) else { return Ok(None) };
        let density: f64 = tracks().map(|track| self.rows_a_nanosecond(track.any())).sum();
        let mut length = (2.0 * rows as f64 / density) as i64 + 1;
        while length < last.saturating_sub(first) / 2 {
            let (start, end) = match latest {
                true => (Timestamp::from_nanos(last.saturating_sub(length)), Timestamp::MAX),
                false => (Timestamp::MIN, Timestamp::from_nanos(first.saturating_add(length))),
            };
            let span = self.span.intersect(Span::new(start, end));
            let mut scan = self.snapshot.scan(Vec::new(), span);
            let mut found = 0;
            // Of each track one series: where it has a sample, there is a row.
            for track in tracks() {
                found += scan.times(track.any(), span).map_err(of_store)?.times.len();
                if found >= rows {
                    return Ok(Some(span));
                }
            }
            length = length.saturating_mul(4);
        }
        Ok(None)
    }

    fn rows_a_nanosecond(&self, series: SeriesId) -> f64 {
        let range = self.snapshot.time_range(series);
        match (self.snapshot.count(series), range) {
            (Some(count), Some((first, last))) if last > first => {
                count as f64 / (last.nanos().saturating_sub(first.nanos())) as f64
            }
            _ => 1.0 / STEP as f64,
        }
    }
}

/// A plan over tracks: it reads rows, and says what it is over to who can do with less.
pub(super) struct TracksExec {
    /// What `EXPLAIN` says of it.
    pub told: String,
    pub tracks: Arc<Tracks>,
    /// Whether it leaves rows of them out.
    pub chooses: bool,
    /// Makes the rows.
    pub inner: Arc<dyn ExecutionPlan>,
    /// Makes what makes the rows of some tracks; `None` where less of them would not say the same.
    pub make: Option<Arc<Make>>,
}

/// What makes the rows of some tracks.
pub(super) type Make = dyn Fn(&Arc<Tracks>) -> Result<Arc<dyn ExecutionPlan>> + Send + Sync;

impl TracksExec {
    pub fn new(
        told: String,
        tracks: Tracks,
        chooses: bool,
        make: impl Fn(&Arc<Tracks>) -> Result<Arc<dyn ExecutionPlan>> + Send + Sync + 'static,
    ) -> Result<TracksExec> {
        let (tracks, make): (_, Arc<Make>) = (Arc::new(tracks), Arc::new(make));
        Ok(TracksExec { told, inner: make(&tracks)?, tracks, chooses, make: Some(make) })
    }

    /// The same over as much of the end of time, or of its beginning, as has so many rows at least; `None` where that is about
    /// all of it.
    pub fn narrowed(&self, rows: usize, latest: bool) -> Result<Option<TracksExec>> {
        let Some(make) = self.make.as_ref().filter(|_| !self.chooses && self.fetch().is_none()) else {
            return Ok(None);
        };
        let Some(span) = self.tracks.end_with(rows, latest)? else { return Ok(None) };
        let (tracks, make) = (Arc::new(Tracks { span, ..(*self.tracks).clone() }), make.clone());
        let told = format!("{} (the rows at the end that are asked for)", self.told);
        Ok(Some(TracksExec { told, inner: make(&tracks)?, tracks, chooses: false, make: Some(make) }))
    }
}

impl fmt::Debug for TracksExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

impl DisplayAs for TracksExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracks: usize = self.tracks.parts.iter().map(|part| part.len()).sum();
        write!(f, "{}: tracks={tracks}, partitions={}", self.told, self.tracks.parts.len())?;
        if self.chooses {
            f.write_str(", chosen by fields")?;
        }
        let Span { start, end } = self.tracks.span;
        match (start > Timestamp::MIN, end < Timestamp::MAX) {
            (true, true) => write!(f, ", time>={start}, time<{end}"),
            (true, false) => write!(f, ", time>={start}"),
            (false, true) => write!(f, ", time<{end}"),
            (false, false) => Ok(()),
        }
    }
}

#[async_trait]
impl ExecutionPlan for TracksExec {
    fn name(&self) -> &str {
        "TracksExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.inner.execute(partition, context)
    }
}
