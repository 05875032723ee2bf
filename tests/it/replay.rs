//! A pipeline over stored history, and the tests that pipeline files hold.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::support::{Chance, Ran, Server, number, plimsoll, sql};

const MINUTES: &str = "name = \"minutes\"\n[[stages]]\nname = \"minutes\"\napply.window = { every = \"1m\" }\n";
/// The sample recording lies within it.
const RECORDED: [&str; 4] = ["--from", "2026-11-21T10:00:00Z", "--to", "2026-11-21T12:00:00Z"];

#[track_caller]
fn replay(data: &Path, pipeline: &str, more: &[&[&str]], code: i32) -> Ran {
    plimsoll(data, &[&["replay", pipeline], &more.concat()[..]].concat()).ending(code)
}

fn hash(ran: &Ran) -> &str {
    let hash = ran.stderr.lines().find_map(|line| line.strip_prefix("hash: ")).unwrap_or_default();
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", ran.stderr);
    hash
}

#[track_caller]
fn import_recording(data: &Path) {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/data/recording.parquet");
    plimsoll(data, &["import", recording]).ending(0);
}

/// The files of samples, rows and states: a catalog and a log change when they are opened.
fn files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![data.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("catalog") || path.ends_with("wal") => {}
                true => folders.push(path),
                false if path.ends_with("generation") => {}
                false => {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
    }
    found
}

#[test]
fn history_gives_what_was_found_live() {
    let folder = tempdir().unwrap();
    let data = folder.path();
    import_recording(data);
    let hashes: Vec<String> = ["1", "2", "3", "4"]
        .iter()
        .map(|shards| {
            let ran = replay(data, "default", &[&RECORDED, &["--shards", shards, "--diff"]], 0);
            assert!(ran.stdout.is_empty(), "{}", ran.text());
            hash(&ran).to_owned()
        })
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let rows = number(&sql(data, "SELECT count(*) FROM correlations"));
    assert!(rows > 0.0, "the recording has pairs");
    let one =
        replay(data, "default", &[&["--from", "2026-11-21T11:00:00Z", "--to", "2026-11-21T12:00:00Z", "--diff"]], 0);
    assert_ne!(hash(&one), hashes[0], "an hour of two");
}

#[test]
fn what_a_server_was_sent_late_counts_in_its_windows() {
    let folder = tempdir().unwrap();
    let data = folder.path();
    let mut chance = Chance::new("replay");
    let server = Server::start(data);
    // Four hours of four series, each request some minutes, some of what is in it hours late.
    let start = 1_767_225_600_i64;
    let mut late: Vec<String> = Vec::new();
    for part in 0..48 {
        let (mut lines, mut common) = (String::new(), 0);
        for second in (start + part * 300..start + (part + 1) * 300).step_by(10) {
            for host in 0..4 {
                common = if host == 0 { chance.below(100) } else { common };
                let value = if host < 2 { common } else { chance.below(100) };
                let line = format!("cpu,host=h{host} user={value} {second}000000000");
                if chance.below(200) == 0 { late.push(line) } else { writeln!(lines, "{line}").unwrap() }
            }
        }
        if part % 11 == 10 {
            late.drain(..).for_each(|line| writeln!(lines, "{line}").unwrap());
        }
        server.write(&lines);
    }
    server.write(&late.join("\n"));
    server.stop();
    let span = ["--from", "2026-01-01", "--to", "2026-01-02"];
    for table in ["rollups", "correlations"] {
        let ran = replay(data, "default", &[&span, &["--diff", "--table", table]], 0);
        assert!(ran.stdout.is_empty(), "{}", ran.text());
        assert!(number(&sql(data, &format!("SELECT count(*) FROM {table}"))) > 0.0, "{table}");
    }
}

#[test]
fn a_new_pipeline_is_filled_from_history() {
    let folder = tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("minutes.toml"));
    let (data, file) = (data.as_path(), file.to_str().unwrap());
    std::fs::write(file, MINUTES).unwrap();
    import_recording(data);
    let counts = "SELECT every, count(*) AS windows, sum(count) AS samples FROM rollups GROUP BY 1 ORDER BY 1";
    let before = (files(data), sql(data, counts));

    let dry = replay(data, file, &[&RECORDED, &["--dry-run", "--format", "ndjson"]], 0);
    assert!(before == (files(data), sql(data, counts)), "a dry run changes nothing");
    let diff = replay(data, file, &[&RECORDED, &["--diff", "--format", "csv"]], 3);
    assert!(before == (files(data), sql(data, counts)), "nor does a comparison");
    let marks: Vec<String> = diff.text().lines().skip(1).map(|line| line[..2].to_owned()).collect();
    assert_eq!(marks, vec!["+,"; dry.text().lines().count()]);

    let real = replay(data, file, &[&RECORDED], 0);
    assert_eq!([hash(&dry), hash(&diff)], [hash(&real); 2]);
    assert!(replay(data, file, &[&RECORDED, &["--diff"]], 0).stdout.is_empty());
    let rows = sql(data, counts);
    let windows: Vec<u64> = rows.iter().map(|row| row["windows"].as_u64().unwrap()).collect();
    assert_eq!(windows[1], dry.text().lines().count() as u64, "{rows:?}");
    assert_eq!(rows[0]["samples"], rows[1]["samples"], "an hour has its minutes: {rows:?}");
    // What a pipeline of the settings made stays.
    replay(data, "default", &[&RECORDED, &["--diff"]], 0);

    // Samples that change: rows that are no more right are told, and replaced by those that are.
    let more = folder.path().join("more.lp");
    let line = |value: &str, at: u64| format!("stray v={value} {}\n", 1_795_256_400_000_000_000 + at * 1_000_000_000);
    std::fs::write(&more, line("1", 5) + &line("2", 65)).unwrap();
    plimsoll(data, &["import", more.to_str().unwrap()]).ending(0);
    let ran = replay(data, file, &[&RECORDED, &["--diff"]], 3);
    assert!(ran.stderr.contains("rollups: 2 found only, 0 stored only, 0 with other values"), "{}", ran.stderr);
    replay(data, file, &[&RECORDED], 0);
    std::fs::write(&more, line("3", 6)).unwrap();
    plimsoll(data, &["import", more.to_str().unwrap()]).ending(0);
    let ran = replay(data, file, &[&RECORDED, &["--diff", "--format", "csv"]], 3);
    assert!(ran.stderr.contains("rollups: 0 found only, 0 stored only, 1 with other values"), "{}", ran.stderr);
    assert_eq!(ran.text().lines().skip(1).filter(|line| line.starts_with("~,stray_v")).count(), 2, "{}", ran.text());
}

#[test]
fn what_cannot_be_replayed_is_told() {
    let folder = tempdir().unwrap();
    let data = folder.path();
    let ran = replay(data, "default", &[&RECORDED], 2);
    assert!(ran.stderr.contains("there is no store"), "{}", ran.stderr);
    import_recording(data);
    let cases: [(&[&str], &str); 5] = [
        (&["gone"], "there is no pipeline `gone`: name a file, or one that the settings load: default"),
        (&["default", "--url", "http://127.0.0.1:1"], "replay needs the data directory"),
        (&["default", "--table", "staleness"], "pipelines make no such table: write rollups"),
        (&["default", "--shards", "0"], "0 is not in 1..=64"),
        (&["default", "--warm-up", "long"], "write a length of time"),
    ];
    for (args, told) in cases {
        let ran = plimsoll(data, &[&["replay"], args, &RECORDED].concat()).ending(2);
        assert!(ran.stderr.contains(told), "{args:?}: {}", ran.stderr);
    }
    let ran = plimsoll(data, &["replay", "default", "--from", "2026-01-02", "--to", "2026-01-01"]).ending(2);
    assert!(ran.stderr.contains("is not before"), "{}", ran.stderr);
}

#[test]
fn pipelines_are_held_to_their_tests() {
    let folder = tempdir().unwrap();
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files: Vec<String> = Vec::new();
    for file in std::fs::read_dir(pipelines).unwrap() {
        files.push(file.unwrap().path().display().to_string());
    }
    let args: Vec<&str> = ["check", "--tests"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let ran = plimsoll(folder.path(), &args).ending(0);
    for file in &files {
        assert!(ran.text().lines().any(|line| line.starts_with(file) && line.ends_with(": ok")), "{file} has no test");
    }
    // Those that come with the program are the same.
    let own = plimsoll(folder.path(), &["check", "--tests"]).ending(0);
    assert_eq!(own.text().lines().count(), ran.text().lines().count());

    let file = folder.path().join("p.toml");
    let test = "[[tests]]\nname = \"two minutes\"\nevery = \"30s\"\ninputs = [{ series = \"up\", values = \"1x3\" }]\n\
                [[tests.expect]]\ntable = \"rollups\"\nrows = [{ time = \"+0s\", count = 2 }, { time = \"+1m\", count = 3 }]\n";
    std::fs::write(&file, format!("{MINUTES}{test}")).unwrap();
    let ran = plimsoll(folder.path(), &["check", "--tests", "--seed", "7", file.to_str().unwrap()]).ending(1);
    let told: Vec<&str> =
        ran.stdout.split(|&byte| byte == b'\n').map(|line| std::str::from_utf8(line).unwrap()).collect();
    assert!(told[0].ends_with("p.toml: two minutes: FAILED"), "{told:#?}");
    let wanted = [
        "    in one go:",
        "    rollups: 2 rows, expected 2",
        "    - { count = 3, time = \"+1m\" }",
        "    + { count = 2, time = \"2026-01-01T00:01:00Z\" }",
    ];
    assert_eq!(told[1..5], wanted);
    assert!(ran.stderr.contains("1 tests, 1 failed: --seed 7 repeats them"), "{}", ran.stderr);
    std::fs::write(&file, format!("{MINUTES}{}", test.replace("rollups", "rolups"))).unwrap();
    let ran = plimsoll(folder.path(), &["check", file.to_str().unwrap()]).ending(2);
    assert!(ran.stderr.contains("p.toml:10: test `two minutes`: pipelines make no table `rolups`"), "{}", ran.stderr);
}
