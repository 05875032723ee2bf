//! The bounded queue between the thread that reads and the one that parses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::meters::{Meters, Transport};

/// Chunks that may wait to be parsed.
pub(super) const QUEUE: usize = 64;

/// Whole lines on their way to the parser.
pub(super) struct Chunk {
    pub transport: Transport,
    pub text: Vec<u8>,
}

/// A sender into the queue that keeps count of what waits there.
#[derive(Clone)]
pub(super) struct Queue {
    pub chunks: mpsc::Sender<Chunk>,
    pub meters: Arc<Meters>,
}

impl Queue {
    fn note(&self) {
        let waiting = self.chunks.max_capacity() - self.chunks.capacity();
        self.meters.queued.store(waiting as u64, Ordering::Relaxed);
    }

    /// Hands a chunk on, where there is room.
    pub fn try_send(&self, chunk: Chunk) -> Result<(), Chunk> {
        let sent = self.chunks.try_send(chunk).map_err(mpsc::error::TrySendError::into_inner);
        self.note();
        sent
    }

    /// Waits for room. Where the parser has ended there is none: the chunk is gone.
    pub async fn send(&self, chunk: Chunk) {
        let _ = self.chunks.send(chunk).await;
        self.note();
    }
}
