//! The table function `correlate_window(from, to [, 'step' [, 'metric' [, 'label']]])`: which series moved together in a window of
//! history, and which came first.
//!
//! ```sql
//! SELECT series_a, series_b, lag, strength, p_value FROM correlate_window(now() - INTERVAL '2 days', now());
//! SELECT * FROM correlate_window('2026-01-29T00:00:00Z', '2026-01-31T00:00:00Z', '5m', 'http_%', 'service');
//! SELECT * FROM correlate_window(now() - INTERVAL '2 days', now(), '', 'cpu_%');
//! ```
//! Series are put on a grid of that step (without it, the smallest usual one that makes at most 1,024 of the window and is no finer
//! than the series), from seven days before the window on, since the time of day is taken off each. The window has to have 100
//! steps; two or three days of five minutes are best. With a label, only pairs that differ in it count: those of
//! different services. An empty text asks for what is usual. At most 5,000 series are compared. `lag` is how many seconds b follows a; `p_value` is of one of all pairs at any lag, and none above 0.01 is told.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;

use super::made::MadeTable;
use super::picked::{Picked, judged_values, moment, text};
use super::stream::Reader;
use crate::model::{SeriesId, Span, Timestamp};
use crate::stats::couple::{CoupleOptions, Coupled, Window, couples_where};
use crate::stats::{ladder_step, to_grid};
use crate::store::Snapshot;

/// Steps of a window, at most where nobody says, and at least.
const STEPS: usize = 1024;
const STEPS_MIN: i64 = 100;
const DAY: i64 = 86_400_000_000_000;
/// Days before the window from which the time of day is learned.
const DAYS: i64 = 7;
/// Most series compared at once: 12.5 million pairs, some ten seconds of two cores.
const SERIES_MAX: usize = 5000;
/// Cells of all grids together: eight bytes each.
const CELLS: usize = 1 << 25;
const CALL: &str = "write correlate_window('2026-01-29T00:00:00Z', '2026-01-31T00:00:00Z'), with a step ('5m'), metrics ('cpu_%') \
                    and a label that a pair has to differ in ('host') behind";

/// The function.
pub(super) struct CorrelateWindowFunction(pub Snapshot);

impl std::fmt::Debug for CorrelateWindowFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CorrelateWindowFunction")
    }
}

impl TableFunctionImpl for CorrelateWindowFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(from), Some(to), 2..=5) =
            (exprs.first().and_then(moment), exprs.get(1).and_then(moment), exprs.len())
        else {
            return plan_err!("{CALL}");
        };
        if from >= to {
            return plan_err!("the window ends at {to}, before it begins: {CALL}");
        }
        let texts = exprs[2..].iter().map(text).collect::<Option<Vec<String>>>();
        let Some(texts) = texts else { return plan_err!("{CALL}") };
        // An empty text asks for what is usual.
        let mut texts = texts.into_iter().map(|text| (!text.is_empty()).then_some(text));
        let mut next = || texts.next().flatten();
        let step = match next().map(|step| humantime::parse_duration(&step)) {
            None => None,
            Some(Ok(step)) if !step.is_zero() => Some(i64::try_from(step.as_nanos()).unwrap_or(i64::MAX)),
            Some(_) => return plan_err!("the step is no length of time: {CALL}"),
        };
        let picked = Picked::of(next().unwrap_or_else(|| "%".to_owned()), None)?;
        let asked = Asked { from, to, step, picked, differing: next() };
        let snapshot = self.0.clone();
        Ok(MadeTable::shared(schema(), move |out| {
            let grids = asked.grids(&snapshot, out)?;
            if !out.is_gone() {
                out.take(grids.rows(&snapshot, asked.differing.as_deref())?);
            }
            Ok(())
        }))
    }
}

struct Asked {
    from: Timestamp,
    to: Timestamp,
    /// Nanoseconds.
    step: Option<i64>,
    picked: Picked,
    /// A label whose texts have to differ.
    differing: Option<String>,
}

/// Series on one grid, the window last.
struct Grids {
    series: Vec<SeriesId>,
    values: Vec<Vec<f64>>,
    step: i64,
    /// Steps of the window.
    window: usize,
}

impl Asked {
    fn grids(&self, snapshot: &Snapshot, out: &dyn Reader) -> Result<Grids> {
        let mut series = self.picked.series(snapshot)?;
        let touches = |(first, last)| Span::new(self.from, self.to).touches(first, last);
        series.retain(|&id| snapshot.time_range(id).is_some_and(touches));
        if series.len() > SERIES_MAX {
            return exec_err!(
                "{} series are too many to compare each with each (at most {SERIES_MAX}): name fewer metrics, as in 'cpu_%'",
                series.len()
            );
        }
        let length = self.to.nanos() - self.from.nanos();
        let step = self.step.unwrap_or_else(|| ladder_step(usual_step(snapshot, &series), length, STEPS));
        let window = length / step;
        if window < STEPS_MIN {
            return exec_err!(
                "the window has {window} steps of {}: a hundred are needed to tell what goes together; ask for a longer one, \
                 or a shorter step, as in '1m'",
                humantime::format_duration(std::time::Duration::from_nanos(step.unsigned_abs()))
            );
        }
        // Whole steps that end with the window.
        let end = self.to.nanos().div_euclid(step) * step;
        let steps = window + DAYS * DAY / step;
        let start = end - steps * step;
        self.check_history(snapshot, &series, start)?;
        if series.len().saturating_mul(steps as usize) > CELLS {
            return exec_err!(
                "{} series of {steps} steps are too many to compare at once: name fewer metrics, or a longer step",
                series.len()
            );
        }
        let span = Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end));
        let (mut values, mut kept) = (Vec::new(), Vec::new());
        for id in series {
            if out.is_gone() {
                break;
            }
            let samples = judged_values(snapshot, id, span)?;
            let times: Vec<i64> = samples.iter().map(|sample| sample.time.nanos()).collect();
            let (first, means) =
                to_grid(&times, &samples.iter().map(|sample| sample.value).collect::<Vec<f64>>(), step);
            let mut row = vec![f64::NAN; steps as usize];
            let at = ((first - start) / step).max(0) as usize;
            row.iter_mut().skip(at).zip(means).for_each(|(cell, mean)| *cell = mean);
            kept.push(id);
            values.push(row);
        }
        Ok(Grids { series: kept, values, step, window: window as usize })
    }

    /// Without the time of day nothing can be told from what all series do every day.
    fn check_history(&self, snapshot: &Snapshot, series: &[SeriesId], start: i64) -> Result<()> {
        let first = series.iter().filter_map(|&id| snapshot.time_range(id)).map(|(first, _)| first.nanos()).min();
        let Some(first) = first else { return Ok(()) };
        let first = first.max(start);
        if self.from.nanos() - first < DAY && self.to.nanos() - first < 3 * DAY {
            return exec_err!(
                "history begins {} before the window: a day is needed to know what every day is like (or three that end with it); \
                 the table correlations has what pipelines found in shorter windows",
                humantime::format_duration(std::time::Duration::from_secs(
                    ((self.from.nanos() - first).max(0) / 1_000_000_000).unsigned_abs()
                ))
            );
        }
        Ok(())
    }
}

/// The median of what lies between the samples of some series, from what is known without reading.
fn usual_step(snapshot: &Snapshot, series: &[SeriesId]) -> i64 {
    let step = |&id: &SeriesId| {
        let (first, last) = snapshot.time_range(id)?;
        let count = i64::try_from(snapshot.count(id)?).ok()?;
        (count > 1).then(|| (last.nanos() - first.nanos()) / (count - 1))
    };
    let mut steps: Vec<i64> = series.iter().filter_map(step).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied().unwrap_or(0)
}

impl Grids {
    fn rows(&self, snapshot: &Snapshot, differing: Option<&str>) -> Result<RecordBatch> {
        let registry = snapshot.registry();
        let label = |id: &SeriesId| {
            let def = registry.def(*id);
            differing.and_then(|name| def.labels.get(name).map(str::to_owned))
        };
        let labels: Vec<Option<String>> = self.series.iter().map(label).collect();
        let window = Window {
            values: self.values.iter().map(Vec::as_slice).collect(),
            window: self.window,
            day: usize::try_from(DAY / self.step).unwrap_or(1).max(1),
        };
        let is_allowed = |a: usize, b: usize| differing.is_none() || labels[a] != labels[b];
        let found = couples_where(&window, &CoupleOptions::default(), is_allowed);
        batch_of(&found, self.step as f64 / 1e9, |at| {
            let id = self.series[at];
            (registry.def(id).to_string(), registry.metric(id))
        })
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Float64, false);
    let mut fields: Vec<Field> = ["series_a", "metric_a", "series_b", "metric_b"].map(text).to_vec();
    fields.extend(["lag", "pearson", "spearman", "strength", "p_value"].map(number));
    fields.push(Field::new("points", DataType::UInt32, false));
    Arc::new(Schema::new(fields))
}

/// `name` gives a series and its metric.
fn batch_of(found: &[Coupled], step: f64, name: impl Fn(usize) -> (String, String)) -> Result<RecordBatch> {
    let names: Vec<[(String, String); 2]> = found.iter().map(|pair| [name(pair.a), name(pair.b)]).collect();
    let text = |of: fn(&[(String, String); 2]) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(names.iter().map(of)))
    };
    let number =
        |of: &dyn Fn(&Coupled) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(found.iter().map(of))) };
    let columns: Vec<ArrayRef> = vec![
        text(|names| &names[0].0),
        text(|names| &names[0].1),
        text(|names| &names[1].0),
        text(|names| &names[1].1),
        number(&|pair| f64::from(pair.lag) * step),
        number(&|pair| pair.pearson),
        number(&|pair| pair.spearman),
        number(&|pair| pair.strength),
        number(&|pair| pair.p_value),
        Arc::new(UInt32Array::from_iter_values(found.iter().map(|pair| pair.points))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, NOON, S, examples};
    use crate::world::Chance;

    #[test]
    fn what_follows_is_told_with_its_lag() {
        let (bench, chance) = (Bench::new(), Chance::seeded(3));
        let minutes = 4 * 24 * 12;
        let noise: Vec<f64> = (0..minutes + 4).map(|_| chance.below(1000) as f64).collect();
        let wave = |at: i64| ((at % 288) as f64 / 288.0 * std::f64::consts::TAU).sin() * 2000.0;
        let series = |lag: i64, own: &dyn Fn() -> f64| -> Vec<(i64, f64)> {
            (0..minutes).map(|at| (at * 300, wave(at) + noise[(at + 4 - lag) as usize] + own())).collect()
        };
        let own = || chance.below(300) as f64;
        bench.put("load", &[("host", "a")], &series(0, &own));
        bench.put("load", &[("host", "b")], &series(3, &own));
        let alone: Vec<(i64, f64)> = (0..minutes).map(|at| (at * 300, wave(at) + chance.below(1000) as f64)).collect();
        bench.put("load", &[("host", "c")], &alone);
        let time = |second: i64| crate::model::Timestamp::from_nanos(NOON + second * S).to_string();
        let (from, to) = (time((minutes - 576) * 300), time(minutes * 300));
        let found = bench.rows(&format!(
            "SELECT series_a, series_b, lag, strength > 0.5, p_value < 0.001 FROM correlate_window('{from}', '{to}', '5m', '%', 'host')"
        ));
        assert_eq!(found, [r#"load{host="a"} load{host="b"} 900 true true"#]);
        let statements = examples(include_str!("correlate_window.rs"));
        assert_eq!(statements.len(), 3, "{statements:?}");
        for (arguments, told) in [
            (format!("'{from}'"), "write correlate_window"),
            (format!("'{to}', '{from}'"), "before it begins"),
            (format!("'{from}', '{to}', '1d'"), "the window has 2 steps of 1day"),
            (format!("'{}', '{}', '1m'", time(0), time(12 * 3600)), "history begins 0s before the window"),
        ] {
            let error = bench.ask(&format!("SELECT * FROM correlate_window({arguments})")).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }
}
