//! How fast the numbers behind the default pipeline are, on one core: all pairs of series, the rolling score, the
//! detectors, the percentile sketch; and which series go together, on all cores.
//!
//! ```text
//! cargo bench --bench stats [-- NAME]     only those whose name holds NAME
//! ```
//! Of each case the best of several runs by CPU time, so that what else the machine does matters little.

#![allow(clippy::disallowed_methods, reason = "a measurement asks the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use plimsoll::stats::couple::{CoupleOptions, Window, couples};
use plimsoll::stats::detect::{Detector, Method};
use plimsoll::stats::{RollingZ, Sketch, normalize, pairs_above};

const RUNS: usize = 7;
const RUN: Duration = Duration::from_millis(100);
/// What the default pipeline asks of `correlate`.
const THRESHOLD: f32 = 0.9;
const KEEP: usize = 100;
/// Of `anomaly` likewise.
const WINDOW: usize = 120;
const SERIES: usize = 10_000;

/// The same numbers each time (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal to the eye: mean 0, deviation 1.
    fn normal(&mut self) -> f32 {
        ((0..12).map(|_| self.share()).sum::<f64>() - 6.0) as f32
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

/// Rows of noise, each with a share of what all have in common, and every hundredth close to the one before it.
fn rows(count: usize, points: usize, common: f32) -> Vec<Vec<f32>> {
    let mut chance = Chance(1);
    let all = chance.normals(points);
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for at in 0..count {
        let (base, own) = match rows.last() {
            Some(before) if at % 100 == 1 => (before.clone(), 0.02),
            _ => (all.iter().map(|x| x * common.sqrt()).collect(), (1.0 - common).sqrt()),
        };
        let mut row: Vec<f32> = base.iter().map(|x| x + own * chance.normal()).collect();
        assert!(normalize(&mut row));
        rows.push(row);
    }
    rows
}

/// CPU time of this thread so far; wall time where the system does not tell.
fn cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    nanos.map_or_else(|| FIRST.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn wanted(name: &str) -> bool {
    std::env::args().skip(1).all(|only| only.starts_with("--") || name.contains(&only))
}

/// Nanoseconds of the best run, each of as many rounds as fill its time.
fn best(mut round: impl FnMut()) -> f64 {
    round();
    let run = || {
        let (start, mut rounds) = (cpu(), 0);
        while rounds == 0 || cpu() - start < RUN {
            round();
            rounds += 1;
        }
        (cpu() - start).as_secs_f64() * 1e9 / f64::from(rounds)
    };
    std::iter::repeat_with(run).take(RUNS).fold(f64::INFINITY, f64::min)
}

fn measure(name: &str, unit: &str, units: usize, round: impl FnMut()) {
    if wanted(name) {
        let nanos = best(round);
        println!("{name:52} {:10.2} ms {:8.3} ns a {unit}", nanos / 1e6, nanos / units as f64);
    }
}

fn pairs() {
    for (what, common) in [("noise", 0.0), ("half in common", 0.5), ("alike", 0.9999), ("the same", 1.0)] {
        for points in [59, 143] {
            for count in [1000, 5000, 10_000] {
                let name = format!("pairs, {what}, {count} rows of {points}");
                if wanted(&name) {
                    let rows = rows(count, points, common);
                    let found = pairs_above(&rows, THRESHOLD, KEEP).len();
                    assert!(found >= count / 100, "{found} found");
                    measure(&name, "pair", count * (count - 1) / 2, || {
                        black_box(pairs_above(&rows, THRESHOLD, KEEP));
                    });
                }
            }
        }
    }
}

/// Runs of so many values of one series after the other, all series in turn.
fn rolling() {
    let mut chance = Chance(2);
    let values: Vec<f64> = (0..1 << 16).map(|_| 50.0 + f64::from(chance.normal())).collect();
    // Not in the order of their memory, which the processor would foresee.
    let mut order: Vec<usize> = (0..SERIES).collect();
    order.sort_by_cached_key(|_| chance.next());
    for run in [1, 10, 100] {
        // Each on its own place of the heap, as in the stage.
        let mut all: Vec<Box<RollingZ>> = (0..SERIES).map(|_| Box::new(RollingZ::new(WINDOW))).collect();
        let mut next = values.iter().cycle();
        for _ in 0..WINDOW + 5 {
            all.iter_mut().for_each(|rolling| rolling.push(*next.next().unwrap()));
        }
        let (mut beyond, mut at) = (0, 0);
        measure(&format!("rolling, runs of {run}"), "value", SERIES * run, || {
            for &series in &order {
                let rolling = &mut all[series];
                for _ in 0..run {
                    let value = values[at];
                    at = (at + 1) % values.len();
                    beyond += usize::from(rolling.score(value).is_some_and(|score| score.z.abs() >= 3.0));
                    rolling.push(value);
                }
            }
        });
        black_box(beyond);
    }
}

/// What the stage `anomaly` does a value, in runs of so many of one series after the other.
fn detectors() {
    let mut chance = Chance(4);
    let values: Vec<f64> = (0..1 << 16).map(|_| 50.0 + f64::from(chance.normal())).collect();
    let mut order: Vec<usize> = (0..SERIES).collect();
    order.sort_by_cached_key(|_| chance.next());
    for method in [Method::Auto, Method::Seasonal, Method::Ewma] {
        for run in [1, 10, 100] {
            let name = format!("detector {}, runs of {run}", method.name());
            if !wanted(&name) {
                continue;
            }
            let mut all: Vec<Box<Detector>> = (0..SERIES).map(|_| Box::new(Detector::new(method, WINDOW))).collect();
            let (mut at, mut time, mut found) = (0, 0, 0);
            let mut push = |detector: &mut Detector, at: &mut usize| {
                *at = (*at + 1) % values.len();
                found += usize::from(detector.push_over(time, values[*at], method.threshold()).is_some());
                time += 15_000_000_000;
            };
            for detector in &mut all {
                (0..200).for_each(|_| push(detector, &mut at));
            }
            measure(&name, "value", SERIES * run, || {
                for &series in &order {
                    (0..run).for_each(|_| push(&mut all[series], &mut at));
                }
            });
            black_box(found);
        }
    }
}

/// All pairs at all lags, on all cores: wall time. Every tenth series follows the one before it.
fn coupled() {
    let name = "coupled, 2000 series of 1000 rows, on all cores";
    if !wanted(name) {
        return;
    }
    let (count, rows, day) = (2000, 1000, 288);
    let mut chance = Chance(5);
    let mut series: Vec<Vec<f64>> = Vec::new();
    for at in 0..count {
        let own: Vec<f64> = (0..rows + 5 * day).map(|_| f64::from(chance.normal())).collect();
        let row = match series.last() {
            Some(before) if at % 10 == 1 => (0..own.len()).map(|row| own[row] + before[row.max(3) - 3]).collect(),
            _ => own,
        };
        series.push(row);
    }
    let window = Window { values: series.iter().map(Vec::as_slice).collect(), window: rows, day };
    let took = || {
        let start = Instant::now();
        let found = couples(&window, &CoupleOptions::default()).len();
        assert!(found >= count / 10 * 9 / 10, "{found} found");
        start.elapsed()
    };
    let best = std::iter::repeat_with(took).take(3).min().unwrap_or_default();
    println!("{name:52} {:10.2} ms", best.as_secs_f64() * 1e3);
}

/// Values as of a gauge between 0 and 100 that wanders.
fn walk(chance: &mut Chance, count: usize) -> Vec<f64> {
    let mut level = 100.0 * chance.share();
    let mut step = || {
        level = (level + f64::from(chance.normal())).clamp(0.0, 100.0);
        (level * 100.0).round() / 100.0
    };
    (0..count).map(|_| step()).collect()
}

fn sketch_of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::new();
    values.iter().for_each(|&value| sketch.add(value));
    sketch
}

fn sketches() {
    let mut chance = Chance(3);
    for count in [6, 60, 360] {
        let walks: Vec<Vec<f64>> = (0..1000).map(|_| walk(&mut chance, count)).collect();
        measure(&format!("sketch, made of {count}"), "value", 1000 * count, || {
            for walk in &walks {
                black_box(sketch_of(walk));
            }
        });
    }
    let walks: Vec<Vec<f64>> = (0..SERIES).map(|_| walk(&mut chance, 100)).collect();
    let mut all: Vec<Sketch> = walks.iter().map(|walk| sketch_of(walk)).collect();
    measure("sketch, added to in turn", "value", SERIES * 100, || {
        for at in 0..100 {
            for (sketch, walk) in all.iter_mut().zip(&walks) {
                sketch.add(walk[at]);
            }
        }
    });
    for count in [6, 60] {
        let parts: Vec<Sketch> = (0..100)
            .flat_map(|_| walk(&mut chance, 60 * count).chunks(count).map(sketch_of).collect::<Vec<_>>())
            .collect();
        measure(&format!("sketch, merged of 60 of {count}"), "sketch merged", parts.len(), || {
            for parts in parts.chunks(60) {
                let mut whole = Sketch::new();
                parts.iter().for_each(|part| whole.merge(part));
                black_box(whole);
            }
        });
    }
}

fn main() {
    // One thread, so that the time of this one is all there is.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    alone.install(|| {
        pairs();
        rolling();
        detectors();
        sketches();
    });
    coupled();
}
