//! Asks every source at its interval, bounds how long it takes, and notes how it is doing.
//!
//! A source that fails is asked less often, unless it keeps its pace: each failure in a row after the second doubles the
//! wait, up to [`BACK_OFF_MAX`]. The first pass of each comes at a place of its own within the interval, so that many sources of one
//! interval do not all come at once.
//!
//! Before each pass a source looks at the governor's [`Pressure`]: while resources are short it waits longer, or its pass
//! is left out.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::FixedState;
use tokio::task::JoinSet;

use super::{Readings, Source, SourceError, SourceSpec};
use crate::flow::{Intake, Pressure, Sources};
use crate::ingest::{Gather, Known, TimeBounds};
use crate::model::{Kind, Timestamp};
use crate::world::{Clock, World};

/// Failures in a row after which a source counts as failing and is asked less often.
const FAILING: u32 = 3;
/// Longest wait between two passes of a failing source, unless its interval is longer.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// Longest part of an interval by which first passes are spread.
const SPREAD_MAX: Duration = Duration::from_secs(10);
/// From so many sources on they are spread over all of that.
const CROWD: f64 = 200.0;

/// A source and how it is to be asked.
pub struct Planned {
    pub spec: SourceSpec,
    pub source: Box<dyn Source>,
}

/// How a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet.
    Starting,
    Healthy,
    /// The last pass failed, or the one before it; or it told less than it should.
    Degraded,
    /// [`FAILING`] passes in a row failed: it is asked less often.
    Failing,
    /// It is not asked while resources are short. How it was doing before shows again afterwards.
    Paused,
    /// It is not asked.
    Disabled,
}

impl Health {
    pub const fn name(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Failing => "failing",
            Health::Paused => "paused",
            Health::Disabled => "disabled",
        }
    }
}

/// What is known of a source.
#[derive(Debug, Clone)]
pub struct CollectorStats {
    pub spec: SourceSpec,
    pub health: Health,
    /// Failed passes in a row.
    pub failures: u32,
    pub passes: u64,
    pub failed_passes: u64,
    /// Samples acknowledged.
    pub samples: u64,
    /// Samples refused: beyond a budget, or of values or times that are not taken.
    pub refused: u64,
    pub last_pass: Option<Timestamp>,
    /// The last pass that went well.
    pub last_success: Option<Timestamp>,
    /// How long the last pass took.
    pub took: Duration,
    pub last_error: Option<String>,
    pub next_pass: Option<Timestamp>,
    /// Its interval as the governor has it now; `None` where it is not asked.
    pub interval_now: Option<Duration>,
}

impl CollectorStats {
    fn new(spec: SourceSpec) -> Self {
        let health = if spec.enabled { Health::Starting } else { Health::Disabled };
        CollectorStats {
            spec,
            health,
            failures: 0,
            passes: 0,
            failed_passes: 0,
            samples: 0,
            refused: 0,
            last_pass: None,
            last_success: None,
            took: Duration::ZERO,
            last_error: None,
            next_pass: None,
            interval_now: None,
        }
    }

    /// Notes how a pass ended.
    fn note(&mut self, failed: Option<String>) {
        self.passes += 1;
        match failed {
            None => {
                self.failures = 0;
                self.health = Health::Healthy;
            }
            Some(error) => {
                self.failed_passes += 1;
                self.failures = self.failures.saturating_add(1);
                self.health = if self.failures >= FAILING { Health::Failing } else { Health::Degraded };
                self.last_error = Some(error);
            }
        }
    }

    /// Notes a pass that told something, but not all.
    fn note_lack(&mut self, lack: String) {
        self.note(None);
        self.health = Health::Degraded;
        self.last_error = Some(lack);
    }

    /// The same under this pressure.
    fn under(mut self, pressure: &Pressure) -> Self {
        if self.health == Health::Disabled {
            return self;
        }
        self.interval_now = pressure.pace(self.spec.priority).map(|pace| self.spec.interval.mul_f64(pace));
        if self.interval_now.is_none() {
            (self.health, self.next_pass) = (Health::Paused, None);
        }
        self
    }

    /// From the start of one pass to that of the next.
    fn wait(&self) -> Duration {
        let interval = self.spec.interval;
        let doublings = self.failures.saturating_sub(FAILING - 1).min(16);
        interval.saturating_mul(1 << doublings).min(BACK_OFF_MAX.max(interval))
    }
}

/// What all sources are told of.
type Told = Arc<Mutex<Vec<CollectorStats>>>;

fn locked(told: &Told) -> MutexGuard<'_, Vec<CollectorStats>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sources that are being asked. They stop when this is dropped, or at [`Collectors::stop`].
pub struct Collectors {
    told: Told,
    /// Series that sources named before, of all of them.
    known: Arc<Known>,
    pressure: Arc<Pressure>,
    tasks: JoinSet<()>,
}

impl Collectors {
    /// Not asking anybody yet. Names that sources wrote take up to `known_bytes` of memory; under `pressure` sources are
    /// asked less often, or not at all.
    pub fn new(known_bytes: usize, pressure: Arc<Pressure>) -> Self {
        let known = Arc::new(Known::within(known_bytes));
        Collectors { told: Told::default(), known, pressure, tasks: JoinSet::new() }
    }

    /// Asks `all` from now on, on the runtime that this is called in. Samples later than `future` ahead of the clock are
    /// refused.
    pub fn start(&mut self, all: Vec<Planned>, world: &World, sources: &dyn Sources, future: Duration) {
        // A few come at once; of many, each in its turn.
        let crowd = (all.len() as f64 / CROWD).min(1.0);
        for Planned { spec, source } in all {
            let intake = sources.source(&spec.id);
            let place = {
                let mut told = locked(&self.told);
                told.push(CollectorStats::new(spec.clone()));
                told.len() - 1
            };
            if !spec.enabled {
                continue;
            }
            let known = self.known.clone();
            let first = spread(&spec).mul_f64(crowd);
            let (told, world, keeps_pace) = (self.told.clone(), world.clone(), source.keeps_pace());
            let pressure = self.pressure.clone();
            let asking = Asking { told, place, world, intake, known, pressure, future, spec, keeps_pace };
            self.tasks.spawn(asking.run(source, first));
        }
    }

    /// Tells how every source is doing, whenever it is called.
    pub fn teller(&self) -> Arc<dyn Fn() -> Vec<CollectorStats> + Send + Sync> {
        let (told, pressure) = (self.told.clone(), self.pressure.clone());
        Arc::new(move || {
            let told = locked(&told).clone();
            told.into_iter().map(|source| source.under(&pressure)).collect()
        })
    }

    /// Ends all passes under way.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

struct Asking {
    told: Told,
    place: usize,
    world: World,
    intake: Arc<dyn Intake>,
    known: Arc<Known>,
    pressure: Arc<Pressure>,
    future: Duration,
    spec: SourceSpec,
    keeps_pace: bool,
}

impl Asking {
    async fn run(self, mut source: Box<dyn Source>, first: Duration) {
        let clock = self.world.clock.clone();
        let mut schedule = Schedule::new(clock.elapsed() + first, self.spec.interval);
        loop {
            while let Some(until) = schedule.look(clock.elapsed(), self.pressure.pace(self.spec.priority)) {
                self.sleep_until(&*clock, until).await;
            }
            let started = clock.elapsed();
            // Whole milliseconds: finer times say nothing and take room.
            let now = clock.now().floor(1_000_000);
            let read = tokio::time::timeout(self.spec.timeout, source.read(now)).await;
            let read = read.unwrap_or_else(|_| {
                let timeout = humantime::format_duration(self.spec.timeout);
                Err(SourceError::new(format!("no answer within the timeout of {timeout}")))
            });
            let took = clock.elapsed().saturating_sub(started);
            let wait = self.settle(read, now, took).await;
            schedule.passed(clock.elapsed(), wait);
        }
    }

    async fn sleep_until(&self, clock: &dyn Clock, due: Duration) {
        let wait = due.saturating_sub(clock.elapsed());
        self.tell(|told| {
            told.next_pass = Some(clock.now().plus(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)));
        });
        tokio::time::sleep(wait).await;
    }

    fn tell(&self, change: impl FnOnce(&mut CollectorStats)) {
        change(&mut locked(&self.told)[self.place]);
    }

    /// Stores what was read, notes how it went, and tells how long to wait.
    async fn settle(&self, read: Result<Readings, SourceError>, now: Timestamp, took: Duration) -> Duration {
        let (mut readings, fault, lack) = match read.and_then(Readings::whole) {
            Ok(mut readings) => {
                let (fault, lack) = (readings.fault.take(), readings.lack.take());
                (readings, fault, lack)
            }
            Err(error) => (Readings::default(), Some(error), None),
        };
        self.put_own(&mut readings, fault.is_none(), took);
        let stored = self.store(readings, now).await;
        let (samples, refused, lost) = match stored {
            Ok((samples, refused)) => (samples, refused, None),
            Err(lost) => (0, 0, Some(lost)),
        };
        let failed = fault.map(|fault| fault.0).or(lost);
        if let Some(error) = &failed {
            let id = &self.spec.id;
            tracing::debug!(source = id, error, "a pass failed");
        }
        let mut wait = self.spec.interval;
        self.tell(|told| {
            let was = told.health;
            (told.last_pass, told.took) = (Some(now), took);
            told.samples += samples;
            told.refused += refused;
            told.last_success = if failed.is_none() { Some(now) } else { told.last_success };
            match (failed, lack) {
                (None, Some(lack)) => told.note_lack(lack.0),
                (failed, _) => told.note(failed),
            }
            if !self.keeps_pace {
                wait = told.wait();
            }
            if told.health == Health::Failing && was != Health::Failing {
                let error = told.last_error.as_deref().unwrap_or_default();
                tracing::warn!(source = told.spec.id, error, "a source fails again and again");
            }
        });
        wait
    }

    /// How the pass went, as samples beside those of the source.
    fn put_own(&self, readings: &mut Readings, is_up: bool, took: Duration) {
        let (id, count) = (self.spec.id.as_str(), readings.len() as f64);
        let labels = [("source", id)];
        let about = |unit, help| crate::ingest::About { kind: Some(Kind::Gauge), unit, help };
        let up = f64::from(u8::from(is_up));
        readings.put("source_up", &labels, about("", "1 where the source answered."), up);
        let help = "How long the source took to answer.";
        readings.put("source_pass_duration_seconds", &labels, about("seconds", help), took.as_secs_f64());
        readings.put("source_pass_samples", &labels, about("", "Samples of the pass."), count);
    }

    /// Samples taken and refused; or why all were lost.
    async fn store(&self, readings: Readings, now: Timestamp) -> Result<(u64, u64), String> {
        let (intake, known, labels) = (self.intake.clone(), self.known.clone(), self.spec.labels.clone());
        let bounds = TimeBounds::new(now, self.future, None);
        // The door may make it wait.
        let stored = tokio::task::spawn_blocking(move || {
            known.age(now);
            let mut gather = Gather::sharing(&*intake, bounds, known);
            readings.gather(now, &labels, &mut gather).and_then(|()| gather.flush())?;
            Ok((gather.accepted(), gather.faults.count))
        });
        match stored.await {
            Ok(stored) => stored.map_err(|refusal: crate::flow::Refusal| refusal.to_string()),
            Err(error) => Err(format!("the pass was not stored: {error}")),
        }
    }
}

/// When a source's next pass is due.
#[derive(Debug)]
struct Schedule {
    /// As long as nothing is short.
    due: Duration,
    /// From the pass before to that.
    wait: Duration,
    /// Until when it was told to wait last.
    until: Duration,
}

impl Schedule {
    fn new(due: Duration, wait: Duration) -> Self {
        Schedule { due, wait, until: due }
    }

    /// Looks before a pass: `Some` until when to wait and look again, `None` where it is due. A wait never lasts longer
    /// than a usual one, so what the governor changes counts from then on at the latest.
    fn look(&mut self, now: Duration, pace: Option<f64>) -> Option<Duration> {
        let slowed = self.due + self.wait.mul_f64(pace.map_or(0.0, |pace| (pace - 1.0).max(0.0)));
        if now < self.due {
            self.until = self.due;
        } else if pace.is_none() {
            // Left out, not made up for.
            self.due = (self.due + self.wait).max(now);
            self.until = self.due;
        } else if now < slowed {
            self.until = slowed.min(now + self.wait);
        } else {
            self.due = slowed.max(self.until);
            return None;
        }
        Some(self.until)
    }

    /// A pass ended at `now`; the next one is due `wait` after it began.
    fn passed(&mut self, now: Duration, wait: Duration) {
        // A pass that took too long is left out, not made up for.
        (self.due, self.wait) = ((self.due + wait).max(now), wait);
    }
}

/// Where in its interval a source's first pass comes among very many, the same each time.
fn spread(spec: &SourceSpec) -> Duration {
    let room = spec.interval.min(SPREAD_MAX);
    let share = FixedState::default().hash_one(&spec.id) % 1000;
    room.mul_f64(share as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Zone;
    use crate::ingest::Priority;
    use crate::world::SimClock;

    fn stats(interval: u64) -> CollectorStats {
        CollectorStats::new(SourceSpec {
            id: "a".into(),
            name: "A".into(),
            kind: "exec",
            priority: Priority::Medium,
            enabled: true,
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(1),
            labels: Vec::new(),
        })
    }

    #[test]
    fn who_fails_again_and_again_is_asked_less_often_and_at_once_again_when_it_answers() {
        let mut told = stats(10);
        let mut fail = |failed: bool| {
            told.note(failed.then(|| "no".to_owned()));
            (told.health, told.wait().as_secs())
        };
        let seen: Vec<_> = (0..9).map(|_| fail(true)).collect();
        assert_eq!(seen[..3], [(Health::Degraded, 10), (Health::Degraded, 10), (Health::Failing, 20)]);
        assert_eq!(seen[3..].iter().map(|seen| seen.1).collect::<Vec<_>>(), [40, 80, 160, 300, 300, 300]);
        assert_eq!(fail(false), (Health::Healthy, 10));
        assert_eq!((told.passes, told.failed_passes), (10, 9));
    }

    #[test]
    fn who_tells_only_a_part_is_degraded_and_asked_as_often() {
        let mut told = stats(10);
        (0..9).for_each(|_| told.note_lack("no privilege".into()));
        assert_eq!((told.health, told.failed_passes, told.wait().as_secs()), (Health::Degraded, 0, 10));
        assert_eq!(told.last_error.as_deref(), Some("no privilege"));
        told.note(None);
        assert_eq!(told.health, Health::Healthy);
    }

    #[test]
    fn a_long_interval_is_never_shortened_by_the_back_off() {
        let mut told = stats(3600);
        (0..20).for_each(|_| told.note(Some("no".into())));
        assert_eq!(told.wait(), Duration::from_secs(3600));
    }

    /// Seconds at which a source of a 10 s interval is asked until `end`, each pass taking `took`, at the paces that
    /// `pace` tells for the second.
    fn passes(end: u64, took: u64, pace: impl Fn(u64) -> Option<f64>) -> Vec<u64> {
        let clock = SimClock::at(Timestamp::parse("2026-03-01").unwrap());
        let wait = Duration::from_secs(10);
        let mut schedule = Schedule::new(Duration::from_secs(3), wait);
        let mut passes = Vec::new();
        loop {
            while let Some(until) = schedule.look(clock.elapsed(), pace(clock.elapsed().as_secs())) {
                clock.advance(until - clock.elapsed());
            }
            passes.push(clock.elapsed().as_secs());
            clock.advance(Duration::from_secs(took));
            schedule.passed(clock.elapsed(), wait);
            if clock.elapsed().as_secs() >= end {
                return passes;
            }
        }
    }

    #[test]
    fn who_is_slowed_waits_longer_and_who_is_paused_is_left_out() {
        assert_eq!(passes(40, 1, |_| Some(1.0)), [3, 13, 23, 33, 43]);
        assert_eq!(passes(40, 12, |_| Some(1.0)), [3, 15, 27, 39], "passes that take too long");
        let slow_from = |from, to| move |second| if (from..to).contains(&second) { Some(2.0) } else { Some(1.0) };
        assert_eq!(passes(80, 1, slow_from(20, 60)), [3, 13, 33, 53, 63, 73, 83]);
        assert_eq!(passes(60, 1, slow_from(20, 24)), [3, 13, 33, 43, 53, 63], "looked at at 23 and not before 33");
        let paused = |second| if (20..50).contains(&second) { None } else { Some(1.0) };
        assert_eq!(passes(70, 1, paused), [3, 13, 53, 63, 73], "no pass is made up for");
        let fast = |_| Some(0.1);
        assert_eq!(passes(20, 1, fast), [3, 13, 23], "nobody is asked more often than it wants");
    }

    #[test]
    fn who_is_paused_is_told_as_such_and_nothing_of_it_is_forgotten() {
        let pressure = Pressure::default();
        let mut told = stats(10);
        (0..3).for_each(|_| told.note(Some("no".into())));
        told.next_pass = Some(Timestamp::from_nanos(1));
        let seen = told.clone().under(&pressure);
        assert_eq!((seen.health, seen.interval_now), (Health::Failing, Some(Duration::from_secs(10))));
        pressure.set(Zone::Orange);
        let seen = told.clone().under(&pressure);
        assert_eq!((seen.health, seen.interval_now, seen.next_pass), (Health::Paused, None, None));
        assert_eq!((seen.failures, seen.last_error.as_deref()), (3, Some("no")));
        told.spec.priority = Priority::High;
        let seen = told.clone().under(&pressure);
        assert_eq!((seen.health, seen.interval_now), (Health::Failing, Some(Duration::from_secs(20))));
        told.spec.enabled = false;
        let seen = CollectorStats::new(told.spec).under(&pressure);
        assert_eq!((seen.health, seen.interval_now), (Health::Disabled, None));
    }
}
