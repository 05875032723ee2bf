//! What is said of tracks is what the rows say: each statement over the tables, and over the same rows in memory.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use crate::query::testing::Bench;
use crate::world::Chance;

/// Two measurements: one whose fields have the same times, one with gaps, fields that are not everywhere, and labels of some
/// hosts only; some at rest, some in memory, some sent twice.
fn filled(chance: &Chance) -> Bench {
    let bench = Bench::new();
    for part in 0..3 {
        for host in ["a", "b", "c"] {
            let zone = if host == "c" { "west" } else { "east" };
            let rows: Vec<(i64, Vec<f64>)> = (0..200)
                .map(|n| {
                    let second = part * 2000 + n * 10;
                    (second, (0..3).map(|_| chance.below(1000) as f64 / 8.0).collect())
                })
                .collect();
            let rows: Vec<(i64, &[f64])> = rows.iter().map(|(second, values)| (*second, values.as_slice())).collect();
            bench.put_fields("cpu", &["user", "system", "idle"], &[("host", host), ("zone", zone)], &rows);
            for field in ["used", "free"] {
                let some = chance.below(60) as usize;
                let odd: Vec<(i64, f64)> =
                    (0..some).map(|_| (chance.below(6000) as i64, chance.below(100) as f64 - 50.0)).collect();
                let odd: Vec<(i64, [f64; 1])> = odd.into_iter().map(|(second, value)| (second, [value])).collect();
                let odd: Vec<(i64, &[f64])> = odd.iter().map(|(second, value)| (*second, &value[..])).collect();
                let labels: &[(&str, &str)] =
                    if host == "a" { &[("host", "a")] } else { &[("host", host), ("disk", "sda")] };
                bench.put_fields("disk", &[field], labels, &odd);
            }
        }
        if part < 2 {
            bench.store.flush().unwrap();
        }
    }
    bench
}

/// Buckets that are made of whole stretches, which files have summaries of.
const SUMMARISED: [&str; 7] = [
    "SELECT date_trunc('hour', time) AS t, host, avg(\"user\") AS u, max(system) AS s FROM cpu GROUP BY t, host ORDER BY t, host",
    "SELECT date_bin('15 minutes', time) AS t, zone, sum(idle) AS i, count(idle) AS n, min(system) AS l FROM cpu GROUP BY t, zone ORDER BY t, zone",
    "SELECT date_bin('30 minutes', time, TIMESTAMP '2026-01-31T12:15:00') AS t, sum(\"user\") AS n FROM cpu GROUP BY t ORDER BY t",
    "SELECT date_trunc('day', time) AS t, max(\"user\") AS m, min(\"user\") AS l FROM cpu GROUP BY t ORDER BY t",
    "SELECT host, sum(\"user\") AS s, count(\"user\") AS n FROM cpu WHERE time >= TIMESTAMP '2026-01-31T12:07:13' AND time < TIMESTAMP '2026-01-31T13:21:50' GROUP BY host ORDER BY host",
    "SELECT date_trunc('hour', time) AS t, avg(\"user\") AS m FROM cpu WHERE time >= TIMESTAMP '2026-01-31T12:15:00' AND time <= TIMESTAMP '2026-01-31T13:30:00' GROUP BY t ORDER BY t",
    "SELECT metric, count(*) AS n, sum(value) AS s, max(value) AS m FROM metrics GROUP BY metric ORDER BY metric",
];

const AGGREGATES: [&str; 12] = [
    "SELECT date_trunc('minute', time) AS t, max(\"user\") AS m FROM cpu WHERE host = 'a' GROUP BY t ORDER BY t",
    "SELECT date_trunc('hour', time) AS t, host, avg(\"user\") AS u, avg(system) AS s FROM cpu GROUP BY t, host ORDER BY t, host",
    "SELECT date_bin('7 minutes', time) AS t, zone, sum(idle) AS i, count(idle) AS n, min(system) AS l FROM cpu GROUP BY t, zone ORDER BY t, zone",
    "SELECT date_bin('90 seconds', time, TIMESTAMP '2026-01-31T12:00:10') AS t, count(\"user\") AS n FROM cpu GROUP BY t ORDER BY t",
    "SELECT host, max(used) AS m, min(free) AS f, count(used) AS n FROM disk GROUP BY host ORDER BY host",
    "SELECT date_trunc('minute', time) AS t, disk, avg(free) AS f FROM disk GROUP BY t, disk ORDER BY t, disk",
    "SELECT date_trunc('minute', time) AS t, host FROM disk GROUP BY t, host ORDER BY t, host",
    "SELECT max(\"user\") AS m, min(\"user\") AS l, sum(\"user\") AS s, avg(\"user\") AS a, count(\"user\") AS n FROM cpu",
    "SELECT max(\"user\") AS m, count(\"user\") AS n, sum(system) AS s FROM cpu WHERE host = 'none'",
    "SELECT metric, count(*) AS n, sum(value) AS s FROM metrics GROUP BY metric ORDER BY metric",
    "SELECT host, count(*) AS n, max(value) AS m FROM cpu_user WHERE time < TIMESTAMP '2026-01-31T12:40:00' GROUP BY host ORDER BY host",
    "SELECT date_trunc('minute', time) AS t, max(\"user\") AS m FROM cpu WHERE time < TIMESTAMP '2026-01-31T13:00:00' GROUP BY t ORDER BY t DESC LIMIT 5",
];

const LAST_ROWS: [&str; 5] = [
    "SELECT DISTINCT ON (host) * FROM cpu ORDER BY host, time DESC",
    "SELECT DISTINCT ON (host) host, time, idle FROM cpu WHERE time < TIMESTAMP '2026-01-31T12:50:05' ORDER BY host, time DESC",
    "SELECT host, last_value(used ORDER BY time) AS u, last_value(time ORDER BY time) AS t FROM disk GROUP BY host ORDER BY host",
    "SELECT host, first_value(free ORDER BY time DESC) AS f FROM disk GROUP BY host ORDER BY host",
    "SELECT zone, last_value(time ORDER BY time) AS t FROM cpu WHERE zone = 'west' GROUP BY zone ORDER BY zone",
];

/// Those that ask something else: they are answered from rows.
const OTHERS: [&str; 10] = [
    "SELECT count(*) AS n FROM cpu",
    "SELECT host, count(DISTINCT \"user\") AS n FROM cpu GROUP BY host ORDER BY host",
    "SELECT host, max(\"user\" + 1) AS m FROM cpu GROUP BY host ORDER BY host",
    "SELECT host, max(\"user\") AS m FROM cpu WHERE system > 50 GROUP BY host ORDER BY host",
    "SELECT * FROM cpu WHERE \"user\" > 100.0 AND 50.0 >= system ORDER BY time, host",
    "SELECT time, host, free FROM disk WHERE used < 0.0 ORDER BY time, host",
    "SELECT count(*) AS n FROM disk WHERE used <> 3.0 AND host <> 'b'",
    "SELECT date_trunc('month', time) AS t, max(\"user\") AS m FROM cpu GROUP BY t ORDER BY t",
    "SELECT host, max(\"user\") FILTER (WHERE zone = 'east') AS m FROM cpu GROUP BY host ORDER BY host",
    "SELECT host, first_value(\"user\" ORDER BY time) AS f FROM cpu GROUP BY host ORDER BY host",
];

/// The same tables in memory, without what is known of their layout.
fn in_memory(bench: &Bench) -> SessionContext {
    let context = SessionContext::new();
    for table in ["cpu", "disk", "metrics", "cpu_user"] {
        let rows = bench.ask(&format!("SELECT * FROM {table}")).unwrap();
        let table_of = MemTable::try_new(rows[0].schema(), vec![rows]).unwrap();
        context.register_table(table, Arc::new(table_of)).unwrap();
    }
    context
}

/// Numbers rounded, since sums are added in another order.
fn told(batches: &[arrow::array::RecordBatch]) -> String {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let rounded = |cell: &str| match cell.trim().parse::<f64>() {
        Ok(number) => format!("{number:.9}"),
        Err(_) => cell.trim().to_owned(),
    };
    text.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(rounded).collect::<Vec<_>>().join("|") + "\n")
        .collect()
}

#[test]
fn what_is_said_of_tracks_is_what_the_rows_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for seed in 0..12 {
        let bench = filled(&Chance::seeded(seed));
        let memory = in_memory(&bench);
        let statements = [
            (AGGREGATES.as_slice(), "AggregateByTrack"),
            (&SUMMARISED, "whole stretches from the summaries of files"),
            (&LAST_ROWS, "LastRows"),
            (&OTHERS, "Scan"),
        ];
        let merged = [false, true].into_iter().flat_map(|merged| statements.map(|told| (merged, told)));
        for (merged, (statements, plan)) in merged {
            if merged {
                bench.store.compact().unwrap();
            }
            for sql in statements {
                let explained = bench.rows(&format!("EXPLAIN {sql}")).join("\n");
                assert!(explained.contains(plan), "{sql}:\n{explained}");
                let is_of_rows = plan == "Scan";
                assert_eq!(
                    explained.contains("AggregateByTrack") || explained.contains("LastRows"),
                    !is_of_rows,
                    "{sql}:\n{explained}"
                );
                let found = told(&bench.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}")));
                let wanted = runtime.block_on(async { memory.sql(sql).await.unwrap().collect().await.unwrap() });
                assert_eq!(found, told(&wanted), "seed {seed}: {sql}");
            }
        }
    }
}

#[test]
fn a_time_bucket_is_a_bin_of_dates() {
    let bench = filled(&Chance::seeded(3));
    let told = |function: &str| {
        let sql =
            format!("SELECT {function}('5 minutes', time) AS t, max(\"user\") AS m FROM cpu GROUP BY t ORDER BY t");
        assert!(bench.rows(&format!("EXPLAIN {sql}")).join("\n").contains("AggregateByTrack"));
        bench.rows(&sql)
    };
    assert_eq!(told("time_bucket"), told("date_bin"));
}
