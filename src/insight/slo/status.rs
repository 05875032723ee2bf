//! How an SLO stands at a moment.

use super::rules::{DAY, HOUR, MINUTE, Severity};
use crate::model::Timestamp;

/// The windows over which burn rates are told, in nanoseconds, as their columns are called: `burn_5m` to `burn_3d`.
pub const BURN_WINDOWS: [(&str, i64); 7] = [
    ("5m", 5 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", HOUR),
    ("2h", 2 * HOUR),
    ("6h", 6 * HOUR),
    ("1d", DAY),
    ("3d", 3 * DAY),
];

/// How fast the budget was used over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burn {
    /// Nanoseconds.
    pub length: i64,
    /// Times the rate at which the budget just lasts: the share that went wrong over the share that may. `None` where nothing
    /// was asked, or nothing is known.
    pub rate: Option<f64>,
}

/// How an SLO stands at a moment, by the window that ends there.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub at: Timestamp,
    pub good: f64,
    pub total: f64,
    /// The indicator: good of total, 0 to 1; `None` where nothing was asked, or nothing is known.
    pub sli: Option<f64>,
    /// How many of the total in the window may go wrong.
    pub budget: f64,
    /// How many did.
    pub spent: f64,
    /// Share of the budget that is left: 1 where nothing went wrong, 0 where just what may, below where more; `None` as of the
    /// indicator.
    pub remaining: Option<f64>,
    /// By [`BURN_WINDOWS`].
    pub burns: [Burn; BURN_WINDOWS.len()],
    /// The most urgent rule that alerts.
    pub alert: Option<Severity>,
    /// Its place in [`Slo::rules`](super::Slo::rules).
    pub rule: Option<usize>,
    /// Where the budget is spent, since when it has been; else when it will be at the rate of the last hour, if that is within
    /// one window.
    pub exhausted_at: Option<Timestamp>,
    /// Share of the window of which anything is known, 0 to 1.
    pub data_share: f64,
}

/// What a sum of many numbers may be off by, as a share of a budget.
const ROUNDING: f64 = 1e-9;

impl Status {
    /// Whether more went wrong than may: the objective is missed.
    pub fn is_violated(&self) -> bool {
        is_spent(self.remaining)
    }

    /// The burn rate over one of [`BURN_WINDOWS`], by name.
    pub fn burn(&self, name: &str) -> Option<f64> {
        let place = BURN_WINDOWS.iter().position(|(window, _)| *window == name)?;
        self.burns[place].rate
    }
}

pub(super) fn is_spent(remaining: Option<f64>) -> bool {
    remaining.is_some_and(|share| share < -ROUNDING)
}
