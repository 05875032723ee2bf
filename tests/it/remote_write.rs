//! Prometheus remote write: what Debian's Prometheus scrapes and sends is here as it is there; 2.0, native histograms and
//! damaged bodies as requests made here.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prost::Message as _;
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Client, Server, gzip, now_seconds, number, until};

#[allow(dead_code, reason = "the library's own tests use more of them")]
#[path = "../../src/ingest/remote_write/messages.rs"]
mod messages;

use messages::{Exemplar, Histogram, Request, STALE, Span, SymbolExemplar, WriteRequest};

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// What is compared of the exporter: gauges, counters, a summary, with and without labels.
const COMPARED: [&str; 6] = [
    "node_load1",
    "node_cpu_seconds_total",
    "node_memory_MemFree_bytes",
    "node_network_receive_bytes_total",
    "go_gc_duration_seconds",
    "process_resident_memory_bytes",
];
/// Scrapes that are waited for.
const SCRAPES: f64 = 8.0;

/// A program that ends with the test.
struct Running(Child);

impl Running {
    /// `None` where it is not installed, which on a build server is a failure.
    fn start(program: &str, args: &[String]) -> Option<Running> {
        let started =
            Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match started {
            Ok(child) => Some(Running(child)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
                eprintln!("skipped: {program} cannot be started ({error}): .ci/install installs it");
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a server says at a path; `None` while it does not answer with success.
fn asked(url: &str) -> Option<String> {
    ureq::get(url).call().ok()?.body_mut().with_config().limit(u64::MAX).read_to_string().ok()
}

/// Values by labels and milliseconds.
type Samples = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, f64>>;

/// What Prometheus stores of a metric.
fn of_prometheus(url: &str, metric: &str) -> Samples {
    let told = asked(&format!("{url}/api/v1/query?query={metric}%5B1h%5D")).expect("an answer of Prometheus");
    let told: Value = serde_json::from_str(&told).unwrap();
    let series = |row: &Value| {
        let labels = row["metric"].as_object().unwrap().iter().filter(|(name, _)| *name != "__name__");
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        let sample = |pair: &Value| {
            let ms = (pair[0].as_f64().unwrap() * 1e3).round() as i64;
            (ms, pair[1].as_str().unwrap().parse().unwrap())
        };
        (labels, row["values"].as_array().unwrap().iter().map(sample).collect())
    };
    told["data"]["result"].as_array().unwrap().iter().map(series).collect()
}

/// What is stored here. As text a value keeps every bit.
fn of_sql(server: &Client, metric: &str) -> Samples {
    let rows = server.sql(&format!(
        "SELECT *, CAST(value AS VARCHAR) AS text, CAST(time AS BIGINT) / 1000000 AS ms FROM \"{metric}\""
    ));
    let mut samples = Samples::new();
    for row in rows {
        let columns = row.as_object().unwrap().iter();
        let labels = columns.filter(|(name, _)| !["time", "value", "text", "ms"].contains(&name.as_str()));
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        let value = row["text"].as_str().unwrap().parse().unwrap();
        samples.entry(labels).or_default().insert(row["ms"].as_i64().unwrap(), value);
    }
    samples
}

/// Without what came before the sender began to send.
fn from(samples: Samples, ms: i64) -> Samples {
    samples.into_iter().map(|(labels, mut values)| (labels, values.split_off(&ms))).collect()
}

fn settings_of_prometheus(folder: &Path, exporter: u16, write_to: &str) -> String {
    let path = folder.join("prometheus.yml");
    let settings = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]\n\
         remote_write:\n- url: {write_to}/api/v1/write\n  metadata_config: {{send: true, send_interval: 1s}}\n\
         \u{20} queue_config: {{batch_send_deadline: 1s}}\n"
    );
    std::fs::write(&path, settings).unwrap();
    path.display().to_string()
}

#[test]
fn what_prometheus_stores_is_stored_here() {
    let (folder, data) = (tempdir().unwrap(), tempdir().unwrap());
    let (port, exporter) = (free_port(), free_port());
    let listen = format!("--web.listen-address=127.0.0.1:{exporter}");
    let Some(exporting) = Running::start("prometheus-node-exporter", &[listen]) else { return };
    until("the exporter answers", || asked(&format!("http://127.0.0.1:{exporter}/metrics")).is_some());
    let server = Server::start(data.path());
    let options = [
        format!("--config.file={}", settings_of_prometheus(folder.path(), exporter, &server.url)),
        format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let Some(_prometheus) = Running::start("prometheus", &options) else { return };
    let url = format!("http://127.0.0.1:{port}");

    let count = |what: &str| number(&server.sql(&format!("SELECT count(*) FROM {what}")));
    until("some scrapes are here", || count("metrics WHERE metric = 'node_load1'") >= SCRAPES);
    drop(exporting);
    until("the end of a series is there", || {
        let now = asked(&format!("{url}/api/v1/query?query=node_load1")).unwrap();
        serde_json::from_str::<Value>(&now).unwrap()["data"]["result"].as_array().is_some_and(Vec::is_empty)
    });

    for metric in COMPARED {
        let there = of_prometheus(&url, metric);
        // The end of a series is sent after all its samples.
        let ended = || count(&format!("staleness WHERE metric = '{metric}'")) as usize;
        until(&format!("each series of {metric} ended"), || ended() >= there.len());
        let here = of_sql(&server, metric);
        let first = here.values().filter_map(|values| values.keys().next()).min().copied().unwrap_or(i64::MAX);
        let there = from(there, first);
        let samples: usize = there.values().map(BTreeMap::len).sum();
        assert!(samples as f64 >= SCRAPES, "{metric}: {samples} samples");
        assert_eq!(here, there, "{metric}");
        assert_eq!(ended(), here.len(), "each series of {metric} ended once");
        described_alike(&server, &url, metric);
    }
    let last = number(&server.sql("SELECT CAST(max(time) AS BIGINT) FROM node_load1"));
    let ended = number(&server.sql("SELECT CAST(max(time) AS BIGINT) FROM staleness WHERE metric = 'node_load1'"));
    assert!(ended > last, "a series ends after its last sample: {ended} {last}");

    let own = asked(&format!("{url}/metrics")).unwrap();
    let failed = own.lines().filter(|line| line.starts_with("prometheus_remote_storage_samples_failed_total{"));
    let failed: Vec<&str> = failed.collect();
    assert!(!failed.is_empty() && failed.iter().all(|line| line.ends_with(" 0")), "{failed:?}");
}

/// Kind and help of a metric are here as Prometheus has them.
fn described_alike(server: &Client, url: &str, metric: &str) {
    let told: Value = serde_json::from_str(&asked(&format!("{url}/api/v1/metadata?metric={metric}")).unwrap()).unwrap();
    let there = &told["data"][metric][0];
    let wanted = (there["type"].as_str().unwrap(), there["help"].as_str().unwrap());
    let statement = format!("SELECT kind, help FROM system.metrics WHERE metric = '{metric}'");
    until(&format!("{metric} is described as {wanted:?}"), || {
        let rows = server.sql(&statement);
        (rows[0]["kind"].as_str().unwrap(), rows[0]["help"].as_str().unwrap_or_default()) == wanted
    });
}

/// Status, headers and text of an answer.
fn post(server: &Client, headers: &[(&str, &str)], body: &[u8]) -> (u16, ureq::http::HeaderMap, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let request = agent.post(format!("{}/api/v1/write", server.url));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut answer = request.send(body).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), answer.headers().clone(), text)
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

fn now_ms() -> i64 {
    now_seconds() * 1000
}

#[test]
fn every_encoding_and_version_is_taken() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let ms = now_ms();
    let v1 = |host| WriteRequest::of(&[("__name__", "temp"), ("host", host)], &[(1.5, ms)]).encode_to_vec();
    let v2 = |host| {
        let mut request = Request::default();
        request.add(&[("__name__", "temp"), ("host", host)], &[(1.5, ms)], (2, "celsius", "How warm."));
        request.encode_to_vec()
    };
    let table = [
        (V1, Some("snappy"), snappy(&v1("a"))),
        (V1, None, snappy(&v1("b"))),
        (V1, Some("identity"), v1("c")),
        (V1, Some("gzip"), gzip(&v1("d"))),
        (V1, Some("zstd"), zstd::encode_all(&v1("e")[..], 1).unwrap()),
        (V2, Some("snappy"), snappy(&v2("f"))),
        (V2, Some("identity"), v2("g")),
    ];
    for (version, encoding, body) in &table {
        let mut headers = vec![("content-type", *version)];
        headers.extend(encoding.map(|encoding| ("content-encoding", encoding)));
        let (status, headers, text) = post(&server, &headers, body);
        assert_eq!((status, text.as_str()), (204, ""), "{version} {encoding:?}");
        let told = headers.get("x-prometheus-remote-write-samples-written").map(|count| count.to_str().unwrap());
        assert_eq!(told, (*version == V2).then_some("1"));
    }
    let rows = server.sql("SELECT host, value FROM temp ORDER BY host");
    let told: String = rows.iter().map(|row| row["host"].as_str().unwrap()).collect();
    assert_eq!(told, "abcdefg");
    let about = server.sql("SELECT kind, unit, help FROM system.metrics WHERE metric = 'temp'");
    assert_eq!(about[0], serde_json::json!({"kind": "gauge", "unit": "celsius", "help": "How warm."}));
}

#[test]
fn what_cannot_be_taken_is_told() {
    let data = tempdir().unwrap();
    let server = Server::start_with(data.path(), &[("PLIMSOLL__INGEST__BODY_MAX", "1MB")]);
    let good = WriteRequest::of(&[("__name__", "temp")], &[(1.5, now_ms())]).encode_to_vec();
    let far = WriteRequest::of(&[("__name__", "temp"), ("host", "a")], &[(1.5, 1_000), (2.5, now_ms())]);
    let mut bomb = vec![0x80, 0x80, 0x20]; // says half a megabyte
    bomb.extend_from_slice(&snappy(&good)[1..]);
    let mut large = vec![0x80, 0x80, 0x80, 0x80, 0x04]; // a gigabyte
    large.extend_from_slice(&snappy(&good)[1..]);
    let packed = snappy(&good);
    let table: [(&str, &str, &[u8], u16, &str); 9] = [
        (
            "application/json",
            "snappy",
            &packed,
            415,
            "send application/x-protobuf (prometheus.WriteRequest), or application/x-protobuf;proto=",
        ),
        (V1, "br", &packed, 415, "Content-Encoding `br` is not known: send snappy, gzip, zstd or identity"),
        (V1, "snappy", &good, 400, "the snappy body is cut or damaged"),
        (V1, "snappy", &bomb, 400, "it says a length that its bytes cannot hold"),
        (V1, "snappy", &large, 413, "the body is larger than"),
        (V1, "identity", &good[..good.len() - 1], 400, "breaks off or is no protobuf from byte 0"),
        (V1, "identity", b"temp v=1.5 1700000000", 400, "no protobuf"),
        (V2, "identity", &good, 400, "this is a request of version 1.0"),
        (
            V1,
            "identity",
            &far.encode_to_vec(),
            400,
            "time series 1, temp{host=\\\"a\\\"}: time 1970-01-01T00:00:01Z is before",
        ),
    ];
    for (version, encoding, body, status, reason) in table {
        let (found, _, text) = post(&server, &[("content-type", version), ("content-encoding", encoding)], body);
        assert_eq!(found, status, "{text}");
        assert!(text.contains(reason), "{text} / {reason}");
    }
    assert_eq!(number(&server.sql("SELECT value FROM metrics")), 2.5, "the rest of a request is stored");
}

#[test]
fn what_is_left_out_is_counted() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let ms = now_ms();
    let mut v1 = WriteRequest::of(&[("__name__", "temp")], &[(f64::NAN, ms), (f64::INFINITY, ms + 1), (1.5, ms + 2)]);
    v1.timeseries[0].exemplars.push(Exemplar::default());
    let mut v2 = Request::default();
    v2.add(&[("__name__", "temp")], &[(f64::NAN, ms), (STALE, ms + 3)], (2, "", "")).exemplars =
        vec![SymbolExemplar::default(); 2];
    let identity = ("content-encoding", "identity");
    assert_eq!(post(&server, &[identity], &v1.encode_to_vec()).0, 204);
    let (status, headers, _) = post(&server, &[("content-type", V2), identity], &v2.encode_to_vec());
    let written = |what: &str| headers[format!("x-prometheus-remote-write-{what}-written")].to_str().unwrap();
    assert_eq!((status, written("samples"), written("histograms"), written("exemplars")), (204, "1", "0", "0"));
    let told = server.get("/metrics").text();
    for line in ["plimsoll_ingest_nonfinite_samples_total 3", "plimsoll_ingest_exemplars_total 3"] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert_eq!(number(&server.sql("SELECT count(*) FROM staleness")), 1.0);
}

/// Schema 3, one bucket: (2^(7/8), 2] and (1024·2^(7/8), 2048].
fn requests_so_far(fast: i64, slow: i64, ms: i64) -> Histogram {
    Histogram {
        count_int: (fast + slow) as u64,
        sum: fast as f64 * 2.0 + slow as f64 * 2000.0,
        schema: 3,
        positive_spans: vec![Span { offset: 8, length: 1 }, Span { offset: 79, length: 1 }],
        positive_deltas: vec![fast, slow - fast],
        timestamp: ms,
        ..Histogram::default()
    }
}

#[test]
fn percentiles_between_two_native_histograms() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let ms = now_ms() - 60_000;
    let mut request = Request::default();
    let series = request.add(&[("__name__", "latency"), ("host", "a")], &[], (3, "ms", "How long."));
    // A thousand fast ones at first; then slow ones only; then it begins anew.
    series.histograms =
        vec![requests_so_far(1000, 0, ms), requests_so_far(1000, 100, ms + 1000), requests_so_far(7, 0, ms + 2000)];
    let headers = [("content-type", V2), ("content-encoding", "identity")];
    let (status, headers, text) = post(&server, &headers, &request.encode_to_vec());
    assert_eq!((status, text.as_str()), (204, ""));
    assert_eq!(headers["x-prometheus-remote-write-histograms-written"], "3");
    let rows = server.sql(
        "SELECT sketch_quantile(sketch, 0.5) AS so_far, \
         sketch_quantile(sketch, 0.5, lag(sketch) OVER (PARTITION BY series ORDER BY time)) AS lately \
         FROM histograms WHERE metric = 'latency' ORDER BY time",
    );
    let told: Vec<[f64; 2]> =
        rows.iter().map(|row| ["so_far", "lately"].map(|name| row[name].as_f64().unwrap())).collect();
    let [fast, slow] = [1.79..2.05, 1830.0..2100.0];
    assert!(told.iter().all(|[so_far, _]| fast.contains(so_far)), "{told:?}");
    assert!(fast.contains(&told[0][1]) && slow.contains(&told[1][1]) && fast.contains(&told[2][1]), "{told:?}");
    let buckets =
        server.sql("SELECT le, value FROM latency_bucket WHERE time = (SELECT min(time) FROM latency_bucket)");
    assert!(buckets.iter().all(|row| row["value"] == 1000.0) && buckets.len() >= 2, "{buckets:?}");
    let wrong = server.post("/api/v1/sql", &[], b"SELECT sketch_quantile(sketch, 99) FROM histograms").ending(400);
    assert!(wrong.text().contains("99 is no share: write 0 to 1"), "{}", wrong.text());
}
