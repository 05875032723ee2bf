//! What a series says of its resource.

use super::profile::{Profile, mean};
use super::resource::{Replicas, Resource, replicas_for};
use super::size::{Estimate, Size};
use super::spec::CapacitySpec;
use super::status::Status;
use super::usage::{DAY, HOUR, Outlook, Usage};
use crate::stats::{median, quantile};

/// The profile is of the latest four weeks: what is older says how it was.
const PROFILE_SPAN: i64 = 28 * DAY;
/// A day is as busy as it is for more than a twentieth of its time, 72 minutes.
const BUSY: f64 = 0.95;
/// Fewest days for a trend: of fewer, one odd day makes it.
const TREND_DAYS_MIN: usize = 3;

/// Where values lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Median of the last hour.
    pub current: f64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub peak: f64,
}

/// All that is told of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    pub series: String,
    /// First and last time of the history, nanoseconds.
    pub span: (i64, i64),
    /// Share of its steps that have no value.
    pub gaps: f64,
    /// In the resource's unit.
    pub values: Level,
    /// In percent of what there is.
    pub used: Level,
    /// Change a day in the resource's unit: Theil and Sen's slope of the days' medians, which seasons within the day and
    /// wild days do not move. `None` of less than three days.
    pub trend: Option<f64>,
    pub status: Status,
    /// Percentage points from the busy level (p95) to the limit; negative beyond it.
    pub headroom: f64,
    /// Of the load, in replicas' worth.
    pub profile: Profile,
    /// Replicas that each hour of the week needs, from Monday 00:00 UTC.
    pub replicas_by_hour: Vec<u32>,
    pub size: Size,
    pub need: Estimate,
    /// Percent in use at the end of the forecast (the busiest of its last day) by p10, p50 and p90; NaN without one.
    pub ahead: [f64; 3],
    /// Nanoseconds from the end of the history until the limit, as [`Outlook::to_limit`].
    pub to_limit: [Option<i64>; 3],
    /// Replicas at the end of the history.
    pub replicas: f64,
    /// Times (nanoseconds) and loads in replicas' worth, and how far apart they are where none is missing.
    pub loads: Vec<(i64, f64)>,
    pub step: i64,
}

/// Loads of the present values: when, how many replicas' worth, percent.
type Loads = Vec<(i64, f64, f64)>;

impl Analysis {
    /// `None` where there is no value.
    pub fn of(resource: &Resource, usage: &Usage<'_>, outlook: &Outlook<'_>, spec: &CapacitySpec) -> Option<Self> {
        let loads = loads(resource, usage);
        let replicas = replicas(resource, usage).last().copied()?;
        let load_of = |at: fn(&(i64, f64, f64)) -> f64| loads.iter().map(at).collect::<Vec<f64>>();
        let (worth, used) = (load_of(|load| load.1), load_of(|load| load.2));
        let timed: Vec<(i64, f64)> = loads.iter().map(|&(time, load, _)| (time, load)).collect();
        let (first, last) = (timed.first()?.0, timed.last()?.0);
        let from = timed.partition_point(|&(time, _)| time < last.saturating_sub(PROFILE_SPAN));
        let profile = Profile::of(&timed[from..])?;
        let values: Vec<(i64, f64)> = usage.present().collect();
        let plain: Vec<f64> = values.iter().map(|&(_, value)| value).collect();
        let foretold: Vec<f64> = outlook.p50.iter().map(|&value| resource.load(value, replicas)).collect();
        let need = Estimate::of(&worth, &foretold);
        let recent = usage.steps_of(HOUR);
        let levels = (Level::of(&plain, recent)?, Level::of(&used, recent)?);
        let ahead = [outlook.p10, outlook.p50, outlook.p90].map(|line| resource.used(at_end(line, outlook), replicas));
        let trouble = ahead[2] >= resource.limit || outlook.to_limit[1].is_some();
        Some(Analysis {
            series: usage.series.to_owned(),
            span: (first, last),
            gaps: 1.0 - values.len() as f64 / usage.values.len() as f64,
            values: levels.0,
            used: levels.1,
            trend: theil_sen(&by_day(&values, median)),
            status: status(resource, &loads, levels.1.current).foretold(trouble),
            headroom: resource.limit - levels.1.p95,
            replicas_by_hour: profile.needed.iter().map(|&load| resource.replicas_for(load)).collect(),
            profile,
            size: Size::of(resource, &timed, need, replicas, spec.headroom)?,
            need,
            ahead,
            to_limit: outlook.to_limit,
            replicas,
            loads: timed,
            step: usage.step,
        })
    }

    /// Fewest and most replicas that history and forecast ask for at `target` percent: what the quietest hour of the day
    /// needs as a rule, and what the peak does, or a forecast that has one chance in ten to be passed.
    pub fn replicas_range(&self, resource: &Resource, target: f64) -> (u32, u32) {
        let bounds = (resource.replicas_min, resource.replicas_max);
        let quiet = self.profile.by_hour.iter().copied().fold(f64::NAN, f64::min);
        let quiet = replicas_for(quiet, target, bounds);
        let ahead = self.ahead[2] / 100.0 * self.replicas;
        let peak = self.loads.iter().map(|&(_, load)| load).fold(ahead, f64::max);
        (quiet, replicas_for(peak, target, bounds).max(quiet))
    }
}

impl Level {
    fn of(values: &[f64], recent: usize) -> Option<Self> {
        let at = |q| quantile(values, q);
        let current = median(&values[values.len().saturating_sub(recent)..])?;
        Some(Level { current, mean: mean(values), p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)?, peak: at(1.0)? })
    }
}

fn loads(resource: &Resource, usage: &Usage<'_>) -> Loads {
    let replicas = replicas(resource, usage);
    let step_of = |time: i64| usize::try_from((time - usage.start) / usage.step.max(1)).unwrap_or(0);
    let load = |(time, value): (i64, f64)| {
        let replicas = replicas[step_of(time)];
        (time, resource.load(value, replicas), resource.used(value, replicas))
    };
    usage.present().map(load).collect()
}

/// One a step: as it was last told up to then; one where it never was.
fn replicas(resource: &Resource, usage: &Usage<'_>) -> Vec<f64> {
    let mut held = match resource.replicas {
        Replicas::Number(number) => f64::from(number.max(1)),
        Replicas::Metric(_) => 1.0,
    };
    let told = |step: usize| match resource.replicas {
        Replicas::Number(_) => None,
        Replicas::Metric(_) => usage.replicas.get(step).filter(|told| **told >= 1.0 && told.is_finite()),
    };
    let at = |step: usize| {
        held = told(step).copied().unwrap_or(held);
        held
    };
    (0..usage.values.len()).map(at).collect()
}

/// The busiest of the last day.
fn at_end(line: &[f64], outlook: &Outlook<'_>) -> f64 {
    let day = usize::try_from(DAY / outlook.step.max(1)).unwrap_or(1).max(1);
    line[line.len().saturating_sub(day)..].iter().copied().fold(f64::NAN, f64::max)
}

/// Days back from the last value, and what `of` says of each.
fn by_day(values: &[(i64, f64)], of: impl Fn(&[f64]) -> Option<f64>) -> Vec<(f64, f64)> {
    let last = values.last().map_or(0, |&(time, _)| time);
    let day = |time: i64| (last - time) / DAY;
    let days = values.chunk_by(|a, b| day(a.0) == day(b.0));
    let one = |rows: &[(i64, f64)]| {
        let plain: Vec<f64> = rows.iter().map(|&(_, value)| value).collect();
        Some((-(day(rows[0].0) as f64), of(&plain)?))
    };
    days.filter_map(one).collect()
}

/// Median of the slopes of all pairs.
fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < TREND_DAYS_MIN {
        return None;
    }
    let pairs = points.iter().enumerate().flat_map(|(at, a)| points[at + 1..].iter().map(move |b| (a, b)));
    median(&pairs.map(|(a, b)| (b.1 - a.1) / (b.0 - a.0)).collect::<Vec<f64>>())
}

fn status(resource: &Resource, loads: &Loads, current: f64) -> Status {
    let used: Vec<(i64, f64)> = loads.iter().map(|&(time, _, used)| (time, used)).collect();
    let mut busy: Vec<f64> = by_day(&used, |day| quantile(day, BUSY)).into_iter().map(|(_, busy)| busy).collect();
    if let Some(today) = busy.last_mut() {
        *today = today.max(current);
    }
    Status::of_days(&busy, resource.scale_up, resource.scale_down)
}
