//! Clocks: the wall's time for stamps, a monotonic one for durations.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall's time: may jump.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment: never goes back.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one door to the machine's clock")]
    pub fn new() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one door to the machine's clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct SimClock {
    start: i64,
    now: AtomicI64,
}

impl SimClock {
    pub fn at(now: Timestamp) -> Self {
        SimClock { start: now.nanos(), now: AtomicI64::new(now.nanos()) }
    }

    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        let since = self.now.load(Ordering::SeqCst).saturating_sub(self.start);
        Duration::from_nanos(u64::try_from(since).unwrap_or(0))
    }
}
