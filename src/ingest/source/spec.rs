//! What every source has, whatever it asks.

use std::time::Duration;

use crate::model::Priority;

/// How and when a source is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// Unique; names it in budgets, tables and metrics.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it asks: `system`, `postgres`, …
    pub kind: &'static str,
    pub priority: Priority,
    pub enabled: bool,
    pub interval: Duration,
    /// How long a pass may take; shorter than `interval`.
    pub timeout: Duration,
    /// Labels of all its series that have not the label already.
    pub labels: Vec<(String, String)>,
}

impl SourceSpec {
    /// How long a pass may take where nobody says: half the interval, at most ten seconds.
    pub fn usual_timeout(interval: Duration) -> Duration {
        (interval / 2).min(Duration::from_secs(10))
    }
}
