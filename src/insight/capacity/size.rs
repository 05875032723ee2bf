//! How large it has to be: right-sizing.
//!
//! The band is that of the Vertical Pod Autoscaler of Kubernetes: the ninetieth percentile is the target, the fiftieth and
//! ninety-fifth the bounds within which nothing need change, each with room above it; bounds are wider the shorter the
//! history. What is recent counts more. What cannot wait (memory, disks) is reckoned by the peaks of the days instead. Two
//! things differ: values lose half their weight in a week and not in a day, since a plan must not forget Friday by Monday;
//! and what is recommended also holds the ninety-ninth percentile of the history and of what is foretold.

use serde::Serialize;

use super::resource::Resource;
use super::usage::DAY;
use crate::stats::quantile;

/// Days after which a value counts half.
const HALF_LIFE: f64 = 7.0;
const TARGET: f64 = 0.90;
const LOWER: f64 = 0.50;
const UPPER: f64 = 0.95;
/// What is recommended holds this share of the time.
pub(super) const HELD: f64 = 0.99;
/// Weight of the days of history in the bounds: `(1 + 1/days)` above, `(1 + 0.001/days)^-2` below, as there.
const LOWER_DOUBT: f64 = 0.001;

/// What is needed. Sizes are of all replicas together, in units of [`super::Price::units`]: of the resource's own unit
/// where it has a capacity, of a price's where that says how many a replica has, else of replicas as they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Size {
    pub now: f64,
    /// Less than this is too little, more than `upper` a waste; between them nothing need change.
    pub lower: f64,
    pub target: f64,
    pub upper: f64,
    /// Holds the ninety-ninth percentile of history and forecast, with room.
    pub recommended: f64,
    pub replicas_now: f64,
    /// Replicas as large as they are now that carry that load at the target use.
    pub replicas: u32,
}

/// Load that is to be carried, in replicas' worth, and how it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub history: f64,
    /// NaN without a forecast.
    pub foretold: f64,
}

impl Estimate {
    /// Of the history's loads and those of a forecast's line.
    pub(super) fn of(loads: &[f64], foretold: &[f64]) -> Self {
        let held = |loads: &[f64]| quantile(loads, HELD).unwrap_or(f64::NAN);
        Estimate { history: held(loads), foretold: held(foretold) }
    }

    /// The greater one.
    pub fn load(self) -> f64 {
        self.history.max(self.foretold)
    }
}

impl Size {
    /// `loads` are times and replicas' worth, by time; `headroom` is in percent. `None` of no loads.
    pub(super) fn of(
        resource: &Resource,
        loads: &[(i64, f64)],
        need: Estimate,
        now: f64,
        headroom: f64,
    ) -> Option<Self> {
        let (first, last) = (loads.first()?.0, loads.last()?.0);
        let peaks = daily_peaks(loads);
        let counted = if resource.autoscale.can_wait() { loads } else { &peaks };
        let weighted: Vec<(f64, f64)> = counted.iter().map(|&(time, load)| (load, weight(last, time))).collect();
        let days = (last.saturating_sub(first) as f64 / DAY as f64).max(1.0 / 24.0);
        let (room, units) = (1.0 + headroom / 100.0, resource.price.units);
        let at = |q: f64| weighted_quantile(&weighted, q) * room * units;
        // Never closer to the end than the limit allows.
        let least_room = room.max(100.0 / resource.limit);
        Some(Size {
            now: now * units,
            lower: at(LOWER) * (1.0 + LOWER_DOUBT / days).powi(-2),
            target: at(TARGET),
            upper: at(UPPER) * (1.0 + 1.0 / days),
            recommended: need.load() * least_room * units,
            replicas_now: now,
            replicas: resource.replicas_for(need.load()),
        })
    }
}

fn weight(last: i64, time: i64) -> f64 {
    0.5_f64.powf(last.saturating_sub(time) as f64 / DAY as f64 / HALF_LIFE)
}

/// The greatest value of each day back from the last.
fn daily_peaks(loads: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let last = loads.last().map_or(0, |&(time, _)| time);
    let days = loads.chunk_by(|a, b| (last - a.0) / DAY == (last - b.0) / DAY);
    days.filter_map(|day| day.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

/// The least value at which the weights of it and all below reach a share `q` of all weight.
fn weighted_quantile(values: &[(f64, f64)], q: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: f64 = values.iter().map(|&(_, weight)| weight).sum();
    let mut below = 0.0;
    let reached = values.iter().find(|&&(_, weight)| {
        below += weight;
        below >= q * all
    });
    reached.or(values.last()).map_or(f64::NAN, |&(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::super::resource::{Autoscale, cpu};
    use super::super::usage::HOUR;
    use super::*;

    fn hourly(days: usize, of: impl Fn(usize) -> f64) -> Vec<(i64, f64)> {
        (0..days * 24).map(|hour| (hour as i64 * HOUR, of(hour))).collect()
    }

    #[test]
    fn weights_decide_which_value_is_reached() {
        type Case = (&'static [(f64, f64)], f64, f64);
        let table: [Case; 5] = [
            (&[(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)], 0.5, 2.0),
            (&[(1.0, 9.0), (2.0, 1.0)], 0.9, 1.0),
            (&[(1.0, 9.0), (2.0, 1.0)], 0.91, 2.0),
            (&[(1.0, 1.0), (2.0, 9.0)], 0.2, 2.0),
            (&[(5.0, 1.0)], 1.0, 5.0),
        ];
        for (values, q, expected) in table {
            assert_eq!(weighted_quantile(values, q), expected, "{values:?} {q}");
        }
        assert!(weighted_quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_band_has_room_and_narrows_with_history() {
        let resource = cpu();
        let size = |days: usize| {
            let loads = hourly(days, |hour| (hour % 7 + 1) as f64);
            let values: Vec<f64> = loads.iter().map(|&(_, load)| load).collect();
            Size::of(&resource, &loads, Estimate::of(&values, &[]), 20.0, 15.0).unwrap()
        };
        let (short, long) = (size(1), size(28));
        assert!(long.lower < long.target && long.target <= long.upper && long.upper <= long.recommended * 1.05);
        assert!((long.target - 7.0 * 1.15).abs() < 1e-9 && (long.recommended - 7.0 * 1.15).abs() < 1e-9, "{long:?}");
        assert!(short.upper / short.target > long.upper / long.target, "{short:?} {long:?}");
        assert_eq!((long.now, long.replicas), (20.0, 10), "7 at 70 %");
    }

    #[test]
    fn what_cannot_wait_is_sized_by_its_peaks_and_the_forecast() {
        let loads = hourly(28, |hour| if hour % 24 == 3 { 0.8 } else { 0.1 });
        let disk = Resource { autoscale: Autoscale::Never, ..cpu() };
        let values: Vec<f64> = loads.iter().map(|&(_, load)| load).collect();
        let target = |resource: &Resource, foretold: &[f64]| {
            Size::of(resource, &loads, Estimate::of(&values, foretold), 1.0, 0.0).unwrap()
        };
        assert_eq!((target(&cpu(), &[]).target, target(&disk, &[]).target), (0.1, 0.8));
        let grown = target(&disk, &[1.8; 10]);
        assert!((grown.recommended - 2.0).abs() < 1e-9, "90 % of it are full: {grown:?}");
        assert_eq!(Size::of(&disk, &[], Estimate::of(&[], &[]), 1.0, 0.0), None);
    }

    #[test]
    fn old_values_count_less() {
        let loads = hourly(56, |hour| if hour < 28 * 24 { 5.0 } else { 1.0 });
        let size = Size::of(&cpu(), &loads, Estimate { history: 1.0, foretold: f64::NAN }, 1.0, 0.0).unwrap();
        assert_eq!(size.target, 1.0, "a sixteenth of the weight is older than four weeks");
    }
}
