//! A node: store, pipelines, keeper and query engine, wired together, started and stopped in order.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};

use super::ask::Asker;
use super::collect::collector_rows;
use super::edges::edges;
use super::global::{Global, WrongUsage};
use super::governor::governor_rows;
use super::jobs;
use super::listen::listener_rows;
use super::pipelines::{drop_rows, stage_rows};
use super::regress;
use super::slo::Judge;
use crate::config::{self, QuerySettings, Settings, read_pipelines};
use crate::flow::{Governing, SourceStats, Sources};
use crate::ingest::{Collectors, Listeners};
use crate::query::{
    CachePolicy, CacheSpec, Engine, MemoryShare, OtherTables, QueryLimits, SystemTable, default_at_once,
};
use crate::stages::{Doors, Edges, PipelineSpec, Pipelines};
use crate::store::{Keeper, Store};
use crate::world::{World, resident_bytes};

/// Part of the memory for names that those of sources may take.
const SHARE_OF_COLLECTORS: usize = 4;

/// Everything of one data directory.
pub(super) struct Node {
    pub world: World,
    pub settings: Settings,
    pub store: Arc<Store>,
    pub pipelines: Arc<Pipelines>,
    /// What is outside of them.
    pub edges: Edges,
    pub engine: Arc<Engine>,
    pub doors: Arc<Doors>,
    /// Asking nobody until somebody starts them.
    pub collectors: Collectors,
    /// None until somebody starts them.
    pub listeners: Listeners,
    /// Not looking until somebody starts it.
    pub governor: Governing,
    keeper: Option<Keeper>,
}

/// The settings that the command line and the environment name.
pub(super) fn settings(global: &Global) -> anyhow::Result<Settings> {
    let (file, text) = match &global.config {
        None => (String::from("defaults"), String::new()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the settings file {}", path.display()))?;
            (path.display().to_string(), text)
        }
    };
    Ok(Settings::read(&file, &text, std::env::vars())?)
}

pub(super) fn pipelines(settings: &Settings) -> anyhow::Result<Vec<PipelineSpec>> {
    Ok(read_pipelines(&settings.pipelines, |file| std::fs::read_to_string(file))?)
}

/// Whether there is a store, or what is left of one.
pub(super) fn is_store(dir: &Path) -> Result<(), WrongUsage> {
    if ["catalog", "generation", "samples"].iter().any(|name| dir.join(name).exists()) {
        return Ok(());
    }
    let dir = dir.display();
    Err(WrongUsage(format!("there is no store in {dir}: `import` or `serve` makes one, --data names another")))
}

impl Node {
    /// Opens the data directory that the command line names to ask it. Nothing of it is changed.
    ///
    /// # Errors
    /// There must be one.
    pub fn open(global: &Global) -> anyhow::Result<Node> {
        // What is wrong with the settings is told first: it is wrong wherever the data lies.
        let settings = settings(global)?;
        let pipelines = pipelines(&settings)?;
        is_store(&global.data)?;
        // Who only asks sends nothing.
        Self::assemble(&global.data, World::real(), settings, pipelines, Edges::default(), QueryLimits::default())
    }

    /// Opens or makes it to write to it.
    pub fn open_to_write(dir: &Path, settings: Settings) -> anyhow::Result<Node> {
        let pipelines = pipelines(&settings)?;
        let world = World::real();
        let edges = edges(&world, settings.ingest.future_max);
        let [time, slow] = settings.query.times();
        let QuerySettings { at_once, waiting, summaries, .. } = settings.query;
        let memory = settings.statement_bytes();
        let at_once = at_once.unwrap_or_else(default_at_once);
        let (bytes, ttl) = settings.cache_limits();
        let policy = match settings.query.cache_policy {
            config::CachePolicy::Lfu => CachePolicy::Lfu,
            config::CachePolicy::Lru => CachePolicy::Lru,
        };
        let cache = CacheSpec { bytes, policy, ttl };
        let limits = QueryLimits { time, slow, memory, at_once, waiting, summaries, cache };
        let mut node = Self::assemble(dir, world, settings, pipelines, edges, limits)?;
        node.keeper = Some(Keeper::start(&node.store).context("cannot start the store's keeper")?);
        Ok(node)
    }

    fn assemble(
        dir: &Path,
        world: World,
        settings: Settings,
        pipelines: Vec<PipelineSpec>,
        mut edges: Edges,
        limits: QueryLimits,
    ) -> anyhow::Result<Node> {
        let store = Arc::new(Store::open(world.clone(), dir, settings.store_spec())?);
        let governor = Governing::new(settings.governor.spec());
        edges.ask = Some(Arc::new(Asker::new()?));
        edges.future_max = settings.ingest.future_max;
        let pipelines = Pipelines::attach_to(&store, pipelines, edges.clone())?;
        let told = pipelines.clone();
        let stages = SystemTable { name: "pipelines", rows: Arc::new(move || stage_rows(&told.stats())) };
        let told = pipelines.clone();
        let drops = SystemTable { name: "drops", rows: Arc::new(move || drop_rows(&told.stats())) };
        let doors = Arc::new(Doors::new(store.clone(), settings.budget_spec()));
        let told = doors.clone();
        let sources = SystemTable { name: "sources", rows: Arc::new(move || source_rows(&told.stats())) };
        let collectors = Collectors::new(settings.memory_plan().known() / SHARE_OF_COLLECTORS, governor.pressure());
        let told = collectors.teller();
        let asked = SystemTable { name: "collectors", rows: Arc::new(move || collector_rows(&told())) };
        let (told, of_sources) = (governor.teller(), collectors.teller());
        let rows = move || governor_rows(told(), &of_sources());
        let governed = SystemTable { name: "governor", rows: Arc::new(rows) };
        let listeners = Listeners::new();
        let told = listeners.teller();
        let listened = SystemTable { name: "listeners", rows: Arc::new(move || listener_rows(&told())) };
        let system = vec![stages, drops, sources, asked, listened, governed];
        let judge = Judge::new(&settings);
        let others = OtherTables {
            system,
            live: vec![judge.table(&world), jobs::table(&store, &settings, &world), regress::table(dir)],
        };
        let engine = Arc::new(Engine::new(store.clone(), others, settings.query_bytes(), limits)?);
        judge.asks(&engine);
        let all = settings.memory.as_u64();
        engine.tell_memory_of(Arc::new(move || vec![of_process(all)]));
        Ok(Node {
            world,
            settings,
            store,
            pipelines,
            edges,
            engine,
            doors,
            collectors,
            listeners,
            governor,
            keeper: None,
        })
    }

    /// Writes all that is in memory to segments and stops the threads.
    pub fn close(mut self) -> anyhow::Result<()> {
        self.governor.stop();
        self.keeper = None;
        self.pipelines.end();
        if !self.store.flush()? {
            // What the pipelines put off is to be done even where nothing came since the last flush.
            self.pipelines.settle();
            self.store.flush()?;
        }
        self.pipelines.stop();
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.governor.stop();
        self.keeper = None;
        self.pipelines.stop();
    }
}

fn of_process(memory: u64) -> MemoryShare {
    let bytes = resident_bytes().unwrap_or(0);
    MemoryShare {
        share: "the process, resident",
        bytes,
        limit: Some(memory),
        at_limit: "each share has its own remedy",
    }
}

fn source_rows(sources: &[SourceStats]) -> RecordBatch {
    let number =
        |of: fn(&SourceStats) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(sources.iter().map(of))) };
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(sources.iter().map(|source| &source.source)));
    let last: ArrayRef = Arc::new(sources.iter().map(|source| source.last_refused.as_deref()).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("source", names, false),
        ("samples", number(|source| source.samples), false),
        ("series", number(|source| source.series), false),
        ("series_of_day", number(|source| source.series_of_day), false),
        ("budget", number(|source| source.budget), false),
        ("refused_series", number(|source| source.refused_series), false),
        ("refused_samples", number(|source| source.refused_samples), false),
        ("last_refused", last, true),
    ])
    .expect("columns of one length")
}
