//! What handlers share: the parts of the server, its counts, its bounds.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::flow::{Sources, StageStats};
use crate::ingest::Known;
use crate::ingest::line_protocol::LineCache;
use crate::ingest::otlp::Otlp;
use crate::model::{Retention, Timestamp};
use crate::query::{Engine, MemoryShare};

/// Whole mebibytes that hold `bytes`.
pub(super) fn mib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20).max(1)).unwrap_or(u32::MAX >> 3)
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Meters {
    pub samples: AtomicU64,
    pub lines: AtomicU64,
    pub refused_lines: AtomicU64,
    pub text_fields: AtomicU64,
    pub exemplars: AtomicU64,
}

/// What is taken of a request.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body, after decompression.
    pub body: usize,
    /// Bytes of all bodies that are in memory at once; others wait.
    pub bodies: usize,
    /// Bytes of the names that clients write, kept to know them again.
    pub known: usize,
    /// How far ahead of the clock a sample may be.
    pub future: Duration,
    /// How far behind it: as long as it would be kept.
    pub retention: Arc<Retention>,
}

/// Bytes of memory for sums of deltas.
pub(super) fn delta_room(limits: &Limits) -> usize {
    limits.known / 8
}

/// What handlers share.
pub(super) struct App {
    pub sources: Arc<dyn Sources>,
    pub engine: Arc<Engine>,
    pub limits: Limits,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub stages: Arc<dyn Fn() -> Vec<StageStats> + Send + Sync>,
    pub meters: Meters,
    pub lines: LineCaches,
    /// Series of the other formats.
    pub known: Arc<Known>,
    pub otlp: Otlp,
    /// Mebibytes of bodies that may be in memory at once.
    pub room: Arc<Semaphore>,
    pub room_mib: u32,
}

impl App {
    pub fn memory_shares(&self) -> Vec<MemoryShare> {
        let free = self.room.available_permits() as u64;
        let room = u64::from(self.room_mib);
        let share = |share, bytes, limit, at_limit| MemoryShare { share, bytes, limit, at_limit };
        vec![
            share("bodies of requests", (room - free.min(room)) << 20, Some(room << 20), "others wait"),
            share(
                "names as clients write them",
                self.known_bytes(),
                Some(self.limits.known as u64),
                "others are looked up each time",
            ),
            share(
                "sums of OTLP deltas",
                self.otlp.delta_bytes() as u64,
                Some(delta_room(&self.limits) as u64),
                "further delta series are refused",
            ),
        ]
    }

    pub fn known_bytes(&self) -> u64 {
        (self.lines.bytes() + self.known.bytes()) as u64
    }
}

/// Databases whose lines are known; at one more all are forgotten, and learnt anew as they come.
const DATABASES_MAX: usize = 256;

/// Line caches by database: a database is a label of its series.
pub(super) struct LineCaches {
    /// Bytes of memory of each; all go when they take more together.
    room: usize,
    by_database: Mutex<HashMap<String, Arc<LineCache>>>,
}

impl LineCaches {
    pub fn within(room: usize) -> Self {
        LineCaches { room, by_database: Mutex::default() }
    }

    pub fn of(&self, database: &str) -> Arc<LineCache> {
        let mut caches = self.by_database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = caches.get(database) {
            return cache.clone();
        }
        let taken: usize = caches.values().map(|cache| cache.heads().bytes()).sum();
        if caches.len() >= DATABASES_MAX || taken > self.room {
            caches.clear();
        }
        let labels = if database.is_empty() { Vec::new() } else { vec![("db".to_owned(), database.to_owned())] };
        let cache = Arc::new(LineCache::with_labels(labels, self.room));
        caches.insert(database.to_owned(), cache.clone());
        cache
    }

    /// Bytes of memory of all.
    pub fn bytes(&self) -> usize {
        let caches = self.by_database.lock().unwrap_or_else(PoisonError::into_inner);
        caches.values().map(|cache| cache.heads().bytes()).sum()
    }
}
