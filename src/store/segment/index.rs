//! The series index of a segment: which rows are whose, and where the pages lie. Its bytes are drawn in
//! [`format`](crate::store::format#the-file-and-the-series-index-in-it).

use std::io;

use super::page::PageRef;
use super::summary::Summaries;
use crate::model::SeriesId;
use crate::store::scale::TimeUnit;
use crate::store::varint::{put, put_signed, take, take_signed};

pub(super) const TAIL: usize = 12;
const MAGIC: &[u8; 4] = b"PLSI";

/// The columns that are read here. The others are for readers outside: the index says the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Time,
    Value,
    Unscaled,
}

/// Rows of one series in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct IndexEntry {
    pub series: SeriesId,
    /// First of its rows, counted from the start of the file.
    pub row: u32,
    pub rows: u32,
    /// First of its values, counted over those of its column: `unscaled`, or `value` where there is no scale.
    pub value: u32,
    /// `None` where the values are floats.
    pub scale: Option<u8>,
    /// First and last time, nanoseconds since the epoch.
    pub first: i64,
    pub last: i64,
}

/// The index, decoded.
#[derive(Debug, PartialEq)]
pub(super) struct Index {
    pub unit: TimeUnit,
    /// By [`Column`].
    pub pages: [Vec<PageRef>; 3],
    pub entries: Vec<IndexEntry>,
    pub summaries: Summaries,
}

impl Index {
    /// The index and its tail.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(64 + self.entries.len() * 16);
        plain.push(self.unit as u8);
        self.pages.iter().for_each(|pages| put_pages(pages, &mut plain));
        put(&mut plain, self.entries.len() as u64);
        let (mut series, mut first) = (0, 0);
        for entry in &self.entries {
            put_signed(&mut plain, i64::from(entry.series.0) - series);
            put(&mut plain, u64::from(entry.rows));
            plain.push(entry.scale.map_or(0, |scale| scale + 1));
            let (from, to) = (entry.first / self.unit.nanos(), entry.last / self.unit.nanos());
            put_signed(&mut plain, from.wrapping_sub(first));
            put(&mut plain, to.wrapping_sub(from) as u64);
            (series, first) = (i64::from(entry.series.0), from);
        }
        put_pages(&self.summaries.pages, &mut plain);
        self.summaries.encode(&mut plain);
        let mut packed = zstd::bulk::compress(&plain, 3)?;
        let (len, crc) = (packed.len() as u32, crc32c::crc32c(&packed));
        packed.extend_from_slice(&len.to_le_bytes());
        packed.extend_from_slice(&crc.to_le_bytes());
        packed.extend_from_slice(MAGIC);
        Ok(packed)
    }

    pub fn decode(packed: &[u8]) -> Option<Index> {
        let plain = zstd::stream::decode_all(packed).ok()?;
        let (&unit, mut rest) = plain.split_first()?;
        let rest = &mut rest;
        let unit =
            [TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos].into_iter().find(|known| *known as u8 == unit)?;
        let pages = [take_pages(rest)?, take_pages(rest)?, take_pages(rest)?];
        let entries = take_entries(rest, unit)?;
        let values = |pages: &[PageRef]| pages.iter().map(|page| u64::from(page.values)).sum::<u64>();
        let rows = |scaled: bool| -> u64 {
            let of_kind = entries.iter().filter(|entry| entry.scale.is_some() == scaled);
            of_kind.map(|entry| u64::from(entry.rows)).sum()
        };
        let [times, floats, whole] = [values(&pages[0]), values(&pages[1]), values(&pages[2])];
        // Files of before they were made have none.
        let summaries = match rest.is_empty() {
            true => Summaries::default(),
            false => Summaries::decode(take_pages(rest)?, entries.len(), rest)?,
        };
        let agree = times == floats + whole && floats == rows(false) && whole == rows(true);
        (rest.is_empty() && agree).then_some(Index { unit, pages, entries, summaries })
    }
}

/// Length and CRC32C of the index, from its tail.
pub(super) fn read_tail(tail: &[u8; TAIL]) -> Option<(u32, u32)> {
    let word = |at: usize| u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
    (&tail[8..] == MAGIC).then(|| (word(0), word(4)))
}

fn put_pages(pages: &[PageRef], out: &mut Vec<u8>) {
    put(out, pages.len() as u64);
    let mut end = 0;
    for page in pages {
        put(out, page.offset - end);
        for number in [page.header, page.len, page.plain, page.values] {
            put(out, u64::from(number));
        }
        out.extend_from_slice(&page.crc.to_le_bytes());
        end = page.offset + u64::from(page.len);
    }
}

fn take_pages(rest: &mut &[u8]) -> Option<Vec<PageRef>> {
    let count = usize::try_from(take(rest)?).ok().filter(|&count| count <= rest.len())?;
    let mut end = 0_u64;
    let page = |_| {
        let offset = end.checked_add(take(rest)?)?;
        let mut number = || u32::try_from(take(rest)?).ok();
        let (header, len, plain, values) = (number()?, number()?, number()?, number()?);
        let (crc, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        end = offset.checked_add(u64::from(len))?;
        Some(PageRef { offset, header, len, plain, values, crc: u32::from_le_bytes(*crc) })
    };
    (0..count).map(page).collect()
}

fn take_entries(rest: &mut &[u8], unit: TimeUnit) -> Option<Vec<IndexEntry>> {
    let count = usize::try_from(take(rest)?).ok().filter(|&count| count <= rest.len())?;
    let mut entries = Vec::with_capacity(count);
    let (mut series, mut first, mut row) = (0_i64, 0_i64, 0_u32);
    // Values so far: floats, scaled.
    let mut values = [0_u32; 2];
    for _ in 0..count {
        series = series.checked_add(take_signed(rest)?)?;
        let rows = u32::try_from(take(rest)?).ok()?;
        let (&scale, after) = rest.split_first()?;
        *rest = after;
        first = first.wrapping_add(take_signed(rest)?);
        let last = first.wrapping_add(take(rest)? as i64);
        let value = &mut values[usize::from(scale > 0)];
        entries.push(IndexEntry {
            series: SeriesId(u32::try_from(series).ok()?),
            row,
            rows,
            value: *value,
            scale: scale.checked_sub(1),
            first: first.checked_mul(unit.nanos())?,
            last: last.checked_mul(unit.nanos())?,
        });
        row = row.checked_add(rows)?;
        *value += rows;
    }
    Some(entries)
}
