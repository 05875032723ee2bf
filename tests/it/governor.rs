//! The governor under a load of writes: the zone goes up and down, sources step back and come again, each change is a row.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::support::{Client, Server, number, program, sql, until};

/// The fullest queue of the pipelines decides: CPU is averaged over so long that nothing else on the machine counts, and of
/// so much memory nothing is in use.
const SETTINGS: &str = r#"
memory = "64GB"
[store]
head = "8MB"
[collect]
exec = true
[governor]
interval = "100ms"
bounds = [4, 8, 12, 99]
margin = 1
rise = "100ms"
fall = "500ms"
smoothing = "30d"
slowdown = 3
[[sources]]
id = "vital"
priority = "critical"
interval = "300ms"
from.exec = { command = ["echo", "vital_up 1"] }
[[sources]]
id = "spare"
priority = "low"
interval = "300ms"
from.exec = { command = ["echo", "spare_up 1"] }
"#;

const ZONES: &str = "SELECT time, zone, before, cpu, memory, queue, cause FROM zones ORDER BY time";

/// A body of many series, the `number`-th.
fn body(number: usize) -> String {
    use std::fmt::Write;
    let mut lines = String::new();
    for series in 0..500 {
        for step in 0..100 {
            let time = 1_700_000_000 + (number * 100 + step) as u64;
            let _ = writeln!(lines, "load,series={series} value={} {time}000000000", (series * step) % 97);
        }
    }
    lines
}

/// Writes until it is told to stop. What is refused while pipelines are behind is let go.
fn write(client: &Client, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let answer = client.post("/write", &[], body(number).as_bytes());
        assert!([204, 429, 503].contains(&answer.status), "{}", answer.text());
    }
}

fn zone(server: &Server) -> String {
    let rows = server.sql("SELECT zone FROM system.governor");
    rows.first().map_or("", |row| row["zone"].as_str().unwrap()).to_owned()
}

fn source(server: &Server, id: &str) -> Value {
    server.sql(&format!("SELECT * FROM system.collectors WHERE id = '{id}'")).remove(0)
}

/// Each change begins where the one before ended; up by any number of zones, down by one.
fn check_order(rows: &[Value]) {
    let level = |row: &Value, column: &str| {
        let zones = ["green", "yellow", "orange", "red", "critical"];
        zones.iter().position(|zone| row[column] == *zone).unwrap_or_else(|| panic!("{row}"))
    };
    assert_eq!(level(&rows[0], "before"), 0, "{rows:?}");
    for pair in rows.windows(2) {
        assert_eq!(pair[0]["zone"], pair[1]["before"], "{rows:?}");
    }
    for row in rows {
        let (zone, before) = (level(row, "zone"), level(row, "before"));
        assert!(zone > before || zone + 1 == before, "{row}");
        assert!(["cpu", "memory", "queue"].iter().all(|share| (0.0..=1.0).contains(&row[*share].as_f64().unwrap())));
    }
    assert!(rows.iter().any(|row| row["cause"] == "queue"), "{rows:?}");
}

#[test]
fn under_load_sources_step_back_and_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("settings.toml"), folder.path().join("data"));
    std::fs::write(&file, SETTINGS).unwrap();
    let mut command = program(&data);
    command.env_remove("PLIMSOLL__GOVERNOR__ENABLED");
    command.args(["--config", file.to_str().unwrap(), "serve", "--listen", "127.0.0.1:0"]);
    let server = Server::of(command);
    until("both sources are asked", || {
        ["vital", "spare"].iter().all(|id| source(&server, id)["passes"].as_u64().unwrap() > 1)
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Ends the writers also where an assertion fails.
        let ended = StopAtEnd(&stop);
        for _ in 0..2 {
            let (client, stop) = (server.client.clone(), &stop);
            threads.spawn(move || write(&client, stop));
        }
        until("the spare source is paused", || source(&server, "spare")["health"] == "paused");
        until("a zone of warnings shows", || {
            let told = server.get("/health").json();
            told["resources"]["warning"].is_string() && told["sources"].is_null()
        });
        until("the metrics tell it", || {
            let text = server.get("/metrics").text();
            let zone = text.lines().find_map(|line| line.strip_prefix("plimsoll_resource_zone "));
            zone.is_some_and(|zone| zone >= "2") && text.contains("plimsoll_coordinator_resource_utilization ")
        });
        assert_ne!(source(&server, "vital")["health"], "paused");
        until("it is stored", || !server.sql(ZONES).is_empty());
        drop(ended);
    });
    until("it comes down again", || zone(&server) == "green");
    let spare = source(&server, "spare");
    assert_ne!(spare["health"], "paused", "{spare}");
    let passes = spare["passes"].as_u64().unwrap();
    until("the spare source is asked again", || source(&server, "spare")["passes"].as_u64().unwrap() > passes);
    until("the last change is stored", || server.sql(ZONES).last().is_some_and(|row| row["zone"] == "green"));
    let rows = server.sql(ZONES);
    check_order(&rows);
    assert!(number(&server.sql("SELECT changes FROM system.governor")) >= rows.len() as f64);
    server.stop();
    let kept = sql(&data, ZONES);
    assert_eq!(kept[..rows.len()], rows[..], "changes are in files and in the log");
}

/// Says stop when it goes.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn without_it_there_is_no_zone_and_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    assert!(server.sql("SELECT * FROM system.governor").is_empty());
    assert!(server.sql("SELECT * FROM zones").is_empty());
    assert!(server.get("/health").json()["resources"].is_null());
    assert!(!server.get("/metrics").text().contains("plimsoll_resource_zone"));
}
