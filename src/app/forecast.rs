//! `forecast`: what comes next, of a metric in the store or of the series of a file, and when it meets a limit.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use clap::Args;
use rayon::prelude::*;

use super::analyse::{answer, literal, moment};
use super::files::{self, FileSeries, ROW_STEP, format_of, writer};
use super::global::{Global, WrongUsage};
use super::print::Printer;
use crate::model::Timestamp;
use crate::query::RowWriter;
use crate::stats::{Direction, Forecast, ForecastError, ForecastOptions, forecast as forecast_of, time_to_limit};

const DAY: i64 = 86_400_000_000_000;
/// Steps ahead, at most.
const STEPS_MAX: i64 = 100_000;

#[derive(Args)]
pub(super) struct ForecastArgs {
    /// The metric; with % in it, all that are like it
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    metric: Option<String>,
    /// How far ahead, as in 6h; of a file, also a number of steps
    #[arg(long, default_value = "1d", value_name = "LENGTH")]
    horizon: String,
    /// Which series, as in host=a,region=eu
    #[arg(long = "where", value_name = "LABELS", conflicts_with = "input")]
    labels: Option<String>,
    /// Say when each series reaches this instead
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    limit: Option<f64>,
    /// As if it were this time: what came later is not looked at (RFC 3339, or as in 2h: so long ago)
    #[arg(long, value_name = "TIME", conflicts_with = "input")]
    as_of: Option<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// How the series of a file are forecast.
#[derive(Args)]
pub(super) struct FileArgs {
    /// Forecast the series of a CSV instead: columns `time` (or `row`), `value` and maybe `series`, or a column a series; - is stdin
    #[arg(long, value_name = "FILE")]
    pub input: Option<String>,
    /// With --input: where the rows go, instead of stdout
    #[arg(long, value_name = "FILE", requires = "input")]
    output: Option<PathBuf>,
    /// With --input: seasons in steps, as in 24,168; without it they are found
    #[arg(long, value_name = "STEPS", value_delimiter = ',', requires = "input")]
    season: Option<Vec<usize>>,
    /// With --input: percent of what comes that is to lie from lo to hi
    #[arg(long, value_name = "PERCENT", default_value_t = 95.0, requires = "input")]
    level: f64,
}

pub(super) fn forecast(global: &Global, args: &ForecastArgs, printer: &mut Printer) -> anyhow::Result<()> {
    if let Some(input) = &args.file.input {
        return of_file(global, &args.file, input, &args.horizon, args.limit);
    }
    let metric = literal(args.metric.as_deref().unwrap_or("%"));
    let horizon = literal(&args.horizon);
    let labels = literal(args.labels.as_deref().unwrap_or_default());
    let mut further = format!(", {labels}");
    if let Some(as_of) = &args.as_of {
        further.push_str(&format!(", {}", moment(as_of)?));
    }
    let statement = match args.limit {
        None => format!("SELECT * EXCLUDE (metric) FROM forecast({metric}, {horizon}{further}) ORDER BY series, step"),
        Some(limit) => format!(
            "SELECT * EXCLUDE (metric) FROM capacity_eta({metric}, {limit:?}, {horizon}{further}) ORDER BY p50 NULLS LAST, series"
        ),
    };
    answer(global, &statement, printer)
}

/// One series of a file, forecast.
struct Made {
    name: String,
    forecast: Forecast,
    /// Beginning of the first step, and nanoseconds of each.
    first: i64,
    step: i64,
    is_numbered: bool,
    now: f64,
}

/// `forecast --input`, and `capacity --input` with a limit.
pub(super) fn of_file(
    global: &Global,
    args: &FileArgs,
    input: &str,
    horizon: &str,
    limit: Option<f64>,
) -> anyhow::Result<()> {
    if !(50.0..=99.9).contains(&args.level) {
        return Err(WrongUsage(format!("--level {} cannot be: write a percentage, 50 to 99.9", args.level)).into());
    }
    let series = files::series(input, "forecast")?;
    let one = |series: &FileSeries| made(series, args, horizon);
    let made = series.par_iter().map(one).collect::<Result<Vec<_>, WrongUsage>>()?;
    let (mut told, mut short) = (Vec::new(), Vec::new());
    for (made, series) in made.into_iter().zip(&series) {
        match made {
            Ok(made) => told.push(made),
            Err(why) => short.push(format!("{}: {why}", series.name)),
        }
    }
    if let Some(first) = short.first() {
        eprintln!("plimsoll: {} of {} series are not forecast, as {first}", short.len(), series.len());
    }
    let batch = match limit {
        None => step_rows(&told)?,
        Some(limit) => eta_rows(&told, limit)?,
    };
    let mut out = RowWriter::new(format_of(global), batch.schema(), writer(args.output.as_ref())?)?;
    out.write(&batch)?;
    Ok(out.finish()?.flush()?)
}

fn made(series: &FileSeries, args: &FileArgs, horizon: &str) -> Result<Result<Made, ForecastError>, WrongUsage> {
    let Some((start, step, values)) = series.grid() else {
        steps(horizon, 1)?;
        return Ok(Err(ForecastError::TooShort { needs: 4, has: series.values.len().min(1) }));
    };
    let steps = steps(horizon, if series.is_numbered { 0 } else { step })?;
    let cycle = |length: i64| usize::try_from(length / step).ok().filter(|_| !series.is_numbered && length % step == 0);
    let options = ForecastOptions {
        level: args.level / 100.0,
        seasons: args.season.clone(),
        hints: [DAY, 7 * DAY].into_iter().filter_map(cycle).collect(),
        non_negative: values.iter().all(|value| value.is_nan() || *value >= 0.0),
        ..ForecastOptions::default()
    };
    let now = values.iter().rev().find(|value| value.is_finite()).copied().unwrap_or(f64::NAN);
    Ok(forecast_of(&values, steps, &options).map(|forecast| Made {
        name: series.name.clone(),
        forecast,
        first: start + values.len() as i64 * step,
        step,
        is_numbered: series.is_numbered,
        now,
    }))
}

/// A number of steps, or a length of time over the length of one.
fn steps(horizon: &str, step: i64) -> Result<usize, WrongUsage> {
    let steps = match horizon.parse::<i64>() {
        Ok(steps) => steps,
        Err(_) if step == 0 => {
            return Err(WrongUsage(format!(
                "--horizon {horizon} cannot be: rows of the file are numbered, write a number of them, as in 48"
            )));
        }
        Err(_) => match humantime::parse_duration(horizon) {
            Ok(length) => i64::try_from(length.as_nanos()).unwrap_or(i64::MAX) / step,
            Err(error) => {
                return Err(WrongUsage(format!(
                    "--horizon {horizon} is neither a number of steps nor a length of time ({error}): write 48 or 2d"
                )));
            }
        },
    };
    if (1..=STEPS_MAX).contains(&steps) || step == 1 {
        return Ok(usize::try_from(steps).unwrap_or(1));
    }
    Err(WrongUsage(format!("--horizon {horizon} is {steps} steps: write 1 to {STEPS_MAX}")))
}

impl Made {
    /// A step ahead, 0 being the first, as the file tells times.
    fn time(&self, ahead: usize) -> String {
        let nanos = self.first.saturating_add(self.step.saturating_mul(ahead as i64));
        if self.is_numbered { (nanos / ROW_STEP).to_string() } else { Timestamp::from_nanos(nanos).to_string() }
    }
}

fn step_rows(made: &[Made]) -> anyhow::Result<RecordBatch> {
    let steps = || made.iter().flat_map(|made| (0..made.forecast.mean.len()).map(move |ahead| (made, ahead)));
    let text = |of: &dyn Fn(&Made, usize) -> String| -> ArrayRef {
        Arc::new(steps().map(|(made, ahead)| Some(of(made, ahead))).collect::<StringArray>())
    };
    let number = |of: fn(&Forecast) -> &[f64]| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(steps().map(|(made, ahead)| of(&made.forecast)[ahead])))
    };
    Ok(RecordBatch::try_from_iter([
        ("series", text(&|made, _| made.name.clone())),
        ("step", Arc::new(UInt64Array::from_iter_values(steps().map(|(_, ahead)| ahead as u64 + 1))) as ArrayRef),
        ("time", text(&|made, ahead| made.time(ahead))),
        ("mean", number(|forecast| &forecast.mean)),
        ("lo", number(|forecast| &forecast.lower)),
        ("hi", number(|forecast| &forecast.upper)),
        ("model", text(&|made, _| made.forecast.model.to_owned())),
    ])?)
}

/// When each series meets the limit: with a tenth, a half and nine tenths of the chance.
fn eta_rows(made: &[Made], limit: f64) -> anyhow::Result<RecordBatch> {
    let met = |made: &Made| {
        let direction = if made.now <= limit { Direction::Above } else { Direction::Below };
        let eta = time_to_limit(&made.forecast, limit, direction);
        [eta.p10, eta.p50, eta.p90]
    };
    let met: Vec<[Option<usize>; 3]> = made.par_iter().map(met).collect();
    let number =
        |of: &dyn Fn(&Made) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(made.iter().map(of))) };
    let time = |place: usize| -> ArrayRef {
        let times = made.iter().zip(&met).map(|(made, met)| met[place].map(|ahead| made.time(ahead)));
        Arc::new(times.collect::<StringArray>())
    };
    let steps = |place: usize| -> ArrayRef {
        Arc::new(met.iter().map(|met| met[place].map(|ahead| ahead as u64 + 1)).collect::<UInt64Array>())
    };
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(made.iter().map(|made| &made.name)));
    let models: ArrayRef = Arc::new(StringArray::from_iter_values(made.iter().map(|made| made.forecast.model)));
    Ok(RecordBatch::try_from_iter([
        ("series", names),
        ("now", number(&|made| made.now)),
        ("limit", number(&|_| limit)),
        ("p10", time(0)),
        ("p50", time(1)),
        ("p90", time(2)),
        ("p10_steps", steps(0)),
        ("p50_steps", steps(1)),
        ("p90_steps", steps(2)),
        ("model", models),
    ])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_is_steps_or_a_length_of_time() {
        let hour = 3_600_000_000_000;
        for (horizon, step, expected) in [("48", hour, 48), ("2d", hour, 48), ("90m", hour, 1), ("7", 0, 7)] {
            assert_eq!(steps(horizon, step).unwrap(), expected, "{horizon}");
        }
        for (horizon, step, told) in [
            ("2d", 0, "rows of the file are numbered"),
            ("x", hour, "neither"),
            ("0", hour, "0 steps"),
            ("1s", hour, "0 steps"),
        ] {
            let error = steps(horizon, step).unwrap_err().to_string();
            assert!(error.contains(told), "{horizon}: {error}");
        }
    }
}
