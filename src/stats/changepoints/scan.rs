//! The one split of a segment at which its two sides differ most, and how likely one as good is by chance.
//!
//! The statistic of a split is the standardised rank sum of one side (Mann and Whitney 1947; ties share their mean rank,
//! which makes the variance smaller), and of all splits the largest counts, as in Pettitt 1979.

use std::f64::consts::PI;

/// Autocorrelations are added up to this lag, or the cube root of the number of values, if that is less.
const LAGS_MAX: usize = 50;
/// More than this no value is taken to follow the one before it.
const FOLLOWS_MAX: f64 = 0.99;

/// A split of ranks in two.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Split {
    /// Where the second side starts.
    pub(super) at: usize,
    /// The statistic, in standard deviations, which are wider where values follow one another.
    pub(super) score: f64,
    /// How likely the largest score of all splits is as large or larger.
    pub(super) p_value: f64,
    /// That two levels describe the ranks no worse than a straight line.
    pub(super) is_step: bool,
}

/// Ranks from 0; equal values share the mean of theirs.
pub(super) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let shared = below as f64 + (equal.len() - 1) as f64 / 2.0;
        for &at in equal {
            ranks[at] = shared;
        }
        below += equal.len();
    }
    ranks
}

/// The best split that leaves `least` ranks, or more, on either side. `None` above `p_max`, where all are equal, and where
/// there are too few. The ranks may be those of a larger segment.
pub(super) fn best_split(ranks: &[f64], least: usize, p_max: f64) -> Option<Split> {
    let (at, score) = scores(ranks, least)?.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    if p_value(score, ranks.len(), least) > p_max {
        return None; // correlation would make it no less
    }
    Some(judged(ranks, at, score, least)).filter(|split| split.p_value <= p_max)
}

/// The same of one split, as if it were the best.
pub(super) fn split_at(ranks: &[f64], at: usize, least: usize) -> Option<Split> {
    let (at, score) = scores(ranks, least)?.find(|&(place, _)| place == at)?;
    Some(judged(ranks, at, score, least))
}

fn judged(ranks: &[f64], at: usize, score: f64, least: usize) -> Split {
    let rest = without_step(ranks, at);
    let score = score / inflation(&rest).sqrt();
    let is_step = squares(&rest) <= squares(&without_line(ranks));
    Split { at, score, p_value: p_value(score, ranks.len(), least), is_step }
}

/// Every split, and the standardised sum of what comes before it, by size.
fn scores(ranks: &[f64], least: usize) -> Option<impl Iterator<Item = (usize, f64)>> {
    let (count, last) = (ranks.len() as f64, ranks.len().checked_sub(least)?);
    let centred = about(ranks, mean(ranks));
    let variance = squares(&centred) / (count - 1.0);
    if last < least || variance <= 0.0 {
        return None;
    }
    let mut sum: f64 = centred[..least - 1].iter().sum();
    Some((least..=last).map(move |at| {
        sum += centred[at - 1];
        let before = at as f64;
        (at, sum.abs() / (variance * before * (count - before) / count).sqrt())
    }))
}

/// Chance of a standardised score as large at any split between the shares `t` and `1 - t` of the values: Miller and
/// Siegmund 1982, as Lausen and Schumacher 1992 use it for ranks. A little too large where there are few splits.
fn p_value(score: f64, count: usize, least: usize) -> f64 {
    if score <= 1.0 {
        return 1.0;
    }
    let t = least as f64 / count as f64;
    let density = (-score * score / 2.0).exp() / (2.0 * PI).sqrt();
    let splits = 2.0 * ((1.0 - t) / t).ln();
    (density * ((score - 1.0 / score) * splits + 4.0 / score)).min(1.0)
}

/// How many times larger the variance of a mean is than it were if values did not follow one another, 1 and more: by
/// their autocorrelations, of Bartlett's weights (Newey and West 1987), or if that is more by the first alone, as if each
/// value followed the one before and nothing else.
fn inflation(rest: &[f64]) -> f64 {
    let whole = squares(rest);
    if whole <= 0.0 {
        return 1.0;
    }
    let correlation = |lag: usize| rest.iter().zip(&rest[lag..]).map(|(a, b)| a * b).sum::<f64>() / whole;
    let lags = (1..=LAGS_MAX).take_while(|lag| lag.pow(3) <= rest.len()).count();
    let weight = |lag: usize| 1.0 - lag as f64 / (lags + 1) as f64;
    let weighted: f64 = (1..=lags).map(|lag| weight(lag) * correlation(lag)).sum();
    let follows = correlation(1).clamp(0.0, FOLLOWS_MAX);
    (1.0 + 2.0 * weighted).max((1.0 + follows) / (1.0 - follows))
}

/// What is left of ranks once each side is held against its own mean.
fn without_step(ranks: &[f64], at: usize) -> Vec<f64> {
    let (before, after) = ranks.split_at(at);
    [about(before, mean(before)), about(after, mean(after))].concat()
}

/// What is left of them once the straight line of least squares is taken off.
fn without_line(ranks: &[f64]) -> Vec<f64> {
    let count = ranks.len() as f64;
    let centred = about(ranks, mean(ranks));
    let places = (0..ranks.len()).map(|at| at as f64 - (count - 1.0) / 2.0);
    let along: f64 = centred.iter().zip(places.clone()).map(|(rank, place)| rank * place).sum();
    let slope = along / (count * (count * count - 1.0) / 12.0);
    centred.iter().zip(places).map(|(rank, place)| rank - slope * place).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn about(values: &[f64], middle: f64) -> Vec<f64> {
    values.iter().map(|value| value - middle).collect()
}

fn squares(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_their_mean_rank() {
        let table: [(&[f64], &[f64]); 4] = [
            (&[], &[]),
            (&[5.0, 1.0, 3.0], &[2.0, 0.0, 1.0]),
            (&[2.0, 2.0, 1.0, 2.0], &[2.0, 2.0, 0.0, 2.0]),
            (&[0.0, -0.0], &[0.5, 0.5]),
        ];
        for (values, expected) in table {
            assert_eq!(ranks(values), expected, "{values:?}");
        }
    }

    #[test]
    fn the_score_is_the_rank_sum_of_mann_and_whitney() {
        // Four below four: their rank sum is 8 from its mean, of variance 4 * 4 * 9 / 12.
        let ranks = ranks(&[3.0, 1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 6.0]);
        let scores: Vec<(usize, f64)> = scores(&ranks, 3).unwrap().collect();
        assert_eq!(scores.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3, 4, 5]);
        assert!((scores[1].1 - 8.0 / 12_f64.sqrt()).abs() < 1e-12, "{scores:?}");
    }

    #[test]
    fn p_values_are_those_of_miller_and_siegmund() {
        // Worked out from the formula; 3.0 is about the 5 % point where a tenth is left on either side.
        let table =
            [(0.5, 200, 20, 1.0), (3.0, 200, 20, 0.057_844), (4.0, 100, 10, 0.002_339), (4.0, 20, 10, 0.000_134)];
        for (score, count, least, expected) in table {
            let found = p_value(score, count, least);
            assert!((found - expected).abs() < 1e-6, "{score} of {count}: {found}, not {expected}");
        }
    }

    #[test]
    fn values_that_follow_one_another_count_for_less() {
        let table: [(&[f64], f64); 5] = [
            (&[0.0; 9], 1.0),
            // A correlation of 1/4 at the lag 2 alone, of weight 1/3.
            (&[1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0], 7.0 / 6.0),
            (&[1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0], 1.0),
            // Correlations 5/8 and 2/8 at the lags 1 and 2: 1 + 2 (2/3 5/8 + 1/3 2/8) is less than (1 + 5/8) / (1 - 5/8).
            (&[1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0], 13.0 / 3.0),
            (&[1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1.0),
        ];
        for (rest, expected) in table {
            let found = inflation(rest);
            assert!((found - expected).abs() < 1e-12, "{rest:?}: {found}, not {expected}");
        }
    }

    #[test]
    fn a_line_is_no_step_and_a_step_is_no_line() {
        let line: Vec<f64> = (0..40).map(f64::from).collect();
        let step: Vec<f64> = (0..40).map(|at| f64::from(u8::from(at >= 15))).collect();
        for (values, expected) in [(line, false), (step, true)] {
            let split = best_split(&ranks(&values), 5, 1.0).unwrap();
            assert_eq!(split.is_step, expected, "{split:?}");
        }
    }

    #[test]
    fn of_equal_splits_the_first_counts() {
        let found = best_split(&ranks(&[1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]), 2, 1.0);
        assert_eq!(found.unwrap().at, 3);
    }

    #[test]
    fn no_split_of_too_few_or_equal_values_nor_of_what_chance_explains() {
        let line: Vec<f64> = (0..40).map(f64::from).collect();
        let table: [(&[f64], f64); 6] = [
            (&line, 1e-3),
            (&[], 1.0),
            (&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0),
            (&[7.0; 30], 1.0),
            (&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 0.5),
            (&[1.0, 2.0, 3.0, 7.0, 8.0, 9.0], 1e-3),
        ];
        for (values, p_max) in table {
            assert_eq!(best_split(&ranks(values), 3, p_max), None, "{values:?}");
        }
    }
}
