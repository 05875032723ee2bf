//! Sources that are asked at an interval, against servers and commands of the test's own, down to the rows in SQL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::support::{Server, plimsoll, program, until};

/// A server over HTTP, in a thread that ends when it is dropped.
struct Web {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

/// Body and status for a path; `None` gives no answer as long as the connection is open.
type Answer = fn(&str) -> Option<(u16, String)>;

impl Web {
    fn plain(answer: Answer) -> Web {
        Web::start(move |stream| serve(stream, answer))
    }

    fn tls(config: ServerConfig, answer: Answer) -> Web {
        let config = Arc::new(config);
        Web::start(move |stream| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            serve(StreamOwned::new(connection, stream), answer);
        })
    }

    fn start(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, serve) = (stream.unwrap(), serve.clone());
                std::thread::spawn(move || serve(stream));
            }
        });
        Web { address, stop }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread to see it.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: impl Read + Write, answer: Answer) {
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        // A client that turns away, as one that does not trust us, ends it.
        let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
        request.extend_from_slice(&buffer[..read]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    match answer(request.split(' ').nth(1).unwrap()) {
        Some((status, body)) => {
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = stream.flush();
        }
        None => while matches!(stream.read(&mut buffer), Ok(1..)) {},
    }
}

/// A server with these settings; the folder holds data and settings.
fn start(folder: &Path, settings: &str) -> Server {
    let file = folder.join("settings.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = program(&folder.join("data"));
    command.args(["--config", file.to_str().unwrap(), "serve", "--listen", "127.0.0.1:0"]);
    Server::of(command)
}

/// The first row of a statement, once there is one.
#[track_caller]
fn row(server: &Server, statement: &str) -> Value {
    let mut found = Vec::new();
    until(statement, || {
        found = server.sql(statement);
        !found.is_empty()
    });
    found.remove(0)
}

/// The latest value of a metric where `filter` is so.
#[track_caller]
fn value(server: &Server, metric: &str, filter: &str) -> f64 {
    let tables = format!("SELECT metric FROM system.metrics WHERE metric = '{metric}'");
    row(server, &tables);
    let statement = format!("SELECT value FROM {metric} WHERE {filter} ORDER BY time DESC LIMIT 1");
    row(server, &statement)["value"].as_f64().unwrap()
}

#[test]
fn a_probe_says_how_an_address_is_doing() {
    let web = Web::plain(|path| match path {
        "/health" => Some((200, "all is well".into())),
        "/sick" => Some((503, "no".into())),
        "/hangs" => None,
        _ => Some((200, "an error occurred".into())),
    });
    let (address, folder) = (web.address, tempfile::tempdir().unwrap());
    let settings = format!(
        r#"
        [[sources]]
        id = "well"
        interval = "5s"
        timeout = "4s"
        labels = {{ team = "web" }}
        from.http = {{ url = "http://me:secret@{address}/health", contains = "all.*well" }}
        [[sources]]
        id = "ill"
        interval = "5s"
        timeout = "4s"
        from.http = {{ urls = ["http://{address}/sick", "http://{address}/text"], status = ["200..299", 301], not_contains = "(?i)ERROR" }}
        [[sources]]
        id = "slow"
        interval = "5s"
        timeout = "1s"
        from.http = {{ url = "http://{address}/hangs" }}
        "#
    );
    let server = start(folder.path(), &settings);
    let target = format!("target = 'http://{address}/health'");
    assert_eq!(value(&server, "probe_success", &target), 1.0);
    assert_eq!(value(&server, "probe_http_status_code", &target), 200.0);
    assert_eq!(value(&server, "probe_http_content_length", &format!("{target} AND team = 'web'")), 11.0);
    assert!(value(&server, "probe_phase_duration_seconds", &format!("{target} AND phase = 'processing'")) > 0.0);
    assert!(value(&server, "probe_duration_seconds", &target) > 0.0);
    let sick = format!("target = 'http://{address}/sick'");
    assert_eq!(value(&server, "probe_success", &sick), 0.0);
    assert_eq!(value(&server, "probe_http_status_code", &sick), 503.0);
    assert_eq!(value(&server, "probe_failed_due_to_regex", &format!("target = 'http://{address}/text'")), 1.0);
    assert_eq!(value(&server, "probe_success", &format!("target = 'http://{address}/hangs'")), 0.0);
    let slow = row(&server, "SELECT * FROM system.collectors WHERE id = 'slow' AND last_error IS NOT NULL");
    let error = slow["last_error"].as_str().unwrap();
    assert!(error.contains("no answer within the timeout of 900ms: it was in the phase processing"), "{error}");
    let took = slow["took_seconds"].as_f64().unwrap();
    assert!((0.8..5.0).contains(&took), "its timeout ends it, well before the interval does: {slow}");
    let text = row(&server, &format!("SELECT * FROM system.collectors WHERE id = 'ill/http://{address}/text'"));
    assert_eq!(text["kind"], "http");
}

#[test]
fn who_refuses_is_asked_less_often_and_named_by_health() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        r#"
        [[sources]]
        id = "gone"
        name = "The one that is gone"
        priority = "PRIORITY"
        interval = "400ms"
        timeout = "350ms"
        from.json = {{ url = "http://{refused}/" }}
        [[sources]]
        id = "off"
        enabled = false
        from.http = {{ url = "http://{refused}/" }}
        "#
    );
    let server = start(folder.path(), &settings.replace("PRIORITY", "high"));
    // The wait doubles from the third failure on.
    let failing = row(&server, "SELECT * FROM system.collectors WHERE id = 'gone' AND failures >= 3");
    assert_eq!(failing["health"], "failing");
    let wait = "SELECT arrow_cast(next_pass, 'Int64') - arrow_cast(last_pass, 'Int64') AS wait FROM system.collectors \
                WHERE id = 'gone' AND next_pass > last_pass";
    let mut longest = 0;
    until("a wait of some intervals", || {
        longest = server.sql(wait).first().map_or(0, |row| row["wait"].as_i64().unwrap()).max(longest);
        longest >= 700_000_000
    });
    let health = server.get("/health").ending(200).json();
    assert_eq!((&health["status"], &health["sources"][0]["id"]), (&"healthy".into(), &"gone".into()));
    assert!(health["sources"][0]["error"].as_str().unwrap().contains("refuses connections"), "{health}");
    let sources = server.get("/api/performance/sources").ending(200).json();
    assert_eq!(sources["success"], true);
    let gone = sources["sources"].as_array().unwrap().iter().find(|told| told["source"]["id"] == "gone").unwrap();
    let wanted = serde_json::json!({
        "id": "gone", "name": "The one that is gone", "kind": "json", "priority": "high", "enabled": true, "intervalMs": 400
    });
    assert_eq!((&gone["source"], &gone["health"]), (&wanted, &"failing".into()));
    assert!(gone["lastCollection"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(sources["sources"][1]["health"], "disabled");
    let metrics = server.get("/metrics").text();
    let up = "plimsoll_collector_up{source=\"gone\",kind=\"json\",priority=\"high\"} 0";
    let unknown = "plimsoll_collector_last_success_age_seconds{source=\"gone\"}";
    assert!(metrics.contains(up) && !metrics.contains(unknown), "{metrics}");
    assert!(metrics.contains("plimsoll_coordinator_health_score 0"), "{metrics}");
    drop(server);

    let server = start(folder.path(), &settings.replace("PRIORITY", "critical"));
    until("the critical source degrades the whole", || server.get("/health").json()["status"] == "degraded");
    let reasons = server.get("/health").json()["reasons"].to_string();
    assert!(reasons.contains("the source `gone` fails"), "{reasons}");
}

#[test]
fn json_and_commands_are_rows_in_sql() {
    let web = Web::plain(|_| {
        Some((
            200,
            r#"{"queue": {"depth": 4, "busy": true}, "pools": [{"id": "a", "used": 1}, {"id": "b", "used": 2}]}"#
                .into(),
        ))
    });
    let (address, folder) = (web.address, tempfile::tempdir().unwrap());
    let settings = format!(
        r#"
        [collect]
        exec = true
        [[sources]]
        id = "named"
        interval = "5s"
        timeout = "4s"
        from.json = {{ url = "http://{address}/", metrics = [
            {{ name = "pool_used_bytes", path = "$.pools[*].used", labels = {{ pool = "id" }}, kind = "gauge", unit = "bytes" }},
            {{ name = "gone", path = "$.gone" }},
        ] }}
        [[sources]]
        id = "flat-app"
        interval = "5s"
        timeout = "4s"
        from.json = {{ url = "http://{address}/" }}
        [[sources]]
        id = "script"
        interval = "5s"
        timeout = "4s"
        from.exec = {{ command = ["sh", "-c", "echo 'jobs_waiting{{q=\"a\"}} 3'; echo trouble >&2; exit 2"] }}
        [[sources]]
        id = "sleeper"
        interval = "1s"
        timeout = "200ms"
        from.exec = {{ command = ["sleep", "60"] }}
        "#
    );
    let server = start(folder.path(), &settings);
    assert_eq!(value(&server, "pool_used_bytes", "pool = 'b'"), 2.0);
    assert_eq!(value(&server, "flat_app_queue_depth", "true"), 4.0);
    assert_eq!(value(&server, "flat_app_queue_busy", "true"), 1.0);
    assert_eq!(value(&server, "flat_app_pools_1_used", "true"), 2.0);
    assert_eq!(value(&server, "jobs_waiting", "q = 'a'"), 3.0);
    let described = row(&server, "SELECT kind, unit FROM system.metrics WHERE metric = 'pool_used_bytes'");
    assert_eq!(described, serde_json::json!({"kind": "gauge", "unit": "bytes"}));
    let told = |id: &str| {
        let statement =
            format!("SELECT last_error FROM system.collectors WHERE id = '{id}' AND last_error IS NOT NULL");
        row(&server, &statement)["last_error"].as_str().unwrap().to_owned()
    };
    assert!(told("named").contains("`gone`: nothing is at $.gone"), "{}", told("named"));
    let named = row(&server, "SELECT health, failures FROM system.collectors WHERE id = 'named'");
    assert_eq!(named, serde_json::json!({"health": "degraded", "failures": 0}), "a part of it was told");
    assert_eq!(value(&server, "pool_used_bytes", "source = 'named' AND pool = 'a'"), 1.0);
    assert_eq!(told("script"), "command `sh`: it ended with exit code 2: trouble");
    assert_eq!(told("sleeper"), "no answer within the timeout of 200ms");
}

#[test]
fn the_programs_own_metrics_are_history() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(folder.path());
    command.env("PLIMSOLL__COLLECT__OWN", "true").env("PLIMSOLL__COLLECT__OWN_INTERVAL", "2s");
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::of(command);
    server.write("cpu,host=a usage=1 1700000000000000000");
    until("an own metric that counts", || value(&server, "plimsoll_ingest_samples_total", "true") == 1.0);
    assert_eq!(value(&server, "plimsoll_collector_up", "source = 'own'"), 1.0);
    assert!(value(&server, "plimsoll_coordinator_source_metrics_total", "priority = 'low'") > 10.0);
    let about = row(&server, "SELECT kind, unit FROM system.metrics WHERE metric = 'plimsoll_head_bytes'");
    assert_eq!(about, serde_json::json!({"kind": "gauge", "unit": "bytes"}));
    let counted = "endpoint = '/write' AND method = 'POST'";
    assert_eq!(value(&server, "plimsoll_http_requests_total", counted), 1.0);
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        lines.map(str::to_owned).collect()
    };
    let told = names(&server.get("/metrics").text());
    let kept = server.sql("SELECT metric FROM system.metrics WHERE metric LIKE 'plimsoll_%'");
    let missing: Vec<&Value> = kept.iter().filter(|row| !told.iter().any(|name| row["metric"] == **name)).collect();
    assert!(kept.len() > 20 && missing.is_empty(), "{missing:?}");
}

/// Runs openssl; `None` where there is none, which is told.
fn openssl(folder: &Path, arguments: &str) -> Option<()> {
    let ran = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    match ran {
        Ok(ran) => {
            assert!(ran.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
            Some(())
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "openssl is needed: {error}");
            eprintln!("skipped: no openssl ({error})");
            None
        }
    }
}

/// Of January 2020: what `openssl ca` needs to set dates.
const OLD: &str = "[ca]\ndefault_ca = d\n[d]\ndatabase = index\nrand_serial = yes\nnew_certs_dir = .\ndefault_md = sha256\n\
    policy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n[e]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = ";

/// A server's keys: certificate `NAME.pem` and key `NAME.key`, valid for `days` or, at 0, of January 2020; signed by
/// itself.
fn certificate(folder: &Path, name: &str, host: &str, days: u32) -> Option<ServerConfig> {
    let new = format!("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -subj /CN={name}");
    if days == 0 {
        std::fs::write(folder.join("ca.cnf"), format!("{OLD}{host}\n")).unwrap();
        std::fs::write(folder.join("index"), "").unwrap();
        openssl(folder, &format!("req -new {new} -out {name}.csr"))?;
        let dates = "-startdate 20200101000000Z -enddate 20200201000000Z";
        let files = format!("-keyfile {name}.key -in {name}.csr -out {name}.pem");
        openssl(folder, &format!("ca -config ca.cnf -batch -selfsign -notext {dates} {files}"))?;
    } else {
        let extensions = format!("-addext subjectAltName={host} -addext basicConstraints=critical,CA:FALSE");
        openssl(folder, &format!("req -x509 {new} -out {name}.pem -days {days} {extensions}"))?;
    }
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Some(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

#[test]
fn certificates_are_held_against_what_is_trusted_and_read_in_any_case() {
    let folder = tempfile::tempdir().unwrap();
    let hello: Answer = |_| Some((200, "hello".into()));
    let made = |name, host, days| certificate(folder.path(), name, host, days);
    let Some(trusted) = made("trusted", "IP:127.0.0.1", 30) else { return };
    let other = made("other", "DNS:other.example", 60).unwrap();
    let old = made("old", "IP:127.0.0.1", 0).unwrap();
    let (trusted, other, old) = (Web::tls(trusted, hello), Web::tls(other, hello), Web::tls(old, hello));
    let source = |id: &str, web: &Web, tls: &str| {
        let address = web.address;
        format!(
            "[[sources]]\nid = \"{id}\"\ninterval = \"10s\"\ntimeout = \"9s\"\nlabels = {{ id = \"{id}\" }}\nfrom.http = {{ url = \"https://{address}/\", tls = {{ {tls} }} }}\n"
        )
    };
    let ca = |name: &str| format!("ca_file = \"{}\"", folder.path().join(format!("{name}.pem")).display());
    let settings = [
        source("good", &trusted, &ca("trusted")),
        source("unknown", &trusted, ""),
        source("skipped", &trusted, "insecure_skip_verify = true"),
        source("name", &other, &ca("other")),
        source("renamed", &other, &format!("{}, server_name = \"other.example\"", ca("other"))),
        source("old", &old, &ca("old")),
        source("none", &trusted, "ca_file = \"/no/such/file.pem\""),
    ];
    let server = start(folder.path(), &settings.concat());
    let days = |id: &str| value(&server, "probe_tls_certificate_days", &format!("id = '{id}'"));
    for (id, success, left) in [
        ("good", 1.0, 29.0..30.1),
        ("unknown", 0.0, 29.0..30.1),
        ("skipped", 1.0, 29.0..30.1),
        ("name", 0.0, 59.0..60.1),
        ("renamed", 1.0, 59.0..60.1),
        ("old", 0.0, -1e6..-1000.0),
    ] {
        assert_eq!(value(&server, "probe_success", &format!("id = '{id}'")), success, "{id}");
        assert!(left.contains(&days(id)), "{id}: {}", days(id));
    }
    assert_eq!(value(&server, "probe_ssl_earliest_cert_expiry", "id = 'old'"), 1_580_515_200.0);
    assert!(value(&server, "probe_phase_duration_seconds", "id = 'good' AND phase = 'tls'") > 0.0);
    for (id, wanted) in [
        ("unknown", "the certificate of `CN=trusted` is from the unknown issuer `CN=trusted`: name its PEM as ca_file"),
        ("name", "the certificate of `CN=other` is not for `127.0.0.1`: set server_name"),
        ("old", "the certificate of `CN=old` has expired: renew it"),
        ("none", "ca_file /no/such/file.pem cannot be read"),
    ] {
        let error = row(&server, &format!("SELECT last_error FROM system.collectors WHERE id = '{id}' AND passes > 0"));
        assert!(error["last_error"].as_str().unwrap().contains(wanted), "{error}");
    }
}

/// Whether a process is no more, or only waits to be buried.
fn has_ended(process: &str) -> bool {
    let told = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    told.is_empty() || told.contains(") Z ")
}

#[test]
fn a_command_that_is_ended_takes_its_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "[collect]\nexec = true\n[[sources]]\nid = \"a\"\ninterval = \"2s\"\ntimeout = \"500ms\"\nfrom.exec = {{ command = [\"sh\", \"-c\", \"sleep 300 & echo $! >> children; wait\"], dir = {:?} }}\n",
        folder.path()
    );
    let server = start(folder.path(), &settings);
    row(&server, "SELECT id FROM system.collectors WHERE failures > 0");
    let children = std::fs::read_to_string(folder.path().join("children")).unwrap();
    let child = children.lines().next().unwrap().to_owned();
    until("the child ends", || has_ended(&child));
    // What is under way when the server is told to stop ends, too.
    server.stop();
    let children = std::fs::read_to_string(folder.path().join("children")).unwrap();
    children.lines().for_each(|child| until("a child of the last pass ends", || has_ended(child)));
}

#[test]
fn check_names_faults_of_sources_with_line_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    std::fs::write(&file, "[[sources]]\nid = \"a\"\nfrom.exec = { command = [\"x\"] }\n").unwrap();
    let ran = plimsoll(folder.path(), &["check", file.to_str().unwrap()]).ending(2);
    assert!(
        ran.stderr.contains("s.toml:3: source `a`: exec: commands are run only where that is allowed"),
        "{}",
        ran.stderr
    );
}
