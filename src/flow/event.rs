//! What travels along a link.

use std::sync::Arc;

use super::governor::Compression;
use crate::model::{Batch, Rows, Timestamp};

/// How far a source has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub source: Arc<str>,
    /// All that the source brought up to this time has been told; [`Timestamp::MAX`] while it is idle, so that it holds
    /// nobody up.
    pub time: Timestamp,
}

/// One thing that a stage is told, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// Samples of one source. Those of a series come in the order of time, each time once.
    Batch(Arc<Batch>),
    /// Samples that came when their series had been told past their time, or again.
    Late(Arc<Batch>),
    /// Samples that are there but may still be overtaken: told once more, as a batch, when they no longer can. Comes right
    /// before a checkpoint.
    Ahead(Arc<Batch>),
    /// Rows that the stage before found.
    Rows(Rows),
    Watermark(Watermark),
    /// So hard those that thin samples should try from here on.
    Pressure(Compression),
    /// Give your state as of here.
    Checkpoint(Cut),
    /// Nothing follows.
    Stop,
}

/// A place in the stream at which states are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub number: u64,
    /// Whether work that was put off is to be done now: nothing may come for long.
    pub last: bool,
}

/// What one stage hands to the next for each step of the source: first samples and rows, then watermarks, then a
/// checkpoint or the end. There is one for every step, be it empty, so whoever has several inputs takes one of each in turn
/// and is told the same, whichever thread was quicker.
pub type Step = Vec<Event>;

impl Event {
    /// Whether it steers, rather than brings something.
    pub fn is_control(&self) -> bool {
        matches!(self, Event::Watermark(_) | Event::Pressure(_) | Event::Checkpoint(_) | Event::Stop)
    }
}
