//! What is kept once and numbered from 0 in order of first sight: texts, and keys of a fixed size.
//!
//! ```text
//! bytes   h o s t | w e b - 1 | w e b - 2 | …      all texts, end to end
//! ends            4           9          14        where each one ends: text n is bytes[ends[n-1]..ends[n]]
//! table   hash of a text → its number               4 bytes a slot; the texts themselves are the keys
//! ```

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Number of a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Text(pub u32);

/// Texts, each kept once: its bytes, four for its end and about eight to find it.
#[derive(Default)]
pub(super) struct Texts {
    bytes: String,
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: FixedState,
}

impl Texts {
    pub fn get(&self, text: Text) -> &str {
        text_at(&self.bytes, &self.ends, text.0)
    }

    pub fn find(&self, text: &str) -> Option<Text> {
        let hash = self.hasher.hash_one(text);
        let same = |&known: &u32| text_at(&self.bytes, &self.ends, known) == text;
        self.table.find(hash, same).map(|&known| Text(known))
    }

    pub fn intern(&mut self, text: &str) -> Text {
        if let Some(known) = self.find(text) {
            return known;
        }
        let end = u32::try_from(self.bytes.len() + text.len()).expect("names and values of less than 4 GiB in all");
        let number = self.ends.len() as u32;
        self.bytes.push_str(text);
        self.ends.push(end);
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        let rehash = |&known: &u32| hasher.hash_one(text_at(bytes, ends, known));
        self.table.insert_unique(self.hasher.hash_one(text), number, rehash);
        Text(number)
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + table_bytes(self.table.capacity())
    }
}

fn text_at<'t>(bytes: &'t str, ends: &[u32], number: u32) -> &'t str {
    let at = number as usize;
    let start = at.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &bytes[start..ends[at] as usize]
}

/// Bytes of a hash table of `u32` that holds `capacity`: a slot and a control byte each, and one slot in eight free.
pub(super) fn table_bytes(capacity: usize) -> usize {
    capacity / 7 * 8 * 5
}

/// Keys, each kept once.
pub(super) struct Numbered<K> {
    keys: Vec<K>,
    table: HashTable<u32>,
    hasher: FixedState,
}

impl<K> Default for Numbered<K> {
    fn default() -> Self {
        Numbered { keys: Vec::new(), table: HashTable::new(), hasher: FixedState::default() }
    }
}

impl<K: Hash + Eq + Copy> Numbered<K> {
    pub fn get(&self, number: u32) -> K {
        self.keys[number as usize]
    }

    pub fn find(&self, key: K) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |&known| self.keys[known as usize] == key).copied()
    }

    /// The key's number, and whether it was given now.
    pub fn intern(&mut self, key: K) -> (u32, bool) {
        if let Some(known) = self.find(key) {
            return (known, false);
        }
        let number = u32::try_from(self.keys.len()).expect("fewer than 2^32 of a kind");
        self.keys.push(key);
        let (keys, hasher) = (&self.keys, &self.hasher);
        let rehash = |&known: &u32| hasher.hash_one(keys[known as usize]);
        self.table.insert_unique(self.hasher.hash_one(key), number, rehash);
        (number, true)
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<K>() + table_bytes(self.table.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once() {
        let mut texts = Texts::default();
        let numbers: Vec<u32> = ["", "a", "ab", "b", "a", "", "ä"].iter().map(|text| texts.intern(text).0).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 1, 0, 4]);
        assert_eq!(texts.get(Text(4)), "ä");
        assert_eq!(texts.get(Text(0)), "");
        assert_eq!((texts.find("ab"), texts.find("aba")), (Some(Text(2)), None));
    }
}
