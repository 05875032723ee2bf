//! Redis as a source, on a real server: our numbers are those of redis-cli.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::tempdir;

use crate::servers::{Redis, agree, certificate, collector, latest, serve, until_health};
use crate::support::until;

fn source(id: &str, server: &Redis, more: &str) -> String {
    let port = server.port;
    format!(
        "[[sources]]\nid = \"{id}\"\ninterval = \"1s\"\ntimeout = \"950ms\"\nlabels = {{ id = \"{id}\" }}\n\
         from.redis = {{ url = \"redis://127.0.0.1:{port}\"{more} }}\n"
    )
}

/// Sends commands, as many as there are lines.
fn send(server: &Redis, lines: &str) {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Values are no numbers, since small ones are one object for all keys, and then one use.
/// 300 keys `user:`, 100 `session:` that expire, 40 long `page:`, 60 without a prefix.
fn fill(server: &Redis) {
    let mut lines = String::new();
    (0..300).for_each(|n| lines.push_str(&format!("SET user:{n} v{n}\n")));
    (0..100).for_each(|n| lines.push_str(&format!("SETEX session:{n} 3600 v{n}\n")));
    (0..40).for_each(|n| lines.push_str(&format!("SET page:{n} {}\n", "x".repeat(1000))));
    (0..60).for_each(|n| lines.push_str(&format!("SET plain{n} v{n}\n")));
    send(server, &lines);
}

#[test]
fn numbers_are_those_of_redis_cli() {
    let settings = ["--maxmemory-policy", "allkeys-lfu", "--slowlog-log-slower-than", "100000"];
    let Some(server) = Redis::start(&settings) else { return };
    fill(&server);
    // 2,000 reads of one key, 50 each of two more, 70 of keys that are not there.
    let mut lines = "GET user:7\n".repeat(2000);
    lines.push_str(&"GET page:1\nGET session:3\n".repeat(50));
    lines.push_str(&"GET nobody\n".repeat(70));
    send(&server, &lines);
    let folder = tempdir().unwrap();
    let small = source("small", &server, ", sample = 100, prefixes = 2");
    let plimsoll = serve(folder.path(), &source("all", &server, ", hot = 3"));

    let of = "id = 'all'";
    let cases = [
        ("redis_keyspace_misses_total", "keyspace_misses"),
        ("redis_evicted_keys_total", "evicted_keys"),
        ("redis_expired_keys_total", "expired_keys"),
        ("redis_memory_max_bytes", "maxmemory"),
        ("redis_rdb_changes_since_last_save", "rdb_changes_since_last_save"),
        ("redis_blocked_clients", "blocked_clients"),
    ];
    for (metric, key) in cases {
        agree(metric, || latest(&plimsoll, metric, of), || Some(server.info(key)));
    }
    assert_eq!(server.info("keyspace_misses"), 70.0);
    agree("keys", || latest(&plimsoll, "redis_db_keys", "db = '0'"), || server.cli(&["DBSIZE"]).parse().ok());
    agree("keys that expire", || latest(&plimsoll, "redis_db_keys_expiring", "db = '0'"), || Some(100.0));
    agree("runs of GET", || latest(&plimsoll, "redis_commands_total", "cmd = 'get'"), || Some(2170.0));

    // Hits that the server counts, without our own of the passes before.
    until("three passes", || collector(&plimsoll, "all")["passes"].as_u64() >= Some(3));
    let rows = plimsoll.sql(
        "SELECT hits.value - own.value AS hits FROM redis_keyspace_hits_total AS hits JOIN redis_collector_hits_total AS own
         ON own.time = (SELECT max(time) FROM redis_collector_hits_total WHERE time < (SELECT max(time) FROM redis_keyspace_hits_total))
         WHERE hits.time = (SELECT max(time) FROM redis_keyspace_hits_total)",
    );
    assert_eq!(rows[0]["hits"], 2100.0, "{rows:?}");

    // All keys are looked at, so prefixes are exact.
    assert_eq!(latest(&plimsoll, "redis_sample_whole", of), Some(1.0));
    for (prefix, keys, expiring) in
        [("user", 300.0, 0.0), ("session", 100.0, 1.0), ("page", 40.0, 0.0), ("(none)", 60.0, 0.0)]
    {
        let of = format!("{of} AND prefix = '{prefix}'");
        assert_eq!(latest(&plimsoll, "redis_prefix_keys", &of), Some(keys), "{prefix}");
        assert_eq!(latest(&plimsoll, "redis_prefix_expiring_ratio", &of), Some(expiring), "{prefix}");
    }
    let bytes: f64 =
        (0..40).map(|n| server.cli(&["MEMORY", "USAGE", &format!("page:{n}")]).parse::<f64>().unwrap()).sum();
    assert_eq!(latest(&plimsoll, "redis_prefix_memory_bytes", "prefix = 'page'"), Some(bytes));
    let newest = "time = (SELECT max(time) FROM redis_hot_key_frequency)";
    let hot =
        plimsoll.sql(&format!("SELECT key, value FROM redis_hot_key_frequency WHERE {newest} ORDER BY value DESC"));
    assert_eq!((hot.len(), hot[0]["key"].as_str()), (3, Some("user:7")), "{hot:?}");
    assert!(hot[0]["value"].as_f64() > hot[2]["value"].as_f64(), "{hot:?}");

    // The slow log, from here on.
    for _ in 0..2 {
        server.cli(&["DEBUG", "SLEEP", "0.15"]);
    }
    let slow = "cmd = 'debug'";
    agree("slow runs", || latest(&plimsoll, "redis_slowlog_entries_total", slow), || Some(2.0));
    let log = server.cli(&[
        "EVAL",
        "local t = 0 for _, e in ipairs(redis.call('SLOWLOG', 'GET', 10)) do
        if string.lower(e[4][1]) == 'debug' then t = t + e[3] end end return t",
        "0",
    ]);
    let seconds = log.parse::<f64>().unwrap() / 1e6;
    let ours = latest(&plimsoll, "redis_slowlog_duration_seconds_total", slow).unwrap();
    assert!((ours - seconds).abs() < 1e-9, "{ours} {seconds}");

    // Evictions; the few keys left are sampled by another as well.
    server.cli(&["CONFIG", "SET", "maxmemory", "2mb"]);
    let mut lines = String::new();
    (0..3000).for_each(|n| lines.push_str(&format!("SET big:{n} {}\n", "x".repeat(500))));
    send(&server, &lines);
    assert!(server.info("evicted_keys") > 100.0);
    agree("evictions", || latest(&plimsoll, "redis_evicted_keys_total", of), || Some(server.info("evicted_keys")));
    plimsoll.stop();
    let plimsoll = serve(folder.path(), &small);
    until("a sample", || latest(&plimsoll, "redis_sampled_keys", "id = 'small'").is_some());
    assert_eq!(latest(&plimsoll, "redis_sampled_keys", "id = 'small'"), Some(100.0));
    assert_eq!(latest(&plimsoll, "redis_sample_whole", "id = 'small'"), Some(0.0));
    let keys = "SELECT sum(value) AS keys FROM redis_prefix_keys WHERE id = 'small' AND time =
        (SELECT max(time) FROM redis_prefix_keys WHERE id = 'small')";
    agree(
        "estimates sum up",
        || plimsoll.sql(keys)[0]["keys"].as_f64().map(f64::round),
        || server.cli(&["DBSIZE"]).parse().ok(),
    );
}

/// A client of one connection, that waits for each answer.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn new(server: &Redis) -> Self {
        Talk(BufReader::new(TcpStream::connect(("127.0.0.1", server.port)).unwrap()))
    }

    fn say(&mut self, words: &str) {
        self.0.get_mut().write_all(format!("{words}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        if line.starts_with('$') && !line.starts_with("$-1") {
            self.0.read_line(&mut line).unwrap();
        }
    }
}

#[test]
fn hit_rates_by_prefix_are_near_what_clients_got() {
    let Some(server) = Redis::start(&[]) else { return };
    fill(&server);
    let folder = tempdir().unwrap();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Four of five reads of `user:` find a key; a `cache:` is always filled by who missed it, and then read once.
        scope.spawn(|| {
            let mut talk = Talk::new(&server);
            for n in (0_u64..).take_while(|_| !ends.load(Ordering::Relaxed)) {
                talk.say(&if n % 5 == 0 { format!("GET user:none{n}") } else { format!("GET user:{}", n % 300) });
                talk.say(&format!("GET cache:{n}"));
                talk.say(&format!("SETEX cache:{n} 5 x"));
                talk.say(&format!("GET cache:{n}"));
            }
        });
        let plimsoll = serve(folder.path(), &source("listener", &server, ", monitor = \"200ms\", sample = 0"));
        let reads =
            |prefix: &str| latest(&plimsoll, "redis_prefix_sampled_reads_total", &format!("prefix = '{prefix}'"));
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("reads", || reads("user") > Some(200.0) && reads("cache") > Some(400.0));
        }));
        ends.store(true, Ordering::Relaxed);
        assert!(seen.is_ok(), "{}", collector(&plimsoll, "listener"));
        for (prefix, wanted) in [("user", 0.8), ("cache", 0.5)] {
            let of = format!("prefix = '{prefix}'");
            let hits = latest(&plimsoll, "redis_prefix_sampled_hits_total", &of).unwrap();
            let rate = hits / reads(prefix).unwrap();
            assert!((rate - wanted).abs() < 0.05, "{prefix}: {rate}");
        }
        assert_eq!(latest(&plimsoll, "redis_sampled_keys", "true"), None, "no sample was asked for");
    });
}

#[test]
fn a_server_that_goes_and_comes_a_user_that_may_not_all_and_keys_touched_lately() {
    let Some(mut server) = Redis::start(&[]) else { return };
    fill(&server);
    server.cli(&["ACL", "SETUSER", "plain", "on", ">right", "~*", "+@all", "-slowlog"]);
    let folder = tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "right\n").unwrap();
    let port = server.port;
    let plain = format!(
        "[[sources]]\nid = \"plain\"\ninterval = \"1s\"\ntimeout = \"950ms\"\nlabels = {{ id = \"plain\" }}\n\
         from.redis = {{ url = \"redis://plain@127.0.0.1:{port}\", password_file = {password:?} }}\n"
    );
    let plimsoll = serve(folder.path(), &(source("cache", &server, ", hot = 2") + &plain));
    let row = until_health(&plimsoll, "plain", &["degraded"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains("NOPERM") && error.contains("allow it with ACL SETUSER"), "{error}");
    until("errors are counted", || {
        latest(&plimsoll, "redis_collector_errors_total", "part = 'slowlog' AND id = 'plain'") >= Some(1.0)
    });
    assert!(latest(&plimsoll, "redis_db_keys", "id = 'plain'").is_some());
    server.cli(&["ACL", "SETUSER", "plain", "+slowlog"]);
    until_health(&plimsoll, "plain", &["healthy"]);
    // What is refused of single keys is told, and is no miss of our own.
    server.cli(&["ACL", "SETUSER", "plain", "-object"]);
    let row = until_health(&plimsoll, "plain", &["degraded"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains("keys: NOPERM") && error.contains("allow it with ACL SETUSER"), "{error}");
    assert_eq!(latest(&plimsoll, "redis_collector_misses_total", "id = 'plain'"), Some(0.0));

    // Nothing is counted without LFU: keys that are touched in pass after pass come out.
    let talk = |key: &str| drop(server.cli(&["GET", key]));
    let hottest = || {
        talk("user:11");
        talk("user:12");
        let newest = "time = (SELECT max(time) FROM redis_hot_key_touched_ratio WHERE id = 'cache') AND id = 'cache'";
        let told = latest(&plimsoll, "redis_hot_key_touched_ratio", "id = 'cache'");
        let rows = if told.is_some() {
            plimsoll.sql(&format!("SELECT key FROM redis_hot_key_touched_ratio WHERE {newest} ORDER BY key"))
        } else {
            Vec::new()
        };
        rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    agree("hot keys", hottest, || vec!["user:11".to_owned(), "user:12".to_owned()]);

    server.down();
    let row = until_health(&plimsoll, "cache", &["failing"]);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains(&format!("Redis at 127.0.0.1:{port}: Connection refused")), "{error}");
    assert_eq!(latest(&plimsoll, "source_up", "source = 'cache'"), Some(0.0));
    server.up();
    until_health(&plimsoll, "cache", &["healthy"]);
    agree("the new server's keys", || latest(&plimsoll, "redis_sampled_keys", "id = 'cache'"), || Some(0.0));
}

#[test]
fn tls_is_spoken_and_certificates_are_looked_at() {
    let folder = tempdir().unwrap();
    let Some([ca, leaf, key]) = certificate(folder.path()) else { return };
    let tls_port = crate::servers::free_port();
    let words =
        ["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no", "--requirepass", "right"].map(str::to_owned);
    let files = [("--tls-cert-file", &leaf), ("--tls-key-file", &key), ("--tls-ca-cert-file", &ca)];
    let files = files.map(|(name, path)| [name.to_owned(), path.display().to_string()]).concat();
    let settings: Vec<String> = words.into_iter().chain(files).collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(_server) = Redis::start(&settings) else { return };
    let source = |id: &str, host: &str, more: &str| {
        format!(
            "[[sources]]\nid = \"{id}\"\ninterval = \"1s\"\ntimeout = \"950ms\"\nlabels = {{ id = \"{id}\" }}\n\
             from.redis = {{ url = \"rediss://:right@{host}:{tls_port}\", monitor = \"50ms\"{more} }}\n"
        )
    };
    let authority = format!(", ca_file = {ca:?}");
    let all = source("good", "127.0.0.1", &authority)
        + &source("name", "localhost", &authority)
        + &source("unknown", "127.0.0.1", "");
    let plimsoll = serve(folder.path(), &all);
    until_health(&plimsoll, "good", &["healthy"]);
    for (id, wanted) in [("name", "certificate not valid for name"), ("unknown", "UnknownIssuer")] {
        let row = until_health(&plimsoll, id, &["failing"]);
        let error = row["last_error"].as_str().unwrap();
        assert!(error.contains(wanted) && !error.contains("right"), "{id}: {error}");
    }
}
