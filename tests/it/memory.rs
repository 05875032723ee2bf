//! One budget of memory: what does not fit is flushed, waits, or is refused with a remedy; the process lives on.

use std::fmt::Write;

use tempfile::tempdir;

use crate::support::{Server, number, until};

const MEMORY: (&str, &str) = ("PLIMSOLL__MEMORY", "64MB");
const NANOS: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * NANOS;

/// A body of samples of all digits: 100 series, each at `count` times from the `first`.
fn body(first: i64, count: i64) -> String {
    let mut lines = String::new();
    for tick in first..first + count {
        for host in 0..100 {
            let value = ((tick * 100 + host) as f64).sqrt().fract();
            writeln!(lines, "load,host=h{host} v={value} {}", START + tick * NANOS).unwrap();
        }
    }
    lines
}

#[test]
fn more_than_fits_is_flushed_and_too_large_an_answer_is_refused() {
    let folder = tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[MEMORY]);
    let (bodies, ticks) = (25, 200);
    (0..bodies).for_each(|at| server.write(&body(at * ticks, ticks)));
    let samples = (bodies * ticks * 100) as f64;
    let of = |share: &str, column: &str| {
        number(&server.sql(&format!("SELECT \"{column}\" AS n FROM system.memory WHERE share = '{share}'")))
    };
    let segments = "SELECT count(*) FROM system.segments WHERE \"table\" = 'samples'";
    until("the head is flushed", || number(&server.sql(segments)) > 0.0);
    assert!(of("samples", "bytes") <= of("samples", "limit"));
    assert_eq!(number(&server.sql("SELECT count(*) FROM metrics")), samples);

    let all = server.get("/api/v1/sql?format=table&q=SELECT%20*%20FROM%20metrics").ending(400).text();
    assert!(all.contains("add LIMIT, or raise `memory`"), "{all}");
    assert_eq!(of("queries", "bytes"), 0.0, "what was held for it is given back");
    // What sorts goes by way of the disk.
    let sorted =
        "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY value, host, time) AS n FROM metrics) WHERE n > 0";
    assert_eq!(number(&server.sql(sorted)), samples);
    if cfg!(target_os = "linux") {
        let held = anonymous(&server);
        assert!(held < 160 << 20, "{held} bytes where 64 MB are allowed and a debug build has its own");
    }
}

#[test]
fn series_beyond_their_share_are_refused_and_known_ones_go_on() {
    let folder = tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[MEMORY]);
    server.write("known v=1 1700000000000000000\n");
    let names = |from: usize| -> String {
        (from..from + 20_000).fold(String::new(), |mut lines, n| {
            writeln!(lines, "wide,a=request-{n},b=session-{n},c=trace-{n} v=1 1700000000000000000").unwrap();
            lines
        })
    };
    let mut refused = String::new();
    let mut from = 0;
    until("the share is full", || {
        let answer = server.post("/write", &[], names(from).as_bytes());
        from += 20_000;
        refused = answer.text();
        answer.status != 204
    });
    assert!(refused.contains("series take the 11.4 MiB") && refused.contains("raise `memory`"), "{refused}");
    let again = || server.post("/write", &[], b"known v=2 1700000001000000000\n").status;
    until("a known series goes on", || again() == 204);
    assert_eq!(number(&server.sql("SELECT sum(v) FROM known")), 3.0);
}

/// Bytes of the process's own memory, not of files.
fn anonymous(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
