//! Finds `gapfill` in the groups of an aggregate and puts a node over it that makes the buckets it lacks.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::expr::{Between, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, Expr, Extension, LogicalPlan, Operator, Projection, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::node::GapFill;
use super::{Fill, Filled, GAPFILL, Shape, misplaced};

/// The rule. It comes after the one that makes the types of arguments fit.
#[derive(Debug)]
pub(in crate::query) struct FillGaps;

impl AnalyzerRule for FillGaps {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if called(&plan)?.is_none() {
            return Ok(plan);
        }
        let plan = plan.transform_up_with_subqueries(|node| Ok(Transformed::yes(rewritten(node)?)))?.data;
        match called(&plan)? {
            Some(name) => plan_err!("{}", misplaced(&name)),
            None => Ok(plan),
        }
    }

    fn name(&self) -> &'static str {
        "FillGaps"
    }
}

/// One of our functions that a plan calls.
fn called(plan: &LogicalPlan) -> Result<Option<String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Some(name) = function(part).map(ScalarFunction::name)
                    && (name == GAPFILL || Fill::of_name(name).is_some())
                {
                    found = Some(name.to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn function(expr: &Expr) -> Option<&ScalarFunction> {
    if let Expr::ScalarFunction(function) = expr { Some(function) } else { None }
}

fn fill(expr: &Expr) -> Option<(Fill, &Expr)> {
    let function = function(expr)?;
    Some((Fill::of_name(function.name())?, function.args.first()?))
}

fn rewritten(node: LogicalPlan) -> Result<LogicalPlan> {
    match node {
        LogicalPlan::Aggregate(aggregate) => match over_groups(&aggregate)? {
            Some(filled) => Ok(filled),
            None => LogicalPlan::Aggregate(aggregate).recompute_schema(),
        },
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => with_columns(node),
        other => other.recompute_schema(),
    }
}

/// The node over an aggregate that groups by `gapfill`.
fn over_groups(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let is_gapfill = |expr: &Expr| function(unaliased(expr)).is_some_and(|function| function.name() == GAPFILL);
    let Some(bucket) = aggregate.group_expr.iter().position(is_gapfill) else { return Ok(None) };
    let Some(ScalarFunction { args, .. }) = function(unaliased(&aggregate.group_expr[bucket])) else { return Ok(None) };
    let (width, time) = (&args[0], &args[1]);
    let bin = |at: Expr| date_bin().call(vec![width.clone(), at]);
    let time_type = aggregate.schema.field(bucket).data_type();
    let bounds = match &args[2..] {
        [start, end] => Bounds { first: vec![start.clone()], last: vec![before(end.clone())] },
        _ => match time_column(time) {
            Some(column) => Bounds::of(&aggregate.input, column),
            None => Bounds::default(),
        },
    };
    let binned = |bounds: Vec<Expr>| bounds.into_iter().map(|at| bin(cast(at, time_type.clone()))).collect();
    let mut group_expr = aggregate.group_expr.clone();
    let (relation, field) = aggregate.schema.qualified_field(bucket);
    group_expr[bucket] = bin(time.clone()).alias_qualified(relation.cloned(), field.name());
    let input = Aggregate::try_new(aggregate.input.clone(), group_expr, aggregate.aggr_expr.clone())?;
    let kept = input.schema.fields().len();
    let shape = Shape { groups: aggregate.group_expr.len(), bucket, kept, filled: Vec::new() };
    let (first, last) = (binned(bounds.first), binned(bounds.last));
    node(GapFill::new(LogicalPlan::Aggregate(input), shape, width.clone(), first, last)?).map(Some)
}

fn node(gap_fill: GapFill) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(gap_fill) }))
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// `locf` and `interpolate` in a node's expressions become columns of the node that fills.
fn with_columns(node: LogicalPlan) -> Result<LogicalPlan> {
    let mut calls: Vec<Expr> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|part| {
            if fill(part).is_some() && !calls.contains(part) {
                calls.push(part.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if calls.is_empty() {
        return node.recompute_schema();
    }
    let names = NamePreserver::new(&node);
    let column = |part: Expr| {
        Ok(match fill(&part) {
            Some(_) => Transformed::yes(Expr::Column(Column::from_name(part.schema_name().to_string()))),
            None => Transformed::no(part),
        })
    };
    let with_column = |expr: Expr| {
        let name = names.save(&expr);
        Ok(name.restore(expr.transform_up(column)?.data))
    };
    let exprs = node.expressions().into_iter().map(with_column).collect::<Result<Vec<Expr>>>()?;
    let inputs: Result<Vec<LogicalPlan>> = node.inputs().into_iter().map(|input| filling(input, &calls)).collect();
    node.with_new_exprs(exprs, inputs?)
}

/// The plan below, which fills these, too.
fn filling(plan: &LogicalPlan, calls: &[Expr]) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Extension(Extension { node: found }) if found.as_any().is::<GapFill>() => {
            let Some(gap_fill) = found.as_any().downcast_ref::<GapFill>() else { return Ok(plan.clone()) };
            let with = calls.iter().try_fold(gap_fill.clone(), with_filled)?;
            node(with)
        }
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Window(_) => {
            let inputs: Result<Vec<LogicalPlan>> =
                plan.inputs().into_iter().map(|input| filling(input, calls)).collect();
            plan.with_new_exprs(plan.expressions(), inputs?)
        }
        _ => {
            let name = calls.iter().find_map(fill).map_or("locf", |(fill, _)| fill.name());
            plan_err!("{}", misplaced(name))
        }
    }
}

/// With one more filled column; what it is made of is worked out below, where that is more than a column.
fn with_filled(gap_fill: GapFill, call: &Expr) -> Result<GapFill> {
    let name = call.schema_name().to_string();
    let Some((fill, of)) = fill(call).filter(|_| gap_fill.shape.filled.iter().all(|filled| filled.name != name)) else {
        return Ok(gap_fill);
    };
    let GapFill { mut input, mut shape, width, first, last, .. } = gap_fill;
    let column = if let Expr::Column(column) = of { input.schema().maybe_index_of_column(column) } else { None };
    let of = match column {
        Some(at) => at,
        None => {
            let at = input.schema().fields().len();
            let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
            exprs.push(of.clone().alias(format!("{name} of")));
            input = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
            at
        }
    };
    shape.filled.push(Filled { fill, of, name });
    GapFill::new(input, shape, width, first, last)
}

/// What `WHERE` says of a time: moments in the first bucket and in the last.
#[derive(Default)]
struct Bounds {
    first: Vec<Expr>,
    last: Vec<Expr>,
}

impl Bounds {
    fn of(plan: &LogicalPlan, time: &Column) -> Bounds {
        let mut bounds = Bounds::default();
        bounds.gather(plan, time);
        bounds
    }

    /// As far down as the column is handed on as it is.
    fn gather(&mut self, plan: &LogicalPlan, time: &Column) {
        match plan {
            LogicalPlan::Filter(filter) => {
                split_conjunction(&filter.predicate).into_iter().for_each(|one| self.add(one, time));
                self.gather(&filter.input, time);
            }
            LogicalPlan::TableScan(scan) => {
                scan.filters.iter().flat_map(split_conjunction).for_each(|one| self.add(one, time));
            }
            LogicalPlan::Sort(sort) => self.gather(&sort.input, time),
            LogicalPlan::Join(join) => {
                for side in [&join.left, &join.right] {
                    if side.schema().has_column(time) {
                        self.gather(side, time);
                    }
                }
            }
            LogicalPlan::SubqueryAlias(alias) => {
                if let Some(at) = alias.schema.maybe_index_of_column(time) {
                    self.gather(&alias.input, &alias.input.schema().columns()[at]);
                }
            }
            LogicalPlan::Projection(projection) => {
                let at = projection.schema.maybe_index_of_column(time);
                if let Some(Expr::Column(below)) = at.map(|at| unaliased(&projection.expr[at])) {
                    self.gather(&projection.input, below);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, predicate: &Expr, time: &Column) {
        match predicate {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if time_column(left) == Some(time) && is_constant(right) {
                    self.compared(*op, right);
                } else if time_column(right) == Some(time)
                    && is_constant(left)
                    && let Some(op) = op.swap()
                {
                    self.compared(op, left);
                }
            }
            Expr::Between(Between { expr, negated: false, low, high }) if time_column(expr) == Some(time) => {
                for (op, bound) in [(Operator::GtEq, low), (Operator::LtEq, high)] {
                    if is_constant(bound) {
                        self.compared(op, bound);
                    }
                }
            }
            _ => {}
        }
    }

    fn compared(&mut self, op: Operator, bound: &Expr) {
        match op {
            Operator::GtEq => self.first.push(bound.clone()),
            Operator::Gt => self.first.push(bound.clone() + nanosecond()),
            Operator::LtEq => self.last.push(bound.clone()),
            Operator::Lt => self.last.push(before(bound.clone())),
            Operator::Eq => {
                self.first.push(bound.clone());
                self.last.push(bound.clone());
            }
            _ => {}
        }
    }
}

fn before(at: Expr) -> Expr {
    at - nanosecond()
}

fn nanosecond() -> Expr {
    lit(datafusion::scalar::ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, 1))))
}

/// The column, in whatever unit of time.
fn time_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(Cast { expr, field, .. }) if matches!(field.data_type(), DataType::Timestamp(..)) => {
            time_column(expr)
        }
        Expr::Alias(alias) => time_column(&alias.expr),
        _ => None,
    }
}

fn is_constant(expr: &Expr) -> bool {
    let asks = |part: &Expr| {
        let asks = matches!(part, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_));
        Ok(asks || matches!(part, Expr::InSubquery(_) | Expr::Exists(_)))
    };
    !expr.exists(asks).unwrap_or(true)
}

/// The columns that the node gives: the groups', and those that it fills.
pub(super) fn schema_of(input: &DFSchema, shape: &Shape) -> Result<DFSchema> {
    let kept = input.iter().take(shape.kept).enumerate().map(|(at, (relation, field))| {
        let nullable = field.is_nullable() || at >= shape.groups;
        (relation.cloned(), Arc::new(Field::clone(field).with_nullable(nullable)))
    });
    let filled = shape.filled.iter().map(|filled| {
        let of = input.field(filled.of).data_type().clone();
        (None, Arc::new(Field::new(&filled.name, of, true)))
    });
    DFSchema::new_with_metadata(kept.chain(filled).collect(), input.metadata().clone())
}
