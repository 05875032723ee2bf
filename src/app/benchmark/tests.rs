//! Benchmarks of commands that every system has, and of a small server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::*;
use crate::insight::regress::read_results;

fn plan(runs: usize) -> BenchmarkPlan {
    BenchmarkPlan { runs: Some(runs), warmup: 0, ..BenchmarkPlan::default() }
}

fn run(text: &str, by_shell: bool, ignore_failure: bool) -> anyhow::Result<Vec<(String, Measured)>> {
    command::run(&command::Program::parse(text, by_shell)?, &plan(3), ignore_failure, &World::real())
}

#[test]
fn commands_are_run_as_often_as_planned() {
    for (text, by_shell) in [("true", true), ("true && true", true), ("true", false)] {
        let metrics = run(text, by_shell, false).unwrap();
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).take(3).collect();
        assert_eq!(names, [text.to_owned(), format!("{text} user"), format!("{text} system")]);
        assert!(metrics.iter().all(|(_, measured)| measured.samples.len() == 3 && measured.samples[0] >= 0.0));
    }
}

#[test]
fn failures_are_told_unless_they_are_to_count() {
    let table = [
        ("exit 3", true, "`exit 3` ended with exit status: 3"),
        ("/no/such", false, "cannot start `/no/such`"),
        ("", true, "--command is empty"),
    ];
    for (text, by_shell, expected) in table {
        let told = run(text, by_shell, false).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{told}");
    }
    assert!(run("exit 3", true, true).is_ok());
}

/// Answers every connection once, with these statuses in turn. Its address.
fn server(statuses: &'static [u16]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::Builder::new()
        .spawn(move || {
            for status in statuses.iter().cycle() {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        })
        .unwrap();
    url
}

fn ask(url: &str, concurrency: usize) -> anyhow::Result<Vec<(String, Measured)>> {
    url::run(&url::Target::new(url, concurrency, Duration::from_secs(5))?, &plan(8), &World::real())
}

#[test]
fn answers_are_timed_and_failures_counted() {
    for (statuses, concurrency, answered) in [(&[200_u16][..], 1, 8), (&[200], 4, 8), (&[200, 503], 1, 4)] {
        let metrics = ask(&server(statuses), concurrency).unwrap();
        assert_eq!(metrics[0].1.samples.len(), answered);
        assert_eq!(metrics[1].1.samples.iter().sum::<f64>(), (8 - answered) as f64);
        assert_eq!(metrics[1].1.samples.len(), 8);
    }
    let told = ask(&server(&[500]), 2).unwrap_err().to_string();
    assert!(told.contains("was answered with success: status 500"), "{told}");
    for (url, concurrency) in [("https://a/", 1), ("http://a/", 0), ("http://a/", 1000)] {
        assert!(url::Target::new(url, concurrency, Duration::from_secs(1)).is_err(), "{url} {concurrency}");
    }
}

#[test]
fn what_is_saved_is_read_as_results() {
    let results = Results { metrics: run("true", true, false).unwrap().into_iter().collect() };
    let saved = Baseline::new("benchmark", "2026-01-31T12:00:00Z", BTreeMap::new(), results.clone());
    let read = read_results([("saved.json".to_owned(), saved.to_json().unwrap().into_bytes())]).unwrap();
    assert_eq!(read, results);
}

#[test]
fn shares_are_typed_in_percent_or_not() {
    let table =
        [("5%", Some(0.05)), ("0.05", Some(0.05)), ("0", Some(0.0)), ("-1%", None), ("five", None), ("nan", None)];
    for (text, expected) in table {
        assert_eq!(share("--x", text).ok(), expected, "{text}");
    }
}
