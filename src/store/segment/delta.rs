//! DELTA_BINARY_PACKED, the Parquet encoding of times, series numbers and unscaled values.
//!
//! ```text
//! head   128 varint, 4 varint, count varint, first value zigzag varint
//! block  base zigzag varint, width in bits u8 of each of four miniblocks, miniblocks
//! ```
//!
//! A miniblock holds 32 differences to the value before, each less `base`, in `width` bits, low bits first. The format
//! lets the writer choose any base and width that fit, and this one chooses so that the compressor behind it has it
//! easy: a base stays from block to block as long as it fits, and widths are half bytes or bytes where values are that
//! narrow. On random walks of whole numbers that makes pages a fifth smaller than the tightest packing does.

use crate::store::varint::{put, put_signed, take, take_signed};

const BLOCK: usize = 128;
const MINIBLOCKS: usize = 4;
const MINIBLOCK: usize = BLOCK / MINIBLOCKS;
/// A block of 128 differences of zero.
const ZERO_BLOCK: [u8; 1 + MINIBLOCKS] = [0; 1 + MINIBLOCKS];

/// Writes the values of one page.
pub(super) struct DeltaEncoder<'a> {
    out: &'a mut Vec<u8>,
    before: Option<i64>,
    deltas: [i64; BLOCK],
    filled: usize,
    base: i64,
}

impl<'a> DeltaEncoder<'a> {
    /// For `count` values in all.
    pub fn new(out: &'a mut Vec<u8>, count: usize) -> Self {
        put(out, BLOCK as u64);
        put(out, MINIBLOCKS as u64);
        put(out, count as u64);
        DeltaEncoder { out, before: None, deltas: [0; BLOCK], filled: 0, base: 0 }
    }

    pub fn push(&mut self, value: i64) {
        let Some(before) = self.before.replace(value) else {
            put_signed(self.out, value);
            return;
        };
        self.deltas[self.filled] = value.wrapping_sub(before);
        self.filled += 1;
        if self.filled == BLOCK {
            self.write_block();
        }
    }

    /// The same value many times.
    pub fn push_run(&mut self, value: i64, mut count: usize) {
        while count > 0 && (self.filled > 0 || self.before != Some(value)) {
            self.push(value);
            count -= 1;
        }
        for _ in 0..count / BLOCK {
            self.out.extend_from_slice(&ZERO_BLOCK);
        }
        (0..count % BLOCK).for_each(|_| self.push(value));
    }

    pub fn finish(mut self) {
        if self.before.is_none() {
            put_signed(self.out, 0);
        }
        if self.filled > 0 {
            self.write_block();
        }
    }

    fn write_block(&mut self) {
        let deltas = &self.deltas[..self.filled];
        let lowest = deltas.iter().copied().min().unwrap_or(0);
        let highest = deltas.iter().copied().max().unwrap_or(0);
        let (base, least_width) = choose_base(lowest, highest, self.base);
        self.base = base;
        put_signed(self.out, base);
        let mut widths = [0_u8; MINIBLOCKS];
        for (width, chunk) in widths.iter_mut().zip(deltas.chunks(MINIBLOCK)) {
            let all = chunk.iter().fold(0_u64, |all, delta| all | delta.wrapping_sub(base) as u64);
            *width = least_width.max((64 - all.leading_zeros()) as u8);
        }
        self.out.extend_from_slice(&widths);
        for (&width, chunk) in widths.iter().zip(deltas.chunks(MINIBLOCK)) {
            let mut packed = [0_u64; MINIBLOCK];
            for (to, delta) in packed.iter_mut().zip(chunk) {
                *to = delta.wrapping_sub(base) as u64;
            }
            pack(&packed, width, self.out);
        }
        self.filled = 0;
    }
}

/// The base of a block whose differences lie between `lowest` and `highest`, and the least width of its miniblocks.
fn choose_base(lowest: i64, highest: i64, before: i64) -> (i64, u8) {
    let range = highest.wrapping_sub(lowest) as u64;
    let width = match range {
        0 | 1 | 256.. => return (lowest, 0),
        2..16 => 4,
        16..256 => 8,
    };
    let room = (1_i64 << width) - 1;
    let top = before.checked_add(room);
    if before <= lowest && top.is_some_and(|top| highest <= top) {
        return (before, width);
    }
    // In the middle of the room, so that the blocks to come fit as well.
    let slack = (room - range as i64) / 2;
    lowest.checked_sub(slack).map_or((lowest, width), |base| (base, width))
}

/// Appends 32 numbers of `width` bits.
fn pack(values: &[u64; MINIBLOCK], width: u8, out: &mut Vec<u8>) {
    match width {
        0 => {}
        4 => out.extend(values.chunks_exact(2).map(|pair| (pair[0] | pair[1] << 4) as u8)),
        8 => out.extend(values.iter().map(|&value| value as u8)),
        _ => {
            let (mut pending, mut bits) = (0_u128, 0_u32);
            for &value in values {
                pending |= u128::from(value) << bits;
                bits += u32::from(width);
                if bits >= 64 {
                    out.extend_from_slice(&(pending as u64).to_le_bytes());
                    pending >>= 64;
                    bits -= 64;
                }
            }
            out.extend_from_slice(&(pending as u64).to_le_bytes()[..bits.div_ceil(8) as usize]);
        }
    }
}

/// Appends the values of a page; `None` where the bytes are not whole or hold another count.
pub(super) fn decode(mut bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Option<()> {
    let bytes = &mut bytes;
    let head = (take(bytes)?, take(bytes)?, take(bytes)?);
    (head == (BLOCK as u64, MINIBLOCKS as u64, count as u64)).then_some(())?;
    let mut value = take_signed(bytes)?;
    if count == 0 {
        return Some(());
    }
    out.reserve(count);
    out.push(value);
    let mut left = count - 1;
    while left > 0 {
        let base = take_signed(bytes)?;
        let (widths, rest) = bytes.split_first_chunk::<MINIBLOCKS>()?;
        *bytes = rest;
        for &width in widths {
            if left == 0 {
                break;
            }
            let taken = left.min(MINIBLOCK);
            if width == 0 {
                // A straight line, as times mostly are.
                out.extend((1..=taken as i64).map(|steps| value.wrapping_add(base.wrapping_mul(steps))));
                value = value.wrapping_add(base.wrapping_mul(taken as i64));
            } else {
                let mut values = unpack(bytes, width, base)?;
                for delta in &mut values {
                    value = value.wrapping_add(*delta);
                    *delta = value;
                }
                value = values[taken - 1];
                out.extend_from_slice(&values[..taken]);
            }
            left -= taken;
        }
    }
    Some(())
}

/// The differences of a miniblock. They are worked out side by side; what is left one after the other is a sum.
#[inline]
fn unpack(bytes: &mut &[u8], width: u8, base: i64) -> Option<[i64; MINIBLOCK]> {
    let width = usize::from(width);
    if width > 64 {
        return None;
    }
    let (packed, rest) = bytes.split_at_checked(MINIBLOCK / 8 * width)?;
    *bytes = rest;
    let mut deltas = [base; MINIBLOCK];
    match width {
        0 => {}
        4 => {
            for (pair, &byte) in deltas.chunks_exact_mut(2).zip(packed) {
                pair[0] = base.wrapping_add(i64::from(byte & 15));
                pair[1] = base.wrapping_add(i64::from(byte >> 4));
            }
        }
        8 => {
            for (delta, &byte) in deltas.iter_mut().zip(packed) {
                *delta = base.wrapping_add(i64::from(byte));
            }
        }
        _ => {
            // 16 bytes of room behind, so that each number is read with one load.
            let mut padded = [0_u8; MINIBLOCK * 8 + 16];
            padded[..packed.len()].copy_from_slice(packed);
            let mask = u64::MAX >> (64 - width);
            for (at, delta) in deltas.iter_mut().enumerate() {
                let (byte, bit) = (at * width / 8, at * width % 8);
                let word = u128::from_le_bytes(padded[byte..byte + 16].try_into().expect("16 bytes"));
                *delta = base.wrapping_add(((word >> bit) as u64 & mask) as i64);
            }
        }
    }
    Some(deltas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Chance;

    fn encoded(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = DeltaEncoder::new(&mut out, values.len());
        values.iter().for_each(|&value| encoder.push(value));
        encoder.finish();
        out
    }

    fn decoded(bytes: &[u8], count: usize) -> Option<Vec<i64>> {
        let mut out = Vec::new();
        decode(bytes, count, &mut out).map(|()| out)
    }

    #[test]
    fn every_width_and_length_comes_back() {
        let seed = 11;
        let chance = Chance::seeded(seed);
        for width in 0..=64_u32 {
            for count in [0, 1, 2, 31, 32, 33, 128, 129, 130, 1000] {
                let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
                let values: Vec<i64> = (0..count).map(|_| (chance.next_u64() & mask).cast_signed()).collect();
                let bytes = encoded(&values);
                assert_eq!(decoded(&bytes, count), Some(values), "seed {seed} width {width} count {count}");
                assert!(count < 2 || decoded(&bytes[..bytes.len() - 1], count).is_none());
                assert_eq!(decoded(&bytes, count + 1), None);
            }
        }
    }

    #[test]
    fn a_run_is_written_as_its_values_would_be() {
        for (lead, count) in [(0, 1), (0, 128), (0, 129), (1, 128), (5, 1000), (127, 300), (130, 257)] {
            let values: Vec<i64> = (0..lead).chain(std::iter::repeat_n(7, count)).chain([9]).collect();
            let mut out = Vec::new();
            let mut encoder = DeltaEncoder::new(&mut out, values.len());
            (0..lead).for_each(|value| encoder.push(value));
            encoder.push_run(7, count);
            encoder.push(9);
            encoder.finish();
            assert_eq!(decoded(&out, values.len()), Some(values), "{lead} {count}");
        }
    }

    #[test]
    fn a_base_stays_while_it_fits() {
        assert_eq!(choose_base(-3, 3, 0), (-7, 4));
        assert_eq!(choose_base(-4, 2, -7), (-7, 4));
        assert_eq!(choose_base(5, 5, -7), (5, 0));
        assert_eq!(choose_base(-100, 100, 0), (-127, 8));
        assert_eq!(choose_base(i64::MIN, i64::MIN + 3, 0), (i64::MIN, 4));
        assert_eq!(choose_base(0, 1_000, 0), (0, 0));
    }
}
