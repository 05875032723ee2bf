//! The running pipelines, hung on the store: they see every batch and put their rows back into it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::pipeline::PipelineSpec;
use super::state::{pack, unpack};
use crate::flow::{Cut, Graph, Sink, StageStats};
use crate::model::{Batch, Rows};
use crate::store::{Behind, Store, Tap};

/// Fullness of a source's queue from which a new batch is refused.
const FULL: f64 = 1.0;

/// A place that no flush marks.
const SETTLED: u64 = u64::MAX;

struct StoreSink(Weak<Store>);

impl Sink for StoreSink {
    fn rows(&self, rows: Rows) {
        if let Some(store) = self.0.upgrade() {
            store.add_rows(rows);
        }
    }
}

/// All pipelines of a store.
pub struct Pipelines {
    specs: Mutex<Vec<PipelineSpec>>,
    store: Weak<Store>,
    graphs: Mutex<Arc<Vec<Graph>>>,
    /// Whether the next flush is the last for long.
    ends: AtomicBool,
}

impl Pipelines {
    /// Starts the pipelines and attaches them to the store: from the state of the last flush, through what the log
    /// holds since, on to what comes.
    pub fn attach(store: &Arc<Store>, specs: Vec<PipelineSpec>) -> Result<Arc<Pipelines>, PipelinesError> {
        let (specs, graphs) = (Mutex::new(specs), Mutex::new(Arc::new(Vec::new())));
        let pipelines = Pipelines { specs, store: Arc::downgrade(store), graphs, ends: AtomicBool::new(false) };
        let pipelines = Arc::new(pipelines);
        pipelines.start(&BTreeMap::new())?;
        store.attach(pipelines.clone())?;
        Ok(pipelines)
    }

    fn start(&self, states: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        let Some(store) = self.store.upgrade() else { return Ok(()) };
        let sink: Arc<dyn Sink> = Arc::new(StoreSink(self.store.clone()));
        let start = |spec: &PipelineSpec| Graph::start(spec.graph(&store), store.world(), &sink, states);
        // Those that run end before others take their place.
        self.stop();
        let graphs = self.specs().iter().map(start).collect::<io::Result<Vec<_>>>()?;
        *self.graphs.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(graphs);
        Ok(())
    }

    fn specs(&self) -> Vec<PipelineSpec> {
        self.specs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn graphs(&self) -> Arc<Vec<Graph>> {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// With the next flush stages do all that they put off: nothing may come for long.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Release);
    }

    /// Waits until all that came in is worked off, and has what is not finished told as it stands.
    pub fn settle(&self) {
        self.end();
        self.cut(SETTLED);
        self.state_at(SETTLED);
    }

    /// Stops the stages and joins their threads. What they had not told yet is told again from the log and the last
    /// state: flush the store first to leave nothing to do.
    pub fn stop(&self) {
        *self.graphs.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Vec::new());
    }

    /// How full the fullest queue before a pipeline is, 0 to 1.
    pub fn fullness(&self) -> f64 {
        self.graphs().iter().map(Graph::fullness).fold(0.0, f64::max)
    }

    /// What each stage did so far.
    pub fn stats(&self) -> Vec<StageStats> {
        self.graphs().iter().flat_map(Graph::stats).collect()
    }
}

/// Pipelines that do not start.
#[derive(Debug, thiserror::Error)]
pub enum PipelinesError {
    #[error("cannot start a stage's thread")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl Tap for Pipelines {
    fn ready(&self) -> Result<(), Behind> {
        match self.graphs().iter().find(|graph| graph.fullness() >= FULL) {
            Some(graph) => {
                Err(Behind { what: format!("pipeline `{}`", graph.name()), retry_after: Duration::from_secs(1) })
            }
            None => Ok(()),
        }
    }

    fn pass(&self, batch: Arc<Batch>) {
        self.graphs().iter().for_each(|graph| graph.pass(&batch));
    }

    fn cut(&self, cut: u64) {
        let cut = Cut { number: cut, last: self.ends.load(Ordering::Acquire) };
        self.graphs().iter().for_each(|graph| graph.cut(cut));
    }

    fn state_at(&self, cut: u64) -> Vec<u8> {
        let states: BTreeMap<String, Vec<u8>> = self.graphs().iter().flat_map(|graph| graph.state_at(cut)).collect();
        pack(&states)
    }

    fn restore(&self, state: &[u8]) {
        let Some(states) = unpack(state) else {
            tracing::warn!("the stages' state does not read: they start afresh");
            return;
        };
        if let Err(error) = self.start(&states) {
            tracing::error!(%error, "the stages do not start from their state");
        }
    }
}
