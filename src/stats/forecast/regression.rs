//! Autoregression on the last values and on those a season ago, the weights held small (ridge; Hoerl and Kennard 1970).
//!
//! Each step is forecast from the steps before it, forecast ones among them.

/// What holds the weights small, as a share of the variance of a lag.
const PENALTY: f64 = 0.01;
/// Lags that always take part.
const LAST: [usize; 3] = [1, 2, 3];
/// Further cycles back that take part where there is one season.
const CYCLES: [usize; 2] = [3, 7];
/// In deviations of the history, how far from its mean a forecast may go.
const DEVIATIONS_MAX: f64 = 20.0;

/// Forecasts of `steps` steps from each of `origins`, each with weights of the points before it.
pub(super) fn regressed(values: &[f64], seasons: &[usize], origins: &[usize], steps: usize) -> Vec<Vec<f64>> {
    origins.iter().map(|&at| line(&values[..at], &lags(seasons, at), steps)).collect()
}

/// Ascending; none longer than half the history.
fn lags(seasons: &[usize], length: usize) -> Vec<usize> {
    let mut lags = LAST.to_vec();
    lags.extend(seasons.iter().flat_map(|&period| [period - 1, period, period + 1]));
    lags.extend(seasons.first().into_iter().chain(seasons.last()).map(|period| 2 * period));
    if let [only] = seasons {
        lags.extend(CYCLES.map(|cycles| cycles * only));
    }
    lags.retain(|lag| (1..=length / 2).contains(lag));
    lags.sort_unstable();
    lags.dedup();
    lags
}

fn line(history: &[f64], lags: &[usize], steps: usize) -> Vec<f64> {
    let count = history.len().max(1) as f64;
    let mean = history.iter().map(|value| value / count).sum::<f64>();
    let deviation = (history.iter().map(|value| (value - mean).powi(2) / count).sum::<f64>()).sqrt();
    if deviation <= 1e-12 * mean.abs() || lags.is_empty() {
        return vec![mean; steps];
    }
    let mut unit: Vec<f64> = history.iter().map(|value| (value - mean) / deviation).collect();
    let weights = weights(&unit, lags);
    let (free, weights) = weights.split_last().map_or((0.0, [].as_slice()), |(free, weights)| (*free, weights));
    for at in history.len()..history.len() + steps {
        let sum: f64 = lags.iter().zip(weights).map(|(lag, weight)| unit[at - lag] * weight).sum();
        unit.push((free + sum).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX));
    }
    unit[history.len()..].iter().map(|value| mean + deviation * value).collect()
}

/// Weights of the lags, and last what is added.
fn weights(unit: &[f64], lags: &[usize]) -> Vec<f64> {
    let from = lags.last().copied().unwrap_or(0);
    let width = lags.len() + 1;
    let (mut squares, mut products, mut row) = (vec![0.0; width * width], vec![0.0; width], vec![1.0; width]);
    for at in from..unit.len() {
        row.iter_mut().zip(lags).for_each(|(cell, lag)| *cell = unit[at - lag]);
        for (one, &value) in row.iter().enumerate() {
            products[one] += value * unit[at];
            let sums = &mut squares[one * width..][..=one];
            sums.iter_mut().zip(&row).for_each(|(sum, other)| *sum += value * other);
        }
    }
    let rows = (unit.len() - from) as f64;
    for one in 0..width {
        squares[one * width + one] += if one < lags.len() { PENALTY * rows } else { f64::EPSILON };
    }
    solved(squares, products)
}

/// `x` of `squares · x = products`, by Cholesky; of `squares`, which is symmetric and positive, the lower half is read.
fn solved(mut squares: Vec<f64>, mut products: Vec<f64>) -> Vec<f64> {
    let width = products.len();
    for row in 0..width {
        for column in 0..=row {
            let sum: f64 = (0..column).map(|k| squares[row * width + k] * squares[column * width + k]).sum();
            let rest = squares[row * width + column] - sum;
            squares[row * width + column] =
                if row == column { rest.max(1e-12).sqrt() } else { rest / squares[column * width + column] };
        }
    }
    for row in 0..width {
        let sum: f64 = (0..row).map(|k| squares[row * width + k] * products[k]).sum();
        products[row] = (products[row] - sum) / squares[row * width + row];
    }
    for row in (0..width).rev() {
        let sum: f64 = (row + 1..width).map(|k| squares[k * width + row] * products[k]).sum();
        products[row] = (products[row] - sum) / squares[row * width + row];
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_the_last_values_and_those_a_season_ago() {
        type Case = (&'static [usize], usize, &'static [usize]);
        let table: [Case; 4] = [
            (&[24, 168], 700, &[1, 2, 3, 23, 24, 25, 48, 167, 168, 169, 336]),
            (&[24], 400, &[1, 2, 3, 23, 24, 25, 48, 72, 168]),
            (&[], 5, &[1, 2]),
            (&[2], 1, &[]),
        ];
        for (seasons, length, expected) in table {
            assert_eq!(lags(seasons, length), expected, "{seasons:?} {length}");
        }
    }

    #[test]
    fn equations_are_solved() {
        let found = solved(vec![4.0, 0.0, 2.0, 3.0], vec![10.0, 8.0]);
        assert!((found[0] - 1.75).abs() < 1e-12 && (found[1] - 1.5).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn what_follows_its_season_goes_on() {
        let values: Vec<f64> = (0..120).map(|at| f64::from(at % 12) + 1e6).collect();
        let lines = regressed(&values, &[12], &[100, 120], 12);
        for (line, origin) in lines.iter().zip([100, 120]) {
            for (step, value) in line.iter().enumerate() {
                let came = ((origin + step) % 12) as f64 + 1e6;
                assert!((value - came).abs() < 0.7, "{origin} + {step}: {value} for {came}");
            }
        }
    }
}
