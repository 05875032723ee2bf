//! Results as they are kept: one JSON file, with a version. Benchmarks are saved in the same form.
//!
//! ```text
//! {"plimsoll_results": 1, "name": "v1.2", "time": "2026-01-31T12:00:00Z", "labels": {"commit": "e38220a"},
//!  "metrics": {"db/query": {"unit": "ns", "better": "lower", "centre": "median", "samples": [133.5, 134.1]}}}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Measured, Results};

/// Of the form; files of a later one are refused.
pub const BASELINE_VERSION: u32 = 1;

/// Results with a name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// [`BASELINE_VERSION`] of what wrote it.
    #[serde(rename = "plimsoll_results")]
    pub version: u32,
    pub name: String,
    /// When it was made: RFC 3339.
    pub time: String,
    /// As the commit, the host.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, Measured>,
}

impl Baseline {
    pub fn new(
        name: impl Into<String>,
        time: impl Into<String>,
        labels: BTreeMap<String, String>,
        results: Results,
    ) -> Baseline {
        Baseline { version: BASELINE_VERSION, name: name.into(), time: time.into(), labels, metrics: results.metrics }
    }

    /// Its text, which ends with a line.
    ///
    /// # Errors
    /// None of what readers make: numbers are finite.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// # Errors
    /// Line and column of what is no baseline, or that a later version wrote it.
    pub fn from_json(bytes: &[u8]) -> Result<Baseline, String> {
        let baseline: Baseline = serde_json::from_slice(bytes).map_err(|error| {
            format!("{error}: this is no baseline; save one with `plimsoll regress baseline NAME --input FILES`")
        })?;
        match baseline.version {
            ..=BASELINE_VERSION => Ok(baseline),
            later => Err(format!(
                "`plimsoll_results` is {later}, and {BASELINE_VERSION} is the latest known: update plimsoll, or save it again"
            )),
        }
    }

    pub fn results(&self) -> Results {
        Results { metrics: self.metrics.clone() }
    }
}
