//! `sample`: a part of the samples, or of the series, drawn by a hash of what they are: on every run and every machine
//! the same.

use serde::Deserialize;

use super::choose::Choose;
use crate::model::{Sample, SeriesDef};

/// What is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Draw {
    /// Each sample of each series, by its time.
    #[default]
    Time,
    /// Whole series.
    Series,
}

/// `apply.sample`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleSpec {
    /// The part that goes on, over 0 up to 1.
    pub keep: f64,
    #[serde(default)]
    pub by: Draw,
}

impl SampleSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let possible = self.keep > 0.0 && self.keep <= 1.0;
        (!possible).then(|| format!("keep = {} cannot be: write a number over 0 up to 1, as in 0.1", self.keep))
    }
}

impl Choose for SampleSpec {
    fn series(&self, def: &SeriesDef) -> u64 {
        def.identity().iter().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
    }

    #[inline]
    fn sample(&self, known: u64, sample: Sample) -> Result<(), &'static str> {
        let hash = match self.by {
            Draw::Time => mixed(mixed(known) ^ sample.time.nanos().cast_unsigned()),
            Draw::Series => mixed(known),
        };
        // The upper 53 bits are a number from 0 to 1 that a double holds exactly.
        let drawn = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        if drawn < self.keep { Ok(()) } else { Err("not drawn") }
    }

    fn parts_series(&self) -> bool {
        self.by == Draw::Time
    }
}

/// FNV-1a, written out so that it stays the same whatever library comes or goes.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The last step of SplitMix64: every bit depends on all.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Timestamp};
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, spec};

    fn sample(second: i64) -> Sample {
        Sample { time: Timestamp::from_nanos(second * 1_000_000_000), value: 0.0 }
    }

    #[test]
    fn about_the_part_asked_for_is_drawn() {
        let series = |n: u32| SeriesDef::new("cpu", Labels::new([("host", n.to_string())]));
        for keep in [0.01, 0.1, 0.5, 1.0] {
            let by_time = SampleSpec { keep, by: Draw::Time };
            let known = by_time.series(&series(1));
            let drawn = (0..20_000).filter(|&second| by_time.sample(known, sample(second)).is_ok()).count();
            assert!((drawn as f64 / 20_000.0 - keep).abs() < 0.01, "{drawn} by time of {keep}");
            let by_series = SampleSpec { keep, by: Draw::Series };
            let drawn = (0..20_000).filter(|&n| by_series.sample(by_series.series(&series(n)), sample(1)).is_ok());
            let drawn = drawn.count();
            assert!((drawn as f64 / 20_000.0 - keep).abs() < 0.01, "{drawn} by series of {keep}");
        }
    }

    #[test]
    fn the_same_is_drawn_everywhere() {
        let spec = SampleSpec { keep: 0.3, by: Draw::Time };
        let known = spec.series(&SeriesDef::new("cpu", Labels::new([("host", "a")])));
        let drawn: Vec<i64> = (0..20).filter(|&second| spec.sample(known, sample(second)).is_ok()).collect();
        assert_eq!((known, drawn), (11_651_673_616_221_787_109, vec![0, 1, 4, 9, 11, 14, 19]));
    }

    #[test]
    fn what_is_not_drawn_is_counted() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Sample(spec("keep = 0.5\nby = 'series'")), None);
        let names: Vec<String> = (0..100).map(|n| format!("m{{n={n}}}")).collect();
        let samples: Vec<(&str, i64, f64)> = names.iter().map(|name| (&**name, 1, 1.0)).collect();
        run.batch(&samples);
        let passed = run.told()[0].split(' ').count() - 1;
        assert_eq!(run.dropped().values().sum::<u64>() as usize + passed, 100);
        assert!(spec::<SampleSpec>("keep = 0.0").fault().unwrap().contains("keep = 0 cannot be"));
    }
}
