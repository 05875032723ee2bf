//! The catalog: which series exist, which segments make up each table, how far the log is covered, what is lost. Kept in
//! sled, changed in one transaction.
//!
//! Its trees, keys and values are drawn in `store/FORMAT.md`.
//!
//! What sled gives back is not taken on trust: values are sealed, the head says how many there are and sums them up, and
//! the witness (`witness.rs`) says how many commits there were. What does not agree is an error, and the store makes a new
//! catalog from its files.

mod kept;
mod losses;
mod registry;
mod runs;
mod sealed;
mod segments;
mod trees;
mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::world::{Disk, RealDisk, World};

use kept::{Head, Kept};
pub use losses::Loss;
pub use registry::{Key, KeyTexts, LabelStats, Measurement, MetricStats, Registry, SeriesSet};
#[cfg(test)]
pub(crate) use runs::{LossOfRuns, Power, RunTwin};
pub use runs::{RunChange, RunLog, RunRecord, RunState, Runs, SkipReason, Skipped, Through};
use sealed::guarded;
pub use segments::{SegmentRecord, TableName};
use trees::{Trees, series_blocks};
use witness::Witness;

/// Version of the layout of everything in the data directory (`store/FORMAT.md`). Another one is refused.
pub const FORMAT: u64 = 4;

/// What goes wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("the catalog cannot be read or written")]
    Sled(#[from] sled::Error),
    #[error("there is no catalog")]
    Missing,
    #[error("its entry {entry} is damaged")]
    Damaged { entry: String },
    #[error("it fell back to commit {found} of {witnessed}")]
    RolledBack { found: u64, witnessed: u64 },
    #[error("it is that of another store")]
    Foreign,
    #[error("sled gave up on it: {told}")]
    Panicked { told: String },
    #[error("the data directory has format {found}, this program knows {FORMAT}: use the plimsoll that wrote it")]
    OtherFormat { found: u64 },
}

impl CatalogError {
    /// Whether a new catalog made from the store's files helps.
    pub fn is_damage(&self) -> bool {
        use std::io::ErrorKind as E;
        match self {
            CatalogError::OtherFormat { .. } => false,
            CatalogError::Sled(sled::Error::Io(error)) => {
                let told = error.to_string();
                let is_outside = matches!(error.kind(), E::PermissionDenied | E::StorageFull | E::ReadOnlyFilesystem);
                !is_outside && !told.contains("could not acquire lock")
            }
            _ => true,
        }
    }
}

/// Where a catalog is.
#[derive(Clone, Debug)]
pub struct CatalogPlace {
    /// sled's folder.
    pub dir: PathBuf,
    /// The file that says how far it had come.
    pub witness: PathBuf,
}

/// All that a catalog holds.
#[derive(Default)]
pub struct Contents {
    pub records: Vec<SegmentRecord>,
    pub series: Registry,
    pub losses: Vec<Loss>,
    /// Of these, from the first, so many were taken note of.
    pub acknowledged: u64,
    pub wal_floor: u64,
    pub checkpoint: Option<String>,
    /// Number for the next file.
    pub next_number: u64,
    /// Commits there were before.
    pub generation: u64,
}

/// One step from a consistent state to the next: all of it is kept, or none.
#[derive(Debug, Default)]
pub struct Commit {
    pub add: Vec<SegmentRecord>,
    pub remove: Vec<u64>,
    /// The log below this file number is covered by segments.
    pub wal_floor: Option<u64>,
    /// Name of the file with the stages' state as of `wal_floor`; empty where there is none any more.
    pub checkpoint: Option<String>,
    /// Series below this number are made durable with it. Only those that files for readers outside name, too: sources
    /// go on adding series meanwhile.
    pub series: usize,
    pub losses: Vec<Loss>,
    /// All losses so far were taken note of.
    pub acknowledge: bool,
}

/// The catalog, open.
pub struct Catalog {
    trees: Trees,
    kept: Mutex<Kept>,
    registry: Arc<Registry>,
    witness: Witness,
}

impl Catalog {
    /// Opens a catalog.
    ///
    /// # Errors
    /// [`CatalogError::Missing`] where there is none; others where it is not as the last commit left it.
    pub fn open(place: &CatalogPlace, world: &World) -> Result<Catalog, CatalogError> {
        if RealDisk.list(&place.dir).is_ok_and(|files| files.is_empty()) {
            return Err(CatalogError::Missing);
        }
        let (trees, kept, series) = guarded(|| {
            let trees = Trees::open(&place.dir)?;
            let (kept, series) = trees.read()?;
            Ok((trees, kept, series))
        })?;
        let witness = Witness::new(world.disk.clone(), &place.witness);
        let said = witness.ask();
        if let Some(said) = &said {
            kept.head.agree_with(said)?;
        }
        let catalog = Catalog { trees, kept: Mutex::new(kept), registry: Arc::new(series), witness };
        if said.as_ref() != Some(&catalog.kept().head.said()) {
            catalog.tell_witness();
        }
        Ok(catalog)
    }

    /// Makes a catalog of what is given, in an empty folder or over one that was never finished.
    pub fn create(place: &CatalogPlace, world: &World, contents: Contents) -> Result<Catalog, CatalogError> {
        let store = format!("{:016x}", world.chance.next_u64());
        let registry = Arc::new(contents.series);
        let (blocks, len) = series_blocks(&registry, 0, registry.len())?;
        registry.set_committed(len);
        let head = Head {
            format: FORMAT,
            store,
            generation: contents.generation + 1,
            wal_floor: contents.wal_floor,
            checkpoint: contents.checkpoint,
            next_number: contents.next_number.max(1),
            segments: 0,
            segments_sum: 0,
            series: len as u64,
            metrics: registry.described() as u64,
            losses: contents.losses.len() as u64,
            acknowledged: contents.acknowledged,
        };
        let mut kept = Kept { head, records: BTreeMap::new(), losses: contents.losses };
        kept.take(&contents.records, &[]);
        let trees = guarded(|| {
            let trees = Trees::open(&place.dir)?;
            trees.fill(&kept, &blocks, &registry.take_described(true))?;
            Ok(trees)
        })?;
        let witness = Witness::new(world.disk.clone(), &place.witness);
        let catalog = Catalog { trees, kept: Mutex::new(kept), registry, witness };
        catalog.tell_witness();
        Ok(catalog)
    }

    /// How many commits the witness saw; `None` where there is no witness.
    pub fn witnessed(place: &CatalogPlace, world: &World) -> Option<u64> {
        Witness::new(world.disk.clone(), &place.witness).ask().map(|said| said.generation)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs of jobs, in a tree of their own.
    ///
    /// # Errors
    /// sled cannot open it.
    pub fn runs(&self) -> Result<Runs, CatalogError> {
        Runs::open(&self.trees.db)
    }

    /// All series, those not yet committed among them.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Every live segment, by number.
    pub fn segments(&self) -> Vec<SegmentRecord> {
        self.kept().records.values().cloned().collect()
    }

    /// Log files below this number are covered by segments.
    pub fn wal_floor(&self) -> u64 {
        self.kept().head.wal_floor
    }

    /// Name of the file with the stages' state as of the log's floor.
    pub fn checkpoint(&self) -> Option<String> {
        self.kept().head.checkpoint.clone()
    }

    /// Number for the next file: no file that was ever committed has it or a higher one.
    pub fn next_number(&self) -> u64 {
        self.kept().head.next_number
    }

    /// Rows that are lost, in the order they were missed.
    pub fn losses(&self) -> Vec<Loss> {
        self.kept().losses.clone()
    }

    /// How many losses nobody has taken note of.
    pub fn losses_open(&self) -> u64 {
        let head = &self.kept().head;
        head.losses - head.acknowledged.min(head.losses)
    }

    /// All of it, but only series that are committed.
    pub fn contents(&self) -> Contents {
        let kept = self.kept();
        Contents {
            records: kept.records.values().cloned().collect(),
            series: self.registry.first(kept.head.series as usize),
            losses: kept.losses.clone(),
            acknowledged: kept.head.acknowledged,
            wal_floor: kept.head.wal_floor,
            checkpoint: kept.head.checkpoint.clone(),
            next_number: kept.head.next_number,
            generation: kept.head.generation,
        }
    }

    /// Reads all of it again and compares it with what is in memory.
    pub fn check(&self) -> Result<(), CatalogError> {
        let kept = self.kept();
        let (found, _) = guarded(|| self.trees.read())?;
        if found.head != kept.head || found.records != kept.records || found.losses != kept.losses {
            return Err(CatalogError::Damaged { entry: "head".to_owned() });
        }
        match self.witness.ask() {
            Some(said) if said == kept.head.said() => Ok(()),
            _ => Err(CatalogError::Damaged { entry: "generation".to_owned() }),
        }
    }

    /// Makes `commit` durable, the series it names among it: all of it together. Losses that are known are left out.
    pub fn commit(&self, commit: &Commit) -> Result<(), CatalogError> {
        let mut kept = self.kept();
        let (blocks, len) = series_blocks(&self.registry, self.registry.committed(), commit.series)?;
        let mut next = kept.after(commit);
        next.head.series = len as u64;
        let losses = kept.losses.len()..next.losses.len();
        let described = self.registry.take_described(false);
        next.head.metrics += described.iter().filter(|(metric, _)| !self.trees.describes(metric)).count() as u64;
        guarded(|| self.trees.change(commit, &next, losses, &blocks, &described))?;
        *kept = next;
        drop(kept);
        self.registry.set_committed(len);
        self.tell_witness();
        Ok(())
    }

    /// A witness that lags behind is no fault: it only sees less.
    fn tell_witness(&self) {
        let said = self.kept().head.said();
        if let Err(error) = self.witness.tell(&said) {
            tracing::warn!(%error, "the catalog's witness cannot be written");
        }
    }
}

#[cfg(test)]
mod format_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, SeriesDef, SeriesId};

    fn place(dir: &tempfile::TempDir) -> CatalogPlace {
        CatalogPlace { dir: dir.path().join("catalog"), witness: dir.path().join("generation") }
    }

    #[test]
    fn what_is_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (world, place) = (World::real(), place(&dir));
        let def = |n: u32| SeriesDef::new("m", Labels::new([("n", n.to_string())]));
        let loss = |path: &str| Loss { path: path.into(), reason: "gone".into(), ..Loss::default() };
        assert!(matches!(Catalog::open(&place, &world), Err(CatalogError::Missing)));
        {
            let catalog = Catalog::create(&place, &world, Contents::default()).unwrap();
            (0..5000).for_each(|n| assert_eq!(catalog.registry().intern(def(n)), SeriesId(n)));
            catalog.commit(&Commit { wal_floor: Some(7), series: 5000, ..Commit::default() }).unwrap();
            catalog.registry().intern(def(5000));
            catalog.registry().intern(def(5001));
            catalog.commit(&Commit { series: 5001, ..Commit::default() }).unwrap();
            // One that names no series adds none and takes none back; the same loss counts once.
            for path in ["a", "b", "a"] {
                let commit = Commit { checkpoint: Some("c".into()), losses: vec![loss(path)], ..Commit::default() };
                catalog.commit(&commit).unwrap();
            }
            assert_eq!(catalog.registry().committed(), 5001);
            catalog.check().unwrap();
        }
        let catalog = Catalog::open(&place, &world).unwrap();
        assert_eq!(catalog.registry().len(), 5001);
        assert_eq!(catalog.registry().def(SeriesId(4999)), def(4999));
        assert_eq!((catalog.wal_floor(), catalog.checkpoint().as_deref()), (7, Some("c")));
        assert_eq!((catalog.losses(), catalog.losses_open()), (vec![loss("a"), loss("b")], 2));
        catalog.commit(&Commit { acknowledge: true, ..Commit::default() }).unwrap();
        assert_eq!(catalog.losses_open(), 0);
    }

    #[test]
    fn a_catalog_of_before_is_known_by_its_witness() {
        let dir = tempfile::tempdir().unwrap();
        let (world, place) = (World::real(), place(&dir));
        drop(Catalog::create(&place, &world, Contents::default()).unwrap());
        let before = CatalogPlace { dir: dir.path().join("before"), witness: place.witness.clone() };
        let copy = || {
            std::fs::create_dir_all(&before.dir).unwrap();
            for file in ["conf", "db"] {
                std::fs::copy(place.dir.join(file), before.dir.join(file)).unwrap();
            }
        };
        copy();
        // sled ahead of its witness is what a crash between the two leaves.
        let witness = std::fs::read(&place.witness).unwrap();
        Catalog::open(&place, &world).unwrap().commit(&Commit { wal_floor: Some(9), ..Commit::default() }).unwrap();
        let after = std::fs::read(&place.witness).unwrap();
        std::fs::write(&place.witness, &witness).unwrap();
        assert_eq!(Catalog::open(&place, &world).unwrap().wal_floor(), 9);
        assert_eq!(std::fs::read(&place.witness).unwrap(), after);
        let told = Catalog::open(&before, &world).err().unwrap();
        assert!(matches!(told, CatalogError::RolledBack { found: 1, witnessed: 2 }), "{told:?}");
    }

    #[test]
    fn a_flipped_byte_anywhere_in_it_is_harmless_or_told() {
        let dir = tempfile::tempdir().unwrap();
        let (world, place) = (World::real(), place(&dir));
        let catalog = Catalog::create(&place, &world, Contents::default()).unwrap();
        catalog.registry().intern(SeriesDef::new("m", Labels::new([("n", "1")])));
        catalog.commit(&Commit { series: 1, wal_floor: Some(3), ..Commit::default() }).unwrap();
        drop(catalog);
        let whole = std::fs::read(place.dir.join("db")).unwrap();
        let used = whole.iter().rposition(|&byte| byte != 0).unwrap();
        let mut told = 0;
        for at in (0..used).step_by(used / 60) {
            let copy = tempfile::tempdir().unwrap();
            let damaged = CatalogPlace { dir: copy.path().join("catalog"), witness: copy.path().join("generation") };
            std::fs::create_dir_all(&damaged.dir).unwrap();
            std::fs::copy(place.dir.join("conf"), damaged.dir.join("conf")).unwrap();
            std::fs::copy(&place.witness, &damaged.witness).unwrap();
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            std::fs::write(damaged.dir.join("db"), bytes).unwrap();
            match Catalog::open(&damaged, &world) {
                Ok(catalog) => assert_eq!((catalog.wal_floor(), catalog.registry().len()), (3, 1), "at {at}"),
                Err(error) => {
                    assert!(error.is_damage(), "at {at}: {error:?}");
                    told += 1;
                }
            }
        }
        assert!(told > 0, "no flip of {used} bytes hit anything");
    }
}
