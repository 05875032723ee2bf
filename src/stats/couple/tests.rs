//! Couples among made-up series: which are found and at what lag, and that what means nothing is left alone.

use super::*;
use crate::stats::{pearson, spearman};

const DAY: usize = 96;
const WINDOW: usize = 400;
const ROWS: usize = 3 * DAY + WINDOW;

/// Numbers that look random, the same each time.
pub(super) struct Noise(pub u64);

impl Noise {
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// About normal: mean 0, deviation 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// What drifts and has a day in it, as nearly everything does.
    fn series(&mut self) -> Vec<f64> {
        let mut level = 0.0;
        let of_day = |row: usize| 10.0 * (row as f64 / DAY as f64 * std::f64::consts::TAU).sin();
        let mut next = |row: usize| {
            level = 0.8 * level + self.normal();
            50.0 + level + of_day(row)
        };
        (0..ROWS).map(&mut next).collect()
    }

    fn many(&mut self, count: usize) -> Vec<Vec<f64>> {
        (0..count).map(|_| self.series()).collect()
    }

    /// What follows `cause` by some steps, or comes before it, `times` as large, with as much of its own.
    fn follower(&mut self, cause: &[f64], lag: isize, times: f64) -> Vec<f64> {
        let caused = |row: usize| cause[row.saturating_add_signed(-lag).min(ROWS - 1)];
        self.series().iter().enumerate().map(|(row, own)| own + times * caused(row)).collect()
    }

    /// Groups of four, in which three follow the first.
    fn groups(&mut self, count: usize) -> Vec<Vec<f64>> {
        let mut series = Vec::new();
        for _ in 0..count {
            let first = self.series();
            series.extend([-2, 1, 3].map(|lag| self.follower(&first, lag, 2.0)));
            series.push(first);
        }
        series
    }
}

fn window(series: &[Vec<f64>]) -> Window<'_> {
    Window { values: series.iter().map(Vec::as_slice).collect(), window: WINDOW, day: DAY }
}

fn found(series: &[Vec<f64>]) -> Vec<Coupled> {
    couples(&window(series), &CoupleOptions::default())
}

fn prepared(rows: &[f64]) -> Option<Prepared> {
    Prepared::new(rows, WINDOW, DAY)
}

/// Takes values out at the rows that `is_gap` names.
fn with_gaps(mut rows: Vec<f64>, mut is_gap: impl FnMut(usize) -> bool) -> Vec<f64> {
    rows.iter_mut().enumerate().filter(|(row, _)| is_gap(*row)).for_each(|(_, value)| *value = f64::NAN);
    rows
}

#[test]
fn unrelated_series_that_share_a_day_are_not_flagged() {
    for seed in 1..=4 {
        assert_eq!(found(&Noise(seed).many(40)), [], "seed {seed}");
    }
}

#[test]
fn one_that_follows_is_found_with_its_lag_and_its_sign() {
    for (seed, (lag, times)) in (10..).zip([(0, 2.0), (5, -2.0), (-7, 1.5), (12, 1.5), (-12, -1.5)]) {
        let mut noise = Noise(seed);
        let mut series = noise.many(12);
        series[9] = noise.follower(&series[4], lag, times);
        let all = found(&series);
        let [pair] = all[..] else { panic!("lag {lag} times {times}: {all:?}") };
        assert_eq!((pair.a, pair.b, pair.lag as isize), (4, 9, lag));
        assert_eq!(pair.points as usize, WINDOW - lag.unsigned_abs());
        for r in [pair.pearson, pair.spearman, pair.strength] {
            assert!(r * f64::signum(times) > 0.5, "lag {lag} times {times}: {pair:?}");
        }
        assert!(pair.p_value < 1e-9, "{pair:?}");
    }
}

#[test]
fn beyond_the_last_lag_nothing_is_found() {
    let mut noise = Noise(20);
    let mut series = noise.many(2);
    series[1] = noise.follower(&series[0], 16, 2.0);
    assert_eq!(found(&series), []);
    let spec = CoupleOptions { lag_max: 20, ..CoupleOptions::default() };
    assert_eq!(couples(&window(&series), &spec)[0].lag, 16);
}

#[test]
fn gaps_make_no_pair_and_hide_none() {
    let outage = |row: usize| row % 37 < 7;
    for seed in 30..33 {
        let mut noise = Noise(seed);
        let mut series = noise.many(20);
        series[19] = noise.follower(&series[0], 3, 2.0);
        let common: Vec<_> = series.iter().map(|rows| with_gaps(rows.clone(), outage)).collect();
        let own = (0..).zip(&series).map(|(at, rows)| with_gaps(rows.clone(), |row| outage(row + 5 * at)));
        let own: Vec<_> = own.collect();
        let single: Vec<_> = series.into_iter().map(|rows| with_gaps(rows, |_| noise.uniform() < 0.1)).collect();
        for (name, series) in [("common", common), ("own", own), ("single", single)] {
            let pairs: Vec<_> = found(&series).iter().map(|pair| (pair.a, pair.b, pair.lag)).collect();
            assert_eq!(pairs, [(0, 19, 3)], "{name} gaps, seed {seed}");
        }
    }
}

#[test]
fn what_holds_too_little_is_left_out_and_is_no_test_either() {
    let mut noise = Noise(40);
    let mut series = noise.groups(1);
    let expected = found(&series);
    assert!(!expected.is_empty());
    let begins = ROWS - WINDOW;
    let mut change = |of: fn(usize, f64) -> f64| -> Vec<f64> {
        noise.series().iter().enumerate().map(|(row, &value)| of(row, value)).collect()
    };
    let unusable = [
        ("constant in the window", change(|row, value| if row < ROWS - WINDOW { value } else { 5.0 })),
        ("nearly constant", change(|row, value| if row % 25 == 0 { value } else { 5.0 })),
        ("99 values", change(|row, value| if row < ROWS - 99 { f64::NAN } else { value })),
        ("infinite", change(|_, value| value * f64::INFINITY)),
        ("its day alone", (0..ROWS).map(|row| (row % DAY) as f64).collect()),
        ("two days with the window", series[0][ROWS - WINDOW..][..2 * DAY].to_vec()),
        ("no rows", Vec::new()),
    ];
    for (name, rows) in unusable {
        assert!(prepared(&rows).is_none(), "{name}");
        series.push(rows);
    }
    assert!(prepared(&series[0][begins..]).is_some(), "the window alone has four days");
    assert!(Prepared::new(&series[0], 150, DAY).is_some());
    assert!(Prepared::new(&series[0][begins..][..280], 200, DAY).is_none(), "two days, none of them before the window");
    assert_eq!(found(&series), expected);
}

#[test]
fn a_row_counts_where_it_has_a_value_and_four_before_it() {
    let series = prepared(&with_gaps(Noise(45).series(), |row| row % 7 == 2)).unwrap();
    let counts = |row: usize| row >= prepare::ORDER && !series.adjusted[row].is_nan();
    assert!((0..WINDOW).all(|row| series.counted[row] == f32::from(u8::from(counts(row)))));
    assert_eq!(series.count as usize, (0..WINDOW).filter(|&row| counts(row)).count());
    assert!((0..WINDOW).all(|row| counts(row) || series.innovations[row] == 0.0));
    assert_eq!((series.filled.len(), series.coarse.len()), (WINDOW, WINDOW / prepare::COARSE));
    for values in [&series.innovations, &series.coarse] {
        let count = values.iter().filter(|&&value| value != 0.0).count() as f32;
        let (sum, squares) = values.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        assert!((sum / count).abs() < 1e-5 && (squares / count - 1.0).abs() < 1e-5, "{sum} and {squares} of {count}");
    }
}

#[test]
fn only_pairs_that_are_allowed_are_tests() {
    let mut noise = Noise(50);
    let mut series = noise.many(30);
    series[20] = noise.follower(&series[3], 2, 0.5);
    series[21] = noise.follower(&series[4], 2, 2.0);
    let of_all = found(&series).into_iter().find(|pair| (pair.a, pair.b) == (3, 20)).unwrap();
    let one = couples_where(&window(&series), &CoupleOptions::default(), |a, b| (a, b) == (3, 20));
    let [pair] = one[..] else { panic!("{one:?}") };
    assert!((of_all.p_value / pair.p_value / (30.0 * 29.0 / 2.0) - 1.0).abs() < 1e-9, "{of_all:?} {pair:?}");
    assert_eq!(Coupled { p_value: of_all.p_value, ..pair }, of_all);
    assert_eq!(couples_where(&window(&series), &CoupleOptions::default(), |_, _| false), []);
}

#[test]
fn the_screen_loses_none_that_are_close() {
    let series = Noise(60).groups(10);
    let (window, spec) = (window(&series), CoupleOptions::default());
    let [all, screened] = [usize::MAX, 0].map(|from| {
        let mut found = Search::new(&window, &spec, |_, _| true, from).run();
        found.sort_unstable_by(Coupled::order);
        found
    });
    assert!(all.len() >= 30, "{} pairs", all.len());
    assert_eq!(screened, all);
    let strict = CoupleOptions { screen: f64::INFINITY, ..spec };
    assert_eq!(Search::new(&window, &strict, |_, _| true, 0).run(), []);
}

#[test]
fn any_number_of_threads_gives_the_same_list() {
    let series = Noise(70).groups(12);
    let expected = found(&series);
    assert!(expected.is_sorted_by(|one, next| one.order(next).is_lt()));
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| found(&series)), expected, "{threads} threads");
    }
}

#[test]
fn values_are_compared_where_both_have_one() {
    let mut noise = Noise(80);
    let mut coarse = || with_gaps(noise.series().iter().map(|value| value.round()).collect(), |row| row % 11 == 3);
    let (a, b) = (prepared(&coarse()).unwrap(), prepared(&coarse()[..ROWS - 1]).unwrap());
    for lag in [-9, 0, 4] {
        let steps = lag as usize % WINDOW;
        let (x, y) =
            if lag < 0 { (&a.adjusted[9..], &b.adjusted[..]) } else { (&a.adjusted[..], &b.adjusted[steps..]) };
        let both = x.iter().zip(y).filter(|(x, y)| !x.is_nan() && !y.is_nan()).count();
        let (of_values, of_ranks, points) = alike(&a, &b, lag);
        assert_eq!((Some(of_values), points as usize), (pearson(x, &y[..y.len().min(x.len())]), both), "lag {lag}");
        assert!((of_ranks - spearman(x, y).unwrap()).abs() < 1e-12, "lag {lag}: {of_ranks}");
    }
}

#[test]
fn nothing_has_no_couples() {
    assert_eq!(found(&[]), []);
    assert_eq!(found(&Noise(90).many(1)), []);
}
