//! The catalog: which series exist, which segments make up each table, how far the log is covered. Kept in sled,
//! changed in one transaction.
//!
//! ```text
//! tree      key                         value
//! series    first id, u32 big-endian    zstd of consecutive encoded definitions
//! segments  segment number, u64 be      SegmentRecord as JSON
//! state     name                        "format", "wal_floor", "next_segment": u64 be; "checkpoint", "store": text
//! ```

mod registry;
mod segments;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sled::transaction::{ConflictableTransactionError, Transactional};

use crate::model::SeriesDef;
use crate::world::World;

pub use registry::{Key, KeyTexts, LabelStats, Measurement, MetricStats, Registry, SeriesSet};
pub use segments::{SegmentRecord, TableName};

/// Version of the layout of everything in the data directory. A newer one is refused.
pub const FORMAT: u64 = 1;

const SERIES_BLOCK: usize = 1024;

/// Bytes by which sled's log grows: its default of 512 KiB would be most of a small store.
const LOG_SEGMENT: usize = 128 << 10;

type SeriesBlocks = Vec<(u32, Vec<u8>)>;

/// What goes wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("the catalog cannot be read or written")]
    Sled(#[from] sled::Error),
    #[error("the catalog's entry {entry} is damaged")]
    Damaged { entry: String },
    #[error("the data directory has format {found}, this program knows up to {FORMAT}: use a newer plimsoll")]
    Newer { found: u64 },
}

/// One step from a consistent state to the next: all of it is kept, or none.
#[derive(Debug, Default)]
pub struct Commit {
    pub add: Vec<SegmentRecord>,
    pub remove: Vec<u64>,
    /// The log below this file number is covered by segments.
    pub wal_floor: Option<u64>,
    /// Name of the file with the stages' state as of `wal_floor`.
    pub checkpoint: Option<String>,
    /// Series below this number are made durable with it. Only those that files for readers outside name, too: sources
    /// go on adding series meanwhile.
    pub series: usize,
}

/// The catalog, open.
pub struct Catalog {
    db: sled::Db,
    series: sled::Tree,
    segments: sled::Tree,
    state: sled::Tree,
    registry: Arc<Registry>,
}

impl Catalog {
    /// Opens or makes the catalog in the folder `path`.
    pub fn open(path: &Path, world: &World) -> Result<Catalog, CatalogError> {
        let db = open_sled(path)?;
        let (series, segments, state) = (db.open_tree("series")?, db.open_tree("segments")?, db.open_tree("state")?);
        if let Some(found) = number(&state, "format")?.filter(|&found| found > FORMAT) {
            return Err(CatalogError::Newer { found });
        }
        if state.get("store")?.is_none() {
            state.insert("store", format!("{:016x}", world.chance.next_u64()).as_bytes())?;
            state.insert("format", &FORMAT.to_be_bytes())?;
            db.flush()?;
        }
        let registry = Arc::new(read_series(&series)?);
        Ok(Catalog { db, series, segments, state, registry })
    }

    /// All series, those not yet committed among them.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Every live segment, by number.
    pub fn segments(&self) -> Result<Vec<SegmentRecord>, CatalogError> {
        let decode = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = entry?;
            serde_json::from_slice(&value).map_err(|_| CatalogError::Damaged { entry: format!("segments {key:?}") })
        };
        self.segments.iter().map(decode).collect()
    }

    /// Log files below this number are covered by segments.
    pub fn wal_floor(&self) -> Result<u64, CatalogError> {
        Ok(number(&self.state, "wal_floor")?.unwrap_or(0))
    }

    /// Name of the file with the stages' state as of the log's floor.
    pub fn checkpoint(&self) -> Result<Option<String>, CatalogError> {
        let text = self.state.get("checkpoint")?;
        Ok(text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Name of this store, random, given when it was made.
    pub fn store(&self) -> Result<String, CatalogError> {
        let text = self.state.get("store")?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Makes `commit` durable, the series it names among it: all of it together.
    pub fn commit(&self, commit: &Commit) -> Result<(), CatalogError> {
        let (blocks, len) = self.new_series_blocks(commit.series)?;
        let added: Vec<(u64, Vec<u8>)> = commit
            .add
            .iter()
            .map(|record| (record.number, serde_json::to_vec(record).expect("a record is plain data")))
            .collect();
        (&self.series, &self.segments, &self.state)
            .transaction(|(series, segments, state)| {
                for (first, block) in &blocks {
                    series.insert(&first.to_be_bytes(), block.as_slice())?;
                }
                for number in &commit.remove {
                    segments.remove(&number.to_be_bytes())?;
                }
                for (number, record) in &added {
                    segments.insert(&number.to_be_bytes(), record.as_slice())?;
                }
                if let Some(floor) = commit.wal_floor {
                    state.insert("wal_floor", &floor.to_be_bytes())?;
                }
                if let Some(name) = &commit.checkpoint {
                    state.insert("checkpoint", name.as_bytes())?;
                }
                Ok::<(), ConflictableTransactionError<sled::Error>>(())
            })
            .map_err(|error| match error {
                sled::transaction::TransactionError::Abort(error)
                | sled::transaction::TransactionError::Storage(error) => CatalogError::Sled(error),
            })?;
        self.db.flush()?;
        self.registry.set_committed(len);
        Ok(())
    }

    fn new_series_blocks(&self, to: usize) -> Result<(SeriesBlocks, usize), CatalogError> {
        let from = self.registry.committed();
        let len = to.max(from);
        let blocks = (from..len).step_by(SERIES_BLOCK).map(|first| {
            let last = len.min(first + SERIES_BLOCK);
            let mut plain = Vec::new();
            self.registry.defs(first..last).iter().for_each(|def| def.encode(&mut plain));
            let block = zstd::bulk::compress(&plain, 3).map_err(|error| CatalogError::Sled(error.into()))?;
            Ok((first as u32, block))
        });
        Ok((blocks.collect::<Result<_, CatalogError>>()?, len))
    }
}

/// How often and how long to wait for sled's threads of an earlier opening to let go of its file.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 500;

/// Opens sled's folder. The data directory's own lock is held by then, so a lock on sled's file can only be that of an
/// earlier opening in this process, which sled's threads give up a moment after it was closed.
fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(8 << 20)
        .segment_size(LOG_SEGMENT)
        .flush_every_ms(None);
    let mut looks = 0;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if looks < LOOKS && error.to_string().contains("could not acquire lock") => {
                looks += 1;
                std::thread::sleep(LOOK);
            }
            opened => return opened,
        }
    }
}

fn number(tree: &sled::Tree, name: &str) -> Result<Option<u64>, CatalogError> {
    let damaged = || CatalogError::Damaged { entry: name.to_owned() };
    let bytes = tree.get(name)?;
    bytes.map(|bytes| Ok(u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| damaged())?))).transpose()
}

fn read_series(tree: &sled::Tree) -> Result<Registry, CatalogError> {
    let (registry, mut len) = (Registry::default(), 0);
    for entry in tree {
        let (key, block) = entry?;
        let damaged = || CatalogError::Damaged { entry: format!("series from {len}") };
        if key.as_ref() != (len as u32).to_be_bytes() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, SeriesId};

    #[test]
    fn what_is_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let world = World::real();
        let def = |n: u32| SeriesDef::new("m", Labels::new([("n", n.to_string())]));
        {
            let catalog = Catalog::open(dir.path(), &world).unwrap();
            (0..5000).for_each(|n| assert_eq!(catalog.registry().intern(def(n)), SeriesId(n)));
            catalog.commit(&Commit { wal_floor: Some(7), series: 5000, ..Commit::default() }).unwrap();
            catalog.registry().intern(def(5000));
            catalog.registry().intern(def(5001));
            catalog.commit(&Commit { series: 5001, ..Commit::default() }).unwrap();
            // One that names no series adds none and takes none back.
            catalog.commit(&Commit { checkpoint: Some("c".into()), ..Commit::default() }).unwrap();
            assert_eq!(catalog.registry().committed(), 5001);
        }
        let catalog = Catalog::open(dir.path(), &world).unwrap();
        assert_eq!(catalog.registry().len(), 5001);
        assert_eq!(catalog.registry().def(SeriesId(4999)), def(4999));
        assert_eq!(catalog.wal_floor().unwrap(), 7);
        assert_eq!(catalog.checkpoint().unwrap().as_deref(), Some("c"));
    }
}
