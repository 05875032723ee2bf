//! SQL over the store: DataFusion over one snapshot of head and segments.

mod derived;
mod dimension;
mod engine;
mod forecast;
mod render;
mod samples;
mod selection;
mod series;
mod stream;
mod system;
mod tables;

pub use crate::store::{Backup, StoreStats, TableStats, Verified};
pub use engine::{Answer, Engine, QueryError, parse};
pub use render::{OutputFormat, RowWriter, render};
pub use system::{MemoryShare, SystemTable, TellMemory, loss_rows};
