//! The node that fills gaps, as planned, and how it comes to run.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, plan_err};
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::scalar::ScalarValue;

use super::exec::{GapFillExec, Grid};
use super::rule::schema_of;
use super::{Shape, SharedShape};

/// Groups, and the buckets that they lack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GapFill {
    pub input: LogicalPlan,
    pub shape: Shape,
    /// Of a bucket.
    pub width: Expr,
    /// Where the first bucket begins, at the earliest: all of these.
    pub first: Vec<Expr>,
    /// Where the last one begins, at the latest.
    pub last: Vec<Expr>,
    pub schema: DFSchemaRef,
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.shape.partial_cmp(&other.shape).filter(|order| order.is_ne() || self == other)
    }
}

impl GapFill {
    pub fn new(input: LogicalPlan, shape: Shape, width: Expr, first: Vec<Expr>, last: Vec<Expr>) -> Result<GapFill> {
        let schema = Arc::new(schema_of(input.schema(), &shape)?);
        Ok(GapFill { input, shape, width, first, last, schema })
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [&self.width].into_iter().chain(&self.first).chain(&self.last).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFill: width={}", self.width)?;
        let filled: Vec<&str> = self.shape.filled.iter().map(|filled| filled.name.as_str()).collect();
        if filled.is_empty() { Ok(()) } else { write!(f, ", {}", filled.join(", ")) }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let (Some(width), Some(input)) = (exprs.next(), inputs.pop()) else {
            return plan_err!("GapFill has a width and an input");
        };
        let first = exprs.by_ref().take(self.first.len()).collect();
        GapFill::new(input, self.shape.clone(), width, first, exprs.collect())
    }
}

/// Makes plans run, this node among them.
#[derive(Debug)]
pub(in crate::query) struct GapFillPlanner;

#[async_trait]
impl QueryPlanner for GapFillPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(GapFillPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for GapFillPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<GapFill>(), inputs) else { return Ok(None) };
        let ScalarValue::IntervalMonthDayNano(Some(width)) = constant(&node.width, session)? else {
            return plan_err!("the width of gapfill has to be constant, as in INTERVAL '1 minute'");
        };
        let moment = |expr: &Expr| match constant(expr, session)? {
            ScalarValue::TimestampNanosecond(at, _) => Ok(at),
            other => plan_err!("a bound of gapfill is no time, but {other}"),
        };
        let moments =
            |exprs: &[Expr]| exprs.iter().filter_map(|expr| moment(expr).transpose()).collect::<Result<Vec<i64>>>();
        let (first, last) = (moments(&node.first)?.into_iter().max(), moments(&node.last)?.into_iter().min());
        let shape: SharedShape = Arc::new(node.shape.clone());
        let schema = Arc::new(node.schema.as_arrow().clone());
        let exec = GapFillExec::new(input.clone(), shape, Grid { width, first, last }, schema)?;
        Ok(Some(Arc::new(exec)))
    }
}

/// The value of an expression that asks no row.
fn constant(expr: &Expr, session: &dyn Session) -> Result<ScalarValue> {
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    let value = session.create_physical_expr(expr.clone(), &DFSchema::empty())?.evaluate(&row)?;
    ScalarValue::try_from_array(&*value.into_array(1)?, 0)
}
