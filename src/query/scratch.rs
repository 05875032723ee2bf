//! SQL over one table of rows that somebody brings, for those who cannot wait but with their thread.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::SchemaError;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::{Builder, Runtime};

use super::error::QueryError;
use super::growth;

/// Bytes that statements may take together, beside the rows they are asked about.
const MEMORY: usize = 128 << 20;
/// Bytes that a sort sets aside to merge what it spilled.
const SORT_RESERVATION: usize = 4 << 20;
/// What the rows are called.
const TABLE: &str = "input";

/// Answers statements over a table `input`, each with a session of its own.
pub struct Scratch {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    memory: Arc<RuntimeEnv>,
}

impl Scratch {
    pub fn new() -> Result<Scratch, QueryError> {
        let failed = |error: std::io::Error| QueryError::Failed(error.to_string());
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("stage-sql").build().map_err(failed)?;
        let memory = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(MEMORY))).build_arc()?;
        Ok(Scratch { runtime: Some(runtime), memory })
    }

    /// All rows of the answer. Waits for them: not for a thread that serves others meanwhile.
    ///
    /// # Errors
    /// A statement that cannot be answered, or would change something.
    pub fn ask(&self, sql: &str, input: RecordBatch) -> Result<RecordBatch, QueryError> {
        Ok(self.answer(sql, input)?)
    }

    /// The columns of the answer, told without rows: `empty` gives the table with such columns more. One that is not there
    /// is asked for once, since it may come with the rows.
    ///
    /// # Errors
    /// A statement that can never be answered.
    pub fn plan(&self, sql: &str, empty: impl Fn(&[String]) -> RecordBatch) -> Result<SchemaRef, QueryError> {
        let mut more: Vec<String> = Vec::new();
        loop {
            match self.answer(sql, empty(&more)) {
                Ok(none) => return Ok(none.schema()),
                Err(error) => match missing(&error).filter(|name| !more.contains(name)) {
                    Some(name) => more.push(name),
                    None => return Err(error.into()),
                },
            }
        }
    }

    fn answer(&self, sql: &str, input: RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let config = SessionConfig::new().with_target_partitions(1).with_sort_spill_reservation_bytes(SORT_RESERVATION);
        let context = SessionContext::new_with_config_rt(config, self.memory.clone());
        for function in growth::functions() {
            context.state_ref().write().register_udaf(Arc::new(function))?;
        }
        context.register_table(TABLE, Arc::new(MemTable::try_new(input.schema(), vec![vec![input]])?))?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let ended = || DataFusionError::External("it has ended".into());
        let runtime = self.runtime.as_ref().ok_or_else(ended)?;
        runtime.block_on(async {
            let frame = context.sql_with_options(sql, read_only).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            let rows = frame.collect().await?;
            let schema = rows.first().map_or(schema, RecordBatch::schema);
            Ok(concat_batches(&schema, &rows)?)
        })
    }
}

/// The column that a statement misses.
fn missing(error: &DataFusionError) -> Option<String> {
    let DataFusionError::SchemaError(error, _) = error.find_root() else { return None };
    match &**error {
        SchemaError::FieldNotFound { field, .. } => Some(field.name.clone()),
        _ => None,
    }
}

impl Drop for Scratch {
    /// Without waiting: it may be let go of where nobody may wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn input() -> RecordBatch {
        let hosts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 4.0]));
        RecordBatch::try_from_iter([("host", hosts), ("value", values)]).unwrap()
    }

    #[test]
    fn rows_are_asked_about_and_nothing_else() {
        let scratch = Scratch::new().unwrap();
        let asked = scratch.ask("SELECT host, sum(value) AS value FROM input GROUP BY host ORDER BY host", input());
        let told = pretty_format_batches(&[asked.unwrap()]).unwrap().to_string();
        let rows: Vec<&str> = told.lines().skip(3).take(2).collect();
        assert_eq!(rows, ["| a    | 5.0   |", "| b    | 2.0   |"]);
        assert_eq!(scratch.ask("SELECT value FROM input WHERE value > 9", input()).unwrap().num_rows(), 0);
        for refused in ["SELECT nothing FROM input", "SELECT * FROM other", "DROP TABLE input", "SELEC 1"] {
            assert!(scratch.ask(refused, input()).is_err(), "{refused}");
        }
    }

    #[test]
    fn columns_that_may_come_are_no_fault_and_all_else_is() {
        let scratch = Scratch::new().unwrap();
        let empty = |labels: &[String]| {
            let texts = || -> ArrayRef { Arc::new(StringArray::from(Vec::<&str>::new())) };
            let value: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
            let labels = labels.iter().map(|label| (label.clone(), texts()));
            RecordBatch::try_from_iter([("value".to_owned(), value)].into_iter().chain(labels)).unwrap()
        };
        let columns = |sql: &str| {
            let schema = scratch.plan(sql, empty).map_err(|error| error.to_string())?;
            Ok(schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(" "))
        };
        let cases: [(&str, Result<&str, &str>); 6] = [
            ("SELECT a, i.b, max(value) AS value FROM input i WHERE c <> '' GROUP BY a, b", Ok("a b value")),
            ("SELECT value FROM inputs", Err("inputs")),
            ("SELECT j.value FROM input i", Err("value")),
            ("WITH w AS (SELECT value FROM input) SELECT gone FROM w", Err("gone")),
            ("SELECT sum(valu) AS value FROM input", Err("sum")),
            ("SELECT nothing(value) AS value FROM input", Err("nothing")),
        ];
        for (sql, wanted) in cases {
            let told: Result<String, String> = columns(sql);
            match wanted {
                Ok(wanted) => assert_eq!(told.as_deref(), Ok(wanted), "{sql}"),
                Err(wanted) => assert!(told.as_ref().is_err_and(|told| told.contains(wanted)), "{sql}: {told:?}"),
            }
        }
    }
}
