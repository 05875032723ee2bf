//! The pipelines under fire: whatever happens on the way, the rows at the end are the same; and what DuckDB makes of the same
//! samples.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::tempdir;

use super::support::{Chance, Server, plimsoll, program, run, shared_data, thorough};

/// 2026-01-01, in seconds.
const START: i64 = 1_767_225_600;
const TABLES: [&str; 6] = ["rollups", "sliding", "sessions", "anomalies", "correlations", "compressed"];

fn pipelines() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    files.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/watch.toml"));
    files
}

/// A sample as it is sent: when, and the line.
struct Line {
    second: i64,
    text: String,
}

/// Three hours of a few series that move together, jump, stand still, count and fall silent.
fn load() -> Vec<Line> {
    let mut chance = Chance::of_seed(7);
    let (mut lines, mut level) = (Vec::new(), 50.0);
    for step in 0..1080_i64 {
        let second = START + step * 10;
        level += chance.below(1000) as f64 / 500.0 - 1.0;
        let mut add = |text: String| lines.push(Line { second, text: format!("{text} {second}000000000\n") });
        for host in ["a", "b", "c"] {
            let spike = if host == "b" && (500..506).contains(&step) { 400.0 } else { 0.0 };
            add(format!("cpu,host={host} user={}", level + spike + chance.below(100) as f64 / 1000.0));
        }
        add(format!("http,host=a requests_total={}i", step * 7 + step % 13));
        // Comes for ten minutes of every half hour.
        if step % 180 < 60 {
            add(format!("batch,host=b rows={}i", chance.below(50)));
        }
    }
    lines
}

/// Settings of a node that runs one pipeline on so many threads and flushes often.
fn settings(folder: &Path, pipeline: &Path, shards: u64) -> PathBuf {
    let text = std::fs::read_to_string(pipeline).unwrap();
    let has_shards = text.lines().any(|line| line.starts_with("shards"));
    let lines =
        text.lines().map(|line| if line.starts_with("shards") { format!("shards = {shards}") } else { line.into() });
    let mut text: String = lines.map(|line| line + "\n").collect();
    if !has_shards {
        text = format!("shards = {shards}\n{text}");
    }
    let (file, of_node) = (folder.join("pipeline.toml"), folder.join("settings.toml"));
    std::fs::write(&file, text).unwrap();
    std::fs::write(&of_node, format!("[pipelines]\nfiles = [{:?}]\n", file.to_str().unwrap())).unwrap();
    of_node
}

fn serve(data: &Path, settings: &Path) -> Server {
    let mut command = program(data);
    command.env("PLIMSOLL__STORE__HEAD_AGE", "200ms").arg("--config").arg(settings);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    Server::of(command)
}

fn send(server: &Server, lines: &[&Line]) {
    let body: String = lines.iter().map(|line| line.text.as_str()).collect();
    server.post("/write", &[("X-Plimsoll-Source", "fleet")], body.as_bytes()).ending(204);
}

/// A row a line of every table, and samples that stages made, with series by name.
fn rows(data: &Path, settings: &Path) -> String {
    let mut text = String::new();
    let made = "SELECT 'made' AS what, * FROM metrics WHERE metric LIKE '%:%'".to_owned();
    // What the print of a pipeline is changes with what can be written in one.
    let columns = |table: &str| if table == "anomalies" { "* EXCLUDE (pipeline)" } else { "*" };
    let statements = TABLES.iter().map(|table| format!("SELECT '{table}' AS what, {} FROM {table}", columns(table)));
    for statement in statements.chain([made]) {
        let mut command = program(data);
        command.arg("--config").arg(settings).args(["--format", "csv", "sql", &statement]);
        let told = run(command, b"").ending(0).text();
        let mut lines: Vec<&str> = told.lines().skip(1).collect();
        lines.sort_unstable();
        lines.iter().for_each(|line| text += &format!("{line}\n"));
    }
    text
}

/// In order, in one go, on one thread.
fn whole(pipeline: &Path, lines: &[Line]) -> String {
    let folder = tempdir().unwrap();
    let (data, settings) = (folder.path().join("data"), settings(folder.path(), pipeline, 1));
    let server = serve(&data, &settings);
    for some in lines.chunks(2000) {
        send(&server, &some.iter().collect::<Vec<_>>());
    }
    server.stop();
    rows(&data, &settings)
}

/// Shuffled within the lateness, in other batches, some sent twice, killed and stopped and gone on with other threads.
fn interrupted(pipeline: &Path, lines: &[Line], chance: &mut Chance) -> String {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let mut shuffled: Vec<(i64, &Line)> =
        lines.iter().map(|line| (line.second * 10 + chance.below(95) as i64, line)).collect();
    shuffled.sort_by_key(|(place, _)| *place);
    let mut rest: Vec<&Line> = shuffled.into_iter().map(|(_, line)| line).collect();
    let mut written = settings(folder.path(), pipeline, 1 + chance.below(3));
    let mut server = serve(&data, &written);
    while !rest.is_empty() {
        let some: Vec<&Line> = rest.drain(..(1 + chance.below(600) as usize).min(rest.len())).collect();
        send(&server, &some);
        if chance.below(4) == 0 {
            send(&server, &some);
        }
        match chance.below(6) {
            0 => server.kill(),
            1 => drop(server.stop()),
            _ => continue,
        }
        written = settings(folder.path(), pipeline, 1 + chance.below(3));
        server = serve(&data, &written);
    }
    server.stop();
    rows(&data, &written)
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How many rows of each table, and the digest of all.
fn golden(name: &str, rows: &str) -> String {
    let count = |table: &&str| rows.lines().filter(|line| line.starts_with(&format!("{table},"))).count();
    let counts: Vec<String> = TABLES.iter().chain(&["made"]).map(|table| format!("{table}={}", count(table))).collect();
    format!("{name} {} {}\n", counts.join(" "), digest(rows))
}

/// Names the first lines that only one of them has.
#[track_caller]
fn assert_same(whole: &str, interrupted: &str, what: &str) {
    let only = |a: &str, b: &str| {
        let b: std::collections::HashSet<&str> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    let (lost, more) = (only(whole, interrupted), only(interrupted, whole));
    assert!(whole == interrupted, "{what}: lost {lost:#?}, instead {more:#?}");
}

#[test]
fn a_run_that_is_interrupted_gives_the_rows_of_a_whole_one() {
    let lines = load();
    let mut chance = Chance::new("interrupted pipelines");
    let mut found = String::new();
    for pipeline in pipelines() {
        let name = pipeline.file_stem().unwrap().to_string_lossy().into_owned();
        let of_whole = whole(&pipeline, &lines);
        for run in 0..if thorough() { 10 } else { 2 } {
            let of_interrupted = interrupted(&pipeline, &lines, &mut chance);
            assert_same(&of_whole, &of_interrupted, &format!("{name}, run {run}"));
        }
        found += &golden(&name, &of_whole);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipelines.golden");
    if std::env::var_os("PLIMSOLL_GOLDEN").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(file).unwrap(), "PLIMSOLL_GOLDEN=1 writes it anew");
}

/// Whether python3 can compare; in CI it must.
fn duckdb() -> bool {
    let is_there = Command::new("python3").args(["-c", "import duckdb"]).output().is_ok_and(|ran| ran.status.success());
    assert!(is_there || std::env::var_os("CI").is_none(), "python3 has no module duckdb: .ci/install brings it");
    if !is_there {
        eprintln!("skipped: python3 has no module duckdb (.ci/install brings it)");
    }
    is_there
}

/// Holds the rollups of a store against what DuckDB makes of samples in a CSV file: metric, labels as text, time in ns, value.
fn assert_rollups(data: &Path, settings: &Path, samples: &Path, more_than: u64) {
    let rollups = data.parent().unwrap().join("rollups.csv");
    let mut command = program(data);
    command.arg("--config").arg(settings).args(["--format", "csv", "sql"]);
    command.arg(
        "SELECT series, every, CAST(time AS BIGINT) AS time, count, sum, min, max, first, last, p50, p95, p99 FROM rollups",
    );
    let ran = run(command, b"").ending(0);
    std::fs::write(&rollups, &ran.stdout).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rollups_duckdb.py");
    let mut command = Command::new("python3");
    command.args([script.as_path(), samples, &rollups]);
    let told = run(command, b"").ending(0).text();
    let compared: u64 = told.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(compared > more_than, "{told}");
}

#[test]
fn rollups_of_a_devops_load_with_late_samples_are_those_of_duckdb() {
    if !duckdb() {
        return;
    }
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let mut chance = Chance::new("late devops load");
    // Two days of hosts, a row a minute; one sample of a hundred comes up to a day late.
    let (mut sent, mut samples) = (Vec::new(), String::from("series,time,value\n"));
    let mut levels: Vec<f64> = (0..40).map(|_| chance.below(100) as f64).collect();
    for step in 0..2880_i64 {
        for (series, level) in levels.iter_mut().enumerate() {
            *level = (*level + chance.below(200) as f64 / 50.0 - 2.0).clamp(0.0, 100.0);
            let (host, field) = (series / 4, ["user", "system", "idle", "wait"][series % 4]);
            let late = if chance.below(100) == 0 { chance.below(86_400) as i64 } else { 0 };
            let nanos = (START + step * 60) * 1_000_000_000;
            let value = (*level * 100.0).round() / 100.0;
            sent.push((START + step * 60 + late, format!("cpu,hostname=host_{host} usage_{field}={value} {nanos}\n")));
            let _ = writeln!(samples, "\"cpu_usage_{field}{{hostname=\"\"host_{host}\"\"}}\",{nanos},{value}");
        }
    }
    sent.sort_by_key(|(arrives, _)| *arrives);
    let tiers = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/tiers.toml");
    let settings = settings(folder.path(), &tiers, 2);
    let server = serve(&data, &settings);
    for some in sent.chunks(4000) {
        let body: String = some.iter().map(|(_, line)| line.as_str()).collect();
        server.write(&body);
    }
    server.stop();
    let file = folder.path().join("samples.csv");
    std::fs::write(&file, samples).unwrap();
    assert_rollups(&data, &settings, &file, 200_000);
}

#[test]
fn rollups_of_real_data_are_those_of_duckdb() {
    let Some(shared) = shared_data().filter(|_| duckdb()) else { return };
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let tiers = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/tiers.toml");
    let settings = settings(folder.path(), &tiers, 1);
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in std::fs::read_dir(shared.join("nab/data")).unwrap() {
        files.extend(std::fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    let mut command = program(&data);
    command.arg("--config").arg(&settings).arg("import").args(files);
    run(command, b"").ending(0);
    let mut command = program(&data);
    command.arg("--config").arg(&settings).args(["--format", "csv", "sql"]);
    command.arg("SELECT metric AS series, CAST(time AS BIGINT) AS time, value FROM metrics");
    let samples = folder.path().join("samples.csv");
    std::fs::write(&samples, run(command, b"").ending(0).stdout).unwrap();
    assert_rollups(&data, &settings, &samples, 100_000);
}

#[test]
fn pipelines_are_read_again_and_what_did_not_change_goes_on() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let (file, settings) = (folder.path().join("p.toml"), folder.path().join("settings.toml"));
    let pipeline = |more: &str| {
        let text = "name = \"p\"\n[[stages]]\nname = \"minutes\"\napply.window = { every = \"1m\" }\n";
        std::fs::write(&file, format!("{text}{more}")).unwrap();
    };
    pipeline("");
    std::fs::write(&settings, format!("[pipelines]\nfiles = [{:?}]\n", file.to_str().unwrap())).unwrap();
    let server = serve(&data, &settings);
    let at = |second: i64| format!("m,h=a v={second} {}\n", (START + second) * 1_000_000_000);
    (0..30).for_each(|n| server.write(&at(n)));
    let reload = || server.post("/api/v1/pipelines/reload", &[("content-type", "application/json")], b"{}");
    let told = reload().ending(200).json();
    assert_eq!(told["kept"][0], "p", "{told}");
    pipeline("[[stages]]\nname = \"hours\"\napply.window = { every = \"1h\" }\n");
    let told = reload().ending(200).json();
    assert_eq!(told["changed"][0], "p", "{told}");
    pipeline("[[stages]]\nname = \"broken\"\napply.window = { evry = \"1h\" }\n");
    let told = reload().ending(400).text();
    assert!(told.contains("p.toml:7: unknown field `evry`"), "{told}");
    pipeline("[[stages]]\nname = \"hours\"\napply.window = { every = \"1h\" }\n");
    (30..300).for_each(|n| server.write(&at(n)));
    let drawn = plimsoll(&data, &["--url", &server.url, "pipelines"]).ending(0).text();
    assert!(drawn.contains("└─ live") && drawn.contains("├─ minutes") && drawn.contains("└─ hours"), "{drawn}");
    server.stop();
    let rows = rows(&data, &settings);
    // The first minute has the samples of before and after.
    let first =
        rows.lines().find(|line| line.starts_with("rollups,") && line.contains(",1m,2026-01-01T00:00:00")).unwrap();
    assert!(first.contains(",60,"), "{first}");
}
