//! The nouns every room shares: time, series and their labels, batches of samples, rows of derived tables.

mod batch;
mod rows;
mod series;
mod time;

pub use batch::{Batch, Sample};
pub use rows::{Rows, Table};
pub use series::{Kind, Labels, SeriesDef, SeriesId};
pub use time::{Span, Timestamp, TimestampError};
