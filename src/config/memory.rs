//! One budget of memory, and how it is divided.

use bytesize::ByteSize;

/// The shares of one budget, in bytes. What they leave, a sixteenth, is for merges, links of the pipelines and the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub all: u64,
}

impl MemoryPlan {
    pub const LEAST: ByteSize = ByteSize::mb(64);

    /// Samples in memory at which they are flushed. There are up to three times as many: those being flushed, and those
    /// that come meanwhile.
    pub fn head(self) -> usize {
        size(self.all / 16)
    }

    /// Bodies of requests under way.
    pub fn bodies(self) -> usize {
        size(self.all / 8)
    }

    /// Names and labels of series, and the lists that find them.
    pub fn series(self) -> usize {
        size(self.all / 16 * 3)
    }

    /// Names as clients write them, kept to know them again.
    pub fn known(self) -> usize {
        size(self.all / 16 * 3)
    }

    /// What statements sort, join, aggregate and answer.
    pub fn queries(self) -> usize {
        size(self.all / 4)
    }
}

/// As much of it as there can be addresses.
pub(super) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_leave_a_sixteenth() {
        let plan = MemoryPlan { all: 1600 };
        assert_eq!(3 * plan.head() + plan.bodies() + plan.series() + plan.known() + plan.queries(), 1500);
    }
}
