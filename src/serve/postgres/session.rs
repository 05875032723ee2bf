//! What the server keeps of a client between its statements: its settings and its cursors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse};
use datafusion_postgres::pgwire::error::PgWireResult;
use futures::{StreamExt, stream};
use tokio::sync::Mutex as Turns;

use super::convert::fault;
use crate::query::PG_VERSION;

/// Settings that a client may have of its own.
const SETTINGS_MAX: usize = 100;
/// Cursors that a client may have open.
const CURSORS_MAX: usize = 100;

/// Of one client.
#[derive(Default)]
pub(super) struct Session {
    settings: Mutex<HashMap<String, String>>,
    cursors: Mutex<HashMap<String, Cursor>>,
    /// The statement that the client last waited for, as `system.queries` numbers it; 0 before the first.
    last: AtomicU64,
}

#[derive(Clone)]
struct Cursor {
    hold: bool,
    /// As `system.queries` has it.
    number: u64,
    rows: Arc<Turns<QueryResponse>>,
}

impl Session {
    pub fn begins(&self, number: u64) {
        self.last.store(number, Ordering::Release);
    }

    /// What is to be ended when the client says so.
    pub fn under_way(&self) -> Option<u64> {
        Some(self.last.load(Ordering::Acquire)).filter(|number| *number > 0)
    }

    pub fn set(&self, name: String, value: String) -> PgWireResult<()> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.len() >= SETTINGS_MAX && !settings.contains_key(&name) {
            return Err(fault("53400", format!("a client may have {SETTINGS_MAX} settings")));
        }
        settings.insert(name, value);
        Ok(())
    }

    /// What the client has set, or what there is where it did not.
    pub fn shown(&self, name: &str) -> Option<String> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.get(name).cloned().or_else(|| default_of(name).map(str::to_owned))
    }

    /// How long a statement of this client may take.
    pub fn timeout(&self) -> Option<Duration> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.get("statement_timeout").and_then(|text| milliseconds(text))
    }

    pub fn open(&self, name: String, hold: bool, number: u64, rows: QueryResponse) -> PgWireResult<()> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if cursors.contains_key(&name) {
            return Err(fault("42P03", format!("there is a cursor `{name}` already: CLOSE it first")));
        }
        if cursors.len() >= CURSORS_MAX {
            return Err(fault("53400", format!("a client may have {CURSORS_MAX} cursors open")));
        }
        cursors.insert(name, Cursor { hold, number, rows: Arc::new(Turns::new(rows)) });
        Ok(())
    }

    /// The columns of a cursor.
    pub async fn fields(&self, name: &str) -> Option<Arc<Vec<FieldInfo>>> {
        let cursor = self.cursor(name)?;
        let rows = cursor.rows.lock().await;
        Some(rows.row_schema())
    }

    fn cursor(&self, name: &str) -> Option<Cursor> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The next rows of a cursor, all that are left without a number.
    pub async fn fetch(&self, name: &str, rows: Option<usize>) -> PgWireResult<QueryResponse> {
        let Some(cursor) = self.cursor(name) else {
            return Err(fault("34000", format!("there is no cursor `{name}`: DECLARE it first")));
        };
        self.begins(cursor.number);
        let fields = cursor.rows.lock().await.row_schema();
        // Row by row: what is left of the cursor stays with it.
        let left = rows.unwrap_or(usize::MAX);
        let fetched = stream::unfold((cursor, left), async |(cursor, left)| {
            let left = left.checked_sub(1)?;
            let row = cursor.rows.lock().await.data_rows().next().await?;
            Some((row, (cursor, left)))
        });
        let mut response = QueryResponse::new(fields, fetched);
        response.set_command_tag("FETCH");
        Ok(response)
    }

    pub fn close(&self, name: Option<&str>) -> PgWireResult<()> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        match name {
            None => cursors.clear(),
            Some(name) => {
                let found = cursors.remove(name);
                found.ok_or_else(|| fault("34000", format!("there is no cursor `{name}`")))?;
            }
        }
        Ok(())
    }

    /// A transaction ends, and with it the cursors that were not declared `WITH HOLD`.
    pub fn end_transaction(&self) {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, cursor| cursor.hold);
    }
}

/// What clients ask for when they connect.
fn default_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "server_version" => PG_VERSION,
        "server_version_num" => "160006",
        "server_encoding" | "client_encoding" => "UTF8",
        "datestyle" => "ISO, YMD",
        "intervalstyle" => "postgres",
        "timezone" | "time zone" => "UTC",
        "search_path" => "public",
        "standard_conforming_strings" | "transaction_read_only" | "default_transaction_read_only" => "on",
        "transaction_isolation" | "transaction isolation level" | "default_transaction_isolation" => "repeatable read",
        "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" => "0",
        "max_identifier_length" => "63",
        "extra_float_digits" => "1",
        "bytea_output" => "hex",
        "is_superuser" => "off",
        "application_name" => "",
        _ => return None,
    })
}

/// A length of time as PostgreSQL has it: milliseconds, or with a unit; none where it is 0.
fn milliseconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let length = match text.parse::<u64>() {
        Ok(milliseconds) => Duration::from_millis(milliseconds),
        Err(_) => humantime::parse_duration(text).ok()?,
    };
    (!length.is_zero()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_milliseconds_unless_they_say_otherwise() {
        let expected = [("250", Some(250)), ("5s", Some(5000)), ("1min", Some(60_000)), ("0", None), ("soon", None)];
        for (text, millis) in expected {
            assert_eq!(milliseconds(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn settings_are_a_clients_own() {
        let (one, other) = (Session::default(), Session::default());
        one.set("timezone".to_owned(), "Europe/Berlin".to_owned()).unwrap();
        assert_eq!(one.shown("timezone").as_deref(), Some("Europe/Berlin"));
        assert_eq!(other.shown("timezone").as_deref(), Some("UTC"));
        assert_eq!(other.shown("no_such_setting"), None);
        for n in 0..SETTINGS_MAX {
            other.set(format!("s{n}"), String::new()).unwrap();
        }
        assert!(other.set("one_more".to_owned(), String::new()).is_err());
    }
}
