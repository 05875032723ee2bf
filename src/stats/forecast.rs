//! What comes next: a line ahead and an interval about it, by whichever model did best on the history itself.

use super::backtest::{Trial, choose};
use super::models::{Model, range};
use super::seasons::find_seasons;

/// Fewest points from the first value to the last.
const POINTS_MIN: usize = 4;
/// Most points learnt from, the latest: what is older says little of what comes and costs much.
const POINTS_MAX: usize = 2016;
/// Fewest points for exponential smoothing to be among the models.
const SMOOTHING_POINTS_MIN: usize = 24;
/// Gaps up to this long are bridged by a straight line; longer ones take the values a season away.
const BRIDGE_MAX: usize = 2;

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
}

impl Default for ForecastOptions {
    fn default() -> Self {
        ForecastOptions { level: 0.95, seasons: None, hints: Vec::new(), non_negative: false }
    }
}

/// The steps after a history. All numbers are finite, `lower <= mean <= upper`, one a step.
#[derive(Clone, PartialEq, Debug)]
pub struct Forecast {
    /// `constant`, `mean`, `naive`, `drift`, `line`, `ets`, `seasonal_naive`, `mstl`, `mstl_log` or `blend`, the median
    /// of three of them.
    pub model: &'static str,
    /// The seasons used, in steps; empty for none.
    pub seasons: Vec<usize>,
    pub mean: Vec<f64>,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    /// Share of the points learnt from that were gaps, 0 to 1.
    pub share_imputed: f64,
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
/// Of histories longer than 2,016 points the latest 2,016 are used. Seasons are found unless given. Models are tried on
/// up to six cuts of the history and the one with the least mean absolute error is taken, a median blend of several
/// being preferred when near; so what is given is never one that the seasonal naive forecast beat there. The intervals
/// are conformal: as wide as the errors of the same trials.
///
/// # Errors
/// Where there is no value at all, or fewer than four points from the first to the last.
pub fn forecast(history: &[f64], horizon: usize, options: &ForecastOptions) -> Result<Forecast, ForecastError> {
    let (values, size) = present(history)?;
    let gaps = values.iter().filter(|value| value.is_nan()).count();
    let share_imputed = gaps as f64 / values.len() as f64;
    let bridged = bridge(&values);
    let (low, high) = range(&bridged);
    if high - low <= 1e-12 * high.abs().max(low.abs()) {
        let flat = vec![bridged[bridged.len() - 1] * size; horizon];
        return Ok(Forecast::new("constant", vec![], flat, &vec![0.0; horizon], share_imputed, options));
    }
    let seasons = match &options.seasons {
        Some(given) => usable(given, bridged.len()),
        None => find_seasons(&bridged, &options.hints),
    };
    let filled = fill(&values, bridged, &seasons);
    let trial = trial(&filled, &seasons, horizon);
    let scaled = |line: Vec<f64>| line.into_iter().map(|value| value * size).collect::<Vec<f64>>();
    let mean = scaled(trial.model.predict(&filled, &seasons, horizon));
    let widths = scaled(trial.widths(horizon, options.level.clamp(0.5, 0.999)));
    Ok(Forecast::new(trial.model.name(), seasons, mean, &widths, share_imputed, options))
}

impl Forecast {
    fn new(
        model: &'static str,
        seasons: Vec<usize>,
        mean: Vec<f64>,
        widths: &[f64],
        share_imputed: f64,
        options: &ForecastOptions,
    ) -> Self {
        let floor = if options.non_negative { 0.0 } else { f64::MIN };
        let within = |value: f64| value.clamp(floor, f64::MAX);
        let mean: Vec<f64> = mean.into_iter().map(within).collect();
        let edge = |sign: f64| mean.iter().zip(widths).map(|(mean, width)| within(mean + sign * width)).collect();
        Forecast { model, seasons, lower: edge(-1.0), upper: edge(1.0), mean, share_imputed }
    }
}

/// The points to learn from: from the first value on and the latest of them, gaps as NaN, divided by their greatest
/// size so that no square overflows; and that size.
fn present(history: &[f64]) -> Result<(Vec<f64>, f64), ForecastError> {
    let recent = &history[history.len().saturating_sub(POINTS_MAX)..];
    let start = recent.iter().position(|value| value.is_finite()).ok_or(ForecastError::NoValues)?;
    let recent = &recent[start..];
    if recent.len() < POINTS_MIN {
        return Err(ForecastError::TooShort { needs: POINTS_MIN, has: recent.len() });
    }
    let finite = recent.iter().filter(|value| value.is_finite());
    let size = finite.fold(0.0, |most: f64, value| most.max(value.abs())).max(f64::MIN_POSITIVE);
    Ok((recent.iter().map(|value| if value.is_finite() { value / size } else { f64::NAN }).collect(), size))
}

/// Gaps filled by straight lines; the last value held to the end. The first point is a value.
pub fn bridge(values: &[f64]) -> Vec<f64> {
    let mut filled = values.to_vec();
    let mut before = 0;
    for at in (1..values.len()).filter(|&at| !values[at].is_nan()) {
        let slope = (values[at] - values[before]) / (at - before) as f64;
        for (steps, gap) in filled[before..at].iter_mut().enumerate().skip(1) {
            *gap = values[before] + slope * steps as f64;
        }
        before = at;
    }
    filled[before..].fill(values[before]);
    filled
}

/// The bridged series, its long gaps filled by the longest season instead, if there is one.
fn fill(values: &[f64], mut filled: Vec<f64>, seasons: &[usize]) -> Vec<f64> {
    let mut start = 0;
    for run in values.chunk_by(|a, b| a.is_nan() == b.is_nan()) {
        let end = start + run.len();
        if let (true, true, Some(&period)) = (run[0].is_nan(), run.len() > BRIDGE_MAX, seasons.last()) {
            for (at, gap) in (start..end).zip(&mut filled[start..end]) {
                *gap = a_season_away(values, at, period).unwrap_or(*gap);
            }
        }
        start = end;
    }
    filled
}

/// Mean of the nearest values a whole number of seasons before and after a gap.
fn a_season_away(values: &[f64], at: usize, period: usize) -> Option<f64> {
    let present = |at: &usize| !values[*at].is_nan();
    let earlier = (0..at).rev().skip(period - 1).step_by(period).find(present);
    let later = (at..values.len()).skip(period).step_by(period).find(present);
    match (earlier, later) {
        (Some(earlier), Some(later)) => Some(f64::midpoint(values[earlier], values[later])),
        (one, other) => one.or(other).map(|at| values[at]),
    }
}

/// Of the seasons given those the history holds three of, ascending, each once.
fn usable(given: &[usize], length: usize) -> Vec<usize> {
    let mut seasons: Vec<usize> = given.iter().copied().filter(|&period| period >= 2 && period <= length / 3).collect();
    seasons.sort_unstable();
    seasons.dedup();
    seasons
}

/// Tries the models that suit the length and the seasons.
fn trial(filled: &[f64], seasons: &[usize], horizon: usize) -> Trial {
    let (models, members) = if seasons.is_empty() { level_models(filled.len()) } else { season_models(seasons) };
    choose(filled, seasons, &models, &members, horizon)
}

/// Models of a series without seasons, and the places of those to blend.
fn level_models(points: usize) -> (Vec<Model>, Vec<usize>) {
    let mut models = vec![Model::Naive, Model::Drift, Model::Mean, Model::Line];
    if points < SMOOTHING_POINTS_MIN {
        return (models, vec![0]);
    }
    models.push(Model::Ets);
    (models, vec![0, 1, 4])
}

/// Models of a series with seasons, and the places of those to blend: the longest season again, and decomposition on
/// values and on logarithms.
fn season_models(seasons: &[usize]) -> (Vec<Model>, Vec<usize>) {
    let mut models: Vec<Model> = seasons.iter().rev().map(|&period| Model::SeasonalNaive(period)).collect();
    let members = vec![0, models.len(), models.len() + 1];
    models.extend([Model::Mstl, Model::MstlLog, Model::Naive, Model::Ets]);
    (models, members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(t: usize) -> f64 {
        100.0 + 30.0 * (t as f64 / 24.0 * std::f64::consts::TAU).sin() + ((t * 7919) % 17) as f64 * 0.3
    }

    fn with(change: impl Fn(&mut ForecastOptions)) -> ForecastOptions {
        let mut options = ForecastOptions::default();
        change(&mut options);
        options
    }

    #[test]
    fn a_daily_series_goes_on_daily_across_gaps() {
        let truth: Vec<f64> = (0..400).map(day).collect();
        let mut history = truth[..376].to_vec();
        history[100..130].fill(f64::NAN);
        history[370] = f64::INFINITY;
        let found = forecast(&history, 24, &ForecastOptions::default()).unwrap();
        assert_eq!(found.seasons, [24]);
        assert!((found.share_imputed - 31.0 / 376.0).abs() < 1e-12);
        for (step, &came) in truth[376..].iter().enumerate() {
            assert!((found.mean[step] - came).abs() < 6.0, "{step}: {} for {came}", found.mean[step]);
            assert!(found.upper[step] - found.lower[step] < 20.0, "{step}: too wide to be of use");
        }
    }

    #[test]
    fn a_filling_disk_goes_on_filling() {
        let history: Vec<f64> =
            (0..300).map(|t| 50.0 + 0.1 * f64::from(t) + f64::from((t * 7919) % 17) * 0.01).collect();
        let found = forecast(&history, 100, &ForecastOptions::default()).unwrap();
        assert!((found.mean[99] - 90.0).abs() < 3.0, "{} {:?}", found.model, found.mean[99]);
    }

    #[test]
    fn any_history_gives_an_ordered_finite_forecast_or_says_why_not() {
        let nan = f64::NAN;
        let step = |at: usize| move |t: usize| if t < at { 1.0 } else { 1e6 };
        let made = |count: usize, of: &dyn Fn(usize) -> f64| (0..count).map(of).collect::<Vec<f64>>();
        let mut table: Vec<(&str, Vec<f64>)> = vec![
            ("nothing", vec![]),
            ("no value", vec![nan; 50]),
            ("a constant", vec![3.0; 100]),
            ("huge", made(100, &|t| if t % 2 == 0 { f64::MAX } else { -f64::MAX })),
            ("tiny", made(100, &|t| (t % 5) as f64 * f64::MIN_POSITIVE)),
            ("subnormal", made(100, &|t| (t % 5) as f64 * 5e-324)),
            ("one spike", made(200, &|t| if t == 150 { 1e12 } else { 0.0 })),
            ("spikes", made(500, &|t| if t % 97 == 0 { 1e300 } else { t as f64 })),
            ("a late spike", made(200, &|t| if t == 199 { 1e12 } else { 1.0 })),
            ("a step", made(300, &step(290))),
            ("an early step", made(300, &step(5))),
            ("growth", made(300, &|t| 1.5_f64.powi(t as i32))),
            ("mostly gaps", made(300, &|t| if t % 50 == 0 { t as f64 } else { nan })),
            ("ends in a gap", made(300, &|t| if t < 150 { day(t) } else { nan })),
            ("alternating", made(101, &|t| (t % 2) as f64)),
            ("infinite", vec![f64::INFINITY; 30]),
            ("two levels of rounding", made(60, &|t| 1e15 + (t % 3) as f64 * 0.125)),
        ];
        table.extend((1..30).map(|count| ("short", made(count, &day))));
        for (name, history) in table {
            for (horizon, seasons) in
                [(0, None), (1, None), (48, None), (300, Some(vec![24, 2, 7])), (5, Some(vec![0, 1]))]
            {
                let options = with(|options| options.seasons.clone_from(&seasons));
                match forecast(&history, horizon, &options) {
                    Ok(found) => assert_ordered(&found, horizon, name),
                    Err(_) => assert!(history.len() < 4 || history.iter().all(|v| !v.is_finite()), "{name}"),
                }
            }
        }
    }

    fn assert_ordered(found: &Forecast, horizon: usize, name: &str) {
        assert_eq!([found.mean.len(), found.lower.len(), found.upper.len()], [horizon; 3], "{name}");
        for step in 0..horizon {
            let (lower, mean, upper) = (found.lower[step], found.mean[step], found.upper[step]);
            assert!(lower.is_finite() && upper.is_finite(), "{name}: {found:?}");
            assert!(lower <= mean && mean <= upper, "{name}: {lower} {mean} {upper} at {step}");
        }
    }

    #[test]
    fn constants_stay_constant() {
        let found = forecast(&[7.5; 60], 3, &ForecastOptions::default()).unwrap();
        assert_eq!((found.model, found.lower, found.upper), ("constant", vec![7.5; 3], vec![7.5; 3]));
    }

    #[test]
    fn what_cannot_be_negative_is_not_forecast_so() {
        let falling: Vec<f64> = (0..60).map(|t| 60.0 - f64::from(t)).collect();
        let lowest = |options: &ForecastOptions| {
            let found = forecast(&falling, 30, options).unwrap();
            found.lower.iter().copied().fold(f64::INFINITY, f64::min)
        };
        assert!(lowest(&ForecastOptions::default()) < -10.0);
        assert_eq!(lowest(&with(|options| options.non_negative = true)), 0.0);
    }

    #[test]
    fn errors_say_what_is_missing() {
        let nan = f64::NAN;
        let table: [(&[f64], ForecastError); 3] = [
            (&[nan, nan], ForecastError::NoValues),
            (&[1.0, 2.0, 3.0], ForecastError::TooShort { needs: 4, has: 3 }),
            (&[nan, nan, nan, 2.0, 3.0], ForecastError::TooShort { needs: 4, has: 2 }),
        ];
        for (history, expected) in table {
            assert_eq!(forecast(history, 5, &ForecastOptions::default()), Err(expected), "{history:?}");
        }
    }

    #[test]
    fn a_higher_level_gives_wider_intervals() {
        let history: Vec<f64> = (0..300).map(day).collect();
        let width = |level| {
            let found = forecast(&history, 12, &with(|options| options.level = level)).unwrap();
            found.upper[5] - found.lower[5]
        };
        assert!(width(0.5) < width(0.8) && width(0.8) < width(0.95));
    }

    #[test]
    fn long_gaps_take_the_values_a_season_away() {
        let nan = f64::NAN;
        let values = [1.0, 2.0, 3.0, 1.0, nan, nan, nan, 2.0, 5.0, 1.0, nan, 3.0];
        let filled = fill(&values, bridge(&values), &[3]);
        assert_eq!(filled, [1.0, 2.0, 3.0, 1.0, 2.0, 4.0, 1.0, 2.0, 5.0, 1.0, 2.0, 3.0]);
    }
}
