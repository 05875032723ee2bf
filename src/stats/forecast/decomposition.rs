//! MSTL (Bandara, Hyndman and Bergmeir 2021): seasons taken out one by one by LOESS, the rest forecast with a damped trend.
//!
//! The decomposition is that of stlrs, as augurs has it; its intervals are not used.

use augurs::mstl::stlrs::MstlParams;

use super::smoothing::Constants;

/// Forecasts of `steps` steps from each of `origins`; empty where fewer than two cycles of every season were seen. The
/// constants of the trend are chosen once, for the last of them.
pub(super) fn decomposed(values: &[f64], seasons: &[usize], origins: &[usize], steps: usize) -> Vec<Vec<f64>> {
    let parts: Vec<Option<Parts>> = origins.iter().map(|&at| Parts::of(&values[..at], seasons)).collect();
    let Some(last) = parts.last().and_then(Option::as_ref) else { return vec![vec![]; origins.len()] };
    let constants = Constants::of_level(&last.rest);
    parts.iter().map(|parts| parts.as_ref().map_or_else(Vec::new, |parts| parts.ahead(&constants, steps))).collect()
}

/// A history in parts.
struct Parts {
    /// Trend and remainder.
    rest: Vec<f64>,
    /// The last cycle of each season.
    cycles: Vec<Vec<f64>>,
}

impl Parts {
    fn of(history: &[f64], seasons: &[usize]) -> Option<Parts> {
        let periods: Vec<usize> = seasons.iter().copied().filter(|&period| history.len() >= 2 * period).collect();
        if periods.is_empty() {
            return None;
        }
        let found = MstlParams::new().fit(history, &periods).ok()?;
        let rest = found.trend().iter().zip(found.remainder()).map(|(trend, rest)| trend + rest).collect();
        let cycles =
            found.seasonal().iter().zip(periods).map(|(season, period)| season[season.len() - period..].to_vec());
        Some(Parts { rest, cycles: cycles.collect() })
    }

    fn ahead(&self, constants: &Constants, steps: usize) -> Vec<f64> {
        let mut line = constants.level_ahead(&self.rest, steps);
        for cycle in &self.cycles {
            line.iter_mut().zip(cycle.iter().cycle()).for_each(|(value, season)| *value += season);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn season_and_trend_go_on() {
        let truth = |at: f64| 1e6 + at * 20.0 + (at / 12.0 * std::f64::consts::TAU).sin() * 1e3;
        let history: Vec<f64> = (0..180).map(|at| truth(f64::from(at))).collect();
        for (line, origin) in decomposed(&history, &[12], &[120, 180], 24).iter().zip([120.0, 180.0]) {
            for (step, value) in line.iter().enumerate() {
                let off = value - truth(origin + step as f64);
                assert!(off.abs() < 150.0, "{origin} + {step} is off by {off}");
            }
        }
    }

    #[test]
    fn without_two_cycles_there_is_no_line() {
        let history: Vec<f64> = (0..30).map(f64::from).collect();
        assert_eq!(decomposed(&history, &[20], &[25, 30], 3), [Vec::<f64>::new(), Vec::new()]);
        assert_eq!(decomposed(&history, &[14], &[20, 30], 3)[0], [0.0; 0]);
    }
}
