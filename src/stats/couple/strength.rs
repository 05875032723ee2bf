//! How alike the adjusted values of two series are at a lag.

use super::prepare::Prepared;
use crate::stats::pearson;

/// Pearson's and Spearman's correlation of the rows at which both have a value, where `b` follows `a` by `lag` steps,
/// and how many these are. 0 where one of the two does not vary.
pub(super) fn alike(a: &Prepared, b: &Prepared, lag: i32) -> (f64, f64, u32) {
    let steps = lag.unsigned_abs() as usize;
    let (from_a, from_b) = if lag >= 0 { (0, steps) } else { (steps, 0) };
    let rows = a.adjusted.len() - steps;
    let (values_a, values_b) = (&a.adjusted[from_a..][..rows], &b.adjusted[from_b..][..rows]);
    let both: Vec<bool> = values_a.iter().zip(values_b).map(|(x, y)| !x.is_nan() && !y.is_nan()).collect();
    let of_ranks = pearson(&ranks(a, from_a, &both), &ranks(b, from_b, &both));
    let points = both.iter().map(|&both| u32::from(both)).sum();
    (pearson(values_a, values_b).unwrap_or(0.0), of_ranks.unwrap_or(0.0), points)
}

/// Ranks among the `kept` rows, which begin with row `from`; equal values share their mean rank. NaN elsewhere.
fn ranks(series: &Prepared, from: usize, kept: &[bool]) -> Vec<f64> {
    let value = |row: u32| series.adjusted[row as usize];
    let place = |row: u32| (row as usize).checked_sub(from).filter(|&at| kept.get(at) == Some(&true));
    let mut ranks = vec![f64::NAN; kept.len()];
    let mut below = 0.0;
    for equal in series.by_size.chunk_by(|&i, &j| value(i) == value(j)) {
        let count = equal.iter().filter_map(|&row| place(row)).count() as f64;
        for at in equal.iter().filter_map(|&row| place(row)) {
            ranks[at] = below + (count - 1.0) / 2.0;
        }
        below += count;
    }
    ranks
}
