//! The table function `seasonality('metric' [, 'labels'])`: what repeats in a series, and how much of it that is.
//!
//! ```sql
//! SELECT series, period, share FROM seasonality('cpu_usage_user') ORDER BY share DESC;
//! SELECT * FROM seasonality('http_%', 'host=a');
//! ```
//! A series is looked at on two grids: a fine one of its latest 2,016 steps, which knows minutes and hours, and a coarse one of all
//! of it, which knows days and weeks. A period counts if each of its cycles is foretold by the others; `share` is how much
//! of the variance about its moving mean that takes away. A series in which nothing repeats has no row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::made::MadeTable;
use super::picked::{Picked, judged_values, text};
use crate::model::{SeriesId, Span};
use crate::stats::{Season, bridge, ladder_step, native_step, seasons_of, to_grid};
use crate::store::Snapshot;

/// Steps of a grid.
const STEPS: usize = 2016;
const DAY: i64 = 86_400_000_000_000;
const SECOND: f64 = 1e9;
/// Periods of two grids that differ by no more than this share are one.
const SAME: f64 = 0.1;

/// The function.
pub(super) struct SeasonalityFunction(pub Snapshot);

impl std::fmt::Debug for SeasonalityFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeasonalityFunction")
    }
}

impl TableFunctionImpl for SeasonalityFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(metric), 1 | 2) = (exprs.first().and_then(text), exprs.len()) else {
            return plan_err!("write seasonality('metric'), or with labels behind, as in 'host=a'");
        };
        let (picked, snapshot) = (Picked::of(metric, exprs.get(1))?, self.0.clone());
        Ok(MadeTable::shared(schema(), move |out| {
            for series in picked.series(&snapshot)? {
                if !out.take(rows(&snapshot, series)?) {
                    break;
                }
            }
            Ok(())
        }))
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Float64, false);
    let cycles = Field::new("cycles", DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        text("series"),
        text("metric"),
        text("period"),
        number("seconds"),
        number("share"),
        cycles,
    ]))
}

fn rows(snapshot: &Snapshot, series: SeriesId) -> Result<RecordBatch> {
    let samples = judged_values(snapshot, series, Span::ALL)?;
    let times: Vec<i64> = samples.iter().map(|sample| sample.time.nanos()).collect();
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let found = repeating(&times, &values);
    let def = snapshot.registry().def(series);
    let texts = |text: String| -> ArrayRef { Arc::new(StringArray::from(vec![text; found.len()])) };
    let length = |nanos: i64| {
        let whole = std::time::Duration::from_secs((nanos / 1_000_000_000).unsigned_abs());
        humantime::format_duration(whole).to_string()
    };
    let columns: Vec<ArrayRef> = vec![
        texts(def.to_string()),
        texts(def.metric.to_string()),
        Arc::new(StringArray::from_iter_values(found.iter().map(|(nanos, _)| length(*nanos)))),
        Arc::new(Float64Array::from_iter_values(found.iter().map(|(nanos, _)| *nanos as f64 / SECOND))),
        Arc::new(Float64Array::from_iter_values(found.iter().map(|(_, season)| season.share))),
        Arc::new(UInt64Array::from_iter_values(found.iter().map(|(_, season)| season.cycles as u64))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Periods in nanoseconds, ascending.
fn repeating(times: &[i64], values: &[f64]) -> Vec<(i64, Season)> {
    let (Some(&first), Some(&last), Some(native)) = (times.first(), times.last(), native_step(times)) else {
        return Vec::new();
    };
    let whole = last - first;
    let fine = ladder_step(native, whole.min(native.saturating_mul(STEPS as i64)), STEPS);
    let coarse = ladder_step(native, whole, STEPS);
    let mut found: Vec<(i64, Season)> = Vec::new();
    let mut steps = vec![fine, coarse];
    steps.dedup();
    for step in steps {
        let begins = times.partition_point(|&time| time < last.saturating_sub(step.saturating_mul(STEPS as i64)));
        let (_, grid) = to_grid(&times[begins..], &values[begins..], step);
        let hints = [DAY / step, 7 * DAY / step].into_iter().filter_map(|steps| usize::try_from(steps).ok());
        let hints: Vec<usize> = hints.filter(|&steps| steps > 1).collect();
        for season in seasons_of(&bridge(&grid), &hints) {
            let period = season.period as i64 * step;
            let is_same = |known: &(i64, Season)| known.0.abs_diff(period) as f64 <= SAME * period as f64;
            if !found.iter().any(is_same) {
                found.push((period, season));
            }
        }
    }
    found.sort_by_key(|(period, _)| *period);
    found
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, examples};
    use crate::world::Chance;

    #[test]
    fn what_repeats_is_told_with_its_period() {
        let (bench, chance) = (Bench::new(), Chance::seeded(3));
        let wave = |second: i64, period: i64| (second as f64 / period as f64 * std::f64::consts::TAU).sin() * 10.0;
        let samples: Vec<(i64, f64)> = (0..10 * 1440)
            .map(|minute| (minute * 60, wave(minute * 60, 86_400) + chance.below(100) as f64 / 50.0))
            .collect();
        bench.put("cpu_usage_user", &[("host", "a")], &samples);
        let noise: Vec<(i64, f64)> = (0..3000).map(|minute| (minute * 60, chance.below(1000) as f64)).collect();
        bench.put("cpu_usage_user", &[("host", "b")], &noise);
        let statements = examples(include_str!("seasonality.rs"));
        assert_eq!(statements.len(), 2, "{statements:?}");
        let found = bench.rows(&statements[0]);
        assert!(found.len() == 1 && found[0].starts_with(r#"cpu_usage_user{host="a"} 1day 0.9"#), "{found:?}");
        bench.ask(&statements[1]).unwrap();
        assert!(bench.ask("SELECT * FROM seasonality()").unwrap_err().contains("write seasonality('metric')"));
    }
}
