//! `compress`: each series thinned to the points that tell it within a stated error, as rows of `compressed`.
//!
//! Critical metrics are kept whole, low ones as means of windows, all others by the method that is asked for. Each row
//! carries the largest distance of a sample that it stands for from what is told instead, how many samples it stands for,
//! and why it was kept; what surrounds a sudden change can be kept as it is. The points kept are also what stages behind
//! this one get; what they do not get is counted by reason. Samples themselves stay in the store.
//!
//! While the machine is short of something the governor asks for more: its zones come by in the log, as samples do, so the
//! log gives the same points again.

mod door;

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use foldhash::quality::FixedState;
use serde::Deserialize;
use smallvec::SmallVec;

use self::door::{Door, Hold, Mean, Point};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Compression, Cut, Dropped, Out, Shard, Stage};
use crate::model::{Batch, Pattern, Rows, Run, Sample, SeriesId, Table, Timestamp};
use crate::store::Store;

/// `apply.compress`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompressSpec {
    /// How series are thinned that no list names.
    pub method: Method,
    /// Largest distance of a dropped sample from what is told instead, as a percentage of the range of the series so far.
    /// Of `door` and `band`.
    pub error_percent: f64,
    /// The same as a number; instead of `error_percent`.
    pub error: Option<f64>,
    /// Longest time without a kept point. Of `door` and `band`.
    #[serde(with = "humantime_serde")]
    pub gap: Duration,
    /// Length of the windows of `mean`.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// Share of samples that `sample` keeps, over 0 up to 1.
    pub keep: f64,
    /// Metrics that are kept whole, as in `up`, `*_errors_total`.
    pub critical: Vec<Pattern>,
    /// Metrics that are told as means, whatever the method.
    pub low: Vec<Pattern>,
    /// Samples before and after a sudden change that are kept as they are.
    pub context: usize,
    /// What is sudden: a step from one sample to the next of so much of the range so far, in percent.
    pub jump_percent: f64,
}

/// How a series is thinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Swinging door: ends of stretches that a straight line follows within the error.
    #[default]
    Door,
    /// Dead band: a point whenever the value is further than the error from the last kept one.
    Band,
    /// Means of windows.
    Mean,
    /// Some samples, chosen by a hash of series and time.
    Sample,
}

impl Default for CompressSpec {
    fn default() -> Self {
        CompressSpec {
            method: Method::Door,
            error_percent: 10.0,
            error: None,
            gap: Duration::from_secs(6 * 3600),
            every: Duration::from_secs(300),
            keep: 0.1,
            critical: Vec::new(),
            low: Vec::new(),
            context: 0,
            jump_percent: 50.0,
        }
    }
}

/// Most samples kept to either side of a sudden change.
const CONTEXT_MAX: usize = 100;
/// Length of a window: with room for the longer ones under pressure.
const EVERY_MIN: Duration = Duration::from_millis(1);
const EVERY_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Samples after which a change can be sudden.
const JUMP_AFTER: u32 = 10;

impl CompressSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let share = |percent: f64| (0.0..=100.0).contains(&percent);
        if !share(self.error_percent) {
            return Some(format!("error_percent = {} cannot be: write 0 to 100", self.error_percent));
        }
        if let Some(error) = self.error.filter(|error| !(error.is_finite() && *error >= 0.0)) {
            return Some(format!("error = {error} cannot be: write a number from 0 on, as in error = 0.5"));
        }
        if !(self.keep > 0.0 && self.keep <= 1.0) {
            return Some(format!("keep = {} cannot be: write a number over 0 up to 1", self.keep));
        }
        if !(EVERY_MIN..=EVERY_MAX).contains(&self.every) {
            return Some(format!("every = {:?} cannot be: write 1ms to 366d, as in every = \"5m\"", self.every));
        }
        if self.context > CONTEXT_MAX {
            return Some(format!("context = {} cannot be: write 0 to {CONTEXT_MAX} samples", self.context));
        }
        (!share(self.jump_percent)).then(|| format!("jump_percent = {} cannot be: write 0 to 100", self.jump_percent))
    }

    pub(super) fn stage(&self, store: Weak<Store>) -> Box<dyn Stage> {
        Box::new(Compress::new(self, store))
    }
}

/// What more is asked while the machine is short of something: larger errors, longer windows, fewer samples.
#[derive(Clone, Copy)]
struct Pressed {
    error: f64,
    length: i64,
    keep: f64,
}

impl Pressed {
    fn by(compression: Compression) -> Pressed {
        match compression {
            Compression::Usual => Pressed { error: 1.0, length: 1, keep: 1.0 },
            Compression::Mild => Pressed { error: 1.5, length: 1, keep: 0.75 },
            Compression::Aggressive => Pressed { error: 3.0, length: 3, keep: 0.5 },
            Compression::Emergency => Pressed { error: 10.0, length: 12, keep: 0.1 },
        }
    }
}

/// How one series is thinned, and where it stands.
#[derive(Clone, Debug)]
enum Way {
    Whole(Sample),
    Door(Door),
    Band(Hold),
    Mean(Mean),
    Sample(Hold),
}

/// A point that was told though it may not be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hint {
    sample: Sample,
    /// Whether it stands there in any case, for what surrounds it.
    in_context: bool,
}

impl Hint {
    /// What is told instead of it.
    fn withdrawn(self) -> Point {
        if self.in_context { context(self.sample) } else { nothing(self.sample) }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let sample = Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? };
        Some(Hint { sample, in_context: from.u32()? != 0 })
    }
}

/// A series.
#[derive(Clone, Debug)]
struct Thin {
    way: Way,
    low: f64,
    high: f64,
    seen: u32,
    hint: Option<Hint>,
    /// Whether the last seen sample was kept for its surroundings.
    in_context: bool,
    /// Samples that were dropped just now, and how many to keep.
    around: SmallVec<[(i64, f64); 1]>,
    to_keep: u32,
    /// Of the series, for choices that are the same in every store.
    salt: u64,
}

/// The stage.
struct Compress {
    spec: CompressSpec,
    gap: i64,
    every: i64,
    compression: Compression,
    series: Vec<Option<Box<Thin>>>,
    done: Vec<(u32, Point)>,
    dropped: Dropped,
    store: Weak<Store>,
}

impl Compress {
    fn new(spec: &CompressSpec, store: Weak<Store>) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Compress {
            spec: spec.clone(),
            gap: nanos(spec.gap),
            every: nanos(spec.every),
            compression: Compression::Usual,
            series: Vec::new(),
            done: Vec::new(),
            dropped: Dropped::new(),
            store,
        }
    }

    /// How a series that was not seen before is thinned.
    fn way(&self, series: SeriesId, sample: Sample) -> Way {
        let lists = !self.spec.critical.is_empty() || !self.spec.low.is_empty();
        let metric = self.store.upgrade().filter(|_| lists).map(|store| store.registry().metric(series));
        let in_list =
            |list: &[Pattern]| metric.as_ref().is_some_and(|metric| list.iter().any(|pattern| pattern.fits(metric)));
        if in_list(&self.spec.critical) {
            return Way::Whole(sample);
        }
        match self.spec.method {
            _ if in_list(&self.spec.low) => {
                Way::Mean(Mean::new(sample, self.every * Pressed::by(self.compression).length))
            }
            Method::Mean => Way::Mean(Mean::new(sample, self.every * Pressed::by(self.compression).length)),
            Method::Door => Way::Door(Door::new(sample)),
            Method::Band => Way::Band(Hold::new(sample)),
            Method::Sample => Way::Sample(Hold::new(sample)),
        }
    }

    fn run(&mut self, run: Run<'_>) {
        let (series, mut samples) = (run.series, run.iter());
        if series.index() >= self.series.len() {
            self.series.resize(series.index() + 1, None);
        }
        let held = self.series[series.index()].take();
        let Some(mut thin) = held.or_else(|| samples.next().map(|first| self.first(series, first))) else { return };
        for sample in samples {
            if sample.time > thin.last_seen().time {
                self.take(series, sample, &mut thin);
            }
        }
        self.series[series.index()] = Some(thin);
    }

    fn first(&mut self, series: SeriesId, sample: Sample) -> Box<Thin> {
        let way = self.way(series, sample);
        if !matches!(way, Way::Mean(_)) {
            let kept = if matches!(way, Way::Whole(_)) { "critical" } else { "first" };
            self.done.push((series.0, Point { sample, error: 0.0, samples: 1, kept, is_new: true }));
        }
        let salt = if matches!(way, Way::Sample(_)) { self.salt(series) } else { 0 };
        let (low, high) = (sample.value, sample.value);
        let (around, hint) = (SmallVec::new(), None);
        Box::new(Thin { way, low, high, seen: 1, hint, in_context: false, around, to_keep: 0, salt })
    }

    fn take(&mut self, series: SeriesId, sample: Sample, thin: &mut Thin) {
        let range = thin.high - thin.low;
        let Pressed { error: times, length, keep } = Pressed::by(self.compression);
        let error = self.spec.error.unwrap_or(self.spec.error_percent / 100.0 * range) * times;
        if self.spec.context > 0 && !matches!(thin.way, Way::Whole(_)) {
            let step = (sample.value - thin.last_seen().value).abs();
            let is_sudden = thin.seen > JUMP_AFTER && step > self.spec.jump_percent / 100.0 * range && step > 0.0;
            self.keep_context(series, sample, is_sudden, thin);
        }
        thin.low = thin.low.min(sample.value);
        thin.high = thin.high.max(sample.value);
        thin.seen = thin.seen.saturating_add(1);
        let salt = thin.salt;
        let (point, reason) = match &mut thin.way {
            Way::Whole(seen) => {
                *seen = sample;
                (Some(Point { sample, error: 0.0, samples: 1, kept: "critical", is_new: true }), "")
            }
            Way::Door(door) => (door.take(sample, error, self.gap), "within the error of a line"),
            Way::Mean(mean) => (mean.take(sample, self.every * length), "in the mean of its window"),
            Way::Band(hold) => {
                let (far, since) = hold.distance(sample);
                let taken = hold.take(sample, far > error || since > self.gap, "band");
                (self.held(series, taken), "within the dead band")
            }
            Way::Sample(hold) => {
                let taken = hold.take(sample, is_chosen(salt, sample.time, self.spec.keep * keep), "sample");
                (self.held(series, taken), "not in the sample")
            }
        };
        // What is kept stands for more than itself: no row of its surroundings takes its place.
        if let Some((_, kept)) = self.done.last().filter(|(of, _)| *of == series.0) {
            let kept = kept.sample.time.nanos();
            thin.around.retain(|(time, _)| *time != kept);
        }
        let Some(point) = point else { return };
        thin.around.retain(|(time, _)| *time != point.sample.time.nanos());
        // A mean is none of the samples that it is made of.
        let handed_on = u64::from(!matches!(thin.way, Way::Mean(_)));
        if point.samples > handed_on {
            *self.dropped.entry(reason).or_default() += point.samples - handed_on;
        }
        let overtaken = thin.hint.take_if(|hint| hint.sample.time <= point.sample.time);
        if let Some(hint) = overtaken.filter(|hint| hint.sample.time != point.sample.time) {
            self.done.push((series.0, hint.withdrawn()));
        }
        self.done.push((series.0, point));
    }

    /// Of a sample that is kept it is told at once that it is, and in the end what it stood for.
    fn held(&mut self, series: SeriesId, taken: Option<[Point; 2]>) -> Option<Point> {
        let [over, kept] = taken?;
        self.done.push((series.0, kept));
        Some(over)
    }

    /// A number of a series that is the same in every store.
    fn salt(&self, series: SeriesId) -> u64 {
        let named = self.store.upgrade().map(|store| store.registry().def(series).to_string());
        FixedState::default().hash_one(named.unwrap_or_else(|| series.0.to_string()))
    }

    /// Keeps what surrounds a sudden change. A row of it stands for nothing but what it is: the points beside it count it.
    fn keep_context(&mut self, series: SeriesId, sample: Sample, is_sudden: bool, thin: &mut Thin) {
        if is_sudden {
            let before = thin.around.drain(..);
            let before = before.map(|(time, value)| Sample { time: Timestamp::from_nanos(time), value });
            for sample in before {
                if let Some(hint) = thin.hint.as_mut().filter(|hint| hint.sample.time == sample.time) {
                    hint.in_context = true;
                }
                self.done.push((series.0, context(sample)));
            }
            thin.to_keep = self.spec.context as u32;
        }
        let is_kept = thin.to_keep > 0;
        thin.to_keep = thin.to_keep.saturating_sub(1);
        // The start of a window is where its mean stands.
        let is_start = matches!(thin.way, Way::Mean(_)) && sample.time.nanos() % self.every == 0;
        thin.in_context = is_kept && !is_start;
        if thin.in_context {
            self.done.push((series.0, context(sample)));
        }
        if is_kept || is_start {
            return;
        }
        if thin.around.len() >= self.spec.context {
            thin.around.remove(0);
        }
        thin.around.push((sample.time.nanos(), sample.value));
    }

    fn emit(&mut self, from: &Batch, out: &mut Out<'_>) {
        if self.done.is_empty() {
            return;
        }
        let done = std::mem::take(&mut self.done);
        out.rows(Rows { table: Table::Compressed, batch: rows(&done) });
        let mut batch = from.part(done.len());
        for (series, point) in done.iter().filter(|(_, point)| point.is_new) {
            batch.push(SeriesId(*series), point.sample.time, point.sample.value);
        }
        out.batch(Arc::new(batch));
    }

    fn read_series(&mut self, from: &mut Reader<'_>, shard: Shard) -> Option<()> {
        self.compression = *Compression::ALL.get(from.u32()? as usize)?;
        while !from.0.is_empty() {
            let series = from.u32()?;
            let thin = Thin::read(from)?;
            if shard.has(series) {
                if series as usize >= self.series.len() {
                    self.series.resize(series as usize + 1, None);
                }
                self.series[series as usize] = Some(Box::new(thin));
            }
        }
        Some(())
    }
}

impl Thin {
    fn last_seen(&self) -> Sample {
        match &self.way {
            Way::Whole(seen) => *seen,
            Way::Door(door) => door.seen,
            Way::Band(hold) | Way::Sample(hold) => hold.seen,
            Way::Mean(mean) => mean.seen,
        }
    }

    /// What is told at a checkpoint, so that the table reaches as far as the samples do.
    fn tell_last(&mut self, series: u32, done: &mut Vec<(u32, Point)>) {
        let last = match &self.way {
            Way::Whole(_) => None,
            Way::Door(door) => door.last().map(|point| Point { is_new: false, ..point }),
            Way::Band(hold) => Some(hold.last("band")),
            Way::Sample(hold) => Some(hold.last("sample")),
            Way::Mean(mean) => Some(Point { is_new: false, ..mean.last() }),
        };
        if let Way::Door(door) = &self.way {
            let in_context = self.in_context;
            let now = door.last().map(|point| Hint { sample: point.sample, in_context });
            if let Some(hint) = std::mem::replace(&mut self.hint, now).filter(|&hint| Some(hint) != now) {
                done.push((series, hint.withdrawn()));
            }
        }
        done.extend(last.map(|point| (series, point)));
    }

    fn write(&self, out: &mut Writer) {
        match &self.way {
            Way::Whole(seen) => {
                out.u32(0);
                out.i64(seen.time.nanos());
                out.f64(seen.value);
            }
            Way::Door(door) => {
                out.u32(1);
                door.write(out);
            }
            Way::Band(hold) => {
                out.u32(2);
                hold.write(out);
            }
            Way::Mean(mean) => {
                out.u32(3);
                mean.write(out);
            }
            Way::Sample(hold) => {
                out.u32(4);
                hold.write(out);
            }
        }
        out.f64(self.low);
        out.f64(self.high);
        out.u32(self.seen);
        out.u32(u32::from(self.in_context));
        out.u32(u32::from(self.hint.is_some()));
        if let Some(hint) = &self.hint {
            out.i64(hint.sample.time.nanos());
            out.f64(hint.sample.value);
            out.u32(u32::from(hint.in_context));
        }
        out.i64(self.salt.cast_signed());
        out.u32(self.to_keep);
        out.u32(self.around.len() as u32);
        for &(time, value) in &self.around {
            out.i64(time);
            out.f64(value);
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let way = match from.u32()? {
            0 => Way::Whole(Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? }),
            1 => Way::Door(Door::read(from)?),
            2 => Way::Band(Hold::read(from)?),
            3 => Way::Mean(Mean::read(from)?),
            4 => Way::Sample(Hold::read(from)?),
            _ => return None,
        };
        let (low, high, seen) = (from.f64()?, from.f64()?, from.u32()?);
        let in_context = from.u32()? != 0;
        let hint = if from.u32()? == 0 { None } else { Some(Hint::read(from)?) };
        let (salt, to_keep) = (from.i64()?.cast_unsigned(), from.u32()?);
        let around = (0..from.u32()?).map(|_| Some((from.i64()?, from.f64()?))).collect::<Option<_>>()?;
        Some(Thin { way, low, high, seen, hint, in_context, around, to_keep, salt })
    }
}

/// A row that takes back another.
fn nothing(sample: Sample) -> Point {
    Point { sample, error: 0.0, samples: 0, kept: "", is_new: false }
}

/// A row of what surrounds a sudden change.
fn context(sample: Sample) -> Point {
    Point { sample, error: 0.0, samples: 1, kept: "context", is_new: false }
}

/// Whether a sample is among so many of all.
fn is_chosen(salt: u64, time: Timestamp, share: f64) -> bool {
    let hash = FixedState::with_seed(salt).hash_one(time.nanos());
    (hash >> 11) as f64 / (1_u64 << 53) as f64 <= share
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
        batch.runs().for_each(|run| self.run(run));
        self.emit(batch, out);
    }

    /// One that comes late would break the line: it stays in `samples` only.
    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        *self.dropped.entry("late: not thinned").or_default() += batch.len() as u64;
        out.late(batch.clone());
    }

    fn pressure(&mut self, compression: Compression) {
        self.compression = compression;
    }

    fn checkpoint(&mut self, _cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        state.u32(self.compression as u32);
        for (series, thin) in self.series.iter_mut().enumerate() {
            let Some(thin) = thin else { continue };
            thin.tell_last(series as u32, &mut self.done);
            state.u32(series as u32);
            thin.write(&mut state);
        }
        self.emit(&Batch::default(), out);
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        self.read_series(&mut Reader(state), shard).is_some()
    }

    fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests;
