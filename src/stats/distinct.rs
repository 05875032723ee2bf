//! How many different things there were, from their hashes, in four kilobytes: HyperLogLog (Flajolet, Fusy, Gandouet,
//! Meunier, 2007) with 4,096 registers, so to about 1.6 %; few are counted by the registers still empty, and exactly or
//! nearly so.

const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;

/// Counts different hashes.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    /// The longest run of leading zeros, plus one, of the hashes of each register; empty until the first.
    registers: Vec<u8>,
}

impl Distinct {
    /// `hash` must be spread evenly over all 64 bits.
    pub fn add(&mut self, hash: u64) {
        if self.registers.is_empty() {
            self.registers = vec![0; REGISTERS];
        }
        let register = &mut self.registers[(hash >> (64 - BITS)) as usize];
        let run = ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() as u8 + 1;
        *register = run.max(*register);
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }

    /// How many there were.
    pub fn estimate(&self) -> u64 {
        if self.registers.is_empty() {
            return 0;
        }
        let registers = REGISTERS as f64;
        let empty = self.registers.iter().filter(|&&run| run == 0).count();
        let sum: f64 = self.registers.iter().map(|&run| (-f64::from(run)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let few = raw <= 2.5 * registers && empty > 0;
        (if few { registers * (registers / empty as f64).ln() } else { raw }).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        let mixed = (n ^ (n >> 30)).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn estimates_stay_within_six_percent() {
        for count in [0_u64, 1, 10, 1000, 9000, 30_000, 300_000] {
            let mut distinct = Distinct::default();
            (0..count).chain(0..count / 2).for_each(|n| distinct.add(hash(n)));
            let off = distinct.estimate().abs_diff(count);
            assert!(off as f64 <= count as f64 * 0.06, "{count}: off by {off}");
        }
    }
}
