//! What is there already, told to a pipeline in the order of time: samples of the store, numbers of derived tables, files.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType, UInt32Type};

use super::source::Wanted;
use crate::flow::{Batches, Budget, Intake, ReadFileSpec, Readers, Refusal};
use crate::model::{Batch, Description, Sample, SeriesDef, SeriesId, Span, Table, Timestamp};
use crate::stats::Sketch;
use crate::store::{Snapshot, Store};

/// Samples of a batch.
const BATCH: usize = 1 << 16;
/// What is read at a time of samples: longer where that gives few, shorter where it would give more than are held.
const STRETCH: i64 = 86_400_000_000_000;
const STRETCH_MAX: i64 = 32 * STRETCH;
/// Samples of a stretch; one that is as short as can be may have more.
const MOST: usize = 1_000_000;

/// The numbers of a row that are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Column {
    /// As they stand there.
    Plain(&'static str),
    /// `sum` by `count`.
    Average,
    /// Of the sketch.
    Quantile(f64),
}

const AGGREGATES: [&str; 6] = ["count", "sum", "min", "max", "first", "last"];

/// Names of the columns that a table has for [`Column::of`]; none for one whose rows are not of one series with numbers.
pub(super) fn columns(table: Table) -> Vec<&'static str> {
    match table {
        Table::Rollups | Table::Sliding | Table::Sessions => [&AGGREGATES[..], &["avg", "p50", "p99"]].concat(),
        Table::Anomalies => vec!["value", "expected", "score", "samples"],
        Table::Compressed => vec!["value", "error", "samples"],
        Table::Histograms => vec!["count", "sum", "avg", "p50", "p99"],
        Table::Forecasts => vec!["mean", "lo", "hi"],
        Table::Correlations | Table::Staleness | Table::Zones => Vec::new(),
    }
}

impl Column {
    pub fn of(table: Table, name: &str) -> Option<Column> {
        let known = columns(table);
        if name == "avg" && known.contains(&"avg") {
            return Some(Column::Average);
        }
        if let Some(percent) = name.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok())
            && known.contains(&"p50")
            && (0.0..=100.0).contains(&percent)
        {
            return Some(Column::Quantile(percent / 100.0));
        }
        known.into_iter().find(|known| *known == name).map(Column::Plain)
    }

    /// Its values, row by row.
    fn values(self, rows: &arrow::array::RecordBatch) -> Option<Vec<Option<f64>>> {
        let numbers = |name: &str| -> Option<Float64Array> {
            let column = cast(rows.column_by_name(name)?, &DataType::Float64).ok()?;
            Some(column.as_primitive::<arrow::datatypes::Float64Type>().clone())
        };
        match self {
            Column::Plain(name) => Some(numbers(name)?.iter().collect()),
            Column::Average => {
                let (sums, counts) = (numbers("sum")?, numbers("count")?);
                let average = |(sum, count): (Option<f64>, Option<f64>)| Some(sum? / count?);
                Some(sums.iter().zip(counts.iter()).map(average).collect())
            }
            Column::Quantile(quantile) => {
                let sketches = rows.column_by_name("sketch")?.as_binary_opt::<i32>()?;
                let value = |bytes: Option<&[u8]>| Sketch::decode(bytes?).ok()?.quantile(quantile);
                Some(sketches.iter().map(value).collect())
            }
        }
    }
}

/// Samples of all series of a stretch, as they are sorted.
#[derive(Default)]
struct Sorting(Vec<(i64, u32, f64)>);

impl Sorting {
    /// By time; of two of a series and time the later one counts. The last comes first, to be taken from the end.
    fn sort(&mut self) {
        self.0.sort_by_key(|&(time, series, _)| (time, series));
        self.0.reverse();
        self.0.dedup_by_key(|&mut (time, series, _)| (time, series));
    }

    /// The next of a sorted one.
    fn batch(&mut self, name: &Arc<str>) -> Batch {
        let rest = self.0.len().saturating_sub(BATCH);
        let mut batch = Batch { source: name.clone(), ..Batch::with_capacity(self.0.len() - rest) };
        for (time, series, value) in self.0.drain(rest..).rev() {
            batch.push(SeriesId(series), Timestamp::from_nanos(time), value);
        }
        batch
    }
}

/// All at once.
fn sorted(mut sorting: Sorting, name: &Arc<str>) -> Batches {
    sorting.sort();
    let name = name.clone();
    Box::new(std::iter::from_fn(move || (!sorting.0.is_empty()).then(|| Ok(sorting.batch(&name)))))
}

fn failed(told: String) -> Batches {
    Box::new(std::iter::once(Err(told)))
}

fn none() -> Batches {
    Box::new(std::iter::empty())
}

/// Samples of the store, a stretch of time of all series after another.
pub(super) fn samples(store: &Weak<Store>, name: &Arc<str>, wanted: Option<Wanted>, span: Span) -> Batches {
    stretches(store, name, wanted, span, MOST)
}

fn stretches(store: &Weak<Store>, name: &Arc<str>, wanted: Option<Wanted>, span: Span, most: usize) -> Batches {
    let Some(store) = store.upgrade() else { return none() };
    let snapshot = store.history();
    let is_wanted = |series: &SeriesId| wanted.as_ref().is_none_or(|wanted| wanted(*series));
    let all = (0..snapshot.series_count() as u32).map(SeriesId).filter(is_wanted);
    let all: Vec<SeriesId> =
        all.filter(|&id| snapshot.time_range(id).is_some_and(|(first, last)| span.touches(first, last))).collect();
    let ordered = snapshot.registry().file_order(all);
    let series: Vec<SeriesId> = ordered.into_iter().map(|(_, series)| series).collect();
    let ranges = series.iter().filter_map(|&id| snapshot.time_range(id));
    let Some((first, last)) = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return none() };
    let next = first.max(span.start).nanos();
    let end = last.nanos().saturating_add(1).min(span.end.nanos());
    Box::new(Stretches {
        snapshot,
        series,
        name: name.clone(),
        next,
        end,
        stretch: STRETCH,
        most,
        sorting: Sorting::default(),
    })
}

struct Stretches {
    snapshot: Snapshot,
    series: Vec<SeriesId>,
    name: Arc<str>,
    next: i64,
    end: i64,
    stretch: i64,
    most: usize,
    sorting: Sorting,
}

impl Stretches {
    /// Reads the next stretch, as long as its samples may be held.
    fn read(&mut self) -> Result<(), String> {
        let end = loop {
            let end = self.next.saturating_add(self.stretch).min(self.end);
            if self.gather(Span::new(Timestamp::from_nanos(self.next), Timestamp::from_nanos(end)))? {
                break end;
            }
            self.sorting.0.clear();
            self.stretch = (self.stretch.min(end - self.next) / 2).max(1);
        };
        if self.sorting.0.len() <= self.most / 4 {
            self.stretch = self.stretch.saturating_mul(2).min(STRETCH_MAX);
        }
        self.next = end;
        self.sorting.sort();
        Ok(())
    }

    /// The samples of a span; false where they are too many, and it can be shorter.
    fn gather(&mut self, span: Span) -> Result<bool, String> {
        let most = if self.stretch > 1 { self.most } else { usize::MAX };
        let mut scan = self.snapshot.scan(Vec::new(), span);
        for &series in &self.series {
            let (mut fits, all) = (true, &mut self.sorting.0);
            let take = |samples: &[Sample]| {
                fits = fits && all.len() + samples.len() <= most;
                if fits {
                    all.extend(samples.iter().map(|sample| (sample.time.nanos(), series.0, sample.value)));
                }
            };
            scan.read_in_pieces(series, span, take).map_err(|error| format!("samples do not read: {error}"))?;
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Iterator for Stretches {
    type Item = Result<Batch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.sorting.0.is_empty() {
            if self.next >= self.end {
                return None;
            }
            if let Err(told) = self.read() {
                self.next = self.end;
                self.sorting.0.clear();
                return Some(Err(told));
            }
        }
        Some(Ok(self.sorting.batch(&self.name)))
    }
}

/// A column of a derived table, as samples of its series.
pub(super) fn derived(
    store: &Weak<Store>,
    name: &Arc<str>,
    wanted: Option<&Wanted>,
    (table, column): (Table, Column),
    every: Option<Duration>,
    span: Span,
) -> Batches {
    let Some(store) = store.upgrade() else { return none() };
    let every = every.and_then(|every| i64::try_from(every.as_nanos()).ok());
    let rows = match store.history().rows(table) {
        Ok(rows) => rows,
        Err(error) => return failed(format!("the table {} does not read: {error}", table.name())),
    };
    let column_of = |name: &str| rows.column_by_name(name);
    let series = column_of("series").and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let times = column_of("time").and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    let (Some(series), Some(times), Some(values)) = (series, times, column.values(&rows)) else {
        return failed(format!("the table {} has other columns than it should", table.name()));
    };
    let lengths = column_of("every").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let mut sorting = Sorting::default();
    for (row, value) in values.iter().enumerate() {
        let (id, time) = (series.value(row), times.value(row));
        let fits = every.is_none_or(|every| lengths.is_some_and(|lengths| lengths.value(row) == every));
        let is_in = span.contains(Timestamp::from_nanos(time)) && wanted.is_none_or(|wanted| wanted(SeriesId(id)));
        // Rows of nothing have no average.
        if let Some(value) = value.filter(|value| value.is_finite() && fits && is_in) {
            sorting.0.push((time, id, value));
        }
    }
    sorted(sorting, name)
}

/// The samples of a file.
pub(super) fn file(store: &Weak<Store>, name: &Arc<str>, spec: &ReadFileSpec, readers: &dyn Readers) -> Batches {
    let Some(store) = store.upgrade() else { return none() };
    let intake = Collecting { store, samples: Mutex::default() };
    if let Err(told) = readers.read(spec, &intake) {
        return failed(format!("{} does not read: {told}", spec.path.display()));
    }
    sorted(intake.samples.into_inner().unwrap_or_else(PoisonError::into_inner), name)
}

/// Takes samples for a pipeline alone: the store numbers their series and keeps none of them.
struct Collecting {
    store: Arc<Store>,
    samples: Mutex<Sorting>,
}

impl Intake for Collecting {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        let registry = self.store.registry();
        if let Some(id) = registry.find(def) {
            return Ok(id);
        }
        def.check_size()?;
        if self.store.is_crowded() {
            return Err(Refusal::Budget(Budget::OfMemory { bytes: self.store.spec().series_bytes }));
        }
        Ok(registry.intern(def))
    }

    fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.store.registry().find(def)
    }

    fn describe(&self, metric: &str, about: &Description) {
        if !self.store.is_crowded() {
            self.store.registry().describe(metric, about);
        }
    }

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.0.extend(batch.iter().map(|(series, sample)| (sample.time.nanos(), series.0, sample.value)));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
