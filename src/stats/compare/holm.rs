//! Several tests at once: p-values that are made larger, so that the chance of any false alarm stays what one test's was.

/// The p-values of Holm 1979, in the order given: the least times the number of tests, the next times one less, and so on, each
/// no less than the one before, at most 1. NaN counts as 1.
///
/// ```
/// use plimsoll::stats::compare::holm;
/// assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let p_values: Vec<f64> = p_values.iter().map(|p| if p.is_nan() { 1.0 } else { *p }).collect();
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut last = 0.0_f64;
    for (place, &at) in order.iter().enumerate() {
        last = last.max(p_values[at] * (p_values.len() - place) as f64).min(1.0);
        adjusted[at] = last;
    }
    adjusted
}
