//! The door through which samples come in: sources know this trait and nothing behind it.

use std::time::Duration;

use crate::model::{Batch, SeriesDef, SeriesId};

/// Takes series and samples. Behind it stand the catalog, the store and the pipelines.
pub trait Intake: Send + Sync {
    /// The number of a series; a series not seen before is given the next one.
    fn intern(&self, def: SeriesDef) -> Result<SeriesId, Refusal>;

    /// Stores the samples and hands them to the pipelines. `Ok` acknowledges: they are as durable as `sync` promises.
    /// After a refusal none of the batch is promised, and it may be sent again without being counted twice.
    fn accept(&self, batch: Batch) -> Result<(), Refusal>;
}

/// Why nothing was taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// A pipeline's queue stayed full.
    #[error("{what} is behind: send again in {} s", retry_after.as_secs().max(1))]
    Behind { what: String, retry_after: Duration },
    /// The store takes no writes until it is opened anew.
    #[error("the store takes no writes: {reason}")]
    Closed { reason: String },
}
