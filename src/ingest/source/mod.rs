//! Sources that are asked at an interval: what one is, what every one has, and who asks them.

mod caught;
mod collectors;
mod living;
mod readings;
mod spec;
mod written;

use async_trait::async_trait;

pub use crate::model::Priority;
use crate::model::Timestamp;

pub(super) use caught::readings_of;
pub use collectors::{CollectorStats, Collectors, Health, Planned};
pub use living::Living;
pub use readings::Readings;
pub(super) use readings::TEXTS_MAX;
pub use spec::SourceSpec;
pub use written::{From, WrittenSource};

/// Something that can be asked for numbers. Anybody may write one; [`Collectors`] asks it.
#[async_trait]
pub trait Source: Send {
    /// Asks once, at the time `now`, which readings without a time of their own get. It is dropped in the middle when it
    /// takes longer than its timeout, so it must be able to start anew.
    ///
    /// # Errors
    /// Why there is nothing to tell. A source that has something to tell even so puts the error into
    /// [`Readings::fault`].
    async fn read(&mut self, now: Timestamp) -> Result<Readings, SourceError>;

    /// Whether it is asked at its interval also while it fails, since what it tells then counts, too.
    fn keeps_pace(&self) -> bool {
        false
    }
}

/// Why a source had nothing to tell: one sentence that says what was asked, what happened, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

impl SourceError {
    pub fn new(told: impl Into<String>) -> Self {
        SourceError(told.into())
    }
}
