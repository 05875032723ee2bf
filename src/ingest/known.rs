//! Series that were seen before, by the raw bytes that name them: a lookup for each head of lines (or other key), no
//! allocation. Bounded: what is not seen for an hour is let go.
//!
//! ```text
//! bytes    cpu,host=a | cpu,host=b | …                 keys, end to end
//! entries  end of the key in `bytes`, its fields' place and count     12 bytes a key
//! fields   number of the name, number of the series                    8 bytes a field
//! table    hash of a key → its entry                             about 8 bytes a key
//! ```
//!
//! Keys go into the young one of two such generations. After [`AGE`] the young one becomes the old one, and a key found
//! there goes into the young one again; after [`GRACE`] more the old one is dropped with all that nobody asked for.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use crate::model::{SeriesId, Timestamp};

const MINUTE: i64 = 60_000_000_000;
/// How long a generation takes up new keys.
const AGE: i64 = 60 * MINUTE;
/// How long after that the one before it can still be found in.
const GRACE: i64 = 10 * MINUTE;
/// Bytes of memory of both generations, where nobody says otherwise.
const BYTES_MAX: usize = 64 << 20;
/// Longer keys are not kept: their series is looked up each time.
const KEY_MAX: usize = 16 << 10;

/// A series under a key: one for each field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: u32,
    pub series: SeriesId,
}

/// A field on its way in.
#[derive(Clone, Debug)]
pub(super) struct NewField {
    pub name: Box<[u8]>,
    pub series: SeriesId,
}

/// Memory that several [`Known`] share.
#[derive(Debug)]
pub struct KnownRoom {
    bytes_max: usize,
    taken: AtomicUsize,
}

impl KnownRoom {
    pub fn of(bytes: usize) -> Arc<KnownRoom> {
        Arc::new(KnownRoom { bytes_max: bytes, taken: AtomicUsize::new(0) })
    }

    /// Bytes that all take.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether they take what they may.
    pub fn is_full(&self) -> bool {
        self.taken() >= self.bytes_max
    }
}

/// Keys and the series of their fields; shared between connections.
pub struct Known {
    generations: RwLock<Generations>,
}

pub(super) struct Generations {
    room: Arc<KnownRoom>,
    /// What these take of the room.
    taken: usize,
    young: Generation,
    old: Generation,
    since: Option<Timestamp>,
}

/// What is known of a key.
#[derive(Clone, Copy)]
pub(super) struct Found<'g> {
    fields: &'g [Field],
    of: &'g Generation,
    /// Whether it must be put in again to stay.
    pub is_old: bool,
}

impl Default for Known {
    fn default() -> Self {
        Known::within(BYTES_MAX)
    }
}

impl Known {
    /// One that takes about so many bytes of memory at most. When it is full it takes up no more, rather than let go what
    /// comes again in a moment: clients send their series in turn.
    pub fn within(bytes: usize) -> Self {
        Known::sharing(KnownRoom::of(bytes))
    }

    /// The same of memory that others take from, too.
    pub fn sharing(room: Arc<KnownRoom>) -> Self {
        let (young, old) = (Generation::default(), Generation::default());
        Known { generations: RwLock::new(Generations { room, taken: 0, young, old, since: None }) }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Generations> {
        self.generations.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up keys with all their fields.
    pub(super) fn insert<'k>(&self, keys: impl IntoIterator<Item = (&'k [u8], &'k [NewField])>) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        keys.into_iter().for_each(|(key, fields)| generations.insert(key, fields));
    }

    /// Tells the time, so that what is old goes. Once a request is often enough.
    pub fn age(&self, now: Timestamp) {
        if self.read().is_due(now) {
            self.generations.write().unwrap_or_else(PoisonError::into_inner).age(now);
        }
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        self.read().taken
    }
}

impl Generations {
    pub fn get(&self, key: &[u8]) -> Option<Found<'_>> {
        let hash = FixedState::default().hash_one(key);
        let of = |generation, is_old| move |fields| Found { fields, of: generation, is_old };
        let young = self.young.get(hash, key).map(of(&self.young, false));
        young.or_else(|| self.old.get(hash, key).map(of(&self.old, true)))
    }

    fn insert(&mut self, key: &[u8], fields: &[NewField]) {
        if key.len() <= KEY_MAX && !self.room.is_full() {
            self.young.insert(key, fields);
            self.account();
        }
    }

    /// Takes of the room what there is now.
    fn account(&mut self) {
        let bytes = self.young.bytes() + self.old.bytes();
        if bytes >= self.taken {
            self.room.taken.fetch_add(bytes - self.taken, Ordering::Relaxed);
        } else {
            self.room.taken.fetch_sub(self.taken - bytes, Ordering::Relaxed);
        }
        self.taken = bytes;
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let Some(since) = self.since else { return true };
        let age = now.nanos().saturating_sub(since.nanos());
        !(0..AGE).contains(&age) || (age >= GRACE && (!self.old.entries.is_empty() || self.room.is_full()))
    }

    fn age(&mut self, now: Timestamp) {
        let age = self.since.map_or(0, |since| now.nanos().saturating_sub(since.nanos()));
        // What filled it may have gone since.
        let is_stuck = age >= GRACE && self.old.entries.is_empty() && self.room.is_full();
        if age >= AGE || is_stuck {
            self.old = std::mem::take(&mut self.young);
            self.account();
        } else if age >= GRACE {
            self.old = Generation::default();
            self.account();
            return;
        }
        // A clock that was set back begins anew.
        self.since = Some(now);
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

impl<'g> Found<'g> {
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn field(&self, place: usize) -> Option<(&'g [u8], SeriesId)> {
        self.fields.get(place).map(|field| (&*self.of.names[field.name as usize], field.series))
    }

    /// As they must be to be put in again.
    pub fn to_new(self) -> Vec<NewField> {
        (0..self.len())
            .filter_map(|place| self.field(place))
            .map(|(name, series)| NewField { name: name.into(), series })
            .collect()
    }
}

#[derive(Default)]
struct Generation {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    table: HashTable<u32>,
    fields: Vec<Field>,
    names: Vec<Box<[u8]>>,
    name_numbers: HashMap<Box<[u8]>, u32, FixedState>,
    /// Bytes of all names.
    name_bytes: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    end: u32,
    at: u32,
    len: u32,
}

impl Generation {
    fn get(&self, hash: u64, key: &[u8]) -> Option<&[Field]> {
        let entry = self.table.find(hash, |&entry| key_at(&self.bytes, &self.entries, entry) == key)?;
        let entry = self.entries[*entry as usize];
        Some(&self.fields[entry.at as usize..][..entry.len as usize])
    }

    fn insert(&mut self, key: &[u8], fields: &[NewField]) {
        let at = self.fields.len() as u32;
        for field in fields {
            let name = self.name(&field.name);
            self.fields.push(Field { name, series: field.series });
        }
        let hash = FixedState::default().hash_one(key);
        let same = |&entry: &u32| key_at(&self.bytes, &self.entries, entry) == key;
        if let Some(&known) = self.table.find(hash, same) {
            // The former list stays where it is, unused, until the generation goes.
            let entry = &mut self.entries[known as usize];
            (entry.at, entry.len) = (at, fields.len() as u32);
            return;
        }
        let number = self.entries.len() as u32;
        self.bytes.extend_from_slice(key);
        self.entries.push(Entry { end: self.bytes.len() as u32, at, len: fields.len() as u32 });
        let (bytes, entries) = (&self.bytes, &self.entries);
        let rehash = |&entry: &u32| FixedState::default().hash_one(key_at(bytes, entries, entry));
        self.table.insert_unique(hash, number, rehash);
    }

    fn name(&mut self, name: &[u8]) -> u32 {
        if let Some(&known) = self.name_numbers.get(name) {
            return known;
        }
        let number = self.names.len() as u32;
        self.names.push(name.into());
        self.name_bytes += name.len();
        self.name_numbers.insert(name.into(), number);
        number
    }

    fn bytes(&self) -> usize {
        let names = 2 * (self.names.len() * (size_of::<Box<[u8]>>() + 8) + self.name_bytes);
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.table.capacity() / 7 * 8 * 5
            + self.fields.capacity() * size_of::<Field>()
            + names
    }
}

fn key_at<'b>(bytes: &'b [u8], entries: &[Entry], entry: u32) -> &'b [u8] {
    let at = entry as usize;
    let start = at.checked_sub(1).map_or(0, |before| entries[before].end as usize);
    &bytes[start..entries[at].end as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::world::Chance;

    fn fields(names: &[&str], first: u32) -> Vec<NewField> {
        let series = (first..).map(SeriesId);
        names.iter().zip(series).map(|(name, series)| NewField { name: name.as_bytes().into(), series }).collect()
    }

    fn told(known: &Known, key: &str) -> Option<(Vec<(String, u32)>, bool)> {
        let generations = known.read();
        let found = generations.get(key.as_bytes())?;
        let told = found.to_new().into_iter();
        let told = told.map(|field| (String::from_utf8(field.name.into()).unwrap(), field.series.0));
        Some((told.collect(), found.is_old))
    }

    #[test]
    fn keys_say_what_a_map_says() {
        for seed in 0..20 {
            let (chance, known) = (Chance::seeded(seed), Known::default());
            let mut plain: BTreeMap<String, Vec<(String, u32)>> = BTreeMap::new();
            for at in 0..2000 {
                let key = format!("m{},host={}", chance.below(20), chance.below(40));
                let names = &["a", "b", "usage", "aa"][..chance.below(5) as usize];
                let new = fields(names, at);
                known.insert([(key.as_bytes(), &new[..])]);
                plain.insert(key, names.iter().map(|name| (*name).to_owned()).zip(at..).collect());
            }
            for (key, fields) in plain {
                assert_eq!(told(&known, &key), Some((fields, false)), "seed {seed}: {key}");
            }
            assert_eq!(told(&known, "m20"), None);
        }
    }

    #[test]
    fn what_nobody_asks_for_goes_and_the_rest_stays() {
        let known = Known::default();
        let at = |minutes: i64| Timestamp::from_nanos(minutes * MINUTE);
        let one = fields(&["v"], 7);
        known.age(at(0));
        known.insert([(&b"used"[..], &one[..]), (&b"gone"[..], &one[..])]);
        known.age(at(59));
        assert_eq!(told(&known, "gone"), Some((vec![("v".into(), 7)], false)));
        known.age(at(60));
        assert!(told(&known, "gone").is_some_and(|(_, is_old)| is_old), "still found, to be put in again");
        known.insert([(&b"used"[..], &one[..])]);
        known.age(at(70));
        assert_eq!(told(&known, "gone"), None);
        assert_eq!(told(&known, "used"), Some((vec![("v".into(), 7)], false)));
        // A clock that goes back drops nothing.
        known.age(at(10));
        assert!(told(&known, "used").is_some());
    }

    #[test]
    fn what_is_full_takes_no_more_until_what_filled_it_is_old() {
        let known = Known::within(100_000);
        let at = |minutes: i64| Timestamp::from_nanos(minutes * MINUTE);
        let one = fields(&["v"], 7);
        let put = |name: String| known.insert([(name.as_bytes(), &one[..])]);
        known.age(at(0));
        (0..10_000).for_each(|n| put(format!("flood,n={n}")));
        assert!(known.bytes() < 300_000, "{}", known.bytes());
        assert!(told(&known, "flood,n=0").is_some() && told(&known, "flood,n=9999").is_none());
        put("late".to_owned());
        assert_eq!(told(&known, "late"), None);
        // Old at once, gone after as long again.
        known.age(at(10));
        known.age(at(20));
        assert_eq!(told(&known, "flood,n=0"), None);
        put("late".to_owned());
        assert!(told(&known, "late").is_some());
    }

    #[test]
    fn several_share_one_room() {
        let room = KnownRoom::of(100_000);
        let (one, other) = (Known::sharing(room.clone()), Known::sharing(room.clone()));
        let field = fields(&["v"], 7);
        (0..10_000).for_each(|n| one.insert([(format!("flood,n={n}").as_bytes(), &field[..])]));
        other.insert([(&b"late"[..], &field[..])]);
        assert!(room.is_full() && told(&other, "late").is_none());
        assert_eq!(room.taken(), one.bytes() + other.bytes());
        drop(one);
        assert_eq!(room.taken(), other.bytes());
        other.insert([(&b"late"[..], &field[..])]);
        assert!(told(&other, "late").is_some());
    }

    #[test]
    fn a_head_takes_few_bytes() {
        let known = Known::default();
        let count = 100_000_u32;
        for at in 0..count {
            let key = format!("app_metric_{:05},host=web-{:03},region=r{}", at / 100, at % 100, at % 4);
            known.insert([(key.as_bytes(), &fields(&["value"], at)[..])]);
        }
        let each = known.bytes() / count as usize;
        println!("{each} bytes a head");
        assert!(each <= 120, "{each} bytes a head");
    }
}
