//! `POST /api/v1/write`: Prometheus remote write 1.0 and 2.0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::state::App;
use super::write::{bounds, off_thread, source};
use crate::ingest::{Gather, RemoteWrite, Written};

pub(super) async fn write(
    State(app): State<Arc<App>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    mut headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let version = version(&headers)?;
    // As Prometheus itself takes a body that does not say it.
    headers.entry(header::CONTENT_ENCODING).or_insert(HeaderValue::from_static("snappy"));
    let intake = app.sources.source(&source(&headers, client));
    off_thread(&app, headers, content, move |app, body| {
        let now = (app.now)();
        app.known.age(now);
        let mut gather =
            Gather::sharing(&*intake, bounds(app), app.known.clone()).keeping(app.limits.retention.clone(), now);
        let read = version.read(&body, now, &app.remote_write, &mut gather);
        let flushed = read.and_then(|written| gather.flush().map(|()| written));
        app.meters.samples.fetch_add(gather.accepted(), Ordering::Relaxed);
        let written = flushed?;
        app.meters.exemplars.fetch_add(written.exemplars, Ordering::Relaxed);
        app.meters.nonfinite.fetch_add(written.nonfinite, Ordering::Relaxed);
        app.meters.refused_lines.fetch_add(gather.faults.count, Ordering::Relaxed);
        let answer = if gather.faults.count > 0 {
            ApiError::refused_of(["part was", "parts were"], gather.faults, written.samples).into_response()
        } else {
            StatusCode::NO_CONTENT.into_response()
        };
        Ok(if version == RemoteWrite::V2 { telling(answer, &written) } else { answer })
    })
    .await
    .map_err(again)
}

/// Prometheus sends again after a 503, but after a 429 only where it is set to.
fn again(error: ApiError) -> ApiError {
    let status =
        if error.status == StatusCode::TOO_MANY_REQUESTS { StatusCode::SERVICE_UNAVAILABLE } else { error.status };
    ApiError { status, ..error }
}

fn version(headers: &HeaderMap) -> Result<RemoteWrite, ApiError> {
    let said = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    RemoteWrite::of_content_type(said).ok_or_else(|| {
        let error = format!(
            "Content-Type `{said}` is not taken here: send application/x-protobuf (prometheus.WriteRequest), \
             or application/x-protobuf;proto=io.prometheus.write.v2.Request"
        );
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
    })
}

/// Version 2.0 has the answer say what was stored. Exemplars are not.
fn telling(mut answer: Response, written: &Written) -> Response {
    let counts = [
        ("x-prometheus-remote-write-samples-written", written.samples),
        ("x-prometheus-remote-write-histograms-written", written.histograms),
        ("x-prometheus-remote-write-exemplars-written", 0),
    ];
    for (name, count) in counts {
        answer.headers_mut().insert(name, count.into());
    }
    answer
}
