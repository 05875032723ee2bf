//! `correlate`: pairs of series that moved together in a window, as rows of `correlations`.
//!
//! A window is cut into steps; a series is there in it as the means of its steps. What is compared (Pearson) is the change from
//! step to step: two series that merely grow are no pair; beside a gap there is no change. Of all pairs the strongest are held
//! against chance, too: how likely one of as many pairs is as strong where nothing goes together. A window
//! is worked out when all sources that brought something for it have passed it, from means that were kept as samples came
//! by. One that gets samples afterwards, and one that could not be kept, is worked out from what is stored; behind sources
//! that are not stored it is lost, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array, UInt64Array};
use hashbrown::HashMap;
use serde::Deserialize;

use crate::flow::codec::{Reader, Writer};
use crate::flow::{Compression, Cut, Dropped, History, Out, Past, Shard, Stage, Watermark};
use crate::model::{Batch, Rows, Run, Sample, SeriesId, Span, Table, Timestamp};
use crate::stats::{Pair, lag_of_best, normalize, p_value, pairs_above, pearson, six_digits, spearman};
use crate::store::Store;

/// Cells (windows × series × steps) held at once while windows are worked out.
const CELLS: usize = 1 << 24;
/// Cells kept as samples come by.
const CELLS_KEPT: usize = 1 << 22;
/// Windows kept at once: older ones are read again.
const WINDOWS_KEPT: usize = 3;

/// How many more pairs are looked at where there are gaps.
const GAPS_KEEP: usize = 4;
/// The most likely that a pair may be by chance alone.
const P_VALUE_MAX: f64 = 0.01;
/// Steps that one of a pair may be behind the other.
const LAG_MAX: usize = 12;

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
        if steps > 0 && !self.window.as_nanos().is_multiple_of(self.step.as_nanos()) {
            return Some(format!(
                "window = {:?} is no whole number of steps of {:?}: write a step that divides it, as in window = \"1h\", \
                 step = \"1m\"",
                self.window, self.step
            ));
        }
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

/// Windows that nobody can tell again.
const LOST: &str = "windows: their samples cannot be read again";

/// A window that is not worked out yet.
#[derive(Clone, Default)]
struct Open {
    /// Who brought something for it.
    sources: BTreeSet<Arc<str>>,
    /// The means of its steps by series, as far as they came by; `None` where not all of them did.
    kept: Option<Kept>,
}

/// Rows of means; not a number where a step has none.
#[derive(Clone, Default)]
struct Kept {
    series: Vec<u32>,
    means: Vec<f64>,
}

/// Where a series stands: the step it is in.
#[derive(Clone, Copy)]
struct Cursor {
    window: i64,
    row: u32,
    step: i64,
    sum: f64,
    count: u32,
}

const NOWHERE: Cursor = Cursor { window: i64::MIN, row: 0, step: i64::MIN, sum: 0.0, count: 0 };

impl Cursor {
    /// Adds the first of these samples that lie in the step that the series is in; how many.
    #[inline]
    fn add_inside(&mut self, times: &[i64], values: &[f64], step: i64) -> usize {
        if self.count == 0 {
            return 0;
        }
        let is_inside = |time: i64| time >= self.step && time.saturating_sub(self.step) < step;
        let inside = times.iter().take_while(|&&time| is_inside(time)).count();
        self.sum = values[..inside].iter().fold(self.sum, |sum, value| sum + value);
        self.count += inside as u32;
        inside
    }
}

/// The stage.
pub(super) struct Correlate {
    spec: CorrelateSpec,
    window: i64,
    step: i64,
    steps: usize,
    open: BTreeMap<i64, Open>,
    cursors: Vec<Cursor>,
    /// Windows to work out from what is stored.
    dirty: BTreeSet<i64>,
    watermarks: BTreeMap<Arc<str>, i64>,
    /// Start of the latest window that was worked out: an earlier one may have been, too.
    worked: i64,
    history: Option<Arc<dyn History>>,
    ahead: Vec<Arc<Batch>>,
    /// Windows, and samples, that are in no row.
    lost: u64,
    late: u64,
    /// Names of series, by which they are sorted: numbers go by what came first.
    names: HashMap<u32, Arc<str>>,
    store: Weak<Store>,
    /// Whether windows wait until the machine is less short of something.
    waits: bool,
}

impl Correlate {
    pub fn new(spec: &CorrelateSpec, history: Option<Arc<dyn History>>, store: Weak<Store>) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let (window, step) = (nanos(spec.window), nanos(spec.step));
        Correlate {
            spec: spec.clone(),
            window,
            step,
            steps: usize::try_from(window / step).unwrap_or(1),
            open: BTreeMap::new(),
            cursors: Vec::new(),
            dirty: BTreeSet::new(),
            watermarks: BTreeMap::new(),
            worked: i64::MIN,
            history,
            ahead: Vec::new(),
            lost: 0,
            late: 0,
            names: HashMap::new(),
            store,
            waits: false,
        }
    }

    fn start_of(&self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.window))
    }

    fn run(&mut self, source: &Arc<str>, run: Run<'_>) {
        let Run { series: SeriesId(series), mut times, mut values } = run;
        if series as usize >= self.cursors.len() {
            self.cursors.resize(series as usize + 1, NOWHERE);
        }
        while let (Some(&time), Some(&value)) = (times.first(), values.first()) {
            let inside = self.cursors[series as usize].add_inside(times, values, self.step);
            if inside == 0 {
                self.begin_step(source, series, time, value);
            }
            (times, values) = (&times[inside.max(1)..], &values[inside.max(1)..]);
        }
    }

    fn begin_step(&mut self, source: &Arc<str>, series: u32, time: i64, value: f64) {
        self.end_step(series);
        let window = self.start_of(time);
        let step = window + (time - window) / self.step * self.step;
        let row = match self.cursors[series as usize] {
            Cursor { window: same, row, .. } if same == window => row,
            _ => self.enter(source, series, window),
        };
        self.cursors[series as usize] = Cursor { window, row, step, sum: value, count: 1 };
    }

    /// Puts the mean of the step that a series is in into its window.
    fn end_step(&mut self, series: u32) {
        let Cursor { window, row, step, sum, count } = self.cursors[series as usize];
        if count > 0
            && let Some(kept) = self.open.get_mut(&window).and_then(|open| open.kept.as_mut())
            && kept.series.get(row as usize) == Some(&series)
        {
            let at = row as usize * self.steps + ((step - window) / self.step) as usize;
            kept.means[at] = sum / f64::from(count);
        }
        self.cursors[series as usize].count = 0;
    }

    /// A series comes into a window: its row there.
    fn enter(&mut self, source: &Arc<str>, series: u32, window: i64) -> u32 {
        if self.has_passed(source, window) {
            self.dirty.insert(window);
            return u32::MAX;
        }
        if !self.open.contains_key(&window) {
            let kept = (window > self.worked).then(Kept::default);
            self.open.insert(window, Open { sources: BTreeSet::new(), kept });
            if self.history.is_some() {
                let too_many = self.open.len().saturating_sub(WINDOWS_KEPT);
                self.open.values_mut().take(too_many).for_each(|open| open.kept = None);
            }
        }
        let steps = self.steps;
        if self.cells(window) + steps > CELLS_KEPT {
            self.make_room(window);
        }
        let Some(open) = self.open.get_mut(&window) else { return u32::MAX };
        if !open.sources.contains(source) {
            open.sources.insert(source.clone());
        }
        let Some(kept) = &mut open.kept else { return u32::MAX };
        kept.series.push(series);
        kept.means.resize(kept.means.len() + steps, f64::NAN);
        kept.series.len() as u32 - 1
    }

    /// Cells that are kept: of a window, where it can be read again; else of all.
    fn cells(&self, window: i64) -> usize {
        let of = |open: &Open| open.kept.as_ref().map_or(0, |kept| kept.means.len());
        match self.history {
            Some(_) => self.open.get(&window).map_or(0, of),
            None => self.open.values().map(of).sum(),
        }
    }

    /// Keeps no more of a window that can be read again, or else of the oldest.
    fn make_room(&mut self, window: i64) {
        let full = match self.history {
            Some(_) => self.open.get_mut(&window),
            None => self.open.values_mut().find(|open| open.kept.is_some()),
        };
        if let Some(open) = full {
            open.kept = None;
        }
    }

    fn has_passed(&self, source: &Arc<str>, window: i64) -> bool {
        let watermark = self.watermarks.get(source).copied().unwrap_or(i64::MIN);
        watermark != i64::MAX && window.saturating_add(self.window) <= watermark
    }

    /// Works out what all its sources have passed.
    fn work_out_passed(&mut self, out: &mut Out<'_>) {
        let is_passed = |start: i64, open: &Open| {
            let end = start.saturating_add(self.window);
            open.sources.iter().all(|source| self.watermarks.get(source).is_some_and(|&time| time >= end))
        };
        let passed: Vec<i64> =
            self.open.iter().filter(|(start, open)| is_passed(**start, open)).map(|(start, _)| *start).collect();
        if passed.is_empty() {
            return;
        }
        for series in 0..self.cursors.len() as u32 {
            if passed.contains(&self.cursors[series as usize].window) {
                self.end_step(series);
            }
        }
        let mut unkept = Vec::new();
        for start in passed {
            self.worked = self.worked.max(start);
            match self.open.remove(&start).and_then(|open| open.kept) {
                _ if self.waits && self.history.is_some() => {
                    self.dirty.insert(start);
                }
                Some(kept) => self.tell(start, kept.rows(self.steps, self.spec.points), out),
                None => unkept.push(start),
            }
        }
        self.work_out_stored(&unkept, out);
    }

    /// Works out windows from what is stored, as many at a time as memory allows.
    fn work_out_stored(&mut self, starts: &[i64], out: &mut Out<'_>) {
        let Some(history) = self.history.clone().filter(|_| !starts.is_empty()) else {
            self.lost += starts.len() as u64;
            return;
        };
        let mut past = history.open();
        let mut rest = starts;
        while let Some(&first) = rest.first() {
            let reach = |count: usize| Span::new(Timestamp::from_nanos(first), self.end(rest[count - 1]));
            let series = past.series(reach(rest.len())).len().max(1);
            let count = (CELLS / (self.steps * series)).clamp(1, rest.len());
            let (some, others) = rest.split_at(count);
            let read = self.read(&mut *past, some);
            for (&start, rows) in some.iter().zip(read) {
                self.tell(start, rows, out);
            }
            rest = others;
        }
    }

    fn end(&self, start: i64) -> Timestamp {
        Timestamp::from_nanos(start.saturating_add(self.window))
    }

    fn name(&mut self, series: u32) -> Arc<str> {
        let named = || {
            let store = self.store.upgrade();
            store.map_or_else(String::new, |store| store.registry().def(SeriesId(series)).to_string())
        };
        self.names.entry(series).or_insert_with(|| named().into()).clone()
    }

    /// Compares the series of a window, given as means, NaN where there is none.
    fn tell(&mut self, start: i64, (ids, rows): (Vec<u32>, Vec<Vec<f64>>), out: &mut Out<'_>) {
        let mut series: Vec<(u32, Vec<f64>, Vec<f32>)> = Vec::new();
        for (id, row) in ids.into_iter().zip(rows) {
            let changes: Vec<f64> = row.windows(2).map(|pair| pair[1] - pair[0]).collect();
            if let Some(unit) = unit_of(&changes) {
                series.push((id, changes, unit));
            }
        }
        // So that pairs come out alike in whatever order the series were met.
        series.sort_by_cached_key(|(id, ..)| self.name(*id));
        let (mut ids, mut changes, mut units) = (Vec::new(), Vec::new(), Vec::new());
        for (id, of_series, unit) in series {
            ids.push(id);
            changes.push(of_series);
            units.push(unit);
        }
        let pairs = self.related(&changes, &units);
        out.rows(self.rows_of(start, &ids, &pairs));
    }

    /// The strongest pairs. Gaps that differ make a sum of products too small: where there are any, more are looked at.
    fn related(&self, changes: &[Vec<f64>], units: &[Vec<f32>]) -> Vec<Related> {
        let has_gaps = changes.iter().flatten().any(|change| change.is_nan());
        let (share, keep) = match has_gaps {
            true => (((self.spec.points - 1) as f64 / (self.steps - 1) as f64).sqrt(), self.spec.pairs * GAPS_KEEP),
            false => (1.0, self.spec.pairs),
        };
        let all = changes.len() * changes.len().saturating_sub(1) / 2;
        let found = pairs_above(units, (self.spec.threshold * share) as f32, keep);
        let mut related: Vec<Related> = found
            .into_iter()
            .map(|Pair { a, b, r }| Related::of((a, b), (&changes[a], &changes[b]), (!has_gaps).then_some(r), all))
            .filter(|pair| pair.points + 1 >= self.spec.points && pair.p_value <= P_VALUE_MAX)
            .filter(|pair| !has_gaps || pair.r.abs() >= self.spec.threshold)
            .collect();
        related.sort_by(|x, y| y.r.abs().total_cmp(&x.r.abs()).then((x.a, x.b).cmp(&(y.a, y.b))));
        related.truncate(self.spec.pairs);
        related
    }

    /// For each window the series that fill enough steps of it, and their means.
    fn read(&self, past: &mut dyn Past, starts: &[i64]) -> Vec<(Vec<u32>, Vec<Vec<f64>>)> {
        let mut windows = vec![(Vec::new(), Vec::new()); starts.len()];
        let span = Span::new(Timestamp::from_nanos(starts[0]), self.end(starts[starts.len() - 1]));
        let mut means: Vec<Means> = starts.iter().map(|&start| Means::new(start, self.steps)).collect();
        for series in past.series(span) {
            let is_read = past.read(series, span, &mut |samples| self.add_to(&mut means, samples));
            let rows = means.iter_mut().map(|means| means.take(self.spec.points));
            for (row, (ids, kept)) in rows.zip(&mut windows) {
                if let Some(row) = row.filter(|_| is_read) {
                    ids.push(series.0);
                    kept.push(row);
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

    /// The rows of a window; where there is no pair, one that says so, which replaces those told before.
    fn rows_of(&self, start: i64, series: &[u32], pairs: &[Related]) -> Rows {
        const NONE: Related = Related { a: 0, b: 0, r: 0.0, points: 0, spearman: None, lag: 0, p_value: 1.0 };
        let told = if pairs.is_empty() { &[NONE][..] } else { pairs };
        let times = |time: i64| -> ArrayRef {
            Arc::new(TimestampNanosecondArray::from(vec![time; told.len()]).with_timezone("UTC"))
        };
        let ids = |of: fn(&Related) -> usize| -> ArrayRef {
            let id = |pair: &Related| series.get(of(pair)).copied().filter(|_| pair.points > 0).unwrap_or(0);
            Arc::new(UInt32Array::from_iter_values(told.iter().map(id)))
        };
        let seconds = self.step as f64 / 1e9;
        let columns: Vec<ArrayRef> = vec![
            times(start),
            times(start.saturating_add(self.window)),
            ids(|pair| pair.a),
            ids(|pair| pair.b),
            Arc::new(Float64Array::from_iter_values(told.iter().map(|pair| pair.r))),
            Arc::new(UInt64Array::from_iter_values(told.iter().map(|pair| pair.points as u64))),
            Arc::new(told.iter().map(|pair| pair.spearman.map(six_digits)).collect::<Float64Array>()),
            Arc::new(Float64Array::from_iter_values(told.iter().map(|pair| pair.lag as f64 * seconds))),
            Arc::new(Float64Array::from_iter_values(told.iter().map(|pair| six_digits(pair.p_value)))),
        ];
        let batch = RecordBatch::try_new(Table::Correlations.schema(), columns);
        Rows { table: Table::Correlations, batch: batch.expect("columns are of the table's schema") }
    }

    /// Works out all windows that are open as if they ended here, those samples with them that are still to be told.
    fn tell_open(&mut self, out: &mut Out<'_>) {
        let ahead = std::mem::take(&mut self.ahead);
        let before = (self.open.clone(), self.cursors.clone(), self.dirty.clone());
        for batch in ahead {
            batch.runs().for_each(|run| self.run(&batch.source, run));
        }
        (0..self.cursors.len() as u32).for_each(|series| self.end_step(series));
        let mut unkept = Vec::new();
        for &start in before.0.keys() {
            match self.open.remove(&start).and_then(|open| open.kept) {
                Some(kept) => self.tell(start, kept.rows(self.steps, self.spec.points), out),
                None => unkept.push(start),
            }
        }
        (self.open, self.cursors, self.dirty) = before;
        if self.history.is_some() {
            self.work_out_stored(&unkept, out);
        }
    }

    fn write_kept(&self, state: &mut Writer) {
        for open in self.open.values() {
            let kept = open.kept.as_ref();
            state.u32(kept.map_or(0, |kept| kept.series.len() as u32));
            kept.into_iter().flat_map(|kept| &kept.series).for_each(|&series| state.u32(series));
            kept.into_iter().flat_map(|kept| &kept.means).for_each(|&mean| state.f64(mean));
        }
        for (series, cursor) in self.cursors.iter().enumerate().filter(|(_, cursor)| cursor.window != i64::MIN) {
            [series as u32, cursor.row, cursor.count].into_iter().for_each(|number| state.u32(number));
            [cursor.window, cursor.step].into_iter().for_each(|time| state.i64(time));
            state.f64(cursor.sum);
        }
    }

    fn read_kept(&mut self, from: &mut Reader<'_>) -> Option<()> {
        for open in self.open.values_mut() {
            let series = (0..from.u32()?).map(|_| from.u32()).collect::<Option<Vec<u32>>>()?;
            let means = (0..series.len() * self.steps).map(|_| from.f64()).collect::<Option<Vec<f64>>>()?;
            open.kept = (!series.is_empty()).then_some(Kept { series, means });
        }
        while !from.0.is_empty() {
            let [series, row, count] = [from.u32()?, from.u32()?, from.u32()?];
            let (window, step, sum) = (from.i64()?, from.i64()?, from.f64()?);
            if series as usize >= self.cursors.len() {
                self.cursors.resize(series as usize + 1, NOWHERE);
            }
            self.cursors[series as usize] = Cursor { window, row, step, sum, count };
        }
        Some(())
    }

    fn read_state(&mut self, from: &mut Reader<'_>) -> Option<()> {
        self.worked = from.i64()?;
        let text = |from: &mut Reader<'_>| Some(Arc::from(std::str::from_utf8(from.bytes()?).ok()?));
        for _ in 0..from.u32()? {
            let source = text(from)?;
            self.watermarks.insert(source, from.i64()?);
        }
        for _ in 0..from.u32()? {
            let start = from.i64()?;
            let sources = (0..from.u32()?).map(|_| text(from)).collect::<Option<BTreeSet<_>>>()?;
            self.open.insert(start, Open { sources, kept: None });
        }
        for _ in 0..from.u32()? {
            self.dirty.insert(from.i64()?);
        }
        if self.history.is_none() { self.read_kept(from) } else { Some(()) }
    }
}

impl Kept {
    /// Rows that fill enough steps.
    fn rows(self, steps: usize, points: usize) -> (Vec<u32>, Vec<Vec<f64>>) {
        let rows = self.series.into_iter().zip(self.means.chunks(steps));
        let enough = |means: &&[f64]| means.iter().filter(|mean| !mean.is_nan()).count() >= points;
        rows.filter(|(_, means)| enough(means)).map(|(series, means)| (series, means.to_vec())).unzip()
    }
}

/// Two series of a window, by place, and how their changes went together.
struct Related {
    a: usize,
    b: usize,
    r: f64,
    /// Changes that both have.
    points: usize,
    spearman: Option<f64>,
    /// Steps by which `b` follows `a` where they are most alike.
    lag: isize,
    /// Of one of so many pairs, and as many lags.
    p_value: f64,
}

impl Related {
    fn of((a, b): (usize, usize), (x, y): (&[f64], &[f64]), r: Option<f32>, pairs: usize) -> Related {
        let points = x.iter().zip(y).filter(|(x, y)| x.is_finite() && y.is_finite()).count();
        let r = r.map_or_else(|| pearson(x, y).unwrap_or(0.0), f64::from);
        let lag = lag_of_best(x, y, LAG_MAX).map_or(0, |(lag, _)| lag);
        let p_value = (p_value(r, points) * pairs as f64).min(1.0);
        Related { a, b, r, points, spearman: spearman(x, y), lag, p_value }
    }
}

/// Changes shifted and scaled as [`normalize`] does, zero where there is none.
fn unit_of(changes: &[f64]) -> Option<Vec<f32>> {
    let mut there: Vec<f32> = changes.iter().filter(|change| !change.is_nan()).map(|&change| change as f32).collect();
    if there.is_empty() || !normalize(&mut there) {
        return None;
    }
    let mut there = there.into_iter();
    Some(changes.iter().map(|change| if change.is_nan() { 0.0 } else { there.next().unwrap_or(0.0) }).collect())
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

    /// The means, where enough steps have one; empty again.
    fn take(&mut self, points: usize) -> Option<Vec<f64>> {
        let Means { samples, sums, .. } = self;
        let filled = sums.iter().filter(|(_, count)| *count > 0).count();
        let mean = |&(sum, count): &(f64, u32)| if count > 0 { sum / f64::from(count) } else { f64::NAN };
        let row = (std::mem::take(samples) >= points && filled >= points).then(|| sums.iter().map(mean).collect());
        sums.fill((0.0, 0));
        row
    }
}

impl Stage for Correlate {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        batch.runs().for_each(|run| self.run(&batch.source, run));
        out.batch(batch.clone());
    }

    /// The window is worked out from what is stored.
    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.late(batch.clone());
        if self.history.is_none() {
            self.late += batch.len() as u64;
            return;
        }
        for &time in &batch.times {
            let start = self.start_of(time);
            match self.open.get_mut(&start) {
                Some(open) => open.kept = None,
                None => {
                    self.dirty.insert(start);
                }
            }
        }
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.ahead.push(batch.clone());
        out.ahead(batch.clone());
    }

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        self.watermarks.insert(watermark.source.clone(), watermark.time.nanos());
        self.work_out_passed(out);
    }

    /// Comparing all pairs is heavy work: it waits while the machine has no room for it.
    fn pressure(&mut self, compression: Compression) {
        self.waits = compression == Compression::Emergency;
    }

    /// Works out windows that were put off, as many as are read at one go.
    fn idle(&mut self, out: &mut Out<'_>) {
        if self.waits || self.dirty.is_empty() {
            return;
        }
        let count = (CELLS / (self.steps * self.cursors.len().max(1))).max(1);
        let starts: Vec<i64> = self.dirty.iter().take(count).copied().collect();
        starts.iter().for_each(|start| {
            self.dirty.remove(start);
        });
        self.work_out_stored(&starts, out);
    }

    fn checkpoint(&mut self, cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        if cut.last {
            let dirty: Vec<i64> = std::mem::take(&mut self.dirty).into_iter().collect();
            self.work_out_stored(&dirty, out);
            self.tell_open(out);
        }
        self.ahead.clear();
        let mut state = Writer::default();
        state.i64(self.worked);
        state.u32(self.watermarks.len() as u32);
        for (source, &time) in &self.watermarks {
            state.bytes(source.as_bytes());
            state.i64(time);
        }
        state.u32(self.open.len() as u32);
        for (&start, open) in &self.open {
            state.i64(start);
            state.u32(open.sources.len() as u32);
            open.sources.iter().for_each(|source| state.bytes(source.as_bytes()));
        }
        state.u32(self.dirty.len() as u32);
        self.dirty.iter().for_each(|&start| state.i64(start));
        if self.history.is_none() {
            self.write_kept(&mut state);
        }
        state.0
    }

    fn restore(&mut self, state: &[u8], _shard: Shard) -> bool {
        self.read_state(&mut Reader(state)).is_some()
    }

    fn dropped(&self) -> Dropped {
        let reasons = [(LOST, self.lost), ("late: not compared", self.late)];
        reasons.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn put_off(&self) -> u64 {
        self.dirty.len() as u64
    }
}

#[cfg(test)]
mod tests;
