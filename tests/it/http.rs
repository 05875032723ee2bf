//! The server over HTTP: what goes in, what comes out, and that both are the same.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::{Answered, Server, gzip, number, sql};

/// 2023-11-14T22:13:20Z, in seconds.
const T0: i64 = 1_700_000_000;

fn serve() -> (TempDir, Server) {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    (folder, server)
}

#[test]
fn lines_come_out_of_sql_as_they_went_in() {
    let (_folder, server) = serve();
    let cases: [(&str, bool, &str); 10] = [
        ("/write", false, "temp,host=a v=1.5 1700000000000000001"),
        ("/write?precision=ns", false, "temp,host=b v=1.5 1700000000000000001"),
        ("/write?precision=us", false, "temp,host=c v=1.5 1700000000000000"),
        ("/write?precision=ms", false, "temp,host=d v=1.5 1700000000000"),
        ("/write?precision=s", false, "temp,host=e v=1.5 1700000000"),
        ("/write", true, "temp,host=f v=1.5 1700000000000000001"),
        ("/api/v2/write?bucket=x&org=y&precision=s", true, "temp,host=g v=1.5 1700000000"),
        ("/api/v3/write_lp?db=&precision=second", false, "temp,host=h v=1.5 1700000000"),
        ("/write?precision=s", false, "\n# a comment\r\n\r\ntemp,host=i v=1.5 1700000000\r\n"),
        ("/write?precision=s", false, "temp,host=j v=1.5,ok=true,n=3i,u=4u,note=\"a, b\" 1700000000"),
    ];
    for (path, is_packed, lines) in cases {
        let packed = gzip(lines.as_bytes());
        let (headers, body) = match is_packed {
            true => (vec![("content-encoding", "gzip")], &packed[..]),
            false => (vec![], lines.as_bytes()),
        };
        let answer = server.post(path, &headers, body);
        assert_eq!(answer.status, 204, "{path} {lines}: {}", answer.text());
    }
    let rows =
        server.sql("SELECT host, value, CAST(time AS BIGINT) - 1700000000000000000 AS rest FROM temp_v ORDER BY host");
    let told: Vec<(&str, f64, i64)> = rows
        .iter()
        .map(|row| (row["host"].as_str().unwrap(), row["value"].as_f64().unwrap(), row["rest"].as_i64().unwrap()))
        .collect();
    let nanos = |host: &str| i64::from(["a", "b", "f"].contains(&host));
    let hosts = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    assert_eq!(told, hosts.map(|host| (host, 1.5, nanos(host))));
    let further = server.sql("SELECT metric, value FROM metrics WHERE host = 'j' ORDER BY metric");
    let told = further.iter().map(|row| (row["metric"].as_str().unwrap(), row["value"].as_f64().unwrap()));
    assert_eq!(told.collect::<Vec<_>>(), [("temp_n", 3.0), ("temp_ok", 1.0), ("temp_u", 4.0), ("temp_v", 1.5)]);
}

#[test]
fn values_keep_every_bit() {
    let folder = tempdir().unwrap();
    let values = [
        0.0,
        -0.0,
        0.1,
        1.0 / 3.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -1e300,
        9_007_199_254_740_993.0,
        1e15,
        123.456,
        0.1 + 0.2,
        100.0,
        2.5e-7,
    ];
    let server = Server::start(folder.path());
    let lines = values.iter().enumerate().map(|(at, value)| format!("bits v={value:e} {}\n", T0 + at as i64));
    server.post("/write?precision=s", &[], lines.collect::<String>().as_bytes()).ending(204);
    let bits = |server: &Server| -> Vec<u64> {
        let answer =
            server.post("/api/v1/sql?format=arrow", &[], b"SELECT value FROM bits_v ORDER BY time").ending(200);
        let batches = arrow_batches(&answer);
        let bits = |batch: &RecordBatch| -> Vec<u64> {
            batch.column(0).as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect()
        };
        batches.iter().flat_map(bits).collect()
    };
    let wanted: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits(&server), wanted, "in memory");
    server.stop();
    assert_eq!(bits(&Server::start(folder.path())), wanted, "in a segment");
}

#[test]
fn performance_objects_are_samples() {
    let (_folder, server) = serve();
    let one = json!({"clientId": "u1", "page": "/dash", "component": "Grid", "type": "navigation", "value": 150,
        "metadata": {"userAgent": "Mozilla", "bytes": 2048, "timestamp": T0 * 1000}});
    let two = json!({"clientId": "u2", "page": "/dash", "component": "Grid", "type": "navigation", "value": 250.5,
        "timestamp": T0 * 1000 + 1});
    server.post("/api/performance", &[], one.to_string().as_bytes()).ending(204);
    server.post("/api/v1/events", &[], json!([two]).to_string().as_bytes()).ending(204);
    let rows = server.sql(
        "SELECT client_id, page, component, user_agent, value, CAST(time AS BIGINT) / 1000000 AS ms FROM navigation ORDER BY time",
    );
    let row = |client: &str, value: f64, ms: i64| {
        let mut row = json!({"client_id": client, "page": "/dash", "component": "Grid", "value": value, "ms": ms});
        if client == "u1" {
            row["user_agent"] = "Mozilla".into();
        }
        row
    };
    assert_eq!(rows, [row("u1", 150.0, T0 * 1000), row("u2", 250.5, T0 * 1000 + 1)]);
    assert_eq!(number(&server.sql("SELECT value FROM navigation_bytes")), 2048.0);
}

fn arrow_batches(answer: &Answered) -> Vec<RecordBatch> {
    let reader = arrow::ipc::reader::StreamReader::try_new(Cursor::new(&answer.body), None).unwrap();
    reader.map(Result::unwrap).collect()
}

/// (nanoseconds, host, value) of each row.
type Rows = Vec<(i64, String, f64)>;

fn rows_of(batches: &[RecordBatch]) -> Rows {
    let mut rows = Vec::new();
    for batch in batches {
        let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>();
        let hosts =
            arrow::compute::cast(batch.column_by_name("host").unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
        let values = batch.column_by_name("value").unwrap().as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            rows.push((times.value(row), hosts.as_string::<i32>().value(row).to_owned(), values.value(row)));
        }
    }
    rows
}

fn json_rows(rows: &[Value]) -> Rows {
    let time = |row: &Value| -> i64 {
        let parsed: jiff::Timestamp = row["time"].as_str().unwrap().parse().unwrap();
        i64::try_from(parsed.as_nanosecond()).unwrap()
    };
    rows.iter()
        .map(|row| (time(row), row["host"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap()))
        .collect()
}

fn csv_rows(text: &str) -> Rows {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time,host,value"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        json!({"time": cells[0], "host": cells[1], "value": cells[2].parse::<f64>().unwrap()})
    };
    json_rows(&lines.map(row).collect::<Vec<_>>())
}

#[test]
fn every_format_says_the_same_rows() {
    let (_folder, server) = serve();
    server.write("cpu,host=a v=1.5 1700000000000000001\ncpu,host=b v=0.1 1700000000500000000\ncpu,host=a v=-3 1700000001000000000\n");
    let wanted = vec![
        (1_700_000_000_000_000_001, "a".to_owned(), 1.5),
        (1_700_000_000_500_000_000, "b".to_owned(), 0.1),
        (1_700_000_001_000_000_000, "a".to_owned(), -3.0),
    ];
    let statement = "SELECT time, host, value FROM cpu_v ORDER BY time";
    let cases = [
        ("json", "application/json"),
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv"),
        ("arrow", "application/vnd.apache.arrow.stream"),
        ("parquet", "application/vnd.apache.parquet"),
    ];
    for (format, content_type) in cases {
        let read = |answer: &Answered| -> Rows {
            assert!(answer.content_type.starts_with(content_type), "{format}: {}", answer.content_type);
            match format {
                "json" => json_rows(answer.json().as_array().unwrap()),
                "ndjson" => json_rows(
                    &answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>(),
                ),
                "csv" => csv_rows(&answer.text()),
                "arrow" => rows_of(&arrow_batches(answer)),
                _ => {
                    let bytes = bytes::Bytes::from(answer.body.clone());
                    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
                    rows_of(&reader.map(Result::unwrap).collect::<Vec<_>>())
                }
            }
        };
        let by_name = server.post(&format!("/api/v1/sql?format={format}"), &[], statement.as_bytes()).ending(200);
        assert_eq!(read(&by_name), wanted, "format={format}");
        let asked = server.get_with(&format!("/api/v1/sql?q={}", encoded(statement)), &[("accept", content_type)]);
        assert_eq!(read(&asked.ending(200)), wanted, "Accept: {content_type}");
    }
    let table = server.post("/api/v1/sql?format=table", &[], statement.as_bytes()).ending(200).text();
    assert!(table.starts_with("+--") && table.contains("| b    | 0.1   |"), "{table}");
    let markdown = server.post("/api/v1/sql?format=markdown", &[], statement.as_bytes()).ending(200).text();
    assert!(markdown.starts_with("| time") && markdown.lines().nth(1).unwrap().starts_with("|--"), "{markdown}");
    let refused = server.post("/api/v1/sql?format=xml", &[], statement.as_bytes()).ending(400);
    assert!(refused.json()["error"].as_str().unwrap().contains("`xml`"));
}

#[test]
fn no_rows_are_rows_in_every_format() {
    let (_folder, server) = serve();
    server.write("cpu,host=a v=1 1700000000000000000\n");
    let statement = "SELECT time, host, value FROM cpu_v WHERE host = 'nobody'";
    let ask =
        |format: &str| server.post(&format!("/api/v1/sql?format={format}"), &[], statement.as_bytes()).ending(200);
    assert_eq!(ask("json").json(), json!([]));
    assert_eq!(ask("ndjson").text(), "");
    assert_eq!(ask("csv").text(), "time,host,value\n");
    assert_eq!(rows_of(&arrow_batches(&ask("arrow"))), []);
    let bytes = bytes::Bytes::from(ask("parquet").body);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 0);
    assert!(ask("table").text().contains("| time | host | value |"));
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Prometheus text, read strictly: every sample has its TYPE before it, once, and its value is a number.
fn exposition(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|letter: char| letter.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
            assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "{name} is described twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let name = series.split('{').next().unwrap();
            assert!(is_name(name) && types.contains_key(name), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
            assert!(types[name] != "counter" || name.ends_with("_total"), "a counter's name ends in _total: {line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert_eq!(samples.insert(series.to_owned(), value), None, "{series} is there twice");
        }
    }
    samples
}

#[test]
fn metrics_about_itself_are_prometheus_text_and_move() {
    let (_folder, server) = serve();
    let ask = || {
        let answer = server.get("/metrics").ending(200);
        assert!(answer.content_type.starts_with("text/plain; version=0.0.4"), "{}", answer.content_type);
        exposition(&answer.text())
    };
    let before = ask();
    server.write("cpu,host=a v=1,w=2,note=\"x\" 1700000000000000000\ncpu,host=b v=1 1700000000000000000\n");
    server.post("/write", &[], b"cpu v=1 1700000000000000000\nbroken\n").ending(400);
    let after = ask();
    let moved = |name: &str| after[name] - before[name];
    assert_eq!(moved("plimsoll_ingest_samples_total"), 4.0);
    assert_eq!(moved("plimsoll_ingest_lines_total"), 4.0);
    assert_eq!(moved("plimsoll_ingest_refused_lines_total"), 1.0);
    assert_eq!(moved("plimsoll_ingest_text_fields_total"), 1.0);
    assert_eq!(moved("plimsoll_series"), 4.0);
    assert_eq!(moved("plimsoll_head_samples"), 4.0);
    assert!(moved("plimsoll_wal_bytes") > 0.0);
    assert!(after.keys().any(|series| series.starts_with("plimsoll_stage_samples_total{")), "{after:?}");
}

#[test]
fn health_is_told_and_an_unknown_path_names_those_there_are() {
    let (_folder, server) = serve();
    for path in ["/health", "/ready"] {
        assert_eq!(server.get(path).ending(200).json(), json!({"status": "healthy"}), "{path}");
    }
    let unknown = server.get("/nothing/here").ending(404).json();
    let told = unknown["error"].as_str().unwrap();
    for named in ["/nothing/here", "/write", "/api/v1/sql", "/metrics", "/health"] {
        assert!(told.contains(named), "{named}: {told}");
    }
    server.get("/write").ending(405);
    server.post("/health", &[], b"").ending(405);
}

#[test]
fn the_last_value_of_a_series_and_time_wins_wherever_the_first_is() {
    let folder = tempdir().unwrap();
    let lines = |value: i64| (0..10).map(|n| format!("door,id=x v={value} {}\n", T0 + n)).collect::<String>();
    let write =
        |server: &Server, value: i64| drop(server.post("/write?precision=s", &[], lines(value).as_bytes()).ending(204));
    let count_and_sum = "SELECT count(*) AS n, sum(value) AS s FROM door_v";
    let told = |value: f64| vec![json!({"n": 10, "s": 10.0 * value})];

    let server = Server::start(folder.path());
    server.post("/write?precision=s", &[], format!("{}{}", lines(1), lines(2)).as_bytes()).ending(204);
    assert_eq!(server.sql(count_and_sum), told(2.0), "in one request");
    write(&server, 3);
    assert_eq!(server.sql(count_and_sum), told(3.0), "in two requests");
    server.stop();
    let server = Server::start(folder.path());
    write(&server, 4);
    assert_eq!(server.sql(count_and_sum), told(4.0), "over a segment");
    server.stop();
    assert_eq!(sql(folder.path(), count_and_sum), told(4.0), "two segments");
    crate::support::plimsoll(folder.path(), &["compact"]).ending(0);
    assert_eq!(sql(folder.path(), count_and_sum), told(4.0), "merged");
    assert_eq!(
        number(&sql(
            folder.path(),
            "SELECT CAST(sum(rows) AS BIGINT) FROM system.segments WHERE \"table\" = 'samples'"
        )),
        10.0
    );
    assert_eq!(
        number(&sql(folder.path(), "SELECT CAST(sum(count) AS BIGINT) FROM rollups WHERE metric = 'door_v'")),
        10.0
    );
    assert_eq!(number(&sql(folder.path(), "SELECT sum(sum) FROM rollups WHERE metric = 'door_v'")), 40.0);
}

#[test]
fn a_late_sample_joins_its_month_and_its_window() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    server.write("late,id=x v=1 1699999200000000000\nlate,id=x v=2 1700002800000000000\n");
    server.stop();
    let server = Server::start(folder.path());
    // Two months back, then one into a window that has been closed and stored.
    server.write("late,id=x v=10 1694000000000000000\nlate,id=x v=20 1699999260000000000\n");
    let rows = "SELECT CAST(time AS BIGINT) / 1000000000 AS s, value FROM late_v ORDER BY time";
    let wanted: Vec<Value> = [(1_694_000_000, 10.0), (1_699_999_200, 1.0), (1_699_999_260, 20.0), (1_700_002_800, 2.0)]
        .map(|(s, value): (i64, f64)| json!({"s": s, "value": value}))
        .into();
    assert_eq!(server.sql(rows), wanted, "in memory");
    server.stop();
    assert_eq!(sql(folder.path(), rows), wanted, "at rest");
    for month in ["2023-09", "2023-11"] {
        assert!(folder.path().join("samples").join(month).is_dir(), "no folder of {month}");
    }
    let windows = sql(folder.path(), "SELECT count, sum FROM rollups WHERE metric = 'late_v' ORDER BY time");
    let wanted = [(1, 10.0), (2, 21.0), (1, 2.0)].map(|(count, sum): (u64, f64)| json!({"count": count, "sum": sum}));
    assert_eq!(windows, wanted);
}

#[test]
fn connections_at_once_lose_nothing_and_mix_nothing() {
    let (_folder, server) = serve();
    let (threads, requests, samples) = (4, 25, 40);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let server = &server;
            scope.spawn(move || {
                for request in 0..requests {
                    let line = |n| format!("busy,thread=t{thread} v={thread},n={n} {}\n", T0 + request * samples + n);
                    let lines: String = (0..samples).map(line).collect();
                    server.post("/write?precision=s", &[], lines.as_bytes()).ending(204);
                }
            });
        }
    });
    let rows = server
        .sql("SELECT thread, count(*) AS n, min(value) AS lo, max(value) AS hi FROM busy_v GROUP BY 1 ORDER BY 1");
    let wanted = (0..threads).map(|thread| {
        let value = thread as f64;
        json!({"thread": format!("t{thread}"), "n": requests * samples, "lo": value, "hi": value})
    });
    assert_eq!(rows, wanted.collect::<Vec<_>>());
    assert_eq!(number(&server.sql("SELECT count(*) FROM metrics")), (threads * requests * samples * 2) as f64);
}

#[test]
fn a_query_while_writing_sees_whole_requests_and_never_fewer() {
    let folder = tempdir().unwrap();
    // A small head, so that flushes happen below the queries.
    let server = Server::start_with(folder.path(), &[("PLIMSOLL__STORE__HEAD", "1MB")]);
    let (requests, samples) = (120, 1000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for request in 0..requests {
                let line = |n| format!("grow,host=h{} v={n} {}\n", n % 10, T0 + request * samples + n);
                let lines: String = (0..samples).map(line).collect();
                server.post("/write?precision=s", &[], lines.as_bytes()).ending(204);
            }
            done.store(true, Ordering::SeqCst);
        });
        let (mut seen, mut looks) = (0.0, 0);
        loop {
            let is_last = done.load(Ordering::SeqCst);
            let answer = server.post("/api/v1/sql", &[], b"SELECT count(*) FROM grow_v");
            // Before the first request there is no such table.
            if answer.status == 200 {
                let count = number(answer.json().as_array().unwrap());
                assert!(count >= seen, "{count} after {seen}");
                assert_eq!(count % samples as f64, 0.0, "a part of a request: {count}");
                seen = count;
                looks += 1;
            }
            if is_last {
                break;
            }
        }
        assert!(looks > 2, "only {looks} queries went through");
        assert_eq!(seen, (requests * samples) as f64);
    });
    // The keeper flushes when it gets to it, which on a busy machine may be after the last request.
    let flushed = || number(&server.sql("SELECT count(*) FROM system.segments WHERE \"table\" = 'samples'")) > 0.0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !flushed() {
        assert!(Instant::now() < deadline, "nothing was flushed");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(number(&server.sql("SELECT count(*) FROM grow_v")), (requests * samples) as f64);
}

#[test]
fn a_metric_and_a_measurement_are_tables() {
    let (_folder, server) = serve();
    server.write(
        "cpu,hostname=a,region=eu usage_user=1,usage_system=2 1700000000000000000\n\
         cpu,hostname=b,region=us usage_user=3,usage_system=4 1700000000000000000\n\
         cpu,hostname=a,region=eu usage_user=5 1700000010000000000\n\
         mem,hostname=a used=9 1700000000000000000\n",
    );
    let cases = [
        (
            "SELECT CAST(time AS BIGINT) / 1000000000 AS s, hostname, usage_user, usage_system FROM cpu ORDER BY time, hostname",
            json!([
                {"s": 1_700_000_000, "hostname": "a", "usage_user": 1.0, "usage_system": 2.0},
                {"s": 1_700_000_000, "hostname": "b", "usage_user": 3.0, "usage_system": 4.0},
                {"s": 1_700_000_010, "hostname": "a", "usage_user": 5.0},
            ]),
        ),
        ("SELECT hostname, usage_user FROM cpu WHERE usage_user > 3", json!([{"hostname": "a", "usage_user": 5.0}])),
        (
            "SELECT hostname, region, value FROM cpu_usage_user WHERE hostname = 'b'",
            json!([{"hostname": "b", "region": "us", "value": 3.0}]),
        ),
        ("SELECT count(*) AS n FROM metrics", json!([{"n": 6}])),
        ("SELECT count(*) AS n FROM metrics WHERE hostname = 'a'", json!([{"n": 4}])),
        ("SELECT count(*) AS n FROM metrics WHERE hostname <> 'a'", json!([{"n": 2}])),
        ("SELECT count(*) AS n FROM metrics WHERE hostname IN ('a', 'c')", json!([{"n": 4}])),
        ("SELECT count(*) AS n FROM metrics WHERE hostname LIKE '%b%'", json!([{"n": 2}])),
        ("SELECT count(*) AS n FROM metrics WHERE region IS NULL", json!([{"n": 1}])),
        ("SELECT count(*) AS n FROM metrics WHERE metric LIKE 'cpu%' AND region = 'eu'", json!([{"n": 3}])),
        ("SELECT count(*) AS n FROM metrics WHERE metric = 'mem_used' OR hostname = 'b'", json!([{"n": 3}])),
        ("SELECT count(*) AS n FROM metrics WHERE hostname = 'nobody'", json!([{"n": 0}])),
        ("SELECT count(*) AS n FROM metrics WHERE time >= '2023-11-14T22:13:30Z'", json!([{"n": 1}])),
        ("SELECT count(*) AS n FROM metrics WHERE time < '2023-11-14T22:13:30Z' AND hostname = 'a'", json!([{"n": 3}])),
        ("SELECT sum(value) AS s FROM metrics WHERE metric = 'cpu_usage_user' AND value >= 3", json!([{"s": 8.0}])),
        (
            "SELECT m.value AS used, c.value AS user FROM mem_used m JOIN cpu_usage_user c ON m.time = c.time AND m.hostname = c.hostname",
            json!([{"used": 9.0, "user": 1.0}]),
        ),
        (
            "SELECT metric, kind, series FROM system.series WHERE metric = 'mem_used'",
            json!([{"metric": "mem_used", "kind": "gauge", "series": "mem_used{hostname=\"a\"}"}]),
        ),
        ("SELECT count(*) AS n FROM system.series", json!([{"n": 5}])),
        ("SELECT count(*) AS n FROM system.segments", json!([{"n": 0}])),
        ("SELECT count(*) AS n FROM system.pipelines WHERE failed", json!([{"n": 0}])),
        ("SELECT count(*) > 0 AS some FROM system.pipelines", json!([{"some": true}])),
        ("SELECT count(*) > 0 AS some FROM system.memory WHERE bytes > 0", json!([{"some": true}])),
    ];
    for (statement, wanted) in cases {
        assert_eq!(Value::Array(server.sql(statement)), wanted, "{statement}");
    }
}

#[test]
fn rows_at_rest_answer_as_those_in_memory() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    let line = |n: i64| format!("same,host=h{},zone=z{} v={}.25,w={} {}\n", n % 7, n % 3, n, n * n, T0 + n * 60);
    server.post("/write?precision=s", &[], (0..3000).map(line).collect::<String>().as_bytes()).ending(204);
    let statements = [
        "SELECT host, zone, count(*) AS n, sum(value) AS s, min(time) AS a, max(time) AS b FROM same_v GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT * FROM metrics WHERE host = 'h3' AND zone = 'z1' AND time > '2023-11-15' ORDER BY metric, time LIMIT 50",
        "SELECT date_bin(interval '1 hour', time) AS t, avg(value) AS v FROM same_w WHERE host = 'h1' GROUP BY 1 ORDER BY 1",
        "SELECT time, host, v, w FROM same WHERE w > 1000 AND v < 100 ORDER BY time",
        "SELECT metric, first, last FROM system.series ORDER BY series",
    ];
    let before = statements.map(|statement| server.sql(statement));
    server.stop();
    for (statement, wanted) in statements.iter().zip(&before) {
        assert!(!wanted.is_empty(), "{statement} has no rows");
        assert_eq!(&sql(folder.path(), statement), wanted, "{statement}");
    }
}

#[test]
fn statements_that_change_anything_are_refused() {
    let (folder, server) = serve();
    server.write("cpu,host=a v=1 1700000000000000000\n");
    let out = folder.path().join("stolen.csv");
    let out = out.to_str().unwrap();
    let outside = tempdir().unwrap();
    let secret = outside.path().join("secret.csv");
    std::fs::write(&secret, "a,b\n1,2\n").unwrap();
    let secret = secret.to_str().unwrap();
    let statements = [
        "DROP TABLE metrics".to_owned(),
        "DROP TABLE cpu_v".to_owned(),
        "CREATE TABLE t (a INT)".to_owned(),
        "CREATE TABLE t AS SELECT * FROM metrics".to_owned(),
        "CREATE VIEW v AS SELECT * FROM metrics".to_owned(),
        "CREATE SCHEMA s".to_owned(),
        "CREATE DATABASE d".to_owned(),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        format!("COPY metrics TO '{out}' STORED AS CSV"),
        format!("COPY (SELECT 1) TO '{out}'"),
        "INSERT INTO metrics SELECT * FROM metrics".to_owned(),
        "INSERT INTO cpu_v (time, value) VALUES (now(), 1)".to_owned(),
        "UPDATE metrics SET value = 0".to_owned(),
        "DELETE FROM metrics".to_owned(),
        "TRUNCATE TABLE metrics".to_owned(),
        "ALTER TABLE metrics ADD COLUMN x INT".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "BEGIN".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        "EXPLAIN ANALYZE INSERT INTO metrics SELECT * FROM metrics".to_owned(),
    ];
    for statement in &statements {
        let answer = server.post("/api/v1/sql", &[], statement.as_bytes());
        assert_eq!(answer.status, 400, "{statement}: {}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|told| !told.is_empty()), "{statement}: no reason");
    }
    assert!(!std::path::Path::new(out).exists(), "COPY wrote a file");
    assert_eq!(number(&server.sql("SELECT count(*) FROM metrics")), 1.0);
    assert_eq!(number(&server.sql("SELECT value FROM cpu_v")), 1.0);
}
