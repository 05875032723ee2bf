//! `explain`: what changed, between two files or in a window of history, by series or by what they belong to.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use clap::Args;
use serde::Deserialize;

use super::analyse::moment;
use super::files;
use super::global::{Global, WrongUsage};
use super::print::Printer;
use super::source::Source;
use crate::stats::changed::{Change, group_scores, rank_changes, rank_groups, with_callers};

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// When it began (RFC 3339, or as in 2h: so long ago)
    #[arg(long, value_name = "TIME", required_unless_present = "baseline")]
    from: Option<String>,
    /// When it ended
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    /// How long a past it is held against [default: ten times as long, at least 1h]
    #[arg(long, value_name = "LENGTH", requires = "from")]
    past: Option<String>,
    /// Instead, a CSV of when all was well: a column a series, or time, series, value
    #[arg(long, value_name = "FILE", requires = "incident", conflicts_with = "from")]
    baseline: Option<String>,
    /// The CSV of when it was not
    #[arg(long, value_name = "FILE", requires = "baseline")]
    incident: Option<String>,
    /// Rank by this label instead; of files, by the part of a series' name before this text
    #[arg(long, value_name = "LABEL")]
    group_by: Option<String>,
    /// Who calls whom, a TOML file: [calls] and "caller" = ["callee"]
    #[arg(long, value_name = "FILE", requires = "group_by")]
    graph: Option<PathBuf>,
    /// Rows at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// The call graph, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    calls: BTreeMap<String, Vec<String>>,
}

pub(super) fn explain(global: &Global, args: &ExplainArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let graph = args.graph.as_ref().map(read_graph).transpose()?;
    match (&args.baseline, &args.incident) {
        (Some(baseline), Some(incident)) => of_files(args, graph.as_ref(), (baseline, incident), printer),
        _ => of_history(global, args, graph.as_ref(), printer),
    }
}

fn read_graph(path: &PathBuf) -> anyhow::Result<Graph> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).map_err(|error| WrongUsage(format!("{}: {error}", path.display())).into())
}

fn of_files(
    args: &ExplainArgs,
    graph: Option<&Graph>,
    files: (&str, &str),
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let (before, after) = (read(files.0)?, read(files.1)?);
    let change = |(name, baseline): (&String, &Vec<f64>)| {
        let change = Change::of(baseline, after.get(name)?)?;
        Some((name.clone(), change))
    };
    let mut changes: Vec<(String, Change)> = before.iter().filter_map(change).collect();
    rank_changes(&mut changes);
    let Some(before_text) = &args.group_by else {
        changes.truncate(args.limit.unwrap_or(usize::MAX));
        return print_changes(&changes, printer);
    };
    let group = |name: &str| name.split(before_text.as_str()).next().unwrap_or(name).to_owned();
    let scored: Vec<Scored> = changes
        .into_iter()
        .map(|(series, change)| Scored { group: Some(group(&series)), series, score: change.score })
        .collect();
    // What is in both files is ranked, though none of its series had enough values.
    let names = before.keys().filter(|name| after.contains_key(*name)).map(|name| group(name));
    print_groups(names, &scored, graph, args.limit, printer)
}

/// The values of each series of a file.
fn read(path: &str) -> anyhow::Result<BTreeMap<String, Vec<f64>>> {
    Ok(files::series(path, "explain")?.into_iter().map(|series| (series.name, series.values)).collect())
}

fn print_changes(changes: &[(String, Change)], printer: &mut Printer) -> anyhow::Result<()> {
    let number = |of: fn(&Change) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(changes.iter().map(|(_, change)| of(change))))
    };
    let batch = RecordBatch::try_from_iter([
        ("rank", Arc::new(UInt64Array::from_iter_values(1..=changes.len() as u64)) as ArrayRef),
        ("series", Arc::new(StringArray::from_iter_values(changes.iter().map(|(name, _)| name)))),
        ("score", number(|change| change.score)),
        ("before", number(|change| change.before)),
        ("after", number(|change| change.after)),
        ("shift", number(|change| change.shift)),
        ("ks", number(|change| change.ks)),
        ("p_value", number(|change| change.p_value)),
    ])?;
    printer.rows(&batch.schema(), &[batch])
}

fn of_history(global: &Global, args: &ExplainArgs, graph: Option<&Graph>, printer: &mut Printer) -> anyhow::Result<()> {
    let from = args.from.as_deref().map_or_else(|| Err(WrongUsage("--from is missing".into())), moment)?;
    let to = args.to.as_deref().map_or_else(|| Ok("now()".to_owned()), moment)?;
    let past = args.past.as_ref().map_or_else(String::new, |past| format!(", '{}'", past.replace('\'', "''")));
    let window = format!("explain_window({from}, {to}{past})");
    let source = Source::open(global)?;
    let Some(label) = &args.group_by else {
        let limit = args.limit.unwrap_or(20);
        let statement = format!(
            "SELECT rank, series, score, before, after, shift, ks, p_value FROM {window} ORDER BY rank LIMIT {limit}"
        );
        let (schema, rows) = source.sql(&statement)?;
        return printer.rows(&schema, &rows);
    };
    let statement = format!("SELECT \"{}\", series, score FROM {window} ORDER BY rank", label.replace('"', "\"\""));
    let (_, batches) = source.sql(&statement)?;
    let mut scored = Vec::new();
    for batch in &batches {
        let texts = |at: usize| cast(batch.column(at), &DataType::Utf8);
        let (groups, series) = (texts(0)?, texts(1)?);
        let (groups, series) = (groups.as_string::<i32>(), series.as_string::<i32>());
        let scores = batch.column(2).as_primitive::<Float64Type>();
        scored.extend((0..batch.num_rows()).map(|row| Scored {
            group: groups.is_valid(row).then(|| groups.value(row).to_owned()),
            series: series.value(row).to_owned(),
            score: scores.value(row),
        }));
    }
    print_groups(std::iter::empty(), &scored, graph, Some(args.limit.unwrap_or(20)), printer)
}

/// A series, strongest first, and what it belongs to.
struct Scored {
    group: Option<String>,
    series: String,
    score: f64,
}

fn print_groups(
    further: impl Iterator<Item = String>,
    scored: &[Scored],
    graph: Option<&Graph>,
    limit: Option<usize>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let named = scored.iter().filter_map(|scored| scored.group.clone());
    let called = graph.iter().flat_map(|graph| graph.calls.iter());
    let called = called.flat_map(|(caller, callees)| std::iter::once(caller).chain(callees)).cloned();
    let mut names: Vec<String> = named.chain(further).chain(called).collect();
    names.sort_unstable();
    names.dedup();
    let number: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let of = |scored: &Scored| Some((*number.get(scored.group.as_deref()?)?, scored.score));
    let mut scores = group_scores(names.len(), scored.iter().filter_map(of));
    if let Some(graph) = graph {
        let calls = graph.calls.iter().flat_map(|(caller, callees)| callees.iter().map(move |callee| (caller, callee)));
        let calls: Vec<(usize, usize)> =
            calls.map(|(caller, callee)| (number[caller.as_str()], number[callee.as_str()])).collect();
        scores = with_callers(&scores, &calls);
    }
    let mut groups: Vec<(&String, f64)> = names.iter().zip(scores).collect();
    rank_groups(&mut groups);
    groups.truncate(limit.unwrap_or(usize::MAX));
    let strongest = |name: &String| {
        scored.iter().find(|scored| scored.group.as_ref() == Some(name)).map(|scored| scored.series.as_str())
    };
    let batch = RecordBatch::try_from_iter([
        ("rank", Arc::new(UInt64Array::from_iter_values(1..=groups.len() as u64)) as ArrayRef),
        ("group", Arc::new(StringArray::from_iter_values(groups.iter().map(|(name, _)| name)))),
        ("score", Arc::new(Float64Array::from_iter_values(groups.iter().map(|(_, score)| *score)))),
        ("strongest", Arc::new(groups.iter().map(|(name, _)| strongest(name)).collect::<StringArray>())),
    ])?;
    printer.rows(&batch.schema(), &[batch])
}
