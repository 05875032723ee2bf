//! A running pipeline: a source, and every stage on a thread for each shard of the series, joined by links.
//!
//! ```text
//!                     ┌ shard 0: stage ─ stage ┐
//! batch ─ source ─────┤                        ├─ stage over all series ─ …
//!                     └ shard 1: stage ─ stage ┘
//! ```
//!
//! Every link carries one step for each step of the source, be it empty, and who has several inputs takes one step of
//! each in turn: so what a stage is told does not depend on which thread was quicker (a process network after Kahn 1974),
//! and a checkpoint needs no alignment. Every link is bounded: who sends to a full one waits, so a stage that falls behind
//! slows the source, and that the sender, before memory grows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::courier::Haste;
use super::event::{Cut, Step};
use super::fan_in::guarded;
use super::feeder::{Feeder, SourceSpec, Spring, Told};
use super::link::Outlet;
use super::meter::{Meter, Poison, StageStats};
use super::order::{Order, OrderSpec};
use super::stage::{Shard, Sink, StageMaker};
use super::work::{State, Work};
use crate::model::Batch;
use crate::world::World;

/// Batches that wait before the source.
pub const QUEUE_BATCHES: usize = 16;
/// Steps that a link holds.
const LINK_STEPS: usize = 2;
/// How often a waiting checkpoint looks whether the pipeline has failed meanwhile.
const CHECKPOINT_LOOK: Duration = Duration::from_millis(50);

/// A source or a stage, and what feeds it.
pub struct Node {
    pub name: String,
    /// What it applies.
    pub kind: &'static str,
    /// Places of those whose output it takes, all before its own.
    pub inputs: Vec<usize>,
    /// Whether the store takes its rows.
    pub stores: bool,
    pub does: Does,
}

/// What a node does.
pub enum Does {
    Source(SourceSpec),
    Stage {
        make: StageMaker,
        /// Whether one thread must see all series.
        crosses_series: bool,
        /// Whether it hands on other series than it is given.
        renames: bool,
        /// Says what it was made from: its state is taken up by none other.
        fingerprint: u64,
    },
}

/// What a graph is made of.
pub struct GraphSpec {
    pub name: String,
    pub shards: usize,
    /// Sources first.
    pub nodes: Vec<Node>,
    pub order: OrderSpec,
    /// What its sinks wait by.
    pub haste: Arc<Haste>,
}

struct Post {
    node: usize,
    shard: usize,
    meter: Arc<Meter>,
    queues: Vec<Receiver<Step>>,
}

/// What is told of a node.
struct NodeStats {
    name: String,
    kind: &'static str,
    inputs: Vec<String>,
}

/// A running pipeline. Dropping it stops and joins its threads.
pub struct Graph {
    name: String,
    queue: Sender<Told>,
    nodes: Vec<NodeStats>,
    posts: Vec<Post>,
    states: Mutex<Receiver<State>>,
    /// Threads that give a state.
    stateful: usize,
    threads: Vec<JoinHandle<()>>,
    poison: Poison,
    world: World,
    haste: Arc<Haste>,
    is_ending: Arc<AtomicBool>,
}

impl Graph {
    /// Starts the threads. `states` are those of the last checkpoint, by stage and shard ([`Graph::state_at`]).
    pub fn start(
        spec: GraphSpec,
        world: &World,
        sink: &Arc<dyn Sink>,
        states: &BTreeMap<String, Vec<u8>>,
    ) -> io::Result<Graph> {
        let (queue, queued) = bounded(QUEUE_BATCHES);
        let wiring = Wiring::of(&spec);
        let (state_sender, state_receiver) = bounded(wiring.threads() + 1);
        let mut graph = Graph {
            name: spec.name.clone(),
            queue,
            nodes: told_nodes(&spec),
            posts: Vec::new(),
            states: Mutex::new(state_receiver),
            stateful: 1,
            threads: Vec::new(),
            poison: Poison::default(),
            world: world.clone(),
            haste: spec.haste.clone(),
            is_ending: Arc::default(),
        };
        let key = format!("{}//order", spec.name);
        let mut order = Order::new(spec.order);
        let is_resumed = states.get(&key).is_some_and(|state| order.restore(state));
        let mut feeder = Feeder {
            key,
            world: world.clone(),
            queue: queued,
            order,
            springs: Vec::new(),
            states: state_sender.clone(),
            poison: graph.poison.clone(),
            is_resumed,
            is_ending: graph.is_ending.clone(),
        };
        let followed: BTreeSet<usize> = spec.nodes.iter().flat_map(|node| node.inputs.clone()).collect();
        let told_twice: Vec<bool> = (0..spec.nodes.len()).map(|at| Wiring::is_told_twice(&spec, at)).collect();
        for (at, node) in spec.nodes.into_iter().enumerate() {
            match node.does {
                Does::Source(source) => {
                    let meter = Arc::new(Meter::default());
                    graph.posts.push(Post { node: at, shard: 0, meter: meter.clone(), queues: Vec::new() });
                    let outlets = wiring.outlets(at, 0);
                    let name = node.name.clone();
                    feeder.springs.push(Spring { name, spec: source, outlets, meter, known: Vec::new() });
                }
                Does::Stage { make, fingerprint, renames, .. } => {
                    let make: StageMaker =
                        if told_twice[at] { Box::new(move |shard| guarded(make(shard))) } else { make };
                    let sink = node.stores.then(|| sink.clone());
                    for number in 0..wiring.widths[at] {
                        let shard = Shard { number, of: wiring.widths[at] };
                        let mut stage = make(shard);
                        let whose = format!("{}/{}/", spec.name, node.name);
                        for (key, state) in states.iter().filter(|(key, _)| key.starts_with(&whose)) {
                            let fits = state.split_first_chunk().is_some_and(|(print, state)| {
                                u64::from_le_bytes(*print) == fingerprint && stage.restore(state, shard)
                            });
                            if !fits {
                                tracing::warn!(stage = key, "the state of the last run does not fit: it starts afresh");
                                stage = make(shard);
                                break;
                            }
                        }
                        let meter = Arc::new(Meter::default());
                        let inputs = wiring.inputs(at, number);
                        graph.posts.push(Post {
                            node: at,
                            shard: number,
                            meter: meter.clone(),
                            queues: inputs.clone(),
                        });
                        let work = Work {
                            key: format!("{whose}{number}"),
                            fingerprint,
                            world: world.clone(),
                            stage,
                            inputs,
                            merges: node.inputs.len() > 1,
                            outlets: wiring.outlets(at, number),
                            store: sink.clone(),
                            keeps: renames && !followed.contains(&at),
                            states: state_sender.clone(),
                            meter,
                            poison: graph.poison.clone(),
                        };
                        graph.stateful += 1;
                        let thread = std::thread::Builder::new().name(format!("stage-{}-{number}", node.name));
                        graph.threads.push(thread.spawn(move || work.run())?);
                    }
                }
            }
        }
        let thread = std::thread::Builder::new().name(format!("source-{}", spec.name));
        graph.threads.push(thread.spawn(move || feeder.run())?);
        Ok(graph)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// How full the queue before the source is, 0 to 1. One that failed takes what comes and does nothing with it. While a
    /// sink waits for room, which may take as long as an upstream is down, it counts as full early: whoever was let in
    /// just before still finds a place.
    pub fn fullness(&self) -> f64 {
        let room = if self.haste.is_waiting() { QUEUE_BATCHES / 4 } else { QUEUE_BATCHES };
        (self.queue.len() as f64 / room as f64).min(1.0)
    }

    /// Sinks wait for room no more, as while the pipeline starts or ends, or do again.
    pub fn set_free(&self, free: bool) {
        self.haste.set_free(free);
    }

    /// Why it gives no more rows, if so.
    pub fn failure(&self) -> Option<&str> {
        self.poison.told()
    }

    /// Passes a batch to the source; waits where its queue is full.
    pub fn pass(&self, batch: &Arc<Batch>) {
        if !batch.is_empty() {
            let _ = self.queue.send(Told::Batch(batch.clone()));
        }
    }

    /// Asks every stage for its state as of here.
    pub fn cut(&self, cut: Cut) {
        self.haste.cut();
        let _ = self.queue.send(Told::Cut(cut));
    }

    /// The states as of `cut`, by `pipeline/stage/shard`. Waits for the stages; a pipeline that failed gives none.
    pub fn state_at(&self, cut: u64) -> BTreeMap<String, Vec<u8>> {
        let receiver = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut states = BTreeMap::new();
        while states.len() < self.stateful {
            if let Ok((key, of, state)) = receiver.recv_timeout(CHECKPOINT_LOOK)
                && of == cut
            {
                states.insert(key, state);
            }
            if self.failure().is_some() {
                return BTreeMap::new();
            }
        }
        states
    }

    pub fn stats(&self) -> Vec<StageStats> {
        let now = self.world.clock.now().nanos();
        self.posts.iter().map(|post| self.stats_of(post, now)).collect()
    }

    fn stats_of(&self, post: &Post, now: i64) -> StageStats {
        let (meter, node) = (&post.meter, &self.nodes[post.node]);
        let is_source = post.queues.is_empty();
        let queued =
            if is_source { self.queue.len() } else { post.queues.iter().map(Receiver::len).max().unwrap_or(0) };
        // What waits anywhere before it came in after what it did last.
        let waits = !self.queue.is_empty() || queued > 0 || self.is_behind(post);
        let arrived = meter.arrived.load(Ordering::Relaxed);
        StageStats {
            pipeline: self.name.clone(),
            stage: node.name.clone(),
            kind: node.kind,
            shard: post.shard,
            inputs: node.inputs.clone(),
            samples: meter.samples.load(Ordering::Relaxed),
            batches: meter.batches.load(Ordering::Relaxed),
            late: meter.late.load(Ordering::Relaxed),
            rows: meter.rows.load(Ordering::Relaxed),
            busy_seconds: meter.busy_nanos.load(Ordering::Relaxed) as f64 / 1e9,
            queued: queued as u64,
            queue: if is_source { QUEUE_BATCHES } else { LINK_STEPS } as u64,
            lag_seconds: if waits && arrived > 0 { (now - arrived).max(0) as f64 / 1e9 } else { 0.0 },
            watermark: meter.watermark(),
            put_off: meter.put_off.load(Ordering::Relaxed),
            dropped: meter.dropped(),
            failure: self.failure().map(str::to_owned),
        }
    }

    /// Whether the source told more than this thread did, and it is at it.
    fn is_behind(&self, post: &Post) -> bool {
        let told = self.posts.iter().filter(|other| other.queues.is_empty());
        let told = told.map(|source| source.meter.arrived.load(Ordering::Relaxed)).max().unwrap_or(0);
        let queued = self.posts.iter().any(|other| other.queues.iter().any(|queue| !queue.is_empty()));
        queued && post.meter.arrived.load(Ordering::Relaxed) < told
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        self.haste.set_free(true);
        let _ = self.queue.send(Told::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn told_nodes(spec: &GraphSpec) -> Vec<NodeStats> {
    let told = |node: &Node| NodeStats {
        name: node.name.clone(),
        kind: node.kind,
        inputs: node.inputs.iter().map(|&at| spec.nodes[at].name.clone()).collect(),
    };
    spec.nodes.iter().map(told).collect()
}

/// Who is joined to whom: a link for each pair of threads of which one may send to the other.
struct Wiring {
    /// Threads of each node.
    widths: Vec<usize>,
    /// By sending node and thread.
    outlets: BTreeMap<(usize, usize), Vec<Outlet>>,
    /// By receiving node and thread, in the order of its inputs and their threads.
    inputs: BTreeMap<(usize, usize), Vec<Receiver<Step>>>,
}

impl Wiring {
    fn of(spec: &GraphSpec) -> Wiring {
        let width = |node: &Node| match &node.does {
            Does::Source(_) => 1,
            Does::Stage { crosses_series, .. } => {
                if *crosses_series {
                    1
                } else {
                    spec.shards
                }
            }
        };
        let widths: Vec<usize> = spec.nodes.iter().map(width).collect();
        let mut wiring = Wiring { widths, outlets: BTreeMap::new(), inputs: BTreeMap::new() };
        for (to, node) in spec.nodes.iter().enumerate() {
            for &from in &node.inputs {
                let renames = matches!(spec.nodes[from].does, Does::Stage { renames: true, .. });
                wiring.join(from, to, renames);
            }
        }
        wiring
    }

    fn join(&mut self, from: usize, to: usize, renames: bool) {
        let (senders, receivers) = (self.widths[from], self.widths[to]);
        let stays = senders == receivers && !renames;
        for sender in 0..senders {
            let mut links = Vec::new();
            for receiver in 0..receivers {
                if stays && sender != receiver {
                    continue;
                }
                let (link, queue) = bounded(LINK_STEPS);
                links.push(link);
                self.inputs.entry((to, receiver)).or_default().push(queue);
            }
            let outlet = match links.len() {
                1 => Outlet::One(links.remove(0)),
                _ => Outlet::Split(links),
            };
            self.outlets.entry((from, sender)).or_default().push(outlet);
        }
    }

    /// Whether a series may come to a stage by two ways.
    fn is_told_twice(spec: &GraphSpec, at: usize) -> bool {
        let inputs = &spec.nodes[at].inputs;
        let is_made = |from: usize| matches!(spec.nodes[from].does, Does::Stage { renames: true, .. });
        // However many threads there are: a state must fit another number of them.
        inputs.len() > 1 || inputs.iter().any(|&from| is_made(from))
    }

    fn threads(&self) -> usize {
        self.widths.iter().sum()
    }

    fn outlets(&self, node: usize, thread: usize) -> Vec<Outlet> {
        self.outlets.get(&(node, thread)).cloned().unwrap_or_default()
    }

    fn inputs(&self, node: usize, thread: usize) -> Vec<Receiver<Step>> {
        self.inputs.get(&(node, thread)).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
