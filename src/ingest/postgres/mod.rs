//! PostgreSQL as a source: the statistics views of one server, from `pg_stat_activity` to `pg_stat_statements`.
//!
//! What is asked is written as SQL whose columns are the metrics ([`query`]). One connection a database is kept, and
//! made anew when it is lost. A question that a version or a privilege does not allow leaves out only its own metrics.

mod connect;
mod help;
mod query;
mod server;
mod spec;
mod statements;
mod tables;
pub(super) mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use self::connect::{Failed, Line, quoted};
use self::query::{Bounds, Of, Query, about, put_row};
use self::server::SERVER;
pub use self::spec::PostgresSpec;
use self::statements::{EXTENSION, STATEMENTS, STATEMENTS_SINCE};
use self::tables::TABLES;
use crate::ingest::source::{Living, Readings, Source, SourceError};
use crate::model::Timestamp;
use crate::world::World;

/// A server that is asked.
pub struct PostgresSource {
    spec: PostgresSpec,
    world: World,
    timeout: Duration,
    databases: Vec<Database>,
    living: Living,
    /// Questions that had no answer so far, by name.
    errors: BTreeMap<&'static str, u64>,
}

struct Database {
    /// `None`: that of the URL.
    name: Option<String>,
    /// Not here while a pass is under way: one that takes too long is dropped with its connection.
    line: Option<Line>,
}

impl PostgresSource {
    /// `timeout` is what a pass may take.
    pub fn new(spec: PostgresSpec, world: World, timeout: Duration) -> Self {
        let of = |name| Database { name, line: None };
        let databases = match spec.databases.is_empty() {
            true => vec![of(None)],
            false => spec.databases.iter().cloned().map(Some).map(of).collect(),
        };
        let queries = SERVER.iter().chain(TABLES).chain(STATEMENTS);
        let errors = queries.map(|query| (query.name, 0)).collect();
        PostgresSource { spec, world, timeout, databases, living: Living::default(), errors }
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn read(&mut self, _now: Timestamp) -> Result<Readings, SourceError> {
        let mut pass = Pass {
            readings: Readings::default(),
            lacks: Vec::new(),
            spec: &self.spec,
            errors: &mut self.errors,
            // Some time is left to store what was told.
            end: self.world.clock.elapsed() + self.timeout * 4 / 5,
            world: &self.world,
        };
        let (mut answered, mut server_is_told) = (false, false);
        let count = self.databases.len();
        for (at, database) in self.databases.iter_mut().enumerate() {
            let line = match database.line.take().filter(|line| !line.is_closed()) {
                Some(line) => Ok(line),
                None => pass.open(database.name.as_deref(), self.timeout, count - at).await,
            };
            let asked = match line {
                Ok(line) => pass.ask(&line, !server_is_told).await.map(|()| line),
                Err(error) => Err(error),
            };
            match asked {
                Ok(line) => {
                    server_is_told = true;
                    database.line = Some(line);
                }
                Err(error) => pass.lacks.push(error.0),
            }
            // Something was told, if not all.
            answered |= !pass.readings.is_empty();
        }
        Ok(pass.finish(answered, &mut self.living))
    }
}

/// One pass over all databases.
struct Pass<'p> {
    readings: Readings,
    /// What could not be told, and why.
    lacks: Vec<String>,
    spec: &'p PostgresSpec,
    errors: &'p mut BTreeMap<&'static str, u64>,
    /// When nothing more is asked.
    end: Duration,
    world: &'p World,
}

impl Pass<'_> {
    /// Connects to a database, within its share of what is left for `waiting` databases: one that hangs is no trouble of
    /// the others.
    async fn open(&self, name: Option<&str>, timeout: Duration, waiting: usize) -> Result<Line, SourceError> {
        let share = self.left() / u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
        let opening = Line::open(self.spec, name, self.world, timeout);
        tokio::time::timeout(share, opening).await.unwrap_or_else(|_| {
            let (instance, share) = (self.spec.instance(), humantime::format_duration(share));
            let database = name.map_or_else(|| "of the URL".to_owned(), quoted);
            Err(SourceError::new(format!(
                "PostgreSQL at {instance}, database {database}: no connection within {share}: check that it takes \
                 connections, or raise the source's `timeout` and `interval`"
            )))
        })
    }

    fn left(&self) -> Duration {
        self.end.saturating_sub(self.world.clock.elapsed())
    }

    /// Asks all there is to ask on a connection, with what is of the whole server or without.
    async fn ask(&mut self, line: &Line, with_server: bool) -> Result<(), SourceError> {
        if with_server && !line.sees_all {
            let user = quoted(&line.user);
            self.lacks.push(format!("what other roles do is hidden from {user}: run GRANT pg_monitor TO {user}"));
        }
        let rows = self.answer(line, "connect", "/* plimsoll */ SELECT current_database()").await?.unwrap_or_default();
        let database = rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned();
        let view = if self.spec.statements > 0 && line.version >= STATEMENTS_SINCE {
            self.view(line, &database).await?
        } else {
            None
        };
        let bounds = Bounds {
            tables: self.spec.tables,
            statements: self.spec.statements,
            slow_seconds: self.spec.slow.as_secs_f64(),
            view: view.as_deref().unwrap_or_default(),
        };
        let is_asked = |query: &&Query| match query.of {
            Of::Server => with_server,
            Of::Database => true,
            Of::Statements => view.is_some(),
        };
        let queries = SERVER.iter().chain(TABLES).chain(STATEMENTS);
        for query in queries.filter(|query| query.versions.contains(&line.version)).filter(is_asked) {
            let rows = self.answer(line, query.name, &query.text(&bounds)).await?.unwrap_or_default();
            let database = (query.of != Of::Server).then_some(database.as_str());
            rows.iter().for_each(|row| put_row(&mut self.readings, row, database));
        }
        Ok(())
    }

    /// The view of `pg_stat_statements` in this database, where it is installed.
    async fn view(&mut self, line: &Line, database: &str) -> Result<Option<String>, SourceError> {
        let Some(rows) = self.answer(line, "statements", EXTENSION).await? else { return Ok(None) };
        let Some(row) = rows.first() else {
            self.lacks.push(no_extension(database));
            return Ok(None);
        };
        if row.get(1) != Some("t") {
            self.lacks.push("pg_stat_statements is too old: run ALTER EXTENSION pg_stat_statements UPDATE".into());
            return Ok(None);
        }
        Ok(row.get(0).map(str::to_owned))
    }

    /// The answer to one question; `None` where it alone failed.
    async fn answer(
        &mut self,
        line: &Line,
        name: &'static str,
        sql: &str,
    ) -> Result<Option<Vec<tokio_postgres::SimpleQueryRow>>, SourceError> {
        match tokio::time::timeout(self.left(), line.ask(sql)).await {
            Ok(Ok(rows)) => Ok(Some(rows)),
            Ok(Err(Failed::Lost(error))) => Err(error),
            Ok(Err(Failed::Query(error))) => {
                self.lack(name, &error);
                Ok(None)
            }
            // What was told so far is kept. The connection goes, since an answer is still to come on it.
            Err(_) => {
                *self.errors.entry(name).or_default() += 1;
                Err(SourceError::new(format!("{name} took too long: raise the source's `timeout` and `interval`")))
            }
        }
    }

    fn lack(&mut self, name: &'static str, error: &str) {
        *self.errors.entry(name).or_default() += 1;
        self.lacks.push(format!("{name}: {error}"));
    }

    fn finish(mut self, answered: bool, living: &mut Living) -> Readings {
        for (name, errors) in self.errors.iter() {
            let metric = "postgres_collector_errors_total";
            self.readings.put(metric, &[("query", name)], about(metric), *errors as f64);
        }
        living.settle(&mut self.readings);
        let told = tell(&self.lacks).map(SourceError::new);
        match answered {
            true => self.readings.lack = told,
            false => self.readings.fault = told,
        }
        self.readings
    }
}

fn no_extension(database: &str) -> String {
    let database = quoted(database);
    format!(
        "no statements are told of the database {database}: run CREATE EXTENSION pg_stat_statements in it, or write statements = 0"
    )
}

/// The first reasons, and how many more there are.
fn tell(lacks: &[String]) -> Option<String> {
    let (first, more) = lacks.split_at(lacks.len().min(3));
    match more.len() {
        0 => (!first.is_empty()).then(|| first.join("; ")),
        more => Some(format!("{}; and {more} more", first.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_hangs_is_named_and_takes_no_more_than_its_share() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let keys = format!("url = 'postgres://u@127.0.0.1:{port}/d'\ndatabases = ['one', 'two']\nsslmode = 'disable'");
        let timeout = Duration::from_millis(500);
        let mut source = PostgresSource::new(toml::from_str(&keys).unwrap(), World::real(), timeout);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = async { tokio::time::timeout(timeout, source.read(Timestamp::from_nanos(0))).await };
        let readings = runtime.block_on(read).expect("it ends within its time").unwrap();
        let fault = readings.fault.unwrap().0;
        for database in ["\"one\"", "\"two\""] {
            let wanted = format!("PostgreSQL at 127.0.0.1:{port}, database {database}: no connection within");
            assert!(fault.contains(&wanted), "{fault}");
        }
    }

    #[test]
    fn only_the_first_reasons_are_told() {
        let lacks = |count: usize| tell(&vec!["no".to_owned(); count]);
        assert_eq!(lacks(0), None);
        assert_eq!(lacks(2).unwrap(), "no; no");
        assert_eq!(lacks(5).unwrap(), "no; no; no; and 2 more");
    }
}
