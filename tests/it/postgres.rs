//! PostgreSQL as a source, on a real server: our numbers are those of psql.

use std::io::Write;
use std::time::Instant;

use tempfile::tempdir;

use crate::servers::{Postgres, agree, certificate, collector, latest, output, serve, until_health};
use crate::support::{Client, until};

const STATEMENTS: &str = "shared_preload_libraries=pg_stat_statements";

/// A database `shop` as pgbench makes it, with its load behind it.
fn shop(server: &Postgres) {
    server.psql("postgres", &["CREATE DATABASE shop"]);
    server.psql("shop", &["CREATE EXTENSION pg_stat_statements"]);
    output(server.client("pgbench", "shop").args(["-i", "-s", "1", "-q"]));
    server.psql("shop", &["CREATE INDEX never_used ON pgbench_accounts (abalance)", "ANALYZE"]);
    output(server.client("pgbench", "shop").args(["-n", "-c", "2", "-T", "2"]));
}

fn settings(server: &Postgres, more: &str) -> String {
    let port = server.port;
    format!(
        "[[sources]]\nid = \"db\"\ninterval = \"1s\"\ntimeout = \"950ms\"\n\
         from.postgres = {{ url = \"postgres://postgres@127.0.0.1:{port}/shop\", slow = \"300ms\"{more} }}\n"
    )
}

#[test]
fn numbers_are_those_of_psql() {
    let Some(server) = Postgres::start(&[STATEMENTS]) else { return };
    shop(&server);
    let scan = "SELECT count(*) FROM pgbench_accounts WHERE bid = 7";
    server.psql("shop", &[scan; 12]);
    let folder = tempdir().unwrap();
    let plimsoll = serve(folder.path(), &settings(&server, ""));

    // The load is over, so these stand still: ours, and how psql says it.
    let accounts = "\"table\" = 'pgbench_accounts'";
    let of_table = "FROM pg_stat_user_tables WHERE relname = 'pgbench_accounts'";
    let of_index = "FROM pg_stat_user_indexes WHERE indexrelname = 'pgbench_accounts_pkey'";
    let of_shop = "FROM pg_stat_database WHERE datname = 'shop'";
    let of_statement = "FROM pg_stat_statements WHERE query LIKE 'UPDATE pgbench_accounts%'";
    let update = "query LIKE 'UPDATE pgbench_accounts%'";
    let cases = [
        ("postgres_table_rows_updated_total", accounts, format!("SELECT n_tup_upd {of_table}")),
        ("postgres_table_rows_inserted_total", accounts, format!("SELECT n_tup_ins {of_table}")),
        ("postgres_table_live_rows", accounts, format!("SELECT n_live_tup {of_table}")),
        ("postgres_table_dead_rows", accounts, format!("SELECT n_dead_tup {of_table}")),
        ("postgres_table_sequential_scans_total", accounts, format!("SELECT seq_scan {of_table}")),
        ("postgres_table_sequential_rows_read_total", accounts, format!("SELECT seq_tup_read {of_table}")),
        ("postgres_table_size_bytes", accounts, "SELECT pg_table_size('pgbench_accounts')".into()),
        ("postgres_table_total_size_bytes", accounts, "SELECT pg_total_relation_size('pgbench_accounts')".into()),
        (
            "postgres_table_rows_inserted_total",
            "\"table\" = 'pgbench_history'",
            "SELECT count(*) FROM pgbench_history".into(),
        ),
        ("postgres_index_scans_total", "index = 'pgbench_accounts_pkey'", format!("SELECT idx_scan {of_index}")),
        ("postgres_index_size_bytes", "index = 'never_used'", "SELECT pg_relation_size('never_used')".into()),
        ("postgres_rows_updated_total", "database = 'shop'", format!("SELECT tup_updated {of_shop}")),
        ("postgres_deadlocks_total", "database = 'shop'", format!("SELECT deadlocks {of_shop}")),
        ("postgres_statement_calls_total", update, format!("SELECT calls {of_statement}")),
        ("postgres_statement_rows_total", update, format!("SELECT rows {of_statement}")),
        ("postgres_connections_limit", "true", "SHOW max_connections".into()),
        (
            "postgres_connections_used",
            "true",
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                .into(),
        ),
        ("postgres_index_advice", accounts, format!("SELECT seq_tup_read::float8 / seq_scan {of_table}")),
    ];
    for (metric, of, psql) in &cases {
        let theirs = || server.psql("shop", &[psql]).parse::<f64>().ok();
        agree(&format!("{metric} {of}"), || latest(&plimsoll, metric, of), theirs);
    }

    // These move, with us too: ours lies between what psql says before and after.
    for (metric, column) in
        [("transactions_committed", "xact_commit"), ("blocks_hit", "blks_hit"), ("rows_returned", "tup_returned")]
    {
        let theirs = || server.psql("shop", &[&format!("SELECT {column} {of_shop}")]).parse::<f64>().unwrap();
        let before = theirs();
        let ours = fresh(&plimsoll, &format!("postgres_{metric}_total"), "database = 'shop'");
        let after = theirs();
        assert!((before..=after).contains(&ours), "{metric}: {before} <= {ours} <= {after}");
    }

    let unused = plimsoll.sql("SELECT DISTINCT index FROM postgres_index_unused WHERE value = 1");
    assert_eq!(unused.iter().map(|row| row["index"].as_str().unwrap()).collect::<Vec<_>>(), ["never_used"]);
    let advised = plimsoll.sql(
        "SELECT DISTINCT \"table\", \"column\", query FROM postgres_index_advice_statement_seconds_total ORDER BY query",
    );
    let row = |row: &serde_json::Value| ["table", "column", "query"].map(|key| row[key].as_str().unwrap().to_owned());
    assert_eq!(
        advised.iter().map(row).collect::<Vec<_>>(),
        [["pgbench_accounts", "bid", "SELECT count(*) FROM pgbench_accounts WHERE bid = $1"].map(str::to_owned)]
    );
    // Our own statements are not told.
    let own = plimsoll.sql("SELECT DISTINCT query FROM postgres_statement_calls_total WHERE query LIKE '%postgres_%'");
    assert_eq!(own, Vec::<serde_json::Value>::new());
    let kinds = plimsoll.sql(
        "SELECT metric, kind FROM system.metrics WHERE metric IN ('postgres_deadlocks_total', 'postgres_blocked_sessions')
         ORDER BY metric",
    );
    assert_eq!(kinds.iter().map(|row| row["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["gauge", "counter"]);
    let source = collector(&plimsoll, "db");
    assert_eq!((source["health"].as_str(), source["refused"].as_u64()), (Some("healthy"), Some(0)), "{source}");
    let errors = plimsoll.sql("SELECT query, value FROM postgres_collector_errors_total WHERE value > 0");
    assert!(errors.is_empty(), "{errors:?}");
}

/// A value of a pass that began after this call.
#[track_caller]
fn fresh(server: &Client, metric: &str, of: &str) -> f64 {
    let count = |server: &Client| {
        let rows = server.sql(&format!("SELECT count(*) AS n FROM {metric} WHERE {of}"));
        rows[0]["n"].as_u64().unwrap()
    };
    let now = count(server);
    // One may have been under way.
    until("two more passes", || count(server) >= now + 2);
    latest(server, metric, of).unwrap()
}

#[test]
fn who_waits_for_whom_and_what_is_slow() {
    let Some(server) = Postgres::start(&[STATEMENTS]) else { return };
    server.psql("postgres", &["CREATE DATABASE shop"]);
    server.psql(
        "shop",
        &["CREATE EXTENSION pg_stat_statements", "CREATE TABLE held (id int)", "INSERT INTO held VALUES (1)"],
    );
    let folder = tempdir().unwrap();
    let plimsoll = serve(folder.path(), &settings(&server, ""));
    until_health(&plimsoll, "db", &["healthy"]);

    let (mut holder, mut waiter) = (server.session("shop"), server.session("shop"));
    let say = |session: &mut crate::servers::Running, text: &str| {
        let stdin = session.0.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    };
    say(&mut holder, "BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE;\n");
    let pid = |what: &str, condition: &str| {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'test' AND pid <> pg_backend_pid() AND {condition}"
        );
        until(what, || !server.psql("postgres", &[&sql]).is_empty());
        server.psql("postgres", &[&sql])
    };
    let holding = pid("a holder", "state = 'idle in transaction' AND query LIKE 'LOCK%'");
    let begun = Instant::now();
    say(&mut waiter, "SELECT * FROM held WHERE id = 4711;\n");
    let waiting = pid("a waiter", "wait_event_type = 'Lock'");
    let since = Instant::now();
    let pair = format!("blocked_pid = '{waiting}' AND blocking_pid = '{holding}'");
    until("the pair", || latest(&plimsoll, "postgres_blocked_seconds", &pair).is_some_and(|waited| waited > 1.0));
    // Within the times between which it surely waited, and those in which it may have.
    let waited = fresh(&plimsoll, "postgres_blocked_seconds", &pair);
    let (least, most) = (since.elapsed().as_secs_f64() - 5.0, begun.elapsed().as_secs_f64());
    assert!(waited > least && waited < most, "{least} < {waited} < {most}");
    let rows = plimsoll.sql(&format!(
        "SELECT DISTINCT blocked_query, blocking_query, blocking_state, mode, database FROM postgres_blocked_seconds WHERE {pair}"
    ));
    let told = ["blocked_query", "blocking_query", "blocking_state", "mode", "database"]
        .map(|key| rows[0][key].as_str().unwrap());
    let wanted = [
        "SELECT * FROM held WHERE id = ?;",
        "LOCK TABLE held IN ACCESS EXCLUSIVE MODE;",
        "idle in transaction",
        "AccessShareLock",
        "shop",
    ];
    assert_eq!((rows.len(), told), (1, wanted));
    assert_eq!(latest(&plimsoll, "postgres_blocked_sessions", "true"), Some(1.0));
    assert_eq!(
        latest(&plimsoll, "postgres_connections", "state = 'idle in transaction' AND database = 'shop'"),
        Some(1.0)
    );
    assert_eq!(latest(&plimsoll, "postgres_locks", "mode = 'AccessExclusiveLock' AND database = 'shop'"), Some(1.0));
    assert_eq!(
        latest(&plimsoll, "postgres_locks_waiting", "mode = 'AccessShareLock' AND database = 'shop'"),
        Some(1.0)
    );
    // The locked table holds nobody up: it is told of, but for its size.
    fresh(&plimsoll, "postgres_table_live_rows", "\"table\" = 'held'");
    assert_eq!(collector(&plimsoll, "db")["health"], "healthy");

    say(&mut holder, "COMMIT;\n");
    agree("nobody waits", || latest(&plimsoll, "postgres_blocked_sessions", "true"), || Some(0.0));
    let ended = format!("SELECT count(*) AS n FROM staleness WHERE metric = 'postgres_blocked_seconds' AND {pair}");
    until("the pair's series ends", || plimsoll.sql(&ended)[0]["n"].as_u64() == Some(1));

    // A question that meets a lock leaves out only what it asks.
    say(&mut holder, "BEGIN; LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE;\n");
    let row = until_health(&plimsoll, "db", &["degraded"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(
        error.contains("statements: canceling statement due to lock timeout (55P03): a table is locked"),
        "{error}"
    );
    fresh(&plimsoll, "postgres_table_live_rows", "\"table\" = 'held'");
    say(&mut holder, "COMMIT;\n");
    until_health(&plimsoll, "db", &["healthy"]);

    say(&mut waiter, "SELECT pg_sleep(2.5);\n");
    let sleeping = pid("a sleeper", "query LIKE 'SELECT pg_sleep%' AND state = 'active'");
    let slow = format!("pid = '{sleeping}' AND query = 'SELECT pg_sleep(?);'");
    until("it is slow", || {
        latest(&plimsoll, "postgres_slow_query_seconds", &slow).is_some_and(|age| (0.3..3.5).contains(&age))
    });
    let statement = "query = 'SELECT pg_sleep($1)'";
    agree("it ran once", || latest(&plimsoll, "postgres_statement_calls_total", statement), || Some(1.0));
    assert_eq!(latest(&plimsoll, "postgres_statement_slow", statement), Some(1.0));
    let mean = latest(&plimsoll, "postgres_statement_mean_seconds", statement).unwrap();
    assert!((2.5..3.5).contains(&mean), "{mean}");
    agree("nothing is slow", || latest(&plimsoll, "postgres_slow_queries", "database = 'shop'"), || Some(0.0));
}

#[test]
fn a_server_that_goes_and_comes_and_a_role_that_may_not_see_all() {
    let Some(mut server) = Postgres::start(&[]) else { return };
    server.psql("postgres", &["CREATE DATABASE shop", "CREATE ROLE plain LOGIN"]);
    let folder = tempdir().unwrap();
    let port = server.port;
    let plain = format!(
        "[[sources]]\nid = \"plain\"\ninterval = \"1s\"\ntimeout = \"950ms\"\nlabels = {{ role = \"plain\" }}\n\
         from.postgres = {{ url = \"postgres://plain@127.0.0.1:{port}/shop\", statements = 0 }}\n"
    );
    let bare = settings(&server, "").replace("\"db\"\n", "\"bare\"\nlabels = { role = \"bare\" }\n");
    let plimsoll = serve(folder.path(), &(settings(&server, ", statements = 0") + &plain + &bare));
    until_health(&plimsoll, "db", &["healthy"]);
    let row = until_health(&plimsoll, "bare", &["degraded"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains("database \"shop\": run CREATE EXTENSION pg_stat_statements in it"), "{error}");

    let row = until_health(&plimsoll, "plain", &["degraded"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains("run GRANT pg_monitor TO \"plain\"") && error.contains("pg_ls_waldir"), "{error}");
    until("errors are counted", || {
        latest(&plimsoll, "postgres_collector_errors_total", "query = 'wal_files' AND role = 'plain'") >= Some(2.0)
    });
    assert!(latest(&plimsoll, "postgres_uptime_seconds", "role = 'plain'").is_some());
    assert_eq!(latest(&plimsoll, "postgres_wal_files", "role = 'plain'"), None);
    assert_eq!(latest(&plimsoll, "source_up", "source = 'plain'"), Some(1.0));
    assert_eq!(collector(&plimsoll, "plain")["failures"], 0, "it is asked as often");
    server.psql("postgres", &["GRANT pg_monitor TO plain"]);
    agree("WAL files", || latest(&plimsoll, "postgres_wal_files", "role = 'plain'").is_some(), || true);

    server.down();
    let row = until_health(&plimsoll, "db", &["failing"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("Connection refused"), "{error}");
    assert!(error.contains("check that it runs there"), "{error}");
    assert_eq!(latest(&plimsoll, "source_up", "source = 'db'"), Some(0.0));
    server.up();
    until_health(&plimsoll, "db", &["healthy"]);
    assert!(latest(&plimsoll, "postgres_uptime_seconds", "role IS NULL").unwrap() < 60.0);
}

#[test]
fn certificates_and_passwords_are_looked_at() {
    let folder = tempdir().unwrap();
    let Some([ca, leaf, key]) = certificate(folder.path()) else { return };
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let rules =
        "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhostssl all watcher 127.0.0.1/32 scram-sha-256\n";
    let rules = format!("hba_file={}", file("hba", rules));
    let (leaf, key) = (format!("ssl_cert_file={}", leaf.display()), format!("ssl_key_file={}", key.display()));
    let Some(server) = Postgres::start(&["ssl=on", &leaf, &key, &rules]) else { return };
    server.psql("postgres", &["CREATE ROLE watcher LOGIN PASSWORD 'right'", "GRANT pg_monitor TO watcher"]);
    let (right, wrong) = (file("right", "right\n"), file("wrong", "wrong\n"));
    let source = |id: &str, host: &str, mode: &str, authority: bool, password: &str| {
        let port = server.port;
        let authority = if authority { format!(", ca_file = {ca:?}") } else { String::new() };
        format!(
            "[[sources]]\nid = \"{id}\"\ninterval = \"1s\"\ntimeout = \"950ms\"\nlabels = {{ id = \"{id}\" }}\nfrom.postgres = \
             {{ url = \"postgres://watcher@{host}:{port}/postgres?sslmode={mode}\", password_file = {password:?}, statements = 0{authority} }}\n"
        )
    };
    let cases = [
        ("full", source("full", "127.0.0.1", "verify-full", true, &right), None),
        ("ca", source("ca", "localhost", "verify-ca", true, &right), None),
        ("prefer", source("prefer", "127.0.0.1", "prefer", false, &right), None),
        ("name", source("name", "localhost", "verify-full", true, &right), Some("certificate not valid for name")),
        ("unknown", source("unknown", "127.0.0.1", "verify-full", false, &right), Some("UnknownIssuer")),
        ("password", source("password", "127.0.0.1", "require", false, &wrong), Some("check user, password_file")),
        ("plain", source("plain", "127.0.0.1", "disable", false, &right), Some("no encryption")),
    ];
    let plimsoll = serve(folder.path(), &cases.iter().map(|(_, source, _)| source.as_str()).collect::<String>());
    for (id, _, wanted) in &cases {
        match wanted {
            None => drop(until_health(&plimsoll, id, &["healthy"])),
            Some(wanted) => {
                let row = until_health(&plimsoll, id, &["failing"]);
                let error = row["last_error"].as_str().unwrap();
                assert!(
                    error.contains(wanted) && error.contains("as watcher") && !error.contains("wrong"),
                    "{id}: {error}"
                );
            }
        }
    }
    let secured = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'plimsoll'";
    assert_eq!(server.psql("postgres", &[secured]), "t|3");
    let read_only =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'plimsoll' AND backend_xid IS NOT NULL";
    assert_eq!(server.psql("postgres", &[read_only]), "0");
}
