//! How alike two series move: Pearson, Spearman, lagged.

use std::cmp::Ordering;

use statrs::function::beta::checked_beta_reg;

/// Fewest points that two lagged series must overlap by.
const OVERLAP_MIN: usize = 3;

/// Pearson's correlation, -1 to 1, over the points where both are finite. `None` below two such points or where one
/// side is constant.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let pairs = || a.iter().zip(b).filter(|(x, y)| x.is_finite() && y.is_finite());
    let count = pairs().count() as f64;
    let mean_a = pairs().map(|(x, _)| x / count).sum::<f64>();
    let mean_b = pairs().map(|(_, y)| y / count).sum::<f64>();
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in pairs() {
        let (dx, dy) = (x - mean_a, y - mean_b);
        aa += dx * dx;
        bb += dy * dy;
        ab += dx * dy;
    }
    let varies = |squares: f64, mean: f64| squares > count * (mean * 1e-14).powi(2);
    let r = ab / aa.sqrt() / bb.sqrt();
    (varies(aa, mean_a) && varies(bb, mean_b) && r.is_finite()).then(|| r.clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank. Points where either is
/// NaN are left out.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b): (Vec<f64>, Vec<f64>) = a.iter().zip(b).filter(|(x, y)| !x.is_nan() && !y.is_nan()).unzip();
    pearson(&ranks(&a), &ranks(&b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let compare = |i: &usize, j: &usize| values[*i].partial_cmp(&values[*j]).unwrap_or(Ordering::Equal);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(compare);
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|i, j| compare(i, j).is_eq()) {
        let rank = below as f64 + (equal.len() - 1) as f64 / 2.0;
        for &at in equal {
            ranks[at] = rank;
        }
        below += equal.len();
    }
    ranks
}

/// The lag of at most `max_lag` steps at which `b` follows `a` most closely, and their correlation there. Positive:
/// `b` comes that many steps after `a`. The strongest by size counts, of equals the shortest lag, then the positive.
/// Overlaps shorter than half the series are not looked at.
pub fn lag_of_best(a: &[f64], b: &[f64], max_lag: usize) -> Option<(isize, f64)> {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let reach = max_lag.min(length.saturating_sub((length / 2).max(OVERLAP_MIN)));
    let after = |lag: usize| pearson(&a[..length - lag], &b[lag..]).map(|r| (lag as isize, r));
    let before = |lag: usize| pearson(&a[lag..], &b[..length - lag]).map(|r| (-(lag as isize), r));
    let all = (0..=reach).flat_map(|lag| [after(lag), if lag == 0 { None } else { before(lag) }]).flatten();
    all.reduce(|best, next| if next.1.abs() > best.1.abs() + 1e-12 { next } else { best })
}

/// How likely a correlation at least as strong as `r` is between `n` points of unrelated normal series: the two-sided
/// p-value of Student's t with `n - 2` degrees of freedom. 1 for fewer than three points.
///
/// With t² = r²(n-2)/(1-r²) the tail is the incomplete beta function at 1-r², which stays exact for tiny p.
pub fn p_value(r: f64, n: usize) -> f64 {
    if n < 3 || r.is_nan() {
        return 1.0;
    }
    let freedom = (n - 2) as f64;
    let rest = (1.0 - r.abs()).max(0.0) * (1.0 + r.abs());
    checked_beta_reg(freedom / 2.0, 0.5, rest.min(1.0)).unwrap_or(1.0)
}

/// Shifts and scales a row to mean 0 and length 1, so that a dot product of two is their correlation. False, and the
/// row of no use, where it is constant up to rounding or not finite.
pub fn normalize(row: &mut [f32]) -> bool {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let length = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>().sqrt();
    let rounding = mean.abs() * f64::from(f32::EPSILON) * count.sqrt();
    let varies = length.is_finite() && length > rounding;
    if varies {
        for x in row.iter_mut() {
            *x = ((f64::from(*x) - mean) / length) as f32;
        }
    }
    varies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|r| (r - expected).abs() < 1e-9)
    }

    /// A series without order: a full-period congruential sequence, 0 to 1.
    fn noise(seed: u64, length: usize) -> Vec<f64> {
        let next = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let draws = std::iter::successors(next(&seed), next);
        draws.skip(4).take(length).map(|x| (x >> 40) as f64 / (1_u64 << 24) as f64).collect()
    }

    #[test]
    fn pearson_sees_straight_lines_and_spearman_any_order() {
        let a = [1.0, 2.0, 3.0, 4.0];
        let cubes = [1.0, 8.0, 27.0, 64.0];
        assert!(near(pearson(&a, &[3.0, 5.0, 7.0, 9.0]), 1.0));
        assert!(near(pearson(&a, &cubes), 0.951_369_855_079_296_5));
        assert!(near(spearman(&a, &cubes), 1.0));
        assert!(near(spearman(&[0.0, -0.0, 1.0], &[5.0, 5.0, 6.0]), 1.0));
        assert!(near(spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 4.0]), 0.948_683_298_050_513_8));
    }

    #[test]
    fn constants_and_too_few_points_have_no_correlation() {
        let nan = f64::NAN;
        let table: [(&[f64], &[f64]); 5] = [
            (&[], &[]),
            (&[1.0], &[2.0]),
            (&[0.1; 3], &[1.0, 2.0, 3.0]),
            (&[1.0, nan, 3.0], &[nan, 2.0, 3.0]),
            (&[1e200, -1e200], &[1e200, 2e200]),
        ];
        for (a, b) in table {
            assert_eq!(pearson(a, b), None, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_positive_lag_says_that_b_follows() {
        let source = noise(1, 120);
        let (early, late) = (&source[7..107], &source[..100]);
        let (lag, r) = lag_of_best(early, late, 20).unwrap();
        assert_eq!((lag, r > 0.999), (7, true));
        assert_eq!(lag_of_best(late, early, 20).unwrap().0, -7);
        assert!(lag_of_best(early, late, 5).unwrap().1 < 0.9);
    }

    #[test]
    fn p_values_are_those_of_students_t() {
        let table = [
            (0.5, 20, 0.024_769_558_804_109),
            (-0.5, 20, 0.024_769_558_804_109),
            (0.2, 50, 0.163_753_081_245_217),
            (0.0, 10, 1.0),
            (1.0, 10, 0.0),
            (0.9, 2, 1.0),
        ];
        for (r, n, expected) in table {
            assert!((p_value(r, n) - expected).abs() < 1e-9, "r {r} n {n}: {}", p_value(r, n));
        }
        assert!(p_value(0.99, 200) > 0.0, "tiny, but not rounded to nothing");
    }

    #[test]
    fn constant_rows_are_not_normalized() {
        assert!(!normalize(&mut [0.1; 60]));
        assert!(!normalize(&mut [1.0, f32::NAN]));
        assert!(!normalize(&mut []));
        let mut row = [1.0, 2.0, 3.0];
        assert!(normalize(&mut row));
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
