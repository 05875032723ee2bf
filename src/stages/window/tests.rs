//! Windows of every kind against what the samples say, late ones and stops among them.

use std::sync::Mutex;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};

use super::*;
use crate::flow::Event;
use crate::flow::{Cut, Order, OrderSpec, Out, Past, Shard, Sink, Step};
use crate::model::{Batch, Rows, Sample, SeriesId, Span};
use crate::world::Chance;

const SECOND: i64 = 1_000_000_000;

/// Rows by key, as a table would hold them: the last word counts.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<(u32, i64, i64), String>>);

impl Sink for Kept {
    fn rows(&self, rows: Rows) {
        let batch = &rows.batch;
        let column = |name: &str| batch.column_by_name(name);
        let length = column("gap").or_else(|| column("every")).unwrap().as_primitive::<Int64Type>();
        let series = column("series").unwrap().as_primitive::<UInt32Type>();
        let times = column("time").unwrap().as_primitive::<TimestampNanosecondType>();
        let counts = column("count").unwrap().as_primitive::<UInt64Type>();
        let number = |name: &str, row: usize| column(name).unwrap().as_primitive::<Float64Type>().value(row);
        let mut kept = self.0.lock().unwrap();
        for row in 0..batch.num_rows() {
            let key = (series.value(row), length.value(row), times.value(row) / SECOND);
            if counts.value(row) == 0 {
                kept.remove(&key);
                continue;
            }
            let told = ["sum", "min", "max", "first", "last"].map(|name| number(name, row).to_string()).join(" ");
            kept.insert(key, format!("{} {told}", counts.value(row)));
        }
    }
}

/// A store in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<(u32, i64), f64>>>);

impl History for Memory {
    fn open(&self) -> Box<dyn Past> {
        Box::new(self.clone())
    }
}

impl Past for Memory {
    fn series(&self, _span: Span) -> Vec<SeriesId> {
        let all: std::collections::BTreeSet<u32> = self.0.lock().unwrap().keys().map(|key| key.0).collect();
        all.into_iter().map(SeriesId).collect()
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let all = self.0.lock().unwrap();
        let within = all.range((series.0, span.start.nanos())..(series.0, span.end.nanos()));
        let samples: Vec<Sample> =
            within.map(|(key, &value)| Sample { time: Timestamp::from_nanos(key.1), value }).collect();
        take(&samples);
        true
    }

    fn oldest(&self, _series: SeriesId) -> i64 {
        i64::MIN
    }

    fn begins(&self, series: SeriesId) -> Option<i64> {
        self.0.lock().unwrap().range((series.0, i64::MIN)..).next().map(|(key, _)| key.1)
    }
}

fn told(step: Step, stage: &mut dyn Stage, kept: &Kept) {
    let mut forward = Step::new();
    let mut out = Out::new(kept, &mut forward);
    for event in step {
        match event {
            Event::Batch(batch) => stage.batch(&batch, &mut out),
            Event::Late(batch) => stage.late(&batch, &mut out),
            Event::Ahead(batch) => stage.ahead(&batch, &mut out),
            Event::Watermark(watermark) => stage.watermark(&watermark, &mut out),
            _ => {}
        }
    }
}

/// Runs the samples through, stopped and resumed at chance; what is told in the end.
fn run(spec: &WindowSpec, samples: &[(u32, i64, f64)], chance: &Chance) -> BTreeMap<(u32, i64, i64), String> {
    let (memory, kept) = (Memory::default(), Kept::default());
    let order = || Order::new(OrderSpec { lateness: Duration::from_secs(10), idle: Duration::from_secs(60) });
    let history: Arc<dyn History> = Arc::new(memory.clone());
    let (mut order_now, mut stage) = (order(), spec.stage(Some(history.clone())));
    let mut rest = samples;
    let mut arrived = 0;
    let checkpoint = |order: &Order, stage: &mut Box<dyn Stage>, last: bool| {
        let mut forward = Step::new();
        let mut out = Out::new(&kept, &mut forward);
        stage.ahead(&Arc::new(order.ahead()), &mut out);
        stage.checkpoint(Cut { number: 1, last }, &mut out)
    };
    while !rest.is_empty() {
        let (some, more) = rest.split_at((1 + chance.below(30) as usize).min(rest.len()));
        rest = more;
        arrived += chance.below(3) as i64 * SECOND;
        let mut batch = Batch { source: "a".into(), arrived: Timestamp::from_nanos(arrived), ..Batch::default() };
        for &(series, second, value) in some {
            batch.push(SeriesId(series), Timestamp::from_nanos(second * SECOND), value);
            memory.0.lock().unwrap().insert((series, second * SECOND), value);
        }
        let mut step = Step::new();
        order_now.take(&Arc::new(batch), &mut step);
        order_now.end_step(&mut step);
        told(step, &mut *stage, &kept);
        if chance.below(4) == 0 {
            let mut forward = Step::new();
            stage.idle(&mut Out::new(&kept, &mut forward));
        }
        if chance.below(5) == 0 {
            let state = checkpoint(&order_now, &mut stage, false);
            if chance.below(2) == 0 {
                stage = spec.stage(Some(history.clone()));
                assert!(stage.restore(&state, Shard::WHOLE));
                let mut resumed = order();
                assert!(resumed.restore(&order_now.state()));
                order_now = resumed;
            }
        }
    }
    checkpoint(&order_now, &mut stage, true);
    kept.0.into_inner().unwrap()
}

fn length(seconds: u64) -> Option<Length> {
    Some(Length(Duration::from_secs(seconds)))
}

fn text(samples: &[(i64, f64)]) -> String {
    let (mut sum, mut min, mut max) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
    for &(_, value) in samples {
        (sum, min, max) = (sum + value, f64::min(min, value), f64::max(max, value));
    }
    let ends = (samples[0].1, samples[samples.len() - 1].1);
    format!("{} {sum} {min} {max} {} {}", samples.len(), ends.0, ends.1)
}

/// Every series by itself, each time's last value, by time.
fn by_series(samples: &[(u32, i64, f64)]) -> BTreeMap<u32, BTreeMap<i64, f64>> {
    let mut all: BTreeMap<u32, BTreeMap<i64, f64>> = BTreeMap::new();
    samples.iter().for_each(|&(series, time, value)| {
        all.entry(series).or_default().insert(time, value);
    });
    all
}

/// Samples of four series with gaps; some twice, and some that come later by up to an hour.
fn samples(chance: &Chance) -> Vec<(u32, i64, f64)> {
    let mut all: Vec<(i64, u32, i64, f64)> = Vec::new();
    for series in 0..4_u32 {
        let mut time = chance.below(50) as i64;
        for _ in 0..300 {
            time += if chance.below(15) == 0 { 20 + chance.below(900) as i64 } else { 1 + chance.below(20) as i64 };
            let late = if chance.below(20) == 0 { chance.below(3600) as i64 } else { chance.below(9) as i64 };
            let value = chance.below(1000) as f64;
            all.push((time + late, series, time, value));
            if chance.below(25) == 0 {
                all.push((time + late + chance.below(500) as i64, series, time, value));
            }
        }
    }
    all.sort_by_key(|sample| sample.0);
    all.into_iter().map(|(_, series, time, value)| (series, time, value)).collect()
}

#[test]
fn rollups_and_their_tiers_say_what_the_samples_say() {
    for seed in 0..60 {
        let chance = Chance::seeded(seed);
        let samples = samples(&chance);
        let tiers = [60, 600, 3600].map(|tier| Length(Duration::from_secs(tier))).to_vec();
        let spec = WindowSpec { every: length(10), tiers, ..WindowSpec::default() };
        assert_eq!(spec.fault(), None);
        let found = run(&spec, &samples, &chance);
        let mut wanted = BTreeMap::new();
        for (series, samples) in by_series(&samples) {
            for every in [10, 60, 600, 3600] {
                let mut windows: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
                samples
                    .iter()
                    .for_each(|(&time, &value)| windows.entry(time / every * every).or_default().push((time, value)));
                wanted.extend(windows.iter().map(|(&start, samples)| ((series, every * SECOND, start), text(samples))));
            }
        }
        assert_same(&found, &wanted, seed);
    }
}

/// As where it is written under another name: what it was not told is stored.
#[test]
fn a_stage_that_begins_in_the_midst_of_a_window_tells_all_of_it() {
    let (memory, kept) = (Memory::default(), Kept::default());
    let history: Arc<dyn History> = Arc::new(memory.clone());
    let tiers = vec![Length(Duration::from_secs(3600))];
    let spec = WindowSpec { every: length(60), tiers, ..WindowSpec::default() };
    let mut stage = spec.stage(Some(history));
    let samples: Vec<(i64, f64)> = (3600..3700).map(|second| (second, second as f64)).collect();
    let mut batch = Batch { source: "a".into(), ..Batch::default() };
    for &(second, value) in &samples {
        memory.0.lock().unwrap().insert((0, second * SECOND), value);
        memory.0.lock().unwrap().insert((0, (second - 3600) * SECOND), value);
        if second >= 3630 {
            batch.push(SeriesId(0), Timestamp::from_nanos(second * SECOND), value);
        }
    }
    let mut forward = Step::new();
    let mut out = Out::new(&kept, &mut forward);
    stage.batch(&Arc::new(batch), &mut out);
    stage.checkpoint(Cut { number: 1, last: true }, &mut out);
    let wanted = BTreeMap::from([
        ((0, 60 * SECOND, 3600), text(&samples[..60])),
        ((0, 60 * SECOND, 3660), text(&samples[60..])),
        ((0, 3600 * SECOND, 3600), text(&samples)),
    ]);
    assert_same(&kept.0.into_inner().unwrap(), &wanted, 0);
}

#[test]
fn windows_that_overlap_say_what_the_samples_say() {
    for seed in 0..60 {
        let chance = Chance::seeded(seed);
        let samples = samples(&chance);
        let spec = WindowSpec { every: length(30), length: length(120), ..WindowSpec::default() };
        assert_eq!(spec.fault(), None);
        let found = run(&spec, &samples, &chance);
        let mut wanted = BTreeMap::new();
        for (series, samples) in by_series(&samples) {
            let last_pane = samples.keys().last().unwrap() / 30 * 30;
            let first = samples.keys().next().unwrap() / 30 * 30 - 90;
            // Windows that end behind the last pane are not told yet.
            for start in (first..=last_pane - 90).step_by(30) {
                let within: Vec<(i64, f64)> = samples.range(start..start + 120).map(|(&t, &v)| (t, v)).collect();
                if !within.is_empty() {
                    wanted.insert((series, 30 * SECOND, start), text(&within));
                }
            }
        }
        // A series whose source went on while it stood still has told more of them.
        let found: BTreeMap<_, _> = found
            .into_iter()
            .filter(|((series, _, start), _)| {
                *start <= by_series(&samples)[series].keys().last().unwrap() / 30 * 30 - 90
            })
            .collect();
        assert_same(&found, &wanted, seed);
    }
}

#[test]
fn sessions_join_and_part_as_the_samples_say() {
    for seed in 0..60 {
        let chance = Chance::seeded(seed);
        let samples = samples(&chance);
        let spec = WindowSpec { session: length(45), ..WindowSpec::default() };
        assert_eq!(spec.fault(), None);
        let found = run(&spec, &samples, &chance);
        let mut wanted = BTreeMap::new();
        for (series, samples) in by_series(&samples) {
            let samples: Vec<(i64, f64)> = samples.into_iter().collect();
            for session in samples.chunk_by(|a, b| b.0 - a.0 <= 45) {
                wanted.insert((series, 45 * SECOND, session[0].0), text(session));
            }
        }
        assert_same(&found, &wanted, seed);
    }
}

/// Hands a stage samples of series 0, as they come or late, and says that the source is idle.
fn hand(stage: &mut dyn Stage, kept: &Kept, memory: &Memory, times: &[i64], late: &[i64]) {
    let batch = |times: &[i64]| {
        let mut batch = Batch { source: "a".into(), ..Batch::default() };
        times.iter().for_each(|&time| batch.push(SeriesId(0), Timestamp::from_nanos(time), 1.0));
        Arc::new(batch)
    };
    let stored = times.iter().chain(late).map(|&time| ((0, time), 1.0));
    memory.0.lock().unwrap().extend(stored);
    let mut step = Step::new();
    let mut out = Out::new(kept, &mut step);
    stage.batch(&batch(times), &mut out);
    stage.late(&batch(late), &mut out);
    stage.watermark(&Watermark { source: "a".into(), time: Timestamp::MAX }, &mut out);
    while stage.put_off() > 0 {
        stage.idle(&mut out);
    }
    stage.checkpoint(Cut { number: 1, last: true }, &mut out);
}

#[test]
fn times_at_either_end_of_what_can_be_end_all_the_same() {
    let (low, high) = (i64::MIN, i64::MAX);
    let times = [low, low + 1, low + SECOND, -SECOND, 0, SECOND, high - SECOND, high - 1, high];
    let late = [low + 2, low + 3 * SECOND, 3 * SECOND, high - 2 * SECOND, high - 2];
    let sliding = WindowSpec { every: length(10), length: length(40), ..WindowSpec::default() };
    let sessions = WindowSpec { session: length(10), ..WindowSpec::default() };
    for (spec, every, whole) in [(sliding, 10, -30), (sessions, 10, -1)] {
        let (memory, kept) = (Memory::default(), Kept::default());
        let mut stage = spec.stage(Some(Arc::new(memory.clone())));
        hand(&mut *stage, &kept, &memory, &times, &late);
        // Again, from where time ends.
        hand(&mut *stage, &kept, &memory, &[high], &late);
        let kept = kept.0.into_inner().unwrap();
        let row = &kept[&(0, every * SECOND, whole)];
        assert!(row.starts_with("4 4 1 1"), "{row}");
    }
}

#[test]
fn very_many_late_samples_are_sorted_in() {
    let count = 60_000;
    // A window of its own for each, and one session of all.
    for (spec, is_session) in [
        (WindowSpec { every: length(1), length: length(2), ..WindowSpec::default() }, false),
        (WindowSpec { session: length(5), ..WindowSpec::default() }, true),
    ] {
        let (memory, kept) = (Memory::default(), Kept::default());
        let mut stage = spec.stage(Some(Arc::new(memory.clone())));
        let late: Vec<i64> = (0..count).map(|second| second * SECOND).collect();
        hand(&mut *stage, &kept, &memory, &[count * SECOND], &late);
        let kept = kept.0.into_inner().unwrap();
        if is_session {
            assert!(kept[&(0, 5 * SECOND, 0)].starts_with("60001 "), "{kept:?}");
        }
        assert_eq!(kept.len(), if is_session { 1 } else { 60_002 });
    }
}

/// A series with a sample a second in a span, and none of it in memory.
struct Endless(Span);

impl Past for Endless {
    fn series(&self, _span: Span) -> Vec<SeriesId> {
        vec![SeriesId(0)]
    }

    fn read(&mut self, _series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let within = span.intersect(self.0);
        let seconds = (within.start.nanos().div_euclid(SECOND) + 1)..=within.end.nanos().div_euclid(SECOND);
        seconds.for_each(|second| take(&[Sample { time: Timestamp::from_nanos(second * SECOND), value: 1.0 }]));
        true
    }

    fn oldest(&self, _series: SeriesId) -> i64 {
        i64::MIN
    }
}

#[test]
fn a_long_session_is_told_of_without_keeping_its_samples() {
    let span = Span::new(Timestamp::from_nanos(0), Timestamp::from_nanos(500_000 * SECOND));
    let late = [250_000 * SECOND, 250_003 * SECOND];
    let mut read = 0;
    let bounds = (2 * SECOND, i64::MAX);
    let around = |time: i64, read: &mut usize| {
        session::session_around(&mut Endless(span), SeriesId(0), time, late.into_iter(), bounds, read)
    };
    let session = around(late[0], &mut read).unwrap();
    assert_eq!((session.window.start, session.window.count), (SECOND, 500_000));
    assert_eq!(session.no_longer_first, late);
    assert!(read < 3_000_000, "{read}");
    assert!(around(-SECOND, &mut read).is_none());
}

fn assert_same(found: &BTreeMap<(u32, i64, i64), String>, wanted: &BTreeMap<(u32, i64, i64), String>, seed: u64) {
    for (key, value) in wanted {
        assert_eq!(found.get(key), Some(value), "seed {seed}, {key:?}");
    }
    let more: Vec<_> = found.keys().filter(|key| !wanted.contains_key(key)).collect();
    assert!(more.is_empty(), "seed {seed}: too many {more:?}");
}

#[test]
fn lengths_that_do_not_fit_are_faults() {
    let cases = [
        (WindowSpec::default(), "it has no length"),
        (WindowSpec { every: length(10), session: length(5), ..WindowSpec::default() }, "cannot both be"),
        (WindowSpec { every: length(10), length: length(25), ..WindowSpec::default() }, "length must be"),
        (
            WindowSpec { every: length(10), tiers: vec![Length(Duration::from_secs(25))], ..WindowSpec::default() },
            "each tier must be",
        ),
        (WindowSpec { session: length(5), length: length(10), ..WindowSpec::default() }, "session goes with neither"),
        (WindowSpec { every: length(0), ..WindowSpec::default() }, "every = 0ns cannot be"),
    ];
    for (spec, told) in cases {
        assert!(spec.fault().is_some_and(|fault| fault.contains(told)), "{spec:?}: {:?}", spec.fault());
    }
}
