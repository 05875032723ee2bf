//! Which model to trust, and by how much: by rolling back through the history and forecasting what is known.

use rayon::prelude::*;

use super::models::{Model, blend};
use super::robust::quantile;

/// Most times the history is cut.
const FOLDS_MAX: usize = 6;
/// The blend is taken unless another model errs less than this share of its error.
const BLEND_BONUS: f64 = 0.9;

/// A model's errors on the history it did not see.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Trial {
    pub model: Model,
    /// `errors[fold][step]`: what came less what was forecast.
    pub errors: Vec<Vec<f64>>,
}

impl Trial {
    /// Mean absolute error.
    fn error(&self) -> f64 {
        let all = self.errors.iter().flatten();
        let count = all.clone().count().max(1) as f64;
        all.map(|error| error.abs() / count).sum()
    }

    /// Half the width of an interval that holds `level` of what comes, for each of `horizon` steps; it never narrows.
    ///
    /// Conformal: the errors of the back-test, each taken relative to the mean size of errors about its step, have a
    /// `level` quantile, and that is the width relative to the same size. Steps past the back-test grow as those of
    /// a random walk.
    pub fn widths(&self, horizon: usize, level: f64) -> Vec<f64> {
        let sizes = self.sizes();
        let Some(&last) = sizes.last() else {
            return vec![0.0; horizon];
        };
        let relative: Vec<f64> = self
            .errors
            .iter()
            .flat_map(|fold| fold.iter().zip(&sizes))
            .map(|(error, size)| if *size > 0.0 { error.abs() / size } else { 0.0 })
            .collect();
        let count = relative.len() as f64;
        let factor = quantile(&relative, (level * (count + 1.0) / count).min(1.0)).unwrap_or(0.0) * self.scarcity();
        let beyond = |step: usize| last * ((step + 1) as f64 / sizes.len() as f64).sqrt();
        (0..horizon).map(|step| factor * sizes.get(step).copied().unwrap_or_else(|| beyond(step))).collect()
    }

    /// Few folds have seen little of what can happen: errors within one go together.
    fn scarcity(&self) -> f64 {
        1.0 + 1.0 / self.errors.len().max(1) as f64
    }

    /// Mean size of the errors about each step, never falling.
    fn sizes(&self) -> Vec<f64> {
        let steps = self.errors.first().map_or(0, Vec::len);
        let reach = steps / 8 + 1;
        let about = |step: usize| {
            let near = step.saturating_sub(reach)..(step + reach + 1).min(steps);
            let count = (near.len() * self.errors.len()) as f64;
            self.errors.iter().flat_map(|fold| &fold[near.clone()]).map(|error| error.abs() / count).sum::<f64>()
        };
        let rising = |most: &mut f64, size: f64| {
            *most = most.max(size);
            Some(*most)
        };
        (0..steps).map(about).scan(0.0, rising).collect()
    }
}

/// Tries `models` and the median blend of `members` (places in `models`) on cuts of the history of at least two points,
/// and gives the one to trust.
pub(super) fn choose(history: &[f64], seasons: &[usize], models: &[Model], members: &[usize], horizon: usize) -> Trial {
    let cuts = cuts(history.len(), seasons, horizon);
    let folds: Vec<Vec<Vec<f64>>> = cuts.par_iter().map(|cut| fold(history, seasons, models, members, cut)).collect();
    let trial =
        |(at, model): (usize, Model)| Trial { model, errors: folds.iter().map(|fold| fold[at].clone()).collect() };
    let blend = Model::Blend(members.iter().map(|&at| models[at].clone()).collect());
    let blend = trial((models.len(), blend));
    decide(models.iter().cloned().enumerate().map(trial).collect(), blend)
}

/// The trial that erred least, but the blend where it is near and no seasonal naive line beat it: it is right more
/// often than one back-test can show.
fn decide(trials: Vec<Trial>, blend: Trial) -> Trial {
    let beats = |trial: &Trial| {
        let bonus = if matches!(trial.model, Model::SeasonalNaive(_)) { 1.0 } else { BLEND_BONUS };
        trial.error() < blend.error() * bonus
    };
    let beaten = trials.iter().any(beats);
    let best = trials.into_iter().min_by(|a, b| a.error().total_cmp(&b.error()));
    best.filter(|_| beaten).unwrap_or(blend)
}

/// Errors of every model and of the blend on one cut.
fn fold(history: &[f64], seasons: &[usize], models: &[Model], members: &[usize], cut: &Cut) -> Vec<Vec<f64>> {
    let (seen, coming) = (&history[..cut.at], &history[cut.at..cut.at + cut.steps]);
    let mut lines: Vec<Vec<f64>> = models.iter().map(|model| model.predict(seen, seasons, cut.steps)).collect();
    lines.push(blend(&members.iter().map(|&at| &lines[at]).collect::<Vec<_>>()));
    lines.iter().map(|line| coming.iter().zip(line).map(|(came, said)| came - said).collect()).collect()
}

/// A place to cut the history at, and how many steps after it to forecast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cut {
    at: usize,
    steps: usize,
}

/// Cuts from the latest back, a forecast's length apart, closer where the history is short; what is left to learn
/// from is half the history at least and two of its longest seasons.
fn cuts(length: usize, seasons: &[usize], horizon: usize) -> Vec<Cut> {
    let learn = (length / 2).max(seasons.iter().max().map_or(0, |period| 2 * period)).clamp(1, length - 1);
    let room = length - learn;
    let steps = horizon.min(room.div_ceil(2)).max(1);
    let apart = ((room - steps) / (FOLDS_MAX - 1)).clamp(1, steps);
    (0..FOLDS_MAX)
        .map_while(|fold| (length - steps).checked_sub(fold * apart))
        .filter(|&at| at >= learn)
        .map(|at| Cut { at, steps })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_leave_enough_to_learn_from() {
        type Case = (usize, &'static [usize], usize, &'static [usize], usize);
        let table: [Case; 6] = [
            (700, &[24, 168], 48, &[652, 604, 556, 508, 460, 412], 48),
            (100, &[], 10, &[90, 82, 74, 66, 58, 50], 10),
            (100, &[40], 20, &[90, 88, 86, 84, 82, 80], 10),
            (4, &[], 10, &[3, 2], 1),
            (2, &[], 1, &[1], 1),
            (30, &[14], 7, &[29, 28], 1),
        ];
        for (length, seasons, horizon, at, steps) in table {
            let expected: Vec<Cut> = at.iter().map(|&at| Cut { at, steps }).collect();
            assert_eq!(cuts(length, seasons, horizon), expected, "{length} {seasons:?} {horizon}");
        }
    }

    #[test]
    fn the_model_that_fits_wins() {
        let models = [Model::Mean, Model::Naive, Model::Drift, Model::SeasonalNaive(3)];
        let line: Vec<f64> = (0..40).map(f64::from).collect();
        let saw: Vec<f64> = (0..40).map(|t| f64::from(t % 3)).collect();
        for (history, expected) in [(line, Model::Drift), (saw, Model::SeasonalNaive(3))] {
            let trial = choose(&history, &[], &models, &[0, 1], 6);
            assert_eq!(trial.model, expected);
            assert!(trial.errors.iter().flatten().all(|error| error.abs() < 1e-9));
        }
    }

    #[test]
    fn the_blend_wins_when_near_but_never_against_a_better_seasonal_naive_line() {
        let trial = |model: Model, error: f64| Trial { model, errors: vec![vec![error, -error]] };
        let table = [
            (1.20, 0.95, 1.0, "blend"),
            (1.00, 0.95, 1.0, "blend"),
            (0.99, 1.10, 1.0, "seasonal_naive"),
            (0.99, 0.95, 1.0, "mstl"),
            (1.20, 0.80, 1.0, "mstl"),
        ];
        for (naive, mstl, blend, expected) in table {
            let trials = vec![trial(Model::SeasonalNaive(24), naive), trial(Model::Mstl, mstl)];
            let chosen = decide(trials, trial(Model::Blend(vec![]), blend));
            assert_eq!(chosen.model.name(), expected, "{naive} {mstl} {blend}");
        }
    }

    #[test]
    fn widths_hold_the_errors_and_never_narrow() {
        let errors = vec![vec![1.0, -2.0, 0.5, 3.0], vec![-1.0, 2.0, 4.0, -3.0]];
        let widths = Trial { model: Model::Mean, errors }.widths(16, 0.9);
        assert!(widths.is_sorted(), "{widths:?}");
        assert!(widths[1] > 2.0 && widths[3] > 3.0, "{widths:?}");
        let calming = vec![vec![4.0, 3.0, 0.5, 0.1, 0.1]];
        let narrowing = Trial { model: Model::Mean, errors: calming }.widths(5, 0.9);
        assert!(narrowing.is_sorted(), "{narrowing:?}");
        assert!((widths[15] / widths[3] - 2.0).abs() < 1e-9, "four times as far, twice as wide: {widths:?}");
    }

    #[test]
    fn a_model_without_errors_has_no_width() {
        let widths = Trial { model: Model::Mean, errors: vec![vec![0.0; 3]; 2] }.widths(5, 0.95);
        assert_eq!(widths, [0.0; 5]);
    }
}
