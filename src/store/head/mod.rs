//! The head: samples since the last flush, a packed column of them per series, in the order they came.

mod arena;
mod column;

use std::collections::HashMap;
use std::sync::Arc;

use arena::Arena;
use column::{Column, Mark};

use super::points::Points;
use super::scale::TimeUnit;
use crate::model::{Batch, SeriesId, Span, Timestamp};

/// Series whose counts a view shares as one.
const SHARE: usize = 1024;

/// Samples in memory. Columns are append-only, so a reader that noted a count sees the same samples later.
#[derive(Default)]
pub(super) struct Head {
    columns: Vec<Column>,
    /// Of columns that are long.
    marks: HashMap<u32, Vec<Mark>>,
    arena: Arena,
    samples: usize,
    unit: Option<TimeUnit>,
    /// Counts as some view saw them last, [`SHARE`] series each; `None` where they have changed since.
    counts: Vec<Option<Arc<[u32]>>>,
}

/// How many samples each series had at one moment.
#[derive(Clone, Default)]
pub(super) struct Counts(Arc<[Arc<[u32]>]>);

impl Counts {
    pub fn of(&self, series: SeriesId) -> u32 {
        let share = self.0.get(series.index() / SHARE);
        share.and_then(|counts| counts.get(series.index() % SHARE)).copied().unwrap_or(0)
    }
}

impl Head {
    pub fn append(&mut self, batch: &Batch) {
        let Some(&highest) = batch.series.iter().max() else { return };
        let series = highest as usize + 1;
        if series > self.columns.len() {
            self.columns.resize_with(series, Column::default);
            self.counts.resize(series.div_ceil(SHARE), None);
        }
        for ((&series, &time), &value) in batch.series.iter().zip(&batch.times).zip(&batch.values) {
            let column = &mut self.columns[series as usize];
            if let Some(mark) = column.mark() {
                self.marks.entry(series).or_default().push(mark);
            }
            column.push(time, value, &mut self.arena);
            self.counts[series as usize / SHARE] = None;
        }
        self.samples += batch.len();
        self.unit = Some(self.unit.unwrap_or(TimeUnit::Millis).fit(&batch.times));
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes it takes for its series, however few samples they have.
    pub fn bytes_of_columns(&self) -> usize {
        self.columns.capacity() * size_of::<Column>()
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.arena.bytes() + self.bytes_of_columns() + self.samples / column::STRETCH as usize * size_of::<Mark>()
    }

    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let ranges = self.filled().filter_map(|series| self.series_range(series));
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The coarsest unit that loses nothing of any sample's time.
    pub fn unit(&self) -> TimeUnit {
        self.unit.unwrap_or(TimeUnit::Millis)
    }

    /// How many samples each series has now.
    pub fn counts(&mut self) -> Counts {
        let columns = self.columns.chunks(SHARE);
        let shares =
            self.counts.iter_mut().zip(columns).map(|(share, columns)| {
                share.get_or_insert_with(|| columns.iter().map(Column::count).collect()).clone()
            });
        Counts(shares.collect())
    }

    /// The first `count` samples of a series within `span`, by time; of several at one time the last that came.
    pub fn points(&self, series: SeriesId, count: u32, span: Span) -> Points {
        let Some(column) = self.columns.get(series.index()) else { return Points::default() };
        let mut points = column.points(count, span, self.marks_of(series), &self.arena);
        points.sort();
        points.keep_within(span);
        points
    }

    /// First and last time of a series, or a span around those of its first samples.
    pub fn series_range(&self, series: SeriesId) -> Option<(Timestamp, Timestamp)> {
        self.columns.get(series.index())?.time_range(self.marks_of(series))
    }

    fn marks_of(&self, series: SeriesId) -> &[Mark] {
        self.marks.get(&series.0).map_or(&[], Vec::as_slice)
    }

    /// Series that have samples.
    pub fn filled(&self) -> impl Iterator<Item = SeriesId> {
        let filled = self.columns.iter().enumerate().filter(|(_, column)| column.count() > 0);
        filled.map(|(id, _)| SeriesId(id as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(samples: &[(u32, i64, f64)]) -> Batch {
        let mut batch = Batch::default();
        for &(series, time, value) in samples {
            batch.push(SeriesId(series), Timestamp::from_nanos(time), value);
        }
        batch
    }

    fn told(head: &Head, series: u32, count: u32) -> Vec<(i64, f64)> {
        let points = head.points(SeriesId(series), count, Span::ALL);
        points.into_samples().iter().map(|sample| (sample.time.nanos(), sample.value)).collect()
    }

    #[test]
    fn the_last_sample_of_a_time_stays() {
        let mut head = Head::default();
        head.append(&batch(&[(0, 3, 1.0), (0, 1, 2.0), (0, 3, 3.0), (0, 2, 4.0), (0, 1, 5.0)]));
        assert_eq!(told(&head, 0, 5), [(1, 5.0), (2, 4.0), (3, 3.0)]);
        assert_eq!(told(&head, 0, 2), [(1, 2.0), (3, 1.0)]);
        assert_eq!(head.time_range(), Some((Timestamp::from_nanos(1), Timestamp::from_nanos(3))));
        assert_eq!(head.unit(), TimeUnit::Nanos);
    }

    #[test]
    fn counts_stay_as_they_were_noted() {
        let mut head = Head::default();
        head.append(&batch(&[(0, 1, 1.0), (5_000, 1, 1.0)]));
        let before = head.counts();
        head.append(&batch(&[(5_000, 2, 2.0), (9_000, 1, 1.0)]));
        let after = head.counts();
        let of = |counts: &Counts| [0, 1, 5_000, 9_000, 99_000].map(|id| counts.of(SeriesId(id)));
        assert_eq!(of(&before), [1, 0, 1, 0, 0]);
        assert_eq!(of(&after), [1, 0, 2, 1, 0]);
        assert!(Arc::ptr_eq(&before.0[0], &after.0[0]));
    }
}
