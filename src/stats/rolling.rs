//! Mean and spread of the last values of a series, a value at a time: the z-score of the hot path.

/// Least scale as a share of the mean, so that a flat series does not cry at rounding.
const SCALE_SHARE_MIN: f64 = 1e-3;
/// Least scale of all, for a series that rests at zero.
const SCALE_MIN: f64 = 1e-9;
/// Scores beyond this say no more.
const Z_MAX: f64 = 1e9;
/// The squares lost this share of their size at one go: what is left is mostly rounding.
const CANCELLED: f64 = 1e-8;

/// How far a value lies from what the window leads one to expect.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Score {
    /// `(value - expected) / scale`, at most 1e9 either way.
    pub z: f64,
    /// Mean of the window.
    pub expected: f64,
    /// Standard deviation of the window, at least 0.1 % of its mean's size and at least 1e-9.
    pub scale: f64,
}

/// Mean and variance of the last `window` values in constant time a value and eight bytes a value held.
///
/// Sums are moved by Welford's update with the oldest value taken out (Welford 1962; Chan, Golub and LeVeque 1983).
/// Its rounding cannot pile up: each time the ring comes round, and whenever a value leaves that outweighed the rest,
/// mean and squares are computed anew.
#[derive(Clone, PartialEq, Debug)]
pub struct RollingZ {
    window: usize,
    /// Grows with the series, so a series of few values costs little.
    ring: Vec<f64>,
    /// Where the next value goes, once the ring is full.
    head: usize,
    mean: f64,
    /// Sum of the squared distances to the mean.
    squares: f64,
}

impl RollingZ {
    /// A window of at least two values.
    pub fn new(window: usize) -> Self {
        RollingZ { window: window.max(2), ring: Vec::new(), head: 0, mean: 0.0, squares: 0.0 }
    }

    /// Values a window needs before it scores: a quarter of it, at least 8 and at most 60, never more than it holds.
    pub fn min_samples(&self) -> usize {
        (self.window / 4).clamp(8, 60).min(self.window)
    }

    /// Values now in the window.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Scores `value` against the window as it stands, without adding it. `None` for a window that is too young, a
    /// value that is not finite, and a spread beyond what a float can square (1e154).
    #[inline]
    pub fn score(&self, value: f64) -> Option<Score> {
        if self.ring.len() < self.min_samples() || !value.is_finite() {
            return None;
        }
        let deviation = (self.squares / (self.ring.len() - 1) as f64).sqrt();
        let scale = deviation.max(SCALE_SHARE_MIN * self.mean.abs()).max(SCALE_MIN);
        let z = ((value - self.mean) / scale).clamp(-Z_MAX, Z_MAX);
        (z.is_finite() && scale.is_finite()).then_some(Score { z, expected: self.mean, scale })
    }

    /// Whether the score of `value` is beyond doubt within `threshold` either way, without a division or a root. Not where it
    /// is close, the window is young, or the least scale may count: there [`RollingZ::score`] tells.
    #[inline]
    pub fn is_surely_within(&self, value: f64, threshold: f64) -> bool {
        let distance = value - self.mean;
        let others = self.ring.len().saturating_sub(1) as f64;
        self.ring.len() >= self.min_samples()
            && distance * distance * others < threshold * threshold * self.squares * (1.0 - 1e-9)
    }

    /// Adds a value, and lets the oldest go when the window is full. Values that are not finite are passed over.
    #[inline]
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.ring.len() < self.window {
            self.grow(value);
        } else {
            self.replace(value);
        }
    }

    fn grow(&mut self, value: f64) {
        if self.ring.len() == self.ring.capacity() {
            let more = self.ring.len().max(4).min(self.window - self.ring.len());
            self.ring.reserve_exact(more);
        }
        self.ring.push(value);
        let delta = value - self.mean;
        self.mean += delta / self.ring.len() as f64;
        self.squares += delta * (value - self.mean);
    }

    #[inline]
    fn replace(&mut self, value: f64) {
        let old = std::mem::replace(&mut self.ring[self.head], value);
        self.head += 1;
        let delta = value - old;
        let (mean, squares) = (self.mean, self.squares);
        self.mean += delta / self.window as f64;
        self.squares += delta * ((value - self.mean) + (old - mean));
        let sound = self.squares > squares * CANCELLED || squares == 0.0 && delta == 0.0;
        if self.head == self.window || !sound {
            self.recompute();
        }
    }

    #[cold]
    fn recompute(&mut self) {
        self.head %= self.window;
        let shift = self.ring[0];
        let mean = shift + sum(&self.ring, |value| value - shift) / self.ring.len() as f64;
        self.mean = mean;
        self.squares = sum(&self.ring, |value| (value - mean) * (value - mean));
    }

    /// Appends the state, from which [`RollingZ::decode`] goes on bit for bit, as `store/FORMAT.md` draws it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.window, self.ring.len(), self.head] {
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        for number in [self.mean, self.squares].iter().chain(&self.ring) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Takes a state off the front of `bytes`. `None` where they hold none.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut rest = *bytes;
        let mut number =
            || rest.split_off(..4).map(|four| four.iter().rev().fold(0, |sum, &b| sum << 8 | usize::from(b)));
        let (window, length, head) = (number()?, number()?, number()?);
        if window < 2 || length > window || head >= window || head > 0 && length < window {
            return None;
        }
        let floats = rest.split_off(..(length + 2) * 8)?;
        let (floats, _) = floats.as_chunks::<8>();
        let mut floats = floats.iter().map(|eight| f64::from_le_bytes(*eight));
        let (mean, squares) = (floats.next()?, floats.next()?);
        *bytes = rest;
        Some(RollingZ { window, ring: floats.collect(), head, mean, squares })
    }
}

/// Sum over the values in four lanes, which the processor adds side by side.
fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let (chunks, rest) = values.as_chunks::<4>();
    let mut lanes = [0.0; 4];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += of(*value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&value| of(value)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and standard deviation of the last `window` of `values`, as the book says.
    fn exact(values: &[f64], window: usize) -> (f64, f64) {
        let last = &values[values.len().saturating_sub(window)..];
        let mean = last.iter().sum::<f64>() / last.len() as f64;
        let squares: f64 = last.iter().map(|v| (v - mean).powi(2)).sum();
        (mean, (squares / (last.len() - 1) as f64).sqrt())
    }

    fn filled(window: usize, values: &[f64]) -> RollingZ {
        let mut rolling = RollingZ::new(window);
        values.iter().for_each(|&value| rolling.push(value));
        rolling
    }

    fn wave(count: usize) -> Vec<f64> {
        (0..count).map(|i| 1e6 + (i as f64 * 0.7).sin() * 3e3 + (i % 13) as f64 * 211.0).collect()
    }

    #[test]
    fn score_is_of_the_window_before_the_value() {
        let values = wave(1000);
        for count in [8, 30, 31, 59, 60, 61, 500, 1000] {
            let score = filled(30, &values[..count]).score(1e6).unwrap();
            let (mean, deviation) = exact(&values[..count], 30);
            assert!((score.expected - mean).abs() < 1e-6, "after {count}: {score:?}, mean {mean}");
            assert!((score.scale - deviation.max(mean * 1e-3)).abs() < 1e-6, "after {count}: {score:?}, {deviation}");
            assert_eq!(score.z, (1e6 - score.expected) / score.scale);
        }
    }

    #[test]
    fn what_is_surely_within_scores_within() {
        let values = wave(2000);
        let mut rolling = RollingZ::new(30);
        let mut sure = 0;
        for (at, &value) in values.iter().enumerate() {
            let value = if at % 17 == 0 { value * (1.0 + at as f64 * 1e-6) } else { value };
            for threshold in [0.1, 1.0, 3.0] {
                if rolling.is_surely_within(value, threshold) {
                    sure += 1;
                    assert!(rolling.score(value).unwrap().z.abs() < threshold, "at {at}, {threshold}");
                }
            }
            assert!(!rolling.is_surely_within(f64::NAN, 3.0) && !rolling.is_surely_within(f64::INFINITY, 3.0));
            rolling.push(value);
        }
        assert!(sure > 2000, "{sure}");
    }

    #[test]
    fn young_windows_do_not_score() {
        for (window, needed) in [(2, 2), (4, 4), (20, 8), (100, 25), (1000, 60)] {
            let values = wave(needed);
            assert_eq!(filled(window, &values[..needed - 1]).score(1.0), None, "window {window}");
            assert!(filled(window, &values).score(1.0).is_some(), "window {window}");
        }
    }

    #[test]
    fn flat_windows_score_finitely() {
        assert_eq!(filled(10, &[1e300, -1e300].repeat(9)).score(1.0), None, "no square of it is finite");
        for (level, value, z) in [(0.0, 1.0, 1e9), (0.0, -1e300, -1e9), (5.0, 5.0, 0.0), (100.0, 100.05, 0.5)] {
            let score = filled(10, &[level; 25]).score(value).unwrap();
            assert!((score.z - z).abs() <= z.abs() * 1e-6, "{value} at {level}: {score:?}, not {z}");
        }
    }

    #[test]
    fn a_spike_that_left_leaves_no_trace() {
        let mut values = vec![1.0; 15];
        values[5] = 1e12;
        values.extend([1.25, 1.0]);
        for at in 0..8 {
            values.push(1.0 + f64::from(at % 2) * 0.25);
            let (mean, deviation) = exact(&values, 10);
            let score = filled(10, &values).score(0.0).unwrap();
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
            assert!(close(score.expected, mean) && close(score.scale, deviation), "{at}: {score:?} {mean} {deviation}");
        }
    }

    #[test]
    fn values_that_are_not_finite_change_nothing() {
        let mut rolling = filled(10, &wave(15));
        let before = rolling.clone();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(rolling.score(value), None);
            rolling.push(value);
        }
        assert_eq!(rolling, before);
    }

    #[test]
    fn a_decoded_window_goes_on_bit_for_bit() {
        let values = wave(200);
        for count in [0, 3, 20, 33, 60] {
            let mut original = filled(20, &values[..count]);
            let mut bytes = vec![];
            original.encode(&mut bytes);
            bytes.push(42);
            let mut rest = &bytes[..];
            let mut copy = RollingZ::decode(&mut rest).unwrap();
            assert_eq!(rest, [42], "takes its own bytes and no more");
            for &value in &values[count..] {
                original.push(value);
                copy.push(value);
                assert_eq!(original.score(7.0), copy.score(7.0));
            }
        }
    }

    #[test]
    fn damaged_bytes_hold_no_window() {
        let mut bytes = vec![];
        filled(20, &wave(33)).encode(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(RollingZ::decode(&mut &bytes[..length]), None, "cut to {length}");
        }
        bytes[8] = 20;
        assert_eq!(RollingZ::decode(&mut &bytes[..]), None, "head outside the window");
    }

    #[test]
    fn the_ring_never_holds_more_room_than_its_window() {
        assert!(filled(100, &wave(5)).ring.capacity() <= 8);
        assert_eq!(filled(100, &wave(500)).ring.capacity(), 100);
    }
}
