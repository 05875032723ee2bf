//! Snapshots of a store in use, and a store made of one. Files at rest are linked, not copied, where the disk can.

use std::io;
use std::path::{Path, PathBuf};

use super::core::unpoisoned;
use super::described::{below, table_files};
use super::error::DiskContext;
use super::recovery::lock;
use super::wal::{wal_files, wal_path};
use super::{Store, StoreError};
use crate::catalog::{Catalog, CatalogPlace};
use crate::world::{RealDisk, World};

/// What a snapshot or a restored store is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backup {
    pub files: u64,
    pub bytes: u64,
    /// Files of these that share their bytes with the original.
    pub linked: u64,
}

/// A folder being filled under a name of its own.
struct Target<'w> {
    world: &'w World,
    dir: PathBuf,
    made: Backup,
}

impl Store {
    /// Makes a complete data directory of all that is acknowledged by now, while the store is in use. It is there whole or
    /// not at all.
    ///
    /// # Errors
    /// [`StoreError::Occupied`] where there is something already.
    pub fn snapshot_to(&self, target: &Path) -> Result<Backup, StoreError> {
        self.snapshot_with_catalog(target, &unfinished(target).join("catalog"))
    }

    /// The same with the catalog elsewhere, as in [`Store::open_with_catalog`].
    pub fn snapshot_with_catalog(&self, target: &Path, catalog_dir: &Path) -> Result<Backup, StoreError> {
        let mut copy = Target::new(&self.world, target)?;
        // No flush, merge or removal comes between.
        let _upkeep = unpoisoned(self.upkeep.lock());
        let (log, written) = {
            let writer = self.writer();
            (writer.wal.number(), writer.wal.len())
        };
        let contents = self.catalog.contents();
        for record in &contents.records {
            copy.link(&self.dir, &record.path)?;
        }
        if let Some(name) = &contents.checkpoint {
            copy.link(&self.dir, &format!("checkpoints/{name}"))?;
        }
        copy.folder("wal")?;
        let wal_dir = self.dir.join("wal");
        for (number, path) in wal_files(&*self.world.disk, &wal_dir).at("list", &wal_dir)? {
            if number >= contents.wal_floor {
                let len = if number == log { Some(written) } else { None };
                copy.copy(&path, &wal_path(&copy.dir.join("wal"), number), len)?;
            }
        }
        let place = CatalogPlace { dir: catalog_dir.to_owned(), witness: copy.dir.join("generation") };
        Catalog::create(&place, &self.world, contents)?.runs()?.copy_of(&self.catalog.runs()?)?;
        copy.finish(target)
    }

    /// Makes a data directory of a snapshot, or of any that no process has open.
    ///
    /// # Errors
    /// [`StoreError::Occupied`] where there is something already.
    pub fn restore(world: &World, snapshot: &Path, target: &Path) -> Result<Backup, StoreError> {
        let disk = &*world.disk;
        let _lock = lock(disk, snapshot)?;
        let mut copy = Target::new(world, target)?;
        for path in table_files(disk, snapshot).at("list", snapshot)? {
            copy.link(snapshot, &path)?;
        }
        for folder in ["wal", "checkpoints"] {
            copy.folder(folder)?;
            for path in disk.list(&snapshot.join(folder)).at("list", snapshot)? {
                let name = path.file_name().unwrap_or_default();
                copy.copy(&path, &copy.dir.join(folder).join(name), None)?;
            }
        }
        let witness = snapshot.join("generation");
        if disk.open(&witness).is_ok() {
            copy.copy(&witness, &copy.dir.join("generation"), None)?;
        }
        let catalog = snapshot.join("catalog");
        copy.made.bytes += RealDisk.copy_folder(&catalog, &copy.dir.join("catalog")).at("copy", catalog)?;
        copy.finish(target)
    }
}

fn unfinished(target: &Path) -> PathBuf {
    target.with_added_extension("unfinished")
}

impl<'w> Target<'w> {
    fn new(world: &'w World, target: &Path) -> Result<Self, StoreError> {
        let is_free = world.disk.list(target).is_ok_and(|within| within.is_empty());
        if !is_free {
            return Err(StoreError::Occupied { path: target.to_owned() });
        }
        let dir = unfinished(target);
        // What an earlier attempt left.
        RealDisk.remove_folder(&dir).at("remove", &dir)?;
        world.disk.create_dir_all(&dir).at("create", &dir)?;
        Ok(Target { world, dir, made: Backup::default() })
    }

    fn folder(&self, name: &str) -> Result<(), StoreError> {
        let dir = self.dir.join(name);
        self.world.disk.create_dir_all(&dir).at("create", dir)
    }

    /// Takes in a file that never changes again: as a second name of it, else as a copy.
    fn link(&mut self, from: &Path, path: &str) -> Result<(), StoreError> {
        let (from, to) = (from.join(path), self.dir.join(path));
        let folder = to.parent().unwrap_or(&self.dir);
        self.world.disk.create_dir_all(folder).at("create", folder)?;
        if self.world.disk.hard_link(&from, &to).is_err() {
            return self.copy(&from, &to, None);
        }
        self.made.files += 1;
        self.made.linked += 1;
        self.made.bytes += self.world.disk.open(&to).at("open", &to)?.len();
        Ok(())
    }

    /// Copies a file, or the first `len` bytes of it.
    fn copy(&mut self, from: &Path, to: &Path, len: Option<u64>) -> Result<(), StoreError> {
        const CHUNK: u64 = 1 << 20;
        let disk = &*self.world.disk;
        let file = disk.open(from).at("open", from)?;
        let len = len.unwrap_or(file.len());
        let mut parts = (0..len).step_by(CHUNK as usize);
        let mut write = || -> io::Result<()> {
            let copy = disk.create(to)?;
            parts.try_for_each(|at| {
                let mut bytes = vec![0; CHUNK.min(len - at) as usize];
                file.read_exact_at(at, &mut bytes)?;
                copy.append(&bytes)
            })?;
            copy.sync()
        };
        write().at("copy", from)?;
        self.made.files += 1;
        self.made.bytes += len;
        Ok(())
    }

    /// Makes all names durable, then gives the folder its own.
    fn finish(self, target: &Path) -> Result<Backup, StoreError> {
        let disk = &*self.world.disk;
        let mut folders = vec![self.dir.clone()];
        for path in table_files(disk, &self.dir).at("list", &self.dir)? {
            folders.extend(Path::new(&path).ancestors().skip(1).map(|folder| self.dir.join(folder)));
        }
        folders.extend(["wal", "checkpoints"].map(|name| self.dir.join(name)));
        folders.sort();
        folders.dedup();
        for folder in folders.iter().filter(|folder| below(&self.dir, folder).is_some()) {
            if !disk.list(folder).at("list", folder)?.is_empty() {
                disk.sync_dir(folder).at("sync", folder)?;
            }
        }
        disk.rename(&self.dir, target).at("rename", &self.dir)?;
        if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).at("sync", parent)?;
        }
        Ok(self.made)
    }
}
