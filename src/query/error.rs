//! Why a statement has no answer.

use datafusion::error::DataFusionError;

/// A statement that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is at fault.
    #[error("{0}")]
    Statement(String),
    /// The engine is.
    #[error("the query failed: {0}")]
    Failed(String),
    /// It was ended before its time.
    #[error("{0}")]
    Ended(String),
    /// As many as may wait do so.
    #[error("{0}")]
    Busy(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        use DataFusionError as E;
        let told = plain(&error.strip_backtrace());
        match error.find_root() {
            E::SQL(..) | E::Plan(_) | E::SchemaError(..) | E::NotImplemented(_) | E::Diagnostic(..) => {
                QueryError::Statement(told)
            }
            E::Execution(_) | E::ArrowError(..) => QueryError::Statement(told),
            E::ResourcesExhausted(_) => QueryError::Statement(
                "the statement needs more memory than queries may hold, each and together, and cannot do with the \
                 disk: ask for a shorter span or fewer groups, or raise `query.memory` (of one: `query.statement_memory`)"
                    .to_owned(),
            ),
            _ => QueryError::Failed(told),
        }
    }
}

/// The sentence without the engine's names for kinds of errors.
fn plain(told: &str) -> String {
    // What it was found by says nothing to who asked.
    let told = told.rsplit("caused by\n").next().unwrap_or(told);
    let kinds = [
        "SQL error: ParserError(\"",
        "Execution error: ",
        "Error during planning: ",
        "Schema error: ",
        "Arrow error: Parser error: ",
    ];
    let kind = kinds.iter().find(|kind| told.starts_with(**kind));
    let rest = kind.map_or(told, |kind| &told[kind.len()..]);
    if told.starts_with(kinds[0]) { rest.trim_end_matches("\")").to_owned() } else { rest.to_owned() }
}
