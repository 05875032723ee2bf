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
//! Between the last row group and the footer lies the series index (`index.rs`); the footer's key `plimsoll.index`
//! says where. It gives each series' rows, so a reader decodes no other.

mod encode;
mod index;
mod reader;
mod schema;
mod writer;

pub(super) use encode::TimeUnit;
pub(super) use index::IndexEntry;
pub(super) use reader::{Cursor, Segment};
pub(super) use writer::{SegmentStats, SegmentWriter};
