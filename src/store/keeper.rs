//! The keeper: the thread that syncs the log, flushes, merges and drops what is expired.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::told_with_causes;
use super::{Store, StoreError, Sync};
use crate::world::Bell;

const SYNC_EVERY: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(250);
/// Beats between looks for segments to merge, and for expired ones.
const MERGE_BEATS: u64 = 8;
const EXPIRY_BEATS: u64 = 4 * 60;

/// Owns the upkeep threads; stops and joins them when dropped. The log is synced on a thread of its own, so that no
/// flush or merge holds it up.
pub struct Keeper {
    bell: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(store: &Arc<Store>) -> std::io::Result<Keeper> {
        let mut keeper = Keeper { bell: Arc::default(), threads: Vec::new() };
        keeper.spawn("store-keeper", store, keep)?;
        if store.spec().sync == Sync::Interval {
            keeper.spawn("store-sync", store, keep_synced)?;
        }
        Ok(keeper)
    }

    fn spawn(&mut self, name: &str, store: &Arc<Store>, work: fn(&Store, &Bell)) -> std::io::Result<()> {
        let (store, bell) = (store.clone(), self.bell.clone());
        let thread = std::thread::Builder::new().name(name.into());
        self.threads.push(thread.spawn(move || work(&store, &bell))?);
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.bell.ring();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn told(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(error = told_with_causes(&error), "upkeep failed");
    }
}

fn keep_synced(store: &Store, bell: &Bell) {
    while !bell.wait(SYNC_EVERY) {
        told(store.sync());
    }
}

fn keep(store: &Store, bell: &Bell) {
    let mut oldest = None;
    let mut beat = 0;
    while !bell.wait(BEAT) {
        beat += 1;
        told(tend(store, beat, &mut oldest));
    }
}

fn tend(store: &Store, beat: u64, oldest: &mut Option<Duration>) -> Result<(), StoreError> {
    let now = store.world().clock.elapsed();
    let since = *oldest.get_or_insert(now);
    let aged = now.saturating_sub(since) > store.spec().head_age;
    store.look_at_series();
    if store.is_full() || aged {
        *oldest = None;
        store.flush()?;
    }
    store.heal()?;
    if beat.is_multiple_of(MERGE_BEATS) {
        store.compact_step()?;
    }
    if beat.is_multiple_of(EXPIRY_BEATS) {
        store.expire_step()?;
    }
    Ok(())
}
