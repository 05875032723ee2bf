//! The command line: what each command prints, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::{Server, plimsoll, plimsoll_with, program, sql};

/// A store with a load that swings, leaps twice, and has a companion that moves with it.
fn store() -> TempDir {
    let folder = tempdir().unwrap();
    let mut lines = String::new();
    for n in 0..1400_i64 {
        let swing = 50.0 + 10.0 * (n as f64 / 40.0).sin() + ((n * 7919) % 13) as f64 / 10.0;
        let leap = if (1200..1205).contains(&n) {
            500.0
        } else if (900..905).contains(&n) {
            100.0
        } else {
            0.0
        };
        let time = 1_700_000_000 + n * 30;
        lines.push_str(&format!("web,host=a load={},requests={} {time}\n", swing + leap, swing * 3.0 + leap));
        lines.push_str(&format!("disk,host=a used_percent={} {time}\n", 20.0 + (n - 700) as f64 / 50.0));
    }
    let ran = plimsoll_with(
        folder.path(),
        &["import", "--from", "line-protocol", "--precision", "s", "-"],
        &[],
        lines.as_bytes(),
    );
    assert!(ran.ending(0).stderr.contains("4200 samples taken, 4200 of them new"));
    folder
}

/// The rows of a table as it is printed, below its head.
fn table_rows(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with('|')).count().saturating_sub(1)
}

/// Titles and what stands below each.
fn titled<'t>(text: &'t str, titles: &[&str]) -> Vec<&'t str> {
    let starts: Vec<usize> = titles
        .iter()
        .map(|title| text.find(&format!("\n{title}\n")).unwrap_or_else(|| panic!("no section `{title}` in\n{text}")))
        .collect();
    assert!(starts.is_sorted(), "the sections come in another order: {text}");
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &text[start..end]).collect()
}

#[test]
fn the_demo_needs_nothing_and_prints_the_report() {
    let folder = tempdir().unwrap();
    let mut command = program(&folder.path().join("not-there"));
    command.arg("demo").current_dir(folder.path()).env("TMPDIR", folder.path());
    let text = crate::support::run(command, b"").ending(0).text();
    let sections = titled(
        &text,
        &[
            "What is stored",
            "Percentages over the last hour of data",
            "Anomalies an hour",
            "The strongest anomalies",
            "What moved together (different metrics)",
            "When resources reach their limit",
            "Memory, the ten minutes after the recording (percent, 95 % interval)",
        ],
    );
    let rows = sections.iter().map(|section| table_rows(section)).collect::<Vec<_>>();
    assert!(rows[0] == 1 && rows[1] > 0 && rows[5] > 0 && rows[6] > 0, "{rows:?}: {text}");
    // Only the real recording (an hour or more, 60 series or more) promises these; a stand-in does not.
    if is_real_recording(&text) {
        assert!(rows[2] > 0 && rows[3] > 0, "no anomalies in the recording: {text}");
        assert!(rows[4] > 0, "no correlations in the recording: {text}");
    } else {
        eprintln!("skipped: data/recording.parquet is a stand-in: anomalies and correlations are not looked for");
    }
    assert!(text.contains("Try next:"), "{text}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "the demo leaves files behind");
}

/// Whether the recording has the 60 series that the real one promises.
fn is_real_recording(demo: &str) -> bool {
    let row = demo.lines().skip_while(|line| !line.starts_with("| series")).nth(2).unwrap_or_default();
    row.split('|').nth(1).and_then(|cell| cell.trim().parse::<u64>().ok()).is_some_and(|series| series >= 60)
}

#[test]
fn the_demo_can_be_left_up() {
    let folder = tempdir().unwrap();
    let mut command = program(folder.path());
    command.args(["demo", "--serve", "--listen", "127.0.0.1:0"]).env("TMPDIR", folder.path());
    let server = Server::of(command);
    assert!(crate::support::number(&server.sql("SELECT count(*) FROM system_memory_used_percent")) > 0.0);
    server.stop();
}

#[test]
fn check_finds_every_planted_fault_with_line_and_remedy() {
    let folder = tempdir().unwrap();
    let cases = [
        ("a.toml", "[store]\nsink = 1\n", &["a.toml:2: unknown field `sink`, expected one of"][..]),
        (
            "b.toml",
            "[store]\nsync = \"often\"\n\n[query]\nmemori = 1\n",
            &["b.toml:2: unknown variant `often`", "b.toml:5: unknown field `memori`"],
        ),
        ("c.toml", "[ingest]\nbody_max = \"1B\"\n", &["c.toml:2: body_max: write at least 1KB"]),
        (
            "d.toml",
            "name = \"p\"\n\n[[stages]]\nname = \"a\"\napply.windw = { every = \"1h\" }\n",
            &["d.toml:5: unknown variant `windw`, expected one of `compress`, `window`, `anomaly`, `correlate`"],
        ),
        (
            "e.toml",
            "name = \"p\"\n[[stages]]\nname = \"a\"\napply.window = { evry = \"1h\" }\n[[stages]]\nname = \"b\"\napply.anomaly = { treshold = 3 }\n",
            &["e.toml:4: unknown field `evry`, expected one of `every`", "e.toml:7: unknown field `treshold`"],
        ),
        (
            "f.toml",
            "name = \"p\"\n[[stages]]\nname = \"a\"\ninputs = [\"gone\"]\napply.window = { every = \"1h\" }\n",
            &["f.toml:4: stage `a` takes `gone`, which is no source or stage before it: write one of live"],
        ),
        ("g.sql", "-- A report.\n-- title: T\nSELEC 1;\n", &["g.sql"]),
        ("h.sql", "SELECT (1;\nSELECT 2;\n", &["h.sql"]),
        ("i.toml", "[store\n", &["i.toml:1: "]),
    ];
    let mut all = vec!["check".to_owned()];
    for (name, text, told) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let ran = plimsoll(folder.path(), &["check", path]).ending(2);
        for told in told {
            assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
        }
        assert!(ran.stderr.contains("1 checked, "), "{}", ran.stderr);
        all.push(path.to_owned());
    }
    let ran = plimsoll(folder.path(), &all.iter().map(String::as_str).collect::<Vec<_>>()).ending(2);
    for (name, _, _) in cases {
        assert!(ran.stderr.contains(name), "{name} is not told beside the others: {}", ran.stderr);
    }
    let ran = plimsoll(folder.path(), &["check", "nowhere.toml"]).ending(2);
    assert!(ran.stderr.contains("nowhere.toml: cannot be read"), "{}", ran.stderr);
}

#[test]
fn check_finds_no_fault_in_what_is_shipped() {
    let folder = tempdir().unwrap();
    let ran = plimsoll(folder.path(), &["check"]).ending(0);
    assert!(ran.stderr.contains("no fault"), "{}", ran.stderr);
    let shipped = |folder: &str| {
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap().map(|file| file.unwrap().path())
    };
    let is_file = |path: &std::path::PathBuf| path.is_file();
    for file in shipped("pipelines").chain(shipped("queries")).filter(is_file) {
        plimsoll(folder.path(), &["check", file.to_str().unwrap()]).ending(0);
    }
    assert!(!folder.path().join("catalog").exists(), "check opens no store");
}

#[test]
fn reports_are_listed_and_take_parameters() {
    let folder = store();
    let list = plimsoll(folder.path(), &["report"]).ending(0).text();
    for name in ["health-overview", "top-anomalies", "correlated-pairs", "capacity-outlook"] {
        let line = list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {list}"));
        assert!(line.len() > name.len() + 10, "{name} says what it is: {line}");
        let text = plimsoll(folder.path(), &["report", name]).ending(0).text();
        assert!(table_rows(&text) > 0, "{name} has no rows: {text}");
    }
    for (report, wanted) in [("top-anomalies", 1), ("correlated-pairs", 1)] {
        let text = plimsoll(folder.path(), &["report", report, "-p", "limit=1"]).ending(0).text();
        assert_eq!(table_rows(&text), wanted, "{text}");
    }
    let three = plimsoll(folder.path(), &["report", "top-anomalies", "-p", "limit=3"]).ending(0).text();
    assert!(table_rows(&three) <= 3 && three.contains("web_load"), "{three}");
    let text = plimsoll(
        folder.path(),
        &["report", "capacity-outlook", "-p", "limit=36", "--param", "metric=disk_used_percent"],
    )
    .ending(0)
    .text();
    assert!(text.contains("disk_used_percent{host=\"a\"}") && text.contains("| 36 "), "{text}");
    let markdown = plimsoll(folder.path(), &["report", "top-anomalies", "--format", "markdown"]).ending(0).text();
    assert!(markdown.contains("\n## The strongest anomalies\n\n| time"), "{markdown}");
    let own = folder.path().join("own.sql");
    std::fs::write(&own, "-- param host = b\n-- title: Mine\nSELECT $host AS host, 1 AS n;\n").unwrap();
    let text = plimsoll(folder.path(), &["report", own.to_str().unwrap(), "-p", "host=it's"]).ending(0).text();
    assert!(text.contains("\nMine\n") && text.contains("| it's | 1 |"), "{text}");
}

#[test]
fn the_analysis_commands_find_what_is_in_the_data() {
    let folder = store();
    let rows = |command: &[&str]| -> Vec<Value> {
        let ran = plimsoll(folder.path(), &[command, &["--format", "json"]].concat()).ending(0);
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let found = rows(&["anomalies", "--metric", "web_load"]);
    // The second of its kind within hours is no longer rare.
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["time"].as_str().unwrap().starts_with("2023-11-15T05:43:"), "{found:?}");
    let scores: Vec<f64> = found.iter().map(|row| row["score"].as_f64().unwrap().abs()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(rows(&["anomalies", "--limit", "1"]).len(), 1);
    assert_eq!(rows(&["anomalies", "--to", "2023-11-14T00:00:00Z"]), Vec::<Value>::new());
    assert_eq!(rows(&["anomalies", "--from", "1h"]), Vec::<Value>::new());
    let pairs = rows(&["correlate", "--metric", "web_load", "--limit", "100"]);
    let is_pair = |row: &&Value| {
        row["series_b"].as_str().unwrap().starts_with("web_requests") && row["r"].as_f64().unwrap() > 0.9
    };
    assert!(pairs.iter().any(|row| is_pair(&row)), "{pairs:?}");
    let forecast = rows(&["forecast", "disk_used_percent", "--horizon", "1h", "--where", "host=a"]);
    assert!(
        forecast.len() > 1 && forecast.iter().all(|row| (33.5..37.0).contains(&row["mean"].as_f64().unwrap())),
        "{forecast:?}"
    );
    // 20 + (n - 700) / 50 with 30 s a step: 40 after 1700 steps.
    let eta = rows(&["forecast", "disk_used_percent", "--horizon", "6h", "--limit", "40"]);
    let likely: jiff::Timestamp = eta[0]["p50"].as_str().unwrap_or_else(|| panic!("no time: {eta:?}")).parse().unwrap();
    let wanted = 1_700_000_000 + 1700 * 30;
    assert!((likely.as_second() - wanted).abs() < 1800, "{likely}: {eta:?}");
}

/// A CSV of a wave every ten minutes, with a step in it from row 700 on.
fn stepped(folder: &Path, name: &str, rows: std::ops::Range<i64>) -> String {
    let mut text = "time,a|cpu,a|disk,b|cpu\n".to_owned();
    for at in rows {
        let wave = (at % 7) as f64 + (at * 7919 % 13) as f64 / 10.0;
        let step = if at >= 700 { 50.0 } else { 0.0 };
        text.push_str(&format!("{},{},{},{}\n", 1_700_000_000 + at * 300, wave + step, wave * 2.0, wave * 3.0));
    }
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn files_are_analysed_without_a_store() {
    let folder = tempdir().unwrap();
    let not_there = folder.path().join("not-there");
    let rows = |command: &[&str]| -> Vec<Vec<String>> {
        let text = plimsoll(&not_there, command).ending(0).text();
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let whole = stepped(folder.path(), "whole.csv", 0..720);
    let found = rows(&["anomalies", "--input", &whole]);
    assert_eq!(found[0].join(","), "series,time,value,expected,score,anomaly");
    assert_eq!(found.len(), 1 + 3 * 720);
    let alarms: Vec<&Vec<String>> = found.iter().filter(|row| row[5] == "1").collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    let (series, time) = (&alarms[0][0], alarms[0][1].parse::<i64>().unwrap());
    assert!(series == "a|cpu" && (time - 1_700_000_000) / 300 - 700 <= 3, "{alarms:?}");
    // What was said before the end of a file does not change with what comes after.
    let short = stepped(folder.path(), "short.csv", 0..705);
    assert_eq!(rows(&["anomalies", "--input", &short])[..], found[..1 + 3 * 705]);
    let output = folder.path().join("scores.csv");
    let group = ["anomalies", "--input", &whole, "--group", "--output", output.to_str().unwrap()];
    assert_eq!(rows(&group).len(), 0);
    let told = std::fs::read_to_string(&output).unwrap();
    assert!(told.starts_with("time,score,anomaly\n1700000000,0.0,0\n"), "{}", &told[..60]);
    assert_eq!(told.lines().count(), 721);
    let (well, not) = (stepped(folder.path(), "well.csv", 0..600), stepped(folder.path(), "not.csv", 700..720));
    let explain = ["explain", "--baseline", &well, "--incident", &not, "--format", "csv"];
    let ranked = rows(&explain);
    assert_eq!(ranked[0].join(","), "rank,series,score,before,after,shift,ks,p_value");
    assert_eq!((&*ranked[1][0], &*ranked[1][1], ranked.len()), ("1", "a|cpu", 4));
    let graph = folder.path().join("graph.toml");
    std::fs::write(&graph, "[calls]\n\"b\" = [\"a\", \"unheard\"]\n").unwrap();
    let grouped = rows(&[&explain[..], &["--group-by", "|", "--graph", graph.to_str().unwrap()]].concat());
    assert_eq!((&*grouped[0].join(","), &*grouped[1][1]), ("rank,group,score,strongest", "a"));
    std::fs::write(&graph, "[call]\n").unwrap();
    let wrong = [&explain[..], &["--group-by", "|", "--graph", graph.to_str().unwrap()]].concat();
    assert!(plimsoll(&not_there, &wrong).ending(2).stderr.contains("unknown field `call`"));
    for (command, told) in [
        (&["anomalies", "--input", &whole, "--method", "magic"][..], "write one of auto, zscore"),
        (&["anomalies", "--input", &whole, "--threshold", "0"], "--threshold 0 cannot be"),
        (&["anomalies", "--input", &whole, "--group", "--method", "zscore"], "--group has no method zscore"),
        (&["correlate", "--input", &whole, "--window", "x"], "no length of time"),
    ] {
        let ran = plimsoll(&not_there, command).ending(2);
        assert!(ran.stderr.contains(told), "{command:?}: {}", ran.stderr);
    }
    let steps = rows(&["changepoints", "--input", &whole]);
    assert_eq!(steps[0].join(","), "series,row,time,before,after,effect,p_value");
    assert_eq!((steps.len(), &*steps[1][0], &*steps[1][1]), (2, "a|cpu", "700"));
    let deploys = folder.path().join("deploys.csv");
    std::fs::write(&deploys, "time,name\n1700420000,v3\n1700200000,v2\n1700000000,v1\n").unwrap();
    let marked = rows(&["changepoints", "--input", &whole, "--markers", deploys.to_str().unwrap()]);
    assert_eq!((&*marked[0][7], &*marked[1][7]), ("marker", "v2"), "{marked:?}");
    let missing = plimsoll(&not_there, &["anomalies", "--input", "none.csv"]).ending(1);
    assert!(missing.stderr.contains("cannot read none.csv"), "{}", missing.stderr);
    assert!(!not_there.exists(), "no store was made");
}

#[test]
fn commands_end_with_the_code_that_the_interface_names() {
    let folder = store();
    let cases: [(&[&str], i32, &str); 18] = [
        (&["sql", "SELECT 1"], 0, ""),
        (&["--help"], 0, ""),
        (&["--version"], 0, ""),
        (&["stats"], 0, "4200 samples"),
        (&["compact"], 0, "merges"),
        (&["sql", "SELEC 1"], 1, "SELEC"),
        (&["sql", "SELECT * FROM nowhere"], 1, "nowhere"),
        (&["sql", "DROP TABLE metrics"], 1, "DDL"),
        (&["forecast", "nowhere"], 1, "nowhere"),
        (&["sql", "SELECT 1", "--url", "http://127.0.0.1:9"], 1, "http://127.0.0.1:9"),
        (&["sql", "-f", "nowhere.sql"], 1, "nowhere.sql"),
        (&["sql", ""], 2, "no statement"),
        (&["sqll"], 2, "sqll"),
        (&["sql", "SELECT 1", "--format", "xml"], 2, "xml"),
        (&["report", "nowhere"], 2, "health-overview"),
        (&["report", "top-anomalies", "-p", "limt=3"], 2, "it has limit"),
        (&["anomalies", "--from", "noon"], 2, "noon"),
        (&["import"], 2, "FILE"),
    ];
    for (command, code, told) in cases {
        let ran = plimsoll(folder.path(), command);
        assert_eq!(ran.code, Some(code), "{command:?}: {} {}", ran.text(), ran.stderr);
        assert!(ran.stderr.contains(told), "{command:?} does not tell {told}: {}", ran.stderr);
        assert!(code == 0 || ran.stdout.is_empty(), "{command:?}: what went wrong belongs on stderr: {}", ran.text());
    }
}

#[test]
fn rows_are_printed_in_the_format_asked_for() {
    let folder = store();
    let ask = |format: &str| {
        plimsoll(
            folder.path(),
            &["sql", "SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL ORDER BY a", "--format", format],
        )
        .ending(0)
    };
    let cases = [
        ("table", "+---+---+\n| a | b |\n+---+---+\n| 1 | x |\n| 2 |   |\n+---+---+\n"),
        ("markdown", "| a | b |\n|---|---|\n| 1 | x |\n| 2 |   |\n"),
        ("csv", "a,b\n1,x\n2,\n"),
        ("json", "[{\"a\":1,\"b\":\"x\"},{\"a\":2}]\n"),
        ("ndjson", "{\"a\":1,\"b\":\"x\"}\n{\"a\":2}\n"),
    ];
    for (format, wanted) in cases {
        assert_eq!(ask(format).text(), wanted, "{format}");
    }
    let arrow = ask("arrow").stdout;
    let batches = arrow::ipc::reader::StreamReader::try_new(&arrow[..], None).unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    let parquet = bytes::Bytes::from(ask("parquet").stdout);
    let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(parquet, 10).unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
}

#[test]
fn statements_come_from_a_file_and_from_stdin() {
    let folder = store();
    let text = "-- the first; with a semicolon\nSELECT 1 AS a;\n\nSELECT ';' AS b;\n-- nothing more\n";
    let file = folder.path().join("statements.sql");
    std::fs::write(&file, text).unwrap();
    let wanted = "{\"a\":1}\n{\"b\":\";\"}\n";
    let format = ["--format", "ndjson"];
    let from_file = plimsoll(folder.path(), &[&["sql", "-f", file.to_str().unwrap()], &format[..]].concat()).ending(0);
    assert_eq!(from_file.text(), wanted);
    let from_stdin = plimsoll_with(folder.path(), &[&["sql"], &format[..]].concat(), &[], text.as_bytes()).ending(0);
    assert_eq!(from_stdin.text(), wanted);
    let stops =
        plimsoll_with(folder.path(), &[&["sql"], &format[..]].concat(), &[], b"SELECT 1 AS a; SELEC 2; SELECT 3 AS c")
            .ending(1);
    assert_eq!(stops.text(), "{\"a\":1}\n", "a statement at fault ends the rest");
    plimsoll_with(folder.path(), &["sql"], &[], b"\n-- nothing\n").ending(2);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = store();
    let statement = "SELECT a.time, b.time, a.value, b.value FROM web_load a, web_requests b";
    let mut child = program(folder.path())
        .args(["sql", "--format", "csv", statement])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "time,time,value,value");
    drop(lines);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

#[test]
fn a_server_is_asked_as_a_directory_is() {
    let folder = store();
    let statements = [
        ["sql", "SELECT metric, count(*) AS n FROM metrics GROUP BY 1 ORDER BY 1"],
        ["report", "top-anomalies"],
        ["anomalies", "--limit=3"],
        ["correlate", "--limit=3"],
        ["forecast", "disk_used_percent"],
    ];
    let here = statements.map(|command| plimsoll(folder.path(), &command).ending(0).text());
    let server = Server::start(folder.path());
    for (command, wanted) in statements.iter().zip(here) {
        let asked = plimsoll(&folder.path().join("none"), &[&command[..], &["--url", &server.url]].concat()).ending(0);
        assert_eq!(asked.text(), wanted, "{command:?}");
    }
    assert!(!folder.path().join("none").exists(), "--url opens no directory");
    let lines = folder.path().join("more.lp");
    std::fs::write(&lines, "a v=1 1\n").unwrap();
    for command in [&["import", lines.to_str().unwrap()][..], &["compact"]] {
        plimsoll(folder.path(), &[command, &["--url", &server.url]].concat()).ending(2);
    }
    server.stop();
    assert_eq!(sql(folder.path(), "SELECT count(*) AS n FROM metrics"), [json!({"n": 4200})]);
}

#[test]
fn the_collector_writes_this_machines_metrics() {
    let folder = tempdir().unwrap();
    let environment = [("PLIMSOLL__COLLECT__SYSTEM", "true"), ("PLIMSOLL__COLLECT__SYSTEM_INTERVAL", "200ms")];
    let server = Server::start_with(folder.path(), &environment);
    let count = "SELECT count(*) AS n, min(value) AS lo, max(value) AS hi FROM metrics WHERE metric = 'system_memory_used_percent'";
    let mut row = Value::Null;
    crate::support::until("three passes of the collector", || {
        row = server.sql(count)[0].clone();
        row["n"].as_u64().unwrap() >= 3
    });
    assert!(row["lo"].as_f64().unwrap() > 0.0 && row["hi"].as_f64().unwrap() < 100.0, "{row}");
    server.stop();
}
