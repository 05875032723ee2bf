//! The data directory as `src/store/FORMAT.md` draws it: a reader made from that text alone says what our own SQL says, and
//! a directory written by the first version of this format still opens.
//!
//! `tests/fixtures/store-v4` was written once by `make_the_store_of_this_format` and is never written again: it stands for
//! the directories that users have. A new format gets a new folder beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::{TempDir, tempdir};

use crate::support::{Ran, Server, plimsoll, plimsoll_with, run, sql};

/// 2024-01-30T12:00:00Z, in seconds.
const START: i64 = 1_706_616_000;
const STEP: i64 = 600;
const HOUR: i64 = 3_600_000_000_000;

/// A sample by series (`metric{"label": "value"}`) and time in nanoseconds.
type Samples = BTreeMap<(String, i64), f64>;

/// Lines, and what they say; of two for one series and time the later counts.
#[derive(Default)]
struct Load {
    lines: String,
    samples: Samples,
}

impl Load {
    fn add(&mut self, host: &str, field: &str, value: f64, nanos: i64) {
        self.lines.push_str(&format!("web,host={host},zone=é {field}={value} {nanos}\n"));
        let series = format!(r#"web_{field}{{"host": "{host}", "zone": "é"}}"#);
        self.samples.insert((series, nanos), value);
    }

    /// Steps of two hosts: floats, two decimals, whole numbers, each in a series of its own.
    fn steps(&mut self, steps: std::ops::Range<i64>) {
        for n in steps {
            for (host, shift) in [("a", 0), ("b", 7)] {
                let (nanos, n) = ((START + n * STEP) * 1_000_000_000, n + shift);
                self.add(host, "load", (n as f64).sqrt(), nanos);
                self.add(host, "temp", (n * 37 % 1000) as f64 / 100.0, nanos);
                self.add(host, "requests", (n * n) as f64, nanos);
            }
        }
    }

    /// What needs care: values that are no decimal numbers, times in all units.
    fn odd(&mut self, step: i64) {
        let nanos = (START + step * STEP) * 1_000_000_000;
        let values = [-0.0, 0.1 + 0.2, 1e300, -1.5, f64::MIN_POSITIVE];
        for (value, after) in values.into_iter().zip([1_000_000, 2_001_000, 3_000_001, 4, 5]) {
            self.add("odd", "value", value, nanos + after);
        }
    }

    fn import(&self, data: &Path) {
        plimsoll_with(data, &["import", "--from", "line-protocol", "-"], &[], self.lines.as_bytes()).ending(0);
    }
}

const PROMETHEUS: &str = "# HELP jobs_done_total What was done.\n# TYPE jobs_done_total counter\n\
    jobs_done_total{queue=\"mail\"} 17 1706616000123\n";

/// What comes with rows of its own: a distribution of three values and the end of a series, so many seconds after the start.
fn otlp(after: i64) -> String {
    let nanos = (START + after) * 1_000_000_000;
    serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "size", "histogram": {"aggregationTemporality": 2, "dataPoints": [{
            "timeUnixNano": nanos.to_string(), "count": "3", "sum": 6.5, "bucketCounts": ["1", "2"], "explicitBounds": [2.0],
        }]}},
        {"name": "web_load", "gauge": {"dataPoints": [{
            "timeUnixNano": nanos.to_string(), "flags": 1, "attributes": [
                {"key": "host", "value": {"stringValue": "a"}}, {"key": "zone", "value": {"stringValue": "é"}},
            ],
        }]}},
    ]}]}]})
    .to_string()
}

/// The first is flushed, the second in the log alone.
const OTLP_AFTER: [i64; 2] = [10, 70];

fn send_otlp(server: &Server, after: i64) {
    server.post("/v1/metrics", &[("content-type", "application/json")], otlp(after).as_bytes()).ending(200);
}

/// Four loads: three that were flushed, and one that is in the log alone.
fn loads() -> [Load; 4] {
    let mut loads = [Load::default(), Load::default(), Load::default(), Load::default()];
    loads[0].steps(0..288);
    loads[1].steps(288..360);
    loads[1].odd(300);
    loads[2].steps(360..432);
    loads[3].steps(432..470);
    loads[3].odd(440);
    // Two that come again, and one late.
    loads[3].add("a", "temp", 99.5, (START + 400 * STEP) * 1_000_000_000);
    loads[3].add("b", "load", 0.5, START * 1_000_000_000);
    loads[3].add("b", "load", 0.25, START * 1_000_000_000 + 30_000_000_000);
    loads
}

/// What a store of these loads holds.
fn held(loads: &[Load]) -> Samples {
    let mut held: Samples = loads.iter().flat_map(|load| load.samples.clone()).collect();
    for after in OTLP_AFTER {
        let nanos = (START + after) * 1_000_000_000;
        let parts = [
            (r#"size_bucket{"le": "2"}"#, 1.0),
            (r#"size_bucket{"le": "+Inf"}"#, 3.0),
            ("size_count{}", 3.0),
            ("size_sum{}", 6.5),
        ];
        held.extend(parts.map(|(series, value)| ((series.to_owned(), nanos), value)));
    }
    held.insert((r#"jobs_done_total{"queue": "mail"}"#.to_owned(), 1_706_616_000_123_000_000), 17.0);
    held
}

/// Writes the loads as users do: three imports with a merge between, then a server that is killed.
fn make(data: &Path) {
    let loads = loads();
    loads[0].import(data);
    loads[1].import(data);
    plimsoll(data, &["compact"]).ending(0);
    loads[2].import(data);
    plimsoll_with(data, &["import", "--from", "prometheus", "-"], &[], PROMETHEUS.as_bytes()).ending(0);
    let server = Server::start(data);
    send_otlp(&server, OTLP_AFTER[0]);
    server.stop();
    let server = Server::start(data);
    send_otlp(&server, OTLP_AFTER[1]);
    for lines in loads[3].lines.split_inclusive('\n').collect::<Vec<_>>().chunks(60) {
        server.write(&lines.concat());
    }
    server.kill();
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v4")
}

/// Run it with `cargo test --test it format::make_the -- --ignored` on a tree where the fixture is missing.
#[test]
#[ignore = "writes the fixture, once for each format"]
fn make_the_store_of_this_format() {
    let data = fixture();
    assert!(!data.exists(), "{} is there: it is never written again", data.display());
    make(&data);
    std::fs::remove_file(data.join("lock")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn copied() -> TempDir {
    let folder = tempdir().unwrap();
    copy(&fixture(), folder.path());
    folder
}

/// What our SQL says of all samples.
fn told(data: &Path) -> Samples {
    let statement = "SELECT metric, host, zone, queue, le, CAST(time AS BIGINT) AS time, value FROM metrics";
    let text = plimsoll(data, &["sql", "--format", "csv", statement]).ending(0).text();
    let sample = |line: &str| {
        let [metric, host, zone, queue, le, time, value] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("seven columns: {line}")
        };
        let labels = [("host", host), ("le", le), ("queue", queue), ("zone", zone)];
        let labels: Vec<String> = labels
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| format!(r#""{name}": "{text}""#))
            .collect();
        let series = format!("{metric}{{{}}}", labels.join(", "));
        ((series, time.parse().unwrap()), value.parse().unwrap())
    };
    text.lines().skip(1).map(sample).collect()
}

type Bits = BTreeMap<(String, i64), u64>;

/// The same to the last bit.
#[track_caller]
fn assert_same(found: &Samples, wanted: &Samples) {
    let bits =
        |samples: &Samples| -> Bits { samples.iter().map(|(key, value)| (key.clone(), value.to_bits())).collect() };
    let (found, wanted) = (bits(found), bits(wanted));
    let differ = |a: &Bits, b: &Bits| {
        a.iter().filter(|(key, bits)| b.get(key) != Some(bits)).map(|(key, _)| format!("{key:?}")).collect::<Vec<_>>()
    };
    assert!(found == wanted, "found {:?}, wanted {:?}", differ(&found, &wanted), differ(&wanted, &found));
}

/// Count, sum, min, max, first and last of each hour of each series.
fn hours(samples: &Samples) -> BTreeMap<(String, i64), (u64, [f64; 5])> {
    let mut hours: BTreeMap<(String, i64), (u64, [f64; 5])> = BTreeMap::new();
    for ((series, time), &value) in samples {
        let hour = hours.entry((series.clone(), time - time % HOUR)).or_insert((0, [0.0, value, value, value, value]));
        let (count, [sum, min, max, _, last]) = hour;
        (*count, *sum, *min, *max, *last) = (*count + 1, *sum + value, min.min(value), max.max(value), value);
    }
    hours
}

/// The hourly rollups that our SQL gives of series with a host.
fn told_hours(data: &Path) -> BTreeMap<(String, i64), (u64, [f64; 5])> {
    let statement = "SELECT metric, host, zone, CAST(time AS BIGINT) AS time, count, sum, min, max, first, last
        FROM rollups WHERE host IS NOT NULL";
    let text = plimsoll(data, &["sql", "--format", "csv", statement]).ending(0).text();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let series = format!(r#"{}{{"host": "{}", "zone": "{}"}}"#, cells[0], cells[1], cells[2]);
        let numbers = std::array::from_fn(|at| cells[5 + at].parse().unwrap());
        ((series, cells[3].parse().unwrap()), (cells[4].parse().unwrap(), numbers))
    };
    text.lines().skip(1).map(row).collect()
}

fn with_host(mut samples: Samples) -> Samples {
    samples.retain(|(series, _), _| series.contains("host"));
    samples
}

#[test]
fn a_store_of_this_format_opens_with_all_it_held() {
    let folder = copied();
    let data = folder.path();
    let verified = plimsoll(data, &["verify"]).ending(0).stderr;
    assert!(verified.contains(": 0 wrong"), "{verified}");
    let loads = loads();
    assert_same(&told(data), &held(&loads));
    // Rows of the log's hours are there as far as the stages come without a checkpoint.
    let (hours_told, hours_flushed) = (told_hours(data), hours(&with_host(held(&loads[..3]))));
    assert!(hours_flushed.len() > 400, "{}", hours_flushed.len());
    hours_flushed.iter().for_each(|(hour, row)| assert_eq!(hours_told.get(hour), Some(row), "{hour:?}"));
    let series = sql(data, "SELECT metric, kind, help FROM system.series WHERE metric LIKE 'jobs%'");
    assert_eq!(series, [serde_json::json!({"metric": "jobs_done_total", "kind": "counter", "help": "What was done."})]);

    // Through the stages from their state, flushed, and merged.
    let server = Server::start(data);
    let health = server.get("/health").ending(200).json();
    assert_eq!(health["status"], "healthy", "{health}");
    server.stop();
    plimsoll(data, &["compact"]).ending(0);
    assert_same(&told(data), &held(&loads));
    assert_eq!(told_hours(data), hours(&with_host(held(&loads))));
    let verified = plimsoll(data, &["verify"]).ending(0).stderr;
    assert!(verified.contains(": 0 wrong"), "{verified}");
    assert!(!data.join("set-aside").exists(), "nothing of it is unknown");
}

#[test]
fn a_store_of_this_format_has_what_its_test_is_for() {
    let files = |folder: &str| std::fs::read_dir(fixture().join(folder)).map_or(0, Iterator::count);
    for folder in ["samples/2024-01", "samples/2024-02", "rollups", "staleness", "histograms", "checkpoints", "series"]
    {
        assert!(files(folder) > 0, "no file in {folder}");
    }
    let logs = std::fs::read_dir(fixture().join("wal")).unwrap();
    assert!(logs.map(|log| log.unwrap().metadata().unwrap().len()).sum::<u64>() > 1000, "an empty log");
}

fn python(arguments: &[&str]) -> Ran {
    let mut command = Command::new("python3");
    command.args(arguments);
    run(command, b"")
}

/// What the reader made from FORMAT.md says; `None` where it cannot run, which it must in CI.
fn read(data: &Path) -> Option<Ran> {
    let has_pyarrow = || {
        let mut command = Command::new("python3");
        command.args(["-c", "import pyarrow.parquet"]);
        command.output().is_ok_and(|ran| ran.status.success())
    };
    if std::env::var_os("CI").is_none() && !has_pyarrow() {
        eprintln!("skipped: python3 has no pyarrow (`pip install pyarrow`)");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/read_store.py");
    Some(python(&[script.to_str().unwrap(), data.to_str().unwrap()]))
}

/// The samples that the reader printed.
fn samples_of(text: &str) -> Samples {
    let sample = |line: &str| {
        let ["sample", metric, labels, time, value] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
        let labels = labels.replace("\\u00e9", "é");
        Some(((format!("{metric}{labels}"), time.parse().unwrap()), value.parse().unwrap()))
    };
    text.lines().filter_map(sample).collect()
}

/// The number behind `KIND NAME`.
#[track_caller]
fn number_of(text: &str, kind: &str, name: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{kind}\t{name}\t")));
    found.unwrap_or_else(|| panic!("no {kind} {name}: {text}")).parse().unwrap()
}

/// First with what is in the log alone, then with all of it in tables: what stages make of a log is in memory, not at rest.
#[track_caller]
fn assert_reader_agrees(data: &Path) {
    let Some(ran) = read(data) else { return };
    let text = ran.ending(0).text();
    for what in ["bodies", "indexes", "pages", "frames", "sources", "logged rows", "states", "witnesses"] {
        assert!(number_of(&text, "checked", what) > 0, "{what}");
    }
    assert_same(&samples_of(&text), &told(data));
    Server::start(data).stop();
    let text = read(data).expect("it ran before").ending(0).text();
    assert_same(&samples_of(&text), &told(data));
    for table in plimsoll::model::Table::ALL.map(plimsoll::model::Table::name) {
        let rows = sql(data, &format!("SELECT count(*) AS n FROM {table}"))[0]["n"].as_u64().unwrap();
        assert_eq!(number_of(&text, "rows", table), rows, "{table}");
    }
}

#[test]
fn a_reader_made_from_the_text_alone_says_what_sql_says() {
    assert_reader_agrees(copied().path());
}

#[test]
fn the_text_draws_what_is_written_today() {
    let folder = tempdir().unwrap();
    make(folder.path());
    // Series of several pages, and pages of several series.
    let mut load = Load::default();
    for n in 0..34_000 {
        let nanos = (START + n) * 1_000_000_000;
        load.add("a", "long", (n as f64).sqrt(), nanos);
        load.add("b", "long", (n * 7 % 1001) as f64 / 4.0, nanos);
    }
    load.import(folder.path());
    let server = Server::start(folder.path());
    server.write("web,host=late,zone=é long=1.5 1706616000000000001\n");
    send_otlp(&server, OTLP_AFTER[1]);
    server.kill();
    assert_reader_agrees(folder.path());
}

#[test]
fn the_reader_finds_a_flipped_byte() {
    let largest = |folder: &str| -> String {
        let files = std::fs::read_dir(fixture().join(folder)).unwrap().map(|file| file.unwrap());
        let largest = files.max_by_key(|file| file.metadata().unwrap().len()).unwrap();
        format!("{folder}/{}", largest.file_name().to_str().unwrap())
    };
    let paths = ["samples/2024-01", "wal", "checkpoints", "rollups", "series"].map(largest);
    let mut told = BTreeSet::new();
    for path in paths.iter().map(String::as_str).chain(["generation"]) {
        let folder = copied();
        let file = folder.path().join(path);
        let mut bytes = std::fs::read(&file).unwrap();
        // In the midst of a head or a body.
        let at = (bytes.len() / 2).min(40);
        bytes[at] ^= 0x10;
        std::fs::write(file, bytes).unwrap();
        let Some(ran) = read(folder.path()) else { return };
        assert_eq!(ran.code, Some(1), "{path}: {}", ran.stderr);
        told.insert(ran.stderr);
    }
    assert_eq!(told.len(), paths.len() + 1, "each is told for itself: {told:?}");
}
