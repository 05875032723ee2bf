//! Files that a pipeline is told: what is written of one, and who reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::intake::Intake;

/// `read.file`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFileSpec {
    pub path: PathBuf,
    /// Where the name does not tell it.
    #[serde(default)]
    pub format: Option<String>,
    /// CSV and Parquet: name of the metric.
    #[serde(default)]
    pub metric: Option<String>,
    /// CSV and Parquet: the column with the time, and that with the value.
    #[serde(default)]
    pub time: Option<String>,
    #[serde(default)]
    pub value: Option<String>,
    /// CSV and Parquet: labels of every series.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Reads files of every format that is imported.
pub trait Readers: Send + Sync {
    /// Gives all samples of a file to `intake`.
    ///
    /// # Errors
    /// Why it was not read to its end.
    fn read(&self, file: &ReadFileSpec, intake: &dyn Intake) -> Result<(), String>;

    /// Whether the name tells a format that is read, or one is written.
    ///
    /// # Errors
    /// What to write.
    fn check(&self, file: &ReadFileSpec) -> Result<(), String>;

    /// Whether there is such a file.
    fn is_there(&self, path: &Path) -> bool;
}

/// Reads nothing: for whoever only looks at what is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReaders;

impl Readers for NoReaders {
    fn read(&self, _: &ReadFileSpec, _: &dyn Intake) -> Result<(), String> {
        Ok(())
    }

    fn check(&self, _: &ReadFileSpec) -> Result<(), String> {
        Ok(())
    }

    fn is_there(&self, _: &Path) -> bool {
        true
    }
}
