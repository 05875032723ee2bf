//! Results of benchmark tools. What a file is shows in what it holds; its name only tells Criterion's files of one benchmark
//! together.
//!
//! | tool | what is read |
//! |---|---|
//! | Criterion | `new/sample.json`, else `new/estimates.json`, and the name in `new/benchmark.json` |
//! | hyperfine | `--export-json` |
//! | k6 | `--out json`, `--summary-export`, the object that `handleSummary` is given |
//! | plimsoll | baselines, and what `benchmark` saved |
//! | CSV | columns `metric` (or `name`), `value` and maybe `unit`, or a column a metric and a row a run |

mod criterion;
mod csv;
mod hyperfine;
mod k6;

use serde_json::{Map, Value};

use super::results::{better_of, is_bad};
use super::{Baseline, Measured, Results};

pub use criterion::is_criterion_file;

/// What the start of a UTF-8 file may say.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A file that cannot be read as results.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct ReadError {
    pub path: String,
    /// Where in it, what is wrong, and what to do.
    pub what: String,
}

/// Reads files, given as path and content; of a folder give what [`is_criterion_file`] says. The same metric in several files
/// has the values of all of them.
///
/// # Errors
/// The first file that holds no results, with the place and a remedy; and where no file has any.
pub fn read_results(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Results, ReadError> {
    let mut results = Results::default();
    let mut folders = criterion::Folders::default();
    let mut last = String::new();
    for (path, bytes) in files {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let told = |what| ReadError { path: path.clone(), what };
        match read(&path, bytes, &mut folders).map_err(told)? {
            Some(found) => merge(&mut results, found).map_err(told)?,
            None => last.clone_from(&path),
        }
        last.clone_from(&path);
    }
    let told = |what| ReadError { path: last.clone(), what };
    merge(&mut results, folders.results().map_err(|(path, what)| ReadError { path, what })?).map_err(told)?;
    if results.metrics.is_empty() {
        return Err(told("no results in it: give files of Criterion, hyperfine, k6 or plimsoll, or a CSV".to_owned()));
    }
    Ok(results)
}

/// `None` of what is only a part of one of Criterion's results.
fn read(path: &str, bytes: &[u8], folders: &mut criterion::Folders) -> Result<Option<Vec<(String, Measured)>>, String> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return csv::read(bytes).map(Some);
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Map<String, Value>>();
    let Some(first) = values.next() else { return Err("it is empty".to_owned()) };
    let first = first.map_err(|error| format!("{error}: the JSON is broken or cut off; have it written again"))?;
    let has = |key: &str| first.contains_key(key);
    if has("type") && has("metric") && has("data") {
        return k6::points(bytes).map(Some);
    }
    if has("plimsoll_results") {
        return Baseline::from_json(bytes).map(|baseline| Some(baseline.metrics.into_iter().collect()));
    }
    if has("metrics") {
        return k6::summary(&first).map(Some);
    }
    if let Some(Value::Array(runs)) = first.get("results") {
        return hyperfine::read(runs).map(Some);
    }
    if folders.take(path, &first)? {
        return Ok(None);
    }
    Err("this JSON is of no known tool: give files of Criterion, hyperfine (--export-json), k6 (--out json or --summary-export) or plimsoll, or a CSV".to_owned())
}

fn merge(results: &mut Results, found: Vec<(String, Measured)>) -> Result<(), String> {
    found.into_iter().try_for_each(|(name, measured)| results.add(name, measured))
}

/// The numbers of an array; what is none is told by its place, from 0.
fn numbers(key: &str, array: &[Value]) -> Result<Vec<f64>, String> {
    let number = |(at, value): (usize, &Value)| {
        value.as_f64().ok_or_else(|| format!("`{key}[{at}]` is {value}, which is no number: have it written again"))
    };
    array.iter().enumerate().map(number).collect()
}
