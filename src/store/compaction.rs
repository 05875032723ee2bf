//! Compaction: which segments to merge (`choose`, pure) and the merging (`run`).
//!
//! Segments of samples never cross a month. Within a month they are merged like sizes with like, always neighbours in
//! the order of their flushes, so that "the later flush wins" stays true of what comes out. A sample is so rewritten
//! about once for every fourfold growth of its month.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StoreError;
use super::pieces::Pieces;
use super::retention::Kept;
use super::segment::{Cursor, IndexEntry, Segment, SegmentWriter};
use crate::catalog::{Registry, SegmentRecord, TableName};
use crate::model::SeriesId;

/// Neighbours of like size that make a merge worth its while.
const FAN_IN: usize = 4;
/// Sizes within this factor are alike.
const ALIKE: u64 = 4;
/// Files smaller than this are all alike.
const SMALL: u64 = 256 << 10;

/// Rows of a segment at most: its index counts them in 32 bits.
const ROWS_MAX: u64 = u32::MAX as u64;

/// Bytes of a merge of derived rows or of series at most: its files are held in memory, packed as they are.
const ROWS_BYTES_MAX: u64 = 16 << 20;

/// How eagerly to merge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Appetite {
    /// What pays off.
    Usual,
    /// Whatever can be merged.
    Everything,
}

/// The segments of one merge, neighbours in the order of their flushes; `None` where nothing is worth it.
pub(super) fn choose(records: &[SegmentRecord], appetite: Appetite, bytes_max: u64) -> Option<Vec<u64>> {
    let mut months: BTreeMap<(TableName, String), Vec<&SegmentRecord>> = BTreeMap::new();
    for record in records {
        let month = if record.table == TableName::Samples { record.first().month() } else { String::new() };
        months.entry((record.table, month)).or_default().push(record);
    }
    months.into_iter().find_map(|((table, _), mut month)| {
        month.sort_by_key(|record| record.flushes);
        let of_table = if table == TableName::Samples { bytes_max } else { bytes_max.min(ROWS_BYTES_MAX) };
        neighbours(&month, appetite, of_table)
    })
}

fn neighbours(month: &[&SegmentRecord], appetite: Appetite, bytes_max: u64) -> Option<Vec<u64>> {
    let enough = if appetite == Appetite::Everything { 2 } else { FAN_IN };
    (0..month.len()).find_map(|start| {
        let run = run_from(&month[start..], appetite, bytes_max);
        (run.len() >= enough).then(|| run.iter().map(|record| record.number).collect())
    })
}

fn run_from<'a>(month: &'a [&'a SegmentRecord], appetite: Appetite, bytes_max: u64) -> &'a [&'a SegmentRecord] {
    let (mut smallest, mut largest, mut total, mut rows) = (u64::MAX, 0, 0, 0);
    let taken = month
        .iter()
        .take_while(|record| {
            let size = record.bytes.max(SMALL);
            (smallest, largest, total) = (smallest.min(size), largest.max(size), total + record.bytes);
            let alike = appetite == Appetite::Everything || largest <= smallest.saturating_mul(ALIKE);
            rows += record.rows;
            alike && total <= bytes_max && rows <= ROWS_MAX
        })
        .count();
    &month[..taken]
}

/// Writes what the inputs (in the order of their flushes) hold and is kept to `writer`, each series merged.
pub(super) fn run(
    inputs: &[Arc<Segment>],
    registry: &Registry,
    kept: &Kept,
    writer: &mut SegmentWriter,
) -> Result<(), StoreError> {
    let mut series: Vec<SeriesId> =
        inputs.iter().flat_map(|segment| segment.entries().iter().map(|entry| entry.series)).collect();
    series.sort_unstable();
    series.dedup();

    let order = registry.file_order(series);
    let mut inputs: Vec<Input> = inputs.iter().map(|segment| Input::new(segment, &order)).collect();
    for (metric, id) in order {
        let mut pieces = Pieces::new(kept.span(id));
        for input in &mut inputs {
            if let Some(entry) = input.entry(id) {
                pieces.add_rows(&mut input.cursor, entry);
            }
        }
        writer.add_pieces(&metric, id, pieces)?;
    }
    Ok(())
}

/// One of the segments that are merged.
struct Input {
    cursor: Cursor,
    /// Place of the entry that comes next, where the entries are in the order of the merge: a series that a catalog made
    /// anew has under another name is not where it was.
    next: Option<usize>,
}

impl Input {
    fn new(segment: &Arc<Segment>, order: &[(Arc<str>, SeriesId)]) -> Self {
        let mut left = segment.entries().iter().peekable();
        order.iter().for_each(|(_, id)| {
            left.next_if(|entry| entry.series == *id);
        });
        let next = left.peek().is_none().then_some(0);
        Input { cursor: Cursor::new(segment.clone()), next }
    }

    /// The entry of a series, asked for in the order of the merge.
    fn entry(&mut self, id: SeriesId) -> Option<IndexEntry> {
        let segment = self.cursor.segment();
        let Some(next) = &mut self.next else { return segment.entry(id).copied() };
        let entry = segment.entries().get(*next).filter(|entry| entry.series == id)?;
        *next += 1;
        Some(*entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn record(number: u64, month: u32, bytes: u64) -> SegmentRecord {
        let first = Timestamp::parse(&format!("2026-{month:02}-10")).unwrap().nanos();
        SegmentRecord {
            number,
            table: TableName::Samples,
            path: String::new(),
            rows: 1,
            bytes,
            first,
            last: first,
            flushes: (number, number),
            digest: 0,
            tail: (0, 0),
        }
    }

    const MB: u64 = 1 << 20;

    #[test]
    fn like_neighbours_of_a_month_are_merged() {
        let sizes = |sizes: &[u64]| -> Vec<SegmentRecord> {
            sizes.iter().enumerate().map(|(at, &bytes)| record(at as u64, 1, bytes)).collect()
        };
        type Case<'a> = (&'a [u64], Appetite, Option<Vec<u64>>);
        let cases: [Case<'_>; 7] = [
            (&[MB, MB, MB], Appetite::Usual, None),
            (&[MB, MB, MB, MB], Appetite::Usual, Some(vec![0, 1, 2, 3])),
            (&[100 * MB, MB, MB, MB, 2 * MB], Appetite::Usual, Some(vec![1, 2, 3, 4])),
            (&[1, 100_000, 5, 200_000], Appetite::Usual, Some(vec![0, 1, 2, 3])),
            (&[MB, 100 * MB], Appetite::Everything, Some(vec![0, 1])),
            (&[MB, 600 * MB], Appetite::Everything, None),
            (&[MB], Appetite::Everything, None),
        ];
        for (bytes, appetite, chosen) in cases {
            assert_eq!(choose(&sizes(bytes), appetite, 512 * MB), chosen, "{bytes:?} {appetite:?}");
        }
    }

    #[test]
    fn months_are_never_merged() {
        let records: Vec<_> = (0..8).map(|n| record(n, n as u32 + 1, MB)).collect();
        assert_eq!(choose(&records, Appetite::Everything, 512 * MB), None);
    }
}
