//! A connection to one database: made, prepared for asking only, and ended with what holds it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Connection, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::spec::PostgresSpec;
use crate::ingest::source::SourceError;
use crate::ingest::trust::tls;
use crate::world::World;

/// Oldest major version whose views are known.
const OLDEST: u32 = 12;

pub(super) struct Line {
    client: Client,
    /// Major version of the server.
    pub version: u32,
    /// Whether the role sees what other roles do.
    pub sees_all: bool,
    pub user: String,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a question has no answer.
pub(super) enum Failed {
    /// This one alone.
    Query(String),
    /// There is no connection any more.
    Lost(SourceError),
}

impl Line {
    /// Connects to a database. A pass may take `timeout`.
    pub(super) async fn open(
        spec: &PostgresSpec,
        database: Option<&str>,
        world: &World,
        timeout: Duration,
    ) -> Result<Line, SourceError> {
        let (mut config, security) = spec.config().map_err(SourceError::new)?;
        if let Some(database) = database {
            config.dbname(database);
        }
        if let Some(file) = &spec.password_file {
            config.password(read(world, file, "password_file")?.trim_ascii_end());
        }
        config.connect_timeout(timeout / 2);
        let place = Place {
            instance: spec.instance(),
            database: config.get_dbname().unwrap_or_default().to_owned(),
            user: config.get_user().unwrap_or_default().to_owned(),
        };
        let refused = |error: tokio_postgres::Error| place.refused(&error);
        let (client, task) = if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
            (client, drive(connection))
        } else {
            let authorities = spec.ca_file.as_deref().map(|file| read(world, file, "ca_file")).transpose()?;
            let tls = tls(security.trust(authorities.is_some()), authorities.as_deref());
            let tls = MakeRustlsConnect::new(tls.map_err(|error| place.told(&error, ""))?);
            let (client, connection) = config.connect(tls).await.map_err(refused)?;
            (client, drive(connection))
        };
        let mut line = Line { client, version: 0, sees_all: false, user: place.user.clone(), task };
        line.prepare(timeout).await.map_err(|error| place.refused(&error))?;
        match line.version {
            OLDEST.. => Ok(line),
            version => Err(place.told(&format!("the server is PostgreSQL {version}"), "12 or later is asked")),
        }
    }

    /// Read only, by names of the system alone, and never for longer than a pass may take.
    async fn prepare(&mut self, timeout: Duration) -> Result<(), tokio_postgres::Error> {
        let milliseconds = (timeout.as_millis() * 3 / 5).max(1);
        let lock = (milliseconds / 10).clamp(1, 200);
        let set = format!(
            "SET default_transaction_read_only = on; SET search_path = pg_catalog;
            SET statement_timeout = {milliseconds}; SET lock_timeout = {lock}"
        );
        self.client.batch_execute(&set).await?;
        let rows = self.simple(
            "/* plimsoll */ SELECT current_setting('server_version_num')::int / 10000,
            pg_has_role(current_user, 'pg_read_all_stats', 'usage')",
        );
        if let Some(row) = rows.await?.first() {
            self.version = row.get(0).and_then(|version| version.parse().ok()).unwrap_or(0);
            self.sees_all = row.get(1) == Some("t");
        }
        Ok(())
    }

    async fn simple(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
        let rows = self.client.simple_query(sql).await?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Rows of a question.
    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, Failed> {
        self.simple(sql).await.map_err(|error| {
            let is_end = |code: &SqlState| {
                [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
            };
            match error.code() {
                Some(code) if !is_end(code) => Failed::Query(chain(&error) + &self.remedy(code)),
                _ => Failed::Lost(SourceError::new(format!("the connection was lost: {}", chain(&error)))),
            }
        })
    }

    fn remedy(&self, code: &SqlState) -> String {
        match code {
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                format!(": run GRANT pg_monitor TO {}", quoted(&self.user))
            }
            code if *code == SqlState::QUERY_CANCELED => ": raise the source's `timeout` and `interval`".into(),
            code if *code == SqlState::LOCK_NOT_AVAILABLE => ": a table is locked, the next pass tries again".into(),
            _ => String::new(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

fn drive<S, T>(connection: Connection<S, T>) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // How it ends, whoever asks next is told.
    tokio::spawn(async move { drop(connection.await) })
}

fn read(world: &World, file: &std::path::Path, key: &str) -> Result<Vec<u8>, SourceError> {
    let bytes = world.disk.open(file).and_then(|file| file.read_all());
    bytes.map_err(|error| SourceError::new(format!("{key} {} cannot be read: {error}", file.display())))
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An error and what caused it, each said once.
fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

/// Where one connects to, and as whom.
struct Place {
    instance: String,
    database: String,
    user: String,
}

impl Place {
    fn told(&self, error: &str, remedy: &str) -> SourceError {
        let Place { instance, database, user } = self;
        let colon = if remedy.is_empty() { "" } else { ": " };
        SourceError::new(format!("PostgreSQL at {instance}, database {database}, as {user}: {error}{colon}{remedy}"))
    }

    fn refused(&self, error: &tokio_postgres::Error) -> SourceError {
        let remedy = match error.code() {
            None => "check that it runs there, takes connections and has the TLS asked for",
            Some(code) if code.code().starts_with("28") => "check user, password_file and the server's pg_hba.conf",
            Some(code) if *code == SqlState::UNDEFINED_DATABASE => "check `url` and `databases`",
            Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
                "leave a connection free, or raise max_connections"
            }
            Some(_) => "",
        };
        self.told(&chain(error), remedy)
    }
}
