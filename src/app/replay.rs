//! `replay`: a pipeline over stored history.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::global::{Global, WrongUsage};
use super::node::{Node, is_store, settings};
use super::print::Printer;
use crate::config::{DEFAULT_PIPELINE, Settings, read_pipeline, read_pipelines};
use crate::model::{Span, Table, Timestamp};
use crate::query::shown;
use crate::stages::{Difference, PipelineSpec, ReplaySpec, Replayed};

/// Exit code where what is stored differs from what was found.
const DIFFERS: u8 = 3;

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// A pipeline file, or the name of a pipeline that the settings load
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// Rows from this time on count, as in 2026-01-31T12:00:00Z
    #[arg(long, value_name = "T", value_parser = time)]
    from: Timestamp,
    /// And those before this one
    #[arg(long, value_name = "T", value_parser = time)]
    to: Timestamp,
    /// Threads a stage has, instead of what the pipeline says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    shards: Option<u8>,
    /// How much before --from detectors learn from
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = length)]
    warm_up: Duration,
    /// Print the rows and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print how the rows differ from those stored and change nothing: + found only, - stored only, ~ both, with other
    /// values (the stored row first); exit code 3 where any differ
    #[arg(long, conflicts_with = "dry_run")]
    diff: bool,
    /// Print rows of this table only
    #[arg(long, value_name = "TABLE", value_parser = table)]
    table: Option<Table>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write a length of time, as in 1h"))
}

fn table(name: &str) -> Result<Table, String> {
    let known = || Table::ALL.into_iter().filter(|table| !table.is_logged()).map(Table::name).collect::<Vec<_>>();
    Table::of_name(name)
        .filter(|table| !table.is_logged())
        .ok_or_else(|| format!("pipelines make no such table: write {}", known().join(", ")))
}

pub(super) fn replay(global: &Global, args: &ReplayArgs, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    if global.url.is_some() {
        let told =
            "replay needs the data directory: stop the server, or take a `snapshot` of it and replay there with --data";
        return Err(WrongUsage(told.into()).into());
    }
    if args.from >= args.to {
        return Err(WrongUsage(format!("--from {} is not before --to {}", args.from, args.to)).into());
    }
    let pipeline = pipeline(&settings(global)?, args)?;
    let changes = !args.dry_run && !args.diff;
    let node = if changes {
        is_store(&global.data)?;
        Node::open_to_write(&global.data, settings(global)?)?
    } else {
        Node::open(global)?
    };
    if args.diff {
        node.pipelines.settle();
    }
    let replayed = run(&node, &pipeline, args)?;
    replayed.notes.iter().for_each(|note| eprintln!("{note}"));
    let code = if args.diff {
        diff(&replayed, &node, args, printer)?
    } else {
        if changes {
            write(&replayed, &node)?;
        } else {
            print(&replayed, &node, args, printer)?;
        }
        ExitCode::SUCCESS
    };
    eprintln!("hash: {}", replayed.hash()?);
    drop(replayed);
    if changes {
        node.close()?;
    }
    Ok(code)
}

/// A file, or a pipeline that the settings load.
fn pipeline(settings: &Settings, args: &ReplayArgs) -> anyhow::Result<PipelineSpec> {
    let name = &args.pipeline;
    let mut spec = if Path::new(name).is_file() {
        let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
        read_pipeline(name, &text)?
    } else {
        let mut known = read_pipelines(&settings.pipelines, |file| std::fs::read_to_string(file))?;
        if known.is_empty() {
            known.push(read_pipeline("pipelines/default.toml", DEFAULT_PIPELINE)?);
        }
        let names: Vec<String> = known.iter().map(|spec| spec.name.clone()).collect();
        let found = known.into_iter().find(|spec| spec.name == *name);
        found.ok_or_else(|| {
            let names = names.join(", ");
            WrongUsage(format!("there is no pipeline `{name}`: name a file, or one that the settings load: {names}"))
        })?
    };
    spec.shards = args.shards.map_or(spec.shards, usize::from);
    Ok(spec)
}

fn run(node: &Node, pipeline: &PipelineSpec, args: &ReplayArgs) -> anyhow::Result<Replayed> {
    let mut spec = ReplaySpec::new(Span::new(args.from, args.to));
    spec.warm_up = args.warm_up;
    let seconds = |time: Timestamp| u64::try_from((time.nanos() - args.from.nanos()) / 1_000_000_000).unwrap_or(0);
    let bar = ProgressBar::new(seconds(args.to));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent} % {eta} {msg}") {
        bar.set_style(style);
    }
    let reached = &mut |time: Timestamp| {
        bar.set_position(seconds(time));
        bar.set_message(time.to_string());
    };
    let replayed = crate::stages::replay(&node.store, pipeline, &spec, &node.edges, reached)?;
    bar.finish_and_clear();
    eprintln!("{}: {} samples", pipeline.name, replayed.samples);
    Ok(replayed)
}

fn tables(replayed: &Replayed, args: &ReplayArgs) -> Vec<Table> {
    replayed.tables().into_iter().filter(|table| args.table.is_none_or(|wanted| wanted == *table)).collect()
}

fn print(replayed: &Replayed, node: &Node, args: &ReplayArgs, printer: &mut Printer) -> anyhow::Result<()> {
    for table in tables(replayed, args) {
        let rows = shown(node.store.registry(), table, &replayed.rows(table)?)?;
        eprintln!("{}: {} rows", table.name(), rows.num_rows());
        if rows.num_rows() > 0 || args.table.is_some() {
            printer.title(table.name())?;
            printer.rows(&rows.schema(), std::slice::from_ref(&rows))?;
        }
    }
    Ok(())
}

fn diff(replayed: &Replayed, node: &Node, args: &ReplayArgs, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let mut differs = false;
    for table in tables(replayed, args) {
        let differences = replayed.differences(table)?;
        let count = |how: Difference| differences.how.iter().filter(|&&other| other == how).count();
        let (found, stored) = (count(Difference::Found), count(Difference::Stored));
        let changed = count(Difference::Changed) / 2;
        eprintln!("{}: {found} found only, {stored} stored only, {changed} with other values", table.name());
        if differences.how.is_empty() {
            continue;
        }
        differs = true;
        let rows = shown(node.store.registry(), table, &differences.rows)?;
        let rows = marked(&rows, &differences.how)?;
        printer.title(table.name())?;
        printer.rows(&rows.schema(), std::slice::from_ref(&rows))?;
    }
    Ok(if differs { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
}

/// Rows with how they differ before them.
fn marked(rows: &RecordBatch, how: &[Difference]) -> anyhow::Result<RecordBatch> {
    let mark = |how: &Difference| match how {
        Difference::Found => "+",
        Difference::Stored => "-",
        Difference::Changed => "~",
    };
    let marks: ArrayRef = Arc::new(StringArray::from_iter_values(how.iter().map(mark)));
    let mut fields = vec![Arc::new(Field::new("diff", DataType::Utf8, false))];
    fields.extend(rows.schema().fields().iter().cloned());
    let columns = std::iter::once(marks).chain(rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn write(replayed: &Replayed, node: &Node) -> anyhow::Result<()> {
    for table in replayed.tables() {
        eprintln!("{}: {} rows", table.name(), replayed.rows(table)?.num_rows());
    }
    let (rows, stay) = replayed.to_write()?;
    replayed.made_samples.iter().for_each(|batch| node.store.add_samples(batch));
    rows.into_iter().for_each(|rows| node.store.add_rows(rows));
    node.store.flush()?;
    if stay > 0 {
        eprintln!("{stay} stored rows of anomalies were not found again and stay: that table takes none back");
    }
    Ok(())
}
