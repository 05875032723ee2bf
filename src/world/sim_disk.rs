//! A disk in memory that keeps apart what was written and what is durable, fills up, and loses power on demand.
//!
//! What survives a loss of power follows what file systems promise: bytes after `sync`, names after `sync_dir`.
//! What was not synced may survive whole, in part, torn, or not at all: [`Loss`] chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskLock, FileAppend, FileRead};

/// What becomes of writes that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// They reached the disk all the same.
    Nothing,
    /// They are gone, and so are names not synced.
    Unsynced,
    /// Half of each file's unsynced bytes stay.
    HalfUnsynced,
    /// As [`Loss::HalfUnsynced`], and the last bytes that stay are not those written.
    Torn,
}

type Inode = usize;

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced_len: usize,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Content>,
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    stops_at: Option<u64>,
    capacity: Option<usize>,
}

/// A simulated disk; see the module.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that fit; a write beyond fails with `StorageFull`, having written what still fitted.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.lock_state().capacity = bytes;
    }

    /// From its `operation`-th change on (counted from 1) the disk fails every call: the power is gone.
    pub fn stop_at(&self, operation: u64) {
        self.lock_state().stops_at = Some(operation);
    }

    /// Changes so far: writes, syncs, creations, renames, removals.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// The disk as the next start finds it, after a loss of power now.
    pub fn after_power_loss(&self, loss: Loss) -> SimDisk {
        let state = self.lock_state();
        let names = if loss == Loss::Nothing { &state.names } else { &state.durable_names };
        let inodes = state.inodes.iter().map(|content| content.after(loss)).collect();
        let next = State {
            inodes,
            names: names.clone(),
            durable_names: names.clone(),
            dirs: state.dirs.clone(),
            capacity: state.capacity,
            ..State::default()
        };
        SimDisk { state: Arc::new(Mutex::new(next)) }
    }

    /// Flips the bits of `mask` in one byte of a file, as a bad disk would.
    pub fn corrupt(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.lock_state();
        if let Some(&inode) = state.names.get(path) {
            state.inodes[inode].bytes[offset] ^= mask;
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock_state();
        state.operations += 1;
        match state.stops_at {
            Some(at) if state.operations >= at => Err(io::Error::other("simulated loss of power")),
            _ => Ok(state),
        }
    }
}

impl Content {
    fn after(&self, loss: Loss) -> Content {
        let unsynced = self.bytes.len() - self.synced_len;
        let kept = match loss {
            Loss::Nothing => self.bytes.len(),
            Loss::Unsynced => self.synced_len,
            Loss::HalfUnsynced | Loss::Torn => self.synced_len + unsynced.div_ceil(2),
        };
        let mut bytes = self.bytes[..kept].to_vec();
        if loss == Loss::Torn {
            let torn_from = kept.saturating_sub(3).max(self.synced_len);
            bytes[torn_from..].iter_mut().for_each(|byte| *byte ^= 0x5A);
        }
        Content { synced_len: bytes.len(), bytes }
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room(&self) -> usize {
        let used: usize = self.names.values().map(|&inode| self.inodes[inode].bytes.len()).sum();
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used))
    }
}

struct SimAppend {
    disk: SimDisk,
    inode: Inode,
}

struct SimRead {
    bytes: Vec<u8>,
}

impl FileAppend for SimAppend {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.change()?;
        let fits = state.room().min(bytes.len());
        state.inodes[self.inode].bytes.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.change()?;
        let content = &mut state.inodes[self.inode];
        content.synced_len = content.bytes.len();
        Ok(())
    }
}

impl FileRead for SimRead {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let source = self.bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct HeldLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.disk.lock_state().locks.remove(&self.path);
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileAppend>> {
        let mut state = self.change()?;
        let inode = state.inodes.len();
        state.inodes.push(Content::default());
        state.names.insert(path.to_owned(), inode);
        drop(state);
        Ok(Arc::new(SimAppend { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileRead>> {
        let state = self.lock_state();
        let inode = state.inode(path)?;
        Ok(Arc::new(SimRead { bytes: state.inodes[inode].bytes.clone() }))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.inode(path)?;
        let content = &mut state.inodes[inode];
        content.bytes.truncate(usize::try_from(len).map_err(io::Error::other)?);
        content.synced_len = content.bytes.len();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        state.inode(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock_state();
        let all = state.names.keys().chain(&state.dirs);
        let within: BTreeSet<PathBuf> = all.filter(|path| path.parent() == Some(dir)).cloned().collect();
        Ok(within.into_iter().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let ancestors = dir.ancestors().map(Path::to_owned);
        state.dirs.extend(ancestors);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let within = |path: &Path| path.parent() == Some(dir);
        let now: Vec<(PathBuf, Inode)> =
            state.names.iter().filter(|(path, _)| within(path)).map(|(path, &inode)| (path.clone(), inode)).collect();
        state.durable_names.retain(|path, _| !within(path));
        state.durable_names.extend(now);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        if self.lock_state().locks.insert(path.to_owned()) {
            Ok(DiskLock::new(HeldLock { disk: self.clone(), path: path.to_owned() }))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_after(loss: Loss) -> Option<Vec<u8>> {
        let disk = SimDisk::new();
        let file = disk.create(Path::new("/d/f")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        file.append(b"lost?!").unwrap();
        let next = disk.after_power_loss(loss);
        next.open(Path::new("/d/f")).ok().map(|file| file.read_all().unwrap())
    }

    #[test]
    fn synced_bytes_survive_and_the_rest_as_the_loss_has_it() {
        assert_eq!(text_after(Loss::Nothing).unwrap(), b"keptlost?!");
        assert_eq!(text_after(Loss::Unsynced).unwrap(), b"kept");
        assert_eq!(text_after(Loss::HalfUnsynced).unwrap(), b"keptlos");
        let torn = text_after(Loss::Torn).unwrap();
        assert_eq!((&torn[..4], torn.len()), (&b"kept"[..], 7));
        assert_ne!(&torn[4..], b"los");
    }

    #[test]
    fn a_name_not_synced_is_lost() {
        let disk = SimDisk::new();
        disk.create(Path::new("/d/f")).unwrap().sync().unwrap();
        assert!(disk.after_power_loss(Loss::Unsynced).open(Path::new("/d/f")).is_err());
        assert!(disk.after_power_loss(Loss::Nothing).open(Path::new("/d/f")).is_ok());
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(3));
        let file = disk.create(Path::new("/f")).unwrap();
        assert_eq!(file.append(b"12345").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.open(Path::new("/f")).unwrap().read_all().unwrap(), b"123");
    }
}
