//! SQL over the store: DataFusion over one snapshot of head and segments.

mod aggregate;
mod derived;
mod dimension;
mod engine;
mod forecast;
mod growth;
mod instant;
mod moment;
mod pace;
mod queries;
mod render;
mod samples;
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
pub use derived::shown;
pub use engine::{Answer, Engine, QueryError, parse};
pub use queries::Limits as QueryLimits;
pub use render::{OutputFormat, RowWriter, render};
pub use scratch::Scratch;
pub use size::STATEMENT_STACK;
pub use system::{MemoryShare, SystemTable, TellMemory, loss_rows};
