//! Analysis of a file, without a store: the code that pipelines run, a row at a time.

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, Float64Builder, RecordBatch, StringBuilder, UInt8Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::Args;

use super::global::{Format, Global, WrongUsage};
use super::input;
use crate::ingest::{Frame, FrameRow, Moment};
use crate::query::{OutputFormat, RowWriter};
use crate::stats::detect::{Detector, Episodes, GROUP_THRESHOLD, Group, Method, Z_WINDOW};
use crate::stats::{native_step, to_grid};

/// Rows that are written together.
const ROWS: usize = 8192;
/// Nanoseconds from row to row where rows are numbered.
pub(super) const ROW_STEP: i64 = 300_000_000_000;

/// How anomalies are looked for.
#[derive(Args)]
pub(super) struct DetectArgs {
    /// Judge the values of a CSV instead: columns `time` (or `row`), `value` and maybe `series`, or a column a series; - is stdin
    #[arg(long, value_name = "FILE")]
    pub input: Option<String>,
    /// With --input: one score a time over all series
    #[arg(long, requires = "input")]
    pub group: bool,
    /// With --input: where the rows go, instead of stdout
    #[arg(long, value_name = "FILE", requires = "input")]
    pub output: Option<PathBuf>,
    /// auto, zscore, robust, seasonal, ewma or kmeans
    #[arg(long, value_name = "METHOD", default_value = "auto")]
    pub method: String,
    /// Score from which a value is anomalous [default: 2.4; 3 for zscore, 1.25 with --group]
    #[arg(long, value_name = "SCORE")]
    pub threshold: Option<f64>,
    /// With zscore: values that a score is made against
    #[arg(long, value_name = "N", default_value_t = Z_WINDOW)]
    pub window: usize,
}

impl DetectArgs {
    pub fn method(&self) -> Result<Method, WrongUsage> {
        Method::of_name(&self.method).ok_or_else(|| {
            let names = Method::ALL.map(Method::name).join(", ");
            WrongUsage(format!("--method {} is none: write one of {names}", self.method))
        })
    }

    fn detector(&self, method: Method) -> Detector {
        Detector::new(method, self.window)
    }

    fn threshold(&self, method: Method) -> Result<f64, WrongUsage> {
        let usual = if self.group { GROUP_THRESHOLD } else { method.threshold() };
        match self.threshold.unwrap_or(usual) {
            threshold if threshold > 0.0 && threshold.is_finite() => Ok(threshold),
            other => Err(WrongUsage(format!("--threshold {other} cannot be: write a number over 0, as in {usual}"))),
        }
    }
}

/// `anomalies --input`.
pub(super) fn anomalies(global: &Global, args: &DetectArgs, file: &str) -> anyhow::Result<()> {
    let method = args.method()?;
    let threshold = args.threshold(method)?;
    if args.group && method == Method::ZScore {
        return Err(WrongUsage(
            "--group has no method zscore: its scores of different series say different things".into(),
        )
        .into());
    }
    let bar = input::progress(std::fs::metadata(file).map_or(0, |meta| meta.len()));
    let mut reader = input::open(file, &bar).with_context(|| format!("cannot read {file}"))?;
    let judge = |frame: &mut Frame<'_>, rows: &mut Output<'_>| match args.group {
        true => judge_together(frame, || args.detector(method), threshold, rows),
        false => judge_each(frame, || args.detector(method), threshold, rows),
    };
    let schema = if args.group { group_schema() } else { each_schema() };
    let out = writer(args.output.as_ref())?;
    let mut rows = Output::new(format_of(global), schema, out)?;
    let told = || format!("cannot judge {file}");
    read(&mut *reader, |frame| judge(frame, &mut rows)).with_context(told)?;
    bar.finish_and_clear();
    rows.finish()
}

fn read(input: &mut dyn BufRead, judge: impl FnOnce(&mut Frame<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    judge(&mut Frame::read(input)?)
}

/// A file, or stdout.
pub(super) fn writer(path: Option<&PathBuf>) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match path {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(std::io::stdout()),
    })
}

/// CSV, where nobody asks for something else.
pub(super) fn format_of(global: &Global) -> OutputFormat {
    if global.format == Format::Table { OutputFormat::Csv } else { global.format.into() }
}

fn each_schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::Utf8, false),
        Field::new("time", DataType::Utf8, false),
        number("value"),
        number("expected"),
        number("score"),
        Field::new("anomaly", DataType::UInt8, false),
    ]))
}

fn group_schema() -> SchemaRef {
    let time = Field::new("time", DataType::Utf8, false);
    let score = Field::new("score", DataType::Float64, false);
    Arc::new(Schema::new(vec![time, score, Field::new("anomaly", DataType::UInt8, false)]))
}

/// Nanoseconds.
pub(super) fn time_of(row: &FrameRow) -> i64 {
    match row.at {
        Moment::Time(time) => time.nanos(),
        Moment::Row(number) => number.saturating_mul(ROW_STEP),
    }
}

/// The values of one series of a file, and where and when each stands there.
#[derive(Default)]
pub(super) struct FileSeries {
    pub name: String,
    pub values: Vec<f64>,
    /// Nanoseconds; of numbered rows as if they were five minutes apart.
    pub times: Vec<i64>,
    /// As they are written.
    pub texts: Vec<Arc<str>>,
    /// Numbers of rows, where the file has these in place of times; else counted from 0 in each series.
    pub rows: Vec<i64>,
    /// Whether the file numbers its rows.
    pub is_numbered: bool,
}

/// All series of a file.
pub(super) fn series(file: &str, doing: &str) -> anyhow::Result<Vec<FileSeries>> {
    let bar = input::progress(std::fs::metadata(file).map_or(0, |meta| meta.len()));
    let mut reader = input::open(file, &bar).with_context(|| format!("cannot read {file}"))?;
    let told = || format!("cannot {doing} {file}");
    let mut frame = Frame::read(&mut *reader).with_context(told)?;
    let mut all: Vec<FileSeries> = Vec::new();
    while let Some(row) = frame.next_row().with_context(told)? {
        let (time, text): (i64, Arc<str>) = (time_of(&row), row.text.as_str().into());
        for (at, value) in row.values {
            all.resize_with(all.len().max(at + 1), FileSeries::default);
            let one = &mut all[at];
            one.is_numbered = matches!(row.at, Moment::Row(_));
            one.rows.push(if let Moment::Row(number) = row.at { number } else { one.rows.len() as i64 });
            one.values.push(value);
            one.times.push(time);
            one.texts.push(text.clone());
        }
    }
    bar.finish_and_clear();
    all.iter_mut().zip(frame.names()).for_each(|(one, name)| one.name.clone_from(name));
    Ok(all)
}

impl FileSeries {
    /// Means of steps from `start`, a bound of a step, on: so many, NaN where there is no value.
    pub fn on(&self, step: i64, start: i64, length: usize) -> Vec<f64> {
        let (times, values) = self.by_time();
        let (first, means) = to_grid(&times, &values, step);
        let mut row = vec![f64::NAN; length];
        let at = usize::try_from((first - start) / step).unwrap_or(0);
        row.iter_mut().skip(at).zip(means).for_each(|(cell, mean)| *cell = mean);
        row
    }

    fn by_time(&self) -> (Vec<i64>, Vec<f64>) {
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|&at| self.times[at]);
        let value = |at: usize| if self.values[at].is_finite() { self.values[at] } else { f64::NAN };
        order.iter().map(|&at| (self.times[at], value(at))).unzip()
    }

    /// On a regular grid of what lies between most of its times: beginning and step in nanoseconds, values with gaps. `None` where
    /// there are no two different times.
    pub fn grid(&self) -> Option<(i64, i64, Vec<f64>)> {
        let (times, values) = self.by_time();
        let step = native_step(&times)?;
        // Where rows are an hour apart but begin at half past, so do the steps.
        let shift = times[0].rem_euclid(step);
        let shifted: Vec<i64> = times.iter().map(|time| time - shift).collect();
        let (start, grid) = to_grid(&shifted, &values, step);
        Some((start + shift, step, grid))
    }
}

/// A row for each value: what was expected and how rare it is; `anomaly` is 1 where an episode begins.
fn judge_each(
    frame: &mut Frame<'_>,
    detector: impl Fn() -> Detector,
    threshold: f64,
    rows: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut watches: Vec<(Detector, Episodes)> = Vec::new();
    while let Some(row) = frame.next_row()? {
        let time = time_of(&row);
        for &(series, value) in &row.values {
            if series >= watches.len() {
                watches.resize_with(series + 1, || (detector(), Episodes::default()));
            }
            let (detector, episodes) = &mut watches[series];
            let judged = detector.push(time, value);
            let anomalous = judged.filter(|judged| judged.score.abs() >= threshold);
            let heard = episodes.push(time, value, anomalous, detector.calm());
            rows.texts([&frame.names()[series], &row.text]);
            let score = if value.is_finite() { Some(judged.map_or(0.0, |judged| judged.score)) } else { None };
            rows.numbers([value.is_finite().then_some(value), judged.map(|judged| judged.expected), score]);
            rows.flag(heard.begins)?;
        }
    }
    Ok(())
}

/// A row for each time: how rare it is that all series lie off as far; `anomaly` is 1 while they do.
fn judge_together(
    frame: &mut Frame<'_>,
    detector: impl Fn() -> Detector,
    threshold: f64,
    rows: &mut Output<'_>,
) -> anyhow::Result<()> {
    let (mut members, mut group): (Vec<Member>, _) = (Vec::new(), Group::default());
    let mut tell = |text: &str, members: &[Member], rows: &mut Output<'_>| {
        let effects = members.iter().filter(|member| member.changed).map(|member| member.detector.effect());
        let score = group.push(effects);
        rows.texts([text]);
        rows.numbers([Some(score)]);
        rows.flag(score >= threshold)
    };
    let mut before: Option<FrameRow> = None;
    while let Some(row) = frame.next_row()? {
        if let Some(before) = before.take_if(|before| before.at != row.at) {
            tell(&before.text, &members, rows)?;
        }
        let time = time_of(&row);
        for &(series, value) in row.values.iter().filter(|(_, value)| value.is_finite()) {
            if series >= members.len() {
                members.resize_with(series + 1, || Member::new(detector()));
            }
            members[series].push(time, value);
        }
        before = Some(row);
    }
    before.map_or(Ok(()), |row| tell(&row.text, &members, rows))
}

/// A series of a group.
struct Member {
    detector: Detector,
    last: Option<f64>,
    /// Whether it ever did.
    changed: bool,
}

impl Member {
    fn new(detector: Detector) -> Member {
        Member { detector, last: None, changed: false }
    }

    fn push(&mut self, time: i64, value: f64) {
        self.changed |= self.last.is_some_and(|last| last != value);
        self.last = Some(value);
        self.detector.push_over(time, value, f64::INFINITY);
    }
}

/// Rows on their way out.
struct Output<'w> {
    schema: SchemaRef,
    writer: RowWriter<BufWriter<Box<dyn Write + Send + 'w>>>,
    texts: Vec<StringBuilder>,
    numbers: Vec<Float64Builder>,
    flags: UInt8Builder,
    count: usize,
}

impl<'w> Output<'w> {
    /// Columns are texts, numbers and a flag, in this order but that the first text may stand before others.
    fn new(format: OutputFormat, schema: SchemaRef, out: Box<dyn Write + Send + 'w>) -> anyhow::Result<Output<'w>> {
        let of = |wanted: DataType| schema.fields().iter().filter(|field| *field.data_type() == wanted).count();
        let texts = (0..of(DataType::Utf8)).map(|_| StringBuilder::new()).collect();
        let numbers = (0..of(DataType::Float64)).map(|_| Float64Builder::new()).collect();
        let writer = RowWriter::new(format, schema.clone(), BufWriter::new(out))?;
        Ok(Output { schema, writer, texts, numbers, flags: UInt8Builder::new(), count: 0 })
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_value(text));
    }

    fn numbers<const N: usize>(&mut self, numbers: [Option<f64>; N]) {
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.append_option(number));
    }

    /// Ends a row.
    fn flag(&mut self, flag: bool) -> anyhow::Result<()> {
        self.flags.append_value(flag.into());
        self.count += 1;
        if self.count == ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.count = 0;
        let mut columns: Vec<ArrayRef> = Vec::new();
        columns.extend(self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.extend(self.numbers.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.flags.finish()));
        Ok(self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?)
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if self.count > 0 {
            self.write()?;
        }
        Ok(self.writer.finish()?.flush()?)
    }
}
