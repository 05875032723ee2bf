//! `rate`: of each counter a series of how fast it grows: what it grew since the sample before, over the time between. One
//! that falls was restarted from zero. The first sample of a series has no rate.
//!
//! A sample that comes late changes two of them: its own, and that of the sample behind it. Both are handed on again,
//! worked out from what is stored: as late, but where the series of rates has not come so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::series::{Names, count};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Told};
use crate::model::{Batch, Kind, Pattern, Sample, SeriesDef, SeriesId, Span, Timestamp};

/// How far back, or on, the neighbour of a sample is looked for at first: then twelve times as far, and so on.
const NEAR: i64 = 300_000_000_000;
const FARTHER: i64 = 12;

/// `apply.rate`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateSpec {
    /// The time that growth is told of.
    #[serde(with = "humantime_serde")]
    pub per: Duration,
    /// What is added to the metric's name.
    pub suffix: String,
    /// Metrics that count, whatever kind they are said to be; without any, those of the kind counter.
    pub metrics: Vec<Pattern>,
    /// Whether series that do not count are left out, rather than handed on as they are.
    pub only: bool,
}

impl Default for RateSpec {
    fn default() -> Self {
        RateSpec { per: Duration::from_secs(1), suffix: ":rate".to_owned(), metrics: Vec::new(), only: false }
    }
}

impl RateSpec {
    pub(super) fn fault(&self) -> Option<String> {
        if self.suffix.is_empty() {
            return Some(
                "suffix is empty, so a rate would be a sample of its counter: write one, as in \":rate\"".into(),
            );
        }
        let possible = self.per >= Duration::from_nanos(1) && self.per <= Duration::from_secs(366 * 86_400);
        (!possible).then(|| format!("per = {:?} cannot be: write up to 366d, as in \"1s\"", self.per))
    }

    fn counts(&self, def: &SeriesDef) -> bool {
        match &self.metrics[..] {
            [] => def.kind == Kind::Counter,
            metrics => metrics.iter().any(|pattern| pattern.fits(&def.metric)),
        }
    }

    fn rated(&self, counter: SeriesDef) -> SeriesDef {
        SeriesDef { kind: Kind::Gauge, ..SeriesDef::new(format!("{}{}", counter.metric, self.suffix), counter.labels) }
    }

    fn rate(&self, before: Sample, sample: Sample) -> Sample {
        // A counter that falls was restarted from zero.
        let increase = if sample.value < before.value { sample.value } else { sample.value - before.value };
        let times = (sample.time.nanos() - before.time.nanos()) as f64 / self.per.as_nanos() as f64;
        Sample { time: sample.time, value: increase / times }
    }
}

/// What becomes of a series.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Unknown,
    Passes,
    LeftOut,
    Rated(SeriesId),
    /// It counts, but there can be no series of its rate.
    Lost(&'static str),
}

#[derive(Clone, Copy)]
struct Place {
    way: Way,
    /// Whether it counts, where that was decided before.
    counts: Option<bool>,
    last: Option<Sample>,
}

const UNSEEN: Place = Place { way: Way::Unknown, counts: None, last: None };

/// The stage.
pub(super) struct Rate {
    spec: RateSpec,
    names: Names,
    history: Option<Arc<dyn History>>,
    places: Vec<Place>,
    told: Told,
    dropped: Dropped,
}

impl Rate {
    pub fn new(spec: &RateSpec, names: Names, history: Option<Arc<dyn History>>) -> Self {
        Rate { spec: spec.clone(), names, history, places: Vec::new(), told: Told::default(), dropped: Dropped::new() }
    }

    fn place(&mut self, series: SeriesId) -> &mut Place {
        if series.index() >= self.places.len() {
            self.places.resize(series.index() + 1, UNSEEN);
        }
        &mut self.places[series.index()]
    }

    #[inline]
    fn way(&mut self, series: SeriesId) -> Way {
        match self.place(series).way {
            Way::Unknown => self.find_way(series),
            way => way,
        }
    }

    fn find_way(&mut self, series: SeriesId) -> Way {
        let Some(def) = self.names.def(series) else { return Way::Lost("the store is closed") };
        let counts = self.place(series).counts.unwrap_or_else(|| self.spec.counts(&def));
        let way = match (counts, self.spec.only) {
            (true, _) => self.names.make(&self.spec.rated(def), None).map_or_else(Way::Lost, Way::Rated),
            (false, true) => Way::LeftOut,
            (false, false) => Way::Passes,
        };
        let place = self.place(series);
        place.counts = Some(counts);
        // There may be room later.
        place.way = if matches!(way, Way::Lost(_)) { Way::Unknown } else { way };
        way
    }

    /// Hands on, as late, what a late sample of a counter changes.
    fn put_right(&mut self, series: SeriesId, sample: Sample, past: &mut dyn Past, late: &mut Batch) {
        let Way::Rated(rated) = self.way(series) else { return };
        let last = &mut self.place(series).last;
        if last.is_none_or(|last| last.time <= sample.time) {
            *last = Some(sample);
        }
        // What is not told yet is told in its turn.
        let told = last.map_or(sample.time, |last| last.time.max(sample.time));
        let before = last_before(past, series, sample.time);
        let found = neighbours(past, series, sample.time, told);
        let (Some(before), Some((own, next))) = (before, found) else {
            count(&mut self.dropped, "late: its rate cannot be worked out", 1);
            return;
        };
        let pairs = [before.zip(own), own.or(before).zip(next)];
        for point in pairs.into_iter().flatten().map(|(before, sample)| self.spec.rate(before, sample)) {
            late.push(rated, point.time, point.value);
        }
    }
}

/// The last sample of a series before a time, `None` where there is none; `None` around it where nothing can be read.
fn last_before(past: &mut dyn Past, series: SeriesId, time: Timestamp) -> Option<Option<Sample>> {
    let (mut reach, mut end) = (NEAR, time);
    loop {
        let is_all = reach == i64::MAX;
        let start = if is_all { Timestamp::MIN } else { Timestamp::from_nanos(time.nanos().saturating_sub(reach)) };
        let mut last = None;
        let span = Span::new(start, end);
        if !past.read(series, span, &mut |piece| last = piece.last().copied().or(last)) {
            return None;
        }
        if last.is_some() || is_all || start.nanos() <= past.oldest(series) {
            return Some(last);
        }
        (reach, end) = (reach.saturating_mul(FARTHER), start);
    }
}

/// The sample at a time, and the next one up to `last`.
fn neighbours(
    past: &mut dyn Past,
    series: SeriesId,
    time: Timestamp,
    last: Timestamp,
) -> Option<(Option<Sample>, Option<Sample>)> {
    let (mut own, mut next, mut reach, mut start) = (None, None, NEAR, time);
    loop {
        let end = Timestamp::from_nanos(time.nanos().saturating_add(reach).min(last.nanos().saturating_add(1)));
        let is_read = past.read(series, Span::new(start, end), &mut |piece| {
            own = own.or_else(|| piece.iter().find(|sample| sample.time == time).copied());
            next = next.or_else(|| piece.iter().find(|sample| sample.time > time).copied());
        });
        if !is_read {
            return None;
        }
        if next.is_some() || end > last {
            return Some((own, next));
        }
        (reach, start) = (reach.saturating_mul(FARTHER), end);
    }
}

impl Stage for Rate {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut rates = batch.part(batch.len());
        for (series, sample) in batch.iter() {
            match self.way(series) {
                Way::Rated(rated) => {
                    if let Some(before) = self.place(series).last.replace(sample) {
                        rates.push(rated, sample.time, self.spec.rate(before, sample).value);
                    }
                }
                Way::Passes => rates.push(series, sample.time, sample.value),
                Way::LeftOut => count(&mut self.dropped, "it is no counter", 1),
                Way::Lost(reason) => count(&mut self.dropped, reason, 1),
                Way::Unknown => {}
            }
        }
        let (new, late) = self.told.divide(&rates);
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut late = batch.part(batch.len());
        let mut past = self.history.as_ref().map(|history| history.open());
        for (series, sample) in batch.iter() {
            match (self.way(series), &mut past) {
                (Way::Rated(_), Some(past)) => self.put_right(series, sample, &mut **past, &mut late),
                (Way::Rated(_), None) => count(&mut self.dropped, "late: its rate cannot be worked out", 1),
                (Way::Passes, _) => late.push(series, sample.time, sample.value),
                (Way::LeftOut, _) => count(&mut self.dropped, "it is no counter", 1),
                (Way::Lost(reason), _) => count(&mut self.dropped, reason, 1),
                (Way::Unknown, _) => {}
            }
        }
        let (new, late) = self.told.divide(&late);
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut lasts: BTreeMap<SeriesId, Sample> = BTreeMap::new();
        let mut rates = batch.part(batch.len());
        for (series, sample) in batch.iter() {
            match self.way(series) {
                Way::Rated(rated) => {
                    let before = lasts.insert(series, sample).or(self.place(series).last);
                    if let Some(before) = before.filter(|before| before.time < sample.time) {
                        rates.push(rated, sample.time, self.spec.rate(before, sample).value);
                    }
                }
                Way::Passes => rates.push(series, sample.time, sample.value),
                Way::LeftOut | Way::Lost(_) | Way::Unknown => {}
            }
        }
        out.ahead(Arc::new(rates));
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        state.bytes(&self.told.state());
        for (series, place) in self.places.iter().enumerate() {
            let Some(counts) = place.counts else { continue };
            state.u32(series as u32);
            state.u32(u32::from(counts) | u32::from(place.last.is_some()) << 1);
            if let Some(last) = place.last {
                state.i64(last.time.nanos());
                state.f64(last.value);
            }
        }
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        let mut read = || {
            let mut from = Reader(state);
            // Their series are of any shard.
            self.told.restore(from.bytes()?, |_| true)?;
            while !from.0.is_empty() {
                let (series, marks) = (from.u32()?, from.u32()?);
                let last = match marks & 2 {
                    0 => None,
                    _ => Some(Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? }),
                };
                if shard.has(series) {
                    *self.place(SeriesId(series)) = Place { way: Way::Unknown, counts: Some(marks & 1 == 1), last };
                }
            }
            Some(())
        };
        read().is_some()
    }

    fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

/// The rates of what was there.
pub(super) struct Rates {
    pub spec: RateSpec,
    pub inner: Arc<dyn History>,
    pub names: Names,
}

struct RatesPast {
    spec: RateSpec,
    inner: Box<dyn Past>,
    names: Names,
}

impl History for Rates {
    fn open(&self) -> Box<dyn Past> {
        Box::new(RatesPast { spec: self.spec.clone(), inner: self.inner.open(), names: self.names.clone() })
    }
}

impl RatesPast {
    /// The counter whose rate a series is.
    fn counter(&self, series: SeriesId) -> Option<SeriesId> {
        let def = self.names.def(series)?;
        let metric = def.metric.strip_suffix(&*self.spec.suffix)?;
        let counter = self.names.find(&SeriesDef::new(metric, def.labels))?;
        self.spec.counts(&self.names.def(counter)?).then_some(counter)
    }

    /// What is handed on of a series.
    fn made(&self, series: SeriesId) -> Option<SeriesId> {
        let def = self.names.def(series)?;
        match (self.spec.counts(&def), self.spec.only) {
            (true, _) => self.names.make(&self.spec.rated(def), None).ok(),
            (false, only) => (!only).then_some(series),
        }
    }
}

impl Past for RatesPast {
    fn series(&self, span: Span) -> Vec<SeriesId> {
        self.inner.series(span).into_iter().filter_map(|series| self.made(series)).collect()
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let Some(counter) = self.counter(series) else {
            // One that counts is not handed on itself.
            return self.made(series) != Some(series) || self.inner.read(series, span, take);
        };
        let Some(mut before) = last_before(&mut *self.inner, counter, span.start) else { return false };
        let (spec, mut rates) = (&self.spec, Vec::new());
        self.inner.read(counter, span, &mut |piece| {
            rates.clear();
            for &sample in piece {
                rates.extend(before.replace(sample).map(|before| spec.rate(before, sample)));
            }
            take(&rates);
        })
    }

    fn oldest(&self, series: SeriesId) -> i64 {
        self.inner.oldest(self.counter(series).unwrap_or(series))
    }

    fn begins(&self, series: SeriesId) -> Option<i64> {
        self.inner.begins(self.counter(series).unwrap_or(series))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, spec};

    #[test]
    fn a_counter_becomes_its_growth_and_others_pass() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Rate(spec("per = '1m'")), None);
        run.batch(&[("c_total{}", 0, 100.0), ("c_total{}", 30, 130.0), ("c_total{}", 60, 7.0), ("g{}", 60, 5.0)]);
        run.ahead(&[("c_total{}", 90, 8.0), ("c_total{}", 120, 18.0)]);
        run.resume();
        run.batch(&[("c_total{}", 120, 27.0)]);
        assert_eq!(
            run.told(),
            [
                "batch c_total:rate{}@30=60 c_total:rate{}@60=14 g{}@60=5",
                "ahead c_total:rate{}@90=2 c_total:rate{}@120=20",
                "batch c_total:rate{}@120=20",
            ]
        );
        let def = Bench::def("c_total:rate{}");
        assert_eq!(bench.store.registry().kind(bench.store.registry().find(&def).unwrap()), Kind::Gauge);
    }

    #[test]
    fn only_counters_go_on_where_that_is_wanted() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Rate(spec("metrics = ['g*']\nonly = true\nsuffix = '_ps'")), None);
        run.batch(&[("c_total{}", 0, 1.0), ("g{}", 0, 5.0), ("g{}", 10, 6.0)]);
        assert_eq!(run.told(), ["batch g_ps{}@10=0.1"]);
        assert_eq!(run.dropped(), Dropped::from([("it is no counter", 1)]));
    }

    #[test]
    fn a_late_sample_puts_its_own_and_the_next_rate_right() {
        let bench = Bench::new();
        let memory = bench.memory(&[("c_total{}", 0, 0.0), ("c_total{}", 10, 10.0), ("c_total{}", 4000, 30.0)]);
        let mut run = bench.run(&Apply::Rate(spec("")), Some(memory.clone()));
        run.batch(&[("c_total{}", 0, 0.0), ("c_total{}", 4000, 30.0)]);
        run.late(&[("c_total{}", 10, 10.0)]);
        // The last one again, with another value, which the next is measured against.
        memory.put(bench.id("c_total{}"), 4000, 3000.0);
        run.late(&[("c_total{}", 4000, 3000.0)]);
        run.batch(&[("c_total{}", 4010, 3010.0)]);
        let next = 20.0 / 3990.0;
        let again = 2990.0 / 3990.0;
        assert_eq!(
            run.told(),
            [
                "batch c_total:rate{}@4000=0.0075".to_owned(),
                format!("late c_total:rate{{}}@10=1 c_total:rate{{}}@4000={next}"),
                format!("late c_total:rate{{}}@4000={again}"),
                "batch c_total:rate{}@4010=1".to_owned(),
            ]
        );
        let mut blind = bench.run(&Apply::Rate(spec("")), None);
        blind.late(&[("c_total{}", 10, 10.0)]);
        assert_eq!(blind.dropped(), Dropped::from([("late: its rate cannot be worked out", 1)]));
    }

    #[test]
    fn a_late_first_sample_gives_the_next_its_rate() {
        let bench = Bench::new();
        let memory = bench.memory(&[("c_total{}", 0, 0.0), ("c_total{}", 10, 10.0)]);
        let mut run = bench.run(&Apply::Rate(spec("")), Some(memory));
        run.batch(&[("c_total{}", 10, 10.0)]);
        run.late(&[("c_total{}", 0, 0.0)]);
        run.late(&[("c_total{}", 0, 0.0)]);
        assert_eq!(run.told(), ["batch c_total:rate{}@10=1", "late c_total:rate{}@10=1"]);
    }

    #[test]
    fn faults_say_what_to_write() {
        assert!(spec::<RateSpec>("suffix = ''").fault().unwrap().contains("suffix is empty"));
        assert!(spec::<RateSpec>("per = '0s'").fault().unwrap().contains("per = 0ns cannot be"));
        assert!(toml::from_str::<RateSpec>("every = '1s'").is_err());
    }
}
