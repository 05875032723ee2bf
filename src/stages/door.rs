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
        let made = || Door { store: self.store.clone(), spec: self.spec, account: Account::new(&name) };
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

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
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
    use crate::store::StoreSpec;
    use crate::world::{SimClock, SimDisk, World};

    #[test]
    fn a_series_too_large_is_refused_and_the_store_goes_on() {
        let catalog = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
        let world = World::simulated(clock, Arc::new(SimDisk::new()), 7);
        let store = Store::open_with_catalog(world, Path::new("/data"), catalog.path(), StoreSpec::default()).unwrap();
        let doors = Doors::new(Arc::new(store), BudgetSpec::default());
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
