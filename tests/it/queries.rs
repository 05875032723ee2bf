//! Statements that run long: their rows come as they are made, and they end when they are killed, take too long, or nobody
//! waits for them any more.

use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use tempfile::{TempDir, tempdir};

use crate::support::{Server, number, until};

const SAMPLES: usize = 200_000;
/// Pairs of all samples: nobody waits for that.
const ENDLESS: &str = "SELECT count(*) FROM metrics a, metrics b WHERE a.value + b.value < 0";

fn filled(environment: &[(&str, &str)]) -> (TempDir, Server) {
    let folder = tempdir().unwrap();
    let server = Server::start_with(folder.path(), environment);
    for at in 0..SAMPLES / 10_000 {
        let mut lines = String::new();
        for n in 0..10_000 {
            let tick = at * 10_000 + n;
            writeln!(lines, "load,host=h{} v={} {}", tick % 10, tick, 1_700_000_000_000_000_000 + tick * 1_000_000)
                .unwrap();
        }
        server.write(&lines);
    }
    (folder, server)
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

/// The number of the endless statement that is under way.
fn under_way(server: &Server) -> Option<u64> {
    let rows = server.sql(
        "SELECT number FROM system.queries WHERE state = 'running' AND statement LIKE 'SELECT count(*) FROM metrics a%'",
    );
    rows.first().map(|row| row["number"].as_u64().unwrap())
}

fn state_of(server: &Server, number: u64) -> String {
    let rows = server.sql(&format!("SELECT state FROM system.queries WHERE number = {number}"));
    rows[0]["state"].as_str().unwrap().to_owned()
}

/// Clock ticks of the processor that a process took.
fn ticks(server: &Server) -> u64 {
    let told = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<&str> = told.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn until_idle(server: &Server) {
    if cfg!(target_os = "linux") {
        until("the processor stands still", || {
            let before = ticks(server);
            thread::sleep(Duration::from_millis(300));
            ticks(server) - before <= 3
        });
    }
}

#[test]
fn an_answer_larger_than_memory_comes_as_it_is_made() {
    let (_folder, server) = filled(&[("PLIMSOLL__QUERY__MEMORY", "16MB")]);
    let path = |format: &str| format!("/api/v1/sql?format={format}&q={}", encoded("SELECT * FROM metrics"));
    let lines = server.get(&path("ndjson")).ending(200).text();
    assert_eq!(lines.lines().count(), SAMPLES);
    assert_eq!(server.get(&path("json")).ending(200).json().as_array().map(Vec::len), Some(SAMPLES));
    assert_eq!(server.get(&path("csv")).ending(200).text().lines().count(), SAMPLES + 1);
    // A table for eyes has to be whole first.
    let refused = server.get(&path("table")).ending(400).text();
    assert!(refused.contains("that queries may hold"), "{refused}");
    let rows = server.sql("SELECT rows FROM system.queries WHERE state = 'done' AND rows > 1000");
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows.iter().all(|row| row["rows"].as_u64() == Some(SAMPLES as u64)));
}

#[test]
fn a_statement_is_killed_by_its_number() {
    let (_folder, server) = filled(&[]);
    let client = &server.client;
    thread::scope(|scope| {
        let asked = scope.spawn(|| client.post("/api/v1/sql", &[], ENDLESS.as_bytes()));
        let mut found = None;
        until("it is under way", || {
            found = under_way(&server);
            found.is_some()
        });
        let killed = found.unwrap();
        assert_eq!(number(&server.sql(&format!("KILL {killed}"))), killed as f64);
        let told = asked.join().unwrap().ending(422).text();
        assert!(told.contains(&format!("KILL {killed}")), "{told}");
        assert_eq!(state_of(&server, killed), "killed");
        until_idle(&server);
        let again = server.post("/api/v1/sql", &[], format!("KILL {killed}").as_bytes()).ending(400).text();
        assert!(again.contains("system.queries"), "{again}");
    });
}

#[test]
fn nobody_works_for_who_has_gone() {
    let (_folder, server) = filled(&[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut found = None;
    {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET /api/v1/sql?q={} HTTP/1.1\r\nHost: {address}\r\n\r\n", encoded(ENDLESS)).unwrap();
        until("it is under way", || {
            found = under_way(&server);
            found.is_some()
        });
    }
    let number = found.unwrap();
    until("it has ended", || state_of(&server, number).starts_with("left"));
    until_idle(&server);
    // The same of one whose rows were being read.
    {
        let mut stream = TcpStream::connect(&address).unwrap();
        let all = encoded("SELECT a.host, b.value FROM metrics a, metrics b");
        write!(stream, "GET /api/v1/sql?format=csv&q={all} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut some = vec![0; 1 << 20];
        stream.read_exact(&mut some).unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"));
    }
    until("it has ended", || {
        let left = "SELECT count(*) AS n FROM system.queries WHERE state LIKE 'left%'";
        crate::support::number(&server.sql(left)) >= 2.0
    });
    until_idle(&server);
}

#[test]
fn a_statement_has_its_time() {
    let (_folder, server) = filled(&[("PLIMSOLL__QUERY__TIMEOUT", "1s"), ("PLIMSOLL__QUERY__SLOW", "500ms")]);
    let told = server.post("/api/v1/sql", &[], ENDLESS.as_bytes()).ending(422).text();
    assert!(told.contains("took longer than 1s") && told.contains("query.timeout"), "{told}");
    until_idle(&server);
    until("it is in the log", || server.log().contains("a slow statement"));
    assert_eq!(number(&server.sql("SELECT count(*) FROM metrics")), SAMPLES as f64);
}

#[test]
fn hostile_statements_end_with_an_error_and_the_server_lives() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    server.write("load,host=a v=1 1700000000000000000\n");
    let chain = |operand: &str, operator: &str, count: usize| vec![operand; count].join(operator);
    let cases = [
        (format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)), "RecursionLimitExceeded"),
        (format!("SELECT {}", chain("1", "+", 50_000)), "at most 4000"),
        (format!("SELECT {} FROM metrics", chain("value > 1", " AND ", 20_000)), "at most 4000"),
        (chain("SELECT 1", " UNION ALL ", 20_000), "at most 4000"),
        (format!("SELECT {}true", "NOT ".repeat(3000)), "Expected"),
        ("SELECT repeat('x', 2000000000)".into(), "Invalid function 'repeat'"),
        ("SELECT lpad('x', 2000000000)".into(), "Invalid function 'lpad'"),
        ("SELECT * FROM '/etc/passwd'".into(), "not found"),
        ("SELECT * FROM read_csv('/etc/passwd')".into(), "not found"),
        ("COPY (SELECT 1) TO '/tmp/rows.csv'".into(), "not supported"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'".into(), "not supported"),
        ("SET datafusion.execution.batch_size = 1".into(), "not supported"),
        ("SELECT 1; SELECT 2".into(), "single SQL statement"),
        (format!("SELECT '{}'", "x".repeat(2 << 20)), "larger than 1.0 MiB"),
    ];
    for (statement, wanted) in cases {
        let answer = server.post("/api/v1/sql", &[], statement.as_bytes());
        let told = answer.text();
        let start: String = statement.chars().take(40).collect();
        assert!((400..500).contains(&answer.status) && told.contains(wanted), "{start}: {} {told}", answer.status);
    }
    // What is large and can be answered is.
    for statement in [
        format!("SELECT {}", chain("1", "+", 1000)),
        format!("SELECT count(*) FROM metrics WHERE {}", chain("value = 1", " OR ", 500)),
        format!(
            "SELECT count(*) FROM metrics WHERE host IN ('{}')",
            (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join("','")
        ),
        chain("SELECT 1", " UNION ALL ", 50),
    ] {
        let start: String = statement.chars().take(40).collect();
        assert!(!server.sql(&statement).is_empty(), "{start}");
    }
}

#[test]
fn an_answer_is_kept_until_something_of_it_changes() {
    let (_folder, server) = filled(&[]);
    let statement =
        "SELECT host, sum(v) AS n FROM load WHERE time < TIMESTAMP '2023-11-14T22:30:00' GROUP BY host ORDER BY host";
    let cache = || server.get("/performance/cache/stats").ending(200).json()[0].clone();
    // What is in memory is never kept.
    let before = server.sql(statement);
    assert_eq!(server.sql(statement), before);
    assert_eq!((cache()["hits"].as_u64(), cache()["entries"].as_u64()), (Some(0), Some(0)), "{}", cache());
    let json = [("content-type", "application/json")];
    server.post("/api/v1/pins", &json, b"{}").ending(200);
    let other = statement.replace("sum(v)", "max(v)");
    for _ in 0..3 {
        assert_eq!(server.sql(statement), before);
        server.sql(&other);
    }
    assert_eq!((cache()["hits"].as_u64(), cache()["entries"].as_u64()), (Some(4), Some(2)), "{}", cache());
    // New samples of another time change nothing of it; late ones do, at once, and again once they are in files.
    server.write(&format!("load,host=h0 v=1 {}000000000", crate::support::now_seconds()));
    assert_eq!(server.sql(statement), before);
    assert_eq!(cache()["hits"].as_u64(), Some(5), "{}", cache());
    server.write("load,host=h0 v=1000000 1700000000000000001");
    let late = server.sql(statement);
    assert_eq!(late[0]["n"].as_f64(), before[0]["n"].as_f64().map(|n| n + 1e6));
    server.post("/api/v1/pins", &json, b"{}").ending(200);
    assert_eq!(server.sql(statement), late);
    assert_eq!(server.sql(statement), late);
    assert_eq!(cache()["hits"].as_u64(), Some(6), "{}", cache());
    // By whom nothing is kept: chance, the store's own tables.
    let passed = cache()["passed"].as_u64().unwrap();
    server.sql("SELECT random() AS r FROM load LIMIT 1");
    assert_eq!(cache()["passed"].as_u64(), Some(passed + 1));
    let told = server.post("/performance/cache/invalidate", &json, b"{\"tag\": \"load\"}").ending(200).json();
    assert!(told["forgotten"].as_u64() >= Some(3), "{told}");
    assert_eq!(cache()["entries"].as_u64(), Some(0));
    let warm = serde_json::json!({"statements": [statement, "SELECT nothing"]}).to_string();
    let warmed = server.post("/performance/cache/warmup", &json, warm.as_bytes()).ending(200).json();
    assert_eq!(warmed[0]["rows"].as_u64(), Some(10));
    assert!(warmed[1]["error"].as_str().is_some_and(|told| told.contains("nothing")), "{warmed}");
    let rows = server.sql("SELECT * FROM system.caches WHERE name = 'results'");
    assert_eq!(rows[0]["entries"].as_u64(), Some(1), "{rows:?}");
}

/// Nothing was known of them in the span: that is a part of the answer, too.
#[test]
fn an_answer_is_not_kept_when_series_that_had_no_part_in_it_get_one() {
    let (_folder, server) = filled(&[]);
    server.write(&format!("load,host=late v=1 {}000000000", crate::support::now_seconds()));
    server.post("/api/v1/pins", &[("content-type", "application/json")], b"{}").ending(200);
    let within = "time < TIMESTAMP '2023-11-14T22:30:00'";
    let statements = [
        format!("SELECT count(*) AS n FROM load WHERE {within}"),
        format!("SELECT count(*) AS n FROM load_v WHERE {within}"),
        format!("SELECT count(*) AS n FROM metrics WHERE {within} AND metric LIKE 'load%'"),
        format!("SELECT count(*) AS n FROM load WHERE {within} AND host = 'late'"),
    ];
    let counts = || statements.iter().map(|statement| number(&server.sql(statement))).collect::<Vec<f64>>();
    let before = counts();
    assert_eq!(counts(), before);
    let hits = server.get("/performance/cache/stats").ending(200).json()[0]["hits"].as_u64();
    assert_eq!(hits, Some(statements.len() as u64));
    server.write("load,host=late v=7 1700000000000000001");
    assert_eq!(counts(), before.iter().map(|count| count + 1.0).collect::<Vec<f64>>());
}

#[test]
fn statements_wait_for_their_turn() {
    let (_folder, server) = filled(&[("PLIMSOLL__QUERY__AT_ONCE", "1"), ("PLIMSOLL__QUERY__WAITING", "1")]);
    let of_state =
        |state: &str| number(&server.sql(&format!("SELECT count(*) AS n FROM system.queries WHERE state = '{state}'")));
    let client = &server.client;
    thread::scope(|scope| {
        let first = scope.spawn(|| client.post("/api/v1/sql", &[], ENDLESS.as_bytes()));
        until("it is under way", || under_way(&server).is_some());
        let second = scope.spawn(|| client.post("/api/v1/sql", &[], b"SELECT count(*) FROM metrics"));
        until("one waits", || of_state("waiting") == 1.0);
        // What is about the store itself, and the end of what runs, never wait.
        let refused = server.post("/api/v1/sql", &[], b"SELECT max(value) FROM metrics").ending(503);
        assert!(refused.text().contains("query.at_once"), "{}", refused.text());
        server.sql(&format!("KILL {}", under_way(&server).unwrap()));
        first.join().unwrap().ending(422);
        assert_eq!(number(&second.join().unwrap().ending(200).json().as_array().unwrap().clone()), SAMPLES as f64);
    });
    assert_eq!(of_state("waiting"), 0.0);
}

#[test]
fn a_statement_holds_no_more_than_one_may() {
    let (_folder, server) = filled(&[("PLIMSOLL__QUERY__STATEMENT_MEMORY", "16MB")]);
    // Sorts spill; what cannot is refused with what to do about it.
    let sorted = "SELECT count(*) AS n FROM (SELECT row_number() OVER (ORDER BY value DESC, host) AS r FROM metrics) WHERE r > 50000";
    let sorted = server.sql(sorted);
    assert_eq!(number(&sorted), 150_000.0);
    for part in 0..4 {
        let lines = |tick: i64| format!("load,host=more v={} {}\n", tick % 7919, 1_710_000_000_000_000_000 + tick);
        server.write(&(part * 100_000..(part + 1) * 100_000).map(lines).collect::<String>());
    }
    let sorted = "SELECT row_number() OVER (ORDER BY value DESC, host) AS r FROM metrics";
    let told = server.sql(&format!("EXPLAIN ANALYZE SELECT count(*) FROM ({sorted}) WHERE r > 5"));
    let told = told[0]["plan"].as_str().unwrap();
    assert!(told.match_indices("spill_count=").any(|(at, _)| !told[at..].starts_with("spill_count=0")), "{told}");
    let texts =
        "SELECT concat(CAST(time AS TEXT), host, CAST(time AS TEXT), CAST(time AS TEXT), host) AS k FROM metrics";
    let gathered = format!("SELECT count(*) AS n FROM ({texts}) a JOIN ({texts}) b ON a.k = b.k");
    let told = server.post("/api/v1/sql", &[], gathered.as_bytes()).ending(400).text();
    assert!(told.contains("more memory") && told.contains("query.statement_memory"), "{told}");
}
