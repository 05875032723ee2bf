//! The thread that looks how much is in use, tells everybody the zone, and logs each change as a row.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::machine::{Change, Governor, GovernorSpec, Reading, Usage};
use super::pressure::Pressure;
use super::zone::{Effects, Zone};
use crate::flow::Intake;
use crate::model::{Batch, Timestamp, Zones};
use crate::world::{Bell, World};

/// Changes kept while the store takes none; beyond, the oldest is lost.
const PENDING_MAX: usize = 1000;

/// How the governor is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GovernorStats {
    pub zone: Zone,
    pub since: Timestamp,
    pub usage: Usage,
    /// Since the start.
    pub changes: u64,
    /// Changes that no row tells of, since the store took none for long.
    pub lost: u64,
}

/// Nothing before the first look.
type Told = Arc<Mutex<Option<GovernorStats>>>;

fn locked(told: &Told) -> MutexGuard<'_, Option<GovernorStats>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The governor and its thread, which ends when this is dropped, or at [`Governing::stop`].
pub struct Governing {
    spec: GovernorSpec,
    pressure: Arc<Pressure>,
    told: Told,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Governing {
    /// Not looking yet: it is green.
    pub fn new(spec: GovernorSpec) -> Self {
        let pressure = Arc::new(Pressure::new(&spec));
        Governing { spec, pressure, told: Told::default(), bell: Arc::default(), thread: None }
    }

    /// What others look at.
    pub fn pressure(&self) -> Arc<Pressure> {
        self.pressure.clone()
    }

    /// Tells how it is doing, whenever it is called; `None` where it has not looked yet.
    pub fn teller(&self) -> Arc<dyn Fn() -> Option<GovernorStats> + Send + Sync> {
        let told = self.told.clone();
        Arc::new(move || *locked(&told))
    }

    /// Looks from now on at what `read` tells; each change goes through `intake`.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(
        &mut self,
        world: &World,
        intake: Arc<dyn Intake>,
        read: impl FnMut() -> Reading + Send + 'static,
    ) -> std::io::Result<()> {
        let mut watch = Watch::new(self, world, intake, read);
        let (bell, interval) = (self.bell.clone(), self.spec.interval);
        let work = move || {
            while !bell.wait(interval) {
                watch.look();
            }
        };
        self.thread = Some(std::thread::Builder::new().name("governor".to_owned()).spawn(work)?);
        Ok(())
    }

    pub fn stop(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Governing {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Watch<R> {
    governor: Governor,
    world: World,
    pressure: Arc<Pressure>,
    told: Told,
    intake: Arc<dyn Intake>,
    read: R,
    /// Changes that are not stored yet.
    pending: VecDeque<(Timestamp, Change)>,
}

impl<R: FnMut() -> Reading> Watch<R> {
    fn new(governing: &Governing, world: &World, intake: Arc<dyn Intake>, read: R) -> Self {
        let (pressure, told) = (governing.pressure.clone(), governing.told.clone());
        let governor = Governor::new(governing.spec.clone());
        Watch { governor, world: world.clone(), pressure, told, intake, read, pending: VecDeque::new() }
    }

    fn look(&mut self) {
        let reading = (self.read)();
        let (now, at) = (self.world.clock.now(), self.world.clock.elapsed());
        let change = self.governor.step(at, reading);
        self.pressure.set(self.governor.zone());
        let is_full = change.is_some() && self.pending.len() == PENDING_MAX;
        self.tell(now, change.is_some(), is_full);
        if let Some(change) = change {
            log(&change);
            if is_full {
                self.pending.pop_front();
            }
            self.pending.push_back((now, change));
        }
        self.store();
    }

    fn tell(&self, now: Timestamp, is_change: bool, is_loss: bool) {
        let mut told = locked(&self.told);
        let (zone, usage) = (self.governor.zone(), self.governor.usage());
        let before = told.unwrap_or(GovernorStats { zone, since: now, usage, changes: 0, lost: 0 });
        *told = Some(GovernorStats {
            zone,
            since: if is_change { now } else { before.since },
            usage,
            changes: before.changes + u64::from(is_change),
            lost: before.lost + u64::from(is_loss),
        });
    }

    /// What the store refuses, as while it is behind, is tried again at the next look.
    fn store(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match self.intake.accept(batch(self.pending.make_contiguous())) {
            Ok(()) => self.pending.clear(),
            Err(refusal) => tracing::debug!(%refusal, "changes of the zone are not stored yet"),
        }
    }
}

/// Where nobody looks any more, as after a panic, nothing is held back for ever.
impl<R> Drop for Watch<R> {
    fn drop(&mut self) {
        self.pressure.set(Zone::Green);
        *locked(&self.told) = None;
    }
}

/// As rows of the table `zones`.
fn batch(changes: &[(Timestamp, Change)]) -> Batch {
    let mut zones = Zones::default();
    for (time, Change { zone, before, usage, cause }) in changes {
        zones.push(*time, [zone.name(), before.name()], [usage.cpu, usage.memory, usage.queue], cause);
    }
    Batch { rows: zones.take().into_iter().collect(), ..Batch::default() }
}

fn log(change: &Change) {
    let Change { zone, before, usage, cause } = change;
    let [cpu, memory, queue] = [usage.cpu, usage.memory, usage.queue].map(|share| (100.0 * share).round());
    let (zone_name, before_name) = (zone.name(), before.name());
    match Effects::of(*zone).warning {
        Some(warning) if zone > before => tracing::warn!(
            zone = zone_name,
            before = before_name,
            cpu,
            memory,
            queue,
            cause,
            "resources are short, {warning}"
        ),
        _ => tracing::info!(
            zone = zone_name,
            before = before_name,
            cpu,
            memory,
            queue,
            cause,
            "the zone of resources changed"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::flow::{Compression, Refusal};
    use crate::model::{Description, Priority, SeriesDef, SeriesId, Table};
    use crate::world::{SimClock, SimDisk};

    /// Takes rows, where it is open.
    #[derive(Default)]
    struct Door {
        is_shut: Mutex<bool>,
        taken: Mutex<Vec<Batch>>,
    }

    impl Intake for Door {
        fn intern(&self, _def: &SeriesDef) -> Result<SeriesId, Refusal> {
            unreachable!("changes have no series")
        }

        fn describe(&self, _metric: &str, _about: &Description) {}

        fn accept(&self, batch: Batch) -> Result<(), Refusal> {
            if *self.is_shut.lock().unwrap() {
                return Err(Refusal::Behind { what: "it".into(), retry_after: Duration::from_secs(1) });
            }
            self.taken.lock().unwrap().push(batch);
            Ok(())
        }
    }

    #[test]
    fn a_change_is_told_to_all_and_stored_once_the_store_takes_it() {
        let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
        let world = World::simulated(clock.clone(), Arc::new(SimDisk::new()), 1);
        let (door, memory) = (Arc::new(Door::default()), Arc::new(Mutex::new(0.1)));
        let governing = Governing::new(GovernorSpec::default());
        let (pressure, tell, read) = (governing.pressure(), governing.teller(), memory.clone());
        let read = move || Reading { memory: *read.lock().unwrap(), ..Reading::default() };
        let mut watch = Watch::new(&governing, &world, door.clone(), read);
        assert_eq!(tell(), None);
        watch.look();
        assert_eq!(tell().map(|stats| (stats.zone, stats.changes)), Some((Zone::Green, 0)));
        assert!(door.taken.lock().unwrap().is_empty());

        (*memory.lock().unwrap(), *door.is_shut.lock().unwrap()) = (0.97, true);
        clock.advance(Duration::from_secs(1));
        let changed = world.clock.now();
        watch.look();
        assert_eq!((pressure.zone(), pressure.compression()), (Zone::Critical, Compression::Emergency));
        assert_eq!(pressure.pace(Priority::Low), None);
        clock.advance(Duration::from_secs(1));
        watch.look();
        let told = tell().unwrap();
        assert_eq!((told.zone, told.since, told.changes, told.lost), (Zone::Critical, changed, 1, 0));

        *door.is_shut.lock().unwrap() = false;
        clock.advance(Duration::from_secs(1));
        (0..3).for_each(|_| watch.look());
        let taken = door.taken.lock().unwrap();
        let [Batch { rows, .. }] = &taken[..] else { panic!("once: {taken:?}") };
        assert_eq!((rows[0].table, rows[0].batch.num_rows()), (Table::Zones, 1));
        drop(watch);
        assert_eq!((pressure.zone(), tell()), (Zone::Green, None), "nobody looks any more");
    }

    #[test]
    fn a_store_that_takes_nothing_for_ever_costs_no_memory_without_end() {
        let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
        let world = World::simulated(clock.clone(), Arc::new(SimDisk::new()), 1);
        let door = Arc::new(Door { is_shut: Mutex::new(true), ..Door::default() });
        let spec = GovernorSpec { rise: Duration::ZERO, fall: Duration::ZERO, ..GovernorSpec::default() };
        let governing = Governing::new(spec);
        let mut is_high = false;
        let read = move || {
            is_high = !is_high;
            Reading { memory: if is_high { 0.99 } else { 0.0 }, ..Reading::default() }
        };
        let mut watch = Watch::new(&governing, &world, door.clone(), read);
        for _ in 0..PENDING_MAX + 10 {
            clock.advance(Duration::from_secs(60));
            watch.look();
        }
        let told = governing.teller()().unwrap();
        assert!(told.changes > PENDING_MAX as u64, "{told:?}");
        assert_eq!((watch.pending.len() as u64 + told.lost, watch.pending.len()), (told.changes, PENDING_MAX));
        *door.is_shut.lock().unwrap() = false;
        watch.look();
        assert_eq!(door.taken.lock().unwrap()[0].rows[0].batch.num_rows(), PENDING_MAX);
    }
}
