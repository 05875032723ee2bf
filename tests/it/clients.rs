//! What people already run, sending to the program: the clients of StatsD, DogStatsD and InfluxDB, collectd, and curl. Each
//! time SQL says what arrived.
//!
//! What is not installed is skipped, but not in CI.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::{Server, gzip, now_seconds, number, program, run, sql, until};

/// 2023-11-14T22:13:20Z, in seconds.
const T0: i64 = 1_700_000_000;

/// Told only at the end, so that all is in one interval.
const AT_THE_END: [(&str, &str); 2] =
    [("PLIMSOLL__LISTEN__STATSD_FLUSH", "1h"), ("PLIMSOLL__LISTEN__STATSD_EXPIRE", "1h")];

/// A server with both listeners on free ports.
fn listening(environment: &[(&str, &str)]) -> (TempDir, Server) {
    let folder = tempdir().unwrap();
    let mut command = program(folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--statsd", "127.0.0.1:0", "--graphite", "127.0.0.1:0"]);
    command.envs(environment.iter().copied());
    let server = Server::of(command);
    (folder, server)
}

/// Where a listener listens, as the server says.
fn address(server: &Server, listener: &str) -> String {
    let start = format!("plimsoll takes {listener} on ");
    let log = server.log();
    let told = log.lines().find_map(|line| line.strip_prefix(&start)?.split(',').next());
    told.unwrap_or_else(|| panic!("no {listener}: {log}")).to_owned()
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

/// Whether a command runs; without it a test is skipped, but in CI it fails.
pub fn has(what: &str, command: &str, args: &[&str]) -> bool {
    let runs = Command::new(command).args(args).output().is_ok_and(|ran| ran.status.success());
    assert!(runs || std::env::var_os("CI").is_none(), "{what} is not installed");
    if !runs {
        eprintln!("skipped: {what} is not installed");
    }
    runs
}

/// Runs a script of `tests/fixtures/clients` that needs a module of Python; false where there is none.
#[track_caller]
pub fn python(module: &str, script: &str, args: &[&str]) -> bool {
    let has = has(&format!("Python's {module}"), "python3", &["-W", "ignore", "-c", &format!("import {module}")]);
    if has {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clients").join(script);
        let mut command = Command::new("python3");
        command.args(["-W", "ignore"]).arg(script).args(args);
        run(command, b"").ending(0);
    }
    has
}

/// Waits until so many lines came to a listener.
#[track_caller]
fn await_lines(server: &Server, listener: &str, transport: &str, lines: u64) {
    let statement =
        format!("SELECT lines FROM system.listeners WHERE listener = '{listener}' AND transport = '{transport}'");
    until(&format!("{lines} lines of {listener} over {transport}"), || number(&server.sql(&statement)) as u64 >= lines);
}

/// The series of a metric with their values, by labels as text.
fn values(data: &Path, metric: &str) -> Vec<(String, f64)> {
    let statement = format!(
        "SELECT s.series, m.value FROM \"{metric}\" m JOIN system.series s ON s.metric = '{metric}' ORDER BY 1, m.time"
    );
    let rows = sql(data, &statement);
    rows.iter().map(|row| (row["series"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap())).collect()
}

/// Values of a metric with one series, in the order of time.
fn only(data: &Path, metric: &str) -> Vec<f64> {
    let rows = sql(data, &format!("SELECT value FROM \"{metric}\" ORDER BY time"));
    rows.iter().map(|row| row["value"].as_f64().unwrap()).collect()
}

#[test]
fn the_statsd_client_is_understood() {
    let (folder, server) = listening(&AT_THE_END);
    if !python("statsd", "statsd_client.py", &[port(&address(&server, "statsd"))]) {
        return;
    }
    for transport in ["udp", "tcp"] {
        await_lines(&server, "statsd", transport, 7 + 3 + 2 + 3 + 3);
    }
    assert_eq!(number(&server.sql("SELECT sum(refused_lines) FROM system.listeners")), 0.0);
    server.stop();
    for by in ["udp", "tcp"] {
        let of = |metric: &str| only(folder.path(), &format!("{by}_{metric}"));
        assert_eq!(of("api_requests"), [0.0, 13.0], "a counter begins at zero");
        assert_eq!(of("queue_depth"), [8.5]);
        assert_eq!(of("below_zero"), [-4.0]);
        assert_eq!(of("users"), [2.0]);
        assert_eq!(of("render_count"), [0.0, 3.0]);
        assert_eq!(of("render_sum"), [0.0, 0.32 + 0.1 + 1.0]);
        assert_eq!((of("render_min"), of("render_max")), (vec![0.1], vec![1.0]));
        let quantiles = sql(
            folder.path(),
            &format!("SELECT quantile, value FROM {by}_render WHERE quantile IN ('0.5', '0.99') ORDER BY quantile"),
        );
        let near = |row: &Value, wanted: f64| (row["value"].as_f64().unwrap() / wanted - 1.0).abs() < 0.01;
        assert!(near(&quantiles[0], 0.32) && near(&quantiles[1], 0.9864), "{quantiles:?}");
    }
    let about =
        "SELECT kind, unit FROM system.series WHERE metric IN ('udp_api_requests', 'udp_render_sum') ORDER BY metric";
    let counter = |unit: &str| json!({"kind": "counter", "unit": unit});
    let told = sql(folder.path(), about);
    let told: Vec<Value> =
        told.iter().map(|row| json!({"kind": row["kind"], "unit": row["unit"].as_str().unwrap_or("")})).collect();
    assert_eq!(told, [counter(""), counter("seconds")]);
}

#[test]
fn the_datadog_client_is_understood() {
    let (folder, server) = listening(&AT_THE_END);
    let at = address(&server, "statsd");
    if !python("datadog", "dogstatsd_client.py", &[port(&at), &T0.to_string()]) {
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let by_hand = b"multi:1:2:3.5|c|@0.5|#env:test|c:ci-abc|e:it-false\nmulti:4|c|#env:test\nbroken|c";
    socket.send_to(by_hand, &at).unwrap();
    await_lines(&server, "statsd", "udp", 3 + 1 + 1 + 2 + 1 + 8 + 1 + 3 + 1 + 1 + 3);
    let listeners = server.sql(
        "SELECT refused_lines, last_refused FROM system.listeners WHERE listener = 'statsd' AND transport = 'udp'",
    );
    assert_eq!(listeners[0]["refused_lines"], 1);
    assert!(
        listeners[0]["last_refused"].as_str().unwrap().contains("`broken|c` has no value: write `name:value|type`")
    );
    let told = server.get("/metrics").ending(200).text();
    for line in [
        "plimsoll_listener_refused_lines_total{listener=\"statsd\",transport=\"udp\"} 1",
        "plimsoll_listener_events_total{listener=\"statsd\"} 1",
        "plimsoll_listener_kernel_dropped_packets_total{listener=\"statsd\",transport=\"udp\"} 0",
        "plimsoll_listener_queue_dropped_packets_total{listener=\"statsd\",transport=\"udp\"} 0",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    server.stop();
    let of = |metric: &str| values(folder.path(), metric);
    let series = |text: &str, values: &[f64]| -> Vec<(String, f64)> {
        values.iter().map(|value| (text.to_owned(), *value)).collect()
    };
    let views =
        sql(folder.path(), "SELECT route, beta, max(value) AS value FROM page_views GROUP BY 1, 2 ORDER BY route");
    assert_eq!(
        views,
        [json!({"route": "/login", "beta": "true", "value": 5.0}), json!({"route": "/logout", "value": 1.0})]
    );
    let pool =
        sql(folder.path(), "SELECT at, value, CAST(time AS BIGINT) / 1000000000 AS s FROM pool_size ORDER BY time");
    assert_eq!(pool[0], json!({"at": "then", "value": 3.0, "s": T0}));
    assert_eq!((pool.len(), &pool[1]["value"]), (2, &json!(12.5)));
    assert_eq!(of("late_count"), series("late_count{env=\"test\"}", &[0.0, 4.0]));
    assert_eq!(of("multi"), series("multi{env=\"test\"}", &[0.0, 17.0]));
    assert_eq!(of("body_bytes_count"), series("body_bytes_count{env=\"test\"}", &[0.0, 4.0]));
    assert_eq!(of("body_bytes_sum"), series("body_bytes_sum{env=\"test\"}", &[0.0, 10.0]));
    assert_eq!(of("spread_max"), series("spread_max{env=\"test\"}", &[40.0]));
    assert_eq!(of("render_sum"), series("render_sum{env=\"test\"}", &[0.0, 0.25]));
    assert_eq!(of("users"), series("users{env=\"test\"}", &[2.0]));
    let check = "service_check_status{check=\"db.up\",db=\"main\",env=\"test\",host=\"web-1\"}";
    assert_eq!(of("service_check_status"), series(check, &[2.0]));
    let rows = sql(folder.path(), "SELECT count, sum FROM histograms WHERE metric = 'body_bytes'");
    assert_eq!(rows, [json!({"count": 4.0, "sum": 10.0})]);
}

#[test]
fn graphite_lines_come_over_both_transports() {
    let (_folder, server) = listening(&[]);
    let at = address(&server, "graphite");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(format!("by.udp 1.5 {T0}\nby.udp;host=web-1 2.5 {T0}\n").as_bytes(), &at).unwrap();
    let mut stream = TcpStream::connect(&at).unwrap();
    // In pieces, and without an end to the last line.
    for piece in [format!("by.tcp 1 {T0}\nby.t"), format!("cp 2 {}\nno time\n", T0 + 1), "by.tcp 3 -1".to_owned()] {
        stream.write_all(piece.as_bytes()).unwrap();
        stream.flush().unwrap();
    }
    let before = now_seconds();
    drop(stream);
    await_lines(&server, "graphite", "udp", 2);
    await_lines(&server, "graphite", "tcp", 4);
    let rows = server.sql("SELECT host, value FROM by_udp ORDER BY value");
    assert_eq!(rows, [json!({"value": 1.5}), json!({"host": "web-1", "value": 2.5})]);
    let rows = server.sql("SELECT value, CAST(time AS BIGINT) / 1000000000 AS s FROM by_tcp ORDER BY time");
    assert_eq!(rows[..2], [json!({"value": 1.0, "s": T0}), json!({"value": 2.0, "s": T0 + 1})]);
    assert!((before - 5..before + 60).contains(&rows[2]["s"].as_i64().unwrap()) && rows[2]["value"] == 3.0, "{rows:?}");
    let told = server.sql(
        "SELECT refused_lines, last_refused FROM system.listeners WHERE listener = 'graphite' AND transport = 'tcp'",
    );
    assert_eq!(
        told,
        [json!({"refused_lines": 1, "last_refused": "`no time`: write `path value time`, -1 for a time of now"})]
    );
}

#[test]
fn what_statsd_brings_is_told_at_every_flush_until_it_expires() {
    let quick = [("PLIMSOLL__LISTEN__STATSD_FLUSH", "100ms"), ("PLIMSOLL__LISTEN__STATSD_EXPIRE", "500ms")];
    let (_folder, server) = listening(&quick);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = address(&server, "statsd");
    socket.send_to(b"depth:7|g\nhits:3|c", &at).unwrap();
    let ended = "SELECT count(*) FROM staleness WHERE metric IN ('depth', 'hits')";
    until("the ends of both", || number(&server.sql(ended)) == 2.0);
    let samples = number(&server.sql("SELECT count(*) FROM depth WHERE value = 7"));
    assert!((1.0..=6.0).contains(&samples), "{samples} samples in half a second");
    assert_eq!(number(&server.sql("SELECT count(*) FROM hits WHERE value = 0")), 1.0);
    socket.send_to(b"hits:2|c", &at).unwrap();
    until("a counter that begins anew", || {
        server.sql("SELECT value FROM hits ORDER BY time DESC LIMIT 1")[0]["value"] == 2.0
    });
    assert_eq!(number(&server.sql("SELECT count(*) FROM hits WHERE value = 0")), 2.0);
}

/// Floods the port far beyond what is taken: packets with `lines` lines each, of one counter. What was sent must be what
/// was counted and what was dropped.
fn flood(lines: u64, packets: u64, environment: &[(&str, &str)]) -> (f64, f64) {
    let (folder, server) = listening(&[&AT_THE_END[..], environment].concat());
    let at = address(&server, "statsd");
    let packet = "flood:1|c\n".repeat(lines as usize);
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                for _ in 0..packets / 4 {
                    // One that the sender's own kernel does not take is not sent.
                    let taken = socket.send_to(packet.as_bytes(), &at).is_ok_and(|length| length == packet.len());
                    sent.fetch_add(u64::from(taken), Ordering::Relaxed);
                }
            });
        }
    });
    let sent = sent.into_inner() as f64;
    let statement = "SELECT packets, dropped_kernel, dropped_queue, lines FROM system.listeners WHERE listener = 'statsd' AND transport = 'udp'";
    let told = || {
        let row = &server.sql(statement)[0];
        ["packets", "dropped_kernel", "dropped_queue", "lines"].map(|name| row[name].as_f64().unwrap())
    };
    until("everything that was not dropped to be counted", || {
        let [packets, kernel, queue, counted] = told();
        packets + kernel == sent && counted == (packets - queue) * lines as f64
    });
    let [_, kernel, queue, _] = told();
    let exposed = server.get("/metrics").ending(200).text();
    for (name, value) in [("kernel", kernel), ("queue", queue)] {
        let line = format!(
            "plimsoll_listener_{name}_dropped_packets_total{{listener=\"statsd\",transport=\"udp\"}} {value}\n"
        );
        assert!(exposed.contains(&line), "{line}{exposed}");
    }
    server.stop();
    let counted = number(&sql(folder.path(), "SELECT max(value) FROM flood"));
    eprintln!(
        "{sent} packets of {lines} lines: {} counted, {kernel} dropped by the kernel, {queue} by us",
        counted / lines as f64
    );
    assert_eq!(counted, (sent - kernel - queue) * lines as f64);
    (kernel, queue)
}

#[test]
fn what_a_flood_loses_is_counted_to_the_packet() {
    let (kernel, _) = flood(1, 20_000, &[("PLIMSOLL__LISTEN__UDP_BUFFER", "4KB")]);
    assert!(kernel > 0.0, "the kernel held all of a flood in 4 KB");
    let (_, queue) = flood(140, 12_000, &[]);
    assert!(queue > 0.0, "all of a flood was parsed in time");
}

#[test]
fn influxdb_2_clients_work_unchanged() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    if !python("influxdb_client", "influx_v2.py", &[&server.url]) {
        return;
    }
    let rows = server.sql(
        "SELECT db, count(*) AS n, sum(usage) AS usage, sum(count) AS count, count(DISTINCT host) AS hosts, \
         CAST(min(time) AS BIGINT) / 1000000000 AS first, CAST(max(time) AS BIGINT) / 1000000000 AS last FROM cpu GROUP BY db ORDER BY db",
    );
    let of = |db: &str| json!({"db": db, "n": 100, "usage": 5000.0, "count": 4950.0, "hosts": 100, "first": T0, "last": T0 + 99});
    assert_eq!(rows, [of("packed"), of("plain")]);
    let rows = server.sql("SELECT db, value, CAST(time AS BIGINT) / 1000000 AS ms FROM mem_used ORDER BY db");
    let of = |db: &str| json!({"db": db, "value": 7.0, "ms": T0 * 1000 + 123});
    assert_eq!(rows, [of("packed"), of("plain")]);
}

#[test]
fn influxdb_1_clients_work_unchanged() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    let at = server.url.strip_prefix("http://").unwrap();
    let (host, port) = at.split_once(':').unwrap();
    if !python("influxdb", "influx_v1.py", &[host, port]) {
        return;
    }
    let rows = server.sql(
        "SELECT db, count(*) AS n, sum(value) AS usage, CAST(max(time) AS BIGINT) / 1000000 AS last FROM cpu_usage GROUP BY db ORDER BY db",
    );
    let of = |db: &str| json!({"db": db, "n": 100, "usage": 1237.5, "last": T0 * 1000 + 99});
    assert_eq!(rows, [of("packed"), of("plain")]);
}

/// What curl answers: the status, and the body.
#[track_caller]
fn curl(server: &Server, path: &str, args: &[&str], body: &[u8]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-w", "\n%{http_code}"]).args(args).arg(format!("{}{path}", server.url));
    if !body.is_empty() {
        command.args(["--data-binary", "@-"]);
    }
    let text = run(command, body).ending(0).text();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn curl_writes_as_to_influxdb_3() {
    if !has("curl", "curl", &["--version"]) {
        return;
    }
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    let times = [T0, T0 * 1000, T0 * 1_000_000, T0 * 1_000_000_000];
    for (at, time) in times.iter().enumerate() {
        for (how, path) in [("said", "/api/v3/write_lp?db=d&precision=auto"), ("usual", "/api/v3/write_lp?db=d")] {
            let line = format!("auto,at={at},how={how} v={at}.5 {time}");
            assert_eq!(curl(&server, path, &[], line.as_bytes()).0, "204");
        }
    }
    let rows = server.sql("SELECT count(*) AS n, sum(value) AS sum, min(db) AS db, CAST(min(time) AS BIGINT) AS first, CAST(max(time) AS BIGINT) AS last FROM auto_v");
    assert_eq!(
        rows,
        [json!({"n": 8, "sum": 16.0, "db": "d", "first": T0 * 1_000_000_000, "last": T0 * 1_000_000_000})]
    );
    let body = format!("part v=1 {T0}\npart v=x {T0}\n");
    let (status, told) = curl(&server, "/api/v3/write_lp?db=d&accept_partial=False", &[], body.as_bytes());
    assert!(status == "400" && told.contains("\"line\":2") && told.contains("0 samples stored"), "{status} {told}");
    assert_eq!(server.sql("SELECT * FROM system.series WHERE metric = 'part_v'"), [json!(null); 0]);
    let (status, _) = curl(&server, "/api/v3/write_lp?db=d&accept_partial=true", &[], body.as_bytes());
    assert_eq!((status.as_str(), number(&server.sql("SELECT count(*) FROM part_v"))), ("400", 1.0));
    let packed = gzip(format!("packed v=1 {T0}").as_bytes());
    let args = ["-H", "Content-Encoding: gzip", "-H", "Authorization: Bearer apiv3_secret"];
    assert_eq!(curl(&server, "/api/v3/write_lp?db=d&precision=second", &args, &packed).0, "204");
    assert_eq!(number(&server.sql("SELECT value FROM packed_v")), 1.0);
    let (status, told) = curl(&server, "/query", &["-G", "--data-urlencode", "q=SHOW DATABASES"], b"");
    assert!(status == "400" && told.contains("/api/v1/sql"), "{told}");
    let (status, told) = curl(&server, "/query", &["--data-urlencode", "q=CREATE DATABASE \"my db\""], b"");
    assert_eq!((status.as_str(), told.as_str()), ("200", "{\"results\":[{\"statement_id\":0}]}"));
    let (status, told) = curl(&server, "/ping", &["-I"], b"");
    assert!(status == "204" && told.to_lowercase().contains("x-influxdb-version: 1.8"), "{told}");
}

#[test]
fn curl_pushes_prometheus_text() {
    if !has("curl", "curl", &["--version"]) {
        return;
    }
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    let text = b"# TYPE rows_total counter\n# HELP rows_total Rows read.\nrows_total{job=\"own\",table=\"a\"} 7\nage_seconds 1.5\n";
    assert_eq!(curl(&server, "/metrics/job/batch/instance/web-1", &[], text).0, "200");
    assert_eq!(curl(&server, "/metrics/job@base64/L3Zhci90bXA", &["-X", "PUT"], text).0, "200");
    let rows = server.sql("SELECT job, instance, \"table\", value FROM rows_total ORDER BY job");
    let wanted = [
        json!({"job": "/var/tmp", "table": "a", "value": 7.0}),
        json!({"job": "batch", "instance": "web-1", "table": "a", "value": 7.0}),
    ];
    assert_eq!(rows, wanted);
    let about = server.sql("SELECT DISTINCT kind, help FROM system.series WHERE metric = 'rows_total'");
    assert_eq!(about, [json!({"kind": "counter", "help": "Rows read."})]);
    let path = format!("/api/v1/import/prometheus?extra_label=dc=eu&timestamp={}", T0 * 1000);
    let open = b"# TYPE jobs counter\njobs_total 3\njobs_total{q=\"a\"} 4 1700000001.5\n# EOF\n";
    assert_eq!(curl(&server, &path, &["-H", "Content-Encoding: gzip"], &gzip(open)).0, "204");
    let rows = server.sql("SELECT dc, q, value, CAST(time AS BIGINT) / 1000000 AS ms FROM jobs_total ORDER BY time");
    let wanted = [
        json!({"dc": "eu", "value": 3.0, "ms": T0 * 1000}),
        json!({"dc": "eu", "q": "a", "value": 4.0, "ms": T0 * 1000 + 1500}),
    ];
    assert_eq!(rows, wanted);
    let (status, told) = curl(&server, "/metrics/job/batch", &[], b"up 1\nup one\n");
    assert!(status == "400" && told.contains("\"line\":2"), "{status} {told}");
    let (status, told) = curl(&server, "/metrics/job/batch/instance", &[], b"up 1\n");
    assert!(status == "400" && told.contains("the label `instance` has no value"), "{status} {told}");
    let said = ["-H", "Content-Type: application/vnd.google.protobuf; encoding=delimited"];
    assert_eq!(curl(&server, "/metrics/job/batch", &said, b"up 1\n").0, "415");
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn collectd_writes_over_http_and_as_to_graphite() {
    if !has("collectd", "collectd", &["-h"]) {
        return;
    }
    let (folder, server) = listening(&[]);
    let home = tempdir().unwrap();
    let dir = home.path().display();
    let graphite = address(&server, "graphite");
    // What collectd reads of a file is known to us.
    std::fs::write(home.path().join("value"), "42.5\n").unwrap();
    let config = format!(
        "Hostname \"web-1\"\nFQDNLookup false\nInterval 1\nBaseDir \"{dir}\"\nPIDFile \"{dir}/pid\"\nTypesDB \"/usr/share/collectd/types.db\"\n\
         LoadPlugin logfile\n<Plugin logfile>\n  File \"{dir}/log\"\n</Plugin>\n\
         LoadPlugin table\nLoadPlugin load\nLoadPlugin contextswitch\nLoadPlugin write_http\nLoadPlugin write_graphite\n\
         <Plugin table>\n  <Table \"{dir}/value\">\n    Plugin \"known\"\n    Instance \"fixed\"\n    Separator \" \"\n    <Result>\n      Type gauge\n      InstancePrefix \"answer\"\n      ValuesFrom 0\n    </Result>\n  </Table>\n</Plugin>\n\
         <Plugin write_http>\n  <Node \"plimsoll\">\n    URL \"{}/collectd\"\n    Format \"JSON\"\n    BufferSize 4096\n  </Node>\n</Plugin>\n\
         <Plugin write_graphite>\n  <Node \"plimsoll\">\n    Host \"127.0.0.1\"\n    Port \"{}\"\n    Protocol \"tcp\"\n    Prefix \"by.graphite.\"\n  </Node>\n</Plugin>\n",
        server.url,
        port(&graphite),
    );
    let file = home.path().join("collectd.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("collectd");
    command.arg("-f").arg("-C").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut collectd = Ended(command.spawn().unwrap());
    let log = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
    let count = |metric: &str| number(&server.sql(&format!("SELECT count(*) FROM metrics WHERE metric = '{metric}'")));
    until("two samples of each kind", || {
        assert!(collectd.0.try_wait().unwrap().is_none(), "collectd ended: {}", log());
        let all = ["collectd_known_gauge", "collectd_contextswitch_contextswitch", "collectd_load_load_shortterm"];
        all.iter().all(|metric| count(metric) >= 2.0) && count("by_graphite_web_1_known_fixed_gauge_answer") >= 2.0
    });
    drop(collectd);
    let rows = server.sql("SELECT DISTINCT host, plugin_instance, type_instance, value FROM collectd_known_gauge");
    assert_eq!(rows, [json!({"host": "web-1", "plugin_instance": "fixed", "type_instance": "answer", "value": 42.5})]);
    let rows = server.sql("SELECT DISTINCT value FROM by_graphite_web_1_known_fixed_gauge_answer");
    assert_eq!(rows, [json!({"value": 42.5})]);
    let kinds = server.sql("SELECT metric, kind FROM system.series WHERE metric LIKE 'collectd_load_%' OR metric LIKE 'collectd_context%' ORDER BY metric");
    let kind = |metric: &str, kind: &str| json!({"metric": metric, "kind": kind});
    let wanted = [
        kind("collectd_contextswitch_contextswitch", "counter"),
        kind("collectd_load_load_longterm", "gauge"),
        kind("collectd_load_load_midterm", "gauge"),
        kind("collectd_load_load_shortterm", "gauge"),
    ];
    assert_eq!(kinds, wanted);
    let refused = "SELECT last_refused FROM system.listeners WHERE refused_lines > 0";
    assert_eq!(server.sql(refused), [json!(null); 0], "{}", log());
    server.stop();
    drop(folder);
}
