//! The rows that a replay finds, kept from the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};

use crate::flow::Sink;
use crate::model::{Batch, Rows, Span, Table, Timestamp};
use crate::stages::series::Made;

/// Takes the rows whose time lies in a span.
pub(super) struct Gathered {
    span: Span,
    /// Series that stages made.
    made: Arc<Made>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    rows: BTreeMap<Table, Vec<RecordBatch>>,
    samples: Vec<Batch>,
    /// Whether something of what is told now may still become longer.
    runs_on: bool,
    /// Whether points that are kept only because they are the last count.
    ends: bool,
}

impl Gathered {
    pub fn new(span: Span, made: Arc<Made>) -> Self {
        Gathered { span, made, found: Mutex::default() }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is watched whether episodes and sessions run on.
    pub fn watch(&self) {
        self.found().runs_on = false;
    }

    /// Whether one that counts was told since.
    pub fn runs_on(&self) -> bool {
        self.found().runs_on
    }

    /// What comes now is the last.
    pub fn end(&self) {
        self.found().ends = true;
    }

    /// Samples of series that stages made.
    pub fn take_samples(&self) -> Vec<Batch> {
        std::mem::take(&mut self.found().samples)
    }

    pub fn take(&self) -> BTreeMap<Table, Vec<RecordBatch>> {
        std::mem::take(&mut self.found().rows)
    }
}

impl Sink for Gathered {
    fn samples(&self, batch: &Batch) {
        let mut chosen = batch.part(0);
        for (series, sample) in self.made.of(batch).iter().filter(|(_, sample)| self.span.contains(sample.time)) {
            chosen.push(series, sample.time, sample.value);
        }
        if !chosen.is_empty() {
            self.found().samples.push(chosen);
        }
    }

    fn rows(&self, rows: Rows) {
        let Rows { table, batch } = rows;
        let mut found = self.found();
        let kept = column_of_texts(&batch, "kept").filter(|_| !found.ends);
        let is_last = |row: usize| kept.is_some_and(|kept| kept.value(row) == "last");
        let times =
            batch.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
        let Some(times) = times else { return };
        let counts = |row: usize| self.span.contains(Timestamp::from_nanos(times.value(row))) && !is_last(row);
        let chosen: BooleanArray = (0..batch.num_rows()).map(|row| Some(counts(row))).collect();
        if chosen.true_count() == 0 {
            return;
        }
        let chosen = filter_record_batch(&batch, &chosen).unwrap_or(batch);
        let tells = !count_of(&chosen, table).is_some_and(|counts| counts.iter().all(|&count| count == 0));
        found.runs_on |= tells && matches!(table, Table::Sessions | Table::Anomalies);
        found.rows.entry(table).or_default().push(chosen);
    }
}

fn column_of_texts<'b>(batch: &'b RecordBatch, name: &str) -> Option<&'b arrow::array::StringArray> {
    batch.column_by_name(name)?.as_string_opt::<i32>()
}

/// What the rows of a table that has such were made of.
pub(super) fn count_of(batch: &RecordBatch, table: Table) -> Option<&[u64]> {
    Some(batch.column_by_name(table.count_column()?)?.as_primitive_opt::<UInt64Type>()?.values())
}
