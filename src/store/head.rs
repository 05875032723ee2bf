//! The head: samples since the last flush, a column of them per series, in the order they came.

use crate::model::{Batch, Sample, SeriesId, Span, Timestamp};

/// Samples in memory. Columns are append-only, so a reader that noted a length sees the same samples later.
#[derive(Default)]
pub(super) struct Head {
    columns: Vec<Column>,
    samples: usize,
    capacity: usize,
}

/// The samples of one series as they came.
#[derive(Default)]
pub(super) struct Column {
    samples: Vec<Sample>,
    /// Whether some sample is not later than the one before it.
    disordered: bool,
    first: Timestamp,
    last: Timestamp,
}

impl Column {
    fn push(&mut self, sample: Sample) {
        if self.samples.is_empty() {
            (self.first, self.last) = (sample.time, sample.time);
        } else if sample.time > self.last {
            self.last = sample.time;
        } else {
            self.disordered = true;
            self.first = self.first.min(sample.time);
        }
        self.samples.push(sample);
    }

    /// All its samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// First and last time of the first `length` samples, or a span around them.
    pub fn time_range(&self, length: usize) -> Option<(Timestamp, Timestamp)> {
        let last = self.samples.get(length.checked_sub(1)?)?;
        Some(if self.disordered { (self.first, self.last) } else { (self.first, last.time) })
    }

    /// The first `length` samples within `span`, by time; of several at one time the last that came.
    pub fn sorted(&self, length: usize, span: Span) -> Vec<Sample> {
        let samples = &self.samples[..length.min(self.samples.len())];
        if !self.disordered {
            let from = samples.partition_point(|sample| sample.time < span.start);
            let to = samples.partition_point(|sample| sample.time < span.end);
            return samples[from.min(to)..to].to_vec();
        }
        let mut within: Vec<Sample> = samples.iter().copied().filter(|sample| span.contains(sample.time)).collect();
        within.sort_by_key(|sample| sample.time);
        keep_last_of_each_time(&mut within);
        within
    }
}

impl Head {
    pub fn append(&mut self, batch: &Batch) {
        let highest = batch.series.iter().max().map_or(0, |&id| id as usize + 1);
        if highest > self.columns.len() {
            self.columns.resize_with(highest, Column::default);
        }
        for (series, sample) in batch.iter() {
            let column = &mut self.columns[series.index()];
            let before = column.samples.capacity();
            column.push(sample);
            self.capacity += column.samples.capacity() - before;
        }
        self.samples += batch.len();
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes it takes, spare room of its columns included.
    pub fn bytes(&self) -> usize {
        self.capacity * size_of::<Sample>() + self.columns.capacity() * size_of::<Column>()
    }

    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let filled = self.columns.iter().filter(|column| !column.samples.is_empty());
        filled.map(|column| (column.first, column.last)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// How many samples each series has, by number.
    pub fn lengths(&self) -> Vec<u32> {
        self.columns.iter().map(|column| column.samples.len() as u32).collect()
    }

    pub fn column(&self, series: SeriesId) -> Option<&Column> {
        self.columns.get(series.index())
    }

    /// Series that have samples, with them.
    pub fn filled(&self) -> impl Iterator<Item = (SeriesId, &Column)> {
        let filled = self.columns.iter().enumerate().filter(|(_, column)| !column.samples.is_empty());
        filled.map(|(id, column)| (SeriesId(id as u32), column))
    }
}

pub(super) fn keep_last_of_each_time(samples: &mut Vec<Sample>) {
    samples.dedup_by(|later, kept| {
        let same = later.time == kept.time;
        if same {
            *kept = *later;
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sample_of_a_time_stays() {
        let mut column = Column::default();
        for (time, value) in [(3, 1.0), (1, 2.0), (3, 3.0), (2, 4.0), (1, 5.0)] {
            column.push(Sample { time: Timestamp::from_nanos(time), value });
        }
        let told =
            |length| column.sorted(length, Span::ALL).iter().map(|s| (s.time.nanos(), s.value)).collect::<Vec<_>>();
        assert_eq!(told(5), [(1, 5.0), (2, 4.0), (3, 3.0)]);
        assert_eq!(told(2), [(1, 2.0), (3, 1.0)]);
        assert_eq!(column.time_range(5), Some((Timestamp::from_nanos(1), Timestamp::from_nanos(3))));
    }
}
