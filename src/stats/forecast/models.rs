//! The ways to forecast, and which of them suit a history.

use super::decomposition::decomposed;
use super::regression::regressed;
use super::simple;
use super::smoothing::{Aim, smoothed};
use super::theta::theta;

/// How many of the history's ranges a forecast may leave it by before it counts as exploded.
const RANGES_MAX: f64 = 1.5;
/// Fewest points that anything with constants is fitted to.
const FITTED_POINTS_MIN: usize = 24;
/// Cycles whose median is taken: the latest, and enough for a season that hardly moves.
const CYCLES: [usize; 2] = [4, 14];
/// Cycles that tell how much the season moves from one to the next.
const DRIFT_CYCLES: usize = 14;
/// Values whose median is a forecast.
const MIDDLE: usize = 24;

/// What a model works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scale {
    Plain,
    /// Logarithms: swings that grow with the level.
    Log,
}

/// A way to forecast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Model {
    /// The last value.
    Naive,
    /// The median of the last values.
    Middle,
    /// The line from the first value to the last.
    Drift,
    /// The straight line of least squares.
    Line,
    /// The value one season ago.
    SeasonalNaive(usize),
    /// The same, moved on by the usual change from one cycle to the next.
    SeasonalDrift(usize),
    /// The median of each phase of a season over so many cycles.
    PhaseMedian(usize, usize),
    Theta(usize),
    Smoothing(Vec<usize>, Scale, Aim),
    Regression(Vec<usize>, Scale),
    Decomposition(Vec<usize>, Scale),
}

impl Model {
    pub fn name(&self) -> &'static str {
        match self {
            Model::Naive => "naive",
            Model::Middle => "median",
            Model::Drift => "drift",
            Model::Line => "line",
            Model::SeasonalNaive(_) => "seasonal_naive",
            Model::SeasonalDrift(_) => "seasonal_drift",
            Model::PhaseMedian(..) => "phase_median",
            Model::Theta(_) => "theta",
            Model::Smoothing(_, Scale::Plain, _) => "smoothing",
            Model::Smoothing(_, Scale::Log, _) => "smoothing_log",
            Model::Regression(_, Scale::Plain) => "regression",
            Model::Regression(_, Scale::Log) => "regression_log",
            Model::Decomposition(_, Scale::Plain) => "mstl",
            Model::Decomposition(_, Scale::Log) => "mstl_log",
        }
    }

    /// Whether it is what any other is to be better than.
    pub fn is_naive(&self) -> bool {
        matches!(self, Model::Naive | Model::SeasonalNaive(_))
    }

    /// Whether it knows of a season.
    pub fn is_seasonal(&self) -> bool {
        match self {
            Model::Naive | Model::Middle | Model::Drift | Model::Line => false,
            Model::SeasonalNaive(_) | Model::SeasonalDrift(_) | Model::PhaseMedian(..) => true,
            Model::Theta(period) => *period > 1,
            Model::Smoothing(seasons, ..) | Model::Regression(seasons, _) | Model::Decomposition(seasons, _) => {
                !seasons.is_empty()
            }
        }
    }

    fn scale(&self) -> Scale {
        match self {
            Model::Smoothing(_, scale, _) | Model::Regression(_, scale) | Model::Decomposition(_, scale) => *scale,
            _ => Scale::Plain,
        }
    }

    /// Forecasts of `steps` steps from each of `origins` (counts of points seen, ascending, over 0); empty where it cannot,
    /// or where it explodes.
    pub fn lines(&self, past: &Past, origins: &[usize], steps: usize) -> Vec<Vec<f64>> {
        let Some(values) = past.on(self.scale()) else { return vec![vec![]; origins.len()] };
        let mut lines = self.raw_lines(values, origins, steps);
        for (line, &at) in lines.iter_mut().zip(origins) {
            if self.scale() == Scale::Log {
                line.iter_mut().for_each(|value| *value = value.exp());
            }
            if !is_sane(line, &past.plain[..at]) {
                line.clear();
            }
        }
        lines
    }

    fn raw_lines(&self, values: &[f64], origins: &[usize], steps: usize) -> Vec<Vec<f64>> {
        let each = |line: &dyn Fn(&[f64]) -> Vec<f64>| origins.iter().map(|&at| line(&values[..at])).collect();
        match self {
            Model::Naive => each(&|seen| simple::naive(seen, steps)),
            Model::Middle => each(&|seen| simple::middle(seen, MIDDLE, steps)),
            Model::Drift => each(&|seen| simple::drift(seen, steps)),
            Model::Line => each(&|seen| simple::line(seen, steps)),
            Model::SeasonalNaive(period) => each(&|seen| simple::seasonal(seen, *period, steps)),
            Model::SeasonalDrift(period) => each(&|seen| simple::seasonal_drift(seen, *period, DRIFT_CYCLES, steps)),
            Model::PhaseMedian(period, cycles) => each(&|seen| simple::phase_medians(seen, *period, *cycles, steps)),
            Model::Theta(period) => each(&|seen| theta(seen, *period, steps)),
            Model::Smoothing(seasons, _, aim) => smoothed(values, seasons, *aim, origins, steps),
            Model::Regression(seasons, _) => regressed(values, seasons, origins, steps),
            Model::Decomposition(seasons, _) => decomposed(values, seasons, origins, steps),
        }
    }
}

/// A gap-free history, and its logarithms where all of it is over 0.
pub(super) struct Past {
    pub plain: Vec<f64>,
    logs: Option<Vec<f64>>,
}

impl Past {
    pub fn new(plain: Vec<f64>) -> Past {
        let logs = plain.iter().all(|value| *value > 0.0).then(|| plain.iter().map(|value| value.ln()).collect());
        Past { plain, logs }
    }

    fn on(&self, scale: Scale) -> Option<&[f64]> {
        match scale {
            Scale::Plain => Some(&self.plain),
            Scale::Log => self.logs.as_deref(),
        }
    }

    /// Logarithms where there are any.
    fn scale(&self) -> Scale {
        if self.logs.is_some() { Scale::Log } else { Scale::Plain }
    }
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

/// The models that suit a history with these seasons, ascending.
pub(super) fn pool(past: &Past, seasons: &[usize]) -> Vec<Model> {
    let mut models = vec![Model::Naive, Model::Drift, Model::Line];
    if past.plain.len() < FITTED_POINTS_MIN {
        models.push(Model::Middle);
        models.extend(seasons.iter().map(|&period| Model::SeasonalNaive(period)));
        return models;
    }
    let Some((&first, &last)) = seasons.first().zip(seasons.last()) else {
        models.extend(level_models(past.scale()));
        return models;
    };
    models.extend(seasons.iter().map(|&period| Model::SeasonalNaive(period)));
    models.push(Model::SeasonalDrift(first));
    models.extend([Model::PhaseMedian(first, CYCLES[0]), Model::PhaseMedian(last, CYCLES[1])]);
    models.extend(season_models(past.scale(), seasons, first));
    models
}

/// Fitted models of a series without seasons.
fn level_models(scale: Scale) -> Vec<Model> {
    let mut models = vec![
        Model::Middle,
        Model::Theta(0),
        Model::Smoothing(vec![], Scale::Plain, Aim::Ahead),
        Model::Smoothing(vec![], Scale::Plain, Aim::Next),
        Model::Regression(vec![], Scale::Plain),
    ];
    if scale == Scale::Log {
        models.push(Model::Smoothing(vec![], Scale::Log, Aim::Ahead));
    }
    models
}

/// Fitted models of a series with seasons.
fn season_models(scale: Scale, seasons: &[usize], first: usize) -> Vec<Model> {
    let all = || seasons.to_vec();
    let mut models = vec![
        Model::Smoothing(all(), Scale::Plain, Aim::Ahead),
        Model::Smoothing(vec![first], scale, Aim::Next),
        Model::Regression(all(), Scale::Plain),
        Model::Decomposition(all(), scale),
    ];
    if scale == Scale::Log {
        models.push(Model::Smoothing(all(), scale, Aim::Ahead));
        models.push(Model::Regression(vec![first], scale));
    }
    if seasons.len() > 1 {
        models.push(Model::Smoothing(all(), scale, Aim::Next));
    }
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_explodes_has_no_line() {
        let history = [0.0, 1.0, 2.0, 3.0];
        let table = [(vec![8.9; 2], true), (vec![1e3, 1.0], false), (vec![f64::NAN], false), (vec![-50.0], false)];
        for (line, sane) in table {
            assert_eq!(is_sane(&line, &history), sane, "{line:?}");
        }
    }

    #[test]
    fn logarithms_need_values_over_zero() {
        let model = Model::Smoothing(vec![], Scale::Log, Aim::Next);
        let values: Vec<f64> = (0..40).map(|at| f64::from(at % 5)).collect();
        assert_eq!(model.lines(&Past::new(values.clone()), &[30, 40], 2), [Vec::<f64>::new(), Vec::new()]);
        let above = Past::new(values.iter().map(|value| value + 1.0).collect());
        assert!(model.lines(&above, &[30, 40], 2).iter().flatten().all(|value| (1.0..=5.0).contains(value)));
    }

    #[test]
    fn short_histories_have_few_models() {
        let past = |points: usize| Past::new((0..points).map(|at| at as f64).collect());
        let table = [(5, [].as_slice(), 4), (20, &[5], 5), (100, &[], 8), (100, &[12], 11), (700, &[24, 168], 13)];
        for (points, seasons, expected) in table {
            assert_eq!(pool(&past(points), seasons).len(), expected, "{points} {seasons:?}");
        }
    }
}
