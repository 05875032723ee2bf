//! `correlate`: pairs of series that moved together in a window, as rows of `correlations`.
//!
//! A window is cut into steps; a series is there in it as the means of its steps, a gap filled with the mean before
//! it. What is compared (Pearson) is the change from step to step: two series that merely grow are no pair. A window
//! is worked out when the watermark has passed it; one that gets samples afterwards is worked out anew at the next
//! checkpoint.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array, UInt64Array};
use serde::Deserialize;

use super::state::{Reader, Writer};
use crate::flow::{Out, Stage};
use crate::model::{Batch, Rows, Sample, SeriesId, Span, Table, Timestamp};
use crate::stats::{Pair, normalize, pairs_above};
use crate::store::{Snapshot, Store};

/// Cells (windows × series × steps) held at once.
const CELLS: usize = 1 << 24;

/// `apply.correlate`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorrelateSpec {
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    #[serde(with = "humantime_serde")]
    pub step: Duration,
    /// Strength from which a pair is kept, 0 to 1.
    pub threshold: f64,
    /// Steps that a series must fill in a window to be compared.
    pub points: usize,
    /// Pairs kept of a window, the strongest.
    pub pairs: usize,
}

impl Default for CorrelateSpec {
    fn default() -> Self {
        CorrelateSpec {
            window: Duration::from_secs(3600),
            step: Duration::from_secs(60),
            threshold: 0.9,
            points: 30,
            pairs: 100,
        }
    }
}

impl CorrelateSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let steps = self.window.as_nanos().checked_div(self.step.as_nanos()).unwrap_or(0);
        if !(10..=10_000).contains(&steps) {
            return Some(format!(
                "window = {:?} and step = {:?} make {steps} steps: write 10 to 10000, as in window = \"1h\", step = \"1m\"",
                self.window, self.step
            ));
        }
        if self.points < 10 || self.points as u128 > steps {
            return Some(format!("points = {} cannot be: write 10 to {steps}, the steps of a window", self.points));
        }
        let possible = self.threshold > 0.0 && self.threshold <= 1.0;
        (!possible).then(|| format!("threshold = {} cannot be: write a number over 0 up to 1", self.threshold))
    }
}

/// The stage.
pub(super) struct Correlate {
    spec: CorrelateSpec,
    window: i64,
    step: i64,
    dirty: BTreeSet<i64>,
    watermark: i64,
    store: Weak<Store>,
}

impl Correlate {
    pub fn new(spec: &CorrelateSpec, store: Weak<Store>) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let (window, step) = (nanos(spec.window), nanos(spec.step));
        Correlate { spec: spec.clone(), window, step, dirty: BTreeSet::new(), watermark: i64::MIN, store }
    }

    /// Works out windows, as many at a time as memory allows.
    fn work_out(&self, starts: &[i64], out: &mut Out<'_>) {
        let Some(store) = self.store.upgrade() else { return };
        if starts.is_empty() {
            return;
        }
        let snapshot = store.history();
        let steps = usize::try_from(self.window / self.step).unwrap_or(1);
        let at_once = (CELLS / (steps * snapshot.series_count().max(1))).max(1);
        for starts in starts.chunks(at_once) {
            for (&start, (ids, mut rows)) in starts.iter().zip(self.read(&snapshot, starts, steps)) {
                // The points that count are those before the changes: one change fewer.
                let mut series = Vec::new();
                let mut changes = Vec::new();
                for (id, row) in ids.into_iter().zip(rows.drain(..)) {
                    let mut change: Vec<f32> = row.windows(2).map(|pair| (pair[1] - pair[0]) as f32).collect();
                    if normalize(&mut change) {
                        series.push(id);
                        changes.push(change);
                    }
                }
                let pairs = pairs_above(&changes, self.spec.threshold as f32, self.spec.pairs);
                if !pairs.is_empty() {
                    out.rows(self.rows(start, &series, &pairs, steps - 1));
                }
            }
        }
    }

    /// For each window the series that fill enough steps of it, and their means, gaps filled.
    fn read(&self, snapshot: &Snapshot, starts: &[i64], steps: usize) -> Vec<(Vec<u32>, Vec<Vec<f64>>)> {
        let mut windows = vec![(Vec::new(), Vec::new()); starts.len()];
        let (first, last) = (starts[0], starts[starts.len() - 1]);
        let span = Span::new(Timestamp::from_nanos(first), Timestamp::from_nanos(last).plus(self.window));
        let all = (0..snapshot.series_count() as u32).map(SeriesId);
        let touched = all.filter(|&id| snapshot.time_range(id).is_some_and(|(first, last)| span.touches(first, last)));
        let mut scan = snapshot.scan(touched.collect(), span);
        let mut means: Vec<Means> = starts.iter().map(|&start| Means::new(start, steps)).collect();
        while let Some(read) = scan.next_in_pieces(|samples| self.add_to(&mut means, samples)) {
            let rows = means.iter_mut().map(|means| means.take(self.spec.points));
            match read {
                Ok(series) => {
                    for (row, (ids, kept)) in rows.zip(&mut windows) {
                        ids.extend(row.is_some().then_some(series.0));
                        kept.extend(row);
                    }
                }
                Err(error) => {
                    rows.for_each(drop);
                    tracing::warn!(%error, "a series is left out of the correlations");
                }
            }
        }
        windows
    }

    /// Adds samples, which come by time, to the windows, which are sorted.
    fn add_to(&self, windows: &mut [Means], samples: &[Sample]) {
        let mut rest = samples;
        for means in windows {
            let from = rest.partition_point(|sample| sample.time.nanos() < means.start);
            let to = rest.partition_point(|sample| sample.time.nanos() - means.start < self.window).max(from);
            means.add(&rest[from..to], self.step);
            rest = &rest[to..];
        }
    }

    fn rows(&self, start: i64, series: &[u32], pairs: &[Pair], points: usize) -> Rows {
        let times = |time: i64| -> ArrayRef {
            Arc::new(TimestampNanosecondArray::from(vec![time; pairs.len()]).with_timezone("UTC"))
        };
        let columns: Vec<ArrayRef> = vec![
            times(start),
            times(start + self.window),
            Arc::new(UInt32Array::from_iter_values(pairs.iter().map(|pair| series[pair.a]))),
            Arc::new(UInt32Array::from_iter_values(pairs.iter().map(|pair| series[pair.b]))),
            Arc::new(Float64Array::from_iter_values(pairs.iter().map(|pair| f64::from(pair.r)))),
            Arc::new(UInt64Array::from(vec![points as u64; pairs.len()])),
        ];
        let batch = RecordBatch::try_new(Table::Correlations.schema(), columns);
        Rows { table: Table::Correlations, batch: batch.expect("columns are of the table's schema") }
    }
}

/// The means of the steps of one window, of the series that is read.
struct Means {
    start: i64,
    samples: usize,
    sums: Vec<(f64, u32)>,
}

impl Means {
    fn new(start: i64, steps: usize) -> Self {
        Means { start, samples: 0, sums: vec![(0.0, 0); steps] }
    }

    fn add(&mut self, samples: &[Sample], step: i64) {
        for sample in samples {
            let (sum, count) = &mut self.sums[((sample.time.nanos() - self.start) / step) as usize];
            *sum += sample.value;
            *count += 1;
        }
        self.samples += samples.len();
    }

    /// The means, gaps filled, where enough steps have one; empty again.
    fn take(&mut self, points: usize) -> Option<Vec<f64>> {
        let Means { samples, sums, .. } = self;
        let filled = sums.iter().filter(|(_, count)| *count > 0).count();
        let mean = |&(sum, count): &(f64, u32)| (count > 0).then(|| sum / f64::from(count));
        let mut before = sums.iter().find_map(mean).unwrap_or(0.0);
        let mut fill = |cell| {
            before = mean(cell).unwrap_or(before);
            before
        };
        let row = (std::mem::take(samples) >= points && filled >= points).then(|| sums.iter().map(&mut fill).collect());
        sums.fill((0.0, 0));
        row
    }
}

impl Stage for Correlate {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut marked = (i64::MAX, i64::MIN);
        for &time in &batch.times {
            if time < marked.0 || time >= marked.1 {
                let start = Timestamp::from_nanos(time).floor(self.window).nanos();
                marked = (start, start.saturating_add(self.window));
                self.dirty.insert(start);
            }
        }
        out.batch(batch.clone());
    }

    fn watermark(&mut self, time: Timestamp, out: &mut Out<'_>) {
        let before = std::mem::replace(&mut self.watermark, time.nanos());
        let passed = |start: i64, by: i64| start.saturating_add(self.window) <= by;
        // A window that was passed before is late: it waits for the checkpoint.
        let ready: Vec<i64> = self
            .dirty
            .iter()
            .copied()
            .filter(|&start| passed(start, self.watermark) && !passed(start, before))
            .collect();
        self.work_out(&ready, out);
        ready.iter().for_each(|start| {
            self.dirty.remove(start);
        });
    }

    fn checkpoint(&mut self, out: &mut Out<'_>) -> Vec<u8> {
        let starts: Vec<i64> = self.dirty.iter().copied().collect();
        self.work_out(&starts, out);
        self.dirty.retain(|start| start.saturating_add(self.window) > self.watermark);
        let mut state = Writer::default();
        state.i64(self.window);
        state.i64(self.watermark);
        self.dirty.iter().for_each(|&start| state.i64(start));
        state.0
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let mut from = Reader(state);
        if from.i64() != Some(self.window) {
            return false;
        }
        let Some(watermark) = from.i64() else { return false };
        self.watermark = watermark;
        self.dirty = std::iter::from_fn(|| from.i64()).collect();
        true
    }
}
