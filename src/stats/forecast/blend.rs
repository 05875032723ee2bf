//! One line of several: step by step their weighted median, by how well each did before.

/// Models that err more than this many times as much as the best have no part.
const ERROR_MAX: f64 = 3.0;

/// Weights of models by their errors, NaN for none: inverse squares, so the one that errs twice as much counts a quarter.
pub(super) fn weights(errors: &[f64]) -> Vec<f64> {
    let best = errors.iter().copied().filter(|error| !error.is_nan()).fold(f64::INFINITY, f64::min);
    let weight = |error: &f64| {
        if *error == best {
            1.0
        } else if *error <= ERROR_MAX * best {
            (best / error).powi(2)
        } else {
            0.0
        }
    };
    errors.iter().map(weight).collect()
}

/// Step by step the weighted median of those lines that have a weight; empty lines take no part.
pub(super) fn blend(lines: &[&[f64]], weights: &[f64]) -> Vec<f64> {
    let mut parts: Vec<(&[f64], f64)> = lines.iter().copied().zip(weights.iter().copied()).collect();
    parts.retain(|(line, weight)| !line.is_empty() && *weight > 0.0);
    let steps = parts.iter().map(|(line, _)| line.len()).min().unwrap_or(0);
    let mut at_step = Vec::with_capacity(parts.len());
    let mut middle = |step: usize| {
        at_step.clear();
        at_step.extend(parts.iter().map(|(line, weight)| (line[step], *weight)));
        weighted_median(&mut at_step)
    };
    (0..steps).map(&mut middle).collect()
}

/// Where half of the weight lies to either side; between two values where it falls between them.
fn weighted_median(values: &mut [(f64, f64)]) -> f64 {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (at, (value, weight)) in values.iter().enumerate() {
        below += weight;
        if below > half * (1.0 + 1e-12) {
            return *value;
        }
        if below >= half * (1.0 - 1e-12) {
            return values.get(at + 1).map_or(*value, |next| f64::midpoint(*value, next.0));
        }
    }
    values.last().map_or(0.0, |last| last.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fall_with_the_square_of_the_error() {
        let nan = f64::NAN;
        let table: [(&[f64], &[f64]); 5] = [
            (&[1.0, 2.0, 4.0], &[1.0, 0.25, 0.0]),
            (&[0.0, 1e-9, 0.0], &[1.0, 0.0, 1.0]),
            (&[nan, 2.0], &[0.0, 1.0]),
            (&[nan], &[0.0]),
            (&[f64::INFINITY, 1.0], &[0.0, 1.0]),
        ];
        for (errors, expected) in table {
            assert_eq!(weights(errors), expected, "{errors:?}");
        }
    }

    #[test]
    fn the_median_goes_by_weight() {
        let (low, middle, high) = ([1.0, 5.0], [2.0, 6.0], [9.0, 0.0]);
        type Case<'a> = (&'a [&'a [f64]], &'a [f64], &'a [f64]);
        let table: [Case; 6] = [
            (&[&low, &middle, &high], &[1.0, 1.0, 1.0], &[2.0, 5.0]),
            (&[&low, &middle, &high], &[1.0, 1.0, 3.0], &[9.0, 0.0]),
            (&[&low, &middle], &[1.0, 1.0], &[1.5, 5.5]),
            (&[&low, &[], &high], &[1.0, 9.0, 0.5], &[1.0, 5.0]),
            (&[&low, &middle], &[0.0, 1.0], &[2.0, 6.0]),
            (&[], &[], &[]),
        ];
        for (lines, weights, expected) in table {
            assert_eq!(blend(lines, weights), expected, "{lines:?} {weights:?}");
        }
    }
}
