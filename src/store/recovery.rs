//! Opening a store: catalog, segments, then the log that no segment covers. Whatever is damaged is set aside and told; the
//! rest is served.

use std::path::Path;
use std::sync::Arc;

use super::core::View;
use super::derived::check_file;
use super::error::{DiskContext, told_with_causes};
use super::rebuild::rebuild;
use super::replay::replay;
use super::segment::Segment;
use super::sweep::{Ledger, sweep};
use super::table_file::TableFile;
use super::tap::Tap;
use super::wal::{WalReader, WalWriter, wal_files};
use super::{Store, StoreError, StoreSpec};
use crate::catalog::{Catalog, CatalogError, CatalogPlace, Commit, Contents, SegmentRecord, TableName};
use crate::world::{Disk, World};

/// A file that does not open, and why.
pub(super) type Broken = (SegmentRecord, String);

impl Store {
    /// Opens the store in `dir`, making it where there is none. Everything acknowledged before is there, but for what
    /// [`Store::losses`] tells.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process has it open; a folder that cannot be read or written; a directory of
    /// another format.
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
        sync_names(disk, dir)?;
        let lock = lock(disk, dir)?;
        let mut notes = Vec::new();
        let place = CatalogPlace { dir: catalog_dir.to_owned(), witness: dir.join("generation") };
        let catalog = open_catalog(&world, dir, &place, &mut notes)?;
        let ledger = Ledger::of(&catalog, &world, dir, &spec)?;
        let unknown = sweep(&world.disk, dir, &ledger)?;
        notes.extend(unknown.into_iter().map(|path| format!("{path} was set aside: the catalog does not know it")));

        let records = catalog.segments();
        let last_flush = records.iter().map(|record| record.flushes.1).max().unwrap_or(0);
        let (mut view, broken) = open_files(&world, dir, records)?;
        let floor = catalog.wal_floor();
        let mut replayed = replay(&world, dir, floor, catalog.registry(), &view.head)?;
        view.rows = std::mem::take(&mut replayed.rows);
        // Flushes are numbered by their logs, so a new log's number is higher than that of any flush.
        let next_wal = replayed.last.map_or(floor, |last| last + 1).max(floor).max(last_flush + 1);
        let wal = WalWriter::create(disk, &wal_dir, next_wal, replayed.sequence).at("create a log in", &wal_dir)?;
        let store = Store::assemble(world.clone(), dir.to_owned(), spec, catalog, wal, view, notes, lock);
        if !replayed.losses.is_empty() {
            store.catalog.commit(&Commit { losses: replayed.losses, ..Commit::default() })?;
        }
        store.give_up(broken)?;
        store.warn();
        Ok(store)
    }

    fn warn(&self) {
        for note in self.degraded() {
            tracing::warn!("{note}");
        }
    }

    /// Hangs the pipelines on: gives them the state of the last flush and the batches logged since, then every batch to
    /// come. Call it once, before the first write.
    pub fn attach(&self, tap: Arc<dyn Tap>) -> Result<(), StoreError> {
        let state = match self.catalog.checkpoint() {
            None => None,
            Some(name) => {
                let state = read_state(&*self.world.disk, &self.dir.join("checkpoints").join(&name));
                if state.is_none() {
                    self.tell_lost_state(&name)?;
                }
                state
            }
        };
        tap.start(state.as_deref());
        let wal_dir = self.dir.join("wal");
        let disk = &*self.world.disk;
        let floor = self.catalog.wal_floor();
        for (number, path) in wal_files(disk, &wal_dir).at("list", &wal_dir)? {
            if number < floor {
                continue;
            }
            // What does not read was told when the store was opened.
            let Ok(frames) = WalReader::open(disk, &path, None) else { continue };
            for frame in frames.map_while(Result::ok) {
                let mut batch = frame.batch;
                batch.rows.retain(|rows| rows.table.steers_pipelines());
                if !batch.is_empty() {
                    tap.pass(Arc::new(batch));
                }
            }
        }
        if self.tap.set(tap).is_err() {
            tracing::warn!("pipelines were attached before: the second are left out");
        }
        Ok(())
    }
}

/// Takes a data directory for this process.
pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<crate::world::DiskLock, StoreError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::InUse { path: dir.to_owned() },
        _ => StoreError::Disk { action: "lock", path, source: error },
    })
}

fn open_catalog(
    world: &World,
    dir: &Path,
    place: &CatalogPlace,
    notes: &mut Vec<String>,
) -> Result<Catalog, StoreError> {
    match Catalog::open(place, world) {
        Ok(catalog) => Ok(catalog),
        Err(CatalogError::Missing) if is_new(&*world.disk, dir).at("list", dir)? => {
            Ok(Catalog::create(place, world, Contents::default())?)
        }
        Err(error) if error.is_damage() => {
            notes.push(format!("the catalog was made anew from the files: {}", told_with_causes(&error)));
            rebuild(world, dir, place)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the names of the folders in `dir` durable, and its own and those above it: what is acknowledged lies in them.
fn sync_names(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    disk.sync_dir(dir).at("sync", dir)?;
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        // Those that are not ours to open were there before.
        let _ = disk.sync_dir(above);
    }
    Ok(())
}

/// Whether nothing in the folder says that there was a store.
fn is_new(disk: &dyn Disk, dir: &Path) -> std::io::Result<bool> {
    let is_there = disk.list(dir)?.contains(&dir.join("generation"));
    let has_files = !super::described::table_files(disk, dir)?.is_empty();
    let has_log = !wal_files(disk, &dir.join("wal"))?.is_empty();
    Ok(!is_there && !has_files && !has_log)
}

/// What a file of the stages' state holds; `None` where it does not read.
pub(super) fn read_state(disk: &dyn Disk, path: &Path) -> Option<Vec<u8>> {
    let bytes = disk.open(path).ok()?.read_all().ok()?;
    let (crc, packed) = bytes.split_first_chunk::<4>()?;
    (crc32c::crc32c(packed) == u32::from_le_bytes(*crc)).then_some(())?;
    zstd::stream::decode_all(packed).ok()
}

/// Opens every file that opens, in the order of their flushes.
///
/// # Errors
/// What is no fault of a file's, as too many open ones: nothing may be given up for it.
fn open_files(world: &World, dir: &Path, mut records: Vec<SegmentRecord>) -> Result<(View, Vec<Broken>), StoreError> {
    records.sort_by_key(|record| record.flushes);
    let (mut segments, mut files, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let opened = match record.table {
            TableName::Samples => {
                Segment::open(&world.disk, dir, record.clone()).map(|segment| segments.push(Arc::new(segment)))
            }
            _ => check_file(&*world.disk, dir, &record)
                .map(|()| files.push(TableFile::new(&world.disk, dir, record.clone()))),
        };
        match opened {
            Ok(()) => {}
            Err(error) if error.is_damage() => broken.push((record, told_with_causes(&error))),
            Err(error) => return Err(error),
        }
    }
    Ok((View { segments: Arc::new(segments), files: Arc::new(files), ..View::default() }, broken))
}
