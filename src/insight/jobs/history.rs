//! The rows of the table `jobs`: runs as they are kept, and when each job is due next.

use std::sync::Arc;

use super::spec::Job;
use crate::catalog::{CatalogError, RunLog, RunRecord};
use crate::model::Timestamp;

/// One run; or a job that had none yet, of which only `job`, `state` and `next` are told.
#[derive(Clone, PartialEq, Debug)]
pub struct JobRow {
    pub job: String,
    pub scheduled: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// As [`crate::catalog::RunState`] names it; `waiting` or `disabled` of a job that had no run.
    pub state: &'static str,
    pub attempt: u32,
    pub rows: Option<u64>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    pub took_ms: Option<u64>,
    /// When the job is due next; `None` where it is turned off or gone.
    pub next: Option<Timestamp>,
}

/// The last `count` runs of each job, the newest first, jobs by name: those in the settings, and those that were once.
///
/// # Errors
/// The log cannot be read.
pub fn job_rows(
    log: &dyn RunLog,
    jobs: &[Arc<Job>],
    now: Timestamp,
    count: usize,
) -> Result<Vec<JobRow>, CatalogError> {
    let mut names: Vec<String> = log.through()?.into_keys().collect();
    names.extend(jobs.iter().map(|job| job.name.clone()));
    names.sort_unstable();
    names.dedup();
    let mut rows = Vec::new();
    for name in names {
        let job = jobs.iter().find(|job| job.name == name);
        let next = job.filter(|job| job.enabled).and_then(|job| job.schedule.next_after(now));
        let records = log.newest(&name, count)?;
        if let Some(job) = job.filter(|_| records.is_empty()) {
            rows.push(without_runs(job, next));
        }
        rows.extend(records.into_iter().map(|record| row(record, next)));
    }
    Ok(rows)
}

fn without_runs(job: &Job, next: Option<Timestamp>) -> JobRow {
    JobRow {
        job: job.name.clone(),
        scheduled: None,
        started: None,
        ended: None,
        state: if job.enabled { "waiting" } else { "disabled" },
        attempt: 0,
        rows: None,
        error: None,
        took_ms: None,
        next,
    }
}

fn row(record: RunRecord, next: Option<Timestamp>) -> JobRow {
    let skipped = record.skipped.map(|skipped| match skipped.count {
        1 => skipped.reason.told().to_owned(),
        count => format!("{}: {count} runs since {}", skipped.reason.told(), skipped.first),
    });
    JobRow {
        scheduled: Some(record.scheduled),
        started: record.started,
        ended: record.ended,
        state: record.state.name(),
        attempt: record.attempt,
        rows: record.rows,
        error: skipped.or(record.error),
        took_ms: record.took_ms,
        next,
        job: record.job,
    }
}
