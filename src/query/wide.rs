//! A measurement as a table: its fields as columns, a row for each time at which a series of one of them has a sample, beside
//! the labels that these series share.
//!
//! Fields of the same labels are laid beside each other by their times, which mostly are the same; nothing is joined by a
//! hash. Fields that are not asked for are read for their times alone, and where fields are compared with numbers, the others
//! are read only where a row is left.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int32Array, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;

use super::dimension::{Dimension, TextColumn, text_type};
use super::samples::{BATCH_ROWS, Reach, divided, reach, time_type};
use super::stream::{BlockingPartition, Reader, of_store, plan, projected};
use super::tracks::{Track, Tracks, TracksExec};
use crate::model::{SeriesId, Span};
use crate::store::{Columns, Scan, Snapshot};

/// Tracks that are read together, since a page of a file has several of a field.
const TOGETHER: usize = 4;

/// One measurement.
pub(super) struct WideTable {
    snapshot: Snapshot,
    dimension: Arc<Dimension>,
    name: String,
    fields: Vec<String>,
    schema: SchemaRef,
}

impl fmt::Debug for WideTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WideTable({})", self.name)
    }
}

impl WideTable {
    /// Of the fields and label columns that [`Dimension::measurement`] gives.
    pub fn new(
        snapshot: Snapshot,
        dimension: Arc<Dimension>,
        name: &str,
        (fields, labels): (Vec<String>, Vec<String>),
    ) -> Self {
        let mut columns = vec![Field::new("time", time_type(), false)];
        columns.extend(labels.iter().map(|label| Field::new(label, text_type(), true)));
        columns.extend(fields.iter().map(|field| Field::new(field, DataType::Float64, true)));
        WideTable { snapshot, dimension, name: name.to_owned(), fields, schema: Arc::new(Schema::new(columns)) }
    }

    /// What a filter can be answered from: that of a field only from rows.
    fn reach(&self, filter: &Expr) -> Reach {
        let of_field = filter.column_refs().iter().any(|column| self.fields.contains(&column.name));
        if of_field { Reach::Rows } else { reach(filter) }
    }

    /// The comparison of a field with a number that a filter is.
    fn compared(&self, filter: &Expr) -> Option<Compared> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
        let (column, op, literal) = match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(literal, _)) => (column, *op, literal),
            (Expr::Literal(literal, _), Expr::Column(column)) => (column, op.swap()?, literal),
            _ => return None,
        };
        let field = self.fields.iter().position(|field| *field == column.name)?;
        let ScalarValue::Float64(Some(number)) = literal else { return None };
        let holds = match op {
            Operator::Lt => Ordering::is_lt,
            Operator::LtEq => Ordering::is_le,
            Operator::Gt => Ordering::is_gt,
            Operator::GtEq => Ordering::is_ge,
            Operator::Eq => Ordering::is_eq,
            Operator::NotEq => Ordering::is_ne,
            _ => return None,
        };
        Some(Compared { field, number: *number, holds })
    }

    /// The series of the fields that fit the filters, those of the same labels together; in the order of the files. And all of
    /// them, whether they have something in the span or not.
    fn tracks(&self, state: &dyn Session, filters: &[Expr], span: Span) -> Result<(Vec<Track>, Vec<SeriesId>)> {
        let (mut series, mut of_field) = (Vec::new(), Vec::new());
        let metrics: Vec<String> = self.fields.iter().map(|field| format!("{}_{field}", self.name)).collect();
        for (at, found) in self.dimension.select_each(state, &metrics, filters)?.into_iter().enumerate() {
            of_field.resize(of_field.len() + found.len(), at);
            series.extend(found);
        }
        let mut tracks: Vec<Track> = Vec::new();
        for ((number, id), field) in self.dimension.registry().alike(&series).into_iter().zip(&series).zip(of_field) {
            if number as usize == tracks.len() {
                tracks.push(Track { series: vec![None; self.fields.len()].into() });
            }
            tracks[number as usize].series[field] = Some(*id);
        }
        tracks.retain(|track| {
            let range = |id| self.snapshot.time_range(id);
            track.all().filter_map(range).any(|(first, last)| span.touches(first, last))
        });
        Ok((tracks, series))
    }
}

#[async_trait]
impl TableProvider for WideTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match self.reach(filter) {
            Reach::Series | Reach::Time(_) => TableProviderFilterPushDown::Exact,
            Reach::Rows if self.compared(filter).is_some() => TableProviderFilterPushDown::Exact,
            Reach::Rows => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (span, of_series) = divided(filters, |filter| self.reach(filter));
        let compared: Vec<Compared> = filters.iter().filter_map(|filter| self.compared(filter)).collect();
        let tracks = self.tracks(state, &of_series, span)?;
        let schema = projected(&self.schema, projection)?;
        let over = (self.snapshot.clone(), self.dimension.clone());
        let partitions = state.config().target_partitions();
        let tracks = Tracks::new(over, span, self.fields.clone(), tracks, partitions);
        let (told, chooses) = (format!("MeasurementScan: {}", self.name), !compared.is_empty());
        let exec = TracksExec::new(told, tracks, chooses, move |tracks| {
            let partitions = tracks.parts.iter().map(|part| {
                let (rows, part) = (Rows::new(tracks, part, &schema, compared.clone()), part.clone());
                BlockingPartition::boxed(schema.clone(), move |out| rows.read(&part, limit, out))
            });
            plan(schema.clone(), partitions.collect(), limit)
        });
        Ok(Arc::new(exec?))
    }
}

/// A field is compared with a number: as the engine does it, not a number is larger than all.
#[derive(Clone, Copy)]
struct Compared {
    field: usize,
    number: f64,
    holds: fn(Ordering) -> bool,
}

/// What fills a column.
enum Column {
    Text(TextColumn),
    Time,
    Field(usize),
}

/// Reads the rows of one partition.
struct Rows {
    tracks: Arc<Tracks>,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// By field, whether its values are asked for.
    wanted: Vec<bool>,
    /// All of these must hold.
    compared: Vec<Compared>,
}

impl Rows {
    fn new(tracks: &Arc<Tracks>, part: &[Track], schema: &SchemaRef, compared: Vec<Compared>) -> Rows {
        let series: Vec<SeriesId> = part.iter().map(Track::any).collect();
        let column = |field: &Arc<Field>| match tracks.fields.iter().position(|name| name == field.name()) {
            Some(at) => Column::Field(at),
            None if field.name() == "time" => Column::Time,
            None => Column::Text(tracks.dimension.text(field.name(), &series)),
        };
        let columns: Vec<Column> = schema.fields().iter().map(column).collect();
        let is_wanted = |at: usize| columns.iter().any(|column| matches!(column, Column::Field(field) if *field == at));
        let wanted = (0..tracks.fields.len()).map(is_wanted).collect();
        Rows { tracks: tracks.clone(), schema: schema.clone(), columns, wanted, compared }
    }

    fn read(&self, part: &[Track], limit: Option<usize>, out: &mut dyn Reader) -> Result<()> {
        let mut scan = self.tracks.snapshot.scan(Vec::new(), self.tracks.span);
        let mut batch = Unfinished::new(self);
        let mut left = limit.unwrap_or(usize::MAX);
        for (at, some) in part.chunks(TOGETHER).enumerate() {
            let series: Vec<SeriesId> = some.iter().flat_map(Track::all).collect();
            for piece in self.tracks.pieces(&series) {
                if out.is_gone() {
                    return Ok(());
                }
                for (place, aligned) in self.aligned(&mut scan, some, piece)?.into_iter().enumerate() {
                    left = left.saturating_sub(aligned.times.len());
                    if !batch.add(at * TOGETHER + place, &aligned, out)? || left == 0 {
                        return batch.finish(out);
                    }
                }
            }
        }
        batch.finish(out)
    }

    /// The rows of some tracks within a piece of time. Field by field, since those of one lie together, and first those that
    /// are compared.
    fn aligned(&self, scan: &mut Scan, tracks: &[Track], piece: Span) -> Result<Vec<Aligned>> {
        let mut read: Vec<Vec<Option<Columns>>> = tracks.iter().map(|track| vec![None; track.series.len()]).collect();
        let compared = self.compared.iter().map(|compared| compared.field);
        for field in compared.clone() {
            for (track, columns) in tracks.iter().zip(&mut read) {
                if columns[field].is_none() {
                    columns[field] = Some(field_of(scan, track.series[field], true, piece)?);
                }
            }
        }
        let chosen: Vec<Option<Vec<i64>>> = read.iter().map(|columns| self.chosen(columns)).collect();
        for (field, &is_wanted) in self.wanted.iter().enumerate() {
            for ((track, columns), chosen) in tracks.iter().zip(&mut read).zip(&chosen) {
                let is_asked = chosen.as_ref().is_none_or(|chosen| is_wanted && !chosen.is_empty());
                if columns[field].is_none() {
                    let series = track.series[field].filter(|_| is_asked);
                    columns[field] = Some(field_of(scan, series, is_wanted, piece)?);
                }
            }
        }
        let whole = |columns: Vec<Option<Columns>>| columns.into_iter().map(Option::unwrap_or_default).collect();
        Ok(read.into_iter().zip(chosen).map(|(columns, chosen)| Aligned::of(whole(columns), chosen)).collect())
    }

    /// The times at which all comparisons hold; `None` where there are none, and so all rows are asked for.
    fn chosen(&self, columns: &[Option<Columns>]) -> Option<Vec<i64>> {
        let mut chosen: Option<Vec<i64>> = None;
        for Compared { field, number, holds } in &self.compared {
            let Some(columns) = &columns[*field] else { return Some(Vec::new()) };
            let found = columns.times.iter().zip(&columns.values).filter(|(_, value)| holds(value.total_cmp(number)));
            let found: Vec<i64> = found.map(|(&time, _)| time).collect();
            chosen = Some(match chosen {
                None => found,
                Some(before) => before.into_iter().filter(|time| found.binary_search(time).is_ok()).collect(),
            });
        }
        chosen
    }
}

/// What a series has in a piece of time, or its times alone.
fn field_of(scan: &mut Scan, series: Option<SeriesId>, values: bool, piece: Span) -> Result<Columns> {
    let found = match series {
        None => Ok(Columns::default()),
        Some(series) if values => scan.columns(series, piece),
        Some(series) => scan.times(series, piece),
    };
    found.map_err(of_store)
}

/// The fields of one track beside each other.
struct Aligned {
    times: Vec<i64>,
    fields: Vec<Columns>,
}

impl Aligned {
    /// Rows at the times that are chosen, or else at all that any has.
    fn of(fields: Vec<Columns>, chosen: Option<Vec<i64>>) -> Aligned {
        if let Some(times) = chosen {
            return Aligned { times, fields };
        }
        let mut filled = fields.iter().map(|field| &field.times).filter(|times| !times.is_empty());
        let first = filled.next().cloned().unwrap_or_default();
        let times = filled.fold(first, |times, others| if times == *others { times } else { union(&times, others) });
        Aligned { times, fields }
    }
}

/// Times of both, each once; both are sorted.
fn union(a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut all = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    while let Some(next) = [a.peek(), b.peek()].into_iter().flatten().min().copied() {
        a.next_if_eq(&next);
        b.next_if_eq(&next);
        all.push(next);
    }
    all
}

/// A batch that is not full yet.
struct Unfinished<'r> {
    rows: &'r Rows,
    count: usize,
    times: Vec<i64>,
    keys: Vec<Vec<Option<i32>>>,
    values: Vec<Float64Builder>,
}

impl<'r> Unfinished<'r> {
    fn new(rows: &'r Rows) -> Self {
        let keys = rows.columns.iter().map(|_| Vec::new()).collect();
        let values = rows.columns.iter().map(|_| Float64Builder::new()).collect();
        Unfinished { rows, count: 0, times: Vec::new(), keys, values }
    }

    /// `Ok(false)` when nobody wants more.
    fn add(&mut self, place: usize, track: &Aligned, out: &mut dyn Reader) -> Result<bool> {
        let mut from = 0;
        while from < track.times.len() {
            let to = track.times.len().min(from + BATCH_ROWS - self.count);
            self.add_rows(place, track, from, to);
            self.count += to - from;
            if self.count == BATCH_ROWS && !out.take(self.take()?) {
                return Ok(false);
            }
            from = to;
        }
        Ok(true)
    }

    fn add_rows(&mut self, place: usize, track: &Aligned, from: usize, to: usize) {
        let times = &track.times[from..to];
        for (at, column) in self.rows.columns.iter().enumerate() {
            match column {
                Column::Time => self.times.extend_from_slice(times),
                Column::Text(text) => {
                    let keys = &mut self.keys[at];
                    keys.resize(keys.len() + times.len(), text.keys[place]);
                }
                Column::Field(field) => add_values(&mut self.values[at], &track.fields[*field], times),
            }
        }
    }

    fn take(&mut self) -> Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.rows.columns.len());
        for (at, column) in self.rows.columns.iter().enumerate() {
            arrays.push(match column {
                Column::Time => {
                    let times = TimestampNanosecondArray::from(std::mem::take(&mut self.times));
                    Arc::new(times.with_timezone("UTC"))
                }
                Column::Text(text) => {
                    let keys = Int32Array::from(std::mem::take(&mut self.keys[at]));
                    text.of_keys(keys)?
                }
                Column::Field(_) => Arc::new(self.values[at].finish()),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.count)));
        Ok(RecordBatch::try_new_with_options(self.rows.schema.clone(), arrays, &options)?)
    }

    fn finish(mut self, out: &mut dyn Reader) -> Result<()> {
        if self.count > 0 {
            out.take(self.take()?);
        }
        Ok(())
    }
}

/// The values of a field at these times; null where it has none.
fn add_values(values: &mut Float64Builder, field: &Columns, times: &[i64]) {
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return };
    let from = field.times.partition_point(|&time| time < first);
    let to = field.times.partition_point(|&time| time <= last);
    if field.times[from..to] == *times {
        values.append_slice(&field.values[from..to]);
        return;
    }
    let mut at = from;
    for &time in times {
        at += field.times[at..to].iter().take_while(|&&other| other < time).count();
        let is_there = field.times.get(at) == Some(&time);
        values.append_option(is_there.then(|| field.values[at]));
        at += usize::from(is_there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{Bench, NOON, S};

    #[test]
    fn rows_stand_where_any_field_has_a_sample() {
        assert_eq!(union(&[1, 3, 5], &[2, 3, 9]), [1, 2, 3, 5, 9]);
        let bench = Bench::new();
        bench.put_fields("cpu", &["user", "idle"], &[("host", "a")], &[(0, &[1.0, 9.0]), (10, &[2.0, 8.0])]);
        bench.put_fields("cpu", &["user"], &[("host", "a")], &[(20, &[3.0])]);
        bench.store.flush().unwrap();
        bench.put_fields("cpu", &["idle"], &[("host", "a")], &[(15, &[7.0])]);
        bench.put_fields("cpu", &["idle"], &[("host", "b")], &[(5, &[6.0])]);
        assert_eq!(
            bench.rows("SELECT time, host, idle, \"user\" FROM cpu ORDER BY host, time"),
            ["0 a 9 1", "10 a 8 2", "15 a 7 NULL", "20 a NULL 3", "5 b 6 NULL"]
        );
        assert_eq!(bench.rows("SELECT count(*) AS n FROM cpu"), ["5"]);
        assert_eq!(bench.rows("SELECT \"user\" FROM cpu WHERE host = 'b'"), ["NULL"]);
        assert_eq!(bench.rows("SELECT host FROM cpu WHERE \"user\" > 1 AND idle IS NULL"), ["a"]);
        let at = (NOON / S + 10).to_string();
        let within =
            format!("SELECT idle FROM cpu WHERE time >= to_timestamp_seconds({at}) AND host = 'a' ORDER BY time");
        assert_eq!(bench.rows(&within), ["8", "7", "NULL"]);
        assert_eq!(bench.rows("SELECT * FROM cpu WHERE host = 'none'"), Vec::<String>::new());
    }
}
