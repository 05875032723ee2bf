//! `changepoints --input`: when the level of the series of a file became another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use clap::Args;

use super::files::{self, format_of, writer};
use super::global::{Global, WrongUsage};
use crate::model::Timestamp;
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
    /// A CSV of deployments and the like, `time,name`: each change point is told with the last one before it
    #[arg(long, value_name = "FILE")]
    markers: Option<PathBuf>,
}

/// Something that was done, and when in nanoseconds.
type Marker = (i64, String);

/// The markers of a file, by time.
fn markers(path: &Path) -> anyhow::Result<Vec<Marker>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let fault = |line: usize, told: String| WrongUsage(format!("{}:{line}: {told}", path.display()));
    let header = lines.next().map_or("", |(_, line)| line.trim());
    if header != "time,name" {
        return Err(fault(1, format!("`{header}` is not the header `time,name`")).into());
    }
    let marker = |(at, line): (usize, &str)| {
        let (time, name) =
            line.split_once(',').ok_or_else(|| fault(at + 1, "write a time, a comma and a name".into()))?;
        let time = Timestamp::parse(time.trim()).map_err(|error| fault(at + 1, error.to_string()))?;
        Ok((time.nanos(), name.trim().to_owned()))
    };
    let mut markers = lines.map(marker).collect::<Result<Vec<Marker>, WrongUsage>>()?;
    markers.sort();
    Ok(markers)
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
    let markers = args.markers.as_deref().map(markers).transpose()?;
    let marker = |markers: &[Marker], time: i64| {
        let before = markers.partition_point(|(at, _)| *at <= time);
        before.checked_sub(1).map(|at| markers[at].1.clone())
    };
    let marked: Option<ArrayRef> = markers.map(|markers| {
        let names = found.iter().map(|(at, point)| marker(&markers, series[*at].times[point.row]));
        Arc::new(names.collect::<StringArray>()) as ArrayRef
    });
    let mut columns = vec![
        ("series", texts(&|(at, _)| series[*at].name.clone())),
        ("row", Arc::new(Int64Array::from_iter_values(rows)) as ArrayRef),
        ("time", texts(&|(at, point)| series[*at].texts[point.row].to_string())),
        ("before", number(|point| point.before)),
        ("after", number(|point| point.after)),
        ("effect", number(|point| point.effect)),
        ("p_value", number(|point| point.p_value)),
    ];
    columns.extend(marked.map(|marked| ("marker", marked)));
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut out = RowWriter::new(format_of(global), batch.schema(), writer(args.output.as_ref())?)?;
    out.write(&batch)?;
    Ok(out.finish()?.flush()?)
}
