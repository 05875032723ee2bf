//! How far two sides are apart: as a chance, and in the unit of the values.

use super::super::median;
use super::mann_whitney::Ranked;
use super::sorted;

/// Values of a side that are paired with those of the other: a million pairs. Of more, so many evenly spaced quantiles stand
/// for all.
const PAIRED_MAX: usize = 1000;

/// How much likelier a value of the first side is above one of the second than below it, -1 to 1 (Cliff 1993). `None` where a
/// side is empty.
pub fn cliffs_delta(first: &[f64], second: &[f64]) -> Option<f64> {
    let ranked = Ranked::of(first, second);
    let pairs = (ranked.counts.0 * ranked.counts.1) as f64;
    (pairs > 0.0).then(|| 2.0 * ranked.u / pairs - 1.0)
}

/// The median of all differences, a value of the first side less one of the second: how far the first is shifted (Hodges and
/// Lehmann 1963). What is not finite is left out. Of sides of over 1000 values it is nearly that.
pub fn hodges_lehmann(first: &[f64], second: &[f64]) -> Option<f64> {
    let (first, second) = (thinned(sorted(first)), thinned(sorted(second)));
    let differences = first.iter().flat_map(|a| second.iter().map(move |b| a - b));
    median(&differences.collect::<Vec<f64>>())
}

/// The same as a ratio: the median of all quotients. `None` unless all values are above 0.
pub fn hodges_lehmann_ratio(first: &[f64], second: &[f64]) -> Option<f64> {
    let logs = |values: &[f64]| -> Option<Vec<f64>> {
        values.iter().map(|value| (*value > 0.0).then(|| value.ln())).collect()
    };
    hodges_lehmann(&logs(first)?, &logs(second)?).map(f64::exp)
}

/// At most [`PAIRED_MAX`] of sorted values: the middles of as many equal parts.
fn thinned(sorted: Vec<f64>) -> Vec<f64> {
    if sorted.len() <= PAIRED_MAX {
        return sorted;
    }
    let middle = |part: usize| sorted[(2 * part + 1) * sorted.len() / (2 * PAIRED_MAX)];
    (0..PAIRED_MAX).map(middle).collect()
}
