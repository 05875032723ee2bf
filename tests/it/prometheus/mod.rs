//! Against Prometheus itself: it and we scrape the same targets, and must say the same of them.
//!
//! What PromQL makes of samples is compared on the very samples that Prometheus holds, brought to us as text, and must
//! agree to nine digits. What each scraped for itself was sampled at other moments: that agrees within what the targets
//! can do between two scrapes. Which series are there is compared where both have scraped since the last change.

mod program;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Client, Server, plimsoll, program as plimsoll_program, until};
use program::{Labels, NodeExporter, Prometheus, Sample};
use target::Target;

/// How long both scrape.
const RUN: Duration = Duration::from_secs(50);
/// After how much of it one of two targets goes away.
const DEATH: Duration = Duration::from_secs(25);
const METRICS: [&str; 7] = [
    "requests_total",
    "restarting_total",
    "slow_total",
    "late_total",
    "temperature_celsius",
    "latency_seconds_bucket",
    "latency_seconds_sum",
];
/// Lengths of windows, in milliseconds.
const WINDOWS: [i64; 4] = [30_000, 10_000, 5_000, 3_000];
/// Places of ends of windows between samples, in milliseconds after one.
const OFFSETS: [i64; 4] = [0, 1, 370, 920];

#[test]
fn prometheus_and_we_say_the_same() {
    let folder = tempdir().unwrap();
    let stays = Target::start();
    let goes = Target::start();
    let places = [stays.place(), goes.place()];
    let Some(prometheus) = Prometheus::start(folder.path(), &places) else { return };
    let server = scraping(folder.path(), &places);
    until("our first scrapes", || {
        let rows = server.sql("SELECT passes FROM system.collectors");
        rows.len() == 2 && rows.iter().all(|row| row["passes"].as_u64() > Some(0))
    });
    let since = Instant::now();
    std::thread::sleep(DEATH);
    let gone = goes.stop();
    std::thread::sleep(RUN.saturating_sub(since.elapsed()));

    let raw = prometheus.samples("{job=\"t\"}[2m]");
    let brought = bring(folder.path(), &raw);
    same_growth(&prometheus, &brought, &raw);
    same_values(&prometheus, &brought, &raw);
    let passes = [passes_of(&raw), our_passes(&server)];
    near_growth(&prometheus, &server, &places[0], &raw, &passes);
    same_series(&prometheus, &server, &raw, &passes, |at| {
        stays.changed_before(at).max(if at >= gone { gone } else { 0 })
    });
    told_of_targets(&server, &places);
}

/// Our server, that scrapes the same.
fn scraping(folder: &std::path::Path, places: &[String]) -> Server {
    let config = folder.join("plimsoll.toml");
    let text = format!(
        "[pipelines]\noff = true\n\n[[sources]]\nid = \"t\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nfrom.prometheus = {{ targets = {places:?} }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = plimsoll_program(&folder.join("scraped"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config);
    Server::of(command)
}

type Raw = BTreeMap<Labels, Vec<Sample>>;

/// A server over the samples that Prometheus holds.
fn bring(folder: &std::path::Path, raw: &Raw) -> Server {
    let mut text = String::new();
    for (labels, samples) in raw {
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value:?}")).collect();
        for sample in samples {
            text += &format!("{}{{{}}} {} {}\n", labels["__name__"], pairs.join(","), sample.text, sample.millis);
        }
    }
    let (file, data) = (folder.join("raw.prom"), folder.join("brought"));
    std::fs::write(&file, text).unwrap();
    plimsoll(&data, &["import", file.to_str().unwrap()]).ending(0);
    Server::start(&data)
}

/// Names of the labels of a metric's series.
fn label_names(raw: &Raw, metric: &str) -> Vec<String> {
    let of_metric = raw.keys().filter(|labels| labels["__name__"] == metric);
    let names: BTreeSet<String> =
        of_metric.flat_map(BTreeMap::keys).filter(|name| *name != "__name__").cloned().collect();
    assert!(!names.is_empty(), "Prometheus has no {metric}");
    names.into_iter().collect()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// The labels of a row.
fn labels_of(row: &Value, names: &[String]) -> Labels {
    let label = |name: &String| Some((name.clone(), row.get(name)?.as_str()?.to_owned()));
    names.iter().filter_map(label).collect()
}

/// Milliseconds as SQL writes a time.
fn time(millis: i64) -> String {
    format!("to_timestamp_millis({millis})")
}

/// Ends of windows: at samples and between them, from the first sample to after the last.
fn ends(raw: &Raw, metric: &str) -> Vec<i64> {
    let times: BTreeSet<i64> = raw
        .iter()
        .filter(|(labels, _)| labels["__name__"] == metric)
        .flat_map(|(_, samples)| samples.iter().map(|sample| sample.millis))
        .collect();
    let some = times.iter().step_by(7).chain(times.last());
    some.zip(OFFSETS.into_iter().cycle()).map(|(millis, offset)| millis + offset).collect()
}

/// (end, length, function, labels) → value.
type Growths = BTreeMap<(i64, i64, &'static str, Labels), f64>;

/// What we say of a metric over all windows, one statement for all.
fn our_growth(client: &Client, metric: &str, names: &[String], ends: &[i64]) -> Growths {
    let windows = ends.iter().flat_map(|end| WINDOWS.map(|length| (*end, length)));
    let windows: Vec<String> =
        windows.map(|(end, length)| format!("({}, {}, {end}, {length})", time(end - length), time(end))).collect();
    let labels = quoted(names);
    // Both bounds are in the window, as they are in Prometheus before 3.0.
    let rows = client.sql(&format!(
        "SELECT w.at, w.length, {labels}, rate(time, value, w.start, w.stop) AS rate, \
         increase(time, value, w.start, w.stop) AS increase, delta(time, value, w.start, w.stop) AS delta \
         FROM \"{metric}\" AS m JOIN (VALUES {}) AS w (start, stop, at, length) \
         ON m.time >= w.start AND m.time <= w.stop GROUP BY w.start, w.stop, w.at, w.length, {labels}",
        windows.join(", ")
    ));
    let mut growths = Growths::new();
    for row in &rows {
        let (end, length) = (row["at"].as_i64().unwrap(), row["length"].as_i64().unwrap());
        for function in ["rate", "increase", "delta"] {
            if let Some(value) = row.get(function).and_then(Value::as_f64) {
                growths.insert((end, length, function, labels_of(row, names)), value);
            }
        }
    }
    growths
}

fn their_growth(prometheus: &Prometheus, metric: &str, ends: &[i64]) -> Growths {
    let mut growths = Growths::new();
    for &end in ends {
        for length in WINDOWS {
            for function in ["rate", "increase", "delta"] {
                let found = prometheus.instant(&format!("{function}({metric}{{job=\"t\"}}[{length}ms])"), end);
                growths.extend(found.into_iter().map(|(labels, value)| ((end, length, function, labels), value)));
            }
        }
    }
    growths
}

/// On the same samples, whatever the window.
fn same_growth(prometheus: &Prometheus, brought: &Client, raw: &Raw) {
    let (mut compared, mut worst) = (0, 0.0_f64);
    for metric in METRICS {
        let names = label_names(raw, metric);
        let ends = ends(raw, metric);
        let ours = our_growth(brought, metric, &names, &ends);
        let theirs = their_growth(prometheus, metric, &ends);
        let keys = |growths: &Growths| growths.keys().cloned().collect::<BTreeSet<_>>();
        let differ: Vec<_> = keys(&ours).symmetric_difference(&keys(&theirs)).cloned().collect();
        assert!(differ.is_empty(), "{metric} is told by one alone: {differ:?}");
        for (key, theirs) in &theirs {
            let away = (ours[key] - theirs).abs() / theirs.abs().max(1e-9);
            assert!(away <= 1e-9, "{metric} {key:?}: {} and Prometheus {theirs}", ours[key]);
            worst = worst.max(away);
            compared += 1;
        }
    }
    eprintln!("growth: {compared} values of {} metrics agree, at most {worst:e} apart", METRICS.len());
    assert!(compared > 1500, "{compared}");
}

/// An instant vector of the same samples has the same values, where Prometheus still has the series.
fn same_values(prometheus: &Prometheus, brought: &Client, raw: &Raw) {
    let mut compared = 0;
    for metric in METRICS {
        let names = label_names(raw, metric);
        for at in ends(raw, metric) {
            let rows = brought.sql(&format!("SELECT * FROM instant('{metric}', {})", time(at)));
            let ours: BTreeMap<Labels, f64> =
                rows.iter().map(|row| (labels_of(row, &names), row["value"].as_f64().unwrap())).collect();
            for (labels, value) in prometheus.instant(&format!("{metric}{{job=\"t\"}}"), at) {
                let ours = ours.get(&without_name(&labels)).copied();
                // Reading JSON may cost the last bit.
                let is_same = ours.is_some_and(|ours| (ours - value).abs() <= 1e-15 * value.abs());
                assert!(is_same, "{metric} {labels:?} at {at}: {ours:?} and Prometheus {value}");
                compared += 1;
            }
        }
    }
    eprintln!("instant vectors: {compared} values are the same");
    assert!(compared > 100, "{compared}");
}

fn without_name(labels: &Labels) -> Labels {
    labels.iter().filter(|(name, _)| *name != "__name__").map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// When a scraper asked each target, in milliseconds, and whether it answered.
type Passes = BTreeMap<String, BTreeMap<i64, bool>>;

fn passes_of(raw: &Raw) -> Passes {
    let ups = raw.iter().filter(|(labels, _)| labels["__name__"] == "up");
    let passes = |samples: &Vec<Sample>| samples.iter().map(|sample| (sample.millis, sample.text == "1")).collect();
    ups.map(|(labels, samples)| (labels["instance"].clone(), passes(samples))).collect()
}

fn our_passes(server: &Client) -> Passes {
    let mut passes = Passes::new();
    for row in server.sql("SELECT instance, CAST(time AS BIGINT) / 1000000 AS millis, value FROM up WHERE job = 't'") {
        let of_target = passes.entry(row["instance"].as_str().unwrap().to_owned()).or_default();
        of_target.insert(row["millis"].as_i64().unwrap(), row["value"] == 1.0);
    }
    passes
}

/// The longest time between two answers of a target, in seconds.
fn longest_gap(passes: &Passes, place: &str) -> f64 {
    let answers: Vec<i64> = passes[place].iter().filter(|(_, is_up)| **is_up).map(|(millis, _)| *millis).collect();
    let longest = answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    longest as f64 / 1000.0
}

/// Whether both asked all targets between `since` and `at`, and heard alike.
fn have_seen(passes: &[Passes; 2], since: i64, at: i64) -> bool {
    let last = |passes: &Passes, place: &String| {
        let (millis, is_up) = passes.get(place)?.range(..=at).next_back()?;
        (*millis >= since).then_some(*is_up)
    };
    passes[0].keys().all(|place| {
        let (theirs, ours) = (last(&passes[0], place), last(&passes[1], place));
        theirs.is_some() && theirs == ours
    })
}

/// What both scraped for themselves, of the target that stayed. The bounds follow from how the target counts: a step of
/// the counter may fall between the two scrapes at either end, and at each restart what comes between two is lost.
fn near_growth(prometheus: &Prometheus, server: &Client, place: &str, raw: &Raw, passes: &[Passes; 2]) {
    let gap = passes.iter().map(|passes| longest_gap(passes, place)).fold(1.0, f64::max);
    // Growth a second, smallest step, restarts in 30 s.
    let table = [("requests_total", 7.3, 1.0, 0.0), ("restarting_total", 5.0, 5.0, 4.0), ("slow_total", 0.2, 1.0, 0.0)];
    for (metric, slope, step, restarts) in table {
        let names = label_names(raw, metric);
        let last = *ends(raw, metric).iter().max().unwrap() - 2000;
        for end in [last - 10_000, last - 5_000, last] {
            let (start, stop) = (time(end - 30_000), time(end));
            let rows = server.sql(&format!(
                "SELECT {}, rate(time, value, {start}, {stop}) AS rate FROM \"{metric}\" \
                 WHERE time >= {start} AND time <= {stop} AND instance = '{place}' GROUP BY {}",
                quoted(&names),
                quoted(&names)
            ));
            let theirs = prometheus.instant(&format!("rate({metric}{{instance=\"{place}\"}}[30s])"), end);
            assert_eq!(rows.len(), theirs.len(), "{metric}");
            for row in &rows {
                let (labels, ours) = (labels_of(row, &names), row["rate"].as_f64().unwrap());
                let bound = (2.0 * step + 2.0 * slope * gap * (restarts + 1.0)) / 30.0;
                let theirs = theirs[&labels];
                assert!(
                    (ours - theirs).abs() <= bound,
                    "{metric} {labels:?}: {ours} and Prometheus {theirs} ± {bound}"
                );
            }
        }
    }
}

/// Which series are there at moments when both had seen what changed last.
fn same_series(
    prometheus: &Prometheus,
    server: &Client,
    raw: &Raw,
    passes: &[Passes; 2],
    changed_before: impl Fn(i64) -> i64,
) {
    let times: BTreeSet<i64> = passes.iter().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).copied().collect();
    let (first, last) = (*times.first().unwrap(), *times.last().unwrap() - 2000);
    let is_seen = |at: &i64| have_seen(passes, changed_before(*at), *at);
    let moments: Vec<i64> = (first..last).step_by(500).filter(is_seen).collect();
    assert!(moments.len() > 20, "{moments:?}");
    let metrics: BTreeSet<&String> = raw.keys().map(|labels| &labels["__name__"]).collect();
    let (mut ours, mut compared) = (BTreeMap::new(), 0);
    for metric in &metrics {
        let names = label_names(raw, metric);
        let of = |at: &i64| {
            format!(
                "SELECT {at} AS at, {}, value FROM instant('{metric}', {}) WHERE job = 't'",
                quoted(&names),
                time(*at)
            )
        };
        for row in server.sql(&moments.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ")) {
            let mut labels = labels_of(&row, &names);
            labels.insert("__name__".into(), (*metric).clone());
            ours.entry(row["at"].as_i64().unwrap())
                .or_insert_with(BTreeMap::new)
                .insert(labels, row["value"].as_f64().unwrap());
        }
    }
    // A number of these is the same whoever asks.
    let steady = ["up", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling"];
    for at in &moments {
        let theirs = prometheus.instant("{job=\"t\"}", *at);
        let ours = &ours[at];
        let keys = |all: &BTreeMap<Labels, f64>| all.keys().cloned().collect::<BTreeSet<_>>();
        let differ: Vec<_> = keys(ours).symmetric_difference(&keys(&theirs)).cloned().collect();
        assert!(differ.is_empty(), "{} ms after the first scrape one alone has {differ:?}", at - first);
        for (labels, value) in theirs.iter().filter(|(labels, _)| steady.contains(&&*labels["__name__"])) {
            assert_eq!(ours[labels], *value, "{labels:?} at {at}");
        }
        compared += theirs.len();
    }
    let sizes: BTreeSet<usize> = ours.values().map(BTreeMap::len).collect();
    eprintln!("series: {compared} at {} moments are there for both; {sizes:?} at once", moments.len());
    assert!(sizes.len() >= 3, "series came and went: {sizes:?}");
}

/// What we say of the targets ourselves.
fn told_of_targets(server: &Client, places: &[String]) {
    let health = |at: usize| {
        let rows = server.sql(&format!("SELECT health FROM system.collectors WHERE id = 't/{}'", places[at]));
        rows[0]["health"].as_str().unwrap().to_owned()
    };
    until("one target is well and the other not", || (&*health(0), &*health(1)) == ("healthy", "failing"));
    let kinds = server.sql("SELECT metric, kind, help FROM system.metrics WHERE metric IN ('requests_total', 'latency_seconds_bucket', 'temperature_celsius') ORDER BY metric");
    let kinds: Vec<&str> = kinds.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["counter", "counter", "gauge"]);
    // It is asked at its pace although it fails.
    let rows = server.sql(&format!("SELECT count(*) FROM up WHERE instance = '{}' AND value = 0", places[1]));
    assert!(crate::support::number(&rows) >= 10.0, "{rows:?}");
}

/// One that says no more than it must: it goes away, and comes back.
#[test]
fn a_target_that_comes_back_is_seen_at_once() {
    let folder = tempdir().unwrap();
    let target = Target::start();
    let places = [target.place()];
    let server = scraping(folder.path(), &places);
    let instant = |metric: &str| server.sql(&format!("SELECT value FROM instant('{metric}', now())"));
    let is_known = |metric: &str| {
        let rows = server.sql(&format!("SELECT metric FROM system.metrics WHERE metric = '{metric}'"));
        !rows.is_empty()
    };
    until("the first scrape", || is_known("requests_total") && !instant("requests_total").is_empty());
    target.stop();
    until("the end of its series", || instant("requests_total").is_empty());
    assert_eq!(crate::support::number(&instant("up")), 0.0);
    let again = Target::at(&places[0]);
    let started = Instant::now();
    until("its series again", || !instant("requests_total").is_empty());
    assert_eq!(crate::support::number(&instant("up")), 1.0);
    eprintln!("seen again after {:?}", started.elapsed());
    again.stop();
}

/// The exporter that most machines have: all of its series are there, each with its name and labels.
#[test]
fn a_node_exporter_is_taken_whole() {
    let folder = tempdir().unwrap();
    let Some(exporter) = NodeExporter::start() else { return };
    let server = scraping(folder.path(), std::slice::from_ref(&exporter.place));
    until("the first scrape", || {
        !server.sql("SELECT 1 FROM system.metrics WHERE metric = 'node_uname_info'").is_empty()
    });
    let text = exporter.text();
    // What it tells from one second to the next may differ in its own Go runtime and in processes.
    let is_steady = |line: &&str| line.starts_with("node_cpu_seconds_total") || line.starts_with("node_memory_Mem");
    let names = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
    let told: BTreeSet<String> = text.lines().filter(is_steady).map(names).collect();
    let rows = server.sql(
        "SELECT series, kind FROM system.series WHERE metric = 'node_cpu_seconds_total' OR metric LIKE 'node_memory_Mem%'",
    );
    let ours = rows.iter().map(|row| {
        let series = row["series"].as_str().unwrap();
        let series = series.replace(&format!("instance=\"{}\",job=\"t\"", exporter.place), "");
        series.replace(",,", ",").replace("{,", "{").replace(",}", "}").replace("{}", "")
    });
    assert_eq!(ours.collect::<BTreeSet<_>>(), told);
    assert!(rows.iter().any(|row| row["kind"] == "counter") && rows.iter().any(|row| row["kind"] == "gauge"));
    let scraped = server.sql("SELECT value FROM instant('scrape_samples_scraped', now())");
    let lines = text.lines().filter(|line| !line.starts_with('#')).count() as f64;
    assert!((crate::support::number(&scraped) - lines).abs() <= 0.05 * lines, "{scraped:?} of {lines}");
    let rows = server.sql("SELECT health, refused, last_error FROM system.collectors");
    assert_eq!((&rows[0]["health"], &rows[0]["refused"]), (&"healthy".into(), &0.into()), "{rows:?}");
}
