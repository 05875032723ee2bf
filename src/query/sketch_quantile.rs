//! `sketch_quantile(sketch, q [, earlier])`: a percentile of what a sketch counted, or of what it counted more than an
//! earlier one.
//!
//! Histograms count from the start of what they measure. Taking the sketch of the row before away, bin by bin, leaves
//! what was observed between the two:
//!
//! ```sql
//! SELECT time, sketch_quantile(sketch, 0.99, lag(sketch) OVER (PARTITION BY series ORDER BY time)) AS p99 FROM histograms
//! ```
//! A sketch that counted less than the earlier one began anew: then all of it counts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use crate::stats::Sketch;

/// The function, as statements call it.
pub(super) fn sketch_quantile() -> ScalarUDF {
    let two = vec![DataType::Binary, DataType::Float64];
    let three = vec![DataType::Binary, DataType::Float64, DataType::Binary];
    let either = vec![TypeSignature::Exact(two), TypeSignature::Exact(three)];
    ScalarUDF::from(SketchQuantile { signature: Signature::one_of(either, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchQuantile {
    signature: Signature,
}

impl ScalarUDFImpl for SketchQuantile {
    fn name(&self) -> &'static str {
        "sketch_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (sketches, shares) = (arrays[0].as_binary::<i32>(), arrays[1].as_primitive::<Float64Type>());
        let earlier = arrays.get(2).map(AsArray::as_binary::<i32>);
        let of_row = |row| quantile(sketches, shares, earlier, row);
        let quantiles: Float64Array = (0..sketches.len()).map(of_row).collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(quantiles) as ArrayRef))
    }
}

/// Null where there is no sketch or it is empty; without an earlier one, as in the first row, of all it counted.
fn quantile(
    sketches: &BinaryArray,
    shares: &Float64Array,
    earlier: Option<&BinaryArray>,
    row: usize,
) -> Result<Option<f64>> {
    if sketches.is_null(row) || shares.is_null(row) {
        return Ok(None);
    }
    let share = shares.value(row);
    if !(0.0..=1.0).contains(&share) {
        return exec_err!("sketch_quantile: {share} is no share: write 0 to 1, as in 0.99");
    }
    let mut sketch = decoded(sketches.value(row))?;
    if let Some(earlier) = earlier.filter(|earlier| !earlier.is_null(row)) {
        sketch = sketch.since(&decoded(earlier.value(row))?);
    }
    Ok(sketch.quantile(share))
}

fn decoded(bytes: &[u8]) -> Result<Sketch> {
    Sketch::decode(bytes).or_else(|error| exec_err!("sketch_quantile: {error}: ask it of a column `sketch`"))
}
