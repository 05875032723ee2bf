//! What the truth is, asked in SQL.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use plimsoll::query::{Engine, OtherTables, QueryLimits};
use plimsoll::world::Clock;

use super::truth::same;
use super::workload::Run;

const MEMORY: usize = 256 << 20;

/// The count, smallest and largest value of every series; and the samples of one in a span.
pub fn check(run: &Run) -> Result<(), String> {
    let seen = run.truth.lock().unwrap().seen(run.bed.oldest());
    if seen.is_empty() {
        return Ok(());
    }
    let mut wanted: BTreeMap<u32, (i64, u64, u64)> = BTreeMap::new();
    for (&(series, _), &bits) in &seen {
        let value = f64::from_bits(bits);
        let entry = wanted.entry(series).or_insert((0, bits, bits));
        let (least, most) = (f64::from_bits(entry.1).min(value), f64::from_bits(entry.2).max(value));
        *entry = (entry.0 + 1, least.to_bits(), most.to_bits());
    }
    let mut found = BTreeMap::new();
    for rows in ask(run, "SELECT CAST(n AS BIGINT), count(*), min(value), max(value) FROM metrics GROUP BY n")? {
        let (series, counts) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Int64Type>());
        let values = |column: usize, row: usize| rows.column(column).as_primitive::<Float64Type>().value(row).to_bits();
        for row in 0..rows.num_rows() {
            found.insert(series.value(row) as u32, (counts.value(row), values(2, row), values(3, row)));
        }
    }
    same(&found, &wanted).map_err(|told| format!("by SQL: {told}"))?;

    let keys: Vec<(u32, i64)> = seen.keys().copied().collect();
    let (series, from) = keys[run.load.chance.below(keys.len() as u64) as usize];
    let to = from + run.load.chance.below((run.bed.clock.now().nanos() - from).max(1) as u64) as i64;
    let wanted: BTreeMap<i64, u64> =
        seen.range((series, from)..(series, to)).map(|(key, &bits)| (key.1, bits)).collect();
    let mut found = BTreeMap::new();
    let of_span = format!(
        "SELECT time, value FROM m{} WHERE n = '{series}' AND time >= to_timestamp_nanos({from}) AND time < to_timestamp_nanos({to})",
        series % 3
    );
    for rows in ask(run, &of_span)? {
        let times = cast(rows.column(0), &DataType::Int64).map_err(|error| error.to_string())?;
        let (times, values) = (times.as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Float64Type>());
        for row in 0..rows.num_rows() {
            if found.insert(times.value(row), values.value(row).to_bits()).is_some() {
                return Err(format!("{of_span}: {} twice", times.value(row)));
            }
        }
    }
    same(&found, &wanted).map_err(|told| format!("{of_span}: {told}"))
}

fn ask(run: &Run, statement: &str) -> Result<Vec<RecordBatch>, String> {
    let failed = |error: plimsoll::query::QueryError| format!("{statement}: {error}");
    let engine =
        Engine::new(run.store().clone(), OtherTables::default(), MEMORY, QueryLimits::default()).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let answer = runtime.map_err(|error| error.to_string())?.block_on(engine.collect(statement));
    answer.map(|(_, rows)| rows).map_err(failed)
}
