//! Exponential smoothing with a damped trend, any number of seasons and an echo of the last error.
//!
//! The additive form of Taylor (2003, 2010): the level, the trend and the phase of each season move by their own shares of
//! every one-step error, and what is left of an error is expected back by a share `echo`. Errors beyond a few of their
//! own usual sizes are cut to that before anything is learnt from them (Gelper, Fried and Croux 2010), so a spike moves
//! little. One pass through the history forecasts from any number of origins.

use super::search::least;

/// Errors count up to this many times their usual size.
const ERROR_MAX: f64 = 3.0;
/// Share of the distance to the last error's size that the usual size moves by.
const SIZE_SHARE: f64 = 0.02;
/// Least and greatest damping of the trend a step.
const DAMPING: (f64, f64) = (0.8, 0.995);
/// Greatest share of an error that is expected back.
const ECHO_MAX: f64 = 0.98;
/// Origins that are forecast from when constants are chosen by how well they see ahead, and steps of each compared.
const ORIGINS: usize = 12;
const STEPS_COMPARED: usize = 16;

/// What the constants are chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// Least squared error of the next step.
    Next,
    /// Least absolute error of the steps up to the horizon; wild values are cut.
    Ahead,
}

/// The constants, each a share of the error, and the damping.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Constants {
    level: f64,
    trend: f64,
    damping: f64,
    echo: f64,
    seasons: Vec<f64>,
}

impl Constants {
    /// From numbers without bounds: level, echo, trend, damping and one a season.
    fn of(free: &[f64]) -> Constants {
        let share = |free: f64| 1.0 / (1.0 + (-free).exp());
        let level = share(free[0]);
        Constants {
            level,
            trend: level * share(free[2]),
            damping: DAMPING.0 + (DAMPING.1 - DAMPING.0) * share(free[3]),
            echo: ECHO_MAX * share(free[1]),
            seasons: free[4..].iter().map(|&free| share(free)).collect(),
        }
    }

    /// The constants that suit a history best.
    fn fit(values: &[f64], seasons: &[usize], aim: Aim, steps: usize) -> Constants {
        let start = [[-3.0, 0.5, -3.0, 0.0].as_slice(), &vec![-1.5; seasons.len()]].concat();
        let origins = match aim {
            Aim::Next => vec![],
            Aim::Ahead => origins(values.len(), warm_up(values.len(), seasons), steps),
        };
        let cost = |free: &[f64]| match aim {
            Aim::Next => Smoothing::run(values, seasons, &Constants::of(free), f64::INFINITY, &[], |_, _| {}),
            Aim::Ahead => cost_ahead(values, seasons, &Constants::of(free), &origins, steps),
        };
        Constants::of(&least(start, 1.0, cost))
    }

    /// The same of a series without seasons, for its next step.
    pub fn of_level(values: &[f64]) -> Constants {
        Constants::fit(values, &[], Aim::Next, 1)
    }

    /// What follows a series without seasons.
    pub fn level_ahead(&self, values: &[f64], steps: usize) -> Vec<f64> {
        self.lines(values, &[], f64::INFINITY, &[values.len()], steps).pop().unwrap_or_default()
    }

    fn lines(
        &self,
        values: &[f64],
        seasons: &[usize],
        error_max: f64,
        origins: &[usize],
        steps: usize,
    ) -> Vec<Vec<f64>> {
        let mut lines = Vec::with_capacity(origins.len());
        Smoothing::run(values, seasons, self, error_max, origins, |state, _| {
            lines.push((0..steps).map(|step| state.ahead(self, step)).collect());
        });
        lines
    }
}

/// Points that the first state is made of, and that no error is counted in.
fn warm_up(length: usize, seasons: &[usize]) -> usize {
    match seasons.iter().max() {
        None => 10.min(length / 2).max(1),
        Some(&longest) => (2 * longest).min(length / 2).max(longest).min(length),
    }
}

/// Even places between the first state and where the last forecast fits.
fn origins(length: usize, first: usize, steps: usize) -> Vec<usize> {
    let room = length.saturating_sub(first + steps.min((length - first) / 4).max(1));
    let mut places: Vec<usize> = (0..ORIGINS).map(|at| first + room * at / (ORIGINS - 1)).collect();
    places.dedup();
    places
}

fn cost_ahead(values: &[f64], seasons: &[usize], constants: &Constants, origins: &[usize], steps: usize) -> f64 {
    let mut cost = 0.0;
    let stride = steps.div_ceil(STEPS_COMPARED) | 1; // odd, so that it shares no factor with most days
    Smoothing::run(values, seasons, constants, ERROR_MAX, origins, |state, at| {
        let coming = values[at..].iter().take(steps).enumerate().step_by(stride);
        cost += coming.map(|(step, came)| (came - state.ahead(constants, step)).abs()).sum::<f64>();
    });
    cost
}

/// Forecasts of `steps` steps from each of `origins` (counts of points seen, ascending), by constants chosen for the whole
/// history.
pub(super) fn smoothed(values: &[f64], seasons: &[usize], aim: Aim, origins: &[usize], steps: usize) -> Vec<Vec<f64>> {
    let constants = Constants::fit(values, seasons, aim, steps);
    let error_max = if aim == Aim::Ahead { ERROR_MAX } else { f64::INFINITY };
    constants.lines(values, seasons, error_max, origins, steps)
}

/// What is known at a point of the history.
struct Smoothing {
    level: f64,
    trend: f64,
    /// The last value less what was expected but for the echo.
    left: f64,
    /// Usual size of an error.
    size: f64,
    cycles: Vec<Cycle>,
}

/// A season: what each phase adds, and the phase of the next step.
struct Cycle {
    phases: Vec<f64>,
    next: usize,
}

impl Smoothing {
    /// The mean of the first values, and the mean of each phase about it; the next step is the first again.
    fn of_start(first: &[f64], seasons: &[usize]) -> Smoothing {
        let count = first.len().max(1) as f64;
        let level = first.iter().map(|value| value / count).sum::<f64>();
        let mut rest: Vec<f64> = first.iter().map(|value| value - level).collect();
        let cycles = seasons.iter().map(|&period| Cycle { phases: take_out(&mut rest, period), next: 0 }).collect();
        let size = rest.iter().map(|value| value.abs() / count).sum::<f64>() + f64::MIN_POSITIVE;
        Smoothing { level, trend: 0.0, left: 0.0, size, cycles }
    }

    /// Goes through `values` and calls `at_origin` with the state at each of `origins`. Gives the mean squared error of the
    /// steps after the first state, wild ones by their size alone (Huber 1964).
    fn run(
        values: &[f64],
        seasons: &[usize],
        constants: &Constants,
        error_max: f64,
        origins: &[usize],
        mut at_origin: impl FnMut(&Smoothing, usize),
    ) -> f64 {
        let first = warm_up(values.len(), seasons);
        let mut state = Smoothing::of_start(&values[..first], seasons);
        let still = state.size * ERROR_MAX;
        let huber = |error: f64| if error < still { error * error } else { still * (2.0 * error - still) };
        let (mut cost, mut from) = (0.0, 0);
        for (&origin, is_origin) in origins.iter().map(|at| (at, true)).chain([(&values.len(), false)]) {
            for (at, value) in (from..origin).zip(&values[from..origin]) {
                let error = state.learn(*value, constants, error_max);
                cost += if at < first { 0.0 } else { huber(error.abs()) };
            }
            from = origin;
            if is_origin {
                at_origin(&state, origin);
            }
        }
        cost / values.len().saturating_sub(first).max(1) as f64
    }

    /// Takes the next value and gives the error of what was expected.
    fn learn(&mut self, value: f64, constants: &Constants, error_max: f64) -> f64 {
        let trend = constants.damping * self.trend;
        let season: f64 = self.cycles.iter().map(|cycle| cycle.phases[cycle.next]).sum();
        let left = value - (self.level + trend + season);
        let error = left - constants.echo * self.left;
        let most = error_max * self.size;
        let moved = error.clamp(-most, most);
        self.left = if moved == error { left } else { left.clamp(-2.0 * most, 2.0 * most) };
        self.size += SIZE_SHARE * (error.abs().min(4.0 * self.size) - self.size);
        self.level += trend + constants.level * moved;
        self.trend = trend + constants.trend * moved;
        for (cycle, share) in self.cycles.iter_mut().zip(&constants.seasons) {
            cycle.phases[cycle.next] += share * moved;
            cycle.next = if cycle.next + 1 == cycle.phases.len() { 0 } else { cycle.next + 1 };
        }
        error
    }

    /// What is expected `step` steps from here; 0 is the next.
    fn ahead(&self, constants: &Constants, step: usize) -> f64 {
        let (damping, steps) = (constants.damping, i32::try_from(step + 1).unwrap_or(i32::MAX));
        let sum = damping * (1.0 - damping.powi(steps)) / (1.0 - damping);
        let season = |cycle: &Cycle| cycle.phases[(cycle.next + step) % cycle.phases.len()];
        let seasons: f64 = self.cycles.iter().map(season).sum();
        self.level + self.trend * sum + seasons + self.left * constants.echo.powi(steps)
    }
}

/// The mean of each phase, taken out of `rest`.
fn take_out(rest: &mut [f64], period: usize) -> Vec<f64> {
    let mean = |phase: usize| {
        let same = rest.iter().skip(phase).step_by(period);
        let count = same.len().max(1) as f64;
        same.sum::<f64>() / count
    };
    let means: Vec<f64> = (0..period).map(mean).collect();
    rest.iter_mut().enumerate().for_each(|(at, value)| *value -= means[at % period]);
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_goes_on_and_is_damped() {
        let values: Vec<f64> = (0..200).map(f64::from).collect();
        for aim in [Aim::Next, Aim::Ahead] {
            let line = smoothed(&values, &[], aim, &[200], 20).remove(0);
            assert!((line[0] - 200.0).abs() < 0.5, "{aim:?}: {line:?}");
            assert!(line[19] > 214.0 && line[19] <= 219.5, "{aim:?}: {line:?}");
        }
    }

    #[test]
    fn seasons_within_seasons_are_followed_from_any_origin() {
        let truth = |at: usize| (at % 4) as f64 + if at % 20 < 12 { 10.0 } else { 0.0 };
        let values: Vec<f64> = (0..200).map(truth).collect();
        let origins = [90, 133, 200];
        for (line, origin) in smoothed(&values, &[4, 20], Aim::Ahead, &origins, 25).iter().zip(origins) {
            for (step, value) in line.iter().enumerate() {
                assert!((value - truth(origin + step)).abs() < 0.6, "{origin} + {step}: {value}");
            }
        }
    }

    #[test]
    fn a_spike_moves_little_what_is_seen_ahead() {
        let mut values: Vec<f64> = (0..120).map(|at| f64::from(at % 7)).collect();
        values[118] = 1e6;
        let line = smoothed(&values, &[], Aim::Ahead, &[120], 5).remove(0);
        assert!(line.iter().all(|value| (-20.0..20.0).contains(value)), "{line:?}");
    }

    #[test]
    fn origins_are_even_and_leave_room_to_compare() {
        let table: [(usize, usize, usize, &[usize]); 4] = [
            (100, 10, 12, &[10, 17, 24, 31, 38, 45, 52, 59, 66, 73, 80, 88]),
            (100, 10, 40, &[10, 16, 22, 28, 34, 40, 47, 53, 59, 65, 71, 78]),
            (6, 3, 9, &[3, 4, 5]),
            (1, 1, 3, &[1]),
        ];
        for (length, first, steps, expected) in table {
            assert_eq!(origins(length, first, steps), expected, "{length} {first} {steps}");
        }
    }
}
