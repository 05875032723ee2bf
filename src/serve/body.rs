//! Bodies of requests: read up to the limit, decompressed up to the limit.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use futures::StreamExt;

use super::error::ApiError;

/// Bytes of a body too large that are read and thrown away.
const DISCARDED_MAX: usize = 512 << 20;

/// How long a body may take to come: room is kept for it meanwhile.
pub(super) const READ_MAX: Duration = Duration::from_secs(60);

/// The whole body. Compressed ones stay so: [`plain`] undoes it, off the async threads.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit as u64 {
        // Who sends too slowly sees a broken pipe.
        let _ = tokio::time::timeout(READ_MAX, discard(body)).await;
        return Err(too_large(limit));
    }
    let read = tokio::time::timeout(READ_MAX, to_bytes(body, limit));
    let read = read.await.map_err(|_| too_slow())?;
    read.map_err(|error| {
        use std::error::Error;
        let too_long = error.source().is_some_and(|source| source.to_string().contains("length limit exceeded"));
        if too_long {
            too_large(limit)
        } else {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the body breaks off: {error}"))
        }
    })
}

/// Reads a body away: many clients look for an answer only when all is sent, and see a broken pipe otherwise.
async fn discard(body: Body) {
    let mut left = DISCARDED_MAX;
    let mut frames = body.into_data_stream();
    while let Some(Ok(frame)) = frames.next().await
        && frame.len() <= left
    {
        left -= frame.len();
    }
}

/// Most bytes that one of a snappy body becomes: a copy of three becomes sixty-four.
const SNAPPY_FACTOR: usize = 22;

/// Bytes that a body of `length` takes at most once it is plain: itself and what it becomes.
pub(super) fn grown(length: usize, headers: &HeaderMap, limit: usize) -> usize {
    match headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes) {
        b"" | b"identity" => length,
        b"snappy" => length.saturating_mul(SNAPPY_FACTOR + 1),
        _ => limit,
    }
}

/// The body without its `Content-Encoding`.
pub(super) fn plain(body: Bytes, headers: &HeaderMap, limit: usize) -> Result<Bytes, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?"));
    unpacked(body, encoding, limit)
}

/// The bytes that were packed as `encoding` says.
pub(super) fn unpacked(body: Bytes, encoding: &str, limit: usize) -> Result<Bytes, ApiError> {
    let decoder: Box<dyn Read + '_> = match encoding {
        "" | "identity" => return Ok(body),
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(&body[..])),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(&body[..]).map_err(|error| broken("zstd", &error))?),
        "snappy" => return unsnapped(&body, limit),
        other => {
            let error = format!("Content-Encoding `{other}` is not known: send snappy, gzip, zstd or identity");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
    };
    let mut text = Vec::with_capacity(body.len().saturating_mul(4).min(limit));
    decoder.take(limit as u64 + 1).read_to_end(&mut text).map_err(|error| broken(encoding, &error))?;
    if text.len() > limit { Err(too_large(limit)) } else { Ok(text.into()) }
}

/// What a client is told whose body took longer than [`READ_MAX`].
pub(super) fn too_slow() -> ApiError {
    let told = format!("the body was not here within {} s: send smaller ones", READ_MAX.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, told)
}

/// Snappy's block format, which says its length first: that is believed only where the bytes can hold it.
fn unsnapped(body: &[u8], limit: usize) -> Result<Bytes, ApiError> {
    let length = snap::raw::decompress_len(body).map_err(|error| broken("snappy", &error))?;
    if length > limit {
        return Err(too_large(limit));
    }
    if length > body.len().saturating_mul(SNAPPY_FACTOR) {
        return Err(broken("snappy", &"it says a length that its bytes cannot hold"));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| broken("snappy", &error))?;
    Ok(plain.into())
}

fn broken(encoding: &str, error: &dyn std::fmt::Display) -> ApiError {
    let told =
        format!("the {encoding} body is cut or damaged ({error}): nothing of it was stored, send it again whole");
    ApiError::new(StatusCode::BAD_REQUEST, told)
}

pub(super) fn too_large(limit: usize) -> ApiError {
    let limit = bytesize::ByteSize::b(limit as u64);
    let error = format!(
        "the body is larger than {limit}: send it in parts, or raise `ingest.body_max` and, if it is over an eighth of it, `memory`"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error)
}
