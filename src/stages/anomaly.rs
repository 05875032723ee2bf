//! `anomaly`: episodes in which a series leaves its usual range, as rows of `anomalies`.
//!
//! Every value is judged by a detector of `stats` against what came before it; for a counter the value is its rate of
//! increase. An episode begins with a score of `threshold` or more (of the plain z-score, either way), and ends when it has been
//! quiet for long enough; one row tells it from its first value over the threshold to its last.

use std::sync::{Arc, Weak};

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use serde::Deserialize;

use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, Out, Shard, Stage};
use crate::model::{Batch, Kind, Rows, Run, Sample, Table, Timestamp};
use crate::stats::detect::{Calm, Detector, Episode, Episodes, Judged, Method, Z_WINDOW};
use crate::stats::six_digits;
use crate::store::Store;

/// `apply.anomaly`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalySpec {
    /// What a value is held against: `auto`, `zscore`, `robust`, `seasonal`, `ewma` or `kmeans`.
    pub method: Method,
    /// Score from which a value is anomalous; without it, what is usual for the method.
    pub threshold: Option<f64>,
    /// Of `zscore`: values that a score is made against, 120 without it.
    pub window: Option<usize>,
    /// Of `zscore`: values in a row below the threshold that end an episode, 10 without it. The others know by themselves.
    pub calm: Option<u32>,
}

impl AnomalySpec {
    pub(super) fn fault(&self) -> Option<String> {
        let is_plain = self.method == Method::ZScore;
        if let Some(threshold) = self.threshold.filter(|threshold| !(threshold.is_finite() && *threshold > 0.0)) {
            let usual = self.method.threshold();
            return Some(format!("threshold = {threshold} cannot be: write a number over 0, as in {usual}"));
        }
        let only = |key: &str| {
            let method = self.method.name();
            format!(
                "`{key}` says nothing to method = \"{method}\", which knows by itself: leave it out, or write method = \"zscore\""
            )
        };
        match (self.window, self.calm) {
            (Some(_), _) if !is_plain => Some(only("window")),
            (_, Some(_)) if !is_plain => Some(only("calm")),
            (Some(window), _) if !(10..=100_000).contains(&window) => {
                Some(format!("window = {window} cannot be: write 10 to 100000 values"))
            }
            _ => None,
        }
    }

    fn threshold(&self) -> f64 {
        self.threshold.unwrap_or(self.method.threshold())
    }

    fn detector(&self) -> Detector {
        Detector::new(self.method, self.window.unwrap_or(Z_WINDOW))
    }
}

struct Watch {
    detector: Detector,
    last: Option<Sample>,
    episodes: Episodes,
    counts: bool,
}

/// The stage.
pub(super) struct Anomaly {
    spec: AnomalySpec,
    watches: Vec<Option<Box<Watch>>>,
    done: Vec<(u32, Episode)>,
    late: u64,
    /// As rows tell it.
    version: Arc<str>,
    store: Weak<Store>,
}

impl Anomaly {
    pub fn new(spec: &AnomalySpec, version: Arc<str>, store: Weak<Store>) -> Self {
        Anomaly { spec: spec.clone(), watches: Vec::new(), done: Vec::new(), late: 0, version, store }
    }

    fn run(&mut self, run: Run<'_>) {
        let series = run.series;
        if series.index() >= self.watches.len() {
            self.watches.resize_with(series.index() + 1, || None);
        }
        let slot = &mut self.watches[series.index()];
        let watch = slot.get_or_insert_with(|| {
            let kind = self.store.upgrade().map(|store| store.registry().kind(series));
            let counts = kind == Some(Kind::Counter);
            Box::new(Watch { detector: self.spec.detector(), last: None, episodes: Episodes::default(), counts })
        });
        let threshold = self.spec.threshold();
        for sample in run.iter() {
            let Some(value) = watch.value(sample) else { continue };
            let time = sample.time.nanos();
            let anomalous = watch.detector.push_over(time, value, threshold);
            if anomalous.is_none() && watch.episodes.running.is_none() {
                continue;
            }
            let calm = self.spec.calm.map_or_else(|| watch.detector.calm(), Calm::Values);
            let heard = watch.episodes.push(time, value, anomalous, calm);
            self.done.extend(heard.over.map(|episode| (series.0, episode)));
        }
    }

    fn emit(&mut self, out: &mut Out<'_>) {
        if !self.done.is_empty() {
            let done = std::mem::take(&mut self.done);
            out.rows(Rows { table: Table::Anomalies, batch: rows(&done, self.spec.method, &self.version) });
        }
    }

    fn read_watches(&mut self, from: &mut Reader<'_>, shard: Shard) -> Option<()> {
        while !from.0.is_empty() {
            let series = from.u32()? as usize;
            let counts = from.u32()? != 0;
            let last = Some(Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? });
            let mut state = from.bytes()?;
            let detector = Detector::decode(self.spec.method, &mut state)?;
            let running = if from.u32()? == 0 { None } else { Some(read(from)?) };
            let episodes = Episodes { running, calm: from.u32()? };
            if !shard.has(series as u32) {
                continue;
            }
            if series >= self.watches.len() {
                self.watches.resize_with(series + 1, || None);
            }
            self.watches[series] = Some(Box::new(Watch { detector, last, episodes, counts }));
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
}

fn write(episode: &Episode, out: &mut Writer) {
    [episode.start, episode.end, episode.peak].into_iter().for_each(|time| out.i64(time));
    let Judged { score, expected, scale } = episode.judged;
    [episode.value, score, expected, scale].into_iter().for_each(|number| out.f64(number));
    out.i64(episode.samples.cast_signed());
}

fn read(from: &mut Reader<'_>) -> Option<Episode> {
    let (start, end, peak, value) = (from.i64()?, from.i64()?, from.i64()?, from.f64()?);
    let judged = Judged { score: from.f64()?, expected: from.f64()?, scale: from.f64()? };
    Some(Episode { start, end, peak, value, judged, samples: from.i64()?.cast_unsigned() })
}

/// Two decimals of a score say all there is to say; beyond 100, which is what any change of a series that stood still
/// comes to, it says nothing more.
fn rounded(score: f64) -> f64 {
    (score.clamp(-100.0, 100.0) * 100.0).round() / 100.0
}

fn rows(done: &[(u32, Episode)], method: Method, version: &str) -> RecordBatch {
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
        numbers(|episode| six_digits(episode.judged.expected)),
        numbers(|episode| rounded(episode.judged.score)),
        Arc::new(UInt64Array::from_iter_values(done.iter().map(|(_, episode)| episode.samples))),
        numbers(|episode| six_digits(episode.judged.bounds().0)),
        numbers(|episode| six_digits(episode.judged.bounds().1)),
        Arc::new(StringArray::from(vec![version; done.len()])),
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
            let mut detector = Vec::new();
            watch.detector.encode(&mut detector);
            state.bytes(&detector);
            state.u32(u32::from(watch.episodes.running.is_some()));
            if let Some(episode) = &watch.episodes.running {
                write(episode, &mut state);
                self.done.push((series as u32, *episode));
            }
            state.u32(watch.episodes.calm);
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
        let (sink, spec) =
            (Kept::default(), AnomalySpec { method: Method::ZScore, window: Some(30), calm: Some(3), threshold: None });
        let mut stage = Anomaly::new(&spec, "watch@0".into(), Weak::new());
        for (at, &value) in values.iter().enumerate() {
            let mut forward = Vec::new();
            let mut out = Out::new(&sink, &mut forward);
            if cut_at == Some(at) {
                let state = stage.checkpoint(Cut { number: 1, last: false }, &mut out);
                sink.0.lock().unwrap().clear();
                stage = Anomaly::new(&spec, "watch@0".into(), Weak::new());
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
