//! Whether values rise or fall in the long run, and how fast: benchmarks that got slower bit by bit, memory that leaks.
//!
//! How fast is the median of the slopes between all pairs of values (Theil 1950, Sen 1968: `theil_sen`); whether at all, the
//! count of pairs that rise less those that fall (Mann 1945, Kendall 1975: `mann_kendall`). Wild values move neither. Noise
//! that follows itself counts for fewer values (Hamed and Rao 1998). [`leak`] asks more, of memory in use.

mod growing;
mod leak;
mod mann_kendall;
#[cfg(test)]
mod tests;
mod theil_sen;

use super::median;

pub use leak::{Leak, LeakOptions, leak};
pub use mann_kendall::{MannKendall, mann_kendall};
pub use theil_sen::{Slope, theil_sen};

/// Values whose pairs are all looked at: two million. Of more, so many medians of even parts stand for all.
const PAIRED_MAX: usize = 2000;

/// How a trend is reckoned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TrendOptions {
    /// Share of intervals that hold the true slope.
    pub confidence: f64,
    /// That no value follows the one before it, as where each is a run on a machine of its own. Else it is looked at.
    pub independent: bool,
}

impl Default for TrendOptions {
    fn default() -> TrendOptions {
        TrendOptions { confidence: 0.95, independent: false }
    }
}

/// The straight line through a series, and how sure it is that it is not level.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Trend {
    /// Values that there were.
    pub count: usize,
    /// In the unit of the values, from row to row.
    pub slope: f64,
    /// Bounds of `slope`.
    pub interval: (f64, f64),
    /// The line at row 0.
    pub intercept: f64,
    /// Share of pairs that rise less the share that fall, -1 to 1.
    pub tau: f64,
    /// Two-sided: how likely as many pairs agree where there is no trend.
    pub p_value: f64,
    /// How many times wider chance is for values that follow one another; 1 where they do not.
    pub inflation: f64,
}

/// The trend over rows, from 0. What is not finite is a gap, which has a row but no value. `None` below 4 values.
///
/// ```
/// use plimsoll::stats::trend::{TrendOptions, trend};
/// let values: Vec<f64> = (0..30).map(|row| 100.0 + 0.5 * f64::from(row) + f64::from(row % 3)).collect();
/// let found = trend(&values, &TrendOptions::default()).unwrap();
/// assert!((found.slope - 0.5).abs() < 0.02 && found.p_value < 1e-9);
/// ```
pub fn trend(values: &[f64], options: &TrendOptions) -> Option<Trend> {
    let gapless = values.iter().enumerate().filter(|(_, value)| value.is_finite());
    let points: Vec<(f64, f64)> = gapless.map(|(row, value)| (row as f64, *value)).collect();
    let few = thinned(&points);
    let (rows, values): (Vec<f64>, Vec<f64>) = few.into_iter().unzip();
    if values.len() < 4 {
        return None;
    }
    let level = theil_sen(&rows, &values, options.confidence, 1.0)?;
    let rest: Vec<f64> = rows.iter().zip(&values).map(|(row, value)| value - level.slope * row).collect();
    let inflation = if options.independent { 1.0 } else { mann_kendall::inflation(&rest) };
    let test = mann_kendall(&values, inflation);
    let line = theil_sen(&rows, &values, options.confidence, inflation)?;
    Some(Trend {
        count: points.len(),
        slope: line.slope,
        interval: line.interval,
        intercept: line.intercept,
        tau: test.tau,
        p_value: test.p_value,
        inflation,
    })
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= PAIRED_MAX {
        return points.to_vec();
    }
    let part = |at: usize| &points[at * points.len() / PAIRED_MAX..(at + 1) * points.len() / PAIRED_MAX];
    let middle = |part: &[(f64, f64)]| {
        let (rows, values): (Vec<f64>, Vec<f64>) = part.iter().copied().unzip();
        median(&rows).zip(median(&values))
    };
    (0..PAIRED_MAX).filter_map(|at| middle(part(at))).collect()
}
