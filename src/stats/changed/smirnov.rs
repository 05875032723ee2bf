//! The test of Kolmogorov and Smirnov of two samples: whether they are of one distribution.

/// Below this the series of [`p_value`] is 1 to four places and slow to get there.
const CERTAIN: f64 = 0.3;

/// The largest distance between the shares of both that lie at or below a value, and how likely one as large is. Both
/// are sorted and not empty.
pub(super) fn compare(a: &[f64], b: &[f64]) -> (f64, f64) {
    let share = |values: &[f64], most: f64| values.partition_point(|&value| value <= most) as f64 / values.len() as f64;
    let apart = |&most: &f64| (share(a, most) - share(b, most)).abs();
    let distance = a.iter().chain(b).map(apart).fold(0.0, f64::max);
    (distance, p_value(distance, a.len() as f64, b.len() as f64))
}

/// Kolmogorov's distribution, which is that of large samples, with Stephens' correction (1970) for smaller ones.
fn p_value(distance: f64, a: f64, b: f64) -> f64 {
    let root = (a * b / (a + b)).sqrt();
    let t = (root + 0.12 + 0.11 / root) * distance;
    if t < CERTAIN {
        return 1.0;
    }
    let terms = (1_u32..).map(|k| (k, (-2.0 * f64::from(k * k) * t * t).exp())).take_while(|&(_, term)| term > 0.0);
    let sum: f64 = terms.map(|(k, term)| if k % 2 == 1 { term } else { -term }).sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_between_shares_and_equal_values_count_at_once() {
        let table: [(&[f64], &[f64], f64); 5] = [
            (&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0], 0.0),
            (&[1.0, 2.0, 3.0, 4.0], &[2.5, 2.5], 0.5),
            (&[1.0, 1.0, 1.0], &[1.0, 2.0], 0.5),
            (&[-0.0, 0.0], &[0.0], 0.0),
            (&[1.0, 2.0], &[3.0], 1.0),
        ];
        for (a, b, expected) in table {
            assert_eq!((compare(a, b).0, compare(b, a).0), (expected, expected), "{a:?} {b:?}");
        }
    }

    #[test]
    fn p_values_are_kolmogorovs() {
        // Critical values of large samples, and a small one worked out from the formula.
        let large = 1e10;
        let table = [
            (1.224 / (large / 2.0_f64).sqrt(), large, 0.1),
            (1.358 / (large / 2.0_f64).sqrt(), large, 0.05),
            (1.628 / (large / 2.0_f64).sqrt(), large, 0.01),
            (0.1, 10.0, 1.0),
            (0.5, 10.0, 0.110_8),
            (0.0, 10.0, 1.0),
        ];
        for (distance, count, expected) in table {
            let found = p_value(distance, count, count);
            assert!((found - expected).abs() < 2e-4, "{distance} of {count}: {found}, not {expected}");
        }
        assert!(p_value(1.0, 500.0, 6.0) > 0.0, "tiny, but not rounded to nothing");
    }
}
