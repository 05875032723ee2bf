//! What was measured: values by metric, or what is left of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::compare::{Better, Centre, Stated};
use crate::stats::{MAD_TO_SIGMA, mad, median};

/// Standard error of a median in those of a mean, of normally distributed values: the root of pi / 2.
const MEDIAN_ERROR: f64 = 1.253_314_137_315_5;
/// Words in the name of a metric of which more is better, and parts of such names.
const HIGHER_WORDS: [&str; 8] = ["throughput", "rps", "qps", "ops", "hits", "reqs", "iterations", "checks"];
const HIGHER_PARTS: [&str; 4] = ["per_sec", "per second", "hit_ratio", "hit_rate"];
/// What counts things that should not happen has one of these in its name.
const BAD: [&str; 5] = ["error", "fail", "dropped", "miss", "timeout"];

/// One metric.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// As in ns, ms, s, B; empty where nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    #[serde(default)]
    pub better: Better,
    #[serde(default)]
    pub centre: Centre,
    /// One value a run, in the order of the runs, all finite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
    /// What is known without samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Stated>,
}

impl Measured {
    /// What its samples come to, or what was stated.
    pub fn stated(&self) -> Option<Stated> {
        let count = self.samples.len();
        let (Some(middle), Some(spread)) = (median(&self.samples), mad(&self.samples)) else { return self.stated };
        let root = (count as f64).sqrt();
        let (centre, error) = match self.centre {
            Centre::Median => (middle, MEDIAN_ERROR * MAD_TO_SIGMA * spread / root),
            Centre::Mean => {
                let mean = self.samples.iter().sum::<f64>() / count as f64;
                let squares: f64 = self.samples.iter().map(|value| (value - mean).powi(2)).sum();
                (mean, (squares / (count.max(2) - 1) as f64).sqrt() / root)
            }
        };
        Some(Stated { centre, error: (count > 1).then_some(error), count: Some(count) })
    }
}

/// Metrics by name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Results {
    pub metrics: BTreeMap<String, Measured>,
}

impl Results {
    /// Adds what another run measured: samples follow those that are there.
    ///
    /// # Errors
    /// Where the same metric has another unit: both units.
    pub(super) fn add(&mut self, name: String, measured: Measured) -> Result<(), String> {
        let Some(there) = self.metrics.get_mut(&name) else {
            self.metrics.insert(name, measured);
            return Ok(());
        };
        if there.unit != measured.unit {
            return Err(format!(
                "metric `{name}` is in `{}` here and in `{}` before: give both the same unit",
                measured.unit, there.unit
            ));
        }
        there.samples.extend(measured.samples);
        there.stated = measured.stated.or(there.stated);
        Ok(())
    }
}

/// Which way a metric ought to go, from its name, where nobody says: down, unless it counts what gets done.
pub(super) fn better_of(name: &str) -> Better {
    let name = name.to_lowercase();
    let mut words = name.split(|letter: char| !letter.is_alphanumeric());
    let is_done = words.any(|word| HIGHER_WORDS.contains(&word))
        || HIGHER_PARTS.iter().any(|part| name.contains(part))
        || name.ends_with("/s");
    if is_done && !is_bad(&name) { Better::Higher } else { Better::Lower }
}

/// That a name is of something that should not happen.
pub(super) fn is_bad(name: &str) -> bool {
    BAD.iter().any(|part| name.to_lowercase().contains(part))
}
