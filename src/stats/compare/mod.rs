//! Whether one set of measurements is larger than another, by how much, and how sure that is: results of two releases.
//!
//! Whether: the rank sum test of Mann and Whitney (`mann_whitney`), which asks for no distribution. How much: the change from
//! median to median (or mean to mean) with a bootstrap interval (`bootstrap`), and sizes of effect (`effect`). A verdict other
//! than [`Verdict::Same`] needs all three: a small p-value, a change that matters, and an interval that leaves out none.
//!
//! The values of a side are taken as independent. Runs of one process, one after another, are less than that.

mod bootstrap;
mod effect;
mod holm;
mod mann_whitney;
mod order;
mod stated;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::median;
use bootstrap::changes;

pub use effect::{cliffs_delta, hodges_lehmann, hodges_lehmann_ratio};
pub use holm::holm;
pub use mann_whitney::{MannWhitney, Tail, mann_whitney};
pub use order::median_bounds;
pub use stated::{Stated, compare_stated};

/// A change counts up to here, either way; what is more is as good as infinite.
pub const CHANGE_MAX: f64 = 1e6;
/// Values of a side below which no interval is worth its name.
const COUNT_MIN: usize = 2;

/// Which way a metric ought to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Times, sizes, errors.
    #[default]
    Lower,
    /// Requests a second, hits.
    Higher,
}

/// The middle of a side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Centre {
    #[default]
    Median,
    /// Where the sum counts, as of bytes sent; one wild value moves it.
    Mean,
}

/// What counts as a change.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CompareOptions {
    /// Largest p-value, two-sided; about the share of comparisons that are significant where nothing changed.
    pub alpha: f64,
    /// Least change either way, as a share of the centre before. At 0.03 and an `alpha` of 0.01, of 30 runs of each in the noise
    /// of virtual machines 0.4 % have a false alarm, and three in four steps of 5 % are found, of 10 runs every second.
    pub min_effect: f64,
    pub better: Better,
    pub centre: Centre,
    /// Share of intervals that hold the true change.
    pub confidence: f64,
    /// Resamples of the interval.
    pub resamples: usize,
    /// The same interval for the same seed.
    pub seed: u64,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        CompareOptions {
            alpha: 0.01,
            min_effect: 0.03,
            better: Better::Lower,
            centre: Centre::Median,
            confidence: 0.95,
            resamples: 4000,
            seed: 1,
        }
    }
}

/// What is said of two sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Regression,
    Improvement,
    /// No change was shown. That there is none follows only from a narrow interval.
    Same,
    /// No values, however far apart, could be significant.
    TooFew,
}

/// What is known of each value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    Samples,
    /// Only what somebody worked out of them. Weaker: there is no p-value.
    Summaries,
}

/// Two sides, compared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Comparison {
    /// Centre of the baseline.
    pub before: f64,
    /// Centre of what is held against it.
    pub now: f64,
    /// Finite values of each side; 0 where a summary does not say.
    pub counts: (usize, usize),
    /// (now - before) / |before|, at most [`CHANGE_MAX`] either way. `None` where `before` is 0 and `now` is not.
    pub change: Option<f64>,
    /// Bounds of `change`.
    pub interval: Option<(f64, f64)>,
    /// Median of all differences between a value now and one before (Hodges and Lehmann 1963), in the unit of the values.
    pub shift: Option<f64>,
    /// Cliff's delta, -1 to 1: how much likelier a value now is above one before than below it.
    pub delta: Option<f64>,
    /// Of Mann and Whitney, two-sided; after [`Comparison::judge`] the one it was given.
    pub p_value: Option<f64>,
    pub basis: Basis,
    pub verdict: Verdict,
}

/// Compares what was measured now with a baseline. What is not finite is left out.
///
/// ```
/// use plimsoll::stats::compare::{CompareOptions, Verdict, compare};
/// let baseline = [100.0, 101.0, 99.0, 100.5, 98.5, 100.2];
/// let now = [112.0, 113.0, 111.5, 112.5, 111.0, 112.2];
/// let found = compare(&baseline, &now, &CompareOptions::default());
/// assert_eq!((found.verdict, found.delta), (Verdict::Regression, Some(1.0)));
/// assert!((found.change.unwrap() - 0.12).abs() < 0.002);
/// ```
pub fn compare(baseline: &[f64], now: &[f64], options: &CompareOptions) -> Comparison {
    let (baseline, now) = (sorted(baseline), sorted(now));
    let centre = |values: &[f64]| centre(values, options.centre).unwrap_or(f64::NAN);
    let (before, after) = (centre(&baseline), centre(&now));
    let are_enough = baseline.len() >= COUNT_MIN && now.len() >= COUNT_MIN;
    let test = mann_whitney(&now, &baseline, Tail::Both);
    let mut found = Comparison {
        before,
        now: after,
        counts: (baseline.len(), now.len()),
        change: change(before, after),
        interval: are_enough.then(|| interval(&baseline, &now, before, options)).flatten(),
        shift: hodges_lehmann(&now, &baseline),
        delta: cliffs_delta(&now, &baseline),
        p_value: test.map(|test| test.p_value),
        basis: Basis::Samples,
        verdict: Verdict::TooFew,
    };
    if are_enough && least_p(baseline.len(), now.len()) <= options.alpha {
        found.judge(found.p_value.unwrap_or(1.0), options);
    }
    found
}

impl Comparison {
    /// Takes another p-value, as [`holm`] makes it of those of several metrics, and judges by it. [`Verdict::TooFew`] stays.
    pub fn adjust(&mut self, p_value: f64, options: &CompareOptions) {
        if self.verdict == Verdict::TooFew {
            self.p_value = Some(p_value);
        } else {
            self.judge(p_value, options);
        }
    }

    fn judge(&mut self, p_value: f64, options: &CompareOptions) {
        self.p_value = Some(p_value);
        self.verdict = if p_value <= options.alpha { self.by_change(options) } else { Verdict::Same };
    }

    /// By size and interval alone.
    fn by_change(&self, options: &CompareOptions) -> Verdict {
        let matters = self.change.is_none_or(|change| change.abs() >= options.min_effect);
        let leaves_none_out = |(low, high): (f64, f64)| low > 0.0 || high < 0.0;
        if !matters || !self.interval.is_none_or(leaves_none_out) || self.now == self.before {
            return Verdict::Same;
        }
        let is_worse = (self.now > self.before) == (options.better == Better::Lower);
        if is_worse { Verdict::Regression } else { Verdict::Improvement }
    }

    /// `now` / `before`, where both are above 0.
    pub fn ratio(&self) -> Option<f64> {
        (self.before > 0.0 && self.now > 0.0).then(|| self.now / self.before)
    }

    /// Chance that a value now is above one before, of equal ones half: the common language effect size of McGraw and Wong
    /// 1992, the A of Vargha and Delaney 2000.
    pub fn superiority(&self) -> Option<f64> {
        self.delta.map(|delta| (delta + 1.0) / 2.0)
    }
}

/// The change from one level to another, as a share of the first.
fn change(before: f64, now: f64) -> Option<f64> {
    if before == now {
        return Some(0.0);
    }
    let change = (now - before) / before.abs();
    (before != 0.0 && !change.is_nan()).then(|| change.clamp(-CHANGE_MAX, CHANGE_MAX))
}

fn interval(baseline: &[f64], now: &[f64], before: f64, options: &CompareOptions) -> Option<(f64, f64)> {
    let mut changes = if before == 0.0 { Vec::new() } else { changes(baseline, now, options) };
    changes.sort_unstable_by(f64::total_cmp);
    let beside = (1.0 - options.confidence.clamp(0.0, 1.0)) / 2.0;
    Some((super::quantile(&changes, beside)?, super::quantile(&changes, 1.0 - beside)?))
}

fn centre(values: &[f64], centre: Centre) -> Option<f64> {
    match centre {
        Centre::Median => median(values),
        Centre::Mean => (!values.is_empty()).then(|| mean(values)),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut present: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    present.sort_unstable_by(f64::total_cmp);
    present
}

/// The least p-value that so many values can have, two-sided: that of sides that do not overlap.
fn least_p(first: usize, second: usize) -> f64 {
    let (few, many) = (first.min(second), first.max(second));
    let orders = (1..=few).map(|at| (many + at) as f64 / at as f64);
    2.0 / orders.product::<f64>()
}
