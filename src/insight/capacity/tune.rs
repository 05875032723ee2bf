//! Rules for an autoscaler: tried on the history, the cheapest that hold.
//!
//! How fast the load rises decides how far below the limit replicas have to run, since new ones come late: a rise that no
//! autoscaler can meet is met by room. How long dips last decides how long to wait before replicas go. Both are found by
//! replaying the history under each of a few targets and waits, and taking the one of the fewest replica hours whose time
//! above the limit is within what is allowed; where none is, the one of the least such time.

use super::analyse::Analysis;
use super::replay::{Pace, Replay, Replayed, Rules, replay};
use super::resource::Resource;
use super::usage::SECOND;
use crate::stats::quantile;

/// History that is replayed, nanoseconds: four weeks, the latest.
const SPAN: i64 = 28 * 86_400 * SECOND;
/// Targets tried are so many percentage points apart,
const TARGET_STEP: f64 = 5.0;
/// and none is lower, since most of what is paid would idle.
const TARGET_MIN: f64 = 40.0;
/// Waits tried before replicas go, in seconds; the default of Kubernetes is among them, and the longest it takes.
const WAITS: [u32; 5] = [60, 300, 900, 1800, 3600];
/// Rules are taken for half of the time that is allowed: the next month is never quite like the last.
const CAUTION: f64 = 0.5;
/// Times the replicas of the peak that there may be: more was never needed, but may be.
const PEAK_ROOM: f64 = 1.5;
/// Times the cheapest that rules may cost which change the number of replicas less often.
const CALM: f64 = 1.02;
/// A change this rare (one step in a thousand) is what the pace is made for.
const RARE: f64 = 0.999;
/// Seconds that a policy of the pace is reckoned over.
const PERIOD: u32 = 60;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TuneOptions {
    /// Seconds until a new replica carries load.
    pub startup: u32,
    /// Percent of the time that may be above the limit.
    pub over_limit: f64,
}

/// Rules, and how they and the defaults of Kubernetes would have done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuned {
    pub rules: Rules,
    pub went: Replayed,
    pub defaults: Replayed,
    /// Replica hours of as many as the peak needs, all the time.
    pub fixed: f64,
}

impl Rules {
    /// Over the history of `analysis`. What the settings of the resource say of waits is kept. `None` of fewer than two
    /// values.
    pub fn tuned(resource: &Resource, analysis: &Analysis, options: &TuneOptions) -> Option<Tuned> {
        let loads = analysis.loads.as_slice();
        let last = loads.last()?.0;
        let loads = &loads[loads.partition_point(|&(time, _)| time < last.saturating_sub(SPAN))..];
        if loads.len() < 2 {
            return None;
        }
        let asked = Replay { loads, step: analysis.step, startup: options.startup, limit: resource.limit, floor: &[] };
        let tried: Vec<(Rules, Replayed)> =
            candidates(resource, analysis, loads).map(|rules| (rules, replay(&asked, &rules))).collect();
        let (rules, went) = best(&tried, options.over_limit * CAUTION)?;
        let defaults = replay(&asked, &Rules::of_kubernetes(rules.replicas_max));
        let (_, peak) = analysis.replicas_range(resource, resource.target);
        Some(Tuned { rules, went, defaults, fixed: f64::from(peak) * went.minutes / 60.0 })
    }
}

/// Of those with the least time above what is allowed, the cheapest, or a calmer one that costs hardly more.
fn best(tried: &[(Rules, Replayed)], allowed: f64) -> Option<(Rules, Replayed)> {
    let excess = |went: &Replayed| (went.over_limit() - allowed).max(0.0);
    let least = tried.iter().map(|(_, went)| excess(went)).min_by(f64::total_cmp)?;
    let hold = tried.iter().filter(|(_, went)| excess(went) <= least);
    let cheapest = hold.clone().map(|(_, went)| went.replica_hours).min_by(f64::total_cmp)?;
    hold.filter(|(_, went)| went.replica_hours <= cheapest * CALM).min_by_key(|(_, went)| went.changes).copied()
}

fn candidates<'a>(
    resource: &'a Resource,
    analysis: &'a Analysis,
    loads: &[(i64, f64)],
) -> impl Iterator<Item = Rules> + use<'a> {
    let (up, down) = (pace(loads, 1.0), pace(loads, -1.0));
    let wait_up = resource.windows.0.unwrap_or(0);
    let waits: Vec<u32> = resource.windows.1.map_or_else(|| WAITS.to_vec(), |wait| vec![wait]);
    targets(resource).into_iter().flat_map(move |target| {
        let (least, peak) = analysis.replicas_range(resource, target);
        let most = ((f64::from(peak) * PEAK_ROOM).ceil() as u32).min(resource.replicas_max).max(peak);
        let waits = waits.clone();
        waits.into_iter().map(move |wait| Rules {
            target,
            replicas_min: least,
            replicas_max: most,
            up: Pace { window: wait_up, ..up },
            down: Pace { window: wait, ..down },
        })
    })
}

/// From the resource's own downwards.
fn targets(resource: &Resource) -> Vec<f64> {
    let least = TARGET_MIN.max(resource.scale_down + TARGET_STEP).min(resource.target);
    let count = ((resource.target - least) / TARGET_STEP) as u32;
    (0..=count).map(|at| resource.target - f64::from(at) * TARGET_STEP).collect()
}

/// Twice the fastest change a minute that is not one of the rarest, in percent of the load before: room for one that is.
fn pace(loads: &[(i64, f64)], sign: f64) -> Pace {
    let a_minute = |pair: &[(i64, f64)]| {
        let ((from, before), (to, after)) = (pair[0], pair[1]);
        let minutes = (to - from) as f64 / (60 * SECOND) as f64;
        (before > 0.0).then_some(sign * (after - before) / before / minutes)
    };
    let changes: Vec<f64> = loads.windows(2).filter_map(a_minute).collect();
    let fastest = quantile(&changes, RARE).unwrap_or(1.0).max(0.0);
    let percent = ((fastest * 20.0).ceil() * 10.0).clamp(10.0, 100.0) as u32;
    // Small fleets go by whole replicas: a tenth of three is none.
    let pods = if sign > 0.0 { 4 } else { 1 };
    Pace { window: 0, percent, pods, period: PERIOD }
}
