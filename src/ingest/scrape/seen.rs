//! The series of one scrape, compactly: what was there before and is missing now is found in it by name.
//!
//! ```text
//! texts    up 0xFF instance 0xFF a 0xFF job 0xFF x 0xFF | …     metric, then labels by name, end to end
//! entries  end of the series in `texts`, whether it ends when it is missing
//! table    hash of a series → its entry
//! ```
//! 0xFF is in no UTF-8.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

const STOP: u8 = 0xFF;

/// Series by name and labels.
#[derive(Debug, Default)]
pub(super) struct Seen {
    texts: Vec<u8>,
    entries: Vec<Entry>,
    table: HashTable<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    end: usize,
    /// It has no times of its own.
    is_tracked: bool,
}

/// What becomes of a series that is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    First,
    /// It was there.
    Again,
}

impl Seen {
    fn text(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let start = if at == 0 { 0 } else { self.entries[at - 1].end };
        &self.texts[start..self.entries[at].end]
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = FixedState::default().hash_one(key);
        self.table.find(hash, |&at| self.text(at) == key).copied()
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    pub fn put(&mut self, key: &[u8], is_tracked: bool) -> Put {
        if let Some(at) = self.find(key) {
            self.entries[at as usize].is_tracked |= is_tracked;
            return Put::Again;
        }
        // The number of series of a scrape is bounded far below this.
        let at = self.entries.len() as u32;
        self.texts.extend_from_slice(key);
        self.entries.push(Entry { end: self.texts.len(), is_tracked });
        let Seen { texts, entries, table } = self;
        let hash_of = |&at: &u32| {
            let at = at as usize;
            let start = if at == 0 { 0 } else { entries[at - 1].end };
            FixedState::default().hash_one(&texts[start..entries[at].end])
        };
        table.insert_unique(FixedState::default().hash_one(key), at, hash_of);
        Put::First
    }

    /// The tracked series that are not among those of `now`.
    pub fn missing<'s>(&'s self, now: &'s Seen) -> impl Iterator<Item = &'s [u8]> {
        let tracked = (0..self.entries.len()).filter(|&at| self.entries[at].is_tracked).map(|at| self.text(at as u32));
        tracked.filter(|key| !now.find(key).is_some_and(|at| now.entries[at as usize].is_tracked))
    }
}

/// The name of a series in `key`.
pub(super) fn write_key<'t>(key: &mut Vec<u8>, metric: &str, labels: impl Iterator<Item = (&'t str, &'t str)>) {
    key.clear();
    for text in std::iter::once(metric).chain(labels.flat_map(|(name, value)| [name, value])) {
        key.extend_from_slice(text.as_bytes());
        key.push(STOP);
    }
}

/// Metric and labels of a key.
pub(super) fn read_key(key: &[u8]) -> (&str, Vec<(&str, &str)>) {
    let mut texts = key.split(|&byte| byte == STOP).map(|text| str::from_utf8(text).unwrap_or_default());
    let metric = texts.next().unwrap_or_default();
    let mut labels = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        labels.push((name, value));
    }
    (metric, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_by_name() {
        let (mut before, mut now, mut key) = (Seen::default(), Seen::default(), Vec::new());
        for at in 0..1000 {
            let text = at.to_string();
            write_key(&mut key, "m", [("a", "é"), ("n", &*text)].into_iter());
            assert_eq!(before.put(&key, at % 10 != 0), Put::First);
            assert_eq!(before.put(&key, false), Put::Again);
            if at % 3 == 0 {
                // Those of 15 have times of their own now.
                now.put(&key, at % 15 != 0);
            }
        }
        let missing: Vec<usize> = before
            .missing(&now)
            .map(|key| {
                let (metric, labels) = read_key(key);
                assert_eq!((metric, labels[0]), ("m", ("a", "é")));
                labels[1].1.parse().unwrap()
            })
            .collect();
        let expected: Vec<usize> = (0..1000).filter(|at| at % 10 != 0 && (at % 3 != 0 || at % 15 == 0)).collect();
        assert_eq!((before.entries.len(), missing), (1000, expected));
        assert_eq!(read_key(b"up\xFF"), ("up", vec![]));
    }
}
