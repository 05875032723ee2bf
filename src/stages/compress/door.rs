//! The ways to thin one series. Each says of a kept point how far any sample that it stands for lies from what is told
//! instead.

use crate::flow::codec::{Reader, Writer};
use crate::model::{Sample, Timestamp};

/// A point that is kept, and what its row says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub sample: Sample,
    /// Largest distance of a sample that it stands for.
    pub error: f64,
    /// How many, itself included.
    pub samples: u64,
    pub kept: &'static str,
    /// Whether stages behind get it: not what was told before, and not what stands beside the points.
    pub is_new: bool,
}

/// Swinging door (Bristol 1990): of a stretch that a straight line follows within the error, only its ends are kept. The
/// last kept point, the last seen one, and the slopes between which a line from the one to the other passes all in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    kept: Sample,
    pub seen: Sample,
    steepest: f64,
    flattest: f64,
    /// Largest error that was allowed since the kept one.
    bound: f64,
    /// Samples behind the kept one.
    since: u64,
}

impl Door {
    pub fn new(sample: Sample) -> Self {
        Door { kept: sample, seen: sample, steepest: f64::INFINITY, flattest: f64::NEG_INFINITY, bound: 0.0, since: 0 }
    }

    /// The last seen sample as a point, where it is not kept yet.
    pub fn last(&self) -> Option<Point> {
        let point = Point { sample: self.seen, error: self.bound, samples: self.since, kept: "last", is_new: true };
        (self.since > 0).then_some(point)
    }

    /// Takes a sample later than the last; gives the point to keep when the door is shut.
    pub fn take(&mut self, sample: Sample, error: f64, gap: i64) -> Option<Point> {
        let run = sample.time.nanos().saturating_sub(self.kept.time.nanos());
        let slope = (sample.value - self.kept.value) / run as f64;
        let is_straight = (self.flattest..=self.steepest).contains(&slope);
        let is_open = is_straight && run <= gap;
        let kept = if is_straight { "gap" } else { "door" };
        let shut = if is_open { None } else { self.last().map(|point| Point { kept, ..point }) };
        if let Some(point) = shut {
            *self = Door::new(point.sample);
        }
        self.narrow(sample, error);
        self.bound = self.bound.max(error);
        self.seen = sample;
        self.since += 1;
        shut
    }

    fn narrow(&mut self, sample: Sample, error: f64) {
        let run = sample.time.nanos().saturating_sub(self.kept.time.nanos()) as f64;
        let rise = sample.value - self.kept.value;
        self.steepest = self.steepest.min((rise + error) / run);
        self.flattest = self.flattest.max((rise - error) / run);
    }

    pub fn write(&self, out: &mut Writer) {
        write_sample(self.kept, out);
        write_sample(self.seen, out);
        [self.steepest, self.flattest, self.bound].into_iter().for_each(|number| out.f64(number));
        out.i64(self.since.cast_signed());
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (kept, seen) = (read_sample(from)?, read_sample(from)?);
        let [steepest, flattest, bound] = [from.f64()?, from.f64()?, from.f64()?];
        Some(Door { kept, seen, steepest, flattest, bound, since: from.i64()?.cast_unsigned() })
    }
}

/// Dead band and sampling: a kept point stands for those behind it, until one is kept again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    kept: Sample,
    pub seen: Sample,
    /// Largest distance of one since.
    far: f64,
    since: u64,
}

impl Hold {
    pub fn new(sample: Sample) -> Self {
        Hold { kept: sample, seen: sample, far: 0.0, since: 1 }
    }

    /// The kept point, with all that it stands for so far.
    pub fn last(&self, kept: &'static str) -> Point {
        Point { sample: self.kept, error: self.far, samples: self.since, kept, is_new: false }
    }

    /// Takes a sample later than the last. Where it is kept: what the former kept one stood for, then it.
    pub fn take(&mut self, sample: Sample, is_kept: bool, kept: &'static str) -> Option<[Point; 2]> {
        self.seen = sample;
        if is_kept {
            let over = self.last(kept);
            *self = Hold::new(sample);
            return Some([over, Point { is_new: true, ..self.last(kept) }]);
        }
        self.far = self.far.max((sample.value - self.kept.value).abs());
        self.since += 1;
        None
    }

    /// How far a sample is from the kept one, in value and in time.
    pub fn distance(&self, sample: Sample) -> (f64, i64) {
        let since = sample.time.nanos().saturating_sub(self.kept.time.nanos());
        ((sample.value - self.kept.value).abs(), since)
    }

    pub fn write(&self, out: &mut Writer) {
        write_sample(self.kept, out);
        write_sample(self.seen, out);
        out.f64(self.far);
        out.i64(self.since.cast_signed());
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (kept, seen) = (read_sample(from)?, read_sample(from)?);
        Some(Hold { kept, seen, far: from.f64()?, since: from.i64()?.cast_unsigned() })
    }
}

/// Aggregation: the mean of a window stands for all in it, at the window's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    start: i64,
    length: i64,
    sum: f64,
    low: f64,
    high: f64,
    count: u64,
    pub seen: Sample,
}

impl Mean {
    pub fn new(sample: Sample, length: i64) -> Self {
        let start = sample.time.nanos().saturating_sub(sample.time.nanos().rem_euclid(length));
        let value = sample.value;
        Mean { start, length, sum: value, low: value, high: value, count: 1, seen: sample }
    }

    pub fn last(&self) -> Point {
        let value = self.sum / self.count as f64;
        let error = (self.high - value).max(value - self.low);
        let sample = Sample { time: Timestamp::from_nanos(self.start), value };
        Point { sample, error, samples: self.count, kept: "mean", is_new: true }
    }

    /// Takes a sample later than the last; gives the mean of a window that is over. A new window is `length` long.
    pub fn take(&mut self, sample: Sample, length: i64) -> Option<Point> {
        if sample.time.nanos().saturating_sub(self.start) >= self.length {
            let over = self.last();
            *self = Mean::new(sample, length);
            // A longer window may reach back into what was told.
            self.start = self.start.max(over.sample.time.nanos() + 1).min(sample.time.nanos());
            return Some(over);
        }
        self.sum += sample.value;
        self.low = self.low.min(sample.value);
        self.high = self.high.max(sample.value);
        self.count += 1;
        self.seen = sample;
        None
    }

    pub fn write(&self, out: &mut Writer) {
        out.i64(self.start);
        out.i64(self.length);
        [self.sum, self.low, self.high].into_iter().for_each(|number| out.f64(number));
        out.i64(self.count.cast_signed());
        write_sample(self.seen, out);
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (start, length) = (from.i64()?, from.i64()?);
        let [sum, low, high] = [from.f64()?, from.f64()?, from.f64()?];
        Some(Mean { start, length, sum, low, high, count: from.i64()?.cast_unsigned(), seen: read_sample(from)? })
    }
}

fn write_sample(sample: Sample, out: &mut Writer) {
    out.i64(sample.time.nanos());
    out.f64(sample.value);
}

fn read_sample(from: &mut Reader<'_>) -> Option<Sample> {
    Some(Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? })
}
