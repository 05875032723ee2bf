//! Segments: Parquet files of samples, sorted by metric, series and time.
//!
//! ```text
//! column    Parquet type            holds
//! metric    string                  the series' metric
//! series    uint32                  its number, as in the table `series`
//! time      timestamp(unit, UTC)    ms, us or ns: the coarsest that loses nothing in this file
//! value     double, optional        the value, where `unscaled` is null
//! unscaled  int64, optional         the value is unscaled / 10^scale, exactly
//! scale     int32                   0 to 9, one for all rows of a series; 0 where `value` is set
//! ```
//!
//! Times, `series`, `unscaled` and `scale` are DELTA_BINARY_PACKED, `value` BYTE_STREAM_SPLIT, `metric` a dictionary;
//! all pages are compressed with zstd. A row group has up to 2^18 rows.
//!
//! Between the last row group and the footer lies the series index (`index.rs`). It gives each series' rows and each
//! page's place and checksum, so a reader here needs no footer and decodes no page but those asked for.

mod delta;
mod index;
mod page;
mod reader;
mod schema;
mod writer;

pub(super) use index::IndexEntry;
pub(super) use reader::{Cursor, Segment};
pub(super) use writer::{SegmentStats, SegmentWriter};
