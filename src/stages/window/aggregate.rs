//! What is known of one window of one series, and its row.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, TimestampNanosecondArray, UInt32Array, UInt64Array};

use crate::flow::codec::{Reader, Writer};
use crate::model::Sample;
use crate::stats::Sketch;

/// Of all samples in a window. Made of samples by time or of windows by time, so the same samples give it bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Aggregate {
    pub start: i64,
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub first: f64,
    pub last: f64,
    pub last_time: i64,
    pub sketch: Sketch,
}

impl Aggregate {
    pub fn new(start: i64, sample: Sample) -> Self {
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

    /// Nothing: what a row says that takes back another.
    pub fn none(start: i64) -> Self {
        Aggregate {
            start,
            count: 0,
            sum: 0.0,
            min: 0.0,
            max: 0.0,
            first: 0.0,
            last: 0.0,
            last_time: start,
            sketch: Sketch::new(),
        }
    }

    /// Takes a later sample.
    #[inline]
    pub fn add(&mut self, sample: Sample) {
        let Sample { time, value } = sample;
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
        self.last_time = time.nanos();
        self.sketch.add(value);
    }

    /// Takes later samples, at least one.
    pub fn add_all(&mut self, times: &[i64], values: &[f64]) {
        self.count += values.len() as u64;
        for &value in values {
            self.sum += value;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.last = values[values.len() - 1];
        self.last_time = times[times.len() - 1];
        self.sketch.add_all(values);
    }

    /// Takes what a later window holds.
    pub fn merge(&mut self, later: &Aggregate) {
        self.count += later.count;
        self.sum += later.sum;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.last = later.last;
        self.last_time = later.last_time;
        self.sketch.merge(&later.sketch);
    }

    pub fn write(&self, out: &mut Writer) {
        out.i64(self.start);
        out.i64(self.count.cast_signed());
        [self.sum, self.min, self.max, self.first, self.last].into_iter().for_each(|number| out.f64(number));
        out.i64(self.last_time);
        let mut sketch = Vec::new();
        self.sketch.encode(&mut sketch);
        out.bytes(&sketch);
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
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

    /// One that may not be there.
    pub fn write_some(this: Option<&Self>, out: &mut Writer) {
        out.u32(u32::from(this.is_some()));
        if let Some(this) = this {
            this.write(out);
        }
    }

    pub fn read_some(from: &mut Reader<'_>) -> Option<Option<Self>> {
        if from.u32()? == 0 { Some(None) } else { Aggregate::read(from).map(Some) }
    }
}

/// Windows joined to those `every` long, in which they lie. They come by time.
pub(super) fn fold(windows: &[Aggregate], every: i64) -> Vec<Aggregate> {
    let mut folded: Vec<Aggregate> = Vec::new();
    for window in windows {
        let start = floor(window.start, every);
        match folded.last_mut() {
            Some(open) if open.start == start => open.merge(window),
            _ => folded.push(Aggregate { start, ..window.clone() }),
        }
    }
    folded
}

pub(super) fn floor(time: i64, every: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(every))
}

pub(super) fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
}

pub(super) fn series_column(series: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(series))
}

/// `count`, `sum`, `min`, `max`, `first`, `last`, `sketch`.
pub(super) fn columns<'a>(windows: impl Iterator<Item = &'a Aggregate> + Clone) -> Vec<ArrayRef> {
    let numbers =
        |of: fn(&Aggregate) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(windows.clone().map(of))) };
    let sketches: Vec<Vec<u8>> = windows
        .clone()
        .map(|window| {
            let mut bytes = Vec::new();
            window.sketch.encode(&mut bytes);
            bytes
        })
        .collect();
    vec![
        Arc::new(UInt64Array::from_iter_values(windows.clone().map(|window| window.count))),
        numbers(|window| window.sum),
        numbers(|window| window.min),
        numbers(|window| window.max),
        numbers(|window| window.first),
        numbers(|window| window.last),
        Arc::new(BinaryArray::from_iter_values(&sketches)),
    ]
}
