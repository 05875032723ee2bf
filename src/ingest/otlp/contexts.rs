//! Numbers for resources with their scopes: so that what names a series in [`crate::ingest::Known`] is short.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Bytes of memory of all; when it is full all are forgotten, and given new numbers as they come.
const BYTES_MAX: usize = 4 << 20;
/// Longer ones get no number.
const KEY_MAX: usize = 64 << 10;

/// A number is never given twice.
#[derive(Default)]
pub(super) struct Contexts {
    numbers: HashMap<Box<[u8]>, u64, FixedState>,
    next: u64,
    bytes: usize,
}

impl Contexts {
    /// The number of the resource and scope with these bytes.
    pub fn number(&mut self, key: &[u8]) -> Option<u64> {
        if let Some(&number) = self.numbers.get(key) {
            return Some(number);
        }
        if key.len() > KEY_MAX {
            return None;
        }
        if self.bytes >= BYTES_MAX {
            self.numbers.clear();
            self.bytes = 0;
        }
        let number = self.next;
        self.next += 1;
        self.bytes += key.len() + size_of::<(Box<[u8]>, u64)>() + 16;
        self.numbers.insert(key.into(), number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_never_given_twice() {
        let mut contexts = Contexts::default();
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100_000_u32 {
            let key = [n.to_le_bytes(), [1; 4]].concat();
            let number = contexts.number(&key).unwrap();
            assert!(seen.insert(number));
            assert_eq!(contexts.number(&key), Some(number));
        }
        assert!(contexts.bytes <= BYTES_MAX + 100 && contexts.numbers.len() < 100_000);
        assert_eq!(contexts.number(&vec![0; KEY_MAX + 1]), None);
    }
}
