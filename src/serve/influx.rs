//! What InfluxDB's clients ask besides writing: who is there, and to make a database.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::body;
use super::error::ApiError;
use super::sql::STATEMENT_MAX;
use super::state::App;
use super::text::form;

/// As clients look for it: what is written as to 1.8 is taken.
const VERSION: &str = concat!("1.8-plimsoll-", env!("CARGO_PKG_VERSION"));

/// `GET` and `HEAD /ping`.
pub(super) async fn ping() -> Response {
    (StatusCode::NO_CONTENT, [("x-influxdb-version", VERSION), ("x-influxdb-build", "plimsoll")]).into_response()
}

/// Whether the one who asks is a client of InfluxDB, which looks for its words.
pub(super) fn is_client(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.to_ascii_lowercase().starts_with("influx")
}

/// The answer to `/health` that InfluxDB's clients look for.
pub(super) fn health(is_well: bool, message: &str) -> Response {
    let (status, told) = if is_well { (StatusCode::OK, "pass") } else { (StatusCode::SERVICE_UNAVAILABLE, "fail") };
    let body = json!({"name": "plimsoll", "message": message, "status": told, "version": VERSION});
    (status, Json(body)).into_response()
}

/// The answer to `/ready` that they look for.
pub(super) fn ready(is_well: bool, message: &str) -> Response {
    let (status, told) =
        if is_well { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting") };
    (status, Json(json!({"status": told, "message": message}))).into_response()
}

/// `GET` and `POST /query`, with the statement as `q` in the query or in a form: a database need not be made, so making
/// one is done at once; anything else is not ours to answer.
pub(super) async fn query(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    content: Body,
) -> Result<Response, ApiError> {
    let body = body::whole(content, STATEMENT_MAX).await?;
    let asked = |text: &str| form(text).into_iter().find(|(name, _)| name == "q").map(|(_, statement)| statement);
    let statement = asked(query.as_deref().unwrap_or_default()).or_else(|| asked(&String::from_utf8_lossy(&body)));
    let Some(statement) = statement else {
        let told = "there is no statement: `q` holds it. SQL is asked at /api/v1/sql";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, told));
    };
    if let Some(reason) = app.engine.closed() {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the store takes no writes: {reason}")));
    }
    if creates_database(&statement) {
        let empty = json!({"results": [{"statement_id": 0}]});
        return Ok((StatusCode::OK, [("x-influxdb-version", VERSION)], Json(empty)).into_response());
    }
    let told = format!(
        "`{}` is InfluxQL, of which only CREATE DATABASE is taken: ask in SQL at /api/v1/sql, where a database is the label db",
        statement.chars().take(200).collect::<String>()
    );
    Err(ApiError::new(StatusCode::BAD_REQUEST, told))
}

/// `CREATE DATABASE name`, quoted or not. With more, as a retention, it would promise what is not kept.
fn creates_database(statement: &str) -> bool {
    let mut rest = statement.trim().trim_end_matches(';').trim_end();
    for word in ["create", "database"] {
        let (head, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if !head.eq_ignore_ascii_case(word) {
            return false;
        }
        rest = tail.trim_start();
    }
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.find('"').is_some_and(|end| end > 0 && end + 1 == quoted.len()),
        None => !rest.is_empty() && !rest.contains(|letter: char| letter.is_whitespace() || letter == ';'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_is_made() {
        for statement in ["CREATE DATABASE telegraf", "create database \"my db\" ;", " CREATE  DATABASE\n x"] {
            assert!(creates_database(statement), "{statement}");
        }
        for statement in [
            "",
            "CREATE",
            "CREATE DATABASE",
            "CREATE DATABASE \"\"",
            "CREATE DATABASE a; DROP DATABASE b",
            "CREATE DATABASE a WITH DURATION 1d",
            "CREATE DATABASE \"a\" WITH DURATION 1d",
            "SHOW DATABASES",
            "DROP DATABASE a",
        ] {
            assert!(!creates_database(statement), "{statement}");
        }
    }
}
