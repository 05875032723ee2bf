//! Joins of every row with every other, kept from holding a thread for long.
//!
//! Such a join compares a batch of its right side with all rows of its left before it gives way to anybody, which may take
//! minutes; meanwhile nobody can end the statement, and nothing else runs on the thread. So the right side comes in pieces,
//! as small as it takes for each to be done within a moment, and between two of them the join gives way.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

use super::anew::AnewExec;

/// Rows of the first piece, and the most of one.
const FIRST: usize = 16;
const MOST: usize = 8192;
/// A piece that takes longer is followed by a smaller one, one that takes a part of it by a larger one.
const LONG: Duration = Duration::from_millis(40);
const SHORT: Duration = Duration::from_millis(10);

/// Time since some moment.
pub(super) type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The rule; it comes after all others.
pub(super) struct PaceJoins(pub Elapsed);

impl fmt::Debug for PaceJoins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaceJoins")
    }
}

impl PhysicalOptimizerRule for PaceJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if !node.is::<NestedLoopJoinExec>() && !node.is::<CrossJoinExec>() {
                return Ok(Transformed::no(node));
            }
            let mut children: Vec<Arc<dyn ExecutionPlan>> = node.children().into_iter().cloned().collect();
            if let Some(left) = children.first_mut().filter(|_| node.is::<NestedLoopJoinExec>()) {
                *left = Arc::new(AnewExec(left.clone()));
            }
            if let Some(right) = children.last_mut() {
                *right = Arc::new(PacedExec { input: right.clone(), elapsed: self.0.clone() });
            }
            #[expect(
                deprecated,
                reason = "what replaces it says how properties are kept; here they are worked out anew"
            )]
            Ok(Transformed::yes(node.with_new_children(children)?))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "PaceJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Gives the rows of its input in pieces.
struct PacedExec {
    input: Arc<dyn ExecutionPlan>,
    elapsed: Elapsed,
}

impl fmt::Debug for PacedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacedExec")
    }
}

impl DisplayAs for PacedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacedExec")
    }
}

#[async_trait]
impl ExecutionPlan for PacedExec {
    fn name(&self) -> &str {
        "PacedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(PacedExec { input: children.swap_remove(0), elapsed: self.elapsed.clone() }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let elapsed = self.elapsed.clone();
        Ok(Box::pin(Paced { input, elapsed, left: None, rows: FIRST, handed: None }))
    }
}

struct Paced {
    input: SendableRecordBatchStream,
    elapsed: Elapsed,
    /// What is left of a batch.
    left: Option<RecordBatch>,
    /// Of the next piece.
    rows: usize,
    /// When the last was handed over.
    handed: Option<Duration>,
}

impl Paced {
    /// How many rows the next piece has, by how long the last one took.
    fn adapt(&mut self, took: Duration) {
        if took > LONG {
            self.rows = (self.rows / 2).max(1);
        } else if took < SHORT {
            self.rows = (self.rows * 2).min(MOST);
        }
    }
}

impl Stream for Paced {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(handed) = self.handed.take() {
            let took = (self.elapsed)().saturating_sub(handed);
            self.adapt(took);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let batch = match self.left.take() {
            Some(batch) => batch,
            None => match std::task::ready!(self.input.poll_next_unpin(context)) {
                Some(Ok(batch)) => batch,
                other => return Poll::Ready(other),
            },
        };
        let rows = self.rows.min(batch.num_rows());
        if rows < batch.num_rows() {
            self.left = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        self.handed = Some((self.elapsed)());
        Poll::Ready(Some(Ok(batch.slice(0, rows))))
    }
}

impl RecordBatchStream for Paced {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
