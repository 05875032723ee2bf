//! `DIR/set-aside/`: what is damaged or unknown is moved there, never removed.

use std::io;
use std::path::{Path, PathBuf};

use crate::world::Disk;

const FOLDER: &str = "set-aside";

pub(super) fn folder(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// A path in it that no file has: `name`, or with a number behind it.
pub(super) fn free_path(disk: &dyn Disk, aside: &Path, name: &str) -> io::Result<PathBuf> {
    let taken = disk.list(aside)?;
    let numbered = (2..).map(|n| aside.join(format!("{name}-{n}")));
    Ok(std::iter::once(aside.join(name)).chain(numbered).find(|path| !taken.contains(path)).expect("one is free"))
}

/// The name in it of a file below the data directory: `samples/2026-01/7.parquet` is `samples-2026-01-7.parquet`.
fn name_of(path: &str) -> String {
    path.replace('/', "-")
}

/// Moves a file there; `path` is below `dir`. Where it is now.
pub(super) fn set_aside(disk: &dyn Disk, dir: &Path, path: &str) -> io::Result<PathBuf> {
    let aside = folder(dir);
    disk.create_dir_all(&aside)?;
    let (from, to) = (dir.join(path), free_path(disk, &aside, &name_of(path))?);
    disk.rename(&from, &to)?;
    disk.sync_dir(&aside)?;
    from.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))?;
    disk.sync_dir(dir)?;
    Ok(to)
}

/// Copies part of a file there, once.
pub(super) fn copy_part(disk: &dyn Disk, dir: &Path, path: &str, offset: u64, len: u64) -> io::Result<()> {
    let aside = folder(dir);
    let to = aside.join(format!("{}-at-{offset}", name_of(path)));
    if len == 0 || disk.open(&to).is_ok() {
        return Ok(());
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    disk.open(&dir.join(path))?.read_exact_at(offset, &mut bytes)?;
    disk.create_dir_all(&aside)?;
    let file = disk.create(&to)?;
    file.append(&bytes)?;
    file.sync()?;
    disk.sync_dir(&aside)?;
    disk.sync_dir(dir)
}
