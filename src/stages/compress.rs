//! `compress`: each series thinned to the points that tell it within a stated error, as rows of `compressed`.
//!
//! Swinging door (Bristol 1990): of a stretch that a straight line follows within the error, only its ends are kept.
//! The error is a share of the range that the series has shown so far; each row carries it, how many samples its point
//! stands for, and why it was kept. At least one point is kept every `gap`. The points kept are also what stages behind
//! this one get.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use serde::Deserialize;

use super::state::{Reader, Writer};
use crate::flow::{Out, Stage};
use crate::model::{Batch, Rows, Sample, SeriesId, Table, Timestamp};

/// `apply.compress`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompressSpec {
    /// Largest distance of a dropped sample from the line between its kept neighbours, as a percentage of the range
    /// of the series so far.
    pub error_percent: f64,
    /// Longest time without a kept point.
    #[serde(with = "humantime_serde")]
    pub gap: Duration,
}

impl Default for CompressSpec {
    fn default() -> Self {
        CompressSpec { error_percent: 10.0, gap: Duration::from_secs(6 * 3600) }
    }
}

impl CompressSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let possible = (0.0..=100.0).contains(&self.error_percent);
        (!possible).then(|| format!("error_percent = {} cannot be: write 0 to 100", self.error_percent))
    }
}

/// A series' door: the last kept point, the last seen one, and the slopes between which a line from the one to the
/// other passes all samples in between.
#[derive(Clone, Copy, Debug)]
struct Door {
    kept: Sample,
    seen: Sample,
    steepest: f64,
    flattest: f64,
    low: f64,
    high: f64,
    /// Samples behind the kept one.
    since: u64,
}

/// A point that is kept, and what its row says of it.
#[derive(Clone, Copy, Debug)]
struct Point {
    sample: Sample,
    error: f64,
    samples: u64,
    kept: &'static str,
}

impl Door {
    fn new(sample: Sample) -> Self {
        let value = sample.value;
        Door {
            kept: sample,
            seen: sample,
            steepest: f64::INFINITY,
            flattest: f64::NEG_INFINITY,
            low: value,
            high: value,
            since: 0,
        }
    }

    /// The last seen sample as a point.
    fn point(&self, share: f64, kept: &'static str) -> Point {
        Point { sample: self.seen, error: share * (self.high - self.low), samples: self.since, kept }
    }

    /// Takes a sample later than the last; gives the point to keep when the door is shut.
    fn take(&mut self, sample: Sample, share: f64, gap: i64) -> Option<Point> {
        let error = share * (self.high - self.low);
        let run = (sample.time.nanos() - self.kept.time.nanos()) as f64;
        let slope = (sample.value - self.kept.value) / run;
        let is_straight = (self.flattest..=self.steepest).contains(&slope);
        let open = is_straight && sample.time.nanos() - self.kept.time.nanos() <= gap;
        let why = if is_straight { "gap" } else { "door" };
        let shut = (!open && self.seen != self.kept).then(|| self.point(share, why));
        if let Some(point) = shut {
            *self = Door { low: self.low, high: self.high, ..Door::new(point.sample) };
        }
        self.low = self.low.min(sample.value);
        self.high = self.high.max(sample.value);
        self.narrow(sample, error);
        self.seen = sample;
        self.since += 1;
        shut
    }

    fn narrow(&mut self, sample: Sample, error: f64) {
        let run = (sample.time.nanos() - self.kept.time.nanos()) as f64;
        let rise = sample.value - self.kept.value;
        self.steepest = self.steepest.min((rise + error) / run);
        self.flattest = self.flattest.max((rise - error) / run);
    }

    fn write(&self, out: &mut Writer) {
        for sample in [self.kept, self.seen] {
            out.i64(sample.time.nanos());
            out.f64(sample.value);
        }
        [self.steepest, self.flattest, self.low, self.high].into_iter().for_each(|number| out.f64(number));
        out.i64(self.since.cast_signed());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut sample = || Some(Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? });
        let (kept, seen) = (sample()?, sample()?);
        let [steepest, flattest, low, high] = [from.f64()?, from.f64()?, from.f64()?, from.f64()?];
        Some(Door { kept, seen, steepest, flattest, low, high, since: from.i64()?.cast_unsigned() })
    }
}

/// The stage.
pub(super) struct Compress {
    share: f64,
    gap: i64,
    doors: Vec<Option<Door>>,
    done: Vec<(u32, Point)>,
}

impl Compress {
    pub fn new(spec: &CompressSpec) -> Self {
        let gap = i64::try_from(spec.gap.as_nanos()).unwrap_or(i64::MAX);
        Compress { share: spec.error_percent / 100.0, gap, doors: Vec::new(), done: Vec::new() }
    }

    fn sample(&mut self, series: SeriesId, sample: Sample) {
        if series.index() >= self.doors.len() {
            self.doors.resize(series.index() + 1, None);
        }
        match &mut self.doors[series.index()] {
            Some(door) if sample.time > door.seen.time => {
                if let Some(point) = door.take(sample, self.share, self.gap) {
                    self.done.push((series.0, point));
                }
            }
            // One that comes late would break the line: it stays in `samples` only.
            Some(_) => {}
            slot => {
                *slot = Some(Door::new(sample));
                self.done.push((series.0, Point { sample, error: 0.0, samples: 1, kept: "first" }));
            }
        }
    }

    fn emit(&mut self, from: &Batch, out: &mut Out<'_>) {
        if !self.done.is_empty() {
            let done = std::mem::take(&mut self.done);
            out.rows(Rows { table: Table::Compressed, batch: rows(&done) });
            let mut batch = from.part(done.len());
            let samples = done.iter().map(|(series, point)| (SeriesId(*series), point.sample));
            samples.for_each(|(series, sample)| batch.push(series, sample.time, sample.value));
            out.batch(Arc::new(batch));
        }
    }

    fn read_doors(&mut self, from: &mut Reader<'_>) -> Option<()> {
        while !from.0.is_empty() {
            let series = from.u32()? as usize;
            let door = Door::read(from)?;
            if series >= self.doors.len() {
                self.doors.resize(series + 1, None);
            }
            self.doors[series] = Some(door);
        }
        Some(())
    }
}

fn rows(done: &[(u32, Point)]) -> RecordBatch {
    let points = || done.iter().map(|(_, point)| point);
    let times = TimestampNanosecondArray::from_iter_values(points().map(|point| point.sample.time.nanos()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(done.iter().map(|(series, _)| *series))),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(Float64Array::from_iter_values(points().map(|point| point.sample.value))),
        Arc::new(Float64Array::from_iter_values(points().map(|point| point.error))),
        Arc::new(UInt64Array::from_iter_values(points().map(|point| point.samples))),
        Arc::new(StringArray::from_iter_values(points().map(|point| point.kept))),
    ];
    RecordBatch::try_new(Table::Compressed.schema(), columns).expect("columns are of the table's schema")
}

impl Stage for Compress {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        for (series, sample) in batch.iter() {
            self.sample(series, sample);
        }
        self.emit(batch, out);
    }

    /// Tells the last point of every series, so that the table reaches as far as the samples do.
    fn checkpoint(&mut self, out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        let mut last = Vec::new();
        for (series, door) in self.doors.iter().enumerate() {
            let Some(door) = door else { continue };
            state.u32(series as u32);
            door.write(&mut state);
            if door.seen != door.kept {
                last.push((series as u32, door.point(self.share, "last")));
            }
        }
        if !last.is_empty() {
            out.rows(Rows { table: Table::Compressed, batch: rows(&last) });
        }
        state.0
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        self.read_doors(&mut Reader(state)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: i64, value: f64) -> Sample {
        Sample { time: Timestamp::from_nanos(time), value }
    }

    #[test]
    fn every_dropped_sample_lies_within_the_error_of_the_line() {
        let chance = crate::world::Chance::seeded(11);
        let mut value = 50.0;
        let samples: Vec<Sample> = (0..5000)
            .map(|time| {
                value += chance.below(2001) as f64 / 1000.0 - 1.0;
                at(time * 10, value)
            })
            .collect();
        let mut door = Door::new(samples[0]);
        let shut: Vec<Point> = samples[1..].iter().filter_map(|&s| door.take(s, 0.05, i64::MAX)).collect();
        let points = || shut.iter().copied().chain([door.point(0.05, "last")]);
        assert_eq!(1 + points().map(|point| point.samples).sum::<u64>(), 5000, "each sample is in one point");
        assert!(shut.iter().all(|point| point.kept == "door"));
        let kept: Vec<(Sample, f64)> =
            [(samples[0], 0.0)].into_iter().chain(points().map(|point| (point.sample, point.error))).collect();
        assert!(kept.len() < 1500, "{} kept", kept.len());
        for pair in kept.windows(2) {
            let ((from, _), (to, error)) = (pair[0], pair[1]);
            let slope = (to.value - from.value) / (to.time.nanos() - from.time.nanos()) as f64;
            for sample in samples.iter().filter(|s| s.time > from.time && s.time < to.time) {
                let line = from.value + slope * (sample.time.nanos() - from.time.nanos()) as f64;
                assert!((line - sample.value).abs() <= error + 1e-9, "{sample:?}");
            }
        }
    }

    #[test]
    fn a_constant_series_keeps_a_point_every_gap() {
        let mut door = Door::new(at(0, 4.0));
        let kept = (1..=100).filter_map(|time| door.take(at(time, 4.0), 0.1, 25));
        assert_eq!(kept.map(|point| (point.samples, point.kept)).collect::<Vec<_>>(), [(25, "gap"); 3]);
    }
}
