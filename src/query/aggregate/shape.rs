//! What an aggregate asks, in terms of tracks.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::scalar::ScalarValue;

use crate::query::growth::width;
use crate::query::tracks::Tracks;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// The first Monday: weeks begin there.
const MONDAY: i64 = 4 * DAY;

/// Stretches of time of one length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    /// Nanoseconds, over 0.
    pub width: i64,
    /// Where one begins.
    pub origin: i64,
}

impl Bucket {
    /// The how manieth from `origin` a time lies in.
    pub fn number(self, time: i64) -> i64 {
        time.saturating_sub(self.origin).div_euclid(self.width)
    }

    /// Where one begins.
    pub fn start(self, number: i64) -> i64 {
        number.saturating_mul(self.width).saturating_add(self.origin)
    }
}

/// What rows are grouped by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// A label, or the metric.
    Text(String),
    Bucket,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

/// A function of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub function: Function,
    pub field: usize,
}

/// All that is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub keys: Vec<Key>,
    /// Of the key that is one; all of time without it.
    pub bucket: Option<Bucket>,
    pub asked: Vec<Asked>,
}

impl Shape {
    /// `None` where an aggregate asks what only rows can say.
    pub fn of(
        aggregate: &AggregateExec,
        projection: Option<&ProjectionExec>,
        tracks: &Tracks,
    ) -> Result<Option<Shape>> {
        let group = aggregate.group_expr();
        let is_plain = group.is_single() && aggregate.limit_options().is_none();
        if !is_plain || aggregate.filter_expr().iter().any(Option::is_some) {
            return Ok(None);
        }
        let mut shape = Shape { keys: Vec::new(), bucket: None, asked: Vec::new() };
        for (expr, _) in group.expr() {
            let expr = below(expr, projection)?;
            if let Some(text) = text_key(&expr, tracks) {
                shape.keys.push(Key::Text(text));
            } else if let (Some(bucket), None) = (bucket_of(&expr), shape.bucket) {
                shape.bucket = Some(bucket);
                shape.keys.push(Key::Bucket);
            } else {
                return Ok(None);
            }
        }
        for expr in aggregate.aggr_expr() {
            let Some(asked) = asked(expr, projection, tracks)? else { return Ok(None) };
            shape.asked.push(asked);
        }
        Ok(Some(shape))
    }
}

/// An expression over what is below a projection.
pub(super) fn below(
    expr: &Arc<dyn PhysicalExpr>,
    projection: Option<&ProjectionExec>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(projection) = projection else { return Ok(expr.clone()) };
    expr.clone()
        .transform_down(|node| {
            // What is put in is not looked at again: its columns are those below.
            Ok(match node.downcast_ref::<Column>().and_then(|column| projection.expr().get(column.index())) {
                Some(projected) => Transformed::new(
                    projected.expr.clone(),
                    true,
                    datafusion::common::tree_node::TreeNodeRecursion::Jump,
                ),
                None => Transformed::no(node),
            })
        })
        .data()
}

pub(super) fn column_name(expr: &Arc<dyn PhysicalExpr>) -> Option<&str> {
    expr.downcast_ref::<Column>().map(Column::name)
}

/// The label, or `metric`, that an expression is.
pub(super) fn text_key(expr: &Arc<dyn PhysicalExpr>, tracks: &Tracks) -> Option<String> {
    let name = column_name(expr)?;
    (name != "time" && !tracks.fields.iter().any(|field| field == name)).then(|| name.to_owned())
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

/// `date_trunc` of a unit that is always as long, and `date_bin`.
fn bucket_of(expr: &Arc<dyn PhysicalExpr>) -> Option<Bucket> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let (first, time) = (literal(call.args().first()?)?, call.args().get(1)?);
    if column_name(time) != Some("time") || !matches!(call.return_type(), DataType::Timestamp(..)) {
        return None;
    }
    let of = |width, origin| (width > 0).then_some(Bucket { width, origin });
    match (call.name(), call.args().len()) {
        ("date_trunc", 2) => {
            let unit = first.try_as_str().flatten()?.to_ascii_lowercase();
            let (width, origin) = match unit.as_str() {
                "microsecond" => (1000, 0),
                "millisecond" => (1_000_000, 0),
                "second" => (SECOND, 0),
                "minute" => (60 * SECOND, 0),
                "hour" => (3600 * SECOND, 0),
                "day" => (DAY, 0),
                "week" => (7 * DAY, MONDAY),
                _ => return None,
            };
            of(width, origin)
        }
        ("date_bin", 2 | 3) => {
            let ScalarValue::IntervalMonthDayNano(Some(interval)) = first else { return None };
            let width = width(*interval, "date_bin").ok()?;
            let origin = match call.args().get(2) {
                None => 0,
                Some(origin) => match literal(origin)? {
                    ScalarValue::TimestampNanosecond(Some(origin), _) => *origin,
                    _ => return None,
                },
            };
            of(width, origin)
        }
        _ => None,
    }
}

fn asked(expr: &AggregateFunctionExpr, projection: Option<&ProjectionExec>, tracks: &Tracks) -> Result<Option<Asked>> {
    if expr.is_distinct() || !expr.order_bys().is_empty() {
        return Ok(None);
    }
    let function = match expr.fun().name() {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "min" => Function::Min,
        "max" => Function::Max,
        "avg" => Function::Avg,
        _ => return Ok(None),
    };
    let args = expr.expressions();
    let [arg] = args.as_slice() else { return Ok(None) };
    let arg = below(arg, projection)?;
    let field = match column_name(&arg) {
        Some(name) => tracks.fields.iter().position(|field| field == name),
        None => None,
    };
    // Rows are those of its field where a track has one.
    let is_rows = function == Function::Count
        && tracks.fields.len() == 1
        && (column_name(&arg) == Some("time") || literal(&arg).is_some_and(|literal| !literal.is_null()));
    Ok(field.or(is_rows.then_some(0)).map(|field| Asked { function, field }))
}
