//! `capacity`: how full resources are, when they run out, what size and how many replicas they need, and what an autoscaler is told.

use std::io::Write;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use clap::Args;

use super::analyse::literal;
use super::forecast::{FileArgs, of_file};
use super::global::{Format, Global, WrongUsage};
use super::node::settings;
use super::print::Printer;
use super::regress::by_series;
use super::source::Source;
use crate::insight::capacity::{
    Aggregate, Ahead, Autoscaler, CapacityRow, CapacitySpec, Planned, Replicas, Resource, ResourceSpec, Scaled,
    TargetRef, Usage, capacity_rows, dashboard, disk_size, own_resources, together,
};
use crate::stats::{native_step, to_grid};
use crate::world::World;

/// Of a table for eyes: the others are there in all formats.
const COLUMNS: [&str; 12] = [
    "resource",
    "series",
    "status",
    "current",
    "p95",
    "peak",
    "limit",
    "trend_a_day",
    "limit_p50",
    "used_at_horizon_p50",
    "replicas_now",
    "replicas_recommended",
];

#[derive(Args)]
pub(super) struct CapacityArgs {
    /// A resource of the settings, cpu, memory, requests, disk, own_disk or own_series; all without it
    resource: Option<String>,
    /// Percent of the capacity at which trouble begins; of a file, the value
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    limit: Option<f64>,
    /// How far ahead [default: 30d, of the settings]
    #[arg(long, value_name = "LENGTH")]
    horizon: Option<String>,
    /// Print a HorizontalPodAutoscaler for Kubernetes as YAML; as JSON with --format json
    #[arg(long, conflicts_with = "input")]
    hpa: bool,
    /// With --hpa: the Deployment that is scaled
    #[arg(long, value_name = "NAME", requires = "hpa")]
    deployment: Option<String>,
    /// With --hpa: its namespace
    #[arg(long, value_name = "NAME", requires = "hpa")]
    namespace: Option<String>,
    /// Print replicas for each hour of the week, as JSON
    #[arg(long, conflicts_with_all = ["input", "hpa"])]
    schedule: bool,
    /// Print all that is known as one JSON object
    #[arg(long, conflicts_with_all = ["input", "hpa", "schedule"])]
    dashboard: bool,
    #[command(flatten)]
    file: FileArgs,
}

pub(super) fn capacity(global: &Global, args: &CapacityArgs, printer: &mut Printer) -> anyhow::Result<()> {
    if let Some(input) = &args.file.input {
        let Some(limit) = args.limit else {
            return Err(WrongUsage("--input wants a --limit: the value that is not to be reached".into()).into());
        };
        return of_file(global, &args.file, input, args.horizon.as_deref().unwrap_or("30d"), Some(limit));
    }
    let settings = settings(global)?;
    let mut spec = settings.capacity.clone();
    if let Some(horizon) = &args.horizon {
        spec.horizon = length(horizon)?;
    }
    let source = Source::open(global)?;
    let resources = resources(args, &spec, &source, settings.ingest.series_max)?;
    let mut planned = Vec::new();
    for resource in &resources {
        planned.extend(plans(&source, resource, &spec)?);
    }
    if planned.is_empty() {
        let metrics: Vec<&str> = resources.iter().map(|resource| resource.metric.as_str()).collect();
        anyhow::bail!(
            "nothing is stored of {}: name the metrics that are under [capacity.resources.NAME], as in metric = \"cpu_usage_percent\"",
            metrics.join(", ")
        );
    }
    if args.hpa || args.schedule {
        planned = planned.into_iter().map(|planned| planned.autoscaled(&spec)).collect();
    }
    tell(global, args, &spec, &planned, printer)
}

fn tell(
    global: &Global,
    args: &CapacityArgs,
    spec: &CapacitySpec,
    planned: &[Planned],
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.hpa {
        let manifest = manifest(args, planned)?;
        match global.format {
            Format::Json => writeln!(out, "{:#}", manifest.json())?,
            _ => write!(out, "{}", manifest.yaml()?)?,
        }
        return Ok(());
    }
    if args.schedule {
        let schedules: serde_json::Map<String, serde_json::Value> = planned
            .iter()
            .map(|planned| Ok((planned.analysis.series.clone(), serde_json::to_value(planned.schedule())?)))
            .collect::<anyhow::Result<_>>()?;
        writeln!(out, "{:#}", serde_json::Value::Object(schedules))?;
        return Ok(());
    }
    if args.dashboard {
        writeln!(out, "{:#}", dashboard(planned, spec, World::real().clock.now()))?;
        return Ok(());
    }
    drop(out);
    let rows = capacity_rows(&planned.iter().map(CapacityRow::of).collect::<Vec<_>>())?;
    if global.format != Format::Table {
        return printer.rows(&rows.schema(), &[rows]);
    }
    let places = COLUMNS.iter().map(|name| rows.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let shown = rows.project(&places)?;
    printer.rows(&shown.schema(), &[shown])?;
    let mut advice: Vec<_> = planned.iter().flat_map(|planned| &planned.advice).collect();
    advice.sort_by_key(|advice| advice.priority);
    advice.iter().for_each(|advice| eprintln!("{}. {}", advice.priority, advice.text));
    Ok(())
}

fn manifest(args: &CapacityArgs, planned: &[Planned]) -> anyhow::Result<Autoscaler> {
    // One rule a resource: that of its fullest series.
    let mut fullest: Vec<&Planned> = planned.iter().filter(|planned| planned.tuned.is_some()).collect();
    fullest.sort_by(|a, b| b.analysis.used.p95.total_cmp(&a.analysis.used.p95));
    let mut scaled: Vec<Scaled<'_>> = Vec::new();
    for planned in fullest {
        let resource = &planned.resource;
        if let Some(tuned) = &planned.tuned
            && !scaled.iter().any(|scaled| scaled.resource.name == resource.name)
        {
            scaled.push(Scaled { resource, rules: tuned.rules, metric: &resource.metric });
        }
    }
    let name = args.deployment.as_deref().or(args.resource.as_deref()).unwrap_or("app");
    let target = TargetRef::deployment(name);
    Autoscaler::of(target, args.namespace.as_deref(), &scaled).ok_or_else(|| {
        anyhow::anyhow!(
            "an autoscaler has nothing to go by: of the resources none scales by replicas and has a history of a day; \
             write autoscale = \"cpu\" (or memory, pods, external) under [capacity.resources.NAME]"
        )
    })
}

fn length(text: &str) -> Result<Duration, WrongUsage> {
    let length = humantime::parse_duration(text).ok().filter(|length| !length.is_zero());
    length.ok_or_else(|| WrongUsage(format!("--horizon {text} is no length of time: write 30d")))
}

/// Those asked for.
fn resources(
    args: &CapacityArgs,
    spec: &CapacitySpec,
    source: &Source,
    series_max: u64,
) -> anyhow::Result<Vec<Resource>> {
    let mut all = spec.resources();
    let own = bytes(source, "SELECT sum(bytes) FROM system.segments")?;
    let free = source.free_bytes();
    let [disk, series] = own_resources(spec, disk_size(own, free.unwrap_or(0)), series_max);
    // What is free beside the files of a server elsewhere is not known.
    all.extend(free.map(|_| disk));
    all.push(series);
    if let Some(name) = &args.resource {
        let known: Vec<String> = all.iter().map(|resource| resource.name.clone()).collect();
        all.retain(|resource| resource.name == *name);
        if all.is_empty() {
            // A metric can be asked about, too.
            let of_metric = ResourceSpec { metric: Some(name.clone()), ..ResourceSpec::default() };
            if bytes(source, &format!("SELECT count(*) FROM system.metrics WHERE metric LIKE {}", literal(name)))? == 0
            {
                let told = format!("there is no resource or metric `{name}`: resources are {}", known.join(", "));
                return Err(WrongUsage(told).into());
            }
            all.push(of_metric.resource(name));
        }
    }
    Ok(match args.limit {
        Some(limit) => all.into_iter().map(|resource| resource.with_limit(limit)).collect(),
        None => all,
    })
}

fn bytes(source: &Source, statement: &str) -> anyhow::Result<u64> {
    let (_, rows) = source.sql(statement)?;
    let Some(first) = rows.iter().find(|batch| batch.num_rows() > 0) else { return Ok(0) };
    let count = cast(first.column(0), &DataType::Float64)?;
    let count = count.as_primitive::<Float64Type>();
    Ok(if count.is_valid(0) { count.value(0) as u64 } else { 0 })
}

/// A series on its grid.
struct Grid {
    series: String,
    start: i64,
    step: i64,
    values: Vec<f64>,
}

impl Grid {
    /// The same numbers at the times of another grid; each holds until the next.
    fn on(&self, other: &Grid) -> Vec<f64> {
        let at = |place: usize| {
            let time = other.start + place as i64 * other.step;
            let place = usize::try_from((time - self.start).div_euclid(self.step)).ok()?;
            self.values[..self.values.len().min(place + 1)].iter().rev().find(|value| value.is_finite()).copied()
        };
        (0..other.values.len()).map(|place| at(place).unwrap_or(f64::NAN)).collect()
    }
}

/// Plans of a resource: of each of its series, or of all together.
fn plans(source: &Source, resource: &Resource, spec: &CapacitySpec) -> anyhow::Result<Vec<Planned>> {
    let mut grids = grids(source, &resource.metric, &resource.labels, spec.history)?;
    if let Some(all) = all_together(&grids, resource) {
        grids = vec![all];
    }
    let replicas = match &resource.replicas {
        Replicas::Metric(metric) => {
            let grids = self::grids(source, metric, "", spec.history)?;
            all_together(&grids, &Resource { aggregate: Aggregate::Sum, ..resource.clone() })
        }
        Replicas::Number(_) => None,
    };
    let plan = |grid: &Grid| {
        let counts = replicas.as_ref().map(|replicas| replicas.on(grid)).unwrap_or_default();
        let (start, step, values) = (grid.start, grid.step, &grid.values[..]);
        let usage = Usage { series: &grid.series, start, step, values, replicas: &counts };
        let fixed = if let Replicas::Number(count) = resource.replicas { f64::from(count) } else { 1.0 };
        let now = counts.iter().rev().find(|count| count.is_finite()).copied().unwrap_or(fixed);
        let ahead = Ahead::of(resource, &usage, now, spec.horizon);
        Planned::of(resource, &usage, &ahead.outlook(), spec)
    };
    Ok(grids.iter().filter_map(plan).collect())
}

/// The series of a metric, the latest of their history.
fn grids(source: &Source, metric: &str, labels: &str, history: Duration) -> anyhow::Result<Vec<Grid>> {
    // What is not there has no series, rather than being wrong: so the name is a pattern, and then itself.
    let pattern = if metric.contains('%') { metric.to_owned() } else { format!("{metric}%") };
    let own = if metric.contains('%') { String::new() } else { format!("WHERE metric = {}", literal(metric)) };
    let statement = format!(
        "SELECT series, time, value FROM resample({}, '', {}, now() - INTERVAL '{} seconds') {own} ORDER BY series, time",
        literal(&pattern),
        literal(labels),
        history.as_secs()
    );
    let rows = by_series(&source.sql(&statement)?.1)?;
    let grid = |(series, times, values): (String, Vec<i64>, Vec<f64>)| {
        let step = native_step(&times)?;
        let (start, values) = to_grid(&times, &values, step);
        Some(Grid { series, start, step, values })
    };
    Ok(rows.into_iter().filter_map(grid).collect())
}

/// All as one, where the resource asks for that.
fn all_together(grids: &[Grid], resource: &Resource) -> Option<Grid> {
    let step = grids.iter().map(|grid| grid.step).max()?;
    let start = grids.iter().map(|grid| grid.start).min()?;
    let end = grids.iter().map(|grid| grid.start + grid.step * grid.values.len() as i64).max()?;
    let (first, length) = (start.div_euclid(step), usize::try_from((end - start) / step + 1).ok()?);
    let on = |grid: &Grid| {
        let times: Vec<i64> = (0..grid.values.len() as i64).map(|at| grid.start + at * grid.step).collect();
        let (from, means) = to_grid(&times, &grid.values, step);
        let mut row = vec![f64::NAN; length];
        let at = usize::try_from(from.div_euclid(step) - first).unwrap_or(0);
        row.iter_mut().skip(at).zip(means).for_each(|(cell, mean)| *cell = mean);
        row
    };
    let rows: Vec<Vec<f64>> = grids.iter().map(on).collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let mut values = together(&rows, resource.aggregate)?;
    // Where it ends, no series has a whole step.
    while values.last().is_some_and(|value| value.is_nan()) {
        values.pop();
    }
    Some(Grid { series: resource.metric.clone(), start: first * step, step, values })
}
