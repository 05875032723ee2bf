//! The test of Mann 1945 and Kendall 1975 for a trend: pairs of values that rise against those that fall.
//!
//! Of noise that follows itself the count strays farther. Hamed and Rao 1998 reckon by how much, from the autocorrelations of
//! the ranks once the trend is taken off. Those are too small where there are few values, so that what the first alone would
//! make of it, were each value to follow the one before and nothing else, counts if it is more.

use std::f64::consts::SQRT_2;

use statrs::function::erf::erfc;

/// Autocorrelations within so many standard errors of 0 are taken for chance (95 %).
const CHANCE: f64 = 1.959_963_984_540_054;
/// Autocorrelations are looked at up to so many lags for each tenfold of values, as is the custom for correlograms.
const LAGS: f64 = 10.0;
/// More than this no value is taken to follow the one before it.
const FOLLOWS_MAX: f64 = 0.99;

/// The test's answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MannKendall {
    /// Pairs that rise less pairs that fall.
    pub s: f64,
    /// The same as a share of all pairs.
    pub tau: f64,
    /// `s` in standard deviations, one off for being whole.
    pub score: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// Tests values in their order; all finite. `inflation` makes the variance as many times larger: 1 for independent values.
pub fn mann_kendall(values: &[f64], inflation: f64) -> MannKendall {
    let later = values.iter().enumerate().flat_map(|(at, a)| values[at + 1..].iter().map(move |b| (a, b)));
    let s: f64 = later.map(|(a, b)| f64::from(i8::from(b > a) - i8::from(b < a))).sum();
    let deviation = (variance(values) * inflation).sqrt();
    let score = if deviation > 0.0 { (s.abs() - 1.0).max(0.0).copysign(s) / deviation } else { 0.0 };
    let pairs = values.len() as f64 * (values.len() as f64 - 1.0) / 2.0;
    let tau = if pairs > 0.0 { s / pairs } else { 0.0 };
    MannKendall { s, tau, score, p_value: erfc(score.abs() / SQRT_2) }
}

/// Variance of S for independent values, less for equal ones.
pub(super) fn variance(values: &[f64]) -> f64 {
    let part = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let equal: f64 = sorted.chunk_by(|a, b| a == b).map(|equal| part(equal.len() as f64)).sum();
    (part(values.len() as f64) - equal) / 18.0
}

/// How many times larger the variance of S is for values of which this is left without their trend; 1 and more.
pub(super) fn inflation(rest: &[f64]) -> f64 {
    let correlations = correlations(rest);
    let Some(&first) = correlations.first() else { return 1.0 };
    let count = rest.len() as f64;
    // The bias of the first autocorrelation about a line: (n r + 2) / (n - 4), van Giersbergen 2005.
    let follows = ((count * first + 2.0) / (count - 4.0).max(1.0)).clamp(0.0, FOLLOWS_MAX);
    let alone = (1.0 + follows) / (1.0 - follows);
    hamed_rao(&correlations, rest.len()).max(alone)
}

/// The factor of Hamed and Rao, from autocorrelations of ranks at the lags from 1.
fn hamed_rao(correlations: &[f64], count: usize) -> f64 {
    let n = count as f64;
    let weight = |lag: f64| (n - lag) * (n - lag - 1.0) * (n - lag - 2.0);
    let counts = |correlation: &f64| correlation.abs() > CHANCE / n.sqrt();
    let lagged = correlations.iter().enumerate().filter(|(_, correlation)| counts(correlation));
    let sum: f64 = lagged.map(|(at, correlation)| weight(at as f64 + 1.0) * correlation).sum();
    1.0 + 2.0 * sum / (n * (n - 1.0) * (n - 2.0))
}

/// Autocorrelations of the ranks; none where all are equal.
fn correlations(rest: &[f64]) -> Vec<f64> {
    let lags = (LAGS * (rest.len() as f64).log10()) as usize;
    correlations_to(rest, lags.min(rest.len() / 2))
}

fn correlations_to(rest: &[f64], lags: usize) -> Vec<f64> {
    let middle = (rest.len() as f64 - 1.0) / 2.0;
    let centred: Vec<f64> = ranks(rest).into_iter().map(|rank| rank - middle).collect();
    let whole: f64 = centred.iter().map(|rank| rank * rank).sum();
    if whole <= 0.0 {
        return Vec::new();
    }
    let at = |lag: usize| centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>() / whole;
    (1..=lags).map(at).collect()
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let shared = below as f64 + (equal.len() - 1) as f64 / 2.0;
        for &at in equal {
            ranks[at] = shared;
        }
        below += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::trend::theil_sen;

    #[test]
    fn variances_are_those_of_hamed_and_rao() {
        // pymannkendall.hamed_rao_modification_test(y) and (y, lag=3): var_s, of 1 + 2/(n (n-1) (n-2)) … over all lags or three
        let mut last = 0.0;
        let follows: Vec<f64> = (1..=60)
            .map(|i| {
                (last = 0.6 * last + f64::from(i * 7919 % 104_729) / 104_729.0 - 0.5, last).1 + 0.01 * f64::from(i - 1)
            })
            .collect();
        let comb: Vec<f64> = (0..40).map(|i| f64::from(i * 37 % 11)).collect();
        let table = [
            (&follows, 59, 33_622.672_665_299_74),
            (&follows, 3, 87_289.745_415_393_15),
            (&comb, 39, 9_177.178_898_429_855),
            (&comb, 3, 8_160.709_671_004_451),
        ];
        for (values, lags, expected) in table {
            let rows: Vec<f64> = (0..values.len()).map(|row| row as f64).collect();
            let slope = theil_sen(&rows, values, 0.95, 1.0).unwrap().slope;
            let rest: Vec<f64> = values.iter().zip(rows).map(|(value, row)| value - slope * row).collect();
            let found = variance(values) * hamed_rao(&correlations_to(&rest, lags), values.len());
            assert!((found / expected - 1.0).abs() < 1e-9, "{lags} lags: {found}, not {expected}");
        }
    }
}
