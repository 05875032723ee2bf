//! Numbers for resources and their scopes: so that what names a series in [`crate::ingest::Known`] is short.
//!
//! As there, what is new goes into the young one of two generations, and what is found in the old one with it; the old
//! one is let go when the young one has become old.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::model::{SERIES_BYTES_MAX, Timestamp};

const MINUTE: i64 = 60_000_000_000;
/// How long a generation takes up new ones; and how long where there is no room for more.
const AGE: i64 = 60 * MINUTE;
const AGE_FULL: i64 = 10 * MINUTE;
/// Bytes of memory of both generations; when they are full no new ones get a number.
const BYTES_MAX: usize = 4 << 20;

/// A number is never given twice.
#[derive(Default)]
pub(super) struct Contexts {
    young: Generation,
    old: Generation,
    since: Option<Timestamp>,
    next: u64,
}

#[derive(Default)]
struct Generation {
    numbers: HashMap<Box<[u8]>, u64, FixedState>,
    bytes: usize,
}

impl Contexts {
    /// The number of the resource or scope with these bytes; `None` where there is no room for it.
    ///
    /// # Errors
    /// A sentence, where it is larger than a series may be.
    pub fn number(&mut self, key: &[u8]) -> Result<Option<u64>, String> {
        if key.len() > SERIES_BYTES_MAX {
            return Err(format!(
                "its resource or scope takes {} bytes, where at most {SERIES_BYTES_MAX} are taken: send fewer or shorter attributes",
                key.len()
            ));
        }
        if let Some(&number) = self.young.numbers.get(key) {
            return Ok(Some(number));
        }
        let number = match self.old.remove(key) {
            Some(number) => number,
            None if self.is_full() => return Ok(None),
            None => self.new_number(),
        };
        self.young.insert(key, number);
        Ok(Some(number))
    }

    /// Tells the time, so that what is old goes.
    pub fn age(&mut self, now: Timestamp) {
        let age = self.since.map_or(i64::MAX, |since| now.nanos().saturating_sub(since.nanos()));
        // A clock that was set back begins anew.
        if !(0..AGE).contains(&age) || (age >= AGE_FULL && self.is_full()) {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
    }

    fn new_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn is_full(&self) -> bool {
        self.young.bytes + self.old.bytes >= BYTES_MAX
    }
}

impl Generation {
    fn insert(&mut self, key: &[u8], number: u64) {
        self.bytes += bytes_of(key);
        self.numbers.insert(key.into(), number);
    }

    fn remove(&mut self, key: &[u8]) -> Option<u64> {
        let number = self.numbers.remove(key)?;
        self.bytes -= bytes_of(key);
        Some(number)
    }
}

fn bytes_of(key: &[u8]) -> usize {
    key.len() + size_of::<(Box<[u8]>, u64)>() + 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Vec<u8> {
        [n.to_le_bytes(), [1; 4]].concat()
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_nanos(minutes * MINUTE)
    }

    #[test]
    fn numbers_stay_and_are_never_given_twice() {
        let mut contexts = Contexts::default();
        contexts.age(at(0));
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100_000 {
            let Some(number) = contexts.number(&key(n)).unwrap() else { break };
            assert!(seen.insert(number));
            assert_eq!(contexts.number(&key(n)), Ok(Some(number)));
        }
        assert!(contexts.young.bytes <= BYTES_MAX + 100 && seen.len() > 50_000);
        // Sent in turn, they are found again although there is no room for all.
        assert_eq!((contexts.number(&key(0)), contexts.number(&key(99_999))), (Ok(Some(0)), Ok(None)));
        contexts.age(at(9));
        assert_eq!(contexts.number(&key(99_999)), Ok(None));
        contexts.age(at(10));
        assert_eq!(contexts.number(&key(7)), Ok(Some(7)), "put in again, it stays");
        contexts.age(at(20));
        let new = contexts.number(&key(99_999)).unwrap().unwrap();
        assert!(seen.insert(new));
        assert_eq!(contexts.number(&key(7)), Ok(Some(7)));
        assert!(seen.insert(contexts.number(&key(0)).unwrap().unwrap()), "let go, it gets another");
        let told = contexts.number(&vec![0; SERIES_BYTES_MAX + 1]).unwrap_err();
        assert!(told.contains("65537 bytes") && told.contains("send fewer"), "{told}");
    }
}
