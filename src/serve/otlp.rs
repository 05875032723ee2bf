//! `POST /v1/metrics`: OTLP over HTTP, in protobuf or JSON. Answers, errors too, are in the request's encoding.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::state::App;
use super::write::{bounds, off_thread, source};
use crate::flow::Intake;
use crate::ingest::Gather;
use crate::ingest::otlp::{OtlpEncoding, OtlpError, Report};

pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Response {
    let Some(encoding) = encoding(&headers) else {
        let told = "Content-Type is neither application/x-protobuf nor application/json: send one of them";
        return refusal(OtlpEncoding::Json, ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
    };
    let intake = app.sources.source(&source(&headers, client));
    let taken = off_thread(&app, headers, content, move |app, body| {
        let report = take(app, &*intake, &body, encoding)?;
        Ok(([(header::CONTENT_TYPE, encoding.content_type())], encoding.answer(&report)).into_response())
    });
    taken.await.unwrap_or_else(|error| refusal(encoding, error))
}

/// Takes a request and counts what came of it.
pub(super) fn take(app: &App, intake: &dyn Intake, body: &[u8], encoding: OtlpEncoding) -> Result<Report, OtlpError> {
    let now = (app.now)();
    let mut gather = Gather::sharing(intake, bounds(app), app.known.clone()).keeping(app.limits.retention.clone(), now);
    let taken = app.otlp.take(body, encoding, now, &mut gather);
    app.meters.samples.fetch_add(gather.accepted(), Ordering::Relaxed);
    let report = taken?;
    app.meters.refused_lines.fetch_add(report.refused, Ordering::Relaxed);
    app.meters.exemplars.fetch_add(report.exemplars, Ordering::Relaxed);
    Ok(report)
}

/// `/v1/traces`, `/v1/logs`: an exporter for all signals finds out what to turn off.
pub(super) async fn not_kept(uri: Uri, headers: HeaderMap) -> Response {
    let what = uri.path().trim_start_matches("/v1/");
    let variable = format!("OTEL_{}_EXPORTER", what.to_ascii_uppercase());
    let told = format!(
        "{what} are not kept here, only metrics (POST /v1/metrics): let the client send them elsewhere, or set {variable}=none"
    );
    refusal(encoding(&headers).unwrap_or(OtlpEncoding::Json), ApiError::new(StatusCode::NOT_IMPLEMENTED, told))
}

fn encoding(headers: &HeaderMap) -> Option<OtlpEncoding> {
    OtlpEncoding::of_content_type(headers.get(header::CONTENT_TYPE)?.to_str().ok()?)
}

impl From<OtlpError> for ApiError {
    fn from(error: OtlpError) -> Self {
        match error {
            OtlpError::Body(told) => ApiError::new(StatusCode::BAD_REQUEST, told),
            OtlpError::Refused(refusal) => refusal.into(),
        }
    }
}

/// `google.rpc.Code` for a status of HTTP.
pub(super) fn code(status: StatusCode) -> u8 {
    match status {
        // One too large is as large the next time: it is not to be sent again, as after 8 it might be.
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => 3,
        StatusCode::REQUEST_TIMEOUT => 4,
        StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::NOT_IMPLEMENTED => 12,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 13,
    }
}

fn refusal(encoding: OtlpEncoding, error: ApiError) -> Response {
    let body = encoding.status(code(error.status), &error.error, error.retry_after_s);
    let mut response = (error.status, [(header::CONTENT_TYPE, encoding.content_type())], body).into_response();
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
