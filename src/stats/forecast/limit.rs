//! When a forecast meets a limit: the capacity question.

use super::Forecast;
use super::chance::Chance;

/// Paths drawn for one answer: quantiles of 10 % are then off by 2 % or so.
const PATHS: usize = 256;
/// Of every answer, so that the same question has the same answer.
const SEED: u64 = 0x706c_696d;
/// Tenths of a standard deviation that quantiles are reckoned for, either way.
const NORMAL_STEPS: usize = 33;

/// On which side of the limit trouble lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// A disk that fills: at or above the limit is trouble.
    Above,
    /// Free memory that shrinks: at or below the limit is trouble.
    Below,
}

/// Steps ahead at which the limit is first met, 0 being the first step after the history; `None` where the forecast
/// ends before that is as probable as said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eta {
    /// It is as early as this or earlier with a probability of 10 %.
    pub p10: Option<usize>,
    /// As likely earlier as later.
    pub p50: Option<usize>,
    /// It is met by then with a probability of 90 %.
    pub p90: Option<usize>,
}

/// When values first meet `limit`.
///
/// Paths are drawn about the forecast: at each step spread as its quantiles, and along a path as alike as the errors of the
/// back-test were. What counts is when each path first meets the limit, so a value that is noisy meets it before its
/// mean does. Paths are as wide as the errors were and not widened as bounds are: the farthest of many steps, each a little
/// too wide, would be far too wide. The draws are the same every time.
pub fn time_to_limit(forecast: &Forecast, limit: f64, direction: Direction) -> Eta {
    let mut met: Vec<usize> = first_met(forecast, limit, direction);
    met.sort_unstable();
    let after = |share: f64| met.get((share * PATHS as f64).ceil() as usize - 1).copied();
    Eta { p10: after(0.1), p50: after(0.5), p90: after(0.9) }
}

/// The step at which each path that meets the limit does so first.
fn first_met(forecast: &Forecast, limit: f64, direction: Direction) -> Vec<usize> {
    let spread = &forecast.spread;
    let table: Vec<f64> = (0..=2 * NORMAL_STEPS)
        .map(|at| spread.raw_units(normal_share((at as f64 - NORMAL_STEPS as f64) / 10.0)))
        .collect();
    let (stays, kept) = (spread.echo.share.sqrt(), spread.echo.kept);
    let (goes, moves) = ((1.0 - spread.echo.share).sqrt(), (1.0 - kept * kept).sqrt());
    let mut chance = Chance::seeded(SEED);
    let mut path = |_| {
        let [mut slow, _] = chance.normals();
        forecast.mean.iter().enumerate().position(|(step, mean)| {
            let [move_by, fast] = chance.normals();
            slow = kept * slow + moves * move_by;
            let value = mean + spread.size(step) * looked_up(&table, stays * slow + goes * fast);
            match direction {
                Direction::Above => forecast.within(value) >= limit,
                Direction::Below => forecast.within(value) <= limit,
            }
        })
    };
    (0..PATHS).filter_map(&mut path).collect()
}

/// What a table of every tenth of a deviation has there; at its ends for what is farther.
fn looked_up(table: &[f64], normal: f64) -> f64 {
    let last = (table.len() - 1) as f64;
    let at = (normal * 10.0 + NORMAL_STEPS as f64).clamp(0.0, last);
    let (low, high) = (table[at as usize], table[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Share of the standard normal distribution below `at`: Abramowitz and Stegun 1964, 26.2.17, off by less than 1e-7.
fn normal_share(at: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * at.abs());
    let sum = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let above =
        sum.iter().fold(0.0, |sum, part| (sum + part) * t) * (-at * at / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if at < 0.0 { above } else { 1.0 - above }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_normal_distribution_are_known() {
        for (at, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (3.3, 0.999_516_6)] {
            assert!((normal_share(at) - expected).abs() < 2e-7, "{at}: {}", normal_share(at));
        }
    }

    #[test]
    fn tables_are_read_between_their_lines() {
        let table: Vec<f64> = (0..=2 * NORMAL_STEPS).map(|at| at as f64).collect();
        for (normal, expected) in [(0.0, 33.0), (0.05, 33.5), (-9.0, 0.0), (9.0, 66.0)] {
            assert!((looked_up(&table, normal) - expected).abs() < 1e-9, "{normal}");
        }
    }
}
