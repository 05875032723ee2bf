//! `ORDER BY time DESC LIMIT n`, and the same of the oldest: only as much of the end of a scan is read as has `n` rows.
//!
//! A rule narrows the span of a scan below a sort by time that keeps a few rows: to where, counted by the times of the samples,
//! as many rows are. What lies beyond cannot be among them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, PhysicalExpr, ReplaceChildrenOptions};

use super::tracks::TracksExec;

/// Rows that are kept, at most: more are sorted sooner than counted.
const ROWS: usize = 10_000;

/// The rule.
#[derive(Debug)]
pub(super) struct ReadNewest;

impl PhysicalOptimizerRule for ReadNewest {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(match narrowed(&node)? {
                Some(instead) => Transformed::yes(instead),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "ReadNewest"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The same sort over less.
fn narrowed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(None) };
    let Some(rows) = sort.fetch().filter(|&rows| rows <= ROWS) else { return Ok(None) };
    let first = sort.expr().first();
    let projection = sort.input().downcast_ref::<ProjectionExec>();
    let below = projection.map_or(sort.input(), |projection| projection.input());
    let Some(scan) = below.downcast_ref::<TracksExec>() else { return Ok(None) };
    if column(&first.expr, projection).as_deref() != Some("time") {
        return Ok(None);
    }
    let Some(scan) = scan.narrowed(rows, first.options.descending)? else { return Ok(None) };
    let mut input: Arc<dyn ExecutionPlan> = Arc::new(scan);
    if projection.is_some() {
        input = over(sort.input(), input)?;
    }
    over(node, input).map(Some)
}

/// The name below a projection of what is a column of it.
fn column(expr: &Arc<dyn PhysicalExpr>, projection: Option<&ProjectionExec>) -> Option<String> {
    let column = expr.downcast_ref::<Column>()?;
    match projection {
        None => Some(column.name().to_owned()),
        Some(projection) => {
            let below = projection.expr().get(column.index())?;
            below.expr.downcast_ref::<Column>().map(|column| column.name().to_owned())
        }
    }
}

fn over(node: &Arc<dyn ExecutionPlan>, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    node.clone().replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

#[cfg(test)]
mod tests {
    use crate::query::testing::Bench;

    #[test]
    fn the_newest_and_the_oldest_rows_are_read_alone() {
        let bench = Bench::new();
        for (host, shift) in [("a", 0), ("b", 3), ("c", 7)] {
            let rows: Vec<(i64, [f64; 2])> = (0..3000).map(|at| (at * 10 + shift, [at as f64, -(at as f64)])).collect();
            let rows: Vec<(i64, &[f64])> = rows.iter().map(|(second, values)| (*second, &values[..])).collect();
            bench.put_fields("cpu", &["user", "idle"], &[("host", host)], &rows[..2000]);
            bench.store.flush().unwrap();
            bench.put_fields("cpu", &["user", "idle"], &[("host", host)], &rows[2000..]);
        }
        // One that ended long before the others.
        bench.put_fields("cpu", &["user"], &[("host", "gone")], &[(5, &[1.0])]);
        for (order, wanted) in [
            ("time DESC", ["29997 c 2999", "29993 b 2999", "29990 a 2999", "29987 c 2998"]),
            ("time", ["0 a 0", "3 b 0", "5 gone 1", "7 c 0"]),
            ("time DESC, host", ["29997 c 2999", "29993 b 2999", "29990 a 2999", "29987 c 2998"]),
        ] {
            for table in ["SELECT time, host, \"user\" FROM cpu", "SELECT time, host, value FROM cpu_user"] {
                let statement = format!("{table} ORDER BY {order} LIMIT 4");
                assert_eq!(bench.rows(&statement), wanted, "{statement}");
                let plan = bench.rows(&format!("EXPLAIN {statement}")).join("\n");
                assert!(plan.contains("the rows at the end that are asked for"), "{plan}");
            }
        }
        assert_eq!(bench.rows("SELECT \"user\" FROM cpu WHERE \"user\" < 5 ORDER BY time DESC LIMIT 1"), ["4"]);
        assert_eq!(bench.rows("SELECT count(*) FROM (SELECT * FROM cpu ORDER BY time LIMIT 100000) AS c"), ["9001"]);
        let offset = "SELECT time FROM cpu WHERE host = 'a' ORDER BY time DESC LIMIT 2 OFFSET 3";
        assert_eq!(bench.rows(offset), ["29960", "29950"]);
    }
}
