//! The log above its floor, back into the head. What of it is damaged is kept aside and told; the rest counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::RwLock;

use arrow::array::RecordBatch;

use super::StoreError;
use super::aside::copy_part;
use super::core::unpoisoned;
use super::error::DiskContext;
use super::head::Head;
use super::rebuild::stand_in;
use super::wal::{Fault, Frame, Harm, WalReader, wal_files};
use crate::catalog::{Loss, Registry};
use crate::model::{Rows, Table};
use crate::world::{Disk, World};

/// What the log gave.
#[derive(Default)]
pub(super) struct Replayed {
    /// Number of the last file.
    pub last: Option<u64>,
    /// Number for the next frame.
    pub sequence: u64,
    pub losses: Vec<Loss>,
    /// Rows that sources brought.
    pub rows: BTreeMap<Table, Vec<RecordBatch>>,
}

/// Puts the log from `floor` on into the head. A torn end is cut off.
pub(super) fn replay(
    world: &World,
    dir: &Path,
    floor: u64,
    registry: &Registry,
    head: &RwLock<Head>,
) -> Result<Replayed, StoreError> {
    let (disk, wal_dir) = (&*world.disk, dir.join("wal"));
    let mut replayed = Replayed::default();
    let mut expected = None;
    let mut head = unpoisoned(head.write());
    for (number, path) in wal_files(disk, &wal_dir).at("list", &wal_dir)? {
        replayed.last = Some(number);
        if number < floor {
            disk.remove(&path).at("remove", &path)?;
            continue;
        }
        let name = format!("wal/{number:010}.wal");
        let mut rows = Vec::new();
        let mut told = |reason: String| {
            tracing::warn!(path = %path.display(), reason, "the log is damaged");
            let found = world.clock.now().nanos();
            replayed.losses.push(Loss { table: "wal".into(), path: name.clone(), reason, found, ..Loss::default() });
        };
        let read = match read_file(disk, &path, expected, (registry, &mut head, &mut rows), &mut told) {
            Ok(reader) => {
                expected = reader.sequence.or(expected);
                // A killed process may have left bytes that are not durable, and what is logged from now on counts on
                // the series they define.
                disk.truncate(&path, reader.len()).at("sync", &path)?;
                for fault in &reader.faults {
                    settle(disk, dir, &name, fault, &mut told).at("mend", &path)?;
                }
                Some(reader.frames)
            }
            Err(error) => {
                told(format!("it cannot be read: {error}"));
                None
            }
        };
        for Rows { table, batch } in rows {
            replayed.rows.entry(table).or_default().push(batch);
        }
        if read == Some(0) {
            disk.remove(&path).at("remove", &path)?;
        }
    }
    replayed.sequence = expected.unwrap_or(0);
    Ok(replayed)
}

fn read_file(
    disk: &dyn Disk,
    path: &Path,
    expected: Option<u64>,
    (registry, head, rows): (&Registry, &mut Head, &mut Vec<Rows>),
    told: &mut impl FnMut(String),
) -> io::Result<WalReader> {
    let mut reader = WalReader::open(disk, path, expected)?;
    for frame in reader.by_ref() {
        let frame = frame?;
        match take_up(&frame, registry) {
            Ok(()) => {
                head.append(&frame.batch);
                rows.extend(frame.batch.rows);
            }
            Err(reason) => told(reason),
        }
    }
    Ok(reader)
}

/// Gives the frame's series the numbers they had.
fn take_up(frame: &Frame, registry: &Registry) -> Result<(), String> {
    let used = frame.series_end();
    // The frame that defined these is lost: their samples go under a stand-in's name.
    let defined = frame.first_def + frame.defs.len();
    let missing_to = if frame.defs.is_empty() { used } else { frame.first_def };
    for number in registry.len()..missing_to {
        registry.intern(stand_in(number as u32));
    }
    for (at, def) in frame.defs.iter().enumerate() {
        let (id, number) = (registry.intern(def.clone()), frame.first_def + at);
        if id.index() != number {
            return Err(format!("a frame has {def} as series {number}, which is series {}", id.0));
        }
    }
    if used > registry.len() {
        return Err(format!("a frame has samples of series {used} and ends its definitions at {defined}"));
    }
    Ok(())
}

/// Cuts off a torn end, keeps a damaged stretch.
fn settle(disk: &dyn Disk, dir: &Path, path: &str, fault: &Fault, told: &mut impl FnMut(String)) -> io::Result<()> {
    let Fault { offset, len, harm } = *fault;
    match harm {
        Harm::Torn => {
            tracing::warn!(path, offset, len, "a log ends in a write that was never acknowledged: cut off");
            disk.truncate(&dir.join(path), offset)
        }
        Harm::Mended => {
            tracing::warn!(path, offset, "a frame's head was damaged, and is told by the rest");
            Ok(())
        }
        Harm::Lost { frames } => {
            let frames = frames.map_or("frames".to_owned(), |frames| format!("{frames} frames"));
            told(format!("{frames} at byte {offset} are lost"));
            copy_part(disk, dir, path, offset, len)
        }
    }
}
