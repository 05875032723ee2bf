//! Asks one target, over HTTP.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::pass::{Answer, Scrapes};
use super::spec::PrometheusSpec;
use super::target::Target;
use crate::ingest::http_client::{Request, Response, TlsSpec, basic, fetch_within};
use crate::ingest::source::{Readings, Source, SourceError};
use crate::model::Timestamp;
use crate::world::World;

/// What is asked for: OpenMetrics before Prometheus' own text.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// The part of its timeout that a scrape may take; the rest is for storing what it brought.
const SHARE: f64 = 0.95;

/// One target.
pub(super) struct Scraper {
    world: World,
    request: Request,
    proof: Proof,
    timeout: Duration,
    scrapes: Arc<Mutex<Scrapes>>,
}

/// How we prove who we are.
enum Proof {
    None,
    Bearer(Secret),
    Basic(String, Secret),
}

/// A text that is written, or in a file.
enum Secret {
    Text(String),
    File(&'static str, PathBuf),
}

impl Secret {
    fn of(text: Option<&String>, key: &'static str, file: Option<&PathBuf>) -> Option<Secret> {
        let text = text.map(|text| Secret::Text(text.clone()));
        text.or_else(|| file.map(|path| Secret::File(key, path.clone())))
    }

    fn read(&self, world: &World) -> Result<String, String> {
        let (key, path) = match self {
            Secret::Text(text) => return Ok(text.clone()),
            Secret::File(key, path) => (key, path),
        };
        let read = world.disk.open(path).and_then(|file| file.read_all());
        let told = |why: &dyn std::fmt::Display| {
            format!("{key} {} cannot be read ({why}): name a file that is there", path.display())
        };
        let bytes = read.map_err(|error| told(&error))?;
        Ok(String::from_utf8(bytes).map_err(|error| told(&error))?.trim().to_owned())
    }
}

impl Proof {
    fn of(spec: &PrometheusSpec) -> Proof {
        let file = spec.bearer_token_file.as_ref();
        if let Some(token) = Secret::of(spec.bearer_token.as_ref(), "bearer_token_file", file) {
            return Proof::Bearer(token);
        }
        let Some(auth) = &spec.basic_auth else { return Proof::None };
        let password = Secret::of(auth.password.as_ref(), "password_file", auth.password_file.as_ref());
        Proof::Basic(auth.username.clone(), password.unwrap_or(Secret::Text(String::new())))
    }

    /// The value of the header `authorization`.
    fn header(&self, world: &World) -> Result<Option<String>, String> {
        Ok(match self {
            Proof::None => None,
            Proof::Bearer(token) => Some(format!("Bearer {}", token.read(world)?)),
            Proof::Basic(user, password) => Some(basic(user, &password.read(world)?)),
        })
    }
}

impl Scraper {
    pub fn new(spec: &PrometheusSpec, target: Target, timeout: Duration, world: &World) -> Self {
        let timeout = timeout.mul_f64(SHARE);
        let mut headers = vec![
            ("accept".to_owned(), ACCEPT.to_owned()),
            ("x-prometheus-scrape-timeout-seconds".to_owned(), timeout.as_secs_f64().to_string()),
        ];
        headers.extend(spec.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let tls = TlsSpec {
            ca_file: spec.ca_file.clone(),
            cert_file: spec.cert_file.clone(),
            key_file: spec.key_file.clone(),
            server_name: spec.server_name.clone(),
            insecure_skip_verify: spec.insecure_skip_verify,
        };
        let limit = usize::try_from(spec.body_limit.as_u64()).unwrap_or(usize::MAX);
        let request = Request { headers, limit, tls, ..Request::get(target.url) };
        let scrapes = Arc::new(Mutex::new(Scrapes::new(spec.reading(target.labels))));
        Scraper { world: world.clone(), request, proof: Proof::of(spec), timeout, scrapes }
    }

    async fn ask(&self) -> Result<Answer, String> {
        let mut request = self.request.clone();
        let proof = self.proof.header(&self.world)?;
        request.headers.extend(proof.map(|proof| ("authorization".to_owned(), proof)));
        let response = fetch_within(&request, &self.world, self.timeout).await.map_err(|error| error.to_string())?;
        answer(response)
    }
}

fn answer(response: Response) -> Result<Answer, String> {
    if response.status != 200 {
        return Err(format!(
            "GET {}: it answers with status {}: check path, params and who may ask",
            response.url, response.status
        ));
    }
    let content = response.header("content-type").unwrap_or_default();
    let is_open_metrics = content.trim_start().to_ascii_lowercase().starts_with("application/openmetrics-text");
    Ok(Answer { body: response.body, is_open_metrics })
}

#[async_trait]
impl Source for Scraper {
    async fn read(&mut self, _now: Timestamp) -> Result<Readings, SourceError> {
        let started = self.world.clock.elapsed();
        let answer = self.ask().await;
        let (scrapes, clock) = (self.scrapes.clone(), self.world.clock.clone());
        let settled = tokio::task::spawn_blocking(move || {
            let mut scrapes = scrapes.lock().unwrap_or_else(PoisonError::into_inner);
            scrapes.settle(answer, || clock.elapsed().saturating_sub(started))
        });
        settled.await.map_err(|error| SourceError::new(format!("the answer was not read: {error}")))
    }

    fn keeps_pace(&self) -> bool {
        true
    }
}
