//! How fast bodies become batches, on one core: line protocol and Prometheus remote write, of series that are known, into
//! batches that nobody keeps.
//!
//! ```text
//! cargo bench --bench parsers [-- NAME]     only those whose name holds NAME
//! ```
//! Of each case the best of several runs by CPU time, so that what else the machine does matters little.

#![allow(clippy::disallowed_methods, reason = "a measurement asks the clock")]

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use plimsoll::flow::{Intake, Refusal};
use plimsoll::ingest::line_protocol::{LineCache, LineOptions, Precision, read_lines};
use plimsoll::ingest::{Gather, Known, RemoteWrite, TimeBounds};
use plimsoll::model::{Batch, Description, SeriesDef, SeriesId, Timestamp};

const HOSTS: u64 = 200;
const FIELDS: [&str; 10] =
    ["user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
const LINES_A_BODY: usize = 5000;
const SAMPLES_A_REQUEST: usize = 2000;
const BODIES: usize = 8;
/// 2026-01-01, in seconds.
const START: u64 = 1_767_225_600;
const RUNS: usize = 7;
const RUN: Duration = Duration::from_millis(300);

/// Numbers series and drops batches.
#[derive(Default)]
struct Nowhere(Mutex<HashMap<Vec<u8>, u32>>);

impl Intake for Nowhere {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        let mut numbers = self.0.lock().unwrap();
        let next = numbers.len() as u32;
        Ok(SeriesId(*numbers.entry(def.identity()).or_insert(next)))
    }

    fn describe(&self, _: &str, _: &Description) {}

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        std::hint::black_box(&batch);
        Ok(())
    }
}

/// The same numbers each time (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 1
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.next() as usize % texts.len()]
    }

    /// From 0 to 100, to so many decimals.
    fn value(&mut self, decimals: u32) -> f64 {
        let scale = 10_u64.pow(decimals);
        (self.next() % (100 * scale)) as f64 / scale as f64
    }
}

/// Labels of the hosts of the devops load, sorted by name.
fn hosts() -> Vec<Vec<(&'static str, String)>> {
    let mut chance = Chance(1);
    let one = |host| {
        let region = chance.of(&["ap-northeast-1", "eu-central-1", "eu-west-1", "us-east-1", "us-west-2"]);
        vec![
            ("arch", chance.of(&["x64", "x86"]).to_owned()),
            ("datacenter", format!("{region}{}", chance.of(&["a", "b", "c"]))),
            ("hostname", format!("host_{host}")),
            ("os", chance.of(&["Ubuntu15.10", "Ubuntu16.04LTS", "Ubuntu16.10"]).to_owned()),
            ("rack", (chance.next() % 100).to_string()),
            ("region", region.to_owned()),
            ("service", (chance.next() % 20).to_string()),
            ("service_environment", chance.of(&["production", "staging", "test"]).to_owned()),
            ("service_version", (chance.next() % 2).to_string()),
            ("team", chance.of(&["CHI", "LON", "NYC", "SF"]).to_owned()),
        ]
    };
    (0..HOSTS).map(one).collect()
}

/// Writes a value.
type Write = fn(&mut Chance) -> String;

/// Bodies of line protocol, `fields` of them on each line, and how many samples are in each.
fn lines(fields: usize, write: Write) -> (Vec<Vec<u8>>, usize) {
    let (hosts, mut chance) = (hosts(), Chance(2));
    let body = |body: usize| {
        let line = |at: usize| {
            let at = body * LINES_A_BODY + at;
            let tags: String = hosts[at % hosts.len()].iter().map(|(name, value)| format!(",{name}={value}")).collect();
            let first = at / hosts.len() % (FIELDS.len() / fields) * fields;
            let fields: Vec<String> = FIELDS[first..first + fields]
                .iter()
                .map(|field| format!("usage_{field}={}", write(&mut chance)))
                .collect();
            let seconds = START + (at / hosts.len()) as u64 * 10;
            format!("cpu{tags} {} {seconds}000000000\n", fields.join(","))
        };
        (0..LINES_A_BODY).map(line).collect::<String>().into_bytes()
    };
    ((0..BODIES).map(body).collect(), LINES_A_BODY * fields)
}

/// Appends a field of bytes.
fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn sample(value: f64, ms: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&value.to_le_bytes());
    out.push(2 << 3);
    put_number(&mut out, ms);
    out
}

/// Eight labels, as of a scraped series.
fn series(host: &[(&str, String)], field: &str) -> Vec<(String, String)> {
    let name = ("__name__".to_owned(), format!("cpu_usage_{field}"));
    let job = ("job".to_owned(), "node".to_owned());
    let mut labels: Vec<(String, String)> = host
        .iter()
        .filter(|(name, _)| !name.starts_with("service") && *name != "rack")
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .chain([name, job])
        .collect();
    labels.sort();
    labels
}

/// Requests of one version, plain, and the samples in each.
fn requests(version: RemoteWrite) -> (Vec<Vec<u8>>, usize) {
    let (hosts, mut chance) = (hosts(), Chance(3));
    let all: Vec<Vec<(String, String)>> =
        hosts.iter().flat_map(|host| FIELDS.map(|field| series(host, field))).collect();
    let mut request = |at: usize| {
        let ms = (START + at as u64 * 10) * 1000;
        let one = |labels: &Vec<(String, String)>| (labels.clone(), sample(chance.value(2), ms + chance.next() % 1000));
        let told: Vec<_> = all.iter().take(SAMPLES_A_REQUEST).map(one).collect();
        match version {
            RemoteWrite::V1 => v1(&told),
            RemoteWrite::V2 => v2(&told),
        }
    };
    ((0..BODIES).map(&mut request).collect(), SAMPLES_A_REQUEST)
}

type Told = (Vec<(String, String)>, Vec<u8>);

fn v1(told: &[Told]) -> Vec<u8> {
    let mut out = Vec::new();
    for (labels, sample) in told {
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            put(&mut label, 1, name.as_bytes());
            put(&mut label, 2, value.as_bytes());
            put(&mut series, 1, &label);
        }
        put(&mut series, 2, sample);
        put(&mut out, 1, &series);
    }
    out
}

fn v2(told: &[Told]) -> Vec<u8> {
    let (mut places, mut out, mut all) = (HashMap::from([(String::new(), 0)]), Vec::new(), Vec::new());
    put(&mut out, 4, b"");
    let mut place = |text: &String| {
        let next = places.len() as u64;
        *places.entry(text.clone()).or_insert_with(|| {
            put(&mut out, 4, text.as_bytes());
            next
        })
    };
    for (labels, sample) in told {
        let (mut series, mut refs, mut metadata) = (Vec::new(), Vec::new(), vec![1 << 3, 2, 3 << 3]);
        labels.iter().flat_map(|(name, value)| [name, value]).for_each(|text| put_number(&mut refs, place(text)));
        put_number(&mut metadata, place(&"How the processors were used.".to_owned()));
        put(&mut series, 1, &refs);
        put(&mut series, 2, sample);
        put(&mut series, 5, &metadata);
        put(&mut all, 5, &series);
    }
    out.extend(all);
    out
}

/// CPU time of this thread so far; wall time where the system does not tell.
fn cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    nanos.map_or_else(|| FIRST.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Runs over all bodies again and again; prints the best rate.
fn measure(name: &str, bodies: &[Vec<u8>], plain_bytes: usize, samples: usize, mut read: impl FnMut(&[u8])) {
    if std::env::args().skip(1).any(|only| !only.starts_with("--") && !name.contains(&only)) {
        return;
    }
    bodies.iter().for_each(|body| read(body));
    let run = || {
        let (start, mut rounds) = (cpu(), 0);
        while cpu() - start < RUN {
            bodies.iter().for_each(|body| read(body));
            rounds += 1;
        }
        (cpu() - start).as_secs_f64() / f64::from(rounds)
    };
    let best = std::iter::repeat_with(run).take(RUNS).fold(f64::INFINITY, f64::min);
    let (megabytes, samples) = (plain_bytes as f64 / best / 1e6, (samples * bodies.len()) as f64 / best / 1e6);
    println!("{name:40} {megabytes:8.0} MB/s {samples:8.2} M samples/s {:6.0} ns a sample", 1e3 / samples);
}

fn main() {
    let intake = Nowhere::default();
    let bounds = TimeBounds { earliest: Timestamp::from_nanos(0), latest: Timestamp::from_nanos(i64::MAX) };
    let now = Timestamp::from_nanos(START as i64 * 1_000_000_000);
    let cases: [(&str, usize, Write); 4] = [
        ("line protocol, 10 whole numbers a line", 10, |chance| format!("{}i", chance.next() % 100)),
        ("line protocol, 1 whole number a line", 1, |chance| format!("{}i", chance.next() % 100)),
        ("line protocol, 10 of 2 decimals a line", 10, |chance| chance.value(2).to_string()),
        ("line protocol, 10 of all digits a line", 10, |chance| (chance.value(15) + 0.1).to_string()),
    ];
    for (name, fields, write) in cases {
        let (bodies, samples) = lines(fields, write);
        let (cache, bytes) = (LineCache::with_labels(Vec::new(), 64 << 20), bodies.iter().map(Vec::len).sum());
        measure(name, &bodies, bytes, samples, |body| {
            let mut gather = Gather::new(&intake, bounds);
            let options = LineOptions { precision: Precision::Nanos, now };
            read_lines(body, 1, options, &cache, &mut gather).unwrap();
            gather.flush().unwrap();
            assert_eq!((gather.accepted(), gather.faults.count), (samples as u64, 0));
        });
    }
    for (name, version) in [("remote write 1.0", RemoteWrite::V1), ("remote write 2.0", RemoteWrite::V2)] {
        let (bodies, samples) = requests(version);
        let (known, bytes) = (Known::default(), bodies.iter().map(Vec::len).sum());
        let read = |body: &[u8]| {
            let mut gather = Gather::new(&intake, bounds);
            let written = version.read(body, now, &known, &mut gather).unwrap();
            gather.flush().unwrap();
            assert_eq!((written.samples, gather.faults.count), (samples as u64, 0));
        };
        measure(name, &bodies, bytes, samples, read);
        let packed: Vec<Vec<u8>> =
            bodies.iter().map(|body| snap::raw::Encoder::new().compress_vec(body).unwrap()).collect();
        measure(&format!("{name} and its snappy"), &packed, bytes, samples, |body| {
            read(&snap::raw::Decoder::new().decompress_vec(body).unwrap());
        });
    }
}
