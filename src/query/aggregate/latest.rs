//! The last row of each group: `DISTINCT ON (labels) … ORDER BY labels, time DESC`, `last_value(… ORDER BY time)` and
//! `first_value(… ORDER BY time DESC)`. When series end is known without reading, so only the last samples are read.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, TimestampNanosecondArray};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::projection::ProjectionExec;
use hashbrown::HashMap;

use super::shape::{below, column_name, text_key};
use super::{Partial, batch_of};
use crate::model::{SeriesId, Span, Timestamp};
use crate::query::dimension::TextColumn;
use crate::query::stream::{Reader, of_store};
use crate::query::tracks::{Track, Tracks};
use crate::store::Scan;

/// A column of a row.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Text(String),
    Time,
    Field(usize),
}

impl What {
    fn of(expr: &Arc<dyn PhysicalExpr>, tracks: &Tracks) -> Option<What> {
        if let Some(text) = text_key(expr, tracks) {
            return Some(What::Text(text));
        }
        let name = column_name(expr)?;
        let field = tracks.fields.iter().position(|field| field == name);
        Some(field.map_or(What::Time, What::Field))
    }
}

/// A column of the last row, and those by which it is the last.
struct Asked {
    value: What,
    orders: Vec<What>,
}

/// What is asked of the last row of each group.
pub(super) struct Latest {
    keys: Vec<String>,
    asked: Vec<Asked>,
}

impl Latest {
    /// `None` where an aggregate asks something else.
    pub fn of(aggregate: &AggregateExec, projection: Option<&ProjectionExec>, tracks: &Tracks) -> Option<Latest> {
        let group = aggregate.group_expr();
        let is_plain = group.is_single() && aggregate.limit_options().is_none() && !group.is_empty();
        if !is_plain || aggregate.filter_expr().iter().any(Option::is_some) || aggregate.aggr_expr().is_empty() {
            return None;
        }
        let key = |(expr, _): &(Arc<dyn PhysicalExpr>, String)| text_key(&below(expr, projection).ok()?, tracks);
        let keys = group.expr().iter().map(key).collect::<Option<Vec<String>>>()?;
        let asked = aggregate.aggr_expr().iter().map(|expr| asked(expr, projection, tracks, &keys));
        Some(Latest { asked: asked.collect::<Option<Vec<Asked>>>()?, keys })
    }
}

/// `None` where it is no column of the row that comes last in time.
fn asked(
    expr: &AggregateFunctionExpr,
    projection: Option<&ProjectionExec>,
    tracks: &Tracks,
    keys: &[String],
) -> Option<Asked> {
    let descending = match expr.fun().name() {
        "first_value" => true,
        "last_value" => false,
        _ => return None,
    };
    if expr.is_distinct() || expr.ignore_nulls() {
        return None;
    }
    let args = expr.expressions();
    let [arg] = args.as_slice() else { return None };
    let value = What::of(&below(arg, projection).ok()?, tracks)?;
    let mut orders = Vec::new();
    for order in expr.order_bys() {
        let what = What::of(&below(&order.expr, projection).ok()?, tracks)?;
        let says_nothing = matches!(&what, What::Text(name) if keys.contains(name));
        let is_time = what == What::Time && order.options.descending == descending && !orders.contains(&What::Time);
        if !says_nothing && !is_time {
            return None;
        }
        orders.push(what);
    }
    orders.contains(&What::Time).then_some(Asked { value, orders })
}

/// When the last row of a track is, within the span.
fn last_time(tracks: &Tracks, scan: &mut Scan, track: &Track) -> Result<Option<i64>> {
    let mut latest = None;
    for series in track.all() {
        let Some((_, last)) = tracks.range(series).filter(|(_, last)| Some(*last) > latest) else { continue };
        let is_its_end = tracks.snapshot.time_range(series).is_some_and(|(_, end)| end.nanos() == last);
        let found = if is_its_end { Some(last) } else { last_within(tracks, scan, series)? };
        latest = latest.max(found);
    }
    Ok(latest)
}

/// The last time of a series that goes on after the span.
fn last_within(tracks: &Tracks, scan: &mut Scan, series: SeriesId) -> Result<Option<i64>> {
    for piece in tracks.pieces(&[series]).into_iter().rev() {
        let times = scan.times(series, piece).map_err(of_store)?.times;
        if let Some(&last) = times.last() {
            return Ok(Some(last));
        }
    }
    Ok(None)
}

/// The last row of a group: its track and time.
#[derive(Clone, Copy)]
struct Row {
    track: usize,
    time: i64,
}

impl Latest {
    fn last_rows(&self, tracks: &Tracks, part: &[Track], scan: &mut Scan, series: &[SeriesId]) -> Result<Vec<Row>> {
        let texts: Vec<TextColumn> = self.keys.iter().map(|key| tracks.dimension.text(key, series)).collect();
        let mut rows: Vec<Row> = Vec::new();
        let mut known: HashMap<Vec<Option<i32>>, usize> = HashMap::new();
        for (at, track) in part.iter().enumerate() {
            let Some(time) = last_time(tracks, scan, track)? else { continue };
            let keys = texts.iter().map(|text| text.keys[at]).collect();
            let place = *known.entry(keys).or_insert(rows.len());
            if place == rows.len() {
                rows.push(Row { track: at, time });
            } else if time > rows[place].time {
                rows[place] = Row { track: at, time };
            }
        }
        rows.sort_unstable_by_key(|row| row.track);
        Ok(rows)
    }
}

impl Partial for Latest {
    fn rows(&self, tracks: &Tracks, part: usize, schema: &SchemaRef, out: &mut dyn Reader) -> Result<()> {
        let part = &tracks.parts[part];
        let series: Vec<SeriesId> = part.iter().map(Track::any).collect();
        let mut scan = tracks.snapshot.scan(Vec::new(), tracks.span);
        let rows = self.last_rows(tracks, part, &mut scan, &series)?;
        let mut known: Vec<(What, ArrayRef)> = Vec::new();
        let mut array = |what: &What, scan: &mut Scan| -> Result<ArrayRef> {
            if let Some((_, array)) = known.iter().find(|(known, _)| known == what) {
                return Ok(array.clone());
            }
            let array = column(what, tracks, part, &rows, &series, scan)?;
            known.push((what.clone(), array.clone()));
            Ok(array)
        };
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for key in &self.keys {
            arrays.push(array(&What::Text(key.clone()), &mut scan)?);
        }
        for asked in &self.asked {
            for what in std::iter::once(&asked.value).chain(&asked.orders) {
                arrays.push(array(what, &mut scan)?);
            }
            arrays.push(Arc::new(BooleanArray::from(vec![true; rows.len()])));
        }
        out.take(batch_of(schema, arrays, rows.len())?);
        Ok(())
    }
}

/// A column of these rows.
fn column(
    what: &What,
    tracks: &Tracks,
    part: &[Track],
    rows: &[Row],
    series: &[SeriesId],
    scan: &mut Scan,
) -> Result<ArrayRef> {
    Ok(match what {
        What::Time => {
            let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.time));
            Arc::new(times.with_timezone("UTC"))
        }
        What::Text(name) => {
            let text = tracks.dimension.text(name, series);
            let keys: Int32Array = rows.iter().map(|row| text.keys[row.track]).collect();
            text.of_keys(keys)?
        }
        What::Field(field) => {
            let mut values: Vec<Option<f64>> = Vec::with_capacity(rows.len());
            for row in rows {
                let at = Timestamp::from_nanos(row.time);
                let moment = Span::new(at, at.plus(1));
                let found = part[row.track].series[*field].map(|series| scan.columns(series, moment)).transpose();
                let found = found.map_err(of_store)?;
                values.push(found.and_then(|columns| columns.values.last().copied()));
            }
            Arc::new(Float64Array::from(values))
        }
    })
}
