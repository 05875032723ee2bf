//! Verify: every byte at rest read and held against what the catalog says of it.
//!
//! Of sled's own files the bytes that hold nothing are not covered: what sled gives back is.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::derived::read_rows;
use super::described::{below, digest};
use super::error::{DiskContext, told_with_causes};
use super::losses::read_whole;
use super::rebuild::look;
use super::recovery::{lock, read_state};
use super::segment::{Cursor, Segment};
use super::sweep::{Ledger, Unnamed};
use super::wal::{Harm, WalReader, wal_files};
use super::{Store, StoreError, StoreSpec};
use crate::catalog::{Catalog, CatalogPlace, SegmentRecord, TableName};
use crate::model::Table;
use crate::world::{RealDisk, World};

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Below the data directory.
    pub path: String,
    pub what: String,
    pub remedy: String,
    #[serde(skip)]
    pub(super) cure: Cure,
}

/// How `repair` goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Cure {
    /// Opening the store and writing what is in memory to segments.
    #[default]
    Open,
    /// The segment of this number is set right.
    Segment(u64),
    /// The stages' state is written anew.
    State,
    /// The file is moved away.
    SetAside,
}

/// What was read, and what of it is wrong.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    pub wrong: Vec<Wrong>,
    pub files: u64,
    pub bytes: u64,
    pub seconds: f64,
}

const REPAIR: &str = "`plimsoll repair` sets it aside, saves what reads of it and tells what is lost";
const REPAIR_LOG: &str = "`plimsoll repair` writes what reads of it to segments and tells what is lost";
const REPAIR_STATE: &str = "`plimsoll repair` writes it anew; rows of what ran then may be missing";
const REPAIR_CATALOG: &str = "`plimsoll repair` makes it anew from the files";
const REPAIR_UNKNOWN: &str = "no file of the store: move it away, or `plimsoll repair` does";
const WRITTEN_ANEW: &str = "it is written anew when the store is opened";

struct Check<'w> {
    world: &'w World,
    dir: &'w Path,
    found: Verified,
}

/// The log that counts: from this file on; of the one being written only so many bytes.
struct Log {
    floor: u64,
    written: Option<(u64, u64)>,
}

impl Store {
    /// Reads all that is at rest while the store is in use. What is found damaged is set right by the keeper.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let start = self.world.clock.elapsed();
        let mut check = Check { world: &self.world, dir: &self.dir, found: Verified::default() };
        let snapshot = self.history();
        check.files(&snapshot.records());
        let live: Vec<u64> = self.view().records().map(|record| record.number).collect();
        // What was merged or expired meanwhile is no loss.
        check.found.wrong.retain(|wrong| matches!(wrong.cure, Cure::Segment(number) if live.contains(&number)));
        for wrong in &check.found.wrong {
            let (path, reason) = (self.dir.join(&wrong.path), wrong.what.clone());
            if let Cure::Segment(number) = wrong.cure {
                self.suspects.name(number, &StoreError::Damaged { path, reason });
            }
        }
        if let Err(error) = self.catalog.check() {
            check.wrong("catalog", told_with_causes(&error), REPAIR_CATALOG, Cure::Open);
        }
        {
            // No flush or merge is half done here.
            let _upkeep = super::core::unpoisoned(self.upkeep.lock());
            let written = {
                let writer = self.writer();
                (writer.wal.number(), writer.wal.len())
            };
            check.log(&Log { floor: self.catalog.wal_floor(), written: Some(written) })?;
            check.state(self.catalog.checkpoint().as_deref());
            let ledger = Ledger::of(&self.catalog, &self.world, &self.dir, &self.spec)?;
            check.unknown(&ledger, snapshot.records().as_slice())?;
        }
        Ok(check.done(start))
    }

    /// Reads all that is at rest in a folder that no process has open; changes nothing.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where a process has it open; a directory of another format.
    pub fn verify_closed(world: &World, dir: &Path, spec: &StoreSpec) -> Result<Verified, StoreError> {
        Self::verify_closed_with_catalog(world, dir, &dir.join("catalog"), spec)
    }

    /// The same with the catalog elsewhere.
    pub fn verify_closed_with_catalog(
        world: &World,
        dir: &Path,
        catalog_dir: &Path,
        spec: &StoreSpec,
    ) -> Result<Verified, StoreError> {
        let start = world.clock.elapsed();
        let _lock = lock(&*world.disk, dir)?;
        let mut check = Check { world, dir, found: Verified::default() };
        match copied_catalog(world, dir, catalog_dir)? {
            Ok(catalog) => {
                check.count(catalog.bytes);
                check.files(&catalog.catalog.segments());
                check.log(&Log { floor: catalog.catalog.wal_floor(), written: None })?;
                check.state(catalog.catalog.checkpoint().as_deref());
                let ledger = Ledger::of(&catalog.catalog, world, dir, spec)?;
                check.unknown(&ledger, &[])?;
            }
            Err(reason) => {
                check.wrong("catalog", reason, REPAIR_CATALOG, Cure::Open);
                check.without_catalog()?;
            }
        }
        if Catalog::witnessed(&CatalogPlace { dir: catalog_dir.to_owned(), witness: dir.join("generation") }, world)
            .is_none()
        {
            check.wrong("generation", "it is missing or damaged".into(), WRITTEN_ANEW, Cure::Open);
        }
        Ok(check.done(start))
    }
}

/// A copy of the catalog, open: opening sled changes its files. Removed when dropped.
struct Copied {
    catalog: Catalog,
    bytes: u64,
    _folder: Folder,
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = RealDisk.remove_folder(&self.0);
    }
}

fn copied_catalog(world: &World, dir: &Path, catalog_dir: &Path) -> Result<Result<Copied, String>, StoreError> {
    let place = CatalogPlace { dir: catalog_dir.with_extension("verify"), witness: dir.join("generation.verify") };
    let folder = Folder(place.dir.clone());
    RealDisk.remove_folder(&place.dir).at("remove", &place.dir)?;
    let bytes = RealDisk.copy_folder(catalog_dir, &place.dir).at("copy", catalog_dir)?;
    let disk = &*world.disk;
    if let Ok(witness) = disk.open(&dir.join("generation")).and_then(|file| file.read_all()) {
        disk.create(&place.witness).and_then(|file| file.append(&witness)).at("write", &place.witness)?;
    }
    let opened = Catalog::open(&place, world);
    let _ = disk.remove(&place.witness);
    match opened {
        Ok(catalog) => Ok(Ok(Copied { catalog, bytes, _folder: folder })),
        Err(error) if error.is_damage() => Ok(Err(told_with_causes(&error))),
        Err(error) => Err(error.into()),
    }
}

impl Check<'_> {
    fn done(mut self, start: std::time::Duration) -> Verified {
        self.found.seconds = self.world.clock.elapsed().saturating_sub(start).as_secs_f64();
        self.found
    }

    fn count(&mut self, bytes: u64) {
        self.found.files += 1;
        self.found.bytes += bytes;
    }

    fn wrong(&mut self, path: &str, what: String, remedy: &str, cure: Cure) {
        self.found.wrong.push(Wrong { path: path.to_owned(), what, remedy: remedy.to_owned(), cure });
    }

    /// Files of tables.
    fn files(&mut self, records: &[SegmentRecord]) {
        let inspected: Vec<_> = records.par_iter().map(|record| self.inspect(record)).collect();
        for (record, inspected) in records.iter().zip(inspected) {
            self.count(record.bytes);
            if let Err(what) = inspected {
                self.wrong(&record.path, what, REPAIR, Cure::Segment(record.number));
            }
        }
    }

    fn inspect(&self, record: &SegmentRecord) -> Result<(), String> {
        let disk = &self.world.disk;
        let file = disk.open(&self.dir.join(&record.path)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "it is missing".to_owned(),
            _ => error.to_string(),
        })?;
        if file.len() != record.bytes {
            return Err(format!("it has {} bytes, the catalog says {}", file.len(), record.bytes));
        }
        let found = digest(&*file, 0..record.bytes).map_err(|error| error.to_string())?;
        if found != record.digest {
            return Err("its checksum is wrong".to_owned());
        }
        let read = match record.table {
            TableName::Samples => self.samples(record),
            _ => read_rows(&**disk, self.dir, record).map(|_| ()),
        };
        read.map_err(|error| told_with_causes(&error))
    }

    /// That the samples are sorted, and those that the index names.
    fn samples(&self, record: &SegmentRecord) -> Result<(), StoreError> {
        let segment = Arc::new(Segment::open(&self.world.disk, self.dir, record.clone())?);
        let mut cursor = Cursor::new(segment.clone());
        segment.entries().iter().try_for_each(|entry| read_whole(&mut cursor, entry).map(|_| ()))
    }

    fn log(&mut self, log: &Log) -> Result<(), StoreError> {
        let (disk, wal_dir) = (&*self.world.disk, self.dir.join("wal"));
        let mut expected = None;
        for (number, path) in wal_files(disk, &wal_dir).at("list", &wal_dir)? {
            if number < log.floor {
                continue;
            }
            let name = format!("wal/{number:010}.wal");
            let mut reader = match WalReader::open(disk, &path, expected) {
                Ok(reader) => reader,
                Err(error) => {
                    self.wrong(&name, error.to_string(), REPAIR_LOG, Cure::Open);
                    continue;
                }
            };
            let failed = reader.by_ref().find_map(Result::err);
            expected = reader.sequence.or(expected);
            self.count(reader.len());
            if let Some(error) = failed {
                self.wrong(&name, error.to_string(), REPAIR_LOG, Cure::Open);
            }
            let counts = |offset: u64| log.written.is_none_or(|(file, len)| file != number || offset < len);
            for fault in reader.faults.iter().filter(|fault| counts(fault.offset)) {
                let what = match fault.harm {
                    // Never acknowledged, and cut off at the next start.
                    Harm::Torn => continue,
                    Harm::Mended => format!("the head of a frame at byte {} is damaged", fault.offset),
                    Harm::Lost { .. } => format!("frames at byte {} are damaged", fault.offset),
                };
                self.wrong(&name, what, REPAIR_LOG, Cure::Open);
            }
        }
        Ok(())
    }

    fn state(&mut self, name: Option<&str>) {
        let Some(name) = name else { return };
        let path = self.dir.join("checkpoints").join(name);
        self.count(self.world.disk.open(&path).map_or(0, |file| file.len()));
        if read_state(&*self.world.disk, &path).is_none() {
            let what = "it is missing or damaged: stages start afresh";
            self.wrong(&format!("checkpoints/{name}"), what.into(), REPAIR_STATE, Cure::State);
        }
    }

    /// Files that are not the store's. `also` are files that somebody may still be reading.
    fn unknown(&mut self, ledger: &Ledger, also: &[SegmentRecord]) -> Result<(), StoreError> {
        for (path, unnamed) in ledger.unnamed(&self.world.disk, self.dir)? {
            if unnamed == Unnamed::Unknown && !also.iter().any(|record| record.path == path) {
                self.wrong(&path, "the catalog does not know it".into(), REPAIR_UNKNOWN, Cure::SetAside);
            }
        }
        for path in strangers(self.world, self.dir).at("list", self.dir)? {
            self.wrong(&path, "it is unknown".into(), REPAIR_UNKNOWN, Cure::SetAside);
        }
        Ok(())
    }

    /// What the files say of themselves is all there is to hold them against.
    fn without_catalog(&mut self) -> Result<(), StoreError> {
        let found = look(self.world, self.dir)?;
        for (path, reason) in found.unreadable {
            self.wrong(&path, reason, REPAIR, Cure::Open);
        }
        self.files(&found.contents.records);
        self.log(&Log { floor: found.contents.wal_floor, written: None })?;
        self.state(found.contents.checkpoint.as_deref());
        for path in strangers(self.world, self.dir).at("list", self.dir)? {
            self.wrong(&path, "it is unknown".into(), REPAIR_UNKNOWN, Cure::SetAside);
        }
        Ok(())
    }
}

/// Files in places where the store puts none of that name, below `dir`.
fn strangers(world: &World, dir: &Path) -> std::io::Result<Vec<String>> {
    let disk = &*world.disk;
    let own = ["lock", "generation", "generation.new", "catalog", "catalog.verify", "set-aside"];
    let ends = |ending: &'static str| move |path: &std::path::PathBuf| path.extension().is_none_or(|ext| ext != ending);
    let mut strangers = Vec::new();
    for path in disk.list(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_table = name == TableName::Series.name() || Table::of_name(name).is_some();
        match name {
            _ if own.contains(&name) => {}
            "wal" => strangers.extend(disk.list(&path)?.into_iter().filter(ends("wal"))),
            "checkpoints" => strangers.extend(disk.list(&path)?.into_iter().filter(ends("state"))),
            "samples" => {
                for month in disk.list(&path)? {
                    strangers.extend(disk.list(&month)?.into_iter().filter(ends("parquet")));
                }
            }
            _ if is_table => strangers.extend(disk.list(&path)?.into_iter().filter(ends("parquet"))),
            _ => strangers.push(path),
        }
    }
    Ok(strangers.iter().filter_map(|path| below(dir, path)).collect())
}
