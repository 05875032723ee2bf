//! Statistics that a few wild values do not move: median, median absolute deviation, quantiles.
//!
//! NaN is a gap and is left out; where nothing is left the answer is `None`.

use std::cmp::Ordering;

/// Times this, the [`mad`] of normally distributed values is their standard deviation.
pub const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// The middle value; of two middle values their mean.
///
/// ```
/// use plimsoll::stats::median;
/// assert_eq!(median(&[3.0, 1.0, f64::NAN, 200.0]), Some(3.0));
/// ```
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Median of the distances to the median, in the unit of the values.
pub fn mad(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    median(&distances)
}

/// The value below which a share `q` (0 to 1) of the values lies, interpolated linearly between neighbours: type 7 of
/// Hyndman and Fan 1996, numpy's default. `None` for `q` outside 0 to 1.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut present: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    if present.is_empty() || !(0.0..=1.0).contains(&q) {
        return None;
    }
    let rank = q * (present.len() - 1) as f64;
    let at = rank as usize;
    let (_, &mut low, above) = present.select_nth_unstable_by(at, f64::total_cmp);
    let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(between(low, next, rank - at as f64))
}

/// The point a share `part` of the way from `low` to `high`; exact at the ends and between equal values, even infinite.
pub(super) fn between(low: f64, high: f64, part: f64) -> f64 {
    if part == 0.0 || low.partial_cmp(&high) == Some(Ordering::Equal) {
        return low;
    }
    low * (1.0 - part) + high * part
}

/// Six digits of an estimate, which is all that it is good for.
pub fn six_digits(estimate: f64) -> f64 {
    if estimate == 0.0 || !estimate.is_finite() {
        return estimate;
    }
    let shift = 10_f64.powi(5 - estimate.abs().log10().floor() as i32);
    let short = (estimate * shift).round() / shift;
    if short.is_finite() { short } else { estimate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        let values = [7.0, 1.0, 3.0, 10.0];
        for (q, expected) in [(0.0, 1.0), (0.25, 2.5), (0.5, 5.0), (0.9, 9.1), (1.0, 10.0)] {
            let found = quantile(&values, q).unwrap();
            assert!((found - expected).abs() < 1e-12, "q {q}: {found}, not {expected}");
        }
    }

    #[test]
    fn gaps_are_left_out_and_nothing_has_no_median() {
        let nan = f64::NAN;
        let table: [(&[f64], Option<f64>); 5] = [
            (&[], None),
            (&[nan], None),
            (&[nan, 4.0], Some(4.0)),
            (&[4.0, nan, 2.0], Some(3.0)),
            (&[f64::INFINITY, f64::INFINITY], Some(f64::INFINITY)),
        ];
        for (values, expected) in table {
            assert_eq!(median(values), expected, "{values:?}");
        }
        assert_eq!(quantile(&[1.0], 1.1), None);
    }

    #[test]
    fn one_wild_value_does_not_move_the_mad() {
        assert_eq!(mad(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some(1.0));
    }
}
