//! What k6 writes: a line a point (`--out json`), or the figures of the end (`--summary-export`, `handleSummary`).
//!
//! Trends are times in milliseconds or plain numbers, a sample a point. Rates are shares, 0 or 1 a point, and their mean counts.
//! Counters are added up by the second, whole seconds only; in a summary there is their pace. Gauges, and the bytes sent and
//! received, say how large the test was and are left out.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Measured, better_of, is_bad};
use crate::stats::compare::{Better, Centre, Stated};

/// Counters that are the test's own size.
const SIZES: [&str; 2] = ["data_received", "data_sent"];
/// Figures of a trend that are metrics of their own.
const TAILS: [&str; 3] = ["p(90)", "p(95)", "p(99)"];

/// A line, as far as it matters.
#[derive(Deserialize)]
struct Line {
    r#type: String,
    metric: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    r#type: Option<String>,
    contains: Option<String>,
    time: Option<String>,
    value: Option<f64>,
}

/// What is declared of a metric, and its points: value, and second as written.
#[derive(Default)]
struct Points {
    kind: String,
    contains: String,
    values: Vec<f64>,
    seconds: BTreeMap<String, f64>,
}

/// Every metric of `--out json`.
pub(super) fn points(bytes: &[u8]) -> Result<Vec<(String, Measured)>, String> {
    let mut metrics: BTreeMap<String, Points> = BTreeMap::new();
    for (number, line) in
        bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty())
    {
        let told = |what: String| format!("line {}: {what}", number + 1);
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| told(format!("{error}: is it cut off? run the test again")))?;
        let metric = metrics.entry(line.metric).or_default();
        if line.r#type == "Metric" {
            (metric.kind, metric.contains) =
                (line.data.r#type.unwrap_or_default(), line.data.contains.unwrap_or_default());
        } else if let Some(value) = line.data.value {
            metric.add(value, &line.data.time.unwrap_or_default());
        }
    }
    Ok(metrics.into_iter().filter_map(|(name, points)| Some((name.clone(), points.measured(&name)?))).collect())
}

impl Points {
    fn add(&mut self, value: f64, time: &str) {
        if self.kind == "counter" {
            let second = time.get(..19).unwrap_or(time); // 2026-01-31T12:00:00
            *self.seconds.entry(second.to_owned()).or_default() += value;
        } else {
            self.values.push(value);
        }
    }

    fn measured(self, name: &str) -> Option<Measured> {
        let unit = unit(&self.kind, &self.contains);
        let seconds = self.seconds.len();
        let samples: Vec<f64> = match self.kind.as_str() {
            "counter" if !SIZES.contains(&name) => {
                self.seconds.into_values().skip(1).take(seconds.saturating_sub(2)).collect()
            }
            "trend" | "rate" => self.values,
            _ => Vec::new(),
        };
        let centre = if self.kind == "rate" { Centre::Mean } else { Centre::Median };
        let better = better(&self.kind, name);
        (!samples.is_empty()).then_some(Measured { unit, better, centre, samples, stated: None })
    }
}

/// Every metric of a summary, of either form: figures stand in `values` beside a `type`, or are all there is.
pub(super) fn summary(summary: &Map<String, Value>) -> Result<Vec<(String, Measured)>, String> {
    let Some(Value::Object(metrics)) = summary.get("metrics") else {
        return Err(
            "`metrics` is no object: write it with --summary-export, or as handleSummary is given it".to_owned()
        );
    };
    let mut found = Vec::new();
    for (name, metric) in metrics {
        let Value::Object(metric) = metric else {
            return Err(format!("`metrics.{name}` is {metric}: an object of figures belongs there"));
        };
        let values = metric.get("values").and_then(Value::as_object).unwrap_or(metric);
        let contains = metric.get("contains").and_then(Value::as_str);
        found.extend(figures(name, contains, values));
    }
    if found.is_empty() {
        return Err(
            "`metrics` has no figure that k6 writes (avg, med, rate, value): write it with --summary-export".to_owned()
        );
    }
    Ok(found)
}

fn figures(name: &str, contains: Option<&str>, values: &Map<String, Value>) -> Vec<(String, Measured)> {
    let number = |key: &str| values.get(key).and_then(Value::as_f64);
    let measured = |kind: &str, centre: f64| Measured {
        unit: unit(kind, contains.unwrap_or(if is_time(name) { "time" } else { "" })),
        better: better(kind, name),
        centre: if kind == "trend" { Centre::Median } else { Centre::Mean },
        samples: Vec::new(),
        stated: Some(Stated { centre, error: None, count: None }),
    };
    if let Some(middle) = number("med").or_else(|| number("avg")) {
        let tail = |tail: &&str| Some((format!("{name} {tail}"), measured("trend", number(tail)?)));
        return [(name.to_owned(), measured("trend", middle))]
            .into_iter()
            .chain(TAILS.iter().filter_map(tail))
            .collect();
    }
    let share = if values.contains_key("passes") { number("rate").or_else(|| number("value")) } else { None };
    if let Some(share) = share {
        return vec![(name.to_owned(), measured("rate", share))];
    }
    let pace = if values.contains_key("count") && !SIZES.contains(&name) { number("rate") } else { None };
    pace.map(|pace| (name.to_owned(), measured("counter", pace))).into_iter().collect()
}

/// Of trends whose summary does not say: those that k6 has itself.
fn is_time(name: &str) -> bool {
    ["http_req_", "iteration_duration", "group_duration", "grpc_req_duration", "ws_"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn unit(kind: &str, contains: &str) -> String {
    let unit = match (kind, contains) {
        ("counter", _) => "1/s",
        ("trend", "time") => "ms",
        ("trend", "data") => "B",
        _ => "",
    };
    unit.to_owned()
}

/// What counters count gets done, unless it should not be.
fn better(kind: &str, name: &str) -> Better {
    if kind == "counter" && !is_bad(name) { Better::Higher } else { better_of(name) }
}
