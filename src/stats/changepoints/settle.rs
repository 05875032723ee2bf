//! What remains of the change points of a series once each is held against those beside it.

use super::scan::{best_split, ranks, split_at};
use super::{ChangePoint, ChangePointOptions};
use crate::stats::{MAD_TO_SIGMA, median};

/// How often change points move before any is dropped.
const MOVES: usize = 2;
/// Where effects end: so large is the one of a series that was always zero, and then is not.
pub(super) const EFFECT_MAX: f64 = 1e6;

/// Looks for each change point again between those beside it, which moves it now that all are known (repartition, Bai
/// 1997). Then drops what is no step there: of a drift nothing remains. Then what is too small; two small steps that are one
/// large together leave that. `found` is in order, `values` have no gaps.
pub(super) fn settle(values: &[f64], mut found: Vec<usize>, options: &ChangePointOptions) -> Vec<ChangePoint> {
    for _ in 0..MOVES {
        found = moved(values, &found, options.segment_min);
    }
    let steps = hold(values, found, |part| part.as_step(options));
    let found = steps.iter().map(|step| step.row).collect();
    let large = hold(values, found, |part| part.by_size(options.effect_min));
    let p_value = |row| steps.binary_search_by_key(&row, |step| step.row).map_or(1.0, |at| steps[at].p_value);
    large.into_iter().map(|point| ChangePoint { p_value: p_value(point.row), ..point }).collect()
}

/// Those that hold against their neighbours: of others the weakest goes first, and the rest are judged again.
fn hold(values: &[f64], mut found: Vec<usize>, judge: impl Fn(&Part) -> Option<Judged>) -> Vec<ChangePoint> {
    loop {
        let judged: Vec<Judged> = parts(values, &found).filter_map(|part| judge(&part)).collect();
        let stays = |at: &usize| judged[*at].holds || !is_weakest(&judged, *at);
        let points: Vec<ChangePoint> = (0..judged.len()).filter(stays).map(|at| judged[at].point).collect();
        if points.len() == found.len() {
            return points;
        }
        found = points.iter().map(|point| point.row).collect();
    }
}

/// In order; two that meet are one.
fn moved(values: &[f64], found: &[usize], least: usize) -> Vec<usize> {
    let mut places: Vec<usize> = parts(values, found).map(|part| part.start + part.best(least)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// The values between the neighbours of a change point, and where among them it is.
struct Part<'a> {
    start: usize,
    values: &'a [f64],
    at: usize,
}

fn parts<'a>(values: &'a [f64], found: &'a [usize]) -> impl Iterator<Item = Part<'a>> {
    (0..found.len()).map(move |place| {
        let start = place.checked_sub(1).map_or(0, |before| found[before]);
        let end = found.get(place + 1).copied().unwrap_or(values.len());
        Part { start, values: &values[start..end], at: found[place] - start }
    })
}

/// A change point, how strong it is, and whether it is one still.
#[derive(Clone, Copy, Debug)]
struct Judged {
    point: ChangePoint,
    strength: f64,
    holds: bool,
}

impl Part<'_> {
    fn best(&self, least: usize) -> usize {
        let split = best_split(&ranks(self.values), least, 1.0).map_or(self.at, |split| split.at);
        between_levels(self.values, split, least).unwrap_or(split)
    }

    /// Whether it is a step that chance does not explain. Too few values, or all the same, are none.
    fn as_step(&self, options: &ChangePointOptions) -> Option<Judged> {
        let point = self.point()?;
        let Some(split) = split_at(&ranks(self.values), self.at, options.segment_min) else {
            return Some(Judged { point, strength: 0.0, holds: false });
        };
        let holds = split.is_step && split.p_value <= options.p_max;
        Some(Judged { point: ChangePoint { p_value: split.p_value, ..point }, strength: split.score, holds })
    }

    fn by_size(&self, effect_min: f64) -> Option<Judged> {
        let point = self.point()?;
        let strength = point.effect.abs();
        Some(Judged { point, strength, holds: strength >= effect_min })
    }

    /// `None` where there are no values to one side.
    fn point(&self) -> Option<ChangePoint> {
        let (before, after) = self.values.split_at(self.at);
        Some(ChangePoint { row: self.start + self.at, ..levels(before, after)? })
    }
}

/// What there is to say of two segments beside their place and chance.
fn levels(before: &[f64], after: &[f64]) -> Option<ChangePoint> {
    let (old, new) = (median(before)?, median(after)?);
    let own = || [distances(before, old), distances(after, new)].concat();
    let unit = if old == 0.0 { MAD_TO_SIGMA * median(&own())? } else { old.abs() };
    let effect = if new == old { 0.0 } else { ((new - old) / unit).clamp(-EFFECT_MAX, EFFECT_MAX) };
    Some(ChangePoint { row: 0, before: old, after: new, effect, p_value: 1.0 })
}

fn distances(values: &[f64], middle: f64) -> Vec<f64> {
    values.iter().map(|value| (value - middle).abs()).collect()
}

/// Where the values are least far, added up, from the medians of the two sides of `at`: the best rank sum may lie a few rows
/// beside a clear step, where one side is much longer. `None` if the medians are the same.
fn between_levels(values: &[f64], at: usize, least: usize) -> Option<usize> {
    let (before, after) = (median(&values[..at])?, median(&values[at..])?);
    let apart = after / 2.0 - before / 2.0; // by halves, so that nothing overflows
    if apart == 0.0 {
        return None;
    }
    // From -1/2, at or beyond the level before, to 1/2.
    let side = |value: &f64| ((value / 2.0 - before / 2.0) / apart).clamp(0.0, 1.0) - 0.5;
    let sums = values.iter().scan(0.0, |sum, value| {
        *sum += side(value);
        Some(*sum)
    });
    let splits =
        sums.enumerate().map(|(last, sum)| (last + 1, sum)).take(values.len().saturating_sub(least)).skip(least - 1);
    splits.reduce(|best, next| if next.1 < best.1 { next } else { best }).map(|(at, _)| at)
}

/// Whether none beside it fails with less strength; of equals the first.
fn is_weakest(judged: &[Judged], at: usize) -> bool {
    let strength = judged[at].strength;
    let before = at.checked_sub(1).is_some_and(|other| !judged[other].holds && judged[other].strength <= strength);
    let after = judged.get(at + 1).is_some_and(|other| !other.holds && other.strength < strength);
    !before && !after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(values: &[f64], found: &[usize], options: &ChangePointOptions) -> Vec<usize> {
        settle(values, found.to_vec(), options).iter().map(|point| point.row).collect()
    }

    #[test]
    fn a_change_point_moves_to_its_place_between_its_neighbours() {
        let values: Vec<f64> = (0..90).map(|at| [1.0, 2.0, 1.5][at / 30]).collect();
        for found in [[30, 60].as_slice(), &[27, 60], &[33, 57], &[30, 45, 60], &[20, 45, 60]] {
            assert_eq!(settled(&values, found, &ChangePointOptions::default()), [30, 60], "{found:?}");
        }
    }

    #[test]
    fn a_change_point_is_between_the_levels_however_long_they_are() {
        // The best rank sum is at 12: the two after the step are the largest of their level.
        let mut values: Vec<f64> =
            (0..60).map(|at| f64::from(at * 7 % 10) + if at < 10 { 50.0 } else { 0.0 }).collect();
        values[10..12].fill(10.0);
        assert_eq!(best_split(&ranks(&values), 5, 1.0).unwrap().at, 12);
        let table = [(12, 5, Some(10)), (9, 5, Some(10)), (12, 11, Some(11))];
        for (at, least, expected) in table {
            assert_eq!(between_levels(&values, at, least), expected, "{at} {least}");
        }
        values.reverse();
        for (least, expected) in [(5, Some(50)), (11, Some(49))] {
            assert_eq!(between_levels(&values, 48, least), expected, "{least}");
        }
        assert_eq!(between_levels(&[3.0; 20], 10, 5), None, "one level");
        assert_eq!(between_levels(&[1.0, 1.0, 2.0], 2, 5), None, "too few");
    }

    #[test]
    fn small_effects_are_dropped_and_what_they_add_up_to_is_not() {
        let levels = [[100.0; 40].as_slice(), &[104.0; 12], &[108.0; 40]].concat();
        let values: Vec<f64> = levels.into_iter().enumerate().map(|(at, level)| level + (at % 3) as f64).collect();
        for (effect_min, expected) in [(0.01, [40, 52].as_slice()), (0.05, &[40]), (0.1, &[])] {
            let options = ChangePointOptions { effect_min, ..ChangePointOptions::default() };
            assert_eq!(settled(&values, &[40, 52], &options), expected, "{effect_min}");
        }
    }

    #[test]
    fn the_weakest_of_those_that_fail_goes_first() {
        let point = levels(&[1.0], &[2.0]).unwrap();
        let judged = |all: &[(f64, bool)]| -> Vec<Judged> {
            all.iter().map(|&(strength, holds)| Judged { point, strength, holds }).collect()
        };
        let table = [
            (judged(&[(3.0, false)]), 0, true),
            (judged(&[(3.0, false), (2.0, false)]), 0, false),
            (judged(&[(3.0, false), (2.0, true)]), 0, true),
            (judged(&[(3.0, false), (3.0, false)]), 0, true),
            (judged(&[(3.0, false), (3.0, false)]), 1, false),
        ];
        for (judged, at, expected) in table {
            assert_eq!(is_weakest(&judged, at), expected, "{judged:?} {at}");
        }
    }
}
