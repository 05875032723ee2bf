//! The table function `resample('metric', 'step' [, 'labels' [, from [, to]]])`: series on a regular grid.
//!
//! ```sql
//! SELECT series, time, value FROM resample('cpu_usage_user', '5m', 'host=a') ORDER BY time;
//! SELECT time, avg(value) FROM resample('disk_%', '', '', '2026-01-31T12:00:00Z', now()) GROUP BY time ORDER BY time;
//! ```
//! Each row is the mean of a step, at its beginning, of a counter the mean of its rates of increase a second; a step without a sample is no row.
//! An empty step is the smallest usual one that is not below a series' own spacing and makes at most 26,000 rows of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::made::MadeTable;
use super::picked::{Picked, judged_values, moment, text};
use super::samples::time_type;
use crate::model::{SeriesId, Span, Timestamp};
use crate::stats::{ladder_step, native_step, to_grid};
use crate::store::Snapshot;

/// Rows of a series where nobody says a step: 90 days of five minutes.
const ROWS: usize = 26_000;
/// Steps of a series, at most: a grid of them is in memory at once.
const STEPS_MAX: i64 = 10_000_000;
const CALL: &str =
    "write resample('metric', '5m'), or with labels and bounds behind, as in 'host=a', '2026-01-31T12:00:00Z', now()";

/// The function.
pub(super) struct ResampleFunction(pub Snapshot);

impl std::fmt::Debug for ResampleFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResampleFunction")
    }
}

impl TableFunctionImpl for ResampleFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(metric), Some(step), 2..=5) =
            (exprs.first().and_then(text), exprs.get(1).and_then(text), exprs.len())
        else {
            return plan_err!("{CALL}");
        };
        let step = match step.as_str() {
            "" => None,
            step => match humantime::parse_duration(step) {
                Ok(step) if !step.is_zero() => Some(i64::try_from(step.as_nanos()).unwrap_or(i64::MAX)),
                _ => return plan_err!("the step '{step}' is no length of time: {CALL}"),
            },
        };
        let bound = |at: usize, usual: Timestamp| match exprs.get(at).map(moment) {
            None => Ok(usual),
            Some(Some(bound)) => Ok(bound),
            Some(None) => plan_err!("a bound is no moment: {CALL}"),
        };
        let span = Span::new(bound(3, Timestamp::MIN)?, bound(4, Timestamp::MAX)?);
        let (picked, snapshot) = (Picked::of(metric, exprs.get(2))?, self.0.clone());
        Ok(MadeTable::shared(schema(), move |out| {
            for series in picked.series(&snapshot)? {
                let rows = rows(&snapshot, series, span, step)?;
                if rows.is_some_and(|rows| !out.take(rows)) || out.is_gone() {
                    break;
                }
            }
            Ok(())
        }))
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let value = Field::new("value", DataType::Float64, false);
    Arc::new(Schema::new(vec![text("series"), text("metric"), Field::new("time", time_type(), false), value]))
}

fn rows(snapshot: &Snapshot, series: SeriesId, span: Span, step: Option<i64>) -> Result<Option<RecordBatch>> {
    let samples = judged_values(snapshot, series, span)?;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(None) };
    let length = last.time.nanos().saturating_sub(first.time.nanos());
    let (times, values): (Vec<i64>, Vec<f64>) =
        samples.iter().map(|sample| (sample.time.nanos(), sample.value)).unzip();
    let step = step.unwrap_or_else(|| ladder_step(native_step(&times).unwrap_or(1), length, ROWS));
    if length / step > STEPS_MAX {
        return plan_err!("there are more than ten million of such steps: {CALL}");
    }
    let (start, means) = to_grid(&times, &values, step);
    let (times, means): (Vec<i64>, Vec<f64>) =
        (0..).map(|at: i64| start + at * step).zip(means).filter(|(_, mean)| mean.is_finite()).unzip();
    let def = snapshot.registry().def(series);
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; times.len()])) };
    let columns = vec![
        text(&def.to_string()),
        text(&def.metric),
        Arc::new(TimestampNanosecondArray::from(times.clone()).with_timezone("UTC")),
        Arc::new(Float64Array::from(means)),
    ];
    Ok(Some(RecordBatch::try_new(schema(), columns)?))
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, examples};

    #[test]
    fn a_step_is_the_mean_of_its_samples() {
        let bench = Bench::new();
        bench.put("cpu_usage_user", &[("host", "a")], &[(0, 1.0), (100, 3.0), (300, 5.0), (1000, 7.0)]);
        bench.put("cpu_usage_user", &[("host", "b")], &[(0, 9.0)]);
        bench.put("disk_used", &[], &[(0, 2.0), (60, 4.0)]);
        let statements = examples(include_str!("resample.rs"));
        assert_eq!(statements.len(), 2, "{statements:?}");
        let name = r#"cpu_usage_user{host="a"}"#;
        let wanted = ["0 2", "300 5", "900 7"].map(|row| format!("{name} {row}"));
        assert_eq!(bench.rows(&statements[0]), wanted);
        assert_eq!(bench.rows(&statements[1]), ["0 2", "60 4"]);
        for (arguments, told) in [
            ("'cpu_usage_user'", "write resample"),
            ("'cpu_usage_user', 'x'", "no length of time"),
            ("'cpu_usage_user', '1m', '', 'x'", "no moment"),
            ("'cpu_usage_user', '1ns'", "more than ten million"),
            ("'none', '1m'", "there is no metric"),
        ] {
            let error = bench.ask(&format!("SELECT * FROM resample({arguments})")).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }
}
