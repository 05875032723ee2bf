//! The table `forecast_accuracy`: forecasts that were issued, as far as their time has come, held against what came.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::error::Result;

use crate::model::{Issued, SeriesId, Span, Table, Timestamp, forecasts_of};
use crate::query::made::MadeTable;
use crate::query::picked::judged_values;
use crate::query::samples::{BATCH_ROWS, time_type};
use crate::query::stream::of_store;
use crate::stats::ledger::{Accuracy, Came, accuracy as by_lead, score};
use crate::store::Snapshot;

/// The table: a row for each forecast and lead that something came of.
pub(in crate::query) fn accuracy(snapshot: Snapshot) -> Arc<dyn TableProvider> {
    MadeTable::shared(schema(), move |out| {
        let (mut told, mut of_series): (Vec<Told>, Vec<Issued>) = (Vec::new(), Vec::new());
        for part in snapshot.row_parts(Table::Forecasts).map_err(of_store)? {
            for issued in forecasts_of(&part.map_err(of_store)?) {
                match of_series.last_mut() {
                    // It goes on from the part before.
                    Some(last)
                        if (last.series, last.issued, &last.job) == (issued.series, issued.issued, &issued.job) =>
                    {
                        last.steps.extend(issued.steps);
                        continue;
                    }
                    Some(last) if last.series != issued.series => {
                        told.extend(scored(&snapshot, &std::mem::take(&mut of_series))?);
                    }
                    _ => {}
                }
                of_series.push(issued);
            }
            let is_full = told.len() >= BATCH_ROWS;
            if out.is_gone() || is_full && !out.take(rows(&snapshot, &std::mem::take(&mut told))?) {
                return Ok(());
            }
        }
        told.extend(scored(&snapshot, &of_series)?);
        out.take(rows(&snapshot, &told)?);
        Ok(())
    })
}

/// What became of a forecast at one lead.
struct Told {
    series: SeriesId,
    issued: Timestamp,
    job: Arc<str>,
    /// Steps it has, and of those that have come the ones without a sample.
    of: usize,
    gaps: usize,
    accuracy: Accuracy,
}

/// Of forecasts of one series: its samples are read once.
fn scored(snapshot: &Snapshot, forecasts: &[Issued]) -> Result<Vec<Told>> {
    let Some(first) = forecasts.first() else { return Ok(Vec::new()) };
    let Some((_, last)) = snapshot.time_range(first.series) else { return Ok(Vec::new()) };
    let begins = forecasts.iter().filter_map(|issued| issued.steps.first()).map(|step| step.time).min();
    let Some(begins) = begins.filter(|begins| *begins <= last) else { return Ok(Vec::new()) };
    let samples = judged_values(snapshot, first.series, Span::new(begins, Timestamp::MAX))?;
    let samples: Vec<(Timestamp, f64)> = samples.iter().map(|sample| (sample.time, sample.value)).collect();
    let came = Came { samples: &samples, until: last.plus(1) };
    let mut told = Vec::new();
    for issued in forecasts {
        let score = score(issued, came);
        let (of, gaps) = (score.of, score.gaps);
        told.extend(by_lead(&[score]).into_iter().map(|accuracy| Told {
            series: issued.series,
            issued: issued.issued,
            job: issued.job.clone(),
            of,
            gaps,
            accuracy,
        }));
    }
    Ok(told)
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let count = |name: &str| Field::new(name, DataType::UInt64, false);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = ["metric", "series", "job", "model"].map(text).to_vec();
    fields.push(Field::new("issued", time_type(), false));
    fields.push(text("lead"));
    fields.extend(["steps", "gaps", "of"].map(count));
    fields.extend(["mae", "bias", "mase", "smape", "coverage", "level"].map(number));
    Arc::new(Schema::new(fields))
}

fn rows(snapshot: &Snapshot, told: &[Told]) -> Result<RecordBatch> {
    let registry = snapshot.registry();
    let text =
        |of: &dyn Fn(&Told) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(told.iter().map(of))) };
    let count = |of: fn(&Told) -> usize| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(told.iter().map(|told| of(told) as u64)))
    };
    let number = |of: fn(&Accuracy) -> Option<f64>| -> ArrayRef {
        Arc::new(told.iter().map(|told| of(&told.accuracy)).collect::<Float64Array>())
    };
    let issued = TimestampNanosecondArray::from_iter_values(told.iter().map(|told| told.issued.nanos()));
    let columns: Vec<ArrayRef> = vec![
        text(&|told| registry.metric(told.series)),
        text(&|told| registry.def(told.series).to_string()),
        text(&|told| told.job.to_string()),
        text(&|told| told.accuracy.model.to_string()),
        Arc::new(issued.with_timezone("UTC")),
        text(&|told| lead(told.accuracy.lead)),
        count(|told| told.accuracy.steps),
        count(|told| told.gaps),
        count(|told| told.of),
        number(|accuracy| Some(accuracy.mae)),
        number(|accuracy| Some(accuracy.bias)),
        number(|accuracy| accuracy.mase),
        number(|accuracy| Some(accuracy.smape)),
        number(|accuracy| Some(accuracy.coverage)),
        number(|accuracy| Some(accuracy.level)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// As in `1h`; `later` beyond the last.
fn lead(lead: Duration) -> String {
    if lead == Duration::MAX { "later".to_owned() } else { humantime::format_duration(lead).to_string() }
}
