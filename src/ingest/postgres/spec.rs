//! `from.postgres = { url = "postgres://user@host/database" }` and what its keys mean.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::ingest::trust::Trust;

/// A PostgreSQL server (12 or later) that is asked for its statistics.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSpec {
    /// `postgres://user@host:port/database`, or `host=… user=… dbname=…`. A role that is a member of `pg_monitor` sees
    /// all there is.
    pub url: String,
    /// File that holds the password; it wins over one in the URL and is read at each connect.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Databases whose tables and statements are told; without any, that of the URL.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Most statements of `pg_stat_statements`, and of those running slowly, that are told of a database.
    #[serde(default = "statements")]
    pub statements: u32,
    /// Most tables that are told of a database, the largest; and twice as many indexes.
    #[serde(default = "tables")]
    pub tables: u32,
    /// A statement that takes longer, now or on average, is slow.
    #[serde(default = "slow", with = "humantime_serde")]
    pub slow: Duration,
    /// How the connection is secured; without it as the URL says, else `prefer`.
    #[serde(default)]
    pub sslmode: Option<Security>,
    /// Certificates of authorities (PEM) that may sign the server's; without it those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn statements() -> u32 {
    20
}

fn tables() -> u32 {
    50
}

fn slow() -> Duration {
    Duration::from_millis(500)
}

/// The URL may hold a password.
impl std::fmt::Debug for PostgresSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSpec").field("instance", &self.instance()).finish_non_exhaustive()
    }
}

/// As `sslmode` of PostgreSQL's own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    Disable,
    /// TLS where the server has it; its certificate is not looked at.
    Prefer,
    /// TLS; the certificate is looked at only where `ca_file` is given, and then as with `verify-ca`.
    Require,
    /// TLS with a certificate that an authority signed.
    VerifyCa,
    /// The same, for the name of the host.
    VerifyFull,
}

impl Security {
    const NAMES: [(&'static str, Security); 5] = [
        ("disable", Security::Disable),
        ("prefer", Security::Prefer),
        ("require", Security::Require),
        ("verify-ca", Security::VerifyCa),
        ("verify-full", Security::VerifyFull),
    ];

    pub(super) const fn mode(self) -> SslMode {
        match self {
            Security::Disable => SslMode::Disable,
            Security::Prefer => SslMode::Prefer,
            Security::Require | Security::VerifyCa | Security::VerifyFull => SslMode::Require,
        }
    }

    pub(super) const fn trust(self, has_authorities: bool) -> Trust {
        match self {
            Security::Disable | Security::Prefer => Trust::Anybody,
            Security::Require if has_authorities => Trust::Signed,
            Security::Require => Trust::Anybody,
            Security::VerifyCa => Trust::Signed,
            Security::VerifyFull => Trust::SignedForName,
        }
    }
}

impl PostgresSpec {
    /// All that is wrong with its values: the key, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults: Vec<(&'static str, String)> =
            self.config().err().map(|told| ("url", told)).into_iter().collect();
        let mut check = |ok: bool, key, told: &str| {
            if !ok {
                faults.push((key, told.to_owned()));
            }
        };
        let several = "it names several hosts: write a source for each, so that each has its name";
        check(!self.is_of_many(), "url", several);
        check(!self.slow.is_zero(), "slow", "write a length of time, as in slow = \"500ms\"");
        let most = "write at most 1000: each is a series or more";
        check(self.statements <= 1000, "statements", most);
        check(self.tables <= 1000, "tables", most);
        faults
    }

    fn is_of_many(&self) -> bool {
        self.config().is_ok_and(|(config, _)| config.get_hosts().len().max(config.get_hostaddrs().len()) > 1)
    }

    /// Where and as whom to connect, and how that is secured. Without the password of `password_file`.
    ///
    /// # Errors
    /// What is wrong with the URL; never with what it holds.
    pub(super) fn config(&self) -> Result<(Config, Security), String> {
        let (url, written) = take_sslmode(&self.url);
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            // What stands before an @ may be a password.
            let cause = if cause.contains('@') { String::new() } else { cause };
            format!("{error}{cause}: write it as in \"postgres://user@host:5432/database\"")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            return Err("its host has an @: write @ in a password as %40".into());
        }
        let Some(user) = config.get_user().map(str::to_owned) else {
            return Err("it names no user: write it as in \"postgres://user@host:5432/database\"".into());
        };
        if config.get_dbname().is_none() {
            config.dbname(user);
        }
        let written = match written {
            None => None,
            Some(name) => match Security::NAMES.into_iter().find(|(known, _)| *known == name) {
                Some((_, security)) => Some(security),
                None => return Err("its sslmode is none of disable, prefer, require, verify-ca, verify-full".into()),
            },
        };
        let of_words = match config.get_ssl_mode() {
            SslMode::Disable => Security::Disable,
            SslMode::Require => Security::Require,
            _ => Security::Prefer,
        };
        let security = self.sslmode.or(written).unwrap_or(of_words);
        config.ssl_mode(security.mode()).application_name("plimsoll");
        Ok((config, security))
    }

    /// Where it is, as `host:port` or `folder:port`: the label `instance`.
    pub fn instance(&self) -> String {
        let Ok((config, _)) = self.config() else { return String::new() };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        format!("{host}:{port}")
    }
}

/// The URL without its parameter `sslmode`, and that: the driver knows only three of the five.
fn take_sslmode(url: &str) -> (String, Option<String>) {
    let Some((before, parameters)) = url.split_once('?').filter(|_| url.contains("://")) else {
        return (url.to_owned(), None);
    };
    let mut mode = None;
    let others: Vec<&str> = parameters
        .split('&')
        .filter(|parameter| match parameter.strip_prefix("sslmode=") {
            Some(value) => {
                mode = Some(value.to_owned());
                false
            }
            None => true,
        })
        .collect();
    let url = if others.is_empty() { before.to_owned() } else { format!("{before}?{}", others.join("&")) };
    (url, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(keys: &str) -> PostgresSpec {
        toml::from_str(keys).unwrap()
    }

    #[test]
    fn security_is_as_the_key_says_then_as_the_url_says() {
        let cases = [
            ("url = \"postgres://u@h/d\"", Security::Prefer),
            ("url = \"postgres://u@h/d?sslmode=verify-full\"", Security::VerifyFull),
            ("url = \"postgres://u@h/d?connect_timeout=3&sslmode=verify-ca\"", Security::VerifyCa),
            ("url = \"postgres://u@h/d?sslmode=verify-full\"\nsslmode = \"disable\"", Security::Disable),
            ("url = \"host=h user=u sslmode=require\"", Security::Require),
        ];
        for (keys, wanted) in cases {
            let (config, security) = spec(keys).config().unwrap();
            assert_eq!((security, config.get_ssl_mode()), (wanted, wanted.mode()), "{keys}");
        }
        assert_eq!(Security::Require.trust(true), Trust::Signed);
        assert_eq!(Security::Require.trust(false), Trust::Anybody);
    }

    #[test]
    fn an_instance_is_host_and_port_and_a_password_is_not_told() {
        let cases = [
            ("postgres://u:secret@h.example/d", "h.example:5432"),
            ("postgres://u:secret@h:6000", "h:6000"),
            ("postgres:///d?host=/run/pg&user=u", "/run/pg:5432"),
            ("user=u password=secret", "localhost:5432"),
        ];
        for (url, wanted) in cases {
            let spec = spec(&format!("url = {url:?}"));
            assert_eq!(spec.instance(), wanted);
            assert!(!format!("{spec:?}").contains("secret"));
            assert_eq!(spec.faults(), []);
        }
        let (config, _) = spec("url = \"postgres://u@h\"").config().unwrap();
        assert_eq!(config.get_dbname(), Some("u"));
    }

    #[test]
    fn faults_name_key_and_remedy() {
        let cases = [
            ("url = \"postgres://u:secret@h:port/d\"", "url", "write it as in"),
            ("url = \"postgres://h/d\"", "url", "it names no user"),
            ("url = \"postgres://u:se@secret@h/d\"", "url", "write @ in a password as %40"),
            ("url = \"postgres://u@h:1,i:2/d\"", "url", "write a source for each"),
            ("url = \"host=h,i user=u\"", "url", "write a source for each"),
            ("url = \"postgres://u@h/d?sslmode=perhaps\"", "url", "verify-full"),
            ("url = \"postgres://u@h/d\"\nslow = \"0s\"", "slow", "write a length"),
            ("url = \"postgres://u@h/d\"\ntables = 2000", "tables", "at most 1000"),
        ];
        for (keys, key, told) in cases {
            let [fault] = &spec(keys).faults()[..] else { panic!("{keys}") };
            assert!(fault.0 == key && fault.1.contains(told) && !fault.1.contains("secret"), "{fault:?}");
        }
    }
}
