//! `anomalies`, `correlate`: the analysis tables, asked by flags.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::couple;
use super::files::{self, DetectArgs};
use super::global::{Global, WrongUsage};
use super::print::Printer;
use super::source::Source;
use crate::model::Timestamp;

#[derive(Args)]
pub(super) struct FoundArgs {
    /// Found from this time on (RFC 3339, or as in 2h: so long ago)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Found before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only metrics like this, % standing for anything
    #[arg(long, value_name = "LIKE")]
    metric: Option<String>,
    /// Rows at most, the strongest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

#[derive(Args)]
pub(super) struct AnomaliesArgs {
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    detect: DetectArgs,
    /// Hold every method against incidents that there were: a CSV of their start and end
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    backtest: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct CorrelateArgs {
    #[command(flatten)]
    found: FoundArgs,
    /// Compare the series of a window of this length now, as in 2d, that ends with --to; - of a file, with its last row
    #[arg(long, value_name = "LENGTH")]
    window: Option<String>,
    /// With --window: the step series are compared at, as in 5m
    #[arg(long, value_name = "LENGTH", requires = "window")]
    step: Option<String>,
    /// With --window: a label that a pair has to differ in; of a file, the text before which series' names have to
    #[arg(long, value_name = "LABEL", requires = "window")]
    across: Option<String>,
    /// With --window: compare the columns of a CSV instead, without a store
    #[arg(long, value_name = "FILE", requires = "window", conflicts_with = "from")]
    input: Option<String>,
}

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn anomalies(global: &Global, args: &AnomaliesArgs, printer: &mut Printer) -> anyhow::Result<()> {
    if let Some(file) = &args.detect.input {
        return files::anomalies(global, &args.detect, file);
    }
    if let Some(file) = &args.backtest {
        return backtest(global, args.found.metric.as_deref(), file, printer);
    }
    let args = &args.found;
    let mut conditions = span(args)?;
    conditions.extend(args.metric.as_ref().map(|like| format!("metric LIKE {}", literal(like))));
    answer(
        global,
        &format!(
            "SELECT time, \"end\", series, value, expected, score, samples FROM anomalies {} ORDER BY abs(score) DESC, samples DESC, time, series LIMIT {}",
            filter(&conditions),
            args.limit
        ),
        printer,
    )
}

fn backtest(global: &Global, metric: Option<&str>, file: &Path, printer: &mut Printer) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let incidents = incidents(&text).map_err(|fault| WrongUsage(format!("{}: {fault}", file.display())))?;
    let statement = format!(
        "SELECT * FROM backtest_detector({}, {}) ORDER BY f1 DESC, false_a_day, method, threshold",
        literal(metric.unwrap_or("%")),
        literal(&incidents)
    );
    answer(global, &statement, printer)
}

/// `start/end` of each line, as SQL takes them.
fn incidents(text: &str) -> Result<String, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
    let column = |name: &str| {
        header.iter().position(|header| header.eq_ignore_ascii_case(name)).ok_or_else(|| {
            format!("no column `{name}`: its first line names `start` and `end`, each further one is an incident")
        })
    };
    let (start, end) = (column("start")?, column("end")?);
    let incident = |(at, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let time = |column: usize| {
            let text = cells.get(column).copied().unwrap_or_default();
            Timestamp::parse(text).map_err(|error| format!("line {}: {error}", at + 1))
        };
        Ok(format!("{}/{}", time(start)?, time(end)?))
    };
    Ok(lines.map(incident).collect::<Result<Vec<String>, String>>()?.join(", "))
}

pub(super) fn correlate(global: &Global, args: &CorrelateArgs, printer: &mut Printer) -> anyhow::Result<()> {
    match (&args.window, &args.input) {
        (Some(window), Some(file)) => {
            let across = args.across.as_deref();
            couple::of_file(file, (window, args.step.as_deref()), across, args.found.limit, printer)
        }
        (Some(window), None) => correlate_window(global, args, window, printer),
        _ => correlated(global, &args.found, printer),
    }
}

/// What pipelines found.
fn correlated(global: &Global, args: &FoundArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let mut conditions = span(args)?;
    conditions.extend(args.metric.as_ref().map(|like| {
        let like = literal(like);
        format!("(metric_a LIKE {like} OR metric_b LIKE {like})")
    }));
    answer(
        global,
        &format!(
            "SELECT time, \"end\", series_a, series_b, r, lag, points FROM correlations {} ORDER BY abs(r) DESC, time, series_a, series_b LIMIT {}",
            filter(&conditions),
            args.limit
        ),
        printer,
    )
}

fn correlate_window(global: &Global, args: &CorrelateArgs, window: &str, printer: &mut Printer) -> anyhow::Result<()> {
    let length = humantime::parse_duration(window)
        .map_err(|error| WrongUsage(format!("--window {window} is no length of time ({error}): write 2d")))?;
    let to = args.found.to.as_deref().map_or_else(|| Ok("now()".to_owned()), moment)?;
    let to = if to.starts_with('\'') { format!("TIMESTAMP {to}") } else { to };
    let from = format!("{to} - INTERVAL '{} seconds'", length.as_secs_f64());
    let metric = args.found.metric.as_deref().unwrap_or("%");
    let further = [args.step.as_deref(), Some(metric), args.across.as_deref()];
    let further = further.map(|text| literal(text.unwrap_or_default())).join(", ");
    let limit = args.found.limit;
    answer(
        global,
        &format!(
            "SELECT series_a, series_b, lag, pearson, spearman, strength, p_value, points FROM correlate_window({from}, {to}, {further}) \
             ORDER BY p_value, abs(strength) DESC, series_a, series_b LIMIT {limit}"
        ),
        printer,
    )
}

pub(super) fn answer(global: &Global, statement: &str, printer: &mut Printer) -> anyhow::Result<()> {
    let (schema, batches) = Source::open(global)?.sql(statement)?;
    printer.rows(&schema, &batches)
}

fn filter(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) }
}

/// A moment as SQL has it.
pub(super) fn moment(text: &str) -> Result<String, WrongUsage> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(format!("now() - interval '{} seconds'", ago.as_secs_f64()));
    }
    Timestamp::parse(text).map(|time| literal(&time.to_string())).map_err(|error| WrongUsage(error.to_string()))
}

/// Conditions that leave what touches the span.
fn span(args: &FoundArgs) -> Result<Vec<String>, WrongUsage> {
    let mut conditions = Vec::new();
    if let Some(from) = &args.from {
        conditions.push(format!("\"end\" >= {}", moment(from)?));
    }
    if let Some(to) = &args.to {
        conditions.push(format!("time < {}", moment(to)?));
    }
    Ok(conditions)
}
