//! What one statement may hold: a part of what all of them share.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// The pool of all statements as one of them sees it. What its sorts and joins take is shared out fairly within its own limit,
/// so that each spills before nothing is left for the others.
#[derive(Debug)]
pub(super) struct Allowance {
    shared: Arc<dyn MemoryPool>,
    own: FairSpillPool,
    limit: usize,
}

impl Allowance {
    /// At most `limit` bytes of `shared`.
    pub fn of(shared: Arc<dyn MemoryPool>, limit: usize) -> Allowance {
        Allowance { shared, own: FairSpillPool::new(limit), limit }
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
        self.own.register(consumer);
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.shared.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.shared.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.shared.try_grow(reservation, additional).inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
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
