//! OTLP as clients send it: the OpenTelemetry SDK for Python over HTTP and gRPC, curl, and a client of our own for what
//! those never send.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use plimsoll::flow::{Intake, Refusal, SourceStats, Sources};
use plimsoll::model::{Batch, Description, Retention, SeriesDef, SeriesId, Timestamp};
use plimsoll::query::{Engine, OtherTables, QueryLimits};
use plimsoll::serve::{Addresses, Limits, Server as Serving, ServerParts};
use plimsoll::store::{Store, StoreSpec};
use plimsoll::world::World;
use prost::Message;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use crate::support::{Server, gzip, number, program, run};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
/// 2023-11-14T22:13:20Z.
const T0: u64 = 1_700_000_000_000_000_000;

/// A server with gRPC on a free port, and its address.
fn serve(environment: &[(&str, &str)]) -> (TempDir, Server, String) {
    let folder = tempdir().unwrap();
    let mut command = program(folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0"]).envs(environment.iter().copied());
    let server = Server::of(command);
    let log = server.log();
    let grpc = log.lines().find_map(|line| line.strip_prefix("plimsoll takes OTLP over gRPC on "));
    let grpc = grpc.unwrap_or_else(|| panic!("no address of gRPC: {log}")).to_owned();
    (folder, server, grpc)
}

/// Whether a program answers; its absence fails the test only where everything must be there.
fn has(program: &str, args: &[&str]) -> bool {
    let is_there = Command::new(program).args(args).output().is_ok_and(|ran| ran.status.success());
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "{program} {args:?} does not run");
        eprintln!("skipped: {program} {args:?} does not run");
    }
    is_there
}

fn values(server: &Server, metric: &str, instance: &str, and: &str) -> Vec<f64> {
    let rows = server.sql(&format!("SELECT value FROM {metric} WHERE instance = '{instance}' {and} ORDER BY time"));
    rows.iter().map(|row| row["value"].as_f64().unwrap()).collect()
}

#[test]
fn every_instrument_of_the_sdk_arrives_by_value() {
    const MODULES: &str = "import opentelemetry.sdk.metrics, opentelemetry.exporter.otlp.proto.http.metric_exporter, opentelemetry.exporter.otlp.proto.grpc.metric_exporter";
    if !has("python3", &["-c", MODULES]) {
        return;
    }
    let (_folder, server, grpc) = serve(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/otlp_export.py");
    for transport in ["http", "grpc"] {
        for temporality in ["cumulative", "delta"] {
            let endpoint = if transport == "http" { format!("{}/v1/metrics", server.url) } else { grpc.clone() };
            let mut command = Command::new("python3");
            command.arg(&script).args([transport, &endpoint, temporality]);
            let ran = run(command, b"").ending(0);
            assert!(!ran.stderr.contains("ail"), "{}", ran.stderr);
            check_values(&server, &format!("{transport}-{temporality}"), temporality == "delta");
            check_labels(&server, &format!("{transport}-{temporality}"));
        }
    }
    let about = server
        .sql("SELECT metric, kind, unit, help FROM system.metrics WHERE metric NOT LIKE 'sizes%' ORDER BY metric");
    let about: Vec<[&str; 4]> =
        about.iter().map(|row| ["metric", "kind", "unit", "help"].map(|name| row[name].as_str().unwrap())).collect();
    let latency = "Time to answer";
    let wanted = [
        ["active_requests", "gauge", "", ""],
        ["cpu_time_seconds_total", "counter", "seconds", ""],
        ["http_requests_total", "counter", "", "Requests served"],
        ["latency_seconds", "histogram", "seconds", latency],
        ["latency_seconds_bucket", "counter", "", latency],
        ["latency_seconds_count", "counter", "", latency],
        ["latency_seconds_max", "gauge", "seconds", latency],
        ["latency_seconds_min", "gauge", "seconds", latency],
        ["latency_seconds_sum", "counter", "seconds", latency],
        ["load_ratio", "gauge", "ratio", ""],
        ["pool_free", "gauge", "", ""],
        ["temperature_celsius", "gauge", "celsius", ""],
    ];
    assert_eq!(about, wanted);
    // Clients keep their connections: the server ends in order all the same.
    server.stop();
}

fn check_values(server: &Server, instance: &str, is_delta: bool) {
    let of = |metric: &str, and: &str| values(server, metric, instance, and);
    assert_eq!(of("http_requests_total", "AND http_method = 'GET'"), [5.0, 8.0], "{instance}");
    // Without news there is no delta.
    let quiet = if is_delta { vec![2.0] } else { vec![2.0, 2.0] };
    assert_eq!(of("http_requests_total", "AND http_method = 'POST'"), quiet, "{instance}");
    assert_eq!(of("active_requests", ""), [7.0, 8.0], "{instance}");
    assert_eq!(of("cpu_time_seconds_total", ""), [100.5, 201.0], "{instance}");
    assert_eq!(of("pool_free", ""), [30.0, 10.0], "{instance}");
    assert_eq!(of("load_ratio", "AND core = '1'"), [0.25, 0.5], "{instance}");
    assert_eq!(of("temperature_celsius", ""), [21.5, 22.5], "{instance}");

    for (bound, wanted) in [("0.1", [1.0, 1.0]), ("0.5", [3.0, 3.0]), ("1", [3.0, 4.0]), ("+Inf", [4.0, 5.0])] {
        assert_eq!(of("latency_seconds_bucket", &format!("AND le = '{bound}'")), wanted, "{instance} {bound}");
    }
    assert_eq!(of("latency_seconds_count", ""), [4.0, 5.0], "{instance}");
    let sums = of("latency_seconds_sum", "");
    assert!((sums[0] - 2.65).abs() < 1e-9 && (sums[1] - 3.35).abs() < 1e-9, "{instance}: {sums:?}");
    let least = if is_delta { 0.7 } else { 0.05 };
    assert_eq!(of("latency_seconds_min", ""), [0.05, least], "{instance}");
    let most = if is_delta { 0.7 } else { 2.0 };
    assert_eq!(of("latency_seconds_max", ""), [2.0, most], "{instance}");

    assert_eq!(of("sizes_bytes_count", ""), [100.0, 201.0], "{instance}");
    assert_eq!(of("sizes_bytes_sum", ""), [5050.0, 20100.0], "{instance}");
    // Of 0 to 200 at the end: bounds of whole doublings are exact.
    for (bound, wanted) in [("1", 2.0), ("16", 17.0), ("128", 129.0), ("+Inf", 201.0)] {
        assert_eq!(
            of("sizes_bytes_bucket", &format!("AND le = '{bound}'")).last(),
            Some(&wanted),
            "{instance} {bound}"
        );
    }
    let rows = server.sql(&format!(
        "SELECT metric, count, sum, p50, p90, p99 FROM histograms WHERE instance = '{instance}' ORDER BY metric, time"
    ));
    let told: Vec<(&str, f64)> =
        rows.iter().map(|row| (row["metric"].as_str().unwrap(), row["count"].as_f64().unwrap())).collect();
    let wanted = [("latency_seconds", 4.0), ("latency_seconds", 5.0), ("sizes_bytes", 100.0), ("sizes_bytes", 201.0)];
    assert_eq!(told, wanted, "{instance}");
    for (row, name, wanted) in
        [(2, "p50", 50.0), (2, "p90", 90.0), (3, "p50", 100.0), (3, "p90", 180.0), (3, "p99", 198.0)]
    {
        let found = rows[row][name].as_f64().unwrap();
        assert!((found / wanted - 1.0).abs() < 0.04, "{instance}: {name} is {found}, not {wanted}");
    }
    // Three of five lie between 0.1 and 0.5.
    let median = rows[1]["p50"].as_f64().unwrap();
    assert!((0.1..=0.5).contains(&median), "{instance}: {median}");
}

fn check_labels(server: &Server, instance: &str) {
    let row = &server.sql(&format!("SELECT * FROM active_requests WHERE instance = '{instance}' LIMIT 1"))[0];
    let mut labels = row.as_object().unwrap().clone();
    labels.retain(|name, value| !["time", "value"].contains(&name.as_str()) && !value.is_null());
    let wanted = json!({
        "job": "eu/shop", "instance": instance, "host_name": "box", "cpu_cores": "4", "ready": "true",
        "zones": "[\"a\",\"b\"]", "otel_scope_name": "till", "otel_scope_version": "1.2.3", "otel_scope_team": "checkout",
    });
    assert_eq!(Value::Object(labels), wanted);
}

/// The example that comes with the protocol's definition, `examples/metrics.json`.
fn example() -> Value {
    let time = "1544712660300000000";
    let attributes = |key: &str| json!([{"key": key, "value": {"stringValue": "some value"}}]);
    json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
        "scopeMetrics": [{
            "scope": {"name": "my.library", "version": "1.0.0", "attributes": [
                {"key": "my.scope.attribute", "value": {"stringValue": "some scope attribute"}}]},
            "metrics": [
                {"name": "my.counter", "unit": "1", "description": "I am a Counter", "sum": {
                    "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [{"asDouble": 5,
                        "startTimeUnixNano": time, "timeUnixNano": time, "attributes": attributes("my.counter.attr")}]}},
                {"name": "my.gauge", "unit": "1", "description": "I am a Gauge", "gauge": {
                    "dataPoints": [{"asDouble": 10, "timeUnixNano": time, "attributes": attributes("my.gauge.attr")}]}},
                {"name": "my.histogram", "unit": "1", "description": "I am a Histogram", "histogram": {
                    "aggregationTemporality": 1, "dataPoints": [{"startTimeUnixNano": time, "timeUnixNano": time,
                        "count": 2, "sum": 2, "bucketCounts": [1, 1], "explicitBounds": [1], "min": 0, "max": 2,
                        "attributes": attributes("my.histogram.attr")}]}},
                {"name": "my.exponential.histogram", "unit": "1", "description": "I am an Exponential Histogram",
                    "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [{"startTimeUnixNano": time,
                        "timeUnixNano": time, "count": 3, "sum": 10, "scale": 0, "zeroCount": 1,
                        "positive": {"offset": 1, "bucketCounts": [0, 2]}, "min": 0, "max": 5, "zeroThreshold": 0,
                        "attributes": attributes("my.exponential.histogram.attr")}]}},
            ],
        }],
    }]})
}

#[test]
fn the_example_of_the_protocol_goes_in_by_curl() {
    if !has("curl", &["--version"]) {
        return;
    }
    let (_folder, server, _) = serve(&[]);
    let mut command = Command::new("curl");
    let url = format!("{}/v1/metrics", server.url);
    command.args(["-sS", "-i", "-X", "POST", "-H", "Content-Type: application/json", "--data-binary", "@-", &url]);
    let told = run(command, example().to_string().as_bytes()).ending(0).text();
    assert!(told.starts_with("HTTP/1.1 200 OK"), "{told}");
    assert!(told.to_lowercase().contains("content-type: application/json") && told.ends_with("{}"), "{told}");

    let rows = server.sql("SELECT metric, le, value, CAST(time AS BIGINT) AS nanos, job, otel_scope_name, otel_scope_version, otel_scope_my_scope_attribute AS scope FROM metrics ORDER BY metric, value, le");
    let told: Vec<(&str, Option<&str>, f64)> = rows
        .iter()
        .map(|row| (row["metric"].as_str().unwrap(), row["le"].as_str(), row["value"].as_f64().unwrap()))
        .collect();
    let wanted = [
        ("my_counter_total", None, 5.0),
        ("my_exponential_histogram_bucket", Some("0"), 1.0),
        ("my_exponential_histogram_bucket", Some("+Inf"), 3.0),
        ("my_exponential_histogram_bucket", Some("8"), 3.0),
        ("my_exponential_histogram_count", None, 3.0),
        ("my_exponential_histogram_max", None, 5.0),
        ("my_exponential_histogram_min", None, 0.0),
        ("my_exponential_histogram_sum", None, 10.0),
        ("my_gauge_ratio", None, 10.0),
        ("my_histogram_bucket", Some("1"), 1.0),
        ("my_histogram_bucket", Some("+Inf"), 2.0),
        ("my_histogram_count", None, 2.0),
        ("my_histogram_max", None, 2.0),
        ("my_histogram_min", None, 0.0),
        ("my_histogram_sum", None, 2.0),
    ];
    assert_eq!(told, wanted);
    for row in &rows {
        let told = ["job", "otel_scope_name", "otel_scope_version", "scope"].map(|name| row[name].as_str().unwrap());
        assert_eq!(told, ["my.service", "my.library", "1.0.0", "some scope attribute"]);
        assert_eq!(row["nanos"].as_i64(), Some(1_544_712_660_300_000_000));
    }
    let attribute = server.sql("SELECT my_counter_attr FROM my_counter_total");
    assert_eq!(attribute, [json!({"my_counter_attr": "some value"})]);
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> ExportMetricsServiceRequest {
    let data = Some(Data::Gauge(Gauge { data_points: points }));
    let metrics = vec![Metric { name: name.into(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    }
}

fn point(time_unix_nano: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint { time_unix_nano, value: Some(Number::AsDouble(value)), ..NumberDataPoint::default() }
}

#[test]
fn answers_are_in_the_encoding_of_the_request() {
    let (_folder, server, _) = serve(&[("PLIMSOLL__INGEST__BODY_MAX", "100KB")]);
    let post = |headers: &[(&str, &str)], body: &[u8]| server.post("/v1/metrics", headers, body);
    let whole = gauge("g", vec![point(T0, 1.0)]).encode_to_vec();
    let zstd = zstd::encode_all(&gauge("g", vec![point(T0 + 2, 3.0)]).encode_to_vec()[..], 1).unwrap();
    let packed = gzip(&gauge("g", vec![point(T0 + 1, 2.0)]).encode_to_vec());
    for (encoding, body) in [("identity", &whole), ("gzip", &packed), ("zstd", &zstd)] {
        let answer = post(&[PROTOBUF, ("content-encoding", encoding)], body).ending(200);
        assert_eq!((answer.content_type.as_str(), answer.body.len()), (PROTOBUF.1, 0), "{encoding}");
    }
    let told: Vec<f64> =
        server.sql("SELECT value FROM g ORDER BY time").iter().map(|row| row["value"].as_f64().unwrap()).collect();
    assert_eq!(told, [1.0, 2.0, 3.0]);

    let part = gauge("part", vec![point(0, 1.0), point(T0, 2.0)]);
    let answer = post(&[PROTOBUF], &part.encode_to_vec()).ending(200);
    let answered = ExportMetricsServiceResponse::decode(&answer.body[..]).unwrap().partial_success.unwrap();
    assert_eq!(answered.rejected_data_points, 1);
    assert!(answered.error_message.contains("metric `part`: a point without a time"), "{}", answered.error_message);
    assert_eq!(number(&server.sql("SELECT value FROM part")), 2.0);
    let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"j","gauge":{"dataPoints":[{"asInt":"1"},{"asInt":"2","timeUnixNano":"1700000000000000000","exemplars":[{"asInt":"2"},{}]}]}}]}]}]}"#;
    let answer = post(&[JSON], text.as_bytes()).ending(200);
    assert_eq!(
        (answer.content_type.as_str(), &answer.json()["partialSuccess"]["rejectedDataPoints"]),
        (JSON.1, &json!("1"))
    );
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("\nplimsoll_ingest_exemplars_total 2\n"), "{metrics}");

    let answer = post(&[JSON], b"{\"resourceMetrics\": 7}").ending(400);
    assert_eq!((answer.content_type.as_str(), &answer.json()["code"]), (JSON.1, &json!(3)));
    assert!(answer.json()["message"].as_str().unwrap().contains("expected a sequence at line 1"), "{}", answer.text());
    let answer = post(&[PROTOBUF], b"\xff\xff\xff").ending(400);
    // google.rpc.Status: code 3, then the message.
    assert_eq!((answer.content_type.as_str(), &answer.body[..3]), (PROTOBUF.1, &[0x08, 3, 0x12][..]));
    let answer = post(&[PROTOBUF, ("content-encoding", "gzip")], b"no gzip").ending(400);
    assert!(answer.text().contains("the gzip body is cut or damaged"), "{}", answer.text());
    let answer = post(&[JSON, ("content-encoding", "br")], b"{}").ending(415);
    assert!(
        answer.json()["message"].as_str().unwrap().contains("send snappy, gzip, zstd or identity"),
        "{}",
        answer.text()
    );
    let answer = post(&[("content-type", "text/plain")], b"{}").ending(415);
    assert!(answer.text().contains("application/x-protobuf"), "{}", answer.text());
    let large = gauge("large", vec![point(T0, 1.0); 10_000]).encode_to_vec();
    let answer = post(&[PROTOBUF, ("content-encoding", "gzip")], &gzip(&large)).ending(413);
    assert!(answer.text().contains("ingest.body_max"), "{}", answer.text());
    for signal in ["traces", "logs"] {
        let answer = server.post(&format!("/v1/{signal}"), &[JSON], b"{}").ending(501);
        let told = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(told.starts_with(&format!("{signal} are not kept here")) && told.contains("_EXPORTER=none"), "{told}");
    }
}

type Client = MetricsServiceClient<Channel>;

/// Runs what a client of gRPC does.
fn with_client<T>(address: &str, work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = MetricsServiceClient::connect(format!("http://{address}")).await.unwrap();
        work(client).await
    })
}

#[test]
fn grpc_takes_what_http_takes() {
    let (_folder, server, address) = serve(&[("PLIMSOLL__INGEST__BODY_MAX", "1MB"), ("PLIMSOLL__MEMORY", "64MB")]);
    with_client(&address, async |mut client| {
        let answer = client.export(gauge("a", vec![point(T0, 1.0)])).await.unwrap().into_inner();
        assert_eq!(answer, ExportMetricsServiceResponse::default());
        let mut packing = client.clone().send_compressed(CompressionEncoding::Gzip);
        // It grows to more than sixteen times its size.
        let many = gauge("a", (1..=20_000).map(|_| point(T0 + 1, 2.0)).collect());
        assert!(many.encoded_len() > 300_000);
        packing.export(many).await.unwrap();
        let part = client.export(gauge("b", vec![point(T0, 1.0), point(T0, f64::NAN)])).await.unwrap().into_inner();
        let part = part.partial_success.unwrap();
        assert_eq!(part.rejected_data_points, 1);
        assert!(part.error_message.contains("metric `b`: value NaN is not a finite number"), "{}", part.error_message);
        let large = gauge("a", vec![point(T0, 1.0); 100_000]);
        for client in [&mut client, &mut packing] {
            let refused = client.export(large.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            assert!(refused.message().contains("the body is larger than 976.6 KiB: send it in parts"), "{refused}");
        }
    });
    let rows = server.sql("SELECT value FROM a ORDER BY time");
    assert_eq!(rows, [json!({"value": 1.0}), json!({"value": 2.0})]);
    assert_eq!(number(&server.sql("SELECT count(*) FROM b")), 1.0);
    let sources = server.sql("SELECT source, samples FROM system.sources");
    assert_eq!(sources, [json!({"source": "127.0.0.1", "samples": 20_002})]);
    // What is no service of ours, and what is no message.
    with_client(&address, async |_| {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let elsewhere = format!("http://{address}/other").parse().unwrap();
        let mut client = MetricsServiceClient::with_origin(channel, elsewhere);
        let told = client.export(gauge("c", Vec::new())).await.unwrap_err();
        assert_eq!(told.code(), Code::Unimplemented, "{told}");
        assert!(
            told.message().contains("only /opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
            "{told}"
        );
    });
    let export = format!("http://{address}/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
    let frames: [(&[u8], &str); 4] = [
        (b"\0\0\0\0\x02\xff\xff", "the body is no ExportMetricsServiceRequest in protobuf"),
        (b"\0\0\0\0\x09\x0a", "6 of 14 bytes came"),
        (b"\0\0", "2 of 5 bytes came"),
        (b"\x01\0\0\0\x02zz", "the gzip body is cut or damaged"),
    ];
    for (frame, wanted) in frames {
        if !has("curl", &["--version"]) {
            break;
        }
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--http2-prior-knowledge", "-H", "content-type: application/grpc"]);
        command.args(["-H", "grpc-encoding: gzip", "--data-binary", "@-", &export]);
        let told = run(command, frame).ending(0).text();
        let plain = told.replace("%20", " ");
        assert!(told.contains("grpc-status: 3") && plain.contains(wanted), "{told}");
    }
    server.stop();
}

/// Ways in that refuse all samples.
struct Shut(Mutex<Refusal>);

impl Sources for Shut {
    fn source(&self, _: &str) -> Arc<dyn Intake> {
        Arc::new(Shut(Mutex::new(self.0.lock().unwrap().clone())))
    }

    fn stats(&self) -> Vec<SourceStats> {
        Vec::new()
    }
}

impl Intake for Shut {
    fn intern(&self, _: &SeriesDef) -> Result<SeriesId, Refusal> {
        Ok(SeriesId(0))
    }

    fn describe(&self, _: &str, _: &Description) {}

    fn accept(&self, _: Batch) -> Result<(), Refusal> {
        Err(self.0.lock().unwrap().clone())
    }
}

#[test]
fn who_is_behind_says_when_to_send_again_and_who_is_closed_does_not() {
    let behind = Refusal::Behind { what: "a stage".into(), retry_after: Duration::from_secs(7) };
    let closed = Refusal::Closed { reason: "the disk is full".into() };
    let told = |refusal: &Refusal| answers_of(refusal.clone());

    let [http, json, grpc] = told(&behind);
    assert_eq!((http.0, http.1.as_deref()), (503, Some("7")));
    assert!(
        http.2.contains("a stage is behind: send again in 7 s") && http.2.contains("google.rpc.RetryInfo"),
        "{}",
        http.2
    );
    assert_eq!((json.0, json.1.as_deref()), (503, Some("7")));
    let body: Value = serde_json::from_str(&json.2).unwrap();
    assert_eq!((&body["code"], &body["details"][0]["retryDelay"]), (&json!(14), &json!("7s")));
    assert_eq!((grpc.0, grpc.1.as_deref()), (Code::Unavailable as u16, Some("7")));
    assert!(grpc.2.contains("a stage is behind"), "{}", grpc.2);

    let [http, json, grpc] = told(&closed);
    assert_eq!((http.0, http.1, json.0, json.1), (503, None, 503, None));
    assert_eq!((grpc.0, grpc.1), (Code::Unavailable as u16, None));
    for told in [http.2, json.2, grpc.2] {
        assert!(told.contains("the store takes no writes: the disk is full"), "{told}");
    }
}

/// Status, seconds to wait, and body or message: of protobuf, JSON and gRPC.
fn answers_of(refusal: Refusal) -> [(u16, Option<String>, String); 3] {
    let folder = tempdir().unwrap();
    let store = Arc::new(Store::open(World::real(), folder.path(), StoreSpec::default()).unwrap());
    let engine = Engine::new(store, OtherTables::default(), 16 << 20, QueryLimits::default()).unwrap();
    let limits = Limits {
        body: 1 << 20,
        bodies: 8 << 20,
        known: 1 << 20,
        future: Duration::from_secs(60),
        retention: Arc::new(Retention::default()),
    };
    let parts = ServerParts {
        sources: Arc::new(Shut(Mutex::new(refusal))),
        engine: Arc::new(engine),
        limits,
        addresses: Addresses { otlp_grpc: Some("127.0.0.1:0".to_owned()), ..Addresses::default() },
        now: Arc::new(|| Timestamp::from_nanos(T0.cast_signed())),
        stages: Arc::new(Vec::new),
        collectors: Arc::new(Vec::new),
        listeners: Arc::new(Vec::new),
        reload: Arc::new(|| Ok(Value::Null)),
        governor: Arc::new(|| None),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Serving::bind("127.0.0.1:0", parts)).unwrap();
    let (http, grpc) = (server.address().unwrap(), server.otlp_grpc().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async {
        let _ = stopped.await;
    }));
    let request = gauge("g", vec![point(T0, 1.0)]);
    let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"j","gauge":{"dataPoints":[{"asInt":"1","timeUnixNano":"1700000000000000000"}]}}]}]}]}"#;
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let post = |content: (&str, &str), body: &[u8]| {
        let sent = agent.post(format!("http://{http}/v1/metrics")).header(content.0, content.1).send(body);
        let mut answer = sent.unwrap();
        assert_eq!(answer.headers()["content-type"], content.1);
        let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), retry, String::from_utf8_lossy(&body).into_owned())
    };
    let answers = [post(PROTOBUF, &request.encode_to_vec()), post(JSON, text.as_bytes())];
    let refused = with_client(&grpc.to_string(), async |mut client| client.export(request).await.unwrap_err());
    // RetryInfo { retry_delay { seconds } } stands in the details and in a key of its own.
    let retry = refused.metadata().get_bin("google.rpc.retryinfo-bin").map(|info| {
        let info = info.to_bytes().unwrap();
        assert_eq!(info[..3], [0x0a, 2, 0x08]);
        assert!(refused.details().ends_with(&info), "{refused}");
        info[3].to_string()
    });
    let [protobuf, json] = answers;
    let answers = [protobuf, json, (refused.code() as u16, retry, refused.message().to_owned())];
    stop.send(()).unwrap();
    runtime.block_on(running).unwrap().unwrap();
    answers
}
