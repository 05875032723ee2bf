//! The rows of a statement, as they come or all at once.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;

use super::error::QueryError;
use super::queries::{End, Running};

/// Rows as they come. Dropping it ends the statement.
pub struct Answer {
    pub schema: SchemaRef,
    pub(super) stream: SendableRecordBatchStream,
    pub(super) running: Running,
}

impl Answer {
    /// By which the statement is ended with `KILL`.
    pub fn number(&self) -> u64 {
        self.running.number()
    }

    /// The next rows; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        let next = match self.running.until_ended(self.stream.next()).await {
            Ok(next) => next.map(|batch| batch.map_err(QueryError::from)),
            Err(told) => return Some(Err(QueryError::Ended(told))),
        };
        match &next {
            None => self.running.ends(End::Done),
            Some(Ok(batch)) => self.running.count(batch.num_rows()),
            Some(Err(error)) => self.running.ends(End::Failed(error.to_string())),
        }
        next
    }

    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

/// An answer in memory, for as long as it is held.
pub struct Held {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub(super) reservation: MemoryReservation,
}
