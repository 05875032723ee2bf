//! `forecast`, `anomalies`, `correlate`: the analysis tables, asked by flags.

use clap::Args;

use super::files::{self, DetectArgs};
use super::global::{Global, WrongUsage};
use super::print::Printer;
use super::source::Source;
use crate::model::Timestamp;

#[derive(Args)]
pub(super) struct ForecastArgs {
    /// The metric; with % in it, all that are like it
    metric: String,
    /// How far ahead
    #[arg(long, default_value = "1d", value_name = "TIME")]
    horizon: String,
    /// Which series, as in host=a,region=eu
    #[arg(long = "where", value_name = "LABELS")]
    labels: Option<String>,
    /// Say when each series reaches this instead
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    limit: Option<f64>,
}

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
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn forecast(global: &Global, args: &ForecastArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let horizon = literal(&args.horizon);
    let labels = args.labels.as_ref().map_or(String::new(), |labels| format!(", {}", literal(labels)));
    let metric = literal(&args.metric);
    let statement = match args.limit {
        None => format!("SELECT * EXCLUDE (metric) FROM forecast({metric}, {horizon}{labels}) ORDER BY series, step"),
        Some(limit) => format!(
            "SELECT * EXCLUDE (metric) FROM capacity_eta({metric}, {limit:?}, {horizon}{labels}) ORDER BY likely NULLS LAST, series"
        ),
    };
    answer(global, &statement, printer)
}

pub(super) fn anomalies(global: &Global, args: &AnomaliesArgs, printer: &mut Printer) -> anyhow::Result<()> {
    if let Some(file) = &args.detect.input {
        return files::anomalies(global, &args.detect, file);
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

pub(super) fn correlate(global: &Global, args: &FoundArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let mut conditions = span(args)?;
    conditions.extend(args.metric.as_ref().map(|like| {
        let like = literal(like);
        format!("(metric_a LIKE {like} OR metric_b LIKE {like})")
    }));
    answer(
        global,
        &format!(
            "SELECT time, \"end\", series_a, series_b, r, points FROM correlations {} ORDER BY abs(r) DESC, time, series_a, series_b LIMIT {}",
            filter(&conditions),
            args.limit
        ),
        printer,
    )
}

fn answer(global: &Global, statement: &str, printer: &mut Printer) -> anyhow::Result<()> {
    let (schema, batches) = Source::open(global)?.sql(statement)?;
    printer.rows(&schema, &batches)
}

fn filter(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) }
}

/// Conditions that leave what touches the span.
fn span(args: &FoundArgs) -> Result<Vec<String>, WrongUsage> {
    let at = |text: &String| -> Result<String, WrongUsage> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(format!("now() - interval '{} seconds'", ago.as_secs_f64()));
        }
        Timestamp::parse(text).map(|time| literal(&time.to_string())).map_err(|error| WrongUsage(error.to_string()))
    };
    let mut conditions = Vec::new();
    if let Some(from) = &args.from {
        conditions.push(format!("\"end\" >= {}", at(from)?));
    }
    if let Some(to) = &args.to {
        conditions.push(format!("time < {}", at(to)?));
    }
    Ok(conditions)
}
