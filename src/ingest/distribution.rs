//! A distribution that came as one sample: what is stored of it.
//!
//! ```text
//! NAME_bucket{le="0.5"}  how many were at most 0.5 …  NAME_count  NAME_sum      samples, as Prometheus has them
//! NAME                   count, sum and a percentile sketch                     a row of `histograms`
//! ```
//!
//! An exponential histogram has up to some hundred narrow buckets that come and go. The bucket series are made of at most
//! four a doubling ([`SERIES_SCALE`]), so that they stay few and their bounds the same; the sketch has them all.

use super::gather::{About, Gather};
use crate::flow::Refusal;
use crate::model::{Kind, Timestamp};
use crate::stats::Sketch;

/// Buckets that are taken of a histogram: clients send up to 160 or so.
pub(super) const BUCKETS_MAX: usize = 2000;
/// Buckets a doubling of bucket series, as a power of two.
const SERIES_SCALE: i32 = 2;
/// A bucket wider than this share of its bound is spread over several bins of the sketch.
const NARROW: f64 = 1.03;
/// Parts over which a wide bucket is spread, as a power of two.
const SPREAD_BITS: u32 = 5;

/// How many values lay in a range: above `lower`, at most `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub count: f64,
}

/// Buckets in ascending order, and what is known of all values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    buckets: Vec<Bucket>,
    /// Upper bounds of the bucket series, ascending; the last bucket, up to infinity, is not among them.
    bounds: Vec<f64>,
    count: f64,
    sum: Option<f64>,
}

/// Buckets of an exponential histogram on one side of zero: the one of `index` holds what is above base^index and at most
/// base^(index + 1), base being 2^(2^-scale).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exponential {
    pub index: i32,
    pub count: f64,
}

impl Distribution {
    /// One with bounds as they were chosen, ascending: `counts` has one more, for what is above the last. `None` where
    /// bounds do not ascend or the lengths do not fit.
    pub fn explicit(bounds: &[f64], counts: &[f64], sum: Option<f64>) -> Option<Self> {
        let ascend = bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| !bound.is_nan());
        if !ascend || (counts.len() != bounds.len() + 1 && !(counts.is_empty() && bounds.is_empty())) {
            return None;
        }
        let lowers = std::iter::once(f64::NEG_INFINITY).chain(bounds.iter().copied());
        let uppers = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = lowers.zip(uppers).zip(counts).map(|((lower, upper), &count)| Bucket { lower, upper, count });
        let finite = bounds.iter().copied().filter(|bound| bound.is_finite()).collect();
        Some(Distribution { buckets: buckets.collect(), bounds: finite, count: counts.iter().sum(), sum })
    }

    /// One whose bounds are powers of 2^(2^-scale), `zero` values within `threshold` of zero. The sides in any order.
    pub fn exponential(
        scale: i32,
        (threshold, zero): (f64, f64),
        positive: &[Exponential],
        negative: &[Exponential],
        sum: Option<f64>,
    ) -> Self {
        let side = |side: &[Exponential], sign: f64| {
            let bucket = |one: &Exponential| {
                let (low, high) = (power(one.index, scale), power(one.index.saturating_add(1), scale));
                let (lower, upper) = if sign > 0.0 { (low, high) } else { (-high, -low) };
                Bucket { lower, upper, count: one.count }
            };
            side.iter().filter(|one| one.count > 0.0).map(bucket).collect::<Vec<_>>()
        };
        let mut buckets = side(negative, -1.0);
        buckets.extend(side(positive, 1.0));
        if zero > 0.0 {
            buckets.push(Bucket { lower: -threshold, upper: threshold, count: zero });
        }
        buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
        let count = buckets.iter().map(|bucket| bucket.count).sum();
        let mut bounds: Vec<f64> =
            positive.iter().filter(|one| one.count > 0.0).map(|one| rough_upper(one, scale)).collect();
        // Of a negative bucket the bound nearer to zero is the upper one.
        bounds.extend(negative.iter().filter(|one| one.count > 0.0).map(|one| -rough_lower(one, scale)));
        bounds.extend((zero > 0.0).then_some(threshold));
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        Distribution { buckets, bounds, count, sum }
    }

    /// With the count that came with it, where that is other than the buckets' together.
    pub fn with_count(mut self, count: f64) -> Self {
        self.count = count;
        self
    }

    pub fn count(&self) -> f64 {
        self.count
    }

    /// Each bound, and how many values were at most that, by whole buckets.
    fn at_most(&self) -> impl Iterator<Item = (f64, f64)> {
        let (mut buckets, mut count) = (self.buckets.iter().peekable(), 0.0);
        self.bounds.iter().map(move |&bound| {
            // Bounds of narrow buckets are computed to the last bit but one.
            let wide = bound + bound.abs() * 1e-12;
            while let Some(bucket) = buckets.next_if(|bucket| bucket.upper <= wide) {
                count += bucket.count;
            }
            (bound, count)
        })
    }

    /// The percentile sketch of it: values of a wide bucket are taken as spread evenly, those without a bound as at the
    /// bound they have.
    pub fn sketch(&self) -> Sketch {
        let (mut sketch, mut seen, mut counted) = (Sketch::new(), 0.0, 0);
        for bucket in &self.buckets {
            seen += bucket.count;
            // Counts need not be whole: what is rounded off goes to the next.
            let count = (seen.round() as u64).saturating_sub(counted);
            counted += count;
            bucket.add_to(&mut sketch, count);
        }
        sketch
    }

    /// Hands on the samples and the row.
    ///
    /// # Errors
    /// As [`Gather::sample_about`].
    pub fn gather(
        &self,
        line: u64,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
        time: Timestamp,
        gather: &mut Gather<'_>,
    ) -> Result<(), Refusal> {
        let counter = |unit| About { kind: about.kind.or(Some(Kind::Counter)), unit, help: about.help };
        let name = format!("{metric}_bucket");
        let last = [("+Inf".to_owned(), self.count)];
        let buckets = self.at_most().map(|(bound, count)| (number_text(bound), count));
        for (bound, count) in buckets.chain(last) {
            let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            gather.sample_about(line, &name, &with_bound, counter(""), time, count)?;
        }
        gather.sample_about(line, &format!("{metric}_count"), labels, counter(""), time, self.count)?;
        if let Some(sum) = self.sum.filter(|sum| sum.is_finite()) {
            gather.sample_about(line, &format!("{metric}_sum"), labels, counter(about.unit), time, sum)?;
        }
        let mut sketch = Vec::new();
        self.sketch().encode(&mut sketch);
        gather.histogram(line, metric, labels, about, time, self.count, self.sum.unwrap_or(f64::NAN), sketch)
    }
}

impl Bucket {
    fn add_to(&self, sketch: &mut Sketch, count: u64) {
        let (lower, upper) = match (self.lower.is_finite(), self.upper.is_finite()) {
            (true, true) => (self.lower, self.upper),
            (true, false) => (self.lower, self.lower),
            // Durations and sizes begin at zero.
            (false, true) => (self.upper.min(0.0), self.upper),
            (false, false) => return sketch.add_many(0.0, count),
        };
        let ratio = (upper / lower).abs();
        let is_narrow = upper == lower || (lower * upper > 0.0 && (1.0 / NARROW..=NARROW).contains(&ratio));
        if is_narrow {
            return sketch.add_many(middle(lower, upper), count);
        }
        // A value more makes one part larger and none smaller, so that of two sketches the difference can be taken: the
        // parts are filled in turn, in an order that spreads few evenly, too.
        let parts = 1_u64 << SPREAD_BITS;
        for turn in 0..parts {
            let part = (turn as u32).reverse_bits() >> (u32::BITS - SPREAD_BITS);
            let share = count / parts + u64::from(turn < count % parts);
            sketch.add_many(lower + (upper - lower) * (f64::from(part) + 0.5) / parts as f64, share);
        }
    }
}

/// A number as `le` and `quantile` have it, the way Go's clients write it: the shortest text that gives it again, from
/// 1e+06 on and below 1e-04 with an exponent.
pub(super) fn number_text(number: f64) -> String {
    // Zero has no sign.
    let number = number + 0.0;
    let text = format!("{number:e}");
    match text.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

/// Of two bounds of one sign, as far from one as from the other relative to themselves.
fn middle(lower: f64, upper: f64) -> f64 {
    if lower == upper { lower } else { (lower * upper).sqrt().copysign(lower) }
}

/// 2^(index · 2^-scale).
fn power(index: i32, scale: i32) -> f64 {
    (f64::from(index) * f64::from(scale.saturating_neg()).exp2()).exp2()
}

/// The bound of a bucket series at or above the bucket's upper one: the same to the last bit on every machine, since it
/// names a series.
fn rough_upper(one: &Exponential, scale: i32) -> f64 {
    let shift = (scale.saturating_sub(SERIES_SCALE)).clamp(0, 31);
    rough((one.index >> shift).saturating_add(1), scale.min(SERIES_SCALE))
}

/// The same at or below the bucket's lower one.
fn rough_lower(one: &Exponential, scale: i32) -> f64 {
    let shift = (scale.saturating_sub(SERIES_SCALE)).clamp(0, 31);
    rough(one.index >> shift, scale.min(SERIES_SCALE))
}

/// 2^(index · 2^-scale) for scales up to [`SERIES_SCALE`], by multiplication with a power of two alone.
fn rough(index: i32, scale: i32) -> f64 {
    const QUARTERS: [f64; 4] = [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];
    let quarters = i64::from(index) << (SERIES_SCALE.saturating_sub(scale)).clamp(0, 20);
    let octave = i32::try_from(quarters.div_euclid(4)).unwrap_or(i32::MAX);
    QUARTERS[quarters.rem_euclid(4) as usize] * 2.0_f64.powi(octave.clamp(-1074, 1025))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::gather::testing::{Recorder, all_times};

    fn gathered(distribution: &Distribution) -> (Vec<(String, f64)>, usize) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let labels = [("host", "a")];
        distribution.gather(1, "m", &labels, About::default(), Timestamp::from_millis(5), &mut gather).unwrap();
        gather.flush().unwrap();
        assert_eq!(gather.faults.count, 0, "{:?}", gather.faults.first);
        let samples = recorder.samples().into_iter().map(|(series, _, value)| (series, value)).collect();
        let rows = recorder.batches.lock().unwrap().iter().map(|batch| batch.rows.len()).sum();
        (samples, rows)
    }

    #[test]
    fn explicit_buckets_become_series_that_add_up() {
        let distribution = Distribution::explicit(&[0.1, 1.0], &[3.0, 4.0, 1.0], Some(5.5)).unwrap();
        let (samples, rows) = gathered(&distribution);
        let wanted = [
            (r#"m_bucket{host="a",le="0.1"}"#, 3.0),
            (r#"m_bucket{host="a",le="1"}"#, 7.0),
            (r#"m_bucket{host="a",le="+Inf"}"#, 8.0),
            (r#"m_count{host="a"}"#, 8.0),
            (r#"m_sum{host="a"}"#, 5.5),
        ];
        assert_eq!(samples, wanted.map(|(series, value)| (series.to_owned(), value)));
        assert_eq!(rows, 1);
        let sketch = distribution.sketch();
        assert_eq!(sketch.count(), 8);
        let median = sketch.quantile(0.5).unwrap();
        assert!((0.1..0.6).contains(&median), "{median}");
        assert!((sketch.quantile(1.0).unwrap() - 1.0).abs() < 0.02);
    }

    #[test]
    fn bounds_that_do_not_ascend_are_no_distribution() {
        assert!(Distribution::explicit(&[1.0, 1.0], &[1.0, 1.0, 1.0], None).is_none());
        assert!(Distribution::explicit(&[f64::NAN], &[1.0, 1.0], None).is_none());
        assert!(Distribution::explicit(&[1.0], &[1.0], None).is_none());
        assert!(Distribution::explicit(&[], &[], None).is_some());
    }

    #[test]
    fn exponential_buckets_keep_their_percentiles_and_few_series() {
        // 1,000 values from 1 to 2 at scale 8: 256 buckets of one doubling.
        let base = |index: i32| (f64::from(index) / 256.0).exp2();
        let positive: Vec<Exponential> = (0..256)
            .map(|index| Exponential { index, count: (1000.0 * (base(index + 1) - base(index))).round() })
            .collect();
        let negative = [Exponential { index: -256, count: 10.0 }];
        let distribution = Distribution::exponential(8, (0.0, 5.0), &positive, &negative, Some(1.0));
        let sketch = distribution.sketch();
        assert!((sketch.quantile(0.9).unwrap() / 1.9 - 1.0).abs() < 0.02, "{:?}", sketch.quantile(0.9));
        assert!((sketch.quantile(0.001).unwrap() / -0.5 - 1.0).abs() < 0.02);
        let (samples, _) = gathered(&distribution);
        let bounds: Vec<&str> =
            samples.iter().filter_map(|(series, _)| series.split("le=\"").nth(1)?.strip_suffix("\"}")).collect();
        assert_eq!(bounds, ["-0.5", "0", "1.189207115002721", "1.4142135623730951", "1.681792830507429", "2", "+Inf"]);
        let counts: Vec<f64> = samples[..bounds.len()].iter().map(|(_, count)| *count).collect();
        assert!(counts.is_sorted() && counts[0] == 10.0 && counts[1] == 15.0, "{counts:?}");
        assert_eq!(counts[5], counts[6]);
        let halves = counts[3] - counts[1];
        assert!((halves / 414.2 - 1.0).abs() < 0.05, "{halves}");
    }

    #[test]
    fn what_was_counted_between_two_sketches_is_their_difference() {
        let (mut last, mut observed) = (Sketch::new(), 0);
        for count in [1.0, 2.0, 3.0, 31.0, 32.0, 33.0, 100.0, 1e6] {
            let sketch = Distribution::explicit(&[1.0, 10.0], &[0.0, count, 5.0], None).unwrap().sketch();
            let more = sketch.minus(&last);
            observed += more.count();
            assert_eq!(observed, count as u64 + 5, "each value counts once");
            last = sketch;
        }
        let few = Distribution::explicit(&[1.0, 9.0], &[0.0, 2.0, 0.0], None).unwrap().sketch();
        let (low, high) = (few.quantile(0.0).unwrap(), few.quantile(1.0).unwrap());
        assert!((1.0..2.0).contains(&low) && (5.0..6.0).contains(&high), "{low} {high}");
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let table = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1.5e-6, "1.5e-06"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (-123_456_789.0, "-1.23456789e+08"),
            (1e300, "1e+300"),
            (1e-128, "1e-128"),
        ];
        for (number, text) in table {
            assert_eq!(number_text(number), text);
        }
    }

    #[test]
    fn many_buckets_are_added_up_once() {
        let bounds: Vec<f64> = (0..200_000).map(f64::from).collect();
        let distribution = Distribution::explicit(&bounds, &vec![1.0; bounds.len() + 1], None).unwrap();
        // Sums from the start for each bound are 20 billion additions.
        let counts: Vec<(f64, f64)> = distribution.at_most().collect();
        assert!(counts.iter().all(|(bound, count)| *count == bound + 1.0));
    }

    #[test]
    fn no_scale_or_index_is_out_of_bounds() {
        for scale in [-11, -10, 0, 3, 8, 20, 40, i32::MAX, i32::MIN] {
            for index in [i32::MIN, -1, 0, 1, i32::MAX] {
                let one = [Exponential { index, count: 2.0 }];
                let (samples, rows) = gathered(&Distribution::exponential(scale, (1e-9, 1.0), &one, &one, None));
                assert!(samples.len() >= 2 && rows == 1, "{scale} {index}");
            }
        }
    }
}
