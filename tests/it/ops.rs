//! Verify, repair, snapshot, restore: what they print, how they end, and that the numbers are the same after.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::{Server, number, plimsoll, plimsoll_with, sql, until};

const ALL: &str = "SELECT metric, host, count(*) AS n, sum(value) AS total FROM metrics GROUP BY 1, 2 ORDER BY 1, 2";

/// A store of three hosts and two metrics over two months.
fn fill(data: &Path) {
    let mut lines = String::new();
    for n in 0..600_i64 {
        for host in ["a", "b", "c"] {
            let time = 1_704_000_000 + n * 300;
            lines.push_str(&format!("load,host={host} user={},sys={} {time}\n", (n as f64).sqrt(), n % 7));
        }
    }
    let args = ["import", "--from", "line-protocol", "--precision", "s", "-"];
    plimsoll_with(data, &args, &[], lines.as_bytes()).ending(0);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn flip(path: &Path, range: std::ops::Range<usize>) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[range].iter_mut().for_each(|byte| *byte ^= 0xFF);
    std::fs::write(path, bytes).unwrap();
}

fn rows(text: &[u8]) -> Vec<Value> {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn verify_finds_a_flipped_byte_and_repair_saves_the_rest() {
    let folder = tempdir().unwrap();
    fill(folder.path());
    let told = plimsoll(folder.path(), &["verify"]).ending(0).stderr;
    assert!(told.contains(": 0 wrong"), "{told}");
    let before = sql(folder.path(), ALL);

    let segment = files(&folder.path().join("samples/2024-01"))[0].clone();
    let middle = std::fs::read(&segment).unwrap().len() / 2;
    flip(&segment, middle..middle + 1);
    let ran = plimsoll(folder.path(), &["verify", "--format", "json"]).ending(3);
    let wrong = rows(&ran.stdout);
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0]["path"].as_str().unwrap().starts_with("samples/2024-01/"), "{wrong:?}");
    assert!(wrong[0]["remedy"].as_str().unwrap().contains("plimsoll repair"), "{wrong:?}");

    // Nothing of it is readable any more.
    flip(&segment, 8..middle);
    let ran = plimsoll(folder.path(), &["repair", "--format", "json"]).ending(0);
    let lost = rows(&ran.stdout);
    assert!(!lost.is_empty(), "{}", ran.stderr);
    let lost_rows: u64 = lost.iter().map(|loss| loss["rows"].as_u64().unwrap()).sum();
    plimsoll(folder.path(), &["verify"]).ending(0);
    let count = |rows: &[Value]| rows.iter().map(|row| row["n"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(count(&sql(folder.path(), ALL)) + lost_rows, count(&before));
    assert_eq!(sql(folder.path(), "SELECT * FROM system.losses").len(), lost.len());
    assert!(!files(&folder.path().join("set-aside")).is_empty());
}

#[test]
fn a_catalog_that_is_gone_or_damaged_is_made_anew() {
    let folder = tempdir().unwrap();
    fill(folder.path());
    let tables = ["SELECT * FROM rollups ORDER BY metric, host, time", "SELECT * FROM load ORDER BY time, host", ALL];
    let before = tables.map(|statement| sql(folder.path(), statement));
    let catalog = folder.path().join("catalog");
    std::fs::remove_dir_all(&catalog).unwrap();
    let ran = plimsoll(folder.path(), &["verify", "--format", "json"]).ending(3);
    assert_eq!(rows(&ran.stdout)[0]["path"], "catalog");
    assert_eq!(tables.map(|statement| sql(folder.path(), statement)), before);
    plimsoll(folder.path(), &["verify"]).ending(0);

    std::fs::write(catalog.join("db"), [0x5A; 4096]).unwrap();
    let server = Server::start(folder.path());
    let health = server.get("/health").ending(200).json();
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(health["reasons"][0].as_str().unwrap().contains("made anew"), "{health}");
    assert_eq!(server.sql(ALL), before[2]);
    server.stop();
    let ran = plimsoll(folder.path(), &["repair", "--rebuild-catalog"]).ending(0);
    assert!(ran.stderr.contains("made anew"), "{}", ran.stderr);
    assert_eq!(tables.map(|statement| sql(folder.path(), statement)), before);
    assert!(files(&folder.path().join("set-aside")).len() >= 2, "the catalogs that were are kept");
}

#[test]
fn a_snapshot_of_a_running_server_is_a_whole_store() {
    let folder = tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    fill(&data);
    let server = Server::start(&data);
    server.write("kept,host=a v=1 1700000000000000000\n");
    let before = server.sql(ALL);
    let copy_text = copy.to_str().unwrap();
    let args = ["--url", &server.url, "snapshot", copy_text];
    let ran = plimsoll(&data, &args).ending(0);
    assert!(ran.stderr.contains("shared"), "{}", ran.stderr);
    assert!(plimsoll(&data, &args).ending(1).stderr.contains("there already"));
    let relative = server.post("/api/v1/snapshot", &[("content-type", "application/json")], br#"{"dir": "here"}"#);
    relative.ending(400);
    server.post("/api/v1/snapshot", &[], br#"{"dir": "/tmp/x"}"#).ending(415);
    server.write("kept,host=a v=2 1700000001000000000\n");
    let verified = plimsoll(&data, &["--url", &server.url, "verify"]).ending(0).stderr;
    assert!(verified.contains(": 0 wrong"), "{verified}");
    server.stop();
    plimsoll(&copy, &["verify"]).ending(0);
    assert_eq!(sql(&copy, ALL), before);
    assert_eq!(number(&sql(&data, "SELECT count(*) FROM kept_v")), 2.0);

    let again = folder.path().join("again");
    plimsoll(&again, &["restore", copy_text]).ending(0);
    assert_eq!(sql(&again, ALL), before);
    assert_eq!(plimsoll(&again, &["restore", copy_text]).ending(1).stderr.matches("there already").count(), 1);
    plimsoll(&again, &["restore", folder.path().join("nothing").to_str().unwrap()]).ending(2);
}

#[test]
fn samples_of_a_snapshot_go_into_a_store_that_is_there() {
    let folder = tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    fill(&data);
    plimsoll(&data, &["snapshot", copy.to_str().unwrap()]).ending(0);
    let wanted = "SELECT count(*) AS n, sum(value) AS total FROM load_user WHERE time >= '2024-01-01T00:00:00Z'";
    let expected = sql(&data, wanted);
    let other = folder.path().join("other");
    let line = b"load,host=a user=99 1704240000\nown,host=z v=1 1704240000\n";
    plimsoll_with(&other, &["import", "--from", "line-protocol", "--precision", "s", "-"], &[], line).ending(0);
    let args = ["restore", copy.to_str().unwrap(), "--metric", "*_user", "--from", "2024-01-01T00:00:00Z"];
    let told = plimsoll(&other, &args).ending(0).stderr;
    assert!(told.contains(&format!("{} samples restored", expected[0]["n"])), "{told}");
    let now = sql(&other, wanted);
    assert_eq!(now[0]["n"].as_u64().unwrap(), expected[0]["n"].as_u64().unwrap() + 1, "{now:?}");
    plimsoll(&other, &args).ending(0);
    assert_eq!(sql(&other, wanted), now, "restored again");
    assert_eq!(
        sql(&other, "SELECT DISTINCT metric FROM metrics ORDER BY 1"),
        [json!({"metric": "load_user"}), json!({"metric": "own_v"})]
    );
    plimsoll(&copy, &["verify"]).ending(0);
    assert_eq!(files(folder.path()).len(), 3, "nothing is left beside the stores");
}

#[test]
fn a_server_sets_aside_what_a_query_finds_damaged() {
    let folder = tempdir().unwrap();
    fill(folder.path());
    // From samples: summaries of files and answers that are kept do not touch the page.
    let from_samples = [("PLIMSOLL__QUERY__SUMMARIES", "false"), ("PLIMSOLL__QUERY__CACHE", "0B")];
    let server = Server::start_with(folder.path(), &from_samples);
    let segment = files(&folder.path().join("samples/2024-01"))[0].clone();
    let len = std::fs::read(&segment).unwrap().len();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8..len / 2].iter_mut().for_each(|byte| *byte ^= 0xFF);
    // In place: the server has the file open.
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().write_all_at(&bytes, 0).unwrap();
    let answer = server.post("/api/v1/sql", &[], ALL.as_bytes());
    assert_ne!(answer.status, 200, "{}", answer.text());
    until("the file is set aside", || !segment.exists());
    let left = server.sql(ALL);
    let lost = number(&server.sql("SELECT CAST(sum(rows) AS BIGINT) FROM system.losses"));
    let count: f64 = left.iter().map(|row| row["n"].as_f64().unwrap()).sum();
    assert_eq!(count + lost, 3600.0);
    assert_eq!(server.get("/ready").ending(200).json()["status"], "degraded");
    server.stop();
    plimsoll(folder.path(), &["verify"]).ending(0);
}
