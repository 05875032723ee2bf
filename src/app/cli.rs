//! The command line: what can be typed, and how a command ends.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::global::{Color, Global, WrongUsage};
use super::print::Printer;
use super::{
    analyse, backup, benchmark, capacity, changepoints, check, demo, explain, export, forecast, import, jobs,
    pipelines, regress, replay, report, serve, slo, sql, stats, verify,
};
use crate::config::ConfigFaults;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = "plimsoll", version, about = "Metrics in, pipelines over them, Parquet at rest, SQL on top")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load the sample recording, run the default pipeline over it and print the report
    Demo(demo::DemoArgs),
    /// Listen, collect, run the pipelines and answer
    Serve(serve::ServeArgs),
    /// Read files into the store: line protocol, Prometheus text, CSV, NDJSON, Parquet
    Import(import::ImportArgs),
    /// Write metrics or the rows of a query to files
    Export(export::ExportArgs),
    /// Answer one statement, a file of them, or those typed
    Sql(sql::SqlArgs),
    /// Run a report of `queries/`; without a name, list them
    Report(report::ReportArgs),
    /// Forecast a metric, or the series of a file, with intervals
    Forecast(forecast::ForecastArgs),
    /// How full resources are, when they run out, what they need and cost; settings for an autoscaler
    Capacity(capacity::CapacityArgs),
    /// What was unusual
    Anomalies(analyse::AnomaliesArgs),
    /// What moved with what
    Correlate(analyse::CorrelateArgs),
    /// When the level of the series of a file became another
    Changepoints(changepoints::ChangepointsArgs),
    /// What changed most: in a window of history against its past, or between two files
    Explain(explain::ExplainArgs),
    /// What objectives came to, and how fast their error budgets burn; exit code 3 where one is spent
    Slo(slo::SloArgs),
    /// Whether results of performance tests are worse than before; exit code 3 where they are
    Regress(regress::RegressArgs),
    /// Time a command, or requests to an address, until it is sure enough
    Benchmark(benchmark::BenchmarkArgs),
    /// Runs of the jobs in the settings, or one now
    Jobs(jobs::JobsArgs),
    /// Run a pipeline over stored history: to fill a new one, to try one, or to hold it against what is stored
    Replay(replay::ReplayArgs),
    /// Check settings, pipelines and queries: every fault at once
    Check(check::CheckArgs),
    /// Read everything at rest and hold it against its checksums; exit code 3 where something is wrong
    Verify,
    /// Set right what `verify` finds wrong: save what reads, set the rest aside, list what is lost
    Repair(verify::RepairArgs),
    /// Make a complete data directory of all that is stored by now, while the store is in use
    Snapshot(backup::SnapshotArgs),
    /// Make a store of a snapshot, or take samples of it into the store there is
    Restore(backup::RestoreArgs),
    /// Merge what can be merged now
    Compact,
    /// What the store holds
    Stats,
    /// Draw the pipelines, with what goes through them now
    Pipelines(pipelines::PipelinesArgs),
}

/// Runs the program; its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 3 a gate said no.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    log(&cli.global);
    match command(&cli) {
        Ok(code) => code,
        Err(error) => {
            // A reader that has seen enough (`plimsoll sql … | head`) is no failure.
            let is_pipe = |cause: &(dyn std::error::Error + 'static)| {
                cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
            };
            if error.chain().any(is_pipe) {
                return ExitCode::SUCCESS;
            }
            let told: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("plimsoll: {}", told.join(": "));
            let wrong = error.downcast_ref::<ConfigFaults>().is_some() || error.downcast_ref::<WrongUsage>().is_some();
            ExitCode::from(if wrong { WRONG_USAGE } else { FAILED })
        }
    }
}

fn command(cli: &Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    let mut printer = Printer::new(global.format.into());
    match &cli.command {
        Command::Demo(args) => demo::demo(global, args, &mut printer)?,
        Command::Serve(args) => serve::serve(global, args)?,
        Command::Import(args) => import::import(global, args)?,
        Command::Export(args) => export::export(global, args)?,
        Command::Sql(args) => sql::sql(global, args, &mut printer)?,
        Command::Report(args) => report::report(global, args, &mut printer)?,
        Command::Forecast(args) => forecast::forecast(global, args, &mut printer)?,
        Command::Capacity(args) => capacity::capacity(global, args, &mut printer)?,
        Command::Anomalies(args) => analyse::anomalies(global, args, &mut printer)?,
        Command::Correlate(args) => analyse::correlate(global, args, &mut printer)?,
        Command::Changepoints(args) => changepoints::changepoints(global, args)?,
        Command::Explain(args) => explain::explain(global, args, &mut printer)?,
        Command::Slo(args) => return slo::slo(global, args, &mut printer),
        Command::Regress(args) => return regress::regress(global, args, &mut printer),
        Command::Benchmark(args) => benchmark::benchmark(args, &mut printer)?,
        Command::Jobs(args) => return jobs::jobs(global, args, &mut printer),
        Command::Replay(args) => return replay::replay(global, args, &mut printer),
        Command::Check(args) => return check::check(global, args),
        Command::Verify => return verify::verify(global, &mut printer),
        Command::Repair(args) => return verify::repair(global, args, &mut printer),
        Command::Snapshot(args) => backup::snapshot(global, args)?,
        Command::Restore(args) => backup::restore(global, args)?,
        Command::Compact => stats::compact(global)?,
        Command::Stats => stats::stats(global, &mut printer)?,
        Command::Pipelines(args) => pipelines::pipelines(global, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn log(global: &Global) {
    use std::io::IsTerminal;
    let level = match global.verbose {
        0 => "warn",
        1 => "plimsoll=info,warn",
        _ => "plimsoll=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLIMSOLL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let color = match global.color {
        Color::Auto => std::io::stderr().is_terminal(),
        Color::Always => true,
        Color::Never => false,
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).init();
}
