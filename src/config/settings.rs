//! The settings file. These structs are its documentation: every key, its unit and its default.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::faults::{ConfigFault, ConfigFaults, line_around, line_of, openings, parse};
use super::memory::{MemoryPlan, size};
use super::slos::{SLO, slo_faults};
use crate::flow::GovernorSpec;
use crate::ingest::{From as Asked, ListenSpec, SystemSpec, WrittenSource};
use crate::insight::capacity::{CapacityFault, CapacitySpec};
use crate::insight::jobs::{JobFault, JobSpec, jobs};
use crate::insight::slo::SloSpec;
use crate::model::{Keep, MetricRule, Pattern, Retention, Table};
use crate::stages::BudgetSpec;
use crate::store::{StoreSpec, Sync};

/// All settings. A key can be set in the file, as `PLIMSOLL__SECTION__KEY` in the environment, or by a flag; the later
/// wins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What everything together may take; [`MemoryPlan`] divides it. At its limit a share is written to disk, makes
    /// senders wait, or refuses.
    pub memory: ByteSize,
    pub store: StoreSettings,
    pub ingest: IngestSettings,
    pub listen: ListenSpec,
    pub collect: CollectSettings,
    /// `[[sources]]`, one for each that is asked at an interval.
    pub sources: Vec<WrittenSource>,
    pub query: QuerySettings,
    pub pipelines: PipelineSettings,
    pub governor: GovernorSettings,
    pub capacity: CapacitySpec,
    /// `[[slo]]`, objectives; those that come with the program where there are none.
    pub slo: Vec<SloSpec>,
    /// `[[job]]`, what is done at an interval or by the clock.
    pub job: Vec<JobSpec>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            memory: ByteSize::mib(512),
            store: StoreSettings::default(),
            ingest: IngestSettings::default(),
            listen: ListenSpec::default(),
            collect: CollectSettings::default(),
            sources: Vec::new(),
            query: QuerySettings::default(),
            pipelines: PipelineSettings::default(),
            governor: GovernorSettings::default(),
            capacity: CapacitySpec::default(),
            slo: Vec::new(),
            job: Vec::new(),
        }
    }
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// `always`, `interval` (1 s) or `never`: when an acknowledged sample is on the disk itself.
    pub sync: Sync,
    /// Samples in memory, in bytes, at which they are written to a segment; a sixteenth of `memory` without it.
    pub head: Option<ByteSize>,
    /// Age at which they are, however few.
    #[serde(with = "humantime_serde")]
    pub head_age: Duration,
    /// Segments of this size are not merged further.
    pub segment: ByteSize,
    /// How long samples and rows of derived tables are kept, as in `90d`; without it, or at `forever`, for ever. What is
    /// older is shown no more, and its files go or are written anew without it.
    pub retention: Keep,
    /// `[[store.retain]]`, one for each pattern: metrics whose samples are kept otherwise. The first that fits counts.
    pub retain: Vec<RetainSettings>,
    pub retain_tables: RetainTables,
}

impl StoreSettings {
    /// What is kept how long.
    pub fn retention(&self) -> Retention {
        let of_metric =
            |settings: &RetainSettings| Some(MetricRule { metric: settings.metric.clone()?, keep: settings.keep? });
        let RetainTables {
            rollups,
            sliding,
            sessions,
            anomalies,
            correlations,
            compressed,
            staleness,
            histograms,
            zones,
            forecasts,
            others,
        } = &self.retain_tables;
        let tables = [
            (Table::Sliding, sliding),
            (Table::Sessions, sessions),
            (Table::Anomalies, anomalies),
            (Table::Correlations, correlations),
            (Table::Compressed, compressed),
            (Table::Staleness, staleness),
            (Table::Histograms, histograms),
            (Table::Zones, zones),
            (Table::Forecasts, forecasts),
        ];
        let nanos = |length: &WindowLength| i64::try_from(length.0.as_nanos()).unwrap_or(i64::MAX);
        Retention {
            samples: self.retention,
            metrics: self.retain.iter().filter_map(of_metric).collect(),
            rows: others.unwrap_or(self.retention),
            tables: tables.into_iter().filter_map(|(table, keep)| keep.map(|keep| (table, keep))).collect(),
            rollups: rollups.iter().map(|(length, &keep)| (nanos(length), keep)).collect(),
        }
    }
}

/// `[[store.retain]]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetainSettings {
    /// A metric's name; `*` in it stands for any letters, as in `debug_*`.
    pub metric: Option<Pattern>,
    /// How long its samples are kept, as in `7d`, or `forever`.
    pub keep: Option<Keep>,
}

/// `[store.retain_tables]`: derived tables whose rows are kept otherwise than `retention` says.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetainTables {
    /// By the length of their windows, as in `{ "1h" = "2y", "1m" = "30d" }`; windows of other lengths go by `others`.
    pub rollups: BTreeMap<WindowLength, Keep>,
    /// Whatever the length of their windows.
    pub sliding: Option<Keep>,
    pub sessions: Option<Keep>,
    pub anomalies: Option<Keep>,
    pub correlations: Option<Keep>,
    pub compressed: Option<Keep>,
    pub staleness: Option<Keep>,
    pub histograms: Option<Keep>,
    pub zones: Option<Keep>,
    /// By the time that is forecast.
    pub forecasts: Option<Keep>,
    /// All that is not named here; without it, `retention`.
    pub others: Option<Keep>,
}

/// Length of a window, `every` in its pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowLength(Duration);

impl<'de> Deserialize<'de> for WindowLength {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let length = humantime::parse_duration(&text).map_err(|_| {
            serde::de::Error::custom(format!("`{text}` is no length of a window: write one as in \"1h\""))
        })?;
        Ok(WindowLength(length))
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        let spec = StoreSpec::default();
        StoreSettings {
            sync: spec.sync,
            head: None,
            head_age: spec.head_age,
            segment: ByteSize::b(spec.segment_bytes),
            retention: spec.retention.samples,
            retain: Vec::new(),
            retain_tables: RetainTables::default(),
        }
    }
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestSettings {
    /// Samples further ahead of the clock are refused.
    #[serde(with = "humantime_serde")]
    pub future_max: Duration,
    /// Largest body of a request, after decompression.
    pub body_max: ByteSize,
    /// New series that one source (the header `X-Plimsoll-Source`, else a client's address; `import`; `system`) may
    /// bring in 24 hours. Samples of further ones are refused; known series go on.
    pub series_per_source: u64,
    /// Series the store may hold, of all sources and all time. Each takes some 50 to 150 bytes of memory.
    pub series_max: u64,
}

impl Default for IngestSettings {
    fn default() -> Self {
        let budget = BudgetSpec::default();
        IngestSettings {
            future_max: Duration::from_secs(86_400),
            body_max: ByteSize::mib(64),
            series_per_source: budget.series_per_source,
            series_max: budget.series_max,
        }
    }
}

/// `[collect]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectSettings {
    /// Whether this machine's own metrics are collected.
    pub system: bool,
    /// How often.
    #[serde(with = "humantime_serde")]
    pub system_interval: Duration,
    /// Whether the program's own metrics, those of `/metrics`, are collected.
    pub own: bool,
    /// How often.
    #[serde(with = "humantime_serde")]
    pub own_interval: Duration,
    /// Whether sources may run commands (`from.exec`).
    pub exec: bool,
}

impl Default for CollectSettings {
    fn default() -> Self {
        CollectSettings {
            system: true,
            system_interval: Duration::from_secs(30),
            own: true,
            own_interval: Duration::from_secs(15),
            exec: false,
        }
    }
}

/// Which answers that are kept go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CachePolicy {
    #[default]
    Lfu,
    Lru,
}

/// `[query]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuerySettings {
    /// What all queries may hold together, a quarter of `memory` without it: beyond it sorts, joins and aggregates
    /// spill to disk, and an answer that must be whole before it is sent is refused where it is larger.
    pub memory: Option<ByteSize>,
    /// What one statement may hold of that, all of it without it.
    pub statement_memory: Option<ByteSize>,
    /// Statements that are under way at once, four for each processor without it; others wait for their turn.
    pub at_once: Option<usize>,
    /// Statements that may wait; more are told to ask later.
    pub waiting: usize,
    /// Whether summaries that files have are used in place of samples, where they say the same.
    pub summaries: bool,
    /// What answers that are kept may take of `memory`, an eighth of it without it; 0B keeps none.
    pub cache: Option<ByteSize>,
    /// Which answers go when there is no more room: those asked for least often of late, or those not asked for the longest.
    pub cache_policy: CachePolicy,
    /// How long an answer is kept at most; 0s is as long as it is right.
    #[serde(with = "humantime_serde")]
    pub cache_ttl: Duration,
    /// How long a statement may take; 0s is as long as it takes.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Statements that take longer are told in the log; 0s is none.
    #[serde(with = "humantime_serde")]
    pub slow: Duration,
}

impl QuerySettings {
    /// How long a statement may take, and from when on it is told in the log.
    pub fn times(&self) -> [Option<Duration>; 2] {
        [self.timeout, self.slow].map(|limit| (!limit.is_zero()).then_some(limit))
    }
}

impl Default for QuerySettings {
    fn default() -> Self {
        QuerySettings {
            memory: None,
            statement_memory: None,
            at_once: None,
            waiting: 1000,
            summaries: true,
            cache: None,
            cache_policy: CachePolicy::Lfu,
            cache_ttl: Duration::ZERO,
            timeout: Duration::from_secs(300),
            slow: Duration::from_secs(10),
        }
    }
}

/// `[pipelines]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineSettings {
    /// Whether any pipeline runs.
    pub off: bool,
    /// Pipeline files; without any, the one that comes with the program.
    pub files: Vec<String>,
}

/// `[governor]`: how `serve` does less while resources are short. What is in use is the most of CPU, of `memory`, and of
/// the fullest queue of the pipelines, in percent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GovernorSettings {
    /// Whether it runs; without it, it is always green.
    pub enabled: bool,
    /// How often it looks.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Percent in use from which it is yellow, orange, red and critical.
    #[serde(deserialize_with = "four")]
    pub bounds: [f64; 4],
    /// Points of percent by which it must be under a bound to come down.
    pub margin: f64,
    /// How long it must be at or over a bound to go up. Memory at the last bound counts at once.
    #[serde(with = "humantime_serde")]
    pub rise: Duration,
    /// How long it must be under a bound, by the margin, to come down by one zone.
    #[serde(with = "humantime_serde")]
    pub fall: Duration,
    /// Time over which CPU is averaged.
    #[serde(with = "humantime_serde")]
    pub smoothing: Duration,
    /// Times its interval at which a source is asked that is slowed.
    pub slowdown: f64,
    /// Whether sources are paused; without it those that would be are slowed.
    pub pause: bool,
}

fn four<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[f64; 4], D::Error> {
    let bounds = Vec::<f64>::deserialize(from)?;
    let told = || serde::de::Error::custom("bounds: write four, as in bounds = [60, 75, 85, 95]");
    bounds.try_into().map_err(|_| told())
}

impl Default for GovernorSettings {
    fn default() -> Self {
        let GovernorSpec { interval, bounds, margin, rise, fall, smoothing, slowdown, pause } = GovernorSpec::default();
        GovernorSettings { enabled: true, interval, bounds, margin, rise, fall, smoothing, slowdown, pause }
    }
}

impl GovernorSettings {
    /// How the governor goes about it.
    pub fn spec(&self) -> GovernorSpec {
        let &GovernorSettings { enabled: _, interval, bounds, margin, rise, fall, smoothing, slowdown, pause } = self;
        GovernorSpec { interval, bounds, margin, rise, fall, smoothing, slowdown, pause }
    }

    /// All that is wrong with its values: the key, and what to write.
    fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let is_percent = self.bounds.iter().all(|bound| (1.0..=100.0).contains(bound));
        let bounds = is_percent && self.bounds.is_sorted_by(|one, next| one < next);
        let interval = (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.interval);
        // What it is compared with must be well itself.
        let margin = !bounds || (0.0..self.bounds[0]).contains(&self.margin);
        [
            (interval, "interval", "write 100ms to 1m, as in interval = \"1s\""),
            (bounds, "bounds", "write four percentages of 1 to 100 that rise, as in bounds = [60, 75, 85, 95]"),
            (margin, "margin", "write 0 or more, and less than the first bound, as in margin = 5"),
            ((1.0..=1000.0).contains(&self.slowdown), "slowdown", "write 1 to 1000, as in slowdown = 2"),
        ]
        .into_iter()
        .filter_map(|(is_well, key, remedy)| (!is_well).then_some((key, remedy)))
        .collect()
    }
}

impl Settings {
    /// Reads a settings file's text, then lays the environment over it (`PLIMSOLL__STORE__SYNC=always`).
    ///
    /// # Errors
    /// Every unknown key, wrong type and value that cannot be, at once.
    pub fn read(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigFaults> {
        let (settings, mut faults) = parse::<Settings>(file, text, rule_around);
        let Some(mut settings) = settings else { return Err(ConfigFaults(faults)) };
        let mut table: toml::Table = text.parse().unwrap_or_default();
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("PLIMSOLL__") else { continue };
            if let Err(error) = settings.lay_over(&mut table, key, &value) {
                faults.push(ConfigFault { file: format!("environment variable {name}"), line: 0, error });
            }
        }
        faults.extend(settings.faults(file, text));
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(settings) } else { Err(ConfigFaults(faults)) }
    }

    /// Sets one key of `table`, which keeps what was laid over before.
    fn lay_over(&mut self, table: &mut toml::Table, key: &str, value: &str) -> Result<(), String> {
        let mut changed = table.clone();
        let plain = toml::Value::String(value.to_owned());
        let typed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v"));
        let value = typed.unwrap_or(plain);
        let (section, key) = match key.split_once("__") {
            Some((section, key)) => {
                let section = changed.entry(section.to_lowercase());
                let section = section.or_insert_with(|| toml::Value::Table(toml::Table::new()));
                (section.as_table_mut().ok_or("the section is a value in the file")?, key)
            }
            None if key.eq_ignore_ascii_case("memory") => (&mut changed, key),
            None => return Err("write PLIMSOLL__SECTION__KEY, as in PLIMSOLL__STORE__SYNC".into()),
        };
        section.insert(key.to_lowercase(), value);
        *self = changed.clone().try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        *table = changed;
        Ok(())
    }

    fn faults(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, key: &str, remedy: &str| {
            if !ok {
                let line = line_of(text, 0, key);
                faults.push(ConfigFault { file: file.to_owned(), line, error: format!("{key}: {remedy}") });
            }
        };
        check(self.memory >= MemoryPlan::LEAST, "memory", "write at least 64MB, as in memory = \"512MB\"");
        let head = self.store.head;
        check(head.is_none_or(|head| head >= ByteSize::mb(1)), "head", "write at least 1MB, as in head = \"32MB\"");
        check(self.store.segment >= ByteSize::mb(1), "segment", "write at least 1MB, as in segment = \"512MB\"");
        check(self.ingest.body_max >= ByteSize::kb(1), "body_max", "write at least 1KB, as in body_max = \"64MB\"");
        let told = "write at least 1, as in series_per_source = 2000000";
        check(self.ingest.series_per_source >= 1, "series_per_source", told);
        check(self.ingest.series_max >= 1, "series_max", "write at least 1, as in series_max = 10000000");
        let memory = self.query.memory;
        let told = "write at least 16MB, as in memory = \"256MB\"";
        check(memory.is_none_or(|memory| memory >= ByteSize::mb(16)), "memory", told);
        let of_one = self.query.statement_memory;
        let told = "write at least 16MB, as in statement_memory = \"64MB\"";
        check(of_one.is_none_or(|memory| memory >= ByteSize::mb(16)), "statement_memory", told);
        check(self.query.at_once != Some(0), "at_once", "write at least 1, as in at_once = 8");
        check(
            self.collect.system_interval >= Duration::from_millis(100),
            "system_interval",
            "write at least 100ms, as in system_interval = \"30s\"",
        );
        let told = "write at least 100ms, as in own_interval = \"15s\"";
        check(self.collect.own_interval >= Duration::from_millis(100), "own_interval", told);
        self.listen.faults().into_iter().for_each(|(key, remedy)| check(false, key, remedy));
        faults.extend(self.faults_of_governor(file, text));
        faults.extend(self.faults_of_rules(file, text));
        faults.extend(self.faults_of_sources(file, text));
        faults.extend(slo_faults(file, text, &self.slo));
        faults.extend(self.faults_of_capacity(file, text));
        faults.extend(self.faults_of_jobs(file, text));
        faults
    }

    fn faults_of_governor(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        // Other sections have keys of the same names.
        let from = text.find("[governor]").unwrap_or_default();
        let fault = |(key, remedy)| ConfigFault {
            file: file.to_owned(),
            line: line_of(text, from, key),
            error: format!("governor: {key}: {remedy}"),
        };
        self.governor.faults().into_iter().map(fault).collect()
    }

    fn faults_of_jobs(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        let places = openings(text, JOB);
        let fault = |JobFault { job, key, told }: JobFault| {
            let from = places.get(job).copied().unwrap_or(0);
            let line = match line_of(text, from, key) {
                0 => line_of(text, from, JOB),
                line => line,
            };
            let error = format!("job `{}`: {key}: {told}", self.job[job].name);
            ConfigFault { file: file.to_owned(), line, error }
        };
        jobs(&self.job).err().unwrap_or_default().into_iter().map(fault).collect()
    }

    fn faults_of_capacity(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        let fault = |fault: CapacityFault| {
            let section =
                fault.resource.as_ref().map_or("[capacity]".to_owned(), |name| format!("[capacity.resources.{name}"));
            let from = text.find(&section).or_else(|| text.find("[capacity")).unwrap_or_default();
            ConfigFault { file: file.to_owned(), line: line_of(text, from, fault.key), error: fault.to_string() }
        };
        self.capacity.faults().into_iter().map(fault).collect()
    }

    fn faults_of_rules(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        let missing = |rule: &RetainSettings| match rule {
            RetainSettings { metric: None, .. } => {
                Some("metric: write whose samples it is for, as in metric = \"debug_*\"")
            }
            RetainSettings { keep: None, .. } => {
                Some("keep: write how long, as in keep = \"7d\" or keep = \"forever\"")
            }
            _ => None,
        };
        let line = |rule: usize| {
            let place = openings(text, RULE).get(rule).map(|&at| text[..at].matches('\n').count() + 1);
            place.unwrap_or_else(|| line_of(text, 0, "retain"))
        };
        let faults = self.store.retain.iter().enumerate().filter_map(|(at, rule)| Some((at, missing(rule)?)));
        let fault = |(at, told): (usize, &str)| ConfigFault {
            file: file.to_owned(),
            line: line(at),
            error: format!("a rule of `retain` has no {told}"),
        };
        faults.map(fault).collect()
    }

    fn faults_of_sources(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        let (places, mut faults) = (openings(text, SOURCE), Vec::new());
        let mut is_system_asked = self.collect.system;
        for (at, source) in self.sources.iter().enumerate() {
            let from = places.get(at).copied().unwrap_or(0);
            let mut fault = |key: &str, told: String| {
                let line = match line_of(text, from, key) {
                    0 => line_of(text, from, "sources"),
                    line => line,
                };
                let error = format!("source `{}`: {key}: {told}", source.id);
                faults.push(ConfigFault { file: file.to_owned(), line, error });
            };
            let others = self.sources[..at].iter().map(|other| other.id.as_str());
            let system = self.collect.system.then_some("system");
            let own = self.collect.own.then_some("own");
            if others.chain(system).chain(own).any(|id| id == source.id) {
                fault("id", "another source has it: choose one of its own".to_owned());
            }
            if source.enabled && !self.collect.exec && matches!(source.from, Asked::Exec(_)) {
                let told = "commands are run only where that is allowed: write exec = true under [collect], or enabled = false here";
                fault("exec", told.to_owned());
            }
            let asks_system = source.enabled && matches!(source.from, Asked::System(_));
            if asks_system && std::mem::replace(&mut is_system_asked, true) {
                let told = "this machine is asked already: leave it out, or write system = false under [collect]";
                fault("system", told.to_owned());
            }
            source.faults().into_iter().for_each(|(key, told)| fault(key, told));
        }
        faults
    }

    /// The sources there are: those written, and those that need not be.
    pub fn all_sources(&self) -> Vec<WrittenSource> {
        let system = WrittenSource {
            interval: Some(self.collect.system_interval),
            ..WrittenSource::new("system", Asked::System(SystemSpec::default()))
        };
        self.collect.system.then_some(system).into_iter().chain(self.sources.iter().cloned()).collect()
    }

    pub fn budget_spec(&self) -> BudgetSpec {
        BudgetSpec { series_per_source: self.ingest.series_per_source, series_max: self.ingest.series_max }
    }

    pub fn memory_plan(&self) -> MemoryPlan {
        MemoryPlan { all: self.memory.as_u64() }
    }

    /// Bytes that queries may hold together.
    /// Bytes that answers that are kept may take, and how long each is kept.
    pub fn cache_limits(&self) -> (usize, Option<Duration>) {
        let QuerySettings { cache, cache_ttl: ttl, .. } = self.query;
        let bytes = cache.map_or(self.query_bytes() / 8, |bytes| size(bytes.as_u64()));
        (bytes.min(self.query_bytes() / 2), (!ttl.is_zero()).then_some(ttl))
    }

    /// Bytes that one statement may hold.
    pub fn statement_bytes(&self) -> Option<usize> {
        self.query.statement_memory.map(|memory| size(memory.as_u64()))
    }

    pub fn query_bytes(&self) -> usize {
        self.query.memory.map_or(self.memory_plan().queries(), |memory| size(memory.as_u64()))
    }

    pub fn store_spec(&self) -> StoreSpec {
        let plan = self.memory_plan();
        StoreSpec {
            sync: self.store.sync,
            head_bytes: self.store.head.map_or(plan.head(), |head| size(head.as_u64())),
            series_bytes: plan.series(),
            head_age: self.store.head_age,
            segment_bytes: self.store.segment.as_u64(),
            retention: self.store.retention(),
        }
    }
}

/// What a rule or a source of its own begins with, in two brackets.
const RULE: &str = "store.retain";
const SOURCE: &str = "sources";
const JOB: &str = "job";

/// What goes with a fault at `at`: a rule or a source is left out whole, else the line.
fn rule_around(text: &str, at: usize) -> Range<usize> {
    let line = line_around(text, at);
    let start = [RULE, SOURCE, SLO, JOB].into_iter().filter_map(|name| openings(&text[..line.end], name).pop()).max();
    let Some(start) = start else { return line };
    let opened = line_around(text, start).end;
    let end = text[opened..].find("\n[").map_or(text.len(), |end| opened + end);
    if line.start < end { start..end } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, environment: &[(&str, &str)]) -> String {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match Settings::read("p.toml", text, environment) {
            Ok(settings) => format!("{:?} {:?}", settings.store.sync, settings.store.retention.length()),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let text = "[store]\nsync = \"never\"\nretention = \"2d\"\n";
        assert_eq!(told(text, &[]), "Never Some(172800s)");
        assert_eq!(told(text, &[("PLIMSOLL__STORE__SYNC", "always")]), "Always Some(172800s)");
        assert!(told(text, &[("PLIMSOLL__STORE__RETENTION", "0s")]).contains("no time to keep things"));
        let both = [("PLIMSOLL__STORE__SYNC", "always"), ("PLIMSOLL__STORE__RETENTION", "1d")];
        assert_eq!(told(text, &both), "Always Some(86400s)", "each of them counts");
        let set = |value: &str| {
            let environment = [("PLIMSOLL__MEMORY".to_owned(), value.to_owned())];
            Settings::read("p.toml", "memory = \"1GB\"\n[query]\nmemory = \"20MB\"\n", environment)
        };
        let settings = set("160MB").unwrap();
        assert_eq!((settings.store_spec().head_bytes, settings.query_bytes()), (10_000_000, 20_000_000));
        assert!(set("1MB").unwrap_err().to_string().contains("write at least 64MB"));
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_line() {
        let told = told("[store]\nsink = 1\nsync = \"sometimes\"\n[query]\nmemory = \"1KB\"\nx = 2\n", &[]);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("p.toml:2: unknown field `sink`"), "{told}");
        assert!(lines[1].starts_with("p.toml:3: unknown variant `sometimes`"), "{told}");
        assert!(lines[2].starts_with("p.toml:5: memory: write at least 16MB"), "{told}");
        assert!(lines[3].starts_with("p.toml:6: unknown field `x`"), "{told}");
    }

    #[test]
    fn rules_say_what_is_kept_how_long() {
        let text = r#"
            [store]
            retention = "90d"
            [[store.retain]]
            metric = "debug_slow"
            keep = "forever"
            [[store.retain]]
            metric = "debug_*"
            keep = "7d"
            [store.retain_tables]
            rollups = { "1h" = "2y", "1m" = "30d" }
            anomalies = "1y"
        "#;
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let retention = Settings::read("p.toml", text, []).unwrap().store_spec().retention;
        let of_metric = |metric: &str| retention.of_rule(retention.rule_of(metric)).length();
        assert_eq!(["debug_slow", "debug_x", "cpu"].map(of_metric), [None, days(7), days(90)]);
        let of_window = |minutes: i64| retention.of_row(Table::Rollups, Some(minutes * 60_000_000_000)).length();
        assert_eq!([1, 5].map(of_window), [days(30), days(90)]);
        assert!(of_window(60) > days(729));
        let of_table = |table| retention.of_row(table, None).length();
        assert!(of_table(Table::Anomalies) > days(364));
        assert_eq!(of_table(Table::Correlations), days(90));
        for table in Table::ALL.into_iter().filter(|table| !text.contains(table.name())) {
            let named = format!("{text}\n{} = \"11d\"", table.name());
            let retention = Settings::read("p.toml", &named, []).unwrap().store_spec().retention;
            assert_eq!(retention.of_row(table, Some(1)).length(), days(11), "{}", table.name());
        }
        let others = format!("{text}\nothers = \"forever\"");
        let retention = Settings::read("p.toml", &others, []).unwrap().store_spec().retention;
        assert_eq!(retention.of_row(Table::Compressed, None), Keep::Forever);
        assert_eq!(retention.samples.length(), days(90));
    }

    #[test]
    fn faults_of_rules_name_line_and_remedy() {
        let cases = [
            ("[store]\nretention = \"soon\"\n", "p.toml:2: `soon` is no time to keep things: write one as in \"90d\""),
            ("[[store.retain]]\nmetric = \"a\"\nkeep = \"0s\"\n", "p.toml:3: `0s` is no time to keep things"),
            ("[[store.retain]]\nmetric = \"\"\nkeep = \"1d\"\n", "p.toml:2: an empty pattern fits no metric: write"),
            ("[[store.retain]]\nmetrik = \"a\"\nkeep = \"1d\"\n", "p.toml:2: unknown field `metrik`"),
            ("\n[[store.retain]]\nmetric = \"a\"\n", "p.toml:2: a rule of `retain` has no keep: write how long"),
            (
                "[[store.retain]]\nmetric = \"a\"\nkeep = \"1d\"\n[[store.retain]]\nkeep = \"1d\"\n",
                "p.toml:4: a rule of",
            ),
            ("[store]\nretain = [\n{ keep = \"1d\" }]\n", "p.toml:2: a rule of `retain` has no metric: write"),
            ("[store.retain_tables]\nrollup = \"1y\"\n", "p.toml:2: unknown field `rollup`, expected one of `rollups`"),
            ("[store.retain_tables]\nanomalies = \"1 year ago\"\n", "p.toml:2: `1 year ago` is no time to keep"),
            (
                "[store.retain_tables.rollups]\n1x = \"1y\"\n",
                "p.toml:2: `1x` is no length of a window: write one as in",
            ),
        ];
        for (text, wanted) in cases {
            let told = told(text, &[]);
            assert!(told.starts_with(wanted) && !told.contains('\n'), "{told}");
        }
        let two = "[[store.retain]]\nmetric = \"a\"\nkeep = \"x\"\n[[store.retain]]\nkeep = 7\n[store]\nsink = 1\n";
        let told = told(two, &[]);
        let lines: Vec<&str> = told.lines().map(|line| &line[..9]).collect();
        assert_eq!(lines, ["p.toml:3:", "p.toml:5:", "p.toml:7:"], "{told}");
    }

    #[test]
    fn faults_of_sources_name_line_and_remedy() {
        let cases = [
            ("from.http = { url = \"example.org\" }", "p.toml:3: source `a`: url: `example.org` is no address"),
            (
                "from.http = { url = \"ftp://a/\" }",
                "p.toml:3: source `a`: url: `ftp://a/` is no address (`ftp` is neither",
            ),
            ("from.http = { }", "p.toml:3: source `a`: http: write whom to ask, as in url = "),
            (
                "from.http = { urls = [\"http://a\", \"http://a\"] }",
                "p.toml:3: source `a`: urls: `http://a/` is written twice",
            ),
            (
                "from.http = { url = \"http://a\", status = [\"2xx\"] }",
                "p.toml:3: `2xx` is no status: write one as 204",
            ),
            ("from.http = { url = \"http://a\", contains = \"(\" }", "p.toml:3: `(` is no regular expression"),
            (
                "from.http = { url = \"http://a\", method = \"get\" }",
                "p.toml:3: source `a`: method: `get` is no method",
            ),
            ("from.http = { url = \"http://a\", conatins = \"\" }", "p.toml:3: unknown field `conatins`"),
            (
                "from.http = { url = \"http://a\", tls = { cert_file = \"x\" } }",
                "p.toml:3: source `a`: cert_file: write cert",
            ),
            (
                "from.http = { url = \"http://a\", bearer_token = \"x\", bearer_token_file = \"y\" }",
                "p.toml:3: source `a`: bearer_token: write one of basic_auth, bearer_token and bearer_token_file",
            ),
            ("from.json = { }", "p.toml:3: missing field `url`"),
            (
                "from.json = { url = \"http://a\", metrics = [{ name = \"x\", path = \"a.b\" }] }",
                "p.toml:3: `a.b` is no place in JSON",
            ),
            (
                "from.json = { url = \"http://a\", metrics = [{ name = \"\", path = \"/a\" }] }",
                "p.toml:3: source `a`: name: ",
            ),
            (
                "from.exec = { command = [\"x\"] }",
                "p.toml:3: source `a`: exec: commands are run only where that is allowed",
            ),
            (
                "from.exec = { command = [] }\n[collect]\nexec = true",
                "p.toml:3: source `a`: command: write program and",
            ),
            ("from.nothing = { }", "p.toml:3: unknown variant `nothing`, expected one of"),
        ];
        for (from, wanted) in cases {
            let told = told(&format!("[[sources]]\nid = \"a\"\n{from}\n"), &[]);
            assert!(told.starts_with(wanted) && !told.contains('\n'), "{told}");
        }
        let built_in = told("[[sources]]\nid = \"own\"\nfrom.http = { url = \"http://a\" }\n", &[]);
        assert!(built_in.starts_with("p.toml:2: source `own`: id: another source has it"), "{built_in}");
        let comment = "# As in [[sources]]\n# [[sources]]\n[[sources]] # id\nid = \"a\"\nfrom.json = { url = \"x\" }\n";
        let comment = told(comment, &[]);
        assert!(comment.starts_with("p.toml:5: source `a`: url: "), "{comment}");
        let twice = "[[sources]]\nid = \"a\"\nfrom.system = {}\n";
        assert!(told(twice, &[]).starts_with("p.toml:3: source `a`: system: this machine is asked already"));
        let once = format!("[collect]\nsystem = false\n{twice}");
        assert_eq!(told(&once, &[]), told("", &[]));
        let again = told(&format!("{once}{}", twice.replace("\"a\"", "\"b\"")), &[]);
        assert!(again.starts_with("p.toml:8: source `b`: system: "), "{again}");
        let off = "[[sources]]\nid = \"a\"\nenabled = false\nfrom.exec = { command = [\"x\"] }\n";
        assert_eq!(told(off, &[]), told("", &[]));
    }

    #[test]
    fn listeners_are_off_until_they_have_an_address() {
        let read = |text: &str, environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Settings::read("p.toml", text, environment)
        };
        let listen = read("", &[]).unwrap().listen;
        assert_eq!((listen.statsd, listen.graphite), (None, None));
        let environment = [("PLIMSOLL__LISTEN__STATSD", "127.0.0.1:8125"), ("PLIMSOLL__LISTEN__STATSD_EXPIRE", "1m")];
        let listen = read("[listen]\ngraphite = \"[::1]:2003\"\n", &environment).unwrap().listen;
        assert_eq!(
            (listen.statsd.as_deref(), listen.graphite.as_deref()),
            (Some("127.0.0.1:8125"), Some("[::1]:2003"))
        );
        assert_eq!(listen.statsd_expire, Duration::from_secs(60));
        let told = told("[listen]\nstatsd_flush = \"1ms\"\nstatsd_expire = \"0s\"\nudp = 1\n", &[]);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("p.toml:2: statsd_flush: write at least 100ms"), "{told}");
        assert!(lines[1].starts_with("p.toml:3: statsd_expire: write no less than statsd_flush"), "{told}");
        assert!(lines[2].starts_with("p.toml:4: unknown field `udp`"), "{told}");
    }

    #[test]
    fn the_governor_says_all_that_is_wrong_with_its_values() {
        let text =
            "[store]\nsync = \"interval\"\n[governor]\ninterval = \"1ms\"\nbounds = [60, 50, 85, 95]\nslowdown = 0.5\n";
        let told = |text: &str| told(text, &[]).lines().map(str::to_owned).collect::<Vec<_>>();
        let faults = told(text);
        assert!(faults[0].starts_with("p.toml:4: governor: interval: write 100ms to 1m"), "{faults:?}");
        assert!(faults[1].starts_with("p.toml:5: governor: bounds: write four percentages"), "{faults:?}");
        assert!(faults[2].starts_with("p.toml:6: governor: slowdown: write 1 to 1000"), "{faults:?}");
        let faults = told("[governor]\nmargin = 60\n");
        assert!(faults[0].starts_with("p.toml:2: governor: margin: write 0 or more, and less than"), "{faults:?}");
        for bounds in ["[0, 1, 2, 3]", "[60, 75, 85, 101]", "[60, 60, 85, 95]", "[nan, 75, 85, 95]"] {
            let faults = told(&format!("[governor]\nbounds = {bounds}\n"));
            assert!(faults[0].starts_with("p.toml:2: governor: bounds: "), "{bounds}: {faults:?}");
        }
        for bounds in ["[60, 75, 85]", "60", "[60, 75, 85, 95, 99]"] {
            let faults = told(&format!("[governor]\nbounds = {bounds}\n"));
            assert!(faults.len() == 1 && faults[0].starts_with("p.toml:2: "), "{bounds}: {faults:?}");
        }
        let environment = [("PLIMSOLL__GOVERNOR__BOUNDS", "[1, 2, 3, 4]"), ("PLIMSOLL__GOVERNOR__MARGIN", "0.5")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let spec = Settings::read("p.toml", "", environment).unwrap().governor.spec();
        assert_eq!((spec.bounds, spec.margin), ([1.0, 2.0, 3.0, 4.0], 0.5));
        assert_eq!(Settings::default().governor.spec(), GovernorSpec::default());
    }

    #[test]
    fn values_that_cannot_be_name_their_remedy() {
        let told = told("[store]\nhead = \"1KB\"\n[ingest]\nseries_max = 0\n", &[("PLIMSOLL__NOPE", "1")]);
        assert!(told.contains("p.toml:4: series_max: write at least 1"), "{told}");
        assert!(told.contains("PLIMSOLL__SECTION__KEY") && told.contains("p.toml:2: head: write at least"), "{told}");
    }
}
