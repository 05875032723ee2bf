//! The least of a function of several numbers without derivatives: compass search (Kolda, Lewis and Torczon 2003).

/// Steps shorter than this find nothing that matters to a smoothing constant on the logistic scale.
const STEP_MIN: f64 = 0.4;
/// How far from 0 a number may go: logistic(6) is 0.9975.
const BOUND: f64 = 6.0;
/// Most sweeps over all numbers.
const SWEEPS_MAX: usize = 12;

/// Where `cost` is least near `start`, moving one number at a time by `step` and halving it where no move helps.
pub(super) fn least(start: Vec<f64>, mut step: f64, cost: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut best = (cost(&start), start);
    let mut ways = vec![1.0; best.1.len()];
    for _ in 0..SWEEPS_MAX {
        let before = best.0;
        for (at, way) in ways.iter_mut().enumerate() {
            if !moved(&mut best, at, *way * step, &cost) && moved(&mut best, at, -*way * step, &cost) {
                *way = -*way;
            }
        }
        step = if best.0 < before { step } else { step / 2.0 };
        if step < STEP_MIN {
            break;
        }
    }
    best.1
}

/// Moves one number if that costs less.
fn moved(best: &mut (f64, Vec<f64>), at: usize, by: f64, cost: &impl Fn(&[f64]) -> f64) -> bool {
    let from = best.1[at];
    if (from + by).abs() > BOUND {
        return false;
    }
    best.1[at] = from + by;
    let found = cost(&best.1);
    let better = found < best.0;
    if better {
        best.0 = found;
    } else {
        best.1[at] = from;
    }
    better
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_found_within_the_bounds() {
        let table: [([f64; 2], [f64; 2]); 3] =
            [([1.0, -2.0], [1.0, -2.0]), ([0.0, 0.0], [0.0, 0.0]), ([99.0, 3.0], [6.0, 3.0])];
        for (centre, expected) in table {
            let cost = |at: &[f64]| (at[0] - centre[0]).abs() + (at[1] - centre[1]).powi(2);
            let found = least(vec![0.0, 0.0], 1.0, cost);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 0.5), "{centre:?}: {found:?}");
        }
        assert_eq!(least(vec![0.5], 1.0, |_| f64::NAN), [0.5]);
    }
}
