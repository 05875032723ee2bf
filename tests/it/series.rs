//! Series at scale: predicates are answered from lists of series, labels are counted as they come, sources have budgets.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Chance, Server};

type Labels = BTreeMap<&'static str, String>;

/// Series of random labels, some without, as line protocol and as what they are.
fn random_series(chance: &mut Chance) -> Vec<(String, Labels)> {
    let mut series = BTreeMap::new();
    for at in 0..300 {
        let metric = format!("m{}", chance.below(4));
        let mut labels = Labels::new();
        if chance.below(4) > 0 {
            labels.insert("host", format!("web-{}", chance.below(5)));
        }
        if chance.below(2) > 0 {
            labels.insert("region", ["eu", "us", "web-1"][chance.below(3) as usize].to_owned());
        }
        if chance.below(3) > 0 {
            labels.insert("own", format!("{at:03}"));
        }
        series.insert((metric, labels), ());
    }
    series.into_keys().collect()
}

#[test]
fn predicates_leave_the_series_for_which_they_hold() {
    let mut chance = Chance::new("predicates");
    let folder = tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("PLIMSOLL__COLLECT__SYSTEM", "false")]);
    let series = random_series(&mut chance);
    let lines: Vec<String> = series
        .iter()
        .map(|(metric, labels)| {
            let tags: String = labels.iter().map(|(name, value)| format!(",{name}={value}")).collect();
            format!("{metric}{tags} v=1 1700000000000000000")
        })
        .collect();
    server.write(&lines.join("\n"));
    type Holds = fn(&str, &dyn Fn(&str) -> Option<String>) -> bool;
    let cases: [(&str, Holds); 19] = [
        ("metric = 'm1_v'", |m, _| m == "m1_v"),
        ("metric <> 'm1_v'", |m, _| m != "m1_v"),
        ("metric = 'gone'", |_, _| false),
        ("host = 'web-1'", |_, l| l("host").as_deref() == Some("web-1")),
        ("'web-1' = host AND metric IN ('m0_v', 'm2_v')", |m, l| {
            l("host").as_deref() == Some("web-1") && ["m0_v", "m2_v"].contains(&m)
        }),
        ("host <> 'web-1'", |_, l| l("host").is_some_and(|host| host != "web-1")),
        ("host IN ('web-1', 'web-2', 'web-3', 'web-9')", |_, l| {
            l("host").is_some_and(|host| ["web-1", "web-2", "web-3"].contains(&&*host))
        }),
        ("host NOT IN ('web-1', 'web-2', 'web-3', 'web-9')", |_, l| {
            l("host").is_some_and(|host| !["web-1", "web-2", "web-3"].contains(&&*host))
        }),
        ("host IS NULL", |_, l| l("host").is_none()),
        ("host IS NOT NULL AND region IS NULL", |_, l| l("host").is_some() && l("region").is_none()),
        ("host IS DISTINCT FROM 'web-1'", |_, l| l("host").as_deref() != Some("web-1")),
        ("own LIKE '1%'", |_, l| l("own").is_some_and(|own| own.starts_with('1'))),
        ("own NOT LIKE '1%'", |_, l| l("own").is_some_and(|own| !own.starts_with('1'))),
        ("own ~ '^.[05]' AND metric = 'm3_v'", |m, l| {
            m == "m3_v" && l("own").is_some_and(|own| "05".contains(&own[1..2]))
        }),
        ("host = 'web-1' OR region = 'eu'", |_, l| {
            l("host").as_deref() == Some("web-1") || l("region").as_deref() == Some("eu")
        }),
        ("NOT (host = 'web-1' OR region = 'eu')", |_, l| {
            l("host").is_some_and(|host| host != "web-1") && l("region").is_some_and(|region| region != "eu")
        }),
        ("host = region", |_, l| l("host").is_some() && l("host") == l("region")),
        ("coalesce(host, region) = 'web-1'", |_, l| l("host").or_else(|| l("region")).as_deref() == Some("web-1")),
        ("upper(host) = 'WEB-2' OR length(own) = 3 AND own > '150'", |_, l| {
            l("host").as_deref() == Some("web-2") || l("own").is_some_and(|own| *own > *"150")
        }),
    ];
    for (predicate, holds) in cases {
        let rows = server.sql(&format!("SELECT metric, host, region, own FROM metrics WHERE {predicate}"));
        let told = |row: &Value, name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let names = ["metric", "host", "region", "own"];
        let mut found: Vec<String> = rows.iter().map(|row| names.map(|name| told(row, name)).join(" ")).collect();
        let mut expected: Vec<String> = series
            .iter()
            .filter(|(metric, labels)| holds(&format!("{metric}_v"), &|name| labels.get(name).cloned()))
            .map(|(metric, labels)| {
                let label = |name| labels.get(name).map_or("-", String::as_str);
                format!("{metric}_v {} {} {}", label("host"), label("region"), label("own"))
            })
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{predicate}");
    }
    labels_and_metrics_are_counted(&server, &series);
}

fn of_row(row: &Value, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("no number {column}: {row}"))
}

fn labels_and_metrics_are_counted(server: &Server, series: &[(String, Labels)]) {
    let rows = server.sql("SELECT * FROM system.labels ORDER BY values DESC, label LIMIT 5");
    assert_eq!(rows[0]["label"], "own", "the label with most values: {rows:?}");
    for row in &rows {
        let name = row["label"].as_str().unwrap();
        let having: Vec<&str> = series.iter().filter_map(|(_, labels)| Some(labels.get(name)?.as_str())).collect();
        let mut values = having.clone();
        values.sort_unstable();
        values.dedup();
        assert_eq!(of_row(row, "values"), values.len() as f64, "{row}");
        assert_eq!(of_row(row, "series"), having.len() as f64, "{row}");
        assert!((of_row(row, "share") - having.len() as f64 / series.len() as f64).abs() < 1e-12, "{row}");
        assert!(values.contains(&row["example"].as_str().unwrap()), "{row}");
        let metric = row["metric"].as_str().unwrap().strip_suffix("_v").unwrap();
        assert!(series.iter().any(|(of, labels)| of == metric && labels.contains_key(name)), "{row}");
    }
    let of = |metric: &str| series.iter().filter(|(of, _)| format!("{of}_v") == metric).count() as f64;
    let metrics = server.sql("SELECT metric, series FROM system.metrics");
    assert_eq!(metrics.len(), 4);
    metrics.iter().for_each(|row| assert_eq!(of_row(row, "series"), of(row["metric"].as_str().unwrap()), "{row}"));
    let by_series = server.sql("SELECT metric, count(*) AS series FROM system.series GROUP BY metric");
    by_series.iter().for_each(|row| assert_eq!(of_row(row, "series"), of(row["metric"].as_str().unwrap()), "{row}"));
    let one = server.sql("SELECT number, series FROM system.series WHERE metric = 'm1_v' LIMIT 3");
    assert_eq!(one.len(), 3);
    assert!(one.iter().all(|row| row["series"].as_str().unwrap().starts_with("m1_v")), "{one:?}");
}

/// Series a source may bring, and the store may hold, in the tests of budgets.
const BUDGET: [(&str, &str); 3] = [
    ("PLIMSOLL__COLLECT__SYSTEM", "false"),
    ("PLIMSOLL__INGEST__SERIES_PER_SOURCE", "3"),
    ("PLIMSOLL__INGEST__SERIES_MAX", "8"),
];

/// Lines `m,id=FROM v=TIME` to `m,id=TO v=TIME`.
fn ids(from: u32, to: u32, time: u32) -> String {
    (from..=to).map(|id| format!("m,id={id} v={time} 17000000{time:02}000000000\n")).collect()
}

#[test]
fn a_source_over_its_budget_is_refused_new_series_and_keeps_the_known() {
    let folder = tempdir().unwrap();
    let server = Server::start_with(folder.path(), &BUDGET);
    let write = |source: Option<&str>, lines: &str| {
        let headers: Vec<(&str, &str)> = source.iter().map(|&name| ("X-Plimsoll-Source", name)).collect();
        server.post("/write", &headers, lines.as_bytes())
    };
    assert_eq!(write(Some("a"), &ids(1, 3, 1)).status, 204);

    let answer = write(Some("a"), &ids(2, 5, 2));
    let told = answer.json();
    assert_eq!((answer.status, &told["refused"], &told["line"]), (400, &Value::from(2), &Value::from(3)), "{told}");
    let error = told["error"].as_str().unwrap();
    for part in ["2 samples stored", "m_v{id=\"4\"}", "source a", "3 new series", "ingest.series_per_source"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(write(Some("a"), "m,id=1 v=9,w=9 1700000003000000000").status, 400, "a new field is a new series");
    let known = server.sql("SELECT count(*) AS n FROM metrics WHERE time >= '2023-11-14T22:13:22Z'");
    assert_eq!(of_row(&known[0], "n"), 3.0, "what was known went on");

    assert_eq!(write(Some("b"), &ids(4, 5, 2)).status, 204, "another source has a budget of its own");
    assert_eq!(write(Some("a"), &ids(4, 5, 3)).status, 204, "and what it brought is known to all");
    assert_eq!(write(None, &ids(1, 8, 4)).status, 204, "a client without a name is known by its address");
    let answer = write(Some("c"), &ids(9, 9, 5));
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(answer.status == 400 && error.contains("8 series") && error.contains("ingest.series_max"), "{error}");
    let event = r#"{"type": "e", "value": 1, "timestamp": 1700000000000}"#;
    let told = server.post("/api/performance", &[], event.as_bytes()).text();
    assert!(told.contains("ingest.series_max"), "in whatever format: {told}");

    let rows = server.sql("SELECT * FROM system.sources ORDER BY source");
    let row = |row: &Value| {
        let numbers = ["series", "series_of_day", "budget", "samples", "refused_series", "refused_samples"];
        let numbers = numbers.map(|column| of_row(row, column).to_string()).join(" ");
        format!("{} {numbers} {}", row["source"].as_str().unwrap(), row["last_refused"].as_str().unwrap_or("-"))
    };
    let told: Vec<String> = rows.iter().map(row).collect();
    assert_eq!(told, ["127.0.0.1 3 3 3 8 1 1 e", "a 3 3 3 8 3 3 m_w", "b 2 2 3 2 0 0 -", "c 0 0 3 0 1 1 m_v"]);
    let text = server.get("/metrics").text();
    for line in
        [r#"plimsoll_source_refused_samples_total{source="a"} 3"#, r#"plimsoll_source_series_budget{source="b"} 3"#]
    {
        assert!(text.lines().any(|told| told == line), "{line}: {text}");
    }
    drop(server);

    let server = Server::start_with(folder.path(), &[BUDGET[0], BUDGET[1]]);
    let told = server.post("/write", &[("X-Plimsoll-Source", "a")], ids(9, 11, 6).as_bytes());
    assert_eq!(told.status, 204, "a start gives a new budget: {}", told.text());
}
