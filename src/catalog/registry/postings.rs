//! Which series have something: ascending numbers, as gaps.
//!
//! ```text
//! first u32 | last u32, count u32, gaps: varint of each number less the one before it
//! ```
//!
//! A list of one, the most frequent where a label explodes, is its first number alone: 16 bytes.

/// Series numbers in ascending order; one at least.
pub(super) struct Postings {
    first: u32,
    more: Option<Box<More>>,
}

struct More {
    last: u32,
    count: u32,
    gaps: Vec<u8>,
}

impl Postings {
    pub fn new(first: u32) -> Self {
        Postings { first, more: None }
    }

    /// Adds a number above all that are there; by how many bytes of the heap the list grew.
    pub fn push(&mut self, series: u32) -> usize {
        let fresh = self.more.is_none();
        let more = self.more.get_or_insert_with(|| Box::new(More { last: self.first, count: 1, gaps: Vec::new() }));
        let before = more.gaps.capacity();
        let mut gap = series - more.last;
        while gap >= 0x80 {
            more.gaps.push(gap as u8 | 0x80);
            gap >>= 7;
        }
        more.gaps.push(gap as u8);
        more.last = series;
        more.count += 1;
        more.gaps.capacity() - before + if fresh { size_of::<More>() } else { 0 }
    }

    pub fn len(&self) -> u32 {
        self.more.as_ref().map_or(1, |more| more.count)
    }

    pub fn last(&self) -> u32 {
        self.more.as_ref().map_or(self.first, |more| more.last)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut last = self.first;
        let mut gaps = self.more.as_ref().map_or(&[][..], |more| &more.gaps).iter();
        let later = std::iter::from_fn(move || {
            let (mut gap, mut shift) = (0, 0);
            loop {
                let byte = *gaps.next()?;
                gap |= u32::from(byte & 0x7F) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            last += gap;
            Some(last)
        });
        std::iter::once(self.first).chain(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_as_they_went_in() {
        let numbers = [0, 1, 127, 255, 256, 20_000, 3_000_000, u32::MAX];
        let mut list = Postings::new(numbers[0]);
        numbers[1..].iter().for_each(|&number| {
            list.push(number);
        });
        assert_eq!(list.iter().collect::<Vec<_>>(), numbers);
        assert_eq!((list.len(), list.last()), (8, u32::MAX));
        assert_eq!(Postings::new(7).iter().collect::<Vec<_>>(), [7]);
        assert_eq!(size_of::<Postings>(), 16);
    }
}
