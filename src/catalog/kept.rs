//! What the catalog keeps in memory of itself: all but the series, and the head that sums it up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::witness::Said;
use super::{CatalogError, Commit, Loss, SegmentRecord};

/// What the trees must hold, and the rest of what there is to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub format: u64,
    /// Name of this store, random, given when it was made.
    pub store: String,
    /// Commits so far.
    pub generation: u64,
    pub wal_floor: u64,
    pub checkpoint: Option<String>,
    pub next_number: u64,
    pub segments: u64,
    /// The checksums of all segments' values, each with the others by exclusive or.
    pub segments_sum: u32,
    pub series: u64,
    /// Metrics described.
    pub metrics: u64,
    pub losses: u64,
    pub acknowledged: u64,
}

/// The part of every head, whatever its format.
#[derive(Deserialize)]
pub(super) struct Format {
    pub format: u64,
}

/// Everything but the series, in memory.
pub(super) struct Kept {
    pub head: Head,
    pub records: BTreeMap<u64, SegmentRecord>,
    pub losses: Vec<Loss>,
}

impl Head {
    pub fn said(&self) -> Said {
        Said { generation: self.generation, store: self.store.clone() }
    }

    pub fn agree_with(&self, said: &Said) -> Result<(), CatalogError> {
        if self.store != said.store {
            return Err(CatalogError::Foreign);
        }
        if self.generation < said.generation {
            return Err(CatalogError::RolledBack { found: self.generation, witnessed: said.generation });
        }
        Ok(())
    }
}

impl Kept {
    /// Takes records in and others out, and sums them up.
    pub fn take(&mut self, add: &[SegmentRecord], remove: &[u64]) {
        for record in remove.iter().filter_map(|number| self.records.remove(number)) {
            self.head.segments_sum ^= crc32c::crc32c(&json(&record));
        }
        for record in add {
            self.head.segments_sum ^= crc32c::crc32c(&json(record));
            self.head.next_number = self.head.next_number.max(record.number + 1);
            self.records.insert(record.number, record.clone());
        }
        self.head.segments = self.records.len() as u64;
    }

    pub fn after(&self, commit: &Commit) -> Kept {
        let mut next = Kept { head: self.head.clone(), records: self.records.clone(), losses: self.losses.clone() };
        next.take(&commit.add, &commit.remove);
        for loss in &commit.losses {
            if !next.losses.iter().any(|known| known.is_that_of(loss)) {
                next.losses.push(loss.clone());
            }
        }
        let head = &mut next.head;
        head.generation += 1;
        head.wal_floor = commit.wal_floor.unwrap_or(head.wal_floor);
        head.checkpoint = commit.checkpoint.clone().or(head.checkpoint.take()).filter(|name| !name.is_empty());
        head.losses = next.losses.len() as u64;
        if commit.acknowledge {
            head.acknowledged = head.losses;
        }
        next
    }
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}
