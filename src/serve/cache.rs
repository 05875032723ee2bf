//! Answers that are kept: `/performance/cache/stats`, `…/invalidate`, `…/warmup`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::state::App;
use crate::query::CacheStats;

/// What is to be forgotten.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    /// Answers about this table; all without it.
    tag: Option<String>,
}

/// Statements to answer now, so that they are answered at once later.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Warm {
    statements: Vec<String>,
}

/// How each of them did.
#[derive(Serialize)]
pub(super) struct Warmed {
    statement: String,
    rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn stats(State(app): State<Arc<App>>) -> Json<Vec<CacheStats>> {
    Json(vec![app.engine.cache()])
}

pub(super) async fn invalidate(
    State(app): State<Arc<App>>,
    body: Result<Json<Forget>, JsonRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let Json(Forget { tag }) = body.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    Ok(Json(serde_json::json!({"forgotten": app.engine.forget(tag.as_deref())})))
}

pub(super) async fn warmup(
    State(app): State<Arc<App>>,
    body: Result<Json<Warm>, JsonRejection>,
) -> Result<Json<Vec<Warmed>>, ApiError> {
    let Json(Warm { statements }) = body.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    let mut warmed = Vec::with_capacity(statements.len());
    for statement in statements {
        let (mut rows, mut failed) = (0, None);
        match app.engine.query(&statement).await {
            Err(error) => failed = Some(error),
            Ok(mut answer) => {
                while let Some(batch) = answer.next().await {
                    match batch {
                        Ok(batch) => rows += batch.num_rows(),
                        Err(error) => failed = Some(error),
                    }
                }
            }
        }
        warmed.push(Warmed { statement, rows, error: failed.map(|error| error.to_string()) });
    }
    Ok(Json(warmed))
}
