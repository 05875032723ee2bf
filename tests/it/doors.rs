//! The doors to ask by beside HTTP, and who asks by them: psql, psycopg, SQLAlchemy, ADBC, pandas and polars.
//!
//! What is not installed is skipped, but not in CI.

use std::fmt::Write;
use std::process::Command;

use tempfile::{TempDir, tempdir};

use crate::clients::{has, python};
use crate::support::{Server, number, program, run, until};

/// A server with both doors on free ports, and a measurement of five hosts.
fn filled() -> (TempDir, Server) {
    let folder = tempdir().unwrap();
    let mut command = program(folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--pg", "127.0.0.1:0", "--flight", "127.0.0.1:0"]);
    let server = Server::of(command);
    let mut lines = String::new();
    for n in 0..5000_i64 {
        let time = 1_700_000_000_000_000_000 + n * 1_000_000_000;
        writeln!(lines, "cpu,host=h{},region=eu usage_user={},usage_system={} {time}", n % 5, n % 97, (n * 7) % 13)
            .unwrap();
    }
    server.write(&lines);
    (folder, server)
}

/// The port of a door, as the server says it.
fn port(server: &Server, door: &str) -> String {
    let start = format!("plimsoll answers {door} on 127.0.0.1:");
    let log = server.log();
    let told = log.lines().find_map(|line| line.strip_prefix(&start));
    told.unwrap_or_else(|| panic!("no {door}: {log}")).to_owned()
}

fn psql(port: &str, input: &str) -> String {
    let mut command = Command::new("psql");
    command.args(["-h", "127.0.0.1", "-p", port, "-U", "me", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "plimsoll"]);
    run(command, input.as_bytes()).ending(0).text()
}

#[test]
fn psql_finds_its_way() {
    if !has("psql", "psql", &["--version"]) {
        return;
    }
    let (folder, server) = filled();
    let port = port(&server, "PostgreSQL's protocol");
    let tables = psql(&port, "\\dt public.*");
    assert!(tables.contains("public|cpu|table") && tables.contains("public|metrics|table"), "{tables}");
    assert!(psql(&port, "\\d").contains("public|cpu_usage_user|table"));
    let columns = psql(&port, "\\d cpu");
    assert!(columns.contains("time|timestamp with time zone||not null|"), "{columns}");
    assert!(columns.contains("host|text|||") && columns.contains("usage_user|double precision|||"), "{columns}");
    assert!(psql(&port, "\\dn").contains("system|"));
    assert_eq!(psql(&port, "SELECT host, avg(usage_user) FROM cpu WHERE host = 'h1' GROUP BY host"), "h1|47.795\n");
    // Statements prepared with parameters.
    let prepared = "\\set host h2\nSELECT count(*) FROM cpu WHERE host = :'host';";
    assert_eq!(psql(&port, prepared), "1000\n");
    // A cursor, written out and as psql makes one for long answers.
    let cursor = "BEGIN; DECLARE c CURSOR FOR SELECT host, usage_user FROM cpu ORDER BY time; FETCH 2 FROM c; \
                  FETCH FORWARD 1 FROM c; CLOSE c; COMMIT;";
    let told = psql(&port, cursor);
    assert!(told.contains("h0|0") && told.contains("h1|1") && told.contains("h2|2") && !told.contains("h3|"), "{told}");
    let all = psql(&port, "\\set FETCH_COUNT 400\nSELECT time FROM cpu ORDER BY time;");
    assert_eq!(all.lines().count(), 5000);
    let file = folder.path().join("copied.csv");
    let copy = format!(
        "\\copy (SELECT host, usage_user, NULL AS none FROM cpu ORDER BY time LIMIT 3) TO '{}' WITH CSV HEADER",
        file.display()
    );
    assert_eq!(psql(&port, &copy), "COPY 3\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "host,usage_user,none\nh0,0,\nh1,1.0,\nh2,2.0,\n");
    assert_eq!(
        psql(&port, "COPY (SELECT host FROM cpu WHERE host = 'none') TO STDOUT WITH (FORMAT csv, HEADER)"),
        "host\n"
    );
    assert!(psql(&port, "SELECT version()").starts_with("PostgreSQL 16"));
    assert_eq!(psql(&port, "SET TIME ZONE 'UTC'; SHOW timezone"), "SET\nUTC\n");
    // Each statement is one of `system.queries`, whichever door it came by.
    let asked = server.sql("SELECT count(*) AS n FROM system.queries WHERE statement LIKE '%FROM cpu ORDER BY time%'");
    assert!(asked[0]["n"].as_u64() >= Some(2), "{asked:?}");
}

#[test]
fn drivers_of_postgresql_ask() {
    let (_folder, server) = filled();
    let port = port(&server, "PostgreSQL's protocol");
    python("psycopg", "pg_psycopg.py", &[&port]);
    python("sqlalchemy, pandas, psycopg", "pg_sqlalchemy.py", &[&port]);
    let running = "SELECT count(*) AS n FROM system.queries WHERE state = 'running'";
    assert_eq!(number(&server.sql(running)), 1.0, "only the one that asks is under way");
    // Nobody works for who is gone.
    if has("psql", "psql", &["--version"]) {
        let endless = "SELECT count(*) FROM metrics a, metrics b, metrics c WHERE a.value + b.value + c.value < 0";
        let mut child = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "me", "-X", "-c", endless, "plimsoll"])
            .spawn()
            .unwrap();
        until("it is under way", || number(&server.sql(running)) == 2.0);
        child.kill().unwrap();
        child.wait().unwrap();
        until("it has ended", || number(&server.sql(running)) == 1.0);
    }
}

#[test]
fn adbc_asks_by_flight() {
    let (_folder, server) = filled();
    python("adbc_driver_flightsql, polars, pandas", "flight_adbc.py", &[&port(&server, "Arrow Flight SQL")]);
}

#[test]
fn every_door_gives_the_same_rows() {
    let (folder, server) = filled();
    let exported = folder.path().join("exported");
    let mut command = program(folder.path());
    command.args(["export", "--url", &server.url, "--out", exported.to_str().unwrap(), "--metric", "cpu_usage_user"]);
    run(command, b"").ending(0);
    let file = exported.join("cpu_usage_user.parquet");
    let (pg, flight) = (port(&server, "PostgreSQL's protocol"), port(&server, "Arrow Flight SQL"));
    let modules = "psycopg, adbc_driver_flightsql, pandas, duckdb, pyarrow";
    python(modules, "every_door.py", &[&server.url, &pg, &flight, file.to_str().unwrap()]);
    server.stop();
}

#[test]
fn doors_that_cannot_be_opened_are_named() {
    let folder = tempdir().unwrap();
    for (flag, told) in [("--pg", "PostgreSQL's protocol (`--pg`)"), ("--flight", "Arrow Flight SQL (`--flight`)")] {
        let mut command = program(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", flag, "127.0.0.1:nowhere"]);
        let ran = run(command, b"").ending(1);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
}
