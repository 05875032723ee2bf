//! `import`: files into the store, through the same door as everything else.

use std::path::Path;

use anyhow::{Context, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema, TimeUnit, TimestampNanosecondType};
use clap::Args;
use indicatif::ProgressBar;

use super::global::{Global, WrongUsage};
use super::input;
use super::node::{Node, settings};
use crate::flow::Sources;
use crate::ingest::line_protocol::{LineCache, LineOptions, Precision, read_lines};
use crate::ingest::{Compression, CsvMapping, Format, Gather, TimeBounds, read_csv, read_ndjson, read_prometheus};
use crate::model::{SeriesId, Timestamp};
use crate::store::{ParquetInput, Store, StoreError};
use crate::world::RealDisk;

#[derive(Args)]
pub(super) struct ImportArgs {
    /// Files, plain or .gz or .zst; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Format, where the name does not tell it: line-protocol, csv, ndjson, prometheus, parquet
    #[arg(long, value_name = "FORMAT")]
    from: Option<String>,
    /// CSV and Parquet: the column with the time
    #[arg(long, value_name = "COL")]
    time: Option<String>,
    /// CSV: the column with the value
    #[arg(long, value_name = "COL")]
    value: Option<String>,
    /// CSV: name of the metric; without it the column's, or the file's
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// CSV: a label of every series, {column} taking a column's text, {stem} and {parent} the file's and its folder's name
    #[arg(long = "label", value_name = "K=V")]
    labels: Vec<String>,
    /// Line protocol: unit of the times
    #[arg(long, default_value = "ns", value_name = "UNIT")]
    precision: String,
}

/// What came of an import.
#[derive(Default)]
pub(super) struct Imported {
    pub rows: u64,
    pub samples: u64,
    pub refused: u64,
}

pub(super) fn import(global: &Global, args: &ImportArgs) -> anyhow::Result<()> {
    if global.url.is_some() {
        return Err(
            WrongUsage("import writes to a data directory: send files to a server's /write instead".into()).into()
        );
    }
    let plans = args.files.iter().map(|file| plan(file, args)).collect::<anyhow::Result<Vec<_>>>()?;
    let node = Node::open_to_write(&global.data, settings(global)?)?;
    let before = distinct(&node.store)?;
    let bytes = args.files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|meta| meta.len()).sum();
    let bar = input::progress(bytes);
    let mut total = Imported::default();
    for plan in &plans {
        bar.set_message(plan.file.clone());
        let of_file = import_file(&node, plan, &bar).with_context(|| format!("cannot import {}", plan.file))?;
        total.rows += of_file.rows;
        total.samples += of_file.samples;
        total.refused += of_file.refused;
    }
    bar.finish_and_clear();
    let store = node.store.clone();
    store.flush()?;
    while store.compact_step()? {}
    let added = distinct(&store)?.saturating_sub(before);
    eprintln!(
        "{} files: {} rows read, {} samples taken, {added} of them new{}",
        plans.len(),
        total.rows,
        total.samples,
        match (total.samples.saturating_sub(added), total.refused) {
            (0, 0) => String::new(),
            (again, 0) => repeated(again),
            (0, refused) => format!(", {refused} refused"),
            (again, refused) => format!("{}, {refused} refused", repeated(again)),
        }
    );
    drop(store);
    node.close()
}

fn repeated(again: u64) -> String {
    format!(", {again} repeat a series and time (the last value is kept)")
}

/// Samples in the store, each series and time once.
fn distinct(store: &Store) -> anyhow::Result<u64> {
    let snapshot = store.snapshot();
    let mut unknown = Vec::new();
    let mut count = 0;
    for id in (0..snapshot.series_count() as u32).map(SeriesId) {
        match snapshot.count(id) {
            Some(samples) => count += samples,
            None => unknown.push(id),
        }
    }
    for run in snapshot.scan(unknown, crate::model::Span::ALL) {
        count += run?.samples.len() as u64;
    }
    Ok(count)
}

struct Plan {
    file: String,
    format: Format,
    compression: Compression,
    mapping: CsvMapping,
    stem: String,
    precision: Precision,
}

fn plan(file: &str, args: &ImportArgs) -> anyhow::Result<Plan> {
    let by_name = Format::of_path(file);
    let format = match &args.from {
        Some(name) => Format::of_name(name).map_err(|error| WrongUsage(error.to_string()))?,
        None => match by_name {
            Some((format, _)) => format,
            None => {
                return Err(WrongUsage(format!(
                    "the name of {file} does not tell its format: write --from csv or another"
                ))
                .into());
            }
        },
    };
    let mapped = args.metric.is_some() || !args.labels.is_empty() || args.value.is_some() || args.time.is_some();
    if mapped && !matches!(format, Format::Csv | Format::Parquet) {
        let error =
            format!("--time, --value, --metric and --label map the columns of CSV and Parquet: {file} is {format}");
        return Err(WrongUsage(error).into());
    }
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_default()
    };
    let path = Path::new(file);
    let stem = name(Some(path)).split('.').next().unwrap_or_default().to_owned();
    let parent = name(path.parent());
    let label = |pair: &String| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_owned(), value.replace("{stem}", &stem).replace("{parent}", &parent)))
        }
        _ => Err(WrongUsage(format!("--label {pair} is not name=value"))),
    };
    let mapping = CsvMapping {
        time: args.time.clone(),
        value: args.value.clone(),
        metric: args.metric.clone(),
        labels: args.labels.iter().map(label).collect::<Result<_, _>>()?,
    };
    let precision = Precision::of_name(&args.precision)
        .ok_or_else(|| WrongUsage(format!("--precision {} is not known: write ns, us, ms or s", args.precision)))?;
    let compression = by_name.map_or(Compression::None, |(_, compression)| compression);
    Ok(Plan { file: file.to_owned(), format, compression, mapping, stem, precision })
}

fn import_file(node: &Node, plan: &Plan, bar: &ProgressBar) -> anyhow::Result<Imported> {
    let now = node.world.clock.now();
    let retention = node.settings.store.retention();
    let longest = retention.longest_of_samples().length();
    let bounds = TimeBounds::new(now, node.settings.ingest.future_max, longest);
    let intake = node.doors.source("import");
    let mut gather = Gather::new(&*intake, bounds).keeping(retention.into(), now);
    let rows = if plan.format == Format::Parquet {
        let input = ParquetInput::open(&RealDisk, Path::new(&plan.file))?;
        let schema = input.schema.clone();
        let rows = input.rows;
        let bytes = std::fs::metadata(&plan.file).map_or(0, |meta| meta.len());
        let (mut seen, before) = (0, bar.position());
        let counted = input.inspect(|batch| {
            seen += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            bar.set_position(before + (u128::from(bytes) * u128::from(seen) / u128::from(rows.max(1))) as u64);
        });
        read_parquet(counted, &schema, &plan.mapping, &plan.stem, &mut gather)?;
        rows
    } else {
        let mut text = input::open(&plan.file, plan.compression, bar).context("cannot open it")?;
        match plan.format {
            Format::Csv => read_csv(&mut *text, &plan.mapping, &plan.stem, &mut gather)?,
            Format::Ndjson => read_ndjson(&mut *text, &mut gather)?,
            Format::Prometheus => read_prometheus(&mut *text, now, &mut gather)?,
            _ => read_line_protocol(&mut *text, plan.precision, now, &mut gather)?,
        }
    };
    gather.flush()?;
    for fault in &gather.faults.first {
        eprintln!("{}:{}: {}", plan.file, fault.line, fault.error);
    }
    let untold = gather.faults.count.saturating_sub(gather.faults.first.len() as u64);
    if untold > 0 {
        eprintln!("{}: {untold} more lines were refused", plan.file);
    }
    Ok(Imported { rows, samples: gather.accepted(), refused: gather.faults.count })
}

/// Bytes of line protocol read at once.
const CHUNK: usize = 4 << 20;

fn read_line_protocol(
    text: &mut dyn std::io::BufRead,
    precision: Precision,
    now: Timestamp,
    gather: &mut Gather<'_>,
) -> anyhow::Result<u64> {
    use std::io::{BufRead, Read};
    let cache = LineCache::default();
    let (mut lines, mut chunk) = (0, Vec::with_capacity(CHUNK + 4096));
    loop {
        chunk.clear();
        (&mut *text).take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(lines);
        }
        BufRead::read_until(text, b'\n', &mut chunk)?;
        lines += read_lines(&chunk, lines + 1, LineOptions { precision, now }, &cache, gather)?.lines;
    }
}

/// Reads rows of time and value, a `metric` (else the mapping's, else `fallback_metric`), `labels` as JSON or a map, and
/// a column a label.
pub(super) fn read_parquet(
    input: impl Iterator<Item = Result<RecordBatch, StoreError>>,
    schema: &Schema,
    mapping: &CsvMapping,
    fallback_metric: &str,
    gather: &mut Gather<'_>,
) -> anyhow::Result<()> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let has = |name: &str| names.iter().any(|known| known == name);
    let found = ["time", "timestamp", "ts"].into_iter().find(|name| has(name)).unwrap_or("time");
    let columns = Columns {
        time: mapping.time.as_deref().unwrap_or(found),
        value: mapping.value.as_deref().unwrap_or("value"),
        metric: mapping.metric.as_deref().unwrap_or(fallback_metric),
        labels: &mapping.labels,
    };
    for needed in [columns.time, columns.value] {
        if !has(needed) {
            bail!("there is no column `{needed}`: it has {} (--time and --value name them)", names.join(", "));
        }
    }
    let mut row = 0;
    for batch in input {
        let batch = batch?;
        read_batch(&batch, &columns, row, gather)?;
        row += batch.num_rows() as u64;
    }
    Ok(())
}

struct Columns<'c> {
    time: &'c str,
    value: &'c str,
    /// Where there is no column `metric`.
    metric: &'c str,
    labels: &'c [(String, String)],
}

type Pairs = Vec<(String, String)>;

fn read_batch(
    batch: &RecordBatch,
    columns: &Columns<'_>,
    first_row: u64,
    gather: &mut Gather<'_>,
) -> anyhow::Result<()> {
    let stamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("there is no column `{name}`"));
    let times = cast(column(columns.time)?, &stamp)?;
    let times = times.as_primitive::<TimestampNanosecondType>();
    let values = cast(column(columns.value)?, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let metrics = batch.column_by_name("metric").map(|metrics| cast(metrics, &DataType::Utf8)).transpose()?;
    let mut texts = Vec::new();
    let mut nested = None;
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        match field.name().as_str() {
            "metric" => {}
            name if name == columns.time || name == columns.value => {}
            "labels" => nested = Some(label_sets(column)?),
            name => {
                if let Ok(text) = cast(column, &DataType::Utf8) {
                    texts.push((name.to_owned(), text));
                }
            }
        }
    }
    for row in 0..batch.num_rows() {
        if times.is_null(row) || values.is_null(row) {
            continue;
        }
        let metric = match &metrics {
            Some(metrics) if metrics.is_null(row) => continue,
            Some(metrics) => metrics.as_string::<i32>().value(row),
            None => columns.metric,
        };
        let mut labels: Vec<(&str, &str)> = texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_string::<i32>()))
            .filter(|(_, text)| text.is_valid(row))
            .map(|(name, text)| (name, text.value(row)))
            .collect();
        let pairs = nested.as_ref().map_or(&[][..], |(sets, keys)| sets[keys[row]].as_slice());
        labels.extend(pairs.iter().chain(columns.labels).map(|(name, value)| (name.as_str(), value.as_str())));
        let line = first_row + row as u64 + 1;
        gather.sample(line, metric, &labels, None, Timestamp::from_nanos(times.value(row)), values.value(row))?;
    }
    Ok(())
}

/// The different sets of labels of a column of maps or of JSON objects, and which one each row has.
fn label_sets(column: &ArrayRef) -> anyhow::Result<(Vec<Pairs>, Vec<usize>)> {
    if let Some(maps) = column.as_map_opt() {
        let pairs = |row: usize| -> anyhow::Result<Pairs> {
            let entries = maps.value(row);
            let (keys, values) = (cast(entries.column(0), &DataType::Utf8)?, cast(entries.column(1), &DataType::Utf8)?);
            let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
            let both = keys.iter().zip(values).filter_map(|(key, value)| Some((key?.to_owned(), value?.to_owned())));
            Ok(both.collect())
        };
        let sets = (0..maps.len()).map(pairs).collect::<anyhow::Result<Vec<_>>>()?;
        return Ok((sets, (0..maps.len()).collect()));
    }
    let texts = cast(column, &DataType::Utf8).context("the column `labels` is neither a map nor text (JSON)")?;
    let texts = texts.as_string::<i32>();
    let (mut sets, mut keys, mut known) = (Vec::new(), Vec::new(), hashbrown::HashMap::new());
    for row in 0..texts.len() {
        let text = if texts.is_null(row) { "{}" } else { texts.value(row) };
        let key = match known.get(text) {
            Some(&key) => key,
            None => {
                let all: std::collections::BTreeMap<String, String> = serde_json::from_str(text)
                    .with_context(|| format!("labels `{text}` are no JSON object of texts"))?;
                sets.push(all.into_iter().collect());
                known.insert(text, sets.len() - 1);
                sets.len() - 1
            }
        };
        keys.push(key);
    }
    Ok((sets, keys))
}
