//! The order in which pipelines are told samples: that of time for each series, whatever order they came in.
//!
//! A sample waits until its series has one that is `lateness` later, or its source has come that far, or has been idle for
//! so long that nobody waits for it any more. So samples that overtake each other by less come out as if they had not, and
//! of two for one time the later counts. One that comes when its series has been told past its time is late.
//!
//! All of this is told by what is in the log (times, sources, arrivals), so the log gives it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::by_series::{BySeries, Came};
use super::codec::{Reader, Writer};
use super::event::{Event, Step, Watermark};
use crate::model::{Batch, SeriesId, Timestamp};

/// Samples that may wait at once, over all series; more are told in the order they come.
const WAITING_MAX: usize = 1 << 22;
/// Watermarks are told at such steps at least.
const GRAIN: i64 = 1_000_000_000;
/// How often it is looked who is idle.
const LOOK: i64 = 1_000_000_000;

/// How long one waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderSpec {
    /// How far behind the latest of its series or source a sample may come and still be in time.
    pub lateness: Duration,
    /// How long a source may bring nothing before nobody waits for it, by the clock.
    pub idle: Duration,
}

/// Where a series stands.
#[derive(Clone, Debug)]
struct Place {
    /// Time of the last sample told.
    told: i64,
    source: u16,
    /// By which sweep it was met last.
    swept: u32,
    /// Those that came since, by time.
    waiting: SmallVec<[(i64, f64); 1]>,
}

/// Where a source stands.
#[derive(Clone, Debug)]
struct Origin {
    name: Arc<str>,
    latest: i64,
    /// Its last watermark.
    swept: i64,
    arrived: i64,
    is_idle: bool,
    /// Series that came by it last, and until the next sweep some that have since come by another, or are named twice.
    series: Vec<u32>,
}

/// See the file's head.
pub struct Order {
    lateness: i64,
    idle: i64,
    grain: i64,
    places: Vec<Place>,
    origins: Vec<Origin>,
    by_name: BTreeMap<Arc<str>, u16>,
    looked: i64,
    waiting: usize,
    /// What came of one source, and is still to be put in order.
    gathered: BySeries,
    /// Which source.
    source: u16,
    sweeps: u32,
    /// After how many of these samples it had come how far.
    advances: Vec<(u32, i64)>,
    told: Batch,
    late: Batch,
    marks: BTreeMap<u16, i64>,
}

const UNSEEN: Place = Place { told: i64::MIN, source: u16::MAX, swept: 0, waiting: SmallVec::new_const() };

impl Order {
    pub fn new(spec: OrderSpec) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let lateness = nanos(spec.lateness);
        Order {
            lateness,
            idle: nanos(spec.idle),
            grain: lateness.max(GRAIN),
            places: Vec::new(),
            origins: Vec::new(),
            by_name: BTreeMap::new(),
            looked: i64::MIN,
            waiting: 0,
            gathered: BySeries::default(),
            source: u16::MAX,
            sweeps: 0,
            advances: Vec::new(),
            told: Batch::default(),
            late: Batch::default(),
            marks: BTreeMap::new(),
        }
    }

    /// Takes a batch as it came; what it leads to goes into `step`, or waits for [`Order::end_step`].
    pub fn take(&mut self, batch: &Arc<Batch>, step: &mut Step) {
        self.look_for_idle(batch, step);
        let at = self.origin(&batch.source);
        if self.told.source != batch.source || self.told.len() + self.gathered.len() + batch.len() > (1 << 16) {
            self.tell(step);
            (self.told, self.late) = (batch.part(0), batch.part(0));
        }
        self.source = at;
        self.told.arrived = batch.arrived;
        self.late.arrived = batch.arrived;
        if self.waiting + self.gathered.len() + batch.len() > WAITING_MAX {
            self.put_in_order();
        }
        let is_crowded = self.waiting + batch.len() > WAITING_MAX;
        if is_crowded {
            for (series, sample) in batch.iter() {
                self.sample(series.0, sample.time.nanos(), sample.value);
            }
        } else {
            self.gathered.push(batch.clone());
        }
        let origin = &mut self.origins[usize::from(at)];
        origin.arrived = batch.arrived.nanos();
        let latest = batch.times.iter().copied().max().unwrap_or(i64::MIN);
        origin.latest = origin.latest.max(latest);
        let reached = origin.latest.saturating_sub(self.lateness);
        let reached = reached.saturating_sub(reached.rem_euclid(self.grain));
        if reached > origin.swept {
            origin.swept = reached;
            if is_crowded {
                self.sweep(at, reached, |_| false);
            } else {
                self.advances.push((self.gathered.len() as u32, reached));
            }
            self.marks.insert(at, reached);
        }
    }

    /// Takes what was gathered, a series after the other. Each ends up as if the batches had been taken one by one: what a
    /// series tells depends on its own samples, and on how far its source was between them.
    fn put_in_order(&mut self) {
        if self.gathered.len() == 0 {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut advances = std::mem::take(&mut self.advances);
        gathered.sort();
        for (series, run) in gathered.runs() {
            let (place, is_new) = self.enter(series);
            let before = place.waiting.last().map_or(place.told, |last| last.0);
            // How far the source came before it brought the series says nothing of samples that another brought.
            let earlier = if is_new { advances.partition_point(|(there, _)| *there <= run[0].at) } else { 0 };
            let advances = &advances[earlier..];
            if before < run[0].time && run.is_sorted_by(|a, b| a.time < b.time) {
                self.run(series, run, advances.last().copied());
            } else {
                self.run_of_any_order(series, run, advances);
            }
        }
        if let Some(&(_, reached)) = advances.last() {
            self.sweep(self.source, reached, |series| gathered.has(series));
        }
        gathered.clear();
        advances.clear();
        (self.gathered, self.advances) = (gathered, advances);
    }

    /// Takes samples of a series of which each comes after the one before, and all after those that wait. What the source
    /// reached last counts for those that were there by then.
    fn run(&mut self, series: u32, run: &[Came], advance: Option<(u32, i64)>) {
        let place = &mut self.places[series as usize];
        let bound = run[run.len() - 1].time.saturating_sub(self.lateness);
        let (there, reached) = advance.unwrap_or((0, i64::MIN));
        let by_source = run.partition_point(|came| came.at < there && came.time <= reached);
        let (over, rest) = run.split_at(run.partition_point(|came| came.time <= bound).max(by_source));
        self.waiting -= release(place, SeriesId(series), bound.max(reached), &mut self.told);
        self.told.series.extend(std::iter::repeat_n(series, over.len()));
        self.told.times.extend(over.iter().map(|came| came.time));
        self.told.values.extend(over.iter().map(|came| came.value));
        place.told = over.last().map_or(place.told, |last| last.time);
        place.waiting.extend(rest.iter().map(|came| (came.time, came.value)));
        self.waiting += rest.len();
    }

    /// Takes samples of a series one by one, with what its source reached in between.
    fn run_of_any_order(&mut self, series: u32, run: &[Came], advances: &[(u32, i64)]) {
        let mut passed = 0;
        for came in run {
            let now = passed + advances[passed..].iter().take_while(|(there, _)| *there <= came.at).count();
            if now > passed {
                passed = now;
                self.release(series, advances[now - 1].1);
            }
            self.sample(series, came.time, came.value);
        }
        if passed < advances.len() {
            self.release(series, advances[advances.len() - 1].1);
        }
    }

    /// A series of which the source that is told of brings something, and whether another did before.
    fn enter(&mut self, series: u32) -> (&mut Place, bool) {
        if series as usize >= self.places.len() {
            self.places.resize(series as usize + 1, UNSEEN);
        }
        let place = &mut self.places[series as usize];
        let is_new = place.source != self.source;
        if is_new {
            place.source = self.source;
            self.origins[usize::from(self.source)].series.push(series);
        }
        (place, is_new)
    }

    fn sample(&mut self, series: u32, time: i64, value: f64) {
        let (place, _) = self.enter(series);
        if time <= place.told {
            self.late.push(SeriesId(series), Timestamp::from_nanos(time), value);
            return;
        }
        match place.waiting.binary_search_by_key(&time, |sample| sample.0) {
            Ok(found) => place.waiting[found].1 = value,
            Err(found) => {
                place.waiting.insert(found, (time, value));
                self.waiting += 1;
            }
        }
        let lateness = if self.waiting > WAITING_MAX { 0 } else { self.lateness };
        let waiting = &self.places[series as usize].waiting;
        self.release(series, waiting[waiting.len() - 1].0.saturating_sub(lateness));
    }

    /// Tells what waits of a series up to `bound`.
    fn release(&mut self, series: u32, bound: i64) {
        let place = &mut self.places[series as usize];
        self.waiting -= release(place, SeriesId(series), bound, &mut self.told);
    }

    /// Tells the series of a source up to `bound`, but for some.
    fn sweep(&mut self, at: u16, bound: i64, is_swept: impl Fn(u32) -> bool) {
        self.sweeps = self.sweeps.wrapping_add(1);
        let origin = &mut self.origins[usize::from(at)];
        origin.series.retain(|&series| {
            let place = &mut self.places[series as usize];
            if place.source != at || place.swept == self.sweeps {
                return false;
            }
            place.swept = self.sweeps;
            if !is_swept(series) {
                self.waiting -= release(place, SeriesId(series), bound, &mut self.told);
            }
            true
        });
    }

    /// Nobody waits for sources that have brought nothing for long.
    fn look_for_idle(&mut self, batch: &Batch, step: &mut Step) {
        let now = batch.arrived.nanos();
        if now < self.looked.saturating_add(LOOK) && now >= self.looked {
            return;
        }
        self.looked = now;
        let is_silent = |origin: &Origin| !origin.is_idle && origin.arrived.saturating_add(self.idle) <= now;
        let silent: Vec<u16> =
            self.origins.iter().enumerate().filter(|(_, o)| is_silent(o)).map(|(at, _)| at as u16).collect();
        for at in silent {
            let origin = &mut self.origins[usize::from(at)];
            origin.is_idle = true;
            if origin.name == batch.source {
                continue;
            }
            let name = origin.name.clone();
            self.tell(step);
            self.told = Batch { source: name, ..batch.part(0) };
            self.sweep(at, i64::MAX, |_| false);
            self.tell(step);
            self.marks.insert(at, i64::MAX);
        }
    }

    fn origin(&mut self, name: &Arc<str>) -> u16 {
        let at = match self.by_name.get(name) {
            Some(&at) => at,
            None => {
                let at = (self.origins.len() as u16).min(u16::MAX - 1);
                let origin = Origin {
                    name: name.clone(),
                    latest: i64::MIN,
                    swept: i64::MIN,
                    arrived: i64::MIN,
                    is_idle: false,
                    series: Vec::new(),
                };
                if usize::from(at) == self.origins.len() {
                    self.origins.push(origin);
                }
                self.by_name.insert(name.clone(), at);
                at
            }
        };
        let origin = &mut self.origins[usize::from(at)];
        if std::mem::take(&mut origin.is_idle) {
            self.marks.insert(at, origin.swept);
        }
        at
    }

    fn tell(&mut self, step: &mut Step) {
        self.put_in_order();
        let like = self.told.part(0);
        if !self.told.is_empty() {
            step.push(Event::Batch(Arc::new(std::mem::replace(&mut self.told, like.clone()))));
        }
        if !self.late.is_empty() {
            step.push(Event::Late(Arc::new(std::mem::replace(&mut self.late, like))));
        }
    }

    /// Ends a step: what was gathered, then how far the sources are.
    pub fn end_step(&mut self, step: &mut Step) {
        self.tell(step);
        for (at, time) in std::mem::take(&mut self.marks) {
            let source = self.origins[usize::from(at)].name.clone();
            step.push(Event::Watermark(Watermark { source, time: Timestamp::from_nanos(time) }));
        }
    }

    /// All that wait, without letting them go.
    pub fn ahead(&self) -> Batch {
        let mut batch = Batch::with_capacity(self.waiting);
        for (series, place) in self.places.iter().enumerate() {
            for &(time, value) in &place.waiting {
                batch.push(SeriesId(series as u32), Timestamp::from_nanos(time), value);
            }
        }
        batch
    }

    /// As `store/FORMAT.md` draws it.
    pub fn state(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.i64(self.lateness);
        out.i64(self.looked);
        out.u32(self.origins.len() as u32);
        for origin in &self.origins {
            out.bytes(origin.name.as_bytes());
            [origin.latest, origin.swept, origin.arrived].into_iter().for_each(|time| out.i64(time));
            out.u32(u32::from(origin.is_idle));
        }
        for (series, place) in self.places.iter().enumerate().filter(|(_, place)| place.source != u16::MAX) {
            out.u32(series as u32);
            out.i64(place.told);
            out.u32(u32::from(place.source));
            out.u32(place.waiting.len() as u32);
            for &(time, value) in &place.waiting {
                out.i64(time);
                out.f64(value);
            }
        }
        out.0
    }

    /// Takes up what [`Order::state`] gave; `false`, and nothing taken up, where it does not read.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        let spec = OrderSpec {
            lateness: Duration::from_nanos(self.lateness.cast_unsigned()),
            idle: Duration::from_nanos(self.idle.cast_unsigned()),
        };
        let mut restored = Order::new(spec);
        let read = restored.read(&mut Reader(state)).is_some();
        if read {
            *self = restored;
        }
        read
    }

    fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
        // Of whatever lateness: what waits goes on to wait, now by this one.
        from.i64()?;
        self.looked = from.i64()?;
        for at in 0..from.u32()? {
            let name: Arc<str> = std::str::from_utf8(from.bytes()?).ok()?.into();
            let (latest, swept, arrived) = (from.i64()?, from.i64()?, from.i64()?);
            let is_idle = from.u32()? != 0;
            self.by_name.insert(name.clone(), at as u16);
            self.origins.push(Origin { name, latest, swept, arrived, is_idle, series: Vec::new() });
        }
        while !from.0.is_empty() {
            let series = from.u32()?;
            let (told, source) = (from.i64()?, from.u32()? as u16);
            let mut waiting = SmallVec::new();
            for _ in 0..from.u32()? {
                waiting.push((from.i64()?, from.f64()?));
            }
            self.waiting += waiting.len();
            self.origins.get_mut(usize::from(source))?.series.push(series);
            if series as usize >= self.places.len() {
                self.places.resize(series as usize + 1, UNSEEN);
            }
            self.places[series as usize] = Place { told, source, swept: 0, waiting };
        }
        Some(())
    }
}

/// Tells what waits up to `bound`; how many.
#[inline]
fn release(place: &mut Place, series: SeriesId, bound: i64, told: &mut Batch) -> usize {
    let count = place.waiting.iter().take_while(|sample| sample.0 <= bound).count();
    for (time, value) in place.waiting.drain(..count) {
        told.push(series, Timestamp::from_nanos(time), value);
        place.told = time;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Chance;

    const SECOND: i64 = 1_000_000_000;

    fn order() -> Order {
        Order::new(OrderSpec { lateness: Duration::from_secs(10), idle: Duration::from_secs(60) })
    }

    fn batch(source: &str, arrived: i64, samples: &[(u32, i64)]) -> Batch {
        let mut batch =
            Batch { source: source.into(), arrived: Timestamp::from_nanos(arrived * SECOND), ..Batch::default() };
        for &(series, second) in samples {
            batch.push(SeriesId(series), Timestamp::from_nanos(second * SECOND), second as f64);
        }
        batch
    }

    /// What is told, in seconds: `series@time`, `late …`, `source<time`.
    fn told(step: &Step) -> Vec<String> {
        let samples = |batch: &Batch, kind: &str| -> Vec<String> {
            batch.iter().map(|(series, s)| format!("{kind}{}@{}", series.0, s.time.nanos() / SECOND)).collect()
        };
        step.iter()
            .flat_map(|event| match event {
                Event::Batch(batch) => samples(batch, ""),
                Event::Late(batch) => samples(batch, "late "),
                Event::Watermark(Watermark { source, time }) if *time == Timestamp::MAX => {
                    vec![format!("{source} idle")]
                }
                Event::Watermark(Watermark { source, time }) => vec![format!("{source}<{}", time.nanos() / SECOND)],
                _ => Vec::new(),
            })
            .collect()
    }

    fn takes(order: &mut Order, batch: &Batch) -> Vec<String> {
        let mut step = Step::new();
        order.take(&Arc::new(batch.clone()), &mut step);
        order.end_step(&mut step);
        told(&step)
    }

    #[test]
    fn a_series_is_told_in_order_and_what_comes_too_late_is_late() {
        let mut order = order();
        assert_eq!(takes(&mut order, &batch("a", 0, &[(0, 5), (0, 3), (0, 4)])), ["a<-10"]);
        assert_eq!(takes(&mut order, &batch("a", 1, &[(0, 14)])), ["0@3", "0@4", "a<0"]);
        assert_eq!(takes(&mut order, &batch("a", 2, &[(0, 2), (0, 6)])), ["late 0@2"]);
        assert_eq!(takes(&mut order, &batch("a", 3, &[(0, 40)])), ["0@5", "0@6", "0@14", "a<30"]);
    }

    #[test]
    fn a_series_that_stands_still_is_told_when_its_source_goes_on() {
        let mut order = order();
        takes(&mut order, &batch("a", 0, &[(0, 5), (1, 5)]));
        assert_eq!(takes(&mut order, &batch("a", 1, &[(1, 31)])), ["1@5", "0@5", "a<20"]);
        // Another source tells nothing of it, until this one is idle.
        assert_eq!(takes(&mut order, &batch("b", 2, &[(7, 900)])), ["b<890"]);
        assert_eq!(takes(&mut order, &batch("b", 61, &[(7, 901)])), ["1@31", "a idle"]);
        assert_eq!(takes(&mut order, &batch("a", 62, &[(1, 32)])), ["a<20"]);
    }

    #[test]
    fn a_history_is_no_late_data_beside_what_is_new() {
        let mut order = order();
        takes(&mut order, &batch("live", 0, &[(0, 1_000_000)]));
        for hour in 0..50 {
            let samples: Vec<(u32, i64)> = (0..60).map(|minute| (1, hour * 3600 + minute * 60)).collect();
            let told = takes(&mut order, &batch("import", 1, &samples));
            assert!(told.iter().all(|told| !told.starts_with("late")), "{told:?}");
        }
    }

    /// Samples of a series by how they were told, and those that were late.
    fn by_series(step: &Step, told: &mut [BTreeMap<u32, Vec<(i64, u64)>>; 2]) {
        for event in step {
            let (kind, batch) = match event {
                Event::Batch(batch) => (0, batch),
                Event::Late(batch) => (1, batch),
                _ => continue,
            };
            for (series, sample) in batch.iter() {
                told[kind].entry(series.0).or_default().push((sample.time.nanos(), sample.value.to_bits()));
            }
        }
    }

    #[test]
    fn another_lateness_loses_nothing_that_waits() {
        let mut before = order();
        takes(&mut before, &batch("a", 0, &[(0, 100), (0, 105), (0, 109)]));
        for lateness in [0, 3, 600] {
            let spec = OrderSpec { lateness: Duration::from_secs(lateness), idle: Duration::from_secs(60) };
            let mut after = Order::new(spec);
            assert!(after.restore(&before.state()));
            let told = takes(&mut after, &batch("a", 1, &[(0, 1000)]));
            let told: Vec<&str> = told.iter().map(String::as_str).filter(|told| told.contains('@')).collect();
            let all = ["0@100", "0@105", "0@109", "0@1000"];
            assert_eq!(told, if lateness == 0 { &all[..] } else { &all[..3] }, "{lateness}");
        }
    }

    #[test]
    fn series_that_come_by_sources_in_turn_are_listed_once() {
        let mut order = order();
        for n in 0..1000 {
            takes(&mut order, &batch(if n % 2 == 0 { "a" } else { "b" }, n, &[(0, n), (1, n)]));
        }
        let listed: usize = order.origins.iter().map(|origin| origin.series.len()).sum();
        assert!(listed < 50, "{listed}");
    }

    /// Sources that overtake each other, series that lag behind their source, lateness that is not kept, repeats.
    #[test]
    fn how_many_batches_make_a_step_does_not_matter() {
        for seed in 0..300 {
            let chance = Chance::seeded(seed);
            let batches: Vec<Arc<Batch>> = (0..60)
                .map(|n| {
                    let source = if chance.below(4) == 0 { "b" } else { "a" };
                    let (first, lag) = (n * 4, 1 + chance.below(40) as i64);
                    let mut samples: Vec<(u32, i64)> = (0..chance.below(30))
                        .map(|_| {
                            let series = chance.below(5) as u32;
                            let behind = if series == 4 { 15 } else { 0 };
                            (series, first + chance.below(12) as i64 - behind)
                        })
                        .collect();
                    if chance.below(3) > 0 {
                        samples.sort_by_key(|sample| sample.1);
                    }
                    if chance.below(10) == 0 {
                        samples.iter_mut().for_each(|sample| sample.1 -= lag);
                    }
                    Arc::new(batch(source, n + if chance.below(20) == 0 { 70 } else { 0 }, &samples))
                })
                .collect();
            let run = |batches_a_step: u64| {
                let (mut order, mut told) = (order(), Default::default());
                let mut rest = batches.as_slice();
                while !rest.is_empty() {
                    let (some, more) = rest.split_at((1 + chance.below(batches_a_step) as usize).min(rest.len()));
                    rest = more;
                    let mut step = Step::new();
                    some.iter().for_each(|batch| order.take(batch, &mut step));
                    order.end_step(&mut step);
                    by_series(&step, &mut told);
                }
                (told, order.state())
            };
            let one_by_one = run(1);
            for _ in 0..3 {
                assert!(run(20) == one_by_one, "seed {seed}");
            }
        }
    }

    /// Shuffled within the lateness, cut into other batches, sent twice, stopped and resumed: told the same.
    #[test]
    fn what_is_told_does_not_depend_on_how_it_came() {
        for seed in 0..40 {
            let chance = Chance::seeded(seed);
            let mut samples: Vec<(u32, i64)> = (0..400).map(|n| ((n % 5) as u32, n / 5)).collect();
            let in_order = samples.clone();
            // Nobody overtakes another by ten seconds.
            samples.sort_by_cached_key(|&(_, second)| second * 10 + chance.below(95) as i64);
            let all = |samples: &[(u32, i64)], chance: &Chance| {
                let (mut order, mut all) = (order(), Vec::new());
                let mut rest = samples;
                while !rest.is_empty() {
                    let (some, more) = rest.split_at((1 + chance.below(20) as usize).min(rest.len()));
                    rest = more;
                    for _ in 0..1 + chance.below(2) {
                        all.extend(takes(&mut order, &batch("a", 0, some)));
                    }
                    let mut resumed = self::order();
                    assert!(resumed.restore(&order.state()));
                    order = resumed;
                }
                let mut told: Vec<String> = all.into_iter().filter(|told| told.contains('@')).collect();
                told.retain(|told| !told.starts_with("late"));
                told.sort_by_key(|told| told.split('@').next().map(str::to_owned));
                told
            };
            assert_eq!(all(&samples, &chance), all(&in_order, &chance), "seed {seed}");
        }
    }
}
