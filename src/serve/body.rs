//! Bodies of requests: read up to the limit, decompressed up to the limit.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;

use super::error::ApiError;
use super::state::{App, Room};

/// Bytes of a body too large that are read and thrown away.
const DISCARDED_MAX: usize = 512 << 20;

/// How long a body may take to come: room is kept for it meanwhile.
pub(super) const READ_MAX: Duration = Duration::from_secs(60);

/// A body as it came, packed or not, and the room that it takes.
pub(super) struct Packed {
    pub bytes: Bytes,
    pub room: Room,
}

impl Packed {
    /// Reads a body of at most as many bytes as may be, taking room as they come.
    pub async fn read(app: &App, body: Body) -> Result<Packed, ApiError> {
        let limit = app.limits.body;
        let (body, length) = within(body, limit).await?;
        let mut room = Room::default();
        room.grow_to(1, app).await?;
        let mut bytes = Vec::with_capacity(length);
        tokio::time::timeout(READ_MAX, fill(app, body, &mut bytes, &mut room)).await.map_err(|_| too_slow())??;
        Ok(Packed { bytes: bytes.into(), room })
    }

    /// Takes room for what it is likely to be once it is plain.
    pub async fn make_room(&mut self, app: &App, encoding: &str) -> Result<(), ApiError> {
        let plain = match encoding {
            "" | "identity" => 0,
            // It says so itself; what it says wrongly is found out when it is unpacked.
            "snappy" => snap::raw::decompress_len(&self.bytes).unwrap_or(0).min(self.bytes.len() * SNAPPY_FACTOR),
            _ => self.bytes.len().saturating_mul(GROWTH),
        };
        let plain = plain.min(app.limits.body);
        self.room.grow_to(self.bytes.len().saturating_add(plain), app).await
    }

    /// The body plain, and its room. One that grows further than is likely needs room for the largest at once.
    ///
    /// # Errors
    /// One that does not unpack or is too large; 503 where there is no room.
    pub fn unpack(self, app: &App, encoding: &str) -> Result<(Bytes, Room), ApiError> {
        let Packed { bytes, mut room } = self;
        let limit = app.limits.body;
        let likely = bytes.len().saturating_mul(GROWTH).min(limit);
        let first = if encoding == "snappy" { limit } else { likely };
        match unpacked(bytes.clone(), encoding, first) {
            Err(error) if error.status == StatusCode::PAYLOAD_TOO_LARGE && first < limit => {
                if !room.try_grow_to(bytes.len().saturating_add(limit), app) {
                    return Err(crowded());
                }
                Ok((unpacked(bytes, encoding, limit)?, room))
            }
            plain => Ok((plain?, room)),
        }
    }
}

/// Reads all of a body.
async fn fill(app: &App, body: Body, bytes: &mut Vec<u8>, room: &mut Room) -> Result<(), ApiError> {
    let limit = app.limits.body;
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(breaks_off)?;
        if bytes.len() + frame.len() > limit {
            return Err(too_large(limit));
        }
        room.grow_to(bytes.len() + frame.len(), app).await?;
        bytes.extend_from_slice(&frame);
    }
    Ok(())
}

fn breaks_off(error: axum::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the body breaks off: {error}"))
}

/// A short body that is a question, not samples.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let (body, _) = within(body, limit).await?;
    let read = tokio::time::timeout(READ_MAX, to_bytes(body, limit));
    let read = read.await.map_err(|_| too_slow())?;
    read.map_err(|error| {
        use std::error::Error;
        let too_long = error.source().is_some_and(|source| source.to_string().contains("length limit exceeded"));
        if too_long { too_large(limit) } else { breaks_off(error) }
    })
}

/// A body, and the bytes it has at least; one that says itself that it is too large is read away.
async fn within(body: Body, limit: usize) -> Result<(Body, usize), ApiError> {
    match usize::try_from(body.size_hint().lower()) {
        Ok(length) if length <= limit => Ok((body, length)),
        _ => {
            // Who sends too slowly sees a broken pipe.
            let _ = tokio::time::timeout(READ_MAX, discard(body)).await;
            Err(too_large(limit))
        }
    }
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

/// How many times its packed size a body is given room for; one that grows further needs room for the largest.
const GROWTH: usize = 16;

/// What the header `Content-Encoding` says, in small letters.
pub(super) fn encoding(headers: &HeaderMap) -> String {
    headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?")).to_ascii_lowercase()
}

/// The bytes that were packed as `encoding` says.
fn unpacked(body: Bytes, encoding: &str, limit: usize) -> Result<Bytes, ApiError> {
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

/// What a client is told whose body needs more room than there is just now.
fn crowded() -> ApiError {
    let told = "other requests take the memory that this one needs unpacked: send again in 1 s, or in parts";
    ApiError { retry_after_s: Some(1), ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, told) }
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
