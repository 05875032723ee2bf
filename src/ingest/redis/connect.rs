//! Connections to Redis: a stream, plain or by TLS, and a driver on it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::spec::RedisSpec;
use crate::ingest::source::SourceError;
use crate::ingest::trust::{Trust, tls};
use crate::world::World;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream to the server, and who to be there.
pub(super) struct Opened {
    pub stream: Box<dyn Stream>,
    pub settings: RedisConnectionInfo,
}

/// Opens a stream, with nothing said on it yet.
pub(super) async fn open(spec: &RedisSpec, world: &World, timeout: Duration) -> Result<Opened, SourceError> {
    let info = spec.info().map_err(SourceError::new)?;
    let mut settings = info.redis_settings().clone();
    if let Some(file) = &spec.password_file {
        let password = read(world, file, "password_file")?;
        settings = settings.set_password(String::from_utf8_lossy(password.trim_ascii_end()));
    }
    let opening = tokio::time::timeout(timeout / 2, stream(spec, info.addr(), world));
    let stream = opening.await.unwrap_or_else(|_| Err("no answer".to_owned()));
    let stream = stream.map_err(|error| told(spec, &error, "check that it runs there and takes connections"))?;
    Ok(Opened { stream, settings })
}

async fn stream(spec: &RedisSpec, address: &ConnectionAddr, world: &World) -> Result<Box<dyn Stream>, String> {
    match address {
        ConnectionAddr::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(|error| error.to_string())?)),
        ConnectionAddr::Tcp(host, port) => {
            let plain = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
            if !spec.is_secure() {
                return Ok(Box::new(plain));
            }
            let authorities = spec.ca_file.as_deref().map(|file| read(world, file, "ca_file")).transpose();
            let authorities = authorities.map_err(|error| error.0)?;
            let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
            let connector = TlsConnector::from(Arc::new(tls(Trust::SignedForName, authorities.as_deref())?));
            Ok(Box::new(connector.connect(name, plain).await.map_err(|error| error.to_string())?))
        }
        _ => Err("no such kind of address is known".into()),
    }
}

fn read(world: &World, file: &std::path::Path, key: &str) -> Result<Vec<u8>, SourceError> {
    let bytes = world.disk.open(file).and_then(|file| file.read_all());
    bytes.map_err(|error| SourceError::new(format!("{key} {} cannot be read: {error}", file.display())))
}

/// A connection that is kept.
pub(super) struct Line {
    connection: MultiplexedConnection,
    /// The database that is asked, by number.
    pub db: i64,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// This one alone.
    Command(String),
    /// There is no connection any more.
    Lost(SourceError),
}

/// What one of several commands is answered, or why not.
pub(super) type Answer = Result<Value, String>;

impl Line {
    pub(super) async fn open(spec: &RedisSpec, world: &World, timeout: Duration) -> Result<Line, SourceError> {
        let Opened { stream, settings } = open(spec, world, timeout).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeout * 4 / 5));
        let opened = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let (connection, driver) = opened.map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::AuthenticationFailed => "check user and password_file",
                _ => "",
            };
            told(spec, &chain(&error), remedy)
        })?;
        Ok(Line { connection, db: settings.db(), task: tokio::spawn(driver) })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, Failed> {
        self.connection
            .send_packed_command(command)
            .await
            .and_then(Value::extract_error)
            .map_err(|error| failed(&error))
    }

    /// Answers in the order of the commands, or why one has none.
    pub(super) async fn ask_all(&mut self, commands: &mut Pipeline) -> Result<Vec<Answer>, Failed> {
        let answers: Result<Vec<redis::RedisResult<Value>>, RedisError> =
            commands.ignore_errors().query_async(&mut self.connection).await;
        let answers = answers.map_err(|error| failed(&error))?;
        answers.into_iter().map(answer).collect()
    }
}

fn answer(answer: redis::RedisResult<Value>) -> Result<Answer, Failed> {
    match answer.and_then(Value::extract_error).map_err(|error| failed(&error)) {
        Ok(value) => Ok(Ok(value)),
        Err(Failed::Command(error)) => Ok(Err(error)),
        Err(lost) => Err(lost),
    }
}

fn failed(error: &RedisError) -> Failed {
    if error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error() {
        return Failed::Lost(SourceError::new(format!("the connection was lost: {}", chain(error))));
    }
    let remedy = match error.code() {
        Some("NOPERM") => ": allow it with ACL SETUSER",
        _ => "",
    };
    Failed::Command(chain(error) + remedy)
}

fn chain(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

pub(super) fn told(spec: &RedisSpec, error: &str, remedy: &str) -> SourceError {
    let colon = if remedy.is_empty() { "" } else { ": " };
    SourceError::new(format!("Redis at {}: {error}{colon}{remedy}", spec.instance()))
}
