//! What is known of some values without looking at them again: how many, their sum, the least and the greatest.
//!
//! Sums carry what rounding loses (Knuth's TwoSum; Ogita, Rump and Oishi, "Accurate sum and dot product", 2005), so that they
//! come out the same however the values are cut and in whatever order the parts are put together.

/// Of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: Sum,
    pub min: f64,
    pub max: f64,
}

/// A sum, and what was lost of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    pub high: f64,
    pub low: f64,
}

impl Sum {
    #[inline(always)]
    fn add(&mut self, value: f64) {
        let sum = self.high + value;
        let taken = sum - self.high;
        self.low += (self.high - (sum - taken)) + (value - taken);
        self.high = sum;
    }

    fn put(&mut self, other: Sum) {
        self.add(other.high);
        self.low += other.low;
    }

    /// The sum. What is lost of one that is no finite number is not known.
    pub fn value(self) -> f64 {
        if self.low.is_finite() { self.high + self.low } else { self.high }
    }
}

const LANES: usize = 8;

impl Summary {
    /// Of no value.
    pub const EMPTY: Summary =
        Summary { count: 0, sum: Sum { high: 0.0, low: 0.0 }, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Adds values. As the query engine has it, what is not a number is the largest, and the smallest only where there is
    /// nothing else.
    pub fn add(&mut self, values: &[f64]) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        if !chunks.is_empty() {
            let mut lanes = [Summary::EMPTY; LANES];
            for chunk in chunks {
                for (lane, &value) in lanes.iter_mut().zip(chunk) {
                    lane.take(value);
                }
            }
            for lane in &lanes {
                self.sum.put(lane.sum);
                self.bound(lane.min, lane.max);
            }
        }
        rest.iter().for_each(|&value| self.take(value));
        self.count += values.len() as u64;
        if self.sum.high.is_nan() && values.iter().any(|value| value.is_nan()) {
            self.max = f64::NAN;
        }
    }

    /// Adds what is known of others.
    pub fn put(&mut self, other: &Summary) {
        self.count += other.count;
        self.sum.put(other.sum);
        self.bound(other.min, other.max);
        if other.max.is_nan() {
            self.max = f64::NAN;
        }
    }

    #[inline(always)]
    fn take(&mut self, value: f64) {
        self.sum.add(value);
        self.bound(value, value);
    }

    #[inline(always)]
    fn bound(&mut self, min: f64, max: f64) {
        self.min = if min < self.min { min } else { self.min };
        self.max = if max > self.max { max } else { self.max };
    }

    /// The smallest of at least one value.
    pub fn min(&self) -> f64 {
        // Nothing was smaller than infinity: all were that, or no number at all.
        if self.min == f64::INFINITY && self.sum.high.is_nan() && self.max.is_nan() { f64::NAN } else { self.min }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_what_its_values_are() {
        let values: Vec<f64> = (0..101).map(|n| f64::from((n * 37) % 101) - 50.0).collect();
        for (from, to) in [(0, 0), (0, 1), (3, 10), (0, 101), (17, 99)] {
            let mut summary = Summary::EMPTY;
            values[from..to].chunks(40).for_each(|some| summary.add(some));
            let sum = values[from..to].iter().fold(0.0, |sum, value| sum + value);
            let min = values[from..to].iter().copied().fold(f64::INFINITY, f64::min);
            let max = values[from..to].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!((summary.count, summary.sum.value()), ((to - from) as u64, sum));
            assert_eq!((summary.min, summary.max), (min, max));
        }
        let mut odd = Summary::EMPTY;
        odd.add(&[1.0, f64::NAN, -3.0]);
        odd.add(&[7.0]);
        assert!(odd.max.is_nan() && odd.min() == -3.0 && odd.sum.value().is_nan());
        let mut none = Summary::EMPTY;
        none.add(&[f64::NAN]);
        assert!(none.min().is_nan());
        let mut both = Summary::EMPTY;
        both.put(&none);
        both.put(&odd);
        assert!(both.max.is_nan() && both.min() == -3.0 && both.count == 5);
        let mut endless = Summary::EMPTY;
        endless.add(&[f64::INFINITY, 1.0]);
        assert_eq!(endless.sum.value(), f64::INFINITY);
    }

    #[test]
    fn a_sum_is_the_same_however_it_is_cut() {
        let values: Vec<f64> = (0..10_000).map(|n| f64::from((n * 7919) % 10_007) / 100.0 * 1e9 + 0.01).collect();
        let whole = |pieces: usize| {
            let mut sum = Summary::EMPTY;
            for piece in values.chunks(pieces) {
                let mut part = Summary::EMPTY;
                part.add(piece);
                sum.put(&part);
            }
            sum.sum.value().to_bits()
        };
        for pieces in [1, 3, 8, 90, 333, 10_000] {
            assert_eq!(whole(pieces), whole(17), "pieces of {pieces}");
        }
        let mut lost = Summary::EMPTY;
        lost.add(&[1e100, 1.0, -1e100]);
        assert_eq!(lost.sum.value(), 1.0);
    }
}
