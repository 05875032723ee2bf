//! The autoscaler of Kubernetes, replayed over a load that was.
//!
//! Every sync period it holds use against the target. Within a tenth of it nothing is done; else as many replicas are
//! wanted as bring use to the target. Of what was wanted within a window the least is taken to add and the most to remove,
//! and policies bound how fast either goes. This is the algorithm of `autoscaling/v2` with a controller's default flags;
//! load between two samples is taken to go in a straight line, so what is shorter than a step is not seen.

use std::collections::VecDeque;

use serde::Serialize;

use super::profile::{HOURS_A_WEEK, hour_of_week};
use super::resource::replicas_for;
use super::usage::SECOND;

/// Seconds between two decisions (`--horizontal-pod-autoscaler-sync-period`).
const SYNC: i64 = 15;
/// Share of the target that use may be off (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;
/// Age in seconds of the use that a decision sees: metrics-server asks every 15 s for the mean of as much.
const METRIC_AGE: i64 = 30;
/// A step this long without a value is no part of the account.
const GAP_MAX_STEPS: i64 = 3;

/// Rules of an autoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rules {
    /// Percent to run at.
    pub target: f64,
    pub replicas_min: u32,
    pub replicas_max: u32,
    pub up: Pace,
    pub down: Pace,
}

/// How fast replicas may come or go: the greater of the two within each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Seconds of stabilization.
    pub window: u32,
    /// Percent of the replicas that there are.
    pub percent: u32,
    /// Replicas; 0 for no such policy.
    pub pods: u32,
    /// Seconds.
    pub period: u32,
}

impl Rules {
    /// What Kubernetes does where nothing is written but the most replicas.
    pub const fn of_kubernetes(replicas_max: u32) -> Self {
        Rules {
            target: 80.0,
            replicas_min: 1,
            replicas_max,
            up: Pace { window: 0, percent: 100, pods: 4, period: 15 },
            down: Pace { window: 300, percent: 100, pods: 0, period: 15 },
        }
    }
}

/// What is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay<'a> {
    /// Times (nanoseconds, ascending) and loads in replicas' worth.
    pub loads: &'a [(i64, f64)],
    /// Nanoseconds between them.
    pub step: i64,
    /// Seconds until a new replica carries load.
    pub startup: u32,
    /// Percent above which a minute is one too many.
    pub limit: f64,
    /// Fewest replicas in each hour of the week, beside the rules; empty for none.
    pub floor: &'a [u32],
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Replayed {
    pub minutes: f64,
    pub minutes_over_limit: f64,
    pub replica_hours: f64,
    pub replicas_peak: u32,
    /// Times that the number of replicas changed.
    pub changes: u32,
    /// Percent, over replicas that carried load.
    pub used_mean: f64,
}

impl Replayed {
    pub fn replicas_mean(&self) -> f64 {
        self.replica_hours * 60.0 / self.minutes
    }

    /// Percent of the time above the limit.
    pub fn over_limit(&self) -> f64 {
        100.0 * self.minutes_over_limit / self.minutes
    }
}

/// Replays `rules`; the replicas it begins with are those the first load needs.
pub fn replay(replay: &Replay<'_>, rules: &Rules) -> Replayed {
    let Some(&(start, first)) = replay.loads.first() else {
        return Replayed::default();
    };
    let mut fleet = Fleet::new(*rules, replicas_for(first, rules.target, (rules.replicas_min, rules.replicas_max)));
    let mut account = Replayed::default();
    let mut used_sum = 0.0;
    let mut seen = VecDeque::from([first; (METRIC_AGE / SYNC) as usize]);
    for (time, load, counts) in ticks(replay) {
        let second = (time - start) / SECOND;
        let ready = fleet.ready(second);
        if counts {
            let used = 100.0 * load / f64::from(ready.max(1));
            let minutes = SYNC as f64 / 60.0;
            account.minutes += minutes;
            account.minutes_over_limit += if used > replay.limit { minutes } else { 0.0 };
            account.replica_hours += f64::from(fleet.replicas) * minutes / 60.0;
            used_sum += used * minutes;
        }
        seen.push_back(load);
        let load = seen.pop_front().unwrap_or(load);
        let floor = replay.floor.get(hour_of_week(time) % HOURS_A_WEEK).copied().unwrap_or(0);
        let (before, wanted) = (fleet.replicas, fleet.wanted(load, ready).max(floor));
        fleet.scale(second, wanted, i64::from(replay.startup));
        account.changes += u32::from(fleet.replicas != before);
        account.replicas_peak = account.replicas_peak.max(fleet.replicas);
    }
    account.used_mean = used_sum / account.minutes;
    account
}

/// Time and load at each sync, and whether it counts: between values it is on the line from one to the next; in a gap it
/// is the last one, and does not.
fn ticks<'a>(replay: &Replay<'a>) -> impl Iterator<Item = (i64, f64, bool)> + use<'a> {
    let gap = replay.step.max(1).saturating_mul(GAP_MAX_STEPS);
    replay.loads.windows(2).flat_map(move |pair| {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        let (span, counts) = (to - from, to - from <= gap);
        let load = move |time: i64| low + (high - low) * ((time - from) as f64 / span as f64);
        let first = from + (SYNC * SECOND - from.rem_euclid(SYNC * SECOND)) % (SYNC * SECOND);
        let times = (first..to).step_by((SYNC * SECOND) as usize);
        times.map(move |time| (time, if counts { load(time) } else { low }, counts))
    })
}

/// Replicas, and what is remembered of how they came about. Times are seconds.
struct Fleet {
    rules: Rules,
    replicas: u32,
    /// Those under way: when they carry load, how many.
    starting: VecDeque<(i64, u32)>,
    /// What was wanted within the window, as far as it still can be the most (or least) of it.
    most: VecDeque<(i64, u32)>,
    least: VecDeque<(i64, u32)>,
    /// Changes of the last period.
    added: VecDeque<(i64, u32)>,
    removed: VecDeque<(i64, u32)>,
}

impl Fleet {
    fn new(rules: Rules, replicas: u32) -> Self {
        let none = VecDeque::new;
        Fleet { rules, replicas, starting: none(), most: none(), least: none(), added: none(), removed: none() }
    }

    /// How many carry load.
    fn ready(&mut self, now: i64) -> u32 {
        while self.starting.front().is_some_and(|&(at, _)| at <= now) {
            self.starting.pop_front();
        }
        self.replicas.saturating_sub(self.starting.iter().map(|&(_, count)| count).sum())
    }

    /// Those that bring use to the target, before bounds. Replicas that do not carry load yet count as idle where use is
    /// above the target, as the controller has it: so that it does not ask twice for the same need.
    fn wanted(&self, load: f64, ready: u32) -> u32 {
        let per_replica = self.rules.target / 100.0;
        let off = |replicas: u32| load / (f64::from(replicas.max(1)) * per_replica);
        let within = |off: f64| (off - 1.0).abs() <= TOLERANCE;
        let of_ready = off(ready);
        if within(of_ready) || of_ready > 1.0 && (within(off(self.replicas)) || off(self.replicas) < 1.0) {
            return self.replicas;
        }
        replicas_for(load, self.rules.target, (0, u32::MAX))
    }

    fn scale(&mut self, now: i64, wanted: u32, startup: i64) {
        let wanted = wanted.clamp(self.rules.replicas_min, self.rules.replicas_max.max(self.rules.replicas_min));
        let most = within(&mut self.most, now, wanted, self.rules.down.window, |kept, new| kept <= new);
        let least = within(&mut self.least, now, wanted, self.rules.up.window, |kept, new| kept >= new);
        let stable = self.replicas.clamp(least.min(most), most.max(least));
        if stable > self.replicas {
            self.add(now, stable, startup);
        } else if stable < self.replicas {
            self.remove(now, stable);
        }
    }

    fn add(&mut self, now: i64, wanted: u32, startup: i64) {
        let Pace { percent, pods, period, .. } = self.rules.up;
        let before = self.replicas.saturating_sub(recent(&mut self.added, now, period));
        let by_percent = (f64::from(before) * (1.0 + f64::from(percent) / 100.0)).ceil() as u32;
        let most = by_percent.max(before.saturating_add(pods)).max(self.replicas);
        let added = wanted.min(most) - self.replicas;
        if added > 0 {
            self.added.push_back((now, added));
            self.starting.push_back((now + startup, added));
            self.replicas += added;
        }
    }

    fn remove(&mut self, now: i64, wanted: u32) {
        let Pace { percent, pods, period, .. } = self.rules.down;
        let before = self.replicas.saturating_add(recent(&mut self.removed, now, period));
        let by_percent = (f64::from(before) * (1.0 - f64::from(percent) / 100.0)).max(0.0) as u32;
        let least = by_percent.min(before.saturating_sub(pods)).min(self.replicas);
        let removed = self.replicas - wanted.max(least);
        if removed > 0 {
            self.removed.push_back((now, removed));
            self.replicas -= removed;
            self.forget(removed);
        }
    }

    /// Those that do not carry load yet go first.
    fn forget(&mut self, mut removed: u32) {
        while let Some((_, count)) = self.starting.back_mut() {
            let gone = removed.min(*count);
            (*count, removed) = (*count - gone, removed - gone);
            if *count > 0 {
                break;
            }
            self.starting.pop_back();
        }
    }
}

/// The first of a queue in which each outdoes those after it, once `new` is in and what is older than `window` is not.
fn within(
    queue: &mut VecDeque<(i64, u32)>,
    now: i64,
    new: u32,
    window: u32,
    outdone: impl Fn(u32, u32) -> bool,
) -> u32 {
    while queue.front().is_some_and(|&(at, _)| at <= now - i64::from(window)) {
        queue.pop_front();
    }
    while queue.back().is_some_and(|&(_, kept)| outdone(kept, new)) {
        queue.pop_back();
    }
    queue.push_back((now, new));
    queue.front().map_or(new, |&(_, kept)| kept)
}

/// Sum of the changes within the last `period` seconds.
fn recent(changes: &mut VecDeque<(i64, u32)>, now: i64, period: u32) -> u32 {
    while changes.front().is_some_and(|&(at, _)| at <= now - i64::from(period)) {
        changes.pop_front();
    }
    changes.iter().map(|&(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * SECOND;

    fn run(loads: &[f64], rules: &Rules, startup: u32) -> Replayed {
        let loads: Vec<(i64, f64)> = loads.iter().enumerate().map(|(at, &load)| (at as i64 * MINUTE, load)).collect();
        replay(&Replay { loads: &loads, step: MINUTE, startup, limit: 90.0, floor: &[] }, rules)
    }

    #[test]
    fn a_steady_load_keeps_its_replicas() {
        let went = run(&[4.0; 61], &Rules::of_kubernetes(20), 60);
        assert_eq!((went.minutes, went.changes, went.replicas_peak), (60.0, 0, 5));
        assert!((went.replica_hours - 5.0).abs() < 1e-9 && (went.used_mean - 80.0).abs() < 1e-9, "{went:?}");
        // 5 replicas at 86 % are within a tenth of the target.
        assert_eq!(run(&[[4.0; 10], [4.3; 10]].concat(), &Rules::of_kubernetes(20), 60).changes, 0);
        assert_eq!(run(&[], &Rules::of_kubernetes(20), 60), Replayed::default());
    }

    #[test]
    fn a_leap_is_over_the_limit_until_replicas_are_ready() {
        let leap = [[4.0; 10], [8.0; 10], [8.0; 10]].concat();
        let over = |startup| run(&leap, &Rules::of_kubernetes(20), startup).minutes_over_limit;
        assert!(
            over(0) > 0.0 && over(60) >= over(0) + 0.5 && over(240) >= over(60) + 2.5,
            "{} {} {}",
            over(0),
            over(60),
            over(240)
        );
        let held = Rules { replicas_min: 10, ..Rules::of_kubernetes(20) };
        assert_eq!(run(&leap, &held, 240).minutes_over_limit, 0.0);
        let few = Rules { replicas_max: 6, ..Rules::of_kubernetes(20) };
        assert!(run(&leap, &few, 0).minutes_over_limit > 18.0 && run(&leap, &few, 0).replicas_peak == 6);
    }

    #[test]
    fn a_window_holds_replicas_over_a_dip() {
        let dip = [[8.0; 10], [4.0; 10], [8.0; 10]].concat();
        let went = |window| {
            let default = Rules::of_kubernetes(20);
            run(&dip, &Rules { down: Pace { window, ..default.down }, ..default }, 0)
        };
        let hours = [0, 300, 900].map(|window| went(window).replica_hours);
        assert!(hours[0] < hours[1] && hours[1] < hours[2], "{hours:?}");
        assert!(went(300).changes > 0 && went(900).changes == 0);
    }

    #[test]
    fn policies_bound_the_pace() {
        let rules = |up: Pace, down: Pace| Rules { target: 50.0, replicas_min: 1, replicas_max: 100, up, down };
        let all = Pace { window: 0, percent: 100, pods: 100, period: 60 };
        let table = [
            // 2 replicas are 20 in which sync period of 15 s, at so many percent or pods a minute?
            (Pace { window: 0, percent: 100, pods: 0, period: 60 }, 13),
            (Pace { window: 0, percent: 0, pods: 4, period: 60 }, 17),
            (Pace { window: 0, percent: 10, pods: 4, period: 60 }, 17),
            (Pace { window: 0, percent: 900, pods: 0, period: 60 }, 1),
        ];
        for (pace, expected) in table {
            let mut fleet = Fleet::new(rules(pace, all), 2);
            let mut count = 0;
            while fleet.replicas < 20 && count < 1000 {
                fleet.scale(count * SYNC, 20, 0);
                count += 1;
            }
            assert_eq!(count, expected, "{pace:?}");
        }
        let mut fleet = Fleet::new(rules(all, Pace { window: 0, percent: 10, pods: 0, period: 60 }), 100);
        for second in (0..=45).step_by(15) {
            fleet.scale(second, 10, 0);
        }
        assert_eq!(fleet.replicas, 90, "a tenth in the first minute");
        fleet.scale(60, 10, 0);
        assert_eq!(fleet.replicas, 81);
    }

    #[test]
    fn a_schedule_is_a_floor() {
        let loads: Vec<(i64, f64)> = (0..48).map(|hour| (hour * 3600 * SECOND, 1.0)).collect();
        let floor: Vec<u32> = (0..HOURS_A_WEEK as u32).map(|hour| if hour % 24 == 12 { 7 } else { 0 }).collect();
        let asked = Replay { loads: &loads, step: 3600 * SECOND, startup: 0, limit: 90.0, floor: &floor };
        let went = replay(&asked, &Rules::of_kubernetes(20));
        assert_eq!(went.replicas_peak, 7);
        assert_eq!(replay(&Replay { floor: &[], ..asked }, &Rules::of_kubernetes(20)).replicas_peak, 2);
    }

    #[test]
    fn gaps_do_not_count() {
        let loads = [(0, 1.0), (MINUTE, 1.0), (100 * MINUTE, 1.0), (101 * MINUTE, 1.0)];
        let asked = Replay { loads: &loads, step: MINUTE, startup: 0, limit: 90.0, floor: &[] };
        assert_eq!(replay(&asked, &Rules::of_kubernetes(20)).minutes, 2.0);
    }
}
