//! Bounds of a median that ask for no distribution: two of the values themselves.

use statrs::function::beta::checked_beta_reg;

use super::sorted;

/// The closest two values, as far from either end, between which the true median lies with the chance of `confidence` or more
/// (David and Nagaraja 2003, 7.1). `None` where there are too few: below 6 values for 95 %.
pub fn median_bounds(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    let count = sorted.len();
    let beside = (1.0 - confidence) / 2.0;
    // Chance that fewer than k values lie below the median; it grows with k.
    let below = |k: usize| checked_beta_reg((count - k + 1) as f64, k as f64, 0.5).unwrap_or(1.0);
    let inner = partition_point(count / 2, |k| below(k) <= beside);
    (inner > 0).then(|| (sorted[inner - 1], sorted[count - inner]))
}

/// The largest k from 1 to `most` that holds, 0 where none does; those that hold come first.
fn partition_point(most: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_binomial_distribution() {
        // scipy.stats.binom.ppf(0.025, n, 0.5), from which the places are counted: n and the place of the lower bound
        for (count, place) in [(5, 0), (6, 1), (10, 2), (20, 6), (30, 10), (100, 40), (1000, 469)] {
            let values: Vec<f64> = (1..=count).map(f64::from).collect();
            let expected = (place > 0).then(|| (f64::from(place), f64::from(count + 1 - place)));
            assert_eq!(median_bounds(&values, 0.95), expected, "{count} values");
        }
    }
}
