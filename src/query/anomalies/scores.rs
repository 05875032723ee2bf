//! The table function `anomaly_scores('metric' [, 'method' [, 'labels']])`: every value of history with its judgement.
//!
//! ```sql
//! SELECT time, value, expected, lower, upper, score FROM anomaly_scores('cpu_usage_user') WHERE anomaly ORDER BY time;
//! SELECT series, max(score) FROM anomaly_scores('cpu_%', 'seasonal', 'host=a') GROUP BY series;
//! ```
//! A score is of what came before alone, so all of a series is read whatever `WHERE` asks; a counter is judged by its rate.
//! `anomaly` is true from the score on from which the stage would find it. The first values have no score: too little is known.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::method;
use crate::model::{Sample, SeriesId, Span};
use crate::query::made::MadeTable;
use crate::query::picked::{Picked, judged_values, text};
use crate::query::samples::{BATCH_ROWS, time_type};
use crate::stats::detect::{Detector, Judged, Method, Z_WINDOW};
use crate::store::Snapshot;

/// The function.
pub(in crate::query) struct ScoresFunction(pub Snapshot);

impl std::fmt::Debug for ScoresFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScoresFunction")
    }
}

impl TableFunctionImpl for ScoresFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(metric), 1..=3) = (exprs.first().and_then(text), exprs.len()) else {
            return plan_err!(
                "write anomaly_scores('metric'), anomaly_scores('metric', 'method') or with labels behind, as in 'host=a'"
            );
        };
        let method = exprs.get(1).map_or(Ok(Method::Auto), method)?;
        let (picked, snapshot) = (Picked::of(metric, exprs.get(2))?, self.0.clone());
        Ok(MadeTable::shared(schema(), move |out| {
            for series in picked.series(&snapshot)? {
                let mut detector = Detector::new(method, Z_WINDOW);
                for samples in judged_values(&snapshot, series, Span::ALL)?.chunks(BATCH_ROWS) {
                    if !out.take(rows(&snapshot, series, samples, &mut detector, method.threshold())?) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        }))
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = vec![text("series"), text("metric"), Field::new("time", time_type(), false)];
    fields.extend(["value", "expected", "lower", "upper", "score"].map(number));
    fields.push(Field::new("anomaly", DataType::Boolean, false));
    Arc::new(Schema::new(fields))
}

fn rows(
    snapshot: &Snapshot,
    series: SeriesId,
    samples: &[Sample],
    detector: &mut Detector,
    threshold: f64,
) -> Result<RecordBatch> {
    let def = snapshot.registry().def(series);
    let judged: Vec<Option<Judged>> =
        samples.iter().map(|sample| detector.push(sample.time.nanos(), sample.value)).collect();
    let text = |text: String| -> ArrayRef { Arc::new(StringArray::from(vec![text; samples.len()])) };
    let times = TimestampNanosecondArray::from_iter_values(samples.iter().map(|sample| sample.time.nanos()));
    let values = Float64Array::from_iter_values(samples.iter().map(|sample| sample.value));
    let number = |of: fn(&Judged) -> f64| -> ArrayRef {
        Arc::new(judged.iter().map(|judged| judged.as_ref().map(of)).collect::<Float64Array>())
    };
    let is_anomalous = |judged: &Option<Judged>| judged.is_some_and(|judged| judged.score.abs() >= threshold);
    let columns: Vec<ArrayRef> = vec![
        text(def.to_string()),
        text(def.metric.to_string()),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(values),
        number(|judged| judged.expected),
        number(|judged| judged.bounds().0),
        number(|judged| judged.bounds().1),
        number(|judged| judged.score),
        Arc::new(BooleanArray::from_iter(judged.iter().map(|judged| Some(is_anomalous(judged))))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
