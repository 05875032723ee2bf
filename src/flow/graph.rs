//! A running pipeline: every stage on a thread for each shard of the series, joined by links.
//!
//! ```text
//!             ┌ shard 0 ─ link ─ stage ┬ link ─ stage ┐
//! batch ──────┤                        └ link ─ stage ├─ rows → sink
//!             └ shard 1 ─ … the same …                ┘
//! ```
//!
//! A stage without `from` gets every batch; one with it gets what that stage hands on. Every link is bounded: who sends
//! to a full one waits, so a stage that falls behind slows the sender before memory grows.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;

use super::{Event, Out, Sink, Stage, StageMaker};
use crate::model::{Batch, Timestamp};
use crate::world::World;

/// Batches that a link holds.
pub const QUEUE_BATCHES: usize = 8;
/// How often a waiting checkpoint looks whether a stage has failed meanwhile.
const CHECKPOINT_LOOK: Duration = Duration::from_millis(50);

/// A stage and what feeds it.
pub struct Node {
    pub name: String,
    /// Place of the stage it follows, before its own; the source where there is none.
    pub from: Option<usize>,
    pub make: StageMaker,
}

/// What a graph is made of.
pub struct GraphSpec {
    pub name: String,
    pub shards: usize,
    pub nodes: Vec<Node>,
    /// How far the watermark stays behind the latest time seen.
    pub lateness: Duration,
}

/// What a stage did so far.
#[derive(Debug, Clone, Serialize)]
pub struct StageStats {
    pub pipeline: String,
    pub stage: String,
    pub shard: usize,
    pub samples: u64,
    pub batches: u64,
    pub busy_seconds: f64,
    /// Batches that wait before it.
    pub queued: u64,
    pub failed: bool,
}

#[derive(Default)]
struct Meter {
    samples: AtomicU64,
    batches: AtomicU64,
    busy_nanos: AtomicU64,
    failed: std::sync::atomic::AtomicBool,
}

struct Post {
    name: String,
    shard: usize,
    meter: Arc<Meter>,
    queue: Receiver<Event>,
}

type State = (String, u64, Vec<u8>);

/// A running pipeline. Dropping it stops and joins its threads.
pub struct Graph {
    name: String,
    /// Links of the stages that follow the source, by shard.
    entries: Vec<Vec<Sender<Event>>>,
    posts: Vec<Post>,
    states: Mutex<Receiver<State>>,
    threads: Vec<JoinHandle<()>>,
    lateness: i64,
    latest: AtomicI64,
}

impl Graph {
    /// Starts the threads. `states` are those of the last checkpoint, by stage and shard ([`Graph::state_at`]).
    pub fn start(
        spec: &GraphSpec,
        world: &World,
        sink: &Arc<dyn Sink>,
        states: &BTreeMap<String, Vec<u8>>,
    ) -> io::Result<Graph> {
        let (state_sender, state_receiver) = bounded(1024);
        let mut graph = Graph {
            name: spec.name.clone(),
            entries: Vec::new(),
            posts: Vec::new(),
            states: Mutex::new(state_receiver),
            threads: Vec::new(),
            lateness: i64::try_from(spec.lateness.as_nanos()).unwrap_or(i64::MAX),
            latest: AtomicI64::new(i64::MIN),
        };
        for shard in 0..spec.shards {
            let (senders, queues): (Vec<_>, Vec<_>) = spec.nodes.iter().map(|_| bounded(QUEUE_BATCHES)).unzip();
            let fed_by = |from: Option<usize>| -> Vec<Sender<Event>> {
                let follows = spec.nodes.iter().zip(&senders).filter(|(node, _)| node.from == from);
                follows.map(|(_, sender)| sender.clone()).collect()
            };
            graph.entries.push(fed_by(None));
            for (at, (node, queue)) in spec.nodes.iter().zip(queues).enumerate() {
                let key = format!("{}/{}/{shard}", spec.name, node.name);
                let mut stage = (node.make)(shard);
                if let Some(state) = states.get(&key)
                    && !stage.restore(state)
                {
                    tracing::warn!(stage = key, "the state of the last run does not fit: it starts afresh");
                }
                let meter = Arc::new(Meter::default());
                graph.posts.push(Post { name: node.name.clone(), shard, meter: meter.clone(), queue: queue.clone() });
                let work = Work {
                    key,
                    world: world.clone(),
                    stage,
                    queue,
                    next: fed_by(Some(at)),
                    sink: sink.clone(),
                    states: state_sender.clone(),
                    meter,
                };
                let thread = std::thread::Builder::new().name(format!("stage-{}-{shard}", node.name));
                graph.threads.push(thread.spawn(move || work.run())?);
            }
        }
        Ok(graph)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fullest first link's share, 0 to 1.
    pub fn fullness(&self) -> f64 {
        let share = |entry: &Sender<Event>| entry.len() as f64 / QUEUE_BATCHES as f64;
        self.entries.iter().flatten().map(share).fold(0.0, f64::max)
    }

    /// Passes a batch to the stages that follow the source; waits where a link is full.
    pub fn pass(&self, batch: &Arc<Batch>) {
        let Some((_, last)) = batch.time_range() else { return };
        let shards = self.entries.len();
        let parts = if shards > 1 { split(batch, shards) } else { vec![batch.clone()] };
        self.each_entry(|shard| (!parts[shard].is_empty()).then(|| Event::Batch(parts[shard].clone())));
        let before = self.latest.fetch_max(last.nanos(), Ordering::Relaxed);
        if last.nanos() > before {
            let watermark = Timestamp::from_nanos(last.nanos().saturating_sub(self.lateness));
            self.each_entry(|_| Some(Event::Watermark(watermark)));
        }
    }

    /// Asks every stage for its state as of here.
    pub fn cut(&self, cut: u64) {
        self.each_entry(|_| Some(Event::Checkpoint(cut)));
    }

    /// The states as of `cut`, by `pipeline/stage/shard`. Waits for the stages; one that failed gives none.
    pub fn state_at(&self, cut: u64) -> BTreeMap<String, Vec<u8>> {
        let receiver = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut states = BTreeMap::new();
        let working = || self.posts.iter().filter(|post| !post.meter.failed.load(Ordering::Acquire)).count();
        while states.len() < working() {
            if let Ok((key, of, state)) = receiver.recv_timeout(CHECKPOINT_LOOK)
                && of == cut
            {
                states.insert(key, state);
            }
        }
        states
    }

    pub fn stats(&self) -> Vec<StageStats> {
        let stats = |post: &Post| StageStats {
            pipeline: self.name.clone(),
            stage: post.name.clone(),
            shard: post.shard,
            samples: post.meter.samples.load(Ordering::Relaxed),
            batches: post.meter.batches.load(Ordering::Relaxed),
            busy_seconds: post.meter.busy_nanos.load(Ordering::Relaxed) as f64 / 1e9,
            queued: post.queue.len() as u64,
            failed: post.meter.failed.load(Ordering::Relaxed),
        };
        self.posts.iter().map(stats).collect()
    }

    fn each_entry(&self, event: impl Fn(usize) -> Option<Event>) {
        for (shard, entries) in self.entries.iter().enumerate() {
            let Some(event) = event(shard) else { continue };
            send_all(entries, &event);
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.each_entry(|_| Some(Event::Stop));
        self.entries.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn send_all(links: &[Sender<Event>], event: &Event) {
    for link in links {
        // The other end lives as long as the graph.
        let _ = link.send(event.clone());
    }
}

/// The batch by shard: a series is always in the same one.
fn split(batch: &Batch, shards: usize) -> Vec<Arc<Batch>> {
    let mut parts = vec![batch.part(batch.len() / shards + 1); shards];
    for (series, sample) in batch.iter() {
        parts[series.index() % shards].push(series, sample.time, sample.value);
    }
    parts.into_iter().map(Arc::new).collect()
}

struct Work {
    key: String,
    world: World,
    stage: Box<dyn Stage>,
    queue: Receiver<Event>,
    next: Vec<Sender<Event>>,
    sink: Arc<dyn Sink>,
    states: Sender<State>,
    meter: Arc<Meter>,
}

impl Work {
    /// A stage that panics ends itself only: what it is sent is dropped, the store goes on.
    fn run(mut self) {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        if caught.is_err() {
            self.meter.failed.store(true, Ordering::Release);
            tracing::error!(stage = self.key, "a stage failed: its pipeline gives no more rows until the next start");
            for event in &self.queue {
                let stop = matches!(event, Event::Stop);
                if !matches!(event, Event::Batch(_)) {
                    send_all(&self.next, &event);
                }
                if stop {
                    break;
                }
            }
        }
    }

    fn work(&mut self) {
        let mut forward = Vec::new();
        while let Ok(event) = self.queue.recv() {
            let started = self.world.clock.elapsed();
            let mut out = Out { sink: &*self.sink, forward: &mut forward };
            match &event {
                Event::Batch(batch) => {
                    self.stage.batch(batch, &mut out);
                    self.meter.samples.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    self.meter.batches.fetch_add(1, Ordering::Relaxed);
                }
                Event::Watermark(time) => {
                    self.stage.watermark(*time, &mut out);
                    forward.push(event.clone());
                }
                Event::Checkpoint(cut) => {
                    let state = self.stage.checkpoint(&mut out);
                    let _ = self.states.send((self.key.clone(), *cut, state));
                    forward.push(event.clone());
                }
                Event::Stop => forward.push(event.clone()),
            }
            let busy = u64::try_from((self.world.clock.elapsed() - started).as_nanos()).unwrap_or(u64::MAX);
            self.meter.busy_nanos.fetch_add(busy, Ordering::Relaxed);
            for made in forward.drain(..) {
                send_all(&self.next, &made);
            }
            if matches!(event, Event::Stop) {
                return;
            }
        }
    }
}
