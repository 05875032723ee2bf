//! Asks an address over HTTP and says how it went: the metrics of the blackbox exporter, under its names where it has
//! one. A probe that fails is told as `probe_success 0` and as the source's fault.

mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytesize::ByteSize;
use regex::bytes::Regex;
use serde::Deserialize;

pub use status::StatusRange;

use super::http_client::{
    BasicAuth, Certificate, Credentials, FetchError, Method, Phase, Phases, Request, Response, TlsSpec, Version,
    fetch_within, header_faults, parse_url, shown_text,
};
use super::json::{body_max, get, method_fault, reserve};
use super::{About, Readings, Source, SourceError};
use crate::model::{Kind, Timestamp};
use crate::world::World;

/// `from.http = { url = "https://example.org/health", contains = "ok" }`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    #[serde(default)]
    pub url: Option<String>,
    /// Several, each asked on its own.
    #[serde(default)]
    pub urls: Vec<String>,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    /// Statuses that are a success, as in `[204, "300..399"]`.
    #[serde(default = "success")]
    pub status: Vec<StatusRange>,
    /// Regular expression of what the answer must have in it.
    #[serde(default)]
    pub contains: Option<Expression>,
    /// The same of what must not be in it.
    #[serde(default)]
    pub not_contains: Option<Expression>,
    /// 0 takes the answer that redirects as the answer.
    #[serde(default = "redirects")]
    pub max_redirects: u8,
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
}

fn success() -> Vec<StatusRange> {
    vec![StatusRange { from: 200, to: 299 }]
}

fn redirects() -> u8 {
    10
}

/// A regular expression, checked where it is written.
#[derive(Debug, Clone)]
pub struct Expression(Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let told = |error| serde::de::Error::custom(format!("`{text}` is no regular expression: {error}"));
        Regex::new(&text).map(Expression).map_err(told)
    }
}

impl HttpSpec {
    /// All addresses, and what each is called: the address without user and password, from the second of one name on with
    /// a number.
    pub(super) fn targets(&self) -> Vec<(&str, String)> {
        let mut targets: Vec<(&str, String)> = Vec::new();
        for url in self.addresses() {
            let name = shown_text(url);
            let numbered = (2..).map(|number| format!("{name}#{number}"));
            let mut names = std::iter::once(name.clone()).chain(numbered);
            let free = names.find(|name| targets.iter().all(|(_, taken)| taken != name)).unwrap_or_default();
            targets.push((url, free));
        }
        targets
    }

    fn addresses(&self) -> Vec<&str> {
        self.url.iter().chain(&self.urls).map(String::as_str).collect()
    }

    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let (targets, mut faults) = (self.addresses(), Vec::new());
        if targets.is_empty() {
            faults.push(("http", "write whom to ask, as in url = \"https://example.org/health\"".to_owned()));
        }
        if let Some(twice) = (1..targets.len()).find(|&at| targets[..at].contains(&targets[at])) {
            faults.push(("urls", format!("`{}` is written twice: leave one out", shown_text(targets[twice]))));
        }
        let key = if self.url.is_some() { "url" } else { "urls" };
        faults.extend(targets.iter().filter_map(|target| parse_url(target).err()).map(|told| (key, told)));
        faults.extend(method_fault(&self.method));
        faults.extend(header_faults(&self.headers));
        faults.extend(self.credentials().err());
        faults.extend(self.tls.fault());
        faults
    }

    fn credentials(&self) -> Result<Credentials, (&'static str, String)> {
        Credentials::written(self.basic_auth.as_ref(), self.bearer_token.as_deref(), self.bearer_token_file.as_deref())
    }
}

/// A probe of one address.
pub struct HttpSource {
    spec: HttpSpec,
    request: Request,
    credentials: Credentials,
    target: String,
    timeout: Duration,
    world: World,
}

impl HttpSource {
    /// Of the address `url` among those of `spec`, which is called `target`. `timeout` is that of the source: the probe ends a moment before, to tell what
    /// took so long.
    pub fn new(spec: &HttpSpec, url: &str, target: String, timeout: Duration, world: &World) -> Self {
        let request = Request {
            method: Method::from_bytes(spec.method.as_bytes()).unwrap_or(Method::GET),
            headers: spec.headers.clone().into_iter().collect(),
            body: spec.body.clone().into_bytes(),
            limit: usize::try_from(spec.body_max.as_u64()).unwrap_or(usize::MAX),
            tls: spec.tls.clone(),
            redirects: spec.max_redirects,
            ..Request::get(url)
        };
        HttpSource {
            credentials: spec.credentials().unwrap_or(Credentials::None),
            spec: spec.clone(),
            request,
            target,
            timeout: timeout - reserve(timeout),
            world: world.clone(),
        }
    }

    async fn probe(&self) -> Result<Response, Box<FetchError>> {
        let mut request = self.request.clone();
        match self.credentials.header(&self.world) {
            Ok(header) => request.headers.extend(header),
            Err(error) => return Err(Box::new(FetchError::unasked(&request, error.0))),
        }
        fetch_within(&request, &self.world, self.timeout).await
    }

    /// Why an answer is no success, if so.
    fn judge(&self, response: &Response) -> Option<Failure> {
        let (status, asked) = (response.status, format!("{} {}", self.request.method, response.url));
        if !self.spec.status.iter().any(|range| range.contains(status)) {
            let ranges: Vec<String> = self.spec.status.iter().map(ToString::to_string).collect();
            let told = format!("{asked}: status {status} is not among {}", ranges.join(", "));
            return Some(Failure { told, is_by_text: false });
        }
        let by_text = |told: String| Some(Failure { told: format!("{asked}: {told}"), is_by_text: true });
        match (&self.spec.contains, &self.spec.not_contains) {
            (Some(Expression(wanted)), _) if !wanted.is_match(&response.body) => {
                by_text(format!("`{wanted}` is not in the answer"))
            }
            (_, Some(Expression(unwanted))) if unwanted.is_match(&response.body) => {
                by_text(format!("`{unwanted}` is in the answer"))
            }
            _ => None,
        }
    }

    fn told(&self, now: Timestamp, probed: Result<&Response, &FetchError>) -> Readings {
        let mut told = Told { readings: Readings::default(), target: &self.target };
        let failure = match probed {
            Ok(response) => self.judge(response),
            Err(error) => Some(Failure { told: error.to_string(), is_by_text: false }),
        };
        let yes = |is: bool| f64::from(u8::from(is));
        told.put("probe_success", "", "1 where the answer is as it should be.", yes(failure.is_none()));
        let by_text = yes(failure.as_ref().is_some_and(|failure| failure.is_by_text));
        told.put("probe_failed_due_to_regex", "", "1 where the answer's text is what failed.", by_text);
        let (phases, certificate) = match probed {
            Ok(response) => {
                told.answer(response);
                (response.phases, response.certificate.as_ref())
            }
            Err(error) => {
                told.put("probe_http_status_code", "", STATUS, 0.0);
                (error.phases, error.certificate.as_ref())
            }
        };
        told.phases(&phases);
        if let Some(certificate) = certificate {
            told.certificate(certificate, now);
        }
        told.readings.fault = failure.map(|failure| SourceError::new(failure.told));
        told.readings
    }
}

const STATUS: &str = "Status of the answer; 0 without one.";

struct Failure {
    told: String,
    is_by_text: bool,
}

/// The metrics of a probe on their way.
struct Told<'t> {
    readings: Readings,
    target: &'t str,
}

impl Told<'_> {
    fn put(&mut self, metric: &str, unit: &str, help: &str, value: f64) {
        self.readings.put(metric, &[("target", self.target)], about(unit, help), value);
    }

    fn answer(&mut self, response: &Response) {
        let length = response.header("content-length").and_then(|length| length.parse().ok());
        let length = length.unwrap_or(response.body.len() as f64);
        self.put("probe_http_status_code", "", STATUS, response.status.into());
        self.put("probe_http_content_length", "bytes", "Length of the answer as it was sent.", length);
        let body = response.body.len() as f64;
        self.put("probe_http_uncompressed_body_length", "bytes", "Length of the answer without compression.", body);
        self.put("probe_http_redirects", "", "Redirects that were followed.", response.redirected.into());
        let ssl = f64::from(u8::from(response.certificate.is_some()));
        self.put("probe_http_ssl", "", "1 where the last answer came over TLS.", ssl);
        let version = if response.version == Version::HTTP_10 { 1.0 } else { 1.1 };
        self.put("probe_http_version", "", "Version of HTTP.", version);
    }

    fn phases(&mut self, phases: &Phases) {
        let total = phases.total().as_secs_f64();
        self.put("probe_duration_seconds", "seconds", "How long the probe took.", total);
        for phase in Phase::ALL {
            let labels = [("target", self.target), ("phase", phase.name())];
            let about = about("seconds", "How long each phase of the probe took, redirects included.");
            self.readings.put("probe_phase_duration_seconds", &labels, about, phases.of(phase).as_secs_f64());
        }
    }

    fn certificate(&mut self, certificate: &Certificate, now: Timestamp) {
        let help = "Days until the server's certificate expires.";
        self.put("probe_tls_certificate_days", "days", help, certificate.days_left(now));
        let help = "When the first certificate that the server sent expires, in seconds since 1970.";
        self.put("probe_ssl_earliest_cert_expiry", "seconds", help, certificate.chain_expires as f64);
    }
}

fn about<'t>(unit: &'t str, help: &'t str) -> About<'t> {
    About { kind: Some(Kind::Gauge), unit, help }
}

#[async_trait]
impl Source for HttpSource {
    async fn read(&mut self, now: Timestamp) -> Result<Readings, SourceError> {
        let probed = self.probe().await;
        Ok(self.told(now, probed.as_ref().map_err(AsRef::as_ref)))
    }

    /// That it is down is told by its samples, and by how many there are.
    fn keeps_pace(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_read_is_a_failed_probe_and_failed_probes_keep_their_pace() {
        let spec: HttpSpec = toml::from_str("url = 'http://h/'\nbearer_token_file = '/no/such/token'").unwrap();
        let mut source = HttpSource::new(&spec, "http://h/", "h".into(), Duration::from_secs(1), &World::real());
        assert!(source.keeps_pace());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let readings = runtime.block_on(source.read(Timestamp::from_nanos(0))).unwrap();
        assert!(readings.lines().contains(&"probe_success{target=\"h\"} 0".to_owned()), "{:?}", readings.lines());
        let fault = readings.fault.unwrap().0;
        assert!(fault.starts_with("GET http://h/: bearer_token_file /no/such/token cannot be read"), "{fault}");
    }
}
