//! Table functions over forecasts: `forecast('metric', '30d')` and `capacity_eta('metric', 80.0, '30d')`.
//!
//! ```sql
//! SELECT series, time, mean, lo, hi, model FROM forecast('cpu_usage_user', '6h', 'host=a') ORDER BY series, step;
//! SELECT series, now, p10, p50, p90 FROM capacity_eta('disk_%', 90, '30d') WHERE p50 IS NOT NULL ORDER BY p50;
//! SELECT f.time, f.mean, m.value FROM forecast('cpu_usage_user', '1h', '', '2026-01-31T12:00:00Z') AS f JOIN cpu_usage_user AS m USING (time);
//! ```
//! A metric with `%` in it stands for all that are like it. Behind the horizon may stand labels that the series have
//! (`'host=a,region=eu'`; an empty text is all), and a moment: then only what was before it is known. `p10`, `p50` and `p90` are when the limit
//! is met first with that probability, NULL where it is less probable up to the horizon.

mod accuracy;
mod ahead;
mod issue;

pub(super) use accuracy::accuracy;
pub use ahead::Ahead;
pub use issue::{ForecastRequest, Progress};

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::made::MadeTable;
use super::picked::{Picked, moment, text};
use super::samples::time_type;
use crate::model::Timestamp;
use crate::stats::{Direction, time_to_limit};
use crate::store::Snapshot;
use ahead::Made;
use issue::{TOGETHER, together};

/// One of the two functions.
pub(super) struct ForecastFunction {
    snapshot: Snapshot,
    wants: Wants,
}

#[derive(Clone, Copy)]
enum Wants {
    Steps,
    Eta,
}

impl std::fmt::Debug for ForecastFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForecastFunction")
    }
}

impl ForecastFunction {
    pub fn forecast(snapshot: Snapshot) -> Self {
        ForecastFunction { snapshot, wants: Wants::Steps }
    }

    pub fn capacity_eta(snapshot: Snapshot) -> Self {
        ForecastFunction { snapshot, wants: Wants::Eta }
    }
}

#[derive(Clone)]
struct Request {
    picked: Picked,
    ahead: Ahead,
}

impl TableFunctionImpl for ForecastFunction {
    fn call_with_args(&self, args: datafusion::catalog::TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (wants, snapshot) = (self.wants, self.snapshot.clone());
        let (request, limit) = match wants {
            Wants::Steps => (request(args.exprs())?, f64::NAN),
            Wants::Eta => {
                let mut exprs = args.exprs().to_vec();
                let Some(limit) = exprs.get(1).and_then(number) else {
                    return plan_err!(
                        "write capacity_eta('metric', limit, 'horizon'), as in capacity_eta('disk_used_percent', 90, '30d')"
                    );
                };
                exprs.remove(1);
                (request(&exprs)?, limit)
            }
        };
        Ok(MadeTable::shared(schema(wants), move |out| {
            let series = request.picked.series(&snapshot)?;
            for some in series.chunks(TOGETHER) {
                for (id, made) in together(&request.ahead, &snapshot, some)? {
                    let def = snapshot.registry().def(id);
                    let told = (def.to_string(), def.metric.to_string());
                    let batch = match wants {
                        Wants::Steps => step_rows(&told, &made)?,
                        Wants::Eta => eta_row(&told, &made, limit)?,
                    };
                    if !out.take(batch) {
                        return Ok(());
                    }
                }
                if out.is_gone() {
                    break;
                }
            }
            Ok(())
        }))
    }
}

fn request(exprs: &[Expr]) -> Result<Request> {
    let (Some(metric), ..=4) = (exprs.first().and_then(text), exprs.len()) else {
        return plan_err!("write forecast('metric', 'horizon'), as in forecast('cpu_usage_user', '6h')");
    };
    let horizon = match exprs.get(1).map(text) {
        None => "1d".to_owned(),
        Some(Some(horizon)) => horizon,
        Some(None) => return plan_err!("the horizon is a text like '6h' or '30d'"),
    };
    let mut ahead = match humantime::parse_duration(&horizon) {
        Ok(length) => Ahead::new(length)?,
        Err(error) => return plan_err!("the horizon '{horizon}' is no length of time ({error}): write '6h' or '30d'"),
    };
    if let Some(at) = exprs.get(3) {
        ahead.as_of = moment(at);
        if ahead.as_of.is_none() {
            return plan_err!("what it is forecast from is a moment like '2026-01-31T12:00:00Z'");
        }
    }
    Ok(Request { picked: Picked::of(metric, exprs.get(2))?, ahead })
}

fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(number) => number,
            _ => None,
        },
        Expr::Negative(inner) => number(inner).map(|number| -number),
        _ => None,
    }
}

fn schema(wants: Wants) -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = vec![Field::new("series", DataType::Utf8, false), Field::new("metric", DataType::Utf8, false)];
    match wants {
        Wants::Steps => {
            fields.push(Field::new("step", DataType::UInt64, false));
            fields.push(Field::new("time", time_type(), false));
            fields.extend(["mean", "lo", "hi"].map(number));
        }
        Wants::Eta => {
            fields.push(number("now"));
            fields.push(number("limit"));
            fields.extend(["p10", "p50", "p90"].map(|name| Field::new(name, time_type(), true)));
        }
    }
    fields.push(Field::new("model", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

fn step_rows((series, metric): &(String, String), made: &Made) -> Result<RecordBatch> {
    let (forecast, step) = (&made.forecast, made.step);
    let count = forecast.mean.len();
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
    let numbers = |numbers: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(numbers.to_vec())) };
    let times = TimestampNanosecondArray::from_iter_values((0..count as i64).map(|at| made.first + at * step));
    Ok(RecordBatch::try_new(
        schema(Wants::Steps),
        vec![
            text(series),
            text(metric),
            Arc::new(UInt64Array::from_iter_values(1..=count as u64)),
            Arc::new(times.with_timezone("UTC")),
            numbers(&forecast.mean),
            numbers(&forecast.lower),
            numbers(&forecast.upper),
            text(forecast.model),
        ],
    )?)
}

fn eta_row((series, metric): &(String, String), made: &Made, limit: f64) -> Result<RecordBatch> {
    let direction = if made.now <= limit { Direction::Above } else { Direction::Below };
    let eta = time_to_limit(&made.forecast, limit, direction);
    let time = |at: Option<usize>| -> ArrayRef {
        let time = at.map(|at| Timestamp::from_nanos(made.first).plus(at as i64 * made.step).nanos());
        Arc::new(TimestampNanosecondArray::from(vec![time]).with_timezone("UTC"))
    };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let number = |number: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![number])) };
    Ok(RecordBatch::try_new(
        schema(Wants::Eta),
        vec![
            text(series),
            text(metric),
            number(made.now),
            number(limit),
            time(eta.p10),
            time(eta.p50),
            time(eta.p90),
            text(made.forecast.model),
        ],
    )?)
}
