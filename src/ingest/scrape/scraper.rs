//! Asks one target, over HTTP.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::pass::{Answer, Scrapes};
use super::spec::PrometheusSpec;
use super::target::Target;
use crate::ingest::http_client::{Credentials, Request, Response, fetch_within};
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
    credentials: Credentials,
    timeout: Duration,
    scrapes: Arc<Mutex<Scrapes>>,
}

impl Scraper {
    pub fn new(spec: &PrometheusSpec, target: Target, timeout: Duration, world: &World) -> Self {
        let timeout = timeout.mul_f64(SHARE);
        let mut headers = vec![
            ("accept".to_owned(), ACCEPT.to_owned()),
            ("x-prometheus-scrape-timeout-seconds".to_owned(), timeout.as_secs_f64().to_string()),
        ];
        headers.extend(spec.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let limit = usize::try_from(spec.body_limit.as_u64()).unwrap_or(usize::MAX);
        let request = Request { headers, limit, tls: spec.tls.clone(), ..Request::get(target.url) };
        let scrapes = Arc::new(Mutex::new(Scrapes::new(spec.reading(target.labels))));
        // What is at fault was told when the settings were read.
        let credentials = spec.credentials().unwrap_or(Credentials::None);
        Scraper { world: world.clone(), request, credentials, timeout, scrapes }
    }

    async fn ask(&self) -> Result<Answer, String> {
        let mut request = self.request.clone();
        request.headers.extend(self.credentials.header(&self.world).map_err(|error| error.to_string())?);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::ingest::scrape::target::Target;

    /// Answers each request with the next of `answers`; hangs up without one.
    fn serve(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let asked = move || {
            let mut heads = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                while !head.ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut buffer).unwrap();
                    head.extend_from_slice(&buffer[..read]);
                }
                heads.push(String::from_utf8(head).unwrap().to_ascii_lowercase());
                stream.write_all(answer.as_bytes()).unwrap();
                if answer.is_empty() {
                    // Until the other side has had enough.
                    let _ = stream.read(&mut buffer);
                }
            }
            heads
        };
        (place, std::thread::Builder::new().name("target".into()).spawn(asked).unwrap())
    }

    fn answer(status: &str, content: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn scraper(place: &str, written: &str) -> Scraper {
        let spec: PrometheusSpec = toml::from_str(&format!("targets = ['{place}']\n{written}")).unwrap();
        let target = Target::of(&spec.targets[0], "j", &spec, &[]).unwrap().unwrap();
        Scraper::new(&spec, target, Duration::from_millis(400), &World::real())
    }

    /// The first line of each pass, and its fault.
    fn passes(scraper: &mut Scraper, count: usize) -> Vec<(String, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut pass = || {
            let readings = runtime.block_on(scraper.read(Timestamp::from_nanos(0))).unwrap();
            let first = readings.lines().remove(0);
            (first.split('{').next().unwrap().to_owned(), readings.fault.map_or(String::new(), |fault| fault.0))
        };
        (0..count).map(|_| pass()).collect()
    }

    #[test]
    fn what_goes_wrong_is_told_and_ends_the_series() {
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let (place, asked) = serve(vec![
            answer("200 OK", "text/plain", "a 1\n"),
            answer("500 Oops", "text/plain", "b 1\n"),
            answer("200 OK", open, "c_total 1\n# EOF\n"),
            answer("200 OK", open, "c_total 1\n"),
            answer("200 OK", "text/plain", &"d 1 \n".repeat(50)),
            String::new(),
        ]);
        let mut scraper = scraper(&place, "body_limit = 200\nparams = { x = ['y'] }");
        let found = passes(&mut scraper, 6);
        let expected = [
            ("a", ""),
            ("a", "status 500"),
            ("c_total", ""),
            ("c_total", "# EOF"),
            ("up", "larger than"),
            ("up", "no answer within the timeout of 380ms"),
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.0, expected.0, "{found:?}");
            assert_eq!(found.1.is_empty(), expected.1.is_empty(), "{found:?}");
            assert!(found.1.contains(expected.1), "{found:?}");
        }
        let heads = asked.join().unwrap();
        assert!(heads.iter().all(|head| head.starts_with("get /metrics?x=y http/1.1\r\n")), "{heads:?}");
        for header in
            ["accept: application/openmetrics-text;version=1.0.0,", "accept-encoding: gzip", "-timeout-seconds: 0.38"]
        {
            assert!(heads[0].contains(header), "{header}: {}", heads[0]);
        }
    }

    #[test]
    fn who_asks_is_proved_with_what_the_file_says_now() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let ok = || answer("200 OK", "text/plain", "a 1\n");
        let (place, asked) = serve(vec![ok(), ok()]);
        let mut bearer =
            scraper(&place, &format!("bearer_token_file = '{}'\nheaders = {{ X-Tenant = 'T' }}", file.display()));
        passes(&mut bearer, 1);
        std::fs::write(&file, "two").unwrap();
        passes(&mut bearer, 1);
        std::fs::remove_file(&file).unwrap();
        let [(first, fault)] = &passes(&mut bearer, 1)[..] else { panic!("one pass") };
        assert!(first == "a" && fault.contains("bearer_token_file") && fault.contains("cannot be read"), "{fault}");
        let heads = asked.join().unwrap();
        assert!(heads[0].contains("authorization: bearer one\r\n") && heads[0].contains("x-tenant: t"), "{heads:?}");
        assert!(heads[1].contains("authorization: bearer two\r\n"), "{heads:?}");
        let (place, asked) = serve(vec![ok()]);
        passes(&mut scraper(&place, "basic_auth = { username = 'u', password = 'p' }"), 1);
        let heads = asked.join().unwrap();
        assert!(heads[0].contains("authorization: basic dtpw"), "{heads:?}");
    }
}
