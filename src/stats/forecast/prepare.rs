//! From a history as it was measured to one that models learn from: the latest points, gaps filled, of size 1.

use super::ForecastError;

/// Fewest points from the first value to the last.
const POINTS_MIN: usize = 4;
/// Most points learnt from, the latest: four weeks of 5 minutes. What is older says little of what comes and costs much.
const POINTS_MAX: usize = 8064;
/// Gaps up to this long are bridged by a straight line; longer ones take the values a season away.
const BRIDGE_MAX: usize = 2;

/// The points to learn from: from the first value on, gaps as NaN.
#[derive(Debug)]
pub(super) struct Present {
    /// Divided by `size`, so that no square overflows.
    pub values: Vec<f64>,
    /// The greatest of them.
    pub size: f64,
}

impl Present {
    pub fn of(history: &[f64]) -> Result<Present, ForecastError> {
        let old = history.len().saturating_sub(POINTS_MAX);
        let from = old + history[old..].iter().position(|value| value.is_finite()).ok_or(ForecastError::NoValues)?;
        let recent = &history[from..];
        if recent.len() < POINTS_MIN {
            return Err(ForecastError::TooShort { needs: POINTS_MIN, has: recent.len() });
        }
        let finite = recent.iter().filter(|value| value.is_finite());
        let size = finite.fold(0.0, |most: f64, value| most.max(value.abs())).max(f64::MIN_POSITIVE);
        let values = recent.iter().map(|value| if value.is_finite() { value / size } else { f64::NAN }).collect();
        Ok(Present { values, size })
    }

    /// Share of the points that are gaps, 0 to 1.
    pub fn share_missing(&self) -> f64 {
        self.values.iter().filter(|value| value.is_nan()).count() as f64 / self.values.len() as f64
    }
}

/// Gaps filled by straight lines; the last value held to the end. The first point is a value.
pub fn bridge(values: &[f64]) -> Vec<f64> {
    let mut filled = values.to_vec();
    let mut before = 0;
    for at in (1..values.len()).filter(|&at| !values[at].is_nan()) {
        let slope = (values[at] - values[before]) / (at - before) as f64;
        for (steps, gap) in filled[before..at].iter_mut().enumerate().skip(1) {
            *gap = values[before] + slope * steps as f64;
        }
        before = at;
    }
    if let Some(&last) = values.get(before) {
        filled[before..].fill(last);
    }
    filled
}

/// The bridged series, its long gaps filled by the longest season instead, if there is one.
pub(super) fn fill(values: &[f64], mut filled: Vec<f64>, seasons: &[usize]) -> Vec<f64> {
    let mut start = 0;
    for run in values.chunk_by(|a, b| a.is_nan() == b.is_nan()) {
        let end = start + run.len();
        if let (true, true, Some(&period)) = (run[0].is_nan(), run.len() > BRIDGE_MAX, seasons.last()) {
            for (at, gap) in (start..end).zip(&mut filled[start..end]) {
                *gap = a_season_away(values, at, period).unwrap_or(*gap);
            }
        }
        start = end;
    }
    filled
}

/// Mean of the nearest values a whole number of seasons before and after a gap.
fn a_season_away(values: &[f64], at: usize, period: usize) -> Option<f64> {
    let present = |at: &usize| !values[*at].is_nan();
    let earlier = (0..at).rev().skip(period - 1).step_by(period).find(present);
    let later = (at..values.len()).skip(period).step_by(period).find(present);
    match (earlier, later) {
        (Some(earlier), Some(later)) => Some(f64::midpoint(values[earlier], values[later])),
        (one, other) => one.or(other).map(|at| values[at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gaps_take_the_values_a_season_away() {
        let nan = f64::NAN;
        let values = [1.0, 2.0, 3.0, 1.0, nan, nan, nan, 2.0, 5.0, 1.0, nan, 3.0];
        let filled = fill(&values, bridge(&values), &[3]);
        assert_eq!(filled, [1.0, 2.0, 3.0, 1.0, 2.0, 4.0, 1.0, 2.0, 5.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn only_the_latest_points_are_learnt_from() {
        let history: Vec<f64> = (0..10_000).map(f64::from).collect();
        let present = Present::of(&history).unwrap();
        assert_eq!((present.values.len(), present.size), (POINTS_MAX, 9999.0));
        let late = Present::of(&[f64::NAN, f64::INFINITY, 2.0, 4.0, f64::NAN, 1.0]).unwrap();
        assert_eq!((late.values.len(), late.share_missing()), (4, 0.25));
    }
}
