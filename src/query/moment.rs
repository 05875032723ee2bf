//! A moment at which the samples of series are looked at: where the last one may lie, and which series have ended.

use arrow::array::AsArray;
use arrow::datatypes::{TimestampNanosecondType, UInt32Type};
use datafusion::error::Result;
use hashbrown::HashMap;

use super::stream::of_store;
use crate::model::{Sample, SeriesId, Span, Table, Timestamp};
use crate::store::Snapshot;

/// A moment at which series are looked at.
pub(super) struct Moment {
    /// Where the last sample may lie.
    pub span: Span,
    /// When a series ended last, of those that did.
    ends: HashMap<SeriesId, Timestamp>,
}

impl Moment {
    pub fn new(snapshot: &Snapshot, at: Timestamp, lookback: i64) -> Result<Moment> {
        let span = Span::new(Timestamp::from_nanos(at.nanos().saturating_sub(lookback)).plus(1), at.plus(1));
        let rows = snapshot.rows(Table::Staleness).map_err(of_store)?;
        let series = rows.column(0).as_primitive::<UInt32Type>().values();
        let times = rows.column(1).as_primitive::<TimestampNanosecondType>().values();
        // Sorted by series, then time: the last one stays.
        let ends = series.iter().zip(times).map(|(&id, &time)| (SeriesId(id), Timestamp::from_nanos(time)));
        Ok(Moment { span, ends: ends.filter(|(_, time)| *time <= at).collect() })
    }

    /// What counts of the samples of a series within the span: the last one, unless the series ended after it.
    pub fn last<'s>(&self, series: SeriesId, samples: &'s [Sample]) -> &'s [Sample] {
        match (samples.last(), self.ends.get(&series)) {
            (Some(sample), Some(end)) if sample.time < *end => &[],
            _ => &samples[samples.len().saturating_sub(1)..],
        }
    }
}
