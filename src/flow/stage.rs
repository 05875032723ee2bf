//! What a stage is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Cut, Event, Step, Watermark};
use super::governor::Compression;
use crate::model::{Batch, Rows, Sample, SeriesId, Span};

/// Takes the rows and samples that stages find, for the store.
pub trait Sink: Send + Sync {
    fn rows(&self, rows: Rows);

    /// Samples of series that stages made.
    fn samples(&self, _batch: &Batch) {}
}

/// Where a stage puts what it makes: for the store, and for the stages behind it.
pub struct Out<'a> {
    /// Where the store takes this stage's rows.
    pub(super) store: Option<&'a dyn Sink>,
    pub(super) step: &'a mut Step,
    /// Whether anybody follows.
    pub(super) is_followed: bool,
    /// Whether the store takes the samples it hands on.
    pub(super) keeps: bool,
}

impl<'a> Out<'a> {
    /// For stages run without a graph.
    pub fn new(store: &'a dyn Sink, step: &'a mut Step) -> Self {
        Out { store: Some(store), step, is_followed: true, keeps: false }
    }

    pub fn rows(&mut self, rows: Rows) {
        if rows.batch.num_rows() == 0 {
            return;
        }
        if self.is_followed {
            self.step.push(Event::Rows(rows.clone()));
        }
        if let Some(store) = self.store {
            store.rows(rows);
        }
    }

    /// Gives samples of series that stages made to the store.
    pub fn samples(&mut self, batch: &Batch) {
        if let Some(store) = self.store {
            store.samples(batch);
        }
    }

    /// Hands a batch to those behind. Where there are none, and the stage makes other series than it is given, it is for the
    /// store ([`Sink::samples`]); so are those that come late, and those that may be overtaken, since they are handed on
    /// again.
    pub fn batch(&mut self, batch: Arc<Batch>) {
        self.push(batch, Event::Batch);
    }

    pub fn late(&mut self, batch: Arc<Batch>) {
        self.push(batch, Event::Late);
    }

    pub fn ahead(&mut self, batch: Arc<Batch>) {
        self.push(batch, Event::Ahead);
    }

    fn push(&mut self, batch: Arc<Batch>, event: fn(Arc<Batch>) -> Event) {
        if batch.is_empty() {
            return;
        }
        if let Some(store) = self.store.filter(|_| self.keeps) {
            store.samples(&batch);
        }
        if self.is_followed {
            self.step.push(event(batch));
        }
    }

    /// Tells how far a stage is that holds samples back: it hands them on as a source of its own name, so that those of
    /// the sources before it can pass by meanwhile.
    pub fn watermark(&mut self, watermark: Watermark) {
        if self.is_followed {
            self.step.push(Event::Watermark(watermark));
        }
    }
}

/// The share of the series that one thread of a stage has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub number: usize,
    pub of: usize,
}

impl Shard {
    pub const WHOLE: Shard = Shard { number: 0, of: 1 };

    /// Whether the series is in it.
    #[inline]
    pub fn has(self, series: u32) -> bool {
        self.of == 1 || series as usize % self.of == self.number
    }
}

/// What passed by a stage before, as the store holds it now.
pub trait History: Send + Sync {
    /// As of this moment.
    fn open(&self) -> Box<dyn Past>;
}

/// The history of one moment.
pub trait Past {
    /// Series that may have samples in the span.
    fn series(&self, span: Span) -> Vec<SeriesId>;

    /// The samples of a series in a span, by time, each time once, a piece at a time. False where they cannot be read:
    /// what was handed on counts for nothing then. Several series are read quickest in the order of
    /// [`Past::series`].
    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool;

    /// Series in the order in which they are read quickest.
    fn in_order(&self, series: Vec<SeriesId>) -> Vec<SeriesId> {
        series
    }

    /// The oldest time of a series that is kept whole, in nanoseconds.
    fn oldest(&self, series: SeriesId) -> i64;

    /// When a series begins, in nanoseconds, or somewhat before, as far as that is known without reading.
    fn begins(&self, _series: SeriesId) -> Option<i64> {
        None
    }
}

/// Samples that a stage did not hand on, by reason.
pub type Dropped = BTreeMap<&'static str, u64>;

/// One step of a pipeline, on a thread of its own for each shard. What it makes depends on what it was told alone, so
/// that the log gives the same rows again after a crash.
pub trait Stage: Send {
    /// Takes a batch. A stage that changes nothing for those behind it calls [`Out::batch`] with the same batch.
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>);

    /// Takes samples that come late.
    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.late(batch.clone());
    }

    /// Takes samples that will be told again ([`Event::Ahead`]): nothing may be kept of them.
    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.ahead(batch.clone());
    }

    /// Takes rows that the stage before found.
    fn rows(&mut self, _rows: &Rows, _out: &mut Out<'_>) {}

    /// A source has come this far.
    fn watermark(&mut self, _watermark: &Watermark, _out: &mut Out<'_>) {}

    /// The machine is shorter of something, or less short: so hard to try from here on.
    fn pressure(&mut self, _compression: Compression) {}

    /// Does some of the work that was put off. Comes about once a second; when, must not show in the rows at the end.
    fn idle(&mut self, _out: &mut Out<'_>) {}

    /// Says what is known of what is not finished, and gives the state to go on from.
    fn checkpoint(&mut self, cut: Cut, out: &mut Out<'_>) -> Vec<u8>;

    /// Takes up what `shard` has of a state that [`Stage::checkpoint`] gave, be it of another division into shards, where it
    /// is called once for each of them; `false` where it is none of this stage's.
    fn restore(&mut self, state: &[u8], shard: Shard) -> bool;

    /// What it did not hand on, since the start.
    fn dropped(&self) -> Dropped {
        Dropped::new()
    }

    /// Work put off, in windows.
    fn put_off(&self) -> u64 {
        0
    }
}

/// Makes the stage of one shard.
pub type StageMaker = Box<dyn Fn(Shard) -> Box<dyn Stage> + Send + Sync>;
