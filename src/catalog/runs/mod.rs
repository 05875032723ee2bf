//! Runs of scheduled jobs, as they are kept: which there were, how they ended, and how far each job's schedule is
//! decided. What a job is, and when one is due, `insight` knows.
//!
//! A run is known by its job and the time it was scheduled for. The mark of a job ([`Through`]) says up to where its
//! schedule is decided: each time up to it has a run, or is covered by one that tells of those skipped.

mod tree;
#[cfg(test)]
mod twin;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CatalogError;
use crate::model::{Span, Timestamp};

pub use tree::Runs;
#[cfg(test)]
pub(crate) use twin::{LossOfRuns, Power, RunTwin};

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits: for a run before it, for a free thread, or to be tried again.
    Planned,
    /// At work, or it was when the program ended.
    Started,
    /// Was at work when the program ended: waits to be run again.
    Interrupted,
    /// Its effect is there.
    Done,
    /// Gave up with an error, after the retries it had.
    Failed,
    /// Took longer than it may, after the retries it had.
    TimedOut,
    /// Not run, and told why.
    Skipped,
}

impl RunState {
    /// As in the table `jobs`.
    pub const fn name(self) -> &'static str {
        match self {
            RunState::Planned => "planned",
            RunState::Started => "started",
            RunState::Interrupted => "interrupted",
            RunState::Done => "done",
            RunState::Failed => "failed",
            RunState::TimedOut => "timed_out",
            RunState::Skipped => "skipped",
        }
    }

    /// Whether something is still to come of it.
    pub const fn is_open(self) -> bool {
        matches!(self, RunState::Planned | RunState::Started | RunState::Interrupted)
    }
}

/// Why a run was skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its time had passed when it was looked at, and the job does not catch up on it.
    Missed,
    /// The run before it was not over.
    Overlap,
    /// The job was turned off while it waited.
    Disabled,
    /// The job was taken out of the settings while it waited.
    Removed,
}

impl SkipReason {
    /// A sentence for people.
    pub const fn told(self) -> &'static str {
        match self {
            SkipReason::Missed => "its time had passed",
            SkipReason::Overlap => "the run before it was not over",
            SkipReason::Disabled => "the job was turned off",
            SkipReason::Removed => "the job is no longer in the settings",
        }
    }
}

/// What a skipped run stands for: itself, and those right before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Skipped {
    pub reason: SkipReason,
    /// The first scheduled time it covers; the last is its own.
    #[serde(with = "nanos")]
    pub first: Timestamp,
    /// How many scheduled times that is.
    pub count: u64,
}

/// One run, as last written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    pub job: String,
    #[serde(with = "nanos")]
    pub scheduled: Timestamp,
    pub state: RunState,
    /// From 1; 0 where it never started.
    pub attempt: u32,
    /// Attempts that ended because the program did.
    pub interruptions: u32,
    /// When its last attempt began and ended, by the wall's clock.
    #[serde(with = "nanos::option")]
    pub started: Option<Timestamp>,
    #[serde(with = "nanos::option")]
    pub ended: Option<Timestamp>,
    /// Milliseconds its last attempt took, by a clock that does not leap.
    pub took_ms: Option<u64>,
    /// Rows it wrote.
    pub rows: Option<u64>,
    /// Of its last attempt.
    pub error: Option<String>,
    /// Of those skipped.
    pub skipped: Option<Skipped>,
}

impl RunRecord {
    /// One that waits for its first attempt.
    pub fn planned(job: &str, scheduled: Timestamp) -> Self {
        RunRecord {
            job: job.to_owned(),
            scheduled,
            state: RunState::Planned,
            attempt: 0,
            interruptions: 0,
            started: None,
            ended: None,
            took_ms: None,
            rows: None,
            error: None,
            skipped: None,
        }
    }

    /// The same, skipped. `first` and `count` are of the times it covers, its own among them.
    pub fn skip(self, reason: SkipReason, first: Timestamp, count: u64) -> Self {
        let skipped = Some(Skipped { reason, first, count });
        RunRecord { state: RunState::Skipped, skipped, ..self }
    }
}

/// How far a job's schedule is decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Through {
    #[serde(with = "nanos")]
    pub at: Timestamp,
    /// The schedule as written: of another one nothing is decided.
    pub schedule: String,
}

/// One step of the history: all of it is kept, or none.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RunChange {
    /// Of two with one key the later counts.
    pub records: Vec<RunRecord>,
    pub through: BTreeMap<String, Through>,
}

impl RunChange {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.through.is_empty()
    }
}

/// Where runs are kept.
pub trait RunLog: Send + Sync {
    /// Writes all of `change` or none of it, over what was there under its keys. Durable once it returns; after an error
    /// it may be there or not, and can be written again.
    fn put(&self, change: &RunChange) -> Result<(), CatalogError>;

    fn get(&self, job: &str, scheduled: Timestamp) -> Result<Option<RunRecord>, CatalogError>;

    /// A job's runs scheduled in `span`, in order.
    fn range(&self, job: &str, span: Span) -> Result<Vec<RunRecord>, CatalogError>;

    /// A job's last `count` runs, the newest first.
    fn newest(&self, job: &str, count: usize) -> Result<Vec<RunRecord>, CatalogError>;

    /// The runs of all jobs that are not over, by job and time.
    fn open_runs(&self) -> Result<Vec<RunRecord>, CatalogError>;

    /// The mark of every job there ever was.
    fn through(&self) -> Result<BTreeMap<String, Through>, CatalogError>;

    /// Forgets all but a job's last `keep` runs that are over; how many that were. Need not be durable.
    fn prune(&self, job: &str, keep: usize) -> Result<usize, CatalogError>;
}

/// Times as nanoseconds.
mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.nanos())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_nanos)
    }

    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use crate::model::Timestamp;

        #[expect(clippy::ref_option, reason = "serde gives a reference")]
        pub fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
            time.map(Timestamp::nanos).serialize(to)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_nanos))
        }
    }
}
