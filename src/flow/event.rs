//! What travels along a link.

use std::sync::Arc;

use crate::model::{Batch, Timestamp};

/// One thing that a stage is told, in order.
#[derive(Clone, Debug)]
pub enum Event {
    Batch(Arc<Batch>),
    /// No sample before this time is expected any more; one that comes all the same is late.
    Watermark(Timestamp),
    /// Give your state as of here.
    Checkpoint(u64),
    /// Nothing follows.
    Stop,
}
