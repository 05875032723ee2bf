//! Figures of scipy and pymannkendall, and leaks that are to be found, or not, in seeded noise.

use super::*;

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

/// `count` values about 0 of deviation 1, each `follows` times the one before and a draw.
fn noise(seed: u64, count: usize, follows: f64) -> Vec<f64> {
    let mut chance = Chance(seed);
    let width = (1.0 - follows * follows).sqrt();
    let mut last = chance.normal();
    (0..count).map(|_| (last = follows * last + width * chance.normal(), last).1).collect()
}

const RISING: [f64; 12] = [3.1, 2.9, 4.0, 4.2, 3.8, 5.1, 5.0, 6.2, 5.9, 7.0, 6.8, 8.1];
const EQUAL: [f64; 13] = [1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 2.0, 4.0, 4.0, 5.0, 5.0, 4.0, 6.0];

#[test]
fn slopes_and_bounds_are_those_of_scipy() {
    // scipy.stats.theilslopes(y, alpha=0.95)
    let comb: Vec<f64> = (0..40).map(|i| f64::from(i * 37 % 11)).collect();
    let table: [(&[f64], [f64; 4]); 3] = [
        (&RISING, [0.45, 2.575, 0.35, 0.52]),
        (&EQUAL, [1.0 / 3.0, 1.0, 0.25, 0.428_571_428_571_428_55]),
        (&comb, [0.0, 5.0, -0.125, 0.117_647_058_823_529_41]),
    ];
    for (values, expected) in table {
        let found = trend(values, &TrendOptions { independent: true, ..TrendOptions::default() }).unwrap();
        let found = [found.slope, found.intercept, found.interval.0, found.interval.1];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}, not {expected:?}");
    }
}

#[test]
fn tests_are_those_of_pymannkendall() {
    // pymannkendall.original_test(y): s, z, p, Tau
    let table: [(&[f64], [f64; 4]); 3] = [
        (&RISING, [54.0, 3.634_345_051_015_831, 0.000_278_687_684_234_002_5, 0.818_181_818_181_818_2]),
        (&EQUAL, [58.0, 3.557_870_368_414_447_3, 0.000_373_873_732_453_677_83, 0.743_589_743_589_743_6]),
        (&[2.0; 5], [0.0, 0.0, 1.0, 0.0]),
    ];
    for (values, expected) in table {
        let found = mann_kendall(values, 1.0);
        let found = [found.s, found.score, found.p_value, found.tau];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, not {expected:?}");
    }
}

#[test]
fn noise_that_follows_itself_is_seldom_a_trend() {
    // Share of 400 series of 100 values with a trend at 5 %, and how much it may be.
    for (follows, most) in [(0.0, 0.07), (0.3, 0.1), (0.6, 0.1), (0.8, 0.13)] {
        let is_trend = |seed: &u64| {
            trend(&noise(*seed, 100, follows), &TrendOptions::default()).is_some_and(|found| found.p_value <= 0.05)
        };
        let share = (0..400).filter(is_trend).count() as f64 / 400.0;
        assert!(share <= most, "each {follows} of the last: {share}");
    }
}

#[test]
fn gaps_have_a_row_and_too_few_values_no_trend() {
    let gaps: Vec<f64> = (0..40).map(|row| if row % 3 == 0 { f64::NAN } else { f64::from(row) * 2.0 + 1.0 }).collect();
    let found = trend(&gaps, &TrendOptions::default()).unwrap();
    assert_eq!((found.count, found.slope, found.intercept, found.tau), (26, 2.0, 1.0, 1.0));
    assert_eq!(trend(&[1.0, 2.0, 3.0], &TrendOptions::default()), None);
    assert_eq!(trend(&[f64::NAN; 50], &TrendOptions::default()), None);
    let level = trend(&[5.0; 50], &TrendOptions::default()).unwrap();
    assert_eq!((level.slope, level.p_value, level.interval), (0.0, 1.0, (0.0, 0.0)));
}

#[test]
fn long_series_have_the_trend_of_their_parts() {
    let values: Vec<f64> =
        noise(1, 50_000, 0.0).iter().enumerate().map(|(row, noise)| 1e-3 * row as f64 + noise).collect();
    let found = trend(&values, &TrendOptions::default()).unwrap();
    assert!((found.slope - 1e-3).abs() < 1e-5 && found.count == 50_000, "{found:?}");
    assert!(found.interval.0 < 1e-3 && 1e-3 < found.interval.1, "{found:?}");
}

const MINUTE: f64 = 60.0;
const DAY_ROWS: usize = 1440;

/// Bytes in use each minute: a floor, and what is collected every `every` rows.
fn collected(rows: usize, every: usize, seed: u64, floor: impl Fn(usize) -> f64) -> Vec<f64> {
    let heap = |(row, noise): (usize, &f64)| floor(row) + 30.0 * (row % every) as f64 / every as f64 + noise;
    noise(seed, rows, 0.5).iter().enumerate().map(heap).collect()
}

#[test]
fn leaks_are_found_through_collections_restarts_and_days() {
    let day = |row: usize| 20.0 * (2.0 * std::f64::consts::PI * row as f64 / DAY_ROWS as f64).sin();
    let table: [(&str, Vec<f64>, f64, usize); 4] = [
        ("plain", collected(360, 1, 1, |row| 200.0 + 0.1 * row as f64), 0.1, 0),
        ("collections", collected(720, 17, 2, |row| 200.0 + 0.1 * row as f64), 0.1, 0),
        ("restarts", collected(1440, 7, 3, |row| 200.0 + 0.2 * (row % 500) as f64), 0.2, 2),
        ("days", collected(3 * DAY_ROWS, 23, 4, |row| 200.0 + 0.02 * row as f64 + day(row)), 0.02, 0),
    ];
    for (name, values, a_minute, restarts) in table {
        let found = leak(&values, MINUTE, &LeakOptions::default()).unwrap_or_else(|| panic!("{name}: none"));
        let apart = (found.per_second * MINUTE / a_minute - 1.0).abs();
        assert!(apart < 0.15 && found.restarts == restarts && found.p_value < 1e-3, "{name}: {found:?}");
    }
}

#[test]
fn what_has_an_end_is_no_leak() {
    let day = |row: usize| 20.0 * (2.0 * std::f64::consts::PI * row as f64 / DAY_ROWS as f64).sin();
    let warming = |row: usize| 200.0 + 100.0 * (1.0 - (-(row as f64) / 120.0).exp());
    let table: [(&str, Vec<f64>); 6] = [
        ("level", collected(720, 17, 1, |_| 200.0)),
        ("warm-up", collected(720, 1, 2, warming)),
        ("warm-up and collections", collected(720, 13, 3, warming)),
        ("days", collected(3 * DAY_ROWS, 23, 4, |row| 200.0 + day(row))),
        ("a step", collected(720, 17, 5, |row| if row < 400 { 200.0 } else { 260.0 })),
        ("falling", collected(720, 17, 6, |row| 400.0 - 0.1 * row as f64)),
    ];
    for (name, values) in table {
        assert_eq!(leak(&values, MINUTE, &LeakOptions::default()), None, "{name}");
    }
}

#[test]
fn too_little_is_no_leak() {
    let line = |count: u32| -> Vec<f64> { (0..count).map(|row| 100.0 + f64::from(row)).collect() };
    let table = [(0, false), (23, false), (24, true), (500, true)];
    for (count, expected) in table {
        assert_eq!(leak(&line(count), MINUTE, &LeakOptions::default()).is_some(), expected, "{count} values");
    }
    assert_eq!(leak(&[f64::NAN; 200], MINUTE, &LeakOptions::default()), None);
}
