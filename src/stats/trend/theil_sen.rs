//! The median of the slopes between all pairs of points (Theil 1950), and its bounds (Sen 1968).

use std::f64::consts::SQRT_2;

use statrs::function::erf::erf_inv;

use super::mann_kendall::variance;
use crate::stats::median;

/// A straight line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slope {
    /// Values a unit of x.
    pub slope: f64,
    /// Bounds of the slope.
    pub interval: (f64, f64),
    /// The line at x = 0: it goes through the medians of both.
    pub intercept: f64,
}

/// The line through points of finite x and y, which takes time and memory for all their pairs. Chance is taken to be
/// `inflation` times as wide (a variance) as for independent values. `None` where no two x differ.
pub fn theil_sen(x: &[f64], y: &[f64], confidence: f64, inflation: f64) -> Option<Slope> {
    let points = || x.iter().zip(y);
    let pairs = points().enumerate().flat_map(|(at, a)| points().skip(at + 1).map(move |b| (a, b)));
    let apart = pairs.filter(|((x, _), (other, _))| x != other);
    let mut slopes: Vec<f64> = apart.map(|((x, y), (next_x, next_y))| (next_y - y) / (next_x - x)).collect();
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let slope = median(&slopes)?;
    let interval = bounds(&slopes, SQRT_2 * erf_inv(confidence) * (variance(y) * inflation).sqrt());
    Some(Slope { slope, interval, intercept: median(y)? - slope * median(x)? })
}

/// The slopes that stand so many places below and above the middle together.
fn bounds(slopes: &[f64], places: f64) -> (f64, f64) {
    let count = slopes.len() as f64;
    let low = ((count - places) / 2.0).round_ties_even() - 1.0;
    let high = ((count + places) / 2.0).round_ties_even();
    (slopes[low.max(0.0) as usize], slopes[high.min(count - 1.0) as usize])
}
