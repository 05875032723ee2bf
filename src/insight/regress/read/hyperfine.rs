//! What `hyperfine --export-json` writes: wall times in seconds, by command.

use serde_json::{Map, Value};

use super::{Measured, numbers};
use crate::stats::compare::Stated;

/// Standard error of a median in those of a mean, of normally distributed values: the root of pi / 2.
const MEDIAN_ERROR: f64 = 1.253_314_137_315_5;

/// Each of the `results`, by its command.
pub(super) fn read(runs: &[Value]) -> Result<Vec<(String, Measured)>, String> {
    runs.iter().enumerate().map(|(at, run)| one(run).map_err(|what| format!("`results[{at}]`: {what}"))).collect()
}

fn one(run: &Value) -> Result<(String, Measured), String> {
    let Value::Object(run) = run else { return Err(format!("{run} is no object: export again")) };
    let Some(Value::String(command)) = run.get("command") else { return Err("no `command`: export again".to_owned()) };
    let mut measured = Measured { unit: "s".to_owned(), ..Measured::default() };
    match run.get("times") {
        Some(Value::Array(times)) if !times.is_empty() => measured.samples = numbers("times", times)?,
        _ => measured.stated = Some(stated(run)?),
    }
    Ok((command.clone(), measured))
}

fn stated(run: &Map<String, Value>) -> Result<Stated, String> {
    let number = |key: &str| run.get(key).and_then(Value::as_f64);
    let count = run.get("exit_codes").and_then(Value::as_array).map(Vec::len).filter(|count| *count > 1);
    let of_mean = number("stddev").zip(count).map(|(deviation, count)| deviation / (count as f64).sqrt());
    let of_median = number("median").map(|centre| (centre, of_mean.map(|error| MEDIAN_ERROR * error)));
    let (centre, error) = of_median
        .or_else(|| number("mean").map(|centre| (centre, of_mean)))
        .ok_or("neither `times` nor `median` nor `mean`: export again with --export-json")?;
    Ok(Stated { centre, error, count })
}
