//! `export`: metrics or the rows of a query, as files that are there whole or not at all.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use arrow::array::{AsArray, RecordBatch};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::global::{Global, WrongUsage};
use super::input;
use super::source::{RowStream, Source};
use crate::query::{OutputFormat, RowWriter};

#[derive(Args)]
pub(super) struct ExportArgs {
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Metrics to write, a file each
    #[arg(long = "metric", value_name = "M", num_args = 1..)]
    metrics: Vec<String>,
    /// Write the rows of this statement instead
    #[arg(long, value_name = "SQL", conflicts_with = "metrics")]
    query: Option<String>,
    /// A column a metric; of one metric, a column a series
    #[arg(long, requires = "metrics")]
    wide: bool,
    /// A file a day (UTC) of the column `time`
    #[arg(long, value_enum)]
    partition: Option<Partition>,
    /// Format of the files
    #[arg(long = "as", value_enum, default_value = "parquet")]
    file_format: FileFormat,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Partition {
    Day,
}

#[derive(Clone, Copy, ValueEnum)]
enum FileFormat {
    Parquet,
    Csv,
    Ndjson,
}

impl FileFormat {
    fn output(self) -> (OutputFormat, &'static str) {
        match self {
            FileFormat::Parquet => (OutputFormat::Parquet, "parquet"),
            FileFormat::Csv => (OutputFormat::Csv, "csv"),
            FileFormat::Ndjson => (OutputFormat::Ndjson, "ndjson"),
        }
    }
}

pub(super) fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<()> {
    if args.metrics.is_empty() && args.query.is_none() {
        return Err(WrongUsage("say what to export: --metric NAME… or --query SQL".into()).into());
    }
    let source = Source::open(global)?;
    let statements = named(statements(&source, args)?);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let bar = input::rows();
    for (name, statement) in statements {
        match args.partition {
            None => write(&source, args, &name, &statement, &bar)?,
            Some(Partition::Day) => {
                let days = source.sql(&format!(
                    "SELECT DISTINCT arrow_cast(date_trunc('day', time), 'Date32')::varchar FROM ({statement}) ORDER BY 1"
                ))?;
                for day in texts(&days.1) {
                    let of_day = format!(
                        "SELECT * FROM ({statement}) WHERE time >= '{day}T00:00:00Z' AND time < timestamp '{day}T00:00:00Z' + interval '1 day'"
                    );
                    write(&source, args, &format!("{name}-{day}"), &of_day, &bar)?;
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let text = |batch: &RecordBatch| {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8);
        column.map_or_else(
            |_| Vec::new(),
            |column| column.as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
        )
    };
    batches.iter().flat_map(text).collect()
}

/// Statements by the names of their files: those that would have the same name are numbered.
fn named(statements: Vec<(String, String)>) -> Vec<(String, String)> {
    // Some disks take `A` for `a`.
    let mut taken = std::collections::HashSet::new();
    let mut free = |name: &str| {
        let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names.find(|name| taken.insert(name.to_lowercase())).unwrap_or_default()
    };
    statements.into_iter().map(|(name, statement)| (free(&file_name(&name)), statement)).collect()
}

/// A name that a file may have, without the letters that part folders.
fn file_name(name: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter) || (cfg!(unix) && letter == ':');
    name.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

/// The name and statement of each file.
fn statements(source: &Source, args: &ExportArgs) -> anyhow::Result<Vec<(String, String)>> {
    if let Some(query) = &args.query {
        return Ok(vec![("query".to_owned(), query.trim().trim_end_matches(';').to_owned())]);
    }
    let known = texts(&source.sql("SELECT metric FROM system.metrics")?.1);
    if let Some(unknown) = args.metrics.iter().find(|metric| !known.contains(metric)) {
        let told =
            format!("there is no metric `{unknown}`: `plimsoll sql \"SELECT metric FROM system.metrics\"` lists them");
        return Err(WrongUsage(told).into());
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    if !args.wide {
        let plain = |metric: &String| (metric.clone(), format!("SELECT * FROM {} ORDER BY time", quoted(metric)));
        return Ok(args.metrics.iter().map(plain).collect());
    }
    if let [metric] = &args.metrics[..] {
        return Ok(vec![(format!("{metric}-wide"), series_as_columns(source, metric, &quoted, &literal)?)]);
    }
    let columns = args
        .metrics
        .iter()
        .map(|metric| format!("max(CASE WHEN metric = {} THEN value END) AS {}", literal(metric), quoted(metric)));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let all = args.metrics.iter().map(|metric| literal(metric)).collect::<Vec<_>>().join(", ");
    let labels = source.sql(&format!("SELECT * FROM metrics WHERE metric IN ({all}) LIMIT 0"))?.0;
    let labels = labels
        .fields()
        .iter()
        .map(|field| field.name())
        .filter(|name| !["metric", "time", "value"].contains(&name.as_str()));
    let keys = std::iter::once("time".to_owned()).chain(labels.map(|name| quoted(name))).collect::<Vec<_>>().join(", ");
    let statement =
        format!("SELECT {keys}, {columns} FROM metrics WHERE metric IN ({all}) GROUP BY {keys} ORDER BY time");
    Ok(vec![("wide".to_owned(), statement)])
}

fn series_as_columns(
    source: &Source,
    metric: &str,
    quoted: &dyn Fn(&str) -> String,
    literal: &dyn Fn(&str) -> String,
) -> anyhow::Result<String> {
    let (schema, _) = source.sql(&format!("SELECT * FROM {} LIMIT 0", quoted(metric)))?;
    let labels: Vec<&String> =
        schema.fields().iter().map(|field| field.name()).filter(|name| *name != "time" && *name != "value").collect();
    if labels.is_empty() {
        return Ok(format!("SELECT time, value AS {} FROM {} ORDER BY time", quoted(metric), quoted(metric)));
    }
    let keys = labels.iter().map(|label| quoted(label)).collect::<Vec<_>>().join(", ");
    let (_, batches) = source.sql(&format!("SELECT DISTINCT {keys} FROM {} ORDER BY {keys}", quoted(metric)))?;
    let mut columns = Vec::new();
    for batch in &batches {
        let texts =
            batch.columns().iter().map(|column| arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let value = |column: &arrow::array::ArrayRef| {
                let column = column.as_string::<i32>();
                arrow::array::Array::is_valid(column, row).then(|| column.value(row).to_owned())
            };
            let pairs: Vec<(&&String, Option<String>)> =
                labels.iter().zip(&texts).map(|(label, column)| (label, value(column))).collect();
            let is = pairs.iter().map(|(label, value)| match value {
                Some(value) => format!("{} = {}", quoted(label), literal(value)),
                None => format!("{} IS NULL", quoted(label)),
            });
            let is = is.collect::<Vec<_>>().join(" AND ");
            let told = pairs.iter().filter_map(|(label, value)| Some(format!("{label}={}", value.as_ref()?)));
            let name = told.collect::<Vec<_>>().join(",");
            columns.push(format!("max(CASE WHEN {is} THEN value END) AS {}", quoted(&name)));
        }
    }
    Ok(format!("SELECT time, {} FROM {} GROUP BY time ORDER BY time", columns.join(", "), quoted(metric)))
}

fn write(source: &Source, args: &ExportArgs, name: &str, statement: &str, bar: &ProgressBar) -> anyhow::Result<()> {
    let rows = source.rows(statement)?;
    let (format, ending) = args.file_format.output();
    let path = args.out.join(format!("{name}.{ending}"));
    bar.set_message(path.display().to_string());
    whole_file(&path, format, rows, bar)?;
    bar.suspend(|| writeln!(std::io::stdout(), "{}", path.display()))?;
    Ok(())
}

/// Writes under a name of its own, then renames: the file is there whole or not at all.
fn whole_file(path: &Path, format: OutputFormat, rows: RowStream<'_>, bar: &ProgressBar) -> anyhow::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let written = || -> anyhow::Result<()> {
        let file = std::fs::File::create(&unfinished)?;
        let mut writer = RowWriter::new(format, rows.schema, BufWriter::with_capacity(1 << 20, file))?;
        for batch in rows.batches {
            let batch = batch?;
            writer.write(&batch)?;
            bar.inc(batch.num_rows() as u64);
        }
        writer.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        Ok(())
    };
    written()
        .inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_metrics_have_names_of_their_own() {
        let names = |metrics: &[&str]| -> Vec<String> {
            let statements = metrics.iter().map(|metric| ((*metric).to_owned(), String::new())).collect();
            named(statements).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&["a/b", "a b", "a_b", "A_b", "a_b-2"]), ["a_b", "a_b-2", "a_b-3", "A_b-4", "a_b-2-2"]);
        assert_eq!(names(&["cpu", "job.rate", "../x"]), ["cpu", "job.rate", ".._x"]);
        #[cfg(unix)]
        assert_eq!(names(&["a:b", "a_b"]), ["a:b", "a_b"]);
    }
}
