//! What the runs of a benchmark come to.

use serde::Serialize;

use crate::stats::compare::median_bounds;
use crate::stats::trend::{TrendOptions, trend};
use crate::stats::{MAD_TO_SIGMA, mad, median, quantile};

/// A run so many deviations from the median is an outlier (Iglewicz and Hoaglin 1993).
const OUTLIER: f64 = 3.5;
/// Trends of a larger p-value are chance.
const DRIFT_P: f64 = 1e-3;
/// Share of intervals that hold the true median.
const CONFIDENCE: f64 = 0.95;

/// Figures of one metric over the runs, in its unit. Its fields, in this order, are the columns of a table.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Statistics {
    pub runs: usize,
    pub mean: f64,
    /// Standard deviation, of a sample; 0 of one run.
    pub deviation: f64,
    pub min: f64,
    pub median: f64,
    /// Bounds of the median at 95 %. `None` below 6 runs, which cannot be so sure.
    pub median_low: Option<f64>,
    pub median_high: Option<f64>,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// Runs more than 3.5 deviations from the median, those reckoned from the median of distances.
    pub outliers: usize,
    /// From the first run to the last, as a share of the median, where the runs have a trend (Mann and Kendall, p <= 0.001):
    /// a machine that heats up, a cache that fills.
    pub drift: Option<f64>,
}

/// Half the width of the median's interval at 95 %, as a share of the median. `None` where there are too few values, and about
/// a median of 0 unless all of the interval is.
pub fn half_width(values: &[f64]) -> Option<f64> {
    let (low, high) = median_bounds(values, CONFIDENCE)?;
    let middle = median(values)?;
    if high == low {
        return Some(0.0);
    }
    (middle != 0.0).then(|| (high - low) / 2.0 / middle.abs())
}

/// Of values in the order of the runs. What is not finite is left out; `None` where nothing is left.
pub fn statistics(values: &[f64]) -> Option<Statistics> {
    let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let at = |q: f64| quantile(&values, q);
    let (middle, runs) = (median(&values)?, values.len());
    let mean = values.iter().sum::<f64>() / runs as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let bounds = median_bounds(&values, CONFIDENCE);
    Some(Statistics {
        runs,
        mean,
        deviation: (squares / (runs.max(2) - 1) as f64).sqrt(),
        min: at(0.0)?,
        median: middle,
        median_low: bounds.map(|(low, _)| low),
        median_high: bounds.map(|(_, high)| high),
        p95: at(0.95)?,
        p99: at(0.99)?,
        max: at(1.0)?,
        outliers: outliers(&values, middle),
        drift: drift(&values, middle),
    })
}

fn outliers(values: &[f64], middle: f64) -> usize {
    let reach = OUTLIER * MAD_TO_SIGMA * mad(values).unwrap_or(0.0);
    values.iter().filter(|value| reach > 0.0 && (*value - middle).abs() > reach).count()
}

fn drift(values: &[f64], middle: f64) -> Option<f64> {
    let found = trend(values, &TrendOptions::default()).filter(|found| found.p_value <= DRIFT_P)?;
    (middle != 0.0).then(|| found.slope * (values.len() - 1) as f64 / middle.abs())
}
