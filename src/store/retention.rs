//! What is kept as of one moment, and what becomes of the files that hold more than that.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};

use super::StoreError;
use super::core::unpoisoned;
use crate::catalog::{Registry, SegmentRecord, TableName};
use crate::model::{Retention, SeriesId, Span, Table, Timestamp};

/// The rules, and which of them each series goes by: a pattern is tried once a series.
pub(super) struct Rules {
    retention: Retention,
    registry: Arc<Registry>,
    /// The rule's place by series, of those that were asked for and all before them. Empty where no metric has a rule.
    of_series: RwLock<Vec<u32>>,
}

impl Rules {
    pub fn new(retention: Retention, registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Rules { retention, registry, of_series: RwLock::default() })
    }

    /// What they keep at `now`.
    pub fn at(self: &Arc<Self>, now: Timestamp) -> Kept {
        let rules = 0..=self.retention.metrics.len();
        let samples = rules.map(|rule| self.retention.of_rule(rule).oldest(now)).collect();
        Kept { rules: self.clone(), samples, now }
    }

    fn of_series(&self, series: SeriesId) -> usize {
        if self.retention.metrics.is_empty() {
            return 0;
        }
        let known = unpoisoned(self.of_series.read()).get(series.index()).copied();
        known.map_or_else(|| self.learn(series), |rule| rule as usize)
    }

    fn learn(&self, series: SeriesId) -> usize {
        let mut known = unpoisoned(self.of_series.write());
        for new in known.len()..=series.index() {
            let rule = self.retention.rule_of(&self.registry.metric(SeriesId(new as u32)));
            known.push(rule as u32);
        }
        known[series.index()] as usize
    }
}

/// The oldest times that are kept, as of one moment.
#[derive(Clone)]
pub(super) struct Kept {
    rules: Arc<Rules>,
    /// By rule; behind them that of metrics without one.
    samples: Vec<Timestamp>,
    now: Timestamp,
}

impl Kept {
    /// The oldest sample of a series that is kept.
    pub fn oldest(&self, series: SeriesId) -> Timestamp {
        self.samples[self.rules.of_series(series)]
    }

    /// The times of a series that are kept.
    pub fn span(&self, series: SeriesId) -> Span {
        Span::new(self.oldest(series), Timestamp::MAX)
    }

    /// The times of samples that are kept of any series.
    pub fn span_of_any(&self) -> Span {
        Span::new(self.samples.iter().copied().min().unwrap_or(Timestamp::MIN), Timestamp::MAX)
    }

    fn oldest_row(&self, table: Table, every: Option<i64>) -> Timestamp {
        self.rules.retention.of_row(table, every).oldest(self.now)
    }

    /// Whether rows of a table are kept for one time, whatever their window.
    pub fn is_uniform(&self, table: Table) -> bool {
        table != Table::Rollups || self.rules.retention.rollups.is_empty()
    }

    /// The oldest times that the rules for a table give, from the oldest to the youngest; `None` where it stays whole.
    fn bounds(&self, table: TableName) -> Option<(Timestamp, Timestamp)> {
        let times: Vec<Timestamp> = match table {
            TableName::Series => return None,
            TableName::Samples => self.samples.clone(),
            TableName::Derived(table) if self.is_uniform(table) => vec![self.oldest_row(table, None)],
            TableName::Derived(table) => {
                let windows = self.rules.retention.rollups.keys().copied().map(Some);
                windows.chain([None]).map(|every| self.oldest_row(table, every)).collect()
            }
        };
        times.iter().copied().min().zip(times.iter().copied().max())
    }

    /// What becomes of a file, where its times alone tell.
    pub fn fate_by_times(&self, record: &SegmentRecord) -> Option<Fate> {
        match self.bounds(record.table) {
            None => Some(Fate::Stays),
            Some((_, youngest)) if record.first() >= youngest => Some(Fate::Stays),
            Some((oldest, _)) if record.last() < oldest => Some(Fate::Goes),
            Some(_) => None,
        }
    }

    /// Rows of one series, from its first to its last time.
    pub fn samples(&self, series: SeriesId, rows: u64, first: i64, last: i64) -> Stretch {
        Stretch { rows, first, last, oldest: self.oldest(series).nanos() }
    }

    /// Rows of a derived table.
    pub fn rows(&self, table: Table, tier: &Tier) -> Stretch {
        let Tier { every, rows, first, last } = *tier;
        Stretch { rows, first, last, oldest: self.oldest_row(table, every).nanos() }
    }

    /// The rows of a batch that are kept.
    pub fn filter(&self, table: Table, batch: RecordBatch) -> Result<RecordBatch, StoreError> {
        let is_over = |tier: &Tier| self.oldest_row(table, tier.every).nanos() > tier.first;
        if !tiers(&batch).iter().any(is_over) {
            return Ok(batch);
        }
        let (times, every) = (times(&batch), windows(&batch));
        let mut oldest: BTreeMap<Option<i64>, i64> = BTreeMap::new();
        let is_kept = |row: usize| {
            let every = every.map(|every| every[row]);
            let of_window = || self.oldest_row(table, every).nanos();
            times[row] >= *oldest.entry(every).or_insert_with(of_window)
        };
        let kept: Vec<bool> = (0..batch.num_rows()).map(is_kept).collect();
        Ok(filter_record_batch(&batch, &BooleanArray::from(kept))?)
    }
}

/// Rows of a derived table with windows of one length, if it has such.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tier {
    /// Length of the windows in nanoseconds.
    pub every: Option<i64>,
    pub rows: u64,
    /// Nanoseconds since the epoch.
    pub first: i64,
    pub last: i64,
}

impl Tier {
    pub fn add(&mut self, other: &Tier) {
        (self.rows, self.first, self.last) =
            (self.rows + other.rows, self.first.min(other.first), self.last.max(other.last));
    }
}

fn times(batch: &RecordBatch) -> &[i64] {
    batch["time"].as_primitive::<TimestampNanosecondType>().values()
}

fn windows(batch: &RecordBatch) -> Option<&[i64]> {
    batch.column_by_name("every").map(|every| &**every.as_primitive::<Int64Type>().values())
}

/// The tiers of a derived table's rows.
pub(super) fn tiers(batch: &RecordBatch) -> Vec<Tier> {
    let every = windows(batch);
    let mut found: BTreeMap<Option<i64>, Tier> = BTreeMap::new();
    for (place, &time) in times(batch).iter().enumerate() {
        let every = every.map(|every| every[place]);
        let row = Tier { every, rows: 1, first: time, last: time };
        found.entry(every).and_modify(|tier| tier.add(&row)).or_insert(row);
    }
    found.into_values().collect()
}

/// Rows of a file that one rule is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub rows: u64,
    /// Their first and last time, and the oldest that is kept; nanoseconds since the epoch.
    pub first: i64,
    pub last: i64,
    pub oldest: i64,
}

impl Stretch {
    /// How many are expired, taken to lie evenly from the first to the last.
    fn expired(&self) -> u64 {
        if self.last < self.oldest {
            return self.rows;
        }
        let past = i128::from(self.oldest) - i128::from(self.first);
        let all = i128::from(self.last) - i128::from(self.first) + 1;
        u64::try_from(i128::from(self.rows) * past.max(0) / all).unwrap_or(0)
    }
}

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Stays,
    /// It is written anew without what is expired.
    Shrinks,
    Goes,
}

/// A file that holds nothing younger goes; one of which over half is expired shrinks, so that a row is rewritten about
/// once more for it.
pub(super) fn fate(stretches: impl IntoIterator<Item = Stretch>) -> Fate {
    let (mut rows, mut expired, mut is_over) = (0, 0, true);
    for stretch in stretches {
        (rows, expired) = (rows + stretch.rows, expired + stretch.expired());
        is_over &= stretch.last < stretch.oldest;
    }
    match is_over {
        true => Fate::Goes,
        false if expired * 2 > rows => Fate::Shrinks,
        false => Fate::Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_shrink_or_stay_by_what_is_expired_of_them() {
        let stretch = |(rows, first, last, oldest)| Stretch { rows, first, last, oldest };
        const EVER: i64 = i64::MIN;
        type Case<'a> = (&'a [(u64, i64, i64, i64)], Fate);
        let cases: [Case<'_>; 11] = [
            (&[(10, 0, 9, 10)], Fate::Goes),
            (&[(10, 0, 9, 9)], Fate::Shrinks),
            (&[(10, 0, 9, 6)], Fate::Shrinks),
            (&[(10, 0, 9, 5)], Fate::Stays),
            (&[(10, 0, 9, EVER)], Fate::Stays),
            (&[(10, 0, 9, 10), (10, 0, 9, 30)], Fate::Goes),
            (&[(10, 0, 9, 10), (9, 0, 9, EVER)], Fate::Shrinks),
            (&[(10, 0, 9, 10), (10, 0, 9, EVER)], Fate::Stays),
            (&[(10, 0, 9, 10), (10, 0, 9, 1)], Fate::Shrinks),
            (&[(1, 5, 5, 5)], Fate::Stays),
            (&[(u64::from(u32::MAX), i64::MIN, i64::MAX, i64::MAX - 1)], Fate::Shrinks),
        ];
        for (stretches, wanted) in cases {
            assert_eq!(fate(stretches.iter().copied().map(stretch)), wanted, "{stretches:?}");
        }
    }
}
