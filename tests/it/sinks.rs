//! Sinks and sources of pipelines: real servers as upstreams of another, a webhook, files, and stored samples told again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::tempdir;

use super::support::{Client, Server, number, plimsoll, program, sql, until};

/// 2026-01-01, in seconds.
const START: i64 = 1_767_225_600;
const HOSTS: usize = 20;

/// A server with a pipeline.
fn start(folder: &Path, pipeline: &str) -> Server {
    settings(folder, pipeline);
    let mut command = program(&folder.join("data"));
    command.args(["--config", folder.join("settings.toml").to_str().unwrap(), "serve", "--listen", "127.0.0.1:0"]);
    Server::of(command)
}

fn settings(folder: &Path, pipeline: &str) {
    let file = folder.join("pipeline.toml");
    std::fs::write(&file, format!("name = \"p\"\nlateness = \"0s\"\n{pipeline}")).unwrap();
    std::fs::write(folder.join("settings.toml"), format!("[pipelines]\nfiles = [{:?}]\n", file.display())).unwrap();
}

/// One that only stores.
fn upstream(folder: &Path, listen: &str) -> Server {
    let mut command = program(folder);
    command.args(["serve", "--listen", listen]).env("PLIMSOLL__PIPELINES__OFF", "true");
    Server::of(command)
}

/// Samples of all hosts at these seconds. The last of them are told when later ones come.
fn write(server: &Client, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let line = |host: usize| format!("load,host=h{host} x={second}.{host:02} {}", (START + second) * 1_000_000_000);
        server.write(&(0..HOSTS).map(line).collect::<Vec<_>>().join("\n"));
    }
}

/// Host and second of what a server has, and the values.
fn taken(server: &Client) -> BTreeMap<(String, i64), f64> {
    if server.sql("SELECT metric FROM system.metrics WHERE metric = 'load_x'").is_empty() {
        return BTreeMap::new();
    }
    let statement = "SELECT host, CAST(time AS BIGINT) / 1000000000 AS second, value FROM load_x";
    let row = |row: Value| {
        let (host, second) = (row["host"].as_str().unwrap().to_owned(), row["second"].as_i64().unwrap() - START);
        ((host, second), row["value"].as_f64().unwrap())
    };
    server.sql(statement).into_iter().map(row).collect()
}

fn up_to(all: &BTreeMap<(String, i64), f64>, second: i64) -> BTreeMap<(String, i64), f64> {
    all.iter().filter(|((_, at), _)| *at < second).map(|(key, value)| (key.clone(), *value)).collect()
}

#[test]
fn samples_are_at_the_upstream_as_they_are_here() {
    let (near, far) = (tempdir().unwrap(), tempdir().unwrap());
    let far = upstream(far.path(), "127.0.0.1:0");
    let sink = format!(
        "[[sinks]]\nname = \"far\"\ninputs = [\"live\"]\nwrite.forward = {{ urls = [\"{}/api/v1/write\"] }}\n",
        far.url
    );
    let near = start(near.path(), &sink);
    write(&near, 0..50);
    until("all but the last are there", || up_to(&taken(&far), 49).len() == 49 * HOSTS);
    assert_eq!(up_to(&taken(&far), 49), up_to(&taken(&near), 49));
    let told = "SELECT kind, dropped FROM system.pipelines WHERE stage = 'far'";
    assert_eq!(near.sql(told), [serde_json::json!({ "kind": "forward", "dropped": 0 })]);
    near.stop();
}

#[test]
fn an_upstream_that_is_killed_and_comes_back_loses_nothing_and_has_its_series_again() {
    let (near, one, two) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let (first, second) = (upstream(one.path(), "127.0.0.1:0"), upstream(two.path(), "127.0.0.1:0"));
    let url = second.url.clone();
    let sink = format!(
        "[[sinks]]\nname = \"far\"\ninputs = [\"live\"]\n\
         write.forward = {{ urls = [\"{}/api/v1/write\", \"{url}/api/v1/write\"], strategy = \"hash\" }}\n",
        first.url
    );
    let near = start(near.path(), &sink);
    let hosts = |server: &Client, seconds: std::ops::Range<i64>| -> BTreeSet<String> {
        taken(server).into_keys().filter(|(_, at)| seconds.contains(at)).map(|(host, _)| host).collect()
    };
    write(&near, 0..20);
    until("both have their series", || {
        up_to(&taken(&first), 19).len() + up_to(&taken(&second), 19).len() == 19 * HOSTS
    });
    let of_second = hosts(&second, 0..19);
    assert!(!of_second.is_empty() && of_second.len() < HOSTS && of_second.is_disjoint(&hosts(&first, 0..19)));
    second.kill();
    write(&near, 20..40);
    until("the other has all series", || hosts(&first, 20..39).len() == HOSTS);
    let second = upstream(two.path(), url.trim_start_matches("http://"));
    let mut at = 40;
    until("it is tried again", || {
        write(&near, at..at + 1);
        at += 1;
        !hosts(&second, 40..at).is_empty()
    });
    write(&near, at..at + 10);
    let whole = up_to(&taken(&near), at + 9);
    until("all is at one or the other", || {
        let mut both = up_to(&taken(&first), at + 9);
        both.extend(up_to(&taken(&second), at + 9));
        both == whole
    });
    assert_eq!(hosts(&second, at + 1..at + 9), of_second);
    near.stop();
}

/// Takes what is posted; refuses the first with 503.
struct Hook {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    posted: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hook {
    fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, ends, posted) =
            (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)), Arc::default());
        let hook = Hook { address, ends, posted };
        let (ends, posted, count) = (hook.ends.clone(), hook.posted.clone(), AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !ends.load(Ordering::SeqCst)) {
                let mut stream = stream.unwrap();
                let Some((head, body)) = request(&mut stream) else { continue };
                let status = if count.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 200 };
                if status == 200 {
                    posted.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
                }
                let _ = write!(stream, "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        hook
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Head, in small letters, and body.
fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return Some((head, bytes[end + 4..].to_vec()));
        }
    }
}

#[test]
fn rows_are_posted_until_the_webhook_takes_them() {
    let (folder, hook) = (tempdir().unwrap(), Hook::start());
    let pipeline = format!(
        "[[stages]]\nname = \"minute\"\napply.window = {{ every = \"10s\" }}\n\
         [[sinks]]\nname = \"hook\"\ninputs = [\"minute\"]\n\
         write.webhook = {{ url = \"http://{}/in\", headers = {{ x-key = \"k\" }}, bearer_token = \"t\", every = \"100ms\" }}\n",
        hook.address
    );
    let server = start(folder.path(), &pipeline);
    write(&server, 0..60);
    let rows = || -> Vec<Value> {
        let posted = hook.posted.lock().unwrap();
        posted.iter().flat_map(|(_, body)| body.as_array().unwrap().clone()).collect()
    };
    let of_host = |rows: &[Value]| -> BTreeMap<String, f64> {
        let of_host = rows.iter().filter(|row| row["series"] == "load_x{host=\"h7\"}");
        of_host.map(|row| (row["time"].as_str().unwrap().to_owned(), row["count"].as_f64().unwrap())).collect()
    };
    until("windows are posted", || of_host(&rows()).len() >= 5);
    let told = of_host(&rows());
    assert_eq!(told["2026-01-01T00:00:10Z"], 10.0, "{told:?}");
    assert!(rows().iter().all(|row| row["table"] == "rollups" && row.get("sketch").is_none()));
    let head = hook.posted.lock().unwrap()[0].0.clone();
    assert!(head.contains("x-key: k") && head.contains("authorization: bearer t"), "{head}");
    // The store keeps no rows: no sink is the store.
    assert_eq!(number(&server.sql("SELECT count(*) FROM rollups")), 0.0);
    server.stop();
}

#[test]
fn a_file_has_every_sample_also_after_a_kill_and_can_be_imported() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out.ndjson");
    let sink = format!(
        "[[sinks]]\nname = \"file\"\ninputs = [\"live\"]\nwrite.file = {{ path = {:?} }}\n",
        out.to_str().unwrap()
    );
    let server = start(folder.path(), &sink);
    write(&server, 0..30);
    server.kill();
    let server = start(folder.path(), &sink);
    write(&server, 30..60);
    let lines =
        || std::fs::read_to_string(&out).unwrap_or_default().lines().map(str::to_owned).collect::<BTreeSet<_>>();
    until("all but the last are there", || lines().len() >= 59 * HOSTS);
    let here = up_to(&taken(&server), 59);
    server.stop();
    let other = folder.path().join("other");
    plimsoll(&other, &["import", out.to_str().unwrap()]).ending(0);
    let again = upstream(&other, "127.0.0.1:0");
    assert_eq!(up_to(&taken(&again), 59), here);
}

#[test]
fn what_is_stored_and_what_is_in_files_is_told_to_a_new_pipeline_once() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("old.csv");
    let lines: String = (0..48).map(|hour| format!("{},{hour}\n", START + hour * 3600)).collect();
    std::fs::write(&file, format!("time,temperature\n{lines}")).unwrap();
    let stored = folder.path().join("stored.csv");
    std::fs::write(&stored, format!("time,power\n{lines}")).unwrap();
    plimsoll(&data, &["import", stored.to_str().unwrap()]).ending(0);
    let pipeline = format!(
        "[[sources]]\nname = \"stored\"\nread.table = {{ table = \"samples\", metrics = [\"power\"] }}\n\
         [[sources]]\nname = \"file\"\nread.file = {{ path = {:?} }}\n\
         [[stages]]\nname = \"daily\"\napply.window = {{ every = \"1d\" }}\n",
        file.to_str().unwrap()
    );
    for _ in 0..2 {
        let server = start(folder.path(), &pipeline);
        server.stop();
    }
    let statement = "SELECT metric, time, count, sum FROM rollups WHERE every = '1day' ORDER BY metric, time";
    let rows = sql(&data, statement);
    let told: Vec<(&str, f64, f64)> = rows
        .iter()
        .map(|row| (row["metric"].as_str().unwrap(), row["count"].as_f64().unwrap(), row["sum"].as_f64().unwrap()))
        .collect();
    let of = |metric| [(metric, 24.0, 276.0), (metric, 24.0, 852.0)];
    assert_eq!(told, [of("power"), of("temperature")].concat());
    assert_eq!(number(&sql(&data, "SELECT count(*) FROM metrics")), 48.0);
}

#[test]
fn faults_of_sinks_and_sources_name_line_and_remedy() {
    let folder = tempdir().unwrap();
    let head = "name = \"p\"\n";
    let stage = "[[stages]]\nname = \"hourly\"\napply.window = { every = \"1h\" }\n";
    let cases = [
        ("[[sinks]]\nname = \"a\"\nwrite.store = {}\n", 6, "takes nothing: write inputs"),
        ("[[sinks]]\nname = \"a\"\ninputs = [\"gone\"]\nwrite.store = {}\n", 7, "write one of live, hourly"),
        ("[[sinks]]\nname = \"hourly\"\ninputs = [\"live\"]\nwrite.stdout = {}\n", 6, "rename one"),
        ("[[sinks]]\nname = \"a\"\ninputs = [\"live\"]\nwrite.nowhere = {}\n", 8, "unknown variant `nowhere`"),
        ("[[sinks]]\nname = \"a\"\ninputs = [\"live\"]\nwrite.forward = { urls = [\"x\"] }\n", 8, "write one as http"),
        ("[[sinks]]\nname = \"a\"\ninputs = [\"live\"]\nwrite.forward = {}\n", 8, "there is no upstream"),
        ("[[sinks]]\nname = \"a\"\ninputs = [\"live\"]\nwrite.webhook = { url = \"http://h\" }\n", 7, "write a stage"),
        (
            "[[sinks]]\nname = \"a\"\ninputs = [\"hourly\"]\nwrite.webhook = { url = \"http://h\", wait = 1 }\n",
            8,
            "unknown field `wait`",
        ),
        (
            "[[sinks]]\nname = \"a\"\ninputs = [\"live\"]\nwrite.file = { path = \"a\", format = \"csv\" }\n",
            8,
            "takes = ",
        ),
        ("[[sources]]\nname = \"a\"\nread.table = { table = \"nothing\" }\n", 7, "write one of samples, rollups"),
        ("[[sources]]\nname = \"a\"\nread.table = { table = \"rollups\" }\n", 7, "write column = "),
        ("[[sources]]\nname = \"a\"\nread.table = { table = \"rollups\", column = \"x\" }\n", 7, "one of count, sum"),
        ("[[sources]]\nname = \"a\"\nread.table = { table = \"samples\", from = \"x\" }\n", 7, "is no time"),
        (
            "[[sources]]\nname = \"a\"\nread.file = { path = \"/nowhere/a.csv\" }\n",
            7,
            "there is no file /nowhere/a.csv",
        ),
        ("[[sources]]\nname = \"a\"\nread.file = { path = \"Cargo.lock\" }\n", 7, "write format = "),
    ];
    for (at, (text, line, told)) in cases.into_iter().enumerate() {
        let file = folder.path().join(format!("{at}.toml"));
        std::fs::write(&file, format!("{head}{stage}{text}")).unwrap();
        let ran = plimsoll(folder.path(), &["check", file.to_str().unwrap()]).ending(2);
        let line = format!("{at}.toml:{line}: ");
        let found = ran.stderr.lines().any(|fault| fault.contains(&line) && fault.contains(told));
        assert!(found, "{line}{told}: {}", ran.stderr);
    }
}
