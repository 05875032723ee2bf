//! The keeper: the thread that syncs the log, flushes, merges and drops what is expired.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::flush::told_with_causes;
use super::store::unpoisoned;
use super::{Store, StoreError, Sync};

const BEAT: Duration = Duration::from_millis(250);
/// Beats between syncs of the log under `sync = "interval"`, and between looks for segments to merge.
const SYNC_BEATS: u64 = 4;
const MERGE_BEATS: u64 = 8;
const EXPIRY_BEATS: u64 = 4 * 60;

struct Bell {
    stopped: Mutex<bool>,
    rung: Condvar,
}

/// Owns the upkeep thread; stops and joins it when dropped.
pub struct Keeper {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(store: Arc<Store>) -> std::io::Result<Keeper> {
        let bell = Arc::new(Bell { stopped: Mutex::new(false), rung: Condvar::new() });
        let listening = bell.clone();
        let thread = std::thread::Builder::new().name("store-keeper".into()).spawn(move || keep(&store, &listening))?;
        Ok(Keeper { bell, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *unpoisoned(self.bell.stopped.lock()) = true;
        self.bell.rung.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(store: &Store, bell: &Bell) {
    let mut oldest = None;
    for beat in 0_u64.. {
        let stopped = unpoisoned(bell.stopped.lock());
        let (stopped, _) = unpoisoned(bell.rung.wait_timeout_while(stopped, BEAT, |stopped| !*stopped));
        if *stopped {
            return;
        }
        drop(stopped);
        if let Err(error) = tend(store, beat, &mut oldest) {
            tracing::warn!(error = told_with_causes(&error), "upkeep failed");
        }
    }
}

fn tend(store: &Store, beat: u64, oldest: &mut Option<Duration>) -> Result<(), StoreError> {
    if store.spec().sync == Sync::Interval && beat.is_multiple_of(SYNC_BEATS) {
        store.sync()?;
    }
    let now = store.world().clock.elapsed();
    let bytes = store.head_bytes();
    let since = *oldest.get_or_insert(now);
    let aged = now.saturating_sub(since) > store.spec().head_age;
    if bytes > store.spec().head_bytes || aged {
        *oldest = None;
        store.flush()?;
    }
    if beat.is_multiple_of(MERGE_BEATS) {
        store.compact_step()?;
    }
    if beat.is_multiple_of(EXPIRY_BEATS) {
        store.drop_expired()?;
    }
    Ok(())
}
