//! Opening a store: catalog, segments, then the log that no segment covers.

use std::path::Path;
use std::sync::{Arc, RwLock};

use super::core::View;
use super::error::DiskContext;
use super::head::Head;
use super::segment::Segment;
use super::tap::Tap;
use super::wal::{Frame, WalReader, WalWriter, wal_files};
use super::{Store, StoreError, StoreSpec};
use crate::catalog::{Catalog, Registry, SegmentRecord, TableName};
use crate::world::{Disk, World};

impl Store {
    /// Opens the store in `dir`, making it where there is none. Everything acknowledged before is there.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process has it open; a folder that cannot be read or written; a catalog or
    /// segment that is damaged.
    pub fn open(world: World, dir: &Path, spec: StoreSpec) -> Result<Store, StoreError> {
        let catalog_dir = dir.join("catalog");
        Self::open_with_catalog(world, dir, &catalog_dir, spec)
    }

    /// The same with the catalog elsewhere: sled opens its folder itself, so a store on a simulated disk needs a real
    /// folder for it.
    pub fn open_with_catalog(
        world: World,
        dir: &Path,
        catalog_dir: &Path,
        spec: StoreSpec,
    ) -> Result<Store, StoreError> {
        let disk = &*world.disk;
        let wal_dir = dir.join("wal");
        disk.create_dir_all(&wal_dir).at("create", &wal_dir)?;
        let lock_path = dir.join("lock");
        let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => StoreError::InUse { path: dir.to_owned() },
            _ => StoreError::Disk { action: "lock", path: lock_path, source: error },
        })?;
        let catalog = Catalog::open(catalog_dir, &world)?;
        let records = catalog.segments()?;
        sweep(disk, dir, &records)?;

        let next_number = records.iter().map(|record| record.number + 1).max().unwrap_or(1);
        let mut view = open_segments(&world, dir, records)?;
        let floor = catalog.wal_floor()?;
        let last_wal = replay(disk, &wal_dir, floor, catalog.registry(), &view.head)?;
        view.segments = {
            let mut segments = view.segments.to_vec();
            segments.sort_by_key(|segment| segment.record.flushes);
            Arc::new(segments)
        };
        let next_wal = last_wal.map_or(floor, |last| last + 1).max(floor).max(1);
        let wal = WalWriter::create(disk, &wal_dir, next_wal).at("create a log in", &wal_dir)?;
        Ok(Store::assemble(world.clone(), dir.to_owned(), spec, catalog, wal, view, next_number, lock))
    }

    /// Hangs the pipelines on: gives them the state of the last flush and the batches logged since, then every batch to
    /// come. Call it once, before the first write.
    pub fn attach(&self, tap: Arc<dyn Tap>) -> Result<(), StoreError> {
        if let Some(name) = self.catalog.checkpoint()? {
            match self.read_checkpoint(&name) {
                Some(state) => tap.restore(&state),
                None => tracing::warn!(name, "the stages' state does not read: they start afresh"),
            }
        }
        let wal_dir = self.dir.join("wal");
        let disk = &*self.world.disk;
        let floor = self.catalog.wal_floor()?;
        for (number, path) in wal_files(disk, &wal_dir).at("list", &wal_dir)? {
            if number < floor {
                continue;
            }
            for frame in WalReader::open(disk, &path).at("read", &path)? {
                tap.pass(Arc::new(frame.batch));
            }
        }
        if self.tap.set(tap).is_err() {
            tracing::warn!("pipelines were attached before: the second are left out");
        }
        Ok(())
    }

    fn read_checkpoint(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = self.world.disk.open(&self.dir.join("checkpoints").join(name)).ok()?.read_all().ok()?;
        let (crc, packed) = bytes.split_first_chunk::<4>()?;
        (crc32c::crc32c(packed) == u32::from_le_bytes(*crc)).then_some(())?;
        zstd::stream::decode_all(packed).ok()
    }
}

/// Removes files that no catalog entry names: what a crash left half done.
fn sweep(disk: &dyn Disk, dir: &Path, records: &[SegmentRecord]) -> Result<(), StoreError> {
    let known: std::collections::HashSet<_> = records.iter().map(|record| dir.join(&record.path)).collect();
    let samples = dir.join("samples");
    let months = disk.list(&samples).at("list", &samples)?;
    let tables = crate::model::Table::ALL.iter().map(|table| dir.join(table.name()));
    for folder in months.into_iter().chain(tables).chain([dir.join("series")]) {
        for path in disk.list(&folder).at("list", &folder)? {
            if path.extension().is_some_and(|ext| ext == "parquet") && !known.contains(&path) {
                disk.remove(&path).at("remove", &path)?;
            }
        }
    }
    Ok(())
}

fn open_segments(world: &World, dir: &Path, records: Vec<SegmentRecord>) -> Result<View, StoreError> {
    let (samples, mut files): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.table == TableName::Samples);
    files.sort_by_key(|record| record.flushes);
    let segments = samples
        .into_iter()
        .map(|record| Ok(Arc::new(Segment::open(&world.disk, dir, record)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    Ok(View { segments: Arc::new(segments), files: Arc::new(files), ..View::default() })
}

/// Puts the log from `floor` on into the head; the number of its last file. A torn end is cut off.
fn replay(
    disk: &dyn Disk,
    wal_dir: &Path,
    floor: u64,
    registry: &Registry,
    head: &RwLock<Head>,
) -> Result<Option<u64>, StoreError> {
    let mut last = None;
    let mut head = super::core::unpoisoned(head.write());
    for (number, path) in wal_files(disk, wal_dir).at("list", wal_dir)? {
        last = Some(number);
        if number < floor {
            disk.remove(&path).at("remove", &path)?;
            continue;
        }
        let mut reader = WalReader::open(disk, &path).at("read", &path)?;
        for frame in reader.by_ref() {
            take_up(&frame, registry).ok_or_else(|| StoreError::Damaged {
                path: path.clone(),
                reason: "it names series that no log or catalog defines".into(),
            })?;
            head.append(&frame.batch);
        }
        if reader.frames == 0 {
            disk.remove(&path).at("remove", &path)?;
            continue;
        }
        if let Some(tear) = &reader.tear {
            tracing::warn!(path = %path.display(), offset = tear.offset, reason = tear.reason, "a log ends early");
            disk.truncate(&path, reader.offset()).at("truncate", &path)?;
        }
    }
    Ok(last)
}

/// Gives the frame's series the numbers they had; `None` where one is missing.
fn take_up(frame: &Frame, registry: &Registry) -> Option<()> {
    for (at, def) in frame.defs.iter().enumerate() {
        let id = registry.intern(def);
        (id.index() == frame.first_def + at).then_some(())?;
    }
    let highest = frame.batch.series.iter().max().map_or(0, |&id| id as usize + 1);
    (highest <= registry.len()).then_some(())
}
