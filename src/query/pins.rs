//! Snapshots that somebody holds by a number, so that their files stay while a notebook reads them and the store goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::error::QueryError;
use super::pace::Elapsed;
use super::queries::Now;
use crate::model::Timestamp;
use crate::store::{Snapshot, Store, told_with_causes};

/// How long files are held where nobody says, and at most.
const KEEP: Duration = Duration::from_secs(3600);
const KEEP_MAX: Duration = Duration::from_secs(24 * 3600);
/// Pins at once.
const PINS_MAX: usize = 100;

/// What is held.
#[derive(Debug, Clone, Serialize)]
pub struct Pin {
    pub pin: u64,
    /// When it is let go of by itself.
    pub expires: String,
    /// The files of each table, in the order in which later rows replace earlier ones.
    pub tables: BTreeMap<String, Vec<String>>,
}

/// All that are held.
pub(super) struct Pins {
    now: Now,
    elapsed: Elapsed,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    last: u64,
    pins: BTreeMap<u64, (Duration, Pin, Snapshot)>,
}

impl Pins {
    pub fn new(now: Now, elapsed: Elapsed) -> Arc<Pins> {
        Arc::new(Pins { now, elapsed, held: Mutex::default() })
    }

    /// Writes what is in memory to files and holds them, and all there are, for so long.
    ///
    /// # Errors
    /// Too many are held, or longer than may be; the store takes no more writes.
    pub fn pin(&self, store: &Store, keep: Option<Duration>) -> Result<Pin, QueryError> {
        let keep = keep.unwrap_or(KEEP);
        if keep > KEEP_MAX {
            return Err(QueryError::Statement(
                "files are held for a day at most: ask again before it is over".to_owned(),
            ));
        }
        self.sweep();
        if self.held().pins.len() >= PINS_MAX {
            let told = format!("{PINS_MAX} pins are held: let go of some, DELETE /api/v1/pins/N");
            return Err(QueryError::Busy(told));
        }
        store.flush().map_err(|error| QueryError::Failed(told_with_causes(&error)))?;
        let snapshot = store.snapshot();
        let nanos = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
        let expires = Timestamp::from_nanos((self.now)().nanos().saturating_add(nanos)).to_string();
        let mut held = self.held();
        held.last += 1;
        let pin = Pin { pin: held.last, expires, tables: tables(&snapshot, store.dir()) };
        held.pins.insert(pin.pin, ((self.elapsed)() + keep, pin.clone(), snapshot));
        Ok(pin)
    }

    /// Those that are held.
    pub fn all(&self) -> Vec<Pin> {
        self.sweep();
        self.held().pins.values().map(|(_, pin, _)| pin.clone()).collect()
    }

    /// Lets go of one; whether there was one of that number.
    pub fn release(&self, number: u64) -> bool {
        // The files go when it is dropped, which is not under the lock.
        let released = self.held().pins.remove(&number);
        released.is_some()
    }

    /// Lets go of those whose time is over.
    pub fn sweep(&self) {
        let now = (self.elapsed)();
        let mut held = self.held();
        let over: Vec<u64> = held.pins.iter().filter(|(_, (until, ..))| *until <= now).map(|(pin, _)| *pin).collect();
        let released: Vec<_> = over.iter().filter_map(|pin| held.pins.remove(pin)).collect();
        drop(held);
        drop(released);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tables(snapshot: &Snapshot, dir: &Path) -> BTreeMap<String, Vec<String>> {
    let mut records = snapshot.records();
    records.sort_unstable_by_key(|record| record.number);
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let path = dir.join(&record.path).display().to_string();
        tables.entry(record.table.name().to_owned()).or_default().push(path);
    }
    tables
}
