//! `anomaly`: episodes in which a series leaves its usual range, as rows of `anomalies`.
//!
//! The score is the z-score of a value against the `window` values before it. For a counter the value is its rate of
//! increase. An episode begins with a score of `threshold` or more either way, and ends when `calm` values in a row
//! stay below; one row tells it from its first value to its last over the threshold.

use std::sync::{Arc, Weak};

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use serde::Deserialize;

use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, Out, Shard, Stage};
use crate::model::{Batch, Kind, Rows, Run, Sample, Table, Timestamp};
use crate::stats::{RollingZ, Score};
use crate::store::Store;

/// How a score is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Distance from the mean of the window in standard deviations.
    #[default]
    ZScore,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::ZScore => "zscore",
        }
    }
}

/// `apply.anomaly`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalySpec {
    pub method: Method,
    /// Score from which a value is anomalous.
    pub threshold: f64,
    /// Values that a score is made against.
    pub window: usize,
    /// Values in a row below the threshold that end an episode.
    pub calm: u32,
}

impl Default for AnomalySpec {
    fn default() -> Self {
        AnomalySpec { method: Method::ZScore, threshold: 3.0, window: 120, calm: 10 }
    }
}

impl AnomalySpec {
    pub(super) fn fault(&self) -> Option<String> {
        if !(self.threshold.is_finite() && self.threshold > 0.0) {
            return Some(format!("threshold = {} cannot be: write a number over 0, as in 3.0", self.threshold));
        }
        if !(10..=100_000).contains(&self.window) {
            return Some(format!("window = {} cannot be: write 10 to 100000 values", self.window));
        }
        None
    }
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    start: i64,
    end: i64,
    peak: i64,
    value: f64,
    expected: f64,
    score: f64,
    samples: u64,
    calm: u32,
}

struct Watch {
    usual: RollingZ,
    last: Option<Sample>,
    episode: Option<Episode>,
    counts: bool,
}

/// The stage.
pub(super) struct Anomaly {
    spec: AnomalySpec,
    watches: Vec<Option<Box<Watch>>>,
    done: Vec<(u32, Episode)>,
    late: u64,
    store: Weak<Store>,
}

impl Anomaly {
    pub fn new(spec: &AnomalySpec, store: Weak<Store>) -> Self {
        Anomaly { spec: spec.clone(), watches: Vec::new(), done: Vec::new(), late: 0, store }
    }

    fn run(&mut self, run: Run<'_>) {
        let series = run.series;
        if series.index() >= self.watches.len() {
            self.watches.resize_with(series.index() + 1, || None);
        }
        let slot = &mut self.watches[series.index()];
        let watch = slot.get_or_insert_with(|| {
            let kind = self.store.upgrade().map(|store| store.registry().kind(series));
            Box::new(Watch {
                usual: RollingZ::new(self.spec.window),
                last: None,
                episode: None,
                counts: kind == Some(Kind::Counter),
            })
        });
        for sample in run.iter() {
            let Some(value) = watch.value(sample) else { continue };
            // What most values are, for the price of two multiplications.
            let is_usual = watch.episode.is_none() && watch.usual.is_surely_within(value, self.spec.threshold);
            if !is_usual
                && let Some(score) = watch.usual.score(value)
                && let Some(episode) = watch.judge(sample.time, value, score, &self.spec)
            {
                self.done.push((series.0, episode));
            }
            watch.usual.push(value);
        }
    }

    fn emit(&mut self, out: &mut Out<'_>) {
        if !self.done.is_empty() {
            let done = std::mem::take(&mut self.done);
            out.rows(Rows { table: Table::Anomalies, batch: rows(&done, self.spec.method) });
        }
    }

    fn read_watches(&mut self, from: &mut Reader<'_>, shard: Shard) -> Option<()> {
        while !from.0.is_empty() {
            let series = from.u32()? as usize;
            let counts = from.u32()? != 0;
            let last = Some(Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? });
            let mut usual = from.bytes()?;
            let usual = RollingZ::decode(&mut usual)?;
            let episode = if from.u32()? == 0 { None } else { Some(Episode::read(from)?) };
            if !shard.has(series as u32) {
                continue;
            }
            if series >= self.watches.len() {
                self.watches.resize_with(series + 1, || None);
            }
            self.watches[series] = Some(Box::new(Watch { usual, last, episode, counts }));
        }
        Some(())
    }
}

impl Watch {
    /// What is scored of a sample; `None` for the first of a counter and for one that comes late.
    fn value(&mut self, sample: Sample) -> Option<f64> {
        let before = self.last;
        if before.is_some_and(|before| sample.time <= before.time) {
            return None;
        }
        self.last = Some(sample);
        if !self.counts {
            return Some(sample.value);
        }
        let before = before?;
        let seconds = (sample.time.nanos() - before.time.nanos()) as f64 / 1e9;
        // A counter that falls was restarted from zero.
        let increase = if sample.value < before.value { sample.value } else { sample.value - before.value };
        Some(increase / seconds)
    }

    /// Takes the score into the running episode; an episode that ends here is given back.
    fn judge(&mut self, time: Timestamp, value: f64, score: Score, spec: &AnomalySpec) -> Option<Episode> {
        let time = time.nanos();
        if score.z.abs() < spec.threshold {
            let episode = self.episode.as_mut()?;
            episode.calm += 1;
            return if episode.calm >= spec.calm { self.episode.take() } else { None };
        }
        let new = Episode {
            start: time,
            end: time,
            peak: time,
            value,
            expected: score.expected,
            score: score.z,
            samples: 1,
            calm: 0,
        };
        match &mut self.episode {
            None => self.episode = Some(new),
            Some(episode) => {
                let peak = if score.z.abs() > episode.score.abs() { new } else { *episode };
                let samples = episode.samples + 1;
                *episode = Episode { start: episode.start, end: time, samples, calm: 0, ..peak };
            }
        }
        None
    }
}

impl Episode {
    fn write(&self, out: &mut Writer) {
        [self.start, self.end, self.peak].into_iter().for_each(|time| out.i64(time));
        [self.value, self.expected, self.score].into_iter().for_each(|number| out.f64(number));
        out.i64(self.samples.cast_signed());
        out.u32(self.calm);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Episode {
            start: from.i64()?,
            end: from.i64()?,
            peak: from.i64()?,
            value: from.f64()?,
            expected: from.f64()?,
            score: from.f64()?,
            samples: from.i64()?.cast_unsigned(),
            calm: from.u32()?,
        })
    }
}

/// Two decimals of a score say all there is to say; beyond 100, which is what any change of a series that stood still
/// comes to, it says nothing more.
fn rounded(score: f64) -> f64 {
    (score.clamp(-100.0, 100.0) * 100.0).round() / 100.0
}

/// What is expected is an estimate: six digits of it are kept.
fn six_digits(estimate: f64) -> f64 {
    if estimate == 0.0 || !estimate.is_finite() {
        return estimate;
    }
    let shift = 10_f64.powi(5 - estimate.abs().log10().floor() as i32);
    let short = (estimate * shift).round() / shift;
    if short.is_finite() { short } else { estimate }
}

fn rows(done: &[(u32, Episode)], method: Method) -> RecordBatch {
    let times = |of: fn(&Episode) -> i64| -> ArrayRef {
        let times = TimestampNanosecondArray::from_iter_values(done.iter().map(|(_, episode)| of(episode)));
        Arc::new(times.with_timezone("UTC"))
    };
    let numbers = |of: fn(&Episode) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(done.iter().map(|(_, episode)| of(episode))))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(done.iter().map(|(series, _)| *series))),
        Arc::new(StringArray::from(vec![method.name(); done.len()])),
        times(|episode| episode.start),
        times(|episode| episode.end),
        times(|episode| episode.peak),
        numbers(|episode| episode.value),
        numbers(|episode| six_digits(episode.expected)),
        numbers(|episode| rounded(episode.score)),
        Arc::new(UInt64Array::from_iter_values(done.iter().map(|(_, episode)| episode.samples))),
    ];
    RecordBatch::try_new(Table::Anomalies.schema(), columns).expect("columns are of the table's schema")
}

impl Stage for Anomaly {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        batch.runs().for_each(|run| self.run(run));
        self.emit(out);
        out.batch(batch.clone());
    }

    /// A stream is judged as it goes: what comes late is stored, and passed over here.
    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.late += batch.len() as u64;
        out.late(batch.clone());
    }

    /// Tells running episodes as they stand: the row is replaced when they end.
    fn checkpoint(&mut self, _cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        for (series, watch) in self.watches.iter().enumerate() {
            let Some((watch, last)) = watch.as_ref().and_then(|watch| Some((watch, watch.last?))) else { continue };
            state.u32(series as u32);
            state.u32(u32::from(watch.counts));
            state.i64(last.time.nanos());
            state.f64(last.value);
            let mut usual = Vec::new();
            watch.usual.encode(&mut usual);
            state.bytes(&usual);
            state.u32(u32::from(watch.episode.is_some()));
            if let Some(episode) = &watch.episode {
                episode.write(&mut state);
                self.done.push((series as u32, *episode));
            }
        }
        self.emit(out);
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        self.read_watches(&mut Reader(state), shard).is_some()
    }

    fn dropped(&self) -> Dropped {
        (self.late > 0).then_some(("late: not judged", self.late)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::SeriesId;

    #[derive(Default)]
    struct Kept(Mutex<Vec<RecordBatch>>);

    impl crate::flow::Sink for Kept {
        fn rows(&self, rows: Rows) {
            self.0.lock().unwrap().push(rows.batch);
        }
    }

    fn fed(values: &[f64], cut_at: Option<usize>) -> Vec<String> {
        let (sink, spec) = (Kept::default(), AnomalySpec { window: 30, calm: 3, ..AnomalySpec::default() });
        let mut stage = Anomaly::new(&spec, Weak::new());
        for (at, &value) in values.iter().enumerate() {
            let mut forward = Vec::new();
            let mut out = Out::new(&sink, &mut forward);
            if cut_at == Some(at) {
                let state = stage.checkpoint(Cut { number: 1, last: false }, &mut out);
                sink.0.lock().unwrap().clear();
                stage = Anomaly::new(&spec, Weak::new());
                assert!(stage.restore(&state, Shard::WHOLE));
            }
            let mut batch = Batch::default();
            batch.push(SeriesId(3), Timestamp::from_nanos(at as i64 * 1_000_000_000), value);
            stage.batch(&Arc::new(batch), &mut out);
        }
        let kept = sink.0.into_inner().unwrap();
        kept.iter()
            .map(|batch| arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string())
            .collect()
    }

    fn noisy_with_a_spike() -> Vec<f64> {
        (0..100).map(|n| f64::from(n % 7) + if (60..63).contains(&n) { 50.0 } else { 0.0 }).collect()
    }

    #[test]
    fn an_episode_is_one_row() {
        let rows = fed(&noisy_with_a_spike(), None);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].contains("1970-01-01T00:01:00Z"), "{}", rows[0]);
    }

    #[test]
    fn a_restart_in_the_midst_of_it_changes_nothing() {
        let whole = fed(&noisy_with_a_spike(), None);
        for cut in 61..66 {
            assert_eq!(fed(&noisy_with_a_spike(), Some(cut)), whole, "cut at {cut}");
        }
    }
}
