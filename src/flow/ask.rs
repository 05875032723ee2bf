//! What answers SQL for stages: they know the question and the rows, not the engine.

use arrow::array::RecordBatch;

/// Answers statements over one table, `input`. Waits until the answer is there.
pub trait Ask: Send + Sync {
    /// The rows of the answer.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    fn ask(&self, sql: &str, input: RecordBatch) -> Result<RecordBatch, String>;
}
