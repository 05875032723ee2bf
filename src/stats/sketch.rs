//! A percentile sketch small enough to keep thousands open: sparse DDSketch of 1 % relative error.
//!
//! After Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
//! VLDB 2019. Values fall into bins whose bounds grow by a constant factor; a quantile is the middle of the bin it
//! lies in.
//!
//! Ours and not the crate `sketches-ddsketch`, because that one keeps bins densely and takes a logarithm a value:
//! measured here, 1,200 bytes for a sketch of one value (ours: 64) and 14.5 ns a value (8); and it takes everything
//! below 1e-9 for zero. This one costs eight bytes a bin in use.

use super::robust::between;

/// Most bins a sketch holds: enough for 1 % over nineteen orders of magnitude.
const BINS_MAX: usize = 2048;
/// Bins of an octave (a doubling) that keep the relative error within 0.01: [`curve`] climbs at least 4/3 per unit of
/// the natural logarithm, and a bin may be as wide as the logarithm of (1 + error) / (1 - error).
const BINS_PER_OCTAVE: f64 = 0.75 / 0.020_000_666_706_669_543;
/// Added to a bin's number, so that those of every normal float, from 2^-1022 on, are positive: they leave zero for
/// zero and the numbers below it for negative values.
const OFFSET: i32 = 38_400;
/// Bits of a bin that count; the 18 above hold its key.
const COUNT_BITS: u32 = 46;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const KEY_MAX: i32 = (1 << 17) - 1;

const MANTISSA_BITS: u32 = 52;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;
const ONE_BITS: u64 = 1023 << MANTISSA_BITS;

/// The bytes are no sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no percentile sketch: {fault} at byte {at}")]
pub struct SketchError {
    pub fault: &'static str,
    pub at: usize,
}

/// Key and count in one word, so that bins sort by key. Keys order as their values do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bin(u64);

impl Bin {
    fn new(key: i32, count: u64) -> Bin {
        Bin(((key + KEY_MAX + 1) as u64) << COUNT_BITS | count.min(COUNT_MAX))
    }

    fn key(self) -> i32 {
        (self.0 >> COUNT_BITS) as i32 - KEY_MAX - 1
    }

    fn count(self) -> u64 {
        self.0 & COUNT_MAX
    }

    fn plus(self, count: u64) -> Bin {
        Bin::new(self.key(), self.count() + count)
    }
}

/// Counts of values in bins. Quantiles are within 1 % of the exact ones, whatever was merged in which order; only
/// past 2048 bins in use do the lowest run together.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// Ascending by key.
    bins: Vec<Bin>,
    /// Place less key of the bin last searched for. Values that lie close fill bins without a hole, and there every
    /// place is its key plus this.
    shift: i32,
}

/// Equal bins make equal sketches, wherever a value was last searched for.
impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        self.bins == other.bins
    }
}

impl Sketch {
    /// Empty, and without memory of its own yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value. NaN is passed over; infinities count as the largest finite numbers, and what is closer to zero
    /// than the smallest normal float (2.2e-308) as zero.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let key = key_of(value);
        match self.bins.get_mut((key + self.shift) as usize) {
            Some(bin) if bin.key() == key && bin.count() < COUNT_MAX => bin.0 += 1,
            _ => {
                self.add_elsewhere(key);
            }
        }
    }

    /// Counts values: first the keys of several, which the processor works out side by side, then these. The place of a bin is
    /// noted under the last digits of its key, since whole numbers lie some bins apart and come again.
    pub fn add_all(&mut self, values: &[f64]) {
        if let [value] = values {
            return self.add(*value);
        }
        let (mut keys, mut places) = ([0; 32], [0_u16; 64]);
        if self.bins.len() < 2 * values.len() {
            self.bins.iter().enumerate().for_each(|(at, bin)| places[bin.key() as usize % 64] = at as u16);
        }
        for values in values.chunks(keys.len()) {
            keys.iter_mut().zip(values).for_each(|(key, &value)| *key = key_of(value));
            for (&key, _) in keys.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
                let place = &mut places[key as usize % 64];
                match self.bins.get_mut(usize::from(*place)) {
                    Some(bin) if bin.key() == key && bin.count() < COUNT_MAX => bin.0 += 1,
                    _ => *place = self.add_elsewhere(key) as u16,
                }
            }
        }
    }

    /// Counts a value `count` times.
    pub fn add_many(&mut self, value: f64, count: u64) {
        if value.is_nan() || count == 0 {
            return;
        }
        let key = key_of(value);
        match self.bins.binary_search_by_key(&key, |bin| bin.key()) {
            Ok(at) => self.bins[at] = self.bins[at].plus(count),
            Err(at) => {
                self.bins.insert(at, Bin::new(key, count));
                self.collapse();
            }
        }
    }

    /// Counts a key in its bin, wherever that is; where.
    fn add_elsewhere(&mut self, key: i32) -> usize {
        let place = self.bins.binary_search_by_key(&key, |bin| bin.key());
        let (Ok(at) | Err(at)) = place;
        self.shift = at as i32 - key;
        if place.is_ok() {
            self.bins[at] = self.bins[at].plus(1);
        } else {
            self.bins.insert(at, Bin::new(key, 1));
            self.collapse();
        }
        at
    }

    /// Runs the lowest bins together until the sketch is as small as it must be.
    fn collapse(&mut self) {
        let excess = self.bins.len().saturating_sub(BINS_MAX);
        if excess > 0 {
            let lost: u64 = self.bins.drain(..excess).map(Bin::count).sum();
            self.bins[0] = self.bins[0].plus(lost);
        }
    }

    /// Counts everything the other sketch counted. In time that grows as the bins of both, and in place where there is room.
    pub fn merge(&mut self, other: &Sketch) {
        let new = self.add_to_known(other);
        if new > 0 {
            self.insert_unknown(other, new);
            self.collapse();
        }
    }

    /// Adds the counts of the bins that both have; how many bins only the other has.
    fn add_to_known(&mut self, other: &Sketch) -> usize {
        let first = other.bins.first().map_or(0, |first| self.bins.partition_point(|bin| bin.key() < first.key()));
        let mut mine = self.bins[first..].iter_mut().peekable();
        let mut unknown = 0;
        for bin in &other.bins {
            while mine.next_if(|mine| mine.key() < bin.key()).is_some() {}
            match mine.next_if(|mine| mine.key() == bin.key()) {
                Some(mine) => *mine = mine.plus(bin.count()),
                None => unknown += 1,
            }
        }
        unknown
    }

    /// Makes room for so many bins that only the other has, and from the last on moves each bin to its place.
    fn insert_unknown(&mut self, other: &Sketch, unknown: usize) {
        let (mut from, mut to) = (self.bins.len(), self.bins.len() + unknown);
        self.bins.resize(to, Bin(0));
        for bin in other.bins.iter().rev() {
            while from > 0 && self.bins[from - 1].key() > bin.key() {
                (from, to) = (from - 1, to - 1);
                self.bins[to] = self.bins[from];
            }
            if from == 0 || self.bins[from - 1].key() < bin.key() {
                to -= 1;
                self.bins[to] = *bin;
            }
            if from == to {
                break;
            }
        }
    }

    /// What it counted more than `earlier`, bin by bin: both must have counted the same from the start on. A bin that holds
    /// less than before, as where the lowest ran together meanwhile, counts nothing.
    pub fn minus(&self, earlier: &Sketch) -> Sketch {
        let mut theirs = earlier.bins.iter().copied().peekable();
        let mut bins = Vec::with_capacity(self.bins.len());
        for bin in &self.bins {
            while theirs.next_if(|their| their.key() < bin.key()).is_some() {}
            let before = theirs.next_if(|their| their.key() == bin.key()).map_or(0, Bin::count);
            let count = bin.count().saturating_sub(before);
            bins.extend((count > 0).then(|| Bin::new(bin.key(), count)));
        }
        Sketch { bins, shift: 0 }
    }

    /// The same of what may have begun anew in between: where it counted less than `earlier`, all of it.
    pub fn since(&self, earlier: &Sketch) -> Sketch {
        if self.count() < earlier.count() { self.clone() } else { self.minus(earlier) }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.count()).sum()
    }

    /// Bytes of memory that the bins take.
    pub fn size(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
    }

    /// The value below which a share `q` (0 to 1) of the values lies, interpolated between neighbours as
    /// [`super::quantile`] does. `None` for an empty sketch and `q` outside 0 to 1.
    ///
    /// ```
    /// let mut sketch = plimsoll::stats::Sketch::new();
    /// (1..=1000).for_each(|ms| sketch.add(f64::from(ms)));
    /// let p99 = sketch.quantile(0.99).unwrap();
    /// assert!((p99 / 990.0 - 1.0).abs() < 0.011);
    /// ```
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * (count - 1) as f64;
        let below = rank as u64;
        Some(between(self.value_at(below), self.value_at(below + 1), rank - below as f64))
    }

    /// The value of that rank, from 0; past the end the largest.
    fn value_at(&self, rank: u64) -> f64 {
        let mut seen = 0;
        let holds = |bin: &&Bin| {
            seen += bin.count();
            seen > rank
        };
        let bin = self.bins.iter().find(holds).or(self.bins.last());
        bin.map_or(f64::NAN, |bin| value_of(bin.key()))
    }

    /// Appends the bins as `store/FORMAT.md` draws them. Two to three bytes a bin.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(self.bins.len() as u64, out);
        let mut before = -KEY_MAX - 1;
        for bin in &self.bins {
            put_number((bin.key() - before) as u64, out);
            put_number(bin.count(), out);
            before = bin.key();
        }
    }

    /// The sketch that [`Sketch::encode`] wrote.
    ///
    /// # Errors
    /// Where the bytes end early or go on, where keys do not rise or bins are empty: what `encode` never writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SketchError> {
        let mut rest = bytes;
        let fault = |fault, rest: &[u8]| SketchError { fault, at: bytes.len() - rest.len() };
        let mut next = || take_number(&mut rest).ok_or(fault("a number ends early", rest));
        let count = next()?;
        let mut bins = Vec::with_capacity((count as usize).min(bytes.len() / 2));
        let mut key = -i64::from(KEY_MAX) - 1;
        for at in 0..count {
            let (step, count) = (next()?, next()?);
            key = key.saturating_add_unsigned(step);
            if step == 0 && at > 0 || key > i64::from(KEY_MAX) || !(1..=COUNT_MAX).contains(&count) {
                return Err(fault("a bin out of order or out of range", rest));
            }
            bins.push(Bin::new(key as i32, count));
        }
        if !rest.is_empty() {
            return Err(fault("more bytes than bins", rest));
        }
        Ok(Sketch { bins, shift: 0 })
    }
}

/// The key of a value: that of its size, mirrored at zero for negative ones.
#[inline]
fn key_of(value: f64) -> i32 {
    let bits = value.abs().min(f64::MAX).to_bits();
    let octave = (bits >> MANTISSA_BITS) as i32 - 1023;
    let part = f64::from_bits(bits & MANTISSA_MASK | ONE_BITS) - 1.0;
    let height = f64::from(octave) + curve(part);
    let key = OFFSET + floor(height * BINS_PER_OCTAVE);
    // A choice, not a way round: so that several keys are worked out at once.
    let key = if octave < -1022 { 0 } else { key };
    if value < 0.0 { -key } else { key }
}

/// The whole number at or below. `f64::floor` is a call where the processor need not have an instruction for it.
#[inline]
fn floor(number: f64) -> i32 {
    let cut = number as i32;
    cut - i32::from(f64::from(cut) > number)
}

/// Middle of a bin, in the sense that its bounds are equally far off relative to themselves: their harmonic mean.
fn value_of(key: i32) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let bin = f64::from(key.abs() - OFFSET);
    let octave = (bin / BINS_PER_OCTAVE).floor();
    let bound = |bin: f64| inverse(bin / BINS_PER_OCTAVE - octave);
    let (low, high) = (bound(bin), bound(bin + 1.0));
    let middle = 2.0 * low * high / (low + high) * 2.0_f64.powi(octave as i32);
    middle.min(f64::MAX).copysign(f64::from(key))
}

/// Stands in for log2(1 + part), exact at 0 and 1: a parabola, so the processor's float format gives the logarithm
/// for the price of two multiplications. Costs 8 % more bins than the true one.
fn curve(part: f64) -> f64 {
    (4.0 - part) * part / 3.0
}

/// The value at a height of the curve in octaves: one octave after the other.
fn inverse(height: f64) -> f64 {
    let octave = height.floor();
    let part = 2.0 - (4.0 - 3.0 * (height - octave)).sqrt();
    (1.0 + part) * 2.0_f64.powi(octave as i32)
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_are_as_one_by_one() {
        let chance = crate::world::Chance::seeded(5);
        for (whole, range) in [(true, 100), (true, 5000), (false, 1 << 40), (true, 3)] {
            let (mut one_by_one, mut at_once) = (Sketch::new(), Sketch::new());
            for _ in 0..200 {
                let mut values: Vec<f64> = (0..chance.below(90))
                    .map(|_| {
                        let value = chance.below(range) as f64 - 40.0;
                        if whole { value } else { value.powi(7) * 1e-30 }
                    })
                    .collect();
                values.extend([f64::NAN, 0.0, -0.0, f64::INFINITY, f64::MIN_POSITIVE / 2.0]);
                values.iter().for_each(|&value| one_by_one.add(value));
                at_once.add_all(&values);
                assert!(at_once == one_by_one);
            }
        }
    }

    fn sketch_of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::new();
        values.iter().for_each(|&value| sketch.add(value));
        sketch
    }

    fn encoded(sketch: &Sketch) -> Vec<u8> {
        let mut bytes = vec![];
        sketch.encode(&mut bytes);
        bytes
    }

    #[test]
    fn every_size_and_sign_is_kept_within_one_percent() {
        let mut size = f64::MIN_POSITIVE;
        while size < f64::MAX / 1.01 {
            for value in [size, -size] {
                let found = sketch_of(&[value]).quantile(0.5).unwrap();
                assert!((found / value - 1.0).abs() <= 0.01 * (1.0 + 1e-9), "{value}: {found}");
            }
            size *= 1.000_7 + size.fract() * 1e-4;
        }
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let mut at_once = Sketch::new();
        at_once.add_many(7.0, 3);
        at_once.add_many(-0.5, 2);
        at_once.add_many(7.0, 1);
        at_once.add_many(1.0, 0);
        assert_eq!(at_once, sketch_of(&[7.0, -0.5, 7.0, 7.0, -0.5, 7.0]));
    }

    #[test]
    fn edges_of_the_number_line_are_counted_where_they_belong() {
        let table = [(0.0, 0.0), (-0.0, 0.0), (1e-310, 0.0), (f64::INFINITY, f64::MAX), (f64::NEG_INFINITY, -f64::MAX)];
        for (value, expected) in table {
            let found = sketch_of(&[value]).quantile(1.0).unwrap();
            assert!((found - expected).abs() <= expected.abs() * 0.01, "{value}: {found}");
        }
        assert_eq!(sketch_of(&[f64::NAN]).count(), 0);
        assert_eq!(Sketch::new().quantile(0.5), None);
        assert_eq!(sketch_of(&[1.0]).quantile(-0.1), None);
    }

    #[test]
    fn quantiles_stay_within_one_percent_of_the_exact() {
        let values: Vec<f64> = (0..5000).map(|i| f64::from((i * 7919) % 5000 - 1000).powi(3)).collect();
        let sketch = sketch_of(&values);
        for q in [0.0, 0.01, 0.1, 0.2, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (found, exact) = (sketch.quantile(q).unwrap(), crate::stats::quantile(&values, q).unwrap());
            assert!((found - exact).abs() <= exact.abs() * 0.0101 + 1.0, "q {q}: {found}, not {exact}");
        }
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let values: Vec<f64> = (0..300).map(|i| f64::from((i * 37) % 101) - 30.0).collect();
        let whole = sketch_of(&values);
        let mut merged = Sketch::new();
        values.chunks(77).for_each(|part| merged.merge(&sketch_of(part)));
        assert_eq!(merged, whole);
        assert_eq!(merged.count(), 300);
        merged.merge(&Sketch::new());
        assert_eq!(merged, whole);
    }

    #[test]
    fn the_order_and_grouping_of_merges_does_not_matter() {
        let part = |seed: i32, count: i32| -> Sketch {
            let value = |i: i32| f64::from((i * 7919 + seed * 131) % 997 - 400).powi(3) / f64::from(seed);
            sketch_of(&(0..count).map(value).collect::<Vec<f64>>())
        };
        let merged = |parts: &[&Sketch]| {
            let mut whole = Sketch::new();
            parts.iter().for_each(|part| whole.merge(part));
            whole
        };
        for counts in [[0, 1, 2], [1, 1, 1], [6, 60, 6], [300, 2, 700], [900, 900, 0]] {
            let [a, b, c] = [1, 2, 3].map(|seed| part(seed, counts[seed as usize - 1]));
            let all = merged(&[&a, &b, &c]);
            assert!(all.bins.len() < BINS_MAX && all.bins.is_sorted_by_key(|bin| bin.key()));
            assert_eq!(all.count(), a.count() + b.count() + c.count());
            for order in [[&a, &c, &b], [&b, &a, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
                assert_eq!(merged(&order), all, "{counts:?}");
            }
            let (mut left, mut right) = (a.clone(), b.clone());
            left.merge(&b);
            left.merge(&c);
            right.merge(&c);
            let mut grouped = a.clone();
            grouped.merge(&right);
            assert_eq!(left, grouped, "{counts:?}");
        }
    }

    #[test]
    fn merging_counts_no_bin_beyond_what_it_holds() {
        let (mut full, mut more) = (Sketch::new(), Sketch::new());
        full.add_many(1.0, COUNT_MAX);
        more.add_many(1.0, 5);
        more.merge(&full);
        assert_eq!(more, full);
    }

    #[test]
    fn what_was_counted_since_is_what_merging_adds() {
        let values: Vec<f64> = (0..300).map(|i| f64::from((i * 37) % 101) - 30.0).collect();
        let (before, more) = (sketch_of(&values[..120]), sketch_of(&values[120..]));
        let mut after = before.clone();
        after.merge(&more);
        assert_eq!(after.minus(&before), more);
        assert_eq!(after.minus(&Sketch::new()), after);
        assert_eq!(after.minus(&after), Sketch::new());
        assert_eq!(before.minus(&after), Sketch::new(), "less than nothing is nothing");
        assert_eq!(after.since(&before), more);
        assert_eq!(more.since(&after), more, "it began anew");
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        for values in [&[][..], &[0.0], &[1.0; 300], &[-1e300, -1.0, 0.0, 1e-300, 5.0, f64::INFINITY]] {
            let sketch = sketch_of(values);
            assert_eq!(Sketch::decode(&encoded(&sketch)), Ok(sketch), "{values:?}");
        }
        assert!(encoded(&sketch_of(&[5.0; 100])).len() <= 5, "a sketch of one value is a few bytes");
    }

    #[test]
    fn damaged_bytes_are_no_sketch() {
        let good = encoded(&sketch_of(&[-3.0, 0.0, 1.0, 2.0, 900.0]));
        for length in 0..good.len() {
            assert!(Sketch::decode(&good[..length]).is_err(), "cut to {length}");
        }
        let table: [(&[u8], &str); 4] = [
            (&[1, 5, 0], "an empty bin"),
            (&[2, 5, 1, 0, 1], "a key twice"),
            (&[1, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1], "a key too large"),
            (&[0, 0], "bytes to spare"),
        ];
        for (bytes, what) in table {
            assert!(Sketch::decode(bytes).is_err(), "{what}");
        }
        assert!(Sketch::decode(&[0xFF; 40]).is_err(), "a number without an end");
    }

    #[test]
    fn the_lowest_bins_run_together_when_there_are_too_many() {
        let values: Vec<f64> = (0..4000).map(|i| 1.03_f64.powi(i)).collect();
        let sketch = sketch_of(&values);
        assert_eq!((sketch.bins.len(), sketch.count()), (BINS_MAX, 4000));
        let p90 = sketch.quantile(0.9).unwrap();
        assert!((p90 / crate::stats::quantile(&values, 0.9).unwrap() - 1.0).abs() < 0.02, "the top stays exact");
    }
}
