//! The bootstrap of Efron 1979: what the change would have been, had other values been drawn from the same two sides.
//!
//! Medians need no resamples. The order statistics of n numbers drawn from 0 to 1 are Beta distributed, and which value of a
//! sorted side a number falls on is n times it, rounded down: so one draw gives the median of a resample of any size.

use super::{CHANGE_MAX, Centre, CompareOptions, mean};

/// Values of a side above which a resample's mean is drawn from the normal distribution that it has by then.
const MEAN_DRAWN: usize = 1000;
/// Splits the seed, so that both sides do not draw the same numbers.
const OTHER_SIDE: u64 = 0x5851_f42d_4c95_7f2d;

/// The changes of as many resamples as the options ask for. Both sides are sorted and have values.
pub(super) fn changes(baseline: &[f64], now: &[f64], options: &CompareOptions) -> Vec<f64> {
    let (mut of_before, mut of_now) = (Draws(options.seed), Draws(options.seed ^ OTHER_SIDE));
    let change = |_| {
        let before = of_before.centre(baseline, options.centre);
        let now = of_now.centre(now, options.centre);
        change(before, now)
    };
    (0..options.resamples).map(change).collect()
}

/// As in a comparison; from 0 to anything it is as large as can be.
fn change(before: f64, now: f64) -> f64 {
    if before == now {
        return 0.0;
    }
    ((now - before) / before.abs()).clamp(-CHANGE_MAX, CHANGE_MAX)
}

/// A stream of random numbers: SplitMix64 (Steele, Lea, Flood 2014).
struct Draws(u64);

impl Draws {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to below 1.
    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller 1958.
    fn normal(&mut self) -> f64 {
        let far = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        far * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// Of a shape of 1 or more: Marsaglia and Tsang 2000.
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.uniform();
            if v > 0.0 && u.ln() < x * x / 2.0 + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// The k-th smallest of n numbers from 0 to 1.
    fn smallest(&mut self, k: usize, n: usize) -> f64 {
        let (below, above) = (self.gamma(k as f64), self.gamma((n - k + 1) as f64));
        below / (below + above)
    }

    fn centre(&mut self, sorted: &[f64], centre: Centre) -> f64 {
        match centre {
            Centre::Median => self.median(sorted),
            Centre::Mean => self.mean(sorted),
        }
    }

    fn median(&mut self, sorted: &[f64]) -> f64 {
        let n = sorted.len();
        let value = |place: f64| sorted[((place * n as f64) as usize).min(n - 1)];
        let lower = self.smallest(n.div_ceil(2), n);
        if n % 2 == 1 {
            return value(lower);
        }
        // Above it lie n / 2 numbers, evenly; the least of them is the other middle one.
        let upper = 1.0 - (1.0 - lower) * (1.0 - self.uniform()).powf(2.0 / n as f64);
        f64::midpoint(value(lower), value(upper))
    }

    fn mean(&mut self, values: &[f64]) -> f64 {
        let n = values.len();
        if n > MEAN_DRAWN {
            let middle = mean(values);
            let variance = values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / n as f64;
            return middle + (variance / n as f64).sqrt() * self.normal();
        }
        (0..n).map(|_| values[((self.uniform() * n as f64) as usize).min(n - 1)]).sum::<f64>() / n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_medians_are_those_of_resamples() {
        for n in [2_usize, 5, 8, 31] {
            let values: Vec<f64> = (0..n).map(|at| (at * at) as f64).collect();
            let (mut drawn, mut resampled) = (Vec::new(), Vec::new());
            let (mut one, mut other) = (Draws(3), Draws(4));
            for _ in 0..20_000 {
                drawn.push(one.median(&values));
                let resample: Vec<f64> = (0..n).map(|_| values[(other.uniform() * n as f64) as usize]).collect();
                resampled.push(crate::stats::median(&resample).unwrap());
            }
            for q in [0.025, 0.25, 0.5, 0.75, 0.975] {
                let [a, b] = [&drawn, &resampled].map(|medians| crate::stats::quantile(medians, q).unwrap());
                let step = 2.0 * n as f64; // one place in the middle of the side
                assert!((a - b).abs() <= step / 2.0, "{n} values, q {q}: {a}, not {b}");
            }
            let (a, b) = (mean(&drawn), mean(&resampled));
            assert!((a - b).abs() < 0.02 * b.max(1.0), "{n} values: mean {a}, not {b}");
        }
    }

    #[test]
    fn means_of_many_values_are_drawn_as_of_few() {
        let values: Vec<f64> = (0..=1000).map(f64::from).collect();
        let mut draws = Draws(1);
        let means: Vec<f64> = (0..4000).map(|_| draws.mean(&values)).collect();
        let deviation = (means.iter().map(|value| (value - 500.0).powi(2)).sum::<f64>() / 4000.0).sqrt();
        assert!((deviation - 9.138).abs() < 0.3, "{deviation}");
    }
}
