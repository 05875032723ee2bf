//! The table function `changepoints('metric' [, 'step' [, 'labels']])`: when the level of a series became another.
//!
//! ```sql
//! SELECT series, time, before, after, effect FROM changepoints('http_latency_seconds') ORDER BY time;
//! SELECT * FROM changepoints('cpu_%', '1h', 'host=a') WHERE abs(effect) > 0.1;
//! ```
//! A series is put on a grid of that step first (without it, the smallest usual one that makes at most 2,016 of its history and is no
//! finer than the series), each the mean of its samples; a counter by its rates. `time` is where the new level begins, `before` and
//! `after` are medians of the stretches to both sides, `effect` is the change as a share of `before`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::made::MadeTable;
use super::picked::{Picked, judged_values, text};
use super::samples::time_type;
use crate::model::{SeriesId, Span};
use crate::stats::{ChangePoint, ChangePointOptions, change_points, ladder_step, native_step, to_grid};
use crate::store::Snapshot;

/// Steps of a history, at most where nobody says, and at most of all.
const STEPS: usize = 2016;
const STEPS_MAX: i64 = 100_000;
const CALL: &str = "write changepoints('metric'), changepoints('metric', '1h') or with labels behind, as in changepoints('metric', '1h', 'host=a')";

/// The function.
pub(super) struct ChangepointsFunction(pub Snapshot);

impl std::fmt::Debug for ChangepointsFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChangepointsFunction")
    }
}

impl TableFunctionImpl for ChangepointsFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(metric), 1..=3) = (exprs.first().and_then(text), exprs.len()) else {
            return plan_err!("{CALL}");
        };
        let step = match exprs.get(1).map(text) {
            None => None,
            Some(said) => match said.as_deref().map(humantime::parse_duration) {
                Some(Ok(length)) if !length.is_zero() => Some(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)),
                _ => return plan_err!("the step is no length of time: {CALL}"),
            },
        };
        let (picked, snapshot) = (Picked::of(metric, exprs.get(2))?, self.0.clone());
        Ok(MadeTable::shared(schema(), move |out| {
            for series in picked.series(&snapshot)? {
                if !out.take(rows(&snapshot, series, step)?) {
                    break;
                }
            }
            Ok(())
        }))
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![text("series"), text("metric"), Field::new("time", time_type(), false)];
    fields.extend(["before", "after", "effect", "p_value"].map(|name| Field::new(name, DataType::Float64, false)));
    Arc::new(Schema::new(fields))
}

fn rows(snapshot: &Snapshot, series: SeriesId, step: Option<i64>) -> Result<RecordBatch> {
    let samples = judged_values(snapshot, series, Span::ALL)?;
    let times: Vec<i64> = samples.iter().map(|sample| sample.time.nanos()).collect();
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let length = times.last().zip(times.first()).map_or(0, |(last, first)| last - first);
    let usual = || ladder_step(native_step(&times).unwrap_or(0), length, STEPS);
    let step = step.unwrap_or_else(usual).max(length / STEPS_MAX).max(1);
    let (start, grid) = to_grid(&times, &values, step);
    let found = change_points(&grid, &ChangePointOptions::default());
    let def = snapshot.registry().def(series);
    let texts = |text: String| -> ArrayRef { Arc::new(StringArray::from(vec![text; found.len()])) };
    let number =
        |of: fn(&ChangePoint) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(found.iter().map(of))) };
    let time = |point: &ChangePoint| start + point.row as i64 * step;
    let columns: Vec<ArrayRef> = vec![
        texts(def.to_string()),
        texts(def.metric.to_string()),
        Arc::new(TimestampNanosecondArray::from_iter_values(found.iter().map(time)).with_timezone("UTC")),
        number(|point| point.before),
        number(|point| point.after),
        number(|point| point.effect),
        number(|point| point.p_value),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, examples};
    use crate::world::Chance;

    #[test]
    fn a_new_level_is_told_where_it_begins() {
        let (bench, chance) = (Bench::new(), Chance::seeded(3));
        let samples: Vec<(i64, f64)> = (0..600)
            .map(|minute| {
                let level = if minute < 400 { 100.0 } else { 120.0 };
                (minute * 60, level + chance.below(1000) as f64 / 200.0)
            })
            .collect();
        bench.put("http_latency_seconds", &[("host", "a")], &samples);
        bench.put("http_latency_seconds", &[("host", "b")], &samples[..300]);
        let statements = examples(include_str!("changepoints.rs"));
        assert_eq!(statements.len(), 2, "{statements:?}");
        let found = bench.rows(&statements[0]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(r#"http_latency_seconds{host="a"} 24000 10"#), "{found:?}");
        bench.ask(&statements[1]).unwrap();
        let error = bench.ask("SELECT * FROM changepoints('http_latency_seconds', 'x')").unwrap_err();
        assert!(error.contains("no length of time"), "{error}");
    }
}
