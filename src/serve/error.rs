//! Answers to requests that cannot be met: a status, a sentence, and where in the input it was.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::flow::Refusal;
use crate::ingest::{Fault, Faults};
use crate::query::QueryError;

/// Why a request was not met, or not in full.
#[derive(Debug, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    pub status: StatusCode,
    /// One sentence: what is wrong and what to do.
    pub error: String,
    /// The first line at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// How many lines were refused; the others are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Fault>,
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        ApiError { status, error: error.into(), line: None, refused: None, lines: Vec::new(), retry_after_s: None }
    }

    /// Some of the input was refused, the rest is stored.
    pub fn refused(faults: Faults, accepted: u64) -> Self {
        ApiError::refused_of(["line was", "lines were"], faults, accepted)
    }

    /// The same of an input that has no lines: what one is called, and what several are.
    pub fn refused_of([one, many]: [&str; 2], faults: Faults, accepted: u64) -> Self {
        let first = faults.first.first();
        let error = format!(
            "{} {} refused, {accepted} samples stored; the first: {}",
            faults.count,
            if faults.count == 1 { one } else { many },
            first.map_or("", |fault| &fault.error)
        );
        ApiError {
            line: first.map(|fault| fault.line),
            refused: Some(faults.count),
            lines: faults.first,
            ..ApiError::new(StatusCode::BAD_REQUEST, error)
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let retry_after_s = match &refusal {
            Refusal::Behind { retry_after, .. } => Some(retry_after.as_secs().max(1)),
            Refusal::Closed { .. } | Refusal::Budget(_) => None,
        };
        ApiError { retry_after_s, ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()) }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let retry_after_s = matches!(error, QueryError::Busy(_)).then_some(1);
        let status = match error {
            QueryError::Statement(_) => StatusCode::BAD_REQUEST,
            QueryError::Ended(_) => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError { retry_after_s, ..ApiError::new(status, error.to_string()) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry) = (self.status, self.retry_after_s);
        let mut response = (status, Json(self)).into_response();
        if let Some(value) = retry.and_then(|seconds| HeaderValue::from_str(&seconds.to_string()).ok()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
