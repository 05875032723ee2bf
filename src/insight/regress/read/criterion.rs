//! Criterion's folders: `target/criterion/GROUP/FUNCTION/PARAMETER/new/`, three files a benchmark. Times are in nanoseconds.
//!
//! ```text
//! benchmark.json  {"full_id": "db/scan/500", …}
//! sample.json     {"iters": [10, 20], "times": [1000, 2000], …}          a sample is times / iters
//! estimates.json  {"median": {"point_estimate": 100, "standard_error": 1}, "mean": {…}, …}
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Measured, numbers};
use crate::stats::compare::Stated;

const FILES: [&str; 3] = ["benchmark.json", "sample.json", "estimates.json"];

/// That a path below a folder of Criterion's is of the last run, and holds something of use.
pub fn is_criterion_file(path: &str) -> bool {
    let mut parts = path.rsplit(['/', '\\']);
    parts.next().is_some_and(|file| FILES.contains(&file)) && parts.next() == Some("new")
}

/// Benchmarks by folder, as far as they are read.
#[derive(Default)]
pub(super) struct Folders(BTreeMap<String, Benchmark>);

#[derive(Default)]
struct Benchmark {
    /// Of the last of its files.
    path: String,
    name: Option<String>,
    samples: Vec<f64>,
    stated: Option<Stated>,
}

impl Folders {
    /// Takes a file, if it is one of Criterion's.
    pub(super) fn take(&mut self, path: &str, object: &Map<String, Value>) -> Result<bool, String> {
        let folder = path.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder);
        let mut part = Benchmark::default();
        if let Some(Value::String(name)) = object.get("full_id") {
            part.name = Some(name.clone());
        } else if let (Some(Value::Array(iters)), Some(Value::Array(times))) =
            (object.get("iters"), object.get("times"))
        {
            part.samples = samples(&numbers("iters", iters)?, &numbers("times", times)?)?;
        } else if let Some(stated) = estimate(object) {
            part.stated = Some(stated);
        } else {
            return Ok(false);
        }
        let there = self.0.entry(folder.to_owned()).or_default();
        there.path = path.to_owned();
        there.name = part.name.or(there.name.take());
        there.stated = part.stated.or(there.stated);
        there.samples.extend(part.samples);
        Ok(true)
    }

    /// All benchmarks, or the path of one that has no times and what to do.
    pub(super) fn results(self) -> Result<Vec<(String, Measured)>, (String, String)> {
        let result = |(folder, found): (String, Benchmark)| {
            if found.samples.is_empty() && found.stated.is_none() {
                return Err((
                    found.path,
                    "no sample.json and no estimates.json beside it: give the whole folder".to_owned(),
                ));
            }
            let stated = if found.samples.is_empty() { found.stated } else { None };
            let measured = Measured { unit: "ns".to_owned(), samples: found.samples, stated, ..Measured::default() };
            Ok((found.name.unwrap_or_else(|| name_of(&folder)), measured))
        };
        self.0.into_iter().map(result).collect()
    }
}

/// From the folder alone.
fn name_of(folder: &str) -> String {
    let folder = folder.replace('\\', "/");
    let below = folder.rsplit_once("criterion/").map_or(folder.as_str(), |(_, below)| below);
    below.rsplit_once('/').map_or(below, |(name, _)| name).to_owned()
}

fn samples(iters: &[f64], times: &[f64]) -> Result<Vec<f64>, String> {
    if iters.len() != times.len() {
        return Err(format!("{} `iters` and {} `times`: run the benchmark again", iters.len(), times.len()));
    }
    let sample = |(at, (iters, time)): (usize, (&f64, &f64))| {
        if *iters > 0.0 { Ok(time / iters) } else { Err(format!("`iters[{at}]` is {iters}: run the benchmark again")) }
    };
    iters.iter().zip(times).enumerate().map(sample).collect()
}

fn estimate(object: &Map<String, Value>) -> Option<Stated> {
    let of = |name: &str| {
        let estimate = object.get(name)?;
        let number = |key: &str| estimate.get(key)?.as_f64();
        Some(Stated { centre: number("point_estimate")?, error: number("standard_error"), count: None })
    };
    of("median").or_else(|| of("mean"))
}
