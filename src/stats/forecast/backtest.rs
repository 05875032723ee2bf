//! Which models to trust, and how far: by going back in the history and forecasting what is known.

use super::blend::{blend, weights};
use super::models::{Model, Past, pool};

/// Most times the history is cut.
const FOLDS_MAX: usize = 8;
/// Least share of the history to learn from at a cut, and least share of a longest season.
const LEARN_MIN: f64 = 0.4;
const LEARN_SEASONS_MIN: f64 = 1.25;
/// Of what is left so much is forecast at most, so that there is room for several cuts.
const STEPS_SHARE_MAX: f64 = 0.75;
/// The best model alone is taken instead of the blend where it errs less than this share of what the blend does: the blend is
/// right more often than a back-test can show.
const ALONE_SHARE: f64 = 0.85;

/// The places a history is cut at, and how many steps are forecast from each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cuts {
    /// Counts of points seen, ascending.
    pub origins: Vec<usize>,
    pub steps: usize,
    /// Steps between the first cut and the end.
    pub room: usize,
}

impl Cuts {
    /// Cuts from the latest back, a forecast's length apart, closer where the history is short. There are two points or more.
    pub fn of(length: usize, seasons: &[usize], horizon: usize) -> Cuts {
        let longest = seasons.iter().max().map_or(0.0, |&period| period as f64 * LEARN_SEASONS_MIN);
        let learn = ((length as f64 * LEARN_MIN).max(longest) as usize).clamp(1, length - 1);
        let room = length - learn;
        let steps = horizon.min((room as f64 * STEPS_SHARE_MAX) as usize).max(1);
        let apart = ((room - steps) / (FOLDS_MAX - 1)).clamp(1, steps);
        let back = (0..FOLDS_MAX).map_while(|fold| (length - steps).checked_sub(fold * apart));
        let mut origins: Vec<usize> = back.filter(|&at| at >= learn).collect();
        origins.reverse();
        Cuts { room: length - origins[0], origins, steps }
    }
}

/// What is made of a history: the line ahead, and the errors that such lines had in it.
pub(super) struct Trial {
    /// The model that it is by, or `blend` of several.
    pub name: &'static str,
    pub is_seasonal: bool,
    pub mean: Vec<f64>,
    pub cuts: Cuts,
    /// `errors[cut][step]`: what came less what was forecast.
    pub errors: Vec<Vec<f64>>,
}

/// A model's lines at the cuts and from the end, and its mean absolute error at each cut; NaN where it has no line.
struct Tried {
    lines: Vec<Vec<f64>>,
    errors: Vec<f64>,
}

impl Tried {
    fn new(model: &Model, past: &Past, cuts: &Cuts, horizon: usize, bound: impl Fn(f64) -> f64) -> Tried {
        let end = past.plain.len();
        let origins: Vec<usize> = cuts.origins.iter().copied().chain([end]).collect();
        let mut lines = model.lines(past, &origins, horizon.max(cuts.steps));
        lines.iter_mut().zip(&cuts.origins).for_each(|(line, _)| line.truncate(cuts.steps));
        lines.iter_mut().flatten().for_each(|value| *value = bound(*value));
        let errors = cuts.origins.iter().zip(&lines).map(|(&at, line)| {
            if line.is_empty() { f64::NAN } else { size(&missed(&past.plain[at..at + cuts.steps], line)) }
        });
        Tried { errors: errors.collect(), lines }
    }

    /// Mean error over all cuts but one.
    fn error_without(&self, cut: Option<usize>) -> f64 {
        let kept = self.errors.iter().enumerate().filter(|(at, _)| Some(*at) != cut).map(|(_, error)| *error);
        let count = self.errors.len() - usize::from(cut.is_some());
        let exploded = self.lines.last().is_none_or(Vec::is_empty);
        if exploded { f64::NAN } else { kept.sum::<f64>() / count.max(1) as f64 }
    }
}

fn missed(came: &[f64], said: &[f64]) -> Vec<f64> {
    came.iter().zip(said).map(|(came, said)| came - said).collect()
}

fn size(errors: &[f64]) -> f64 {
    errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len().max(1) as f64
}

/// Tries the models that suit on cuts of the history and blends them by how they did. `bound` keeps values within what they
/// can be.
pub(super) fn trial(past: &Past, seasons: &[usize], horizon: usize, bound: impl Fn(f64) -> f64) -> Trial {
    let cuts = Cuts::of(past.plain.len(), seasons, horizon);
    let models = pool(past, seasons);
    let tried = models.iter().map(|model| Tried::new(model, past, &cuts, horizon, &bound)).collect();
    Contest { past, cuts, models, tried }.decided(horizon)
}

/// All models with what came of them.
struct Contest<'a> {
    past: &'a Past,
    cuts: Cuts,
    models: Vec<Model>,
    tried: Vec<Tried>,
}

impl Contest<'_> {
    fn decided(self, horizon: usize) -> Trial {
        let end = self.cuts.origins.len();
        // Each cut is forecast with the weights that the others give: what it would have been without knowing it.
        let blended = self.missed_by(|cut| self.line(cut, &self.weights((end > 1).then_some(cut))));
        let (weights, errors) =
            match self.better_alone(blended.iter().map(|errors| size(errors)).sum::<f64>() / end as f64) {
                Some(only) => {
                    let weights: Vec<f64> = (0..self.models.len()).map(|at| f64::from(u8::from(at == only))).collect();
                    let errors = self.missed_by(|cut| self.line(cut, &weights));
                    (weights, errors)
                }
                None => (self.weights(None), blended),
            };
        let mut mean = self.line(end, &weights);
        mean.truncate(horizon);
        let parts = self.models.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0).map(|(model, _)| model);
        let name =
            if parts.clone().count() > 1 { "blend" } else { parts.clone().map(Model::name).next().unwrap_or("naive") };
        let is_seasonal = parts.clone().any(Model::is_seasonal);
        Trial { name, is_seasonal, mean, cuts: self.cuts, errors }
    }

    /// The model that did best, where it did much better than a blend that erred so, or a naive line did better at all.
    fn better_alone(&self, error: f64) -> Option<usize> {
        let errors: Vec<f64> = self.tried.iter().map(|tried| tried.error_without(None)).collect();
        let best =
            (0..errors.len()).filter(|&at| !errors[at].is_nan()).min_by(|&a, &b| errors[a].total_cmp(&errors[b]))?;
        let beats = |(model, own): (&Model, &f64)| *own < error * if model.is_naive() { 1.0 } else { ALONE_SHARE };
        self.models.iter().zip(&errors).any(beats).then_some(best)
    }

    /// Weights of the models by their errors at all cuts but one.
    fn weights(&self, left_out: Option<usize>) -> Vec<f64> {
        weights(&self.tried.iter().map(|tried| tried.error_without(left_out)).collect::<Vec<f64>>())
    }

    fn line(&self, cut: usize, weights: &[f64]) -> Vec<f64> {
        let lines: Vec<&[f64]> = self.tried.iter().map(|tried| &tried.lines[cut][..]).collect();
        blend(&lines, weights)
    }

    /// What came less the line of each cut.
    fn missed_by(&self, line: impl Fn(usize) -> Vec<f64>) -> Vec<Vec<f64>> {
        let coming = self.cuts.origins.iter().map(|&at| &self.past.plain[at..at + self.cuts.steps]);
        coming.enumerate().map(|(cut, came)| missed(came, &line(cut))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_leave_enough_to_learn_from() {
        type Case = (usize, &'static [usize], usize, &'static [usize], usize, usize);
        let table: [Case; 6] = [
            (700, &[24, 168], 48, &[316, 364, 412, 460, 508, 556, 604, 652], 48, 384),
            (504, &[24], 168, &[203, 222, 241, 260, 279, 298, 317, 336], 168, 301),
            (100, &[40], 20, &[52, 56, 60, 64, 68, 72, 76, 80], 20, 48),
            (30, &[14], 7, &[17, 18, 19, 20, 21, 22, 23], 7, 13),
            (4, &[], 10, &[1, 2], 2, 3),
            (2, &[], 1, &[1], 1, 1),
        ];
        for (length, seasons, horizon, origins, steps, room) in table {
            let expected = Cuts { origins: origins.to_vec(), steps, room };
            assert_eq!(Cuts::of(length, seasons, horizon), expected, "{length} {seasons:?} {horizon}");
        }
    }

    fn tried(errors: &[f64]) -> Tried {
        Tried { lines: vec![vec![0.0]; errors.len() + 1], errors: errors.to_vec() }
    }

    #[test]
    fn a_model_alone_wins_when_far_better_and_the_best_where_a_naive_line_is() {
        let past = Past::new(vec![1.0, 2.0, 3.0]);
        // Errors of the seasonal naive line, of a straight one and of the blend.
        let table = [
            (1.20, 0.95, 1.0, None),
            (1.00, 0.86, 1.0, None),
            (0.99, 1.10, 1.0, Some(0)),
            (0.99, 0.95, 1.0, Some(1)),
            (1.20, 0.80, 1.0, Some(1)),
            (f64::NAN, 0.90, 1.0, None),
        ];
        for (naive, line, blend, expected) in table {
            let models = vec![Model::SeasonalNaive(24), Model::Line];
            let cuts = Cuts::of(3, &[], 1);
            let contest = Contest { past: &past, cuts, models, tried: vec![tried(&[naive; 2]), tried(&[line; 2])] };
            assert_eq!(contest.better_alone(blend), expected, "{naive} {line} {blend}");
        }
    }

    #[test]
    fn a_cut_left_out_counts_for_nothing() {
        let some = tried(&[1.0, 2.0, 6.0]);
        let table = [(None, 3.0), (Some(0), 4.0), (Some(2), 1.5)];
        for (cut, expected) in table {
            assert_eq!(some.error_without(cut), expected, "{cut:?}");
        }
        assert!(Tried { lines: vec![vec![0.0], vec![]], errors: vec![1.0] }.error_without(None).is_nan());
    }

    #[test]
    fn the_model_that_fits_wins() {
        let line: Vec<f64> = (0..40).map(f64::from).collect();
        let saw: Vec<f64> = (0..40).map(|t| f64::from(t % 3)).collect();
        for (history, seasons, next) in [(line, [].as_slice(), 40.0), (saw, &[3], 1.0)] {
            let trial = trial(&Past::new(history), seasons, 6, |value| value);
            assert!((trial.mean[0] - next).abs() < 1e-9, "{} {:?}", trial.name, trial.mean);
            assert!(trial.errors.iter().flatten().all(|error| error.abs() < 1e-9));
        }
    }
}
