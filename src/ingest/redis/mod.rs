//! Redis as a source: `INFO`, the slow log, a sample of the keys, hot keys, and the hit rate by prefix.

mod connect;
pub(super) mod info;
mod keys;
pub(super) mod monitor;
mod slowlog;
mod spec;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use self::connect::{Failed, Line};
use self::info::{Info, about};
use self::keys::{Keys, Lookups, Pass};
use self::monitor::Monitor;
use self::slowlog::Slowlog;
pub use self::spec::RedisSpec;
use crate::ingest::source::{Living, Readings, Source, SourceError};
use crate::model::Timestamp;
use crate::world::World;

/// A server that is asked.
pub struct RedisSource {
    spec: RedisSpec,
    world: World,
    timeout: Duration,
    /// Not here while a pass is under way: one that takes too long is dropped with its connection.
    line: Option<Line>,
    known: Known,
    living: Living,
}

/// What is remembered from pass to pass.
#[derive(Default)]
struct Known {
    /// Names one run of the server.
    run: Option<String>,
    slowlog: Slowlog,
    keys: Keys,
    monitor: Monitor,
    /// All of our own that the server has counted.
    lookups: Lookups,
    /// Hits and misses of the server, and of our own, when they were asked for last.
    before: Option<(f64, f64, Lookups)>,
    last_pass: Option<Duration>,
    /// Parts of a pass that failed so far.
    errors: BTreeMap<&'static str, u64>,
}

impl RedisSource {
    /// `timeout` is what a pass may take.
    pub fn new(spec: RedisSpec, world: World, timeout: Duration) -> Self {
        let errors = ["info", "slowlog", "keys", "monitor"].map(|part| (part, 0)).into();
        let known = Known { errors, ..Known::default() };
        RedisSource { spec, world, timeout, line: None, known, living: Living::default() }
    }

    async fn ask(&mut self, readings: &mut Readings) -> Result<(), SourceError> {
        let mut line = match self.line.take().filter(|line| !line.is_closed()) {
            Some(line) => line,
            None => Line::open(&self.spec, &self.world, self.timeout).await?,
        };
        let clock = &*self.world.clock;
        let started = clock.elapsed();
        let (spec, known) = (&self.spec, &mut self.known);
        let mut lacks = Vec::new();
        let counts_use = match known.info(&mut line, readings).await {
            Ok(counts_use) => counts_use,
            Err(failed) => {
                known.failed("info", failed, &mut lacks)?;
                false
            }
        };
        if spec.slowlog
            && let Err(failed) = known.slowlog(&mut line, readings).await
        {
            known.failed("slowlog", failed, &mut lacks)?;
        }
        let since = known.last_pass.replace(started).map_or(Duration::ZERO, |last| started.saturating_sub(last));
        if spec.sample > 0 {
            let pass = Pass { counts_use, seconds: since.as_secs_f64() };
            // A half of the time for the sample; the rest is for what comes behind it.
            let is_late = || clock.elapsed().saturating_sub(started) > self.timeout / 2;
            let looked = known.keys.look(&mut line, spec, pass, &mut known.lookups, &is_late, readings).await;
            if let Err(failed) = looked {
                known.failed("keys", failed, &mut lacks)?;
            }
        }
        if let Some(time) = spec.monitor {
            // As much as is left of the pass.
            let left = (self.timeout * 4 / 5).saturating_sub(clock.elapsed().saturating_sub(started));
            let listened =
                known.monitor.listen(&mut line, spec, &self.world, time.min(left), &mut known.lookups, readings).await;
            if let Err(failed) = listened {
                known.failed("monitor", failed, &mut lacks)?;
            }
        }
        known.put_own(readings);
        readings.lack = (!lacks.is_empty()).then(|| SourceError::new(lacks.join("; ")));
        self.line = Some(line);
        Ok(())
    }
}

#[async_trait]
impl Source for RedisSource {
    async fn read(&mut self, _now: Timestamp) -> Result<Readings, SourceError> {
        let mut readings = Readings::default();
        if let Err(error) = self.ask(&mut readings).await {
            readings.fault = Some(error);
        }
        self.living.settle(&mut readings);
        Ok(readings)
    }
}

impl Known {
    /// Tells of `INFO`, and whether the server counts how often keys are used.
    async fn info(&mut self, line: &mut Line, readings: &mut Readings) -> Result<bool, Failed> {
        let answer = line.ask(redis::cmd("INFO").arg("all")).await?;
        let text = match &answer {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
            Value::VerbatimString { text, .. } => text.as_str().into(),
            _ => return Err(Failed::Command("INFO is answered with no text".into())),
        };
        let info = Info::parse(&text);
        info.put(readings);
        let run = info.text("run_id").map(str::to_owned);
        if self.run.is_some() && self.run != run {
            self.slowlog.restarted();
            self.before = None;
        }
        self.run = run;
        self.put_hit_ratio(&info, readings);
        Ok(info.counts_use())
    }

    /// Of lookups since the pass before that are not our own.
    fn put_hit_ratio(&mut self, info: &Info<'_>, readings: &mut Readings) {
        let (Some(hits), Some(misses)) = (info.number("keyspace_hits"), info.number("keyspace_misses")) else { return };
        if let Some((hits_before, misses_before, own)) = self.before.replace((hits, misses, self.lookups)) {
            let hits = hits - hits_before - (self.lookups.hits - own.hits) as f64;
            let misses = misses - misses_before - (self.lookups.misses - own.misses) as f64;
            // Below zero after CONFIG RESETSTAT.
            if hits >= 0.0 && misses >= 0.0 && hits + misses > 0.0 {
                let metric = "redis_keyspace_hit_ratio";
                let help = "Share of lookups since the pass before that found their key, without the collector's own.";
                readings.put(metric, &[], about(metric, help), hits / (hits + misses));
            }
        }
    }

    async fn slowlog(&mut self, line: &mut Line, readings: &mut Readings) -> Result<(), Failed> {
        self.slowlog.take(&line.ask(&slowlog::command()).await?);
        self.slowlog.put(readings);
        Ok(())
    }

    /// Notes a part of the pass that failed.
    ///
    /// # Errors
    /// Where there is no connection any more, so that nothing else can be asked.
    fn failed(&mut self, part: &'static str, failed: Failed, lacks: &mut Vec<String>) -> Result<(), SourceError> {
        match failed {
            Failed::Lost(error) => Err(error),
            Failed::Command(error) => {
                *self.errors.entry(part).or_default() += 1;
                lacks.push(format!("{part}: {error}"));
                Ok(())
            }
        }
    }

    fn put_own(&self, readings: &mut Readings) {
        let mut put = |metric: &str, labels: &[(&str, &str)], help, value: u64| {
            readings.put(metric, labels, about(metric, help), value as f64);
        };
        for (part, errors) in &self.errors {
            let labels = [("part", *part)];
            put("redis_collector_errors_total", &labels, "Parts of a pass that had no answer.", *errors);
        }
        let help = "The collector's own lookups among redis_keyspace_hits_total, since its start.";
        put("redis_collector_hits_total", &[], help, self.lookups.hits);
        let help = "The collector's own lookups among redis_keyspace_misses_total, since its start.";
        put("redis_collector_misses_total", &[], help, self.lookups.misses);
    }
}
