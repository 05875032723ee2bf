//! Gathers the samples of one request or file: looks up series, sets bad input aside with its reason, hands on batches.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::known::{Known, NewField};
use crate::flow::{Intake, Refusal};
use crate::model::{Batch, Ends, Histograms, Kind, Labels, Retention, SeriesDef, SeriesId, Timestamp};

/// Samples a batch holds before it is handed on.
const BATCH_SAMPLES: usize = 65_536;
/// Faults whose text is kept; the rest are counted.
const FAULTS_KEPT: usize = 20;

/// Bytes of a fault's text that are kept, from its beginning and from its end.
const FAULT_HEAD: usize = 600;
const FAULT_TAIL: usize = 400;

/// One refused line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// From 1.
    pub line: u64,
    pub error: String,
}

/// What was refused of an input: how much, and the first reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    pub count: u64,
    pub first: Vec<Fault>,
}

impl Faults {
    pub fn add(&mut self, line: u64, error: impl std::fmt::Display) {
        self.count += 1;
        if self.first.len() < FAULTS_KEPT {
            self.first.push(Fault { line, error: shortened(error.to_string()) });
        }
    }
}

/// A fault quotes what it is of, which may be as long as the input: the middle is left out.
pub(super) fn shortened(text: String) -> String {
    if text.len() <= FAULT_HEAD + FAULT_TAIL {
        return text;
    }
    let head = &text[..text.floor_char_boundary(FAULT_HEAD)];
    let tail = &text[text.ceil_char_boundary(text.len() - FAULT_TAIL)..];
    format!("{head} … {tail}")
}

/// Times that are taken: the rest are refused, since they are nearly always a wrong unit or a wrong clock.
#[derive(Debug, Clone, Copy)]
pub struct TimeBounds {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl TimeBounds {
    /// From [`Timestamp::EARLIEST`], or `retention` ago where that is later, to `future` from `now`.
    pub fn new(now: Timestamp, future: Duration, retention: Option<Duration>) -> Self {
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        let oldest = retention.map_or(Timestamp::EARLIEST, |kept| now.plus(-nanos(kept)));
        TimeBounds { earliest: oldest.max(Timestamp::EARLIEST), latest: now.plus(nanos(future)) }
    }

    /// Why a sample at `time` with `value` is not taken.
    pub fn refuse(&self, time: Timestamp, value: f64) -> Option<String> {
        if !value.is_finite() {
            return Some(format!("value {value} is not a finite number: leave the sample out"));
        }
        if time < self.earliest {
            return Some(format!(
                "time {time} is before {}, the oldest that is kept: check the unit of the time (`precision`) or raise `retention`",
                self.earliest
            ));
        }
        (time > self.latest).then(|| {
            format!(
                "time {time} is after {}, the latest that is taken: check the clock, the unit of the time (`precision`) or `ingest.future_max`",
                self.latest
            )
        })
    }
}

/// What a source says of a metric besides its numbers: its kind (`None`: as the name suggests), unit and help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'t> {
    pub kind: Option<Kind>,
    pub unit: &'t str,
    pub help: &'t str,
}

/// What is kept of each metric.
#[derive(Default)]
struct Kept {
    retention: Arc<Retention>,
    now: Timestamp,
    /// From here on it is, whatever the metric.
    sure: Timestamp,
}

/// Samples on their way from a parser to the [`Intake`].
pub struct Gather<'a> {
    intake: &'a dyn Intake,
    bounds: TimeBounds,
    kept: Kept,
    known: Arc<Known>,
    key: Vec<u8>,
    batch: Batch,
    ends: Ends,
    histograms: Histograms,
    pub faults: Faults,
    accepted: u64,
    batches: u64,
}

impl<'a> Gather<'a> {
    pub fn new(intake: &'a dyn Intake, bounds: TimeBounds) -> Self {
        Gather::sharing(intake, bounds, Arc::default())
    }

    /// One that looks series up in what others of the same format, too, have seen.
    pub fn sharing(intake: &'a dyn Intake, bounds: TimeBounds, known: Arc<Known>) -> Self {
        Gather {
            intake,
            bounds,
            kept: Kept::default(),
            known,
            key: Vec::new(),
            batch: Batch::default(),
            ends: Ends::default(),
            histograms: Histograms::default(),
            faults: Faults::default(),
            accepted: 0,
            batches: 0,
        }
    }

    /// The same, that refuses samples which `retention` does not keep at `now`.
    pub fn keeping(mut self, retention: Arc<Retention>, now: Timestamp) -> Self {
        self.kept = Kept { sure: retention.shortest_of_samples().oldest(now), retention, now };
        self
    }

    /// Why a sample of a metric at `time` would not be kept, if so; the metric is asked for where it matters.
    pub fn outlived<'m>(&self, time: Timestamp, metric: impl FnOnce() -> Cow<'m, str>) -> Option<String> {
        let Kept { retention, now, sure } = &self.kept;
        if time >= *sure {
            return None;
        }
        let metric = metric();
        let oldest = retention.of_rule(retention.rule_of(&metric)).oldest(*now);
        (time < oldest).then(|| {
            format!("time {time} is before {oldest}, the oldest that is kept of `{metric}`: raise `retention` or `keep` in `retain`")
        })
    }

    pub fn bounds(&self) -> TimeBounds {
        self.bounds
    }

    /// For a gather that lives on: time goes by, and the latest time taken with it.
    pub fn set_bounds(&mut self, bounds: TimeBounds) {
        self.bounds = bounds;
    }

    pub fn intake(&self) -> &'a dyn Intake {
        self.intake
    }

    /// Takes one sample, or counts it as a fault of `line`. `labels` in any order; the order as it comes is part of
    /// the fast lookup, not of the series.
    pub fn sample(
        &mut self,
        line: u64,
        metric: &str,
        labels: &[(&str, &str)],
        kind: Option<Kind>,
        time: Timestamp,
        value: f64,
    ) -> Result<(), Refusal> {
        self.sample_about(line, metric, labels, About { kind, ..About::default() }, time, value)
    }

    /// The same, with all that the source says of the metric. The first mention of a series in this input counts.
    pub fn sample_about(
        &mut self,
        line: u64,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
        time: Timestamp,
        value: f64,
    ) -> Result<(), Refusal> {
        let refused = self.bounds.refuse(time, value).or_else(|| self.outlived(time, || metric.into()));
        if let Some(reason) = refused {
            self.faults.add(line, reason);
            return Ok(());
        }
        match self.series(metric, labels, about) {
            Ok(series) => self.push(series, time, value),
            Err((def, Refusal::Budget(budget))) => {
                self.faults.add(line, format_args!("the series {def} is new: {budget}"));
                Ok(())
            }
            Err((_, refusal)) => Err(refusal),
        }
    }

    /// Says that a series ended: at `time` it was there no more. A series that was never seen has no end.
    pub fn end(&mut self, metric: &str, labels: &[(&str, &str)], time: Timestamp) -> Result<(), Refusal> {
        if self.bounds.refuse(time, 0.0).is_some() || self.outlived(time, || metric.into()).is_some() {
            return Ok(());
        }
        self.find(metric, labels).map_or(Ok(()), |series| self.end_of(series, time))
    }

    /// The same of a series that is known already, at a time that [`TimeBounds::refuse`] lets pass.
    pub fn end_of(&mut self, series: SeriesId, time: Timestamp) -> Result<(), Refusal> {
        self.hold_end(series, time);
        self.flush_if_full()
    }

    /// The same without handing on.
    pub fn hold_end(&mut self, series: SeriesId, time: Timestamp) {
        self.ends.push(series, time);
    }

    /// Takes a distribution, a row of the table `histograms`, or counts it as a fault of `line`. Its series, of the name
    /// and labels given, has no samples; buckets, sum and count are samples of series of their own.
    #[expect(clippy::too_many_arguments, reason = "a sample has these parts")]
    pub fn histogram(
        &mut self,
        line: u64,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
        time: Timestamp,
        count: f64,
        sum: f64,
        sketch: Vec<u8>,
    ) -> Result<(), Refusal> {
        let refused = self.bounds.refuse(time, count).or_else(|| self.outlived(time, || metric.into()));
        if let Some(reason) = refused {
            self.faults.add(line, reason);
            return Ok(());
        }
        match self.series(metric, labels, About { kind: Some(Kind::Histogram), ..about }) {
            Ok(series) => {
                self.histograms.push(series, time, count, sum, sketch);
                self.flush_if_full()
            }
            Err((def, Refusal::Budget(budget))) => {
                self.faults.add(line, format_args!("the series {def} is new: {budget}"));
                Ok(())
            }
            Err((_, refusal)) => Err(refusal),
        }
    }

    /// Takes a sample of a series that is known already and that [`TimeBounds::refuse`] lets pass.
    pub fn push(&mut self, series: SeriesId, time: Timestamp, value: f64) -> Result<(), Refusal> {
        self.hold(series, time, value);
        self.flush_if_full()
    }

    /// The same without handing on: the sample can be taken back with [`Gather::take_back`] until
    /// [`Gather::flush_if_full`].
    pub fn hold(&mut self, series: SeriesId, time: Timestamp, value: f64) {
        self.batch.push(series, time, value);
    }

    /// How many samples are held.
    pub fn held(&self) -> usize {
        self.batch.len()
    }

    /// Forgets all held samples but the first `held`.
    pub fn take_back(&mut self, held: usize) {
        self.batch.truncate(held);
    }

    pub fn flush_if_full(&mut self) -> Result<(), Refusal> {
        if self.is_full() { self.flush() } else { Ok(()) }
    }

    /// Whether what is gathered should be handed on.
    pub fn is_full(&self) -> bool {
        // A distribution is worth some hundred samples.
        self.batch.len() + self.ends.len() + 100 * self.histograms.len() >= BATCH_SAMPLES
    }

    /// Hands on what is gathered.
    pub fn flush(&mut self) -> Result<(), Refusal> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.rows.extend(self.ends.take().into_iter().chain(self.histograms.take()));
        if batch.is_empty() {
            return Ok(());
        }
        let samples = batch.len() as u64;
        self.intake.accept(batch)?;
        self.accepted += samples;
        self.batches += 1;
        Ok(())
    }

    /// Samples acknowledged so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Batches acknowledged so far.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    fn series(
        &mut self,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
    ) -> Result<SeriesId, (Box<SeriesDef>, Refusal)> {
        if let Some(id) = self.seen(metric, labels) {
            return Ok(id);
        }
        let mut def = SeriesDef::new(metric, Labels::new(labels.iter().copied()));
        if let Some(kind) = about.kind {
            def.kind = kind;
        }
        def.unit = about.unit.into();
        def.help = about.help.into();
        // What stands between here and the store may number series of its own.
        let interned = def.check_size().map_err(Refusal::from).and_then(|()| self.intake.intern(&def));
        let id = interned.map_err(|refusal| (Box::new(def), refusal))?;
        self.remember(id);
        Ok(id)
    }

    /// A series that was seen before, here or by the intake.
    fn find(&mut self, metric: &str, labels: &[(&str, &str)]) -> Option<SeriesId> {
        let seen = self.seen(metric, labels);
        seen.or_else(|| {
            let id = self.intake.find(&SeriesDef::new(metric, Labels::new(labels.iter().copied())))?;
            self.remember(id);
            Some(id)
        })
    }

    /// A series that was seen here; its key is made either way.
    fn seen(&mut self, metric: &str, labels: &[(&str, &str)]) -> Option<SeriesId> {
        self.key.clear();
        for text in std::iter::once(metric).chain(labels.iter().flat_map(|&(name, value)| [name, value])) {
            self.key.extend_from_slice(text.as_bytes());
            self.key.push(0xFF);
        }
        let (id, is_old) =
            self.known.read().get(&self.key).and_then(|found| Some((found.field(0)?.1, found.is_old)))?;
        if is_old {
            self.remember(id);
        }
        Some(id)
    }

    fn remember(&self, series: SeriesId) {
        self.known.insert([(&self.key[..], &[NewField { name: [].into(), series }][..])]);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! An intake in memory, for the tests of parsers.

    use std::sync::Mutex;

    use super::*;
    use crate::model::Description;

    /// Keeps what it is given.
    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) defs: Mutex<Vec<SeriesDef>>,
        pub(crate) batches: Mutex<Vec<Batch>>,
        pub(crate) described: Mutex<std::collections::BTreeMap<String, Description>>,
        /// Knows the series alone that it was given. Without it, it has seen all there are.
        pub(crate) is_new: bool,
    }

    impl Intake for Recorder {
        fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
            let mut defs = self.defs.lock().unwrap();
            let same = |known: &SeriesDef| known.identity() == def.identity();
            let id = defs.iter().position(same).unwrap_or_else(|| {
                defs.push(def.clone());
                defs.len() - 1
            });
            Ok(SeriesId(u32::try_from(id).unwrap()))
        }

        fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
            let is_known = self.defs.lock().unwrap().iter().any(|known| known.identity() == def.identity());
            if is_known || !self.is_new { self.intern(def).ok() } else { None }
        }

        fn describe(&self, metric: &str, about: &Description) {
            self.described.lock().unwrap().insert(metric.to_owned(), about.clone());
        }

        fn accept(&self, batch: Batch) -> Result<(), Refusal> {
            self.batches.lock().unwrap().push(batch);
            Ok(())
        }
    }

    impl Recorder {
        /// Samples in the order they came: series as Prometheus writes it, nanoseconds, value.
        pub(crate) fn samples(&self) -> Vec<(String, i64, f64)> {
            let defs = self.defs.lock().unwrap();
            let batches = self.batches.lock().unwrap();
            let samples = batches.iter().flat_map(Batch::iter);
            samples.map(|(id, sample)| (defs[id.index()].to_string(), sample.time.nanos(), sample.value)).collect()
        }
    }

    /// From 1970 to 2100.
    pub(crate) fn all_times() -> TimeBounds {
        TimeBounds { earliest: Timestamp::from_nanos(0), latest: Timestamp::parse("2100-01-01").unwrap() }
    }

    /// Bytes that look like nothing: pseudo-random, the same for the same seed.
    pub(crate) struct Noise(pub(crate) u64);

    impl Noise {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 16
        }

        /// Up to 200 bytes, most of them from `alphabet`.
        pub(crate) fn bytes(&mut self, alphabet: &[u8]) -> Vec<u8> {
            let len = self.next() % 200;
            let any = |noise: &mut Self| noise.next() as u8;
            let apt = |noise: &mut Self| alphabet[noise.next() as usize % alphabet.len()];
            (0..len).map(|_| if self.next().is_multiple_of(8) { any(self) } else { apt(self) }).collect()
        }

        /// `text` with some bytes changed, cut or doubled.
        pub(crate) fn bend(&mut self, text: &[u8]) -> Vec<u8> {
            let mut bent = text.to_vec();
            for _ in 0..=self.next() % 4 {
                if bent.is_empty() {
                    break;
                }
                let at = self.next() as usize % bent.len();
                match self.next() % 4 {
                    0 => bent[at] = self.next() as u8,
                    1 => bent.truncate(at),
                    2 => drop(bent.remove(at)),
                    _ => bent.insert(at, bent[at]),
                }
            }
            bent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Recorder, all_times};
    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn a_series_of_too_many_labels_or_bytes_is_a_fault_and_the_rest_is_taken() {
        let names: Vec<String> = (0..70_000).map(|at| format!("l{at}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let long = "x".repeat(1 << 20);
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        gather.sample(1, "m", &many, None, at(1), 1.0).unwrap();
        gather.sample(2, "m", &[("a", &long)], None, at(1), 2.0).unwrap();
        gather.histogram(3, &long, &[], About::default(), at(1), 1.0, 1.0, Vec::new()).unwrap();
        gather.sample(4, "m", &[], None, at(1), 4.0).unwrap();
        gather.flush().unwrap();
        assert_eq!(recorder.samples(), [("m".to_owned(), 1, 4.0)]);
        let lines: Vec<u64> = gather.faults.first.iter().map(|fault| fault.line).collect();
        assert_eq!((gather.faults.count, lines), (3, vec![1, 2, 3]));
        for fault in &gather.faults.first {
            assert!(
                fault.error.len() < 1100 && fault.error.contains("send fewer or shorter labels"),
                "{}",
                fault.error
            );
        }
    }

    #[test]
    fn a_series_that_was_never_seen_has_no_end() {
        let recorder = Recorder { is_new: true, ..Recorder::default() };
        recorder.intern(&SeriesDef::new("of_others", Labels::default())).unwrap();
        let mut gather = Gather::new(&recorder, all_times());
        gather.sample(1, "here", &[], None, at(1), 1.0).unwrap();
        for metric in ["never", "here", "of_others"] {
            gather.end(metric, &[], at(2)).unwrap();
        }
        gather.flush().unwrap();
        assert_eq!(recorder.batches.lock().unwrap()[0].rows[0].batch.num_rows(), 2);
        assert_eq!(recorder.defs.lock().unwrap().len(), 2);
    }

    #[test]
    fn long_faults_keep_both_ends() {
        let told = shortened(format!("the series é{}é is new: raise `memory`", "ö".repeat(100_000)));
        assert!(told.starts_with("the series é") && told.ends_with("is new: raise `memory`") && told.len() < 1100);
    }
}
