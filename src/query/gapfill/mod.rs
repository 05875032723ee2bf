//! `gapfill(width, time)`: buckets of time of which none is missing, and `locf(…)` and `interpolate(…)` for what they lack.
//!
//! It stands where `time_bucket` would, in the `SELECT` and the `GROUP BY` of a statement; after the rows are grouped, a row is
//! put in for every bucket that a group lacks.
//!
//! ```sql
//! -- From the first bucket of the WHERE to the last; an aggregate is NULL where there was nothing.
//! SELECT gapfill(INTERVAL '1 minute', time) AS t, host, avg(value) FROM cpu_usage_user
//! WHERE time >= now() - INTERVAL '1 hour' AND time < now() GROUP BY t, host ORDER BY host, t;
//! -- What was last, and a straight line to what comes next.
//! SELECT gapfill(INTERVAL '1 minute', time) AS t, locf(avg(value)), interpolate(avg(value)) FROM cpu_usage_user
//! WHERE time >= now() - INTERVAL '1 hour' AND time < now() GROUP BY t;
//! -- The bounds said, the second left out.
//! SELECT gapfill(INTERVAL '1 day', time, TIMESTAMP '2026-01-01', TIMESTAMP '2026-02-01') AS t, count(*) FROM cpu_usage_user GROUP BY t;
//! ```
//!
//! Where neither `WHERE` nor the call says where time begins or ends, a group goes from its own first bucket or to its own
//! last. A group has at least one row: of nothing, no bucket is made. `HAVING` chooses among the buckets as they are filled.
//! `interpolate` gives nothing before the first value of a group and after its last, `locf` nothing before the first.

mod exec;
mod node;
mod rule;

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

pub(super) use node::GapFillPlanner;
pub(super) use rule::FillGaps;

/// What stands for a bucket that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
enum Fill {
    /// Last observation carried forward.
    Locf,
    Interpolate,
}

impl Fill {
    fn name(self) -> &'static str {
        match self {
            Fill::Locf => "locf",
            Fill::Interpolate => "interpolate",
        }
    }

    fn of_name(name: &str) -> Option<Fill> {
        [Fill::Locf, Fill::Interpolate].into_iter().find(|fill| fill.name() == name)
    }
}

const GAPFILL: &str = "gapfill";

/// All of them, as statements call them.
pub(super) fn functions() -> [ScalarUDF; 3] {
    let bucket = GapFillFunction { signature: Signature::user_defined(Volatility::Immutable) };
    let filled = |fill| FillFunction { fill, signature: Signature::user_defined(Volatility::Immutable) };
    [
        ScalarUDF::from(bucket).with_aliases(["time_bucket_gapfill", "date_bin_gapfill"]),
        ScalarUDF::from(filled(Fill::Locf)),
        ScalarUDF::from(filled(Fill::Interpolate)),
    ]
}

/// `gapfill`, until the rule puts what it means in its place.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GapFillFunction {
    signature: Signature,
}

impl ScalarUDFImpl for GapFillFunction {
    fn name(&self) -> &'static str {
        GAPFILL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
        let is_width = |of: &DataType| matches!(of, DataType::Interval(_) | DataType::Duration(_)) || is_text(of);
        let is_time = |of: &DataType| matches!(of, DataType::Timestamp(..) | DataType::Date32 | DataType::Null);
        let fits = match given {
            [width, time] => is_width(width) && is_time(time),
            [width, time, bounds @ ..] if bounds.len() == 2 => {
                is_width(width) && is_time(time) && bounds.iter().all(|bound| is_time(bound) || is_text(bound))
            }
            _ => false,
        };
        if !fits {
            return plan_err!("write {GAPFILL}(INTERVAL '1 minute', time), or with a start and an end behind");
        }
        let zone = if let DataType::Timestamp(_, zone) = &given[1] { zone.clone() } else { None };
        let time = DataType::Timestamp(TimeUnit::Nanosecond, zone);
        let mut taken = vec![DataType::Interval(IntervalUnit::MonthDayNano)];
        taken.resize(given.len(), time);
        Ok(taken)
    }

    fn return_type(&self, taken: &[DataType]) -> Result<DataType> {
        Ok(taken[1].clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{}", misplaced(GAPFILL))
    }
}

/// `locf` and `interpolate`, until the rule puts a column in their place.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FillFunction {
    fill: Fill,
    signature: Signature,
}

impl ScalarUDFImpl for FillFunction {
    fn name(&self) -> &'static str {
        self.fill.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match (self.fill, given) {
            (Fill::Locf, [of]) => Ok(vec![of.clone()]),
            (Fill::Interpolate, [of]) if of.is_numeric() || of.is_null() => Ok(vec![DataType::Float64]),
            (Fill::Interpolate, [of]) => plan_err!("interpolate takes a number, not {of}"),
            _ => plan_err!("{0} takes one aggregate, as in {0}(avg(value))", self.name()),
        }
    }

    fn return_type(&self, taken: &[DataType]) -> Result<DataType> {
        Ok(taken[0].clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{}", misplaced(self.name()))
    }
}

/// What is told of a call where it means nothing.
fn misplaced(name: &str) -> String {
    match Fill::of_name(name) {
        Some(_) => {
            format!(
                "{name} stands around an aggregate, in a statement that groups by gapfill(INTERVAL '1 minute', time)"
            )
        }
        None => format!("{name} stands in GROUP BY, or in SELECT where GROUP BY names it: write time_bucket elsewhere"),
    }
}

/// What a filled column is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd)]
struct Filled {
    fill: Fill,
    /// Which column of the groups.
    of: usize,
    name: String,
}

/// Which columns of the groups are what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd)]
struct Shape {
    /// Columns of `GROUP BY`; they come first.
    groups: usize,
    /// Which of these is the bucket.
    bucket: usize,
    /// Columns that are handed on; those behind them are filled.
    kept: usize,
    filled: Vec<Filled>,
}

type SharedShape = Arc<Shape>;

#[cfg(test)]
mod tests;
