//! Figures of known values, and when a benchmark ends.

use std::time::Duration;

use super::*;

#[test]
fn figures_are_those_of_numpy() {
    // np.mean, np.std(ddof=1), np.median, np.percentile of the values 1 to 19 and 100
    let values: Vec<f64> = (1..=19).map(f64::from).chain([100.0]).collect();
    let found = statistics(&values).unwrap();
    let table = [
        (found.mean, 14.5),
        (found.deviation, 20.856_653_614_614_21),
        (found.median, 10.5),
        (found.p95, 23.05),
        (found.p99, 84.61),
        (found.max, 100.0),
    ];
    for (found, expected) in table {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }
    assert_eq!((found.runs, found.outliers, found.median_low, found.median_high), (20, 1, Some(6.0), Some(15.0)));
    assert_eq!(half_width(&values), Some(4.5 / 10.5));
}

#[test]
fn runs_that_get_slower_drift_and_scattered_ones_do_not() {
    let rising: Vec<f64> = (0..30).map(|at| 100.0 + f64::from(at) + f64::from(at * 7 % 5)).collect();
    let scattered: Vec<f64> = (0..30).map(|at| 100.0 + f64::from(at * 7 % 30)).collect();
    assert!((statistics(&rising).unwrap().drift.unwrap() - 0.25).abs() < 0.02);
    assert_eq!(statistics(&scattered).unwrap().drift, None);
}

#[test]
fn few_runs_have_figures_without_bounds() {
    for (values, expected) in [(&[][..], None), (&[f64::NAN][..], None), (&[5.0][..], Some((5.0, 0.0)))] {
        assert_eq!(statistics(values).map(|found| (found.median, found.deviation)), expected);
    }
    assert_eq!(statistics(&[1.0; 5]).unwrap().median_low, None);
    assert_eq!(half_width(&[0.0; 6]), Some(0.0));
}

#[test]
fn a_benchmark_ends_when_its_plan_says() {
    let usual = BenchmarkPlan::default();
    let fixed = BenchmarkPlan { runs: Some(3), ..usual };
    let (even, wide): (Vec<f64>, Vec<f64>) = (vec![1.0; 50], (0..50).map(f64::from).collect());
    let table = [
        (usual, &even[..9], 0, false),
        (usual, &even[..10], 0, true),
        (usual, &wide[..50], 29, false),
        (usual, &wide[..50], 30, true),
        (usual, &wide[..5], 60, false),
        (BenchmarkPlan { runs_max: 40, ..usual }, &wide[..40], 0, true),
        (fixed, &wide[..2], 999, false),
        (fixed, &wide[..3], 0, true),
    ];
    for (plan, values, seconds, expected) in table {
        assert_eq!(plan.is_done(values, Duration::from_secs(seconds)), expected, "{} runs, {seconds} s", values.len());
    }
}

#[test]
fn plans_that_cannot_be_are_told() {
    let usual = BenchmarkPlan::default();
    let table = [
        (usual, None),
        (BenchmarkPlan { runs: Some(0), ..usual }, Some("0 runs")),
        (BenchmarkPlan { runs_min: 20, runs_max: 10, ..usual }, Some("at least 20")),
        (BenchmarkPlan { precision: f64::NAN, ..usual }, Some("a precision of NaN")),
    ];
    for (plan, expected) in table {
        let told = plan.check().err().map(|error| error.to_string());
        assert!(
            told.is_some() == expected.is_some() && told.unwrap_or_default().starts_with(expected.unwrap_or_default())
        );
    }
}
