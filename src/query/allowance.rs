//! What one statement may hold: a part of what all of them share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// The pool of all statements as one of them sees it.
#[derive(Debug)]
pub(super) struct Allowance {
    shared: Arc<dyn MemoryPool>,
    limit: usize,
    held: AtomicUsize,
}

impl Allowance {
    /// At most `limit` bytes of `shared`.
    pub fn of(shared: Arc<dyn MemoryPool>, limit: usize) -> Allowance {
        Allowance { shared, limit, held: AtomicUsize::new(0) }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.limit, self.shared)
    }
}

impl MemoryPool for Allowance {
    fn name(&self) -> &str {
        "allowance"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.held.fetch_add(additional, Ordering::Relaxed);
        self.shared.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.held.fetch_sub(shrink, Ordering::Relaxed);
        self.shared.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let held = self.held.fetch_add(additional, Ordering::Relaxed);
        let grown = if held.saturating_add(additional) > self.limit {
            resources_err!(
                "{additional} bytes beside {held} are more than the {} that a statement may hold",
                self.limit
            )
        } else {
            self.shared.try_grow(reservation, additional)
        };
        grown.inspect_err(|_| {
            self.held.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::FairSpillPool;

    use super::*;

    #[test]
    fn a_statement_holds_its_part_and_gives_it_back() {
        let shared: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(100));
        let [one, other]: [Arc<dyn MemoryPool>; 2] =
            [60, 60].map(|limit| Arc::new(Allowance::of(shared.clone(), limit)) as Arc<dyn MemoryPool>);
        let sort = MemoryConsumer::new("sort").register(&one);
        let hash = MemoryConsumer::new("hash").register(&one);
        sort.try_grow(40).unwrap();
        assert!(hash.try_grow(30).is_err(), "more than a statement may hold");
        hash.try_grow(20).unwrap();
        let join = MemoryConsumer::new("join").register(&other);
        assert!(join.try_grow(50).is_err(), "more than is left of what all share");
        join.try_grow(40).unwrap();
        drop((sort, hash));
        assert_eq!((one.reserved(), other.reserved(), shared.reserved()), (0, 40, 40));
        join.grow(20);
        assert_eq!((other.reserved(), shared.reserved()), (60, 60));
    }
}
