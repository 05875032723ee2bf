//! Table functions over forecasts: `forecast('metric', '30d')` and `capacity_eta('metric', 80.0, '30d')`.
//!
//! A series is put on a regular grid first: the smallest usual step (1 s to 1 d) that is not below its own spacing and
//! makes at most 2,016 points of as much history as the horizon needs (four times its length, or 2,016 samples). A metric with `%` in it stands for all that are like it. A third (fourth) argument picks series: `'host=a,region=eu'`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::made::MadeTable;
use super::picked::{Picked, text};
use super::samples::time_type;
use super::stream::of_store;
use crate::model::{Kind, SeriesId, Span, Timestamp};
use crate::stats::{Direction, Forecast, ForecastOptions, forecast, ladder_step, native_step, time_to_limit, to_grid};
use crate::store::Snapshot;

/// Points of history that a forecast learns from.
const HISTORY_POINTS: usize = 2016;
/// Steps a forecast may have.
const STEPS_MAX: i64 = 10_000;
const DAY: i64 = 86_400_000_000_000;

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
    wants: Wants,
    picked: Picked,
    limit: f64,
    horizon: i64,
}

impl TableFunctionImpl for ForecastFunction {
    fn call_with_args(&self, args: datafusion::catalog::TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let request = match self.wants {
            Wants::Steps => request(args.exprs(), self.wants)?,
            Wants::Eta => {
                let exprs = args.exprs();
                let Some(limit) = exprs.get(1).and_then(number) else {
                    return plan_err!(
                        "write capacity_eta('metric', limit, 'horizon'), as in capacity_eta('disk_used_percent', 90, '30d')"
                    );
                };
                let others: Vec<Expr> =
                    exprs.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, e)| e.clone()).collect();
                Request { limit, ..request(&others, self.wants)? }
            }
        };
        let snapshot = self.snapshot.clone();
        Ok(MadeTable::shared(schema(self.wants), move |out| {
            for series in request.picked.series(&snapshot)? {
                if let Some(batch) = rows(&snapshot, &request, series)?
                    && !out.take(batch)
                {
                    break;
                }
            }
            Ok(())
        }))
    }
}

fn request(exprs: &[Expr], wants: Wants) -> Result<Request> {
    let Some(metric) = exprs.first().and_then(text) else {
        return plan_err!("write forecast('metric', 'horizon'), as in forecast('cpu_usage_user', '6h')");
    };
    let horizon = match exprs.get(1).map(text) {
        None => "1d".to_owned(),
        Some(Some(horizon)) => horizon,
        Some(None) => return plan_err!("the horizon is a text like '6h' or '30d'"),
    };
    let length: Duration = match humantime::parse_duration(&horizon) {
        Ok(length) => length,
        Err(error) => return plan_err!("the horizon '{horizon}' is no length of time ({error}): write '6h' or '30d'"),
    };
    let picked = Picked::of(metric, exprs.get(2))?;
    let horizon = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    Ok(Request { wants, picked, limit: f64::NAN, horizon })
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
            fields.extend(["early", "likely", "late"].map(|name| Field::new(name, time_type(), true)));
        }
    }
    fields.push(Field::new("model", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// The forecast of one series as rows; `None` where its history is too short for one.
fn rows(snapshot: &Snapshot, request: &Request, series: SeriesId) -> Result<Option<RecordBatch>> {
    let Some(run) = snapshot.scan(vec![series], Span::ALL).next() else { return Ok(None) };
    let samples = run.map_err(of_store)?.samples;
    let times: Vec<i64> = samples.iter().map(|sample| sample.time.nanos()).collect();
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let Some(native) = native_step(&times) else { return Ok(None) };
    // What lies far ahead is told from far back in wide steps, what is near from the latest at their own.
    let all = times[times.len() - 1] - times[0];
    let near = native.saturating_mul(HISTORY_POINTS as i64).max(request.horizon.saturating_mul(4));
    let step = ladder_step(native, all.min(near), HISTORY_POINTS);
    let steps = (request.horizon / step).clamp(1, STEPS_MAX) as usize;
    let (start, history) = to_grid(&times, &values, step);
    let def = snapshot.registry().def(series);
    let options = ForecastOptions {
        hints: [DAY / step, 7 * DAY / step].into_iter().filter_map(|n| usize::try_from(n).ok()).collect(),
        non_negative: def.kind == Kind::Counter || values.iter().all(|value| *value >= 0.0),
        ..ForecastOptions::default()
    };
    let Ok(made) = forecast(&history, steps, &options) else { return Ok(None) };
    let first = start + history.len() as i64 * step;
    let told = (def.to_string(), def.metric.to_string());
    let batch = match request.wants {
        Wants::Steps => step_rows(&told, &made, first, step)?,
        Wants::Eta => eta_row(&told, &made, first, step, request.limit, values[values.len() - 1])?,
    };
    Ok(Some(batch))
}

fn step_rows(told: &(String, String), made: &Forecast, first: i64, step: i64) -> Result<RecordBatch> {
    let count = made.mean.len();
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
    let numbers = |numbers: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(numbers.to_vec())) };
    let times = TimestampNanosecondArray::from_iter_values((0..count as i64).map(|at| first + at * step));
    Ok(RecordBatch::try_new(
        schema(Wants::Steps),
        vec![
            text(&told.0),
            text(&told.1),
            Arc::new(UInt64Array::from_iter_values(1..=count as u64)),
            Arc::new(times.with_timezone("UTC")),
            numbers(&made.mean),
            numbers(&made.lower),
            numbers(&made.upper),
            text(made.model),
        ],
    )?)
}

fn eta_row(
    told: &(String, String),
    made: &Forecast,
    first: i64,
    step: i64,
    limit: f64,
    now: f64,
) -> Result<RecordBatch> {
    let direction = if now <= limit { Direction::Above } else { Direction::Below };
    let eta = time_to_limit(made, limit, direction);
    let time = |at: Option<usize>| -> ArrayRef {
        let time = at.map(|at| Timestamp::from_nanos(first).plus(at as i64 * step).nanos());
        Arc::new(TimestampNanosecondArray::from(vec![time]).with_timezone("UTC"))
    };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let number = |number: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![number])) };
    Ok(RecordBatch::try_new(
        schema(Wants::Eta),
        vec![
            text(&told.0),
            text(&told.1),
            number(now),
            number(limit),
            time(eta.early),
            time(eta.likely),
            time(eta.late),
            text(made.model),
        ],
    )?)
}
