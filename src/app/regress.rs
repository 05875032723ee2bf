//! `regress`: results of performance tests against those of before, and trends that come bit by bit.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::json::ReaderBuilder;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::analyse::literal;
use super::benchmark::share;
use super::global::{Global, WrongUsage};
use super::print::Printer;
use super::source::Source;
use crate::insight::regress::{
    Baseline, DriftOptions, RegressOptions, Results, Row, drifts, is_criterion_file, read_results, report,
};
use crate::model::Timestamp;
use crate::query::LiveTable;
use crate::stats::compare::{Better, Verdict};
use crate::stats::native_step;
use crate::stats::trend::{LeakOptions, TrendOptions, leak, trend};
use crate::world::World;

/// A gate said no.
const REGRESSION: u8 = 3;
/// Where baselines are, below the data directory, and the results of tests beside them.
const FOLDER: &str = "baselines";
const TESTS: &str = "tests.ndjson";
/// Nanoseconds below which a rise may be the time of day.
const LEAK_LENGTH_MIN: i64 = 86_400_000_000_000;

#[derive(Args)]
pub(super) struct RegressArgs {
    #[command(subcommand)]
    command: RegressCommand,
}

#[derive(Subcommand)]
enum RegressCommand {
    /// Keep results under a name, to test others against
    Baseline {
        name: String,
        #[command(flatten)]
        files: ResultFiles,
        /// What they are of, as in commit=e38220a
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// Compare results with a baseline; exit code 3 where a metric is worse
    Test {
        name: String,
        #[command(flatten)]
        files: ResultFiles,
        /// Least change that counts
        #[arg(long, value_name = "SHARE", default_value = "3%")]
        min_effect: String,
        /// Chance of any false alarm
        #[arg(long, value_name = "P", default_value_t = 0.01)]
        alpha: f64,
        /// Which way all metrics ought to go, where their names and files do not say
        #[arg(long, value_enum)]
        better: Option<Way>,
    },
    /// Whether a history of runs, or a metric in the store, gets worse bit by bit; exit code 3 where it does
    Trend {
        /// A metric in the store, as memory in use, looked through for leaks
        #[arg(required_unless_present = "input", conflicts_with = "input")]
        metric: Option<String>,
        #[command(flatten)]
        files: Option<ResultFiles>,
        /// With a metric: which series, as in host=a,region=eu
        #[arg(long = "where", value_name = "LABELS", conflicts_with = "input")]
        labels: Option<String>,
        /// With a metric: so much of its history
        #[arg(long, value_name = "LENGTH", default_value = "7d", conflicts_with = "input")]
        history: String,
        /// With --input: least change over all runs that counts
        #[arg(long, value_name = "SHARE", default_value = "3%")]
        min_effect: String,
        /// Chance of any false alarm
        #[arg(long, value_name = "P", default_value_t = 0.01)]
        alpha: f64,
        #[arg(long, value_enum)]
        better: Option<Way>,
    },
}

#[derive(Args)]
#[group(id = "results", required = false)]
struct ResultFiles {
    /// Results: of `benchmark --save`, hyperfine, k6, Criterion (a folder, as target/criterion), or a CSV
    #[arg(long = "input", id = "input", value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Way {
    Lower,
    Higher,
}

impl From<Way> for Better {
    fn from(way: Way) -> Better {
        match way {
            Way::Lower => Better::Lower,
            Way::Higher => Better::Higher,
        }
    }
}

pub(super) fn regress(global: &Global, args: &RegressArgs, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    match &args.command {
        RegressCommand::Baseline { name, files, labels } => {
            baseline(global, name, files, labels)?;
            Ok(ExitCode::SUCCESS)
        }
        RegressCommand::Test { name, files, min_effect, alpha, better } => {
            let mut options = RegressOptions { better: better.map(Better::from), ..RegressOptions::default() };
            options.compare.alpha = alpha_of(*alpha)?;
            options.compare.min_effect = share("--min-effect", min_effect)?;
            test(global, name, files, &options, printer)
        }
        RegressCommand::Trend { metric: Some(metric), labels, history, alpha, .. } => {
            let of = literal(labels.as_deref().unwrap_or_default());
            trend_of_store(global, (metric, &of, history), alpha_of(*alpha)?, printer)
        }
        RegressCommand::Trend { files, min_effect, alpha, better, .. } => {
            let files = files.as_ref().map_or(&[][..], |files| &files.input);
            let options = DriftOptions {
                alpha: alpha_of(*alpha)?,
                min_effect: share("--min-effect", min_effect)?,
                better: better.map(Better::from),
                ..DriftOptions::default()
            };
            trend_of_runs(&results(files)?, &options, printer)
        }
    }
}

fn alpha_of(alpha: f64) -> Result<f64, WrongUsage> {
    if alpha > 0.0 && alpha < 0.5 {
        Ok(alpha)
    } else {
        Err(WrongUsage(format!("--alpha {alpha} cannot be: write 0.01")))
    }
}

/// What files hold; of a folder, those of Criterion in it.
fn results(files: &[PathBuf]) -> anyhow::Result<Results> {
    if files.is_empty() {
        return Err(WrongUsage("--input is missing: write the files of results".into()).into());
    }
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for path in files {
        if path.is_dir() {
            walk(path, &mut found)?;
        } else {
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            found.push((path.display().to_string(), bytes));
        }
    }
    if found.is_empty() {
        return Err(WrongUsage("the folder has no results of Criterion: name target/criterion".into()).into());
    }
    Ok(read_results(found)?)
}

fn walk(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let told = || format!("cannot read {}", folder.display());
    let mut entries = fs::read_dir(folder).with_context(told)?.collect::<Result<Vec<_>, _>>().with_context(told)?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let (path, shown) = (entry.path(), entry.path().display().to_string());
        if path.is_dir() {
            walk(&path, found)?;
        } else if is_criterion_file(&shown) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {shown}"))?;
            found.push((shown, bytes));
        }
    }
    Ok(())
}

fn path_of(global: &Global, name: &str) -> Result<PathBuf, WrongUsage> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(WrongUsage(format!("`{name}` is no name of a baseline: write letters, digits, -, _ and .")));
    }
    Ok(global.data.join(FOLDER).join(format!("{name}.json")))
}

fn baseline(global: &Global, name: &str, files: &ResultFiles, labels: &[String]) -> anyhow::Result<()> {
    let path = path_of(global, name)?;
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(WrongUsage(format!("--label {text} is not key=value"))),
    };
    let labels = labels.iter().map(pair).collect::<Result<BTreeMap<_, _>, _>>()?;
    let results = results(&files.input)?;
    let metrics = results.metrics.len();
    let made = Baseline::new(name, World::real().clock.now().to_string(), labels, results);
    let folder = global.data.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, made.to_json()?)
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("baseline {name}: {metrics} metrics in {}", path.display());
    Ok(())
}

/// A row of `regressions`, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    time: String,
    baseline: String,
    metric: String,
    unit: String,
    before: f64,
    now: f64,
    change: Option<f64>,
    change_low: Option<f64>,
    change_high: Option<f64>,
    p_value: Option<f64>,
    verdict: String,
    sentence: String,
}

fn test(
    global: &Global,
    name: &str,
    files: &ResultFiles,
    options: &RegressOptions,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    let path = path_of(global, name)?;
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let told = format!("there is no baseline `{name}`: make one with `regress baseline {name} --input FILES`");
            return Err(WrongUsage(told).into());
        }
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let baseline = Baseline::from_json(&bytes).map_err(|told| anyhow::anyhow!("{}: {told}", path.display()))?;
    let made = report(&baseline, &results(&files.input)?, options);
    keep(global, name, &made.rows)?;
    printer.rows(&row_schema(), &[batch(row_schema(), &made.rows)?])?;
    let unlike = |row: &&Row| row.verdict != Verdict::Same;
    made.rows.iter().filter(unlike).for_each(|row| eprintln!("{}", row.sentence));
    let listed = |told: &str, names: &[String]| {
        if !names.is_empty() {
            eprintln!("{told}: {}", names.join(", "));
        }
    };
    listed("in the baseline, and not measured now", &made.missing);
    listed("not in the baseline", &made.added);
    if made.rows.is_empty() {
        anyhow::bail!("the baseline `{name}` and these results have no metric in common");
    }
    Ok(if made.has_regression() { ExitCode::from(REGRESSION) } else { ExitCode::SUCCESS })
}

/// Adds what a test found to what former ones did.
fn keep(global: &Global, name: &str, rows: &[Row]) -> anyhow::Result<()> {
    let path = global.data.join(FOLDER).join(TESTS);
    let time = World::real().clock.now().to_string();
    let mut lines = Vec::new();
    for row in rows {
        let kept = Kept {
            time: time.clone(),
            baseline: name.to_owned(),
            metric: row.metric.clone(),
            unit: row.unit.clone(),
            before: row.baseline,
            now: row.now,
            change: row.change,
            change_low: row.change_low,
            change_high: row.change_high,
            p_value: row.p_value,
            verdict: serde_json::to_value(row.verdict)?.as_str().unwrap_or_default().to_owned(),
            sentence: row.sentence.clone(),
        };
        serde_json::to_writer(&mut lines, &kept)?;
        lines.push(b'\n');
    }
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(&lines)).with_context(|| format!("cannot write {}", path.display()))
}

/// The table `regressions`: what `regress test` found, each time.
pub(super) fn table(data: &Path) -> LiveTable {
    let path = data.join(FOLDER).join(TESTS);
    let rows = move || {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        // A line that was cut off by a crash is none.
        let kept: Vec<Kept> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        batch(kept_schema(), &kept).map_err(|error| error.to_string())
    };
    LiveTable { name: "regressions", schema: kept_schema(), rows: Arc::new(rows) }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn number(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn count(name: &str) -> Field {
    Field::new(name, DataType::UInt64, true)
}

fn kept_schema() -> SchemaRef {
    let mut fields = vec![Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true)];
    fields.extend(["baseline", "metric", "unit"].map(text));
    fields.extend(["before", "now", "change", "change_low", "change_high", "p_value"].map(number));
    fields.extend(["verdict", "sentence"].map(text));
    Arc::new(Schema::new(fields))
}

fn row_schema() -> SchemaRef {
    let mut fields = ["metric", "unit"].map(text).to_vec();
    fields.extend(["baseline", "now", "ratio", "change", "change_low", "change_high", "p_value"].map(number));
    fields.extend(["baseline_runs", "now_runs"].map(count));
    fields.push(text("verdict"));
    Arc::new(Schema::new(fields))
}

fn drift_schema() -> SchemaRef {
    let mut fields = vec![text("metric"), text("unit"), count("runs")];
    fields.extend(["median", "slope", "slope_low", "slope_high", "change", "tau", "p_value"].map(number));
    fields.push(text("verdict"));
    Arc::new(Schema::new(fields))
}

/// Rows as columns: fields that the schema does not name are left out.
fn batch(schema: SchemaRef, rows: &[impl Serialize]) -> anyhow::Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder()?;
    decoder.serialize(rows)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn trend_of_runs(history: &Results, options: &DriftOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let found = drifts(history, options);
    if found.is_empty() {
        anyhow::bail!("no metric has four runs or more: nothing can be told of a trend");
    }
    printer.rows(&drift_schema(), &[batch(drift_schema(), &found)?])?;
    let unlike = found.iter().filter(|drift| drift.verdict != Verdict::Same);
    unlike.for_each(|drift| eprintln!("{}", drift.sentence));
    let is_worse = found.iter().any(|drift| drift.verdict == Verdict::Regression);
    Ok(if is_worse { ExitCode::from(REGRESSION) } else { ExitCode::SUCCESS })
}

/// The trend of a series of the store.
#[derive(Serialize)]
struct SeriesTrend {
    series: String,
    from: String,
    to: String,
    median: f64,
    a_day: f64,
    a_day_low: f64,
    a_day_high: f64,
    tau: f64,
    p_value: f64,
    leak: bool,
    leak_a_day: Option<f64>,
    growth: Option<f64>,
    restarts: Option<u64>,
}

fn trend_of_store(
    global: &Global,
    (metric, labels, history): (&str, &str, &str),
    alpha: f64,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    let length = humantime::parse_duration(history)
        .map_err(|error| WrongUsage(format!("--history {history} is no length of time ({error}): write 7d")))?;
    let metric = literal(metric);
    let source = Source::open(global)?;
    let statement = format!("SELECT series, time, value FROM resample({metric}, '', {labels}) ORDER BY series, time");
    let mut found = Vec::new();
    for (series, times, values) in by_series(&source.sql(&statement)?.1)? {
        let last = times.last().copied().unwrap_or(0);
        let from = times.partition_point(|time| last - time > i64::try_from(length.as_nanos()).unwrap_or(i64::MAX));
        found.extend(series_trend(series, &times[from..], &values[from..], alpha));
    }
    if found.is_empty() {
        anyhow::bail!("no series of it has four values or more: nothing can be told of a trend");
    }
    let schema: SchemaRef = {
        let mut fields = ["series", "from", "to"].map(text).to_vec();
        fields.extend(["median", "a_day", "a_day_low", "a_day_high", "tau", "p_value"].map(number));
        fields.push(Field::new("leak", DataType::Boolean, true));
        fields.extend(["leak_a_day", "growth"].map(number));
        fields.push(count("restarts"));
        Arc::new(Schema::new(fields))
    };
    printer.rows(&schema, &[batch(schema.clone(), &found)?])?;
    for leaking in found.iter().filter(|found| found.leak) {
        let (a_day, growth) = (leaking.leak_a_day.unwrap_or(0.0), leaking.growth.unwrap_or(0.0) * 100.0);
        eprintln!(
            "{} grows by {a_day:.6} a day and gives nothing back: {growth:.1} % since {}",
            leaking.series, leaking.from
        );
    }
    let leaks = found.iter().any(|found| found.leak);
    Ok(if leaks { ExitCode::from(REGRESSION) } else { ExitCode::SUCCESS })
}

fn series_trend(series: String, times: &[i64], values: &[f64], alpha: f64) -> Option<SeriesTrend> {
    const DAY: f64 = 86_400e9;
    let step = native_step(times)?;
    let found = trend(values, &TrendOptions::default())?;
    let (first, last) = (*times.first()?, *times.last()?);
    let is_long = last - first >= LEAK_LENGTH_MIN;
    if !is_long {
        eprintln!("plimsoll: {series} has less than a day: whether it leaks cannot be told from the time of day");
    }
    let options = LeakOptions { p_max: LeakOptions::default().p_max.min(alpha), ..LeakOptions::default() };
    let leaking = if is_long { leak(values, step as f64 / 1e9, &options) } else { None };
    let a_day = DAY / step as f64;
    Some(SeriesTrend {
        series,
        from: Timestamp::from_nanos(first).to_string(),
        to: Timestamp::from_nanos(last).to_string(),
        median: crate::stats::median(values)?,
        a_day: found.slope * a_day,
        a_day_low: found.interval.0 * a_day,
        a_day_high: found.interval.1 * a_day,
        tau: found.tau,
        p_value: found.p_value,
        leak: leaking.is_some(),
        leak_a_day: leaking.as_ref().map(|leak| leak.per_second * 86_400.0),
        growth: leaking.as_ref().map(|leak| leak.growth),
        restarts: leaking.as_ref().map(|leak| leak.restarts as u64),
    })
}

type SeriesOf = (String, Vec<i64>, Vec<f64>);

/// Rows of series, time and value, in that order.
pub(super) fn by_series(batches: &[RecordBatch]) -> anyhow::Result<Vec<SeriesOf>> {
    let mut all: Vec<SeriesOf> = Vec::new();
    for batch in batches {
        let series = cast(batch.column(0), &DataType::Utf8)?;
        let series = series.as_string::<i32>();
        let times = cast(batch.column(1), &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
        let times = times.as_primitive::<TimestampNanosecondType>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        for row in (0..batch.num_rows()).filter(|&row| values.is_valid(row)) {
            if all.last().is_none_or(|(name, ..)| name != series.value(row)) {
                all.push((series.value(row).to_owned(), Vec::new(), Vec::new()));
            }
            all.last_mut().into_iter().for_each(|(_, of_time, of_value)| {
                of_time.push(times.value(row));
                of_value.push(values.value(row));
            });
        }
    }
    Ok(all)
}
