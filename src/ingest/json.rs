//! Numbers out of any JSON: named ones at their places, or all of them, flattened.
//!
//! ```text
//! {"queue": {"depth": 4, "on": true}, "list": [{"n": 1}]}   →   app_queue_depth 4, app_queue_on 1, app_list_0_n 1
//! ```

mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytesize::ByteSize;
use serde::Deserialize;
use serde_json::Value;

pub use place::{LabelPlace, Place};

use super::http_client::{BasicAuth, Credentials, Method, Request, TlsSpec, fetch_within, header_faults, parse_url};
use super::{About, Readings, Source, SourceError};
use crate::model::{Kind, Timestamp};
use crate::world::World;

/// Values of a document; each takes many times its length while it is read.
const VALUES_MAX: usize = 1_000_000;
/// Numbers that are taken of a document of which all are.
const FLAT_MAX: usize = 10_000;
/// Faults that are told of one document; the rest are counted.
const FAULTS_TOLD: usize = 3;
/// What is kept of a timeout to tell what took so long.
const RESERVE_MAX: Duration = Duration::from_millis(500);

/// The part of a source's timeout that is not for its answer.
pub(super) fn reserve(timeout: Duration) -> Duration {
    (timeout / 10).min(RESERVE_MAX)
}

/// `from.json = { url = "…", metrics = [{ name = "…", path = "$.…" }] }`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonSpec {
    pub url: String,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    #[serde(default)]
    pub bearer_token: Option<String>,
    /// A file with the token, read at each pass.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    pub tls: TlsSpec,
    /// Largest answer, after decompression.
    #[serde(default = "body_max")]
    pub body_max: ByteSize,
    /// What is taken; without any, all numbers.
    #[serde(default)]
    pub metrics: Vec<JsonMetric>,
    /// Begins the name of each flattened number; without it the source's id does.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Whether texts that are numbers count as numbers.
    #[serde(default)]
    pub numeric_text: bool,
}

pub(super) fn get() -> String {
    "GET".to_owned()
}

pub(super) fn body_max() -> ByteSize {
    ByteSize::mib(16)
}

/// A number, or one of each element of a list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonMetric {
    pub name: String,
    /// JSONPath or JSON pointer.
    pub path: Place,
    /// Names of labels, and where their texts are.
    #[serde(default)]
    pub labels: BTreeMap<String, LabelPlace>,
    /// `counter`, `gauge`, …; without it as the name says.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// As in `bytes`, `seconds`.
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub help: String,
}

/// What is taken of a document.
#[derive(Debug, Clone)]
pub struct JsonRules {
    metrics: Vec<JsonMetric>,
    prefix: String,
    numeric_text: bool,
}

impl JsonRules {
    /// `id` begins names where `prefix` does not.
    pub fn new(metrics: &[JsonMetric], prefix: Option<&str>, id: &str, numeric_text: bool) -> Self {
        let mut begin = String::new();
        push_key(&mut begin, prefix.unwrap_or(id));
        JsonRules { metrics: metrics.to_vec(), prefix: begin, numeric_text }
    }

    /// Takes what there is; what is wrong is a lack of the readings, or their fault where there is nothing.
    ///
    /// # Errors
    /// What is no JSON, and what is too much.
    pub fn read(&self, text: &[u8]) -> Result<Readings, SourceError> {
        // A document has no more values than commas and depth.
        if memchr::memchr_iter(b',', text).count() > VALUES_MAX {
            return Err(SourceError::new(format!("it has more than {VALUES_MAX} values: ask for less")));
        }
        let document: Value = serde_json::from_slice(text)
            .map_err(|error| SourceError::new(format!("it is no JSON ({error}): it begins with {}", start(text))))?;
        let (mut readings, mut faults) = (Readings::default(), Wrong::default());
        if self.metrics.is_empty() {
            self.flatten(&document, &mut self.prefix.clone(), &mut readings);
            if readings.is_empty() {
                faults.add(|| "there is no number in it".to_owned());
            } else if readings.len() >= FLAT_MAX {
                faults.add(|| format!("only its first {FLAT_MAX} numbers are taken: name those you want in `metrics`"));
            }
        }
        for metric in &self.metrics {
            self.take(metric, &document, &mut readings, &mut faults);
        }
        readings.tell(faults.told());
        readings.whole()
    }

    fn take(&self, metric: &JsonMetric, document: &Value, readings: &mut Readings, faults: &mut Wrong) {
        let found = metric.path.find(document);
        let (name, place) = (&metric.name, metric.path.text());
        if found.is_empty() && !metric.path.is_of_many() {
            faults.add(|| format!("`{name}`: nothing is at {place}: correct its path"));
        }
        for found in found {
            if readings.is_overfull() {
                return;
            }
            let Some(number) = number(found.value, self.numeric_text) else {
                // Null says that there is no number now.
                if !found.value.is_null() {
                    faults.add(|| {
                        let what = start(found.value.to_string().as_bytes());
                        format!("`{name}`: at {place} is no number but {what}")
                    });
                }
                continue;
            };
            let labels = metric.labels.iter().filter_map(|(label, at)| Some((label, at.text(document, &found)?)));
            let labels: Vec<(&String, String)> = labels.collect();
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(label, text)| (label.as_str(), text.as_str())).collect();
            let about = About { kind: metric.kind, unit: &metric.unit, help: &metric.help };
            readings.put(name, &labels, about, number);
        }
    }

    fn flatten(&self, value: &Value, name: &mut String, readings: &mut Readings) {
        let mut below = |key: &str, value: &Value| {
            let length = name.len();
            push_key(name, key);
            self.flatten(value, name, readings);
            name.truncate(length);
        };
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| below(key, value)),
            Value::Array(elements) => {
                elements.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value));
            }
            value => {
                if let Some(number) = number(value, self.numeric_text).filter(|_| readings.len() < FLAT_MAX) {
                    readings.put(name, &[], About::default(), number);
                }
            }
        }
    }
}

/// Appends a key in the letters of a metric's name.
fn push_key(name: &mut String, key: &str) {
    if !name.is_empty() {
        name.push('_');
    }
    name.extend(key.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == ':' { letter } else { '_' }));
}

fn number(value: &Value, numeric_text: bool) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(is) => Some(f64::from(u8::from(*is))),
        Value::String(text) if numeric_text => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// The beginning of a text, to be recognised by.
pub(super) fn start(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(300)]);
    let short: String = text.trim().chars().take(60).collect();
    if short.is_empty() { "nothing".to_owned() } else { format!("`{short}`") }
}

/// What was wrong with an answer: the first faults, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    first: Vec<String>,
    count: usize,
}

impl Wrong {
    pub fn add(&mut self, fault: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < FAULTS_TOLD {
            self.first.push(fault());
        }
    }

    /// As one sentence.
    pub fn told(&self) -> Option<SourceError> {
        let told = self.first.join("; ");
        match self.count - self.first.len() {
            _ if self.count == 0 => None,
            0 => Some(SourceError::new(told)),
            more => Some(SourceError::new(format!("{told}; and {more} more"))),
        }
    }
}

impl JsonSpec {
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let url = parse_url(&self.url).err().map(|told| ("url", told));
        let mut faults: Vec<_> = url.into_iter().chain(method_fault(&self.method)).collect();
        faults.extend(header_faults(&self.headers));
        faults.extend(self.credentials().err());
        faults.extend(self.tls.fault());
        faults.extend(metrics_fault(&self.metrics));
        faults
    }

    fn credentials(&self) -> Result<Credentials, (&'static str, String)> {
        Credentials::written(self.basic_auth.as_ref(), self.bearer_token.as_deref(), self.bearer_token_file.as_deref())
    }
}

pub(super) fn method_fault(method: &str) -> Option<(&'static str, String)> {
    let is_one =
        Method::from_bytes(method.as_bytes()).is_ok() && method.chars().all(|letter| letter.is_ascii_uppercase());
    (!is_one).then(|| ("method", format!("`{method}` is no method of HTTP: write one as GET or POST")))
}

pub(super) fn metrics_fault(metrics: &[JsonMetric]) -> Option<(&'static str, String)> {
    let has_none = metrics.iter().any(|metric| metric.name.trim().is_empty());
    has_none.then(|| ("name", "write the metric's name, as in name = \"queue_depth\"".to_owned()))
}

/// A JSON document over HTTP.
pub struct JsonSource {
    request: Request,
    credentials: Credentials,
    rules: Arc<JsonRules>,
    timeout: Duration,
    world: World,
}

impl JsonSource {
    /// `id` begins the names of flattened numbers where nothing else is written. `timeout` is that of the source: the
    /// answer must come a moment before.
    pub fn new(spec: &JsonSpec, id: &str, timeout: Duration, world: &World) -> Self {
        let request = Request {
            method: Method::from_bytes(spec.method.as_bytes()).unwrap_or(Method::GET),
            headers: spec.headers.clone().into_iter().collect(),
            body: spec.body.clone().into_bytes(),
            limit: usize::try_from(spec.body_max.as_u64()).unwrap_or(usize::MAX),
            tls: spec.tls.clone(),
            ..Request::get(spec.url.clone())
        };
        let credentials = spec.credentials().unwrap_or(Credentials::None);
        let rules = JsonRules::new(&spec.metrics, spec.prefix.as_deref(), id, spec.numeric_text);
        let timeout = timeout - reserve(timeout);
        JsonSource { request, credentials, rules: Arc::new(rules), timeout, world: world.clone() }
    }
}

#[async_trait]
impl Source for JsonSource {
    async fn read(&mut self, _now: Timestamp) -> Result<Readings, SourceError> {
        let mut request = self.request.clone();
        request.headers.extend(self.credentials.header(&self.world)?);
        let response = fetch_within(&request, &self.world, self.timeout).await?;
        let asked = format!("{} {}", request.method, response.url);
        if !(200..300).contains(&response.status) {
            let (status, body) = (response.status, start(&response.body));
            return Err(SourceError::new(format!("{asked}: answered with status {status}: {body}")));
        }
        let told = |told: SourceError| SourceError::new(format!("{asked}: {told}"));
        let rules = self.rules.clone();
        let read = tokio::task::spawn_blocking(move || rules.read(&response.body)).await;
        let read = read.unwrap_or_else(|error| Err(SourceError::new(format!("the answer was not read: {error}"))));
        let mut readings = read.map_err(told)?;
        (readings.fault, readings.lack) = (readings.fault.map(told), readings.lack.map(told));
        Ok(readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"up": true, "queue": {"max depth": 4, "none": null, "text": "7", "name": "q"},
        "pools": [{"id": "a", "used": 1.5}, {"id": "b", "used": "2"}, {"id": "c", "used": {}}]}"#;

    fn read(metrics: &str, numeric_text: bool) -> (Vec<String>, String) {
        #[derive(Deserialize)]
        struct Written {
            #[serde(default)]
            metrics: Vec<JsonMetric>,
        }
        let written: Written = toml::from_str(metrics).unwrap();
        let readings =
            JsonRules::new(&written.metrics, None, "my-app", numeric_text).read(DOCUMENT.as_bytes()).unwrap();
        assert_eq!(readings.fault, None, "there are samples");
        (readings.lines(), readings.lack.map_or(String::new(), |lack| lack.0))
    }

    #[test]
    fn all_numbers_are_flattened_where_none_are_named() {
        let plain = ["my_app_pools_0_used 1.5", "my_app_queue_max_depth 4", "my_app_up 1"];
        assert_eq!(read("", false), (plain.map(str::to_owned).to_vec(), String::new()));
        let (texts, _) = read("", true);
        assert!(
            texts.contains(&"my_app_queue_text 7".to_owned()) && texts.contains(&"my_app_pools_1_used 2".to_owned())
        );
    }

    #[test]
    fn named_numbers_are_taken_with_their_labels_and_the_rest_is_told() {
        let metrics = r#"
            [[metrics]]
            name = "pool_used_bytes"
            path = "$.pools[*].used"
            labels = { pool = "id", queue = "$.queue.name" }
            [[metrics]]
            name = "depth"
            path = "/queue/max depth"
            [[metrics]]
            name = "none"
            path = "$.queue.none"
            [[metrics]]
            name = "gone"
            path = "$.queue.gone"
            [[metrics]]
            name = "empty"
            path = "$.queue[?@.x].gone"
        "#;
        let (lines, fault) = read(metrics, true);
        let wanted =
            ["pool_used_bytes{pool=\"a\",queue=\"q\"} 1.5", "pool_used_bytes{pool=\"b\",queue=\"q\"} 2", "depth 4"];
        assert_eq!(lines, wanted);
        assert_eq!(
            fault,
            "`pool_used_bytes`: at $.pools[*].used is no number but `{}`; `gone`: nothing is at $.queue.gone: correct its path"
        );
    }

    #[test]
    fn what_is_no_json_is_shown() {
        let told = JsonRules::new(&[], None, "a", false).read(b"<html>no").unwrap_err();
        assert!(told.0.contains("it begins with `<html>no`"), "{told}");
        assert!(JsonRules::new(&[], None, "a", false).read(b"{}").unwrap().fault.is_some());
    }

    #[test]
    fn a_short_answer_that_makes_much_is_refused() {
        let key = "k".repeat(100_000);
        let ones = vec!["1"; 10_000].join(",");
        let told =
            JsonRules::new(&[], None, "a", false).read(format!("{{\"{key}\":[{ones}]}}").as_bytes()).unwrap_err();
        assert!(told.0.contains("longer than 64 MiB together"), "{told}");
        let many = format!("[{}1]", "1,".repeat(VALUES_MAX + 1));
        let told = JsonRules::new(&[], None, "a", false).read(many.as_bytes()).unwrap_err();
        assert!(told.0.contains("more than 1000000 values"), "{told}");
        let labels = "[[metrics]]\nname = 'm'\npath = '$.list[*]'\nlabels = { text = '$.text' }";
        let metrics: BTreeMap<String, Vec<JsonMetric>> = toml::from_str(labels).unwrap();
        let document = format!("{{\"text\":\"{key}\",\"list\":[{ones}]}}");
        assert!(JsonRules::new(&metrics["metrics"], None, "a", false).read(document.as_bytes()).is_err());
    }

    #[test]
    fn a_timeout_names_the_address() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", held.local_addr().unwrap());
        let spec: JsonSpec = toml::from_str(&format!("url = '{url}'")).unwrap();
        let mut source = JsonSource::new(&spec, "a", Duration::from_millis(100), &World::real());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(source.read(Timestamp::from_nanos(0))).unwrap_err();
        assert!(told.0.starts_with(&format!("GET {url}: no answer within the timeout of 90ms")), "{told}");
    }
}
