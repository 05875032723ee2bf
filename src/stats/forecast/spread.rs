//! How far what comes may lie from what was forecast: conformal, from the errors of the back-test.
//!
//! Each error is taken in units of the usual size of errors at its step and its phase of the season; the quantiles of
//! these are the bounds in the same units (Vovk, Gammerman and Shafer 2005, split by rolling origins). Few windows that do not
//! overlap have seen little of what can happen, so bounds widen by one over their number. Steps past the back-test grow
//! as those within it did.

use super::backtest::{Cuts, Trial};

/// Errors of the back-test are a little small, as constants are chosen for the whole history.
const WIDER: f64 = 1.06;
/// Errors of average size that are added to each phase, so that few do not tell much.
const PHASE_PRIOR: f64 = 8.0;

/// The quantiles of what comes, about a line.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Spread {
    /// Usual size of an error at each step ahead.
    sizes: Vec<f64>,
    /// Errors of the back-test in units of their usual size, ascending; and how large they are either way, ascending.
    signed: Vec<f64>,
    either: Vec<f64>,
    /// What bounds are widened by.
    scarcity: f64,
    /// Correlation of errors in the same units with those one step, and some steps, later.
    pub echo: Echo,
}

/// How errors go together along a path: a part that stays, `share` of the variance, a step's share of it `kept` to the next.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Echo {
    pub share: f64,
    pub kept: f64,
}

impl Spread {
    /// From the errors of a back-test, for `horizon` steps after `length` points with a season of `period`.
    pub fn of(trial: &Trial, length: usize, period: usize, horizon: usize) -> Spread {
        let Trial { errors, cuts: Cuts { origins, room, .. }, .. } = trial;
        let steps = errors.first().map_or(0, Vec::len);
        if steps == 0 {
            return Spread { sizes: vec![0.0; horizon], ..Spread::default() };
        }
        let phases = phase_sizes(errors, origins, period.max(1));
        let phase = |at: usize| phases[at % phases.len()];
        let even: Vec<Vec<f64>> = errors
            .iter()
            .zip(origins)
            .map(|(errors, &at)| errors.iter().enumerate().map(|(step, error)| error / phase(at + step)).collect())
            .collect();
        let rising = rising_sizes(&even);
        let units: Vec<Vec<f64>> = even.iter().map(|errors| in_units(errors, &rising)).collect();
        let growth = growth(&rising);
        let beyond = |step: usize| rising[steps - 1] * ((step + 1) as f64 / steps as f64).powf(growth);
        let size = |step: usize| rising.get(step).copied().unwrap_or_else(|| beyond(step)) * phase(length + step);
        let mut signed: Vec<f64> = units.concat();
        signed.sort_unstable_by(f64::total_cmp);
        let mut either: Vec<f64> = signed.iter().map(|unit| unit.abs()).collect();
        either.sort_unstable_by(f64::total_cmp);
        Spread {
            sizes: (0..horizon).map(size).collect(),
            signed,
            either,
            scarcity: WIDER * (1.0 + steps as f64 / (*room).max(1) as f64),
            echo: Echo::of(&units),
        }
    }

    /// The same of a series so many times as large.
    pub fn times(mut self, factor: f64) -> Spread {
        self.sizes.iter_mut().for_each(|size| *size = (*size * factor).min(f64::MAX));
        self
    }

    /// Usual size of an error at a step; 0 past the horizon.
    pub fn size(&self, step: usize) -> f64 {
        self.sizes.get(step).copied().unwrap_or(0.0)
    }

    /// What lies a `share` (0 to 1) of the way through what may come, less the line, in usual sizes; 0 at a half. It is the
    /// mean of that of all errors either way and of those to this side alone, widened for what was not seen.
    pub fn units(&self, share: f64) -> f64 {
        self.raw_units(share) * self.scarcity
    }

    /// The same, not widened.
    pub fn raw_units(&self, share: f64) -> f64 {
        if self.signed.is_empty() || share == 0.5 {
            return 0.0;
        }
        let count = self.signed.len() as f64;
        let level = ((2.0 * share - 1.0).abs() * (count + 1.0) / count).clamp(0.0, 1.0);
        let way = if share < 0.5 { -1.0 } else { 1.0 };
        let middle = quantile_of(&self.signed, 0.5);
        let side = (quantile_of(&self.signed, (1.0 + way * level) / 2.0) - middle) * way;
        way * f64::midpoint(quantile_of(&self.either, level), side)
    }
}

impl Echo {
    /// From the correlations of errors one step and a quarter of the steps apart.
    fn of(units: &[Vec<f64>]) -> Echo {
        let steps = units.first().map_or(0, Vec::len);
        let total: f64 = units.iter().flatten().map(|unit| unit * unit).sum();
        let at = |lag: usize| {
            let products = |units: &Vec<f64>| units.iter().zip(&units[lag..]).map(|(a, b)| a * b).sum::<f64>();
            let sum: f64 = units.iter().map(products).sum();
            (sum / total * steps as f64 / (steps - lag) as f64).clamp(0.0, 1.0)
        };
        let far = (steps / 4).max(2);
        if far >= steps || total <= 0.0 {
            return Echo { share: 1.0, kept: 1.0 };
        }
        let (near, distant) = (at(1), at(far));
        if near <= 0.0 {
            return Echo::default();
        }
        let kept = (distant / near).powf(1.0 / (far - 1) as f64).clamp(0.0, 0.9999);
        Echo { share: if kept > 0.0 { (near / kept).min(1.0) } else { 0.0 }, kept }
    }
}

/// The power of the step that sizes grew with in the later half of the back-test: 0 of noise, a half of a walk, 1 of a slope.
fn growth(sizes: &[f64]) -> f64 {
    let (half, last) = (sizes[(sizes.len() - 1) / 2], sizes[sizes.len() - 1]);
    let times = sizes.len() as f64 / sizes.len().div_ceil(2) as f64;
    let growth = (last / half).ln() / times.ln();
    if growth.is_finite() { growth.clamp(0.0, 1.0) } else { 0.5 }
}

fn in_units(errors: &[f64], sizes: &[f64]) -> Vec<f64> {
    errors.iter().zip(sizes).map(|(error, size)| if *size > 0.0 { error / size } else { 0.0 }).collect()
}

/// Usual size of errors in each phase as a multiple of that in all, over 0; smoothed over its neighbours.
fn phase_sizes(errors: &[Vec<f64>], origins: &[usize], period: usize) -> Vec<f64> {
    let all: Vec<f64> = errors.iter().flatten().map(|error| error.abs()).collect();
    let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
    if mean <= 0.0 || !mean.is_finite() || period < 2 {
        return vec![1.0];
    }
    let (mut sums, mut counts) = (vec![PHASE_PRIOR; period], vec![PHASE_PRIOR; period]);
    for (errors, at) in errors.iter().zip(origins) {
        for (step, error) in errors.iter().enumerate() {
            sums[(at + step) % period] += error.abs() / mean;
            counts[(at + step) % period] += 1.0;
        }
    }
    let own: Vec<f64> = sums.iter().zip(counts).map(|(sum, count)| sum / count).collect();
    (0..period).map(|at| (own[(at + period - 1) % period] + 2.0 * own[at] + own[(at + 1) % period]) / 4.0).collect()
}

/// Mean size of the errors about each step, never falling.
fn rising_sizes(errors: &[Vec<f64>]) -> Vec<f64> {
    let steps = errors.first().map_or(0, Vec::len);
    let of_step = |step: usize| errors.iter().map(|errors| errors[step].abs()).sum::<f64>() / errors.len() as f64;
    let sizes: Vec<f64> = (0..steps).map(of_step).collect();
    let reach = steps / 8 + 1;
    let about = |step: usize| {
        let near = &sizes[step.saturating_sub(reach)..(step + reach + 1).min(steps)];
        near.iter().sum::<f64>() / near.len() as f64
    };
    never_falling((0..steps).map(about))
}

/// What never falls and is nearest to the values, in least squares: neighbours that fall are pooled (Ayer et al. 1955).
fn never_falling(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for value in values {
        let mut last = (value, 1);
        while let Some((before, count)) = pools.pop_if(|pool| pool.0 > last.0) {
            let all = count + last.1;
            last = ((before * count as f64 + last.0 * last.1 as f64) / all as f64, all);
        }
        pools.push(last);
    }
    pools.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count)).collect()
}

/// Type 7 of Hyndman and Fan 1996, of what is sorted and not empty.
fn quantile_of(sorted: &[f64], share: f64) -> f64 {
    let at = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(errors: Vec<Vec<f64>>, horizon: usize) -> Spread {
        let (steps, folds) = (errors[0].len(), errors.len());
        let origins = (0..folds).map(|fold| 10 + fold * steps).collect();
        let cuts = Cuts { origins, steps, room: steps * folds };
        Spread::of(&Trial { name: "naive", is_seasonal: false, mean: vec![], cuts, errors }, 100, 0, horizon)
    }

    #[test]
    fn quantiles_hold_the_errors_and_sizes_never_fall() {
        let made = spread(vec![vec![1.0, -2.0, 0.5, 3.0], vec![-1.0, 2.0, 4.0, -3.0]], 16);
        assert!(made.sizes.is_sorted() && made.sizes.len() == 16, "{:?}", made.sizes);
        assert!(made.units(0.99) * made.size(3) > 3.0 && made.units(0.01) * made.size(3) < -3.0);
        let calming = spread(vec![vec![4.0, 3.0, 0.5, 0.1, 0.1]], 5);
        assert!(calming.sizes.is_sorted(), "{:?}", calming.sizes);
    }

    #[test]
    fn skewed_errors_have_skewed_quantiles() {
        let errors: Vec<Vec<f64>> =
            (0..4).map(|_| (0..20).map(|at| if at % 5 == 0 { 9.0 } else { -1.0 }).collect()).collect();
        let made = spread(errors, 5);
        assert!(made.units(0.9) > -1.5 * made.units(0.1), "{} {}", made.units(0.9), made.units(0.1));
        assert_eq!(made.units(0.5), 0.0);
    }

    #[test]
    fn sizes_go_on_growing_as_they_did() {
        let table = [(0.0, 1.0), (0.5, 2.0), (1.0, 4.0)];
        for (power, times) in table {
            let sizes: Vec<f64> = (1..=40).map(|step| f64::from(step).powf(power)).collect();
            assert!((4.0_f64.powf(growth(&sizes)) - times).abs() < 0.2, "{power}: {}", growth(&sizes));
        }
        assert_eq!((growth(&[0.0; 4]), growth(&[1.0])), (0.5, 0.5));
    }

    #[test]
    fn errors_that_go_together_echo() {
        let alternating: Vec<Vec<f64>> = vec![(0..40).map(|at| f64::from(at % 2) * 2.0 - 1.0).collect()];
        let staying: Vec<Vec<f64>> = vec![vec![1.0; 40], vec![-1.0; 40]];
        assert_eq!(Echo::of(&alternating), Echo { share: 0.0, kept: 0.0 });
        let echo = Echo::of(&staying);
        assert!(echo.share > 0.99 && echo.kept > 0.99, "{echo:?}");
    }

    #[test]
    fn neighbours_that_fall_are_pooled() {
        let table: [(&[f64], &[f64]); 4] = [
            (&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]),
            (&[3.0, 1.0, 2.0], &[2.0, 2.0, 2.0]),
            (&[1.0, 4.0, 2.0, 9.0], &[1.0, 3.0, 3.0, 9.0]),
            (&[], &[]),
        ];
        for (values, expected) in table {
            assert_eq!(never_falling(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn without_errors_there_is_no_width() {
        let made = spread(vec![vec![0.0; 3]; 2], 5);
        assert!((0..5).all(|step| made.units(0.99) * made.size(step) == 0.0), "{made:?}");
    }
}
