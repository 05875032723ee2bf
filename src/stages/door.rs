//! The doors: samples that come in go to the store and so to the pipelines, or are refused while those are behind. Each
//! source has a door of its own, and a budget of new series.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::quality::FixedState;

use super::budget::{Account, BudgetSpec};
use crate::flow::{Budget, Intake, Refusal, SourceStats, Sources};
use crate::model::{Batch, Description, SeriesDef, SeriesId};
use crate::store::{Store, StoreError};

/// How often and how long a batch waits for room before it is refused.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 300;

/// Sources with an account of their own; those that come later share one.
const SOURCES_MAX: usize = 1000;
const OTHERS: &str = "others";
/// Letters of a source's name that are kept.
const NAME_MAX: usize = 100;

/// The doors of a store with its pipelines, one a source.
pub struct Doors {
    store: Arc<Store>,
    spec: BudgetSpec,
    by_source: Mutex<BTreeMap<String, Arc<Door>>>,
}

/// The [`Intake`] of one source.
struct Door {
    store: Arc<Store>,
    spec: BudgetSpec,
    account: Account,
    /// What its batches say they come from.
    name: Arc<str>,
}

impl Doors {
    pub fn new(store: Arc<Store>, spec: BudgetSpec) -> Self {
        Doors { store, spec, by_source: Mutex::default() }
    }
}

impl Sources for Doors {
    fn source(&self, name: &str) -> Arc<dyn Intake> {
        let mut doors = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let name = plain(name);
        let name = if doors.contains_key(&name) || doors.len() < SOURCES_MAX { name } else { OTHERS.to_owned() };
        let made = || Door {
            store: self.store.clone(),
            spec: self.spec,
            account: Account::new(&name),
            name: name.as_str().into(),
        };
        doors.entry(name.clone()).or_insert_with(|| Arc::new(made())).clone()
    }

    fn stats(&self) -> Vec<SourceStats> {
        let now = self.store.world().clock.now();
        let doors = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        doors.values().map(|door| door.account.stats(now, self.spec.series_per_source)).collect()
    }
}

/// A name that can stand in a label and a table: a client may have chosen it.
fn plain(name: &str) -> String {
    let kept = |letter: &char| !letter.is_control() && !matches!(letter, '"' | '\\');
    let name: String = name.trim().chars().filter(kept).take(NAME_MAX).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

impl Door {
    /// Makes room for a series that is new.
    fn admit(&self, def: &SeriesDef) -> Result<(), Budget> {
        def.check_size().map_err(Budget::OfSeries)?;
        let series_max = self.spec.series_max;
        if self.store.registry().len() as u64 >= series_max {
            return Err(Budget::OfStore { series: series_max });
        }
        if self.store.is_crowded() {
            return Err(Budget::OfMemory { bytes: self.store.spec().series_bytes });
        }
        let series = self.spec.series_per_source;
        let source = || Budget::OfSource { source: self.account.name.clone(), series };
        self.account.take(self.store.world().clock.now(), series).then_some(()).ok_or_else(source)
    }
}

impl Intake for Door {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        let registry = self.store.registry();
        if let Some(id) = registry.find(def) {
            return Ok(id);
        }
        self.admit(def).map_err(|budget| {
            self.account.refuse(def, FixedState::default().hash_one((&def.metric, &def.labels)));
            Refusal::Budget(budget)
        })?;
        let (id, is_new) = registry.intern_new(def);
        if !is_new {
            self.account.give_back();
        }
        Ok(id)
    }

    fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.store.registry().find(def)
    }

    fn describe(&self, metric: &str, about: &Description) {
        // A flood of names finds no room here either.
        if !self.store.is_crowded() {
            self.store.registry().describe(metric, about);
        }
    }

    fn accept(&self, mut batch: Batch) -> Result<(), Refusal> {
        (batch.source, batch.arrived) = (self.name.clone(), self.store.world().clock.now());
        let mut looks = 0;
        while let Err(behind) = self.store.ready() {
            looks += 1;
            if looks == LOOKS {
                return Err(Refusal::Behind { what: behind.what, retry_after: behind.retry_after });
            }
            std::thread::sleep(LOOK);
        }
        let samples = batch.len() as u64;
        self.store.append(batch).map_err(|error| Refusal::Closed {
            reason: match error {
                StoreError::Closed { reason } => reason,
                other => other.to_string(),
            },
        })?;
        self.account.add_samples(samples);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::{LABELS_MAX, Labels, Timestamp};
    use crate::store::{Behind, StoreSpec, Tap};
    use crate::world::{Clock, SimClock, SimDisk, World};

    struct Bed {
        clock: Arc<SimClock>,
        disk: SimDisk,
        catalog: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
            Bed { clock, disk: SimDisk::new(), catalog: tempfile::tempdir().unwrap() }
        }

        fn open(&self) -> Arc<Store> {
            let world = World::simulated(self.clock.clone(), Arc::new(self.disk.clone()), 7);
            let dir = Path::new("/data");
            Arc::new(Store::open_with_catalog(world, dir, self.catalog.path(), StoreSpec::default()).unwrap())
        }
    }

    /// Notes where and when batches came from, and how many samples they have.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<(String, Timestamp, usize)>>>);

    impl Notes {
        fn take(&self) -> Vec<(String, Timestamp, usize)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Tap for Notes {
        fn ready(&self) -> Result<(), Behind> {
            Ok(())
        }
        fn pass(&self, batch: Arc<Batch>) {
            self.0.lock().unwrap().push((batch.source.to_string(), batch.arrived, batch.len()));
        }
        fn cut(&self, _: u64, _: bool) {}
        fn state_at(&self, _: u64) -> Vec<u8> {
            Vec::new()
        }
        fn start(&self, _: Option<&[u8]>) {}
    }

    #[test]
    fn pipelines_are_told_where_and_when_a_batch_came_from_the_log_too() {
        let bed = Bed::new();
        let start = bed.clock.now();
        let (store, notes) = (bed.open(), Notes::default());
        store.attach(Arc::new(notes.clone())).unwrap();
        let doors = Doors::new(store.clone(), BudgetSpec::default());
        for (name, samples) in [("a", 1), (" b\n", 2), ("", 3)] {
            let door = doors.source(name);
            let mut batch = Batch { source: "what a parser says".into(), ..Batch::default() };
            for at in 0..samples {
                let series = door.intern(&SeriesDef::new("m", Labels::new([("n", at.to_string())]))).unwrap();
                batch.push(series, start, 1.0);
            }
            bed.clock.advance(Duration::from_nanos(7));
            door.accept(batch).unwrap();
        }
        let told = notes.take();
        let wanted = [("a", 7, 1), ("b", 14, 2), ("unknown", 21, 3)];
        assert_eq!(told, wanted.map(|(name, after, samples)| (name.to_owned(), start.plus(after), samples)));
        drop((doors, store));
        bed.open().attach(Arc::new(notes.clone())).unwrap();
        assert_eq!(notes.take(), told);
    }

    #[test]
    fn a_series_too_large_is_refused_and_the_store_goes_on() {
        let doors = Doors::new(Bed::new().open(), BudgetSpec::default());
        let door = doors.source("test");
        let labels = |count: usize| Labels::new((0..count).map(|at| (format!("l{at}"), "v")));
        for count in [LABELS_MAX + 1, 70_000] {
            let refused = door.intern(&SeriesDef::new("m", labels(count)));
            assert!(matches!(refused, Err(Refusal::Budget(Budget::OfSeries(_)))), "{refused:?}");
        }
        let good = SeriesDef::new("m", labels(LABELS_MAX));
        assert_eq!(door.find(&good), None);
        let series = door.intern(&good).unwrap();
        assert_eq!(door.find(&good), Some(series));
        let mut batch = Batch::default();
        batch.push(series, Timestamp::parse("2026-03-01").unwrap(), 1.0);
        door.accept(batch).unwrap();
        assert_eq!((doors.stats()[0].refused_samples, doors.stats()[0].series), (2, 1));
    }
}
