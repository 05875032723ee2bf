//! What comes next: a line ahead and how far off it may be, by whichever models did best on the history itself.
//!
//! Simple lines, exponential smoothing, autoregression and decomposition (`models`) forecast from several places of the
//! history what is known (`backtest`); the line given is their weighted median (`blend`), and its quantiles are those of
//! the errors made there (`spread`). `limit` answers when a value meets a limit.

mod backtest;
mod blend;
mod calendar;
mod chance;
mod decomposition;
mod limit;
mod models;
mod prepare;
mod regression;
mod search;
mod simple;
mod smoothing;
mod spread;
#[cfg(test)]
mod tests;
mod theta;

pub use calendar::Exception;
pub use limit::{Direction, Eta, time_to_limit};
pub use prepare::bridge;

use super::seasons::find_seasons;
use backtest::trial;
use calendar::{taken_from, without};
use models::{Past, range};
use prepare::{Present, fill};
use spread::Spread;

/// A season is one beside a longer one that it divides if it comes this often in it; else the longer one says all.
const INNER_CYCLES_MIN: usize = 4;
/// Share of what comes that an interval is to hold where nobody says otherwise.
const LEVEL: f64 = 0.95;
/// Of the greatest value so much is farther than any line goes.
const SIZES_MAX: f64 = 1e6;
/// Fewest cycles of a season that are given or hinted at.
const CYCLES_MIN: usize = 3;

/// What is asked of a forecast.
#[derive(Clone, PartialEq, Debug)]
pub struct ForecastOptions {
    /// Share of what comes that the interval is to hold, 0.5 to 0.999.
    pub level: f64,
    /// Seasons in steps; `None` finds them.
    pub seasons: Option<Vec<usize>>,
    /// Periods to look at when seasons are found, as a day or a week in steps. They must prove themselves.
    pub hints: Vec<usize>,
    /// Nothing below zero makes sense.
    pub non_negative: bool,
    /// Nothing above this makes sense, as 100 of a percentage.
    pub most: Option<f64>,
    /// Stretches that are unlike others, as holidays.
    pub exceptions: Vec<Exception>,
}

impl Default for ForecastOptions {
    fn default() -> Self {
        ForecastOptions {
            level: LEVEL,
            seasons: None,
            hints: Vec::new(),
            non_negative: false,
            most: None,
            exceptions: Vec::new(),
        }
    }
}

/// The steps after a history. All numbers are finite, `lower <= mean <= upper`, one a step.
#[derive(Clone, PartialEq, Debug)]
pub struct Forecast {
    /// The model that was chosen, or `blend` of several.
    pub model: &'static str,
    /// The seasons used, in steps; empty for none.
    pub seasons: Vec<usize>,
    pub mean: Vec<f64>,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    /// Share of the points learnt from that were gaps, 0 to 1.
    pub share_imputed: f64,
    spread: Spread,
    /// Least and greatest that a value can be.
    bounds: (f64, f64),
}

/// Why there is no forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    #[error("too short a history: {has} points, {needs} needed")]
    TooShort { needs: usize, has: usize },
    #[error("a history without a value")]
    NoValues,
}

/// Forecasts `horizon` steps after `history`, a regular grid in which NaN (and infinity) is a gap.
///
/// Of long histories the latest 8,064 points are used. Seasons are found unless given. Each model that suits is tried on up
/// to eight cuts of the history, and the line is the median of all, weighted by the inverse squares of their errors there;
/// one alone where it did better by far, or where the last value or the last season again did better at all. So what is
/// given is never what a seasonal naive forecast beat. The quantiles are conformal: those of the errors of the same cuts,
/// each forecast without regard to how the models did on it.
///
/// ```
/// use plimsoll::stats::{ForecastOptions, forecast};
/// let history: Vec<f64> = (0..96).map(|hour| if hour % 24 < 8 { 1.0 } else { 5.0 }).collect();
/// let found = forecast(&history, 24, &ForecastOptions::default())?;
/// assert_eq!((found.seasons[0], found.mean[0], found.mean[23]), (24, 1.0, 5.0));
/// # Ok::<(), plimsoll::stats::ForecastError>(())
/// ```
///
/// # Errors
/// Where there is no value at all, or fewer than four points from the first to the last.
pub fn forecast(history: &[f64], horizon: usize, options: &ForecastOptions) -> Result<Forecast, ForecastError> {
    let usual = without(history, &options.exceptions);
    let present = Present::of(usual.as_deref().unwrap_or(history))?;
    let bridged = bridge(&present.values);
    let (low, high) = range(&bridged);
    if high - low <= 1e-12 * high.abs().max(low.abs()) {
        let flat = vec![bridged[bridged.len() - 1] * present.size; horizon];
        return Ok(Forecast::new("constant", vec![], flat, Spread::default(), &present, options));
    }
    let seasons = seasons(&bridged, options);
    let taken = taken_from(&options.exceptions, history.len(), horizon, seasons.last().copied().unwrap_or(0));
    let steps = taken.iter().map(|step| step + 1).max().unwrap_or(0);
    let past = Past::new(fill(&present.values, bridged, &seasons));
    let (least, most) = options.bounds();
    let in_size = |bound: f64| (bound / present.size).clamp(-SIZES_MAX, SIZES_MAX);
    let bound = |value: f64| value.clamp(in_size(least), in_size(most));
    let trial = trial(&past, &seasons, steps, bound);
    let seasons = if trial.is_seasonal { seasons } else { vec![] };
    let spread = Spread::of(&trial, past.plain.len(), seasons.first().copied().unwrap_or(0), horizon);
    let mean = taken.iter().map(|&step| trial.mean[step] * present.size).collect();
    Ok(Forecast::new(trial.name, seasons, mean, spread.times(present.size), &present, options))
}

impl ForecastOptions {
    fn bounds(&self) -> (f64, f64) {
        let low = if self.non_negative { 0.0 } else { f64::MIN };
        (low, self.most.filter(|most| most.is_finite()).unwrap_or(f64::MAX).clamp(low, f64::MAX))
    }
}

impl Forecast {
    fn new(
        model: &'static str,
        seasons: Vec<usize>,
        mean: Vec<f64>,
        spread: Spread,
        present: &Present,
        options: &ForecastOptions,
    ) -> Self {
        let mut made = Forecast {
            model,
            seasons,
            mean,
            lower: vec![],
            upper: vec![],
            share_imputed: present.share_missing(),
            spread,
            bounds: options.bounds(),
        };
        made.mean = made.mean.iter().map(|value| made.within(*value)).collect();
        let level = if options.level.is_nan() { LEVEL } else { options.level.clamp(0.5, 0.999) };
        made.lower = made.quantile((1.0 - level) / 2.0);
        made.upper = made.quantile(f64::midpoint(1.0, level));
        made
    }

    /// The value at each step below which what comes lies with a probability of `share`, 0 to 1; at 0.5 the line itself.
    pub fn quantile(&self, share: f64) -> Vec<f64> {
        let units = self.spread.units(if share.is_nan() { 0.5 } else { share.clamp(0.0, 1.0) });
        let at = |(step, mean): (usize, &f64)| self.within(mean + self.spread.size(step) * units);
        self.mean.iter().enumerate().map(at).collect()
    }

    fn within(&self, value: f64) -> f64 {
        value.clamp(self.bounds.0, self.bounds.1)
    }
}

/// The seasons to forecast with, ascending: those given or found, else the shortest hint that fits, which the back-test
/// may still turn down.
fn seasons(values: &[f64], options: &ForecastOptions) -> Vec<usize> {
    let longest = values.len() / CYCLES_MIN;
    let fitting = |periods: &[usize]| -> Vec<usize> {
        let mut fitting: Vec<usize> = periods.iter().copied().filter(|period| (2..=longest).contains(period)).collect();
        fitting.sort_unstable();
        fitting.dedup();
        fitting
    };
    if let Some(given) = &options.seasons {
        return fitting(given);
    }
    let mut found = find_seasons(values, &options.hints);
    if let Some(&main) = found.last() {
        found.retain(|period| *period == main || main % period != 0 || main / period >= INNER_CYCLES_MIN);
        return found;
    }
    fitting(&options.hints).into_iter().take(1).collect()
}
