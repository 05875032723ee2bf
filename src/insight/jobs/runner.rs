//! All jobs, as pure steps: a moment and the log in, what to start out. Clock and threads are the keeper's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::line::Line;
use super::spec::Job;
use super::task::{Cancel, JobError, Outcome, Run};
use crate::catalog::{CatalogError, RunChange, RunLog, RunRecord, RunState, SkipReason};
use crate::model::Timestamp;
use crate::world::Clock;

/// After its time was over, and after it was told to stop, a task has so long to come back.
const GRACE: Duration = Duration::from_secs(10);
/// The clock may leap: it is looked at so often at least.
const REST_MAX: Duration = Duration::from_secs(5);
/// Runs of a job between two cuts of its history.
const CUT_EVERY: usize = 100;

/// One look at the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The wall's time, which schedules go by.
    pub now: Timestamp,
    /// The time that never leaps, which timeouts go by.
    pub elapsed: Duration,
}

impl Moment {
    pub fn of(clock: &dyn Clock) -> Self {
        Moment { now: clock.now(), elapsed: clock.elapsed() }
    }
}

/// What is to be done, now that it is durable that it will be.
#[derive(Clone, Debug)]
pub enum Action {
    /// Run the task, then say so by [`Runner::ended`].
    Start(Run, Arc<Cancel>),
    /// The run took too long and was told to stop. What its task still returns is dropped.
    TimedOut(Run),
    /// Its task does not come back; until it does the job has no other run.
    Stuck(Run),
}

/// Decides what runs when. Every step writes what it decided to the log before it gives out what to do.
pub struct Runner {
    log: Arc<dyn RunLog>,
    lines: Vec<Line>,
    places: HashMap<String, usize>,
    /// Runs that may be at work at once, and that are.
    at_once: usize,
    at_work: usize,
    is_stopping: bool,
    /// Decided and not yet written, and what is to be done then.
    unwritten: RunChange,
    held: Vec<Action>,
}

impl Runner {
    /// Takes up where the log left off. What was at work and is not known to `committed` will be run again, under the same
    /// name; runs of jobs that are gone are told as such. `at_once` (at least 1) bounds the runs of all jobs together.
    ///
    /// # Errors
    /// The log cannot be read or written.
    pub fn open(
        jobs: Vec<Arc<Job>>,
        at_once: usize,
        log: Arc<dyn RunLog>,
        committed: &dyn Fn(&Run) -> Option<Outcome>,
        at: Moment,
    ) -> Result<Runner, CatalogError> {
        let (through, mut open) = (log.through()?, BTreeMap::<String, Vec<RunRecord>>::new());
        for record in log.open_runs()? {
            open.entry(record.job.clone()).or_default().push(record);
        }
        let mut change = RunChange::default();
        let line = |job: &Arc<Job>| {
            let records = open.remove(&job.name).unwrap_or_default();
            Line::open(job, through.get(&job.name), records, committed, at, &mut change)
        };
        let lines: Vec<Line> = jobs.iter().map(line).collect();
        change.records.extend(open.into_values().flatten().map(|record| without_job(record, at.now)));
        let places = jobs.iter().enumerate().map(|(place, job)| (job.name.clone(), place)).collect();
        let mut runner = Runner {
            log,
            lines,
            places,
            at_once: at_once.max(1),
            at_work: 0,
            is_stopping: false,
            unwritten: change,
            held: Vec::new(),
        };
        runner.write()?;
        Ok(runner)
    }

    /// Looks at the clock: plans what is due, ends what takes too long, starts what waits.
    ///
    /// # Errors
    /// The log cannot be read or written. Nothing is started then; a later step tries again.
    pub fn tick(&mut self, at: Moment) -> Result<Vec<Action>, CatalogError> {
        // More is not decided before what was is written.
        self.write()?;
        if !self.is_stopping {
            self.end_late(at);
            for line in &mut self.lines {
                line.plan(at, &*self.log, &mut self.unwritten)?;
            }
            self.start_ready(at);
        }
        self.settle()
    }

    /// The task of a run came back.
    ///
    /// # Errors
    /// The log cannot be written; a later step tries again.
    pub fn ended(
        &mut self,
        run: &Run,
        came: Result<Outcome, JobError>,
        at: Moment,
    ) -> Result<Vec<Action>, CatalogError> {
        if let Some(&place) = self.places.get(&run.job.name)
            && self.lines[place].end(run, came, at, &mut self.unwritten)
        {
            self.at_work -= 1;
        }
        self.settle()
    }

    /// Starts nothing more and tells what is at work to stop; it will be run again. Runs whose effect is being written go
    /// on: their end is waited for with [`Runner::at_work`].
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn stop(&mut self, at: Moment) -> Result<(), CatalogError> {
        self.is_stopping = true;
        self.held.clear();
        self.lines.iter_mut().for_each(|line| line.stop(at, &mut self.unwritten));
        let is_at_work = |line: &&Line| line.active().is_some_and(|active| active.stopped.is_none());
        self.at_work = self.lines.iter().filter(is_at_work).count();
        self.write()
    }

    /// Runs at work, those told to stop not among them.
    pub fn at_work(&self) -> usize {
        self.at_work
    }

    /// How long nothing is to be done, unless a task comes back or the clock leaps.
    pub fn rest(&self, at: Moment) -> Duration {
        if !self.unwritten.is_empty() {
            return Duration::from_secs(1);
        }
        let has_room = self.at_work < self.at_once;
        let rest = |line: &Line| {
            let rest = line.rest(at, GRACE, REST_MAX);
            // Ready, and no place at work: the end of another wakes it.
            if rest.is_zero() && !has_room { REST_MAX } else { rest }
        };
        self.lines.iter().map(rest).fold(REST_MAX, Duration::min)
    }

    /// How long a task that was told to stop has to come back.
    pub const fn grace() -> Duration {
        GRACE
    }

    fn end_late(&mut self, at: Moment) {
        for line in &mut self.lines {
            if let Some(run) = line.time_out(at, &mut self.unwritten) {
                self.at_work -= 1;
                self.held.push(Action::TimedOut(run));
            }
            if let Some(run) = line.stuck(at, GRACE) {
                self.held.push(Action::Stuck(run));
            }
        }
    }

    /// By the time they were scheduled for, as many as there is room for.
    fn start_ready(&mut self, at: Moment) {
        let ready = |(place, line): (usize, &Line)| Some((line.ready(at)?, place));
        let mut ready: Vec<(Timestamp, usize)> = self.lines.iter().enumerate().filter_map(ready).collect();
        ready.sort_unstable();
        for (_, place) in ready.into_iter().take(self.at_once.saturating_sub(self.at_work)) {
            if let Some((run, cancel)) = self.lines[place].start(at, &mut self.unwritten) {
                self.at_work += 1;
                self.held.push(Action::Start(run, cancel));
            }
        }
    }

    /// Writes what was decided, and gives out what may be done then.
    fn settle(&mut self) -> Result<Vec<Action>, CatalogError> {
        self.write()?;
        Ok(std::mem::take(&mut self.held))
    }

    fn write(&mut self) -> Result<(), CatalogError> {
        if !self.unwritten.is_empty() {
            self.log.put(&self.unwritten)?;
            self.unwritten = RunChange::default();
        }
        for line in self.lines.iter_mut().filter(|line| line.grown >= CUT_EVERY) {
            self.log.prune(&line.job.name, line.job.history)?;
            line.grown = 0;
        }
        Ok(())
    }
}

/// What becomes of a run whose job is gone.
fn without_job(record: RunRecord, now: Timestamp) -> RunRecord {
    if record.state == RunState::Started {
        let told = "the program ended while it was at work, and the job is no longer in the settings";
        return RunRecord { state: RunState::Failed, ended: Some(now), error: Some(told.to_owned()), ..record };
    }
    let scheduled = record.scheduled;
    record.skip(SkipReason::Removed, scheduled, 1)
}
