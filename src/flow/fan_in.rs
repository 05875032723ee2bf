//! A series that comes to a stage by several ways: it is told once, in the order of time.
//!
//! What comes again word for word is passed over; other samples that are not later than the last of their series are late.

use std::sync::Arc;

use hashbrown::HashSet;

use super::codec::{Reader, Writer};
use super::event::{Cut, Watermark};
use super::governor::Compression;
use super::stage::{Dropped, Out, Shard, Stage};
use crate::model::{Batch, Rows, SeriesId};

/// Samples that are known word for word, in each of two generations. The ways to a stage are told step by step in turn, so
/// more than a step is enough.
const RECENT: usize = 1 << 16;

/// Time of the last sample of each series.
#[derive(Default)]
pub struct Told(Vec<i64>);

impl Told {
    /// Notes a sample that is later than all of its series; `false` where it is not.
    #[inline]
    pub fn is_new(&mut self, series: SeriesId, time: i64) -> bool {
        if series.index() >= self.0.len() {
            self.0.resize(series.index() + 1, i64::MIN);
        }
        let last = &mut self.0[series.index()];
        let is_new = time > *last;
        *last = time.max(*last);
        is_new
    }

    /// The time of the last of a series; before all times where there is none.
    pub fn last(&self, series: SeriesId) -> i64 {
        self.0.get(series.index()).copied().unwrap_or(i64::MIN)
    }

    /// Divides a batch into what is later than all before it, and what is late.
    pub fn divide(&mut self, batch: &Batch) -> (Batch, Batch) {
        let (mut new, mut late) = (batch.part(batch.len()), batch.part(0));
        for (series, sample) in batch.iter() {
            let to = if self.is_new(series, sample.time.nanos()) { &mut new } else { &mut late };
            to.push(series, sample.time, sample.value);
        }
        (new, late)
    }

    pub fn state(&self) -> Vec<u8> {
        let mut state = Writer::default();
        for (series, &time) in self.0.iter().enumerate().filter(|(_, time)| **time != i64::MIN) {
            state.u32(series as u32);
            state.i64(time);
        }
        state.0
    }

    /// Takes up what [`Told::state`] gave, of the series that are wanted; `None` where it does not read.
    pub fn restore(&mut self, state: &[u8], is_wanted: impl Fn(u32) -> bool) -> Option<()> {
        let mut from = Reader(state);
        while !from.0.is_empty() {
            let (series, time) = (from.u32()?, from.i64()?);
            if is_wanted(series) {
                self.is_new(SeriesId(series), time);
            }
        }
        Some(())
    }
}

/// The stage, told each sample once.
pub(super) fn guarded(stage: Box<dyn Stage>) -> Box<dyn Stage> {
    Box::new(Guarded { stage, told: Told::default(), recent: HashSet::new(), older: HashSet::new() })
}

type Exact = (u32, i64, u64);

struct Guarded {
    stage: Box<dyn Stage>,
    told: Told,
    recent: HashSet<Exact>,
    older: HashSet<Exact>,
}

impl Guarded {
    /// Whether it was told word for word not long ago.
    fn is_known(&mut self, exact: Exact) -> bool {
        if self.older.contains(&exact) || !self.recent.insert(exact) {
            return true;
        }
        if self.recent.len() >= RECENT {
            self.older = std::mem::take(&mut self.recent);
        }
        false
    }

    fn unknown(&mut self, batch: &Batch) -> Batch {
        let mut unknown = batch.part(batch.len());
        for (series, sample) in batch.iter() {
            if !self.is_known((series.0, sample.time.nanos(), sample.value.to_bits())) {
                unknown.push(series, sample.time, sample.value);
            }
        }
        unknown
    }
}

impl Stage for Guarded {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let unknown = self.unknown(batch);
        let (new, late) = self.told.divide(&unknown);
        if !new.is_empty() {
            self.stage.batch(&Arc::new(new), out);
        }
        if !late.is_empty() {
            self.stage.late(&Arc::new(late), out);
        }
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.stage.late(batch, out);
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut all: Vec<_> = batch.iter().filter(|(id, of)| of.time.nanos() > self.told.last(*id)).collect();
        all.sort_by_key(|(series, sample)| (*series, sample.time));
        all.dedup_by_key(|(series, sample)| (*series, sample.time));
        let mut ahead = batch.part(all.len());
        all.into_iter().for_each(|(series, sample)| ahead.push(series, sample.time, sample.value));
        self.stage.ahead(&Arc::new(ahead), out);
    }

    fn rows(&mut self, rows: &Rows, out: &mut Out<'_>) {
        self.stage.rows(rows, out);
    }

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        self.stage.watermark(watermark, out);
    }

    fn pressure(&mut self, compression: Compression) {
        self.stage.pressure(compression);
    }

    fn idle(&mut self, out: &mut Out<'_>) {
        self.stage.idle(out);
    }

    fn checkpoint(&mut self, cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        state.bytes(&self.told.state());
        state.0.append(&mut self.stage.checkpoint(cut, out));
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        let mut from = Reader(state);
        let told = from.bytes().and_then(|told| self.told.restore(told, |series| shard.has(series)));
        told.is_some() && self.stage.restore(from.0, shard)
    }

    fn dropped(&self) -> Dropped {
        self.stage.dropped()
    }

    fn put_off(&self) -> u64 {
        self.stage.put_off()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::flow::{Event, Sink, Step};
    use crate::model::Timestamp;

    struct Nobody;

    impl Sink for Nobody {
        fn rows(&self, _: Rows) {}
    }

    #[derive(Default)]
    struct Passing(Arc<Mutex<Vec<u8>>>);

    impl Stage for Passing {
        fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
            out.batch(batch.clone());
        }

        fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
            vec![7]
        }

        fn restore(&mut self, state: &[u8], _shard: Shard) -> bool {
            *self.0.lock().unwrap() = state.to_vec();
            true
        }
    }

    fn batch(samples: &[(u32, i64, f64)]) -> Arc<Batch> {
        let mut batch = Batch::default();
        samples.iter().for_each(|&(id, time, value)| batch.push(SeriesId(id), Timestamp::from_nanos(time), value));
        Arc::new(batch)
    }

    fn told(step: &Step) -> Vec<String> {
        let one = |kind: &str, batch: &Batch| {
            let text =
                |(id, of): (SeriesId, crate::model::Sample)| format!("{}@{}={}", id.0, of.time.nanos(), of.value);
            format!("{kind} {}", batch.iter().map(text).collect::<Vec<_>>().join(" "))
        };
        step.iter()
            .filter_map(|event| match event {
                Event::Batch(batch) => Some(one("batch", batch)),
                Event::Late(batch) => Some(one("late", batch)),
                Event::Ahead(batch) => Some(one("ahead", batch)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn what_comes_twice_is_told_once_and_what_is_overtaken_is_late() {
        let mut stage = guarded(Box::new(Passing::default()));
        let mut step = Step::new();
        let mut out = Out::new(&Nobody, &mut step);
        stage.batch(&batch(&[(1, 10, 1.0), (1, 20, 2.0), (2, 5, 1.0)]), &mut out);
        stage.batch(&batch(&[(1, 10, 1.0), (1, 20, 9.0), (1, 30, 3.0)]), &mut out);
        stage.ahead(&batch(&[(1, 40, 4.0), (1, 30, 3.0), (1, 35, 1.0)]), &mut out);
        let state = stage.checkpoint(Cut { number: 1, last: false }, &mut out);
        let seen = Arc::default();
        let mut resumed = guarded(Box::new(Passing(Arc::clone(&seen))));
        assert!(resumed.restore(&state, Shard { number: 0, of: 2 }));
        assert_eq!(*seen.lock().unwrap(), [7]);
        resumed.batch(&batch(&[(2, 5, 2.0), (2, 6, 2.0)]), &mut out);
        let wanted = [
            "batch 1@10=1 1@20=2 2@5=1",
            "batch 1@30=3",
            "late 1@20=9",
            "ahead 1@35=1 1@40=4",
            "batch 2@6=2",
            "late 2@5=2",
        ];
        assert_eq!(told(&step), wanted);
        assert!(!resumed.restore(&[1], Shard::WHOLE));
    }
}
