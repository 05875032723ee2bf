//! What a point with delta temporality adds to: a number, or a histogram of either kind.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use foldhash::quality::FixedState;

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, HistogramDataPoint};

use crate::ingest::distribution::BUCKETS_MAX;
use crate::ingest::{Distribution, Exponential};

/// Scales of exponential histograms: coarser ones hold all doubles in a bucket or two, finer ones tell none apart.
const SCALES: RangeInclusive<i32> = -10..=20;
/// Buckets on one side of zero that a sum of exponential histograms keeps: then its scale goes down.
const KEPT: usize = 320;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Total {
    Number(f64),
    Explicit(Box<ExplicitTotal>),
    Exponential(Box<ExponentialTotal>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExplicitTotal {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    count: u64,
    sum: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExponentialTotal {
    scale: i32,
    threshold: f64,
    zero: u64,
    /// By index.
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    count: u64,
    sum: Option<f64>,
}

impl Total {
    /// # Errors
    /// A sentence, where the point is no histogram.
    pub fn explicit(point: &HistogramDataPoint) -> Result<Self, String> {
        let HistogramDataPoint { explicit_bounds: bounds, bucket_counts: counts, .. } = point;
        if counts.len() > BUCKETS_MAX {
            return Err(format!("a histogram of {} buckets: send at most {BUCKETS_MAX}", counts.len()));
        }
        let total =
            ExplicitTotal { bounds: bounds.clone(), counts: counts.clone(), count: point.count, sum: point.sum };
        let fits = total.distribution().is_some();
        let told = || {
            let (bounds, counts) = (bounds.len(), counts.len());
            format!("{bounds} bounds and {counts} buckets: send ascending bounds, and one bucket more than bounds")
        };
        fits.then(|| Total::Explicit(Box::new(total))).ok_or_else(told)
    }

    /// # Errors
    /// A sentence, where the point is no histogram.
    pub fn exponential(point: &ExponentialHistogramDataPoint) -> Result<Self, String> {
        let filled = |side: &Option<Buckets>| {
            side.as_ref().map_or(0, |side| side.bucket_counts.iter().filter(|&&count| count > 0).count())
        };
        let buckets = filled(&point.positive) + filled(&point.negative);
        if buckets > BUCKETS_MAX {
            return Err(format!("a histogram of {buckets} buckets: send at most {BUCKETS_MAX}"));
        }
        if !SCALES.contains(&point.scale) {
            return Err(format!("a scale of {}: send {} to {}", point.scale, SCALES.start(), SCALES.end()));
        }
        let threshold = point.zero_threshold;
        if !threshold.is_finite() || threshold < 0.0 {
            return Err(format!("a zero threshold of {threshold}: send 0 or more"));
        }
        Ok(Total::Exponential(Box::new(ExponentialTotal {
            scale: point.scale,
            threshold,
            zero: point.zero_count,
            positive: side(point.positive.as_ref()),
            negative: side(point.negative.as_ref()),
            count: point.count,
            sum: point.sum,
        })))
    }

    /// Adds what came since. Of another kind, with other bounds, or too large for a number, it begins anew with that.
    pub fn add(&mut self, delta: Total) {
        match (self, delta) {
            (Total::Number(total), Total::Number(delta)) if (*total + delta).is_finite() => *total += delta,
            (Total::Explicit(total), Total::Explicit(delta)) if total.bounds == delta.bounds => total.add(&delta),
            (Total::Exponential(total), Total::Exponential(delta)) => total.add(*delta),
            (total, delta) => *total = delta,
        }
    }

    /// The same, but where it `is_full` only if it takes no more memory then; whether it was added.
    pub fn add_within(&mut self, delta: Total, is_full: bool) -> bool {
        if !is_full {
            self.add(delta);
            return true;
        }
        let mut sum = self.clone();
        sum.add(delta);
        let fits = sum.heap() <= self.heap();
        if fits {
            *self = sum;
        }
        fits
    }

    /// Bytes of memory beside itself.
    pub fn heap(&self) -> usize {
        match self {
            Total::Number(_) => 0,
            Total::Explicit(total) => size_of::<ExplicitTotal>() + 8 * (total.bounds.len() + total.counts.len()),
            Total::Exponential(total) => {
                let sides = [&total.positive, &total.negative];
                size_of::<ExponentialTotal>() + sides.map(tree_bytes).iter().sum::<usize>()
            }
        }
    }

    /// The same for the same values, and hardly ever for others.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        match self {
            Total::Number(number) => (0, number.to_bits()).hash(&mut hasher),
            Total::Explicit(total) => {
                total.bounds.iter().for_each(|bound| bound.to_bits().hash(&mut hasher));
                (1, &total.counts, total.count, total.sum.map(f64::to_bits)).hash(&mut hasher);
            }
            Total::Exponential(total) => {
                (2, &total.positive, &total.negative, total.scale, total.threshold.to_bits()).hash(&mut hasher);
                (total.zero, total.count, total.sum.map(f64::to_bits)).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    pub fn number(&self) -> Option<f64> {
        if let Total::Number(number) = self { Some(*number) } else { None }
    }

    /// `None` for a number.
    pub fn distribution(&self) -> Option<Distribution> {
        match self {
            Total::Number(_) => None,
            Total::Explicit(total) => total.distribution(),
            Total::Exponential(total) => Some(total.distribution()),
        }
    }
}

impl ExplicitTotal {
    fn add(&mut self, delta: &ExplicitTotal) {
        for (count, more) in self.counts.iter_mut().zip(&delta.counts) {
            *count = count.saturating_add(*more);
        }
        self.count = self.count.saturating_add(delta.count);
        self.sum = self.sum.zip(delta.sum).map(|(sum, more)| sum + more);
    }

    fn distribution(&self) -> Option<Distribution> {
        let counts: Vec<f64> = self.counts.iter().map(|&count| count as f64).collect();
        Some(Distribution::explicit(&self.bounds, &counts, self.sum)?.with_count(self.count as f64))
    }
}

impl ExponentialTotal {
    fn add(&mut self, mut delta: ExponentialTotal) {
        let scale = self.scale.min(delta.scale);
        self.coarsen(scale);
        delta.coarsen(scale);
        merge(&mut self.positive, delta.positive);
        merge(&mut self.negative, delta.negative);
        while self.positive.len().max(self.negative.len()) > KEPT {
            self.coarsen(self.scale.saturating_sub(1));
        }
        // Buckets that a wider threshold covers stay where they are: their values are as near as they were.
        self.threshold = self.threshold.max(delta.threshold);
        self.zero = self.zero.saturating_add(delta.zero);
        self.count = self.count.saturating_add(delta.count);
        self.sum = self.sum.zip(delta.sum).map(|(sum, more)| sum + more);
    }

    /// Each step down joins two neighbours.
    fn coarsen(&mut self, scale: i32) {
        let shift = self.scale.saturating_sub(scale).clamp(0, 31);
        if shift == 0 {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            let fine = std::mem::take(side);
            merge(side, fine.into_iter().map(|(index, count)| (index >> shift, count)));
        }
        self.scale = scale;
    }

    fn distribution(&self) -> Distribution {
        let side = |side: &BTreeMap<i32, u64>| -> Vec<Exponential> {
            side.iter().map(|(&index, &count)| Exponential { index, count: count as f64 }).collect()
        };
        let zero = (self.threshold, self.zero as f64);
        let all = Distribution::exponential(self.scale, zero, &side(&self.positive), &side(&self.negative), self.sum);
        all.with_count(self.count as f64)
    }
}

/// A node of the tree has room for eleven, and is half full at worst.
fn tree_bytes(side: &BTreeMap<i32, u64>) -> usize {
    if side.is_empty() { 0 } else { 24 * side.len().max(7) }
}

fn merge(into: &mut BTreeMap<i32, u64>, more: impl IntoIterator<Item = (i32, u64)>) {
    for (index, count) in more {
        let sum = into.entry(index).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// The buckets that hold something.
fn side(buckets: Option<&Buckets>) -> BTreeMap<i32, u64> {
    let Some(Buckets { offset, bucket_counts }) = buckets else { return BTreeMap::new() };
    let indexes = (0_i32..).map(|at| offset.saturating_add(at));
    indexes.zip(bucket_counts).filter(|(_, count)| **count > 0).map(|(index, &count)| (index, count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Total {
        let point = ExponentialHistogramDataPoint {
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..ExponentialHistogramDataPoint::default()
        };
        Total::exponential(&point).unwrap()
    }

    fn explicit(bounds: &[f64], counts: &[u64]) -> Result<Total, String> {
        Total::explicit(&HistogramDataPoint {
            explicit_bounds: bounds.to_vec(),
            bucket_counts: counts.to_vec(),
            count: counts.iter().sum(),
            sum: Some(2.0),
            ..HistogramDataPoint::default()
        })
    }

    #[test]
    fn exponential_sums_take_the_coarser_scale() {
        // Buckets 4..8 of scale 2 (2 to 4) are buckets 1 of scale 0.
        let mut total = exponential(2, 4, &[1, 2, 3, 4]);
        total.add(exponential(0, 0, &[5, 6]));
        assert_eq!(total, {
            let mut wanted = exponential(0, 0, &[5, 16]);
            let Total::Exponential(inner) = &mut wanted else { unreachable!() };
            inner.sum = Some(2.0);
            wanted
        });
        let mut total = exponential(0, -3, &[1]);
        total.add(exponential(1, -7, &[2, 0, 3]));
        // Indexes -7 and -5 of scale 1 are -4 and -3 of scale 0.
        let Total::Exponential(inner) = total else { unreachable!() };
        assert_eq!(inner.positive.into_iter().collect::<Vec<_>>(), [(-4, 2), (-3, 4)]);
    }

    #[test]
    fn exponential_sums_stay_small() {
        let mut total = exponential(20, 0, &[1; 1000]);
        for far in 1..200 {
            total.add(exponential(20, far * 1000, &[1; 1000]));
        }
        assert!(total.heap() < 24 * KEPT + 200, "{}", total.heap());
        let Total::Exponential(inner) = &total else { unreachable!() };
        assert_eq!((inner.positive.values().sum::<u64>(), inner.count), (200_000, 200_000));
    }

    #[test]
    fn the_coarsest_and_widest_sums_come_to_an_end() {
        let mut total = exponential(-10, i32::MIN, &[1; 1000]);
        total.add(exponential(-10, i32::MAX - 2000, &[1; 1000]));
        total.add(exponential(-10, -500, &[1; 1000]));
        let Total::Exponential(inner) = &total else { unreachable!() };
        assert_eq!(inner.positive.values().sum::<u64>(), 3000);
        assert!(inner.positive.len() <= KEPT && total.heap() < 24 * KEPT + 200);
    }

    #[test]
    fn fingerprints_tell_values_apart() {
        let all = [
            Total::Number(1.0),
            Total::Number(2.0),
            explicit(&[1.0], &[1, 2]).unwrap(),
            explicit(&[2.0], &[1, 2]).unwrap(),
            explicit(&[1.0], &[2, 1]).unwrap(),
            exponential(2, 4, &[1, 2]),
            exponential(2, 5, &[1, 2]),
            exponential(1, 4, &[1, 2]),
        ];
        let prints: std::collections::BTreeSet<u64> = all.iter().map(Total::fingerprint).collect();
        assert_eq!(prints.len(), all.len());
        assert_eq!(all[5].fingerprint(), exponential(2, 4, &[1, 2]).fingerprint());
    }

    #[test]
    fn explicit_sums_begin_anew_with_other_bounds() {
        let mut total = explicit(&[1.0], &[1, 2]).unwrap();
        total.add(explicit(&[1.0], &[10, 20]).unwrap());
        let Total::Explicit(inner) = &total else { unreachable!() };
        assert_eq!((&inner.counts[..], inner.count, inner.sum), (&[11, 22][..], 33, Some(4.0)));
        total.add(explicit(&[2.0], &[1, 1]).unwrap());
        assert_eq!(total, explicit(&[2.0], &[1, 1]).unwrap());
    }

    #[test]
    fn numbers_beyond_all_bounds_begin_anew() {
        let mut total = Total::Number(f64::MAX);
        total.add(Total::Number(f64::MAX / 2.0));
        assert_eq!(total, Total::Number(f64::MAX / 2.0));
    }

    #[test]
    fn what_is_no_histogram_is_told() {
        for (bounds, counts) in
            [(&[1.0, 1.0][..], &[1, 1, 1][..]), (&[1.0], &[1]), (&[1.0], &[]), (&[f64::NAN], &[1, 1])]
        {
            assert!(explicit(bounds, counts).unwrap_err().contains("send ascending bounds"), "{bounds:?} {counts:?}");
        }
        assert!(explicit(&[], &[]).is_ok());
        let many = ExponentialHistogramDataPoint {
            positive: Some(Buckets { offset: i32::MAX, bucket_counts: vec![1; BUCKETS_MAX + 1] }),
            ..ExponentialHistogramDataPoint::default()
        };
        assert!(Total::exponential(&many).unwrap_err().contains("send at most 2000"));
        for scale in [i32::MIN, -11, 21, i32::MAX] {
            let point = ExponentialHistogramDataPoint { scale, ..ExponentialHistogramDataPoint::default() };
            assert!(Total::exponential(&point).unwrap_err().contains("send -10 to 20"), "{scale}");
        }
        let below = ExponentialHistogramDataPoint { zero_threshold: -1.0, ..ExponentialHistogramDataPoint::default() };
        assert!(Total::exponential(&below).unwrap_err().contains("zero threshold of -1"));
    }
}
