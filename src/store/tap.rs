//! Where the pipelines hang on the store: they see every batch in the order of the log, and give their state at a cut.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Batch;

/// A consumer had no room for too long.
#[derive(Debug, Clone)]
pub struct Behind {
    pub what: String,
    pub retry_after: Duration,
}

/// Follows the store. All but `ready` and `state_at` are called in the order of the log, one at a time.
pub trait Tap: Send + Sync {
    /// Whether a batch can be passed without waiting for long.
    fn ready(&self) -> Result<(), Behind>;

    /// Takes a batch that is in the log.
    fn pass(&self, batch: Arc<Batch>);

    /// Marks the place `cut` in the stream: batches passed before belong to the segments that are about to be written.
    /// `last`: nothing may come for long, so what was put off is to be done now.
    fn cut(&self, cut: u64, last: bool);

    /// Waits until everything before `cut` is worked off and its rows are with the store; the state then.
    fn state_at(&self, cut: u64) -> Vec<u8>;

    /// Begins, from a state that `state_at` gave where there is one; what of it does not fit is left. Called once, before the
    /// first batch.
    fn start(&self, state: Option<&[u8]>);
}
