//! A way in that waits while the store is behind: a listener has nobody who would send again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::flow::{Intake, Refusal};
use crate::model::{Batch, Description, SeriesDef, SeriesId};

/// Between two tries; the door itself waits before it refuses.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Patient {
    pub inner: Arc<dyn Intake>,
    /// From then on a refusal counts.
    pub stopping: Arc<AtomicBool>,
}

impl Intake for Patient {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        self.inner.intern(def)
    }

    fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.inner.find(def)
    }

    fn describe(&self, metric: &str, about: &Description) {
        self.inner.describe(metric, about);
    }

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        loop {
            // What is refused is gone: a copy stays.
            match self.inner.accept(batch.clone()) {
                Err(Refusal::Behind { .. }) if !self.stopping.load(Ordering::Relaxed) => std::thread::sleep(PAUSE),
                done => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::model::Timestamp;

    /// Is behind so many times.
    struct Busy(AtomicU32);

    impl Intake for Busy {
        fn intern(&self, _: &SeriesDef) -> Result<SeriesId, Refusal> {
            Ok(SeriesId(0))
        }

        fn describe(&self, _: &str, _: &Description) {}

        fn accept(&self, batch: Batch) -> Result<(), Refusal> {
            assert_eq!(batch.len(), 1, "it comes whole each time");
            match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => Err(Refusal::Behind { what: "the disk".into(), retry_after: Duration::ZERO }),
                Err(_) => Ok(()),
            }
        }
    }

    #[test]
    fn it_waits_until_there_is_room_or_it_is_told_to_stop() {
        let busy = Arc::new(Busy(AtomicU32::new(3)));
        let patient = Patient { inner: busy.clone(), stopping: Arc::default() };
        let mut batch = Batch::default();
        batch.push(SeriesId(0), Timestamp::from_nanos(1), 1.0);
        patient.accept(batch.clone()).unwrap();
        assert_eq!(busy.0.load(Ordering::Relaxed), 0);
        busy.0.store(1, Ordering::Relaxed);
        patient.stopping.store(true, Ordering::Relaxed);
        assert!(matches!(patient.accept(batch), Err(Refusal::Behind { .. })));
    }
}
