//! Merging of the files of a derived table or of `series`, and of what is in memory: each is sorted and read a batch at a time,
//! so that memory does not grow with what they hold.

use std::cmp::Ordering;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{SchemaRef, TimeUnit};
use arrow::row::{RowConverter, Rows, SortField};

use super::StoreError;
use super::derived::{FileRows, finest_unit, open_rows};
use crate::catalog::SegmentRecord;
use crate::world::Disk;

/// Rows handed on at once.
const CHUNK_ROWS: usize = 16_384;

/// The rows that count of several files, in the order of the table's key: of a group that is in several files the rows of
/// the last one.
pub(super) struct MergedRows {
    converter: RowConverter,
    group_columns: usize,
    cursors: Vec<Cursor>,
    /// Batches that picks and cursors point into.
    held: Vec<RecordBatch>,
    /// Batch and row, in order, of those that are not handed on yet.
    picks: Vec<(usize, usize)>,
    unit: TimeUnit,
}

/// Rows in the order of the key.
enum Source {
    File(FileRows),
    /// What is in memory, until it was taken.
    Memory(Option<RecordBatch>),
}

impl Source {
    fn next(&mut self) -> Option<Result<RecordBatch, StoreError>> {
        match self {
            Source::File(rows) => rows.next(),
            Source::Memory(batch) => batch.take().map(Ok),
        }
    }

    /// The error of one that is not sorted.
    fn out_of_order(&self) -> StoreError {
        match self {
            Source::File(rows) => rows.out_of_order(),
            Source::Memory(_) => {
                StoreError::Damaged { path: "memory".into(), reason: "its rows are not in the order of its key".into() }
            }
        }
    }
}

/// A place in a file.
struct Cursor {
    rows: Source,
    /// The batch it is in, among those held, and the row there.
    batch: usize,
    row: usize,
    /// Groups of the batch's rows; none behind the last.
    groups: Option<Rows>,
}

impl MergedRows {
    /// `group_columns` leading columns name a group; `inputs` are in the order of their flushes.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        inputs: &[SegmentRecord],
        schema: &SchemaRef,
        group_columns: usize,
    ) -> Result<Self, StoreError> {
        let fields = schema.fields()[..group_columns].iter();
        let converter = RowConverter::new(fields.map(|field| SortField::new(field.data_type().clone())).collect())?;
        let (held, picks) = (Vec::new(), Vec::new());
        let mut merged =
            MergedRows { converter, group_columns, cursors: Vec::new(), held, picks, unit: TimeUnit::Millisecond };
        for record in inputs {
            let rows = open_rows(disk, dir, record, schema)?;
            merged.unit = finest_unit([merged.unit, rows.unit]);
            merged.cursors.push(Cursor { rows: Source::File(rows), batch: 0, row: 0, groups: None });
        }
        for at in 0..merged.cursors.len() {
            merged.next_batch(at)?;
        }
        Ok(merged)
    }

    /// With rows that are in memory, in the order of the key: they came after those of all files.
    ///
    /// # Errors
    /// Rows of other columns.
    pub fn and_memory(mut self, rows: RecordBatch) -> Result<Self, StoreError> {
        self.cursors.push(Cursor { rows: Source::Memory(Some(rows)), batch: 0, row: 0, groups: None });
        self.next_batch(self.cursors.len() - 1)?;
        Ok(self)
    }

    /// The coarsest unit of time that loses nothing.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    fn group(&self, at: usize) -> Option<&[u8]> {
        let cursor = &self.cursors[at];
        Some(cursor.groups.as_ref()?.row(cursor.row).data())
    }

    /// Goes on to the first row of the file's next batch.
    fn next_batch(&mut self, at: usize) -> Result<(), StoreError> {
        let cursor = &mut self.cursors[at];
        (cursor.row, cursor.groups) = (0, None);
        while let Some(batch) = cursor.rows.next() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let columns = &batch.columns()[..self.group_columns];
                cursor.groups = Some(self.converter.convert_columns(columns)?);
                cursor.batch = self.held.len();
                self.held.push(batch);
                break;
            }
        }
        Ok(())
    }

    /// Goes on by a row.
    fn advance(&mut self, at: usize) -> Result<(), StoreError> {
        let cursor = &mut self.cursors[at];
        let Some(groups) = &cursor.groups else { return Ok(()) };
        if cursor.row + 1 == groups.num_rows() {
            return self.next_batch(at);
        }
        if groups.row(cursor.row) > groups.row(cursor.row + 1) {
            return Err(cursor.rows.out_of_order());
        }
        cursor.row += 1;
        Ok(())
    }

    /// Picks from the file whose group comes first, up to where another one's does.
    fn pick_run(&mut self) -> Result<bool, StoreError> {
        let live = || (0..self.cursors.len()).filter_map(|at| Some((self.group(at)?, at)));
        // Of one group in several files the last file's counts.
        let first = live().min_by(|(a, one), (b, other)| a.cmp(b).then(other.cmp(one)));
        let Some((group, winner)) = first else { return Ok(false) };
        let group = group.to_vec();
        for at in (0..self.cursors.len()).filter(|&at| at != winner) {
            while self.group(at) == Some(&group[..]) {
                self.advance(at)?;
            }
        }
        let others = (0..self.cursors.len()).filter(|&at| at != winner);
        let limit = others.filter_map(|at| self.group(at)).min().map(<[u8]>::to_vec);
        while self.picks.len() < CHUNK_ROWS
            && let Some(group) = self.group(winner)
            && limit.as_deref().is_none_or(|limit| group.cmp(limit) == Ordering::Less)
        {
            let cursor = &self.cursors[winner];
            self.picks.push((cursor.batch, cursor.row));
            self.advance(winner)?;
        }
        Ok(true)
    }

    fn chunk(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        while self.picks.len() < CHUNK_ROWS && self.pick_run()? {}
        if self.picks.is_empty() {
            return Ok(None);
        }
        let chunk = interleave_record_batch(&self.held.iter().collect::<Vec<_>>(), &self.picks)?;
        self.picks.clear();
        let held = std::mem::take(&mut self.held);
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.groups.is_some()) {
            self.held.push(held[cursor.batch].clone());
            cursor.batch = self.held.len() - 1;
        }
        Ok(Some(chunk))
    }
}

impl Iterator for MergedRows {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunk().transpose()
    }
}
