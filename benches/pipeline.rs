//! How fast the stages of the default pipeline are: samples a second of CPU time, all threads of the pipeline together, of a
//! fleet that tells all its series every ten seconds.
//!
//! ```text
//! cargo bench --bench pipeline [-- NAME]     only those whose name holds NAME
//! ```
//! Of each case the best of several runs by CPU time, so that what else the machine does matters little. Batches are made
//! before; rows are counted and dropped. The last case, `latency`, sends 500,000 samples a second by the clock and tells how long
//! after the sample that completes an hour of its series came the row of that hour was with the sink.

#![allow(clippy::disallowed_methods, reason = "a measurement asks the clock")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use plimsoll::config::{DEFAULT_PIPELINE, read_pipeline};
use plimsoll::flow::{Graph, Sink};
use plimsoll::model::{Batch, Labels, Rows, SeriesDef, Table, Timestamp};
use plimsoll::stages::{Apply, Edges, PipelineSpec};
use plimsoll::store::{Store, StoreSpec};
use plimsoll::world::World;

const SERIES: u32 = 10_000;
const STEP: i64 = 10_000_000_000;
/// Steps whose values are made; they come again.
const STEPS: usize = 360;
const HOURS: usize = 6;
const RUNS: usize = 3;
/// Between two steps where they are sent by the clock: 500,000 samples a second.
const TICK: Duration = Duration::from_millis(20);
/// 2026-01-01
const START: i64 = 1_767_225_600_000_000_000;

#[derive(Default)]
struct Counted(AtomicU64);

impl Sink for Counted {
    fn rows(&self, rows: Rows) {
        self.0.fetch_add(rows.batch.num_rows() as u64, Ordering::Relaxed);
    }
}

/// The same numbers each time (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 1
    }
}

/// Walks between 0 and 100, as the fleet of the time-series benchmark suite has them.
fn values() -> Vec<Vec<f64>> {
    let mut chance = Chance(1);
    let mut now: Vec<f64> = (0..SERIES).map(|_| (chance.next() % 101) as f64).collect();
    let mut step = || {
        now.iter_mut().for_each(|value| *value = (*value + (chance.next() % 5) as f64 - 2.0).clamp(0.0, 100.0));
        now.clone()
    };
    (0..STEPS).map(|_| step()).collect()
}

/// CPU time of the whole process, in seconds.
fn cpu() -> f64 {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = told.rsplit(')').next().unwrap_or_default();
    let ticks = |at: usize| after.split_whitespace().nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn store(dir: &std::path::Path) -> Arc<Store> {
    let store = Store::open(World::real(), dir, StoreSpec::default()).expect("a store in an empty folder");
    for n in 0..SERIES {
        let labels = Labels::new([("host", format!("host_{}", n % 100)), ("field", (n / 100).to_string())]);
        store.registry().intern(SeriesDef::new("usage", labels));
    }
    Arc::new(store)
}

/// A value of every series, at one step.
fn batch(source: &Arc<str>, at: usize, values: &[Vec<f64>]) -> Batch {
    let time = START + at as i64 * STEP;
    Batch {
        source: source.clone(),
        arrived: Timestamp::from_nanos(time),
        series: (0..SERIES).collect(),
        times: vec![time; SERIES as usize],
        values: values[at % STEPS].clone(),
        ..Batch::default()
    }
}

/// Samples a second of CPU time, the part of the wall's time a core was busy, rows.
fn run(spec: &PipelineSpec, store: &Arc<Store>, values: &[Vec<f64>]) -> (f64, f64, u64) {
    let counted = Arc::new(Counted::default());
    let sink: Arc<dyn Sink> = counted.clone();
    let source: Arc<str> = "bench".into();
    let batches: Vec<Batch> = (0..STEPS * HOURS).map(|at| batch(&source, at, values)).collect();
    let graph =
        Graph::start(spec.graph(store, &Edges::default()), store.world(), &sink, &BTreeMap::new()).expect("threads");
    let (started, before) = (Instant::now(), cpu());
    let samples = batches.len() * SERIES as usize;
    for batch in batches {
        graph.pass(&Arc::new(batch));
    }
    drop(graph);
    let used = cpu() - before;
    (samples as f64 / used, used / started.elapsed().as_secs_f64(), counted.0.load(Ordering::Relaxed))
}

/// Notes when rows of hours come.
#[derive(Default)]
struct Noted(std::sync::Mutex<Vec<(i64, Instant)>>);

impl Sink for Noted {
    fn rows(&self, rows: Rows) {
        if rows.table != Table::Rollups {
            return;
        }
        let (now, times) = (Instant::now(), rows.batch.column(2).as_primitive::<TimestampNanosecondType>());
        self.0.lock().unwrap().extend(times.values().iter().map(|&time| (time, now)));
    }
}

/// Milliseconds from the arrival of the sample that completes a row to the row: half, 99 % and the longest; and rows.
fn latency(spec: &PipelineSpec, store: &Arc<Store>, values: &[Vec<f64>]) -> (f64, f64, f64, usize) {
    let noted = Arc::new(Noted::default());
    let sink: Arc<dyn Sink> = noted.clone();
    let graph =
        Graph::start(spec.graph(store, &Edges::default()), store.world(), &sink, &BTreeMap::new()).expect("threads");
    let source: Arc<str> = "bench".into();
    let mut sent: BTreeMap<i64, Instant> = BTreeMap::new();
    let started = Instant::now();
    for at in 0..STEPS * 5 {
        let due = TICK * at as u32;
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        let batch = batch(&source, at, values);
        let time = START + at as i64 * STEP;
        sent.insert(time, Instant::now());
        graph.pass(&Arc::new(batch));
    }
    drop(graph);
    let hour = STEPS as i64 * STEP;
    let lateness = spec.lateness.as_nanos() as i64;
    let completed = |start: i64| sent.get(&(start + hour + (lateness + STEP - 1) / STEP * STEP));
    let noted = noted.0.lock().unwrap();
    let waited = noted.iter().filter_map(|(start, came)| Some(came.duration_since(*completed(*start)?)));
    let mut waited: Vec<f64> = waited.map(|waited| waited.as_secs_f64() * 1e3).collect();
    waited.sort_by(f64::total_cmp);
    let share = |share: f64| waited[((waited.len() - 1) as f64 * share) as usize];
    (share(0.5), share(0.99), share(1.0), waited.len())
}

fn is_wanted(name: &str) -> bool {
    std::env::args().skip(1).all(|only| only.starts_with("--") || name.contains(&only))
}

fn main() {
    let default = read_pipeline("default", DEFAULT_PIPELINE).expect("the default pipeline");
    let only = |keep: fn(&Apply) -> bool| {
        let stages = default.stages.iter().filter(|stage| keep(&stage.apply)).cloned().collect();
        PipelineSpec { stages, ..default.clone() }
    };
    let cases: [(&str, PipelineSpec); 6] = [
        ("window", only(|apply| matches!(apply, Apply::Window(_)))),
        ("anomaly", only(|apply| matches!(apply, Apply::Anomaly(_)))),
        ("correlate (hour and day)", only(|apply| matches!(apply, Apply::Correlate(_)))),
        ("compress", only(|apply| matches!(apply, Apply::Compress(_)))),
        ("window + anomaly + correlate", only(|apply| !matches!(apply, Apply::Compress(_)))),
        ("all of the default pipeline", default.clone()),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let (store, values) = (store(folder.path()), values());
    println!("{SERIES} series every 10 s, {HOURS} hours; best of {RUNS}");
    for (name, spec) in cases {
        if !is_wanted(name) {
            continue;
        }
        let runs = (0..RUNS).map(|_| run(&spec, &store, &values));
        let best = runs.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
        let (rate, cores, rows) = best;
        println!("{name:<30} {:>6.2} M samples/s a core, {cores:.2} cores busy, {rows} rows", rate / 1e6);
    }
    if is_wanted("latency") {
        let (half, most, all, rows) = latency(&default, &store, &values);
        println!(
            "latency at 500,000 samples/s     p50 {half:.1} ms, p99 {most:.1} ms, longest {all:.1} ms, {rows} rows"
        );
    }
}
