//! Runs in memory that keep apart what was written and what is durable, and lose power on demand.
//!
//! Each change is two operations, the write and the sync. From the operation at which the power goes every call fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{RunChange, RunLog, RunRecord, Through};
use crate::catalog::CatalogError;
use crate::model::{Span, Timestamp};
use crate::world::Chance;

/// What becomes of changes that were not synced when the power goes; each is kept whole or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LossOfRuns {
    Nothing,
    Unsynced,
    /// The first of them stay.
    Prefix,
    /// Any of them stay.
    Some,
}

impl LossOfRuns {
    pub const ALL: [LossOfRuns; 4] = [LossOfRuns::Nothing, LossOfRuns::Unsynced, LossOfRuns::Prefix, LossOfRuns::Some];
}

/// Counts operations of everything that loses power together.
#[derive(Debug, Default)]
pub(crate) struct Power {
    operations: Mutex<(u64, Option<u64>)>,
}

impl Power {
    /// The power goes at the operation with this number, from 1.
    pub fn goes_at(&self, operation: Option<u64>) {
        self.lock().1 = operation;
    }

    pub fn operations(&self) -> u64 {
        self.lock().0
    }

    pub fn is_gone(&self) -> bool {
        let (done, stop) = *self.lock();
        stop.is_some_and(|stop| done >= stop)
    }

    /// Counts one operation; whether it is carried out.
    pub fn spend(&self) -> bool {
        let mut state = self.lock();
        state.0 += 1;
        let (done, stop) = *state;
        stop.is_none_or(|stop| done < stop)
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Option<u64>)> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Default)]
struct State {
    records: BTreeMap<(String, Timestamp), RunRecord>,
    through: BTreeMap<String, Through>,
}

impl State {
    fn take(&mut self, change: &RunChange) {
        for record in &change.records {
            self.records.insert((record.job.clone(), record.scheduled), record.clone());
        }
        self.through.extend(change.through.clone());
    }
}

#[derive(Default)]
struct Inner {
    seen: State,
    durable: State,
    unsynced: Vec<RunChange>,
}

/// The twin; see the file.
#[derive(Default)]
pub(crate) struct RunTwin {
    inner: Mutex<Inner>,
    pub power: Arc<Power>,
}

impl RunTwin {
    /// The log as it is found when the power is back, with nothing that fails.
    pub fn after_power_loss(&self, loss: LossOfRuns, chance: &Chance) -> RunTwin {
        let inner = self.lock();
        let mut durable = inner.durable.clone();
        let count = inner.unsynced.len() as u64;
        let prefix = chance.below(count + 1);
        for (at, change) in (0..).zip(&inner.unsynced) {
            let stays = match loss {
                LossOfRuns::Nothing => true,
                LossOfRuns::Unsynced => false,
                LossOfRuns::Prefix => at < prefix,
                LossOfRuns::Some => chance.below(2) == 0,
            };
            if stays {
                durable.take(change);
            }
        }
        let inner = Inner { seen: durable.clone(), durable, unsynced: Vec::new() };
        RunTwin { inner: Mutex::new(inner), power: Arc::default() }
    }

    /// Every run of every job.
    pub fn all(&self) -> Vec<RunRecord> {
        self.lock().seen.records.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> CatalogError {
    CatalogError::Sled(sled::Error::Io(std::io::Error::other("the power is gone")))
}

impl RunLog for RunTwin {
    fn put(&self, change: &RunChange) -> Result<(), CatalogError> {
        let mut inner = self.lock();
        if self.power.is_gone() {
            return Err(gone());
        }
        // What is under way when the power goes may have come through.
        inner.unsynced.push(change.clone());
        if !self.power.spend() {
            return Err(gone());
        }
        inner.seen.take(change);
        if !self.power.spend() {
            return Err(gone());
        }
        let unsynced = std::mem::take(&mut inner.unsynced);
        unsynced.iter().for_each(|change| inner.durable.take(change));
        Ok(())
    }

    fn get(&self, job: &str, scheduled: Timestamp) -> Result<Option<RunRecord>, CatalogError> {
        Ok(self.lock().seen.records.get(&(job.to_owned(), scheduled)).cloned())
    }

    fn range(&self, job: &str, span: Span) -> Result<Vec<RunRecord>, CatalogError> {
        let found = |record: &&RunRecord| record.job == job && span.contains(record.scheduled);
        Ok(self.lock().seen.records.values().filter(found).cloned().collect())
    }

    fn newest(&self, job: &str, count: usize) -> Result<Vec<RunRecord>, CatalogError> {
        Ok(self.range(job, Span::ALL)?.into_iter().rev().take(count).collect())
    }

    fn open_runs(&self) -> Result<Vec<RunRecord>, CatalogError> {
        Ok(self.lock().seen.records.values().filter(|record| record.state.is_open()).cloned().collect())
    }

    fn through(&self) -> Result<BTreeMap<String, Through>, CatalogError> {
        Ok(self.lock().seen.through.clone())
    }

    fn prune(&self, job: &str, keep: usize) -> Result<usize, CatalogError> {
        let over = self.range(job, Span::ALL)?.into_iter().rev().filter(|record| !record.state.is_open());
        let old: Vec<Timestamp> = over.skip(keep).map(|record| record.scheduled).collect();
        let inner = &mut *self.lock();
        for scheduled in &old {
            let key = (job.to_owned(), *scheduled);
            inner.seen.records.remove(&key);
            inner.durable.records.remove(&key);
        }
        Ok(old.len())
    }
}
