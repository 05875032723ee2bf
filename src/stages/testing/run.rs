//! Runs a test: its samples into a store of its own, with the pipeline hung on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

use super::notation::{Value, read_series, read_values};
use super::{InputSpec, TestSpec};
use crate::model::{Batch, Ends, SeriesDef, Table, Timestamp};
use crate::stages::{PipelineSpec, Pipelines};
use crate::store::Store;

/// A store that is thrown away.
pub trait Scratch {
    /// Opens it; what was written since it was made is there. No other may have it open.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self) -> Result<Store, Box<dyn std::error::Error>>;
}

/// Numbers by chance, below the one given, which is over 0.
pub type Chances<'c> = &'c dyn Fn(u64) -> u64;

/// How a test went.
#[derive(Debug)]
pub struct TestRun {
    pub name: String,
    /// What is not as expected, in lines; none where all is.
    pub failures: Vec<String>,
}

/// Something that comes in.
struct Incoming {
    series: usize,
    time: Timestamp,
    /// `None` where the series ends.
    value: Option<f64>,
}

/// Runs a test twice, in stores of their own: as its samples come, and in batches by chance with a stop in the midst of them,
/// from which another number of threads goes on. Both must give the rows that are expected.
pub fn run_test(
    pipeline: &PipelineSpec,
    test: &TestSpec,
    chance: Chances<'_>,
    scratch: &dyn Fn() -> std::io::Result<Box<dyn Scratch>>,
) -> TestRun {
    let (series, incoming) = incoming(test);
    let by_time: Vec<usize> = incoming.chunk_by(|a, b| a.time == b.time).map(<[Incoming]>::len).collect();
    let plain = Plan { parts: by_time, stop: None };
    let shards = pipeline.shards;
    let mut parts = Vec::new();
    let mut rest = incoming.len();
    while rest > 0 {
        let most = [1, 10, 1000][chance(3) as usize];
        parts.push((1 + chance(most) as usize).min(rest));
        rest -= parts[parts.len() - 1];
    }
    let stop = (!parts.is_empty()).then(|| {
        let at = chance(parts.len() as u64) as usize;
        Stop { flush: at, end: at + chance(3) as usize, shards: 1 + (shards + chance(3) as usize) % 4 }
    });
    let stopped = Plan { parts, stop };
    let mut failures = Vec::new();
    for (plan, how) in [(plain, "in one go"), (stopped, "stopped in the midst, in other batches and shards")] {
        let found =
            scratch().map_err(Into::into).and_then(|scratch| run(pipeline, test, &plan, &series, &incoming, &*scratch));
        let lines = found.unwrap_or_else(|error| vec![format!("it does not run: {error}")]);
        failures.extend(lines.into_iter().enumerate().flat_map(|(at, line)| {
            let head = (at == 0).then(|| format!("{how}:"));
            head.into_iter().chain([line])
        }));
    }
    TestRun { name: test.name.clone(), failures }
}

/// How samples come in.
struct Plan {
    /// Numbers of samples that come together.
    parts: Vec<usize>,
    stop: Option<Stop>,
}

/// A stop in the midst of it.
#[derive(Clone, Copy)]
struct Stop {
    /// After this part all is written to files.
    flush: usize,
    /// After this one it ends without a word, to be opened again.
    end: usize,
    /// Threads of each stage from then on.
    shards: usize,
}

fn run(
    pipeline: &PipelineSpec,
    test: &TestSpec,
    plan: &Plan,
    series: &[SeriesDef],
    incoming: &[Incoming],
    scratch: &dyn Scratch,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut spec = pipeline.clone();
    let mut store = Arc::new(scratch.open()?);
    let mut pipelines = Pipelines::attach(&store, vec![spec.clone()])?;
    let (mut rest, mut now) = (incoming, test.start());
    for (at, &part) in plan.parts.iter().enumerate() {
        let (some, others) = rest.split_at(part);
        rest = others;
        now = some.iter().map(|one| one.time).fold(now, Timestamp::max);
        store.append(batch(&store, series, some, now))?;
        if plan.stop.is_some_and(|stop| stop.flush == at) {
            store.flush()?;
        }
        if let Some(stop) = plan.stop.filter(|stop| stop.end == at) {
            pipelines.stop();
            drop((pipelines, store));
            spec.shards = stop.shards;
            store = Arc::new(scratch.open()?);
            pipelines = Pipelines::attach(&store, vec![spec.clone()])?;
        }
    }
    store.flush()?;
    pipelines.settle();
    let failed = pipelines.stats().into_iter().find_map(|stage| stage.failure);
    pipelines.stop();
    if let Some(told) = failed {
        return Err(told.into());
    }
    let mut lines = Vec::new();
    for expect in &test.expect {
        let Some(table) = expect.table() else { continue };
        let rows = shown(table, &store.snapshot().rows(table)?)?;
        lines.extend(expect.compare(&store, test.start(), &rows));
    }
    Ok(lines)
}

fn batch(store: &Store, series: &[SeriesDef], some: &[Incoming], now: Timestamp) -> Batch {
    let mut batch = Batch { source: "test".into(), arrived: now, ..Batch::with_capacity(some.len()) };
    let mut ends = Ends::default();
    for one in some {
        let id = store.registry().intern(&series[one.series]);
        match one.value {
            Some(value) => batch.push(id, one.time, value),
            None => ends.push(id, one.time),
        }
    }
    batch.rows.extend(ends.take());
    batch
}

/// The series of a test, and all that comes in, in its order: by time, then what comes late.
fn incoming(test: &TestSpec) -> (Vec<SeriesDef>, Vec<Incoming>) {
    let (mut series, mut in_time, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for (at, input) in test.inputs.iter().enumerate() {
        let (Ok(def), Ok(values)) = (read_series(&input.series), read_values(&input.values)) else { continue };
        let place = series.len();
        series.push(def);
        for (nth, value) in values.into_iter().enumerate() {
            let value = match value {
                Value::None => continue,
                Value::Stale => None,
                Value::Number(number) => Some(number),
            };
            let one = Incoming { series: place, time: time_of(test, input, nth), value };
            if input.late.contains(&nth) { late.push(one) } else { in_time.push((at, one)) }
        }
    }
    in_time.sort_by_key(|(at, one)| (one.time, *at));
    late.sort_by_key(|one| one.time);
    (series, in_time.into_iter().map(|(_, one)| one).chain(late).collect())
}

fn time_of(test: &TestSpec, input: &InputSpec, nth: usize) -> Timestamp {
    let every = input.every.unwrap_or(test.every).nanos();
    let offset = input.offset.map_or(0, super::Length::nanos);
    test.start().plus(offset.saturating_add(every.saturating_mul(nth as i64)))
}

/// Rows but those that say that there is nothing, and points that were a series' last for a while.
fn shown(table: Table, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| rows.column_by_name(name);
    let counts = table.count_column().and_then(column).map(AsArray::as_primitive::<UInt64Type>);
    let series = column("series").and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let times = column("time").and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    let kept = column("kept").and_then(|column| column.as_string_opt::<i32>());
    let mut ends: BTreeMap<u32, i64> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        if let (Some(series), Some(times)) = (series, times) {
            let end = ends.entry(series.value(row)).or_insert(i64::MIN);
            *end = times.value(row).max(*end);
        }
    }
    let is_end = |row: usize| {
        let end = series.zip(times).map(|(series, times)| ends.get(&series.value(row)) == Some(&times.value(row)));
        end.unwrap_or(true)
    };
    let counts = |row: usize| counts.is_none_or(|counts| counts.value(row) > 0);
    let passed = |row: usize| kept.is_some_and(|kept| kept.value(row) == "last") && !is_end(row);
    let chosen: BooleanArray = (0..rows.num_rows()).map(|row| Some(counts(row) && !passed(row))).collect();
    filter_record_batch(rows, &chosen)
}
