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

/// 1971-01-01, in nanoseconds since the epoch.
const EARLIEST: i64 = 31_536_000_000_000_000;

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
            self.first.push(Fault { line, error: error.to_string() });
        }
    }
}

/// Times that are taken: the rest are refused, since they are nearly always a wrong unit or a wrong clock.
#[derive(Debug, Clone, Copy)]
pub struct TimeBounds {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl TimeBounds {
    /// From 1971 (times before it are nearly always seconds or milliseconds taken for nanoseconds), or `retention` ago
    /// where that is later, to `future` from `now`.
    pub fn new(now: Timestamp, future: Duration, retention: Option<Duration>) -> Self {
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        let earliest = retention.map_or(EARLIEST, |kept| now.nanos().saturating_sub(nanos(kept)).max(EARLIEST));
        TimeBounds { earliest: Timestamp::from_nanos(earliest), latest: now.plus(nanos(future)) }
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
        match self.series(metric, labels, About::default()) {
            Ok(series) => self.end_of(series, time),
            Err((_, Refusal::Budget(_))) => Ok(()),
            Err((_, refusal)) => Err(refusal),
        }
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
        Ok(())
    }

    /// Samples acknowledged so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    fn series(
        &mut self,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
    ) -> Result<SeriesId, (Box<SeriesDef>, Refusal)> {
        self.key.clear();
        for text in std::iter::once(metric).chain(labels.iter().flat_map(|&(name, value)| [name, value])) {
            self.key.extend_from_slice(text.as_bytes());
            self.key.push(0xFF);
        }
        let seen = self.known.read().get(&self.key).and_then(|found| Some((found.field(0)?.1, found.is_old)));
        if let Some((id, is_old)) = seen {
            if is_old {
                self.remember(id);
            }
            return Ok(id);
        }
        let mut def = SeriesDef::new(metric, Labels::new(labels.iter().copied()));
        if let Some(kind) = about.kind {
            def.kind = kind;
        }
        def.unit = about.unit.into();
        def.help = about.help.into();
        let id = self.intake.intern(&def).map_err(|refusal| (Box::new(def), refusal))?;
        self.remember(id);
        Ok(id)
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
