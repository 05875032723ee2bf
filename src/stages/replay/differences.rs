//! What a replay found beside what is stored.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;

use super::digest::{Encoded, Texts};
use super::{ReplayError, Replayed, taking_back, those};
use crate::model::{Rows, Table};

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Found, and not stored.
    Found,
    /// Stored, and not found again.
    Stored,
    /// Found and stored with other values: there are two rows of it, the stored one first.
    Changed,
}

/// Rows that differ.
pub struct Differences {
    pub table: Table,
    pub rows: RecordBatch,
    /// As many as rows.
    pub how: Vec<Difference>,
}

/// Where rows are, by key: their place among those found, and stored.
type Places = BTreeMap<Vec<u8>, (Option<usize>, Option<usize>)>;

impl Replayed {
    /// Where the rows of a table differ from those stored.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn differences(&self, table: Table) -> Result<Differences, ReplayError> {
        let found = comparable(&self.rows(table)?)?;
        let stored = comparable(&self.stored(table)?)?;
        let (mut picks, mut how) = (Vec::new(), Vec::new());
        let mut pick = |side: usize, row: usize, as_what: Difference| {
            picks.push((side, row));
            how.push(as_what);
        };
        let mut texts = Texts::new(&self.store);
        let (of_found, of_stored) = (encoded(table, &found, &mut texts), encoded(table, &stored, &mut texts));
        for places in places(&of_found, &of_stored).into_values() {
            match places {
                (Some(row), None) => pick(0, row, Difference::Found),
                (None, Some(row)) => pick(1, row, Difference::Stored),
                (Some(here), Some(there)) if of_found[here].bytes != of_stored[there].bytes => {
                    pick(1, there, Difference::Changed);
                    pick(0, here, Difference::Changed);
                }
                _ => {}
            }
        }
        let rows = match picks.is_empty() {
            true => RecordBatch::new_empty(table.schema()),
            false => interleave_record_batch(&[&found, &stored], &picks)?,
        };
        Ok(Differences { table, rows, how })
    }

    /// The rows that make the store say what was found, and how many of those that are stored stay, although they were not
    /// found again, because their table has no way to take rows back.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn to_write(&self) -> Result<(Vec<Rows>, u64), ReplayError> {
        let (mut all, mut stay) = (Vec::new(), 0);
        for table in self.tables() {
            let found = self.found.get(&table);
            let stored = self.stored(table)?;
            let gone = self.not_found_again(table, &stored)?;
            match taking_back(table, &gone)? {
                Some(rows) => all.push(rows),
                None => stay += gone.num_rows() as u64,
            }
            // A group that is found is written whole behind what is taken back of it.
            all.extend(found.map(|batch| Rows { table, batch: batch.clone() }));
        }
        Ok((all, stay))
    }

    fn not_found_again(&self, table: Table, stored: &RecordBatch) -> Result<RecordBatch, ReplayError> {
        let empty = RecordBatch::new_empty(table.schema());
        let mut texts = Texts::new(&self.store);
        let found = encoded(table, self.found.get(&table).unwrap_or(&empty), &mut texts);
        let of_stored = encoded(table, stored, &mut texts);
        let mut gone = vec![false; stored.num_rows()];
        for places in places(&found, &of_stored).into_values() {
            if let (None, Some(row)) = places {
                gone[row] = true;
            }
        }
        those(stored, |row| gone[row])
    }
}

fn encoded(table: Table, rows: &RecordBatch, texts: &mut Texts<'_>) -> Vec<Encoded> {
    (0..rows.num_rows()).map(|row| Encoded::of(table, rows, row, texts)).collect()
}

fn places(found: &[Encoded], stored: &[Encoded]) -> Places {
    let mut places = Places::new();
    for (row, encoded) in found.iter().enumerate() {
        places.entry(encoded.key().to_vec()).or_default().0 = Some(row);
    }
    for (row, encoded) in stored.iter().enumerate() {
        places.entry(encoded.key().to_vec()).or_default().1 = Some(row);
    }
    places
}

/// Rows but those that tell only where telling began, or had come to when it was asked.
fn comparable(rows: &RecordBatch) -> Result<RecordBatch, ReplayError> {
    let Some(kept) = rows.column_by_name("kept").and_then(|column| column.as_string_opt::<i32>()) else {
        return Ok(rows.clone());
    };
    those(rows, |row| !["first", "last"].contains(&kept.value(row)))
}
