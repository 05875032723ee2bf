//! One series made ready to be held against others: its time of day taken off, far values clipped, and what of it could
//! not be forecast from its own last values.

use std::ops::Range;

use super::whiten::{fill_gaps, whiten, yule_walker};
use crate::stats::{MAD_TO_SIGMA, mad, median};

/// Last values that a forecast is made from.
pub(super) const ORDER: usize = 4;
/// The same of the means of [`COARSE`] rows.
const COARSE_ORDER: usize = 3;
/// Rows that a coarse one is the mean of; it is missing where fewer than half of them have a value.
pub(super) const COARSE: usize = 4;
/// Fewest rows of a window that have a value.
pub(super) const POINTS_MIN: usize = 100;
/// Fewest rows, as a share, that differ from the middle one.
const VARYING_MIN: f64 = 0.05;
/// Days that the time of day is learned from, where the window is no longer, and the fewest with the window among them.
const DAYS: usize = 7;
const DAYS_MIN: usize = 3;
/// Spreads about the median to which values are clipped, and what could not be forecast.
const VALUES_WITHIN: f64 = 6.0;
const INNOVATIONS_WITHIN: f64 = 4.0;
/// Below this a spread is the rounding of numbers of size one.
const ROUNDING: f64 = 1e-12;
/// The same of the robust spread beside the median; the standard deviation is taken instead.
const ROUNDING_ROBUST: f64 = 1e-9;

/// Of the rows of the window, all that is needed of one series.
pub(super) struct Prepared {
    /// Without the time of day, clipped, mean 0 and variance 1. NaN is missing.
    pub adjusted: Vec<f64>,
    /// The same, with forecasts where a value is missing, and half the digits: it is filtered again for each pair.
    pub filled: Vec<f32>,
    /// What a forecast takes of the last value, of the one before it, and so on.
    pub filter: [f64; ORDER],
    /// 1 where a row counts: it has a value, and is none of the first [`ORDER`]. Else 0.
    pub counted: Vec<f32>,
    /// Of `counted` the ones.
    pub count: f32,
    /// What could not be forecast: mean 0 and variance 1 over the rows that count, 0 elsewhere.
    pub innovations: Vec<f32>,
    /// The same of the coarse rows.
    pub coarse: Vec<f32>,
    /// Rows that have a value, the smallest value first.
    pub by_size: Vec<u32>,
}

impl Prepared {
    /// `rows` end with the window. `None` where they hold too little to compare.
    pub fn new(rows: &[f64], window: usize, day: usize) -> Option<Prepared> {
        let adjusted = adjusted(rows, window, day)?;
        let filter = yule_walker(&adjusted);
        let filled = fill_gaps(&adjusted, &filter);
        let innovations = innovations(whiten(&filled, &filter), &adjusted);
        let counts = |(row, value): (usize, &f64)| if row < ORDER || value.is_nan() { 0.0 } else { 1.0 };
        let counted: Vec<f32> = adjusted.iter().enumerate().map(counts).collect();
        let mut by_size: Vec<u32> =
            (0..).zip(&adjusted).filter(|(_, value)| !value.is_nan()).map(|(at, _)| at).collect();
        by_size.sort_by(|&i, &j| adjusted[i as usize].total_cmp(&adjusted[j as usize]));
        let (count, coarse) = (counted.iter().sum(), coarse_innovations(&adjusted));
        let filled = filled.iter().map(|&value| value as f32).collect();
        Some(Prepared { adjusted, filled, filter, counted, count, innovations, coarse, by_size })
    }
}

/// The window as [`Prepared::adjusted`] has it.
fn adjusted(rows: &[f64], window: usize, day: usize) -> Option<Vec<f64>> {
    let begins = rows.len().checked_sub(window)?;
    let present: Vec<f64> = rows[begins..].iter().copied().filter(|value| value.is_finite()).collect();
    let middle = median(&present)?;
    let differs = |value: &&f64| (*value - middle).abs() > ROUNDING * middle.abs();
    let varying = present.iter().filter(differs).count() as f64;
    if present.len() < POINTS_MIN || varying < VARYING_MIN * present.len() as f64 {
        return None;
    }
    let mut values = without_time_of_day(rows, begins, day)?;
    clip(&mut values, VALUES_WITHIN);
    let enough = values.iter().filter(|value| !value.is_nan()).count() >= POINTS_MIN;
    (enough && standardize(&mut values, ROUNDING * (1.0 + middle.abs()))).then_some(values)
}

/// The rows from `begins` on, each less the mean of its time of day. `None` where too few days are known.
fn without_time_of_day(rows: &[f64], begins: usize, day: usize) -> Option<Vec<f64>> {
    let learned = whole_days(rows.len(), begins, day)?;
    let (mut sums, mut counts) = (vec![0.0; day], vec![0.0; day]);
    for day in rows[learned.clone()].chunks_exact(day) {
        for ((sum, count), value) in sums.iter_mut().zip(&mut counts).zip(day).filter(|(_, value)| value.is_finite()) {
            *sum += value;
            *count += 1.0;
        }
    }
    let slots = (0..day).cycle().skip((begins + day - learned.start % day) % day);
    let rest = rows[begins..].iter().zip(slots).map(|(value, slot)| value - sums[slot] / counts[slot]);
    Some(rest.map(|value| if value.is_finite() { value } else { f64::NAN }).collect())
}

/// Rows of whole days to learn the time of day from: up to the end of the window, or if these are too few, up to its
/// beginning.
fn whole_days(rows: usize, begins: usize, day: usize) -> Option<Range<usize>> {
    let days_before = |end: usize, most: usize| Some(end - end.min(most).checked_div(day)? * day..end);
    let with_window = days_before(rows, day.saturating_mul(DAYS).max(rows - begins))?;
    if with_window.len() >= DAYS_MIN * day {
        return Some(with_window);
    }
    days_before(begins, begins).filter(|days| !days.is_empty())
}

/// What could not be forecast, where `adjusted` has a value: clipped, mean 0 and variance 1; 0 elsewhere.
fn innovations(mut whitened: Vec<f64>, adjusted: &[f64]) -> Vec<f32> {
    for (innovation, _) in whitened.iter_mut().zip(adjusted).filter(|(_, value)| value.is_nan()) {
        *innovation = f64::NAN;
    }
    clip(&mut whitened, INNOVATIONS_WITHIN);
    let varies = standardize(&mut whitened, ROUNDING);
    whitened.iter().map(|&value| if varies && !value.is_nan() { value as f32 } else { 0.0 }).collect()
}

fn coarse_innovations(adjusted: &[f64]) -> Vec<f32> {
    let mut means: Vec<f64> = adjusted.rchunks_exact(COARSE).rev().map(coarse_mean).collect();
    let (sum, count) = sum_and_count(&means);
    means.iter_mut().for_each(|mean| *mean -= sum / count);
    let filter: [f64; COARSE_ORDER] = yule_walker(&means);
    let filled: Vec<f64> = means.iter().map(|&mean| if mean.is_nan() { 0.0 } else { mean }).collect();
    innovations(whiten(&filled, &filter), &means)
}

fn coarse_mean(rows: &[f64]) -> f64 {
    let (sum, count) = sum_and_count(rows);
    if 2.0 * count >= rows.len() as f64 { sum / count } else { f64::NAN }
}

fn sum_and_count(values: &[f64]) -> (f64, f64) {
    let present = values.iter().filter(|value| !value.is_nan());
    present.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0))
}

fn deviation(values: &[f64]) -> f64 {
    let (sum, count) = sum_and_count(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - sum / count).powi(2)).collect();
    (sum_and_count(&squares).0 / count).sqrt()
}

/// Moves what lies further than `spreads` robust standard deviations from the median to there.
fn clip(values: &mut [f64], spreads: f64) {
    let Some((middle, spread)) = median(values).zip(mad(values)) else { return };
    let robust = MAD_TO_SIGMA * spread;
    let sigma = if robust > ROUNDING_ROBUST * middle.abs() { robust } else { deviation(values) };
    if sigma.is_finite() {
        let (low, high) = (middle - spreads * sigma, middle + spreads * sigma);
        values.iter_mut().for_each(|value| *value = value.clamp(low, high));
    }
}

/// Shifts and scales to mean 0 and variance 1. False, and the values of no use, where they deviate by `least` or less.
fn standardize(values: &mut [f64], least: f64) -> bool {
    let (sum, count) = sum_and_count(values);
    let sigma = deviation(values);
    values.iter_mut().for_each(|value| *value = (*value - sum / count) / sigma);
    sigma.is_finite() && sigma > least
}
