//! Alerts as stretches of time: when each began, and when it was over.

use super::rules::Severity;
use super::status::Status;
use crate::model::Timestamp;

/// A stretch of time over which one severity was the most urgent that alerted.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    pub severity: Severity,
    /// The first moment at which it did.
    pub since: Timestamp,
    /// The first at which it did no more; `None` where it still does.
    pub until: Option<Timestamp>,
    /// Share of the budget that was left at its beginning and at its last moment.
    pub remaining: (Option<f64>, Option<f64>),
}

/// Of states in the order of time, as [`History::over`](super::History::over) gives them.
pub fn episodes(states: impl IntoIterator<Item = Status>) -> Vec<Episode> {
    let mut found: Vec<Episode> = Vec::new();
    for state in states {
        let open = found.last_mut().filter(|episode| episode.until.is_none());
        match (open, state.alert) {
            (Some(episode), Some(severity)) if episode.severity == severity => episode.remaining.1 = state.remaining,
            (open, alert) => {
                if let Some(episode) = open {
                    episode.until = Some(state.at);
                }
                let remaining = (state.remaining, state.remaining);
                found.extend(alert.map(|severity| Episode { severity, since: state.at, until: None, remaining }));
            }
        }
    }
    found
}
