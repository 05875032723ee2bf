//! What handlers share: the parts of the server, its counts, its bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use super::requests::Requests;
use crate::flow::{GovernorStats, Sources, StageStats};
use crate::ingest::line_protocol::LineCache;
use crate::ingest::otlp::Otlp;
use crate::ingest::{CollectorStats, Known, KnownRoom, ListenerStats};
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
    /// Requests that were told to come later: too many waited, or one waited too long.
    pub turned_away: AtomicU64,
    pub exemplars: AtomicU64,
    pub nonfinite: AtomicU64,
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
    pub collectors: Arc<dyn Fn() -> Vec<CollectorStats> + Send + Sync>,
    pub listeners: Arc<dyn Fn() -> Vec<ListenerStats> + Send + Sync>,
    pub governor: Arc<dyn Fn() -> Option<GovernorStats> + Send + Sync>,
    pub meters: Meters,
    pub requests: Requests,
    pub lines: LineCaches,
    /// Series of the other formats.
    pub known: Arc<Known>,
    pub otlp: Otlp,
    /// Those of remote write, by the labels as they come.
    pub remote_write: Known,
    /// Mebibytes of bodies that may be in memory at once.
    pub room: Arc<Semaphore>,
    pub room_mib: u32,
    /// Turns of requests whose bodies are here.
    pub turns: Arc<Semaphore>,
    /// Requests that wait for room or a turn.
    pub waiting: AtomicUsize,
}

/// Requests that may wait for room in memory, or for their turn; more are told to come later at once.
const WAITING_MAX: usize = 256;
/// How long one waits before it is told so.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Requests that are read and stored at once, for each core: what they become on the way is in no budget.
const TURNS: usize = 4;

/// Requests that are read and stored at once.
pub(super) fn turns() -> usize {
    TURNS * std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// What a body takes of the memory for bodies. It grows with what comes, so that who sends slowly holds little.
#[derive(Debug, Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// Mebibytes that are lacking for so many bytes.
    fn lacking(&self, bytes: usize, app: &App) -> u32 {
        let held = self.0.as_ref().map_or(0, |permit| permit.num_permits() as u32);
        mib(bytes).min(app.room_mib).saturating_sub(held)
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.0 {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
    }

    /// Waits until there is room for so many bytes in all.
    ///
    /// # Errors
    /// As [`App::wait_for`].
    pub async fn grow_to(&mut self, bytes: usize, app: &App) -> Result<(), ApiError> {
        let lacking = self.lacking(bytes, app);
        if lacking > 0 {
            self.add(app.wait_for(&app.room, lacking).await?);
        }
        Ok(())
    }

    /// The same without waiting; whether there was room.
    pub fn try_grow_to(&mut self, bytes: usize, app: &App) -> bool {
        let lacking = self.lacking(bytes, app);
        if lacking == 0 {
            return true;
        }
        let permit = app.room.clone().try_acquire_many_owned(lacking);
        permit.map(|permit| self.add(permit)).is_ok()
    }
}

impl App {
    /// Waits for a turn to be read and stored.
    ///
    /// # Errors
    /// As [`App::wait_for`].
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.wait_for(&self.turns, 1).await
    }

    /// Waits for so much of what all requests share.
    ///
    /// # Errors
    /// 429 where too many wait already, 503 where none came free in time; both say when to send again.
    async fn wait_for(&self, shared: &Arc<Semaphore>, share: u32) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(room) = shared.clone().try_acquire_many_owned(share) {
            return Ok(room);
        }
        let turn_away = |status, told: String| {
            self.meters.turned_away.fetch_add(1, Ordering::Relaxed);
            Err(ApiError { retry_after_s: Some(1), ..ApiError::new(status, told) })
        };
        let _waiting = Waiting::new(&self.waiting);
        if self.waiting.load(Ordering::Relaxed) > WAITING_MAX {
            let told = format!("{WAITING_MAX} requests wait already: send again in 1 s, in fewer and larger requests");
            return turn_away(StatusCode::TOO_MANY_REQUESTS, told);
        }
        match tokio::time::timeout(WAIT_MAX, shared.clone().acquire_many_owned(share)).await {
            Ok(Ok(room)) => Ok(room),
            _ => turn_away(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the requests before it took over {} s: send again in 1 s", WAIT_MAX.as_secs()),
            ),
        }
    }

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
        self.lines.room.taken() as u64
    }
}

/// One that waits, counted as long as it does: also where its client leaves.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn new(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Databases whose lines are known; at one more all are forgotten, and learnt anew as they come.
const DATABASES_MAX: usize = 256;

/// Line caches by database: a database is a label of its series.
pub(super) struct LineCaches {
    /// What they share with what the other formats know.
    room: Arc<KnownRoom>,
    by_database: Mutex<HashMap<String, Arc<LineCache>>>,
}

impl LineCaches {
    pub fn sharing(room: Arc<KnownRoom>) -> Self {
        LineCaches { room, by_database: Mutex::default() }
    }

    pub fn of(&self, database: &str) -> Arc<LineCache> {
        let mut caches = self.by_database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = caches.get(database) {
            return cache.clone();
        }
        if caches.len() >= DATABASES_MAX || self.room.is_full() {
            caches.clear();
        }
        let labels = if database.is_empty() { Vec::new() } else { vec![("db".to_owned(), database.to_owned())] };
        let cache = Arc::new(LineCache::sharing(labels, self.room.clone()));
        caches.insert(database.to_owned(), cache.clone());
        cache
    }
}
