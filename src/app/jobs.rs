//! Jobs of the settings: what each does, the table `jobs`, and the command that lists them or runs one now.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Handle;

use super::analyse::answer;
use super::global::{Global, WrongUsage};
use super::node::{Node, settings};
use super::print::Printer;
use super::report::{sections, text_of};
use crate::catalog::{CatalogError, RunLog};
use crate::config::Settings;
use crate::flow::{Intake, Sources};
use crate::insight::jobs::{
    Cancel, ForecastSpec, Job, JobError, JobRow, Jobs, Moment, Outcome, Run, Runner, Task, Work, job_rows,
    jobs as checked,
};
use crate::insight::slo::{Moments, Slo, SloRow, judge};
use crate::model::{Batch, Kind, Labels, SeriesDef, Timestamp, forecast_rows};
use crate::query::{Ahead, Asked, Engine, ForecastRequest, LiveTable, OutputFormat, Progress, QueryError, RowWriter};
use crate::stages::{SaidSample, said_samples};
use crate::store::Store;
use crate::world::World;

/// Jobs at work at once, besides what comes in and is asked.
const AT_ONCE: usize = 2;
/// Runs of each job in the table.
const ROWS: usize = 1000;
/// How often a statement's job looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Samples that are handed in together.
const TOGETHER: usize = 8192;
/// Of whom new series of jobs count.
const SOURCE: &str = "jobs";

#[derive(Args)]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// Runs at most, the newest first
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

#[derive(Subcommand)]
enum JobsCommand {
    /// Run a job of the settings now, whatever its schedule; Ctrl-C ends it
    Run {
        /// Its name
        name: String,
    },
}

/// The jobs of settings; those are checked when they are read.
pub(super) fn jobs_of(settings: &Settings) -> Vec<Arc<Job>> {
    checked(&settings.job).unwrap_or_default()
}

pub(super) fn jobs(global: &Global, args: &JobsArgs, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(JobsCommand::Run { name }) => run_now(global, name),
        None => {
            let statement = format!(
                "SELECT job, scheduled, state, attempt, took_ms, rows, error, next FROM jobs ORDER BY scheduled DESC NULLS FIRST, job LIMIT {}",
                args.limit
            );
            answer(global, &statement, printer)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_now(global: &Global, name: &str) -> anyhow::Result<ExitCode> {
    if global.url.is_some() {
        return Err(WrongUsage("a server runs its jobs by itself: stop it to run one by hand".into()).into());
    }
    let settings = settings(global)?;
    let all = jobs_of(&settings);
    let Some(job) = all.iter().find(|job| job.name == name) else {
        let known: Vec<&str> = all.iter().map(|job| job.name.as_str()).collect();
        return Err(
            WrongUsage(format!("there is no job `{name}` in the settings: there are {}", known.join(", "))).into()
        );
    };
    let node = Node::open_to_write(&global.data, settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(crate::query::STATEMENT_STACK)
        .build()?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} series {eta} {msg}") {
        bar.set_style(style);
    }
    let tells = bar.clone();
    let work = Worker::of(&node, runtime.handle().clone()).telling(move |progress: Progress| {
        tells.set_length(progress.of as u64);
        tells.set_position(progress.done as u64);
    });
    let cancel = Arc::new(Cancel::default());
    let told = cancel.clone();
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            told.set();
        }
    });
    let run = Run { job: job.clone(), scheduled: node.world.clock.now().floor(1_000_000_000), attempt: 1 };
    let came = work.run(&run, &cancel);
    let (done, of) = (bar.position(), bar.length().unwrap_or(0));
    bar.finish_and_clear();
    node.close()?;
    match came {
        Ok(outcome) => {
            eprintln!("job {name} is done: {} rows", outcome.rows);
            Ok(ExitCode::SUCCESS)
        }
        Err(JobError::Cancelled) => {
            anyhow::bail!("job {name} was ended after {done} of {of} series; what they gave is kept")
        }
        Err(error) => anyhow::bail!("job {name}: {error}"),
    }
}

/// Does the work of jobs.
pub(super) struct Worker {
    store: Arc<Store>,
    engine: Arc<Engine>,
    intake: Arc<dyn Intake>,
    slos: Vec<Slo>,
    /// How far ahead of the clock a sample may be.
    future_max: Duration,
    handle: Handle,
    tell: Box<dyn Fn(Progress) + Send + Sync>,
}

impl Worker {
    pub fn of(node: &Node, handle: Handle) -> Worker {
        Worker {
            store: node.store.clone(),
            engine: node.engine.clone(),
            intake: node.doors.source(SOURCE),
            slos: super::slo::slos_of(&node.settings),
            future_max: node.settings.ingest.future_max,
            handle,
            tell: Box::new(|_| {}),
        }
    }

    fn telling(self, tell: impl Fn(Progress) + Send + Sync + 'static) -> Worker {
        Worker { tell: Box::new(tell), ..self }
    }

    /// Rows that are kept under the series and the scheduled time: issued again, they take the place of the former. Some series at a
    /// time, so that memory holds few; what was forecast before the run was told to stop is kept.
    fn forecast(&self, spec: &ForecastSpec, run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        let mut ahead = Ahead::new(spec.horizon).map_err(failed)?;
        ahead.level = spec.level;
        // As it would have been at that time, however late it is.
        ahead.as_of = Some(run.scheduled);
        let request = ForecastRequest {
            metric: spec.metric.clone(),
            labels: spec.series.clone(),
            ahead,
            issued: run.scheduled,
            job: spec.name.as_deref().unwrap_or(&run.job.name).into(),
        };
        let (mut rows, mut fault) = (0, None);
        self.engine
            .forecasts(&request, |issued, progress| {
                let batch = Batch { rows: forecast_rows(&issued).into_iter().collect(), ..Batch::default() };
                rows += batch.rows.iter().map(|rows| rows.batch.num_rows() as u64).sum::<u64>();
                if cancel.is_set() {
                    return ControlFlow::Break(());
                }
                if let Err(error) = self.intake.accept(batch) {
                    fault = Some(JobError::Failed(error.to_string()));
                    return ControlFlow::Break(());
                }
                (self.tell)(progress);
                ControlFlow::Continue(())
            })
            .map_err(failed)?;
        match fault {
            Some(fault) => Err(fault),
            None if cancel.is_set() => Err(JobError::Cancelled),
            None => self.durable(cancel, rows),
        }
    }

    /// Waits until what was written is as safe as it gets; then the run is done.
    fn durable(&self, cancel: &Cancel, rows: u64) -> Result<Outcome, JobError> {
        cancel.commit(|| self.store.sync().map_err(|error| JobError::Failed(error.to_string())))?;
        Ok(Outcome { rows })
    }

    fn sql(&self, (text, into): (&str, Option<&str>), run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        let batches = self.ask(text, run, cancel)?;
        let Some(into) = into else {
            return Ok(Outcome { rows: batches.iter().map(|batch| batch.num_rows() as u64).sum() });
        };
        let mut samples = Vec::new();
        for batch in &batches {
            samples.extend(said_samples(batch, into).map_err(JobError::Failed)?);
        }
        let ahead = i64::try_from(self.future_max.as_nanos()).unwrap_or(i64::MAX);
        let possible = Timestamp::EARLIEST..=run.scheduled.plus(ahead);
        let sample = |said: SaidSample| match said.time.map_or(run.scheduled, Timestamp::from_nanos) {
            time if possible.contains(&time) => Ok((said.def, time, said.value)),
            time => Err(JobError::Failed(format!("a row has the time {time}, which no sample may have"))),
        };
        let samples = samples.into_iter().map(sample).collect::<Result<Vec<_>, JobError>>()?;
        self.store_samples(samples.into_iter(), cancel)
    }

    /// What objectives came to at the scheduled time, as samples.
    fn slo(&self, run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        let mut ask = |statement: &str| self.ask(statement, run, cancel).map_err(|error| error.to_string());
        let judged = judge(&self.slos, Moments::At(run.scheduled), &mut ask);
        if cancel.is_set() {
            return Err(JobError::Cancelled);
        }
        if let (true, Some(error)) = (judged.rows.is_empty(), judged.failed.first()) {
            return Err(JobError::Failed(error.clone()));
        }
        let samples = judged.rows.iter().flat_map(|row| {
            let def = |metric: &str| SeriesDef {
                kind: Kind::Gauge,
                ..SeriesDef::new(metric, Labels::new([("slo", row.slo.as_str()), ("group", row.group.as_str())]))
            };
            let told = numbers(row).into_iter().filter_map(|(metric, value)| Some((metric, value?)));
            told.map(move |(metric, value)| (def(metric), run.scheduled, value)).collect::<Vec<_>>()
        });
        self.store_samples(samples, cancel)
    }

    fn store_samples(
        &self,
        samples: impl Iterator<Item = (SeriesDef, Timestamp, f64)>,
        cancel: &Cancel,
    ) -> Result<Outcome, JobError> {
        cancel.commit(|| {
            let told = |error: crate::flow::Refusal| JobError::Failed(error.to_string());
            let (mut batch, mut rows) = (Batch::default(), 0);
            for (def, time, value) in samples {
                batch.push(self.intake.intern(&def).map_err(told)?, time, value);
                rows += 1;
                if batch.len() == TOGETHER {
                    self.intake.accept(std::mem::take(&mut batch)).map_err(told)?;
                }
            }
            self.intake.accept(batch).map_err(told)?;
            self.store.sync().map_err(|error| JobError::Failed(error.to_string()))?;
            Ok(Outcome { rows })
        })
    }

    /// A file of Markdown, named by the report and the scheduled time: there whole, or not at all.
    fn report(&self, (name, out): (&str, Option<&str>), run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        let told = |error: &dyn std::fmt::Display| JobError::Failed(error.to_string());
        let text = text_of(name).map_err(|error| told(&error))?;
        let sections = sections(&text, &std::collections::BTreeMap::new()).map_err(|error| told(&error))?;
        let (mut page, mut rows) = (Vec::new(), 0);
        for section in &sections {
            let batches = self.ask(section.statement(), run, cancel)?;
            if let Some(title) = section.title() {
                page.extend_from_slice(format!("\n## {title}\n\n").as_bytes());
            }
            let Some(schema) = batches.first().map(RecordBatch::schema) else { continue };
            let mut writer = RowWriter::new(OutputFormat::Markdown, schema, &mut page).map_err(|error| told(&error))?;
            for batch in &batches {
                rows += batch.num_rows() as u64;
                writer.write(batch).map_err(|error| told(&error))?;
            }
            writer.finish().map_err(|error| told(&error))?;
        }
        let folder = out.map_or_else(|| self.store.dir().join("reports"), PathBuf::from);
        let file = format!("{name}-{}.md", run.scheduled.to_string().replace(':', ""));
        cancel.commit(|| {
            let unfinished = folder.join(format!("{file}.unfinished"));
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(&unfinished, &page))
                .and_then(|()| fs::File::open(&unfinished)?.sync_all())
                .and_then(|()| fs::rename(&unfinished, folder.join(&file)))
                .map_err(|error| JobError::Failed(format!("cannot write {}: {error}", folder.join(&file).display())))
        })?;
        Ok(Outcome { rows })
    }

    /// The rows of a statement, unless the run is told to stop.
    fn ask(&self, statement: &str, run: &Run, cancel: &Cancel) -> Result<Vec<RecordBatch>, JobError> {
        let asked = Asked { timeout: Some(run.job.timeout), ..Asked::plainly(statement) };
        // As part of what queries may hold: a job's answer is whole before it is stored.
        let rows = async { Ok(self.engine.hold(self.engine.ask(asked).await?).await?.batches) };
        let told = async {
            while !cancel.is_set() {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.handle.block_on(async {
            tokio::select! {
                rows = rows => rows.map_err(failed::<QueryError>),
                () = told => Err(JobError::Cancelled),
            }
        })
    }
}

fn failed<E: std::fmt::Display>(error: E) -> JobError {
    JobError::Failed(error.to_string())
}

/// Metrics of an objective's row.
fn numbers(row: &SloRow) -> [(&'static str, Option<f64>); 4] {
    let alert = match row.alert {
        "page" => 2.0,
        "ticket" => 1.0,
        _ => 0.0,
    };
    [
        ("slo_sli_percent", row.sli),
        ("slo_budget_remaining", row.budget_remaining),
        ("slo_burn_1h", row.burns[2]),
        ("slo_alert", Some(alert)),
    ]
}

impl Task for Worker {
    fn run(&self, run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        match &run.job.work {
            Work::Forecast(spec) => self.forecast(spec, run, cancel),
            Work::Sql { text, into } => self.sql((text, into.as_deref()), run, cancel),
            Work::Report { name, out } => self.report((name, out.as_deref()), run, cancel),
            Work::Slo => self.slo(run, cancel),
        }
    }
}

/// Runs a node's jobs when they are due; `None` where it has none.
pub(super) fn start(node: &Node, handle: &Handle) -> anyhow::Result<Option<Jobs>> {
    let jobs = jobs_of(&node.settings);
    if jobs.is_empty() {
        return Ok(None);
    }
    let log: Arc<dyn RunLog> = Arc::new(node.store.runs()?);
    let at = Moment::of(&*node.world.clock);
    let open = || Runner::open(jobs.clone(), AT_ONCE, log.clone(), &|_| None, at);
    let runner = match open() {
        Err(error @ CatalogError::Damaged { .. }) => {
            tracing::error!(%error, "what is kept of jobs is damaged and forgotten: they begin as if they were new");
            node.store.runs()?.clear()?;
            open()
        }
        opened => opened,
    }
    .context("cannot read what is kept of jobs")?;
    let worker = Arc::new(Worker::of(node, handle.clone()));
    Ok(Some(Jobs::start(runner, worker, node.world.clock.clone()).context("cannot start the jobs")?))
}

/// The table `jobs`.
pub(super) fn table(store: &Arc<Store>, settings: &Settings, world: &World) -> LiveTable {
    let (store, jobs, clock) = (Arc::downgrade(store), jobs_of(settings), world.clock.clone());
    let rows = move || {
        let store = store.upgrade().ok_or("the store is closed")?;
        let log = store.runs().map_err(|error| error.to_string())?;
        let rows = job_rows(&log, &jobs, clock.now(), ROWS).map_err(|error| error.to_string())?;
        job_batch(&rows).map_err(|error| error.to_string())
    };
    let schema = job_batch(&[]).expect("columns of one length").schema();
    LiveTable { name: "jobs", schema, rows: Arc::new(rows) }
}

fn job_batch(rows: &[JobRow]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let time = |of: fn(&JobRow) -> Option<Timestamp>| -> ArrayRef {
        let nanos = rows.iter().map(|row| of(row).map(Timestamp::nanos));
        Arc::new(nanos.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let count = |of: fn(&JobRow) -> Option<u64>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<UInt64Array>()) };
    let jobs: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.job)));
    let states: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.state)));
    let attempts: ArrayRef = Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.attempt)));
    let errors: ArrayRef = Arc::new(rows.iter().map(|row| row.error.as_deref()).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("job", jobs, false),
        ("scheduled", time(|row| row.scheduled), true),
        ("started", time(|row| row.started), true),
        ("ended", time(|row| row.ended), true),
        ("state", states, false),
        ("attempt", attempts, false),
        ("rows", count(|row| row.rows), true),
        ("error", errors, true),
        ("took_ms", count(|row| row.took_ms), true),
        ("next", time(|row| row.next), true),
    ])
}
