//! What is written, checked: an [`Slo`] of each [`SloSpec`], or all that is wrong.

use std::fmt;
use std::time::Duration;

use super::indicator::{Indicator, KeyFault, condition_fault};
use super::rules::{MINUTE, Rule};
use super::spec::SloSpec;

/// Names that rows of an SLO have for other things.
const TAKEN: [&str; 4] = ["time", "good", "total", "value"];
/// Decimal places of the share that may fail that an objective can have.
const PLACES: f64 = 1e12;

/// One thing that is wrong with an SLO as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its place among those given, from 0.
    pub place: usize,
    pub slo: String,
    /// The key, or `slo` where it is of none.
    pub key: &'static str,
    /// What is wrong and what to write.
    pub error: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { place, slo, key, error } = self;
        match slo.as_str() {
            "" => write!(f, "slo number {}: {key}: {error}", place + 1),
            name => write!(f, "slo `{name}`: {key}: {error}"),
        }
    }
}

/// An objective: so much of what is counted is to be good, over a window that ends now.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    pub name: String,
    pub description: String,
    /// Percent, below 100.
    pub objective: f64,
    /// Nanoseconds.
    pub window: i64,
    /// The buckets of time that are counted; nanoseconds.
    pub every: i64,
    /// Labels of whose values each has a budget of its own.
    pub group_by: Vec<String>,
    pub rules: Vec<Rule>,
    pub(super) filter: Option<String>,
    pub(super) indicator: Indicator,
}

impl Slo {
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn from_specs(specs: &[SloSpec]) -> Result<Vec<Slo>, Vec<Fault>> {
        let (mut slos, mut faults) = (Vec::new(), Vec::new());
        for (place, spec) in specs.iter().enumerate() {
            let mut found = faults_of(spec);
            if specs[..place].iter().any(|other| other.name == spec.name && !spec.name.is_empty()) {
                found.push(("name", "another SLO has it: choose one of its own".to_owned()));
            }
            match (Indicator::of(spec), found.is_empty()) {
                (Ok(indicator), true) => slos.push(Slo::of(spec, indicator)),
                (Ok(_), false) => {}
                (Err(more), _) => found.extend(more),
            }
            let told = |(key, error)| Fault { place, slo: spec.name.clone(), key, error };
            faults.extend(found.into_iter().map(told));
        }
        if faults.is_empty() { Ok(slos) } else { Err(faults) }
    }

    /// Of a spec without faults.
    fn of(spec: &SloSpec, indicator: Indicator) -> Slo {
        let window = nanos(spec.window);
        let rules = spec.alerts.as_ref().map_or_else(
            || Rule::defaults(window),
            |alerts| alerts.iter().filter_map(|alert| Rule::written(alert, window).ok()).collect(),
        );
        Slo {
            name: spec.name.clone(),
            description: spec.description.clone(),
            objective: spec.objective.unwrap_or_default(),
            window,
            every: nanos(spec.every),
            group_by: spec.group_by.clone(),
            rules,
            filter: spec.r#where.clone(),
            indicator,
        }
    }

    /// The share that may fail: 0.001 of 99.9 %.
    pub fn allowed(&self) -> f64 {
        // What the subtraction leaves behind the last decimal would make a budget that is just spent too small.
        ((100.0 - self.objective) / 100.0 * PLACES).round() / PLACES
    }
}

fn nanos(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

fn faults_of(spec: &SloSpec) -> Vec<KeyFault> {
    let seconds = |length: Duration| length.subsec_nanos() == 0 && !length.is_zero();
    let (window, every) = (nanos(spec.window), nanos(spec.every));
    let objective = spec.objective.is_some_and(|percent| percent > 0.0 && percent <= 99.999_999);
    let checks = [
        (spec.name.trim().is_empty(), "name", "write one of its own, as in name = \"checkout-latency\""),
        (
            !objective,
            "objective",
            "write percent over 0 and below 100 (which leaves no budget), as in objective = 99.9",
        ),
        (window < 10 * MINUTE, "window", "write at least 10m, as in window = \"30d\""),
        (window > 3660 * super::rules::DAY, "window", "write ten years at most, as in window = \"30d\""),
        (!seconds(spec.every), "every", "write whole seconds, as in every = \"1m\""),
        (every > window / 2, "every", "write half the window or less, as in every = \"1m\""),
    ];
    let mut faults: Vec<KeyFault> =
        checks.into_iter().filter(|(is, ..)| *is).map(|(_, key, told)| (key, told.to_owned())).collect();
    faults.extend(spec.r#where.as_deref().and_then(condition_fault).map(|told| ("where", told)));
    faults.extend(spec.group_by.iter().filter_map(|label| group_fault(label, &spec.group_by)));
    for alert in spec.alerts.iter().flatten() {
        let found = Rule::written(alert, window).err().unwrap_or_default();
        faults.extend(found.into_iter().map(|(key, told)| (key, format!("in alerts: {told}"))));
    }
    faults
}

fn group_fault(label: &str, all: &[String]) -> Option<KeyFault> {
    if label.trim().is_empty() || TAKEN.contains(&label) {
        return Some((
            "group_by",
            format!("`{label}` cannot be grouped by: write labels, as in group_by = [\"service\"]"),
        ));
    }
    let is_twice = all.iter().filter(|other| *other == label).count() > 1;
    is_twice.then(|| ("group_by", format!("`{label}` is there twice: write it once")))
}
