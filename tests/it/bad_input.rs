//! Input that cannot be taken: told clearly, kept out, and nothing that was stored is lost by it.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::{Ran, Server, gzip, now_seconds, number, plimsoll, plimsoll_with, sql};

/// A request that must be refused: path, headers, body, status, part of the sentence.
struct Refused {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
    status: u16,
    told: &'static str,
    /// The line that the answer names.
    line: Option<u64>,
    /// Samples of it that are good and stored.
    kept: u64,
}

fn refused(path: &'static str, body: impl Into<Vec<u8>>, status: u16, told: &'static str) -> Refused {
    Refused { path, headers: &[], body: body.into(), status, told, line: None, kept: 0 }
}

impl Refused {
    fn at_line(self, line: u64, kept: u64) -> Self {
        Refused { line: Some(line), kept, ..self }
    }

    fn packed(self, how: &'static [(&'static str, &'static str)], body: Vec<u8>) -> Self {
        Refused { headers: how, body, ..self }
    }
}

const GZIP: &[(&str, &str)] = &[("content-encoding", "gzip")];

/// So many bytes of good lines; each is taken where the body is not too large.
fn good_lines(bytes: usize) -> Vec<u8> {
    let line = b"large,host=a v=1 1700000000000000000\n";
    line.repeat(bytes / line.len())
}

fn cases() -> Vec<Refused> {
    let line = |text: &str| format!("ok a=1 1700000000000000000\n{text}\nok b=1 1700000000000000000\n");
    let bad_line = |text: &str, told| refused("/write", line(text), 400, told).at_line(2, 2);
    let future = now_seconds() + 3 * 86_400;
    let object = |text: &str| format!("[{{\"type\":\"ok\",\"value\":1,\"timestamp\":1700000000000}},{text}]");
    let bad_object = |text: &str, told| refused("/api/performance", object(text), 400, told).at_line(2, 1);
    let cut = |packed: Vec<u8>| packed[..packed.len() - packed.len() / 3].to_vec();
    let many: Vec<u8> =
        (0..50_000).flat_map(|n| format!("cut,host=h{n} v={n} {}\n", 1_700_000_000 + n).into_bytes()).collect();
    vec![
        bad_line("cpu", "no fields"),
        bad_line("cpu,host=a", "no fields"),
        bad_line("cpu v", "v"),
        bad_line("cpu v=", "v"),
        bad_line("cpu v=abc", "v"),
        bad_line("cpu v=1 abc", "abc"),
        bad_line("cpu v=1 1.5", "1.5"),
        bad_line("cpu,host v=1", "host"),
        bad_line("cpu,=a v=1", "=a"),
        bad_line(",host=a v=1", "measurement"),
        bad_line("cpu =1", "name"),
        bad_line("cpu v=1,", ""),
        bad_line("cpu v=\"never closed", ""),
        bad_line("cpu v=NaN 1700000000000000000", "NaN"),
        bad_line("cpu v=inf 1700000000000000000", "inf"),
        bad_line("cpu v=-Infinity 1700000000000000000", "inf"),
        bad_line("cpu v=1e999 1700000000000000000", ""),
        bad_line(&format!("cpu v=1 {future}000000000"), "latest that is taken"),
        bad_line("cpu v=1 9223372036854775807", "latest that is taken"),
        bad_line("cpu v=1 99999999999999999999", "99999999999999999999"),
        bad_line("cpu v=1 -1", "oldest that is kept"),
        bad_line("cpu v=1 -9223372036854775807", "oldest that is kept"),
        refused("/write?precision=s", "a v=1 1700000000000000000\n", 400, "1700000000000000000").at_line(1, 0),
        refused("/write?precision=fortnight", "a v=1 1\n", 400, "`fortnight`"),
        refused("/write", b"a v=1 1700000000000000000\ncpu,host=\xff\xfe v=1\n".to_vec(), 400, "UTF-8").at_line(2, 1),
        refused("/write", b"\xff\xfe\x00garbage\n".to_vec(), 400, "").at_line(1, 0),
        refused("/write", vec![0; 4096], 400, "").at_line(1, 0),
        refused("/write", good_lines(100 << 20), 413, "64.0 MiB"),
        refused("/write", "", 413, "64.0 MiB").packed(GZIP, gzip(&good_lines(1 << 20)).repeat(100)),
        refused("/api/performance", vec![b' '; 100 << 20], 413, "64.0 MiB"),
        refused("/write", "", 400, "cut or damaged").packed(GZIP, cut(gzip(&many))),
        refused("/write", "", 400, "cut or damaged").packed(GZIP, b"this is no gzip".to_vec()),
        refused("/write", "", 400, "cut or damaged").packed(GZIP, Vec::new()),
        refused("/write", "", 400, "zstd").packed(&[("content-encoding", "zstd")], b"this is no zstd".to_vec()),
        refused("/write", "", 415, "`br`").packed(&[("content-encoding", "br")], b"x".to_vec()),
        refused("/api/performance", "{\"type\":", 400, ""),
        refused("/api/performance", "", 400, ""),
        refused("/api/performance", b"{\"type\":\"\xff\",\"value\":1}".to_vec(), 400, ""),
        refused("/api/performance", "[".repeat(100_000), 400, ""),
        bad_object("7", "no object"),
        bad_object("{\"value\":1}", "`type`"),
        bad_object("{\"type\":\"a\"}", "`value`"),
        bad_object("{\"type\":\"a\",\"value\":\"x\"}", "no number"),
        bad_object("{\"type\":\"a\",\"value\":1,\"timestamp\":\"noon\"}", "no time"),
        bad_object("{\"type\":\"a\",\"value\":1,\"timestamp\":\"2199-01-01T00:00:00Z\"}", "latest that is taken"),
        refused("/api/v1/sql", "", 400, "no statement"),
        refused("/api/v1/sql", " \n", 400, "no statement"),
        refused("/api/v1/sql", "SELEC 1", 400, "SELEC"),
        refused("/api/v1/sql", "SELECT * FROM nowhere", 400, "nowhere"),
        refused("/api/v1/sql", "SELECT nothing FROM metrics", 400, "nothing"),
        refused("/api/v1/sql", "SELECT 1 / 0", 400, ""),
        refused("/api/v1/sql", "SELECT CAST('x' AS BIGINT)", 400, ""),
        refused("/api/v1/sql", "SELECT no_such_function(1)", 400, "no_such_function"),
        refused("/api/v1/sql", "SELECT * FROM forecast('nowhere', '1d')", 400, "nowhere"),
        refused("/api/v1/sql", "SELECT * FROM forecast('kept_v', 'soon')", 400, "soon"),
        refused("/api/v1/sql", "SELECT * FROM capacity_eta('kept_v')", 400, "capacity_eta"),
        refused("/api/v1/sql", b"SELECT '\xff'".to_vec(), 400, "UTF-8"),
        refused("/api/v1/sql", vec![b' '; 2 << 20], 413, ""),
        refused("/api/v1/sql?format=xml", "SELECT 1", 400, "`xml`"),
    ]
}

#[test]
fn bad_requests_are_told_and_nothing_stored_is_lost() {
    let folder = tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let count = |server: &Server| number(&server.sql("SELECT count(*) FROM metrics WHERE metric <> 'kept_v'"));
    let kept = "SELECT count(*) AS n, sum(value) AS s FROM kept_v";
    let (mut keeps, mut wrong) = (0_u64, Vec::new());
    for (at, case) in cases().iter().enumerate() {
        let label = format!("{} {:?}", case.path, String::from_utf8_lossy(&case.body[..case.body.len().min(90)]));
        let before = if at == 0 { 0.0 } else { count(&server) };
        match server.try_post(case.path, case.headers, &case.body) {
            Err(error) => wrong.push(format!("{label}: no answer: {error}")),
            Ok(answer) => wrong.extend(case.faults(&answer).into_iter().map(|fault| format!("{label}: {fault}"))),
        }
        assert!(server.is_up(), "{label} ended the server: {}", server.log());
        // Good lines of these requests are always the same series and times: `ok_a`, `ok_b`, `a_v`, `ok`.
        let more = count_after(&server, before) - before;
        if more > case.kept as f64 {
            wrong.push(format!("{label}: {more} samples were stored of what was refused"));
        }
        server.write(&format!("kept v={at} {}000000000\n", 1_600_000_000 + at));
        keeps += 1;
    }
    let wanted = json!([{"n": keeps, "s": (0..keeps).map(|n| n as f64).sum::<f64>()}]);
    assert_eq!(Value::Array(server.sql(kept)), wanted);
    server.kill();
    assert_eq!(Value::Array(sql(folder.path(), kept)), wanted, "after a crash");
    for good in ["ok_a", "ok_b", "a_v", "ok"] {
        let stored = sql(folder.path(), &format!("SELECT count(*) FROM \"{good}\""));
        assert_eq!(number(&stored), 1.0, "{good}: a good line beside a bad one is kept");
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

fn count_after(server: &Server, before: f64) -> f64 {
    let answer = server.post("/api/v1/sql", &[], b"SELECT count(*) FROM metrics WHERE metric <> 'kept_v'");
    if answer.status == 200 { number(answer.json().as_array().unwrap()) } else { before }
}

impl Refused {
    /// What is wrong with an answer.
    fn faults(&self, answer: &crate::support::Answered) -> Vec<String> {
        if answer.status != self.status {
            let told: String = answer.text().chars().take(300).collect();
            return vec![format!("status {} and not {}: {told}", answer.status, self.status)];
        }
        let Ok(told) = serde_json::from_slice::<Value>(&answer.body) else {
            return vec![format!("the answer is no JSON: {}", answer.text())];
        };
        let sentence = told["error"].as_str().unwrap_or("");
        let mut faults = Vec::new();
        if sentence.is_empty() || !sentence.contains(self.told) {
            faults.push(format!("`{}` is not told: {told}", self.told));
        }
        if told["line"].as_u64() != self.line {
            faults.push(format!("line {:?} and not {:?}: {told}", told["line"], self.line));
        }
        if self.line.is_some() && (told["refused"] != 1 || told["lines"][0]["line"].as_u64() != self.line) {
            faults.push(format!("the refused lines are not listed: {told}"));
        }
        faults
    }
}

#[test]
fn many_bad_lines_are_counted_and_the_first_are_listed() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    let line =
        |n: u64| if n.is_multiple_of(3) { "bad\n".to_owned() } else { format!("good v={n} {}\n", 1_700_000_000 + n) };
    let told =
        server.post("/write?precision=s", &[], (1..=300).map(line).collect::<String>().as_bytes()).ending(400).json();
    assert_eq!((&told["line"], &told["refused"]), (&json!(3), &json!(100)), "{told}");
    let listed = told["lines"].as_array().unwrap();
    assert_eq!(listed.iter().map(|line| line["line"].as_u64().unwrap()).collect::<Vec<_>>()[..3], [3, 6, 9]);
    assert!(listed.len() < 100, "the answer is bounded");
    assert_eq!(number(&server.sql("SELECT count(*) FROM good_v")), 200.0);
}

/// A file in a folder, and its path as text.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn wrong_settings_end_the_start_with_file_line_and_remedy() {
    let folder = tempdir().unwrap();
    let here = folder.path();
    let pipeline = |name: &str, text: &str| {
        let path = file(here, name, text);
        file(here, &format!("of-{name}"), &format!("[pipelines]\nfiles = [{path:?}]\n"))
    };
    let stages = "name = \"p\"\n[[stages]]\nname = \"a\"\n";
    let cases = [
        (file(here, "1.toml", "[store]\nsink = \"always\"\n"), "1.toml:2: unknown field `sink`"),
        (file(here, "2.toml", "\n\n[stoer]\nsync = \"always\"\n"), "2.toml:3: unknown field `stoer`"),
        (file(here, "3.toml", "[store]\nsync = \"often\"\n"), "3.toml:2: unknown variant `often`"),
        (file(here, "4.toml", "[store]\nhead = \"many\"\n"), "4.toml:2: "),
        (file(here, "5.toml", "[store\n"), "5.toml:1: "),
        (file(here, "6.toml", "[ingest]\nbody_max = \"1B\"\n"), "6.toml:2: body_max: write at least"),
        (
            pipeline("7.toml", &format!("{stages}apply.windw = {{ every = \"1h\" }}\n")),
            "7.toml:4: unknown variant `windw`, expected one of `compress`, `window`, `anomaly`, `correlate`",
        ),
        (
            pipeline("8.toml", &format!("{stages}inputs = [\"gone\"]\napply.window = {{ every = \"1h\" }}\n")),
            "8.toml:4: stage `a` takes `gone`, which is no source or stage before it: write one of live",
        ),
        (pipeline("9.toml", &format!("{stages}apply.window = {{ every = \"soon\" }}\n")), "9.toml:4: "),
        (file(here, "10.toml", "[pipelines]\nfiles = [\"nowhere.toml\"]\n"), "nowhere.toml: cannot be read"),
    ];
    let data = here.join("data");
    for (config, told) in &cases {
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["sql", "SELECT 1"]] {
            let ran = plimsoll(&data, &[command, &["--config", config]].concat());
            assert_eq!(ran.code, Some(2), "{config} {command:?}: {} {}", ran.text(), ran.stderr);
            assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
        }
    }
    let all = file(here, "all.toml", "[store]\nsink = 1\nsync = \"often\"\n[query]\nmemori = 2\n");
    let ran = plimsoll(&data, &["sql", "SELECT 1", "--config", &all]).ending(2);
    for told in ["all.toml:2:", "all.toml:3:", "all.toml:5:"] {
        assert!(ran.stderr.contains(told), "every fault at once: {}", ran.stderr);
    }
    let ran = plimsoll_with(&data, &["sql", "SELECT 1"], &[("PLIMSOLL__STORE__SINK", "1")], b"").ending(2);
    assert!(ran.stderr.contains("PLIMSOLL__STORE__SINK") && ran.stderr.contains("`sink`"), "{}", ran.stderr);
    let ran = plimsoll(&data, &["sql", "SELECT 1", "--config", "nowhere.toml"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("nowhere.toml"), "{}", ran.stderr);
}

#[test]
fn every_variable_of_the_environment_counts() {
    let folder = tempdir().unwrap();
    let names = ["SYNC", "HEAD", "SEGMENT"].map(|key| format!("PLIMSOLL__STORE__{key}"));
    // Each in turn is wrong beside others that are right: whichever comes last, the fault is told.
    for wrong in &names {
        let right = |name: &str| if name.ends_with("SYNC") { "always" } else { "2MB" };
        let value = |name: &String| if name == wrong { "wrong" } else { right(name) };
        let environment: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value(name))).collect();
        let ran = plimsoll_with(folder.path(), &["sql", "SELECT 1"], &environment, b"").ending(2);
        assert!(ran.stderr.contains(wrong.as_str()), "{}", ran.stderr);
    }
    // `program` of the tests turns the collector off; another variable beside it must not turn it on again.
    let server =
        Server::start_with(folder.path(), &[("PLIMSOLL__STORE__HEAD", "2MB"), ("PLIMSOLL__QUERY__MEMORY", "64MB")]);
    server.write("only v=1 1700000000000000000\n");
    assert_eq!(number(&server.sql("SELECT count(*) FROM system.series")), 1.0, "the collector is off");
}

#[test]
fn a_remedy_that_is_followed_is_taken() {
    let folder = tempdir().unwrap();
    let cases = [
        ("[store]\nhead = \"1B\"\n", "1B"),
        ("[store]\nsegment = \"1B\"\n", "1B"),
        ("[ingest]\nbody_max = \"1B\"\n", "1B"),
        ("[query]\nmemory = \"1B\"\n", "1B"),
        ("[collect]\nsystem_interval = \"1ms\"\n", "1ms"),
    ];
    for (text, wrong) in cases {
        let ran = plimsoll(folder.path(), &["check", &file(folder.path(), "p.toml", text)]).ending(2);
        let remedy = ran.stderr.split("write at least ").nth(1).unwrap_or_else(|| panic!("no remedy: {}", ran.stderr));
        let remedy = remedy.split([',', ' ']).next().unwrap();
        plimsoll(folder.path(), &["check", &file(folder.path(), "p.toml", &text.replace(wrong, remedy))]).ending(0);
    }
}

#[test]
fn a_data_directory_in_use_is_told_and_left_alone() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    server.write("kept v=1 1700000000000000000\n");
    let lines = file(folder.path(), "more.lp", "kept v=2 1700000001000000000\n");
    let commands: [&[&str]; 6] = [
        &["serve", "--listen", "127.0.0.1:0"],
        &["sql", "SELECT 1"],
        &["import", &lines],
        &["compact"],
        &["stats"],
        &["anomalies"],
    ];
    for command in commands {
        let Ran { code, stderr, .. } = plimsoll(folder.path(), command);
        assert_eq!(code, Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains("in use by another process") && stderr.contains("--url"), "{command:?}: {stderr}");
        assert!(stderr.contains(folder.path().to_str().unwrap()), "the directory is named: {stderr}");
    }
    server.write("kept v=3 1700000002000000000\n");
    assert_eq!(number(&server.sql("SELECT sum(value) FROM kept_v")), 4.0);
    let asked = plimsoll(
        &folder.path().join("other"),
        &["sql", "SELECT sum(value) AS s FROM kept_v", "--url", &server.url, "--format", "json"],
    );
    assert_eq!(asked.ending(0).text().trim(), "[{\"s\":4.0}]", "the remedy works");
    server.stop();
    assert_eq!(number(&sql(folder.path(), "SELECT sum(value) FROM kept_v")), 4.0);
}

#[test]
fn an_address_in_use_and_a_folder_that_cannot_be_made_are_told() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder.path().join("one"));
    let address = server.url.trim_start_matches("http://");
    let ran = plimsoll(&folder.path().join("two"), &["serve", "--listen", address]).ending(1);
    assert!(ran.stderr.contains(&format!("cannot listen on {address}")), "{}", ran.stderr);
    let ran = plimsoll(&folder.path().join("two"), &["serve", "--listen", "here"]).ending(1);
    assert!(ran.stderr.contains("cannot listen on here"), "{}", ran.stderr);
    let taken = file(folder.path(), "a-file", "");
    let ran = plimsoll(Path::new(&taken), &["serve", "--listen", "127.0.0.1:0"]).ending(1);
    assert!(ran.stderr.contains("a-file"), "{}", ran.stderr);
    let ran = plimsoll(&folder.path().join("three"), &["sql", "SELECT 1"]).ending(2);
    assert!(ran.stderr.contains("there is no store in"), "{}", ran.stderr);
    assert!(!folder.path().join("three").exists(), "asking makes nothing");
    server.write("kept v=1 1700000000000000000\n");
}

#[test]
fn files_that_cannot_be_read_whole_are_told() {
    let folder = tempdir().unwrap();
    let (here, data) = (folder.path(), folder.path().join("data"));
    let cut = {
        let packed = gzip(
            (0..5000)
                .map(|n| format!("cut v={n} {}\n", 1_700_000_000_000_000_000_i64 + n))
                .collect::<String>()
                .as_bytes(),
        );
        let path = here.join("cut.lp.gz");
        std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cases: [(&[&str], i32, &str); 9] = [
        (&["import", "nowhere.csv"], 1, "nowhere.csv"),
        (&["import", &file(here, "what.xyz", "a")], 2, "--from"),
        (&["import", "--from", "xml", &file(here, "a.csv", "time,v\n")], 2, "xml"),
        (&["import", "--precision", "y", &file(here, "a.lp", "a v=1 1\n")], 2, "precision"),
        (&["import", "--label", "x", &file(here, "b.csv", "time,v\n")], 2, "name=value"),
        (&["import", &cut], 1, "cut.lp.gz"),
        (&["import", &file(here, "no.parquet", "this is no parquet")], 1, "no.parquet"),
        (&["import", &file(here, "no-time.csv", "a,b\n1,2\n")], 1, "no-time.csv"),
        (&["import", &file(here, "empty.csv", "")], 1, "empty.csv"),
    ];
    for (command, code, told) in cases {
        let ran = plimsoll(&data, command);
        assert_eq!(ran.code, Some(code), "{command:?}: {} {}", ran.text(), ran.stderr);
        assert!(ran.stderr.contains(told), "{command:?} does not tell {told}: {}", ran.stderr);
    }
    let bad = file(
        here,
        "some.csv",
        "time,v\n2023-11-14T00:00:00Z,1\nnoon,2\n2023-11-14T00:00:02Z,x\n2023-11-14T00:00:03Z,4\n",
    );
    let ran = plimsoll(&data, &["import", &bad]).ending(0);
    assert!(ran.stderr.contains("some.csv:3: ") && ran.stderr.contains("some.csv:4: "), "{}", ran.stderr);
    assert_eq!(number(&sql(&data, "SELECT sum(value) FROM v")), 5.0, "good rows beside bad ones are kept");
}
