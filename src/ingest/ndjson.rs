//! NDJSON: one JSON object a line.
//!
//! ```text
//! {"metric": "cpu", "time": "2026-01-31T12:00:00Z", "value": 0.5, "labels": {"host": "a"}}
//! {"name": "cpu", "ts": 1769860800000, "value": 0.5, "tags": {"host": "a"}, "region": "eu"}
//! {"metric": {"__name__": "cpu", "host": "a"}, "values": [0.5, 0.7], "timestamps": [1769860800000, 1769860815000]}
//! ```
//! The third is what VictoriaMetrics exports; its times are milliseconds. Other members are labels where they are
//! strings and ignored where they are not. A value of `null` is a gap.

use std::borrow::Cow;
use std::io::BufRead;

use serde_json::{Map, Value};

use super::Gather;
use super::format::{Bad, Line, Lines, ReadError, Shown};
use crate::flow::Refusal;
use crate::model::Timestamp;

const METRIC: [&str; 2] = ["metric", "name"];
const TIME: [&str; 3] = ["time", "timestamp", "ts"];
const LABELS: [&str; 2] = ["labels", "tags"];

/// Reads lines of objects; blank lines do not count. The number of lines read, refused ones among them.
pub fn read_ndjson(input: &mut dyn BufRead, gather: &mut Gather<'_>) -> Result<u64, ReadError> {
    let (mut lines, mut line, mut count) = (Lines::new(input), Vec::new(), 0);
    loop {
        match lines.read(&mut line)? {
            Line::End => return Ok(count),
            Line::TooLong => gather.faults.add(lines.number(), Line::too_long()),
            Line::Whole if line.trim_ascii().is_empty() => continue,
            Line::Whole => match serde_json::from_slice::<Map<String, Value>>(&line) {
                Ok(object) => read_object(lines.number(), &object, gather)?,
                Err(error) => gather.faults.add(lines.number(), format_args!("no JSON object: {error}")),
            },
        }
        count += 1;
    }
}

fn read_object(line: u64, object: &Map<String, Value>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
    let taken = match object.get("metric") {
        Some(Value::Object(series)) => read_series(line, series, object, gather),
        _ => read_sample(line, object, gather),
    };
    Bad::set_aside(taken, line, &mut gather.faults)
}

fn read_sample(line: u64, object: &Map<String, Value>, gather: &mut Gather<'_>) -> Result<(), Bad> {
    let (metric_key, metric) = member(object, &METRIC).ok_or_else(|| missing("metric"))?;
    let (time_key, time) = member(object, &TIME).ok_or_else(|| missing("time"))?;
    let value = object.get("value").ok_or_else(|| missing("value"))?;
    let metric = match metric {
        Value::String(name) if !name.is_empty() => name,
        other => return Err(format!("`{metric_key}` is {}: write a name", shown(other)).into()),
    };
    let time = time_of(time).ok_or_else(|| format!("`{time_key}` is {}, which is no time", shown(time)))?;
    if value.is_null() {
        return Ok(());
    }
    let value = number_of(value).ok_or_else(|| format!("`value` is {}, which is no number", shown(value)))?;

    let used = |name: &str| name == metric_key || name == time_key || name == "value";
    let mut labels = Vec::new();
    for (name, text) in object.iter().filter(|(name, _)| !used(name)) {
        if let Value::String(text) = text {
            labels.push((name.as_str(), Cow::Borrowed(text.as_str())));
        }
    }
    for key in LABELS {
        if let Some(given) = object.get(key) {
            push_labels(key, given, &mut labels)?;
        }
    }
    Ok(gather.sample(line, metric, &borrowed(&labels), None, time, value)?)
}

/// VictoriaMetrics' form: the series and its samples in two arrays.
fn read_series(
    line: u64,
    series: &Map<String, Value>,
    object: &Map<String, Value>,
    gather: &mut Gather<'_>,
) -> Result<(), Bad> {
    let array = |key: &str| match object.get(key) {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("`{key}` is {}: write an array", shown(other))),
        None => Err(missing(key)),
    };
    let (values, times) = (array("values")?, array("timestamps")?);
    if values.len() != times.len() {
        return Err(format!("{} `values` but {} `timestamps`", values.len(), times.len()).into());
    }
    let Some(Value::String(metric)) = series.get("__name__").filter(|name| *name != "") else {
        return Err("`metric` has no `__name__`".to_owned().into());
    };
    let mut labels = Vec::new();
    for (name, value) in series.iter().filter(|(name, _)| *name != "__name__") {
        push_label("metric", name, value, &mut labels)?;
    }
    let labels = borrowed(&labels);
    for (value, time) in values.iter().zip(times) {
        if value.is_null() {
            continue;
        }
        match (number_of(value), time.as_i64()) {
            (Some(value), Some(millis)) => {
                gather.sample(line, metric, &labels, None, Timestamp::from_millis(millis), value)?;
            }
            (None, _) => gather.faults.add(line, format_args!("{} in `values` is no number", shown(value))),
            (_, None) => gather.faults.add(line, format_args!("{} in `timestamps` is no milliseconds", shown(time))),
        }
    }
    Ok(())
}

fn missing(key: &str) -> String {
    format!("no `{key}` in the object")
}

/// The first of `keys` that the object has.
fn member<'o>(object: &'o Map<String, Value>, keys: &[&'static str]) -> Option<(&'static str, &'o Value)> {
    keys.iter().find_map(|key| Some((*key, object.get(*key)?)))
}

type LabelTexts<'t> = Vec<(&'t str, Cow<'t, str>)>;

/// Appends the members of the object `given` as labels.
pub(super) fn push_labels<'t>(key: &str, given: &'t Value, labels: &mut LabelTexts<'t>) -> Result<(), String> {
    match given {
        Value::Null => Ok(()),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| push_label(key, name, value, labels)),
        other => Err(format!("`{key}` is {}: write an object", shown(other))),
    }
}

fn push_label<'t>(key: &str, name: &'t str, value: &'t Value, labels: &mut LabelTexts<'t>) -> Result<(), String> {
    let text = match value {
        Value::Null => return Ok(()),
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(_) | Value::Bool(_) => Cow::Owned(value.to_string()),
        Value::Array(_) | Value::Object(_) => return Err(format!("`{key}.{name}` is {}: write text", shown(value))),
    };
    labels.push((name, text));
    Ok(())
}

/// Labels as [`Gather::sample`] takes them.
pub(super) fn borrowed<'t>(labels: &'t [(&'t str, Cow<'t, str>)]) -> Vec<(&'t str, &'t str)> {
    labels.iter().map(|(name, value)| (*name, &**value)).collect()
}

/// A number, or the text of one.
pub(super) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => fast_float2::parse(text.trim()).ok(),
        _ => None,
    }
}

/// A time as text, or a number in the unit its size suggests.
pub(super) fn time_of(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Timestamp::from_integer(whole),
            None => number.as_f64().and_then(Timestamp::from_number),
        },
        Value::String(text) => Timestamp::parse(text).ok(),
        _ => None,
    }
}

/// The beginning of a value, for a fault.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => Shown(text.as_bytes()).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};
    use crate::ingest::{Fault, Faults};

    type Samples = Vec<(String, i64, f64)>;
    type Form = (&'static str, &'static [(&'static str, i64, f64)]);

    fn read(input: &[u8]) -> (Samples, u64, Faults) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let mut input = input;
        let lines = read_ndjson(&mut input, &mut gather).unwrap();
        gather.flush().unwrap();
        (recorder.samples(), lines, gather.faults)
    }

    const SECOND: i64 = 1_769_860_800_000_000_000;

    #[test]
    fn each_form_gives_its_samples() {
        let table: [Form; 8] = [
            (
                r#"{"metric":"cpu","time":"2026-01-31 12:00","value":0.5,"labels":{"host":"a","core":3,"ht":true,"x":null}}"#,
                &[(r#"cpu{core="3",host="a",ht="true"}"#, SECOND, 0.5)],
            ),
            (
                r#"{"name":"cpu","ts":1769860800000,"value":"1e3","tags":{"host":"a"},"region":"eu","seq":17}"#,
                &[(r#"cpu{host="a",region="eu"}"#, SECOND, 1000.0)],
            ),
            (
                r#"{"metric":"m","name":"n","timestamp":1769860800.5,"value":-1}"#,
                &[(r#"m{name="n"}"#, SECOND + 500_000_000, -1.0)],
            ),
            (
                r#"{"metric":{"__name__":"up","job":"x"},"values":[1,null,0.5],"timestamps":[1769860800000,1,1769860802000]}"#,
                &[(r#"up{job="x"}"#, SECOND, 1.0), (r#"up{job="x"}"#, SECOND + 2_000_000_000, 0.5)],
            ),
            (r#"{"metric":"m","time":1769860800,"value":null}"#, &[]),
            ("", &[]),
            ("\u{FEFF}{\"metric\":\"m\",\"time\":1769860800,\"value\":1}\r\n\r\n", &[("m", SECOND, 1.0)]),
            (r#"{"metric":"\u00e9","time":1769860800,"value":1,"a":"\n"}"#, &[("é{a=\"\\n\"}", SECOND, 1.0)]),
        ];
        for (input, expected) in table {
            let (samples, _, faults) = read(input.as_bytes());
            let expected: Vec<_> =
                expected.iter().map(|&(series, time, value)| (series.to_owned(), time, value)).collect();
            assert_eq!((samples, faults.first), (expected, vec![]), "{input}");
        }
    }

    #[test]
    fn a_bad_line_is_a_fault_and_the_rest_goes_on() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let table: [(&[u8], &str); 16] = [
            (b"{", "no JSON object"),
            (b"[1]", "no JSON object"),
            (b"null", "no JSON object"),
            (b"{\"metric\":\"\xff\",\"time\":1,\"value\":1}", "no JSON object"),
            (b"{} trailing", "no JSON object"),
            (deep.as_bytes(), "no JSON object"),
            (br#"{"metric":"m","time":1769860800,"value":1e999}"#, "out of range"),
            (b"{}", "no `metric`"),
            (br#"{"metric":"","time":1,"value":1}"#, "write a name"),
            (br#"{"metric":"m","value":1}"#, "no `time`"),
            (br#"{"metric":"m","time":"noon","value":1}"#, "`noon`, which is no time"),
            (br#"{"metric":"m","time":1769860800,"value":[1]}"#, "an array, which is no number"),
            (br#"{"metric":"m","time":1769860800,"value":1,"labels":{"a":{}}}"#, "`labels.a` is an object"),
            (br#"{"metric":{"__name__":"m"},"values":[1,2],"timestamps":[1]}"#, "2 `values` but 1 `timestamps`"),
            (br#"{"metric":{"a":"m"},"values":[],"timestamps":[]}"#, "no `__name__`"),
            (br#"{"metric":{"__name__":"m"},"values":[{}],"timestamps":[1]}"#, "in `values` is no number"),
        ];
        for (bad, reason) in table {
            let good = br#"{"metric":"m","time":1769860800,"value":1}"#;
            let input = [&good[..], b"\n", bad, b"\n", good].concat();
            let (samples, lines, faults) = read(&input);
            assert_eq!((samples.len(), lines, faults.count), (2, 3, 1), "{reason}");
            let Fault { line, error } = &faults.first[0];
            assert_eq!(*line, 2);
            assert!(error.contains(reason), "{error} / {reason}");
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise(7);
        let good = br#"{"metric":{"__name__":"up","job":"x"},"values":[1,null],"timestamps":[1,2]}"#;
        for _ in 0..20_000 {
            read(&noise.bytes(b"{}[]\":,metricvaluetime0123456789.e-\n\\u"));
            read(&noise.bend(good));
        }
    }
}
