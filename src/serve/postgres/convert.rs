//! Answers and faults as the protocol has them.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::{Stream, TryStreamExt, stream};

use crate::query::{Answer, Held, QueryError};

/// A fault by its code, as PostgreSQL's appendix of error codes lists them.
pub(super) fn fault(code: &str, told: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), told.into())))
}

pub(super) fn refusal(error: QueryError) -> PgWireError {
    let told = error.to_string();
    fault(code(&error, &told), told)
}

/// Clients decide by it whether to ask again, and what they call the exception.
fn code(error: &QueryError, told: &str) -> &'static str {
    let has = |all: &[&str]| all.iter().all(|part| told.contains(part));
    match error {
        QueryError::Ended(_) => "57014",
        QueryError::Busy(_) => "53300",
        QueryError::Failed(_) => "XX000",
        QueryError::Statement(_) if has(&["table", "not found"]) => "42P01",
        QueryError::Statement(_) if has(&["No field named"]) => "42703",
        QueryError::Statement(_) if has(&["Invalid function"]) => "42883",
        QueryError::Statement(_) if has(&["not supported: "]) => "25006",
        QueryError::Statement(_) if has(&["more memory"]) || has(&["larger than"]) => "53200",
        QueryError::Statement(_) => "42601",
    }
}

/// The columns, in the formats that the client asks for.
pub(super) fn fields(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    let columns = schema.fields().len();
    if let Format::Individual(formats) = format
        && formats.len() != columns
    {
        return Err(fault("08P01", format!("{} formats for {columns} columns", formats.len())));
    }
    arrow_schema_to_pg_fields(schema, format, None)
}

/// The rows as they come.
pub(super) fn streamed(answer: Answer, format: &Format) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(fields(&answer.schema, format)?);
    let of_rows = fields.clone();
    let batches = stream::try_unfold(answer, async |mut answer| {
        let next = answer.next().await.transpose().map_err(refusal)?;
        PgWireResult::Ok(next.map(|batch| (batch, answer)))
    });
    let rows = batches.map_ok(move |batch| stream::iter(encode_recordbatch(of_rows.clone(), batch)));
    Ok(QueryResponse::new(fields, rows.try_flatten()))
}

/// Rows that are there already.
pub(super) fn held(held: Held) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(fields(&held.schema, &Format::UnifiedText)?);
    let rows = rows_of(held, fields.clone());
    Ok(QueryResponse::new(fields, rows))
}

fn rows_of(held: Held, fields: Arc<Vec<FieldInfo>>) -> impl Stream<Item = PgWireResult<DataRow>> {
    let batches = held.batches.clone();
    let rows = batches.into_iter().flat_map(move |batch| {
        // They count as held until the last of them is sent.
        let _held = &held;
        encode_recordbatch(fields.clone(), batch)
    });
    stream::iter(rows)
}
