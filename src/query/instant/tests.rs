//! The function over a real store.

use crate::query::testing::{Bench, examples};

fn bench() -> Bench {
    let bench = Bench::new();
    bench.put("up", &[("instance", "a"), ("job", "x")], &[(0, 1.0), (60, 2.0), (120, 3.0)]);
    bench.put("up", &[("instance", "b"), ("job", "x")], &[(0, 4.0), (200, 5.0)]);
    bench.end("up", &[("instance", "b"), ("job", "x")], 60);
    bench.end("up", &[("instance", "b"), ("job", "x")], 260);
    bench
}

#[test]
fn examples_run() {
    let bench = bench();
    bench.put("http_requests_total", &[], &[(-10, 1.0)]);
    let statements = examples(include_str!("mod.rs"));
    assert_eq!(statements.len(), 2);
    assert_eq!(bench.rows(&statements[0]), Vec::<String>::new());
    assert_eq!(bench.rows(&statements[1]), ["-10 1"]);
}

#[test]
fn each_series_is_what_it_was_last_unless_it_ended() {
    let bench = bench();
    let table: [(i64, &[&str]); 10] = [
        (-1, &[]),
        (0, &["a x 0 1", "b x 0 4"]),
        (59, &["a x 0 1", "b x 0 4"]),
        (60, &["a x 60 2"]),
        (199, &["a x 120 3"]),
        (200, &["a x 120 3", "b x 200 5"]),
        (259, &["a x 120 3", "b x 200 5"]),
        (260, &["a x 120 3"]),
        (419, &["a x 120 3"]),
        (420, &[]),
    ];
    for flushed in [false, true] {
        for (second, expected) in table {
            let sql = format!(
                "SELECT * FROM instant('up', TIMESTAMP '2026-01-31T12:00:00' + INTERVAL '{second} seconds') ORDER BY instance"
            );
            assert_eq!(bench.rows(&sql), expected, "{second} {flushed}");
        }
        bench.store.flush().unwrap();
    }
}

#[test]
fn it_is_a_table_like_others() {
    let bench = bench();
    let at = "instant('up', TIMESTAMP '2026-01-31T12:00:59'";
    assert_eq!(bench.rows(&format!("SELECT value FROM {at}) WHERE instance = 'b'")), ["4"]);
    assert_eq!(bench.rows(&format!("SELECT value FROM {at}) WHERE value > 3")), ["4"]);
    assert_eq!(bench.rows(&format!("SELECT count(*) FROM {at})")), ["2"]);
    assert_eq!(bench.rows(&format!("SELECT instance FROM {at}) ORDER BY 1")), ["a", "b"]);
    // The sample's own time, not where to look.
    let sixty = "instant('up', TIMESTAMP '2026-01-31T12:01:00')";
    let sql = format!("SELECT value FROM {sixty} WHERE time < TIMESTAMP '2026-01-31T12:01:00'");
    assert_eq!(bench.rows(&sql), Vec::<String>::new());
    assert_eq!(bench.rows(&format!("SELECT sum(value) FROM {at}, INTERVAL '1 minute')")), ["5"]);
    assert_eq!(bench.rows(&format!("SELECT sum(value) FROM {at}, INTERVAL '59 seconds')")), ["NULL"]);
}

#[test]
fn a_call_that_says_nothing_says_how() {
    let bench = bench();
    let table = [
        ("instant('up')", "write instant("),
        ("instant(up, now())", "write instant("),
        ("instant('up', 5)", "write instant("),
        ("instant('up', now(), 5)", "the lookback is no INTERVAL"),
        ("instant('up', now(), INTERVAL '0 s')", "not above zero"),
        ("instant('no', now())", "there is no metric `no`"),
    ];
    for (call, reason) in table {
        let error = bench.ask(&format!("SELECT * FROM {call}")).unwrap_err();
        assert!(error.contains(reason), "{call}: {error}");
    }
}
