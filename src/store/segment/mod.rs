//! Segments: Parquet files of samples, sorted by metric, series and time.
//!
//! Columns, pages and the index are drawn in [`format`](crate::store::format#segments-samples). Between the last row
//! group and the footer lie summaries (`summary.rs`) and the series index (`index.rs`). It gives each series' rows and each page's place and
//! checksum, so a reader here needs no footer and decodes no page but those asked for.

mod delta;
mod index;
mod page;
mod reader;
mod schema;
mod summary;
mod writer;

pub(super) use index::IndexEntry;
pub(super) use reader::{Cursor, Segment};
pub(super) use summary::SummaryCache;
pub(super) use writer::{SegmentStats, SegmentWriter};
