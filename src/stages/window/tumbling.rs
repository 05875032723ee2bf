//! Windows of fixed length that follow each other, and tiers made of them: rows of `rollups`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::aggregate::{Aggregate, columns, floor, fold, series_column, times};
use super::{Origins, REDO_SAMPLES, lost};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Watermark};
use crate::model::{Batch, Rows, Run, Sample, SeriesId, Span, Table, Timestamp};

/// Where a series stands.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Time of its last sample, which may lie in a window that is closed already.
    last: Option<i64>,
    source: u16,
    /// Whether samples came since the last sweep: history that is sent beside what is new keeps its windows open.
    moves: bool,
    open: Option<Aggregate>,
    tiers: Box<[Tier]>,
}

/// A longer window, as far as its parts are closed.
#[derive(Clone, Debug)]
struct Tier {
    open: Option<Aggregate>,
    /// Start of the last that was closed.
    closed: i64,
}

const CLOSED: Tier = Tier { open: None, closed: i64::MIN };

/// Windows of one series: tiers and starts.
type Dirty = BTreeSet<(u16, i64)>;

/// What was found: closed windows by tier, and those that must be computed anew.
#[derive(Default)]
struct Found {
    done: Vec<(u32, u16, Aggregate)>,
    /// By series: tier and start.
    dirty: BTreeMap<u32, BTreeSet<(u16, i64)>>,
}

impl Place {
    #[inline]
    fn sample(&mut self, series: u32, sample: Sample, lengths: &[i64], found: &mut Found) {
        let (time, every) = (sample.time.nanos(), lengths[0]);
        if self.last.is_some_and(|last| time <= last) {
            found.dirty(series, time, lengths);
            return;
        }
        let before = self.last.replace(time);
        self.moves = true;
        match &mut self.open {
            Some(open) if time.saturating_sub(open.start) < every => open.add(sample),
            open => {
                let start = floor(time, every);
                if before.is_some_and(|before| before >= start) {
                    // Its window was closed when the series stood still.
                    found.dirty(series, time, lengths);
                } else {
                    if let Some(closed) = open.replace(Aggregate::new(start, sample)) {
                        self.close(series, closed, lengths, found);
                    }
                    self.close_to(series, start, lengths, found);
                }
            }
        }
    }

    /// Takes samples of the series: all that lie in the open window at once.
    fn run(&mut self, run: Run<'_>, lengths: &[i64], found: &mut Found) {
        let Run { series, mut times, mut values } = run;
        while let (Some(&time), Some(&value)) = (times.first(), values.first()) {
            let inside = self.inside(times, lengths[0]);
            if inside > 0
                && let Some(open) = &mut self.open
            {
                open.add_all(&times[..inside], &values[..inside]);
                (self.last, self.moves) = (Some(times[inside - 1]), true);
            } else {
                self.sample(series.0, Sample { time: Timestamp::from_nanos(time), value }, lengths, found);
            }
            (times, values) = (&times[inside.max(1)..], &values[inside.max(1)..]);
        }
    }

    /// How many of these times follow the last one and each other in the open window.
    fn inside(&self, times: &[i64], every: i64) -> usize {
        let (Some(open), Some(last)) = (&self.open, self.last) else { return 0 };
        let end = open.start.saturating_add(every);
        let mut before = last;
        times.iter().take_while(|&&time| std::mem::replace(&mut before, time) < time && time < end).count()
    }

    /// Tells a window that is over, and adds it to that of the next tier in which it lies.
    fn close(&mut self, series: u32, window: Aggregate, lengths: &[i64], found: &mut Found) {
        if self.tiers.len() + 1 < lengths.len() {
            self.tiers = vec![CLOSED; lengths.len() - 1].into();
        }
        let mut over = Some(window);
        for (at, tier) in self.tiers.iter_mut().enumerate() {
            let Some(window) = over.take() else { return };
            let start = floor(window.start, lengths[at + 1]);
            if start <= tier.closed {
                found.dirty_from(at + 1, series, start, lengths);
            } else {
                match &mut tier.open {
                    Some(open) if open.start == start => open.merge(&window),
                    open => {
                        over = open.replace(Aggregate { start, ..window.clone() });
                        if let Some(over) = &over {
                            tier.closed = over.start;
                        }
                    }
                }
            }
            found.done.push((series, at as u16, window));
        }
        if let Some(window) = over {
            found.done.push((series, lengths.len() as u16 - 1, window));
        }
    }

    /// Closes what ends by `reached`.
    fn close_to(&mut self, series: u32, reached: i64, lengths: &[i64], found: &mut Found) {
        let is_over = |window: &Aggregate, length: i64| window.start.saturating_add(length) <= reached;
        if self.open.as_ref().is_some_and(|open| is_over(open, lengths[0]))
            && let Some(open) = self.open.take()
        {
            self.close(series, open, lengths, found);
        }
        for at in 0..self.tiers.len() {
            match self.tiers[at].open.take_if(|open| is_over(open, lengths[at + 1])) {
                Some(open) => {
                    self.tiers[at].closed = open.start;
                    self.close_above(series, at, open, lengths, found);
                }
                None if self.tiers[at].open.is_some() => return,
                None => {}
            }
        }
    }

    /// As [`Place::close`], of a window of the tier `at`.
    fn close_above(&mut self, series: u32, at: usize, window: Aggregate, lengths: &[i64], found: &mut Found) {
        if let Some(tier) = self.tiers.get_mut(at + 1) {
            let start = floor(window.start, lengths[at + 2]);
            if start <= tier.closed {
                found.dirty_from(at + 2, series, start, lengths);
            } else {
                match &mut tier.open {
                    Some(open) if open.start == start => open.merge(&window),
                    open => {
                        if let Some(over) = open.replace(Aggregate { start, ..window.clone() }) {
                            tier.closed = over.start;
                            self.close_above(series, at + 1, over, lengths, found);
                        }
                    }
                }
            }
        }
        found.done.push((series, at as u16 + 1, window));
    }

    /// Every open window as it stands: as if all ended here.
    fn tell_open(mut self, series: u32, lengths: &[i64], found: &mut Found) {
        if let Some(open) = self.open.take() {
            self.close(series, open, lengths, found);
        }
        for at in 0..self.tiers.len() {
            if let Some(open) = self.tiers[at].open.take() {
                self.close_above(series, at, open, lengths, found);
            }
        }
    }
}

impl Found {
    /// Marks all windows that a time lies in.
    fn dirty(&mut self, series: u32, time: i64, lengths: &[i64]) {
        self.dirty_from(0, series, time, lengths);
    }

    /// Takes out the longest window of a series and all that lie in it: span, tiers and starts.
    fn next_dirty(&mut self, series: u32, lengths: &[i64]) -> Option<(Span, Dirty)> {
        let all = self.dirty.get_mut(&series)?;
        let Some((tier, start)) = all.pop_last() else {
            self.dirty.remove(&series);
            return None;
        };
        let end = start.saturating_add(lengths[usize::from(tier)]);
        let mut dirty = Dirty::new();
        for below in 0..tier {
            dirty.extend(all.range((below, start)..(below, end)));
        }
        dirty.iter().for_each(|window| {
            all.remove(window);
        });
        dirty.insert((tier, start));
        Some((Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)), dirty))
    }

    /// Those of the tier `from` and longer.
    fn dirty_from(&mut self, from: usize, series: u32, time: i64, lengths: &[i64]) {
        let all = self.dirty.entry(series).or_default();
        for (at, &length) in lengths.iter().enumerate().skip(from) {
            all.insert((at as u16, floor(time, length)));
        }
    }
}

/// The stage.
pub(super) struct Tumbling {
    /// Of the windows of each tier, in nanoseconds.
    lengths: Vec<i64>,
    places: Vec<Place>,
    origins: Origins,
    found: Found,
    /// Series that were not seen before, and when they came: there may be more of their windows than this stage was told.
    fresh: Vec<(u32, i64)>,
    ahead: Vec<Arc<Batch>>,
    history: Option<Arc<dyn History>>,
    lost: u64,
}

impl Tumbling {
    pub fn new(lengths: Vec<i64>, history: Option<Arc<dyn History>>) -> Self {
        let (origins, found, fresh) = (Origins::default(), Found::default(), Vec::new());
        Tumbling { lengths, places: Vec::new(), origins, found, fresh, ahead: Vec::new(), history, lost: 0 }
    }

    fn place(&mut self, series: u32) -> &mut Place {
        if series as usize >= self.places.len() {
            self.places.resize(series as usize + 1, Place::default());
        }
        &mut self.places[series as usize]
    }

    /// What was stored of a series before this stage was told of it, as where it was written anew, belongs to its first
    /// windows.
    fn look_at_fresh(&mut self) {
        let Some(history) = self.history.clone().filter(|_| !self.fresh.is_empty()) else { return };
        let past = history.open();
        for (series, time) in std::mem::take(&mut self.fresh) {
            if past.begins(SeriesId(series)).is_some_and(|begins| begins < time) {
                self.found.dirty(series, time, &self.lengths);
            }
        }
    }

    /// Computes dirty windows anew from what is stored, as many as `samples` allow.
    fn redo(&mut self, samples: usize) {
        let Some(history) = self.history.clone() else {
            self.lost += self.put_off();
            self.found.dirty.clear();
            return;
        };
        if self.found.dirty.is_empty() {
            return;
        }
        let (mut past, mut read) = (history.open(), 0);
        for SeriesId(series) in past.in_order(self.found.dirty.keys().copied().map(SeriesId).collect()) {
            while let Some((span, dirty)) = self.found.next_dirty(series, &self.lengths) {
                let last = self.place(series).last.unwrap_or(i64::MIN);
                if let Some(bases) = read_bases(&mut *past, series, span, (self.lengths[0], last), &mut read) {
                    self.put(series, &kept(&*past, series, dirty), bases);
                }
            }
            if read >= samples {
                return;
            }
        }
    }

    /// Computes windows from what is stored, those samples with it that are still to be told.
    fn tell_stored(&mut self, mut found: Found) {
        let Some(history) = self.history.clone().filter(|_| !found.dirty.is_empty()) else { return };
        let mut past = history.open();
        for SeriesId(series) in past.in_order(found.dirty.keys().copied().map(SeriesId).collect()) {
            while let Some((span, dirty)) = found.next_dirty(series, &self.lengths) {
                let every = (self.lengths[0], i64::MAX);
                let Some(mut level) = read_bases(&mut *past, series, span, every, &mut 0) else { continue };
                let dirty = kept(&*past, series, dirty);
                for (tier, &length) in self.lengths.iter().enumerate() {
                    level = if tier == 0 { level } else { fold(&level, length) };
                    for window in level.iter().filter(|window| dirty.contains(&(tier as u16, window.start))) {
                        self.found.done.push((series, tier as u16, window.clone()));
                    }
                }
            }
        }
    }

    /// Takes windows computed anew: those still open into their places, the others as rows.
    fn put(&mut self, series: u32, dirty: &Dirty, bases: Vec<Aggregate>) {
        let lengths = self.lengths.clone();
        let place = self.place(series);
        if place.tiers.len() + 1 < lengths.len() {
            place.tiers = vec![CLOSED; lengths.len() - 1].into();
        }
        let mut opens: Vec<i64> = Vec::new();
        let mut done = Vec::new();
        let mut level = bases;
        for (tier, &length) in lengths.iter().enumerate() {
            level = if tier == 0 { level } else { fold(&level, length) };
            let of_tier = (tier as u16, i64::MIN)..=(tier as u16, i64::MAX);
            for &(_, start) in dirty.range(of_tier) {
                let found = level.binary_search_by_key(&start, |window| window.start).ok().map(|at| level[at].clone());
                // What is open below lies in one that has yet to be opened.
                let is_begun = opens.iter().any(|&open| floor(open, length) == start);
                let held = if tier == 0 { &mut place.open } else { &mut place.tiers[tier - 1].open };
                match held {
                    Some(held_window) if held_window.start == start => *held = found,
                    None if is_begun => *held = found,
                    _ => done.extend(found.map(|found| (series, tier as u16, found))),
                }
            }
            // A longer window that is open holds only what is closed below.
            let open = if tier == 0 { &place.open } else { &place.tiers[tier - 1].open };
            if let Some(open) = open {
                level.retain(|window| window.start != open.start);
                opens.push(open.start);
            }
        }
        self.found.done.append(&mut done);
    }

    fn emit(&mut self, out: &mut Out<'_>) {
        if !self.found.done.is_empty() {
            let done = std::mem::take(&mut self.found.done);
            out.rows(Rows { table: Table::Rollups, batch: rows(&done, &self.lengths) });
        }
    }

    /// Windows as they would stand if those ahead had been told. Gives back those that would be dirty.
    fn tell_open(&mut self) -> Found {
        let ahead = std::mem::take(&mut self.ahead);
        let mut found = Found::default();
        let mut told = BTreeSet::new();
        for batch in ahead {
            let samples: Vec<(SeriesId, Sample)> = batch.iter().collect();
            for of_series in samples.chunk_by(|a, b| a.0 == b.0) {
                let series = of_series[0].0.0;
                let mut place = self.place(series).clone();
                of_series.iter().for_each(|(_, sample)| place.sample(series, *sample, &self.lengths, &mut found));
                place.tell_open(series, &self.lengths, &mut found);
                told.insert(series);
            }
        }
        for (series, place) in self.places.iter().enumerate() {
            if !told.contains(&(series as u32)) {
                place.clone().tell_open(series as u32, &self.lengths, &mut found);
            }
        }
        self.found.done.append(&mut found.done);
        found
    }

    fn state(&self) -> Vec<u8> {
        let mut state = Writer::default();
        self.origins.write(&mut state);
        state.u32(self.put_off() as u32);
        for (&series, windows) in &self.found.dirty {
            for &(tier, start) in windows {
                state.u32(u32::from(tier));
                state.u32(series);
                state.i64(start);
            }
        }
        for (series, place) in self.places.iter().enumerate() {
            let Some(last) = place.last else { continue };
            state.u32(series as u32);
            state.i64(last);
            state.u32(u32::from(place.source));
            Aggregate::write_some(place.open.as_ref(), &mut state);
            state.u32(place.tiers.len() as u32);
            for tier in &place.tiers {
                state.i64(tier.closed);
                Aggregate::write_some(tier.open.as_ref(), &mut state);
            }
        }
        state.0
    }

    fn read(&mut self, from: &mut Reader<'_>, shard: Shard) -> Option<()> {
        let numbers = self.origins.read(from)?;
        for _ in 0..from.u32()? {
            let (tier, series, start) = (from.u32()? as u16, from.u32()?, from.i64()?);
            if shard.has(series) {
                self.found.dirty.entry(series).or_default().insert((tier, start));
            }
        }
        while !from.0.is_empty() {
            let series = from.u32()?;
            let last = Some(from.i64()?);
            let source = *numbers.get(&from.u32()?).unwrap_or(&0);
            let open = Aggregate::read_some(from)?;
            let tier = |from: &mut Reader<'_>| {
                let closed = from.i64()?;
                Some(Tier { closed, open: Aggregate::read_some(from)? })
            };
            let tiers = (0..from.u32()?).map(|_| tier(from)).collect::<Option<Box<[Tier]>>>()?;
            if shard.has(series) {
                *self.place(series) = Place { last, source, moves: false, open, tiers };
            }
        }
        Some(())
    }
}

/// Of windows that are expired in part, what is left would say something else.
fn kept(past: &dyn Past, series: u32, mut dirty: Dirty) -> Dirty {
    let oldest = past.oldest(SeriesId(series));
    dirty.retain(|&(_, start)| start >= oldest);
    dirty
}

/// The shortest windows in a span, without samples after `last`; `None` where they cannot be read.
fn read_bases(
    past: &mut dyn Past,
    series: u32,
    span: Span,
    (every, last): (i64, i64),
    read: &mut usize,
) -> Option<Vec<Aggregate>> {
    let mut bases = Vec::new();
    let is_read = past.read(SeriesId(series), span, &mut |samples| {
        *read += samples.len();
        add_to(&mut bases, every, last, samples);
    });
    is_read.then_some(bases)
}

/// Adds samples, which come by time, to the shortest windows; those after `last` are still to be told.
fn add_to(bases: &mut Vec<Aggregate>, every: i64, last: i64, samples: &[Sample]) {
    for &sample in samples.iter().take_while(|sample| sample.time.nanos() <= last) {
        match bases.last_mut() {
            Some(open) if sample.time.nanos().saturating_sub(open.start) < every => open.add(sample),
            _ => bases.push(Aggregate::new(floor(sample.time.nanos(), every), sample)),
        }
    }
}

fn rows(done: &[(u32, u16, Aggregate)], lengths: &[i64]) -> RecordBatch {
    let every = done.iter().map(|(_, tier, _)| lengths[usize::from(*tier)]);
    let mut all: Vec<ArrayRef> = vec![
        series_column(done.iter().map(|(series, _, _)| *series)),
        Arc::new(Int64Array::from_iter_values(every)),
        times(done.iter().map(|(_, _, window)| window.start)),
    ];
    all.extend(columns(done.iter().map(|(_, _, window)| window)));
    RecordBatch::try_new(Table::Rollups.schema(), all).expect("columns are of the table's schema")
}

impl Stage for Tumbling {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let source = self.origins.number(&batch.source);
        for run in batch.runs() {
            if run.series.index() >= self.places.len() {
                self.places.resize(run.series.index() + 1, Place::default());
            }
            let place = &mut self.places[run.series.index()];
            place.source = source;
            if place.last.is_none() && self.history.is_some() {
                self.fresh.push((run.series.0, run.times[0]));
            }
            place.run(run, &self.lengths, &mut self.found);
        }
        self.emit(out);
        out.batch(batch.clone());
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        for (series, sample) in batch.iter() {
            self.found.dirty(series.0, sample.time.nanos(), &self.lengths);
        }
        out.late(batch.clone());
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.ahead.push(batch.clone());
        out.ahead(batch.clone());
    }

    /// Closes the windows of series that no longer move.
    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        let Some((source, reached)) = self.origins.reached(watermark, self.lengths[0]) else { return };
        // An idle source moves no more; another gets one window's time.
        let idle = watermark.time == Timestamp::MAX;
        let reached = if idle { reached } else { reached.saturating_sub(self.lengths[0]) };
        for (series, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.source == source) {
            let moves = std::mem::take(&mut place.moves);
            if idle || !moves {
                place.close_to(series as u32, reached, &self.lengths, &mut self.found);
            }
        }
        self.emit(out);
    }

    fn idle(&mut self, out: &mut Out<'_>) {
        self.look_at_fresh();
        self.redo(REDO_SAMPLES);
        self.emit(out);
    }

    fn checkpoint(&mut self, cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        self.look_at_fresh();
        self.redo(if cut.last { usize::MAX } else { REDO_SAMPLES });
        let ahead = self.tell_open();
        self.tell_stored(ahead);
        self.emit(out);
        self.state()
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        self.read(&mut Reader(state), shard).is_some()
    }

    fn dropped(&self) -> Dropped {
        lost(self.lost)
    }

    fn put_off(&self) -> u64 {
        self.found.dirty.values().map(|windows| windows.len() as u64).sum()
    }
}
