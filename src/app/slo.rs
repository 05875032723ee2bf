//! `slo`, and the table of that name: what objectives came to, of the settings, of a file of their own, or those that come with the
//! program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock, Weak};

use anyhow::Context;
use arrow::array::RecordBatch;
use clap::Args;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::global::{Format, Global, WrongUsage};
use super::node::settings;
use super::print::Printer;
use super::source::Source;
use crate::config::{Settings, read_slos};
use crate::insight::slo::{AskSql, DEFAULT_SLOS, Judged, Moments, Slo, SloSpec, judge, slo_rows, slo_schema};
use crate::model::{Span, Timestamp};
use crate::query::{Engine, LiveTable};
use crate::world::World;

/// A gate said no.
const MISSED: u8 = 3;
/// Of a table for eyes: the others are there in all formats.
const COLUMNS: [&str; 11] = [
    "slo",
    "group",
    "at",
    "objective",
    "sli",
    "budget_remaining",
    "burn_1h",
    "burn_6h",
    "burn_3d",
    "alert",
    "data_share",
];

#[derive(Args)]
pub(super) struct SloArgs {
    /// A file of `[[slo]]` in place of those of the settings
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// Only those whose names hold this text
    name: Option<String>,
    /// As of this time (RFC 3339, or as in 2h: so long ago)
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    at: Option<String>,
    /// Every so often from this time on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// With --from: to this time
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    /// With --from: how often
    #[arg(long, value_name = "LENGTH", default_value = "1h", requires = "from")]
    every: String,
    /// Exit with 3 where one pages, too, not only where a budget is spent
    #[arg(long)]
    alerting: bool,
}

/// Objectives that there are where nobody wrote any.
fn defaults() -> Vec<SloSpec> {
    #[derive(Deserialize)]
    struct File {
        slo: Vec<SloSpec>,
    }
    toml::from_str::<File>(DEFAULT_SLOS).map(|file| file.slo).unwrap_or_default()
}

/// The objectives of settings.
pub(super) fn slos_of(settings: &Settings) -> Vec<Slo> {
    let specs = if settings.slo.is_empty() { defaults() } else { settings.slo.clone() };
    // They were checked with the settings.
    Slo::from_specs(&specs).unwrap_or_default()
}

pub(super) fn slo(global: &Global, args: &SloArgs, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let mut slos = match &args.slo {
        None => slos_of(&settings(global)?),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read the file {}", path.display()))?;
            read_slos(&path.display().to_string(), &text)?
        }
    };
    if let Some(name) = &args.name {
        slos.retain(|slo| slo.name.contains(name.as_str()));
        if slos.is_empty() {
            return Err(WrongUsage(format!("no SLO has `{name}` in its name")).into());
        }
    }
    let moments = moments(args)?;
    let source = Source::open(global)?;
    let mut ask = |statement: &str| source.sql(statement).map(|(_, rows)| rows).map_err(|error| format!("{error:#}"));
    let judged = judge(&slos, moments, &mut ask);
    tell(&judged, moments, printer)?;
    // Over a stretch of time its end counts.
    let last = judged.rows.iter().map(|row| row.at).max();
    let is_missed = judged
        .rows
        .iter()
        .filter(|row| Some(row.at) == last)
        .any(|row| row.violated || args.alerting && row.alert == "page");
    if !is_missed && let Some(told) = judged.failed.first() {
        anyhow::bail!("{told}");
    }
    Ok(if is_missed { ExitCode::from(MISSED) } else { ExitCode::SUCCESS })
}

fn moments(args: &SloArgs) -> Result<Moments, WrongUsage> {
    let now = World::real().clock.now();
    let moment = |text: &String| match humantime::parse_duration(text) {
        Ok(ago) => Ok(now.plus(-i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))),
        Err(_) => Timestamp::parse(text).map_err(|error| WrongUsage(error.to_string())),
    };
    let Some(from) = &args.from else {
        return Ok(Moments::At(args.at.as_ref().map_or(Ok(now), moment)?));
    };
    let (from, to) = (moment(from)?, args.to.as_ref().map_or(Ok(now), moment)?);
    let every = humantime::parse_duration(&args.every).ok().filter(|every| !every.is_zero());
    let Some(every) = every else {
        return Err(WrongUsage(format!("--every {} is no length of time: write 1h", args.every)));
    };
    if from >= to {
        return Err(WrongUsage(format!("--to {to} is not after --from {from}")));
    }
    Ok(Moments::Over(Span::new(from, to), i64::try_from(every.as_nanos()).unwrap_or(i64::MAX)))
}

fn tell(judged: &Judged, moments: Moments, printer: &mut Printer) -> anyhow::Result<()> {
    judged.notes.iter().for_each(|note| eprintln!("plimsoll: {note}"));
    judged.failed.iter().for_each(|told| eprintln!("plimsoll: {told}"));
    let rows = slo_rows(&judged.rows);
    if printer.format != Format::Table.into() {
        return printer.rows(&rows.schema(), &[rows]);
    }
    let places = COLUMNS.iter().filter(|name| **name != "at" || matches!(moments, Moments::Over(..)));
    let places = places.map(|name| rows.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let shown = rows.project(&places)?;
    printer.rows(&shown.schema(), &[shown])?;
    if matches!(moments, Moments::At(_)) {
        judged.rows.iter().for_each(|row| eprintln!("{}", row.told));
    }
    Ok(())
}

/// Judges the objectives of a node for who asks for the table.
pub(super) struct Judge {
    slos: Arc<Vec<Slo>>,
    /// Who is asked, once there is one.
    engine: Arc<OnceLock<Weak<Engine>>>,
}

impl Judge {
    pub fn new(settings: &Settings) -> Judge {
        Judge { slos: Arc::new(slos_of(settings)), engine: Arc::default() }
    }

    pub fn asks(&self, engine: &Arc<Engine>) {
        // It is told of one engine.
        let _ = self.engine.set(Arc::downgrade(engine));
    }

    pub fn table(&self, world: &World) -> LiveTable {
        let (slos, engine, clock) = (self.slos.clone(), self.engine.clone(), world.clock.clone());
        let rows = move || {
            let engine = engine.get().and_then(Weak::upgrade).ok_or("the store is closed")?;
            // Whoever makes rows of a table may wait.
            let handle = Handle::try_current().map_err(|error| error.to_string())?;
            let mut ask = |statement: &str| -> Result<Vec<RecordBatch>, String> {
                handle.block_on(engine.collect(statement)).map(|(_, rows)| rows).map_err(|error| error.to_string())
            };
            told(judge(&slos, Moments::At(clock.now()), &mut ask as &mut AskSql<'_>))
        };
        LiveTable { name: "slo", schema: slo_schema(), rows: Arc::new(rows) }
    }
}

/// An objective that cannot be asked about leaves the others be.
fn told(judged: Judged) -> Result<RecordBatch, String> {
    match judged.failed.first() {
        Some(error) if judged.rows.is_empty() => Err(error.clone()),
        _ => {
            judged.failed.iter().for_each(|error| tracing::warn!("{error}"));
            Ok(slo_rows(&judged.rows))
        }
    }
}
