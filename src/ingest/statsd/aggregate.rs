//! What is held between flushes, a place a series; bounded, and let go when nothing comes.

use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::held::{Held, Labels, State};
use super::line::{Check, Message, Metric, Type, number, parse};
use crate::flow::Refusal;
use crate::ingest::format::Shown;
use crate::ingest::{Gather, names};
use crate::model::{Kind, Timestamp};

/// Spellings of a series that are known, for each series that may be held.
const SPELLINGS: usize = 4;
/// Bytes of a spelling that is kept; a series of a longer one is looked up by what it is.
const SPELLING_MAX: usize = 1 << 10;
/// Bytes of all spellings that are kept.
const SPELLINGS_MAX: usize = 64 << 20;
/// Tags of a line.
const TAGS_MAX: usize = 256;

/// How much is held, and how long.
#[derive(Debug, Clone, Copy)]
pub struct AggregateLimits {
    pub series: usize,
    /// A series to which nothing came for so long is let go.
    pub expire: Duration,
}

/// Series by what they are called.
pub struct Aggregate {
    limits: AggregateLimits,
    places: Vec<Option<Held>>,
    free: Vec<u32>,
    /// By name, type and tags as they were written.
    by_spelling: HashMap<Box<[u8]>, u32, FixedState>,
    /// By metric and sorted labels.
    by_identity: HashMap<Box<str>, u32, FixedState>,
    /// Bytes of `by_spelling`.
    spelling_bytes: usize,
    spelling: Vec<u8>,
    events: u64,
}

impl Aggregate {
    pub fn new(limits: AggregateLimits) -> Self {
        Aggregate {
            limits,
            places: Vec::new(),
            free: Vec::new(),
            by_spelling: HashMap::default(),
            by_identity: HashMap::default(),
            spelling_bytes: 0,
            spelling: Vec::new(),
            events: 0,
        }
    }

    /// Series held.
    pub fn held(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Events counted so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Takes a line that came at `now` on the clock that never goes back. A value with a time of its own goes to `gather`.
    ///
    /// # Errors
    /// The outer one as [`Gather::sample`], the inner one says what is wrong with the line.
    pub fn take(&mut self, line: &[u8], now: Duration, gather: &mut Gather<'_>) -> Result<Result<(), String>, Refusal> {
        match parse(line) {
            Ok(Message::Metric(metric)) => match (metric.of, metric.time) {
                (Type::Gauge, Some(time)) => take_timed(&metric, time, gather),
                _ => Ok(self.add(&metric, now)),
            },
            Ok(Message::Check(check)) => Ok(self.check(&check, now)),
            Ok(Message::Event) => {
                self.events += 1;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn add(&mut self, metric: &Metric<'_>, now: Duration) -> Result<(), String> {
        // All or nothing of a line: a value that is none spoils no others.
        if metric.of != Type::Set {
            metric.values.split(|&byte| byte == b':').try_for_each(|value| number(value).map(|_| ()))?;
        }
        let place = self.place(metric, now)?;
        let held = self.places[place as usize].as_mut().expect("names lead to places that are taken");
        held.state.add(metric)?;
        held.last = now;
        Ok(())
    }

    /// A service check is a gauge.
    fn check(&mut self, check: &Check<'_>, now: Duration) -> Result<(), String> {
        let mut tags = b"check:".to_vec();
        // A comma would end the tag.
        tags.extend(check.name.iter().map(|&byte| if byte == b',' { b'_' } else { byte }));
        if !check.host.is_empty() {
            tags.extend_from_slice(b",host:");
            tags.extend_from_slice(check.host);
        }
        if !check.tags.is_empty() {
            tags.push(b',');
            tags.extend_from_slice(check.tags);
        }
        let status = [b'0' + check.status as u8];
        let name = b"service_check_status";
        self.add(&Metric { name, values: &status, of: Type::Gauge, weight: 1.0, tags: &tags, time: None }, now)
    }

    /// The place of a series, found by how it is written.
    fn place(&mut self, metric: &Metric<'_>, now: Duration) -> Result<u32, String> {
        self.spelling.clear();
        self.spelling.push(metric.of as u8);
        self.spelling.extend_from_slice(metric.name);
        self.spelling.push(0xFF);
        self.spelling.extend_from_slice(metric.tags);
        if let Some(&place) = self.by_spelling.get(&*self.spelling) {
            return Ok(place);
        }
        let place = self.place_of_new(metric, now)?;
        self.keep_spelling(place);
        Ok(place)
    }

    fn keep_spelling(&mut self, place: u32) {
        if self.spelling.len() > SPELLING_MAX {
            return;
        }
        let is_full = self.by_spelling.len() >= self.limits.series.saturating_mul(SPELLINGS);
        if is_full || self.spelling_bytes >= SPELLINGS_MAX {
            self.by_spelling.clear();
            self.spelling_bytes = 0;
        }
        self.spelling_bytes += self.spelling.len();
        self.by_spelling.insert(self.spelling.as_slice().into(), place);
    }

    /// The same by what it is; taken where nobody has it.
    fn place_of_new(&mut self, metric: &Metric<'_>, now: Duration) -> Result<u32, String> {
        let (name, labels) = named(metric)?;
        let identity = identity(&name, &labels);
        if let Some(&place) = self.by_identity.get(&*identity) {
            let held = self.places[place as usize].as_ref().expect("names lead to places that are taken");
            if held.of == metric.of {
                return Ok(place);
            }
            let (was, is) = (held.of.name(), metric.of.name());
            let name = Shown(name.as_bytes());
            return Err(format!("{name} is a {was} and comes as a {is}: give one of them another name"));
        }
        if self.held() >= self.limits.series {
            let series = self.limits.series;
            return Err(format!(
                "the series {} is new and {series} are held: raise `listen.statsd_series`, or lower `listen.statsd_expire`",
                Shown(metric.name)
            ));
        }
        let state = State::new(metric.of);
        let held = Held { metric: name.into(), labels, state, of: metric.of, is_new: true, last: now };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some(held);
        self.by_identity.insert(identity, place);
        Ok(place)
    }

    /// Hands on all that is held, at `time`; what is new stood at zero at `before`, the flush before. Lets go, and ends,
    /// what has expired.
    pub fn tell(
        &mut self,
        time: Timestamp,
        before: Timestamp,
        now: Duration,
        gather: &mut Gather<'_>,
    ) -> Result<(), Refusal> {
        for place in 0..self.places.len() {
            let Some(held) = &mut self.places[place] else { continue };
            if now.saturating_sub(held.last) < self.limits.expire {
                held.tell(time, before, gather)?;
            } else {
                // Before the flush: one that comes back stands at zero there.
                held.end(time.plus(-1_000_000), gather)?;
                self.places[place] = None;
                self.free.push(place as u32);
            }
        }
        if self.by_identity.len() > self.held() {
            let places = &self.places;
            self.by_identity.retain(|_, place| places[*place as usize].is_some());
            self.by_spelling.retain(|_, place| places[*place as usize].is_some());
            self.spelling_bytes = self.by_spelling.keys().map(|spelling| spelling.len()).sum();
        }
        Ok(())
    }
}

/// A gauge with a time of its own; the last of its values counts.
fn take_timed(metric: &Metric<'_>, time: Timestamp, gather: &mut Gather<'_>) -> Result<Result<(), String>, Refusal> {
    let read = || {
        let last = metric.values.rsplit(|&byte| byte == b':').next().unwrap_or_default();
        Ok((number(last)?.0, named(metric)?))
    };
    match read() {
        Ok((value, (name, labels))) => {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            gather.sample(0, &name, &labels, Some(Kind::Gauge), time, value).map(Ok)
        }
        Err(error) => Ok(Err(error)),
    }
}

/// Name and labels, sorted, as they are stored. A tag without a value is `true`; of two with one name the last counts.
fn named(metric: &Metric<'_>) -> Result<(String, Labels), String> {
    let utf8 = |text| std::str::from_utf8(text).map_err(|_| format!("{} is no UTF-8 text", Shown(text)));
    let name = names::metric(utf8(metric.name)?);
    let tags = utf8(metric.tags)?.split(',').filter(|tag| !tag.is_empty());
    if tags.clone().count() > TAGS_MAX {
        return Err(format!("{} has over {TAGS_MAX} tags: send fewer", Shown(metric.name)));
    }
    let label = |tag: &str| {
        let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
        (names::label(name).into(), value.into())
    };
    let mut labels: Vec<(Box<str>, Box<str>)> = tags.map(label).rev().collect();
    labels.sort_by(|one, other| one.0.cmp(&other.0));
    labels.dedup_by(|earlier, last| earlier.0 == last.0);
    labels.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    Ok((name, labels.into()))
}

fn identity(name: &str, labels: &Labels) -> Box<str> {
    let mut text = name.to_owned();
    for (name, value) in labels {
        text.extend(["\0", name, "\0", value]);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};

    const LIMITS: AggregateLimits = AggregateLimits { series: 3, expire: Duration::from_secs(60) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos((1_700_000_000 + seconds) * 1_000_000_000)
    }

    /// Takes lines at `second`, and tells what is held at the end of it; faults, and samples as text without their time.
    fn flush(aggregate: &mut Aggregate, second: u64, lines: &str) -> (Vec<String>, Vec<String>) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let now = Duration::from_secs(second);
        let take = |line: &str| aggregate.take(line.as_bytes(), now, &mut gather).unwrap().err();
        let faults = lines.lines().filter_map(take).collect();
        let second = second as i64;
        aggregate.tell(at(second), at(second - 10), now, &mut gather).unwrap();
        gather.flush().unwrap();
        let mut told: Vec<String> = recorder
            .samples()
            .into_iter()
            .map(|(series, time, value)| {
                let ago = second - (time / 1_000_000_000 - 1_700_000_000);
                if ago == 0 { format!("{series} {value}") } else { format!("{series} {value} {ago} s ago") }
            })
            .collect();
        let (defs, batches) = (recorder.defs.lock().unwrap(), recorder.batches.lock().unwrap());
        for rows in batches.iter().flat_map(|batch| &batch.rows) {
            let series = arrow::array::AsArray::as_primitive::<arrow::datatypes::UInt32Type>(rows.batch.column(0));
            told.extend(series.values().iter().map(|id| format!("{} of {}", rows.table.name(), defs[*id as usize])));
        }
        (faults, told)
    }

    #[test]
    fn counters_go_on_from_flush_to_flush() {
        let mut held = Aggregate::new(LIMITS);
        let first =
            flush(&mut held, 10, "api.hits:1|c\napi.hits:2:3|c|@0.5\napi-hits:1|c|#b:2,a:1\napi.hits:1|c|#a:1,b:2");
        let told = [
            "api_hits 0 10 s ago",
            "api_hits 11",
            "api_hits{a=\"1\",b=\"2\"} 0 10 s ago",
            "api_hits{a=\"1\",b=\"2\"} 2",
        ];
        assert_eq!(first, (vec![], told.map(str::to_owned).to_vec()));
        let (_, told) = flush(&mut held, 20, "api.hits:-1|c");
        assert_eq!(told, ["api_hits 10", "api_hits{a=\"1\",b=\"2\"} 2"]);
    }

    #[test]
    fn gauges_stand_and_sets_start_anew() {
        let mut held = Aggregate::new(LIMITS);
        let (_, told) = flush(&mut held, 10, "g:5|g\ng:+2|g\ng:-1.5|g\nu:a|s\nu:b|s\nu:a|s\ng:1|g|T1700000003");
        assert_eq!(told, ["g 1 7 s ago", "g 5.5", "u 2"]);
        assert_eq!(flush(&mut held, 20, "u:a|s").1, ["g 5.5", "u 1"]);
        assert_eq!(flush(&mut held, 30, "g:-1|g").1, ["g 4.5", "u 0"]);
        let many: String = (0..10_000).map(|n| format!("u:{n}|s\n")).collect();
        let (_, told) = flush(&mut held, 40, &many);
        let count: f64 = told[1].strip_prefix("u ").unwrap().parse().unwrap();
        assert!((count / 10_000.0 - 1.0).abs() < 0.05, "{told:?}");
    }

    #[test]
    fn timers_are_told_by_how_they_are_spread() {
        let mut held = Aggregate::new(LIMITS);
        let lines: String = (1..=100).map(|ms| format!("t:{}|ms\n", ms * 10)).collect();
        let (_, told) = flush(&mut held, 10, &lines);
        let named = |told: &[String]| -> Vec<String> {
            told.iter().map(|told| told.split(' ').next().unwrap().to_owned()).collect()
        };
        let value = |told: &[String], series: &str| -> f64 {
            let found = told.iter().rfind(|told| told.starts_with(&format!("{series} "))).unwrap();
            found.split(' ').nth(1).unwrap().parse().unwrap()
        };
        assert_eq!((value(&told, "t_count"), value(&told, "t_min"), value(&told, "t_max")), (100.0, 0.01, 1.0));
        assert!((value(&told, "t_sum") - 50.5).abs() < 1e-9);
        for (quantile, wanted) in [("0.5", 0.505), ("0.9", 0.901), ("0.95", 0.9505), ("0.99", 0.9901)] {
            let told = value(&told, &format!("t{{quantile={quantile:?}}}"));
            assert!((told / wanted - 1.0).abs() < 0.011, "{quantile}: {told}");
        }
        assert_eq!(told.last().unwrap(), "histograms of t");
        let (_, told) = flush(&mut held, 20, "");
        assert_eq!(named(&told), ["t_count", "t_sum"], "an interval without values has no quantiles");
        let (_, told) = flush(&mut held, 30, "t:500|ms|@0.1");
        assert_eq!((value(&told, "t_count"), value(&told, "t{quantile=\"0.5\"}")), (110.0, 0.5));
        let (_, told) = flush(&mut held, 89, "x:1|g");
        assert_eq!(named(&told), ["t_count", "t_sum", "x"]);
        let (_, told) = flush(&mut held, 90, "");
        assert_eq!(told.iter().filter(|told| told.starts_with("staleness of t")).count(), 9);
        assert_eq!(held.held(), 1);
    }

    #[test]
    fn what_is_held_is_bounded_and_let_go() {
        let mut held = Aggregate::new(LIMITS);
        let (faults, told) = flush(&mut held, 0, "a:1|g\nb:1|g\nc:1|g\nd:1|g\na:2|g");
        assert!(faults[0].contains("`d` is new and 3 are held: raise `listen.statsd_series`") && faults.len() == 1);
        assert_eq!(told, ["a 2", "b 1", "c 1"]);
        flush(&mut held, 30, "a:3|g");
        let (_, told) = flush(&mut held, 60, "");
        assert_eq!(told, ["a 3", "staleness of b", "staleness of c"]);
        assert_eq!((held.held(), held.by_identity.len(), held.by_spelling.len()), (1, 1, 1));
        let (faults, told) = flush(&mut held, 70, "d:1|c\nb:7|g");
        assert_eq!((faults.len(), told.len()), (0, 4), "{told:?}");
    }

    #[test]
    fn a_name_has_one_type() {
        let mut held = Aggregate::new(LIMITS);
        let (faults, told) = flush(&mut held, 0, "a:1|g\na:1|c\na:x|g\na:1:x|c");
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("`a` is a gauge and comes as a counter: give one of them another name"));
        assert_eq!(told, ["a 1"]);
    }

    #[test]
    fn checks_are_gauges_and_events_are_counted() {
        let mut held = Aggregate::new(LIMITS);
        let (faults, told) = flush(&mut held, 0, "_sc|db.up|2|h:web|#env:prod,x|m:gone\n_e{1,1}:a|b");
        assert_eq!(faults, [""; 0]);
        assert_eq!(told, ["service_check_status{check=\"db.up\",env=\"prod\",host=\"web\",x=\"true\"} 2"]);
        assert_eq!(held.events(), 1);
    }

    #[test]
    fn noise_never_panics() {
        let (mut noise, mut held) = (Noise(9), Aggregate::new(AggregateLimits { series: 100, ..LIMITS }));
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        for second in 0..200 {
            let now = Duration::from_secs(second);
            for _ in 0..100 {
                held.take(&noise.bend(b"a.b:1:2|ms|@0.1|#k:v,k2|c:x"), now, &mut gather).unwrap().ok();
            }
            held.tell(at(second as i64), at(second as i64 - 1), now, &mut gather).unwrap();
        }
        assert!(held.held() <= 100);
    }
    #[test]
    fn a_sum_that_would_not_be_finite_is_refused_and_the_series_goes_on() {
        let mut held = Aggregate::new(LIMITS);
        let lines = "c:1e308|c\nc:1e308|c\ng:1e308|g\ng:+1e308|g\ng:7:+2|g\nt:1e308|h\nt:1:1e308:3|h";
        let (faults, told) = flush(&mut held, 0, lines);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("with `1e308` the sum of `c` is no finite number: send smaller"), "{faults:?}");
        let values = ["c 1e308", "g 9", "t_count 1", "t_sum 1e308"].map(str::to_owned);
        let told: Vec<String> = told.iter().map(|told| told.replace(&"0".repeat(308), "e308")).collect();
        assert!(values.iter().all(|value| told.contains(value)), "{told:?}");
        assert_eq!(flush(&mut held, 10, "c:1|c").0, [""; 0]);
        // Nor the sum of an interval, which begins below it.
        assert_eq!(flush(&mut held, 20, "t:-1e308|h").0, [""; 0]);
        assert_eq!(flush(&mut held, 30, "t:-1e308|h").0, [""; 0]);
        assert_eq!(flush(&mut held, 40, "t:1e308|h\nt:1e308|h\nt:1|h").0.len(), 1);
    }

    #[test]
    fn values_weigh_among_the_quantiles_what_their_rate_says() {
        let mut held = Aggregate::new(LIMITS);
        let (_, told) = flush(&mut held, 0, &format!("t:1|h|@0.0001\n{}", "t:2|h|@0.001\n".repeat(5)));
        assert!(told.iter().any(|told| told.starts_with("t{quantile=\"0.5\"} 1.00")), "{told:?}");
        assert!(told.contains(&"t_count 15000".to_owned()), "{told:?}");
    }

    #[test]
    fn of_tags_with_one_name_the_last_counts_and_there_are_few() {
        let mut held = Aggregate::new(LIMITS);
        let many = |count: usize| format!("m:1|g|#{}", (0..count).map(|n| format!("t{n}:1,")).collect::<String>());
        let (faults, told) = flush(&mut held, 0, &format!("a:1|g|#b:1,a:1,b:2,a:\n{}", many(TAGS_MAX + 1)));
        assert_eq!(told, ["a{b=\"2\"} 1"]);
        assert_eq!(faults, [format!("`m` has over {TAGS_MAX} tags: send fewer")]);
        assert_eq!(flush(&mut held, 0, &many(TAGS_MAX)).0, [""; 0]);
    }

    #[test]
    fn spellings_take_little() {
        let mut held = Aggregate::new(LIMITS);
        let long = "x".repeat(SPELLING_MAX);
        let (faults, told) = flush(&mut held, 0, &format!("a:1|g|#t:{long}\na:2|g|#t:{long}\nb:1|g"));
        assert_eq!((faults.len(), told.len(), held.by_spelling.len()), (0, 2, 1));
        held.spelling_bytes = SPELLINGS_MAX;
        flush(&mut held, 1, "c:1|g");
        assert_eq!((held.by_spelling.len(), held.spelling_bytes), (1, 3));
    }
}
