//! `changepoints --input`: when the level of the series of a file became another.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use clap::Args;

use super::files::{format_of, writer};
use super::global::{Global, WrongUsage};
use super::input;
use crate::ingest::{Frame, Moment};
use crate::query::RowWriter;
use crate::stats::{ChangePoint, ChangePointOptions, change_points};

#[derive(Args)]
pub(super) struct ChangepointsArgs {
    /// A CSV: columns time (or row), value and maybe series, or a column a series; - is stdin
    #[arg(long, value_name = "FILE")]
    input: String,
    /// Where the rows go, instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Least change that counts, as a share of the level before
    #[arg(long, value_name = "SHARE")]
    effect: Option<f64>,
}

/// The values of one series, and where each stands in the file.
#[derive(Default)]
struct Series {
    values: Vec<f64>,
    rows: Vec<i64>,
    times: Vec<String>,
}

pub(super) fn changepoints(global: &Global, args: &ChangepointsArgs) -> anyhow::Result<()> {
    let mut options = ChangePointOptions::default();
    if let Some(effect) = args.effect {
        if !(effect.is_finite() && effect >= 0.0) {
            return Err(WrongUsage(format!("--effect {effect} cannot be: write a share, as in 0.05")).into());
        }
        options.effect_min = effect;
    }
    let (names, series) = read(&args.input)?;
    let mut found: Vec<(usize, ChangePoint)> = Vec::new();
    for (at, one) in series.iter().enumerate() {
        found.extend(change_points(&one.values, &options).into_iter().map(|point| (at, point)));
    }
    let texts = |of: &dyn Fn(&(usize, ChangePoint)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let number = |of: fn(&ChangePoint) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(found.iter().map(|(_, point)| of(point))))
    };
    let rows = found.iter().map(|(at, point)| series[*at].rows[point.row]);
    let batch = RecordBatch::try_from_iter([
        ("series", texts(&|(at, _)| names[*at].clone())),
        ("row", Arc::new(Int64Array::from_iter_values(rows)) as ArrayRef),
        ("time", texts(&|(at, point)| series[*at].times[point.row].clone())),
        ("before", number(|point| point.before)),
        ("after", number(|point| point.after)),
        ("effect", number(|point| point.effect)),
        ("p_value", number(|point| point.p_value)),
    ])?;
    let mut out = RowWriter::new(format_of(global), batch.schema(), writer(args.output.as_ref())?)?;
    out.write(&batch)?;
    Ok(out.finish()?.flush()?)
}

/// Rows are numbered as the file does, or else from 0 in each series.
fn read(file: &str) -> anyhow::Result<(Vec<String>, Vec<Series>)> {
    let bar = input::progress(std::fs::metadata(file).map_or(0, |meta| meta.len()));
    let mut reader = input::open(file, &bar).with_context(|| format!("cannot read {file}"))?;
    let told = || format!("cannot look for change points in {file}");
    let mut frame = Frame::read(&mut *reader).with_context(told)?;
    let mut series: Vec<Series> = Vec::new();
    while let Some(row) = frame.next_row().with_context(told)? {
        for (at, value) in row.values {
            series.resize_with(series.len().max(at + 1), Series::default);
            let one = &mut series[at];
            one.rows.push(if let Moment::Row(number) = row.at { number } else { one.rows.len() as i64 });
            one.values.push(value);
            one.times.push(row.text.clone());
        }
    }
    bar.finish_and_clear();
    Ok((frame.names().to_vec(), series))
}
