//! The forecasting models: each takes a gap-free history and gives a line ahead, from naive to decomposition.
//!
//! MSTL (Bandara, Hyndman and Bergmeir 2021) and ETS are augurs'. Its intervals are not used: they explode at times,
//! and ours come from the back-test.

use augurs::ets::AutoETS;
use augurs::mstl::MSTLModel;
use augurs::{Fit, Predict};

use super::robust::median;

/// Fewest points that ETS is fitted to.
const ETS_POINTS_MIN: usize = 12;
/// How many of the history's ranges a forecast may leave it by before it counts as exploded.
const RANGES_MAX: f64 = 2.0;

/// A way to forecast. Models that cannot be fitted give the naive line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Model {
    /// The mean of the history.
    Mean,
    /// The last value.
    Naive,
    /// The line from the first value to the last.
    Drift,
    /// The straight line of least squares.
    Line,
    /// Exponential smoothing with a trend, damped or not.
    Ets,
    /// The value one season ago.
    SeasonalNaive(usize),
    /// Seasons taken out by LOESS, ETS with a damped trend on the rest.
    Mstl,
    /// The same on logarithms: seasons that grow with the level.
    MstlLog,
    /// Step by step the median of these.
    Blend(Vec<Model>),
}

impl Model {
    pub fn name(&self) -> &'static str {
        match self {
            Model::Mean => "mean",
            Model::Naive => "naive",
            Model::Drift => "drift",
            Model::Line => "line",
            Model::Ets => "ets",
            Model::SeasonalNaive(_) => "seasonal_naive",
            Model::Mstl => "mstl",
            Model::MstlLog => "mstl_log",
            Model::Blend(_) => "blend",
        }
    }

    /// `horizon` finite steps ahead of `history`, which has a point at least.
    pub fn predict(&self, history: &[f64], seasons: &[usize], horizon: usize) -> Vec<f64> {
        let line = match self {
            Model::Mean => Some(vec![history.iter().map(|v| v / history.len() as f64).sum(); horizon]),
            Model::Naive => Some(naive(history, horizon)),
            Model::Drift => Some(drift(history, horizon)),
            Model::Line => Some(line(history, horizon)),
            Model::Ets => ets(history, horizon),
            Model::SeasonalNaive(period) => seasonal_naive(history, *period, horizon),
            Model::Mstl => mstl(history, seasons, horizon),
            Model::MstlLog => mstl_log(history, seasons, horizon),
            Model::Blend(members) => {
                let lines: Vec<Vec<f64>> = members.iter().map(|m| m.predict(history, seasons, horizon)).collect();
                Some(blend(&lines.iter().collect::<Vec<_>>()))
            }
        };
        line.filter(|line| is_sane(line, history)).unwrap_or_else(|| naive(history, horizon))
    }
}

/// Step by step the median of the lines.
pub(super) fn blend(lines: &[&Vec<f64>]) -> Vec<f64> {
    let horizon = lines.iter().map(|line| line.len()).min().unwrap_or(0);
    let at = |step: usize| lines.iter().map(|line| line[step]).collect::<Vec<f64>>();
    (0..horizon).map(|step| median(&at(step)).unwrap_or(0.0)).collect()
}

/// Finite, and not further from the history than it is wide and long.
fn is_sane(line: &[f64], history: &[f64]) -> bool {
    let (low, high) = range(history);
    let room = (high - low) * (RANGES_MAX + line.len() as f64 / history.len() as f64);
    line.iter().all(|&value| value >= low - room && value <= high + room)
}

pub(super) fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

fn naive(history: &[f64], horizon: usize) -> Vec<f64> {
    vec![history.last().copied().unwrap_or(0.0); horizon]
}

fn drift(history: &[f64], horizon: usize) -> Vec<f64> {
    let (first, last) = (history[0], history[history.len() - 1]);
    let slope = (last - first) / (history.len() - 1).max(1) as f64;
    (1..=horizon).map(|step| last + slope * step as f64).collect()
}

fn line(history: &[f64], horizon: usize) -> Vec<f64> {
    let count = history.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = history.iter().map(|value| value / count).sum::<f64>();
    let (mut across, mut along) = (f64::MIN_POSITIVE, 0.0);
    for (at, value) in history.iter().enumerate() {
        across += (at as f64 - middle).powi(2);
        along += (at as f64 - middle) * (value - mean);
    }
    (0..horizon).map(|step| mean + along / across * (middle + 1.0 + step as f64)).collect()
}

fn seasonal_naive(history: &[f64], period: usize, horizon: usize) -> Option<Vec<f64>> {
    let cycle = history.get(history.len().checked_sub(period)?..)?;
    Some(cycle.iter().copied().cycle().take(horizon).collect())
}

/// Additive errors and trend: the series is centred, and on zero nothing can be multiplied.
fn trend() -> Option<AutoETS> {
    AutoETS::new(1, "AAN").ok()
}

fn ets(history: &[f64], horizon: usize) -> Option<Vec<f64>> {
    let (unit, scale) = unit(history).filter(|_| history.len() >= ETS_POINTS_MIN)?;
    let line = trend()?.fit(&unit).ok()?.predict(horizon, None).ok()?.point;
    Some(scale.back(line))
}

fn mstl(history: &[f64], seasons: &[usize], horizon: usize) -> Option<Vec<f64>> {
    let periods: Vec<usize> = seasons.iter().copied().filter(|period| history.len() >= 2 * period).collect();
    let (unit, scale) = unit(history).filter(|_| history.len() >= ETS_POINTS_MIN && !periods.is_empty())?;
    let model = MSTLModel::new(periods, trend()?.damped(true).ok()?.into_trend_model());
    let line = model.fit(&unit).ok()?.predict(horizon, None).ok()?.point;
    Some(scale.back(line))
}

fn mstl_log(history: &[f64], seasons: &[usize], horizon: usize) -> Option<Vec<f64>> {
    let logs: Vec<f64> = history.iter().map(|value| value.ln()).collect();
    let positive = logs.iter().all(|log| log.is_finite());
    let line = positive.then(|| mstl(&logs, seasons, horizon))??;
    Some(line.into_iter().map(f64::exp).collect())
}

/// What takes a series to mean 0 and deviation 1 and back: MSTL works in f32, which would lose a small swing on a
/// high level.
struct Scale {
    mean: f64,
    deviation: f64,
}

impl Scale {
    fn back(&self, line: Vec<f64>) -> Vec<f64> {
        line.into_iter().map(|value| self.mean + value * self.deviation).collect()
    }
}

/// The series at mean 0 and deviation 1; `None` for one that is constant.
fn unit(values: &[f64]) -> Option<(Vec<f64>, Scale)> {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| value / count).sum::<f64>();
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let varies = deviation > 1e-12 * mean.abs() && deviation.is_finite();
    varies.then(|| (values.iter().map(|value| (value - mean) / deviation).collect(), Scale { mean, deviation }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_models_draw_the_lines_they_are_named_for() {
        let history = [1.0, 5.0, 3.0, 7.0];
        let table = [
            (Model::Mean, [4.0, 4.0, 4.0]),
            (Model::Naive, [7.0, 7.0, 7.0]),
            (Model::Drift, [9.0, 11.0, 13.0]),
            (Model::Line, [8.0, 9.6, 11.2]),
            (Model::SeasonalNaive(2), [3.0, 7.0, 3.0]),
            (Model::SeasonalNaive(9), [7.0, 7.0, 7.0]),
            (Model::Ets, [7.0, 7.0, 7.0]),
            (Model::Mstl, [7.0, 7.0, 7.0]),
            (Model::Blend(vec![Model::Mean, Model::Drift, Model::SeasonalNaive(2)]), [4.0, 7.0, 4.0]),
        ];
        for (model, expected) in table {
            let found = model.predict(&history, &[], 3);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{model:?}: {found:?}");
        }
    }

    #[test]
    fn decomposition_goes_on_with_season_and_trend() {
        let truth = |t: f64| 1e9 + t * 20.0 + (t / 12.0 * std::f64::consts::TAU).sin() * 1e3;
        let history: Vec<f64> = (0..180).map(|t| truth(f64::from(t))).collect();
        for model in [Model::Mstl, Model::MstlLog] {
            for (step, value) in model.predict(&history, &[12], 24).into_iter().enumerate() {
                let off = value - truth(180.0 + step as f64);
                assert!(off.abs() < 150.0, "{model:?} is off by {off} at step {step}");
            }
        }
    }

    #[test]
    fn a_model_that_explodes_gives_the_naive_line() {
        let history: Vec<f64> = (0..120).map(|t| (0.1 * f64::from(t) + f64::from(t % 12) * 0.01).exp()).collect();
        let exploded = mstl_log(&history, &[12], 200).unwrap();
        assert!(exploded[199] > 10.0 * history[119], "the case is one: {}", exploded[199]);
        assert_eq!(Model::MstlLog.predict(&history, &[12], 200), naive(&history, 200));
    }

    #[test]
    fn an_exploding_line_is_not_sane() {
        let history = [0.0, 1.0, 2.0, 3.0];
        for (line, sane) in
            [(vec![8.9; 2], true), (vec![1e3, 1.0], false), (vec![f64::NAN], false), (vec![-50.0], false)]
        {
            assert_eq!(is_sane(&line, &history), sane, "{line:?}");
        }
    }
}
