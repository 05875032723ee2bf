//! `[[slo]]` as people write it. These structs are its documentation: every key, its unit and its default.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::rules::Severity;

/// One objective, with one of `latency`, `availability`, `throughput`, `threshold` and `sql`.
///
/// ```toml
/// [[slo]]
/// name = "checkout-latency"
/// objective = 99
/// latency = { metric = "http_request_duration_seconds_bucket", below = "250ms" }
/// where = "path = '/checkout'"
/// group_by = ["instance"]
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SloSpec {
    /// Unique in the file.
    pub name: String,
    /// For people.
    pub description: String,
    /// Percent that is to be good, below 100.
    pub objective: Option<f64>,
    /// Over how long, up to now; rolling.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Buckets of time that are counted, in whole seconds. It should be no shorter than the time between samples; no alert is
    /// faster than it.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// Labels: each of their values has an objective and a budget of its own.
    pub group_by: Vec<String>,
    /// An SQL condition over labels, and `value` where samples are counted.
    pub r#where: Option<String>,
    pub latency: Option<LatencySpec>,
    pub availability: Option<AvailabilitySpec>,
    pub throughput: Option<ThroughputSpec>,
    pub threshold: Option<ThresholdSpec>,
    /// A query for `time`, `good` and `total`, and the columns of `group_by`; `$from` and `$to` in it become the bounds.
    pub sql: Option<String>,
    /// When to alert; without it as the workbook says, see [`Rule::defaults`](super::Rule::defaults). `[]` is never.
    pub alerts: Option<Vec<AlertSpec>>,
}

impl Default for SloSpec {
    fn default() -> Self {
        SloSpec {
            name: String::new(),
            description: String::new(),
            objective: None,
            window: Duration::from_secs(30 * 86_400),
            every: Duration::from_secs(60),
            group_by: Vec::new(),
            r#where: None,
            latency: None,
            availability: None,
            throughput: None,
            threshold: None,
            sql: None,
            alerts: None,
        }
    }
}

/// `latency`: samples, or observations of a histogram, that took no longer than a bound.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencySpec {
    /// Samples that are durations; or a histogram's counters with the label `le`, a name that ends with `_bucket`.
    pub metric: String,
    /// A number in the metric's own unit, or a time as in `"200ms"`. Of a histogram it should be a bound that it has; else
    /// the next bound below counts.
    pub below: Option<Bound>,
    /// The metric's unit where its name does not end with it: `s`, `ms`, `us` or `ns`.
    pub unit: Option<String>,
    /// A share, 0 to 1: then each bucket of time counts once, and is good where this quantile of it is within the bound.
    pub quantile: Option<f64>,
}

/// `availability`, one of: `total` with `good` or `errors` (counters), or with `good_where` or `errors_where`; `up`; `metric`
/// with `ok`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AvailabilitySpec {
    /// A counter of all.
    pub total: Option<String>,
    /// A counter of what went well; `total` without it.
    pub good: Option<String>,
    /// An SQL condition over its labels: what of it went well, as in `"status < '500'"`.
    pub good_where: Option<String>,
    /// A counter of what went wrong; `total` without it. One that does not exist has counted nothing yet.
    pub errors: Option<String>,
    /// An SQL condition over its labels: what of it went wrong.
    pub errors_where: Option<String>,
    /// A gauge that is 1 while it is up, and 0 else: its samples are counted.
    pub up: Option<String>,
    /// A metric whose samples are counted,
    pub metric: Option<String>,
    /// and the SQL condition that good ones fulfil, as in `"value < 500"`.
    pub ok: Option<String>,
}

/// `throughput`: buckets of time within which a counter grew by so much a second, all its series together.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThroughputSpec {
    /// A counter.
    pub metric: String,
    /// Growth a second, this or more.
    pub at_least: Option<f64>,
    /// Growth a second, this or less.
    pub at_most: Option<f64>,
}

/// `threshold`: buckets of time over which the mean of a metric's samples is within bounds.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdSpec {
    /// A gauge.
    pub metric: String,
    /// The mean is less.
    pub below: Option<f64>,
    /// The mean is more.
    pub above: Option<f64>,
}

/// One of `alerts`: both windows burn faster than the threshold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSpec {
    pub severity: Severity,
    /// The window that says it is worth it.
    #[serde(with = "humantime_serde")]
    pub long: Duration,
    /// The window that says it still goes on; a twelfth of `long` without it.
    #[serde(with = "humantime_serde", default)]
    pub short: Option<Duration>,
    /// Times the rate at which the budget just lasts the SLO's window;
    pub burn: Option<f64>,
    /// or percent of the budget that is spent in `long` at that rate.
    pub budget: Option<f64>,
}

/// A bound of time: a number in the unit of what is measured, or a time with a unit of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    Number(f64),
    Time(Duration),
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(BoundVisitor)
    }
}

struct BoundVisitor;

impl Visitor<'_> for BoundVisitor {
    type Value = Bound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a time as in \"200ms\"")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Bound, E> {
        Ok(Bound::Number(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bound, E> {
        Ok(Bound::Number(number as f64))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bound, E> {
        Ok(Bound::Number(number as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound, E> {
        let told = || E::custom(format!("`{text}` is no time: write a number, or a time as in \"200ms\""));
        humantime::parse_duration(text).map(Bound::Time).map_err(|_| told())
    }
}
