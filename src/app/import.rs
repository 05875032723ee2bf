//! `import`: files into the store, through the same door as everything else.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;

use super::global::{Global, WrongUsage};
use super::input;
use super::node::{Node, settings};
use crate::flow::Sources;
use crate::ingest::line_protocol::{LineCache, LineOptions, Precision, read_line_protocol};
use crate::ingest::{Columns, CsvMapping, Format, Gather, TimeBounds, read_csv, read_ndjson, read_prometheus};
use crate::model::SeriesId;
use crate::store::{ParquetInput, Store};
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
    /// CSV and Parquet: the column with the value
    #[arg(long, value_name = "COL")]
    value: Option<String>,
    /// CSV and Parquet: name of the metric; without it the column's, or the file's
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// CSV and Parquet: a label of every series, {column} taking a column's text, {stem} and {parent} the file's and its
    /// folder's name
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
    mapping: CsvMapping,
    stem: String,
    precision: Precision,
}

fn plan(file: &str, args: &ImportArgs) -> anyhow::Result<Plan> {
    let format = match &args.from {
        Some(name) => Format::of_name(name).map_err(|error| WrongUsage(error.to_string()))?,
        None => match Format::of_path(file) {
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
    Ok(Plan { file: file.to_owned(), format, mapping, stem, precision })
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
        let mut columns = Columns::new(&schema, &plan.mapping, &plan.stem)?;
        for batch in counted {
            columns.read(&batch?, &mut gather)?;
        }
        rows
    } else {
        let mut text = input::open(&plan.file, bar).context("cannot open it")?;
        match plan.format {
            Format::Csv => read_csv(&mut *text, &plan.mapping, &plan.stem, &mut gather)?,
            Format::Ndjson => read_ndjson(&mut *text, &mut gather)?,
            Format::Prometheus => read_prometheus(&mut *text, now, &mut gather)?,
            _ => {
                let options = LineOptions { precision: plan.precision, now };
                read_line_protocol(&mut *text, options, &LineCache::default(), &mut gather)?.lines
            }
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
