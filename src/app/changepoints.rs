//! `changepoints --input`: when the level of the series of a file became another.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use clap::Args;

use super::files::{self, format_of, writer};
use super::global::{Global, WrongUsage};
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

pub(super) fn changepoints(global: &Global, args: &ChangepointsArgs) -> anyhow::Result<()> {
    let mut options = ChangePointOptions::default();
    if let Some(effect) = args.effect {
        if !(effect.is_finite() && effect >= 0.0) {
            return Err(WrongUsage(format!("--effect {effect} cannot be: write a share, as in 0.05")).into());
        }
        options.effect_min = effect;
    }
    let series = files::series(&args.input, "look for change points in")?;
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
        ("series", texts(&|(at, _)| series[*at].name.clone())),
        ("row", Arc::new(Int64Array::from_iter_values(rows)) as ArrayRef),
        ("time", texts(&|(at, point)| series[*at].texts[point.row].to_string())),
        ("before", number(|point| point.before)),
        ("after", number(|point| point.after)),
        ("effect", number(|point| point.effect)),
        ("p_value", number(|point| point.p_value)),
    ])?;
    let mut out = RowWriter::new(format_of(global), batch.schema(), writer(args.output.as_ref())?)?;
    out.write(&batch)?;
    Ok(out.finish()?.flush()?)
}
