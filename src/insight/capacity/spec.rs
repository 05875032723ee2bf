//! `[capacity]` of the settings, as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::cost::Price;
use super::resource::{Aggregate, Autoscale, Replicas, Resource};

const DAY: Duration = Duration::from_secs(86_400);
/// Longest that an autoscaler of Kubernetes may wait.
const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// What capacity is planned by. Resources that are not written have their defaults; of one that is, the keys left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacitySpec {
    /// How far ahead is planned.
    #[serde(with = "humantime_serde")]
    pub horizon: Duration,
    /// How far back is looked.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
    /// Room above what a resource needs in the size that is told for it, in percent; the autoscaler of Kubernetes for
    /// sizes has 15.
    pub headroom: f64,
    /// Share of the time, in percent, that use may be above `limit` under the rules that are found for an autoscaler.
    pub over_limit: f64,
    /// From a new replica's start until it carries load.
    #[serde(with = "humantime_serde")]
    pub startup: Duration,
    /// Of all prices, as in `EUR`.
    pub currency: String,
    /// `[capacity.resources.NAME]`, one each.
    pub resources: BTreeMap<String, ResourceSpec>,
}

impl Default for CapacitySpec {
    fn default() -> Self {
        CapacitySpec {
            horizon: 30 * DAY,
            history: 90 * DAY,
            headroom: 15.0,
            over_limit: 0.1,
            startup: Duration::from_secs(60),
            currency: "USD".to_owned(),
            resources: BTreeMap::new(),
        }
    }
}

/// `[capacity.resources.NAME]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceSpec {
    /// Metric that says how much is used; `%` in it stands for any letters. A counter counts by its growth a second.
    pub metric: Option<String>,
    /// Which of its series, as in `host=a,region=eu`.
    pub r#where: Option<String>,
    /// What several series are together: `each` for itself, their `sum` or their `mean`.
    pub aggregate: Option<Aggregate>,
    /// Percent of the capacity at which trouble begins.
    pub limit: Option<f64>,
    /// Percent from which more is needed.
    pub scale_up: Option<f64>,
    /// Percent up to which less would do.
    pub scale_down: Option<f64>,
    /// Percent that replicas are to run at; `scale_up` without it.
    pub target: Option<f64>,
    /// Unit of the values, as in `bytes`.
    pub unit: Option<String>,
    /// What one replica (or the machine, the disk) can do, in that unit; without it the values are percents.
    pub capacity: Option<f64>,
    /// How many carry the load; 1 without it.
    pub replicas: Option<u32>,
    /// A metric that says how many, instead.
    pub replicas_metric: Option<String>,
    /// Fewest that an autoscaler may leave; 1 without it.
    pub replicas_min: Option<u32>,
    /// Most that there may be; 100 without it.
    pub replicas_max: Option<u32>,
    /// By which metric an autoscaler sees it: `cpu`, `memory`, `pods`, `external` or `never`.
    pub autoscale: Option<Autoscale>,
    /// How long an autoscaler waits before it adds replicas; found in the history without it.
    #[serde(with = "humantime_serde")]
    pub scale_up_wait: Option<Duration>,
    /// How long before it removes some; found in the history without it.
    #[serde(with = "humantime_serde")]
    pub scale_down_wait: Option<Duration>,
    pub price: PriceSpec,
}

/// `[capacity.resources.NAME.price]`
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSpec {
    /// Of one unit (core, GiB) for an hour.
    pub unit_hour: f64,
    /// Units that one replica has; `capacity` without it, or 1.
    pub units: Option<f64>,
    /// Of one replica for an hour, beside its units.
    pub replica_hour: f64,
}

/// A value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityFault {
    /// The resource it is of; `None` in `[capacity]` itself.
    pub resource: Option<String>,
    pub key: &'static str,
    /// What to write.
    pub remedy: String,
}

impl std::fmt::Display for CapacityFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.resource {
            Some(resource) => write!(f, "capacity: {resource}: {}: {}", self.key, self.remedy),
            None => write!(f, "capacity: {}: {}", self.key, self.remedy),
        }
    }
}

/// What a resource has that is not written.
struct Known {
    name: &'static str,
    metric: &'static str,
    aggregate: Aggregate,
    unit: &'static str,
    scale: (f64, f64),
    capacity: Option<f64>,
    autoscale: Autoscale,
}

const fn known(name: &'static str, metric: &'static str, scale: (f64, f64), autoscale: Autoscale) -> Known {
    Known { name, metric, aggregate: Aggregate::Each, unit: "percent", scale, capacity: None, autoscale }
}

/// Resources that need not be written.
const KNOWN: [Known; 4] = [
    known("cpu", "system_cpu_usage_percent", (70.0, 30.0), Autoscale::Cpu),
    known("memory", "system_memory_used_percent", (80.0, 40.0), Autoscale::Memory),
    // A replica is taken to bear the 1,000 requests a second of the objective for throughput.
    Known {
        aggregate: Aggregate::Sum,
        unit: "requests/s",
        capacity: Some(1000.0),
        ..known("requests", "http_requests_total", (80.0, 20.0), Autoscale::Pods)
    },
    known("disk", "system_filesystem_used_percent", (80.0, 40.0), Autoscale::Never),
];
/// What any other has.
const OTHER: Known = known("", "", (80.0, 40.0), Autoscale::Never);
const LIMIT: f64 = 90.0;
const REPLICAS_MAX: u32 = 100;

impl CapacitySpec {
    /// All resources, those written and those known, by name.
    pub fn resources(&self) -> Vec<Resource> {
        let absent = KNOWN.iter().filter(|known| !self.resources.contains_key(known.name));
        let mut all: Vec<Resource> = absent.map(|known| ResourceSpec::default().resource(known.name)).collect();
        all.extend(self.resources.iter().map(|(name, spec)| spec.resource(name)));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All that is wrong with the values.
    pub fn faults(&self) -> Vec<CapacityFault> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, key, remedy: &str| {
            if !ok {
                faults.push(CapacityFault { resource: None, key, remedy: remedy.to_owned() });
            }
        };
        let hour = Duration::from_secs(3600);
        check(self.horizon >= hour, "horizon", "write at least 1h, as in horizon = \"30d\"");
        check(self.history >= hour, "history", "write at least 1h, as in history = \"90d\"");
        check((0.0..=400.0).contains(&self.headroom), "headroom", "write 0 to 400, as in headroom = 15");
        check((0.0..=50.0).contains(&self.over_limit), "over_limit", "write 0 to 50, as in over_limit = 0.1");
        check(self.startup <= hour, "startup", "write at most 1h, as in startup = \"60s\"");
        faults.extend(self.resources.iter().flat_map(|(name, spec)| spec.faults(name)));
        faults
    }
}

impl ResourceSpec {
    pub fn resource(&self, name: &str) -> Resource {
        let known = KNOWN.iter().find(|known| known.name == name).unwrap_or(&OTHER);
        // Another metric is in another unit, of which nothing is known.
        let capacity = self.capacity.or_else(|| if self.metric.is_none() { known.capacity } else { None });
        let unit = match (&self.metric, capacity) {
            (None, _) => known.unit,
            (Some(_), None) => "percent",
            (Some(_), Some(_)) => "",
        };
        let scale_up = self.scale_up.unwrap_or(known.scale.0);
        let seconds = |wait: Option<Duration>| wait.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX));
        Resource {
            name: name.to_owned(),
            metric: self.metric.clone().unwrap_or_else(|| known.metric.to_owned()),
            labels: self.r#where.clone().unwrap_or_default(),
            aggregate: self.aggregate.unwrap_or(known.aggregate),
            unit: self.unit.clone().unwrap_or_else(|| unit.to_owned()),
            limit: self.limit.unwrap_or(LIMIT),
            scale_up,
            scale_down: self.scale_down.unwrap_or(known.scale.1),
            target: self.target.unwrap_or(scale_up),
            capacity,
            replicas: match &self.replicas_metric {
                Some(metric) => Replicas::Metric(metric.clone()),
                None => Replicas::Number(self.replicas.unwrap_or(1)),
            },
            replicas_min: self.replicas_min.unwrap_or(1),
            replicas_max: self.replicas_max.unwrap_or(REPLICAS_MAX),
            autoscale: self.autoscale.unwrap_or(known.autoscale),
            price: Price {
                unit_hour: self.price.unit_hour,
                units: self.price.units.or(capacity).unwrap_or(1.0),
                replica_hour: self.price.replica_hour,
            },
            windows: (seconds(self.scale_up_wait), seconds(self.scale_down_wait)),
        }
    }

    fn faults(&self, name: &str) -> Vec<CapacityFault> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, key, remedy: &str| {
            if !ok {
                faults.push(CapacityFault { resource: Some(name.to_owned()), key, remedy: remedy.to_owned() });
            }
        };
        let used = self.resource(name);
        check(!name.trim().is_empty(), "resources", "write a name, as in [capacity.resources.cpu]");
        check(!used.metric.is_empty(), "metric", "write what says how much is used, as in metric = \"queue_length\"");
        check(used.limit > 0.0 && used.limit <= 1000.0, "limit", "write a percentage above 0, as in limit = 90");
        let apart = 0.0 <= used.scale_down && used.scale_down < used.scale_up;
        check(apart, "scale_down", "write 0 or more, and less than scale_up, as in scale_down = 30");
        let below = used.scale_up <= used.limit;
        check(below, "scale_up", "write no more than limit, as in scale_up = 70");
        let between = used.scale_down < used.target && used.target <= used.limit;
        check(between, "target", "write more than scale_down and no more than limit, as in target = 70");
        let positive = |value: Option<f64>| value.is_none_or(|value| value > 0.0 && value.is_finite());
        check(positive(self.capacity), "capacity", "write what one replica can do, above 0, as in capacity = 1000");
        let once = self.replicas.is_none() || self.replicas_metric.is_none();
        check(once, "replicas_metric", "write either replicas or replicas_metric");
        check(self.replicas != Some(0), "replicas", "write at least 1, as in replicas = 3");
        check(used.replicas_min >= 1, "replicas_min", "write at least 1, as in replicas_min = 2");
        let order = used.replicas_min <= used.replicas_max;
        check(order, "replicas_max", "write no less than replicas_min, as in replicas_max = 20");
        for (key, wait) in [("scale_up_wait", self.scale_up_wait), ("scale_down_wait", self.scale_down_wait)] {
            check(wait.is_none_or(|wait| wait <= WINDOW_MAX), key, "write at most 1h, as in \"5m\"");
        }
        let price = |value: f64| value >= 0.0 && value.is_finite();
        check(price(self.price.unit_hour), "unit_hour", "write 0 or more, as in unit_hour = 0.04");
        check(price(self.price.replica_hour), "replica_hour", "write 0 or more, as in replica_hour = 0.1");
        check(positive(self.price.units), "units", "write how many a replica has, above 0, as in units = 4");
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> CapacitySpec {
        toml::from_str(text).unwrap()
    }

    fn named(spec: &CapacitySpec, name: &str) -> Resource {
        spec.resources().into_iter().find(|resource| resource.name == name).unwrap()
    }

    #[test]
    fn defaults_are_those_people_came_with() {
        let spec = read("");
        assert_eq!((spec.horizon, spec.history), (30 * DAY, 90 * DAY));
        let table = [
            ("cpu", 70.0, 30.0, Autoscale::Cpu),
            ("memory", 80.0, 40.0, Autoscale::Memory),
            ("requests", 80.0, 20.0, Autoscale::Pods),
            ("disk", 80.0, 40.0, Autoscale::Never),
        ];
        for (name, up, down, autoscale) in table {
            let found = named(&spec, name);
            assert_eq!((found.scale_up, found.scale_down, found.target, found.limit), (up, down, up, 90.0), "{name}");
            assert_eq!(found.autoscale, autoscale, "{name}");
        }
        assert_eq!(spec.faults(), []);
    }

    #[test]
    fn what_is_written_lies_over_the_default() {
        let spec = read(
            r#"
            history = "28d"
            [resources.cpu]
            scale_up = 60
            replicas = 8
            scale_down_wait = "10m"
            price = { unit_hour = 0.04, units = 4 }
            [resources.queue]
            metric = "queue_length"
            where = "queue=mail"
            capacity = 500
            unit = "letters"
            autoscale = "external"
            [resources.requests]
            metric = "rps"
            "#,
        );
        assert_eq!(spec.faults(), []);
        let (cpu, queue) = (named(&spec, "cpu"), named(&spec, "queue"));
        assert_eq!((cpu.scale_up, cpu.scale_down, cpu.target), (60.0, 30.0, 60.0));
        assert_eq!((cpu.replicas, cpu.windows), (Replicas::Number(8), (None, Some(600))));
        assert_eq!((cpu.price.unit_hour, cpu.price.units), (0.04, 4.0));
        assert_eq!(
            (queue.capacity, queue.unit.as_str(), queue.labels.as_str()),
            (Some(500.0), "letters", "queue=mail")
        );
        let requests = named(&spec, "requests");
        assert_eq!(
            (requests.capacity, requests.unit.as_str()),
            (None, "percent"),
            "of another metric nothing is known"
        );
        assert_eq!(spec.resources().len(), 5);
    }

    #[test]
    fn every_fault_names_resource_key_and_remedy() {
        let text = r#"
            horizon = "1s"
            headroom = -1
            [resources.cpu]
            scale_up = 20
            capacity = 0
            replicas = 0
            scale_down_wait = "2h"
            [resources.mine]
            limit = 0
            replicas_min = 9
            replicas_max = 3
            price = { unit_hour = nan }
            "#;
        let told: Vec<String> = read(text).faults().iter().map(ToString::to_string).collect();
        let starts = [
            "capacity: horizon: write at least 1h",
            "capacity: headroom: write 0 to 400",
            "capacity: cpu: scale_down: write 0 or more, and less than scale_up",
            "capacity: cpu: target: write more than scale_down",
            "capacity: cpu: capacity: write what one replica can do",
            "capacity: cpu: replicas: write at least 1",
            "capacity: cpu: scale_down_wait: write at most 1h",
            "capacity: mine: metric: write what says how much is used",
            "capacity: mine: limit: write a percentage above 0",
            "capacity: mine: scale_up: write no more than limit",
            "capacity: mine: target: write more than scale_down",
            "capacity: mine: replicas_max: write no less than replicas_min",
            "capacity: mine: unit_hour: write 0 or more",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(start), "{told}");
        }
        for text in ["horizont = 1", "[resources.cpu]\nscale = 1", "[resources.cpu.price]\nhour = 1"] {
            let told = toml::from_str::<CapacitySpec>(text).unwrap_err().to_string();
            assert!(told.contains("unknown field"), "{told}");
        }
    }
}
