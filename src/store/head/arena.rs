//! Room for the bytes of many columns that grow side by side: chains of blocks out of a few large allocations.
//!
//! ```text
//! block  bytes of the column, then the next block's address u32 le (0: none yet)
//! ```
//!
//! A chain's blocks double in size from 32 bytes to 1 KiB, so that a series with few samples takes little and one with
//! many wastes little. Blocks are never given back one by one: the head goes as a whole.

/// Addresses count in units of the smallest block.
const UNIT: usize = 32;
const SLAB: usize = 1 << 20;
const UNITS_A_SLAB: u32 = (SLAB / UNIT) as u32;
/// Largest block: `UNIT << LARGEST`.
const LARGEST: u32 = 5;
const LINK: usize = 4;

/// The blocks of all columns.
#[derive(Default)]
pub(super) struct Arena {
    slabs: Vec<Box<[u8]>>,
    /// Units given out of the last slab.
    taken: u32,
}

/// A chain of blocks, and where it ends.
#[derive(Clone, Copy, Default)]
pub(super) struct Chain {
    /// Address of the first block plus one; 0 where there is none.
    first: u32,
    last: u32,
    /// Blocks so far.
    blocks: u16,
    /// Bytes used of the last block.
    used: u16,
}

/// A place in a chain.
#[derive(Clone, Copy)]
pub(super) struct Place {
    block: u32,
    /// Which block of the chain it is.
    nth: u16,
    at: u16,
}

impl Chain {
    pub fn start(self) -> Place {
        Place { block: self.first, nth: 0, at: 0 }
    }

    pub fn end(self) -> Place {
        Place { block: self.last, nth: self.blocks.saturating_sub(1), at: self.used }
    }

    fn block_bytes(nth: u32) -> usize {
        UNIT << nth.min(LARGEST)
    }

    /// Bytes of the last block that are for the column.
    fn room(self) -> usize {
        Self::block_bytes(u32::from(self.blocks) - 1) - LINK
    }
}

impl Arena {
    pub fn bytes(&self) -> usize {
        self.slabs.len() * SLAB
    }

    /// Appends bytes to a chain.
    pub fn append(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if chain.blocks == 0 || usize::from(chain.used) == chain.room() {
                self.grow(chain);
            }
            let taken = bytes.len().min(chain.room() - usize::from(chain.used));
            let (now, later) = bytes.split_at(taken);
            let at = usize::from(chain.used);
            self.block_mut(chain.last, at..at + taken).copy_from_slice(now);
            chain.used += taken as u16;
            bytes = later;
        }
    }

    /// Copies a chain's bytes from one place to a later one.
    pub fn read(&self, mut from: Place, to: Place, out: &mut Vec<u8>) {
        while from.block != to.block {
            let bytes = self.block(from.block, Chain::block_bytes(u32::from(from.nth)));
            let (payload, link) = bytes.split_at(bytes.len() - LINK);
            out.extend_from_slice(&payload[usize::from(from.at)..]);
            let block = u32::from_le_bytes([link[0], link[1], link[2], link[3]]);
            from = Place { block, nth: from.nth.saturating_add(1), at: 0 };
        }
        if to.block != 0 {
            let bytes = self.block(to.block, Chain::block_bytes(u32::from(to.nth)));
            out.extend_from_slice(&bytes[usize::from(from.at)..usize::from(to.at)]);
        }
    }

    fn grow(&mut self, chain: &mut Chain) {
        // A chain of over 65,535 blocks goes on with blocks of the largest size; their count no longer matters.
        let block = self.take(Chain::block_bytes(u32::from(chain.blocks)));
        if chain.blocks == 0 {
            chain.first = block;
        } else {
            let room = chain.room();
            self.block_mut(chain.last, room..room + LINK).copy_from_slice(&block.to_le_bytes());
        }
        (chain.last, chain.used) = (block, 0);
        chain.blocks = chain.blocks.saturating_add(1);
    }

    fn take(&mut self, bytes: usize) -> u32 {
        let units = (bytes / UNIT) as u32;
        if self.slabs.is_empty() || self.taken + units > UNITS_A_SLAB {
            self.slabs.push(vec![0; SLAB].into());
            self.taken = 0;
        }
        let block = (self.slabs.len() as u32 - 1) * UNITS_A_SLAB + self.taken;
        self.taken += units;
        block + 1
    }

    fn block(&self, block: u32, bytes: usize) -> &[u8] {
        let (slab, at) = place(block);
        &self.slabs[slab][at..at + bytes]
    }

    fn block_mut(&mut self, block: u32, range: std::ops::Range<usize>) -> &mut [u8] {
        let (slab, at) = place(block);
        &mut self.slabs[slab][at + range.start..at + range.end]
    }
}

fn place(block: u32) -> (usize, usize) {
    let unit = block - 1;
    ((unit / UNITS_A_SLAB) as usize, (unit % UNITS_A_SLAB) as usize * UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_side_by_side_keep_their_bytes() {
        let mut arena = Arena::default();
        let mut chains = [Chain::default(); 3];
        let mut wanted: [Vec<u8>; 3] = Default::default();
        let mut places = Vec::new();
        for round in 0..2000_usize {
            let which = round % 7 % 3;
            let bytes: Vec<u8> = (0..round % 23).map(|n| (round * 31 + n) as u8).collect();
            arena.append(&mut chains[which], &bytes);
            wanted[which].extend(bytes);
            if which == 0 && !wanted[0].is_empty() {
                places.push((chains[0].end(), wanted[0].len()));
            }
        }
        for between in places.windows(2) {
            let [(from, start), (to, end)] = [between[0], between[1]];
            let mut read = Vec::new();
            arena.read(from, to, &mut read);
            assert_eq!(read, wanted[0][start..end]);
        }
        for (chain, wanted) in chains.into_iter().zip(&wanted) {
            let mut read = Vec::new();
            arena.read(chain.start(), chain.end(), &mut read);
            assert_eq!(&read, wanted);
        }
    }
}
