//! The table function `explain_window(from, to [, 'baseline'])`: every series by how much it changed against its own past.
//!
//! ```sql
//! SELECT rank, series, score, before, after FROM explain_window('2026-01-31T12:00:00Z', '2026-01-31T12:10:00Z') WHERE rank <= 10;
//! SELECT host, max(score) FROM explain_window(now() - INTERVAL '10 minutes', now(), '2h') GROUP BY host ORDER BY 2 DESC;
//! ```
//! The past is what was right before: ten times as long, at least an hour, or as long as the third argument says. A series of fewer
//! than 20 values there, or 2 in the window, is left out; a counter is held by its rates. What was equal is in the order of names,
//! so the same question gives the same ranks.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::dimension::Dimension;
use super::made::MadeTable;
use super::picked::{judged_values, moment, text};
use super::samples::BATCH_ROWS;
use super::stream::Reader;
use crate::model::{SeriesId, Span, Timestamp};
use crate::stats::changed::{Change, rank_changes};
use crate::store::Snapshot;

/// How much longer the past is than the window, and its least length in nanoseconds.
const PAST: i64 = 10;
const PAST_MIN: i64 = 3_600_000_000_000;
const CALL: &str = "write explain_window('2026-01-31T12:00:00Z', '2026-01-31T12:10:00Z'), or with a length of the past behind, as in '1d'";
const COLUMNS: [&str; 6] = ["before", "after", "scale", "shift", "ks", "p_value"];

/// The function.
pub(super) struct ExplainWindowFunction(pub Snapshot);

impl std::fmt::Debug for ExplainWindowFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExplainWindowFunction")
    }
}

impl TableFunctionImpl for ExplainWindowFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(from), Some(to), 2 | 3) =
            (exprs.first().and_then(moment), exprs.get(1).and_then(moment), exprs.len())
        else {
            return plan_err!("{CALL}");
        };
        if from >= to {
            return plan_err!("the window ends at {to}, before it begins: {CALL}");
        }
        let past = match exprs.get(2).map(text) {
            None => (to.nanos().saturating_sub(from.nanos())).saturating_mul(PAST).max(PAST_MIN),
            Some(said) => match said.as_deref().map(humantime::parse_duration) {
                Some(Ok(length)) if !length.is_zero() => i64::try_from(length.as_nanos()).unwrap_or(i64::MAX),
                _ => return plan_err!("the past is no length of time: {CALL}"),
            },
        };
        let window = Window { from, to, past: Timestamp::from_nanos(from.nanos().saturating_sub(past)) };
        let snapshot = self.0.clone();
        let dimension = Dimension::new(snapshot.registry().clone(), snapshot.series_count());
        let schema = schema(&dimension);
        Ok(MadeTable::shared(schema.clone(), move |out| {
            let changes = window.changes(&snapshot, out)?;
            for (at, some) in changes.chunks(BATCH_ROWS).enumerate() {
                if !out.take(rows(&dimension, &schema, at * BATCH_ROWS, some)?) {
                    break;
                }
            }
            Ok(())
        }))
    }
}

/// What is explained, and where the past before it begins.
struct Window {
    from: Timestamp,
    to: Timestamp,
    past: Timestamp,
}

impl Window {
    fn changes(&self, snapshot: &Snapshot, out: &dyn Reader) -> Result<Vec<((String, SeriesId), Change)>> {
        let mut changes = Vec::new();
        for series in (0..snapshot.series_count() as u32).map(SeriesId) {
            if out.is_gone() {
                break;
            }
            let touches = |(first, last)| Span::new(self.from, self.to).touches(first, last);
            if !snapshot.time_range(series).is_some_and(touches) {
                continue;
            }
            let samples = judged_values(snapshot, series, Span::new(self.past, self.to))?;
            let begins = samples.partition_point(|sample| sample.time < self.from);
            let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            if let Some(change) = Change::of(&values[..begins], &values[begins..]) {
                changes.push(((snapshot.registry().def(series).to_string(), series), change));
            }
        }
        rank_changes(&mut changes);
        Ok(changes)
    }
}

fn schema(dimension: &Dimension) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Float64, false);
    let mut fields = vec![Field::new("rank", DataType::UInt64, false), text("series"), text("metric"), number("score")];
    fields.extend(COLUMNS.map(number));
    for label in dimension.label_fields(None) {
        let clashes = fields.iter().any(|field| field.name() == label.name());
        let name = if clashes { format!("label_{}", label.name()) } else { label.name().clone() };
        fields.push(label.with_name(name));
    }
    Arc::new(Schema::new(fields))
}

fn rows(
    dimension: &Dimension,
    schema: &SchemaRef,
    before: usize,
    changes: &[((String, SeriesId), Change)],
) -> Result<RecordBatch> {
    let series: Vec<SeriesId> = changes.iter().map(|((_, series), _)| *series).collect();
    let number = |of: fn(&Change) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(changes.iter().map(|(_, change)| of(change))))
    };
    let metric = |id: &SeriesId| dimension.registry().metric(*id);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values((before + 1..).take(changes.len()).map(|rank| rank as u64))),
        Arc::new(StringArray::from_iter_values(changes.iter().map(|((name, _), _)| name))),
        Arc::new(StringArray::from_iter_values(series.iter().map(metric))),
        number(|change| change.score),
        number(|change| change.before),
        number(|change| change.after),
        number(|change| change.scale),
        number(|change| change.shift),
        number(|change| change.ks),
        number(|change| change.p_value),
    ];
    for label in dimension.label_fields(None) {
        columns.push(dimension.text(label.name(), &series).array()?);
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, examples};

    #[test]
    fn series_stand_in_the_order_of_their_change() {
        let bench = Bench::new();
        let wave =
            |shift: f64| (0..400).map(move |at| (at * 10, (at % 7) as f64 + if at >= 360 { shift } else { 0.0 }));
        for (host, shift) in [("a", 0.0), ("b", 30.0), ("c", -8.0)] {
            bench.put("load", &[("host", host)], &wave(shift).collect::<Vec<_>>());
        }
        bench.put("load", &[("host", "new")], &[(3700, 1.0), (3710, 2.0)]);
        let found = bench.rows(
            "SELECT rank, host, before, after FROM explain_window('2026-01-31T13:00:00Z', '2026-01-31T13:07:00Z') ORDER BY rank",
        );
        assert_eq!(found, ["1 b 3 33", "2 c 3 -5", "3 a 3 3"]);
        let statements = examples(include_str!("explain_window.rs"));
        assert_eq!(statements.len(), 2, "{statements:?}");
        assert_eq!(bench.rows(&statements[0]).len(), 0, "there was no past");
        bench.ask(&statements[1]).unwrap();
        for (arguments, told) in [
            ("'2026-01-31T13:00:00Z'", "write explain_window"),
            ("'2026-01-31T13:00:00Z', '2026-01-31T12:00:00Z'", "before it begins"),
            ("'2026-01-31T13:00:00Z', '2026-01-31T14:00:00Z', 'x'", "no length of time"),
        ] {
            let error = bench.ask(&format!("SELECT * FROM explain_window({arguments})")).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }
}
