//! The points of one series from several places, a piece at a time: however long the series is, little of it is in memory.

use super::StoreError;
use super::points::{Points, merge};
use super::segment::{Cursor, IndexEntry};
use crate::model::{Span, Timestamp};

/// Rows of a segment that are read at once.
const PIECE_ROWS: u32 = 65_536;

/// Reads one series.
pub(super) struct Pieces<'c> {
    span: Span,
    parts: Vec<Part<'c>>,
    scales: Vec<Option<u8>>,
    /// The segment that did not read.
    at_fault: Option<u64>,
}

/// A place that has points of the series.
struct Part<'c> {
    /// Those that were read and not handed on.
    held: Points,
    rest: Option<Rest<'c>>,
}

/// Rows of a segment from `next` on.
struct Rest<'c> {
    cursor: &'c mut Cursor,
    entry: IndexEntry,
    next: u32,
}

impl<'c> Pieces<'c> {
    /// Of what lies within `span`. Parts are added in the order of their flushes.
    pub fn new(span: Span) -> Self {
        Pieces { span, parts: Vec::new(), scales: Vec::new(), at_fault: None }
    }

    pub fn add_rows(&mut self, cursor: &'c mut Cursor, entry: IndexEntry) {
        if self.span.touches(Timestamp::from_nanos(entry.first), Timestamp::from_nanos(entry.last)) {
            self.scales.push(entry.scale);
            self.parts.push(Part { held: Points::default(), rest: Some(Rest { cursor, entry, next: 0 }) });
        }
    }

    /// Adds points within the span that are in memory, sorted.
    pub fn add_points(&mut self, points: Points) {
        if !points.is_empty() {
            self.scales.push(points.values.scale());
            self.parts.push(Part { held: points, rest: None });
        }
    }

    /// Whether all parts have values at one scale, or floats: then so have all pieces.
    pub fn is_uniform(&self) -> bool {
        self.scales.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The next points by time; of several at one time those of the part that was added later. `None` behind the last.
    ///
    /// # Errors
    /// A segment that does not read.
    pub fn next(&mut self) -> Result<Option<Points>, StoreError> {
        for part in &mut self.parts {
            if let Err(error) = part.fill(self.span) {
                self.at_fault = part.rest.as_ref().map(|rest| rest.cursor.segment().record.number);
                return Err(error);
            }
        }
        // Up to there every part has all that it has.
        let known = self.parts.iter().filter(|part| part.rest.is_some()).filter_map(|part| part.held.last()).min();
        let until = known.unwrap_or(Timestamp::MAX);
        let merged = merge(self.parts.iter_mut().map(|part| part.held.take_until(until)).collect());
        Ok((!merged.is_empty()).then_some(merged))
    }

    /// The number of the segment that did not read, after an error.
    pub fn at_fault(&self) -> Option<u64> {
        self.at_fault
    }
}

impl Part<'_> {
    /// Has something held, as long as there is something within `span`.
    fn fill(&mut self, span: Span) -> Result<(), StoreError> {
        while self.held.is_empty()
            && let Some(rest) = &mut self.rest
        {
            let to = rest.entry.rows.min(rest.next.saturating_add(PIECE_ROWS));
            self.held = rest.cursor.rows(&rest.entry, rest.next..to)?;
            rest.next = to;
            let is_over = self.held.last().is_none_or(|last| last >= span.end);
            self.held.keep_within(span);
            if is_over || to == rest.entry.rows {
                self.rest = None;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::points::tests::points;

    #[test]
    fn parts_in_memory_are_one_piece_and_the_later_wins() {
        let mut pieces = Pieces::new(Span::ALL);
        pieces.add_points(points(&[(1, 1.0), (3, 3.0)]));
        pieces.add_points(Points::default());
        pieces.add_points(points(&[(2, 2.0), (3, 4.0)]));
        assert!(pieces.is_uniform());
        assert_eq!(pieces.next().unwrap(), Some(points(&[(1, 1.0), (2, 2.0), (3, 4.0)])));
        assert_eq!(pieces.next().unwrap(), None);
        pieces.add_points(points(&[(1, 0.5)]));
        assert!(!pieces.is_uniform());
    }
}
