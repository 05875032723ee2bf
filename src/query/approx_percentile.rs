//! `approx_percentile(x, q)`: a percentile of values, or of what sketches counted, within 1 %.
//!
//! Of values it makes a sketch, of sketches (the column `sketch` of `rollups` and `histograms`) the one of all: the percentile
//! of a day is that of its minutes together, which no mean of their percentiles is.
//!
//! ```sql
//! SELECT approx_percentile(value, 0.99) FROM cpu_usage_user;
//! SELECT time_bucket(INTERVAL '1 day', time) AS day, approx_percentile(sketch, 0.99) FROM rollups GROUP BY day;
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use crate::stats::Sketch;

const NAME: &str = "approx_percentile";

/// The function, as statements call it.
pub(super) fn approx_percentile() -> AggregateUDF {
    AggregateUDF::from(ApproxPercentile { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxPercentile {
    signature: Signature,
}

impl AggregateUDFImpl for ApproxPercentile {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [DataType::Binary | DataType::LargeBinary | DataType::BinaryView, share] if share.is_numeric() => {
                Ok(vec![DataType::Binary, DataType::Float64])
            }
            [of, share] if (of.is_numeric() || of.is_null()) && share.is_numeric() => {
                Ok(vec![DataType::Float64, DataType::Float64])
            }
            _ => plan_err!("write {NAME}(value, 0.99), or {NAME}(sketch, 0.99) of rollups and histograms"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name: &str, of| Arc::new(Field::new(format_state_name(args.name, name), of, true));
        Ok(vec![field("sketch", DataType::Binary), field("share", DataType::Float64)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{NAME} counts every value: leave DISTINCT out");
        }
        Ok(Box::new(Counted::default()))
    }
}

/// What a group counted.
#[derive(Debug, Default)]
struct Counted {
    sketch: Sketch,
    share: Option<f64>,
}

impl Counted {
    fn ask(&mut self, shares: &ArrayRef) -> Result<()> {
        for share in shares.as_primitive::<Float64Type>().iter().flatten() {
            if !(0.0..=1.0).contains(&share) {
                return exec_err!("{NAME}: {share} is no share: write 0 to 1, as in 0.99");
            }
            if self.share.is_some_and(|before| before != share) {
                return exec_err!("{NAME}: the share differs within a group: write one that is constant, as in 0.99");
            }
            self.share = Some(share);
        }
        Ok(())
    }

    fn merge(&mut self, sketches: &ArrayRef) -> Result<()> {
        for bytes in sketches.as_binary::<i32>().iter().flatten() {
            let told = |error| exec_err!("{NAME}: {error}: ask it of a column `sketch`");
            self.sketch.merge(&Sketch::decode(bytes).or_else(told)?);
        }
        Ok(())
    }
}

impl Accumulator for Counted {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        self.ask(&arguments[1])?;
        if matches!(arguments[0].data_type(), DataType::Binary) {
            return self.merge(&arguments[0]);
        }
        let values = arguments[0].as_primitive::<Float64Type>();
        match values.null_count() {
            0 => self.sketch.add_all(values.values()),
            _ => values.iter().flatten().for_each(|value| self.sketch.add(value)),
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.share.and_then(|share| self.sketch.quantile(share))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.sketch.encode(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes)), ScalarValue::Float64(self.share)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(&states[0])?;
        self.ask(&states[1])
    }
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, examples};

    #[test]
    fn examples_run() {
        let bench = Bench::new();
        let samples: Vec<(i64, f64)> = (1..=1000).map(|at| (at, at as f64)).collect();
        bench.put("cpu_usage_user", &[("host", "a")], &samples);
        let statements = examples(include_str!("approx_percentile.rs"));
        assert_eq!(statements.len(), 2, "{statements:?}");
        let found: f64 = bench.rows(&statements[0]).remove(0).parse().unwrap();
        assert!((found / 990.0 - 1.0).abs() <= 0.01, "{found}");
        assert_eq!(bench.rows(&statements[1]), Vec::<String>::new());
    }

    #[test]
    fn of_nothing_it_is_null_and_a_share_is_one() {
        let bench = Bench::new();
        bench.put("load", &[("host", "a")], &[(0, 1.0), (1, 3.0)]);
        assert_eq!(bench.rows("SELECT approx_percentile(value, 0.5) FROM load WHERE value > 9"), ["NULL"]);
        let by_host = "SELECT host, approx_percentile(value, 1) >= 2.97 FROM load GROUP BY host";
        assert_eq!(bench.rows(by_host), ["a true"]);
        for (sql, told) in [
            ("SELECT approx_percentile(value, 99) FROM load", "99 is no share"),
            ("SELECT approx_percentile(value, value / 3) FROM load", "differs within a group"),
            ("SELECT approx_percentile(host, 0.5) FROM load", "write approx_percentile(value, 0.99)"),
            ("SELECT approx_percentile(CAST('x' AS BYTEA), 0.5) FROM load", "ask it of a column `sketch`"),
        ] {
            let error = bench.ask(sql).expect_err(sql);
            assert!(error.contains(told), "{sql}: {error}");
        }
    }
}
