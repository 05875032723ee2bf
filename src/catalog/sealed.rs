//! sled, opened with care: every value carries a checksum of its own, and a panic of sled's is an error like others.
//!
//! A sealed value is the CRC32C of key and value (u32 le), then the value.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::CatalogError;
use crate::world::{Disk, RealDisk};

/// Bytes by which the log of a new folder grows: sled's default of 512 KiB would be most of a small store.
const LOG_SEGMENT: usize = 32 << 10;
/// How often and how long to wait for sled's threads of an earlier opening to let go of its file.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 500;

pub(super) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = crc(key, value).to_le_bytes().to_vec();
    sealed.extend_from_slice(value);
    sealed
}

fn crc(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

/// The value, if no bit of it or of its key is wrong.
pub(super) fn unseal<'v>(key: &[u8], sealed: &'v [u8]) -> Option<&'v [u8]> {
    let (told, value) = sealed.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*told) == crc(key, value)).then_some(value)
}

/// A key and its value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// All that a tree holds.
pub(super) fn entries(tree: &sled::Tree) -> Result<Vec<Entry>, CatalogError> {
    let name = || String::from_utf8_lossy(&tree.name()).into_owned();
    let entry = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
        let (key, sealed) = entry?;
        let value = unseal(&key, &sealed).map(<[u8]>::to_vec);
        value.map(|value| (key.to_vec(), value)).ok_or_else(|| CatalogError::Damaged { entry: name() })
    };
    tree.iter().map(entry).collect()
}

/// Opens sled's folder. The data directory's own lock is held by then, so a lock on sled's file can only be that of an
/// earlier opening in this process, which sled's threads give up a moment after it was closed.
pub(super) fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(8 << 20)
        .segment_size(log_segment(path))
        .flush_every_ms(None);
    let mut looks = 0;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if looks < LOOKS && error.to_string().contains("could not acquire lock") => {
                looks += 1;
                std::thread::sleep(LOOK);
            }
            opened => return opened,
        }
    }
}

/// Bytes by which a folder's log grows. sled opens a folder with the size it was made with and no other, and what is in
/// one of another format must be read to be refused.
fn log_segment(path: &Path) -> usize {
    let conf = RealDisk.open(&path.join("conf")).and_then(|file| file.read_all()).unwrap_or_default();
    let told = String::from_utf8_lossy(&conf);
    told.lines().find_map(|line| line.strip_prefix("segment_size: ")?.parse().ok()).unwrap_or(LOG_SEGMENT)
}

/// Does what may panic in sled where its files are damaged.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, CatalogError>) -> Result<T, CatalogError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(CatalogError::Panicked { told: told.unwrap_or("no reason given").to_owned() })
    })
}
