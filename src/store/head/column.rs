//! One series in the head: its samples as they came, packed into bytes.
//!
//! ```text
//! sample  control u8, then what it announces
//! control bit 0     1: the step from the time before differs; its difference to the step before, zigzag varint, ns
//!         bits 1-2  0: a whole number at the column's scale, as difference to the one before, zigzag:
//!                      bits 3-7 hold it, or 31 and the varint of what is beyond 31
//!                   1: a new scale: u8, then the whole number itself, zigzag varint
//!                   2: a float: 8 bytes little-endian
//! ```
//!
//! A walk of small whole numbers at even times takes one byte a sample, a float nine.

use super::arena::{Arena, Chain, Place};
use crate::model::{Span, Timestamp};
use crate::store::points::{Points, Values};
use crate::store::scale::scale_of;
use crate::store::varint::{put, put_signed, take, take_signed, unzigzag, zigzag};

const STEP_DIFFERS: u8 = 1;
const DIFFERENCE: u8 = 0 << 1;
const NEW_SCALE: u8 = 1 << 1;
const FLOAT: u8 = 2 << 1;
const KIND: u8 = 3 << 1;
const INLINE_SHIFT: u8 = 3;
/// Differences from here on follow as a varint.
const INLINE_MAX: u64 = 31;
/// Samples after which a mark is made.
pub(super) const STRETCH: u32 = 512;

/// How the values of a column have been since its first float or whole number.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Empty,
    Scaled(u8),
    /// There was a value that no scale fits: the rest is not tried.
    Floats,
}

/// The end of a stretch of samples, so that a reader need not unpack those of other times.
pub(super) struct Mark {
    /// Earliest and latest time of the stretch that ends here.
    times: (i64, i64),
    place: Place,
    /// What the next sample is a difference to.
    before: Before,
}

/// What a sample is a difference to.
#[derive(Clone, Copy, Default)]
struct Before {
    time: i64,
    step: i64,
    scale: u8,
    whole: i64,
}

/// The samples of one series.
#[derive(Default)]
pub(super) struct Column {
    chain: Chain,
    count: u32,
    mode: Mode,
    /// Earliest and latest time since the last mark.
    first: i64,
    last: i64,
    /// Time of the sample that came last, and its step from the one before.
    time: i64,
    step: i64,
    whole: i64,
}

impl Column {
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn time_range(&self, marks: &[Mark]) -> Option<(Timestamp, Timestamp)> {
        if self.count == 0 {
            return None;
        }
        let times = marks.iter().map(|mark| mark.times);
        let (first, last) = times.fold((self.first, self.last), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        Some((Timestamp::from_nanos(first), Timestamp::from_nanos(last)))
    }

    /// The mark to be noted before the next sample, if it is time for one.
    #[inline]
    pub fn mark(&self) -> Option<Mark> {
        if self.count == 0 || !self.count.is_multiple_of(STRETCH) {
            return None;
        }
        let scale = if let Mode::Scaled(scale) = self.mode { scale } else { 0 };
        let before = Before { time: self.time, step: self.step, scale, whole: self.whole };
        Some(Mark { times: (self.first, self.last), place: self.chain.end(), before })
    }

    pub fn push(&mut self, time: i64, value: f64, arena: &mut Arena) {
        if self.count.is_multiple_of(STRETCH) {
            (self.first, self.last) = (time, time);
        }
        (self.first, self.last) = (self.first.min(time), self.last.max(time));
        let step = time.wrapping_sub(self.time);
        let jump = step.wrapping_sub(self.step);
        (self.time, self.step) = (time, step);
        let whole = match self.mode {
            Mode::Floats => None,
            Mode::Empty => scale_of(value, 0),
            Mode::Scaled(scale) => scale_of(value, scale),
        };
        let before = self.mode;
        self.mode = whole.map_or(Mode::Floats, |(scale, _)| Mode::Scaled(scale));
        let difference = match whole {
            Some((_, whole)) => zigzag(whole.wrapping_sub(std::mem::replace(&mut self.whole, whole))),
            None => 0,
        };
        self.count += 1;
        // The most frequent case by far, without a buffer.
        if jump == 0 && before == self.mode && whole.is_some() && difference < INLINE_MAX {
            arena.append(&mut self.chain, &[DIFFERENCE | (difference as u8) << INLINE_SHIFT]);
            return;
        }
        let mut packed = Packed::default();
        let control = if jump == 0 { 0 } else { STEP_DIFFERS };
        match whole {
            None => packed.float(control, jump, value),
            Some(_) if before == self.mode => packed.difference(control, jump, difference),
            Some((scale, whole)) => packed.new_scale(control, jump, scale, whole),
        }
        arena.append(&mut self.chain, &packed.0);
    }

    /// Of the first `count` samples those within `span`, and others near them, in the order they came.
    pub fn points(&self, count: u32, span: Span, marks: &[Mark], arena: &Arena) -> Points {
        let count = count.min(self.count);
        let mut unpacked = Unpacked::with_capacity(count.min(STRETCH) as usize);
        let mut bytes = Vec::new();
        let starts = std::iter::once((self.chain.start(), Before::default()));
        let starts = starts.chain(marks.iter().map(|mark| (mark.place, mark.before)));
        let last = ((self.first, self.last), self.chain.end());
        let ends = marks.iter().map(|mark| (mark.times, mark.place)).chain([last]);
        for (nth, ((from, before), ((first, last), to))) in (0..).zip(starts.zip(ends)) {
            let samples = count.saturating_sub(nth * STRETCH).min(STRETCH);
            if samples == 0 {
                break;
            }
            if !span.touches(Timestamp::from_nanos(first), Timestamp::from_nanos(last)) {
                continue;
            }
            bytes.clear();
            arena.read(from, to, &mut bytes);
            unpacked.before = before;
            let rest = &mut &bytes[..];
            for _ in 0..samples {
                unpacked.take(rest).expect("a column holds the samples it counted");
            }
        }
        unpacked.points
    }
}

/// One sample's bytes.
#[derive(Default)]
struct Packed(Vec<u8>);

impl Packed {
    fn start(&mut self, control: u8, jump: i64) {
        self.0.push(control);
        if control & STEP_DIFFERS != 0 {
            put_signed(&mut self.0, jump);
        }
    }

    fn difference(&mut self, control: u8, jump: i64, difference: u64) {
        let inline = difference.min(INLINE_MAX);
        self.start(control | DIFFERENCE | (inline as u8) << INLINE_SHIFT, jump);
        if inline == INLINE_MAX {
            put(&mut self.0, difference - INLINE_MAX);
        }
    }

    fn new_scale(&mut self, control: u8, jump: i64, scale: u8, whole: i64) {
        self.start(control | NEW_SCALE, jump);
        self.0.push(scale);
        put_signed(&mut self.0, whole);
    }

    fn float(&mut self, control: u8, jump: i64, value: f64) {
        self.start(control | FLOAT, jump);
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

/// Samples read back, and what the next one is a difference to.
struct Unpacked {
    points: Points,
    before: Before,
}

impl Unpacked {
    fn with_capacity(samples: usize) -> Self {
        let values = Values::Scaled { scale: 0, whole: Vec::with_capacity(samples) };
        let points = Points { times: Vec::with_capacity(samples), values };
        Unpacked { points, before: Before::default() }
    }

    fn take(&mut self, rest: &mut &[u8]) -> Option<()> {
        let (&control, after) = rest.split_first()?;
        *rest = after;
        if control & STEP_DIFFERS != 0 {
            self.before.step = self.before.step.wrapping_add(take_signed(rest)?);
        }
        self.before.time = self.before.time.wrapping_add(self.before.step);
        self.points.times.push(self.before.time);
        match control & KIND {
            DIFFERENCE => {
                let inline = u64::from(control >> INLINE_SHIFT);
                let difference = if inline == INLINE_MAX { INLINE_MAX + take(rest)? } else { inline };
                self.before.whole = self.before.whole.wrapping_add(unzigzag(difference));
                self.push_whole();
            }
            NEW_SCALE => {
                let (&scale, after) = rest.split_first()?;
                *rest = after;
                (self.before.scale, self.before.whole) = (scale, take_signed(rest)?);
                self.push_whole();
            }
            _ => {
                let (bits, after) = rest.split_first_chunk::<8>()?;
                *rest = after;
                self.points.values.push_float(f64::from_le_bytes(*bits));
            }
        }
        Some(())
    }

    fn push_whole(&mut self) {
        match &mut self.points.values {
            Values::Scaled { scale, whole } if *scale == self.before.scale => whole.push(self.before.whole),
            values => values.push_whole(self.before.scale, self.before.whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Chance;

    fn filled(samples: &[(i64, f64)]) -> (Column, Vec<Mark>, Arena) {
        let (mut column, mut marks, mut arena) = (Column::default(), Vec::new(), Arena::default());
        for &(time, value) in samples {
            marks.extend(column.mark());
            column.push(time, value, &mut arena);
        }
        (column, marks, arena)
    }

    fn back(samples: &[(i64, f64)]) -> (Vec<(i64, u64)>, usize) {
        let (column, marks, arena) = filled(samples);
        let points = column.points(u32::MAX, Span::ALL, &marks, &arena);
        let mut bytes = Vec::new();
        arena.read(column.chain.start(), column.chain.end(), &mut bytes);
        let told = points.into_samples().iter().map(|sample| (sample.time.nanos(), sample.value.to_bits())).collect();
        (told, bytes.len())
    }

    fn check(samples: &[(i64, f64)], told: &str) -> usize {
        let wanted: Vec<_> = samples.iter().map(|&(time, value)| (time, value.to_bits())).collect();
        let (found, bytes) = back(samples);
        assert_eq!(found, wanted, "{told}");
        bytes
    }

    #[test]
    fn samples_of_every_kind_come_back_bit_for_bit() {
        let odd = [0.0, -0.0, 0.1 + 0.2, 1e300, f64::MIN_POSITIVE, -7.0, 1e15, 0.123_456_789, 9_007_199_254_740_993.0];
        let seed = 5;
        let chance = Chance::seeded(seed);
        for round in 0..2_000 {
            let digits = chance.below(6) as i32;
            let count = chance.below(if round % 50 == 0 { 3_000 } else { 200 });
            let samples: Vec<(i64, f64)> = (0..count as i64)
                .map(|n| {
                    let jitter = if chance.below(4) == 0 { chance.next_u64() as i64 >> chance.below(64) } else { 0 };
                    let whole = (chance.next_u64() as i64 >> (11 + chance.below(50))) as f64;
                    let strange = round % 3 == 0 && chance.below(20) == 0;
                    let value = if strange { odd[chance.below(9) as usize] } else { whole / 10_f64.powi(digits) };
                    ((n * 10_000_000_000).wrapping_add(jitter), value)
                })
                .collect();
            check(&samples, &format!("seed {seed} round {round}"));
        }
    }

    #[test]
    fn a_walk_of_whole_numbers_takes_a_byte_a_sample() {
        let chance = Chance::seeded(1);
        let mut value = 50.0;
        let walk: Vec<(i64, f64)> = (0..10_000)
            .map(|n| {
                value += chance.below(5) as f64 - 2.0;
                (1_700_000_000_000_000_000 + n * 10_000_000_000, value)
            })
            .collect();
        let bytes = check(&walk, "walk");
        assert!(bytes < 10_000 + 1_500, "{bytes} bytes");
    }

    #[test]
    fn a_reader_of_a_span_unpacks_what_is_near_it() {
        let odd = |n: i64| if n % 700 == 3 { 0.1 + 0.2 } else { n as f64 / 4.0 };
        // Every hundredth sample comes late.
        let time = |n: i64| if n % 100 == 0 { n / 2 } else { n };
        for values in [|n: i64| n as f64, odd] {
            let samples: Vec<(i64, f64)> = (0..5_000).map(|n| (time(n), values(n))).collect();
            let (column, marks, arena) = filled(&samples);
            let range = column.time_range(&marks).unwrap();
            assert_eq!((range.0.nanos(), range.1.nanos()), (0, 4_999));
            for (start, end, count) in
                [(0, 1, 5_000), (1_000, 1_100, 5_000), (1_000, 1_100, 1_050), (4_900, 9_000, 4_950)]
            {
                let span = Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end));
                let found = column.points(count, span, &marks, &arena).into_samples();
                let within = |&&(time, _): &&(i64, f64)| start <= time && time < end;
                let wanted: Vec<_> = samples[..count as usize].iter().filter(within).copied().collect();
                assert!(found.len() < 4 * STRETCH as usize + wanted.len(), "{} for {start}..{end}", found.len());
                let found = found.iter().map(|sample| (sample.time.nanos(), sample.value));
                assert_eq!(found.filter(|sample| within(&sample)).collect::<Vec<_>>(), wanted);
            }
        }
    }
}
