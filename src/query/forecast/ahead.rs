//! What comes next of a stored series: its history on a regular grid, and the forecast from there.
//!
//! The step is the smallest usual one (1 s to 1 d) that is not below the series' own spacing and makes at most 2,016 points of as
//! much history as the horizon needs: four times its length, or 2,016 samples. A counter is forecast by its rate of increase
//! a second.

use std::time::Duration;

use datafusion::common::exec_err;
use datafusion::error::Result;

use crate::model::{Kind, SeriesId, Span, Timestamp};
use crate::query::picked::judged_values;
use crate::stats::{Forecast, ForecastOptions, forecast, ladder_step, native_step, season_error, to_grid};
use crate::store::Snapshot;

/// Points of history that a forecast learns from.
const HISTORY_POINTS: usize = 2016;
/// Samples of a series that are held at once, and steps that stand for more of them: so many times those of the forecast.
const HELD: i64 = if cfg!(test) { 1 << 10 } else { 1 << 19 };
const FINE: usize = 16;
/// Steps a forecast may have; a longer horizon has wider steps.
const STEPS_MAX: usize = 10_000;
const DAY: i64 = 86_400_000_000_000;

/// What is asked of each series.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// Nanoseconds.
    pub horizon: i64,
    /// Share of what comes that the interval is to hold.
    pub level: f64,
    /// What was known by then; all, without it.
    pub as_of: Option<Timestamp>,
}

/// As much of a series as is needed: by time, in nanoseconds, and the usual distance.
struct Known {
    times: Vec<i64>,
    values: Vec<f64>,
    native: i64,
}

/// A forecast of a series.
pub(super) struct Made {
    pub forecast: Forecast,
    /// Beginning of the first step, and nanoseconds of each.
    pub first: i64,
    pub step: i64,
    /// What was learned from.
    pub trained: Span,
    /// The last value.
    pub now: f64,
    /// Mean absolute error of saying what was a season before, or a step.
    pub scale: Option<f64>,
}

impl Ahead {
    /// # Errors
    /// A length that is none.
    pub fn new(horizon: Duration) -> Result<Ahead> {
        let horizon = i64::try_from(horizon.as_nanos()).unwrap_or(i64::MAX);
        if horizon == 0 {
            return exec_err!("the horizon is no time at all: write '6h' or '30d'");
        }
        Ok(Ahead { horizon, level: ForecastOptions::default().level, as_of: None })
    }

    /// The forecast of one series; `None` where its history is too short for one.
    pub(super) fn of(&self, snapshot: &Snapshot, series: SeriesId) -> Result<Option<Made>> {
        let Some(Known { times, values, native }) = self.history(snapshot, series)? else { return Ok(None) };
        let (Some(begins), Some(ends)) = (times.first(), times.last()) else { return Ok(None) };
        let needed = self.needed(native).min(ends - begins);
        let step = ladder_step(native, needed, HISTORY_POINTS).max(ladder_step(1, self.horizon, STEPS_MAX));
        let steps = usize::try_from(self.horizon / step).unwrap_or(STEPS_MAX).max(1);
        let (start, grid) = to_grid(&times, &values, step);
        let begins_at = grid.len().saturating_sub(HISTORY_POINTS);
        let (start, grid) = (start + begins_at as i64 * step, &grid[begins_at..]);
        let def = snapshot.registry().def(series);
        let options = ForecastOptions {
            level: self.level,
            hints: [DAY / step, 7 * DAY / step].into_iter().filter_map(|n| usize::try_from(n).ok()).collect(),
            non_negative: def.kind == Kind::Counter || values.iter().all(|value| *value >= 0.0),
            most: most(&def.metric, &values),
            ..ForecastOptions::default()
        };
        let Ok(forecast) = forecast(grid, steps, &options) else { return Ok(None) };
        let first = start + grid.len() as i64 * step;
        let trained = Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(first));
        let scale = season_error(grid, forecast.seasons.last().copied());
        Ok(Some(Made { forecast, first, step, trained, now: values[values.len() - 1], scale }))
    }

    /// As much of the values before `as_of` as is needed, by time, and their usual distance.
    fn history(&self, snapshot: &Snapshot, series: SeriesId) -> Result<Option<Known>> {
        let Some((first, last)) = snapshot.time_range(series) else { return Ok(None) };
        let end = self.as_of.unwrap_or(Timestamp::MAX);
        let last = last.nanos().min(end.nanos());
        // Where the samples are counted, what is much too old need not be read; gaps make it more, never less.
        let spacing = snapshot.count(series).filter(|&count| count > 1).map(|count| {
            let length = u64::try_from(last.saturating_sub(first.nanos())).unwrap_or(0);
            i64::try_from(length / (count - 1)).unwrap_or(i64::MAX)
        });
        let back = spacing.map_or(i64::MAX, |spacing| self.needed(spacing.max(1)).saturating_mul(2));
        let span = Span::new(Timestamp::from_nanos(last.saturating_sub(back)), end);
        let dense = spacing.filter(|&spacing| back.min(last.saturating_sub(first.nanos())) / spacing.max(1) > HELD);
        let (mut times, mut values) = match dense {
            None => read(snapshot, series, span)?,
            Some(spacing) => {
                self.thinned(snapshot, series, Span::new(span.start.max(first), end), (spacing.max(1), last))?
            }
        };
        let Some(native) = native_step(&times) else { return Ok(None) };
        let oldest = last.saturating_sub(self.needed(native));
        let from = times.partition_point(|&time| time < oldest);
        (times, values) = (times.split_off(from), values.split_off(from));
        Ok(Some(Known { times, values, native }))
    }

    /// Means of steps that are far finer than those of the forecast, of a series of so many samples that they are read a part at a
    /// time. `last` is the time of the last one.
    fn thinned(
        &self,
        snapshot: &Snapshot,
        series: SeriesId,
        span: Span,
        (spacing, last): (i64, i64),
    ) -> Result<(Vec<i64>, Vec<f64>)> {
        let fine = ladder_step(spacing, self.needed(spacing), HISTORY_POINTS * FINE);
        let part = (HELD.saturating_mul(spacing) / fine).max(1).saturating_mul(fine);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let mut start = span.start.floor(fine);
        while start < span.end && start.nanos() <= last {
            let end = start.plus(part).min(span.end);
            let (of_part, read) = read(snapshot, series, Span::new(start, end))?;
            let (first, means) = to_grid(&of_part, &read, fine);
            let steps = (0..).map(|at: i64| first + at * fine).zip(means).filter(|(_, mean)| mean.is_finite());
            steps.for_each(|(time, mean)| {
                times.push(time);
                values.push(mean);
            });
            start = start.plus(part);
        }
        Ok((times, values))
    }

    /// Nanoseconds of history that a forecast this far ahead is told from: what lies far ahead from far back in wide steps, what is
    /// near from the latest at their own.
    fn needed(&self, native: i64) -> i64 {
        native.saturating_mul(HISTORY_POINTS as i64).max(self.horizon.saturating_mul(4))
    }
}

/// What is judged of a series in a span: times in nanoseconds, and values.
fn read(snapshot: &Snapshot, series: SeriesId, span: Span) -> Result<(Vec<i64>, Vec<f64>)> {
    let samples = judged_values(snapshot, series, span)?;
    Ok(samples.iter().map(|sample| (sample.time.nanos(), sample.value)).unzip())
}

/// What values of a metric that says it is a share cannot be more than.
fn most(metric: &str, values: &[f64]) -> Option<f64> {
    let says = |words: &[&str]| words.iter().any(|word| metric.contains(word));
    let bound = if says(&["percent", "_pct"]) {
        100.0
    } else if says(&["ratio"]) {
        1.0
    } else {
        return None;
    };
    values.iter().all(|value| *value <= bound).then_some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{Bench, NOON, S};

    #[test]
    fn a_series_of_very_many_samples_is_read_a_part_at_a_time() {
        let bench = Bench::new();
        let value = |second: i64| 50.0 + 20.0 * (second as f64 / 600.0 * std::f64::consts::TAU).sin();
        // Every second of an hour and a half: more than are held at once here.
        let samples: Vec<(i64, f64)> = (0..5400).map(|second| (second, value(second))).collect();
        bench.put("wave", &[], &samples);
        let snapshot = bench.store.snapshot();
        let ahead = Ahead::new(Duration::from_secs(1800)).unwrap();
        let made = ahead.of(&snapshot, SeriesId(0)).unwrap().unwrap();
        assert_eq!((made.first, made.trained.end.nanos()), (NOON + 5400 * S, NOON + 5400 * S));
        for (at, mean) in made.forecast.mean.iter().enumerate() {
            let middle = 5400 + at as i64 * made.step / S + made.step / S / 2;
            assert!((mean - value(middle)).abs() < 4.0, "{at}: {mean} for {}", value(middle));
        }
        let all = Span::new(Timestamp::from_nanos(NOON), Timestamp::MAX);
        let (times, values) = ahead.thinned(&snapshot, SeriesId(0), all, (S, NOON + 5399 * S)).unwrap();
        assert!(times.is_sorted() && times.len() == values.len() && times.len() >= 2700, "{}", times.len());
    }

    #[test]
    fn shares_have_a_bound_unless_they_were_beyond_it() {
        let table = [
            ("disk_used_percent", 99.0, Some(100.0)),
            ("cpu_percent", 250.0, None),
            ("hit_ratio", 0.9, Some(1.0)),
            ("rate", 0.9, None),
        ];
        for (metric, value, expected) in table {
            assert_eq!(most(metric, &[0.0, value]), expected, "{metric} {value}");
        }
    }
}
