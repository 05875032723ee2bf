//! A small HTTP client for sources: one request over a connection of its own, with the time that each phase took, the
//! server's certificate, and errors that say what was asked, what failed and what to do.
//!
//! ```text
//! resolve → connect → tls → processing (until the first byte of the answer) → transfer      summed over redirects
//! ```

mod auth;
mod certificate;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::{Host, Url};

use super::SourceError;
use crate::world::World;

pub use auth::{BasicAuth, Credentials};
pub use certificate::Certificate;
pub use hyper::{Method, Version};
pub use tls::TlsSpec;

/// Bytes of an answer that are taken where nobody says.
const LIMIT: usize = 16 << 20;
/// How long an address may keep the next one waiting (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);
/// Headers that any host may see.
const PLAIN: [HeaderName; 4] = [header::ACCEPT, header::ACCEPT_ENCODING, header::CONTENT_TYPE, header::USER_AGENT];

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// `http` or `https`; a user and password in it are sent as basic authentication.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the answer's body, after decompression; more is an error.
    pub limit: usize,
    pub tls: TlsSpec,
    /// How many redirects are followed. At 0 the answer that redirects is the answer.
    pub redirects: u8,
}

impl Request {
    pub fn get(url: impl Into<String>) -> Self {
        Request {
            method: Method::GET,
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            limit: LIMIT,
            tls: TlsSpec::default(),
            redirects: 10,
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// Without compression.
    pub body: Vec<u8>,
    pub phases: Phases,
    pub version: Version,
    /// The server's, over TLS.
    pub certificate: Option<Certificate>,
    /// Where it came from, after redirects.
    pub url: String,
    /// Redirects that were followed.
    pub redirected: u8,
}

impl Response {
    /// The text of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What a request goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Resolve,
    Connect,
    Tls,
    Processing,
    Transfer,
}

impl Phase {
    pub const ALL: [Phase; 5] = [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing, Phase::Transfer];

    pub const fn name(self) -> &'static str {
        match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Processing => "processing",
            Phase::Transfer => "transfer",
        }
    }
}

/// How long each phase took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases([Duration; 5]);

impl Phases {
    pub fn of(&self, phase: Phase) -> Duration {
        self.0[phase as usize]
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{asked}: {told}")]
pub struct FetchError {
    /// Method and address, without a password.
    pub asked: String,
    /// What happened and what to do.
    pub told: String,
    /// Where it happened.
    pub phase: Phase,
    pub phases: Phases,
    /// The server's, also where it is what failed.
    pub certificate: Option<Certificate>,
}

impl FetchError {
    /// Of a request that could not even be made.
    pub(super) fn unasked(request: &Request, told: String) -> Self {
        let asked = format!("{} {}", request.method, shown_text(&request.url));
        FetchError { asked, told, phase: Phase::Resolve, phases: Phases::default(), certificate: None }
    }
}

impl From<Box<FetchError>> for SourceError {
    fn from(error: Box<FetchError>) -> Self {
        SourceError::new(error.to_string())
    }
}

/// Reads an address: the rule for all that is written in settings.
///
/// # Errors
/// What is wrong with it and what to write.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let told = |what: &dyn fmt::Display| {
        format!("`{}` is no address ({what}): write one as http://host:port/path", shown_text(text))
    };
    let url = Url::parse(text).map_err(|error| told(&error))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        (scheme, _) => Err(told(&format_args!("`{scheme}` is neither http nor https"))),
    }
}

/// What is wrong with headers as they are written: the key, and what to write. Their values may be secrets.
pub(super) fn header_faults(headers: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let fault = |(name, value): (&String, &String)| {
        let remedy = match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Err(_), _) => "write letters, digits and `-` in its name",
            (_, Err(_)) => "write its value on one line",
            _ => return None,
        };
        Some(("headers", format!("`{}` cannot be sent: {remedy}", name.escape_debug())))
    };
    headers.iter().filter_map(fault).collect()
}

/// Asks once. It has no timeout of its own: drop it to end it, or use [`fetch_within`].
///
/// # Errors
/// Why no whole answer came. An answer of any status is an answer.
pub async fn fetch(request: &Request, world: &World) -> Result<Response, Box<FetchError>> {
    let mut trip = Trip::new(request, world);
    let went = trip.go().await;
    went.map_err(|told| trip.fail(told))
}

/// The same within `timeout`; the error says what took so long.
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_within(request: &Request, world: &World, timeout: Duration) -> Result<Response, Box<FetchError>> {
    let mut trip = Trip::new(request, world);
    let went = tokio::time::timeout(timeout, trip.go()).await;
    let went = went.unwrap_or_else(|_| {
        let (limit, phase) = (humantime::format_duration(timeout), trip.phase.name());
        Err(format!("no answer within the timeout of {limit}: it was in the phase {phase}"))
    });
    went.map_err(|told| trip.fail(told))
}

/// A request on its way.
struct Trip<'r> {
    request: &'r Request,
    world: &'r World,
    asked: String,
    phase: Phase,
    /// When this phase began.
    since: Duration,
    phases: Phases,
    certificate: Option<Certificate>,
}

/// Keeps a connection going; ends it when dropped.
type Driver = JoinSet<()>;

impl<'r> Trip<'r> {
    fn new(request: &'r Request, world: &'r World) -> Self {
        Trip {
            request,
            world,
            asked: format!("{} {}", request.method, shown_text(&request.url)),
            phase: Phase::Resolve,
            since: world.clock.elapsed(),
            phases: Phases::default(),
            certificate: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        let now = self.world.clock.elapsed();
        self.phases.0[self.phase as usize] += now.saturating_sub(self.since);
        (self.phase, self.since) = (phase, now);
    }

    fn fail(&mut self, told: String) -> Box<FetchError> {
        self.enter(self.phase);
        let (asked, certificate) = (std::mem::take(&mut self.asked), self.certificate.take());
        Box::new(FetchError { asked, told, phase: self.phase, phases: self.phases, certificate })
    }

    async fn go(&mut self) -> Result<Response, String> {
        let mut leg = Leg::first(self.request)?;
        let mut redirected = 0;
        loop {
            self.asked = format!("{} {}", leg.method, shown(&leg.url));
            let (answer, driver) = self.ask(&leg).await?;
            match leg.next(&answer)? {
                Some(next) if redirected < self.request.redirects => {
                    leg = next;
                    redirected += 1;
                }
                Some(_) if redirected > 0 => {
                    return Err(format!("redirected more than {redirected} times: ask the last address itself"));
                }
                _ => return self.take(answer, driver, &leg, redirected).await,
            }
        }
    }

    /// Up to the head of the answer.
    async fn ask(&mut self, leg: &Leg) -> Result<(hyper::Response<Incoming>, Driver), String> {
        self.enter(Phase::Resolve);
        let addresses = leg.addresses().await?;
        self.enter(Phase::Connect);
        let stream = connect(addresses).await?;
        if leg.url.scheme() != "https" {
            return self.send(leg, stream).await;
        }
        self.enter(Phase::Tls);
        let host = leg.url.host_str().unwrap_or_default();
        let shaken = tls::shake_hands(&self.request.tls, self.world, host, stream).await;
        self.certificate = shaken.certificate;
        self.send(leg, shaken.stream?).await
    }

    async fn send<S>(&mut self, leg: &Leg, stream: S) -> Result<(hyper::Response<Incoming>, Driver), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.enter(Phase::Processing);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| told_of_hyper(&error))?;
        let mut driver = Driver::new();
        driver.spawn(async move {
            // What went wrong is told to whoever waits for the answer.
            let _ = connection.await;
        });
        let answer = sender.send_request(leg.to_request()?).await.map_err(|error| told_of_hyper(&error))?;
        self.enter(Phase::Transfer);
        Ok((answer, driver))
    }

    /// The body, and all that is known now.
    async fn take(
        &mut self,
        answer: hyper::Response<Incoming>,
        driver: Driver,
        leg: &Leg,
        redirected: u8,
    ) -> Result<Response, String> {
        let (head, body) = answer.into_parts();
        let body = self.body(body).await?;
        drop(driver);
        let body = plain(body, head.headers.get(header::CONTENT_ENCODING), self.request.limit)?;
        self.enter(Phase::Transfer);
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            phases: self.phases,
            version: head.version,
            certificate: self.certificate.take(),
            url: shown(&leg.url),
            redirected,
        })
    }

    async fn body(&self, mut body: Incoming) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| told_of_hyper(&error))?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > self.request.limit {
                return Err(too_large(self.request.limit));
            }
        }
        Ok(bytes)
    }
}

/// A request to one address: the first, or where it was redirected to.
struct Leg {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Leg {
    fn first(request: &Request) -> Result<Leg, String> {
        let url = parse_url(&request.url)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("plimsoll/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let authorization = Some(url.username()).filter(|user| !user.is_empty());
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
        let password = decoded(url.password().unwrap_or(""));
        let authorization = authorization.map(|user| ("authorization", basic(&decoded(user), &password)));
        let written = request.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in authorization.into_iter().chain(written) {
            let told = |error: &dyn fmt::Display| format!("the header `{name}` cannot be sent ({error}): correct it");
            let key = HeaderName::try_from(name).map_err(|error| told(&error))?;
            let value = HeaderValue::try_from(value).map_err(|error| told(&error))?;
            headers.insert(key, value);
        }
        Ok(Leg { url, method: request.method.clone(), headers, body: Bytes::from(request.body.clone()) })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let port = self.url.port_or_known_default().unwrap_or(80);
        let name = match self.url.host() {
            Some(Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
            Some(Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
            Some(Host::Domain(name)) => name,
            None => "",
        };
        let unknown = |why: &dyn fmt::Display| {
            format!("the name `{name}` is not resolved ({why}): check the name and this machine's DNS")
        };
        let found: Vec<SocketAddr> =
            tokio::net::lookup_host((name, port)).await.map_err(|error| unknown(&error))?.collect();
        if found.is_empty() { Err(unknown(&"it has no address")) } else { Ok(found) }
    }

    fn to_request(&self) -> Result<hyper::Request<Full<Bytes>>, String> {
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = hyper::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = path.parse().map_err(|error| format!("its path cannot be sent ({error}): correct it"))?;
        *request.headers_mut() = self.headers.clone();
        // The host that was written, if one was, else that of the address.
        if !self.headers.contains_key(header::HOST) {
            let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
            let host = HeaderValue::try_from(host).map_err(|error| format!("its host cannot be sent ({error})"))?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    /// Where the answer sends us, if it does.
    fn next(&self, answer: &hyper::Response<Incoming>) -> Result<Option<Leg>, String> {
        let status = answer.status().as_u16();
        let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else { return Ok(None) };
        let wrong = |error: &dyn fmt::Display| {
            format!("it redirects to `{}`, which is no address ({error})", shown_text(location))
        };
        let url = self.url.join(location).map_err(|error| wrong(&error))?;
        parse_url(url.as_str()).map_err(|error| wrong(&error))?;
        let mut headers = self.headers.clone();
        headers.remove(header::HOST);
        if url.origin() != self.url.origin() {
            // What was written may prove who we are: it is for the host it was written for.
            headers = PLAIN.iter().filter_map(|name| Some((name.clone(), self.headers.get(name)?.clone()))).collect();
        }
        let keeps = matches!(status, 307 | 308) || [Method::GET, Method::HEAD].contains(&self.method);
        let (method, body) = if keeps { (self.method.clone(), self.body.clone()) } else { (Method::GET, Bytes::new()) };
        Ok(Some(Leg { url, method, headers, body }))
    }
}

/// The value of the header `authorization` for a user and password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// An address as it may be shown.
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // An address with a host takes both.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.into()
}

/// What was written for an address, as it may be shown: of what is none, all that may be user and password is left out.
pub(super) fn shown_text(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.has_host() => shown(&url),
        _ => {
            let (scheme, rest) = text.find("://").map_or(("", text), |at| text.split_at(at + 3));
            format!("{scheme}{}", rest.rsplit('@').next().unwrap_or_default())
        }
    }
}

/// Tries all addresses, each a moment after the one before it; the first that takes us counts.
async fn connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let mut waiting = addresses.into_iter();
    let mut tries: JoinSet<(SocketAddr, io::Result<TcpStream>)> = JoinSet::new();
    let mut failed = String::new();
    loop {
        if let Some(address) = waiting.next() {
            tries.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let are_more = waiting.len() > 0;
        tokio::select! {
            tried = tries.join_next() => match tried {
                Some(Ok((_, Ok(stream)))) => {
                    // A small request must not wait for company.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Ok((address, Err(error)))) => failed = told_of_connect(address, &error),
                Some(Err(error)) => failed = format!("no connection: {error}"),
                None => return Err(failed),
            },
            () = tokio::time::sleep(HEAD_START), if are_more => {}
        }
    }
}

fn told_of_connect(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{address} refuses connections: check that the server runs there, on that port")
        }
        _ => format!("no connection to {address}: {error}"),
    }
}

fn told_of_hyper(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "the connection was closed before the whole answer came: see the server's log".to_owned();
    }
    if error.is_parse() {
        return format!("the answer is not HTTP ({error}): check the port, and whether it is https");
    }
    let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    format!("the connection broke: {error}{cause}")
}

fn too_large(limit: usize) -> String {
    let limit = bytesize::ByteSize::b(limit as u64);
    format!("the answer is larger than {limit}: ask for less, or raise the limit")
}

/// Undoes what `encoding` says.
fn plain(body: Vec<u8>, encoding: Option<&HeaderValue>, limit: usize) -> Result<Vec<u8>, String> {
    let encoding = encoding.and_then(|encoding| encoding.to_str().ok()).unwrap_or("").trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(body),
        // An answer without content, as to HEAD, is not even an empty archive.
        "gzip" | "x-gzip" if body.is_empty() => Ok(body),
        "gzip" | "x-gzip" => {
            let mut plain = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(&*body).take(limit as u64 + 1);
            reader.read_to_end(&mut plain).map_err(|error| format!("the answer's gzip is broken: {error}"))?;
            if plain.len() > limit { Err(too_large(limit)) } else { Ok(plain) }
        }
        other => Err(format!("the answer is compressed as `{other}`, which was not asked for: only gzip is read")),
    }
}
