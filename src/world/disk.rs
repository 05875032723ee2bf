//! What the store asks of a disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files and folders. Writes are durable after [`FileAppend::sync`]; a new, renamed or removed name after
/// [`Disk::sync_dir`] of its folder.
pub trait Disk: Send + Sync {
    /// A new empty file to write; one of that name is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileAppend>>;
    /// A file to go on with at its end; a new one where there is none.
    fn go_on(&self, path: &Path) -> io::Result<Arc<dyn FileAppend>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileRead>>;
    /// Cuts a file to its first `len` bytes, durably.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A second name for a file; `AlreadyExists` where there is one of that name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Files and folders in a folder, sorted; empty where the folder does not exist.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the file as a lock for this process, until the answer is dropped. `WouldBlock` where another holds it.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;
}

/// A file that grows at its end. Its methods may be called from several threads.
pub trait FileAppend: Send + Sync {
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// A file to read anywhere.
pub trait FileRead: Send + Sync {
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `offset`; `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len()).map_err(io::Error::other)?];
        self.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Held as long as it lives.
pub struct DiskLock {
    _held: Box<dyn Send + Sync>,
}

impl DiskLock {
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        DiskLock { _held: Box::new(held) }
    }
}

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLock")
    }
}
