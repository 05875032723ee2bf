//! Who answers the SQL of stages: the query engine, over the rows they bring.

use arrow::array::RecordBatch;

use crate::flow::Ask;
use crate::query::{QueryError, Scratch};

pub(super) struct Asker(Scratch);

impl Asker {
    pub fn new() -> Result<Self, QueryError> {
        Scratch::new().map(Asker)
    }
}

impl Ask for Asker {
    fn ask(&self, sql: &str, input: RecordBatch) -> Result<RecordBatch, String> {
        self.0.ask(sql, input).map_err(|error| error.to_string())
    }
}
