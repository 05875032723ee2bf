//! The series index of a segment: which rows are whose.
//!
//! ```text
//! zstd of: count varint, then for each series in the file's order
//!   series zigzag varint, difference to the one before     rows varint
//!   scale + 1 u8 (0: floats)
//!   first time zigzag varint, difference to the one before's, in the file's unit
//!   last time varint, difference to `first`
//! ```

use std::io;

use super::TimeUnit;
use crate::model::SeriesId;
use crate::store::varint::{put, put_signed, take, take_signed};

/// Rows of one series in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct IndexEntry {
    pub series: SeriesId,
    /// First of its rows, counted from the start of the file.
    pub row: u64,
    pub rows: u32,
    /// `None` where the values are floats.
    pub scale: Option<u8>,
    /// First and last time, nanoseconds since the epoch.
    pub first: i64,
    pub last: i64,
}

pub(super) fn encode(entries: &[IndexEntry], unit: TimeUnit) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(entries.len() * 16);
    put(&mut plain, entries.len() as u64);
    let (mut series, mut first) = (0, 0);
    for entry in entries {
        put_signed(&mut plain, i64::from(entry.series.0) - series);
        put(&mut plain, u64::from(entry.rows));
        plain.push(entry.scale.map_or(0, |scale| scale + 1));
        let (from, to) = (entry.first / unit.nanos(), entry.last / unit.nanos());
        put_signed(&mut plain, from.wrapping_sub(first));
        put(&mut plain, to.wrapping_sub(from) as u64);
        (series, first) = (i64::from(entry.series.0), from);
    }
    zstd::bulk::compress(&plain, 3)
}

pub(super) fn decode(bytes: &[u8], unit: TimeUnit) -> Option<Vec<IndexEntry>> {
    let plain = zstd::stream::decode_all(bytes).ok()?;
    let rest = &mut &plain[..];
    let count = usize::try_from(take(rest)?).ok().filter(|&count| count <= rest.len())?;
    let mut entries = Vec::with_capacity(count);
    let (mut series, mut first, mut row) = (0_i64, 0_i64, 0_u64);
    for _ in 0..count {
        series = series.checked_add(take_signed(rest)?)?;
        let rows = u32::try_from(take(rest)?).ok()?;
        let (&scale, after) = rest.split_first()?;
        *rest = after;
        first = first.wrapping_add(take_signed(rest)?);
        let last = first.wrapping_add(take(rest)? as i64);
        entries.push(IndexEntry {
            series: SeriesId(u32::try_from(series).ok()?),
            row,
            rows,
            scale: scale.checked_sub(1),
            first: first.checked_mul(unit.nanos())?,
            last: last.checked_mul(unit.nanos())?,
        });
        row += u64::from(rows);
    }
    rest.is_empty().then_some(entries)
}
