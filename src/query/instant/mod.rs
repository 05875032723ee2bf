//! The table function `instant('metric', at [, lookback])`: what each series of a metric was worth at one moment.
//!
//! A row a series, with its labels, and time and value of its last sample at or before `at`. There is none for a series whose
//! last sample is `lookback` old or older (five minutes without it), nor for one that ended after that sample: what
//! Prometheus calls an instant vector.
//!
//! ```sql
//! SELECT instance, value FROM instant('up', now());
//! SELECT * FROM instant('http_requests_total', TIMESTAMP '2026-01-31T12:00:00', INTERVAL '1 minute');
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::dimension::Dimension;
use super::growth::width;
use super::moment::Moment;
use super::picked::text;
use super::samples::{SamplesTable, time_type};
use crate::model::Timestamp;
use crate::store::Snapshot;

/// How old a sample may be where nobody says.
const LOOKBACK: i64 = 300_000_000_000;
/// How the function is called.
const CALL: &str =
    "write instant('metric', TIMESTAMP '2026-01-31T12:00:00') or instant('metric', now(), INTERVAL '1 minute')";

/// The function.
pub(super) struct InstantFunction {
    snapshot: Snapshot,
}

impl std::fmt::Debug for InstantFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstantFunction")
    }
}

impl InstantFunction {
    pub fn new(snapshot: Snapshot) -> Self {
        InstantFunction { snapshot }
    }
}

impl TableFunctionImpl for InstantFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(metric), Some(at), 2 | 3) = (exprs.first().and_then(text), exprs.get(1).and_then(time), exprs.len())
        else {
            return plan_err!("{CALL}");
        };
        let lookback = match exprs.get(2) {
            None => LOOKBACK,
            Some(expr) => length(expr)?,
        };
        let dimension = Dimension::new(self.snapshot.registry().clone(), self.snapshot.series_count());
        if !dimension.has_metric(&metric) {
            return plan_err!("there is no metric `{metric}`: `SELECT metric FROM system.metrics` lists them");
        }
        let moment = Moment::new(&self.snapshot, Timestamp::from_nanos(at), lookback)?;
        let table = SamplesTable::new(self.snapshot.clone(), Arc::new(dimension), Some(&metric)).at(moment);
        Ok(Arc::new(table))
    }
}

/// A moment in nanoseconds.
fn time(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    let is_time = matches!(value.data_type(), DataType::Timestamp(..) | DataType::Utf8 | DataType::Utf8View);
    match value.cast_to(&time_type()).ok()? {
        ScalarValue::TimestampNanosecond(nanos, _) if is_time => nanos,
        _ => None,
    }
}

fn length(expr: &Expr) -> Result<i64> {
    let cast = match expr {
        Expr::Literal(value, _) => value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)).ok(),
        _ => None,
    };
    match cast {
        Some(ScalarValue::IntervalMonthDayNano(Some(interval))) => width(interval, "instant"),
        _ => plan_err!("the lookback is no INTERVAL: {CALL}"),
    }
}

#[cfg(test)]
mod tests;
