//! What a stage does, counted while it does it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;

use super::stage::Dropped;

/// What a stage did so far, on one shard.
#[derive(Debug, Clone, Serialize)]
pub struct StageStats {
    pub pipeline: String,
    pub stage: String,
    /// `source`, or what it applies, as `window`.
    pub kind: &'static str,
    pub shard: usize,
    /// Those whose output it takes.
    pub inputs: Vec<String>,
    pub samples: u64,
    pub batches: u64,
    /// Samples that came late.
    pub late: u64,
    /// Rows that it gave.
    pub rows: u64,
    pub busy_seconds: f64,
    /// Steps that wait before it, and how many there may be.
    pub queued: u64,
    pub queue: u64,
    /// How long before now what it works on came in; 0 where nothing waits.
    pub lag_seconds: f64,
    /// Time in the data up to which all was told, of the source that is furthest behind and not idle; nanoseconds.
    pub watermark: Option<i64>,
    /// Work that it put off, in windows.
    pub put_off: u64,
    /// Samples that it did not hand on, by reason.
    pub dropped: Dropped,
    /// Why its pipeline gives no more rows.
    pub failure: Option<String>,
}

/// Counts of one thread.
#[derive(Default)]
pub(super) struct Meter {
    pub samples: AtomicU64,
    pub batches: AtomicU64,
    pub late: AtomicU64,
    pub rows: AtomicU64,
    pub busy_nanos: AtomicU64,
    /// When what it did last came in.
    pub arrived: AtomicI64,
    pub watermark: AtomicI64,
    pub has_watermark: AtomicBool,
    pub put_off: AtomicU64,
    pub dropped: Mutex<Dropped>,
}

impl Meter {
    pub fn dropped(&self) -> Dropped {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_dropped(&self, dropped: Dropped) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = dropped;
    }

    pub fn watermark(&self) -> Option<i64> {
        self.has_watermark.load(Ordering::Relaxed).then(|| self.watermark.load(Ordering::Relaxed))
    }

    pub fn set_watermark(&self, time: Option<i64>) {
        self.watermark.store(time.unwrap_or(0), Ordering::Relaxed);
        self.has_watermark.store(time.is_some(), Ordering::Relaxed);
    }
}

/// What ended a pipeline: the first stage that failed, and what it said.
#[derive(Clone, Default)]
pub(super) struct Poison(Arc<OnceLock<String>>);

impl Poison {
    pub fn told(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    pub fn set(&self, told: String) {
        let _ = self.0.set(told);
    }
}
