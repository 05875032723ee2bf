//! OTLP over gRPC: `MetricsService/Export`, on a port of its own.
//!
//! ```text
//! request   packed (1 byte: 0 or 1) | length (4 bytes, big end first) | message
//! answer    0 | length | message, then the trailer grpc-status: 0; or grpc-status alone, with a sentence
//! ```
//!
//! Framed here rather than by tonic's own service: so a message takes its place among the bodies that may be in memory
//! before it is read, and one too large is told so with a code after which clients do not send it again.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;
use tonic::metadata::MetadataValue;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::{Code, Status};

use super::body::{Packed, READ_MAX, too_large, too_slow};
use super::error::ApiError;
use super::otlp::{code, take};
use super::state::{App, Room};
use super::write::source;
use crate::flow::Intake;
use crate::ingest::otlp::{OtlpEncoding, Report, retry_info};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// Bytes before a message.
const HEAD: usize = 5;
/// The key under which some clients look for when to send again; the others look into the status' details.
const RETRY_KEY: &str = "google.rpc.retryinfo-bin";

/// Listens from [`Grpc::bind`] on.
pub(super) struct Grpc {
    address: SocketAddr,
    incoming: TcpIncoming,
    router: Router,
}

impl Grpc {
    pub async fn bind(address: &str, app: Arc<App>) -> std::io::Result<Grpc> {
        let told = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("OTLP over gRPC (`otlp_grpc`) at {address}: {error}"))
        };
        let listener = TcpListener::bind(address).await.map_err(told)?;
        let router = Router::new()
            .route(EXPORT, post(export))
            .fallback(unknown)
            .layer(DefaultBodyLimit::disable())
            .with_state(app);
        Ok(Grpc { address: listener.local_addr().map_err(told)?, incoming: TcpIncoming::from(listener), router })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the other end of `stopped` is gone, then finishes the requests under way.
    pub async fn run(self, mut stopped: Receiver<()>) -> std::io::Result<()> {
        let stop = async move { while stopped.changed().await.is_ok() {} };
        let server = tonic::transport::Server::builder();
        let served = server.serve_with_incoming_shutdown(self.router, self.incoming, stop).await;
        served.map_err(std::io::Error::other)
    }
}

async fn unknown(uri: Uri) -> Response {
    let told = format!("there is no {} here, only {EXPORT}: let the client send it elsewhere", uri.path());
    Status::new(Code::Unimplemented, told).into_http()
}

async fn export(
    State(app): State<Arc<App>>,
    Extension(client): Extension<TcpConnectInfo>,
    headers: HeaderMap,
    content: Body,
) -> Response {
    let client = client.remote_addr().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let intake = app.sources.source(&source(&headers, client));
    match exported(&app, intake, &headers, content).await {
        Ok(report) => answer(&OtlpEncoding::Protobuf.answer(&report)),
        Err(error) => refusal(error),
    }
}

async fn exported(
    app: &Arc<App>,
    intake: Arc<dyn Intake>,
    headers: &HeaderMap,
    content: Body,
) -> Result<Report, ApiError> {
    let packing = packing(headers)?;
    let read = tokio::time::timeout(READ_MAX, message(app, content)).await.map_err(|_| too_slow())?;
    let (is_packed, mut message) = read?;
    let packing = if is_packed { packing } else { "identity" };
    message.make_room(app, packing).await?;
    let turn = app.turn().await?;
    let app = app.clone();
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (body, _room) = message.unpack(&app, packing)?;
        Ok(take(&app, &*intake, &body, OtlpEncoding::Protobuf)?)
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an export failed");
        Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the export failed: see the server's log"))
    })
}

fn packing(headers: &HeaderMap) -> Result<&'static str, ApiError> {
    match headers.get("grpc-encoding").map_or("", |value| value.to_str().unwrap_or("?")) {
        "" | "identity" => Ok("identity"),
        "gzip" => Ok("gzip"),
        "zstd" => Ok("zstd"),
        other => {
            let told = format!("grpc-encoding `{other}` is not known: send gzip, zstd or identity");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, told))
        }
    }
}

/// Reads a message, taking room as it comes, and whether it is packed.
async fn message(app: &App, content: Body) -> Result<(bool, Packed), ApiError> {
    let limit = app.limits.body;
    let mut frames = content.into_data_stream();
    let (mut bytes, mut room) = (Vec::new(), Room::default());
    let mut fill = async |bytes: &mut Vec<u8>, wanted: usize| {
        while bytes.len() < wanted {
            match frames.next().await {
                Some(Ok(frame)) => {
                    room.grow_to(bytes.len() + frame.len(), app).await?;
                    bytes.extend_from_slice(&frame);
                }
                Some(Err(error)) => return Err(broken(format!("the message breaks off: {error}"))),
                None => return Err(broken(format!("{} of {wanted} bytes came: send it again whole", bytes.len()))),
            }
        }
        Ok(())
    };
    fill(&mut bytes, HEAD).await?;
    let (is_packed, length) = (bytes[0] == 1, u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize);
    if length > limit {
        return Err(too_large(limit));
    }
    fill(&mut bytes, HEAD + length).await?;
    bytes.truncate(HEAD + length);
    Ok((is_packed, Packed { bytes: Bytes::from(bytes).slice(HEAD..), room }))
}

fn broken(told: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, told)
}

fn answer(message: &[u8]) -> Response {
    let mut framed = Vec::with_capacity(HEAD + message.len());
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    let headers = [
        (header::CONTENT_TYPE, "application/grpc"),
        (header::HeaderName::from_static("grpc-accept-encoding"), "identity,gzip,zstd"),
    ];
    (headers, Body::new(body)).into_response()
}

fn refusal(error: ApiError) -> Response {
    let code = code(error.status);
    let details = OtlpEncoding::Protobuf.status(code, &error.error, error.retry_after_s);
    let mut status = Status::with_details(Code::from(i32::from(code)), error.error, details.into());
    if let Some(seconds) = error.retry_after_s {
        status.metadata_mut().insert_bin(RETRY_KEY, MetadataValue::from_bytes(&retry_info(seconds)));
    }
    status.into_http()
}
