//! Real data that nobody here tuned for: the public sets in `../shared/data`, imported, asked, exported, read by others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType, TimestampNanosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Ran, number, plimsoll, run, shared_data, sql};

/// How many, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sum {
    count: u64,
    sum: f64,
}

#[track_caller]
fn assert_same(found: &BTreeMap<String, Sum>, wanted: &BTreeMap<String, Sum>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, wanted) in wanted {
        let found = found[name];
        assert_eq!(found.count, wanted.count, "{name}");
        let near = (found.sum - wanted.sum).abs() <= 1e-9 * wanted.sum.abs();
        assert!(near, "{name}: sum {} and not {}", found.sum, wanted.sum);
    }
}

/// Count and sum by a text expression.
fn sums(data: &Path, by: &str) -> BTreeMap<String, Sum> {
    let rows = sql(data, &format!("SELECT {by} AS name, count(*) AS count, sum(value) AS sum FROM metrics GROUP BY 1"));
    let sum = |row: &Value| Sum { count: row["count"].as_u64().unwrap(), sum: row["sum"].as_f64().unwrap() };
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), sum(row))).collect()
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[track_caller]
fn import(data: &Path, options: &[&str], files: &[PathBuf]) -> Ran {
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    plimsoll(data, &[&["import"], options, &files[..]].concat()).ending(0)
}

/// The commands of the house answer with rows on what was imported.
#[track_caller]
fn assert_answers(data: &Path, metric: &str, horizon: &str) {
    let commands: [&[&str]; 5] = [
        &["sql", "SELECT metric, count(*) AS n, avg(value) AS mean FROM metrics GROUP BY 1 ORDER BY 2 DESC LIMIT 3"],
        &["anomalies", "--limit", "5"],
        &["correlate", "--limit", "5"],
        &["forecast", metric, "--horizon", horizon],
        &["report", "health-overview"],
    ];
    for command in commands {
        let ran = plimsoll(data, &[command, &["--format", "ndjson"]].concat()).ending(0);
        assert!(ran.text().lines().count() > 0, "{command:?} answers with no rows");
    }
    for row in sql(data, &format!("SELECT * FROM forecast('{metric}', '{horizon}')")) {
        let [lo, mean, hi] = ["lo", "mean", "hi"].map(|name| row[name].as_f64().unwrap_or(f64::NAN));
        assert!(lo <= mean && mean <= hi, "an interval about its mean: {row}");
    }
}

#[test]
fn nab_is_imported_whole() {
    let Some(shared) = shared_data() else { return };
    let folder = tempdir().unwrap();
    let data = folder.path();
    let files = files(&shared.join("nab/data"), ".csv");
    let (mut rows, mut wanted) = (0, BTreeMap::new());
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        // The last value of a time counts.
        let by_time: BTreeMap<&str, f64> = text
            .lines()
            .skip(1)
            .map(|line| line.split_once(',').unwrap())
            .inspect(|_| rows += 1)
            .map(|(time, value)| (time, value.parse().unwrap()))
            .collect();
        let name = file.file_stem().unwrap().to_str().unwrap().replace('-', "_");
        wanted.insert(name, Sum { count: by_time.len() as u64, sum: by_time.values().sum() });
    }
    let distinct: u64 = wanted.values().map(|sum| sum.count).sum();
    assert_eq!((files.len(), rows, distinct), (24, 141_776, 141_741), "the data set as its README has it");

    let ran = import(data, &[], &files);
    let told = format!("24 files: {rows} rows read, {rows} samples taken, {distinct} of them new, 35 repeat");
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    assert_same(&sums(data, "metric"), &wanted);
    let ran = import(data, &[], &files);
    assert!(ran.stderr.contains("samples taken, 0 of them new"), "again: {}", ran.stderr);
    assert_same(&sums(data, "metric"), &wanted);
    assert_answers(data, "ec2_cpu_utilization_53ea38", "1d");
    assert_exports(data, &wanted);
}

/// Exports read back as what was exported.
fn assert_exports(data: &Path, wanted: &BTreeMap<String, Sum>) {
    let metric = "Twitter_volume_AMZN";
    let (lines, statement) = (wanted[metric].count, format!("SELECT * FROM metrics WHERE metric = '{metric}'"));
    for (format, ending) in [("parquet", "parquet"), ("csv", "csv"), ("ndjson", "ndjson")] {
        let folder = tempdir().unwrap();
        let (out, again) = (folder.path().join("out"), folder.path().join("again"));
        let out = out.to_str().unwrap();
        let ran = plimsoll(data, &["export", "--out", out, "--as", format, "--query", &statement]).ending(0);
        let file = ran.text().trim().to_owned();
        assert!(file.ends_with(ending) && Path::new(&file).is_file(), "{file}");
        if format != "parquet" {
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text.lines().count() as u64, lines + u64::from(format == "csv"), "{format}");
        }
        import(&again, &[], &[PathBuf::from(file)]);
        let only = BTreeMap::from([(metric.to_owned(), wanted[metric])]);
        assert_same(&sums(&again, "metric"), &only);

        let ran = plimsoll(data, &["export", "--out", out, "--as", format, "--metric", metric, "--partition", "day"]);
        let days = ran.ending(0).text().lines().count() as f64;
        let wanted = sql(data, &format!("SELECT count(DISTINCT date_trunc('day', time)) FROM \"{metric}\""));
        assert_eq!(days, number(&wanted), "{format}: a file a day");
    }
    let folder = tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    plimsoll(data, &["export", "--out", out, "--wide", "--as", "csv", "--metric", "speed_6005", "speed_7578"])
        .ending(0);
    let text = std::fs::read_to_string(folder.path().join("wide.csv")).unwrap();
    assert!(text.starts_with("time,speed_6005,speed_7578\n"), "{}", text.lines().next().unwrap());
    plimsoll(data, &["export", "--out", out, "--metric", "nowhere"]).ending(2);
    assert!(files(folder.path(), ".unfinished").is_empty());
}

#[test]
fn services_are_imported_whole_with_the_folder_as_label() {
    let Some(shared) = shared_data() else { return };
    let folder = tempdir().unwrap();
    let data = folder.path();
    let files = files(&shared.join("services"), "metrics.csv.gz");
    let mut wanted: BTreeMap<String, Sum> = BTreeMap::new();
    for file in &files {
        let service = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
        let mut lines = text.lines().map(|line| line.split(','));
        let names: Vec<&str> = lines.next().unwrap().skip(1).collect();
        let mut columns = vec![Sum::default(); names.len()];
        for cells in lines {
            for (column, cell) in columns.iter_mut().zip(cells.skip(1)) {
                if let Ok(value) = cell.parse::<f64>() {
                    *column = Sum { count: column.count + 1, sum: column.sum + value };
                }
            }
        }
        wanted.extend(names.iter().zip(columns).map(|(name, sum)| (format!("{service}/{name}"), sum)));
    }
    assert_eq!(wanted.len(), 8 * 19);
    import(data, &["--label", "service={parent}"], &files);
    assert_same(&sums(data, "service || '/' || metric"), &wanted);
    assert_answers(data, "m00", "6h");
    assert_duckdb_agrees(data);
}

#[test]
fn the_recording_is_imported_whole() {
    let Some(shared) = shared_data() else { return };
    let folder = tempdir().unwrap();
    let data = folder.path();
    let file = shared.join("recording/node.parquet");
    let (rows, refused, wanted) = recording(&file);
    let distinct: u64 = wanted.values().sum();
    assert_eq!((rows, refused, distinct), (5_505_729, 35, 5_426_991), "the data set as its README has it; 35 are NaN");
    let ran = import(data, &[], &[file]);
    let told = format!("{rows} rows read, {} samples taken, {distinct} of them new", rows - refused);
    assert!(ran.stderr.contains(&told) && ran.stderr.contains("35 refused"), "{}", ran.stderr);
    let stored: BTreeMap<String, u64> = sums(data, "metric").into_iter().map(|(name, sum)| (name, sum.count)).collect();
    assert_eq!(stored, wanted);
    assert_answers(data, "node_load1", "10m");
    assert_duckdb_agrees(data);
}

/// Rows of the recording, those that are no finite number, and distinct series and times a metric.
fn recording(path: &Path) -> (u64, u64, BTreeMap<String, u64>) {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(65_536).build().unwrap();
    let (mut rows, mut refused) = (0, 0);
    let mut series: HashMap<(String, String), Vec<i64>> = HashMap::new();
    for batch in reader {
        let batch = batch.unwrap();
        rows += batch.num_rows() as u64;
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let text = |name: &str| arrow::compute::cast(column(name), &arrow::datatypes::DataType::Utf8).unwrap();
        let (metrics, labels, values) = (text("metric"), text("labels"), column("value").as_primitive::<Float64Type>());
        let (metrics, labels) = (metrics.as_string::<i32>(), labels.as_string::<i32>());
        let times = column("time");
        let time = |row: usize| match times.as_primitive_opt::<TimestampNanosecondType>() {
            Some(nanos) => nanos.value(row),
            None => times.as_primitive_opt::<TimestampMicrosecondType>().map_or_else(
                || times.as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(row),
                |micros| micros.value(row),
            ),
        };
        let mut run: Option<(usize, Vec<i64>)> = None;
        for row in 0..batch.num_rows() {
            if !values.is_valid(row) || !values.value(row).is_finite() {
                refused += 1;
                continue;
            }
            // Rows of one series mostly follow each other: one lookup for all of them.
            let is_same =
                |first: usize| metrics.value(first) == metrics.value(row) && labels.value(first) == labels.value(row);
            match &mut run {
                Some((first, times)) if is_same(*first) => times.push(time(row)),
                _ => {
                    if let Some((first, times)) = run.replace((row, vec![time(row)])) {
                        let key = (metrics.value(first).to_owned(), labels.value(first).to_owned());
                        series.entry(key).or_default().extend(times);
                    }
                }
            }
        }
        if let Some((first, times)) = run {
            let key = (metrics.value(first).to_owned(), labels.value(first).to_owned());
            series.entry(key).or_default().extend(times);
        }
    }
    let mut distinct = BTreeMap::new();
    for ((metric, _), mut times) in series {
        times.sort_unstable();
        times.dedup();
        *distinct.entry(metric).or_default() += times.len() as u64;
    }
    (rows, refused, distinct)
}

/// DuckDB's view of the store's Parquet, as the README has it.
const DUCKDB: &str = r#"
import duckdb, json, sys
data = sys.argv[1]
# It would be drawn into the answer where the machine is slow.
duckdb.sql("SET enable_progress_bar = false")
rows = duckdb.sql(f"""
    WITH samples AS (
        SELECT metric, series, time, coalesce(value, unscaled / power(10, scale)) AS value
        FROM read_parquet('{data}/samples/*/*.parquet')
    )
    SELECT series.metric, cast(to_json(map_entries(series.labels)) AS varchar) AS labels,
           count(*) AS n, sum(value) AS total, min(value) AS lo, max(value) AS hi, epoch_us(max(time)) AS latest,
           count(*) FILTER (samples.metric <> series.metric) AS strangers
    FROM samples JOIN (SELECT DISTINCT series, metric, labels FROM read_parquet('{data}/series/*.parquet')) AS series
         USING (series)
    GROUP BY ALL
""").fetchall()
json.dump([[metric, {e['key']: e['value'] for e in json.loads(labels)}, *rest] for metric, labels, *rest in rows], sys.stdout)
"#;

/// Joined in DuckDB, `samples` and `series` say what `plimsoll sql` says. Skipped without DuckDB, but not in CI.
fn assert_duckdb_agrees(data: &Path) {
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments);
        run(command, b"")
    };
    if std::env::var_os("CI").is_none() && python(&["-c", "import duckdb"]).code != Some(0) {
        eprintln!("skipped: python3 has no duckdb (`pip install duckdb`)");
        return;
    }
    let ran = python(&["-c", DUCKDB, data.to_str().unwrap()]).ending(0);
    let duck: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let labels: BTreeSet<&String> = duck.iter().flat_map(|row| row[1].as_object().unwrap().keys()).collect();
    let columns: String = labels.iter().map(|label| format!(", \"{label}\"")).collect();
    let here = sql(
        data,
        &format!(
            "SELECT metric{columns}, count(*) AS n, sum(value) AS total, min(value) AS lo, max(value) AS hi,
                    CAST(max(time) AS BIGINT) / 1000 AS latest
             FROM metrics GROUP BY metric{columns}"
        ),
    );
    assert_eq!(duck.len(), here.len(), "series");
    let key = |metric: &Value, labels: Vec<(&String, &Value)>| format!("{metric} {labels:?}");
    let of_here: HashMap<String, &Value> = here
        .iter()
        .map(|row| {
            let given = labels.iter().filter_map(|&label| Some((label, row.get(label)?)));
            (key(&row["metric"], given.collect()), row)
        })
        .collect();
    for row in &duck {
        let name = key(&row[0], row[1].as_object().unwrap().iter().collect::<BTreeMap<_, _>>().into_iter().collect());
        let here = of_here.get(&name).unwrap_or_else(|| panic!("{name} is not in plimsoll sql"));
        let [n, total, lo, hi, latest, strangers] = [2, 3, 4, 5, 6, 7].map(|at| row[at].as_f64().unwrap());
        let told = |name: &str| here[name].as_f64().unwrap_or_else(|| panic!("no {name}: {here}"));
        assert_eq!((n, latest, strangers), (told("n"), told("latest"), 0.0), "{name}");
        for (duck, here) in [(total, told("total")), (lo, told("lo")), (hi, told("hi"))] {
            assert!((duck - here).abs() <= 1e-9 * here.abs(), "{name}: DuckDB has {duck}, plimsoll sql {here}");
        }
    }
}

#[test]
fn each_format_of_a_file_gives_the_same_samples() {
    let folder = tempdir().unwrap();
    let here = folder.path();
    let packed =
        crate::support::gzip(b"cpu,host=a value=1.5 1700000000000000000\ncpu,host=b value=2 1700000060000000000\n");
    let zstd = zstd::encode_all(
        &b"time,metric,host,value\n2023-11-14T22:13:20Z,cpu_value,a,1.5\n2023-11-14T22:14:20Z,cpu_value,b,2\n"[..],
        3,
    )
    .unwrap();
    let cases: [(&str, Vec<u8>, &[&str]); 7] = [
        ("a.lp", b"cpu,host=a value=1.5 1700000000\ncpu,host=b value=2 1700000060\n".to_vec(), &["--precision", "s"]),
        ("b.lp.gz", packed, &[]),
        ("c.csv.zst", zstd, &[]),
        ("d.csv", b"ts,host,cpu_value\n1700000000,a,1.5\n1700000060,b,2\n".to_vec(), &[]),
        ("e.csv", b"when;who;how\n1700000000;a;1.5\n1700000060;b;2\n".to_vec(), &["--time", "when", "--value", "how", "--metric", "cpu_value", "--label", "host={who}"]),
        (
            "f.ndjson",
            b"{\"metric\":\"cpu_value\",\"host\":\"a\",\"time\":1700000000,\"value\":1.5}\n{\"metric\":\"cpu_value\",\"host\":\"b\",\"time\":1700000060000,\"value\":2}\n".to_vec(),
            &[],
        ),
        (
            "g.prom",
            b"# TYPE cpu_value gauge\ncpu_value{host=\"a\"} 1.5 1700000000000\ncpu_value{host=\"b\"} 2 1700000060000\n".to_vec(),
            &[],
        ),
    ];
    let wanted = [("a", 1_700_000_000, 1.5), ("b", 1_700_000_060, 2.0)];
    for (name, bytes, options) in cases {
        let data = here.join(format!("data-{name}"));
        std::fs::write(here.join(name), &bytes).unwrap();
        import(&data, options, &[here.join(name)]);
        let rows =
            sql(&data, "SELECT host, CAST(time AS BIGINT) / 1000000000 AS s, value FROM cpu_value ORDER BY time");
        let told = |row: &Value| {
            (row["host"].as_str().unwrap().to_owned(), row["s"].as_i64().unwrap(), row["value"].as_f64().unwrap())
        };
        assert_eq!(
            rows.iter().map(told).collect::<Vec<_>>(),
            wanted.map(|(host, s, value)| (host.to_owned(), s, value)),
            "{name}"
        );
    }
}

/// Samples of the large file: each second of so many hosts.
const HOSTS: u64 = 50;
const SECONDS: u64 = 12_000;

#[test]
fn a_killed_import_runs_again_without_doubling_and_more_than_memory_is_exported() {
    let folder = tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("load.lp"));
    let line = |n: u64| format!("load,host=h{} v={} {}\n", n % HOSTS, n % 997, 1_700_000_000 + n / HOSTS);
    std::fs::write(&file, (0..HOSTS * SECONDS).map(line).collect::<String>()).unwrap();
    let arguments = ["import", "--precision", "s", file.to_str().unwrap()];

    let mut child = crate::support::program(&data).args(arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    let logged = || {
        let logs = std::fs::read_dir(data.join("wal")).into_iter().flatten();
        logs.filter_map(|log| Some(log.ok()?.metadata().ok()?.len())).sum::<u64>()
    };
    crate::support::until("the import has begun", || logged() > 100_000);
    child.kill().unwrap();
    child.wait().unwrap();
    let count = |data: &Path| number(&sql(data, "SELECT count(*) FROM load_v")) as u64;
    let before = count(&data);
    assert!(before > 0 && before < HOSTS * SECONDS, "killed in the midst of it: {before}");

    let told = plimsoll(&data, &arguments).ending(0).stderr;
    assert!(told.contains(&format!("{before} repeat a series and time")), "{told}");
    assert_eq!(count(&data), HOSTS * SECONDS);
    let total: u64 = (0..HOSTS * SECONDS).map(|n| n % 997).sum();
    assert_eq!(number(&sql(&data, "SELECT sum(v) FROM load")) as u64, total);

    // Sorted by way of the disk, written as the rows come.
    let out = folder.path().join("out");
    let little = [("PLIMSOLL__QUERY__MEMORY", "16MB")];
    let export = |options: &[&str]| {
        let arguments = [&["export", "--out", out.to_str().unwrap()], options].concat();
        let text = crate::support::plimsoll_with(&data, &arguments, &little, b"").ending(0).text();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let [csv] = &export(&["--metric", "load_v", "--as", "csv"])[..] else { panic!("one file") };
    assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count() as u64, HOSTS * SECONDS + 1);
    let days = export(&["--metric", "load_v", "--partition", "day"]);
    let rows = |path: &String| {
        let file = std::fs::File::open(path).unwrap();
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().metadata().file_metadata().num_rows() as u64
    };
    assert_eq!(days.iter().map(rows).sum::<u64>(), HOSTS * SECONDS);
    assert!(!days.is_empty() && !files(&out, "unfinished").iter().any(|path| path.exists()), "{days:?}");
}
