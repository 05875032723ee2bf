//! A catalog made anew from the files: what they say of themselves, the series, the stages' states.
//!
//! Of the files that say what they are, those count that no newer one covers. The log counts from the highest floor that a
//! file or a state names: what is read again from the log gives the same rows once more, so a floor too low costs nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::StoreError;
use super::aside::{self, set_aside};
use super::derived::{definitions, read_rows};
use super::described::{Described, describe, supersedes, table_files};
use super::error::{DiskContext, told_with_causes};
use super::recovery::read_state;
use super::segment::Segment;
use crate::catalog::{Catalog, CatalogPlace, Contents, Loss, Registry, SegmentRecord, TableName};
use crate::model::{Labels, SeriesDef};
use crate::world::{Disk, RealDisk, World};

/// What the files give, and what of them does not read.
pub(super) struct Found {
    pub contents: Contents,
    /// Paths and reasons.
    pub unreadable: Vec<(String, String)>,
}

/// Moves the catalog aside and makes another from the files.
pub(super) fn rebuild(world: &World, dir: &Path, place: &CatalogPlace) -> Result<Catalog, StoreError> {
    move_catalog(world, dir, place)?;
    let mut found = look(world, dir)?;
    found.contents.generation = Catalog::witnessed(place, world).unwrap_or(0);
    let disk = &*world.disk;
    for (path, reason) in &found.unreadable {
        let full = dir.join(path);
        set_aside(disk, dir, path).at("set aside", &full)?;
        let table = path.split('/').next().unwrap_or_default().to_owned();
        let found_at = world.clock.now().nanos();
        let loss = Loss { table, path: path.clone(), reason: reason.clone(), found: found_at, ..Loss::default() };
        found.contents.losses.push(loss);
    }
    Ok(Catalog::create(place, world, found.contents)?)
}

/// sled's folder goes to `set-aside/catalog`; sled opens it by itself, so it lies on the machine's disk.
pub(super) fn move_catalog(world: &World, dir: &Path, place: &CatalogPlace) -> Result<(), StoreError> {
    if RealDisk.list(&place.dir).at("list", &place.dir)?.is_empty() {
        return Ok(());
    }
    let is_within = place.dir.starts_with(dir);
    let aside = if is_within { aside::folder(dir) } else { place.dir.with_extension("set-aside") };
    RealDisk.create_dir_all(&aside).at("create", &aside)?;
    let to = aside::free_path(&RealDisk, &aside, "catalog").at("list", &aside)?;
    RealDisk.rename(&place.dir, &to).at("rename", &place.dir)?;
    if is_within { world.disk.sync_dir(dir).at("sync", dir) } else { Ok(()) }
}

/// Reads all files at rest.
pub(super) fn look(world: &World, dir: &Path) -> Result<Found, StoreError> {
    let disk = &*world.disk;
    let (mut described, mut unreadable) = (Vec::new(), Vec::new());
    for path in table_files(disk, dir).at("list", dir)? {
        match describe(disk, dir, &path).and_then(|file| opens(world, dir, file)) {
            Ok(file) => described.push(file),
            Err(reason) => unreadable.push((path, reason)),
        }
    }
    let next_number = described.iter().map(|(file, _)| file.record.number + 1).max().unwrap_or(1);
    let floor = described.iter().map(|(file, _)| file.label.floor).max().unwrap_or(0);
    let state = last_state(disk, dir).at("list", dir)?;
    let live = live(&described);
    let used = described.iter().map(|(_, series)| *series).max().unwrap_or(0);
    let contents = Contents {
        series: series(world, dir, &live, used, &mut unreadable)?,
        records: live.into_iter().filter(|record| !unreadable.iter().any(|(path, _)| *path == record.path)).collect(),
        wal_floor: floor.max(state.as_ref().map_or(0, |(floor, _)| *floor)),
        checkpoint: state.map(|(_, name)| name),
        next_number,
        ..Contents::default()
    };
    Ok(Found { contents, unreadable })
}

/// The file, and how many series it takes for granted.
fn opens(world: &World, dir: &Path, file: Described) -> Result<(Described, usize), String> {
    if file.record.table != TableName::Samples {
        return if file.is_whole { Ok((file, 0)) } else { Err("its checksum is wrong".into()) };
    }
    let segment = Segment::open(&world.disk, dir, file.record.clone());
    let segment = segment.map_err(|error| told_with_causes(&error))?;
    let highest = segment.entries().iter().map(|entry| entry.series.index() + 1).max();
    Ok((file, highest.unwrap_or(0)))
}

fn live(described: &[(Described, usize)]) -> Vec<SegmentRecord> {
    // A damaged file takes no whole one's place.
    let is_over =
        |record: &SegmentRecord| described.iter().any(|(other, _)| other.is_whole && supersedes(&other.record, record));
    described.iter().map(|(file, _)| &file.record).filter(|record| !is_over(record)).cloned().collect()
}

/// The newest state of the stages that reads: the log's floor at its time, and its name.
fn last_state(disk: &dyn Disk, dir: &Path) -> std::io::Result<Option<(u64, String)>> {
    let states = dir.join("checkpoints");
    let named = disk.list(&states)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let floor = name.strip_suffix(".state")?.parse().ok()?;
        read_state(disk, &path).map(|_| (floor, name))
    });
    Ok(named.max())
}

/// The definitions that the dimension's files hold, by number. Where one is lost that samples need, a stand-in.
fn series(
    world: &World,
    dir: &Path,
    live: &[SegmentRecord],
    used: usize,
    unreadable: &mut Vec<(String, String)>,
) -> Result<Registry, StoreError> {
    let mut known = BTreeMap::new();
    for record in live.iter().filter(|record| record.table == TableName::Series) {
        match read_rows(&*world.disk, dir, record).and_then(|batches| definitions(&batches)) {
            Ok(found) => known.extend(found),
            Err(error) => unreadable.push((record.path.clone(), told_with_causes(&error))),
        }
    }
    let len = known.keys().next_back().map_or(0, |&last| last as usize + 1).max(used);
    let registry = Registry::default();
    for number in 0..len as u32 {
        registry.intern(known.remove(&number).unwrap_or_else(|| stand_in(number)));
    }
    Ok(registry)
}

/// The definition of a series whose own is lost: its samples stay, its name does not.
pub(super) fn stand_in(number: u32) -> SeriesDef {
    SeriesDef::new("lost_series", Labels::new([("number", number.to_string())]))
}
