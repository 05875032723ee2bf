//! The witness: how far the catalog had come, told outside sled, so that a catalog that fell back to an older state is
//! known for what it is.
//!
//! The file `generation`, drawn in `store/FORMAT.md`, is replaced after each commit of sled. So sled may be ahead of it by
//! what a crash came between, and never behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::world::Disk;

const MAGIC: &[u8; 8] = b"PLGEN\0\0\x01";

/// Where the witness is kept.
#[derive(Clone)]
pub(super) struct Witness {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    pub generation: u64,
    pub store: String,
}

impl Witness {
    pub fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Witness { disk, path: path.to_owned() }
    }

    /// What it says; `None` where there is none or it does not read.
    pub fn ask(&self) -> Option<Said> {
        let bytes = self.disk.open(&self.path).ok()?.read_all().ok()?;
        let (told, crc) = bytes.split_last_chunk::<4>()?;
        (crc32c::crc32c(told) == u32::from_le_bytes(*crc)).then_some(())?;
        let (generation, store) = told.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        let store = String::from_utf8(store.to_vec()).ok()?;
        Some(Said { generation: u64::from_le_bytes(*generation), store })
    }

    /// Replaces what it says, durably and in one step.
    pub fn tell(&self, said: &Said) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&said.generation.to_le_bytes());
        bytes.extend_from_slice(said.store.as_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let unfinished = self.path.with_extension("new");
        let file = self.disk.create(&unfinished)?;
        file.append(&bytes)?;
        file.sync()?;
        self.disk.rename(&unfinished, &self.path)?;
        self.path.parent().map_or(Ok(()), |dir| self.disk.sync_dir(dir))
    }
}
