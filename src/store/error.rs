//! What goes wrong in the store.

use std::io;
use std::path::PathBuf;

use crate::catalog::CatalogError;

/// What goes wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data directory {} is in use by another process: stop it, or ask it with --url", path.display())]
    InUse { path: PathBuf },
    #[error("{} is there already: name a folder that is not, or an empty one", path.display())]
    Occupied { path: PathBuf },
    #[error("cannot {action} {}", path.display())]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the store takes no writes since an earlier failure ({reason}): what was acknowledged is kept; mend the cause and open it again"
    )]
    Closed { reason: String },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("Parquet says no")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("Arrow says no")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl StoreError {
    /// Whether it may come of a damaged file.
    pub(super) fn is_damage(&self) -> bool {
        use std::io::ErrorKind as E;
        match self {
            StoreError::Damaged { .. } | StoreError::Parquet(_) | StoreError::Arrow(_) => true,
            StoreError::Disk { source, .. } => {
                // The disk itself gives up on a sector.
                const EIO: i32 = 5;
                matches!(source.kind(), E::NotFound | E::UnexpectedEof) || source.raw_os_error() == Some(EIO)
            }
            _ => false,
        }
    }
}

/// Names what was done to which path in an I/O error.
pub(super) trait DiskContext<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError>;
}

impl<T> DiskContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Disk { action, path: path.into(), source })
    }
}

/// The error and its sources in one line.
pub fn told_with_causes(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |told, source| format!("{told}: {source}"))
}
