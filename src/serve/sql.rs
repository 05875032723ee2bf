//! `/api/v1/sql`: one statement in, rows out as they come. Who goes away before the end ends the statement.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;

use super::body;
use super::error::ApiError;
use super::state::App;
use crate::query::{Answer, OutputFormat, RowWriter, render};

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
    if matches!(format, OutputFormat::Table | OutputFormat::Markdown) {
        let held = app.engine.collect_within(&statement).await?;
        let bytes = render(format, &held.schema, &held.batches).map_err(|error| unwritable(format, &error))?;
        return Ok(([(header::CONTENT_TYPE, format.content_type())], bytes).into_response());
    }
    let mut rows = Rows::new(format, app.engine.query(&statement).await?)?;
    // What fits is sent whole, and a statement that fails early gets its status.
    let mut first = rows.next().await?.unwrap_or_default();
    while first.len() < WHOLE {
        match rows.next().await? {
            Some(more) => first.extend(more),
            None => return Ok(([(header::CONTENT_TYPE, format.content_type())], first).into_response()),
        }
    }
    let first = futures::stream::once(std::future::ready(Ok::<_, std::io::Error>(first)));
    let rest = futures::stream::try_unfold(rows, async |mut rows| {
        // There is no status any more to tell it by: the connection ends before the body does.
        let next = rows.next().await.inspect_err(|error| tracing::warn!(error = error.error, "an answer ended early"));
        Ok(next.map_err(|error| std::io::Error::other(error.error))?.map(|bytes| (bytes, rows)))
    });
    let body = Body::from_stream(first.chain(rest));
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

/// Bytes of an answer that is sent at one go.
const WHOLE: usize = 256 << 10;

/// Where rows are written to, and taken from as bytes.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The bytes of an answer as its rows come. Dropping it ends the statement.
struct Rows {
    format: OutputFormat,
    answer: Answer,
    buffer: Buffer,
    /// `None` behind the last row.
    writer: Option<RowWriter<Buffer>>,
}

impl Rows {
    fn new(format: OutputFormat, answer: Answer) -> Result<Rows, ApiError> {
        let buffer = Buffer::default();
        let writer = RowWriter::new(format, answer.schema.clone(), buffer.clone());
        let writer = Some(writer.map_err(|error| unwritable(format, &error))?);
        Ok(Rows { format, answer, buffer, writer })
    }

    /// The next bytes; `None` behind the last.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        while let Some(writer) = &mut self.writer {
            match self.answer.next().await {
                Some(batch) => {
                    let told = writer.write(&batch?);
                    told.map_err(|error| unwritable(self.format, &error))?;
                }
                None => {
                    let told = self.writer.take().map(RowWriter::finish).transpose();
                    told.map_err(|error| unwritable(self.format, &error))?;
                }
            }
            let bytes = self.buffer.take();
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

fn unwritable(format: OutputFormat, error: &arrow::error::ArrowError) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the rows cannot be written as {format:?}: {error}"))
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
