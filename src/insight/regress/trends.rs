//! Whether metrics get worse bit by bit over a history of runs, where no run is far from the one before.

use serde::Serialize;

use super::Results;
use super::words::two_digits;
use crate::stats::compare::{Better, Verdict, holm};
use crate::stats::median;
use crate::stats::trend::{Trend, TrendOptions, trend};

/// What counts as a trend.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DriftOptions {
    /// Largest p-value, two-sided, adjusted for the number of metrics.
    pub alpha: f64,
    /// Least growth from the first run to the last, either way, as a share of the median.
    pub min_effect: f64,
    /// Which way all metrics ought to go, whatever they say themselves.
    pub better: Option<Better>,
    pub trend: TrendOptions,
}

impl Default for DriftOptions {
    fn default() -> DriftOptions {
        DriftOptions { alpha: 0.01, min_effect: 0.03, better: None, trend: TrendOptions::default() }
    }
}

/// The trend of one metric. Its fields, in this order, are the columns of a table.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Drift {
    pub metric: String,
    pub unit: String,
    pub runs: usize,
    /// Of all runs, in `unit`.
    pub median: f64,
    /// In `unit` a run, by Theil and Sen, and its bounds.
    pub slope: f64,
    pub slope_low: f64,
    pub slope_high: f64,
    /// From the first run to the last, as a share of the median; `None` where that is 0.
    pub change: Option<f64>,
    /// Share of pairs of runs that rise less the share that fall.
    pub tau: f64,
    /// Of Mann and Kendall, wider for runs that follow one another, adjusted for the number of metrics.
    pub p_value: f64,
    pub verdict: Verdict,
    pub sentence: String,
}

/// The trends of all metrics over their samples, each a run, in the order of the runs; those of fewer than 4 are left out.
pub fn drifts(history: &Results, options: &DriftOptions) -> Vec<Drift> {
    let found: Vec<_> = history
        .metrics
        .iter()
        .filter_map(|(name, measured)| Some((name, measured, trend(&measured.samples, &options.trend)?)))
        .collect();
    let adjusted = holm(&found.iter().map(|(_, _, trend)| trend.p_value).collect::<Vec<f64>>());
    let drift = |((name, measured, trend), p_value): (&(&String, &super::Measured, Trend), f64)| {
        let trend = Trend { p_value, ..*trend };
        let middle = median(&measured.samples).unwrap_or(0.0);
        let length = measured.samples.len().saturating_sub(1) as f64;
        let change = (middle != 0.0).then(|| trend.slope * length / middle.abs());
        let verdict = verdict(&trend, change, options.better.unwrap_or(measured.better), options);
        Drift {
            metric: (*name).clone(),
            unit: measured.unit.clone(),
            runs: trend.count,
            median: middle,
            slope: trend.slope,
            slope_low: trend.interval.0,
            slope_high: trend.interval.1,
            change,
            tau: trend.tau,
            p_value,
            verdict,
            sentence: sentence(name, &trend, change, verdict),
        }
    };
    found.iter().zip(adjusted).map(drift).collect()
}

fn verdict(trend: &Trend, change: Option<f64>, better: Better, options: &DriftOptions) -> Verdict {
    let matters = change.is_none_or(|change| change.abs() >= options.min_effect);
    if trend.p_value > options.alpha || !matters || trend.slope == 0.0 {
        return Verdict::Same;
    }
    if (trend.slope > 0.0) == (better == Better::Lower) { Verdict::Regression } else { Verdict::Improvement }
}

/// As in `latency rises by 12.0 % over 40 runs (p = 2e-5)`.
fn sentence(metric: &str, trend: &Trend, change: Option<f64>, verdict: Verdict) -> String {
    let (runs, p) = (trend.count, two_digits(trend.p_value));
    if verdict == Verdict::Same {
        return format!("{metric} has no trend over {runs} runs (p = {p})");
    }
    let way = if trend.slope > 0.0 { "rises" } else { "falls" };
    let by = change.map_or(String::new(), |change| format!(" by {:.1} %", change.abs() * 100.0));
    format!("{metric} {way}{by} over {runs} runs (p = {p})")
}
