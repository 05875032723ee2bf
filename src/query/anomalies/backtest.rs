//! The table function `backtest_detector('metric', 'incidents' [, 'labels'])`: what each method would have found of incidents
//! that there were, at several thresholds.
//!
//! ```sql
//! SELECT method, threshold, precision, recall, f1, false_a_day
//! FROM backtest_detector('cpu_%', '2026-01-03T10:00:00Z/2026-01-03T10:30:00Z, 2026-01-09T04:00:00Z/2026-01-09T05:15:00Z')
//! ORDER BY f1 DESC;
//! ```
//! An episode is right if it overlaps an incident, an incident is found if an episode of any series overlaps it. `false_a_day` counts
//! episodes that are not right, a series and day. Every method is run over all of each series, as the stage would be.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::Result;

use crate::model::{Sample, Span, Timestamp};
use crate::query::made::MadeTable;
use crate::query::picked::{Picked, judged_values, text};
use crate::stats::detect::{Detector, Episode, Episodes, Method, Z_WINDOW};
use crate::store::Snapshot;

/// Thresholds, as multiples of what is usual for the method, the lowest first.
const THRESHOLDS: [f64; 5] = [0.75, 0.9, 1.0, 1.25, 1.5];
const DAY: f64 = 86_400e9;
const CALL: &str = "write backtest_detector('metric', 'start/end, start/end'), as in \
                    '2026-01-03T10:00:00Z/2026-01-03T10:30:00Z', or with labels behind, as in 'host=a'";

/// The function.
pub(in crate::query) struct BacktestFunction(pub Snapshot);

impl std::fmt::Debug for BacktestFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BacktestFunction")
    }
}

impl TableFunctionImpl for BacktestFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs();
        let (Some(metric), Some(incidents), 2 | 3) =
            (exprs.first().and_then(text), exprs.get(1).and_then(text), exprs.len())
        else {
            return plan_err!("{CALL}");
        };
        let incidents = parse(&incidents)?;
        let (picked, snapshot) = (Picked::of(metric, exprs.get(2))?, self.0.clone());
        Ok(MadeTable::shared(schema(), move |out| {
            let mut tallies = all_tallies(incidents.len());
            for series in picked.series(&snapshot)? {
                let samples = judged_values(&snapshot, series, Span::ALL)?;
                for of_method in tallies.chunks_mut(THRESHOLDS.len()) {
                    if out.is_gone() {
                        return Ok(());
                    }
                    run(of_method, &samples, &incidents);
                }
            }
            out.take(rows(&tallies)?);
            Ok(())
        }))
    }
}

/// Start and end in nanoseconds, both within.
type Incident = (i64, i64);

fn parse(text: &str) -> Result<Vec<Incident>> {
    let moment = |text: &str| {
        Timestamp::parse(text.trim()).map(Timestamp::nanos).map_err(|error| plan_datafusion_err!("{error}: {CALL}"))
    };
    let incident = |part: &str| {
        let Some((start, end)) = part.split_once('/') else { return plan_err!("`{part}` is no start/end: {CALL}") };
        let (start, end) = (moment(start)?, moment(end)?);
        if start > end { plan_err!("`{part}` ends before it starts: {CALL}") } else { Ok((start, end)) }
    };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let incidents = parts.map(incident).collect::<Result<Vec<_>>>()?;
    if incidents.is_empty() { plan_err!("there is no incident: {CALL}") } else { Ok(incidents) }
}

/// What one method found at one threshold.
struct Tally {
    method: Method,
    threshold: f64,
    right: u64,
    wrong: u64,
    /// By incident, whether it was found.
    found: Vec<bool>,
    /// Series times days.
    days: f64,
}

fn all_tallies(incidents: usize) -> Vec<Tally> {
    let of_method = |method: Method| {
        THRESHOLDS.map(|share| Tally {
            method,
            threshold: share * method.threshold(),
            right: 0,
            wrong: 0,
            found: vec![false; incidents],
            days: 0.0,
        })
    };
    Method::ALL.into_iter().flat_map(of_method).collect()
}

/// Runs a method over a series, once for all thresholds: its scores are the same whatever they are held against.
fn run(tallies: &mut [Tally], samples: &[Sample], incidents: &[Incident]) {
    let (method, lowest) = (tallies[0].method, tallies[0].threshold);
    let mut detector = Detector::new(method, Z_WINDOW);
    let mut episodes = vec![Episodes::default(); tallies.len()];
    for sample in samples {
        let time = sample.time.nanos();
        let judged = detector.push_over(time, sample.value, lowest);
        for (tally, episodes) in tallies.iter_mut().zip(&mut episodes) {
            let anomalous = judged.filter(|judged| judged.score.abs() >= tally.threshold);
            if anomalous.is_some() || episodes.running.is_some() {
                let heard = episodes.push(time, sample.value, anomalous, detector.calm());
                heard.over.iter().for_each(|episode| tally.count(episode, incidents));
            }
        }
    }
    let days = samples.first().zip(samples.last()).map(|(first, last)| last.time.nanos() - first.time.nanos());
    for (tally, episodes) in tallies.iter_mut().zip(&episodes) {
        episodes.running.iter().for_each(|episode| tally.count(episode, incidents));
        tally.days += days.map_or(0.0, |days| days as f64 / DAY);
    }
}

impl Tally {
    fn count(&mut self, episode: &Episode, incidents: &[Incident]) {
        let mut is_right = false;
        for (found, (start, end)) in self.found.iter_mut().zip(incidents) {
            let touches = episode.start <= *end && episode.end >= *start;
            *found |= touches;
            is_right |= touches;
        }
        *(if is_right { &mut self.right } else { &mut self.wrong }) += 1;
    }

    fn precision(&self) -> Option<f64> {
        (self.right + self.wrong > 0).then(|| self.right as f64 / (self.right + self.wrong) as f64)
    }

    fn recall(&self) -> f64 {
        self.found.iter().filter(|found| **found).count() as f64 / self.found.len() as f64
    }

    fn f1(&self) -> f64 {
        let (precision, recall) = (self.precision().unwrap_or(0.0), self.recall());
        if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
    }
}

fn schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let count = |name: &str| Field::new(name, DataType::UInt64, false);
    let mut fields = vec![Field::new("method", DataType::Utf8, false), number("threshold")];
    fields.extend(["episodes", "right", "wrong"].map(count));
    fields.extend(["precision", "recall", "f1", "false_a_day"].map(number));
    Arc::new(Schema::new(fields))
}

fn rows(tallies: &[Tally]) -> Result<RecordBatch> {
    let count = |of: fn(&Tally) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(tallies.iter().map(of))) };
    let number =
        |of: fn(&Tally) -> Option<f64>| -> ArrayRef { Arc::new(tallies.iter().map(of).collect::<Float64Array>()) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(tallies.iter().map(|tally| tally.method.name()))),
        number(|tally| Some(tally.threshold)),
        count(|tally| tally.right + tally.wrong),
        count(|tally| tally.right),
        count(|tally| tally.wrong),
        number(Tally::precision),
        number(|tally| Some(tally.recall())),
        number(|tally| Some(tally.f1())),
        number(|tally| (tally.days > 0.0).then(|| tally.wrong as f64 / tally.days)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
