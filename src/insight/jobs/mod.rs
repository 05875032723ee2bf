//! Scheduled jobs: forecasts that are kept, queries, reports, objectives, at an interval or by a cron pattern.
//!
//! A run is known by its job and the time it was scheduled for, and each such time ends as one run that is over, or as part
//! of one that tells why it was skipped: none is lost, and none has two effects. So the order of things is: that the run
//! has started is made durable; its effect is written under the run's name; that it is done is made durable. After a crash
//! at any point of it what was started is tried again under the same name, and a second effect takes the place of the first.
//!
//! `spec` is what people write, `schedule` says when a job is due, `line` decides what becomes of one job's runs, `runner`
//! of all, as pure steps from one moment to the next; `keeper` is the thread that takes these steps, `history` the rows of
//! the table `jobs`.

mod cron;
mod history;
mod keeper;
mod line;
mod runner;
mod schedule;
mod spec;
mod task;
#[cfg(test)]
mod tests;

pub use cron::{Cron, CronFault};
pub use history::{JobRow, job_rows};
pub use keeper::Jobs;
pub use runner::{Action, Moment, Runner};
pub use schedule::{Due, Schedule};
pub use spec::{CatchUp, ForecastSpec, Job, JobFault, JobSpec, Overlap, Work, jobs};
pub use task::{Cancel, JobError, Outcome, Run, Task};
