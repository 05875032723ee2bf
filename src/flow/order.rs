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
    /// Series that came by it last, and some that have since come by another.
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
    told: Batch,
    late: Batch,
    marks: BTreeMap<u16, i64>,
}

const UNSEEN: Place = Place { told: i64::MIN, source: u16::MAX, waiting: SmallVec::new_const() };

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
            told: Batch::default(),
            late: Batch::default(),
            marks: BTreeMap::new(),
        }
    }

    /// Takes a batch as it came; what it leads to goes into `step`, or waits for [`Order::end_step`].
    pub fn take(&mut self, batch: &Batch, step: &mut Step) {
        self.look_for_idle(batch, step);
        let at = self.origin(&batch.source);
        if self.told.source != batch.source || self.told.len() + batch.len() > (1 << 16) {
            self.tell(step);
            (self.told, self.late) = (batch.part(batch.len()), batch.part(0));
        }
        self.told.arrived = batch.arrived;
        self.late.arrived = batch.arrived;
        for ((&series, &time), &value) in batch.series.iter().zip(&batch.times).zip(&batch.values) {
            self.sample(at, series, time, value);
        }
        let origin = &mut self.origins[usize::from(at)];
        origin.arrived = batch.arrived.nanos();
        let latest = batch.times.iter().copied().max().unwrap_or(i64::MIN);
        origin.latest = origin.latest.max(latest);
        let reached = origin.latest.saturating_sub(self.lateness);
        let reached = reached.saturating_sub(reached.rem_euclid(self.grain));
        if reached > origin.swept {
            origin.swept = reached;
            self.sweep(at, reached);
            self.marks.insert(at, reached);
        }
    }

    #[inline]
    fn sample(&mut self, at: u16, series: u32, time: i64, value: f64) {
        if series as usize >= self.places.len() {
            self.places.resize(series as usize + 1, UNSEEN);
        }
        let place = &mut self.places[series as usize];
        if place.source != at {
            place.source = at;
            self.origins[usize::from(at)].series.push(series);
        }
        if time <= place.told {
            self.late.push(SeriesId(series), Timestamp::from_nanos(time), value);
            return;
        }
        match place.waiting.last_mut() {
            Some(last) if last.0 == time => last.1 = value,
            Some(last) if last.0 > time => match place.waiting.binary_search_by_key(&time, |sample| sample.0) {
                Ok(found) => place.waiting[found].1 = value,
                Err(found) => {
                    place.waiting.insert(found, (time, value));
                    self.waiting += 1;
                }
            },
            _ => {
                place.waiting.push((time, value));
                self.waiting += 1;
            }
        }
        let lateness = if self.waiting > WAITING_MAX { 0 } else { self.lateness };
        let bound = place.waiting[place.waiting.len() - 1].0.saturating_sub(lateness);
        if place.waiting[0].0 <= bound {
            self.waiting -= release(place, SeriesId(series), bound, &mut self.told);
        }
    }

    /// Tells the series of a source up to `bound`.
    fn sweep(&mut self, at: u16, bound: i64) {
        let origin = &mut self.origins[usize::from(at)];
        origin.series.retain(|&series| {
            let place = &mut self.places[series as usize];
            if place.source != at {
                return false;
            }
            self.waiting -= release(place, SeriesId(series), bound, &mut self.told);
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
            self.sweep(at, i64::MAX);
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

    /// Takes up what [`Order::state`] gave; `false`, and nothing taken up, where it does not read or is of another lateness.
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
        (from.i64()? == self.lateness).then_some(())?;
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
            self.places[series as usize] = Place { told, source, waiting };
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
        order.take(batch, &mut step);
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
