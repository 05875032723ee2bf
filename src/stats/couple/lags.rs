//! The lag at which two series go together most closely, once what each can forecast of itself is out of the way.

use super::prepare::{ORDER, POINTS_MIN, Prepared};

/// Lags multiplied side by side: seven vectors of the narrowest kind, as there is room for in registers.
const LANES: usize = 28;
/// Sums kept side by side.
const SUMS: usize = 16;
/// Largest correlation told from 1.
const R_MAX: f64 = 0.999_999;
/// Below this, what a filter leaves of values of size one is their rounding.
const ROUNDING: f32 = 1e-6;

/// What a pair comes to at the lag where it is strongest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strongest {
    /// Steps by which the second follows the first.
    pub lag: i32,
    pub r: f64,
    /// |r| in standard errors of unrelated series: Fisher's z times the root of n - 3.
    pub score: f64,
}

/// Room to work in, for windows of one length.
pub(super) struct Lags {
    lag_max: usize,
    whitened: Vec<f32>,
    /// Zeros on either side, so that each lag has as many rows.
    padded: Vec<f32>,
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl Lags {
    pub fn new(rows: usize, lag_max: usize) -> Lags {
        let lags = 2 * lag_max + 1;
        let padded = vec![0.0; rows + lags.next_multiple_of(LANES)];
        Lags { lag_max, whitened: vec![0.0; rows], padded, sums: vec![0.0; lags], counts: vec![0.0; lags] }
    }

    /// Of all lags either way and the filters of either series, the first where the two go together most closely.
    pub fn strongest(&mut self, a: &Prepared, b: &Prepared) -> Strongest {
        self.count(a, b);
        let (lag, r, score) = self.one_sided(a, b);
        self.counts.reverse();
        let (lag_back, r_back, score_back) = self.one_sided(b, a);
        if score_back > score {
            Strongest { lag: -lag_back, r: r_back, score: score_back }
        } else {
            Strongest { lag, r, score }
        }
    }

    /// Rows of each lag at which both count.
    fn count(&mut self, a: &Prepared, b: &Prepared) {
        let all = a.counted.len().saturating_sub(ORDER);
        if a.count.min(b.count) == all as f32 {
            let lag_max = self.lag_max;
            let steps = (0..).map(|at: usize| at.abs_diff(lag_max));
            self.counts.iter_mut().zip(steps).for_each(|(count, steps)| *count = all.saturating_sub(steps) as f32);
        } else {
            self.padded[self.lag_max..][..b.counted.len()].copy_from_slice(&b.counted);
            lagged_sums(&a.counted, &self.padded, &mut self.counts);
        }
    }

    /// Both through the filter of `x`: steps by which `y` follows, correlation and score.
    fn one_sided(&mut self, x: &Prepared, y: &Prepared) -> (i32, f64, f64) {
        self.whiten(&x.filter, y);
        lagged_sums(&x.innovations, &self.padded, &mut self.sums);
        let mut best = (0, 0.0, 0.0);
        let lag_max = self.lag_max as i32;
        for ((&sum, &count), lag) in self.sums.iter().zip(&self.counts).zip(-lag_max..) {
            let count = f64::from(count);
            if count as usize >= POINTS_MIN.saturating_sub(2 * self.lag_max).max(ORDER) {
                let r = (f64::from(sum) / count).clamp(-R_MAX, R_MAX);
                let score = r.abs().atanh() * (count - 3.0).sqrt();
                if score > best.2 {
                    best = (lag, r, score);
                }
            }
        }
        best
    }

    /// What a filter leaves of `y`, mean 0 and variance 1 over the rows that count, 0 elsewhere.
    fn whiten(&mut self, filter: &[f64; ORDER], y: &Prepared) {
        let [one, two, three, four] = filter.map(|weight| weight as f32);
        let rows = self.whitened[ORDER..].iter_mut().zip(y.filled.array_windows()).zip(&y.counted[ORDER..]);
        for ((left, &[v4, v3, v2, v1, v]), &counted) in rows {
            *left = (v - one * v1 - two * v2 - three * v3 - four * v4) * counted;
        }
        let count = y.count;
        let mean = sum_of(&self.whitened, |value| value) / count;
        let sigma = (sum_of(&self.whitened, |value| value * value) / count - mean * mean).max(0.0).sqrt();
        let scale = if sigma > ROUNDING { 1.0 / sigma } else { 0.0 };
        let rows = self.padded[self.lag_max..].iter_mut().zip(&self.whitened).zip(&y.counted);
        for ((place, &left), &counted) in rows {
            *place = (left - mean) * scale * counted;
        }
    }
}

/// Sum of what is made of each value.
fn sum_of(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<SUMS>();
    let mut sums = [0.0; SUMS];
    for chunk in chunks {
        for lane in 0..SUMS {
            sums[lane] += of(chunk[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&value| of(value)).sum::<f32>()
}

/// Of each lag the sum of the products of `still` with what begins so many rows into `padded`.
fn lagged_sums(still: &[f32], padded: &[f32], sums: &mut [f32]) {
    for (block, sums) in sums.chunks_mut(LANES).enumerate() {
        let lanes = lagged_lanes(still, &padded[block * LANES..]);
        sums.copy_from_slice(&lanes[..sums.len()]);
    }
}

fn lagged_lanes(still: &[f32], padded: &[f32]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (&x, near) in still.iter().zip(padded.array_windows::<LANES>()) {
        for lane in 0..LANES {
            sums[lane] += x * near[lane];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::tests::Noise;
    use super::*;

    const DAY: usize = 50;
    const WINDOW: usize = 260;

    /// What follows `cause` by two steps, as far as there is one, with every `gap`-th value missing in a part of it.
    fn series(noise: &mut Noise, cause: Option<&[f64]>, gap: usize) -> Vec<f64> {
        let mut level = 0.0;
        let mut next = |row: usize| {
            level = 0.7 * level + noise.normal() + cause.map_or(0.0, |cause| 0.2 * cause[row.saturating_sub(2)]);
            if (150..230).contains(&row) && row % gap == 1 { f64::NAN } else { level }
        };
        (0..WINDOW).map(&mut next).collect()
    }

    /// By the definition: steps by which `y` follows, correlation and score.
    fn plain(x: &Prepared, y: &Prepared, lag_max: i32) -> (i32, f64, f64) {
        let forecast = |row: usize| (0..ORDER).map(|at| x.filter[at] * f64::from(y.filled[row - 1 - at])).sum::<f64>();
        let rows: Vec<usize> = (0..WINDOW).filter(|&row| y.counted[row] > 0.0).collect();
        let left: Vec<f64> = rows.iter().map(|&row| f64::from(y.filled[row]) - forecast(row)).collect();
        let mean = left.iter().sum::<f64>() / left.len() as f64;
        let sigma = (left.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / left.len() as f64).sqrt();
        let of_lag = |lag: i32| {
            let products = rows.iter().zip(&left).filter_map(|(&row, left)| {
                let at = row.checked_add_signed(-lag as isize).filter(|&at| x.counted.get(at) == Some(&1.0))?;
                Some(f64::from(x.innovations[at]) * (left - mean) / sigma)
            });
            let products: Vec<f64> = products.collect();
            let r = products.iter().sum::<f64>() / products.len() as f64;
            (lag, r, r.abs().atanh() * (products.len() as f64 - 3.0).sqrt())
        };
        (-lag_max..=lag_max).map(of_lag).max_by(|one, other| one.2.total_cmp(&other.2)).unwrap()
    }

    #[test]
    fn each_filter_finds_what_its_definition_does() {
        let mut noise = Noise(5);
        let mut series = |cause: Option<&[f64]>, gap| series(&mut noise, cause, gap);
        let whole = series(None, usize::MAX);
        let gappy = series(Some(&whole), 3);
        let all = [series(Some(&whole), usize::MAX), series(None, 4), whole, gappy];
        let all = all.map(|rows| Prepared::new(&rows, WINDOW, DAY).unwrap());
        for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            for lag_max in [2, 12, 20] {
                let (one, other) = (plain(&all[a], &all[b], lag_max), plain(&all[b], &all[a], lag_max));
                let expected = if other.2 > one.2 { (-other.0, other.1, other.2) } else { one };
                let found = Lags::new(WINDOW, lag_max as usize).strongest(&all[a], &all[b]);
                assert_eq!(found.lag, expected.0, "{a} and {b}, up to {lag_max}");
                let near = (found.r - expected.1).abs() < 1e-5 && (found.score - expected.2).abs() < 1e-3;
                assert!(near, "{a} and {b}, up to {lag_max}: {found:?}, not {expected:?}");
            }
        }
    }
}
