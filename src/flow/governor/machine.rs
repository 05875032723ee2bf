//! Which zone it is: a machine that is told how much is in use, and when, and nothing else.
//!
//! It never flaps. A bound must be reached for [`GovernorSpec::rise`] at a stretch to go up, and what is in use must stay
//! under the bound by [`GovernorSpec::margin`] for [`GovernorSpec::fall`] at a stretch to come down, one zone at a time:
//! what wavers around a bound by less than the margin changes the zone once at most.

use std::time::Duration;

use super::zone::Zone;

/// Time over which memory and queue are averaged, so that the spike of a moment counts little.
const LIGHTLY: Duration = Duration::from_secs(2);

/// How the governor goes about it.
#[derive(Debug, Clone, PartialEq)]
pub struct GovernorSpec {
    /// How often it looks.
    pub interval: Duration,
    /// Percent from which it is yellow, orange, red and critical.
    pub bounds: [f64; 4],
    /// Percent by which it must be under a bound to come down.
    pub margin: f64,
    /// How long it must be at or over a bound to go up.
    pub rise: Duration,
    /// How long it must be under to come down.
    pub fall: Duration,
    /// Time over which CPU is averaged, as an exponential mean.
    pub smoothing: Duration,
    /// Times its interval at which a source is asked that is slowed.
    pub slowdown: f64,
    /// Whether sources are paused at all; those that would be are slowed without it.
    pub pause: bool,
}

impl Default for GovernorSpec {
    fn default() -> Self {
        GovernorSpec {
            interval: Duration::from_secs(1),
            bounds: [60.0, 75.0, 85.0, 95.0],
            margin: 5.0,
            rise: Duration::from_secs(10),
            fall: Duration::from_secs(60),
            smoothing: Duration::from_secs(30),
            slowdown: 2.0,
            pause: true,
        }
    }
}

/// How much is in use, as shares of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Of the machine's cores all that runs, or of those that this process may use what it does, whichever is more.
    pub cpu: f64,
    /// Memory of this process against its budget; over 1 where it is beyond.
    pub memory: f64,
    /// The fullest of the pipelines' queues.
    pub queue: f64,
}

/// The same, averaged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    pub cpu: f64,
    pub memory: f64,
    pub queue: f64,
}

impl Usage {
    /// The most of the three, and its name.
    pub fn most(&self) -> (f64, &'static str) {
        let all = [(self.memory, "memory"), (self.queue, "queue")];
        all.into_iter().fold((self.cpu, "cpu"), |most, one| if one.0 > most.0 { one } else { most })
    }
}

/// A change of the zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    pub zone: Zone,
    pub before: Zone,
    /// As it was then, averaged; memory that was there at once as it is.
    pub usage: Usage,
    /// What was in use most: `cpu`, `memory` or `queue`.
    pub cause: &'static str,
}

/// The machine itself.
#[derive(Debug, Clone)]
pub struct Governor {
    spec: GovernorSpec,
    zone: Zone,
    usage: Usage,
    /// Time of the step before.
    last: Option<Duration>,
    /// By bound: since when it has been at or over it.
    over: [Option<Duration>; 4],
    /// Since when it has been under the bound of this zone by the margin.
    under: Option<Duration>,
}

impl Governor {
    pub fn new(spec: GovernorSpec) -> Self {
        Governor { spec, zone: Zone::Green, usage: Usage::default(), last: None, over: [None; 4], under: None }
    }

    pub fn zone(&self) -> Zone {
        self.zone
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes a reading at `at`, a time that never goes back, and tells whether it changed the zone.
    pub fn step(&mut self, at: Duration, reading: Reading) -> Option<Change> {
        self.average(at, reading);
        let is_out_of_memory = reading.memory.is_finite() && 100.0 * reading.memory >= self.spec.bounds[3];
        if is_out_of_memory {
            // What comes next may be the end of the process: there is no time to average.
            self.usage.memory = self.usage.memory.max(reading.memory);
        }
        self.note(at);
        let zone = if is_out_of_memory { Zone::Critical } else { self.next(at) };
        (zone != self.zone).then(|| self.change(zone))
    }

    /// What is no number changes nothing.
    fn average(&mut self, at: Duration, reading: Reading) {
        let since = self.last.replace(at).map(|last| at.saturating_sub(last));
        let mix = |mean: &mut f64, share: f64, over: Duration, first: f64| {
            let weight = since.map_or(first, |since| weight(since, over));
            if share.is_finite() {
                *mean += weight * (share - *mean);
            }
        };
        // Before the start there was no load.
        mix(&mut self.usage.cpu, reading.cpu, self.spec.smoothing, 0.0);
        mix(&mut self.usage.memory, reading.memory, LIGHTLY, 1.0);
        mix(&mut self.usage.queue, reading.queue, LIGHTLY, 1.0);
    }

    /// Notes since when it is over and under.
    fn note(&mut self, at: Duration) {
        let most = 100.0 * self.usage.most().0;
        for (over, bound) in self.over.iter_mut().zip(self.spec.bounds) {
            *over = (most >= bound).then(|| over.unwrap_or(at));
        }
        let is_under = self.zone.level() > 0 && most < self.spec.bounds[self.zone.level() - 1] - self.spec.margin;
        self.under = is_under.then(|| self.under.unwrap_or(at));
    }

    /// The zone that it should be.
    fn next(&self, at: Duration) -> Zone {
        let lasts = |since: &Option<Duration>, long| since.is_some_and(|since| at.saturating_sub(since) >= long);
        let reached = self.over.iter().rposition(|over| lasts(over, self.spec.rise)).map_or(0, |bound| bound + 1);
        let level = self.zone.level();
        if reached > level {
            Zone::of_level(reached)
        } else if lasts(&self.under, self.spec.fall) {
            Zone::of_level(level.saturating_sub(1))
        } else {
            self.zone
        }
    }

    fn change(&mut self, zone: Zone) -> Change {
        let before = std::mem::replace(&mut self.zone, zone);
        // The next one down has its own time.
        self.under = None;
        Change { zone, before, usage: self.usage, cause: self.usage.most().1 }
    }
}

/// What a value that lasted for `since` weighs in an exponential mean over `over`.
fn weight(since: Duration, over: Duration) -> f64 {
    if over.is_zero() { 1.0 } else { -(-since.as_secs_f64() / over.as_secs_f64()).exp_m1() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Timestamp;
    use crate::world::{Clock, SimClock, SimDisk, World};

    /// A governor in a simulated world, and the changes it told with their second.
    struct Run {
        clock: Arc<SimClock>,
        world: World,
        governor: Governor,
        changes: Vec<(u64, Change)>,
    }

    impl Run {
        fn new(spec: GovernorSpec, seed: u64) -> Run {
            let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
            let world = World::simulated(clock.clone(), Arc::new(SimDisk::new()), seed);
            Run { clock, world, governor: Governor::new(spec), changes: Vec::new() }
        }

        fn second(&self) -> u64 {
            self.clock.elapsed().as_secs()
        }

        fn step(&mut self, reading: Reading) {
            let change = self.governor.step(self.clock.elapsed(), reading);
            self.changes.extend(change.map(|change| (self.clock.elapsed().as_secs(), change)));
            self.clock.advance(Duration::from_secs(1));
        }

        /// `seconds` of the same.
        fn last(&mut self, seconds: u64, reading: Reading) {
            (0..seconds).for_each(|_| self.step(reading));
        }

        /// From -1 to 1.
        fn noise(&self) -> f64 {
            self.world.chance.below(2_000_001) as f64 / 1e6 - 1.0
        }

        fn zones(&self) -> Vec<&'static str> {
            self.changes.iter().map(|(_, change)| change.zone.name()).collect()
        }
    }

    fn cpu(percent: f64) -> Reading {
        Reading { cpu: percent / 100.0, ..Reading::default() }
    }

    fn memory(percent: f64) -> Reading {
        Reading { memory: percent / 100.0, ..Reading::default() }
    }

    #[test]
    fn a_load_that_grows_and_goes_walks_through_all_zones_and_back() {
        for seed in 1..=20 {
            let mut run = Run::new(GovernorSpec::default(), seed);
            // Up from 0 to 100 % in half an hour, a while there, and down again, with noise of ten points either way.
            let curve = |second: u64| match second {
                0..1800 => second as f64 / 18.0,
                1800..2400 => 100.0,
                _ => 100.0 - (second - 2400) as f64 / 18.0,
            };
            while run.second() < 4800 {
                let load = (curve(run.second()) + 10.0 * run.noise()).clamp(0.0, 100.0);
                run.step(cpu(load));
            }
            let wanted = ["yellow", "orange", "red", "critical", "red", "orange", "yellow", "green"];
            assert_eq!(run.zones(), wanted, "seed {seed}: {:?}", run.changes);
            assert!(run.changes.iter().all(|(_, change)| change.cause == "cpu"), "seed {seed}");
        }
    }

    #[test]
    fn what_wavers_around_a_bound_changes_the_zone_once_at_most() {
        for seed in 1..=50 {
            let mut run = Run::new(GovernorSpec { smoothing: Duration::ZERO, ..GovernorSpec::default() }, seed);
            let bound = [60.0, 75.0, 85.0, 95.0][seed as usize % 4];
            run.last(300, cpu(bound - 1.0));
            let before = run.changes.len();
            let period = 1 + run.world.chance.below(120);
            for second in 0..7200 {
                // Long stretches over and under, and noise on them; never under by the margin.
                let side = if u64::is_multiple_of(second / period, 2) { 2.0 } else { -2.0 };
                run.step(cpu(bound + side + 2.9 * run.noise()));
            }
            assert!(run.changes.len() - before <= 1, "seed {seed}, period {period}: {:?}", run.changes);
        }
    }

    #[test]
    fn memory_that_runs_out_is_critical_at_once() {
        let mut run = Run::new(GovernorSpec::default(), 1);
        run.last(60, memory(40.0));
        run.step(memory(95.0));
        let [(60, change)] = run.changes[..] else { panic!("{:?}", run.changes) };
        assert_eq!((change.zone, change.before, change.cause), (Zone::Critical, Zone::Green, "memory"));
        assert!(change.usage.memory >= 0.95, "{change:?}");
        // It comes down one zone at a time, a minute each, from when it is under the bound by the margin.
        run.last(600, memory(40.0));
        assert_eq!(run.zones(), ["critical", "red", "orange", "yellow", "green"]);
        let seconds: Vec<u64> = run.changes.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds[1..].windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>(), [61, 61, 61]);
        assert!((121..125).contains(&seconds[1]), "{seconds:?}");
    }

    #[test]
    fn a_spike_again_and_again_keeps_it_critical() {
        let mut run = Run::new(GovernorSpec::default(), 1);
        for _ in 0..20 {
            run.step(memory(97.0));
            run.last(50, memory(30.0));
        }
        assert_eq!(run.zones(), ["critical"]);
    }

    #[test]
    fn the_fullest_of_the_three_counts_and_it_must_last() {
        let mut run = Run::new(GovernorSpec::default(), 1);
        let queue = |percent: f64| Reading { cpu: 0.3, memory: 0.2, queue: percent / 100.0 };
        run.last(100, queue(10.0));
        run.last(9, queue(88.0));
        run.last(100, queue(10.0));
        assert_eq!(run.zones(), [""; 0], "nine seconds are no load");
        run.last(30, queue(88.0));
        assert_eq!(run.zones().last(), Some(&"red"));
        assert!(run.changes.iter().all(|(_, change)| change.cause == "queue"));
        let mut run = Run::new(GovernorSpec::default(), 1);
        run.last(25, cpu(100.0));
        assert_eq!(run.zones(), [""; 0], "CPU is averaged over half a minute");
        run.last(95, cpu(100.0));
        assert_eq!(run.zones(), ["yellow", "orange", "red", "critical"]);
    }

    #[test]
    fn what_is_no_number_and_a_long_wait_change_nothing() {
        let mut run = Run::new(GovernorSpec::default(), 1);
        run.last(100, memory(70.0));
        assert_eq!(run.zones(), ["yellow"]);
        run.last(100, Reading { cpu: f64::NAN, memory: f64::NAN, queue: f64::INFINITY });
        assert_eq!(run.zones(), ["yellow"]);
        // As after a machine slept: what was before weighs nothing any more.
        run.clock.advance(Duration::from_secs(86_400));
        run.step(memory(10.0));
        assert_eq!(run.zones(), ["yellow"]);
        run.last(61, memory(10.0));
        assert_eq!(run.zones(), ["yellow", "green"]);
    }
}
