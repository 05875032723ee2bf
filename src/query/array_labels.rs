//! `host = ANY(ARRAY['a', 'b'])` and `array_has(['a', 'b'], host)` over labels: a choice of series, as `host IN ('a', 'b')` is.
//!
//! Labels are numbers of texts, which the engine's own function does not take.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit};
use datafusion::scalar::ScalarValue;

#[derive(Debug)]
pub(super) struct ArrayLabels;

impl FunctionRewrite for ArrayLabels {
    fn name(&self) -> &str {
        "array_labels"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else { return Ok(Transformed::no(expr)) };
        let [array, element] = &args[..] else { return Ok(Transformed::no(expr)) };
        if func.name() != "array_has" {
            return Ok(Transformed::no(expr));
        }
        let DataType::Dictionary(_, texts) = element.get_type(schema)? else { return Ok(Transformed::no(expr)) };
        if let Some(values) = listed(array) {
            return Ok(Transformed::yes(element.clone().in_list(values, false)));
        }
        let args = vec![array.clone(), cast(element.clone(), *texts)];
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(func.clone(), args))))
    }
}

/// The texts of an array that is written out.
fn listed(array: &Expr) -> Option<Vec<Expr>> {
    match array {
        Expr::Literal(ScalarValue::List(list), _) if list.len() == 1 && list.is_valid(0) => texts(&list.value(0)),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "make_array" => {
            let is_text = |arg: &Expr| matches!(arg, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
            args.iter().all(is_text).then(|| args.clone())
        }
        _ => None,
    }
}

fn texts(values: &ArrayRef) -> Option<Vec<Expr>> {
    let all = values.as_string_opt::<i32>()?;
    all.iter().map(|text| text.map(lit)).collect()
}
