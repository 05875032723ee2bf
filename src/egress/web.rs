//! Requests of couriers: who asks, what the answer means, and the thread they are made on.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::flow::{Courier, Outbox, WebSpec};
use crate::ingest::http_client::{BasicAuth, Credentials, Method, Request, Response, TlsSpec, fetch_within};
use crate::model::Timestamp;
use crate::world::World;

/// The longest that a server may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Bytes of an answer that are looked at.
const ANSWER_MAX: usize = 16 << 20;
/// Letters of an answer that are told.
const TOLD_MAX: usize = 200;

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Taken,
    /// What was sent will never be taken.
    Refused(String),
    /// It may be taken later, or elsewhere.
    Failed {
        told: String,
        retry_after: Option<Duration>,
    },
}

/// Makes requests as a sink is written.
pub(super) struct Web {
    credentials: Credentials,
    headers: Vec<(String, String)>,
    tls: TlsSpec,
    timeout: Duration,
    pub world: World,
}

impl Web {
    pub fn new(spec: &WebSpec, world: &World) -> Self {
        let basic = spec.basic_auth.as_ref().map(|basic| BasicAuth {
            username: basic.username.clone(),
            password: basic.password.clone(),
            password_file: basic.password_file.clone(),
        });
        let (bearer, file) = (spec.bearer_token.as_deref(), spec.bearer_token_file.as_deref());
        Web {
            // That one way at most is written was looked at when the file was read.
            credentials: Credentials::written(basic.as_ref(), bearer, file).unwrap_or(Credentials::None),
            headers: spec.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            tls: TlsSpec { ca_file: spec.ca_file.clone(), ..TlsSpec::default() },
            timeout: spec.timeout(),
            world: world.clone(),
        }
    }

    pub async fn post(&self, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let own = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let headers = own.chain(self.headers.iter().cloned()).collect();
        let request = Request { method: Method::POST, headers, body, redirects: 0, ..self.request(url) };
        match self.fetch(request).await {
            Ok(response) => self.judge(&response),
            Err(told) => Answer::Failed { told, retry_after: None },
        }
    }

    /// The text of a page.
    pub async fn get(&self, url: &str) -> Result<String, String> {
        let response = self.fetch(Request { headers: self.headers.clone(), ..self.request(url) }).await?;
        if response.status != 200 {
            return Err(told(&response));
        }
        String::from_utf8(response.body).map_err(|error| error.to_string())
    }

    fn request(&self, url: &str) -> Request {
        Request { limit: ANSWER_MAX, tls: self.tls.clone(), ..Request::get(url) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response, String> {
        let authorization = self.credentials.header(&self.world).map_err(|error| error.to_string())?;
        request.headers.extend(authorization);
        fetch_within(&request, &self.world, self.timeout).await.map_err(|error| error.to_string())
    }

    fn judge(&self, response: &Response) -> Answer {
        match response.status {
            200..=299 => Answer::Taken,
            400 | 413 | 415 | 422 => Answer::Refused(told(response)),
            _ => Answer::Failed {
                told: told(response),
                retry_after: response.header("retry-after").and_then(|text| retry_after(text, self.world.clock.now())),
            },
        }
    }
}

fn told(response: &Response) -> String {
    let body = String::from_utf8_lossy(&response.body);
    let body: String = body.trim().chars().take(TOLD_MAX).collect();
    format!("{} answers {}: {body}", response.url, response.status)
}

/// Seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_nanosecond();
            Duration::from_nanos(u64::try_from(date - i128::from(now.nanos())).unwrap_or(0))
        }
    };
    Some(after.min(RETRY_AFTER_MAX))
}

/// How long to leave alone whoever failed so many times in a row.
pub(super) fn back_off(failures: u32, retry_after: Option<Duration>) -> Duration {
    let usual = Duration::from_millis(500 << failures.clamp(1, 7));
    retry_after.unwrap_or_default().max(usual.min(Duration::from_secs(60)))
}

/// Says whenever there may be something to do in an outbox.
pub(super) type Bell = watch::Receiver<()>;

/// A thread with a runtime of its own.
struct Running {
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<()>>,
}

impl Courier for Running {}

impl Drop for Running {
    fn drop(&mut self) {
        self.outbox.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs what empties an outbox until that is closed.
pub(super) fn run<F: Future<Output = ()>>(
    sink: &str,
    outbox: Arc<Outbox>,
    work: impl FnOnce(Bell) -> F + Send + 'static,
) -> io::Result<Box<dyn Courier>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (rings, bell) = watch::channel(());
    outbox.ring(move || {
        // Nobody listens any more when the thread has ended.
        let _ = rings.send(());
    });
    let until = outbox.clone();
    let thread = std::thread::Builder::new().name(format!("sink-{sink}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = closed(&until, bell.clone()) => {}
                () = work(bell) => {}
            }
        });
        // A name that is being looked up ends in its own time.
        runtime.shutdown_background();
    })?;
    Ok(Box::new(Running { outbox, thread: Some(thread) }))
}

async fn closed(outbox: &Outbox, mut bell: Bell) {
    while !outbox.is_closed() {
        if bell.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_it_wants_to_be_left_alone() {
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let after = |text: &str| retry_after(text, now).map(|after| after.as_secs());
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Thu, 01 Jan 2026 00:01:00 GMT"), Some(60));
        assert_eq!(after("Wed, 01 Jan 2020 00:01:00 GMT"), Some(0));
        assert_eq!(after("999999"), Some(3600));
        assert_eq!(after("soon"), None);
        let waits: Vec<u64> = (1..9).map(|failures| back_off(failures, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(back_off(1, Some(Duration::from_secs(9))).as_secs(), 9);
    }
}
