//! The running pipelines, hung on the store: they see every batch and put their rows back into it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use super::pipeline::{Edges, PipelineSpec};
use super::series::StoreSink;
use super::state::{pack, unpack};
use crate::flow::{Cut, Graph, Sink, StageStats};
use crate::model::Batch;
use crate::store::{Behind, Store, Tap};

/// Fullness of a source's queue from which a new batch is refused.
const FULL: f64 = 1.0;

/// A place that no flush marks.
const SETTLED: u64 = u64::MAX;

/// All pipelines of a store.
pub struct Pipelines {
    store: Weak<Store>,
    edges: Edges,
    /// Whoever passes a batch reads; whoever puts others in their place writes.
    running: RwLock<Vec<Running>>,
    cuts: AtomicU64,
    /// To be started, with the state of the last flush where there is one.
    waiting: Mutex<Vec<PipelineSpec>>,
}

/// A pipeline as it was written, and as it runs.
struct Running {
    spec: PipelineSpec,
    graph: Graph,
}

/// Numbers of cuts that are not a flush's.
const OWN_CUTS: u64 = 1 << 63;

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    pub started: Vec<String>,
    /// Changed: stages that are as they were go on from where they stood.
    pub changed: Vec<String>,
    pub stopped: Vec<String>,
    pub kept: Vec<String>,
}

impl Pipelines {
    /// Starts the pipelines and attaches them to the store: from the state of the last flush, through what the log
    /// holds since, on to what comes. Nothing leaves this node and no file is read.
    pub fn attach(store: &Arc<Store>, specs: Vec<PipelineSpec>) -> Result<Arc<Pipelines>, PipelinesError> {
        Self::attach_to(store, specs, Edges::default())
    }

    /// The same, with what is outside.
    pub fn attach_to(
        store: &Arc<Store>,
        specs: Vec<PipelineSpec>,
        edges: Edges,
    ) -> Result<Arc<Pipelines>, PipelinesError> {
        let pipelines = Arc::new(Pipelines {
            store: Arc::downgrade(store),
            edges,
            running: RwLock::default(),
            cuts: AtomicU64::new(OWN_CUTS),
            waiting: Mutex::new(specs),
        });
        store.attach(pipelines.clone())?;
        // What the log told again had not to wait for anybody.
        pipelines.read().iter().for_each(|running| running.graph.set_free(false));
        Ok(pipelines)
    }

    /// Starts those that wait, from their states.
    fn start_waiting(&self, states: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        let specs = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(store) = self.store.upgrade().filter(|_| !specs.is_empty()) else { return Ok(()) };
        *self.write() = self.started(&store, &specs, states)?;
        Ok(())
    }

    fn started(
        &self,
        store: &Arc<Store>,
        specs: &[PipelineSpec],
        states: &BTreeMap<String, Vec<u8>>,
    ) -> io::Result<Vec<Running>> {
        let sink: Arc<dyn Sink> = Arc::new(StoreSink { store: self.store.clone(), made: self.edges.made.clone() });
        let start = |spec: &PipelineSpec| {
            let graph = Graph::start(spec.graph(store, &self.edges), store.world(), &sink, states)?;
            Ok(Running { spec: spec.clone(), graph })
        };
        specs.iter().map(start).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Running>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other pipelines in the place of those that run. One that is as it was runs on; of one that changed, each stage
    /// goes on that is as it was, and so are all before it. Others start with what comes from here on: `replay` fills what
    /// was before.
    ///
    /// # Errors
    /// Threads that cannot be started, and a flush that fails: the former then run on, or none do.
    pub fn reload(&self, specs: &[PipelineSpec]) -> Result<Reloaded, PipelinesError> {
        let Some(store) = self.store.upgrade() else { return Ok(Reloaded::default()) };
        let reloaded = store.between_flushes(|| self.swap(&store, specs))?;
        // So that a start finds the states of these, and not of the former.
        store.flush_states()?;
        Ok(reloaded)
    }

    fn swap(&self, store: &Arc<Store>, specs: &[PipelineSpec]) -> io::Result<Reloaded> {
        let mut told = Reloaded::default();
        let mut running = self.write();
        let mut former: BTreeMap<String, Running> =
            running.drain(..).map(|running| (running.spec.name.clone(), running)).collect();
        for spec in specs {
            let name = spec.name.clone();
            match former.remove(&name) {
                Some(same) if same.spec.is_same(spec) => {
                    told.kept.push(name);
                    running.push(same);
                }
                Some(changed) => {
                    let cut = Cut { number: self.cuts.fetch_add(1, Ordering::Relaxed), last: false };
                    changed.graph.cut(cut);
                    let states = changed.graph.state_at(cut.number);
                    drop(changed);
                    told.changed.push(name);
                    running.append(&mut self.started(store, std::slice::from_ref(spec), &states)?);
                }
                None => {
                    told.started.push(name);
                    running.append(&mut self.started(store, std::slice::from_ref(spec), &BTreeMap::new())?);
                }
            }
        }
        told.stopped.extend(former.into_keys());
        Ok(told)
    }

    /// No sink waits for what is outside any more: the end is near.
    pub fn end(&self) {
        self.read().iter().for_each(|running| running.graph.set_free(true));
    }

    /// Waits until all that came in is worked off, and has what is not finished told as it stands.
    pub fn settle(&self) {
        self.end();
        self.cut(SETTLED, true);
        self.state_at(SETTLED);
    }

    /// Stops the stages and joins their threads. What they had not told yet is told again from the log and the last
    /// state: flush the store first to leave nothing to do.
    pub fn stop(&self) {
        let running = std::mem::take(&mut *self.write());
        drop(running);
    }

    /// How full the fullest queue before a pipeline is, 0 to 1.
    pub fn fullness(&self) -> f64 {
        self.read().iter().map(|running| running.graph.fullness()).fold(0.0, f64::max)
    }

    /// What each stage did so far.
    pub fn stats(&self) -> Vec<StageStats> {
        self.read().iter().flat_map(|running| running.graph.stats()).collect()
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
        match self.read().iter().find(|running| running.graph.fullness() >= FULL) {
            Some(Running { spec, .. }) => {
                Err(Behind { what: format!("pipeline `{}`", spec.name), retry_after: Duration::from_secs(1) })
            }
            None => Ok(()),
        }
    }

    fn pass(&self, batch: Arc<Batch>) {
        self.read().iter().for_each(|running| running.graph.pass(&batch));
    }

    fn cut(&self, cut: u64, last: bool) {
        let cut = Cut { number: cut, last };
        self.read().iter().for_each(|running| running.graph.cut(cut));
    }

    fn state_at(&self, cut: u64) -> Vec<u8> {
        let states: BTreeMap<String, Vec<u8>> =
            self.read().iter().flat_map(|running| running.graph.state_at(cut)).collect();
        pack(&states)
    }

    fn start(&self, state: Option<&[u8]>) {
        let states = state.map_or_else(BTreeMap::new, |state| {
            unpack(state).unwrap_or_else(|| {
                tracing::warn!("the stages' state does not read: they start afresh");
                BTreeMap::new()
            })
        });
        if let Err(error) = self.start_waiting(&states) {
            tracing::error!(%error, "the stages do not start");
        }
    }
}
