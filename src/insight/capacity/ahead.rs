//! The forecast of a usage: its likely line, a tenth of the chance either side, and when it meets the limit.

use std::time::Duration;

use super::resource::Resource;
use super::usage::{DAY, Outlook, Usage};
use crate::stats::{Direction, ForecastOptions, forecast, ladder_step, time_to_limit, to_grid};

/// Points that a forecast learns from: usage in finer steps is taken together first.
const POINTS: usize = 2016;
/// What values without a capacity are of.
const PERCENT: f64 = 100.0;
/// Steps ahead, at most.
const STEPS_MAX: usize = 10_000;

/// What an [`Outlook`] is a view of; empty where the history is too short for a forecast.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ahead {
    start: i64,
    step: i64,
    lines: [Vec<f64>; 3],
    to_limit: [Option<i64>; 3],
    /// The model; empty without a forecast.
    pub model: &'static str,
}

impl Ahead {
    /// Of what the resource's limit is at `replicas`.
    pub fn of(resource: &Resource, usage: &Usage<'_>, replicas: f64, horizon: Duration) -> Ahead {
        let horizon = i64::try_from(horizon.as_nanos()).unwrap_or(i64::MAX);
        let (times, values): (Vec<i64>, Vec<f64>) = usage.present().unzip();
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ahead::default() };
        let step = ladder_step(usage.step, last - first, POINTS).max(ladder_step(1, horizon, STEPS_MAX));
        let (start, grid) = to_grid(&times, &values, step);
        let steps = usize::try_from(horizon / step).unwrap_or(STEPS_MAX).max(1);
        let options = ForecastOptions {
            hints: [DAY / step, 7 * DAY / step].into_iter().filter_map(|n| usize::try_from(n).ok()).collect(),
            non_negative: values.iter().all(|value| *value >= 0.0),
            most: (resource.capacity.is_none() && values.iter().all(|value| *value <= PERCENT)).then_some(PERCENT),
            ..ForecastOptions::default()
        };
        let Ok(made) = forecast(&grid, steps, &options) else { return Ahead::default() };
        let eta = time_to_limit(&made, resource.at(resource.limit, replicas), Direction::Above);
        let after = |steps: Option<usize>| steps.map(|steps| steps as i64 * step);
        Ahead {
            start: start + grid.len() as i64 * step,
            step,
            lines: [0.1, 0.5, 0.9].map(|share| made.quantile(share)),
            to_limit: [eta.p10, eta.p50, eta.p90].map(after),
            model: made.model,
        }
    }

    pub fn outlook(&self) -> Outlook<'_> {
        let [p10, p50, p90] = &self.lines;
        Outlook { start: self.start, step: self.step, p10, p50, p90, to_limit: self.to_limit }
    }
}
