//! When an error budget burns fast enough to tell somebody: several burn rates, each over a long and a short window.
//!
//! The long window says that a share of the budget worth telling of is gone, the short one that it still goes on, so that the
//! alert ends soon after the trouble does.

use serde::Deserialize;

use super::spec::AlertSpec;

pub(super) const MINUTE: i64 = 60_000_000_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// The short window is this part of the long one, after the workbook.
const SHORT_PART: i64 = 12;
/// Share of the budget and the long window in which it is gone: of a window of 30 days burn rates of 14.4, 6, 3 and 1. The
/// first, second and last are the workbook's; the third, a ticket within a day, is what Sloth and others have beside them.
const DEFAULTS: [(Severity, f64, i64); 4] = [
    (Severity::Page, 0.02, HOUR),
    (Severity::Page, 0.05, 6 * HOUR),
    (Severity::Ticket, 0.10, DAY),
    (Severity::Ticket, 0.10, 3 * DAY),
];

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody is to look at it in the days to come.
    Ticket,
    /// Somebody is to look at it now.
    Page,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Ticket => "ticket",
            Severity::Page => "page",
        }
    }

    /// Default rules do not tell of less: below 1 a budget is never spent, and where it lasts half its window and longer
    /// nobody need be woken. It matters for windows of some days, of which a small share is soon gone.
    const fn least_burn(self) -> f64 {
        match self {
            Severity::Ticket => 1.0,
            Severity::Page => 2.0,
        }
    }
}

/// Alerts while both windows burn faster than `burn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    pub severity: Severity,
    /// Nanoseconds.
    pub long: i64,
    /// Nanoseconds.
    pub short: i64,
    /// Times the rate at which the budget just lasts the SLO's window.
    pub burn: f64,
}

impl Rule {
    /// The rules of an SLO over `window` nanoseconds that says nothing else: a page where 2 % of the budget is spent in an
    /// hour or 5 % in six, a ticket where 10 % is in a day or in three. The burn rates for that grow with the window; they are
    /// at least 2 for a page and 1 for a ticket. Rules longer than the window are left out.
    pub fn defaults(window: i64) -> Vec<Rule> {
        let fitting = DEFAULTS.into_iter().filter(|&(_, _, long)| long <= window);
        fitting.map(|(severity, share, long)| Rule::of_share(severity, share, long, window)).collect()
    }

    fn of_share(severity: Severity, share: f64, long: i64, window: i64) -> Rule {
        let burn = burn_of(share, long, window).max(severity.least_burn());
        Rule { severity, long, short: long / SHORT_PART, burn }
    }

    /// As written. Faults: the key, and what to write.
    pub(super) fn written(spec: &AlertSpec, window: i64) -> Result<Rule, Vec<(&'static str, &'static str)>> {
        let nanos = |length: std::time::Duration| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        let (long, severity) = (nanos(spec.long), spec.severity);
        let short = spec.short.map_or(long / SHORT_PART, nanos);
        let positive = |number: &f64| number.is_finite() && *number > 0.0;
        let burn = match (spec.burn, spec.budget) {
            (Some(burn), None) => Some(burn).filter(positive),
            (None, Some(percent)) => Some(burn_of(percent / 100.0, long, window)).filter(positive),
            _ => None,
        };
        let checks = [
            (long >= 1_000_000_000 && long <= window, "long", "write 1s to the window of the SLO, as in long = \"1h\""),
            ((1..=long).contains(&short), "short", "write less than long, as in short = \"5m\""),
            (burn.is_some(), "burn", "write burn = 14.4, or else budget = 2 (percent that long may take)"),
        ];
        let faults: Vec<_> =
            checks.into_iter().filter_map(|(well, key, told)| (!well).then_some((key, told))).collect();
        match burn {
            Some(burn) if faults.is_empty() => Ok(Rule { severity, long, short, burn }),
            _ => Err(faults),
        }
    }
}

/// The burn rate at which this share of a budget over `window` is gone within `long`.
fn burn_of(share: f64, long: i64, window: i64) -> f64 {
    share * window as f64 / long as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burns(window: i64) -> Vec<f64> {
        Rule::defaults(window).iter().map(|rule| (rule.burn * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn burn_rates_are_those_of_the_workbook_and_grow_with_the_window() {
        let table: [(i64, &[f64]); 6] = [
            (30, &[14.4, 6.0, 3.0, 1.0]),
            (28, &[13.44, 5.6, 2.8, 1.0]),
            (90, &[43.2, 18.0, 9.0, 3.0]),
            (7, &[3.36, 2.0, 1.0, 1.0]),
            (3, &[2.0, 2.0, 1.0, 1.0]),
            (1, &[2.0, 2.0, 1.0]),
        ];
        for (days, expected) in table {
            assert_eq!(burns(days * DAY), expected, "{days} days");
        }
    }

    #[test]
    fn the_short_window_is_a_twelfth() {
        let shorts: Vec<i64> = Rule::defaults(30 * DAY).iter().map(|rule| rule.short / MINUTE).collect();
        assert_eq!(shorts, [5, 30, 120, 360]);
    }
}
