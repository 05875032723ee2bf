//! A disk in memory that keeps apart what was written and what is durable, fails, fills up, and loses power on demand.
//!
//! What survives a loss of power follows what file systems promise: bytes after `sync`, names (of files and folders)
//! after `sync_dir` of the folder they stand in. What was not synced may survive whole, in part, changed, or not at
//! all: [`Loss`] chooses.
//!
//! Images of the disk ([`SimDisk::after_power_loss`]) share their bytes with it until one of them writes, so thousands
//! of them cost little.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Chance;
use super::disk::{Disk, DiskLock, FileAppend, FileRead};

/// What becomes of what was not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// It reached the disk all the same.
    Nothing,
    /// Bytes not synced are gone. Names not synced are as they were before: new ones vanish, removed ones are back.
    Unsynced,
    /// Bytes not synced are gone, names stay: a new file stands there empty.
    Bytes,
    /// Bytes stay, names not synced are as they were before.
    Names,
    /// Of each file's bytes not synced a front part stays, and so do names.
    Prefix,
    /// Everything stays, but the end of each file's last write, where not synced, is not what was written.
    Torn,
}

impl Loss {
    pub const ALL: [Loss; 6] = [Loss::Nothing, Loss::Unsynced, Loss::Bytes, Loss::Names, Loss::Prefix, Loss::Torn];

    fn keeps_names(self) -> bool {
        !matches!(self, Loss::Unsynced | Loss::Names)
    }
}

type Inode = usize;

#[derive(Clone, Default)]
struct Content {
    bytes: Arc<Vec<u8>>,
    synced_len: usize,
    /// Where the last write begins.
    last_write: usize,
}

type Watcher = Arc<dyn Fn(&SimDisk, u64) + Send + Sync>;

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Content>,
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    /// Folders renamed, from and to, whose new name is not synced.
    moved: Vec<(PathBuf, PathBuf)>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    fails: Option<RangeInclusive<u64>>,
    capacity: Option<usize>,
    watcher: Option<Watcher>,
}

/// A simulated disk; see the module.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    fn of(state: State) -> Self {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Bytes that fit; a write beyond fails with `StorageFull`, having written what still fitted.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.lock_state().capacity = bytes;
    }

    /// From its `operation`-th change on (counted from 1) the disk fails every change: the power is gone.
    pub fn stop_at(&self, operation: u64) {
        self.lock_state().fails = Some(operation..=u64::MAX);
    }

    /// Its `operation`-th change fails, and no other. Half of a write that fails is written.
    pub fn fail_at(&self, operation: u64) {
        self.lock_state().fails = Some(operation..=operation);
    }

    /// Calls `watcher` with the number of each change before it is made: the moment to take an image. Images are not
    /// watched.
    pub fn watch(&self, watcher: impl Fn(&SimDisk, u64) + Send + Sync + 'static) {
        self.lock_state().watcher = Some(Arc::new(watcher));
    }

    /// Changes so far: writes, syncs, creations, renames, links, removals.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// The disk as the next start finds it, after a loss of power now.
    pub fn after_power_loss(&self, loss: Loss) -> SimDisk {
        let state = self.lock_state();
        let (names, dirs) = if loss.keeps_names() {
            (state.names.clone(), state.dirs.clone())
        } else {
            (state.reachable(&state.durable_names), state.durable_dirs.clone())
        };
        let after = |(inode, content): (Inode, &Content)| {
            content.after(loss, &Chance::seeded(state.operations << 32 | inode as u64))
        };
        SimDisk::of(State {
            inodes: state.inodes.iter().enumerate().map(after).collect(),
            durable_names: names.clone(),
            names,
            durable_dirs: dirs.clone(),
            dirs,
            capacity: state.capacity,
            ..State::default()
        })
    }

    /// The disk as the next start finds it when the process was killed now: everything is there, and what was not
    /// synced is still not.
    pub fn after_kill(&self) -> SimDisk {
        let state = self.lock_state();
        let forgotten = (BTreeSet::new(), None, None);
        let (locks, fails, watcher) = forgotten;
        SimDisk::of(State { operations: 0, locks, fails, watcher, ..state.clone() })
    }

    /// Whether a reader finds the same files with the same bytes on both.
    pub fn reads_like(&self, other: &SimDisk) -> bool {
        let (mine, other) = (self.lock_state().clone(), other.lock_state().clone());
        let same_bytes = |(a, b): (Inode, Inode)| {
            let (a, b) = (&mine.inodes[a].bytes, &other.inodes[b].bytes);
            Arc::ptr_eq(a, b) || a == b
        };
        mine.dirs == other.dirs
            && mine.names.keys().eq(other.names.keys())
            && mine.names.values().copied().zip(other.names.values().copied()).all(same_bytes)
    }

    /// Every file and its length, by path.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.lock_state();
        state.names.iter().map(|(path, &inode)| (path.clone(), state.inodes[inode].bytes.len())).collect()
    }

    /// Flips the bits of `mask` in one byte of a file, as a bad disk would.
    pub fn corrupt(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.lock_state();
        if let Some(&inode) = state.names.get(path) {
            Arc::make_mut(&mut state.inodes[inode].bytes)[offset] ^= mask;
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let (state, fails) = self.count();
        if fails { Err(failure()) } else { Ok(state) }
    }

    /// Counts a change; whether it is to fail.
    fn count(&self) -> (MutexGuard<'_, State>, bool) {
        let mut state = self.lock_state();
        state.operations += 1;
        if let Some(watcher) = state.watcher.clone() {
            let operation = state.operations;
            drop(state);
            // Not under the lock: it takes images.
            watcher(self, operation);
            state = self.lock_state();
        }
        let fails = state.fails.as_ref().is_some_and(|range| range.contains(&state.operations));
        (state, fails)
    }
}

fn failure() -> io::Error {
    io::Error::other("simulated failure of the disk")
}

impl Content {
    fn after(&self, loss: Loss, chance: &Chance) -> Content {
        let unsynced = self.bytes.len() - self.synced_len;
        let mut bytes = self.bytes.clone();
        match loss {
            _ if unsynced == 0 => {}
            Loss::Nothing | Loss::Names => {}
            Loss::Unsynced | Loss::Bytes => bytes = Arc::new(bytes[..self.synced_len].to_vec()),
            Loss::Prefix => {
                let kept = self.synced_len + chance.below(unsynced as u64) as usize;
                bytes = Arc::new(bytes[..kept].to_vec());
            }
            Loss::Torn => {
                let written = self.last_write.max(self.synced_len)..bytes.len();
                let changed = written.start + chance.below(written.len().max(1) as u64) as usize;
                Arc::make_mut(&mut bytes)[changed..].iter_mut().for_each(|byte| *byte ^= 0x5A);
            }
        }
        Content { synced_len: bytes.len(), last_write: bytes.len(), bytes }
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room(&self) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let held: BTreeSet<Inode> = self.names.values().copied().collect();
        capacity.saturating_sub(held.into_iter().map(|inode| self.inodes[inode].bytes.len()).sum())
    }

    /// The names whose folders are durable, too.
    fn reachable(&self, names: &BTreeMap<PathBuf, Inode>) -> BTreeMap<PathBuf, Inode> {
        let lost = |path: &Path| path.ancestors().skip(1).any(|dir| self.is_volatile(dir));
        names.iter().filter(|(path, _)| !lost(path)).map(|(path, &inode)| (path.clone(), inode)).collect()
    }

    /// Whether a folder was made and its name not synced. Those that nobody made were always there.
    fn is_volatile(&self, dir: &Path) -> bool {
        self.dirs.contains(dir) && !self.durable_dirs.contains(dir)
    }
}

/// Gives a folder and all that is in it another name.
fn move_folder(from: &Path, to: &Path, names: &mut BTreeMap<PathBuf, Inode>, dirs: &mut BTreeSet<PathBuf>) {
    let moved = |path: &PathBuf| match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.clone(),
    };
    *names = names.iter().map(|(path, &inode)| (moved(path), inode)).collect();
    *dirs = dirs.iter().map(moved).collect();
}

struct SimAppend {
    disk: SimDisk,
    inode: Inode,
}

struct SimRead {
    bytes: Arc<Vec<u8>>,
}

impl FileAppend for SimAppend {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let (mut state, fails) = self.disk.count();
        let fits = if fails { bytes.len() / 2 } else { state.room().min(bytes.len()) };
        let content = &mut state.inodes[self.inode];
        content.last_write = content.bytes.len();
        Arc::make_mut(&mut content.bytes).extend_from_slice(&bytes[..fits]);
        match fits < bytes.len() {
            _ if fails => Err(failure()),
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
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
        let inode = match state.names.get(path) {
            Some(&inode) => inode,
            None => {
                let inode = state.inodes.len();
                state.inodes.push(Content::default());
                state.names.insert(path.to_owned(), inode);
                inode
            }
        };
        // Who has it open to read goes on with the bytes of before: they are shared, not emptied.
        state.inodes[inode] = Content::default();
        drop(state);
        Ok(Arc::new(SimAppend { disk: self.clone(), inode }))
    }

    fn go_on(&self, path: &Path) -> io::Result<Arc<dyn FileAppend>> {
        let known = self.lock_state().names.get(path).copied();
        match known {
            Some(inode) => Ok(Arc::new(SimAppend { disk: self.clone(), inode })),
            None => self.create(path),
        }
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
        Arc::make_mut(&mut content.bytes).truncate(usize::try_from(len).map_err(io::Error::other)?);
        content.synced_len = content.bytes.len();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if state.dirs.contains(from) {
            let state = &mut *state;
            move_folder(from, to, &mut state.names, &mut state.dirs);
            state.moved.push((from.to_owned(), to.to_owned()));
            return Ok(());
        }
        let inode = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.inode(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
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
        state.dirs.extend(ancestors.filter(|dir| dir.parent().is_some()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let within = |path: &Path| path.parent() == Some(dir);
        let state = &mut *state;
        for (from, to) in state.moved.extract_if(.., |(_, to)| within(to)) {
            move_folder(&from, &to, &mut state.durable_names, &mut state.durable_dirs);
        }
        let now: Vec<(PathBuf, Inode)> =
            state.names.iter().filter(|(path, _)| within(path)).map(|(path, &inode)| (path.clone(), inode)).collect();
        state.durable_names.retain(|path, _| !within(path));
        state.durable_names.extend(now);
        let dirs: Vec<PathBuf> = state.dirs.iter().filter(|path| within(path)).cloned().collect();
        state.durable_dirs.extend(dirs);
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

    /// `/d/f`, its name durable: "kept", synced; then "lost" and "?!", not synced.
    fn written() -> SimDisk {
        let disk = SimDisk::new();
        let file = disk.create(Path::new("/d/f")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        file.append(b"lost").unwrap();
        file.append(b"?!").unwrap();
        disk
    }

    fn text(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        disk.open(Path::new(path)).ok().map(|file| file.read_all().unwrap())
    }

    #[test]
    fn synced_bytes_survive_and_the_rest_as_the_loss_has_it() {
        let after = |loss| text(&written().after_power_loss(loss), "/d/f").unwrap();
        assert_eq!(after(Loss::Nothing), b"keptlost?!");
        assert_eq!(after(Loss::Names), b"keptlost?!");
        assert_eq!(after(Loss::Unsynced), b"kept");
        assert_eq!(after(Loss::Bytes), b"kept");
        let prefix = after(Loss::Prefix);
        assert!(b"keptlost?!".starts_with(&prefix) && (4..10).contains(&prefix.len()), "{prefix:?}");
        let torn = after(Loss::Torn);
        assert_eq!((&torn[..8], torn.len()), (&b"keptlost"[..], 10));
        assert_ne!(torn[9], b'!');
    }

    #[test]
    fn names_not_synced_are_undone_or_stay_as_the_loss_has_it() {
        let disk = SimDisk::new();
        let path = |name: &str| PathBuf::from(format!("/d/{name}"));
        disk.create(&path("old")).unwrap();
        disk.create(&path("gone")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.create(&path("new")).unwrap().append(b"bytes").unwrap();
        disk.rename(&path("old"), &path("renamed")).unwrap();
        disk.hard_link(&path("new"), &path("twin")).unwrap();
        disk.remove(&path("gone")).unwrap();
        let names = |loss| {
            let files = disk.after_power_loss(loss).files();
            files.into_iter().map(|(path, len)| format!("{} {len}", path.display())).collect::<Vec<_>>()
        };
        for loss in [Loss::Unsynced, Loss::Names] {
            assert_eq!(names(loss), ["/d/gone 0", "/d/old 0"], "{loss:?}");
        }
        assert_eq!(names(Loss::Bytes), ["/d/new 0", "/d/renamed 0", "/d/twin 0"]);
        for loss in [Loss::Nothing, Loss::Torn] {
            assert_eq!(names(loss), ["/d/new 5", "/d/renamed 0", "/d/twin 5"], "{loss:?}");
        }
        assert_eq!(names(Loss::Prefix).len(), 3);
    }

    #[test]
    fn a_folder_is_renamed_with_all_that_is_in_it() {
        let (disk, from, to) = (SimDisk::new(), Path::new("/a/old"), Path::new("/a/new"));
        disk.create_dir_all(&from.join("b")).unwrap();
        let file = disk.create(&from.join("b/f")).unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        for dir in ["/a/old/b", "/a/old", "/a", "/"] {
            disk.sync_dir(Path::new(dir)).unwrap();
        }
        disk.rename(from, to).unwrap();
        let is_at = |disk: &SimDisk, dir: &Path| disk.open(&dir.join("b/f")).is_ok();
        assert!(is_at(&disk, to) && !is_at(&disk, from));
        let back = disk.after_power_loss(Loss::Unsynced);
        assert!(is_at(&back, from) && !is_at(&back, to));
        disk.sync_dir(Path::new("/a")).unwrap();
        assert!(is_at(&disk.after_power_loss(Loss::Unsynced), to));
    }

    #[test]
    fn a_file_is_lost_with_its_folder() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/a/b")).unwrap();
        disk.create(Path::new("/a/b/f")).unwrap();
        disk.sync_dir(Path::new("/a/b")).unwrap();
        disk.sync_dir(Path::new("/a")).unwrap();
        assert_eq!(disk.after_power_loss(Loss::Names).files(), []);
        disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(disk.after_power_loss(Loss::Names).files().len(), 1);
    }

    #[test]
    fn a_killed_process_leaves_unsynced_what_was_not() {
        let killed = written().after_kill();
        assert_eq!(text(&killed, "/d/f").unwrap(), b"keptlost?!");
        assert_eq!(text(&killed.after_power_loss(Loss::Unsynced), "/d/f").unwrap(), b"kept");
        assert!(killed.reads_like(&written()) && !killed.reads_like(&killed.after_power_loss(Loss::Bytes)));
    }

    #[test]
    fn a_failure_is_of_one_change_or_of_all_that_follow() {
        let (once, for_good) = (SimDisk::new(), SimDisk::new());
        once.fail_at(2);
        for_good.stop_at(2);
        let outcomes = |disk: &SimDisk| {
            let file = disk.create(Path::new("/f")).unwrap();
            [file.append(b"1234").is_ok(), file.append(b"5").is_ok(), disk.sync_dir(Path::new("/")).is_ok()]
        };
        assert_eq!((outcomes(&once), outcomes(&for_good)), ([false, true, true], [false; 3]));
        assert_eq!(text(&once, "/f").unwrap(), b"125");
    }

    #[test]
    fn a_watcher_sees_the_disk_before_each_change() {
        let disk = SimDisk::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        disk.watch(move |disk, operation| told.lock().unwrap().push((operation, disk.files().len())));
        disk.create(Path::new("/a")).unwrap();
        disk.create(Path::new("/b")).unwrap();
        assert_eq!(*seen.lock().unwrap(), [(1, 0), (2, 1)]);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(3));
        let file = disk.create(Path::new("/f")).unwrap();
        assert_eq!(file.append(b"12345").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(text(&disk, "/f").unwrap(), b"123");
    }
}
