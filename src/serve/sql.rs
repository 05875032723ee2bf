//! `/api/v1/sql`: one statement in, rows out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::body;
use super::error::ApiError;
use super::state::App;
use crate::query::{OutputFormat, render};

#[derive(Deserialize)]
pub(super) struct SqlQuery {
    q: Option<String>,
    format: Option<String>,
}

/// Bytes of a statement.
pub(super) const STATEMENT_MAX: usize = 1 << 20;

pub(super) async fn sql(
    State(app): State<Arc<App>>,
    method: Method,
    Query(query): Query<SqlQuery>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let statement = match query.q {
        Some(statement) => statement,
        None if method == Method::POST => {
            let text = body::whole(content, STATEMENT_MAX).await?;
            String::from_utf8(text.to_vec())
                .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the statement is not UTF-8 text"))?
        }
        None => String::new(),
    };
    if statement.trim().is_empty() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "there is no statement: send it as `q` or as the body"));
    }
    let format = wanted(query.format.as_deref(), &headers)?;
    let held = app.engine.collect_within(&statement).await?;
    let bytes = render(format, &held.schema, &held.batches).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("the rows cannot be written as {format:?}: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], bytes).into_response())
}

fn wanted(name: Option<&str>, headers: &HeaderMap) -> Result<OutputFormat, ApiError> {
    if let Some(name) = name {
        return OutputFormat::of_name(name).ok_or_else(|| {
            let error =
                format!("format `{name}` is not known: write json, ndjson, csv, arrow, parquet, table or markdown");
            ApiError::new(StatusCode::BAD_REQUEST, error)
        });
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let all = [OutputFormat::Csv, OutputFormat::Ndjson, OutputFormat::Arrow, OutputFormat::Parquet];
    let known = |format: &OutputFormat| accept.starts_with(format.content_type().split(';').next().unwrap_or("?"));
    Ok(all.into_iter().find(known).unwrap_or(OutputFormat::Json))
}
