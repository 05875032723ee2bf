//! The theta method (Assimakopoulos and Nikolopoulos 2000), as simple smoothing with half the slope of the straight line
//! (Hyndman and Billah 2003), after the phases of a season were taken out.

use super::simple::fitted;

/// Smoothing shares tried, evenly up to 1.
const SHARES: u32 = 25;

/// `steps` ahead of `history`; a `period` below 2 is none.
pub(super) fn theta(history: &[f64], period: usize, steps: usize) -> Vec<f64> {
    let (rest, phases) = without_season(history, period);
    let (_, _, slope) = fitted(&rest);
    let tried = (1..=SHARES).map(|tried| f64::from(tried) / f64::from(SHARES));
    let best = tried.map(|share| (share, smoothed(&rest, share))).min_by(|a, b| a.1.0.total_cmp(&b.1.0));
    let (share, (_, level)) = best.unwrap_or((1.0, (0.0, 0.0)));
    let start = (1.0 - (1.0 - share).powf(rest.len() as f64)) / share;
    let season = |step: usize| phases.get((history.len() + step) % phases.len().max(1)).copied().unwrap_or(0.0);
    (0..steps).map(|step| level + slope / 2.0 * (step as f64 + start) + season(step)).collect()
}

/// Squared errors of the next step, and the last level.
fn smoothed(values: &[f64], share: f64) -> (f64, f64) {
    let first = values.first().copied().unwrap_or(0.0);
    values.iter().fold((0.0, first), |(cost, level), value| {
        let error = value - level;
        (cost + error * error, level + share * error)
    })
}

/// The history less the mean of each phase about the straight line, and those means.
fn without_season(history: &[f64], period: usize) -> (Vec<f64>, Vec<f64>) {
    if period < 2 || history.len() < 2 * period {
        return (history.to_vec(), Vec::new());
    }
    let (middle, mean, slope) = fitted(history);
    let (mut sums, mut counts) = (vec![0.0; period], vec![0.0; period]);
    for (at, value) in history.iter().enumerate() {
        sums[at % period] += value - mean - slope * (at as f64 - middle);
        counts[at % period] += 1.0;
    }
    let phases: Vec<f64> = sums.iter().zip(counts).map(|(sum, count)| sum / count).collect();
    (history.iter().enumerate().map(|(at, value)| value - phases[at % period]).collect(), phases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_slope_and_all_of_the_season_go_on() {
        let slope: Vec<f64> = (0..100).map(f64::from).collect();
        let ahead = theta(&slope, 0, 10);
        assert!((ahead[9] - ahead[0] - 4.5).abs() < 1e-9 && (ahead[0] - 99.0).abs() < 1.0, "{ahead:?}");
        let season: Vec<f64> = (0..99).map(|at| f64::from(at % 4)).collect();
        for (step, value) in theta(&season, 4, 8).into_iter().enumerate() {
            assert!((value - ((99 + step) % 4) as f64).abs() < 0.2, "{step}: {value}");
        }
        assert_eq!(theta(&[2.0], 0, 2), [2.0, 2.0]);
    }
}
