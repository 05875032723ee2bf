//! What a graph tells its stages, and what becomes of it when one of them is slow or fails.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Out, Stage, Watermark};
use crate::model::{Rows, SeriesId, Timestamp};
use crate::world::Chance;

/// Notes what it is told, and hands it on.
struct Noting {
    name: &'static str,
    notes: Notes,
    /// Sum of what came, by series: a state that must survive.
    sums: BTreeMap<u32, f64>,
}

type Notes = Arc<Mutex<Vec<String>>>;

impl Stage for Noting {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        for (series, sample) in batch.iter() {
            assert!(sample.value >= 0.0, "a negative value");
            let sum = self.sums.entry(series.0).or_default();
            *sum += sample.value;
            let told = format!("{} {}@{} {sum}", self.name, series.0, sample.time.nanos());
            self.notes.lock().unwrap().push(told);
        }
        out.batch(batch.clone());
    }

    fn watermark(&mut self, watermark: &Watermark, _out: &mut Out<'_>) {
        let told = format!("{} <{}", self.name, watermark.time.nanos());
        self.notes.lock().unwrap().push(told);
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        self.sums.iter().for_each(|(&series, &sum)| {
            state.u32(series);
            state.f64(sum);
        });
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        let mut from = Reader(state);
        while let (Some(series), Some(sum)) = (from.u32(), from.f64()) {
            if shard.has(series) {
                self.sums.insert(series, sum);
            }
        }
        true
    }
}

struct Nobody;

impl Sink for Nobody {
    fn rows(&self, _: Rows) {}
}

fn node(name: &'static str, inputs: Vec<usize>, crosses_series: bool, notes: &Notes) -> Node {
    let notes = notes.clone();
    let make: StageMaker = Box::new(move |_| Box::new(Noting { name, notes: notes.clone(), sums: BTreeMap::new() }));
    let does = Does::Stage { make, crosses_series, renames: false, fingerprint: 7 };
    Node { name: name.into(), kind: "noting", inputs, stores: true, does }
}

/// live → a → c, live → b → c, c → d over all series.
fn spec(shards: usize, notes: &Notes) -> GraphSpec {
    let live = Node {
        name: "live".into(),
        kind: "source",
        inputs: Vec::new(),
        stores: false,
        does: Does::Source(SourceSpec::Live(None)),
    };
    let nodes = vec![
        live,
        node("a", vec![0], false, notes),
        node("b", vec![0], false, notes),
        node("c", vec![1, 2], false, notes),
        node("d", vec![3], true, notes),
    ];
    let order = OrderSpec { lateness: Duration::ZERO, idle: Duration::from_secs(60) };
    GraphSpec { name: "g".into(), shards, nodes, order }
}

fn start(shards: usize, notes: &Notes, states: &BTreeMap<String, Vec<u8>>) -> Graph {
    let sink: Arc<dyn Sink> = Arc::new(Nobody);
    Graph::start(spec(shards, notes), &World::real(), &sink, states).unwrap()
}

fn batch(chance: &Chance, time: i64) -> Arc<Batch> {
    let mut batch = Batch { source: "a".into(), arrived: Timestamp::from_nanos(time), ..Batch::default() };
    for at in 0..1 + chance.below(20) as i64 {
        batch.push(SeriesId(chance.below(7) as u32), Timestamp::from_nanos(time + at), 1.0);
    }
    Arc::new(batch)
}

fn of(notes: &Notes, name: &str) -> Vec<String> {
    notes.lock().unwrap().iter().filter(|note| note.starts_with(name)).cloned().collect()
}

#[test]
fn what_a_stage_is_told_depends_on_no_thread() {
    let told = |seed: u64| {
        let (chance, notes) = (Chance::seeded(seed), Notes::default());
        let graph = start(1, &notes, &BTreeMap::new());
        (0..300).for_each(|at| graph.pass(&batch(&chance, at * 100)));
        drop(graph);
        // Watermarks depend on how many batches a step has.
        let samples = |name: &str| -> Vec<String> {
            let mut told = of(&notes, name);
            told.retain(|told| told.contains('@'));
            told.sort_by_key(|told| told.split([' ', '@']).nth(1).map(str::to_owned));
            told
        };
        (samples("a"), samples("c"), samples("d"))
    };
    for seed in 0..5 {
        let (first, again) = (told(seed), told(seed));
        assert_eq!(first, again, "seed {seed}");
        assert_eq!(first.0.len(), first.1.len(), "seed {seed}: what comes by two ways is told once");
    }
}

#[test]
fn another_number_of_shards_goes_on_from_the_state() {
    let chance = Chance::seeded(3);
    let batches: Vec<Arc<Batch>> = (0..200).map(|at| batch(&chance, at * 100)).collect();
    let ends = |notes: &Notes| {
        let mut last = BTreeMap::new();
        for note in of(notes, "d").iter().filter(|note| note.contains('@')) {
            let mut words = note.split([' ', '@']);
            last.insert(words.nth(1).unwrap().to_owned(), words.nth(1).unwrap().to_owned());
        }
        last
    };
    let whole = Notes::default();
    let graph = start(1, &whole, &BTreeMap::new());
    batches.iter().for_each(|batch| graph.pass(batch));
    drop(graph);
    let (notes, mut states) = (Notes::default(), BTreeMap::new());
    for (part, shards) in batches.chunks(40).zip([2, 1, 3, 4, 2]) {
        let graph = start(shards, &notes, &states);
        part.iter().for_each(|batch| graph.pass(batch));
        graph.cut(Cut { number: 9, last: false });
        states = graph.state_at(9);
        assert_eq!(states.len(), 1 + 3 * shards + 1);
    }
    assert_eq!(ends(&notes), ends(&whole));
}

#[test]
fn a_stage_that_panics_ends_its_pipeline_and_is_named() {
    let notes = Notes::default();
    let graph = start(2, &notes, &BTreeMap::new());
    let chance = Chance::seeded(1);
    graph.pass(&batch(&chance, 0));
    let mut bad = Batch { source: "a".into(), ..Batch::default() };
    bad.push(SeriesId(0), Timestamp::from_nanos(1000), -1.0);
    graph.pass(&Arc::new(bad));
    // It takes what comes, and holds nobody up.
    (1..200).for_each(|at| graph.pass(&batch(&chance, at * 2000)));
    graph.cut(Cut { number: 1, last: false });
    assert!(graph.state_at(1).is_empty());
    let failure = graph.failure().unwrap();
    assert!(failure.starts_with("stage g/") && failure.ends_with("failed: a negative value"), "{failure}");
    assert!(graph.stats().iter().all(|stage| stage.failure.as_deref() == Some(failure)));
}

/// Waits at a gate with each batch.
struct Slow(Receiver<()>, Arc<AtomicUsize>);

impl Stage for Slow {
    fn batch(&mut self, _batch: &Arc<Batch>, _out: &mut Out<'_>) {
        let _ = self.0.recv();
        self.1.fetch_add(1, Ordering::SeqCst);
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _state: &[u8], _shard: Shard) -> bool {
        true
    }
}

#[test]
fn a_slow_stage_fills_bounded_queues_and_shows_its_lag() {
    let (open, gate) = bounded::<()>(0);
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    let mut spec = spec(1, &Notes::default());
    let make: StageMaker = Box::new(move |_| Box::new(Slow(gate.clone(), counted.clone())));
    let does = Does::Stage { make, crosses_series: false, renames: false, fingerprint: 0 };
    spec.nodes.truncate(1);
    spec.nodes.push(Node { name: "slow".into(), kind: "slow", inputs: vec![0], stores: true, does });
    let sink: Arc<dyn Sink> = Arc::new(Nobody);
    let graph = Graph::start(spec, &World::real(), &sink, &BTreeMap::new()).unwrap();
    let full = Batch {
        source: "a".into(),
        arrived: Timestamp::from_nanos(1),
        series: vec![0; 1 << 16],
        times: (0..1 << 16).collect(),
        values: vec![1.0; 1 << 16],
        ..Batch::default()
    };
    std::thread::scope(|scope| {
        let passing = scope.spawn(|| {
            for at in 0..40_i64 {
                let times = full.times.iter().map(|time| time + (at << 17)).collect();
                graph.pass(&Arc::new(Batch { times, ..full.clone() }));
            }
        });
        open.send(()).unwrap();
        while graph.fullness() < 1.0 {
            std::thread::yield_now();
        }
        assert!(!passing.is_finished(), "40 batches do not fit");
        let stats = graph.stats();
        assert!(stats[0].queued <= QUEUE_BATCHES as u64 && stats[1].queued <= LINK_STEPS as u64, "{stats:?}");
        assert!(stats[1].lag_seconds > 0.0, "{stats:?}");
        (1..40).for_each(|_| open.send(()).unwrap());
        passing.join().unwrap();
    });
    drop(graph);
    assert_eq!(done.load(Ordering::SeqCst), 40);
}
