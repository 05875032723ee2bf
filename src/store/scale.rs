//! Exact scales of values and units of times: chosen from the data, a series (values) or a file (times) at a time.

/// Powers of ten that are exact as f64 and of use as scales.
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Integers below are exact as f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The integer whose quotient by 10^`scale` is `value`, bit for bit, if there is one.
fn unscale(value: f64, scale: usize) -> Option<i64> {
    let unscaled = (value * POWERS[scale]).round();
    let whole = unscaled as i64;
    let exact = unscaled.abs() < EXACT && (whole as f64 / POWERS[scale]).to_bits() == value.to_bits();
    exact.then_some(whole)
}

/// The number that `unscaled` at `scale` stands for: correctly rounded, since both are exact as f64.
pub(super) fn rescale(unscaled: &[i64], scale: u8, out: &mut Vec<f64>) {
    let power = POWERS.get(scale as usize).copied().unwrap_or(1.0);
    let all = unscaled.iter().fold(0, |all, &whole| all | whole.unsigned_abs());
    if all >> MAGIC_BITS > 0 {
        out.extend(unscaled.iter().map(|&whole| whole as f64 / power));
    } else if power == 1.0 {
        out.extend(unscaled.iter().map(|&whole| small_to_float(whole)));
    } else {
        out.extend(unscaled.iter().map(|&whole| small_to_float(whole) / power));
    }
}

/// Numbers of fewer bits are made floats by [`small_to_float`].
const MAGIC_BITS: u32 = 51;
/// 1.5 × 2^52: added to a small whole number it leaves the number in the lowest bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// Exact for numbers below 2^51 either way. Several at once by the simplest of vector instructions, where `as f64` is one
/// after the other.
#[inline]
fn small_to_float(whole: i64) -> f64 {
    f64::from_bits(MAGIC.to_bits().wrapping_add_signed(whole)) - MAGIC
}

/// Appends the values as integers at the smallest scale that loses no bit of any, and says which; appends nothing
/// where there is none.
pub(super) fn scaled(values: &[f64], out: &mut Vec<i64>) -> Option<u8> {
    let mut scale = 0;
    for &value in values {
        scale = (scale..POWERS.len()).find(|&scale| unscale(value, scale).is_some())?;
    }
    let start = out.len();
    for &value in values {
        // A value exact at a smaller scale can leave the exact range at a larger one.
        let Some(whole) = unscale(value, scale) else {
            out.truncate(start);
            return None;
        };
        out.push(whole);
    }
    Some(scale as u8)
}

/// The smallest scale, from `least` on, at which `value` is exact, and its integer there.
pub(super) fn scale_of(value: f64, least: u8) -> Option<(u8, i64)> {
    (usize::from(least)..POWERS.len()).find_map(|scale| Some((scale as u8, unscale(value, scale)?)))
}

/// Whether integers at scale `from` are exact at scale `to`, too.
pub(super) fn fits(whole: &[i64], from: u8, to: u8) -> bool {
    let largest = EXACT as i64 / factor(from, to);
    from == to || whole.iter().all(|n| n.abs() < largest)
}

/// Turns integers at scale `from` into those at scale `to`, which [`fits`] says is exact.
pub(super) fn upscale(whole: &mut [i64], from: u8, to: u8) {
    if from != to {
        whole.iter_mut().for_each(|n| *n *= factor(from, to));
    }
}

fn factor(from: u8, to: u8) -> i64 {
    POWERS[usize::from(to - from)] as i64
}

/// Unit of a file's times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TimeUnit {
    Millis,
    Micros,
    Nanos,
}

impl TimeUnit {
    /// Nanoseconds in it.
    pub const fn nanos(self) -> i64 {
        match self {
            TimeUnit::Millis => 1_000_000,
            TimeUnit::Micros => 1_000,
            TimeUnit::Nanos => 1,
        }
    }

    /// The coarsest unit, from this one on, that loses nothing of the times (nanoseconds since the epoch).
    pub fn fit(self, times: &[i64]) -> TimeUnit {
        let whole = |nanos: i64| times.iter().all(|time| time % nanos == 0);
        let fitting =
            [TimeUnit::Millis, TimeUnit::Micros].into_iter().find(|unit| *unit >= self && whole(unit.nanos()));
        fitting.unwrap_or(TimeUnit::Nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_scale_that_loses_no_bit() {
        let cases: [(&[f64], Option<u8>); 9] = [
            (&[1.0, -5.0, 0.0], Some(0)),
            (&[1.0, 0.25], Some(2)),
            (&[0.1, 0.2, 0.3], Some(1)),
            (&[0.1 + 0.2], None),
            (&[-0.0], None),
            (&[f64::NAN], None),
            (&[f64::INFINITY], None),
            (&[1e15, 0.1], None),
            (&[94.798, 91.958], Some(3)),
        ];
        for (values, scale) in cases {
            let mut whole = Vec::new();
            assert_eq!(scaled(values, &mut whole), scale, "{values:?}");
            let mut back = Vec::new();
            rescale(&whole, scale.unwrap_or(0), &mut back);
            assert_eq!(back, if scale.is_some() { values.to_vec() } else { vec![] });
        }
    }

    #[test]
    fn whole_numbers_of_any_size_are_floats() {
        for size in [0, 1, 5, (1 << 51) - 1, 1 << 51, (1 << 53) - 1] {
            for scale in [0, 3] {
                let mut floats = Vec::new();
                rescale(&[size, -size], scale, &mut floats);
                let power = POWERS[usize::from(scale)];
                assert_eq!(floats, [size as f64 / power, -size as f64 / power]);
                assert!(size > 0 || floats[1].is_sign_positive());
            }
        }
    }

    #[test]
    fn the_coarsest_unit_that_loses_nothing() {
        assert_eq!(TimeUnit::Millis.fit(&[5_000_000, 0]), TimeUnit::Millis);
        assert_eq!(TimeUnit::Millis.fit(&[5_000_000, 5_001_000]), TimeUnit::Micros);
        assert_eq!(TimeUnit::Millis.fit(&[-1]), TimeUnit::Nanos);
        assert_eq!(TimeUnit::Nanos.fit(&[0]), TimeUnit::Nanos);
    }
}
