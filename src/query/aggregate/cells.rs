//! Sums of stretches of a column, a cell for each group and bucket.

/// What is known of the values in a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Cell {
    pub const EMPTY: Cell = Cell { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Adds values. As the engine's own functions have it, what is not a number is the largest, and the smallest only where
    /// there is nothing else. They are summed up one after the other, so that a sum does not depend on how they are cut.
    pub fn add(&mut self, values: &[f64]) {
        self.sum = values.iter().fold(self.sum, |sum, value| sum + value);
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [Cell::EMPTY; LANES];
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                lane.take(value);
            }
        }
        rest.iter().zip(&mut lanes).for_each(|(&value, lane)| lane.take(value));
        for lane in lanes {
            self.min = if lane.min < self.min { lane.min } else { self.min };
            self.max = if lane.max > self.max { lane.max } else { self.max };
        }
        self.count += values.len() as u64;
        if self.sum.is_nan() && values.iter().any(|value| value.is_nan()) {
            self.max = f64::NAN;
        }
    }

    #[inline(always)]
    fn take(&mut self, value: f64) {
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    /// The smallest of at least one value.
    pub fn min(&self) -> f64 {
        // Nothing was smaller than infinity: all were that, or no number at all.
        if self.min == f64::INFINITY && self.sum.is_nan() && self.max.is_nan() { f64::NAN } else { self.min }
    }
}

const LANES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_what_its_values_are() {
        let values: Vec<f64> = (0..101).map(|n| f64::from((n * 37) % 101) - 50.0).collect();
        for (from, to) in [(0, 0), (0, 1), (3, 10), (0, 101), (17, 99)] {
            let mut cell = Cell::EMPTY;
            values[from..to].chunks(40).for_each(|some| cell.add(some));
            let sum = values[from..to].iter().fold(0.0, |sum, value| sum + value);
            let min = values[from..to].iter().copied().fold(f64::INFINITY, f64::min);
            let max = values[from..to].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(cell, Cell { count: (to - from) as u64, sum, min, max });
        }
        let mut odd = Cell::EMPTY;
        odd.add(&[1.0, f64::NAN, -3.0]);
        odd.add(&[7.0]);
        assert!(odd.max.is_nan() && odd.min() == -3.0);
        let mut none = Cell::EMPTY;
        none.add(&[f64::NAN]);
        assert!(none.min().is_nan());
    }
}
