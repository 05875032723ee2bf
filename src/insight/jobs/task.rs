//! What a job does when it runs: a task, which is given the run, and a word on whether it should still go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::spec::Job;
use crate::catalog::RunRecord;
use crate::model::Timestamp;

/// One attempt at a run.
#[derive(Clone, Debug)]
pub struct Run {
    pub job: Arc<Job>,
    /// The run's name beside its job: what it writes is kept under the two.
    pub scheduled: Timestamp,
    /// From 1.
    pub attempt: u32,
}

impl Run {
    pub(super) fn of(job: &Arc<Job>, record: &RunRecord) -> Run {
        Run { job: job.clone(), scheduled: record.scheduled, attempt: record.attempt }
    }
}

/// What came of a run that went well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Rows it wrote.
    pub rows: u64,
}

/// Why an attempt failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JobError {
    #[error("it was told to stop")]
    Cancelled,
    #[error("{0}")]
    Failed(String),
}

/// Does the work of every job.
///
/// An effect is there once however often its run is tried, if the task keeps to this: rows are written under the job and
/// the scheduled time, over what was there under them; they are written in [`Cancel::commit`]; and they are as durable as
/// they will be when `run` returns.
pub trait Task: Send + Sync {
    /// One attempt. Looks at `cancel` now and then, and returns soon after it is set.
    fn run(&self, run: &Run, cancel: &Cancel) -> Result<Outcome, JobError>;

    /// Asked after a restart of a run that was at work: what it wrote, if all of that is there. Without an answer it is
    /// run again.
    fn committed(&self, _run: &Run) -> Option<Outcome> {
        None
    }
}

impl<F: Fn(&Run, &Cancel) -> Result<Outcome, JobError> + Send + Sync> Task for F {
    fn run(&self, run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        self(run, cancel)
    }
}

const OPEN: u8 = 0;
const COMMITTED: u8 = 1;
const CANCELLED: u8 = 2;

/// Whether an attempt should still go on. It is cancelled, or it writes its effect, and never both.
#[derive(Debug, Default)]
pub struct Cancel {
    state: AtomicU8,
}

impl Cancel {
    /// Whether the attempt is to stop.
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::Acquire) == CANCELLED
    }

    /// Writes the effect, unless the attempt was cancelled; from here on it cannot be.
    ///
    /// # Errors
    /// [`JobError::Cancelled`]; else that of `effect`.
    pub fn commit<T>(&self, effect: impl FnOnce() -> Result<T, JobError>) -> Result<T, JobError> {
        match self.state.compare_exchange(OPEN, COMMITTED, Ordering::AcqRel, Ordering::Acquire) {
            Err(CANCELLED) => Err(JobError::Cancelled),
            _ => effect(),
        }
    }

    /// Cancels the attempt; `false` where its effect is being written, or is.
    pub fn set(&self) -> bool {
        self.state.compare_exchange(OPEN, CANCELLED, Ordering::AcqRel, Ordering::Acquire) != Err(COMMITTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_cancelled_or_writes_and_never_both() {
        let cancel = Cancel::default();
        assert_eq!(cancel.commit(|| Ok(7)), Ok(7));
        assert_eq!((cancel.set(), cancel.is_set()), (false, false));
        assert_eq!(cancel.commit(|| Ok(8)), Ok(8), "it may write in parts");
        let cancel = Cancel::default();
        assert_eq!((cancel.set(), cancel.set(), cancel.is_set()), (true, true, true));
        assert_eq!(cancel.commit(|| Ok(7)), Err(JobError::Cancelled));
    }
}
