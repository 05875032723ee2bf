//! Aggregates over counters and gauges: `rate`, `increase` and `delta`, as Prometheus tells them.
//!
//! ```sql
//! -- From the first sample of each group to the last.
//! SELECT instance, increase(time, value) FROM http_requests_total GROUP BY instance
//! -- A group is a bucket of that width, counted from 1970: told for the whole bucket.
//! SELECT date_bin(INTERVAL '5 minutes', time) AS bucket, instance, rate(time, value, INTERVAL '5 minutes')
//! FROM http_requests_total GROUP BY bucket, instance
//! -- Told for the window given, as `rate(http_requests_total[5m])` is in PromQL.
//! SELECT instance, rate(time, value, now() - INTERVAL '5 minutes', now())
//! FROM http_requests_total WHERE time > now() - INTERVAL '5 minutes' GROUP BY instance
//! ```
//!
//! A counter that is lower than before has begun again from zero; `delta` takes that as a loss. A group of fewer than two
//! samples is NULL. Samples outside the window given are left out, both bounds are in it: leave the lower one out in
//! `WHERE`, as Prometheus does from 3.0 on. A group must be one series: two values for one time are a fault.
//!
//! Samples may come in any order and from many partitions, so all of a group are kept, 16 bytes each, as part of what
//! queries may hold.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimestampNanosecondType,
};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::samples::time_type;
use crate::model::Timestamp;
use crate::stats::Growth;

/// All of them.
pub(super) fn functions() -> impl Iterator<Item = AggregateUDF> {
    Growth::ALL.into_iter().map(|growth| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::from(GrowthFunction { growth, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GrowthFunction {
    growth: Growth,
    signature: Signature,
}

/// To where the growth between the samples is extrapolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Samples,
    /// The bounds of a bucket.
    Bucket,
    /// A start and an end.
    Window,
}

impl Reach {
    fn of_arguments(count: usize) -> Reach {
        match count {
            2 => Reach::Samples,
            3 => Reach::Bucket,
            _ => Reach::Window,
        }
    }
}

impl AggregateUDFImpl for GrowthFunction {
    fn name(&self) -> &str {
        self.growth.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let is_time = |at: usize| matches!(given[at], DataType::Timestamp(..) | DataType::Null);
        let is_bound = |at: usize| is_time(at) || matches!(given[at], DataType::Utf8 | DataType::Utf8View);
        let is_length =
            || matches!(given[2], DataType::Interval(_) | DataType::Duration(_) | DataType::Utf8 | DataType::Utf8View);
        if given.len() < 2 || !is_time(0) || !(given[1].is_numeric() || given[1].is_null()) {
            return plan_err!("{name} takes a time and a value first: write {name}(time, value)");
        }
        let mut taken = vec![time_type(), DataType::Float64];
        match given.len() {
            2 => {}
            3 if is_length() => taken.push(DataType::Interval(IntervalUnit::MonthDayNano)),
            4 if is_bound(2) && is_bound(3) => taken.extend([time_type(), time_type()]),
            _ => {
                return plan_err!(
                    "write {name}(time, value), {name}(time, value, INTERVAL '5 minutes') or \
                     {name}(time, value, TIMESTAMP 'start', TIMESTAMP 'end')"
                );
            }
        }
        Ok(taken)
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |name: &str, of: DataType| {
            Field::new_list(format_state_name(args.name, name), Field::new_list_field(of, true), true)
        };
        let bound = |name: &str| Field::new(format_state_name(args.name, name), DataType::Int64, true);
        let fields = [list("times", DataType::Int64), list("values", DataType::Float64), bound("from"), bound("to")];
        Ok(fields.map(Arc::new).to_vec())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{} counts every sample: leave DISTINCT out", self.name());
        }
        let reach = Reach::of_arguments(args.exprs.len());
        Ok(Box::new(Grown { growth: self.growth, reach, bounds: None, samples: Vec::new() }))
    }
}

/// The samples of a group.
#[derive(Debug)]
struct Grown {
    growth: Growth,
    reach: Reach,
    /// Nanoseconds: start and end of a window; of a bucket, 0 and its width.
    bounds: Option<(i64, i64)>,
    samples: Vec<(i64, f64)>,
}

impl Grown {
    /// Takes the bounds that a row names. They are the same in all of a group.
    fn bound(&mut self, bounds: (i64, i64)) -> Result<()> {
        match self.bounds {
            Some(known) if known == bounds => Ok(()),
            None => {
                self.bounds = Some(bounds);
                Ok(())
            }
            Some(_) => {
                let name = self.growth.name();
                exec_err!("the window of {name} differs within a group: group by it, or give one that is constant")
            }
        }
    }

    fn bounds_of(&self, arguments: &[ArrayRef], row: usize) -> Result<Option<(i64, i64)>> {
        let name = self.growth.name();
        match self.reach {
            Reach::Samples => Ok(None),
            _ if arguments.iter().any(|argument| argument.is_null(row)) => {
                exec_err!("the window of {name} is NULL: write INTERVAL '5 minutes', or a start and an end")
            }
            Reach::Bucket => {
                Ok(Some((0, width(arguments[0].as_primitive::<IntervalMonthDayNanoType>().value(row), name)?)))
            }
            Reach::Window => {
                let bound = |at: usize| arguments[at].as_primitive::<TimestampNanosecondType>().value(row);
                if bound(0) >= bound(1) {
                    let (start, end) = (Timestamp::from_nanos(bound(0)), Timestamp::from_nanos(bound(1)));
                    return exec_err!(
                        "the window of {name} ends at {end}, not after its start {start}: write the start first"
                    );
                }
                Ok(Some((bound(0), bound(1))))
            }
        }
    }

    fn add(&mut self, time: i64, value: f64) {
        if let (Reach::Window, Some((start, end))) = (self.reach, self.bounds)
            && !(start..=end).contains(&time)
        {
            return;
        }
        self.samples.push((time, value));
    }

    /// By time, each time once.
    fn sort(&mut self) -> Result<()> {
        if !self.samples.is_sorted_by(|a, b| a.0 < b.0) {
            self.samples.sort_by_key(|sample| sample.0);
            self.samples.dedup_by(|a, b| a.0 == b.0 && a.1.to_bits() == b.1.to_bits());
        }
        if let Some(pair) = self.samples.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (time, name) = (Timestamp::from_nanos(pair[0].0), self.growth.name());
            return exec_err!(
                "{name} of several series at once: there are two values for {time}; group by every label of the series"
            );
        }
        Ok(())
    }

    fn window(&self) -> Result<Option<(i64, i64)>> {
        let (Some((_, width)), Reach::Bucket) = (self.bounds, self.reach) else { return Ok(self.bounds) };
        let (Some(&(first, _)), Some(&(last, _))) = (self.samples.first(), self.samples.last()) else {
            return Ok(None);
        };
        let start = first - first.rem_euclid(width);
        let end = start.saturating_add(width);
        if last >= end {
            let (name, length) = (self.growth.name(), std::time::Duration::from_nanos(width.unsigned_abs()));
            let length = humantime::format_duration(length);
            return exec_err!(
                "{name} over buckets of {length}: the samples from {} to {} are in more than one; group by \
                 date_bin(INTERVAL '{length}', time)",
                Timestamp::from_nanos(first),
                Timestamp::from_nanos(last)
            );
        }
        Ok(Some((start, end)))
    }
}

/// Nanoseconds of an interval.
pub(super) fn width(interval: IntervalMonthDayNano, name: &str) -> Result<i64> {
    const DAY: i64 = 86_400_000_000_000;
    if interval.months != 0 {
        return exec_err!("months differ in length: give {name} an interval of days, hours, minutes or seconds");
    }
    let nanos = i64::from(interval.days).checked_mul(DAY).and_then(|days| days.checked_add(interval.nanoseconds));
    match nanos {
        Some(nanos) if nanos > 0 => Ok(nanos),
        _ => exec_err!("the interval of {name} is not above zero: write INTERVAL '5 minutes'"),
    }
}

impl Accumulator for Grown {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let times = arguments[0].as_primitive::<TimestampNanosecondType>();
        let values = arguments[1].as_primitive::<Float64Type>();
        for row in 0..times.len() {
            if times.is_null(row) || values.is_null(row) {
                continue;
            }
            if let Some(bounds) = self.bounds_of(&arguments[2..], row)? {
                self.bound(bounds)?;
            }
            self.add(times.value(row), values.value(row));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.sort()?;
        Ok(ScalarValue::Float64(self.growth.of(&self.samples, self.window()?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.samples.capacity() * size_of::<(i64, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(self.samples.iter().map(|sample| sample.0)));
        let values: ArrayRef = Arc::new(Float64Array::from_iter_values(self.samples.iter().map(|sample| sample.1)));
        let list = |array| SingleRowListArrayBuilder::new(array).build_list_scalar();
        let bound = |of: fn((i64, i64)) -> i64| ScalarValue::Int64(self.bounds.map(of));
        Ok(vec![list(times), list(values), bound(|bounds| bounds.0), bound(|bounds| bounds.1)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (times, values) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        let (from, to) = (states[2].as_primitive::<Int64Type>(), states[3].as_primitive::<Int64Type>());
        for row in 0..times.len() {
            if from.is_valid(row) && to.is_valid(row) {
                self.bound((from.value(row), to.value(row)))?;
            }
            if times.is_null(row) || values.is_null(row) {
                continue;
            }
            let (times, values) = (times.value(row), values.value(row));
            let (times, values) = (times.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>());
            self.samples.extend(times.values().iter().copied().zip(values.values().iter().copied()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
