//! Asks every source at its interval, bounds how long it takes, and notes how it is doing.
//!
//! A source that fails is asked less often, unless it keeps its pace: each failure in a row after the second doubles the
//! wait, up to [`BACK_OFF_MAX`]. The first pass of each comes at a place of its own within the interval, so that many sources of one
//! interval do not all come at once.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::FixedState;
use tokio::task::JoinSet;

use super::{Readings, Source, SourceError, SourceSpec};
use crate::flow::{Intake, Sources};
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
    tasks: JoinSet<()>,
}

impl Collectors {
    /// Not asking anybody yet. Names that sources wrote take up to `known_bytes` of memory.
    pub fn new(known_bytes: usize) -> Self {
        Collectors { told: Told::default(), known: Arc::new(Known::within(known_bytes)), tasks: JoinSet::new() }
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
            let asking = Asking { told, place, world, intake, known, future, spec, keeps_pace };
            self.tasks.spawn(asking.run(source, first));
        }
    }

    /// Tells how every source is doing, whenever it is called.
    pub fn teller(&self) -> Arc<dyn Fn() -> Vec<CollectorStats> + Send + Sync> {
        let told = self.told.clone();
        Arc::new(move || locked(&told).clone())
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
    future: Duration,
    spec: SourceSpec,
    keeps_pace: bool,
}

impl Asking {
    async fn run(self, mut source: Box<dyn Source>, first: Duration) {
        let clock = self.world.clock.clone();
        let mut due = clock.elapsed() + first;
        loop {
            self.sleep_until(&*clock, due).await;
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
            // A pass that took too long is left out, not made up for.
            due = (due + wait).max(clock.elapsed());
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

/// Where in its interval a source's first pass comes among very many, the same each time.
fn spread(spec: &SourceSpec) -> Duration {
    let room = spec.interval.min(SPREAD_MAX);
    let share = FixedState::default().hash_one(&spec.id) % 1000;
    room.mul_f64(share as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Priority;

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
}
