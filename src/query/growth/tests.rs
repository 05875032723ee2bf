//! The aggregates over a real store.

use super::*;
use crate::query::testing::{Bench, examples};

fn bench() -> Bench {
    let bench = Bench::new();
    let counter: Vec<(i64, f64)> = (0..60).map(|at| (at * 10, 100.0 + at as f64)).collect();
    bench.put("hits", &[("instance", "a")], &counter);
    let restarted: Vec<(i64, f64)> = (0..60).map(|at| (at * 10, ((at + 30) % 45) as f64)).collect();
    bench.put("hits", &[("instance", "b")], &restarted);
    bench.put("hits", &[("instance", "once")], &[(5, 7.0)]);
    bench
}

#[test]
fn examples_run() {
    let bench = bench();
    bench.put("http_requests_total", &[("instance", "a")], &[(0, 1.0), (60, 2.0)]);
    let statements = examples(include_str!("mod.rs"));
    assert_eq!(statements.len(), 3, "{statements:?}");
    for statement in &statements {
        bench.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(bench.rows(&statements[0]), ["a 1"]);
    assert_eq!(bench.rows(&statements[1]).len(), 1);
    assert_eq!(bench.rows(&statements[2]), Vec::<String>::new());
}

#[test]
fn groups_are_told_by_series() {
    let bench = bench();
    let found = bench.rows(
        "SELECT instance, increase(time, value), delta(time, value), rate(time, value) * 590 FROM hits \
         GROUP BY instance ORDER BY instance",
    );
    assert_eq!(found, ["a 59 59 59", "b 58 14 58", "once NULL NULL NULL"]);
    // One of ten minutes, whose last sample is ten seconds before the end.
    let found = bench.rows(
        "SELECT instance, increase(time, value, INTERVAL '10 minutes') FROM hits WHERE instance = 'a' GROUP BY instance",
    );
    assert_eq!(found, ["a 60"]);
    let found = bench.rows(
        "SELECT date_bin(INTERVAL '5 minutes', time) AS bucket, increase(time, value, INTERVAL '5 minutes') \
         FROM hits WHERE instance = 'b' GROUP BY bucket ORDER BY bucket",
    );
    // 30 … 44, then 0 … 14: grown by 28 over 290 s; then 15 … 44. A bucket has 300 s.
    for (row, (bucket, grown)) in found.iter().zip([("0", 28.0), ("300", 29.0)]) {
        let (told, increase) = row.split_once(' ').unwrap();
        assert_eq!(told, bucket);
        assert!((increase.parse::<f64>().unwrap() - grown * 300.0 / 290.0).abs() < 1e-12, "{row}");
    }
    assert_eq!(found.len(), 2);
}

#[test]
fn a_window_is_told_to_its_bounds_and_takes_nothing_from_outside() {
    let bench = bench();
    let ask = |bounds: &str| {
        bench.rows(&format!("SELECT increase(time, value, {bounds}) FROM hits WHERE instance = 'a'")).remove(0)
    };
    assert_eq!(ask("TIMESTAMP '2026-01-31T12:01:00', TIMESTAMP '2026-01-31T12:02:00'"), "6");
    assert_eq!(ask("TIMESTAMP '2026-01-31T12:01:05', TIMESTAMP '2026-01-31T12:01:55'"), "5");
    assert_eq!(ask("'2026-01-31T12:01:05Z', '2026-01-31T12:01:55Z'"), "5");
    assert_eq!(ask("TIMESTAMP '2026-01-31T12:01:05', TIMESTAMP '2026-01-31T12:01:15'"), "NULL");
    assert_eq!(ask("TIMESTAMP '2025-01-31T12:01:05', TIMESTAMP '2025-01-31T12:01:15'"), "NULL");
}

#[test]
fn what_cannot_be_told_says_why() {
    let bench = bench();
    let table = [
        ("increase(value, time)", "a time and a value first"),
        ("increase(time)", "a time and a value first"),
        ("increase(time, instance)", "a time and a value first"),
        ("rate(time, value, 5)", "write rate(time, value), rate(time, value, INTERVAL"),
        ("rate(time, value, now())", "write rate(time, value), rate(time, value, INTERVAL"),
        ("rate(time, value, INTERVAL '1 month')", "months differ in length"),
        ("rate(time, value, INTERVAL '0 seconds')", "not above zero"),
        ("rate(time, value, INTERVAL '1 minute')", "group by date_bin(INTERVAL '1m', time)"),
        ("rate(time, value, now(), now() - INTERVAL '1 minute')", "write the start first"),
        ("rate(time, value, time - INTERVAL '1 minute', time)", "differs within a group"),
        ("rate(DISTINCT time, value)", "leave DISTINCT out"),
    ];
    for (call, reason) in table {
        let error = bench.ask(&format!("SELECT {call} FROM hits WHERE instance = 'a'")).unwrap_err();
        assert!(error.contains(reason), "{call}: {error}");
    }
    let error = bench.ask("SELECT rate(time, value) FROM hits").unwrap_err();
    assert!(error.contains("group by every label"), "{error}");
}

/// The order of samples and how they were cut into parts changes nothing.
#[test]
fn parts_merge_exactly() {
    let samples: Vec<(i64, f64)> = (0..100).map(|at| (at * 10, ((at * 7) % 31) as f64)).collect();
    for reach in [Reach::Samples, Reach::Window] {
        let bounds = (reach == Reach::Window).then_some((0, 1000));
        let new = || Grown { growth: Growth::Increase, reach, bounds, samples: Vec::new() };
        let mut whole = new();
        samples.iter().for_each(|&(time, value)| whole.add(time, value));
        let mut merged = Grown { bounds: None, ..new() };
        for part in 0..7 {
            let mut grown = new();
            let of_part = samples.iter().rev().skip(part).step_by(7);
            of_part.for_each(|&(time, value)| grown.add(time, value));
            let state: Vec<ArrayRef> = grown.state().unwrap().iter().map(|s| s.to_array().unwrap()).collect();
            merged.merge_batch(&state).unwrap();
        }
        assert_eq!(merged.evaluate().unwrap(), whole.evaluate().unwrap());
        assert!(merged.size() >= 100 * 16);
    }
}

#[test]
fn memory_is_part_of_what_queries_may_hold() {
    let bench = Bench::new();
    let many: Vec<(i64, f64)> = (0..200_000).map(|at| (at, at as f64)).collect();
    bench.put("many", &[], &many);
    let small = crate::query::Engine::new(
        bench.store.clone(),
        crate::query::OtherTables::default(),
        1 << 20,
        crate::query::QueryLimits::default(),
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(small.collect("SELECT increase(time, value) FROM many")).unwrap_err().to_string();
    assert!(error.contains("more memory than queries may hold"), "{error}");
    assert_eq!(bench.rows("SELECT increase(time, value) FROM many"), ["199999"]);
}
