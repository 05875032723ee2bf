//! Native histograms: one sample that holds a distribution, the same message in both versions.
//!
//! ```text
//!  1 count_int  2 count_float       3 sum            4 schema           5 zero_threshold
//!  6 zero_count_int  7 zero_count_float             14 reset_hint      15 ms            16 custom_values*
//!  8 negative_spans*   9 negative_deltas*  10 negative_counts*
//! 11 positive_spans*  12 positive_deltas*  13 positive_counts*
//! span: 1 offset, 2 length
//! ```
//!
//! Buckets are numbered; a span says how many follow each other, and how far it is from the one before. Counts of whole
//! numbers come as differences from bucket to bucket. With schema -4 to 8 bucket i holds what is above base^(i-1) and at
//! most base^i, base being 2^(2^-schema). With schema -53 the upper bounds are `custom_values`.

use super::Names;
use super::wire::{Broken, Message, STALE, Value, each_double, each_varint, unzigzag};
use crate::flow::Refusal;
use crate::ingest::distribution::{BUCKETS_MAX, Distribution, Exponential};
use crate::ingest::gather::{About, Gather};
use crate::model::{Kind, Timestamp};

/// The schema of buckets with bounds of their own.
const CUSTOM: i32 = -53;
/// The hint by which a histogram says that its counts go down as well.
const GAUGE: u64 = 3;

/// By which share of a count its buckets may be above it: sums of floats are rounded.
const ROUNDED: f64 = 1e-9;

/// A histogram as it comes.
#[derive(Debug, Default)]
pub(super) struct Native {
    /// Milliseconds since 1970.
    pub ms: i64,
    count: f64,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    zero_count: f64,
    negative: Side,
    positive: Side,
    custom: Vec<f64>,
    is_gauge: bool,
}

/// Buckets on one side of zero.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Native {
    pub fn decode(bytes: &[u8]) -> Result<Self, Broken> {
        let (mut fields, mut native) = (Message::new(bytes), Native::default());
        while let Some((number, value)) = fields.next()? {
            native.field(number, value)?;
        }
        Ok(native)
    }

    fn field(&mut self, number: u64, value: Value<'_>) -> Result<(), Broken> {
        match (number, value) {
            (1, Value::Varint(count)) => self.count = count as f64,
            // Zero has no sign here, as there.
            (2, count) => self.count = count.double().ok_or(Broken)? + 0.0,
            (3, sum) => self.sum = sum.double().ok_or(Broken)?,
            (4, schema) => self.schema = schema.zigzag().ok_or(Broken)?,
            (5, threshold) => self.zero_threshold = threshold.double().ok_or(Broken)? + 0.0,
            (6, Value::Varint(count)) => self.zero_count = count as f64,
            (7, count) => self.zero_count = count.double().ok_or(Broken)? + 0.0,
            (8, Value::Bytes(span)) => keep(&mut self.negative.spans, decoded_span(span)?),
            (9, deltas) => each_varint(deltas, |delta| keep(&mut self.negative.deltas, unzigzag(delta)))?,
            (10, counts) => each_double(counts, |count| keep(&mut self.negative.counts, count))?,
            (11, Value::Bytes(span)) => keep(&mut self.positive.spans, decoded_span(span)?),
            (12, deltas) => each_varint(deltas, |delta| keep(&mut self.positive.deltas, unzigzag(delta)))?,
            (13, counts) => each_double(counts, |count| keep(&mut self.positive.counts, count))?,
            (14, Value::Varint(hint)) => self.is_gauge = hint == GAUGE,
            (15, Value::Varint(ms)) => self.ms = ms as i64,
            (16, bounds) => each_double(bounds, |bound| keep(&mut self.custom, bound + 0.0))?,
            _ => {}
        }
        Ok(())
    }

    /// Whether it says that its series ended.
    pub fn is_stale(&self) -> bool {
        self.sum.to_bits() == STALE
    }

    /// What its parts are.
    pub fn about<'t>(&self, about: About<'t>) -> About<'t> {
        About { kind: self.is_gauge.then_some(Kind::Gauge), ..about }
    }

    /// Ends the series that every histogram has. Which other bounds it had is not known here.
    pub fn end(names: &Names<'_>, time: Timestamp, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let Names { metric, labels } = names;
        let mut last = labels.clone();
        last.push(("le", "+Inf"));
        gather.end(metric, labels, time)?;
        gather.end(&format!("{metric}_bucket"), &last, time)?;
        gather.end(&format!("{metric}_count"), labels, time)?;
        gather.end(&format!("{metric}_sum"), labels, time)
    }

    /// What is stored of it.
    ///
    /// # Errors
    /// Where its buckets do not fit together, with the reason.
    pub fn distribution(&self) -> Result<Distribution, String> {
        self.check()?;
        let distribution = match i32::try_from(self.schema) {
            Ok(CUSTOM) => self.explicit()?,
            Ok(schema @ -4..=8) => {
                let (positive, negative) = (exponential(&self.positive)?, exponential(&self.negative)?);
                let zero = (self.zero_threshold, self.zero_count);
                Distribution::exponential(schema, zero, &positive, &negative, Some(self.sum))
            }
            _ => return Err(format!("a histogram of schema {}: known are -4 to 8 and {CUSTOM}", self.schema)),
        };
        let in_buckets = distribution.count();
        if self.count < in_buckets * (1.0 - ROUNDED) {
            return Err(format!(
                "a histogram counts {} values, its buckets {in_buckets}: send all in the count",
                self.count
            ));
        }
        Ok(distribution.with_count(self.count))
    }

    /// What of it can be told without its buckets' places.
    fn check(&self) -> Result<(), String> {
        if !self.count.is_finite() || !self.zero_count.is_finite() {
            return Err("a histogram's count is not a finite number".to_owned());
        }
        if self.count < 0.0 || self.zero_count < 0.0 {
            return Err("a histogram's count is below zero".to_owned());
        }
        let threshold = self.zero_threshold;
        if !threshold.is_finite() || threshold < 0.0 {
            return Err(format!("a zero threshold of {threshold}: send 0 or more"));
        }
        let buckets = self.negative.len() + self.positive.len();
        if buckets.max(self.custom.len()) > BUCKETS_MAX {
            return Err(format!("a histogram of over {BUCKETS_MAX} buckets: send at most so many"));
        }
        Ok(())
    }

    fn explicit(&self) -> Result<Distribution, String> {
        let mut counts = vec![0.0; self.custom.len() + 1];
        for (index, count) in self.positive.buckets()? {
            let place = usize::try_from(index).ok().and_then(|at| counts.get_mut(at));
            *place.ok_or_else(|| format!("a histogram has no bound for its bucket {index}"))? = count;
        }
        Distribution::explicit(&self.custom, &counts, Some(self.sum))
            .ok_or_else(|| "a histogram's custom bounds do not ascend".to_owned())
    }
}

/// Keeps no more than it takes to see that there are too many.
fn keep<T>(into: &mut Vec<T>, one: T) {
    if into.len() <= BUCKETS_MAX {
        into.push(one);
    }
}

fn decoded_span(bytes: &[u8]) -> Result<(i64, u64), Broken> {
    let (mut fields, mut offset, mut length) = (Message::new(bytes), 0, 0);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, value) => offset = value.zigzag().ok_or(Broken)?,
            (2, Value::Varint(told)) => length = told,
            _ => {}
        }
    }
    Ok((offset, length))
}

impl Side {
    fn len(&self) -> usize {
        self.spans.len().max(self.deltas.len()).max(self.counts.len())
    }

    /// Numbers of buckets and how much is in each. There are as many as counts came, whatever the spans say.
    fn buckets(&self) -> Result<Vec<(i64, f64)>, String> {
        let counts = self.counts()?;
        let (mut buckets, mut index) = (Vec::with_capacity(counts.len()), 0_i64);
        for &(offset, length) in &self.spans {
            index = index.saturating_add(offset);
            let left = &counts[buckets.len()..];
            let length = usize::try_from(length).ok().filter(|&length| length <= left.len());
            let length = length.ok_or("a histogram's spans are longer than its counts")?;
            for &count in &left[..length] {
                buckets.push((index, count));
                index = index.saturating_add(1);
            }
        }
        if buckets.len() < counts.len() {
            return Err("a histogram has more counts than its spans are long".to_owned());
        }
        Ok(buckets)
    }

    fn counts(&self) -> Result<Vec<f64>, String> {
        if self.deltas.is_empty() {
            let is_good = |count: &f64| count.is_finite() && *count >= 0.0;
            let good = self.counts.iter().all(is_good).then(|| self.counts.clone());
            return good.ok_or_else(|| "a histogram's bucket holds no finite number of values".to_owned());
        }
        let mut count = 0_i64;
        let add = |delta: &i64| {
            count = count.checked_add(*delta).filter(|count| *count >= 0)?;
            Some(count as f64)
        };
        let counts = self.deltas.iter().map(add).collect::<Option<_>>();
        counts.ok_or_else(|| "a histogram's bucket holds less than nothing".to_owned())
    }
}

/// The same as [`Exponential`] numbers them: by their lower bound, not by their upper one.
fn exponential(side: &Side) -> Result<Vec<Exponential>, String> {
    let one = |(index, count): (i64, f64)| {
        let index = i32::try_from(index.saturating_sub(1));
        let index = index.map_err(|_| "a histogram's bucket is out of range".to_owned())?;
        Ok(Exponential { index, count })
    };
    side.buckets()?.into_iter().map(one).collect()
}
