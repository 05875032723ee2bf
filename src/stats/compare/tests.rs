//! Figures of scipy and statsmodels, and verdicts over seeded noise.

use super::*;

/// `((i * by) % 104729) / 1000` and what is added, for i from 1.
fn scattered(by: u64, count: u64, above: f64) -> Vec<f64> {
    (1..=count).map(|i| (i * by % 104_729) as f64 / 1000.0 + above).collect()
}

/// Values about 100, of which each is as good as independent of the others.
fn about(level: f64, count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| level * (1.0 + 0.04 * (uniform() + uniform() - 1.0))).collect()
}

#[test]
fn p_values_are_those_of_scipy() {
    // scipy.stats.mannwhitneyu(a, b, alternative=…, method='exact' without equal values up to 50 of a side, else 'asymptotic')
    let few = [1.1, 2.3, 3.7, 4.9, 5.2, 6.8];
    let others = [2.0, 3.1, 4.4, 7.7, 8.8, 9.9, 10.5];
    let line: Vec<f64> = (0..30).map(f64::from).collect();
    let higher: Vec<f64> = line.iter().map(|value| value + 12.5).collect();
    let (many, further) = (scattered(7919, 60, 0.0), scattered(7907, 70, 8.0));
    type Sides<'a> = (&'a [f64], &'a [f64]);
    let table: [(Sides, f64, [f64; 3]); 4] = [
        ((&few, &others), 12.0, [0.234_265_734_265_734_27, 0.909_673_659_673_659_7, 0.117_132_867_132_867_14]),
        (
            (&[1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0], &[2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 6.0]),
            11.0,
            [0.049_884_436_979_925_88, 0.981_228_025_599_14, 0.024_942_218_489_962_94],
        ),
        ((&many, &further), 1768.0, [0.121_585_477_855_395_52, 0.939_767_297_325_088_1, 0.060_792_738_927_697_76]),
        ((&line, &higher), 153.0, [4.109_080_573_709_038e-6, 0.999_998_113_514_796_8, 2.054_540_286_854_519e-6]),
    ];
    for ((first, second), u, expected) in table {
        for (tail, expected) in [Tail::Both, Tail::Above, Tail::Below].into_iter().zip(expected) {
            let found = mann_whitney(first, second, tail).unwrap();
            assert_eq!(found.u, u);
            let apart = (found.p_value - expected).abs() / expected;
            assert!(apart < 1e-9, "{tail:?}: {} instead of {expected}", found.p_value);
        }
    }
}

#[test]
fn equal_and_absent_values_show_nothing() {
    let test = |first: &[f64], second: &[f64]| mann_whitney(first, second, Tail::Both).map(|test| test.p_value);
    assert_eq!(test(&[7.0; 5], &[7.0; 8]), Some(1.0));
    assert_eq!(test(&[0.0], &[-0.0]), Some(1.0));
    assert_eq!(test(&[f64::NAN], &[1.0]), None);
    assert_eq!(test(&[], &[]), None);
}

#[test]
fn effects_are_those_of_numpy() {
    // np.median(np.subtract.outer(a, b)), the same of logarithms, and 2 U / (n m) - 1
    let (a, b) = ([1.1, 2.3, 3.7, 4.9, 5.2, 6.8], [2.0, 3.1, 4.4, 7.7, 8.8, 9.9, 10.5]);
    let table = [
        (hodges_lehmann(&a, &b), -2.95),
        (hodges_lehmann_ratio(&a, &b), 0.573_610_430_187_452_7),
        (cliffs_delta(&a, &b), 24.0 / 42.0 - 1.0),
        (hodges_lehmann(&scattered(7919, 3000, 5.0), &scattered(7919, 3000, 0.0)), 5.0),
    ];
    for (found, expected) in table {
        assert!((found.unwrap() - expected).abs() < 1e-2_f64.min(expected.abs() * 1e-3), "{found:?}, not {expected}");
    }
    assert_eq!(hodges_lehmann_ratio(&[0.0, 1.0], &[1.0]), None);
    assert_eq!((cliffs_delta(&[], &a), hodges_lehmann(&[], &a)), (None, None));
}

#[test]
fn several_p_values_are_adjusted_as_statsmodels_does() {
    // statsmodels.stats.multitest.multipletests(p, method='holm')
    let table: [(&[f64], &[f64]); 4] = [
        (&[0.001, 0.2, 0.013, 0.04, 0.04, 0.6], &[0.006, 0.4, 0.065, 0.16, 0.16, 0.6]),
        (&[], &[]),
        (&[0.02], &[0.02]),
        (&[0.9, 0.8, f64::NAN], &[1.0, 1.0, 1.0]),
    ];
    for (given, expected) in table {
        let found = holm(given);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}, not {expected:?}");
    }
}

#[test]
fn a_verdict_needs_significance_size_and_an_interval() {
    let usual = CompareOptions::default();
    let higher = CompareOptions { better: Better::Higher, ..usual };
    let fine = CompareOptions { min_effect: 0.01, ..usual };
    let sides = |level: f64, count: usize| (about(100.0, count, 1), about(level, count, 99));
    let table = [
        (sides(100.0, 30), usual, Verdict::Same),
        (sides(110.0, 30), usual, Verdict::Regression),
        (sides(90.0, 30), usual, Verdict::Improvement),
        (sides(110.0, 30), higher, Verdict::Improvement),
        (sides(90.0, 30), higher, Verdict::Regression),
        (sides(102.0, 30), usual, Verdict::Same),
        (sides(102.0, 30), fine, Verdict::Regression),
        (sides(110.0, 5), usual, Verdict::Regression),
        (sides(110.0, 4), usual, Verdict::TooFew),
        (sides(110.0, 1), CompareOptions { alpha: 1.0, ..usual }, Verdict::TooFew),
        ((vec![5.0; 20], vec![5.0; 20]), usual, Verdict::Same),
        ((vec![5.0; 20], vec![6.0; 20]), usual, Verdict::Regression),
        ((Vec::new(), vec![6.0; 20]), usual, Verdict::TooFew),
    ];
    for ((baseline, now), options, expected) in table {
        let found = compare(&baseline, &now, &options);
        assert_eq!(found.verdict, expected, "{found:?}");
    }
}

#[test]
fn changes_from_nothing_and_below_nothing_have_a_direction() {
    let of = |before: f64, now: f64| compare(&[before; 12], &[now; 12], &CompareOptions::default());
    let table = [
        (0.0, 3.0, None, Verdict::Regression),
        (0.0, -3.0, None, Verdict::Improvement),
        (0.0, 0.0, Some(0.0), Verdict::Same),
        (-10.0, -9.0, Some(0.1), Verdict::Regression),
        (10.0, 0.0, Some(-1.0), Verdict::Improvement),
        (1e-300, 1e300, Some(CHANGE_MAX), Verdict::Regression),
    ];
    for (before, now, change, verdict) in table {
        let found = of(before, now);
        assert_eq!((found.change, found.verdict), (change, verdict), "{before} to {now}");
    }
    assert_eq!((of(0.0, 3.0).interval, of(0.0, 3.0).ratio(), of(10.0, 9.0).ratio()), (None, None, Some(0.9)));
}

#[test]
fn adjusted_p_values_judge_again_and_too_few_stays() {
    let options = CompareOptions::default();
    let mut found = compare(&about(100.0, 10, 1), &about(110.0, 10, 2), &options);
    assert_eq!(found.verdict, Verdict::Regression);
    found.adjust(0.02, &options);
    assert_eq!((found.verdict, found.p_value), (Verdict::Same, Some(0.02)));
    let mut few = compare(&[1.0, 2.0], &[3.0, 4.0], &options);
    few.adjust(1e-9, &options);
    assert_eq!(few.verdict, Verdict::TooFew);
}

#[test]
fn the_same_seed_gives_the_same_interval_and_gaps_change_nothing() {
    let (baseline, now) = (about(100.0, 20, 1), about(104.0, 20, 2));
    let options = CompareOptions::default();
    let found = compare(&baseline, &now, &options);
    assert_eq!(found, compare(&baseline, &now, &options));
    let gaps = [baseline.as_slice(), &[f64::NAN, f64::INFINITY]].concat();
    assert_eq!(found, compare(&gaps, &now, &options));
    let other = compare(&baseline, &now, &CompareOptions { seed: 2, ..options });
    assert_ne!(found.interval, other.interval);
}

#[test]
fn intervals_hold_the_true_change_about_as_often_as_they_say() {
    // 400 intervals of 95 %: the standard deviation of the share is 1.1 %.
    for (centre, count) in [(Centre::Median, 10), (Centre::Median, 31), (Centre::Mean, 10), (Centre::Mean, 30)] {
        let options = CompareOptions { centre, resamples: 500, ..CompareOptions::default() };
        let holds = |seed: &u64| {
            let (low, high) =
                compare(&about(100.0, count, *seed), &about(110.0, count, seed + 9000), &options).interval.unwrap();
            low <= 0.1 && 0.1 <= high
        };
        let share = (0..400).filter(holds).count() as f64 / 400.0;
        assert!((0.9..=0.995).contains(&share), "{centre:?} of {count}: {share}");
    }
}

#[test]
fn figures_without_values_are_compared_without_a_p_value() {
    let of = |centre: f64, error: Option<f64>| Stated { centre, error, count: None };
    let table = [
        (of(100.0, None), of(110.0, None), Verdict::Regression, None),
        (of(100.0, None), of(102.0, None), Verdict::Same, None),
        (of(100.0, Some(3.0)), of(90.0, None), Verdict::Improvement, None),
        (of(100.0, Some(3.0)), of(110.0, Some(4.0)), Verdict::Same, Some((-0.001_64, 0.201_64))),
        (of(100.0, Some(0.3)), of(110.0, Some(0.4)), Verdict::Regression, Some((0.089_84, 0.110_16))),
        (of(f64::NAN, None), of(1.0, None), Verdict::TooFew, None),
    ];
    for (baseline, now, verdict, interval) in table {
        let found = compare_stated(&baseline, &now, &CompareOptions::default());
        assert_eq!((found.verdict, found.p_value, found.basis), (verdict, None, Basis::Summaries), "{found:?}");
        let apart = found
            .interval
            .zip(interval)
            .map_or(0.0, |(a, b): ((f64, f64), (f64, f64))| (a.0 - b.0).abs() + (a.1 - b.1).abs());
        assert!(found.interval.is_some() == interval.is_some() && apart < 1e-4, "{found:?}");
    }
}
