//! Points kept by every method: within their bound, and the same after a stop.

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampNanosecondType, UInt32Type, UInt64Type};

use super::*;
use crate::flow::{Event, Sink, Step};
use crate::world::Chance;

const DAY: Duration = Duration::from_secs(86_400);

type Row = (f64, f64, u64, String);

/// Rows by series and time, as the table would hold them.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<(u32, i64), Row>>);

impl Sink for Kept {
    fn rows(&self, rows: Rows) {
        let column = |at: usize| rows.batch.column(at);
        let (series, times) =
            (column(0).as_primitive::<UInt32Type>(), column(1).as_primitive::<TimestampNanosecondType>());
        let (values, errors) = (column(2).as_primitive::<Float64Type>(), column(3).as_primitive::<Float64Type>());
        let (samples, kept) = (column(4).as_primitive::<UInt64Type>(), column(5).as_string::<i32>());
        let mut all = self.0.lock().unwrap();
        for row in 0..rows.batch.num_rows() {
            let key = (series.value(row), times.value(row));
            if samples.value(row) == 0 {
                all.remove(&key);
            } else {
                all.insert(key, (values.value(row), errors.value(row), samples.value(row), kept.value(row).into()));
            }
        }
    }
}

fn batch(samples: &[(i64, f64)]) -> Arc<Batch> {
    let mut batch = Batch::default();
    samples.iter().for_each(|&(time, value)| batch.push(SeriesId(0), Timestamp::from_nanos(time), value));
    Arc::new(batch)
}

/// What is kept of samples, what is handed on, and what is dropped; stopped and resumed where `chance` says.
fn run(spec: &CompressSpec, samples: &[(i64, f64)], chance: Option<&Chance>) -> (Vec<(i64, Row)>, Vec<i64>, u64) {
    let (kept, mut stage) = (Kept::default(), spec.stage(Weak::new()));
    let (mut handed_on, mut dropped) = (Vec::new(), 0);
    for some in samples.chunks(7) {
        let mut step = Step::new();
        let mut out = Out::new(&kept, &mut step);
        stage.batch(&batch(some), &mut out);
        if chance.is_some_and(|chance| chance.below(3) == 0) {
            let state = stage.checkpoint(Cut { number: 1, last: false }, &mut out);
            dropped += stage.dropped().values().sum::<u64>();
            stage = spec.stage(Weak::new());
            assert!(stage.restore(&state, Shard::WHOLE));
        }
        for event in step {
            if let Event::Batch(batch) = event {
                handed_on.extend_from_slice(&batch.times);
            }
        }
    }
    let mut step = Step::new();
    stage.checkpoint(Cut { number: 2, last: true }, &mut Out::new(&kept, &mut step));
    dropped += stage.dropped().values().sum::<u64>();
    let rows = kept.0.into_inner().unwrap().into_iter().map(|((_, time), row)| (time, row)).collect();
    (rows, handed_on, dropped)
}

fn walk(seed: u64) -> Vec<(i64, f64)> {
    let chance = Chance::seeded(seed);
    let mut value = 50.0;
    (0..3000)
        .map(|time| {
            let leap = if chance.below(400) == 0 { 40.0 } else { 0.0 };
            value += chance.below(2001) as f64 / 1000.0 - 1.0 + leap;
            (time * 10, value)
        })
        .collect()
}

fn spec(method: Method) -> CompressSpec {
    let nanos = Duration::from_nanos;
    CompressSpec {
        method,
        error_percent: 5.0,
        gap: nanos(3000),
        every: nanos(200),
        keep: 0.2,
        ..CompressSpec::default()
    }
}

#[test]
fn no_sample_is_further_than_its_row_says() {
    for seed in 0..8 {
        for method in [Method::Door, Method::Band, Method::Mean, Method::Sample] {
            let samples = walk(seed);
            let (rows, handed_on, dropped) = run(&spec(method), &samples, None);
            let told = format!("seed {seed} {method:?}: {} rows", rows.len());
            assert!(rows.len() < 1500 && rows.len() > 10, "{told}");
            assert_eq!(rows.iter().map(|(_, row)| row.2).sum::<u64>(), 3000, "{told}: each sample is in one row");
            assert!(handed_on.windows(2).all(|pair| pair[0] < pair[1]), "{told}");
            let open = rows.last().map_or(0, |(_, row)| row.2);
            assert!(dropped + handed_on.len() as u64 + open >= 2900, "{told}: {dropped} dropped");
            for &(time, value) in &samples {
                let at = rows.partition_point(|(kept, _)| *kept <= time);
                let (distance, error) = match method {
                    Method::Door => {
                        let before = at.saturating_sub(1);
                        let after = if rows[before].0 == time { before } else { at.min(rows.len() - 1) };
                        let (a, b) = (&rows[before], &rows[after]);
                        let share = if b.0 == a.0 { 0.0 } else { (time - a.0) as f64 / (b.0 - a.0) as f64 };
                        ((a.1.0 + share * (b.1.0 - a.1.0) - value).abs(), b.1.1)
                    }
                    _ => ((rows[at - 1].1.0 - value).abs(), rows[at - 1].1.1),
                };
                assert!(distance <= error + 1e-9, "{told}: {time} is {distance} away, not {error}");
            }
        }
    }
}

#[test]
fn a_stop_in_the_midst_of_it_changes_nothing() {
    for seed in 0..8 {
        for method in [Method::Door, Method::Band, Method::Mean, Method::Sample] {
            let spec = CompressSpec { context: 3, ..spec(method) };
            let (samples, chance) = (walk(seed), Chance::seeded(seed));
            let (whole, stopped) = (run(&spec, &samples, None), run(&spec, &samples, Some(&chance)));
            assert_eq!(whole.0, stopped.0, "seed {seed} {method:?}");
            assert_eq!(whole.1, stopped.1, "seed {seed} {method:?}");
            assert_eq!(whole.2, stopped.2, "seed {seed} {method:?}");
        }
    }
}

#[test]
fn surroundings_take_no_point_away() {
    for seed in 0..8 {
        for method in [Method::Door, Method::Band, Method::Mean, Method::Sample] {
            let spec = CompressSpec { context: 4, ..spec(method) };
            let (rows, _, _) = run(&spec, &walk(seed), None);
            let (context, others): (Vec<&(i64, Row)>, Vec<_>) = rows.iter().partition(|(_, row)| row.3 == "context");
            assert!(!context.is_empty(), "seed {seed} {method:?}");
            assert_eq!(others.iter().map(|(_, row)| row.2).sum::<u64>(), 3000, "seed {seed} {method:?}");
        }
    }
}

#[test]
fn a_constant_series_keeps_a_point_every_gap() {
    let samples: Vec<(i64, f64)> = (0..100).map(|time| (time, 4.0)).collect();
    let spec = CompressSpec { gap: Duration::from_nanos(25), ..CompressSpec::default() };
    let (rows, _, _) = run(&spec, &samples, None);
    let told: Vec<(i64, u64, &str)> = rows.iter().map(|(time, row)| (*time, row.2, row.3.as_str())).collect();
    assert_eq!(told, [(0, 1, "first"), (25, 25, "gap"), (50, 25, "gap"), (75, 25, "gap"), (99, 24, "last")]);
}

#[test]
fn what_surrounds_a_sudden_change_is_kept() {
    let value = |time: i64| if (50..53).contains(&time) { 100.0 } else { time as f64 / 10.0 };
    let samples: Vec<(i64, f64)> = (0..100).map(|time| (time, value(time))).collect();
    let spec = CompressSpec { context: 4, method: Method::Band, error: Some(5.0), ..CompressSpec::default() };
    let (rows, _, _) = run(&spec, &samples, None);
    let kept: Vec<i64> = rows.iter().map(|(time, _)| *time).collect();
    assert!((46..57).all(|time| kept.contains(&time)), "{kept:?}");
    assert!(!kept.contains(&40) && !kept.contains(&70), "{kept:?}");
}

#[test]
fn under_pressure_less_is_kept_and_the_rows_say_so() {
    let mut counts = Vec::new();
    for compression in Compression::ALL {
        let (kept, mut stage, mut step) = (Kept::default(), spec(Method::Door).stage(Weak::new()), Step::new());
        stage.pressure(compression);
        stage.batch(&batch(&walk(5)), &mut Out::new(&kept, &mut step));
        let rows = kept.0.into_inner().unwrap();
        counts.push((rows.len(), rows.values().map(|row| row.1).fold(0.0, f64::max)));
    }
    assert!(counts.windows(2).all(|pair| pair[0].0 > pair[1].0 && pair[0].1 < pair[1].1), "{counts:?}");
}

#[test]
fn times_at_either_end_of_what_can_be_are_kept() {
    let samples = [i64::MIN, i64::MIN + 1, -5, 7, i64::MAX - 1, i64::MAX].map(|time| (time, 1.0));
    let methods = [Method::Door, Method::Band, Method::Mean, Method::Sample];
    for (method, every) in methods.into_iter().flat_map(|method| [DAY, 366 * DAY].map(|every| (method, every))) {
        let spec = CompressSpec { method, every, gap: DAY, keep: 1.0, ..CompressSpec::default() };
        assert_eq!(spec.fault(), None);
        let (rows, _, _) = run(&spec, &samples, None);
        assert_eq!(rows.iter().map(|(_, row)| row.2).sum::<u64>(), 6, "{method:?}: {rows:?}");
    }
}

#[test]
fn what_cannot_be_is_a_fault() {
    let cases = [
        (CompressSpec { error_percent: 101.0, ..CompressSpec::default() }, "error_percent = 101 cannot be"),
        (CompressSpec { error: Some(-1.0), ..CompressSpec::default() }, "error = -1 cannot be"),
        (CompressSpec { keep: 0.0, ..CompressSpec::default() }, "keep = 0 cannot be"),
        (CompressSpec { context: 101, ..CompressSpec::default() }, "context = 101 cannot be"),
        (CompressSpec { every: Duration::ZERO, ..CompressSpec::default() }, "every = 0ns cannot be"),
        (CompressSpec { every: 367 * DAY, ..CompressSpec::default() }, "cannot be: write 1ms to 366d"),
    ];
    for (spec, told) in cases {
        assert!(spec.fault().is_some_and(|fault| fault.contains(told)), "{:?}", spec.fault());
    }
}
