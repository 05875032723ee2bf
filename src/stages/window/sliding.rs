//! Windows that overlap: rows of `sliding`. A window is put together of panes, as long as the way from one window to the
//! next, so a sample is counted once however many windows it lies in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::aggregate::{Aggregate, columns, floor, series_column, times};
use super::{Origins, REDO_SAMPLES, lost};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Watermark};
use crate::model::{Batch, Rows, Sample, SeriesId, Span, Table, Timestamp};

/// Where a series stands.
#[derive(Clone, Debug)]
struct Place {
    last: i64,
    source: u16,
    moves: bool,
    /// By time, those that windows to come need; the last is open.
    panes: VecDeque<Aggregate>,
    /// End of the last window that was told.
    told: i64,
}

const UNSEEN: Place = Place { last: i64::MIN, source: 0, moves: false, panes: VecDeque::new(), told: i64::MIN };

#[derive(Clone, Copy)]
struct Lengths {
    every: i64,
    length: i64,
}

impl Lengths {
    /// Starts of the windows that a pane lies in. One that would begin before all times is none.
    fn starts(self, pane: i64) -> impl Iterator<Item = i64> {
        (0..self.length / self.every).filter_map(move |back| pane.checked_sub(back * self.every))
    }

    /// The panes of all windows that some panes lie in, without samples after `last`; `None` where they cannot be read.
    fn read(
        self,
        past: &mut dyn Past,
        series: u32,
        panes: &[i64],
        last: i64,
        read: &mut usize,
    ) -> Option<Vec<Aggregate>> {
        let first = panes[0].saturating_sub(self.length - self.every);
        let end = panes[panes.len() - 1].saturating_add(self.length);
        let span = Span::new(Timestamp::from_nanos(first), Timestamp::from_nanos(end));
        let mut found: Vec<Aggregate> = Vec::new();
        let is_read = past.read(SeriesId(series), span, &mut |samples| {
            *read += samples.len();
            for &sample in samples.iter().take_while(|sample| sample.time.nanos() <= last) {
                let start = floor(sample.time.nanos(), self.every);
                match found.last_mut() {
                    Some(open) if open.start == start => open.add(sample),
                    _ => found.push(Aggregate::new(start, sample)),
                }
            }
        });
        is_read.then_some(found)
    }

    /// Of the windows that some panes lie in those that end by `told` and are kept whole.
    fn told(self, panes: &[i64], found: &[Aggregate], told: i64, oldest: i64) -> Vec<Aggregate> {
        let starts: BTreeSet<i64> = panes.iter().flat_map(|&pane| self.starts(pane)).collect();
        let is_told = |start: &i64| start.checked_add(self.length).is_some_and(|end| end <= told) && *start >= oldest;
        let from = |start: i64| found[found.partition_point(|pane| pane.start < start)..].iter();
        starts.into_iter().filter(is_told).filter_map(|start| self.window(start, from(start))).collect()
    }

    /// The window from `start` on, of panes by time.
    fn window<'p>(self, start: i64, panes: impl Iterator<Item = &'p Aggregate>) -> Option<Aggregate> {
        let within = panes.skip_while(|pane| pane.start < start);
        let within = within.take_while(|pane| pane.start < start.saturating_add(self.length));
        let mut window: Option<Aggregate> = None;
        for pane in within {
            match &mut window {
                None => window = Some(Aggregate { start, ..pane.clone() }),
                Some(window) => window.merge(pane),
            }
        }
        window
    }
}

impl Place {
    fn sample(&mut self, sample: Sample, lengths: Lengths, done: &mut Vec<Aggregate>) {
        let time = sample.time.nanos();
        self.last = time;
        self.moves = true;
        let pane = floor(time, lengths.every);
        match self.panes.back_mut() {
            Some(open) if open.start == pane => open.add(sample),
            _ => {
                self.tell_to(pane, lengths, done);
                self.panes.push_back(Aggregate::new(pane, sample));
            }
        }
    }

    /// Tells the windows that end by `end`.
    fn tell_to(&mut self, end: i64, lengths: Lengths, done: &mut Vec<Aggregate>) {
        while let Some(first) = self.panes.front() {
            // Windows that end before it does hold nothing more; where time ends there is no next one.
            let next = self.told.max(first.start).checked_add(lengths.every);
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.told = next;
            let Some(start) = next.checked_sub(lengths.length) else { continue };
            done.extend(lengths.window(start, self.panes.iter()));
            while self.panes.front().is_some_and(|pane| pane.start <= start) {
                self.panes.pop_front();
            }
        }
        self.told = self.told.max(if end == i64::MAX { self.told } else { end });
    }

    /// The window that ends with the open pane.
    fn open(&self, lengths: Lengths) -> Option<Aggregate> {
        let end = self.panes.back()?.start.checked_add(lengths.every)?;
        let start = end.checked_sub(lengths.length).filter(|_| end > self.told)?;
        lengths.window(start, self.panes.iter())
    }
}

/// The stage.
pub(super) struct Sliding {
    lengths: Lengths,
    places: Vec<Place>,
    origins: Origins,
    done: Vec<(u32, Aggregate)>,
    /// Series and pane.
    dirty: BTreeSet<(u32, i64)>,
    ahead: Vec<Arc<Batch>>,
    history: Option<Arc<dyn History>>,
    lost: u64,
}

impl Sliding {
    pub fn new(every: i64, length: i64, history: Option<Arc<dyn History>>) -> Self {
        Sliding {
            lengths: Lengths { every, length },
            places: Vec::new(),
            origins: Origins::default(),
            done: Vec::new(),
            dirty: BTreeSet::new(),
            ahead: Vec::new(),
            history,
            lost: 0,
        }
    }

    fn place(&mut self, series: u32) -> &mut Place {
        if series as usize >= self.places.len() {
            self.places.resize(series as usize + 1, UNSEEN);
        }
        &mut self.places[series as usize]
    }

    fn sample(&mut self, series: u32, source: u16, sample: Sample) {
        let lengths = self.lengths;
        let pane = floor(sample.time.nanos(), lengths.every);
        let mut done = Vec::new();
        let place = self.place(series);
        place.source = source;
        if sample.time.nanos() <= place.last {
            self.dirty.insert((series, pane));
            return;
        }
        // Where the series stood still, windows it lies in may have been told.
        let is_told = pane.saturating_add(lengths.every) <= place.told;
        place.sample(sample, lengths, &mut done);
        if is_told {
            self.dirty.insert((series, pane));
        }
        self.done.extend(done.into_iter().map(|window| (series, window)));
    }

    fn redo(&mut self, samples: usize) {
        let Some(history) = self.history.clone() else {
            self.lost += self.dirty.len() as u64;
            self.dirty.clear();
            return;
        };
        if self.dirty.is_empty() {
            return;
        }
        let (mut past, lengths, mut read) = (history.open(), self.lengths, 0);
        while read < samples
            && let Some((series, panes)) = next_dirty(&mut self.dirty, lengths)
        {
            let last = self.place(series).last;
            if let Some(found) = lengths.read(&mut *past, series, &panes, last, &mut read) {
                let oldest = past.oldest(SeriesId(series));
                self.put(series, &panes, &found, oldest);
            }
        }
    }

    /// Computes the windows that were told and hold such panes from what is stored, those samples with it that are still
    /// to be told.
    fn tell_stored(&mut self, mut dirty: BTreeSet<(u32, i64)>) {
        let Some(history) = self.history.clone().filter(|_| !dirty.is_empty()) else { return };
        let (mut past, lengths) = (history.open(), self.lengths);
        while let Some((series, panes)) = next_dirty(&mut dirty, lengths) {
            let Some(found) = lengths.read(&mut *past, series, &panes, i64::MAX, &mut 0) else { continue };
            let (told, oldest) = (self.place(series).told, past.oldest(SeriesId(series)));
            self.done.extend(lengths.told(&panes, &found, told, oldest).into_iter().map(|window| (series, window)));
        }
    }

    /// Takes panes computed anew: into those held, and as rows of the windows that were told.
    fn put(&mut self, series: u32, dirty: &[i64], found: &[Aggregate], oldest: i64) {
        let lengths = self.lengths;
        let place = self.place(series);
        let told = place.told;
        let held_from = told.saturating_sub(lengths.length - lengths.every);
        let held = &found[found.partition_point(|pane| pane.start < held_from)..];
        for pane in held.iter().filter(|pane| dirty.binary_search(&pane.start).is_ok()) {
            let at = place.panes.partition_point(|held| held.start < pane.start);
            match place.panes.get_mut(at) {
                Some(held) if held.start == pane.start => *held = pane.clone(),
                _ => place.panes.insert(at, pane.clone()),
            }
        }
        let windows = lengths.told(dirty, found, told, oldest);
        self.done.extend(windows.into_iter().map(|window| (series, window)));
    }

    /// Windows as they would stand if those ahead had been told. Gives back panes of windows that were told before.
    fn tell_open(&mut self) -> BTreeSet<(u32, i64)> {
        let lengths = self.lengths;
        let (mut done, mut told, mut dirty) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for batch in std::mem::take(&mut self.ahead) {
            let samples: Vec<(SeriesId, Sample)> = batch.iter().collect();
            for of_series in samples.chunk_by(|a, b| a.0 == b.0) {
                let series = of_series[0].0.0;
                let (mut place, mut windows) = (self.place(series).clone(), Vec::new());
                for (_, sample) in of_series {
                    let pane = floor(sample.time.nanos(), lengths.every);
                    if pane.saturating_add(lengths.every) <= place.told {
                        dirty.insert((series, pane));
                    }
                    place.sample(*sample, lengths, &mut windows);
                }
                place.tell_to(self.origins.swept_of(place.source), lengths, &mut windows);
                windows.extend(place.open(lengths));
                done.extend(windows.into_iter().map(|window| (series, window)));
                told.insert(series);
            }
        }
        for (series, place) in self.places.iter().enumerate().filter(|(at, _)| !told.contains(&(*at as u32))) {
            let (mut place, mut windows) = (place.clone(), Vec::new());
            // A series that moved has not been swept yet.
            place.tell_to(self.origins.swept_of(place.source), lengths, &mut windows);
            windows.extend(place.open(lengths));
            done.extend(windows.into_iter().map(|window| (series as u32, window)));
        }
        self.done.append(&mut done);
        dirty
    }

    fn emit(&mut self, out: &mut Out<'_>) {
        if !self.done.is_empty() {
            let done = std::mem::take(&mut self.done);
            out.rows(Rows { table: Table::Sliding, batch: rows(&done, self.lengths) });
        }
    }

    fn read(&mut self, from: &mut Reader<'_>, shard: Shard) -> Option<()> {
        let numbers = self.origins.read(from)?;
        for _ in 0..from.u32()? {
            let dirty = (from.u32()?, from.i64()?);
            if shard.has(dirty.0) {
                self.dirty.insert(dirty);
            }
        }
        while !from.0.is_empty() {
            let series = from.u32()?;
            let (last, told) = (from.i64()?, from.i64()?);
            let source = *numbers.get(&from.u32()?).unwrap_or(&0);
            let panes = (0..from.u32()?).map(|_| Aggregate::read(from)).collect::<Option<VecDeque<_>>>()?;
            if shard.has(series) {
                *self.place(series) = Place { last, source, moves: false, panes, told };
            }
        }
        Some(())
    }
}

/// Takes out a dirty pane and those that are read with it.
fn next_dirty(dirty: &mut BTreeSet<(u32, i64)>, lengths: Lengths) -> Option<(u32, Vec<i64>)> {
    let (series, pane) = dirty.pop_first()?;
    let mut panes = vec![pane];
    while let Some(&(of, next)) = dirty.first()
        && of == series
        && next <= panes[panes.len() - 1].saturating_add(lengths.length)
    {
        panes.push(next);
        dirty.pop_first();
    }
    Some((series, panes))
}

fn rows(done: &[(u32, Aggregate)], lengths: Lengths) -> RecordBatch {
    let same = |length: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![length; done.len()])) };
    let mut all = vec![
        series_column(done.iter().map(|(series, _)| *series)),
        same(lengths.length),
        same(lengths.every),
        times(done.iter().map(|(_, window)| window.start)),
    ];
    all.extend(columns(done.iter().map(|(_, window)| window)));
    RecordBatch::try_new(Table::Sliding.schema(), all).expect("columns are of the table's schema")
}

impl Stage for Sliding {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let source = self.origins.number(&batch.source);
        for (series, sample) in batch.iter() {
            self.sample(series.0, source, sample);
        }
        self.emit(out);
        out.batch(batch.clone());
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        for (series, sample) in batch.iter() {
            self.dirty.insert((series.0, floor(sample.time.nanos(), self.lengths.every)));
        }
        out.late(batch.clone());
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.ahead.push(batch.clone());
        out.ahead(batch.clone());
    }

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        let Some((source, reached)) = self.origins.reached(watermark, self.lengths.every) else { return };
        let (idle, lengths) = (watermark.time == Timestamp::MAX, self.lengths);
        for (series, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.source == source) {
            let moves = std::mem::take(&mut place.moves);
            if !place.panes.is_empty() && (idle || !moves) {
                let mut done = Vec::new();
                place.tell_to(reached, lengths, &mut done);
                self.done.extend(done.into_iter().map(|window| (series as u32, window)));
            }
        }
        self.emit(out);
    }

    fn idle(&mut self, out: &mut Out<'_>) {
        self.redo(REDO_SAMPLES);
        self.emit(out);
    }

    fn checkpoint(&mut self, cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        self.redo(if cut.last { usize::MAX } else { REDO_SAMPLES });
        let ahead = self.tell_open();
        self.tell_stored(ahead);
        self.emit(out);
        let mut state = Writer::default();
        self.origins.write(&mut state);
        state.u32(self.dirty.len() as u32);
        for &(series, pane) in &self.dirty {
            state.u32(series);
            state.i64(pane);
        }
        for (series, place) in self.places.iter().enumerate().filter(|(_, place)| place.last != i64::MIN) {
            state.u32(series as u32);
            state.i64(place.last);
            state.i64(place.told);
            state.u32(u32::from(place.source));
            state.u32(place.panes.len() as u32);
            place.panes.iter().for_each(|pane| pane.write(&mut state));
        }
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        self.read(&mut Reader(state), shard).is_some()
    }

    fn dropped(&self) -> Dropped {
        lost(self.lost)
    }

    fn put_off(&self) -> u64 {
        self.dirty.len() as u64
    }
}
