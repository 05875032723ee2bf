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
