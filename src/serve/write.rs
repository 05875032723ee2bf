//! `POST /write` and its relatives: line protocol, and performance events as JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::body::{self, Packed};
use super::error::ApiError;
use super::state::App;
use crate::ingest::line_protocol::{LineCache, LineOptions, Precision, read_lines};
use crate::ingest::{Gather, Nowhere, ReadError, TimeBounds, read_performance};

/// What the write endpoints of InfluxDB's versions take. Names of users, organisations and retentions are accepted and
/// left.
#[derive(Deserialize)]
pub(super) struct WriteQuery {
    precision: Option<String>,
    /// The label `db`, of versions 1 and 3.
    db: Option<String>,
    /// The same of version 2.
    bucket: Option<String>,
    /// Version 3: with `false` nothing of a body is taken that has a bad line.
    accept_partial: Option<String>,
}

/// `POST /write`, of version 1.
pub(super) async fn lines(
    app: State<Arc<App>>,
    Query(query): Query<WriteQuery>,
    client: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    write_lines(app, query, Precision::Nanos, client, headers, content).await
}

/// `POST /api/v2/write`.
pub(super) async fn lines_v2(
    app: State<Arc<App>>,
    Query(mut query): Query<WriteQuery>,
    client: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    query.db = query.bucket.take().or(query.db);
    write_lines(app, query, Precision::Nanos, client, headers, content).await
}

/// `POST /api/v3/write_lp`.
pub(super) async fn lines_v3(
    app: State<Arc<App>>,
    Query(query): Query<WriteQuery>,
    client: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    write_lines(app, query, Precision::Auto, client, headers, content).await
}

async fn write_lines(
    State(app): State<Arc<App>>,
    query: WriteQuery,
    usual: Precision,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let precision = match query.precision.as_deref() {
        None | Some("") => usual,
        Some(name) => Precision::of_name(name).ok_or_else(|| {
            let error = format!("precision `{name}` is not known: write ns, us, ms, s, m, h or auto");
            ApiError::new(StatusCode::BAD_REQUEST, error)
        })?,
    };
    let cache = app.lines.of(query.db.as_deref().unwrap_or(""));
    let intake = app.sources.source(&source(&headers, client));
    let is_whole = query.accept_partial.as_deref().is_some_and(|said| said.eq_ignore_ascii_case("false"));
    off_thread(&app, headers, content, move |app, text| {
        let now = (app.now)();
        let gather = |intake| Gather::new(intake, bounds(app)).keeping(app.limits.retention.clone(), now);
        let options = LineOptions { precision, now };
        if is_whole {
            let mut tried = gather(&Nowhere);
            read_lines(&text, 1, options, &LineCache::default(), &mut tried)?;
            if tried.faults.count > 0 {
                app.meters.refused_lines.fetch_add(tried.faults.count, Ordering::Relaxed);
                return Err(ApiError::refused(tried.faults, 0));
            }
        }
        let mut gather = gather(&*intake);
        let read = read_lines(&text, 1, options, &cache, &mut gather);
        let flushed = read.and_then(|report| gather.flush().map(|()| report));
        app.meters.samples.fetch_add(gather.accepted(), Ordering::Relaxed);
        let report = flushed?;
        app.meters.lines.fetch_add(report.lines, Ordering::Relaxed);
        app.meters.text_fields.fetch_add(report.text_fields, Ordering::Relaxed);
        finish(app, gather)
    })
    .await
}

pub(super) async fn performance(
    State(app): State<Arc<App>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let intake = app.sources.source(&source(&headers, client));
    off_thread(&app, headers, content, move |app, text| {
        app.known.age((app.now)());
        let mut gather = Gather::sharing(&*intake, bounds(app), app.known.clone())
            .keeping(app.limits.retention.clone(), (app.now)());
        let read = read_performance(&text, (app.now)(), &mut gather);
        read.map_err(|error| match error {
            ReadError::Refused(refusal) => refusal.into(),
            other => ApiError::new(StatusCode::BAD_REQUEST, other.to_string()),
        })?;
        gather.flush()?;
        app.meters.samples.fetch_add(gather.accepted(), Ordering::Relaxed);
        finish(app, gather)
    })
    .await
}

/// Header in which a client names itself; without it, it is known by its address.
const SOURCE: &str = "x-plimsoll-source";

pub(super) fn source(headers: &HeaderMap, client: SocketAddr) -> String {
    let named = headers.get(SOURCE).and_then(|name| name.to_str().ok()).filter(|name| !name.trim().is_empty());
    named.map_or_else(|| client.ip().to_canonical().to_string(), str::to_owned)
}

pub(super) fn bounds(app: &App) -> TimeBounds {
    TimeBounds::new((app.now)(), app.limits.future, app.limits.retention.longest_of_samples().length())
}

pub(super) fn finish(app: &App, gather: Gather<'_>) -> Result<Response, ApiError> {
    let accepted = gather.accepted();
    app.meters.refused_lines.fetch_add(gather.faults.count, Ordering::Relaxed);
    if gather.faults.count > 0 {
        return Err(ApiError::refused(gather.faults, accepted));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn off_thread(
    app: &Arc<App>,
    headers: HeaderMap,
    content: Body,
    work: impl FnOnce(&App, Bytes) -> Result<Response, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let encoding = body::encoding(&headers);
    let mut packed = Packed::read(app, content).await?;
    packed.make_room(app, &encoding).await?;
    let turn = app.turn().await?;
    let app = app.clone();
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (text, _room) = packed.unpack(&app, &encoding)?;
        work(&app, text)
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a write failed");
        Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the write failed: see the server's log"))
    })
}
