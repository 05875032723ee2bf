//! What a stage is.

use std::sync::Arc;

use super::Event;
use crate::model::{Batch, Rows, Timestamp};

/// Takes the rows that stages find.
pub trait Sink: Send + Sync {
    fn rows(&self, rows: Rows);
}

/// Where a stage puts what it makes: rows into tables, events to the stage behind it.
pub struct Out<'a> {
    pub(super) sink: &'a dyn Sink,
    pub(super) forward: &'a mut Vec<Event>,
}

impl<'a> Out<'a> {
    /// For stages run without a graph.
    pub fn new(sink: &'a dyn Sink, forward: &'a mut Vec<Event>) -> Self {
        Out { sink, forward }
    }

    pub fn rows(&mut self, rows: Rows) {
        self.sink.rows(rows);
    }

    /// Hands a batch to the stage behind.
    pub fn batch(&mut self, batch: Arc<Batch>) {
        self.forward.push(Event::Batch(batch));
    }
}

/// One step of a pipeline, on a thread of its own for each shard. What it makes depends on what it was told alone, so
/// that the log gives the same rows again after a crash.
pub trait Stage: Send {
    /// Takes a batch. A stage that changes nothing for those behind it calls [`Out::batch`] with the same batch.
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>);

    /// Time has come this far in every series that still moves.
    fn watermark(&mut self, _time: Timestamp, _out: &mut Out<'_>) {}

    /// Says what is known of what is not finished, and gives the state to go on from.
    fn checkpoint(&mut self, out: &mut Out<'_>) -> Vec<u8>;

    /// Takes up a state that [`Stage::checkpoint`] gave; `false` where it is none of this stage's.
    fn restore(&mut self, state: &[u8]) -> bool;
}

/// Makes the stage of one shard.
pub type StageMaker = Box<dyn Fn(usize) -> Box<dyn Stage> + Send + Sync>;
