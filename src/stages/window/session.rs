//! Windows that end where a series is silent for longer than a gap: rows of `sessions`.
//!
//! A late sample may join sessions or begin one earlier. Then the row of the one whose first sample is no first any more is
//! taken back by a row that counts nothing.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::aggregate::{Aggregate, columns, series_column, times};
use super::{Origins, REDO_SAMPLES, lost};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Watermark};
use crate::model::{Batch, Rows, Sample, SeriesId, Span, Table, Timestamp};

/// How far is read at first to either side of a late sample, in gaps.
const REACH: i64 = 64;

/// Where a series stands.
#[derive(Clone, Debug, Default)]
struct Place {
    last: Option<i64>,
    source: u16,
    /// Whether samples came since the last sweep.
    moves: bool,
    open: Option<Aggregate>,
    /// Starts of sessions that were told with samples that could still be overtaken.
    hints: Vec<i64>,
}

impl Place {
    /// Tells a session, and takes back what was told of a start that is none.
    fn tell(&mut self, series: u32, window: Aggregate, found: &mut Found) {
        let is_within = |start: &i64| *start > window.start && *start <= window.last_time;
        for start in self.hints.iter().copied().filter(is_within) {
            found.done.push((series, Aggregate::none(start)));
        }
        self.hints.retain(|&start| start > window.last_time);
        found.done.push((series, window));
    }

    fn sample(&mut self, series: u32, sample: Sample, gap: i64, found: &mut Found) {
        let time = sample.time.nanos();
        self.moves = true;
        let Some(last) = self.last.filter(|&last| time <= last.saturating_add(gap)) else {
            self.last = Some(time);
            if let Some(closed) = self.open.replace(Aggregate::new(time, sample)) {
                self.tell(series, closed, found);
            }
            return;
        };
        self.last = Some(time.max(last));
        match &mut self.open {
            Some(open) if time > last => open.add(sample),
            // Late, or its session was closed when the source fell silent.
            _ => {
                found.dirty.insert((series, time));
            }
        }
    }
}

#[derive(Default)]
struct Found {
    done: Vec<(u32, Aggregate)>,
    /// Series and time.
    dirty: BTreeSet<(u32, i64)>,
}

impl Found {
    /// Rows that take back those of sessions that began at such times.
    fn take_back(&mut self, series: u32, starts: Vec<i64>) {
        self.done.extend(starts.into_iter().map(|start| (series, Aggregate::none(start))));
    }
}

/// The stage.
pub(super) struct Sessions {
    gap: i64,
    places: Vec<Place>,
    origins: Origins,
    found: Found,
    ahead: Vec<Arc<Batch>>,
    history: Option<Arc<dyn History>>,
    lost: u64,
}

impl Sessions {
    pub fn new(gap: i64, history: Option<Arc<dyn History>>) -> Self {
        let (origins, found) = (Origins::default(), Found::default());
        Sessions { gap, places: Vec::new(), origins, found, ahead: Vec::new(), history, lost: 0 }
    }

    fn place(&mut self, series: u32) -> &mut Place {
        if series as usize >= self.places.len() {
            self.places.resize(series as usize + 1, Place::default());
        }
        &mut self.places[series as usize]
    }

    fn redo(&mut self, samples: usize) {
        let Some(history) = self.history.clone() else {
            self.lost += self.found.dirty.len() as u64;
            self.found.dirty.clear();
            return;
        };
        if self.found.dirty.is_empty() {
            return;
        }
        let (mut past, mut read) = (history.open(), 0);
        while read < samples
            && let Some(&(series, time)) = self.found.dirty.first()
        {
            let (gap, last) = (self.gap, self.place(series).last.unwrap_or(i64::MIN));
            let late = self.found.dirty.range((series, i64::MIN)..=(series, i64::MAX)).map(|&(_, time)| time);
            let session = session_around(&mut *past, SeriesId(series), time, late, (gap, last), &mut read);
            self.found.dirty.remove(&(series, time));
            let Some(session) = session else { continue };
            take_out(&mut self.found.dirty, series, &session.window);
            if session.window.start >= past.oldest(SeriesId(series)) {
                self.put(series, session);
            }
        }
    }

    fn put(&mut self, series: u32, Session { window, no_longer_first, .. }: Session) {
        self.found.take_back(series, no_longer_first);
        let place = self.place(series);
        if place.open.is_some() && place.last == Some(window.last_time) {
            place.open = Some(window);
        } else {
            let mut found = Found::default();
            place.tell(series, window, &mut found);
            self.found.done.append(&mut found.done);
        }
    }

    /// Computes sessions from what is stored, those samples with it that are still to be told.
    fn tell_stored(&mut self, mut dirty: BTreeSet<(u32, i64)>) {
        let Some(history) = self.history.clone().filter(|_| !dirty.is_empty()) else { return };
        let mut past = history.open();
        while let Some(&(series, time)) = dirty.first() {
            let late = dirty.range((series, i64::MIN)..=(series, i64::MAX)).map(|&(_, time)| time);
            let session = session_around(&mut *past, SeriesId(series), time, late, (self.gap, i64::MAX), &mut 0);
            dirty.remove(&(series, time));
            let Some(Session { window, no_longer_first, .. }) = session else { continue };
            take_out(&mut dirty, series, &window);
            self.found.take_back(series, no_longer_first);
            self.place(series).hints.push(window.start);
            self.found.done.push((series, window));
        }
    }

    /// Sessions as they would stand if those ahead had been told. Gives back times of such as were told before.
    fn tell_open(&mut self) -> BTreeSet<(u32, i64)> {
        let (mut found, mut told) = (Found::default(), BTreeSet::new());
        for batch in std::mem::take(&mut self.ahead) {
            let samples: Vec<(SeriesId, Sample)> = batch.iter().collect();
            for of_series in samples.chunk_by(|a, b| a.0 == b.0) {
                let series = of_series[0].0.0;
                let mut place = self.place(series).clone();
                let mut of_place = Found::default();
                of_series.iter().for_each(|(_, sample)| place.sample(series, *sample, self.gap, &mut of_place));
                if let Some(open) = place.open.take() {
                    place.tell(series, open, &mut of_place);
                }
                let last = self.place(series).last.unwrap_or(i64::MIN);
                let starts = of_place.done.iter().map(|(_, window)| window.start).filter(|&start| start > last);
                place.hints.extend(starts);
                self.place(series).hints = place.hints;
                found.done.append(&mut of_place.done);
                found.dirty.append(&mut of_place.dirty);
                told.insert(series);
            }
        }
        for (series, place) in self.places.iter().enumerate().filter(|(at, _)| !told.contains(&(*at as u32))) {
            found.done.extend(place.open.clone().map(|open| (series as u32, open)));
        }
        self.found.done.append(&mut found.done);
        found.dirty
    }

    fn emit(&mut self, out: &mut Out<'_>) {
        if !self.found.done.is_empty() {
            let done = std::mem::take(&mut self.found.done);
            out.rows(Rows { table: Table::Sessions, batch: rows(&done, self.gap) });
        }
    }

    fn read(&mut self, from: &mut Reader<'_>, shard: Shard) -> Option<()> {
        let numbers = self.origins.read(from)?;
        for _ in 0..from.u32()? {
            let dirty = (from.u32()?, from.i64()?);
            if shard.has(dirty.0) {
                self.found.dirty.insert(dirty);
            }
        }
        while !from.0.is_empty() {
            let series = from.u32()?;
            let last = Some(from.i64()?);
            let source = *numbers.get(&from.u32()?).unwrap_or(&0);
            let open = Aggregate::read_some(from)?;
            let hints = (0..from.u32()?).map(|_| from.i64()).collect::<Option<Vec<i64>>>()?;
            if shard.has(series) {
                *self.place(series) = Place { last, source, moves: false, open, hints };
            }
        }
        Some(())
    }
}

/// A session put together of samples as they are read.
pub(super) struct Session {
    pub window: Aggregate,
    /// Samples that were the first of a session before the late ones came between, or before, them.
    pub no_longer_first: Vec<i64>,
    /// The last of its samples that was not late.
    in_time: Option<i64>,
}

impl Session {
    fn new(sample: Sample, is_late: bool) -> Self {
        let time = sample.time.nanos();
        let window = Aggregate::new(time, sample);
        Session { window, no_longer_first: Vec::new(), in_time: (!is_late).then_some(time) }
    }

    fn add(&mut self, sample: Sample, is_late: bool, gap: i64) {
        let time = sample.time.nanos();
        // A late one that was told before, as one that came again, may have been the first, too.
        if is_late || self.in_time.is_none_or(|in_time| time.saturating_sub(in_time) > gap) {
            self.no_longer_first.push(time);
        }
        if !is_late {
            self.in_time = Some(time);
        }
        self.window.add(sample);
    }
}

/// Finds the session that a time lies in among samples that come by time; keeps no more of them than its aggregate.
struct Search<L: Iterator<Item = i64>> {
    time: i64,
    gap: i64,
    /// Times of late samples, sorted.
    late: Peekable<L>,
    session: Option<Session>,
}

impl<L: Iterator<Item = i64>> Search<L> {
    fn sample(&mut self, sample: Sample) {
        let (time, gap) = (sample.time.nanos(), self.gap);
        while self.late.next_if(|&late| late < time).is_some() {}
        let is_late = self.late.peek() == Some(&time);
        match &mut self.session {
            Some(session) if time.saturating_sub(session.window.last_time) <= gap => session.add(sample, is_late, gap),
            Some(session) if session.window.last_time >= self.time => {}
            session => *session = Some(Session::new(sample, is_late)),
        }
    }

    fn found(self) -> Option<Session> {
        self.session.filter(|Session { window, .. }| window.start <= self.time && self.time <= window.last_time)
    }
}

/// The session that a time lies in, of samples up to `last`; `None` where there is none, or it cannot be read.
pub(super) fn session_around(
    past: &mut dyn Past,
    series: SeriesId,
    time: i64,
    late: impl Iterator<Item = i64> + Clone,
    (gap, last): (i64, i64),
    read: &mut usize,
) -> Option<Session> {
    let mut reach = gap.saturating_mul(REACH);
    let (mut from, mut to) = (time.saturating_sub(reach), time.saturating_add(reach));
    loop {
        let span = Span::new(Timestamp::from_nanos(from), Timestamp::from_nanos(to));
        let mut search = Search { time, gap, late: late.clone().peekable(), session: None };
        let is_read = past.read(series, span, &mut |piece| {
            *read += piece.len();
            piece.iter().filter(|sample| sample.time.nanos() <= last).for_each(|&sample| search.sample(sample));
        });
        let session = search.found().filter(|_| is_read)?;
        let begins = session.window.start.saturating_sub(from) > gap || from == i64::MIN;
        let ends = to.saturating_sub(session.window.last_time) > gap || to == i64::MAX;
        if begins && ends {
            return Some(session);
        }
        reach = reach.saturating_mul(8);
        let all = reach == i64::MAX;
        from = if begins { from } else { time.checked_sub(reach).filter(|_| !all).unwrap_or(i64::MIN) };
        to = if ends { to } else { time.checked_add(reach).filter(|_| !all).unwrap_or(i64::MAX) };
    }
}

/// Takes the late times that lie in a session out of all.
fn take_out(dirty: &mut BTreeSet<(u32, i64)>, series: u32, window: &Aggregate) {
    let within: Vec<(u32, i64)> = dirty.range((series, window.start)..=(series, window.last_time)).copied().collect();
    within.iter().for_each(|late| {
        dirty.remove(late);
    });
}

fn rows(done: &[(u32, Aggregate)], gap: i64) -> RecordBatch {
    let gaps: ArrayRef = Arc::new(Int64Array::from(vec![gap; done.len()]));
    let mut all = vec![
        series_column(done.iter().map(|(series, _)| *series)),
        gaps,
        times(done.iter().map(|(_, window)| window.start)),
        times(done.iter().map(|(_, window)| window.last_time)),
    ];
    all.extend(columns(done.iter().map(|(_, window)| window)));
    RecordBatch::try_new(Table::Sessions.schema(), all).expect("columns are of the table's schema")
}

impl Stage for Sessions {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let source = self.origins.number(&batch.source);
        for (series, sample) in batch.iter() {
            if series.index() >= self.places.len() {
                self.places.resize(series.index() + 1, Place::default());
            }
            let place = &mut self.places[series.index()];
            place.source = source;
            place.sample(series.0, sample, self.gap, &mut self.found);
        }
        self.emit(out);
        out.batch(batch.clone());
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.found.dirty.extend(batch.iter().map(|(series, sample)| (series.0, sample.time.nanos())));
        out.late(batch.clone());
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.ahead.push(batch.clone());
        out.ahead(batch.clone());
    }

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        let Some((source, reached)) = self.origins.reached(watermark, self.gap.min(1_000_000_000)) else { return };
        for (series, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.source == source) {
            let moves = std::mem::take(&mut place.moves) && watermark.time != Timestamp::MAX;
            let is_over = |open: &mut Aggregate| !moves && open.last_time.saturating_add(self.gap) < reached;
            if let Some(open) = place.open.take_if(is_over) {
                place.tell(series as u32, open, &mut self.found);
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
        state.u32(self.found.dirty.len() as u32);
        for &(series, time) in &self.found.dirty {
            state.u32(series);
            state.i64(time);
        }
        for (series, place) in self.places.iter().enumerate() {
            let Some(last) = place.last else { continue };
            state.u32(series as u32);
            state.i64(last);
            state.u32(u32::from(place.source));
            Aggregate::write_some(place.open.as_ref(), &mut state);
            state.u32(place.hints.len() as u32);
            place.hints.iter().for_each(|&start| state.i64(start));
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
        self.found.dirty.len() as u64
    }
}
