//! Good and total by buckets of time, summed up so that any stretch of time is the difference of two sums.

use super::check::Slo;
use crate::model::Timestamp;

/// What was counted in one bucket of time. A bucket of which nothing is known has no row; one in which nothing was asked has
/// a total of 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// Where the bucket begins.
    pub time: Timestamp,
    pub good: f64,
    pub total: f64,
}

/// What was counted over a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Tally {
    pub(super) bad: f64,
    pub(super) total: f64,
    /// Nanoseconds of which something is known.
    pub(super) covered: i64,
}

impl Tally {
    /// Of what was asked; `None` where nothing was.
    pub(super) fn bad_share(self) -> Option<f64> {
        (self.total > 0.0).then(|| self.bad / self.total)
    }
}

/// Sums before each bucket, and after the last.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    /// By time.
    pub(super) times: Vec<i64>,
    bad: Sums,
    total: Sums,
    covered: Vec<i64>,
    every: i64,
    /// How long a bucket is taken to hold: where samples are rarer than buckets, up to the next.
    step: i64,
}

impl Counts {
    /// Of rows in any order. Those with what is not finite, or a total below 0, are left out; several of one bucket add up. A
    /// row may have more good than total, as where two counters are not asked at once: that evens out in the sums.
    pub(super) fn new(slo: &Slo, mut rows: Vec<Count>) -> Counts {
        rows.retain(|row| row.good.is_finite() && row.total.is_finite() && row.total >= 0.0);
        rows.sort_by_key(|row| row.time);
        let times: Vec<i64> = rows.iter().map(|row| row.time.nanos()).collect();
        let step = usual_gap(&times).max(slo.every);
        let bad = Sums::of(rows.iter().map(|row| row.total - row.good));
        let total = Sums::of(rows.iter().map(|row| row.total));
        let mut counts = Counts { times, bad, total, covered: vec![0], every: slo.every, step };
        for place in 0..counts.times.len() {
            counts.covered.push(counts.covered[place].saturating_add(counts.lasts(place)));
        }
        counts
    }

    /// Buckets that begin before `at`.
    pub(super) fn before(&self, at: i64) -> usize {
        self.times.partition_point(|&time| time < at)
    }

    /// When the bucket at a place is over.
    pub(super) fn end(&self, place: usize) -> i64 {
        self.times[place].saturating_add(self.every)
    }

    /// Of the buckets that begin from `at - length` on and before `at`.
    pub(super) fn over(&self, length: i64, at: i64) -> Tally {
        self.between(self.before(at.saturating_sub(length)), self.before(at), length, at)
    }

    /// The same of places, where they are known.
    pub(super) fn between(&self, from: usize, to: usize, length: i64, at: i64) -> Tally {
        if from >= to {
            return Tally::default();
        }
        let total = self.total.between(from, to).max(0.0);
        let bad = self.bad.between(from, to).clamp(0.0, total);
        Tally { bad, total, covered: self.covered(from, to, length, at) }
    }

    /// The last bucket may hold on beyond `at`, and the one before the first into the stretch.
    fn covered(&self, from: usize, to: usize, length: i64, at: i64) -> i64 {
        let holds_beyond =
            |place: usize, at: i64| self.times[place].saturating_add(self.lasts(place)).saturating_sub(at).max(0);
        let into = from.checked_sub(1).map_or(0, |before| holds_beyond(before, at.saturating_sub(length)));
        let covered = self.covered[to] - self.covered[from] - holds_beyond(to - 1, at);
        covered.saturating_add(into).clamp(0, length)
    }

    fn lasts(&self, place: usize) -> i64 {
        self.times.get(place + 1).map_or(self.step, |next| self.step.min(next.saturating_sub(self.times[place])))
    }
}

/// Sums of all values before a place, with what rounding loses of them (Knuth's TwoSum): else one that is the difference of
/// two large ones would be off by a share of these.
#[derive(Debug, Clone)]
struct Sums {
    high: Vec<f64>,
    low: Vec<f64>,
}

impl Sums {
    fn of(values: impl Iterator<Item = f64>) -> Sums {
        let mut sums = Sums { high: vec![0.0], low: vec![0.0] };
        let (mut high, mut low) = (0.0, 0.0);
        for value in values {
            let sum = high + value;
            let taken = sum - high;
            low += (high - (sum - taken)) + (value - taken);
            high = sum;
            sums.high.push(high);
            sums.low.push(low);
        }
        sums
    }

    fn between(&self, from: usize, to: usize) -> f64 {
        (self.high[to] - self.high[from]) + (self.low[to] - self.low[from])
    }
}

/// The lower median of the gaps between times; 0 of fewer than two.
fn usual_gap(times: &[i64]) -> i64 {
    let mut gaps: Vec<i64> =
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|&gap| gap > 0).collect();
    let Some(middle) = gaps.len().checked_sub(1).map(|last| last / 2) else { return 0 };
    *gaps.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_sum_between_large_ones_is_exact() {
        let values = [1e16, 0.1, 0.2, -1e16, 3.0, 1e-9];
        let sums = Sums::of(values.into_iter());
        let table = [(1, 3, 0.1 + 0.2), (2, 3, 0.2), (0, 4, 0.1 + 0.2), (4, 6, 3.0 + 1e-9), (5, 6, 1e-9), (3, 3, 0.0)];
        for (from, to, expected) in table {
            let found = sums.between(from, to);
            assert!((found - expected).abs() < 1e-15, "{from} to {to}: {found}, not {expected}");
        }
    }

    #[test]
    fn the_usual_gap_is_that_of_most() {
        let table: [(&[i64], i64); 5] =
            [(&[], 0), (&[5], 0), (&[0, 10, 20, 300], 10), (&[0, 0, 0, 7], 7), (&[0, 10, 11, 21, 22], 1)];
        for (times, expected) in table {
            assert_eq!(usual_gap(times), expected, "{times:?}");
        }
    }
}
