//! What browsers and services post to `/api/performance` and `/api/v1/events`: one object or an array of them.
//!
//! ```text
//! {"clientId": "user-123", "page": "/dashboard", "component": "ImageGrid", "type": "navigation", "value": 150,
//!  "metadata": {"userAgent": "Mozilla/5.0...", "bytes": 2048, "timestamp": 1704067200000}}
//! ```
//! gives `navigation` = 150 and `navigation_bytes` = 2048, both with the labels `client_id`, `page`, `component` and
//! `user_agent`. The time is the object's `timestamp` or `time`, else its metadata's, else now.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Gather;
use super::format::{BYTE_ORDER_MARK, ReadError, metric_name};
use super::json_array::each_of_array;
use super::ndjson::{number_of, shown, time_of};
use super::small_json::{Small, VALUES_MAX};
use crate::flow::Refusal;
use crate::model::Timestamp;

const TIME: [&str; 2] = ["timestamp", "time"];
/// Members that are labels, and their names as such.
const LABELS: [(&str, &str); 3] = [("clientId", "client_id"), ("page", "page"), ("component", "component")];

/// Reads the body. The number of objects, refused ones among them; a fault's `line` is the object's place, from 1.
pub fn read_performance(body: &[u8], now: Timestamp, gather: &mut Gather<'_>) -> Result<u64, ReadError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut place = 0;
    let mut take = |Small(object): Small| {
        place += 1;
        let object = object.ok_or_else(|| format!("the object has over {VALUES_MAX} values: send fewer"));
        let reason = match object.as_ref().map(|object| measurement(object, now)) {
            Ok(Ok(measurement)) => return measurement.give(place, gather),
            Ok(Err(reason)) => reason,
            Err(reason) => reason.clone(),
        };
        gather.faults.add(place, reason);
        Ok(())
    };
    if body.trim_ascii_start().starts_with(b"[") {
        each_of_array(body, take)?;
    } else {
        take(serde_json::from_slice(body)?)?;
    }
    Ok(place)
}

/// One object, read.
struct Measurement<'t> {
    metric: String,
    labels: Vec<(Cow<'t, str>, Cow<'t, str>)>,
    time: Timestamp,
    value: f64,
    /// Numbers of the metadata: the end of the metric's name, and the value.
    further: Vec<(String, f64)>,
}

impl Measurement<'_> {
    fn give(&self, place: u64, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        gather.sample(place, &self.metric, &labels, None, self.time, self.value)?;
        for (key, value) in &self.further {
            gather.sample(place, &format!("{}_{key}", self.metric), &labels, None, self.time, *value)?;
        }
        Ok(())
    }
}

fn measurement(object: &Value, now: Timestamp) -> Result<Measurement<'_>, String> {
    let Value::Object(object) = object else {
        return Err(format!("{} is no object", shown(object)));
    };
    let metric = match object.get("type") {
        Some(Value::String(text)) => snake_case(&metric_name(text)),
        Some(other) => return Err(format!("`type` is {}: write a name", shown(other))),
        None => return Err("no `type` in the object".to_owned()),
    };
    if metric.is_empty() {
        return Err("`type` is empty: write a name".to_owned());
    }
    let value = object.get("value").ok_or("no `value` in the object")?;
    let value = number_of(value).ok_or_else(|| format!("`value` is {}, which is no number", shown(value)))?;
    let nothing = Map::new();
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => None,
        Some(Value::Object(metadata)) => Some(metadata),
        Some(other) => return Err(format!("`metadata` is {}: write an object", shown(other))),
    };
    let time = given_time(object).or_else(|| given_time(metadata.unwrap_or(&nothing))).unwrap_or(Ok(now))?;

    let (mut labels, mut further) = (Vec::new(), Vec::new());
    for (name, value) in metadata.into_iter().flatten().filter(|(name, _)| !TIME.contains(&name.as_str())) {
        match value {
            Value::Number(number) => {
                further.extend(number.as_f64().map(|value| (snake_case(&metric_name(name)), value)));
            }
            _ => labels.extend(text_of(value).map(|text| (Cow::Owned(label_name(name)), text))),
        }
    }
    for (member, label) in LABELS {
        let Some(value) = object.get(member).filter(|value| !value.is_null()) else { continue };
        let text = match value {
            Value::Number(number) => Cow::Owned(number.to_string()),
            _ => text_of(value).ok_or_else(|| format!("`{member}` is {}: write text", shown(value)))?,
        };
        labels.push((Cow::Borrowed(label), text));
    }
    Ok(Measurement { metric, labels, time, value, further })
}

fn given_time(object: &Map<String, Value>) -> Option<Result<Timestamp, String>> {
    let (name, value) =
        TIME.iter().find_map(|name| Some((name, object.get(*name).filter(|value| !value.is_null())?)))?;
    Some(time_of(value).ok_or_else(|| format!("`{name}` is {}, which is no time", shown(value))))
}

/// Strings and booleans.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(yes) => Some(Cow::Borrowed(if *yes { "true" } else { "false" })),
        _ => None,
    }
}

fn label_name(text: &str) -> String {
    snake_case(&metric_name(text)).replace([':', '.'], "_")
}

/// `responseTime` → `response_time`, `HTTPStatus` → `http_status`, `p95Latency` → `p95_latency`. Takes ASCII.
fn snake_case(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, &byte) in bytes.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let word_starts = byte.is_ascii_uppercase()
            && before.is_some_and(|before| {
                let next_is_small = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
                before.is_ascii_lowercase() || before.is_ascii_digit() || (before.is_ascii_uppercase() && next_is_small)
            });
        if word_starts {
            snake.push('_');
        }
        snake.push(char::from(byte.to_ascii_lowercase()));
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Faults;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};

    const NOW: i64 = 1_769_860_800_000_000_000;

    type Samples = Vec<(String, i64, f64)>;
    type Form = (&'static str, &'static [(&'static str, i64, f64)]);

    fn read(body: &[u8]) -> (Samples, Result<u64, ReadError>, Faults) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let count = read_performance(body, Timestamp::from_nanos(NOW), &mut gather);
        gather.flush().unwrap();
        (recorder.samples(), count, gather.faults)
    }

    #[test]
    fn an_object_is_a_sample() {
        let body = br#"{
          "clientId": "user-123", "page": "/dashboard", "component": "ImageGrid", "type": "navigation", "value": 150,
          "metadata": {"userAgent": "Mozilla/5.0...", "timestamp": 1704067200000}
        }"#;
        let (samples, count, faults) = read(body);
        let series =
            r#"navigation{client_id="user-123",component="ImageGrid",page="/dashboard",user_agent="Mozilla/5.0..."}"#;
        assert_eq!(samples, [(series.to_owned(), 1_704_067_200_000_000_000, 150.0)]);
        assert_eq!((count.unwrap(), faults.count), (1, 0));
    }

    #[test]
    fn objects_are_samples() {
        let table: [Form; 7] = [
            ("[]", &[]),
            (r#"{"type":"responseTime","value":1.5}"#, &[("response_time", NOW, 1.5)]),
            (r#"{"type":"x y/z","value":"2","clientId":7,"page":null}"#, &[(r#"x_y_z{client_id="7"}"#, NOW, 2.0)]),
            (
                r#"{"type":"m","value":1,"time":"2024-01-01","metadata":{"timestamp":5}}"#,
                &[("m", 1_704_067_200_000_000_000, 1.0)],
            ),
            (
                r#"{"type":"cache","value":1,"metadata":{"hitRate":0.5,"isWarm":true,"nested":{"a":1},
                    "list":[1],"none":null,"page":"p"},"page":"q"}"#,
                &[
                    (r#"cache{is_warm="true",page="q"}"#, NOW, 1.0),
                    (r#"cache_hit_rate{is_warm="true",page="q"}"#, NOW, 0.5),
                ],
            ),
            (r#"[{"type":"a","value":1},{"type":"b","value":2}]"#, &[("a", NOW, 1.0), ("b", NOW, 2.0)]),
            ("\u{FEFF}{\"type\":\"a\",\"value\":1,\"metadata\":null}", &[("a", NOW, 1.0)]),
        ];
        for (body, expected) in table {
            let (samples, _, faults) = read(body.as_bytes());
            let expected: Vec<_> =
                expected.iter().map(|&(series, time, value)| (series.to_owned(), time, value)).collect();
            assert_eq!((samples, faults.first), (expected, vec![]), "{body}");
        }
    }

    #[test]
    fn a_bad_object_is_a_fault_at_its_place() {
        let large = format!(r#"{{"type":"a","value":1,"metadata":{{"list":[{}1]}}}}"#, "1,".repeat(VALUES_MAX));
        let table = [
            ("7", "7 is no object"),
            ("{}", "no `type`"),
            (r#"{"type":"","value":1}"#, "`type` is empty"),
            (r#"{"type":1,"value":1}"#, "`type` is 1"),
            (r#"{"type":"a"}"#, "no `value`"),
            (r#"{"type":"a","value":null}"#, "`value` is null"),
            (r#"{"type":"a","value":"NaN"}"#, "not a finite number"),
            (r#"{"type":"a","value":1,"timestamp":"noon"}"#, "`noon`, which is no time"),
            (r#"{"type":"a","value":1,"metadata":"{}"}"#, "`metadata` is"),
            (r#"{"type":"a","value":1,"page":[]}"#, "`page` is an array"),
            (&large, "over 10000 values: send fewer"),
        ];
        for (bad, reason) in table {
            let good = r#"{"type":"a","value":1}"#;
            let (samples, count, faults) = read(format!("[{good},{bad},{good}]").as_bytes());
            assert_eq!((samples.len(), count.unwrap(), faults.count, faults.first[0].line), (2, 3, 1, 2), "{bad}");
            assert!(faults.first[0].error.contains(reason), "{} / {reason}", faults.first[0].error);
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_an_error() {
        let deep = "[".repeat(100_000);
        for body in ["", "{", "[{}", "{} {}", "\u{0}", &deep, r#"{"type":"a","value":1e999}"#] {
            let (samples, count, _) = read(body.as_bytes());
            assert!(matches!(count, Err(ReadError::Json(_))) && samples.is_empty(), "{body}");
        }
        assert!(read(b"{\"type\":\"\xff\"}").1.is_err());
    }

    #[test]
    fn names_become_snake_case() {
        let table = [
            ("responseTime", "response_time"),
            ("HTTPStatus", "http_status"),
            ("p95Latency", "p95_latency"),
            ("LCP", "lcp"),
            ("first-contentful-paint", "first_contentful_paint"),
            ("already_snake", "already_snake"),
            ("Response Time", "response_time"),
        ];
        for (name, expected) in table {
            assert_eq!(snake_case(&metric_name(name)), expected);
        }
        assert_eq!(label_name("net.peerName"), "net_peer_name");
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise(13);
        let good = br#"[{"clientId":"u","type":"responseTime","value":1,"metadata":{"aB":1,"t":true,"timestamp":1}}]"#;
        for _ in 0..20_000 {
            let _ = read(&noise.bytes(b"{}[]\":,typevalue0123456789.e-\\u"));
            let _ = read(&noise.bend(good));
        }
    }
}
