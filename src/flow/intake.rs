//! The door through which samples come in: sources know these traits and nothing behind them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Batch, Description, Oversize, SeriesDef, SeriesId};

/// Takes series and samples of one source. Behind it stand the catalog, the store and the pipelines.
pub trait Intake: Send + Sync {
    /// The number of a series; a series not seen before is given the next one, within the source's budget.
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal>;

    /// The number of a series that was seen before, if it was. One that numbers no series knows none.
    fn find(&self, _def: &SeriesDef) -> Option<SeriesId> {
        None
    }

    /// Takes what a source says of a metric apart from its samples. It lasts from the next flush on; sources say it
    /// again and again.
    fn describe(&self, metric: &str, about: &Description);

    /// Stores the samples and hands them to the pipelines. `Ok` acknowledges: they are as durable as `sync` promises.
    /// After a refusal none of the batch is promised, and it may be sent again without being counted twice.
    fn accept(&self, batch: Batch) -> Result<(), Refusal>;
}

/// Gives each source its own way in.
pub trait Sources: Send + Sync {
    /// The way in of the source `name`, the same each time.
    fn source(&self, name: &str) -> Arc<dyn Intake>;

    /// What each source brought since the start, by name.
    fn stats(&self) -> Vec<SourceStats>;
}

/// What a source brought since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStats {
    pub source: String,
    /// Samples acknowledged.
    pub samples: u64,
    /// Series that came first from it.
    pub series: u64,
    /// Those of the last 24 hours, which count against its budget.
    pub series_of_day: u64,
    /// New series it may bring in 24 hours.
    pub budget: u64,
    /// Different series refused, estimated to about 2 %.
    pub refused_series: u64,
    pub refused_samples: u64,
    /// Metric of the series refused last.
    pub last_refused: Option<String>,
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
    /// A series is new and there is no room for it. Samples of known series are taken.
    #[error("{0}")]
    Budget(Budget),
}

impl From<Oversize> for Refusal {
    fn from(oversize: Oversize) -> Self {
        Refusal::Budget(Budget::OfSeries(oversize))
    }
}

/// A budget of series that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Budget {
    OfSource {
        source: Arc<str>,
        series: u64,
    },
    OfStore {
        series: u64,
    },
    /// Series take all the memory they may.
    OfMemory {
        bytes: usize,
    },
    /// What one series may have.
    OfSeries(Oversize),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::OfSource { source, series } => write!(
                f,
                "the source {source} has brought the {series} new series it may bring in 24 hours; known ones go on: raise `ingest.series_per_source`"
            )?,
            Budget::OfStore { series } => write!(
                f,
                "the store holds the {series} series it may hold; known ones go on: raise `ingest.series_max`"
            )?,
            Budget::OfMemory { bytes } => write!(
                f,
                "series take the {} of memory they may; known ones go on: raise `memory`",
                bytesize::ByteSize::b(*bytes as u64)
            )?,
            Budget::OfSeries(oversize) => return oversize.fmt(f),
        }
        f.write_str(", or find the label that explodes with SELECT * FROM system.labels ORDER BY values DESC")
    }
}
