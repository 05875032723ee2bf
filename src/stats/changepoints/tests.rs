//! Series made up of levels and seeded noise, and the change points that are to be found in them.

use super::settle::EFFECT_MAX;
use super::{ChangePoint, ChangePointOptions, change_points};
use crate::stats::MAD_TO_SIGMA;

/// Draws of the standard normal distribution: SplitMix64, Box and Muller.
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let far = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        far * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

/// `count` values about 0, each `follows` times the one before and a draw.
fn noise(seed: u64, count: usize, follows: f64) -> Vec<f64> {
    let mut chance = Chance(seed);
    let mut last = 0.0;
    (0..count + 50).map(|_| (last = follows * last + chance.normal(), last).1).skip(50).collect()
}

/// Noise of a hundredth about levels, each of which holds for so many rows.
fn about(levels: &[(usize, f64)], seed: u64) -> Vec<f64> {
    let level = levels.iter().flat_map(|&(rows, level)| std::iter::repeat_n(level, rows));
    let count = levels.iter().map(|(rows, _)| rows).sum();
    level.zip(noise(seed, count, 0.0)).map(|(level, noise)| level * (1.0 + 0.01 * noise)).collect()
}

fn found(values: &[f64]) -> Vec<ChangePoint> {
    change_points(values, &ChangePointOptions::default())
}

fn rows(values: &[f64]) -> Vec<usize> {
    found(values).iter().map(|point| point.row).collect()
}

#[test]
fn steps_are_found_at_their_rows() {
    type Levels<'a> = &'a [(usize, f64)];
    let table: [(Levels, &[usize]); 8] = [
        (&[(200, 100.0)], &[]),
        (&[(120, 100.0), (80, 110.0)], &[120]),
        (&[(120, 100.0), (80, 90.0)], &[120]),
        (&[(185, 100.0), (15, 110.0)], &[185]),
        (&[(60, 100.0), (60, 110.0), (60, 99.0)], &[60, 120]),
        (&[(50, 100.0), (50, 105.0), (50, 110.0), (50, 116.0)], &[50, 100, 150]),
        (&[(100, 100.0), (20, 106.0), (80, 100.0)], &[100, 120]),
        (&[(900, 100.0), (40, 106.0), (1060, 100.0)], &[900, 940]),
    ];
    for seed in 1..=5 {
        for (levels, expected) in table {
            assert_eq!(rows(&about(levels, seed)), expected, "{levels:?}, seed {seed}");
        }
    }
}

#[test]
fn levels_and_effect_are_of_medians() {
    let table = [
        (8.0, 9.0, 0.125),
        (-8.0, -9.0, -0.125),
        (-8.0, 8.0, 2.0),
        (0.0, 1e-9, EFFECT_MAX),
        (0.0, -7.0, -EFFECT_MAX),
        (1e-300, 1e300, EFFECT_MAX),
        (-f64::MAX, f64::MAX, EFFECT_MAX),
    ];
    for (before, after, effect) in table {
        let points = found(&[[before; 30], [after; 30]].concat());
        let [point] = points[..] else { panic!("{before} to {after}: {points:?}") };
        assert_eq!((point.row, point.before, point.after), (30, before, after));
        assert!((point.effect - effect).abs() < 1e-12 && point.p_value < 1e-9, "{point:?}");
    }
}

#[test]
fn an_effect_from_zero_is_in_spreads() {
    let values: Vec<f64> = (0..101).map(|at| f64::from(at % 3 - 1) + f64::from(u8::from(at >= 51)) * 5.0).collect();
    let [point] = found(&values)[..] else { panic!("one step") };
    assert_eq!((point.row, point.before, point.after), (51, 0.0, 5.0));
    assert!((point.effect - 5.0 / MAD_TO_SIGMA).abs() < 1e-12, "{point:?}");
}

#[test]
fn spikes_are_no_change() {
    for (start, length) in [(100, 1), (100, 3), (0, 3), (197, 3), (188, 3), (10, 2)] {
        let mut noisy = about(&[(200, 100.0)], 3);
        let mut constant = vec![100.0; 200];
        for values in [&mut noisy, &mut constant] {
            values[start..start + length].fill(500.0);
            assert_eq!(rows(values), [0_usize; 0], "{length} rows from {start}");
        }
    }
}

#[test]
fn a_spike_hides_no_step() {
    let mut values = about(&[(120, 100.0), (80, 105.0)], 4);
    values[20..23].fill(9e9);
    values[150] = -9e9;
    assert_eq!(rows(&values), [120]);
}

#[test]
fn steps_among_few_distinct_values_are_found() {
    // Rows of 3 and 4 by turns, then of 5 and 6.
    let values: Vec<f64> = (0..100).map(|at| f64::from(3 + at % 2 + 2 * i32::from(at >= 40))).collect();
    let points = found(&values);
    assert_eq!(points.iter().map(|point| (point.row, point.before, point.after)).collect::<Vec<_>>(), [(40, 3.5, 5.5)]);
    assert_eq!(rows(&[7.0; 100]), [0_usize; 0]);
}

#[test]
fn gaps_are_left_out_and_counted_as_rows() {
    let mut values = about(&[(60, 100.0), (60, 110.0)], 5);
    let whole = found(&values);
    for at in (0..60).step_by(3).rev() {
        values.insert(at, [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][at % 9 / 3]);
    }
    let moved: Vec<ChangePoint> = whole.iter().map(|point| ChangePoint { row: point.row + 20, ..*point }).collect();
    assert_eq!((found(&values), moved.len()), (moved, 1));
    assert_eq!(rows(&[f64::NAN; 100]), [0_usize; 0]);
}

#[test]
fn too_short_series_have_none() {
    let step = |count: usize| -> Vec<f64> { (0..count).map(|at| if at < count / 2 { 1.0 } else { 2.0 }).collect() };
    for (count, expected) in [(0, 0), (1, 0), (19, 0), (20, 1), (40, 1)] {
        assert_eq!(found(&step(count)).len(), expected, "{count} values");
    }
    for segment_min in [0, 1, 2, 9, usize::MAX] {
        let options = ChangePointOptions { segment_min, ..ChangePointOptions::default() };
        assert!(change_points(&step(3), &options).is_empty(), "{segment_min}");
    }
}

#[test]
fn options_say_what_counts() {
    let values = about(&[(100, 100.0), (20, 104.0), (80, 100.0)], 6);
    let usual = ChangePointOptions::default();
    let table = [
        (usual, 2),
        (ChangePointOptions { effect_min: 0.05, ..usual }, 0),
        (ChangePointOptions { segment_min: 30, ..usual }, 0),
        (ChangePointOptions { p_max: 1e-30, ..usual }, 0),
    ];
    for (options, expected) in table {
        assert_eq!(change_points(&values, &options).len(), expected, "{options:?}");
    }
}

#[test]
fn small_steps_hide_no_large_one() {
    let values = about(&[(100, 100.0), (60, 103.0), (20, 115.0), (120, 103.0)], 7);
    let of_tenth = ChangePointOptions { effect_min: 0.1, ..ChangePointOptions::default() };
    let rows = |options| change_points(&values, &options).iter().map(|point| point.row).collect::<Vec<_>>();
    assert_eq!(rows(ChangePointOptions::default()), [100, 160, 180]);
    assert_eq!(rows(of_tenth), [160, 180]);
}

#[test]
fn noise_is_seldom_taken_for_a_change() {
    let usual = ChangePointOptions { effect_min: 0.0, ..ChangePointOptions::default() };
    // Share of series with an alarm: of independent values at most the stated, of those that follow one another a little more.
    let table = [(0.0, 1e-3, 2e-3), (0.0, 0.05, 0.1), (0.5, 1e-3, 5e-3), (0.7, 1e-3, 5e-3), (0.9, 1e-3, 5e-3)];
    for (follows, p_max, most) in table {
        let options = ChangePointOptions { p_max, ..usual };
        let alarmed = |seed: &u64| !change_points(&noise(*seed, 200, follows), &options).is_empty();
        let share = (0..1000).filter(alarmed).count() as f64 / 1000.0;
        assert!(share <= most, "each {follows} of the last, p {p_max}: {share}");
    }
}

#[test]
fn a_drift_is_no_row_of_steps() {
    for seed in 1..=5 {
        for count in [200, 2000] {
            let drift = |(at, noise): (usize, f64)| 100.0 + 30.0 * at as f64 / count as f64 + noise;
            let values: Vec<f64> = noise(seed, count, 0.0).into_iter().enumerate().map(drift).collect();
            assert!(rows(&values).len() <= 1, "{count} rows, seed {seed}: {:?}", rows(&values));
        }
        let straight: Vec<f64> = (0..500).map(f64::from).collect();
        assert_eq!(rows(&straight), [0_usize; 0]);
    }
}
