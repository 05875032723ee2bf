//! `window`: aggregates of each series over windows of fixed length, as rows of `rollups`.
//!
//! Samples in order go into the series' open window. One that is not later than the last of its series, be it late or a
//! second value for a time, makes its window dirty: at the next checkpoint a dirty window is computed anew from the
//! store, so every row says what the stored samples say.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch};
use arrow::array::{TimestampNanosecondArray, UInt32Array, UInt64Array};
use serde::Deserialize;

use super::state::{Reader, Writer};
use crate::flow::{Out, Stage};
use crate::model::{Batch, Rows, Sample, SeriesId, Span, Table, Timestamp};
use crate::stats::Sketch;
use crate::store::Store;

/// `apply.window`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Length of a window; windows are counted from 1970.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
}

impl WindowSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let short = self.every < Duration::from_millis(1) || self.every > Duration::from_secs(366 * 86_400);
        short.then(|| format!("every = {:?} cannot be: write 1ms to 366d, as in \"1h\"", self.every))
    }
}

/// What is known of one window of one series.
#[derive(Clone, Debug)]
struct Aggregate {
    start: i64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    last_time: i64,
    sketch: Sketch,
}

impl Aggregate {
    fn new(start: i64, sample: Sample) -> Self {
        let Sample { time, value } = sample;
        let mut sketch = Sketch::new();
        sketch.add(value);
        Aggregate {
            start,
            count: 1,
            sum: value,
            min: value,
            max: value,
            first: value,
            last: value,
            last_time: time.nanos(),
            sketch,
        }
    }

    fn add(&mut self, sample: Sample) {
        let Sample { time, value } = sample;
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
        self.last_time = time.nanos();
        self.sketch.add(value);
    }

    fn write(&self, out: &mut Writer) {
        out.i64(self.start);
        out.i64(self.count.cast_signed());
        [self.sum, self.min, self.max, self.first, self.last].into_iter().for_each(|number| out.f64(number));
        out.i64(self.last_time);
        let mut sketch = Vec::new();
        self.sketch.encode(&mut sketch);
        out.bytes(&sketch);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Aggregate {
            start: from.i64()?,
            count: from.i64()?.cast_unsigned(),
            sum: from.f64()?,
            min: from.f64()?,
            max: from.f64()?,
            first: from.f64()?,
            last: from.f64()?,
            last_time: from.i64()?,
            sketch: Sketch::decode(from.bytes()?).ok()?,
        })
    }
}

/// Where a series stands.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Time of its last sample, which may lie in a window that is closed already.
    last_time: Option<i64>,
    open: Option<Aggregate>,
    /// Whether samples came since the last sweep: history that is sent beside what is new keeps its windows open.
    moves: bool,
}

/// The stage.
pub(super) struct Window {
    every: i64,
    places: Vec<Place>,
    dirty: BTreeSet<(u32, i64)>,
    swept: i64,
    done: Vec<(u32, Aggregate)>,
    store: Weak<Store>,
}

impl Window {
    pub fn new(spec: &WindowSpec, store: Weak<Store>) -> Self {
        let every = i64::try_from(spec.every.as_nanos()).unwrap_or(i64::MAX);
        Window { every, places: Vec::new(), dirty: BTreeSet::new(), swept: i64::MIN, done: Vec::new(), store }
    }

    fn sample(&mut self, series: SeriesId, sample: Sample) {
        let (time, every) = (sample.time.nanos(), self.every);
        let place = self.place(series.0);
        if place.last_time.is_some_and(|last| time <= last) {
            self.dirty.insert((series.0, sample.time.floor(every).nanos()));
            return;
        }
        let before = place.last_time.replace(time);
        place.moves = true;
        match &mut place.open {
            Some(open) if time - open.start < every => open.add(sample),
            open => {
                let start = sample.time.floor(every).nanos();
                if before.is_some_and(|before| before >= start) {
                    // Its window was closed when the series stood still.
                    self.dirty.insert((series.0, start));
                } else if let Some(closed) = open.replace(Aggregate::new(start, sample)) {
                    self.done.push((series.0, closed));
                }
            }
        }
    }

    fn place(&mut self, series: u32) -> &mut Place {
        let at = series as usize;
        if at >= self.places.len() {
            self.places.resize_with(at + 1, Place::default);
        }
        &mut self.places[at]
    }

    /// Computes the dirty windows from the store.
    fn redo(&mut self) {
        let Some(store) = self.store.upgrade() else { return };
        let mut dirty = std::mem::take(&mut self.dirty).into_iter().peekable();
        if dirty.peek().is_none() {
            return;
        }
        let snapshot = store.history();
        while let Some((series, start)) = dirty.next() {
            let mut starts = vec![start];
            while let Some((_, start)) = dirty.next_if(|(other, _)| *other == series) {
                starts.push(start);
            }
            // Of a window whose samples are gone in part, what was rolled up before says more.
            let oldest = snapshot.oldest(SeriesId(series)).nanos();
            starts.retain(|&start| start >= oldest);
            let (Some(&start), Some(&last)) = (starts.first(), starts.last()) else { continue };
            let span = Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(last).plus(self.every));
            let mut anew: Vec<Aggregate> = Vec::new();
            let read = snapshot.scan(vec![SeriesId(series)], span).next_in_pieces(|samples| {
                self.add_to(&mut anew, &starts, samples);
            });
            if !matches!(read, Some(Ok(_))) {
                continue;
            }
            for aggregate in anew {
                if let Some(open) = &mut self.place(series).open
                    && open.start == aggregate.start
                {
                    *open = aggregate.clone();
                }
                self.done.push((series, aggregate));
            }
        }
    }

    /// Adds samples, which come by time, to the windows of some starts.
    fn add_to(&self, anew: &mut Vec<Aggregate>, starts: &[i64], samples: &[Sample]) {
        for &sample in samples {
            let start = sample.time.floor(self.every).nanos();
            match anew.last_mut() {
                Some(aggregate) if aggregate.start == start => aggregate.add(sample),
                _ if starts.binary_search(&start).is_ok() => anew.push(Aggregate::new(start, sample)),
                _ => {}
            }
        }
    }

    fn read_places(&mut self, from: &mut Reader<'_>) -> Option<()> {
        while !from.0.is_empty() {
            let series = from.u32()?;
            let last_time = Some(from.i64()?);
            let open = if from.u32()? == 0 { None } else { Some(Aggregate::read(from)?) };
            *self.place(series) = Place { last_time, open, moves: false };
        }
        Some(())
    }

    fn emit(&mut self, out: &mut Out<'_>) {
        if !self.done.is_empty() {
            let done = std::mem::take(&mut self.done);
            out.rows(Rows { table: Table::Rollups, batch: rows(&done, self.every) });
        }
    }
}

fn rows(done: &[(u32, Aggregate)], every: i64) -> RecordBatch {
    let numbers = |of: fn(&Aggregate) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(done.iter().map(|(_, window)| of(window))))
    };
    let sketches: Vec<Vec<u8>> = done
        .iter()
        .map(|(_, window)| {
            let mut bytes = Vec::new();
            window.sketch.encode(&mut bytes);
            bytes
        })
        .collect();
    let starts = TimestampNanosecondArray::from_iter_values(done.iter().map(|(_, window)| window.start));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(done.iter().map(|(series, _)| *series))),
        Arc::new(Int64Array::from(vec![every; done.len()])),
        Arc::new(starts.with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(done.iter().map(|(_, window)| window.count))),
        numbers(|window| window.sum),
        numbers(|window| window.min),
        numbers(|window| window.max),
        numbers(|window| window.first),
        numbers(|window| window.last),
        Arc::new(BinaryArray::from_iter_values(&sketches)),
    ];
    RecordBatch::try_new(Table::Rollups.schema(), columns).expect("columns are of the table's schema")
}

impl Stage for Window {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        for (series, sample) in batch.iter() {
            self.sample(series, sample);
        }
        self.emit(out);
        out.batch(batch.clone());
    }

    /// Closes the windows of series that no longer move.
    fn watermark(&mut self, time: Timestamp, out: &mut Out<'_>) {
        let reached = time.floor(self.every).nanos();
        if reached <= self.swept {
            return;
        }
        self.swept = reached;
        for (series, place) in self.places.iter_mut().enumerate() {
            if !std::mem::take(&mut place.moves)
                && place.open.as_ref().is_some_and(|open| open.start < reached - self.every)
                && let Some(closed) = place.open.take()
            {
                self.done.push((series as u32, closed));
            }
        }
        self.emit(out);
    }

    fn checkpoint(&mut self, out: &mut Out<'_>) -> Vec<u8> {
        self.redo();
        let mut state = Writer::default();
        state.i64(self.every);
        state.i64(self.swept);
        let known = self.places.iter().enumerate().filter_map(|(at, place)| Some((at as u32, place, place.last_time?)));
        for (series, place, last_time) in known {
            state.u32(series);
            state.i64(last_time);
            state.u32(u32::from(place.open.is_some()));
            if let Some(open) = &place.open {
                open.write(&mut state);
                self.done.push((series, open.clone()));
            }
        }
        self.emit(out);
        state.0
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let mut from = Reader(state);
        if from.i64() != Some(self.every) {
            return false;
        }
        let Some(swept) = from.i64() else { return false };
        self.swept = swept;
        self.read_places(&mut from).is_some()
    }
}
