//! What pipeline files say of the ways out: where to, and how.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

/// What becomes of what has no room in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// The pipeline waits, and so do those who send.
    #[default]
    Wait,
    /// It is dropped and counted.
    Drop,
}

/// A way out.
#[derive(Debug, Clone)]
pub enum Delivery {
    File(FileSpec),
    Stdout,
    Webhook(WebhookSpec),
    Forward(ForwardSpec),
}

/// How lines of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineFormat {
    #[default]
    Ndjson,
    /// Samples only: `series,time,value`.
    Csv,
}

/// `write.file`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    pub path: PathBuf,
    #[serde(default)]
    pub format: LineFormat,
    /// A file that is as large is set aside and a new one begun.
    #[serde(default = "FileSpec::default_size")]
    pub size: ByteSize,
    /// So many files set aside are kept, the newest as `path.1`.
    #[serde(default = "FileSpec::default_keep")]
    pub keep: u32,
}

impl FileSpec {
    fn default_size() -> ByteSize {
        ByteSize::mb(64)
    }

    fn default_keep() -> u32 {
        3
    }

    /// What is wrong, and what to write.
    pub fn fault(&self) -> Option<String> {
        if self.path.as_os_str().is_empty() {
            return Some("path is empty: write where the file is to be".to_owned());
        }
        if self.size.as_u64() < 1000 {
            return Some(format!("size = {} cannot be: write 1 kB or more", self.size));
        }
        (self.keep > 1000).then(|| format!("keep = {} cannot be: write 0 to 1000", self.keep))
    }
}

/// `basic_auth = { username = "…", password = "…" }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicSpec {
    pub username: String,
    #[serde(default)]
    pub password: String,
    /// A file with the password, read at each request.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// How requests are made, whatever is sent.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct WebSpec {
    pub headers: BTreeMap<String, String>,
    pub basic_auth: Option<BasicSpec>,
    pub bearer_token: Option<String>,
    /// A file with the token, read at each request.
    pub bearer_token_file: Option<PathBuf>,
    /// Certificates that are trusted besides those of this machine, a PEM file.
    pub ca_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

/// Without what may be secret.
impl std::fmt::Debug for WebSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSpec").field("headers", &self.headers.keys()).field("timeout", &self.timeout).finish()
    }
}

impl WebSpec {
    const KEYS: [&str; 6] = ["headers", "basic_auth", "bearer_token", "bearer_token_file", "ca_file", "timeout"];

    /// How long a request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(10))
    }

    fn fault(&self) -> Option<String> {
        let ways = [self.basic_auth.is_some(), self.bearer_token.is_some(), self.bearer_token_file.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Some("write one of basic_auth, bearer_token and bearer_token_file".to_owned());
        }
        let both = |basic: &BasicSpec| !basic.password.is_empty() && basic.password_file.is_some();
        if self.basic_auth.as_ref().is_some_and(both) {
            return Some("write either password or password_file".to_owned());
        }
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        for (name, value) in &self.headers {
            if !is_name(name) {
                return Some(format!(
                    "the header `{}` cannot be sent: write letters, digits and - in its name",
                    name.escape_debug()
                ));
            }
            if value.chars().any(char::is_control) {
                return Some(format!("the header `{name}` cannot be sent: write its value on one line"));
            }
        }
        self.timeout().is_zero().then(|| "timeout = 0 cannot be: write 1s or more".to_owned())
    }
}

/// `write.webhook`
#[derive(Debug, Clone, Deserialize)]
pub struct WebhookSpec {
    pub url: String,
    /// Rows of a request at most.
    #[serde(default = "WebhookSpec::default_batch")]
    pub batch: usize,
    /// How long a row waits for others.
    #[serde(with = "humantime_serde", default = "WebhookSpec::default_every")]
    pub every: Duration,
    #[serde(flatten)]
    pub web: WebSpec,
    #[serde(flatten)]
    pub unknown: BTreeMap<String, toml::Value>,
}

impl WebhookSpec {
    fn default_batch() -> usize {
        100
    }

    fn default_every() -> Duration {
        Duration::from_secs(5)
    }

    /// What is wrong, and what to write.
    pub fn fault(&self) -> Option<String> {
        let fault = unknown_key(&self.unknown, &["url", "batch", "every"]).or_else(|| url_fault(&self.url));
        if self.batch == 0 || self.batch > 10_000 {
            return fault.or_else(|| Some(format!("batch = {} cannot be: write 1 to 10000", self.batch)));
        }
        fault.or_else(|| self.web.fault())
    }
}

/// Which upstream is sent to next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    #[default]
    RoundRobin,
    Weighted,
    LeastConnections,
    LeastResponseTime,
    Resource,
    Hash,
}

/// One of several upstreams.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    pub url: String,
    /// Its share, next to those of the others.
    #[serde(default = "UpstreamSpec::default_weight")]
    pub weight: u32,
}

impl UpstreamSpec {
    fn default_weight() -> u32 {
        1
    }
}

/// `write.forward`
#[derive(Debug, Clone, Deserialize)]
pub struct ForwardSpec {
    /// Where remote write is taken, as in `http://host:9464/api/v1/write`.
    #[serde(default)]
    pub urls: Vec<String>,
    #[serde(default)]
    pub upstreams: Vec<UpstreamSpec>,
    #[serde(default)]
    pub strategy: Strategy,
    /// Samples of a request, about.
    #[serde(default = "ForwardSpec::default_batch")]
    pub batch: usize,
    #[serde(flatten)]
    pub web: WebSpec,
    #[serde(flatten)]
    pub unknown: BTreeMap<String, toml::Value>,
}

impl ForwardSpec {
    fn default_batch() -> usize {
        5000
    }

    /// All upstreams, however they are written.
    pub fn all(&self) -> Vec<UpstreamSpec> {
        let plain = self.urls.iter().map(|url| UpstreamSpec { url: url.clone(), weight: 1 });
        plain.chain(self.upstreams.iter().cloned()).collect()
    }

    /// What is wrong, and what to write.
    pub fn fault(&self) -> Option<String> {
        if let Some(fault) = unknown_key(&self.unknown, &["urls", "upstreams", "strategy", "batch"]) {
            return Some(fault);
        }
        let all = self.all();
        if all.is_empty() {
            return Some("there is no upstream: write urls = [\"http://host:9464/api/v1/write\"]".to_owned());
        }
        for (at, upstream) in all.iter().enumerate() {
            if let Some(fault) = url_fault(&upstream.url) {
                return Some(fault);
            }
            if all[..at].iter().any(|other| other.url == upstream.url) {
                return Some("two upstreams have one url: write each once, and its share as its weight".to_owned());
            }
            if upstream.weight == 0 || upstream.weight > 1000 {
                return Some(format!("weight = {} cannot be: write 1 to 1000", upstream.weight));
            }
        }
        if self.batch == 0 || self.batch > 1_000_000 {
            return Some(format!("batch = {} cannot be: write 1 to 1000000", self.batch));
        }
        self.web.fault()
    }
}

fn unknown_key(unknown: &BTreeMap<String, toml::Value>, own: &[&str]) -> Option<String> {
    let key = unknown.keys().find(|key| !WebSpec::KEYS.contains(&key.as_str()))?;
    let known: Vec<String> = own.iter().chain(&WebSpec::KEYS).map(|key| format!("`{key}`")).collect();
    Some(format!("unknown field `{key}`, expected one of {}", known.join(", ")))
}

fn url_fault(text: &str) -> Option<String> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => None,
        // It may hold a password, so it is not told.
        _ => Some("a url is no address of http or https: write one as http://host:port/path".to_owned()),
    }
}
