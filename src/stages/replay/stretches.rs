//! The samples of the store in the order of time over all series: a stretch of time after another, each read series by
//! series, and no longer than memory allows.

use std::sync::Arc;

use crate::model::{Batch, SeriesId, Span, Timestamp};
use crate::store::{SeriesRun, Snapshot, StoreError};

/// Reads a span, a stretch at a time.
pub(super) struct Stretches<'s> {
    snapshot: &'s Snapshot,
    series: &'s [SeriesId],
    at: i64,
    end: i64,
    /// How long the next one is to be.
    length: i64,
    /// Samples of a stretch; one that is as short as can be may have more.
    most: usize,
}

impl<'s> Stretches<'s> {
    pub fn new(snapshot: &'s Snapshot, series: &'s [SeriesId], span: Span, most: usize) -> Self {
        let (at, end) = (span.start.nanos(), span.end.nanos());
        let stored: u64 = snapshot.records().iter().map(|record| record.rows).sum();
        // As if they lay evenly in the span; what is found corrects it.
        let share = most as f64 / stored.max(1) as f64;
        let length = (end.saturating_sub(at) as f64 * share.min(1.0)) as i64;
        Stretches { snapshot, series, at, end, length: length.max(1), most }
    }

    fn read(&self, span: Span) -> Result<Option<Vec<SeriesRun>>, StoreError> {
        let (mut runs, mut samples) = (Vec::new(), 0);
        for run in self.snapshot.scan(self.series.to_vec(), span) {
            let run = run?;
            samples += run.samples.len();
            if samples > self.most && self.length > 1 {
                return Ok(None);
            }
            if !run.samples.is_empty() {
                runs.push(run);
            }
        }
        Ok(Some(runs))
    }
}

impl Iterator for Stretches<'_> {
    /// Series that have samples in the stretch, with them.
    type Item = Result<Vec<SeriesRun>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end {
            let end = self.at.saturating_add(self.length).min(self.end);
            let span = Span::new(Timestamp::from_nanos(self.at), Timestamp::from_nanos(end));
            match self.read(span) {
                Err(error) => {
                    self.at = self.end;
                    return Some(Err(error));
                }
                Ok(None) => self.length = (self.length.min(end - self.at) / 2).max(1),
                Ok(Some(runs)) => {
                    self.at = end;
                    let samples: usize = runs.iter().map(|run| run.samples.len()).sum();
                    if samples < self.most / 4 {
                        self.length = self.length.saturating_mul(2);
                    }
                    if samples > 0 {
                        return Some(Ok(runs));
                    }
                }
            }
        }
        None
    }
}

/// A stretch as batches of about so many samples, one span of time after another: so no series is told of a time that
/// others have not come to yet.
pub(super) fn batches(runs: &[SeriesRun], most: usize, source: &Arc<str>) -> Vec<Batch> {
    let mut times: Vec<i64> = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.time.nanos()).collect();
    times.sort_unstable();
    let mut ends: Vec<i64> = times.iter().copied().skip(most).step_by(most.max(1)).collect();
    ends.dedup();
    ends.push(i64::MAX);
    let mut rests: Vec<_> = runs.iter().map(|run| (run.series, &run.samples[..])).collect();
    let mut all = Vec::new();
    for end in ends {
        let mut batch = Batch { source: source.clone(), ..Batch::with_capacity(most.min(times.len())) };
        for (series, rest) in &mut rests {
            let count = rest.partition_point(|sample| sample.time.nanos() < end);
            let (some, others) = rest.split_at(count);
            some.iter().for_each(|sample| batch.push(*series, sample.time, sample.value));
            *rest = others;
        }
        batch.arrived = batch.time_range().map(|(_, last)| last).unwrap_or_default();
        if !batch.is_empty() {
            all.push(batch);
        }
    }
    all
}
