//! The store's settings, as written in the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Retention;

/// When an acknowledged sample is on the disk itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Before the acknowledgement: it survives a loss of power. Writers share syncs.
    Always,
    /// At most a second later: it survives a killed process at once, a loss of power after that second.
    #[default]
    Interval,
    /// When the operating system gets to it: it survives a killed process.
    Never,
}

/// Settings of the store.
#[derive(Clone, PartialEq, Debug)]
pub struct StoreSpec {
    pub sync: Sync,
    /// Bytes of samples in memory at which they are flushed to a segment.
    pub head_bytes: usize,
    /// Bytes of memory of series, their names and lists, beyond which no new ones are taken.
    pub series_bytes: usize,
    /// Age of the oldest sample in memory at which it is flushed.
    pub head_age: Duration,
    /// Bytes of a segment that is not merged further.
    pub segment_bytes: u64,
    pub retention: Retention,
}

impl Default for StoreSpec {
    fn default() -> Self {
        StoreSpec {
            sync: Sync::Interval,
            head_bytes: 32 << 20,
            series_bytes: 96 << 20,
            head_age: Duration::from_secs(3600),
            segment_bytes: 512 << 20,
            retention: Retention::default(),
        }
    }
}
