//! The samples of several batches by series: those of a series stand together, in the order in which they came, so that what is
//! looked up by series is looked up once.

use std::sync::Arc;

use crate::model::Batch;

/// A sample of some series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Came {
    pub time: i64,
    pub value: f64,
    /// The how manieth of all it was.
    pub at: u32,
}

/// See the file's head.
#[derive(Default)]
pub(super) struct BySeries {
    batches: Vec<Arc<Batch>>,
    len: usize,
    /// Series that have samples.
    met: Vec<u32>,
    /// By series, where its samples end; 0 where it has none.
    ends: Vec<u32>,
    samples: Vec<Came>,
}

impl BySeries {
    pub fn push(&mut self, batch: Arc<Batch>) {
        self.len += batch.len();
        self.batches.push(batch);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts them in order: counts those of each series, then gives each its place.
    pub fn sort(&mut self) {
        for batch in &self.batches {
            for &series in &batch.series {
                if series as usize >= self.ends.len() {
                    self.ends.resize(series as usize + 1, 0);
                }
                let count = &mut self.ends[series as usize];
                if *count == 0 {
                    self.met.push(series);
                }
                *count += 1;
            }
        }
        let mut start = 0;
        for &series in &self.met {
            start += std::mem::replace(&mut self.ends[series as usize], start);
        }
        self.samples.resize(self.len, Came::default());
        let mut at = 0;
        for batch in &self.batches {
            for ((&series, &time), &value) in batch.series.iter().zip(&batch.times).zip(&batch.values) {
                let place = &mut self.ends[series as usize];
                self.samples[*place as usize] = Came { time, value, at };
                *place += 1;
                at += 1;
            }
        }
    }

    /// What [`BySeries::sort`] has put in order.
    pub fn runs(&self) -> impl Iterator<Item = (u32, &[Came])> {
        let mut start = 0;
        self.met.iter().map(move |&series| {
            let end = self.ends[series as usize];
            (series, &self.samples[std::mem::replace(&mut start, end) as usize..end as usize])
        })
    }

    /// Whether the series has samples, once they are in order.
    pub fn has(&self, series: u32) -> bool {
        self.ends.get(series as usize).is_some_and(|&end| end > 0)
    }

    /// Lets all go, but for the room.
    pub fn clear(&mut self) {
        self.met.drain(..).for_each(|series| self.ends[series as usize] = 0);
        self.batches.clear();
        self.len = 0;
    }
}
