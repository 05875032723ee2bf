//! Operations of the store and the pipelines: `/api/v1/verify`, `/api/v1/snapshot`, `/api/v1/pins`, `/api/v1/pipelines/reload`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::error::ApiError;
use super::state::App;
use crate::query::{Backup, Engine, Pin, QueryError, Verified};

/// Bytes of a request's body.
pub(super) const BODY_MAX: usize = 64 << 10;

/// Where a snapshot goes, as the server sees it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotTo {
    dir: PathBuf,
}

pub(super) async fn verify(State(app): State<Arc<App>>) -> Result<Json<Verified>, ApiError> {
    off_thread(&app, Engine::verify).await
}

/// The body must say that it is JSON: so no page in a browser can ask for it unasked.
pub(super) async fn snapshot(
    State(app): State<Arc<App>>,
    body: Result<Json<SnapshotTo>, JsonRejection>,
) -> Result<Json<Backup>, ApiError> {
    let Json(to) = body.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    if !to.dir.is_absolute() {
        let told = format!("`{}` is no absolute path: where the server runs is not for you to know", to.dir.display());
        return Err(ApiError::new(StatusCode::BAD_REQUEST, told));
    }
    off_thread(&app, move |engine| engine.snapshot_to(&to.dir)).await
}

/// How long files are held, an hour where nobody says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinFor {
    #[serde(default, with = "humantime_serde")]
    keep: Option<Duration>,
}

/// The body must say that it is JSON, for the same reason.
pub(super) async fn pin(
    State(app): State<Arc<App>>,
    body: Result<Json<PinFor>, JsonRejection>,
) -> Result<Json<Pin>, ApiError> {
    let Json(PinFor { keep }) = body.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    off_thread(&app, move |engine| engine.pin(keep)).await
}

pub(super) async fn pins(State(app): State<Arc<App>>) -> Json<Vec<Pin>> {
    Json(app.engine.pins())
}

pub(super) async fn release(
    State(app): State<Arc<App>>,
    Path(pin): Path<u64>,
) -> Result<Json<serde_json::Value>, ApiError> {
    off_thread(&app, move |engine| engine.release(pin)).await.map(|Json(())| ())?;
    Ok(Json(serde_json::json!({"released": pin})))
}

/// The body must say that it is JSON, for the same reason.
pub(super) async fn reload(
    State(app): State<Arc<App>>,
    body: Result<Json<serde_json::Value>, JsonRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let Json(_) = body.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    let reload = app.reload.clone();
    let done = tokio::task::spawn_blocking(move || reload()).await.unwrap_or_else(|error| Err(error.to_string()));
    done.map(Json).map_err(|told| ApiError::new(StatusCode::BAD_REQUEST, told))
}

async fn off_thread<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Engine) -> Result<T, QueryError> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    let engine = app.engine.clone();
    let done = tokio::task::spawn_blocking(move || work(&engine)).await;
    let done = done.unwrap_or_else(|error| Err(QueryError::Failed(error.to_string())));
    Ok(Json(done?))
}
