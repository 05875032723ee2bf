//! What is written and what is wrong with it, what is asked of the store, what is told.

use super::rules::{DAY, HOUR, MINUTE};
use super::tests::{File, at, minutes, slo, specs};
use super::*;
use crate::model::Span;

// --- what is written -----------------------------------------------------------------------------------------------------

#[test]
fn the_objectives_that_come_with_the_program_are_well_and_say_what_was_asked() {
    let slos = Slo::from_specs(&specs(DEFAULT_SLOS)).unwrap();
    let objectives: Vec<(&str, f64, i64)> =
        slos.iter().map(|slo| (slo.name.as_str(), slo.objective, slo.window / DAY)).collect();
    let expected = [
        ("latency-p50", 50.0, 30),
        ("latency-p95", 95.0, 30),
        ("latency-p99", 99.0, 30),
        ("http-latency", 95.0, 30),
        ("availability", 99.9, 30),
        ("http-errors", 99.0, 30),
        ("throughput", 99.0, 30),
        ("cache-hits", 99.0, 30),
        ("memory", 99.0, 30),
        ("cpu", 99.0, 30),
    ];
    assert_eq!(objectives, expected);
}

#[test]
fn every_fault_is_told_at_once_with_its_key_and_remedy() {
    let text = r#"
        [[slo]]
        objective = 100
        [[slo]]
        name = "a"
        objective = 99.9
        window = "1m"
        every = "1500ms"
        group_by = ["time", "b", "b"]
        where = "a = 'x"
        latency = { metric = "took", below = "1s", quantile = 2 }
        threshold = { metric = "b", below = 1 }
        [[slo]]
        name = "a"
        objective = 99
        latency = { metric = "took", below = "1s", quantile = 2 }
        alerts = [{ severity = "page", long = "60d" }, { severity = "ticket", long = "1h", short = "2h", burn = 0 }]
        [[slo]]
        name = "b"
        objective = 99
        availability = { total = "t", good = "g", errors = "e" }
        [[slo]]
        name = "c"
        objective = 99
        availability = { total = "t", errors_where = "a = 1) OR (b = 1" }
        [[slo]]
        name = "d"
        objective = 99
        throughput = { metric = "", at_least = 10, at_most = 1 }
        [[slo]]
        name = "e"
        objective = 99
        sql = "SELECT 1; DROP TABLE b"
        where = "a = 1"
    "#;
    let faults = Slo::from_specs(&specs(text)).unwrap_err();
    let told: Vec<(usize, &str)> = faults.iter().map(|fault| (fault.place, fault.key)).collect();
    let expected = [
        (0, "name"),
        (0, "objective"),
        (0, "slo"),
        (1, "window"),
        (1, "every"),
        (1, "where"),
        (1, "group_by"),
        (1, "group_by"),
        (1, "group_by"),
        (1, "slo"),
        (2, "long"),
        (2, "burn"),
        (2, "short"),
        (2, "burn"),
        (2, "name"),
        (2, "quantile"),
        (2, "below"),
        (3, "availability"),
        (4, "errors_where"),
        (5, "metric"),
        (5, "at_least"),
        (6, "where"),
        (6, "sql"),
    ];
    assert_eq!(told, expected, "{faults:#?}");
    assert_eq!(faults[1].to_string().split(": ").take(2).collect::<Vec<_>>(), ["slo number 1", "objective"]);
}

#[test]
fn keys_that_there_are_not_and_values_of_another_kind_are_refused() {
    let table = [
        ("objektive = 99", "unknown field `objektive`"),
        ("latency = { metric = \"a\", under = 1 }", "unknown field `under`"),
        ("latency = { metric = \"a\", below = \"soon\" }", "`soon` is no time"),
        ("latency = { metric = \"a\", below = true }", "a number, or a time"),
        ("window = \"month\"", "month"),
        ("alerts = [{ severity = \"wake\", long = \"1h\" }]", "unknown variant `wake`"),
    ];
    for (keys, expected) in table {
        let error = toml::from_str::<File>(&format!("[[slo]]\n{keys}")).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{keys}: {error:?}");
    }
}

#[test]
fn alerts_can_be_written_by_burn_rate_or_share_of_the_budget() {
    let written = slo("availability = { up = \"up\" }\nalerts = [{ severity = \"page\", long = \"1h\", burn = 10 }, \
         { severity = \"ticket\", long = \"3d\", short = \"1h\", budget = 10 }]");
    let rules: Vec<_> = written.rules.iter().map(|rule| (rule.severity, rule.short / MINUTE, rule.burn)).collect();
    assert_eq!(rules, [(Severity::Page, 5, 10.0), (Severity::Ticket, 60, 1.0)]);
    assert_eq!(slo("availability = { up = \"up\" }\nalerts = []").rules, []);
}

// --- what is told ------------------------------------------------------------------------------------------------------------

#[test]
fn a_row_says_how_it_stands_in_a_sentence() {
    let slo = slo("availability = { up = \"up\" }\ngroup_by = [\"service\"]");
    let group = [Some("cart".to_owned())];
    let told = |rows: Vec<Count>, moment| SloRow::new(&slo, &group, &History::new(&slo, rows).at(at(moment))).told;
    let table = [
        (
            minutes(30 * DAY, |minute| f64::from(u8::from(minute >= 43_190))),
            "a of service=cart: 99.977 % of the last 30d was good, 99.9 % is the objective; of the error budget 76.852 % is \
             left, 33m 12s of 43m 12s; it burns 166.7 times as fast as it may and is spent at 1970-01-31T03:19:12Z; page: over \
             1h and 5m it burns more than 14.4 times as fast",
        ),
        (
            minutes(15 * DAY, |_| 0.002),
            "a of service=cart: 99.8 % of the last 30d was good, 99.9 % is the objective; the error budget of 43m 12s is spent \
             2.0 times; since 1970-01-01T00:01:00Z; data covers 50 % of the window",
        ),
        (
            vec![Count { time: at(0), good: 0.0, total: 0.0 }],
            "a of service=cart: nothing was asked in the last 30d, as far as is known",
        ),
        (Vec::new(), "a of service=cart: nothing is known of the last 30d"),
    ];
    for (rows, expected) in table {
        assert_eq!(told(rows, 30 * DAY), expected);
    }
}

#[test]
fn rows_are_parted_by_group() {
    let count = |time| Count { time: at(time), good: 1.0, total: 1.0 };
    let group = |name: &str| vec![Some(name.to_owned())];
    let groups =
        by_group([(group("b"), count(1)), (group("a"), count(1)), (group("b"), count(2)), (vec![None], count(1))]);
    let sizes: Vec<_> = groups.iter().map(|(group, rows)| (group[0].as_deref(), rows.len())).collect();
    assert_eq!(sizes, [(None, 1), (Some("a"), 1), (Some("b"), 2)]);
}

// --- SQL ---------------------------------------------------------------------------------------------------------------------

fn stored(metrics: &[(&str, &[&str], &[f64])]) -> Known {
    let shape = |labels: &[&str], bounds: &[f64]| Shape {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        bounds: bounds.to_vec(),
    };
    metrics.iter().map(|(name, labels, bounds)| ((*name).to_owned(), shape(labels, bounds))).collect()
}

#[test]
fn names_are_quoted_and_what_is_missing_is_told() {
    let hour = Span::new(at(0), at(HOUR));
    let odd = slo("availability = { up = 'u\"p' }\ngroup_by = [\"a b\"]\nwhere = \"x = 'y'\"");
    let text = odd.sql(hour, &stored(&[("u\"p", &["a b"], &[])])).unwrap().text;
    for part in
        ["FROM \"u\"\"p\"", "CAST(\"a b\" AS VARCHAR) AS \"a b\"", "(\nx = 'y'\n)", "TIMESTAMP '1970-01-01T01:00:00Z'"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let table = [
        ("availability = { up = 'up' }", stored(&[]), "there is no metric `up`"),
        ("availability = { up = 'up' }\ngroup_by = ['a']", stored(&[("up", &["b"], &[])]), "`up` has no label `a`"),
        ("availability = { total = 't', good = 'g' }", stored(&[("t", &[], &[])]), "there is no metric `g`"),
        (
            "latency = { metric = 'd_seconds_bucket', below = '1ms' }",
            stored(&[("d_seconds_bucket", &["le"], &[0.1, f64::INFINITY])]),
            "no bound `le` up to 0.001",
        ),
    ];
    for (keys, known, expected) in table {
        let error = slo(keys).sql(hour, &known).unwrap_err().to_string();
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

#[test]
fn what_is_taken_for_something_else_is_noted() {
    let hour = Span::new(at(0), at(HOUR));
    let table = [
        ("availability = { total = 't', errors = 'e' }", stored(&[("t", &[], &[])]), Some("taken for no errors")),
        ("availability = { total = 't', errors = 'e' }", stored(&[("t", &[], &[]), ("e", &[], &[])]), None),
        (
            "latency = { metric = 'd_seconds_bucket', below = '150ms' }",
            stored(&[("d_seconds_bucket", &["le"], &[0.1, 0.25, f64::INFINITY])]),
            Some("counted is up to 0.1"),
        ),
        (
            "latency = { metric = 'd_seconds_bucket', below = '250ms' }",
            stored(&[("d_seconds_bucket", &["le"], &[0.1, 0.25, f64::INFINITY])]),
            None,
        ),
    ];
    for (keys, known, expected) in table {
        let notes = slo(keys).sql(hour, &known).unwrap().notes;
        let is_told = expected.map_or(notes.is_empty(), |part| notes.len() == 1 && notes[0].contains(part));
        assert!(is_told, "{keys}: {notes:?}");
    }
}

#[test]
fn counters_are_counted_by_series_from_a_sample_before_the_span_on() {
    let hour = Span::new(at(HOUR), at(2 * HOUR));
    let errors = slo("availability = { total = 't', errors_where = \"status >= '500'\" }");
    let text = errors.sql(hour, &stored(&[("t", &["path", "status"], &[])])).unwrap().text;
    let parts = [
        "lag(value) OVER (PARTITION BY \"path\", \"status\" ORDER BY time)",
        "time >= TIMESTAMP '1970-01-01T00:55:00Z' AND time < TIMESTAMP '1970-01-01T02:00:00Z'",
        "__before IS NOT NULL AND time >= TIMESTAMP '1970-01-01T01:00:00Z'",
        "(\nstatus >= '500'\n) AS __part",
        "SELECT time, total - part AS good, total",
    ];
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    let good = slo("availability = { total = 't', good = 'g' }");
    let text = good.sql(hour, &stored(&[("t", &[], &[]), ("g", &[], &[])])).unwrap().text;
    assert!(text.contains("SELECT time, part AS good, total"), "{text}");
    let alone = errors.sql(hour, &stored(&[("t", &[], &[])])).unwrap().text;
    assert!(alone.contains("lag(value) OVER (ORDER BY time)"), "{alone}");
}

#[test]
fn a_query_of_ones_own_gets_the_bounds_and_is_put_in_buckets() {
    let slo = slo("every = '5m'\nsql = 'SELECT time, good, total FROM m WHERE time >= $from AND time < $to;'");
    let text = slo.sql(Span::new(at(0), at(HOUR)), &Known::new()).unwrap().text;
    let inner = "m WHERE time >= TIMESTAMP '1970-01-01T00:00:00Z' AND time < TIMESTAMP '1970-01-01T01:00:00Z'\n)";
    for part in [inner, "INTERVAL '300 seconds'", "sum(CAST(good AS DOUBLE)) AS good"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn what_is_known_of_metrics_is_read_off_their_columns() {
    assert!(columns_sql(["it's", "b"]).ends_with("IN ('it''s', 'b')"));
    let columns = [("a", "time"), ("a", "value"), ("b", "host"), ("b", "time"), ("b", "value")];
    let found = known(columns.map(|(table, column)| (table.to_owned(), column.to_owned())));
    assert_eq!(found, stored(&[("a", &[], &[]), ("b", &["host"], &[])]));
}
