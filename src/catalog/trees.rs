//! The catalog's trees in sled: read whole, filled anew, changed in one transaction.

use std::collections::BTreeMap;
use std::path::Path;

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::kept::{Format, Head, Kept, json};
use super::sealed::{Entry, entries, open_sled, seal, unseal};
use super::{CatalogError, Commit, FORMAT, Loss, Registry, SegmentRecord};
use crate::model::{Description, SeriesDef};

/// Series of a block.
const SERIES_BLOCK: usize = 256;
pub(super) const HEAD: &[u8] = b"head";

pub(super) type SeriesBlocks = Vec<(u32, Vec<u8>)>;
/// Metrics and what is said of them.
pub(super) type Described = [(String, Description)];

pub(super) struct Trees {
    pub db: sled::Db,
    pub series: sled::Tree,
    pub metrics: sled::Tree,
    pub segments: sled::Tree,
    pub losses: sled::Tree,
    pub state: sled::Tree,
}

pub(super) fn series_blocks(
    registry: &Registry,
    from: usize,
    to: usize,
) -> Result<(SeriesBlocks, usize), CatalogError> {
    let len = to.max(from);
    let blocks = (from..len).step_by(SERIES_BLOCK).map(|first| {
        let last = len.min(first + SERIES_BLOCK);
        let mut plain = Vec::new();
        registry.defs(first..last).iter().for_each(|def| def.encode(&mut plain));
        let block = zstd::bulk::compress(&plain, 3).map_err(|error| CatalogError::Sled(error.into()))?;
        Ok((first as u32, block))
    });
    Ok((blocks.collect::<Result<_, CatalogError>>()?, len))
}

impl Trees {
    pub fn open(path: &Path) -> Result<Trees, CatalogError> {
        let db = open_sled(path)?;
        let tree = |name: &str| db.open_tree(name);
        let (series, metrics, segments) = (tree("series")?, tree("metrics")?, tree("segments")?);
        let (losses, state) = (tree("losses")?, tree("state")?);
        Ok(Trees { db, series, metrics, segments, losses, state })
    }

    /// All of it, checked against the head.
    pub fn read(&self) -> Result<(Kept, Registry), CatalogError> {
        if let Some(found) = self.state.get("format")? {
            // As format 1 had it.
            let found = found.as_ref().try_into().map_or(0, u64::from_be_bytes);
            return Err(CatalogError::OtherFormat { found });
        }
        let damaged = |entry: &str| CatalogError::Damaged { entry: entry.to_owned() };
        let head = self.state.get(HEAD)?.ok_or(CatalogError::Missing)?;
        let head = unseal(HEAD, &head).ok_or_else(|| damaged("head"))?;
        // By itself first: the head of another format may look different.
        let Format { format: found } = serde_json::from_slice(head).map_err(|_| damaged("head"))?;
        if found != FORMAT {
            return Err(CatalogError::OtherFormat { found });
        }
        let head: Head = serde_json::from_slice(head).map_err(|_| damaged("head"))?;
        let record = |(_, value): Entry| serde_json::from_slice::<SegmentRecord>(&value);
        let records = entries(&self.segments)?.into_iter().map(record).collect::<Result<Vec<_>, _>>();
        let loss = |(_, value): Entry| serde_json::from_slice::<Loss>(&value);
        let losses = entries(&self.losses)?.into_iter().map(loss).collect::<Result<Vec<_>, _>>();
        let empty = Head { segments: 0, segments_sum: 0, ..head.clone() };
        let mut kept = Kept { head: empty, records: BTreeMap::new(), losses: losses.map_err(|_| damaged("losses"))? };
        kept.take(&records.map_err(|_| damaged("segments"))?, &[]);
        let series = read_series(&self.series)?;
        for (metric, about) in entries(&self.metrics)? {
            let about = std::str::from_utf8(&metric).ok().zip(Description::decode(&about));
            let (metric, about) = about.ok_or_else(|| damaged("metrics"))?;
            series.describe(metric, &about);
        }
        let counts = (series.len() as u64, series.described() as u64, kept.losses.len() as u64);
        series.take_described(false);
        if kept.head != head || counts != (head.series, head.metrics, head.losses) {
            return Err(damaged("head"));
        }
        Ok((kept, series))
    }

    /// Whether a metric's description is there.
    pub fn describes(&self, metric: &str) -> bool {
        self.metrics.contains_key(metric).unwrap_or(false)
    }

    pub fn fill(&self, kept: &Kept, blocks: &SeriesBlocks, metrics: &Described) -> Result<(), CatalogError> {
        for tree in [&self.series, &self.metrics, &self.segments, &self.losses, &self.state] {
            tree.clear()?;
        }
        for (first, block) in blocks {
            self.series.insert(first.to_be_bytes(), seal(&first.to_be_bytes(), block))?;
        }
        for (metric, about) in metrics {
            self.metrics.insert(metric, seal(metric.as_bytes(), &encoded(about)))?;
        }
        for (number, record) in &kept.records {
            self.segments.insert(number.to_be_bytes(), seal(&number.to_be_bytes(), &json(record)))?;
        }
        for (at, loss) in kept.losses.iter().enumerate() {
            let key = (at as u64).to_be_bytes();
            self.losses.insert(key, seal(&key, &json(loss)))?;
        }
        // With the head it is a catalog.
        self.db.flush()?;
        self.state.insert(HEAD, seal(HEAD, &json(&kept.head)))?;
        self.db.flush()?;
        Ok(())
    }

    pub fn change(
        &self,
        commit: &Commit,
        next: &Kept,
        new_losses: std::ops::Range<usize>,
        blocks: &SeriesBlocks,
        described: &Described,
    ) -> Result<(), CatalogError> {
        (&self.series, &self.metrics, &self.segments, &self.losses, &self.state)
            .transaction(|(series, metrics, segments, losses, state)| {
                for (metric, about) in described {
                    metrics.insert(metric.as_bytes(), seal(metric.as_bytes(), &encoded(about)))?;
                }
                for (first, block) in blocks {
                    series.insert(&first.to_be_bytes(), seal(&first.to_be_bytes(), block))?;
                }
                for number in &commit.remove {
                    segments.remove(&number.to_be_bytes())?;
                }
                for record in &commit.add {
                    let key = record.number.to_be_bytes();
                    segments.insert(&key, seal(&key, &json(record)))?;
                }
                for at in new_losses.clone() {
                    let key = (at as u64).to_be_bytes();
                    losses.insert(&key, seal(&key, &json(&next.losses[at])))?;
                }
                state.insert(HEAD, seal(HEAD, &json(&next.head)))?;
                Ok::<(), ConflictableTransactionError<sled::Error>>(())
            })
            .map_err(|error| match error {
                TransactionError::Abort(error) | TransactionError::Storage(error) => CatalogError::Sled(error),
            })?;
        self.db.flush()?;
        Ok(())
    }
}

fn encoded(about: &Description) -> Vec<u8> {
    let mut bytes = Vec::new();
    about.encode(&mut bytes);
    bytes
}

pub(super) fn read_series(tree: &sled::Tree) -> Result<Registry, CatalogError> {
    let (registry, mut len) = (Registry::default(), 0);
    for (key, block) in entries(tree)? {
        let damaged = || CatalogError::Damaged { entry: format!("series from {len}") };
        if key != (len as u32).to_be_bytes() {
            return Err(damaged());
        }
        let plain = zstd::stream::decode_all(&block[..]).map_err(|_| damaged())?;
        let mut rest = &plain[..];
        while !rest.is_empty() {
            SeriesDef::decode(&mut rest)
                .filter(|def| registry.intern(def).index() == len)
                .ok_or_else(|| CatalogError::Damaged { entry: format!("series {len}") })?;
            len += 1;
        }
    }
    registry.set_committed(len);
    Ok(registry)
}
