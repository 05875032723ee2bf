//! The head: samples since the last flush, a column of them per series, in the order they came.

use crate::model::{Batch, Sample, SeriesId, Span, Timestamp};

/// Samples in memory. Series are append-only, so a reader that noted a length sees the same samples later.
#[derive(Default)]
pub(super) struct Head {
    series: Vec<Vec<Sample>>,
    samples: usize,
    capacity: usize,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Head {
    pub fn append(&mut self, batch: &Batch) {
        let Some((first, last)) = batch.time_range() else { return };
        let highest = batch.series.iter().max().map_or(0, |&id| id as usize + 1);
        if highest > self.series.len() {
            self.series.resize_with(highest, Vec::new);
        }
        for (series, sample) in batch.iter() {
            let column = &mut self.series[series.index()];
            let before = column.capacity();
            column.push(sample);
            self.capacity += column.capacity() - before;
        }
        self.samples += batch.len();
        self.first = Some(self.first.map_or(first, |known| known.min(first)));
        self.last = Some(self.last.map_or(last, |known| known.max(last)));
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes it takes, spare room of its columns included.
    pub fn bytes(&self) -> usize {
        self.capacity * size_of::<Sample>() + self.series.capacity() * size_of::<Vec<Sample>>()
    }

    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.first?, self.last?))
    }

    /// How many samples each series has, by number.
    pub fn lengths(&self) -> Vec<u32> {
        self.series.iter().map(|column| column.len() as u32).collect()
    }

    /// The samples of a series as they came, none where it has none.
    pub fn column(&self, series: SeriesId) -> &[Sample] {
        self.series.get(series.index()).map_or(&[], Vec::as_slice)
    }

    /// Series that have samples.
    pub fn ids(&self) -> impl Iterator<Item = SeriesId> + '_ {
        let filled = self.series.iter().enumerate().filter(|(_, column)| !column.is_empty());
        filled.map(|(id, _)| SeriesId(id as u32))
    }
}

/// The samples of `column` within `span`, by time; of several at one time the last that came.
pub(super) fn sorted(column: &[Sample], span: Span) -> Vec<Sample> {
    let mut samples: Vec<Sample> = column.iter().copied().filter(|sample| span.contains(sample.time)).collect();
    let in_order = samples.windows(2).all(|pair| pair[0].time < pair[1].time);
    if !in_order {
        samples.sort_by_key(|sample| sample.time);
        keep_last_of_each_time(&mut samples);
    }
    samples
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
        let column: Vec<Sample> = [(3, 1.0), (1, 2.0), (3, 3.0), (2, 4.0), (1, 5.0)]
            .map(|(time, value)| Sample { time: Timestamp::from_nanos(time), value })
            .into();
        let kept = sorted(&column, Span::ALL);
        assert_eq!(kept.iter().map(|s| (s.time.nanos(), s.value)).collect::<Vec<_>>(), [(1, 5.0), (2, 4.0), (3, 3.0)]);
    }
}
