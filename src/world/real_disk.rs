//! The machine's file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskLock, FileAppend, FileRead};

/// The machine's file system.
#[derive(Debug)]
pub struct RealDisk;

struct RealAppend(File);

struct RealRead {
    file: File,
    len: u64,
}

impl FileAppend for RealAppend {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl FileRead for RealRead {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl RealDisk {
    /// Copies a folder with all that is in it, durably; how many bytes. Nothing where there is none.
    pub fn copy_folder(&self, from: &Path, to: &Path) -> io::Result<u64> {
        let mut bytes = 0;
        fs::create_dir_all(to)?;
        for path in self.list(from)? {
            let copy = to.join(path.file_name().unwrap_or_default());
            if path.is_dir() {
                bytes += self.copy_folder(&path, &copy)?;
            } else {
                bytes += fs::copy(&path, &copy)?;
                File::open(&copy)?.sync_all()?;
            }
        }
        self.sync_dir(to)?;
        Ok(bytes)
    }

    /// Removes a folder with all that is in it, if it is there.
    pub fn remove_folder(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileAppend>> {
        Ok(Arc::new(RealAppend(File::create(path)?)))
    }

    fn go_on(&self, path: &Path) -> io::Result<Arc<dyn FileAppend>> {
        Ok(Arc::new(RealAppend(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileRead>> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Arc::new(RealRead { file, len }))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(DiskLock::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
