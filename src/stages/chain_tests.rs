//! A chain of stages, filter → relabel → rate → window, over samples in any order that lateness allows and some beyond it,
//! stopped and resumed: its rollups are what the samples say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampNanosecondType, UInt32Type, UInt64Type};

use super::bench::{Bench, Memory, SECOND, spec};
use super::{Apply, RateSpec};
use crate::flow::{Cut, Event, History, Order, OrderSpec, Out, Shard, Sink, Stage, Step};
use crate::model::{Batch, Rows, SeriesId, Timestamp};
use crate::world::Chance;

const EVERY: i64 = 60;

/// Rollups by series and start: count, sum, first and last.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<(u32, i64), [f64; 4]>>);

impl Sink for Kept {
    fn rows(&self, rows: Rows) {
        let series = rows.batch["series"].as_primitive::<UInt32Type>();
        let times = rows.batch["time"].as_primitive::<TimestampNanosecondType>();
        let counts = rows.batch["count"].as_primitive::<UInt64Type>();
        let number = |name: &str, row: usize| rows.batch[name].as_primitive::<Float64Type>().value(row);
        let mut kept = self.0.lock().unwrap();
        for row in 0..rows.batch.num_rows() {
            let key = (series.value(row), times.value(row) / SECOND);
            let told = [counts.value(row) as f64, number("sum", row), number("first", row), number("last", row)];
            match counts.value(row) {
                0 => kept.remove(&key),
                _ => kept.insert(key, told),
            };
        }
    }
}

struct Chain<'b> {
    bench: &'b Bench,
    stages: Vec<Box<dyn Stage>>,
    memory: Memory,
}

fn applied() -> [Apply; 4] {
    [
        Apply::Filter(spec("metrics = ['req_*']\nbelow = 90000.0")),
        Apply::Relabel(spec(
            "rules = [{ action = 'drop', source_labels = ['env'], regex = 'test' },
                      { source_labels = ['zone'], target_label = 'region', regex = '(..).*' },
                      { action = 'labeldrop', regex = 'zone' }]",
        )),
        Apply::Rate(RateSpec::default()),
        Apply::Window(spec(&format!("every = '{EVERY}s'"))),
    ]
}

impl<'b> Chain<'b> {
    fn new(bench: &'b Bench, memory: Memory) -> Self {
        let mut chain = Chain { bench, stages: Vec::new(), memory };
        chain.stages = chain.fresh();
        chain
    }

    fn fresh(&self) -> Vec<Box<dyn Stage>> {
        let mut history: Option<Arc<dyn History>> = Some(Arc::new(self.memory.clone()));
        let mut stages = Vec::new();
        for apply in applied() {
            let around = self.bench.around(apply.kind(), history.take());
            stages.push(apply.maker(&around, 0)(Shard::WHOLE));
            history = apply.history(&around, 0);
        }
        stages
    }

    /// Tells a step to the first stage, and each what the one before it made.
    fn tell(&mut self, mut step: Step, kept: &Kept) -> Vec<Vec<u8>> {
        let mut states = Vec::new();
        for stage in &mut self.stages {
            let mut next = Step::new();
            for event in step {
                let mut out = Out::new(kept, &mut next);
                match event {
                    Event::Batch(batch) => stage.batch(&batch, &mut out),
                    Event::Late(batch) => stage.late(&batch, &mut out),
                    Event::Ahead(batch) => stage.ahead(&batch, &mut out),
                    Event::Watermark(watermark) => {
                        stage.watermark(&watermark, &mut out);
                        next.push(Event::Watermark(watermark));
                    }
                    Event::Checkpoint(cut) => {
                        states.push(stage.checkpoint(cut, &mut out));
                        next.push(Event::Checkpoint(cut));
                    }
                    _ => {}
                }
            }
            step = next;
        }
        states
    }

    fn cut(&mut self, order: &Order, last: bool, kept: &Kept) -> Vec<Vec<u8>> {
        let ahead = Event::Ahead(Arc::new(order.ahead()));
        self.tell(vec![ahead, Event::Checkpoint(Cut { number: 1, last })], kept)
    }

    fn resume(&mut self, states: &[Vec<u8>]) {
        self.stages = self.fresh();
        for (stage, state) in self.stages.iter_mut().zip(states) {
            assert!(stage.restore(state, Shard::WHOLE));
        }
    }
}

fn order() -> Order {
    Order::new(OrderSpec { lateness: Duration::from_secs(10), idle: Duration::from_secs(60) })
}

type Came = (String, i64, f64);

/// Of counters that restart at times, some values over what the filter lets pass, and a gauge; by when they come.
fn came(chance: &Chance) -> Vec<Came> {
    let names =
        ["req_total{zone=eu-1}", "req_total{zone=us-1}", "req_total{zone=us-2,env=test}", "other_total{zone=eu-1}"];
    let mut all: Vec<(i64, Came)> = Vec::new();
    for name in names.into_iter().chain(["req_open{zone=eu-3}"]) {
        let (mut time, mut value) = (chance.below(50) as i64, 0.0);
        for _ in 0..150 {
            time += if chance.below(15) == 0 { 20 + chance.below(900) as i64 } else { 1 + chance.below(20) as i64 };
            value = if chance.below(30) == 0 { 0.0 } else { value + chance.below(100) as f64 };
            let told = if chance.below(40) == 0 { 100_000.0 } else { value };
            let late = if chance.below(20) == 0 { chance.below(3600) as i64 } else { chance.below(9) as i64 };
            all.push((time + late, (name.to_owned(), time, told)));
            if chance.below(25) == 0 {
                all.push((time + late + chance.below(500) as i64, (name.to_owned(), time, told + 1.0)));
            }
        }
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, came)| came).collect()
}

fn run(bench: &Bench, came: &[Came], chance: &Chance) -> BTreeMap<(u32, i64), [f64; 4]> {
    let (memory, kept) = (Memory::default(), Kept::default());
    let (mut order_now, mut chain) = (order(), Chain::new(bench, memory.clone()));
    let (mut rest, mut arrived) = (came, 0);
    while !rest.is_empty() {
        let (some, more) = rest.split_at((1 + chance.below(30) as usize).min(rest.len()));
        rest = more;
        arrived += chance.below(3) as i64 * SECOND;
        let mut batch = Batch { source: "a".into(), arrived: Timestamp::from_nanos(arrived), ..Batch::default() };
        for (name, second, value) in some {
            batch.push(bench.id(name), Timestamp::from_nanos(second * SECOND), *value);
            memory.put(bench.id(name), *second, *value);
        }
        let mut step = Step::new();
        order_now.take(&Arc::new(batch), &mut step);
        order_now.end_step(&mut step);
        chain.tell(step, &kept);
        if chance.below(5) == 0 {
            let states = chain.cut(&order_now, false, &kept);
            if chance.below(2) == 0 {
                chain.resume(&states);
                let mut resumed = order();
                assert!(resumed.restore(&order_now.state()));
                order_now = resumed;
            }
        }
    }
    chain.cut(&order_now, true, &kept);
    kept.0.into_inner().unwrap()
}

/// The same by the samples alone: the last value of each time, what passes, its new name, its growth, by window.
fn wanted(came: &[Came]) -> BTreeMap<(String, i64), [f64; 4]> {
    let mut last: BTreeMap<(&str, i64), f64> = BTreeMap::new();
    came.iter().for_each(|(name, time, value)| {
        last.insert((name, *time), *value);
    });
    let mut windows: BTreeMap<(String, i64), [f64; 4]> = BTreeMap::new();
    let mut before: BTreeMap<String, (i64, f64)> = BTreeMap::new();
    for ((name, time), value) in last {
        if !name.starts_with("req_") || name.contains("env=test") || value > 90_000.0 {
            continue;
        }
        let region = &name[name.find("zone=").unwrap() + 5..][..2];
        let metric = name.split('{').next().unwrap();
        let is_counter = Bench::def(name).kind == crate::model::Kind::Counter;
        let (name, told) = match (is_counter, before.insert(name.to_owned(), (time, value))) {
            (false, _) => (format!("{metric}{{region={region}}}"), Some(value)),
            (true, before) => {
                let grown = |(_, before)| if value < before { value } else { value - before };
                let rate = before.map(|before: (i64, f64)| grown(before) / (time - before.0) as f64);
                (format!("{metric}:rate{{region={region}}}"), rate)
            }
        };
        let Some(told) = told else { continue };
        let window = windows.entry((name, time / EVERY * EVERY)).or_insert([0.0, 0.0, told, told]);
        *window = [window[0] + 1.0, window[1] + told, window[2], told];
    }
    windows
}

#[test]
fn a_chain_says_what_the_samples_say() {
    let bench = Bench::new();
    for seed in 0..40 {
        let chance = Chance::seeded(seed);
        let came = came(&chance);
        let found = run(&bench, &came, &chance);
        let found: BTreeMap<(String, i64), [f64; 4]> =
            found.into_iter().map(|((id, start), told)| ((bench.text(SeriesId(id)), start), told)).collect();
        let wanted = wanted(&came);
        for (key, told) in &wanted {
            let near = |found: &[f64; 4]| found.iter().zip(told).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1.0));
            assert!(found.get(key).is_some_and(near), "seed {seed}, {key:?}: {:?}, not {told:?}", found.get(key));
        }
        let more: Vec<_> = found.keys().filter(|key| !wanted.contains_key(*key)).collect();
        assert!(more.is_empty(), "seed {seed}: too many {more:?}");
    }
}
