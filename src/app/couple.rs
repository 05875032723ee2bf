//! `correlate --input`: which series of a file moved together in its last rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};

use super::files;
use super::global::WrongUsage;
use super::print::Printer;
use crate::stats::couple::{CoupleOptions, Coupled, Window, couples_where};
use crate::stats::native_step;

const DAY: i64 = 86_400_000_000_000;
const SECOND: f64 = 1e9;

/// Series of a file on the grid of its rows.
struct Grid {
    names: Vec<String>,
    values: Vec<Vec<f64>>,
    /// Nanoseconds from row to row.
    step: i64,
}

pub(super) fn of_file(
    file: &str,
    (window, step): (&str, Option<&str>),
    across: Option<&str>,
    limit: usize,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let length = nanos("--window", window)?;
    let step = step.map(|step| nanos("--step", step)).transpose()?;
    let grid = Grid::read(file, step)?;
    let rows = usize::try_from(length / grid.step).unwrap_or(usize::MAX);
    let group = |name: &str| across.and_then(|text| name.split(text).next().map(str::to_owned));
    let groups: Vec<Option<String>> = grid.names.iter().map(|name| group(name)).collect();
    let values: Vec<&[f64]> = grid.values.iter().map(Vec::as_slice).collect();
    let longest = values.first().map_or(0, |values| values.len());
    let window =
        Window { values, window: rows.min(longest), day: usize::try_from(DAY / grid.step).unwrap_or(1).max(1) };
    let is_allowed = |a: usize, b: usize| across.is_none() || groups[a] != groups[b];
    let mut found = couples_where(&window, &CoupleOptions::default(), is_allowed);
    found.truncate(limit);
    print(&grid, &found, printer)
}

fn nanos(option: &str, text: &str) -> Result<i64, WrongUsage> {
    let length = humantime::parse_duration(text);
    let length =
        length.map_err(|error| WrongUsage(format!("{option} {text} is no length of time ({error}): write 2d")))?;
    let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    if nanos > 0 { Ok(nanos) } else { Err(WrongUsage(format!("{option} {text} cannot be: write 2d"))) }
}

impl Grid {
    /// The step is, where nobody says, what lies between most rows.
    fn read(file: &str, step: Option<i64>) -> anyhow::Result<Grid> {
        let series = files::series(file, "compare")?;
        let mut times: Vec<i64> = series.iter().flat_map(|one| &one.times).copied().collect();
        times.sort_unstable();
        times.dedup();
        let Some(step) = step.or_else(|| native_step(&times)) else {
            anyhow::bail!("{file} has no two rows of different times: nothing can be compared");
        };
        let (first, last) = (times[0].div_euclid(step), times[times.len() - 1].div_euclid(step));
        let length = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
        if length.saturating_mul(series.len()) > 1 << 28 {
            let count = series.len();
            anyhow::bail!(
                "{file} has {length} steps of {count} series, which is too much to compare: write a longer --step"
            );
        }
        let values = series.iter().map(|one| one.on(step, first * step, length)).collect();
        Ok(Grid { names: series.into_iter().map(|one| one.name).collect(), values, step })
    }
}

fn print(grid: &Grid, found: &[Coupled], printer: &mut Printer) -> anyhow::Result<()> {
    let name = |of: fn(&Coupled) -> usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(|pair| &grid.names[of(pair)])))
    };
    let number =
        |of: &dyn Fn(&Coupled) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(found.iter().map(of))) };
    let seconds = grid.step as f64 / SECOND;
    let batch = RecordBatch::try_from_iter([
        ("series_a", name(|pair| pair.a)),
        ("series_b", name(|pair| pair.b)),
        ("lag", number(&|pair| f64::from(pair.lag) * seconds)),
        ("pearson", number(&|pair| pair.pearson)),
        ("spearman", number(&|pair| pair.spearman)),
        ("strength", number(&|pair| pair.strength)),
        ("p_value", number(&|pair| pair.p_value)),
        ("points", Arc::new(UInt32Array::from_iter_values(found.iter().map(|pair| pair.points))) as ArrayRef),
    ])?;
    printer.rows(&batch.schema(), &[batch])
}
