//! Who answers the SQL of stages: the query engine, over the rows they bring.

use arrow::array::RecordBatch;

use crate::flow::Ask;
use crate::query::{QueryError, Scratch};
use crate::stages::SqlSpec;

pub(super) struct Asker(Scratch);

impl Asker {
    pub fn new() -> Result<Self, QueryError> {
        Scratch::new().map(Asker)
    }

    /// Why a stage's query can never make samples, and what to write. A column that is not there may be a label: of these
    /// only samples tell.
    pub fn fault(&self, spec: &SqlSpec) -> Option<String> {
        match self.0.plan(&spec.query, SqlSpec::empty_input) {
            Ok(answer) => SqlSpec::answer_fault(&answer),
            Err(error) => Some(format!(
                "{error}: ask the table `input`, which has metric, series, time, value and each label as a column"
            )),
        }
    }
}

impl Ask for Asker {
    fn ask(&self, sql: &str, input: RecordBatch) -> Result<RecordBatch, String> {
        self.0.ask(sql, input).map_err(|error| error.to_string())
    }
}
