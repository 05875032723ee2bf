//! Gaps over a real store.

use std::time::Duration;

use crate::query::Asked;
use crate::query::testing::{Bench, examples};

/// Host a at the minutes 0, 1 and 4, host b at 2 alone; noon on.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.put("load", &[("host", "a")], &[(0, 1.0), (30, 3.0), (60, 4.0), (240, 10.0)]);
    bench.put("load", &[("host", "b")], &[(125, 7.0)]);
    bench
}

const SPAN: &str = "time >= TIMESTAMP '2026-01-31T11:59:30' AND time < TIMESTAMP '2026-01-31T12:05:00'";

#[test]
fn examples_run() {
    let bench = Bench::new();
    bench.put("cpu_usage_user", &[("host", "a")], &[(0, 1.0), (60, 2.0)]);
    let statements = examples(include_str!("mod.rs"));
    assert_eq!(statements.len(), 3, "{statements:?}");
    for statement in &statements {
        bench.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(bench.rows(&statements[2]).len(), 31);
}

#[test]
fn every_group_has_every_bucket_of_the_span() {
    let found = bench().rows(&format!(
        "SELECT gapfill(INTERVAL '1 minute', time) AS t, host, avg(value), locf(avg(value)), interpolate(avg(value)), count(*) \
         FROM load WHERE {SPAN} GROUP BY t, host ORDER BY host, t"
    ));
    assert_eq!(
        found,
        [
            "-60 a NULL NULL NULL NULL",
            "0 a 2 2 2 2",
            "60 a 4 4 4 1",
            "120 a NULL 4 6 NULL",
            "180 a NULL 4 8 NULL",
            "240 a 10 10 10 1",
            "-60 b NULL NULL NULL NULL",
            "0 b NULL NULL NULL NULL",
            "60 b NULL NULL NULL NULL",
            "120 b 7 7 7 1",
            "180 b NULL 7 NULL NULL",
            "240 b NULL 7 NULL NULL",
        ]
    );
}

#[test]
fn without_bounds_a_group_goes_from_its_first_bucket_to_its_last() {
    let found = bench().rows("SELECT gapfill('1 minute', time) AS t, host FROM load GROUP BY 1, 2 ORDER BY 2, 1");
    assert_eq!(found, ["0 a", "60 a", "120 a", "180 a", "240 a", "120 b"]);
}

#[test]
fn bounds_are_found_where_they_are_said() {
    let bench = bench();
    let count = |from: &str| bench.rows(&format!("SELECT count(*) FROM ({from}) AS filled")).remove(0);
    let of =
        |rest: &str| format!("SELECT gapfill(INTERVAL '1 minute', time) AS t, max(value) AS m FROM {rest} GROUP BY t");
    for (rest, buckets) in [
        ("load WHERE time > '2026-01-31T12:00:00Z' AND time <= '2026-01-31T12:06:00Z'", "7"),
        (
            "load WHERE '2026-01-31T11:58:00Z' <= time AND time BETWEEN '2026-01-31T11:00:00Z' AND '2026-01-31T12:04:59Z'",
            "7",
        ),
        ("(SELECT time, value FROM load WHERE time >= '2026-01-31T11:55:00Z') AS l", "10"),
        ("(SELECT time AS time, value FROM load) AS l WHERE l.time >= '2026-01-31T11:55:00Z'", "10"),
        (
            "load AS l JOIN (SELECT DISTINCT host AS h FROM load) AS o ON l.host = o.h WHERE l.time >= '2026-01-31T11:55:00Z'",
            "10",
        ),
        ("load WHERE time >= TIMESTAMP '2026-01-31T12:04:00' - INTERVAL '1 minute'", "2"),
        ("load WHERE time < '2026-01-31T11:00:00Z'", "0"),
    ] {
        assert_eq!(count(&of(rest)), buckets, "{rest}");
    }
    let said = "SELECT gapfill(INTERVAL '1 minute', time, TIMESTAMP '2026-01-31T11:59:00', TIMESTAMP '2026-01-31T12:10:00') AS t \
                FROM load GROUP BY t";
    assert_eq!(count(said), "11");
}

#[test]
fn what_is_filled_may_be_worked_out_and_chosen_by() {
    let bench = bench();
    let found = bench.rows(&format!(
        "SELECT time_bucket_gapfill(INTERVAL '1 minute', time) AS t, round(interpolate(sum(value) / count(value)) * 10) AS v \
         FROM load WHERE host = 'a' AND {SPAN} GROUP BY t HAVING locf(max(value)) > 3 ORDER BY t DESC LIMIT 4"
    ));
    assert_eq!(found, ["240 100", "180 80", "120 60", "60 40"]);
    let twice = bench.rows(&format!(
        "WITH filled AS (SELECT gapfill(INTERVAL '2 minutes', time) AS t, locf(last_value(host ORDER BY time)) AS host \
         FROM load WHERE {SPAN} GROUP BY t) SELECT t, host, row_number() OVER (ORDER BY t) FROM filled ORDER BY t"
    ));
    assert_eq!(twice, ["-120 NULL 1", "0 a 2", "120 b 3", "240 a 4"]);
}

#[test]
fn a_bucket_may_be_a_month() {
    let bench = Bench::new();
    bench.put("load", &[], &[(0, 1.0), (100 * 86_400, 5.0)]);
    let found = bench.rows(
        "SELECT CAST(CAST(gapfill(INTERVAL '1 month', time) AS DATE) AS VARCHAR) AS t, interpolate(max(value)) FROM load GROUP BY gapfill(INTERVAL '1 month', time) ORDER BY t",
    );
    let months: Vec<&str> = found.iter().map(|row| row.split_once(' ').unwrap().0).collect();
    assert_eq!(months, ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01"]);
}

#[test]
fn gaps_of_any_length_are_made_a_batch_at_a_time() {
    let bench = bench();
    let found = bench.rows(
        "SELECT count(*), count(DISTINCT t), sum(m), count(v) FROM (SELECT gapfill(INTERVAL '1 millisecond', time) AS t, host, max(value) AS m, \
         interpolate(max(value)) AS v FROM load WHERE time >= '2026-01-31T12:00:00Z' AND time < '2026-01-31T12:05:00Z' GROUP BY t, host) AS f",
    );
    assert_eq!(found, ["600000 300000 25 240002"]);
}

#[test]
fn what_would_never_end_can_be_ended() {
    let bench = bench();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sql = "SELECT gapfill(INTERVAL '1 nanosecond', time) AS t, host, count(*) FROM load \
               WHERE time >= '2026-01-01' AND time < '2027-01-01' GROUP BY t, host ORDER BY t DESC LIMIT 3";
    let asked = Asked { timeout: Some(Duration::from_millis(300)), ..Asked::plainly(sql) };
    let ended = runtime.block_on(async {
        match bench.engine.ask(asked).await {
            Ok(answer) => answer.collect().await.map(|_| ()),
            Err(error) => Err(error),
        }
    });
    assert!(ended.is_err(), "a year of nanoseconds was made");
}

#[test]
fn a_call_that_means_nothing_is_told_so() {
    let bench = bench();
    for (sql, told) in [
        ("SELECT gapfill(INTERVAL '1 minute', time) FROM load", "gapfill stands in GROUP BY"),
        ("SELECT locf(value) FROM load", "locf stands around an aggregate"),
        ("SELECT host, interpolate(avg(value)) FROM load GROUP BY host", "interpolate stands around an aggregate"),
        ("SELECT gapfill(INTERVAL '0 minutes', time) AS t FROM load GROUP BY t", "over 0"),
        ("SELECT gapfill(value, time) AS t FROM load GROUP BY t", "write gapfill(INTERVAL '1 minute', time)"),
        (
            "SELECT gapfill(INTERVAL '1 minute', time) AS t, interpolate(max(host)) FROM load GROUP BY t",
            "interpolate takes a number",
        ),
    ] {
        let error = bench.ask(sql).expect_err(sql);
        assert!(error.contains(told), "{sql}: {error}");
    }
}
