//! How far one series moved away from what it was.

use std::cmp::Ordering;

use super::smirnov;
use crate::stats::{MAD_TO_SIGMA, median, quantile};

/// Fewest values of the baseline: from fewer nobody knows how far a series strays.
const BASELINE_MIN: usize = 20;
/// Fewest values of the incident: one alone may be a freak.
const INCIDENT_MIN: usize = 2;
/// The share of the incident's values that lie no farther off than the distance which is scored.
const MOST: f64 = 0.75;
/// A distance of so many scales scores one half.
const HALF: f64 = 5.0;
/// The farthest that the baseline strayed is at most so many scales.
const STRAYED: f64 = 4.0;
/// The least scale, as a share of the median.
const SCALE_MIN: f64 = 1e-3;
/// A distance of no more than this share of the median is rounding.
const ROUNDING: f64 = 1e-12;
/// Where counting scales ends: so far is a series that was always zero, and then is not.
const SCALES_MAX: f64 = 1e6;

/// What became of a series from the baseline to the incident.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Change {
    /// Median of the baseline.
    pub before: f64,
    /// Median of the incident.
    pub after: f64,
    /// How far the series strayed from `before` in the baseline, in its own unit: the largest of its deviations (of
    /// the median, times [`MAD_TO_SIGMA`], and standard), a quarter of the farthest, and a thousandth of `before`.
    pub scale: f64,
    /// From `before` to `after`, in scales: -1e6 to 1e6.
    pub shift: f64,
    /// 0 to below 1: z / (z + 5), where a quarter of the incident lies z scales or more from `before`, to either side.
    pub score: f64,
    /// Statistic of Kolmogorov and Smirnov, 0 to 1: how far the distributions are apart. Not part of the score.
    pub ks: f64,
    /// How likely a `ks` as large is if nothing changed, about: values that follow one another are taken as independent.
    pub p_value: f64,
}

impl Change {
    /// What is not finite is a gap and left out. `None` below 20 values of the baseline or 2 of the incident.
    ///
    /// ```
    /// use plimsoll::stats::changed::Change;
    /// let baseline: Vec<f64> = (0..60).map(|at| f64::from(at % 5)).collect();
    /// let change = Change::of(&baseline, &[12.0, 13.0, 14.0]).unwrap();
    /// assert_eq!((change.before, change.after, change.ks), (2.0, 13.0, 1.0));
    /// assert!(change.score > 0.5);
    /// ```
    pub fn of(baseline: &[f64], incident: &[f64]) -> Option<Change> {
        let (baseline, incident) = (sorted(baseline), sorted(incident));
        if baseline.len() < BASELINE_MIN || incident.len() < INCIDENT_MIN {
            return None;
        }
        let (before, after) = (median(&baseline)?, median(&incident)?);
        let scale = scale(&baseline, before)?;
        let shift = in_scales(after - before, before, scale);
        let far = in_scales(quantile(&distances(&incident, before), MOST)?, before, scale);
        let (ks, p_value) = smirnov::compare(&baseline, &incident);
        Some(Change { before, after, scale, shift, score: far / (far + HALF), ks, p_value })
    }

    /// What changed most first; of equals, what is the least likely by chance.
    pub fn order(&self, other: &Change) -> Ordering {
        other.score.total_cmp(&self.score).then(self.p_value.total_cmp(&other.p_value))
    }
}

/// Puts what changed most first; equals by name.
pub fn rank_changes<N: Ord>(changes: &mut [(N, Change)]) {
    changes.sort_by(|(name, a), (other, b)| a.order(b).then_with(|| name.cmp(other)));
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut present: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    present.sort_unstable_by(f64::total_cmp);
    present
}

fn distances(values: &[f64], from: f64) -> Vec<f64> {
    values.iter().map(|value| (value - from).abs()).collect()
}

/// Finite, whatever the values.
fn scale(baseline: &[f64], before: f64) -> Option<f64> {
    let distances = distances(baseline, before);
    let farthest = distances.iter().copied().fold(0.0, f64::max);
    let robust = MAD_TO_SIGMA * median(&distances)?;
    let scales = [robust, deviation(baseline), farthest / STRAYED, SCALE_MIN * before.abs()];
    Some(scales.into_iter().fold(0.0, f64::max).min(f64::MAX))
}

/// Standard deviation of all there is, not of a sample.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn in_scales(distance: f64, before: f64, scale: f64) -> f64 {
    if distance.abs() <= ROUNDING * before.abs() {
        return 0.0;
    }
    (distance / scale).clamp(-SCALES_MAX, SCALES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values about `level`, -1 to 1 from it, without order.
    fn noise(level: f64, count: u32) -> Vec<f64> {
        (0..count).map(|at| level + f64::from(at * 37 % 101) / 50.0 - 1.0).collect()
    }

    fn of(baseline: &[f64], incident: &[f64]) -> Change {
        Change::of(baseline, incident).unwrap()
    }

    #[test]
    fn a_shift_scores_above_noise_whichever_way_it_goes() {
        let baseline = noise(50.0, 202);
        let quiet = of(&baseline, &noise(50.0, 12));
        assert!(quiet.score < 0.3 && quiet.shift.abs() < 1.0 && quiet.p_value > 0.05, "{quiet:?}");
        for level in [40.0, 60.0] {
            let moved = of(&baseline, &noise(level, 12));
            assert!(moved.score > 0.7 && moved.ks == 1.0 && moved.p_value < 1e-6, "{moved:?}");
            assert_eq!(moved.shift.signum(), f64::signum(level - 50.0));
            assert_eq!(moved.order(&quiet), Ordering::Less, "what moved comes first");
        }
    }

    #[test]
    fn a_quarter_of_the_incident_has_to_be_far_off() {
        let baseline = noise(50.0, 101);
        let table = [(0, false), (1, false), (2, true), (8, true)];
        for (wild, expected) in table {
            let mut incident = vec![50.0; 8];
            incident[..wild].fill(500.0);
            assert_eq!(of(&baseline, &incident).score > 0.5, expected, "{wild} of 8");
        }
    }

    #[test]
    fn how_far_a_series_strayed_is_the_largest_of_four() {
        let mostly = |wild: &[f64]| [vec![100.0; 40 - wild.len()], wild.to_vec()].concat();
        let even: Vec<f64> = (0..41).map(|at| f64::from(at) - 20.0).collect();
        let table = [
            ("median deviation", even, 10.0 * MAD_TO_SIGMA),
            ("standard deviation", [[-2.0; 10], [2.0; 10]].concat(), 2.0 * MAD_TO_SIGMA),
            ("standard deviation", mostly(&[120.0, 80.0, 80.0, 120.0]), 40_f64.sqrt()),
            ("a quarter of the farthest", mostly(&[180.0]), 20.0),
            ("a thousandth of the median", mostly(&[]), 0.1),
        ];
        for (by, baseline, expected) in table {
            let found = of(&baseline, &[0.0, 0.0]).scale;
            assert!((found - expected).abs() < 1e-9, "{by}: {found}, not {expected}");
        }
    }

    #[test]
    fn a_constant_that_moves_is_capped_and_rounding_is_no_change() {
        let most = SCALES_MAX / (SCALES_MAX + HALF);
        let table = [
            (0.0, 0.0, 0.0, 0.0),
            (0.0, 1e-9, SCALES_MAX, most),
            (0.0, -7.0, -SCALES_MAX, most),
            (0.3, 0.1 + 0.2, 0.0, 0.0),
            (200.0, 201.0, 5.0, 0.5),
            (1.0, 1e9, SCALES_MAX, most),
        ];
        for (level, moved, shift, score) in table {
            let change = of(&[level; 30], &[moved; 4]);
            assert!((change.shift - shift).abs() < 1e-9 && (change.score - score).abs() < 1e-15, "{level}: {change:?}");
        }
    }

    #[test]
    fn gaps_are_left_out_and_too_few_values_are_no_change() {
        let nan = f64::NAN;
        let table: [(usize, &[f64], bool); 6] = [
            (0, &[], false),
            (19, &[1.0, 2.0], false),
            (20, &[1.0], false),
            (20, &[1.0, nan, f64::INFINITY], false),
            (20, &[1.0, 2.0], true),
            (20, &[1.0, nan, 2.0], true),
        ];
        for (count, incident, expected) in table {
            let baseline = [noise(1.0, count as u32), vec![nan; 30]].concat();
            assert_eq!(Change::of(&baseline, incident).is_some(), expected, "{count} {incident:?}");
        }
        let baseline = noise(1.0, 20);
        assert_eq!(Change::of(&baseline, &[1.0, nan, 2.0]), Change::of(&baseline, &[1.0, 2.0]));
    }

    #[test]
    fn values_at_the_ends_of_the_numbers_make_no_nan() {
        for large in [1e160, f64::MAX] {
            let change = of(&[[-large; 15], [large; 15]].concat(), &[large, -large]);
            let Change { before, after, scale, shift, score, ks, p_value } = change;
            assert!([before, after, scale, shift, score, ks, p_value].iter().all(|x| x.is_finite()), "{change:?}");
        }
    }

    #[test]
    fn the_order_is_by_score_then_chance_then_name() {
        let change = |score, p_value| Change { score, p_value, ..of(&[0.0; 20], &[0.0; 2]) };
        let mut rows =
            [("d", change(0.1, 0.0)), ("c", change(0.5, 0.2)), ("b", change(0.5, 0.2)), ("a", change(0.5, 0.3))];
        let expected = ["b", "c", "a", "d"];
        for _ in 0..rows.len() {
            rank_changes(&mut rows);
            assert_eq!(rows.map(|(name, _)| name), expected);
            rows.rotate_left(1);
        }
    }
}
