//! A source as it is written in the settings: `[[sources]]`.

use std::time::Duration;

use serde::Deserialize;

use super::{Planned, Priority, SourceSpec};
use crate::ingest::exec::{ExecSource, ExecSpec};
use crate::ingest::json::{JsonSource, JsonSpec};
use crate::ingest::postgres::{PostgresSource, PostgresSpec};
use crate::ingest::probe::{HttpSource, HttpSpec};
use crate::ingest::redis::{RedisSource, RedisSpec};
use crate::ingest::scrape::{PrometheusSpec, label_fault};
use crate::ingest::system::{SystemSource, SystemSpec};
use crate::world::World;

/// One `[[sources]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSource {
    /// Unique: names it in budgets, tables and metrics.
    pub id: String,
    /// For people; the id without it.
    #[serde(default)]
    pub name: Option<String>,
    /// `critical`, `high`, `medium` or `low`; without it as its kind usually is.
    #[serde(default)]
    pub priority: Option<Priority>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How often it is asked; without it as its kind usually is.
    #[serde(default, with = "humantime_serde")]
    pub interval: Option<Duration>,
    /// How long an answer may take, shorter than `interval`; without it half of that, at most ten seconds.
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
    /// Labels for all its series that have not the label already.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// What it asks: `from.system = {}`.
    pub from: From,
}

fn yes() -> bool {
    true
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum From {
    Prometheus(Box<PrometheusSpec>),
    System(SystemSpec),
    Http(HttpSpec),
    Json(JsonSpec),
    Exec(ExecSpec),
    Postgres(PostgresSpec),
    Redis(RedisSpec),
}

/// Shortest interval of a source.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

impl From {
    /// What it is called in settings, tables and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            From::Prometheus(_) => "prometheus",
            From::System(_) => "system",
            From::Http(_) => "http",
            From::Json(_) => "json",
            From::Exec(_) => "exec",
            From::Postgres(_) => "postgres",
            From::Redis(_) => "redis",
        }
    }

    /// Priority and interval of its kind.
    const fn usual(&self) -> (Priority, Duration) {
        match self {
            From::Prometheus(_) => (Priority::Medium, Duration::from_secs(60)),
            From::System(_) => (Priority::Critical, Duration::from_secs(30)),
            From::Http(_) => (Priority::Medium, Duration::from_secs(30)),
            From::Json(_) | From::Exec(_) => (Priority::Medium, Duration::from_secs(60)),
            From::Postgres(_) | From::Redis(_) => (Priority::High, Duration::from_secs(60)),
        }
    }

    /// All that is wrong with its values: the key, and what to write.
    fn faults(&self, timeout: Duration) -> Vec<(&'static str, String)> {
        match self {
            From::Prometheus(spec) => spec.faults(),
            From::System(_) => Vec::new(),
            From::Http(spec) => spec.faults(),
            From::Json(spec) => spec.faults(),
            From::Exec(spec) => spec.faults(),
            From::Postgres(postgres) => postgres.faults(),
            From::Redis(redis) => redis.faults(timeout),
        }
    }

    /// The sources it makes, one for each place it asks.
    fn plan(&self, spec: &SourceSpec, world: &World) -> Vec<Planned> {
        let one = |source| vec![Planned { spec: spec.clone(), source }];
        match self {
            From::Prometheus(written) => written.plan(spec, world),
            From::System(_) => one(Box::<SystemSource>::default()),
            From::Http(http) => probes(http, spec, world),
            From::Json(json) => {
                let source = JsonSource::new(json, &spec.id, spec.timeout, world);
                vec![Planned { spec: with_label(spec, "source", &spec.id), source: Box::new(source) }]
            }
            From::Exec(exec) => {
                let source = ExecSource::new(exec, &spec.id);
                vec![Planned { spec: with_label(spec, "source", &spec.id), source: Box::new(source) }]
            }
            From::Postgres(postgres) => {
                let source = PostgresSource::new(postgres.clone(), world.clone(), spec.timeout);
                vec![Planned { spec: with_label(spec, "instance", &postgres.instance()), source: Box::new(source) }]
            }
            From::Redis(redis) => {
                let source = RedisSource::new(redis.clone(), world.clone(), spec.timeout);
                vec![Planned { spec: with_label(spec, "instance", &redis.instance()), source: Box::new(source) }]
            }
        }
    }
}

/// A source for each address, so that one that is down is no trouble of the others.
fn probes(http: &HttpSpec, spec: &SourceSpec, world: &World) -> Vec<Planned> {
    let targets = http.targets();
    let is_one = targets.len() == 1;
    let planned = |(url, target): (&str, String)| {
        let id = if is_one { spec.id.clone() } else { format!("{}/{target}", spec.id) };
        let source = Box::new(HttpSource::new(http, url, target, spec.timeout, world));
        Planned { spec: SourceSpec { id, ..spec.clone() }, source }
    };
    targets.into_iter().map(planned).collect()
}

/// The same with a label, unless it is written, so that series of two servers or sources are apart.
fn with_label(spec: &SourceSpec, label: &str, value: &str) -> SourceSpec {
    let mut spec = spec.clone();
    if !spec.labels.iter().any(|(name, _)| name == label) {
        spec.labels.push((label.to_owned(), value.to_owned()));
    }
    spec
}

impl WrittenSource {
    /// One that asks as its kind usually is asked.
    pub fn new(id: &str, from: From) -> Self {
        WrittenSource {
            id: id.to_owned(),
            name: None,
            priority: None,
            enabled: true,
            interval: None,
            timeout: None,
            labels: std::collections::BTreeMap::new(),
            from,
        }
    }

    /// What every source has.
    pub fn spec(&self) -> SourceSpec {
        let (priority, interval) = self.from.usual();
        let interval = self.interval.unwrap_or(interval);
        SourceSpec {
            id: self.id.clone(),
            name: self.name.clone().unwrap_or_else(|| self.id.clone()),
            kind: self.from.kind(),
            priority: self.priority.unwrap_or(priority),
            enabled: self.enabled,
            interval,
            timeout: self.timeout.unwrap_or_else(|| SourceSpec::usual_timeout(interval)),
            labels: self.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// All that is wrong with it: the key, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let spec = self.spec();
        let mut faults = Vec::new();
        if self.id.trim().is_empty() {
            faults.push(("id", "write a name that is its own, as in id = \"db\"".to_owned()));
        }
        if spec.interval < INTERVAL_MIN {
            faults.push(("interval", "write at least 100ms, as in interval = \"30s\"".to_owned()));
        }
        if spec.timeout >= spec.interval || spec.timeout.is_zero() {
            let interval = humantime::format_duration(spec.interval);
            faults.push(("timeout", format!("write one shorter than the interval of {interval}")));
        }
        faults.extend(self.labels.keys().filter_map(|name| label_fault(name)));
        faults.extend(self.from.faults(spec.timeout));
        faults
    }

    /// The sources it makes.
    pub fn plan(&self, world: &World) -> Vec<Planned> {
        self.from.plan(&self.spec(), world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> WrittenSource {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn series_of_two_sources_are_apart() {
        let labels = |from: &str, labels: &str| {
            let planned = written(&format!("id = 'a'\nlabels = {{ {labels} }}\nfrom.{from}")).plan(&World::real());
            planned[0].spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(labels("json = { url = 'http://h/' }", "x = 'y'"), ["x=y", "source=a"]);
        assert_eq!(labels("exec = { command = ['c'] }", "source = 'b'"), ["source=b"]);
        assert_eq!(labels("redis = { url = 'redis://h' }", ""), ["instance=h:6379"]);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let source = written(
            "id = ' '\nlabels = { 'a-b' = 'c' }\nfrom.http = { url = 'x', method = 'get', headers = { 'a b' = '' } }",
        );
        let keys: Vec<&str> = source.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["id", "labels", "url", "method", "headers"]);
    }

    #[test]
    fn passwords_in_addresses_are_in_no_name_and_in_no_fault() {
        let two = "id = 'a'\nfrom.http = { urls = ['http://bob:S3@h/', 'http://eve:S3@h/', 'http://h/x'] }";
        let planned = written(two).plan(&World::real());
        let ids: Vec<&str> = planned.iter().map(|planned| planned.spec.id.as_str()).collect();
        assert_eq!(ids, ["a/http://h/", "a/http://h/#2", "a/http://h/x"]);
        for from in [
            "http = { urls = ['http://bob:S3@h/', 'http://bob:S3@h/'] }",
            "http = { url = 'http://bob:S3@h:x/' }",
            "http = { url = 'bob:S3@h' }",
            "json = { url = 'ftp://bob:S3@h/' }",
            "json = { url = 'http://bob:S3/S3@h/' }",
            "prometheus = { targets = ['bob:S3@h:1'] }",
            "postgres = { url = 'postgres://bob:S3@S3@h/d' }",
            "postgres = { url = 'bob:S3@h/d?x=1' }",
        ] {
            let faults = written(&format!("id = 'a'\nfrom.{from}")).faults();
            assert!(!faults.is_empty() && !format!("{faults:?}").contains("S3"), "{from}: {faults:?}");
        }
    }
}
