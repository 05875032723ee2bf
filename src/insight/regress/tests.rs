//! What tools wrote (Criterion 0.5, hyperfine 1.15; k6 as its documentation has it), and what a report says of it.

use std::collections::BTreeMap;

use super::*;
use crate::stats::compare::{Better, Centre, CompareOptions, Verdict};

const QUERY: &str = "target/criterion/db/query/new";
const SCAN: &str = "target/criterion/db/scan/500/new";

fn read(files: &[(&str, &str)]) -> Result<Results, String> {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    read_results(files).map_err(|error| error.to_string())
}

/// Of each metric: its name, unit, how many samples, and the first or what was stated.
fn outline(results: &Results) -> Vec<(&str, &str, usize, f64)> {
    let first = |measured: &Measured| {
        measured.samples.first().copied().or(measured.stated.map(|stated| stated.centre)).unwrap_or(f64::NAN)
    };
    let metrics = results.metrics.iter();
    metrics.map(|(name, found)| (name.as_str(), found.unit.as_str(), found.samples.len(), first(found))).collect()
}

#[test]
fn files_of_every_tool_are_told_by_what_they_hold() {
    let hyperfine = include_str!("fixtures/hyperfine.json");
    let long = "metric,value,unit,run\nlatency,1.5,ms,1\nlatency,2.5,ms,2\n\"a, \"\"b\"\"\",7,,1\n";
    let own =
        r#"{"plimsoll_results": 1, "name": "n", "time": "t", "metrics": {"x": {"unit": "B", "samples": [4, 5]}}}"#;
    type Outline<'a> = &'a [(&'a str, &'a str, usize, f64)];
    let table: [(&str, Outline); 7] = [
        (hyperfine, &[("sleep 0.01", "s", 6, 0.011_239_234), ("sleep 0.012", "s", 6, 0.013_101_09)]),
        (long, &[("a, \"b\"", "", 1, 7.0), ("latency", "ms", 2, 1.5)]),
        (
            "commit,latency,throughput\r\ne38,1.5,900\r\n95a,,910\r\n",
            &[("latency", "", 1, 1.5), ("throughput", "", 2, 900.0)],
        ),
        (own, &[("x", "B", 2, 4.0)]),
        (
            include_str!("fixtures/k6.ndjson"),
            &[
                ("http_req_duration", "ms", 2, 459.865_729),
                ("http_req_failed", "", 2, 0.0),
                ("http_reqs", "1/s", 1, 2.0),
            ],
        ),
        (
            include_str!("fixtures/k6-summary-export.json"),
            &[
                ("checks", "", 0, 0.5),
                ("http_req_duration", "ms", 0, 110.47),
                ("http_req_duration p(90)", "ms", 0, 203.54),
                ("http_req_duration p(95)", "ms", 0, 215.95),
                ("http_req_failed", "", 0, 0.0),
                ("http_reqs", "1/s", 0, 4.369_38),
            ],
        ),
        (
            include_str!("fixtures/k6-handle-summary.json"),
            &[
                ("http_req_duration", "ms", 0, 110.47),
                ("http_req_duration p(90)", "ms", 0, 203.54),
                ("http_req_duration p(95)", "ms", 0, 215.95),
                ("http_req_failed", "", 0, 0.0),
                ("http_reqs", "1/s", 0, 4.369_38),
            ],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(outline(&read(&[("a", text)]).unwrap()), expected);
    }
}

#[test]
fn criterions_files_of_a_benchmark_are_read_together() {
    let query = [
        ("benchmark.json", include_str!("fixtures/criterion/db/query/new/benchmark.json")),
        ("sample.json", include_str!("fixtures/criterion/db/query/new/sample.json")),
        ("estimates.json", include_str!("fixtures/criterion/db/query/new/estimates.json")),
    ]
    .map(|(file, text)| (format!("{QUERY}/{file}"), text));
    let estimates =
        (format!("{SCAN}/estimates.json"), include_str!("fixtures/criterion/db/scan/500/new/estimates.json"));
    let files: Vec<(&str, &str)> =
        query.iter().chain([&estimates]).map(|(path, text)| (path.as_str(), *text)).collect();
    let results = read(&files).unwrap();
    let sample: serde_json::Value = serde_json::from_str(files[1].1).unwrap();
    let first = sample["times"][0].as_f64().unwrap() / sample["iters"][0].as_f64().unwrap();
    assert_eq!(outline(&results), [("db/query", "ns", 10, first), ("db/scan/500", "ns", 0, 56.213_111_787_490_21)]);
    assert!(
        results.metrics["db/scan/500"].stated.unwrap().error.is_some() && results.metrics["db/query"].stated.is_none()
    );
    let alone = read(&files[..1]).unwrap_err();
    assert!(alone.contains("/new/benchmark.json: no sample.json"), "{alone}");
    let paths =
        [("new/sample.json", true), ("base/sample.json", false), ("new/tukey.json", false), ("sample.json", false)];
    for (path, expected) in paths {
        assert_eq!(is_criterion_file(&format!("a/{path}").replace("a/sample", "sample")), expected, "{path}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_file_place_and_remedy() {
    let table = [
        ("", "f: it is empty"),
        ("{}", "f: this JSON is of no known tool: give files of Criterion"),
        (
            "{\"results\": [{\"command\": \"a\", \"times\": [1, \"x\"]}]}",
            "f: `results[0]`: `times[1]` is \"x\", which is no number",
        ),
        ("{\"results\": [{\"command\": \"a\"}]}", "f: `results[0]`: neither `times` nor `median`"),
        ("{\"results\": [", "f: EOF while parsing"),
        ("metric,value\na,1\nb,fast\n", "f: line 3: `value` is `fast`, which is no number"),
        ("run,latency\n1,2\n2,nan\n", "f: line 3: `latency` is `nan`, which is no number"),
        ("metric,value\n,1\n", "f: line 2: no name in it"),
        ("run,latency\n", "f: no results in it: give files of"),
        ("{\"iters\": [1, 2], \"times\": [1]}", "f: 2 `iters` and 1 `times`"),
        ("{\"plimsoll_results\": 9, \"name\": \"\", \"time\": \"\", \"metrics\": {}}", "f: `plimsoll_results` is 9"),
        ("{\"metrics\": {\"a\": 1}}", "f: `metrics.a` is 1: an object"),
        ("{\"type\":\"Point\",\"metric\":\"a\",\"data\":{}}\n{\"type\":\"Poi", "f: line 2: EOF"),
    ];
    for (text, expected) in table {
        let told = read(&[("f", text)]).unwrap_err();
        assert!(told.starts_with(expected), "{text}: {told}");
    }
    let units = read(&[("f", "metric,value,unit\na,1,ms\n"), ("g", "metric,value,unit\na,1,s\n")]).unwrap_err();
    assert_eq!(units, "g: metric `a` is in `s` here and in `ms` before: give both the same unit");
}

#[test]
fn more_is_better_where_the_name_says_so() {
    let table = [
        ("latency", Better::Lower),
        ("Throughput", Better::Higher),
        ("requests_per_second", Better::Higher),
        ("errors_per_second", Better::Lower),
        ("checks", Better::Higher),
        ("db/scan", Better::Lower),
        ("cache_drops", Better::Lower),
        ("ops", Better::Higher),
    ];
    for (name, expected) in table {
        assert_eq!(results::better_of(name), expected, "{name}");
    }
}

/// Values scattered evenly by a hundredth to either side.
fn about(level: f64, count: usize) -> Vec<f64> {
    (0..count).map(|at| level * (1.0 + 0.02 * ((at * 7 % count) as f64 / count as f64 - 0.5))).collect()
}

fn of(metrics: &[(&str, &str, Vec<f64>)]) -> Results {
    let measured = |(name, unit, samples): &(&str, &str, Vec<f64>)| {
        let better = results::better_of(name);
        (
            (*name).to_owned(),
            Measured { unit: (*unit).to_owned(), better, samples: samples.clone(), ..Measured::default() },
        )
    };
    Results { metrics: metrics.iter().map(measured).collect() }
}

fn baseline(results: Results) -> Baseline {
    let labels = BTreeMap::from([("commit".to_owned(), "e38220a".to_owned())]);
    Baseline::new("v1", "2026-01-31T12:00:00Z", labels, results)
}

#[test]
fn a_baseline_is_read_as_it_was_written() {
    let files =
        [("a", include_str!("fixtures/hyperfine.json")), ("b", include_str!("fixtures/k6-summary-export.json"))];
    let kept = baseline(read(&files).unwrap());
    let text = kept.to_json().unwrap();
    assert_eq!(Baseline::from_json(text.as_bytes()).unwrap(), kept);
    assert_eq!(read(&[("f", &text)]).unwrap(), kept.results());
    assert!(Baseline::from_json(b"{\"name\": 1}").unwrap_err().contains("regress baseline NAME --input FILES"));
}

#[test]
fn reports_name_metrics_worst_first() {
    let before = of(&[
        ("db/query", "ns", about(100.0, 30)),
        ("db/scan", "ns", about(100.0, 30)),
        ("rps", "1/s", about(1000.0, 30)),
        ("size", "B", about(50.0, 30)),
        ("sort", "ms", about(50.0, 30)),
        ("gone", "", vec![1.0]),
        ("few", "ms", vec![1.0, 2.0, 3.0]),
    ]);
    let now = of(&[
        ("db/query", "ns", about(112.3, 30)),
        ("db/scan", "ns", about(80.0, 30)),
        ("rps", "1/s", about(700.0, 30)),
        ("size", "B", about(50.05, 30)),
        ("sort", "ms", about(51.0, 30)),
        ("new", "", vec![1.0]),
        ("few", "ms", vec![2.0, 3.0, 4.0]),
    ]);
    let found = report(&baseline(before), &now, &RegressOptions::default());
    let sentences: Vec<&str> = found.rows.iter().map(|row| row.sentence.as_str()).collect();
    assert_eq!(
        sentences,
        [
            "rps is 30.0 % lower (95 %: 29.7 to 30.3 %; p < 1e-9, 30 against 30 runs)",
            "db/query is 12.3 % slower (95 %: 11.8 to 12.8 %; p < 1e-9, 30 against 30 runs)",
            "db/scan is 20.0 % faster (95 %: 19.6 to 20.4 %; p < 1e-9, 30 against 30 runs)",
            "sort is 2.0 % slower, which is too little to count (95 %: 1.5 to 2.5 %; p < 1e-9, 30 against 30 runs)",
            "size shows no change (+0.1 %, 95 %: -0.4 to 0.6 %; p = 0.52, 30 against 30 runs)",
            "few has too few runs to tell (3 against 3 runs): make 5 of each or more, for p <= 0.01",
        ]
    );
    assert!(found.has_regression() && found.regressions().count() == 2);
    assert_eq!((found.missing, found.added), (vec!["gone".to_owned()], vec!["new".to_owned()]));
}

#[test]
fn the_caller_may_say_which_way_is_better_and_what_counts() {
    let (before, now) = (of(&[("m", "", about(100.0, 20))]), of(&[("m", "", about(110.0, 20))]));
    let usual = RegressOptions::default();
    let large = CompareOptions { min_effect: 0.2, ..CompareOptions::default() };
    let table = [
        (usual, Verdict::Regression),
        (RegressOptions { better: Some(Better::Higher), ..usual }, Verdict::Improvement),
        (RegressOptions { compare: large, ..usual }, Verdict::Same),
    ];
    for (options, expected) in table {
        let found = report(&baseline(before.clone()), &now, &options);
        assert_eq!(found.rows[0].verdict, expected, "{options:?}");
    }
}

#[test]
fn many_metrics_need_smaller_p_values() {
    let metric = |level: f64| -> Results {
        let names: Vec<String> = (0..20).map(|at| format!("m{at}")).collect();
        let level = |at: usize| if at == 0 { level } else { 100.0 };
        of(&names.iter().enumerate().map(|(at, name)| (name.as_str(), "", about(level(at), 5))).collect::<Vec<_>>())
    };
    let found = report(&baseline(metric(100.0)), &metric(150.0), &RegressOptions::default());
    let first = found.rows.iter().find(|row| row.metric == "m0").unwrap();
    assert_eq!((first.verdict, found.has_regression()), (Verdict::Same, false), "{first:?}");
    assert!((first.p_value.unwrap() - 20.0 * 2.0 / 252.0).abs() < 1e-12);
}

#[test]
fn summaries_are_compared_and_said_to_be_weaker() {
    let summary = include_str!("fixtures/k6-summary-export.json");
    let slower = summary.replace("110.47", "150.5").replace("4.36938", "2.1");
    let found = report(
        &baseline(read(&[("a", summary)]).unwrap()),
        &read(&[("b", &slower)]).unwrap(),
        &RegressOptions::default(),
    );
    let worse: Vec<&str> = found.regressions().map(|row| row.sentence.as_str()).collect();
    assert_eq!(
        worse,
        [
            "http_reqs is 51.9 % lower (from summaries alone, so without a p-value)",
            "http_req_duration is 36.2 % slower (from summaries alone, so without a p-value)",
        ]
    );
    assert_eq!(found.rows.len(), 6);
}

#[test]
fn samples_against_a_summary_count_as_a_summary() {
    let samples = Measured { samples: about(100.0, 16), ..Measured::default() };
    let stated = samples.stated().unwrap();
    assert!((stated.centre - 99.9375).abs() < 1e-9 && stated.count == Some(16));
    let means = Measured { centre: Centre::Mean, samples: vec![0.0, 1.0, 1.0, 0.0], ..Measured::default() };
    assert!((means.stated().unwrap().error.unwrap() - (1.0_f64 / 12.0).sqrt()).abs() < 1e-12);
    assert_eq!(Measured::default().stated(), None);
}

#[test]
fn a_change_that_cannot_be_ruled_out_is_told() {
    let wide = |level: f64| -> Vec<f64> { (0..8).map(|at| level * (1.0 + f64::from(at * 3 % 8) / 20.0)).collect() };
    let found = report(
        &baseline(of(&[("m", "ms", wide(100.0))])),
        &of(&[("m", "ms", wide(101.0))]),
        &RegressOptions::default(),
    );
    let sentence = &found.rows[0].sentence;
    assert!(
        sentence.starts_with("m shows no change (+1.0 %, 95 %: ") && sentence.ends_with("% slower cannot be ruled out"),
        "{sentence}"
    );
}

#[test]
fn histories_are_told_by_their_trend() {
    let steps =
        |by: f64| -> Vec<f64> { (0..40).map(|at| 100.0 + by * f64::from(at) + f64::from(at * 7 % 5)).collect() };
    let history = of(&[
        ("even", "ms", steps(0.0)),
        ("rps", "1/s", steps(-0.4)),
        ("slow", "ms", steps(0.3)),
        ("x", "", vec![1.0; 3]),
    ]);
    let found = drifts(&history, &DriftOptions::default());
    let outline: Vec<(Verdict, &str)> =
        found.iter().map(|drift| (drift.verdict, drift.sentence.split(" (").next().unwrap())).collect();
    assert_eq!(
        outline,
        [
            (Verdict::Same, "even has no trend over 40 runs"),
            (Verdict::Regression, "rps falls by 16.6 % over 40 runs"),
            (Verdict::Regression, "slow rises by 10.9 % over 40 runs"),
        ]
    );
    let higher = drifts(&history, &DriftOptions { better: Some(Better::Higher), ..DriftOptions::default() });
    assert_eq!(higher[2].verdict, Verdict::Improvement);
}
