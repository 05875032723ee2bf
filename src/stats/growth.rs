//! How much a series grew between samples or over a window, as Prometheus tells it.
//!
//! Over a window the growth between first and last sample is extrapolated: to a bound of the window that is nearer than 1.1
//! usual distances of samples, else by half a distance. A counter is never extrapolated back below zero. This is
//! `extrapolatedRate` of Prometheus 2; from 3.0 on it looks at the 1.1 distances before zero rather than after, which
//! differs where a counter began within the window.

/// What is asked of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Growth {
    /// Growth of a counter a second.
    Rate,
    /// Growth of a counter.
    Increase,
    /// Difference of a gauge: going down counts as such.
    Delta,
}

impl Growth {
    pub const ALL: [Growth; 3] = [Growth::Rate, Growth::Increase, Growth::Delta];

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Growth::Rate => "rate",
            Growth::Increase => "increase",
            Growth::Delta => "delta",
        }
    }

    const fn is_of_counter(self) -> bool {
        matches!(self, Growth::Rate | Growth::Increase)
    }

    /// Of samples (nanoseconds, value) by time, each time once: from the first to the last, or extrapolated to the bounds
    /// of `window`. `None` of fewer than two.
    pub fn of(self, samples: &[(i64, f64)], window: Option<(i64, i64)>) -> Option<f64> {
        let (&first, &last) = (samples.first()?, samples.last()?);
        let sampled = seconds(first.0, last.0);
        if sampled <= 0.0 {
            return None;
        }
        let grown = last.1 - first.1 + if self.is_of_counter() { lost_in_restarts(samples) } else { 0.0 };
        let Some((start, end)) = window else {
            return Some(if self == Growth::Rate { grown / sampled } else { grown });
        };
        let mut to_start = seconds(start, first.0);
        if self.is_of_counter() && grown > 0.0 && first.1 >= 0.0 {
            to_start = to_start.min(sampled * (first.1 / grown));
        }
        let distance = sampled / (samples.len() - 1) as f64;
        let reached = |gap: f64| if gap < distance * 1.1 { gap } else { distance / 2.0 };
        let mut factor = (sampled + reached(to_start) + reached(seconds(last.0, end))) / sampled;
        if self == Growth::Rate {
            factor /= seconds(start, end);
        }
        Some(grown * factor)
    }
}

/// What a counter had each time before it began again from zero.
fn lost_in_restarts(samples: &[(i64, f64)]) -> f64 {
    samples.windows(2).filter(|pair| pair[1].1 < pair[0].1).map(|pair| pair[0].1).sum()
}

fn seconds(from: i64, to: i64) -> f64 {
    (i128::from(to) - i128::from(from)) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    type Samples<'s> = &'s [(i64, f64)];

    /// Samples at the seconds given.
    fn at(samples: &[(i64, f64)]) -> Vec<(i64, f64)> {
        samples.iter().map(|&(second, value)| (second * S, value)).collect()
    }

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("two samples");
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found} for {expected}");
    }

    #[test]
    fn without_a_window_it_is_what_was_sampled() {
        let table: [(Samples<'_>, f64, f64); 6] = [
            (&[(0, 1.0), (10, 4.0)], 3.0, 3.0),
            (&[(0, 5.0), (10, 2.0)], 2.0, -3.0),
            (&[(0, 5.0), (10, 2.0), (20, 4.0), (30, 1.0)], 5.0, -4.0),
            (&[(0, 0.0), (10, 0.0)], 0.0, 0.0),
            (&[(0, 5.0), (10, 5.0), (20, 6.0)], 1.0, 1.0),
            (&[(0, 7.0), (10, 0.0)], 0.0, -7.0),
        ];
        for (samples, increase, delta) in table {
            let samples = at(samples);
            near(Growth::Increase.of(&samples, None), increase);
            near(Growth::Delta.of(&samples, None), delta);
            let length = (samples[samples.len() - 1].0 - samples[0].0) as f64 / 1e9;
            near(Growth::Rate.of(&samples, None), increase / length);
        }
        assert_eq!(Growth::Rate.of(&[], None), None);
        assert_eq!(Growth::Rate.of(&[(S, 1.0)], None), None);
        assert_eq!(Growth::Delta.of(&[(S, 1.0)], Some((0, 2 * S))), None);
    }

    /// Every 5 minutes from 0, over windows that end at 50 minutes: numbers of Prometheus' own tests.
    #[test]
    fn known_cases_of_counters() {
        let every_5_minutes = |values: &[f64]| -> Vec<(i64, f64)> {
            values.iter().enumerate().map(|(at, &value)| (at as i64 * 300 * S, value)).collect()
        };
        let window = Some((0, 3000 * S));
        let ups: Vec<f64> = (0..=10).map(|n| f64::from(n) * 10.0).collect();
        near(Growth::Increase.of(&every_5_minutes(&ups), window), 100.0);
        let restarted = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 0.0, 10.0, 20.0, 30.0, 40.0];
        near(Growth::Increase.of(&every_5_minutes(&restarted), window), 90.0);
        let halfway = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 50.0, 50.0, 50.0, 50.0, 50.0];
        near(Growth::Increase.of(&every_5_minutes(&halfway), window), 50.0);
        near(Growth::Rate.of(&every_5_minutes(&ups), window), 100.0 / 3000.0);
    }

    #[test]
    fn gaps_at_the_bounds_decide_how_far_it_goes() {
        let counter = at(&[(100, 100.0), (110, 110.0), (120, 120.0), (130, 130.0)]);
        let table: [(i64, i64, f64); 6] = [
            // To both bounds.
            (95, 139, 44.0),
            (90, 140, 50.0),
            // 11 s are 1.1 distances already: half a distance.
            (89, 140, 45.0),
            (90, 141, 45.0),
            (60, 200, 40.0),
            (100, 130, 30.0),
        ];
        for (start, end, increase) in table {
            let window = Some((start * S, end * S));
            near(Growth::Increase.of(&counter, window), increase);
            near(Growth::Delta.of(&counter, window), increase);
            near(Growth::Rate.of(&counter, window), increase / (end - start) as f64);
        }
    }

    #[test]
    fn a_counter_is_not_extrapolated_below_zero_and_a_gauge_is() {
        let young = at(&[(100, 2.0), (110, 12.0), (120, 22.0)]);
        let window = Some((95 * S, 120 * S));
        near(Growth::Increase.of(&young, window), 22.0);
        near(Growth::Delta.of(&young, window), 25.0);
        // It began far within the window: zero is one distance away, which is within 1.1.
        let new = at(&[(100, 10.0), (110, 20.0), (120, 30.0)]);
        near(Growth::Increase.of(&new, Some((0, 120 * S))), 30.0);
        // Below zero already, or not growing: nothing to hold it.
        let below = at(&[(100, -5.0), (110, 5.0)]);
        near(Growth::Increase.of(&below, Some((95 * S, 110 * S))), 15.0);
        near(Growth::Increase.of(&at(&[(100, 0.0), (110, 0.0)]), Some((95 * S, 110 * S))), 0.0);
    }
}
