//! Comparing where only figures are left of the values: by their difference, and by the intervals that somebody stated.

use std::f64::consts::SQRT_2;

use serde::{Deserialize, Serialize};
use statrs::function::erf::erf_inv;

use super::{Basis, CompareOptions, Comparison, Verdict, change};

/// What is known of one side.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// The centre: a median, where there is one, else a mean.
    pub centre: f64,
    /// Standard error of the centre, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// How many values it was made of, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// Compares centres. A change beyond `min_effect` counts unless both errors are known and the interval, by the delta method
/// for a quotient, holds no change; there is no p-value. [`Verdict::TooFew`] where a centre is not finite.
pub fn compare_stated(baseline: &Stated, now: &Stated, options: &CompareOptions) -> Comparison {
    let mut found = Comparison {
        before: baseline.centre,
        now: now.centre,
        counts: (baseline.count.unwrap_or(0), now.count.unwrap_or(0)),
        change: change(baseline.centre, now.centre),
        interval: interval(baseline, now, options.confidence),
        shift: Some(now.centre - baseline.centre).filter(|shift| shift.is_finite()),
        delta: None,
        p_value: None,
        basis: Basis::Summaries,
        verdict: Verdict::TooFew,
    };
    if found.shift.is_some() {
        found.verdict = found.by_change(options);
    }
    found
}

fn interval(baseline: &Stated, now: &Stated, confidence: f64) -> Option<(f64, f64)> {
    let change = change(baseline.centre, now.centre)?;
    let size = baseline.centre.abs();
    let of_now = now.error? / size;
    let of_before = now.centre / size * (baseline.error? / size);
    let reach = SQRT_2 * erf_inv(confidence) * of_now.hypot(of_before);
    reach.is_finite().then_some((change - reach, change + reach))
}
