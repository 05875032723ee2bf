//! Replay: a pipeline over the samples that are stored, as if they came in again.
//!
//! Samples are told in the order of time over all series, so what is found is what the pipeline would have found had it
//! run then and nothing come late. Nothing is changed: rows are gathered, and it is for whoever asked to write them
//! ([`Replayed::to_write`]) or to hold them against those that are stored ([`Replayed::differences`]).

mod differences;
mod digest;
mod gathered;
mod stretches;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{TimestampNanosecondType, UInt32Type};
use arrow::error::ArrowError;

pub use self::differences::{Difference, Differences};
pub use self::digest::digest;
use self::gathered::{Gathered, count_of};
use self::stretches::{Stretches, batches};
use super::made::Made;
use super::pipeline::PipelineSpec;
use super::window::Length;
use crate::flow::{Cut, Graph, NoCouriers, Sink};
use crate::model::{Batch, Rows, SeriesId, Span, Table, Timestamp};
use crate::stages::Edges;
use crate::store::{Snapshot, Store, StoreError, latest_rows};

const DAY: i64 = 86_400_000_000_000;
const HOUR: i64 = DAY / 24;
/// Name of the source that it tells samples as.
const SOURCE: &str = "replay";
/// Samples in memory at once.
const STRETCH_SAMPLES: usize = 1 << 20;
/// Samples told at once: a pipeline holds some such batches.
const BATCH_SAMPLES: usize = 1 << 16;

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct ReplaySpec {
    /// Rows whose time lies in it count.
    pub span: Span,
    /// How far before the span reading starts, for what learns from what passes by.
    pub warm_up: Duration,
    /// Samples in memory at once, about.
    pub stretch_samples: usize,
    /// Samples told at once, about.
    pub batch_samples: usize,
}

impl ReplaySpec {
    pub fn new(span: Span) -> Self {
        let warm_up = Duration::from_secs(3600);
        ReplaySpec { span, warm_up, stretch_samples: STRETCH_SAMPLES, batch_samples: BATCH_SAMPLES }
    }
}

/// A replay that does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot start a stage's thread")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("rows cannot be put together")]
    Rows(#[from] ArrowError),
    #[error("the pipeline failed: {0}")]
    Stage(String),
}

/// What a replay found.
pub struct Replayed {
    store: Arc<Store>,
    snapshot: Snapshot,
    made: Vec<Made>,
    /// The oldest time from which every series is kept.
    oldest_of_all: Timestamp,
    span: Span,
    /// Times of the samples that were read.
    pub read: Span,
    pub samples: u64,
    /// By table, sorted by its key, those among them that say that there is nothing.
    found: BTreeMap<Table, RecordBatch>,
    /// Samples of series that stages made.
    pub made_samples: Vec<Batch>,
    /// What whoever asked should know.
    pub notes: Vec<String>,
}

/// Runs a pipeline over what is stored; `reached` is told how far it is.
///
/// # Errors
/// Segments that do not read, and a stage that fails.
pub fn replay(
    store: &Arc<Store>,
    pipeline: &PipelineSpec,
    spec: &ReplaySpec,
    edges: &Edges,
    reached: &mut dyn FnMut(Timestamp),
) -> Result<Replayed, ReplayError> {
    let (made, snapshot) = (pipeline.made(store), store.snapshot());
    let all = (0..snapshot.series_count() as u32).map(SeriesId);
    let takes = pipeline.takes(store);
    let wanted = all.filter(|&id| takes(id));
    let with_samples = wanted.filter(|&id| snapshot.time_range(id).is_some());
    let series: Vec<SeriesId> = store.registry().file_order(with_samples).into_iter().map(|(_, id)| id).collect();
    let ranges = series.iter().filter_map(|&id| snapshot.time_range(id));
    let stored = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let (first, last) = stored.unwrap_or((Timestamp::MAX, Timestamp::MIN));
    let mut read = reach(&made, pipeline, spec);
    // What is found goes nowhere but to whoever asked.
    let edges = Edges { couriers: Arc::new(NoCouriers), made: Arc::default(), ..edges.clone() };
    let gathered = Arc::new(Gathered::new(spec.span, edges.made.clone()));
    let sink: Arc<dyn Sink> = gathered.clone();
    let graph = Graph::start(pipeline.graph(store, &edges), store.world(), &sink, &BTreeMap::new())?;
    let mut run = Run { graph, snapshot: &snapshot, series: &series, spec, source: SOURCE.into(), samples: 0, cuts: 0 };
    run.tell(Span::new(read.start.max(first), read.end.min(last.plus(1))), reached)?;
    // What runs on behind what was read is told to its end.
    let mut more = HOUR;
    while run.runs_on(&gathered)? && read.end <= last {
        let end = read.end.plus(more);
        run.tell(Span::new(read.end, end.min(last.plus(1))), reached)?;
        (read.end, more) = (end, more.saturating_mul(2));
    }
    gathered.end();
    run.cut(true)?;
    let samples = run.samples;
    drop(run);
    let mut replayed = Replayed {
        store: store.clone(),
        notes: notes(&made, spec, read),
        oldest_of_all: series.iter().map(|&id| snapshot.oldest(id)).max().unwrap_or(Timestamp::MIN),
        snapshot,
        made,
        span: spec.span,
        read,
        samples,
        found: BTreeMap::new(),
        made_samples: gathered.take_samples(),
    };
    for (table, batches) in gathered.take() {
        let rows = latest_rows(table, &batches)?;
        let rows = those(&rows, |row| replayed.is_whole(table, &rows, row))?;
        replayed.found.insert(table, rows);
    }
    Ok(replayed)
}

/// A pipeline being told.
struct Run<'r> {
    graph: Graph,
    snapshot: &'r Snapshot,
    series: &'r [SeriesId],
    spec: &'r ReplaySpec,
    source: Arc<str>,
    samples: u64,
    cuts: u64,
}

impl Run<'_> {
    fn tell(&mut self, span: Span, reached: &mut dyn FnMut(Timestamp)) -> Result<(), ReplayError> {
        for runs in Stretches::new(self.snapshot, self.series, span, self.spec.stretch_samples.max(1)) {
            for batch in batches(&runs?, self.spec.batch_samples.max(1), &self.source) {
                self.samples += batch.len() as u64;
                let time = batch.arrived;
                self.graph.pass(&Arc::new(batch));
                reached(time);
            }
            self.check()?;
        }
        Ok(())
    }

    /// Waits until all that was told is worked off.
    fn cut(&mut self, last: bool) -> Result<(), ReplayError> {
        self.cuts += 1;
        self.graph.cut(Cut { number: self.cuts, last });
        self.graph.state_at(self.cuts);
        self.check()
    }

    /// Whether something that counts is not over yet. Of two cuts with nothing between them, the second tells that alone.
    fn runs_on(&mut self, gathered: &Gathered) -> Result<bool, ReplayError> {
        self.cut(false)?;
        gathered.watch();
        self.cut(false)?;
        Ok(gathered.runs_on())
    }

    fn check(&self) -> Result<(), ReplayError> {
        self.graph.failure().map_or(Ok(()), |told| Err(ReplayError::Stage(told.to_owned())))
    }
}

/// What is to be read: the span, out to the ends of the windows it touches, what detectors learn from before it, and behind
/// it so much that nothing waits for what may overtake it.
fn reach(made: &[Made], pipeline: &PipelineSpec, spec: &ReplaySpec) -> Span {
    let Span { start, end } = spec.span;
    let nanos = |duration: Duration| Length(duration).nanos();
    let lengths = || made.iter().map(|made| made.length).filter(|length| (1..=DAY).contains(length));
    let longest = lengths().max().unwrap_or(1);
    let gap = made.iter().map(|made| made.gap).max().unwrap_or(0);
    let warm = start.plus(-nanos(spec.warm_up).max(gap));
    // One that overlaps others may begin right before the end.
    let ceiling = |length: i64| match end.floor(length) {
        floor if floor == end => end,
        floor => floor.plus(length),
    };
    let overlap = made.iter().filter(|made| made.table == Table::Sliding).map(|made| made.length.min(DAY)).max();
    let until = lengths().map(ceiling).max().unwrap_or(end).max(end.plus(overlap.unwrap_or(0)));
    Span::new(start.floor(longest).min(warm), until.plus(nanos(pipeline.lateness)))
}

fn notes(made: &[Made], spec: &ReplaySpec, read: Span) -> Vec<String> {
    let mut notes = Vec::new();
    if read != spec.span {
        notes.push(format!(
            "read from {} to {}: out to the ends of windows, and {} before for detectors to warm up",
            read.start,
            read.end,
            humantime::format_duration(spec.warm_up)
        ));
    }
    if made.iter().any(|made| made.length > DAY) {
        notes.push("of windows over a day only those that lie whole in what was read count".into());
    }
    notes
}

impl Replayed {
    /// The tables that the pipeline makes rows of, or could have.
    pub fn tables(&self) -> Vec<Table> {
        Table::ALL.into_iter().filter(|&table| self.made.iter().any(|made| made.table == table)).collect()
    }

    /// The rows of a table that were found, sorted by its key.
    ///
    /// # Errors
    /// None but of Arrow's own making.
    pub fn rows(&self, table: Table) -> Result<RecordBatch, ReplayError> {
        match self.found.get(&table) {
            Some(rows) => telling(table, rows),
            None => Ok(RecordBatch::new_empty(table.schema())),
        }
    }

    /// The rows of a table that are stored, of the kinds that the pipeline makes, where they can be found again.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn stored(&self, table: Table) -> Result<RecordBatch, ReplayError> {
        let all = self.snapshot.rows(table)?;
        let rows = those(&all, |row| self.is_comparable(table, &all, row))?;
        telling(table, &rows)
    }

    /// One number for all rows: the same for the same samples, however they were told and whatever the series' numbers.
    ///
    /// # Errors
    /// None but of Arrow's own making.
    pub fn hash(&self) -> Result<String, ReplayError> {
        let rows = self.found.keys().map(|&table| Ok((table, self.rows(table)?)));
        Ok(digest(&self.store, &rows.collect::<Result<Vec<_>, ReplayError>>()?))
    }

    /// The oldest time from which the samples that a row is made of are all kept.
    fn oldest(&self, rows: &RecordBatch, row: usize) -> Timestamp {
        match series_of(rows, row) {
            Some(series) => self.snapshot.oldest(series),
            None => self.oldest_of_all,
        }
    }

    /// The stage that a row is of, if any of this pipeline.
    fn made_by(&self, table: Table, rows: &RecordBatch, row: usize) -> Option<&Made> {
        self.made.iter().find(|made| made.table == table && made.has(rows, row))
    }

    /// Whether all that a row is made of was read.
    fn is_whole(&self, table: Table, rows: &RecordBatch, row: usize) -> bool {
        let time = time_of(rows, row);
        let (length, gap) = self.made_by(table, rows, row).map_or((0, 0), |made| (made.length, made.gap));
        self.span.contains(time)
            && time.plus(-gap) >= self.oldest(rows, row)
            && (length <= DAY || time.plus(length) <= self.read.end)
    }

    /// Whether a stored row would be found again if it is right: it is of a kind that the pipeline makes, and what it was
    /// made of is there.
    fn is_comparable(&self, table: Table, rows: &RecordBatch, row: usize) -> bool {
        let Some(made) = self.made_by(table, rows, row).filter(|_| self.is_whole(table, rows, row)) else {
            return false;
        };
        let Some(series) = series_of(rows, row) else { return true };
        let first = self.snapshot.time_range(series).map_or(Timestamp::MAX, |(first, _)| first);
        made.is_wanted(series) && time_of(rows, row).plus(made.length.max(1)) > first
    }
}

fn those(rows: &RecordBatch, counts: impl Fn(usize) -> bool) -> Result<RecordBatch, ReplayError> {
    let chosen: BooleanArray = (0..rows.num_rows()).map(|row| Some(counts(row))).collect();
    Ok(filter_record_batch(rows, &chosen)?)
}

/// Rows but those that say that there is nothing.
fn telling(table: Table, rows: &RecordBatch) -> Result<RecordBatch, ReplayError> {
    match count_of(rows, table) {
        Some(counts) => those(rows, |row| counts[row] > 0),
        None => Ok(rows.clone()),
    }
}

fn time_of(rows: &RecordBatch, row: usize) -> Timestamp {
    let times = rows.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    Timestamp::from_nanos(times.map_or(0, |times| times.value(row)))
}

fn series_of(rows: &RecordBatch, row: usize) -> Option<SeriesId> {
    let series = rows.column_by_name("series")?.as_primitive_opt::<UInt32Type>()?;
    Some(SeriesId(series.value(row)))
}

/// Rows that say that there is nothing at the keys, or in the groups, of others.
fn taking_back(table: Table, rows: &RecordBatch) -> Result<Option<Rows>, ReplayError> {
    let Some(name) = table.count_column().filter(|_| rows.num_rows() > 0) else { return Ok(None) };
    let at = rows.schema().index_of(name)?;
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(arrow::array::UInt64Array::from(vec![0; rows.num_rows()]));
    Ok(Some(Rows { table, batch: RecordBatch::try_new(rows.schema(), columns)? }))
}

#[cfg(test)]
mod tests;
