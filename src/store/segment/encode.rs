//! How values and times are kept: the choice is made from the data, a series (values) or a file (times) at a time.

use serde::{Deserialize, Serialize};

use crate::model::Sample;

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
    match POWERS.get(scale as usize) {
        None | Some(&1.0) => out.extend(unscaled.iter().map(|&whole| whole as f64)),
        Some(&power) => out.extend(unscaled.iter().map(|&whole| whole as f64 / power)),
    }
}

/// Appends the values as integers at the smallest scale that loses no bit of any, and says which; appends nothing
/// where there is none.
pub(super) fn scaled(samples: &[Sample], out: &mut Vec<i64>) -> Option<u8> {
    let mut scale = 0;
    for sample in samples {
        while unscale(sample.value, scale).is_none() {
            scale += 1;
            if scale == POWERS.len() {
                return None;
            }
        }
    }
    let start = out.len();
    for sample in samples {
        match unscale(sample.value, scale) {
            Some(whole) => out.push(whole),
            // A value exact at a smaller scale can leave the exact range at a larger one.
            None => {
                out.truncate(start);
                return None;
            }
        }
    }
    Some(scale as u8)
}

/// Unit of a file's times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(in crate::store) enum TimeUnit {
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

    /// The coarsest unit, from this one on, that loses nothing of the samples' times.
    pub fn fit(self, samples: &[Sample]) -> TimeUnit {
        let mut unit = self;
        for sample in samples {
            unit = match unit {
                TimeUnit::Millis if sample.time.nanos() % 1_000_000 != 0 => TimeUnit::Micros,
                same => same,
            };
            if unit == TimeUnit::Micros && sample.time.nanos() % 1_000 != 0 {
                return TimeUnit::Nanos;
            }
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn samples(values: &[f64]) -> Vec<Sample> {
        values.iter().map(|&value| Sample { time: Timestamp::from_nanos(0), value }).collect()
    }

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
            assert_eq!(scaled(&samples(values), &mut whole), scale, "{values:?}");
            let mut back = Vec::new();
            rescale(&whole, scale.unwrap_or(0), &mut back);
            assert_eq!(back, if scale.is_some() { values.to_vec() } else { vec![] });
        }
    }

    #[test]
    fn the_coarsest_unit_that_loses_nothing() {
        let at = |nanos| vec![Sample { time: Timestamp::from_nanos(nanos), value: 0.0 }];
        assert_eq!(TimeUnit::Millis.fit(&at(5_000_000)), TimeUnit::Millis);
        assert_eq!(TimeUnit::Millis.fit(&at(5_001_000)), TimeUnit::Micros);
        assert_eq!(TimeUnit::Millis.fit(&at(-1)), TimeUnit::Nanos);
        assert_eq!(TimeUnit::Nanos.fit(&at(0)), TimeUnit::Nanos);
    }
}
