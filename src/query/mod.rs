//! SQL over the store: DataFusion over one snapshot of head and segments.

mod aggregate;
mod allowance;
mod answer;
mod array_labels;
mod derived;
mod dimension;
mod engine;
mod error;
mod forecast;
mod growth;
mod instant;
mod moment;
mod pace;
mod parameters;
mod postgres;
mod queries;
mod render;
mod samples;
mod schemas;
mod scratch;
mod selection;
mod series;
mod size;
mod sketch_quantile;
mod stream;
mod system;
mod tables;
#[cfg(test)]
mod testing;
mod tracks;
mod wide;

pub use crate::store::{Backup, StoreStats, TableStats, Verified};
pub use answer::{Answer, Held};
pub use datafusion::common::ParamValues as Parameters;
pub use derived::shown;
pub use engine::{Asked, Described, Dialect, Engine, NamedTable, parse};
pub use error::QueryError;
pub use parameters::parameters;
pub use postgres::{PG_VERSION, PgStatement};
pub use queries::{Limits as QueryLimits, default_at_once};
pub use render::{OutputFormat, RowWriter, render};
pub use scratch::Scratch;
pub use size::STATEMENT_STACK;
pub use system::{MemoryShare, SystemTable, TellMemory, loss_rows};
pub use tables::CATALOG;
