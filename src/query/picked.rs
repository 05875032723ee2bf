//! Which series a table function is about: a metric, or all that are like one with `%` in it, and labels that they have.

use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::stream::of_store;
use crate::catalog::{Key, SeriesSet};
use crate::model::{Kind, Sample, SeriesId, Span, Timestamp};
use crate::store::Snapshot;

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Picked {
    metric: String,
    labels: Vec<(String, String)>,
}

impl Picked {
    /// Of arguments as they are written: `'cpu_%'` and, perhaps, `'host=a,region=eu'`.
    pub fn of(metric: String, labels: Option<&Expr>) -> Result<Picked> {
        match labels.map(text) {
            None => Picked::new(metric, None),
            Some(Some(labels)) => Picked::new(metric, Some(&labels)),
            Some(None) => plan_err!("the labels are a text like 'host=a,region=eu'"),
        }
    }

    /// The same of texts.
    pub fn new(metric: String, labels: Option<&str>) -> Result<Picked> {
        let labels = labels.map_or_else(|| Ok(Vec::new()), parse_labels)?;
        Ok(Picked { metric, labels })
    }

    /// # Errors
    /// A metric without `%` that there is not.
    pub fn series(&self, snapshot: &Snapshot) -> Result<Vec<SeriesId>> {
        let registry = snapshot.registry();
        let pattern = self.metric.contains('%');
        let metrics: Vec<u32> = if pattern {
            let all = registry.all_values(Key::Metric);
            all.filter(|(_, metric)| like(metric, &self.metric)).map(|(number, _)| number).collect()
        } else {
            registry.value(Key::Metric, &self.metric).into_iter().collect()
        };
        if metrics.is_empty() && !pattern {
            return Err(DataFusionError::Execution(format!(
                "there is no metric `{}`: `SELECT metric FROM system.metrics` lists them",
                self.metric
            )));
        }
        let having = |key: Key<'_>, numbers: &[u32]| {
            let mut set = SeriesSet::none(snapshot.series_count());
            registry.select(key, numbers, &mut set);
            set
        };
        let mut wanted = having(Key::Metric, &metrics);
        for (name, value) in &self.labels {
            let number = registry.value(Key::Label(name), value);
            wanted.and(&having(Key::Label(name), number.as_slice()));
        }
        Ok(wanted.iter().collect())
    }
}

fn parse_labels(text: &str) -> Result<Vec<(String, String)>> {
    let pair = |part: &str| match part.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => plan_err!("`{part}` is not name=value: write 'host=a,region=eu'"),
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// What is judged of a series in a span: its values, of a counter its rates of increase. A counter that falls began again from
/// zero.
pub(super) fn judged_values(snapshot: &Snapshot, series: SeriesId, span: Span) -> Result<Vec<Sample>> {
    let Some(run) = snapshot.scan(vec![series], span).next() else { return Ok(Vec::new()) };
    let mut samples = run.map_err(of_store)?.samples;
    if snapshot.registry().kind(series) == Kind::Counter {
        let mut before = None;
        samples = samples.into_iter().filter_map(|sample| rate(before.replace(sample)?, sample)).collect();
    }
    Ok(samples)
}

fn rate(before: Sample, sample: Sample) -> Option<Sample> {
    let seconds = (sample.time.nanos() - before.time.nanos()) as f64 / 1e9;
    let increase = if sample.value < before.value { sample.value } else { sample.value - before.value };
    (seconds > 0.0).then_some(Sample { time: sample.time, value: increase / seconds })
}

/// SQL's LIKE, with `%` alone.
pub(super) fn like(text: &str, pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once('%') else { return text == pattern };
    let Some(rest) = text.strip_prefix(before) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| like(&rest[at..], after))
}

/// A text that is written out.
pub(super) fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

/// A moment that is written out, as a text or a time.
pub(super) fn moment(expr: &Expr) -> Option<Timestamp> {
    if let Some(text) = text(expr) {
        return Timestamp::parse(&text).ok();
    }
    let Expr::Literal(value, _) = expr else { return None };
    if !matches!(value.data_type(), arrow::datatypes::DataType::Timestamp(..)) {
        return None;
    }
    match value.cast_to(&super::samples::time_type()).ok()? {
        ScalarValue::TimestampNanosecond(nanos, _) => nanos.map(Timestamp::from_nanos),
        _ => None,
    }
}
