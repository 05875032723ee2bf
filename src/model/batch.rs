//! Batches: samples in three columns of equal length, which Arrow takes over without a copy, and what came beside them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Rows, SeriesId, Timestamp};

/// One number of one series at one time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    pub time: Timestamp,
    pub value: f64,
}

/// Neighbours in a batch that are of one series: `times` (nanoseconds since the epoch) and `values` have one length, not 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Run<'b> {
    pub series: SeriesId,
    pub times: &'b [i64],
    pub values: &'b [f64],
}

impl<'b> Run<'b> {
    pub fn iter(self) -> impl ExactSizeIterator<Item = Sample> + 'b {
        let samples = self.times.iter().zip(self.values);
        samples.map(|(&time, &value)| Sample { time: Timestamp::from_nanos(time), value })
    }
}

/// Samples in columns, in the order they came, and from where and when. `series`, `times` (nanoseconds since the epoch)
/// and `values` have one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub series: Vec<u32>,
    pub times: Vec<i64>,
    pub values: Vec<f64>,
    /// What sources say besides numbers: rows of [`super::Table::is_logged`].
    pub rows: Vec<Rows>,
    /// Name of the source that brought it; empty where nobody said.
    pub source: Arc<str>,
    /// What the clock said when it came in; 1970 where nobody looked.
    pub arrived: Timestamp,
}

impl Batch {
    pub fn with_capacity(samples: usize) -> Self {
        Batch {
            series: Vec::with_capacity(samples),
            times: Vec::with_capacity(samples),
            values: Vec::with_capacity(samples),
            ..Batch::default()
        }
    }

    /// An empty one that came as this one did, for a part of it.
    pub fn part(&self, samples: usize) -> Self {
        Batch { source: self.source.clone(), arrived: self.arrived, ..Batch::with_capacity(samples) }
    }

    pub fn push(&mut self, series: SeriesId, time: Timestamp, value: f64) {
        self.series.push(series.0);
        self.times.push(time.nanos());
        self.values.push(value);
    }

    /// Keeps the first `len` samples.
    pub fn truncate(&mut self, len: usize) {
        self.series.truncate(len);
        self.times.truncate(len);
        self.values.truncate(len);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is nothing in it, neither samples nor rows.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.rows.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (SeriesId, Sample)> + '_ {
        let samples = self.times.iter().zip(&self.values);
        self.series
            .iter()
            .zip(samples)
            .map(|(&series, (&time, &value))| (SeriesId(series), Sample { time: Timestamp::from_nanos(time), value }))
    }

    /// The samples by series, as far as those of one stand together: what a stage looks up by series, it looks up once a run.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut from = 0;
        self.series.chunk_by(|a, b| a == b).map(move |run| {
            let to = from + run.len();
            let run = Run { series: SeriesId(run[0]), times: &self.times[from..to], values: &self.values[from..to] };
            from = to;
            run
        })
    }

    /// Earliest and latest time, `None` for an empty batch.
    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let first = *self.times.iter().min()?;
        let last = *self.times.iter().max()?;
        Some((Timestamp::from_nanos(first), Timestamp::from_nanos(last)))
    }

    /// `series` UInt32, `time` Timestamp(ns, UTC), `value` Float64.
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("series", DataType::UInt32, false),
            Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
            Field::new("value", DataType::Float64, false),
        ]))
    }

    /// The samples as Arrow arrays of [`Batch::schema`], without a copy.
    pub fn into_arrow(self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(self.series)),
            Arc::new(TimestampNanosecondArray::from(self.times).with_timezone("UTC")),
            Arc::new(Float64Array::from(self.values)),
        ];
        RecordBatch::try_new(Self::schema(), columns).expect("columns are of the schema's types and one length")
    }
}
