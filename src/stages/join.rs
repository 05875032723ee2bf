//! `join`: each sample of a series with the last one, at its time or before, of another that has the same labels, as one
//! number: used by total, requests by hosts.
//!
//! A sample on the left waits until all sources are past its time, so that what it is joined with does not depend on who
//! was quicker. What comes late is counted and not joined. The new series has the labels of the left one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::held::{BEFORE_ALL, Sources};
use super::series::{Names, SeriesSpec, count};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, Out, Shard, Stage, Told, Watermark};
use crate::model::relabel::is_label_name;
use crate::model::{Batch, Kind, Labels, Sample, SeriesDef, SeriesId, Timestamp};

/// Samples on either side that wait, or are kept to be joined with, at most.
const HELD_MAX: usize = 1 << 20;

/// What is made of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Op {
    #[serde(rename = "+")]
    Plus,
    #[serde(rename = "-")]
    Minus,
    #[serde(rename = "*")]
    Times,
    #[serde(rename = "/")]
    By,
    /// The value on the left: those that find somebody.
    #[serde(rename = "left")]
    Left,
    #[serde(rename = "right")]
    Right,
}

impl Op {
    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Op::Plus => left + right,
            Op::Minus => left - right,
            Op::Times => left * right,
            Op::By => left / right,
            Op::Left => left,
            Op::Right => right,
        }
    }
}

/// `apply.join`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinSpec {
    /// Series that are joined with: those of the inputs that fit.
    pub right: SeriesSpec,
    /// Series that are joined; all others where it says nothing.
    #[serde(default)]
    pub left: SeriesSpec,
    /// Labels that must be alike; without any, all that both have.
    #[serde(default)]
    pub on: Vec<String>,
    /// How much older the one on the right may be.
    #[serde(with = "humantime_serde", default = "JoinSpec::default_within")]
    pub within: Duration,
    pub op: Op,
    /// Metric of the new series.
    pub name: String,
}

impl JoinSpec {
    fn default_within() -> Duration {
        Duration::from_secs(300)
    }

    pub(super) fn fault(&self) -> Option<String> {
        if self.right.is_empty() {
            return Some(
                "right fits all series: write those to join with, as in right = { metrics = [\"mem_total\"] }".into(),
            );
        }
        if self.name.is_empty() {
            return Some("name is empty: write the metric of what is made, as in name = \"mem_share\"".into());
        }
        if let Some(label) = self.on.iter().find(|label| !is_label_name(label)) {
            return Some(format!("on has `{label}`, which is no name of a label: write letters, digits and `_`"));
        }
        let possible = self.within > Duration::ZERO && self.within <= Duration::from_secs(366 * 86_400);
        (!possible).then(|| format!("within = {:?} cannot be: write up to 366d, as in \"5m\"", self.within))
    }

    /// Whether two series belong together.
    fn pairs(&self, left: &Labels, right: &Labels) -> bool {
        if self.on.is_empty() {
            return left.iter().all(|(name, value)| right.get(name).is_none_or(|other| other == value));
        }
        self.on.iter().all(|name| left.get(name).is_some() && left.get(name) == right.get(name))
    }
}

/// Which side a series is on, and its place there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left(usize),
    Right(usize),
    Neither,
}

/// A series on the left.
struct Left {
    labels: Labels,
    /// The series that it makes, once there is one.
    made: Option<SeriesId>,
    /// Places of those on the right that it belongs to.
    rights: Vec<usize>,
}

/// A series on the right, with its samples from the last one that all sources are past.
struct Right {
    series: SeriesId,
    labels: Labels,
    /// Its name and labels, by which it is told from others: numbers go by what came first.
    text: Box<str>,
    samples: VecDeque<(i64, f64)>,
}

/// The stage.
pub(super) struct Join {
    spec: JoinSpec,
    within: i64,
    names: Names,
    sources: Sources,
    sides: Vec<Option<Side>>,
    lefts: Vec<Left>,
    rights: Vec<Right>,
    /// Samples on the left by time: series and value.
    waiting: BTreeMap<i64, Vec<(SeriesId, f64)>>,
    waits: usize,
    kept: usize,
    /// Up to where it has joined.
    done: i64,
    told: Told,
    ahead: Vec<Arc<Batch>>,
    dropped: Dropped,
}

const LATE: &str = "late: not joined";

impl Join {
    pub fn new(spec: &JoinSpec, names: Names, name: Arc<str>) -> Self {
        Join {
            spec: spec.clone(),
            within: i64::try_from(spec.within.as_nanos()).unwrap_or(i64::MAX),
            names,
            sources: Sources::new(name),
            sides: Vec::new(),
            lefts: Vec::new(),
            rights: Vec::new(),
            waiting: BTreeMap::new(),
            waits: 0,
            kept: 0,
            done: BEFORE_ALL,
            told: Told::default(),
            ahead: Vec::new(),
            dropped: Dropped::new(),
        }
    }

    #[inline]
    fn side(&mut self, series: SeriesId) -> Side {
        match self.sides.get(series.index()) {
            Some(Some(side)) => *side,
            _ => self.find_side(series),
        }
    }

    fn find_side(&mut self, series: SeriesId) -> Side {
        let Some(def) = self.names.def(series) else { return Side::Neither };
        let side = if self.spec.right.fits(&def) {
            let place = self.rights.len();
            for left in &mut self.lefts {
                if self.spec.pairs(&left.labels, &def.labels) {
                    left.rights.push(place);
                }
            }
            let text = def.to_string().into();
            self.rights.push(Right { series, labels: def.labels, text, samples: VecDeque::new() });
            Side::Right(place)
        } else if self.spec.left.fits(&def) {
            let pairs = |right: &Right| self.spec.pairs(&def.labels, &right.labels);
            let rights = (0..self.rights.len()).filter(|&place| pairs(&self.rights[place])).collect();
            self.lefts.push(Left { labels: def.labels, made: None, rights });
            Side::Left(self.lefts.len() - 1)
        } else {
            Side::Neither
        };
        if series.index() >= self.sides.len() {
            self.sides.resize(series.index() + 1, None);
        }
        self.sides[series.index()] = Some(side);
        side
    }

    fn sample(&mut self, series: SeriesId, time: i64, value: f64) {
        match self.side(series) {
            Side::Neither => count(&mut self.dropped, "its series is on neither side", 1),
            Side::Left(_) if time <= self.done => count(&mut self.dropped, LATE, 1),
            Side::Left(_) if self.waits >= HELD_MAX => count(&mut self.dropped, "too many samples wait", 1),
            Side::Left(_) => {
                self.waiting.entry(time).or_default().push((series, value));
                self.waits += 1;
            }
            Side::Right(_) if self.kept >= HELD_MAX => count(&mut self.dropped, "too many samples to join with", 1),
            Side::Right(place) => {
                self.rights[place].samples.push_back((time, value));
                self.kept += 1;
            }
        }
    }

    /// The value that a left sample is joined with: the last of those that fit, of two for one time that of the series whose
    /// text comes first, so that the order in which series were met does not count. `more` are such as may be overtaken yet.
    fn partner(&self, left: usize, time: i64, more: &BTreeMap<usize, Vec<(i64, f64)>>) -> Option<f64> {
        let last_of = |&place: &usize| {
            let kept = self.rights[place].samples.iter().rev().find(|sample| sample.0 <= time);
            let ahead = more.get(&place).and_then(|more| more.iter().rev().find(|sample| sample.0 <= time));
            let last = *ahead.or(kept)?;
            (last.0 >= time.saturating_sub(self.within)).then_some((last, &*self.rights[place].text))
        };
        let all = self.lefts[left].rights.iter().filter_map(last_of);
        all.max_by_key(|&((time, _), text)| (time, std::cmp::Reverse(text))).map(|((_, value), _)| value)
    }

    /// Number of the series that a left one makes.
    fn made(&mut self, left: usize) -> Result<SeriesId, &'static str> {
        if let Some(made) = self.lefts[left].made {
            return Ok(made);
        }
        let def = SeriesDef::new(self.spec.name.clone(), self.lefts[left].labels.clone());
        let made = self.names.make(&SeriesDef { kind: Kind::Gauge, ..def }, None)?;
        self.lefts[left].made = Some(made);
        Ok(made)
    }

    /// Joins a sample on the left.
    fn join(
        &mut self,
        series: SeriesId,
        time: i64,
        value: f64,
        more: &BTreeMap<usize, Vec<(i64, f64)>>,
    ) -> Result<(SeriesId, Sample), &'static str> {
        let Side::Left(left) = self.side(series) else { return Err("its series is on neither side") };
        let right = self.partner(left, time, more).ok_or("nothing to join it with")?;
        let sample = Sample { time: Timestamp::from_nanos(time), value: self.spec.op.of(value, right) };
        Ok((self.made(left)?, sample))
    }

    /// Joins what all sources are past.
    fn join_to(&mut self, reached: i64, out: &mut Out<'_>) {
        let later = if reached == i64::MAX { BTreeMap::new() } else { self.waiting.split_off(&(reached + 1)) };
        let ready = std::mem::replace(&mut self.waiting, later);
        let last = ready.last_key_value().map_or(i64::MIN, |(&time, _)| time);
        let (mut joined, none) = (self.sources.batch(), BTreeMap::new());
        for (time, samples) in ready {
            self.waits -= samples.len();
            for (series, value) in samples {
                match self.join(series, time, value, &none) {
                    Ok((made, sample)) => joined.push(made, sample.time, sample.value),
                    Err(reason) => count(&mut self.dropped, reason, 1),
                }
            }
        }
        // Where all are idle nobody says how far they are: they may go on from where they were.
        self.done = self.done.max(if reached == i64::MAX { last } else { reached });
        self.forget();
        let (new, late) = self.told.divide(&joined);
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
        self.sources.tell(reached, out);
    }

    /// Lets go of what can be joined with nothing any more.
    fn forget(&mut self) {
        for right in &mut self.rights {
            let past = right.samples.partition_point(|sample| sample.0 <= self.done);
            right.samples.drain(..past.saturating_sub(1));
            let is_old = |sample: &(i64, f64)| sample.0 < self.done.saturating_sub(self.within);
            if right.samples.front().is_some_and(is_old) {
                right.samples.pop_front();
            }
        }
        self.kept = self.rights.iter().map(|right| right.samples.len()).sum();
    }

    /// What waits, joined as far as is known: all of it is told again.
    fn tell_waiting(&mut self, out: &mut Out<'_>) {
        let (mut lefts, mut more) = (Vec::new(), BTreeMap::<usize, Vec<(i64, f64)>>::new());
        for (&time, samples) in &self.waiting {
            lefts.extend(samples.iter().map(|&(series, value)| (series, time, value)));
        }
        for batch in std::mem::take(&mut self.ahead) {
            for (series, sample) in batch.iter() {
                match self.side(series) {
                    Side::Left(_) => lefts.push((series, sample.time.nanos(), sample.value)),
                    Side::Right(place) => more.entry(place).or_default().push((sample.time.nanos(), sample.value)),
                    Side::Neither => {}
                }
            }
        }
        lefts.retain(|(_, time, _)| *time > self.done);
        lefts.sort_by_key(|(series, time, _)| (*series, *time));
        let mut joined = self.sources.batch();
        for (series, time, value) in lefts {
            if let Ok((made, sample)) = self.join(series, time, value, &more) {
                joined.push(made, sample.time, sample.value);
            }
        }
        out.ahead(Arc::new(joined));
    }

    fn state(&self) -> Vec<u8> {
        let mut state = Writer::default();
        self.sources.write(&mut state);
        state.i64(self.done);
        state.bytes(&self.told.state());
        state.u32(self.rights.len() as u32);
        for right in &self.rights {
            state.u32(right.series.0);
            state.u32(right.samples.len() as u32);
            for &(time, value) in &right.samples {
                state.i64(time);
                state.f64(value);
            }
        }
        for (&time, samples) in &self.waiting {
            for &(series, value) in samples {
                state.u32(series.0);
                state.i64(time);
                state.f64(value);
            }
        }
        state.0
    }

    fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
        self.sources.read(from)?;
        let done = from.i64()?;
        self.told.restore(from.bytes()?, |_| true)?;
        for _ in 0..from.u32()? {
            let series = SeriesId(from.u32()?);
            for _ in 0..from.u32()? {
                self.sample(series, from.i64()?, from.f64()?);
            }
            self.side(series);
        }
        while !from.0.is_empty() {
            let series = SeriesId(from.u32()?);
            self.sample(series, from.i64()?, from.f64()?);
        }
        self.done = done;
        Some(())
    }
}

impl Stage for Join {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.sources.brought(batch, out);
        for (series, sample) in batch.iter() {
            self.sample(series, sample.time.nanos(), sample.value);
        }
    }

    fn late(&mut self, batch: &Arc<Batch>, _out: &mut Out<'_>) {
        count(&mut self.dropped, LATE, batch.len());
    }

    fn ahead(&mut self, batch: &Arc<Batch>, _out: &mut Out<'_>) {
        self.ahead.push(batch.clone());
    }

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        let reached = self.sources.reached(watermark, out);
        if reached > self.done {
            self.join_to(reached, out);
        }
    }

    fn checkpoint(&mut self, cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        if cut.last {
            self.tell_waiting(out);
        }
        self.ahead.clear();
        self.state()
    }

    fn restore(&mut self, state: &[u8], _shard: Shard) -> bool {
        self.read(&mut Reader(state)).is_some()
    }

    fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, spec};

    const SHARE: &str = "right = { metrics = ['total'] }\non = ['host']\nwithin = '20s'\nop = '/'\nname = 'share'";

    #[test]
    fn each_sample_finds_the_last_before_it_whatever_came_first() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Join(spec(SHARE)), None);
        run.from("b").batch(&[("total{host=x}", 12, 4.0), ("total{host=x}", 15, 8.0)]);
        run.from("a").batch(&[
            ("used{host=x,disk=1}", 10, 1.0),
            ("used{host=x,disk=1}", 14, 1.0),
            ("used{host=y}", 14, 1.0),
        ]);
        run.from("b").batch(&[("total{host=x}", 30, 2.0)]);
        run.watermark("a", 20);
        assert_eq!(run.told(), ["mark join -"], "b may bring more");
        run.resume();
        run.from("a").batch(&[("used{host=x,disk=1}", 15, 2.0), ("used{host=x,disk=1}", 40, 1.0)]);
        run.watermark("b", 25);
        assert_eq!(run.told(), ["batch share{disk=1,host=x}@14=0.25 share{disk=1,host=x}@15=0.25", "mark join 20"]);
        run.resume();
        run.watermark("a", 60);
        run.watermark("b", 55);
        assert_eq!(run.told(), ["mark join 25", "batch share{disk=1,host=x}@40=0.5", "mark join 55"]);
        run.late(&[("used{host=x,disk=1}", 1, 1.0)]);
        run.from("a").batch(&[("used{host=z}", 50, 1.0)]);
        assert_eq!(run.dropped()[LATE], 2);
        assert_eq!(run.dropped_before["nothing to join it with"], 2);
    }

    #[test]
    fn what_is_too_old_is_not_joined_with() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Join(spec(SHARE)), None);
        run.batch(&[
            ("total{host=x}", 1, 4.0),
            ("used{host=x}", 21, 1.0),
            ("used{host=x}", 22, 1.0),
            ("other{}", 22, 1.0),
        ]);
        run.watermark("a", 30);
        assert_eq!(run.told(), ["mark join -", "batch share{host=x}@21=0.25", "mark join 30"]);
    }

    #[test]
    fn without_labels_named_all_that_both_have_must_be_alike() {
        let bench = Bench::new();
        let text = "right = { metrics = ['total'] }\nop = '-'\nname = 'left'";
        let mut run = bench.run(&Apply::Join(spec(text)), None);
        run.batch(&[
            ("used{host=x}", 5, 1.0),
            ("total{}", 2, 10.0),
            ("total{host=x}", 3, 20.0),
            ("total{host=y}", 4, 30.0),
        ]);
        run.ahead(&[("used{host=x}", 9, 1.0), ("total{host=x}", 8, 21.0)]);
        run.end();
        run.watermark("a", 5);
        assert_eq!(
            run.told(),
            ["mark join -", "ahead left{host=x}@5=-19 left{host=x}@9=-20", "batch left{host=x}@5=-19", "mark join 5",]
        );
    }

    #[test]
    fn of_two_for_one_time_the_first_by_its_text_counts_whatever_was_met_first() {
        let texts = ["total{zone=a}", "total{zone=b}", "total{zone=c}"];
        let text = "right = { metrics = ['total'] }\non = ['host']\nop = 'right'\nname = 'joined'";
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
            let bench = Bench::new();
            let mut run = bench.run(&Apply::Join(spec(text)), None);
            let rights = order.map(|at: usize| (texts[at].replace('{', "{host=x,"), 5, at as f64));
            let rights = rights.each_ref().map(|(text, time, value)| (text.as_str(), *time, *value));
            run.batch(&rights);
            run.batch(&[("used{host=x}", 6, 9.0)]);
            run.resume();
            run.watermark("a", 10);
            assert_eq!(
                run.told().last_chunk(),
                Some(&["batch joined{host=x}@6=0".to_owned(), "mark join 10".to_owned()])
            );
        }
    }

    #[test]
    fn faults_say_what_to_write() {
        for (text, told) in [
            ("right = {}\nop = '/'\nname = 'a'", "right fits all series"),
            ("right = { metrics = ['a'] }\nop = '/'\nname = ''", "name is empty"),
            ("right = { metrics = ['a'] }\nop = '/'\nname = 'a'\non = ['a-b']", "`a-b`, which is no name"),
            ("right = { metrics = ['a'] }\nop = '/'\nname = 'a'\nwithin = '0s'", "within = 0ns cannot be"),
        ] {
            let fault = spec::<JoinSpec>(text).fault();
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(told)), "{fault:?}");
        }
        let error = toml::from_str::<JoinSpec>("right = { metrics = ['a'] }\nop = '%'\nname = 'a'").unwrap_err();
        assert!(error.to_string().contains("unknown variant `%`, expected one of `+`"), "{error}");
    }
}
