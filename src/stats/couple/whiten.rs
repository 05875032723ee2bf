//! Autoregression: a series forecast from its own last values, and what is left.

/// Added to the variance, as a share of it, so that a series that forecasts itself has a filter too.
const RIDGE: f64 = 1e-6;
/// Bounds of a filled value, in standard deviations.
const FILLED_WITHIN: f64 = 20.0;

/// Weights of the last value, of the one before it, and so on that forecast the next one best: the equations of Yule
/// 1927 and Walker 1931, solved by the recursion of Levinson 1947 and Durbin 1960. Zeros where the values do not vary.
/// The values have mean 0; NaN is missing.
///
/// Gaps may leave autocovariances that no whole series has. The equations are solved all the same: a filter cut short
/// there leaves more of the series in what it should whiten, and that was measured to make more false pairs.
pub(super) fn yule_walker<const ORDER: usize>(values: &[f64]) -> [f64; ORDER] {
    let variance = autocovariance(values, 0);
    let mut unexplained = variance * (1.0 + RIDGE);
    let mut weights = [0.0; ORDER];
    let lagged: [f64; ORDER] = std::array::from_fn(|at| autocovariance(values, at + 1));
    for order in 0..ORDER {
        if unexplained == 0.0 {
            break;
        }
        let known = weights;
        let explained: f64 = (0..order).map(|at| known[at] * lagged[order - 1 - at]).sum();
        let partial = (lagged[order] - explained) / unexplained;
        (0..order).for_each(|at| weights[at] -= partial * known[order - 1 - at]);
        weights[order] = partial;
        unexplained *= 1.0 - partial * partial;
    }
    weights
}

/// Over the rows that have a value, as has the one `lag` before; less the longer the lag, as that of a whole series is.
fn autocovariance(values: &[f64], lag: usize) -> f64 {
    let products = values.iter().zip(values.iter().skip(lag)).map(|(early, late)| early * late);
    let present = products.filter(|product| !product.is_nan());
    let (sum, count) = present.fold((0.0, 0.0), |(sum, count), product| (sum + product, count + 1.0));
    if count == 0.0 { 0.0 } else { sum / count * (1.0 - lag as f64 / values.len() as f64) }
}

/// The values, with a forecast from those before it where one is missing.
pub(super) fn fill_gaps<const ORDER: usize>(values: &[f64], filter: &[f64; ORDER]) -> Vec<f64> {
    let mut filled: Vec<f64> = Vec::with_capacity(values.len());
    for &value in values {
        let forecast = || filter.iter().zip(filled.iter().rev()).map(|(weight, last)| weight * last).sum::<f64>();
        let value = if value.is_nan() { forecast().clamp(-FILLED_WITHIN, FILLED_WITHIN) } else { value };
        filled.push(value);
    }
    filled
}

/// Each value less its forecast; NaN for the first few, which have none.
pub(super) fn whiten<const ORDER: usize>(values: &[f64], filter: &[f64; ORDER]) -> Vec<f64> {
    let innovation =
        |at: usize| filter.iter().zip(values[..at].iter().rev()).fold(values[at], |rest, (w, v)| rest - w * v);
    (0..values.len()).map(|at| if at < ORDER { f64::NAN } else { innovation(at) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Noise;
    use super::*;

    fn autoregressive(weights: [f64; 2], rows: usize) -> Vec<f64> {
        let mut noise = Noise(3);
        let mut values = vec![0.0, 0.0];
        for row in 2..rows {
            values.push(weights[0] * values[row - 1] + weights[1] * values[row - 2] + noise.normal());
        }
        values
    }

    #[test]
    fn weights_are_those_that_made_the_series() {
        for expected in [[0.5, 0.3], [1.2, -0.5], [-0.6, 0.0]] {
            let found: [f64; 4] = yule_walker(&autoregressive(expected, 20_000));
            for (at, weight) in found.into_iter().enumerate() {
                let expected = expected.get(at).copied().unwrap_or(0.0);
                assert!((weight - expected).abs() < 0.02, "weight {at}: {weight}, not {expected}");
            }
        }
        assert_eq!(yule_walker::<3>(&[0.0; 50]), [0.0; 3]);
        assert_eq!(yule_walker::<3>(&[f64::NAN; 50]), [0.0; 3]);
    }

    #[test]
    fn weights_solve_the_equations() {
        let mut values = autoregressive([1.1, -0.4], 300);
        values.iter_mut().step_by(9).for_each(|value| *value = f64::NAN);
        let weights: [f64; 4] = yule_walker(&values);
        let of: [f64; 5] = std::array::from_fn(|lag| autocovariance(&values, lag));
        for row in 0..4_usize {
            let ridge = RIDGE * of[0] * weights[row];
            let side = (0..4).map(|at| of[row.abs_diff(at)] * weights[at]).sum::<f64>() + ridge;
            assert!((side - of[row + 1]).abs() < 1e-9, "row {row}: {side}, not {}", of[row + 1]);
        }
    }

    #[test]
    fn a_gap_is_filled_by_forecasts_and_leaves_nothing() {
        let (nan, filter) = (f64::NAN, [0.5, 0.25]);
        let filled = fill_gaps(&[nan, 4.0, 8.0, nan, nan, 1.0], &filter);
        assert_eq!(filled, [0.0, 4.0, 8.0, 5.0, 4.5, 1.0]);
        let left = whiten(&filled, &filter);
        assert!(left[0].is_nan() && left[1].is_nan());
        assert_eq!(left[2..], [6.0, 0.0, 0.0, -2.5]);
        assert_eq!(fill_gaps(&[10.0, nan, nan], &[3.0]), [10.0, 20.0, 20.0]);
    }
}
