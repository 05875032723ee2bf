//! `$1`, `$2`, … of statements: what each has to be, and what goes in for it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ParamValues};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan};
use datafusion::scalar::ScalarValue;

use super::error::QueryError;

/// What each parameter has to be, from the first on, as far as what stands beside it tells.
pub(super) fn types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut known = plan.get_parameter_types()?;
    plan.apply_with_subqueries(|node| {
        let schemas = node.inputs();
        let schema = schemas.first().map_or(node.schema(), |input| input.schema());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some((name, found)) = told_by(expr, schema) {
                    known.entry(name).or_default().get_or_insert(found);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(in_order(&known))
}

fn in_order(known: &HashMap<String, Option<DataType>>) -> Vec<Option<DataType>> {
    let number = |name: &String| name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
    let count = known.keys().map(number).max().unwrap_or(0);
    (1..=count).map(|number| known.get(&format!("${number}")).cloned().flatten()).collect()
}

/// What the planner itself leaves open: `$1::TYPE`, and the list in `label = ANY($1)`.
fn told_by(expr: &Expr, schema: &DFSchema) -> Option<(String, DataType)> {
    let named = |expr: &Expr| match expr {
        Expr::Placeholder(Placeholder { id, .. }) => Some(id.clone()),
        _ => None,
    };
    match expr {
        Expr::Cast(Cast { expr, field }) => Some((named(expr)?, field.data_type().clone())),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "array_has" => {
            let [list, element] = &args[..] else { return None };
            let element = match element.get_type(schema).ok()? {
                DataType::Dictionary(_, texts) => *texts,
                other => other,
            };
            Some((named(list)?, DataType::List(Arc::new(Field::new_list_field(element, true)))))
        }
        _ => None,
    }
}

/// The columns of a row as what goes in.
///
/// # Errors
/// Another number of rows.
pub fn parameters(row: &RecordBatch) -> Result<ParamValues, QueryError> {
    if row.num_rows() != 1 {
        let told = format!("{} rows of parameters: a statement is asked with one at a time", row.num_rows());
        return Err(QueryError::Statement(told));
    }
    let values = row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    Ok(ParamValues::from(values.collect::<Result<Vec<_>, _>>()?))
}
