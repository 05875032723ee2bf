//! `benchmark`: runs of a command, or requests to an address, and what they come to. What `--save` writes, `regress` reads.

mod command;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use clap::Args;

use super::global::WrongUsage;
use super::print::Printer;
use crate::insight::benchmark::{BenchmarkPlan, Statistics, statistics};
use crate::insight::regress::{Baseline, Measured, Results};
use crate::stats::compare::{Better, Centre};
use crate::world::World;

#[derive(Args)]
pub(super) struct BenchmarkArgs {
    /// Time this command, run by the shell; several are timed one after another
    #[arg(long, value_name = "CMD", required_unless_present = "url", conflicts_with = "url")]
    command: Vec<String>,
    /// Time requests to this address, as in http://127.0.0.1:9464/health
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// So many runs, instead of until the median is sure enough
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Runs before those that count
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,
    /// Half the width of the median's interval of 95 % at which it is sure enough
    #[arg(long, value_name = "SHARE", default_value = "1%")]
    precision: String,
    /// No run begins after this; but the first ten do
    #[arg(long, value_name = "TIME", default_value = "30s")]
    time_max: String,
    /// With --command: start the program itself, its arguments parted by blanks (quotes keep them)
    #[arg(long, conflicts_with = "url")]
    no_shell: bool,
    /// With --command: runs that end with another code than 0 count too
    #[arg(long, conflicts_with = "url")]
    ignore_failure: bool,
    /// With --url: requests under way at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrency: usize,
    /// With --url: how long an answer may take
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: String,
    /// Keep the runs in this file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

pub(super) fn benchmark(args: &BenchmarkArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let world = World::real();
    let plan = args.plan()?;
    let mut results = Results::default();
    for text in &args.command {
        let program = command::Program::parse(text, !args.no_shell)?;
        results.metrics.extend(command::run(&program, &plan, args.ignore_failure, &world)?);
    }
    if let Some(url) = &args.url {
        let target = url::Target::new(url, args.concurrency, length("--timeout", &args.timeout)?)?;
        results.metrics.extend(url::run(&target, &plan, &world)?);
    }
    if let Some(path) = &args.save {
        let saved = Baseline::new("benchmark", world.clock.now().to_string(), BTreeMap::new(), results.clone());
        std::fs::write(path, saved.to_json()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&results, printer)
}

impl BenchmarkArgs {
    fn plan(&self) -> Result<BenchmarkPlan, WrongUsage> {
        let plan = BenchmarkPlan {
            warmup: self.warmup,
            runs: self.runs,
            precision: share("--precision", &self.precision)?,
            time_max: length("--time-max", &self.time_max)?,
            ..BenchmarkPlan::default()
        };
        plan.check().map_err(|error| WrongUsage(error.to_string()))?;
        Ok(plan)
    }
}

/// A share as it is typed: `5%` or `0.05`.
pub(super) fn share(option: &str, text: &str) -> Result<f64, WrongUsage> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().ok().map(|number| number / unit);
    let share = share.filter(|share| (0.0..=1e6).contains(share));
    share.ok_or_else(|| WrongUsage(format!("{option} {text} is no share: write 5% or 0.05")))
}

fn length(option: &str, text: &str) -> Result<Duration, WrongUsage> {
    humantime::parse_duration(text)
        .map_err(|error| WrongUsage(format!("{option} {text} is no length of time ({error}): write 30s")))
}

/// A metric of which less is better.
fn measured(unit: &str, centre: Centre, samples: Vec<f64>) -> Measured {
    Measured { unit: unit.to_owned(), better: Better::Lower, centre, samples, stated: None }
}

fn print(results: &Results, printer: &mut Printer) -> anyhow::Result<()> {
    let of = |(name, measured): (&String, &Measured)| {
        Some((name.clone(), measured.unit.clone(), statistics(&measured.samples)?))
    };
    let rows: Vec<(String, String, Statistics)> = results.metrics.iter().filter_map(of).collect();
    let text = |of: &dyn Fn(&(String, String, Statistics)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let count = |of: fn(&Statistics) -> usize| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, _, found)| of(found) as u64)))
    };
    let number = |of: fn(&Statistics) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from_iter(rows.iter().map(|(_, _, found)| of(found))))
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("metric", text(&|row| row.0.clone()), false),
        ("unit", text(&|row| row.1.clone()), false),
        ("runs", count(|found| found.runs), false),
        ("mean", number(|found| Some(found.mean)), true),
        ("deviation", number(|found| Some(found.deviation)), true),
        ("min", number(|found| Some(found.min)), true),
        ("median", number(|found| Some(found.median)), true),
        ("median_low", number(|found| found.median_low), true),
        ("median_high", number(|found| found.median_high), true),
        ("p95", number(|found| Some(found.p95)), true),
        ("p99", number(|found| Some(found.p99)), true),
        ("max", number(|found| Some(found.max)), true),
        ("outliers", count(|found| found.outliers), false),
        ("drift", number(|found| found.drift), true),
    ])?;
    printer.rows(&batch.schema(), &[batch])
}
