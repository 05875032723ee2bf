//! Windows of `correlate`: from what came by and from what is stored the same, whole and in parts.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampNanosecondType, UInt64Type};

use super::{Correlate, CorrelateSpec, LOST};
use crate::flow::{Cut, History, Out, Shard, Sink, Stage, Step, Watermark};
use crate::model::{Batch, Rows, SeriesId, Timestamp};
use crate::stages::bench::{Memory, SECOND};
use crate::world::Chance;

/// Rows as they stand at the end: by window, how strong and over how many points.
#[derive(Default)]
struct Kept(Mutex<Vec<(i64, f64, u64)>>);

impl Sink for Kept {
    fn rows(&self, rows: Rows) {
        let starts = rows.batch["time"].as_primitive::<TimestampNanosecondType>();
        let strengths = rows.batch["r"].as_primitive::<Float64Type>();
        let points = rows.batch["points"].as_primitive::<UInt64Type>();
        let mut kept = self.0.lock().unwrap();
        for row in 0..rows.batch.num_rows() {
            let start = starts.value(row) / SECOND;
            kept.retain(|known| known.0 != start);
            kept.push((start, (strengths.value(row) * 1e4).round() / 1e4, points.value(row)));
        }
    }
}

fn spec() -> CorrelateSpec {
    CorrelateSpec {
        window: Duration::from_secs(100),
        step: Duration::from_secs(5),
        threshold: 0.5,
        points: 10,
        pairs: 10,
    }
}

/// Two series that change alike, and one that does not, a sample a second, in parts; every so often stopped and resumed, and
/// at the end asked for all. `lag` is how many parts a watermark comes behind.
fn run(seconds: i64, history: Option<Arc<Memory>>, resumes: bool, lag: usize, chance: &Chance) -> (Kept, Correlate) {
    let fresh = || Correlate::new(&spec(), history.clone().map(|memory| memory as Arc<dyn History>), Weak::new());
    let (kept, mut stage) = (Kept::default(), fresh());
    let noise = Chance::seeded(7);
    let mut from = 0;
    let mut ends = Vec::new();
    while from < seconds {
        let to = (from + 1 + chance.below(60) as i64).min(seconds);
        let mut batch = Batch { source: "a".into(), ..Batch::default() };
        for second in from..to {
            let value = noise.below(1000) as f64;
            for (series, value) in [(0, value), (1, value * 3.0 + 1.0), (2, noise.below(1000) as f64)] {
                batch.push(SeriesId(series), Timestamp::from_nanos(second * SECOND), value);
                history.iter().for_each(|memory| memory.put(SeriesId(series), second, value));
            }
        }
        let mut step = Step::new();
        let mut out = Out::new(&kept, &mut step);
        stage.batch(&Arc::new(batch), &mut out);
        ends.push(to);
        if let Some(&reached) = ends.len().checked_sub(lag + 1).and_then(|at| ends.get(at)) {
            let time = Timestamp::from_nanos((reached - 1) * SECOND);
            stage.watermark(&Watermark { source: "a".into(), time }, &mut out);
        }
        if resumes && chance.below(3) == 0 {
            let state = stage.checkpoint(Cut { number: 1, last: chance.below(2) == 0 }, &mut out);
            stage = fresh();
            assert!(stage.restore(&state, Shard::WHOLE));
        }
        from = to;
    }
    let mut step = Step::new();
    stage.checkpoint(Cut { number: 2, last: true }, &mut Out::new(&kept, &mut step));
    (kept, stage)
}

fn rows(kept: Kept) -> Vec<(i64, f64, u64)> {
    let mut rows = kept.0.into_inner().unwrap();
    rows.sort_by_key(|row| row.0);
    rows
}

#[test]
fn windows_are_the_same_kept_or_read_again_whole_or_in_parts() {
    let wanted = rows(run(1030, Some(Arc::default()), false, 0, &Chance::seeded(0)).0);
    let starts: Vec<i64> = wanted.iter().map(|row| row.0).collect();
    assert_eq!(starts, (0..11).map(|n| n * 100).collect::<Vec<i64>>());
    assert!(wanted[..10].iter().all(|row| (row.1, row.2) == (1.0, 19)), "{wanted:?}");
    for seed in 0..20 {
        let chance = Chance::seeded(seed);
        for history in [Some(Arc::default()), None] {
            for lag in [0, 1, 40] {
                let (kept, stage) = run(1030, history.clone(), seed > 0, lag, &chance);
                assert_eq!(rows(kept), wanted, "seed {seed}, history {}, lag {lag}", history.is_some());
                assert!(stage.dropped().is_empty());
            }
        }
    }
}

#[test]
fn what_no_one_can_read_again_is_counted() {
    let (_, mut stage) = run(500, None, false, 0, &Chance::seeded(1));
    let kept = Kept::default();
    let mut step = Step::new();
    let mut out = Out::new(&kept, &mut step);
    let mut batch = Batch { source: "b".into(), ..Batch::default() };
    batch.push(SeriesId(0), Timestamp::from_nanos(20 * SECOND), 1.0);
    stage.late(&Arc::new(batch.clone()), &mut out);
    stage.batch(&Arc::new(batch), &mut out);
    stage.watermark(&Watermark { source: "b".into(), time: Timestamp::from_nanos(300 * SECOND) }, &mut out);
    let dropped: Vec<_> = stage.dropped().into_iter().collect();
    assert_eq!(dropped, [("late: not compared", 1), (LOST, 1)]);
    assert!(kept.0.into_inner().unwrap().is_empty());
}

#[test]
fn a_step_divides_its_window() {
    let odd = CorrelateSpec { window: Duration::from_secs(3600), step: Duration::from_secs(7), ..spec() };
    assert!(odd.fault().is_some_and(|told| told.contains("no whole number of steps")));
    assert_eq!(spec().fault(), None);
}

#[test]
fn series_that_are_silent_together_are_no_pair() {
    let (kept, noise) = (Kept::default(), Chance::seeded(5));
    let mut stage = Correlate::new(&spec(), None, Weak::new());
    let mut batch = Batch { source: "a".into(), ..Batch::default() };
    for second in 0..100 {
        // Half of the window empty, and a level of their own for a moment, as what starts has.
        let is_there = (0..55).contains(&second);
        for series in (0..12).filter(|_| is_there) {
            let value = noise.below(1000) as f64 + if second < 5 { 500.0 } else { 0.0 };
            batch.push(SeriesId(series), Timestamp::from_nanos(second * SECOND), value);
        }
    }
    let mut step = Step::new();
    let mut out = Out::new(&kept, &mut step);
    stage.batch(&Arc::new(batch), &mut out);
    stage.checkpoint(Cut { number: 1, last: true }, &mut out);
    assert_eq!(rows(kept), [(0, 0.0, 0)], "a row that says that there is none");
}
