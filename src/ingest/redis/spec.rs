//! `from.redis = { url = "redis://host" }` and what its keys mean.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use serde::Deserialize;

/// A Redis server (5 or later, or Valkey) that is asked for its statistics and a sample of its keys.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSpec {
    /// `redis://user:password@host:port/db`, `rediss://…` for TLS, or `unix:///folder/socket?db=0`.
    pub url: String,
    /// File that holds the password; it wins over one in the URL and is read at each connect.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// With `rediss`: certificates of authorities (PEM) that may sign the server's; without it those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Keys that are looked at in a pass; 0 looks at none.
    #[serde(default = "sample")]
    pub sample: u32,
    /// Prefixes that are told apart, those with most keys; the rest are `(others)`.
    #[serde(default = "prefixes")]
    pub prefixes: u32,
    /// Hot keys that are told by name; 0 tells none.
    #[serde(default = "hot")]
    pub hot: u32,
    /// Whether the slow log is read.
    #[serde(default = "yes")]
    pub slowlog: bool,
    /// How long a pass listens with MONITOR to what clients read, for the hit rate by prefix. Without it, not at all.
    /// While it listens the server sends a copy of every command, which may halve what it gets done.
    #[serde(default, with = "humantime_serde")]
    pub monitor: Option<Duration>,
}

fn sample() -> u32 {
    1000
}

fn prefixes() -> u32 {
    20
}

fn hot() -> u32 {
    10
}

fn yes() -> bool {
    true
}

/// The URL may hold a password.
impl std::fmt::Debug for RedisSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSpec").field("instance", &self.instance()).finish_non_exhaustive()
    }
}

/// Longest time that a pass may listen.
const MONITOR_MAX: Duration = Duration::from_secs(2);

impl RedisSpec {
    /// All that is wrong with its values: the key, and what to write.
    pub fn faults(&self, timeout: Duration) -> Vec<(&'static str, String)> {
        let mut faults: Vec<(&'static str, String)> = self.info().err().map(|told| ("url", told)).into_iter().collect();
        let most = MONITOR_MAX.min(timeout / 2);
        if self.monitor.is_some_and(|monitor| monitor > most || monitor.is_zero()) {
            let most = humantime::format_duration(most);
            faults.push(("monitor", format!("write at most {most} (half the timeout, or two seconds)")));
        }
        let bounds = [("sample", self.sample, 100_000), ("prefixes", self.prefixes, 1000), ("hot", self.hot, 1000)];
        let over = bounds.into_iter().filter(|(_, value, most)| value > most);
        faults.extend(over.map(|(key, _, most)| (key, format!("write at most {most}"))));
        faults
    }

    /// Whether the connection is by TLS.
    pub(super) fn is_secure(&self) -> bool {
        ["rediss://", "valkeys://"].iter().any(|scheme| self.url.starts_with(scheme))
    }

    /// Where and as whom to connect.
    ///
    /// # Errors
    /// What is wrong with the URL; never with what it holds.
    pub(super) fn info(&self) -> Result<ConnectionInfo, String> {
        // TLS is laid under the connection here, so the driver is told of a plain one.
        let url = match self.url.split_once("://") {
            Some(("rediss" | "valkeys", rest)) => format!("redis://{rest}"),
            _ => self.url.clone(),
        };
        url.as_str().into_connection_info().map_err(|error| {
            let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            format!("it is no URL of Redis{detail}: write it as in \"redis://host:6379/0\"")
        })
    }

    /// Where it is, as `host:port` or the path of a socket: the label `instance`.
    pub fn instance(&self) -> String {
        match self.info().as_ref().map(ConnectionInfo::addr) {
            Ok(ConnectionAddr::Tcp(host, port)) => format!("{host}:{port}"),
            Ok(ConnectionAddr::Unix(path)) => path.display().to_string(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(keys: &str) -> RedisSpec {
        toml::from_str(keys).unwrap()
    }

    #[test]
    fn an_instance_is_host_and_port_and_a_password_is_not_told() {
        let cases = [
            ("redis://:secret@h.example", "h.example:6379"),
            ("rediss://u:secret@h:6380/2", "h:6380"),
            ("unix:///run/redis.sock", "/run/redis.sock"),
        ];
        for (url, wanted) in cases {
            let spec = spec(&format!("url = {url:?}"));
            assert_eq!(spec.instance(), wanted);
            assert_eq!(spec.faults(Duration::from_secs(10)), [], "{url}");
            assert!(!format!("{spec:?}").contains("secret"));
        }
        assert_eq!(spec("url = \"rediss://h/2\"").info().unwrap().redis_settings().db(), 2);
        assert!(spec("url = \"rediss://h/2\"").is_secure());
    }

    #[test]
    fn faults_name_key_and_remedy() {
        let cases = [
            ("url = \"http://h\"", "url", "write it as in"),
            ("url = \"redis://:secret@h:port\"", "url", "write it as in"),
            ("url = \"redis://h\"\nmonitor = \"3s\"", "monitor", "at most 2s"),
            ("url = \"redis://h\"\nsample = 1000000", "sample", "at most 100000"),
        ];
        for (keys, key, told) in cases {
            let [fault] = &spec(keys).faults(Duration::from_secs(10))[..] else { panic!("{keys}") };
            assert!(fault.0 == key && fault.1.contains(told) && !fault.1.contains("secret"), "{fault:?}");
        }
        let short = spec("url = \"redis://h\"\nmonitor = \"300ms\"");
        assert!(short.faults(Duration::from_millis(500))[0].1.contains("at most 250ms"));
    }
}
