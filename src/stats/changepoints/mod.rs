//! Where the level of a series steps: the commit that made a benchmark slower, the hour a server got busier.
//!
//! Values count by their rank alone, so a few wild ones move nothing. A segment is split where the rank sums of its two
//! sides are farthest from chance (`scan`, after Pettitt 1979), each side again, and so on (`search`). Noise that follows
//! itself, as that of machines does, is as good as fewer values, and chance is reckoned so. In the end each change point is
//! held against those beside it (`settle`): what a straight line describes better than a step is a drift and none.
//!
//! A step is found once [`ChangePointOptions::segment_min`] values, and enough for chance, are there after it.

mod scan;
mod search;
mod settle;
#[cfg(test)]
mod tests;

/// One step of the level. Its segments reach to the change points beside it, or the ends of the series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChangePoint {
    /// The first row after the change, as counted in the values given, gaps included.
    pub row: usize,
    /// Median of the segment before.
    pub before: f64,
    /// Median of the segment after.
    pub after: f64,
    /// (after - before) / |before|: -0.1 is a tenth less. Where `before` is 0: in spreads of the values about their own
    /// median ([`crate::stats::mad`] times [`crate::stats::MAD_TO_SIGMA`]). At most 1e6 either way.
    pub effect: f64,
    /// How likely the best split of the values from the step before to the step after, however small those are, is as good
    /// as this or better if there is no change in them; 0 where too small for a float.
    pub p_value: f64,
}

/// What counts as a change point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChangePointOptions {
    /// Largest p-value. Of series without a change about this share has a change point; where each value closely follows
    /// the one before, up to three times it, and in less than a hundred such values up to ten times.
    pub p_max: f64,
    /// Least effect either way, as [`ChangePoint::effect`] has it; the smallest is dropped first.
    pub effect_min: f64,
    /// Fewest values between change points, and to the ends; below 2 counts as 2. Bumps shorter than this are none.
    pub segment_min: usize,
}

impl Default for ChangePointOptions {
    fn default() -> ChangePointOptions {
        ChangePointOptions { p_max: 1e-3, effect_min: 0.01, segment_min: 10 }
    }
}

/// The change points of a series, in the order of rows. What is not finite is a gap and left out; how far apart in time
/// the values are plays no part. Takes about n log² n.
///
/// ```
/// use plimsoll::stats::{ChangePointOptions, change_points};
/// let values: Vec<f64> = (0..60).map(|row| if row < 40 { 8.0 } else { 9.0 }).collect();
/// let found = change_points(&values, &ChangePointOptions::default());
/// assert_eq!((found.len(), found[0].row, found[0].before, found[0].after, found[0].effect), (1, 40, 8.0, 9.0, 0.125));
/// ```
pub fn change_points(values: &[f64], options: &ChangePointOptions) -> Vec<ChangePoint> {
    let gapless = values.iter().copied().enumerate().filter(|(_, value)| value.is_finite());
    let (rows, values): (Vec<usize>, Vec<f64>) = gapless.unzip();
    let options = ChangePointOptions { segment_min: options.segment_min.max(2), ..*options };
    let points = settle::settle(&values, search::splits(&values, &options), &options);
    points.into_iter().map(|point| ChangePoint { row: rows[point.row], ..point }).collect()
}
