//! What is given: a series on a regular grid, and its forecast.

use super::resource::Aggregate;

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const HOUR: i64 = 3600 * SECOND;
pub(super) const DAY: i64 = 24 * HOUR;

/// How much of a resource was used. Nanoseconds since the epoch; NaN is a gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage<'a> {
    /// The series' name with its labels, for people.
    pub series: &'a str,
    /// When the first step starts.
    pub start: i64,
    /// Length of a step, above 0.
    pub step: i64,
    /// One a step, in the resource's unit.
    pub values: &'a [f64],
    /// How many replicas there were, one a step; empty where the settings say a number.
    pub replicas: &'a [f64],
}

impl Usage<'_> {
    /// Times and values that are there.
    pub fn present(&self) -> impl DoubleEndedIterator<Item = (i64, f64)> {
        let time = |at: usize| self.start.saturating_add(self.step.saturating_mul(at as i64));
        self.values.iter().enumerate().filter(|(_, value)| value.is_finite()).map(move |(at, &value)| (time(at), value))
    }

    /// Steps in `length` nanoseconds, at least one.
    pub(super) fn steps_of(&self, length: i64) -> usize {
        usize::try_from(length / self.step.max(1)).unwrap_or(1).max(1)
    }

    /// After the last step.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(self.values.len() as i64))
    }
}

/// What comes after a [`Usage`], in its unit. All lines are equally long; they may be empty where there is no forecast.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outlook<'a> {
    /// When the first step starts, and the length of one.
    pub start: i64,
    pub step: i64,
    pub p10: &'a [f64],
    pub p50: &'a [f64],
    pub p90: &'a [f64],
    /// When the limit is met, in nanoseconds after `start`: with a tenth, a half and nine tenths of the chance; `None`
    /// where not within the forecast.
    pub to_limit: [Option<i64>; 3],
}

/// Several series of one grid as one, step by step. In a sum a gap between two values of a series counts as the value
/// before it, else every missed sample would be a dip. `None` for [`Aggregate::Each`], or where there is no series.
pub fn together(series: &[&[f64]], how: Aggregate) -> Option<Vec<f64>> {
    let steps = series.iter().map(|values| values.len()).max()?;
    let mut all = vec![(0.0, 0_u32); steps];
    for values in series {
        let end = values.iter().rposition(|value| value.is_finite()).map_or(0, |last| last + 1);
        let mut held = f64::NAN;
        for ((sum, count), &value) in all.iter_mut().zip(&values[..end]) {
            held = if value.is_finite() || how == Aggregate::Mean { value } else { held };
            if held.is_finite() {
                (*sum, *count) = (*sum + held, *count + 1);
            }
        }
    }
    let one = |(sum, count): (f64, u32)| match how {
        _ if count == 0 => f64::NAN,
        Aggregate::Mean => sum / f64::from(count),
        Aggregate::Sum | Aggregate::Each => sum,
    };
    (how != Aggregate::Each).then(|| all.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_no_dip_of_the_sum() {
        let nan = f64::NAN;
        let table = [
            (Aggregate::Sum, Some("[3.0, 2.0, 2.0, 5.0]")),
            (Aggregate::Mean, Some("[1.5, 2.0, NaN, 5.0]")),
            (Aggregate::Each, None),
        ];
        for (how, expected) in table {
            let found = together(&[&[1.0, nan, nan], &[2.0, 2.0, nan, 5.0]], how);
            assert_eq!(found.map(|values| format!("{values:?}")).as_deref(), expected, "{how:?}");
        }
        assert_eq!(together(&[], Aggregate::Sum), None);
    }
}
