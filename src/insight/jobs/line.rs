//! The runs of one job: which are due, which of them wait, are skipped or made up for, and the one at work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::runner::Moment;
use super::spec::{CatchUp, Job, Overlap};
use super::task::{Cancel, JobError, Outcome, Run};
use crate::catalog::{CatalogError, RunChange, RunLog, RunRecord, RunState, SkipReason, Through};
use crate::model::Timestamp;

/// So much later than scheduled a run is still on time: what is later was missed.
const ON_TIME: Duration = Duration::from_secs(60);
/// A clock that went back by more is believed, and the schedule decided anew from there. By less, the job waits until it
/// is where it was.
const BACK_MAX: Duration = Duration::from_secs(86_400);
/// 2024-01-01: a clock before it was not set yet. A machine without a battery begins at 1970.
const CLOCK_SET: Timestamp = Timestamp::from_millis(1_704_067_200_000);
/// How often the mark of a job that is turned off is written.
const OFF_MARK: Duration = Duration::from_secs(3600);
/// A run that was at work when the program ended, more often than this, is not tried again: it may be what ends it.
const INTERRUPTIONS_MAX: u32 = 5;
/// From a failed attempt to the next, twice as long each time.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// One job and its runs that are not over.
pub(super) struct Line {
    pub job: Arc<Job>,
    /// Its schedule is decided up to here.
    through: Timestamp,
    /// The first scheduled time after that.
    next: Option<Timestamp>,
    /// Up to here times may have runs already, from when the clock was ahead.
    recorded: Timestamp,
    waiting: VecDeque<Waiting>,
    active: Option<Active>,
    /// Runs that were over since the history was last cut.
    pub grown: usize,
}

struct Waiting {
    record: RunRecord,
    /// Not before this, by the clock that does not leap.
    ready: Duration,
    place: Place,
}

/// What a run that waits does where newer ones come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The newest takes its place.
    Fresh,
    /// The same; it waits since before a restart.
    Before,
    /// It stays.
    Kept,
}

pub(super) struct Active {
    pub record: RunRecord,
    pub cancel: Arc<Cancel>,
    since: Duration,
    /// When it was told to stop.
    pub stopped: Option<Duration>,
    pub is_stuck: bool,
}

impl Line {
    /// A job's line as the log has it. What was at work is to be run again, unless `committed` knows of its effect. A job
    /// that is new, or whose schedule is, begins now.
    pub fn open(
        job: &Arc<Job>,
        through: Option<&Through>,
        open: Vec<RunRecord>,
        committed: &dyn Fn(&Run) -> Option<Outcome>,
        at: Moment,
        change: &mut RunChange,
    ) -> Line {
        let schedule = job.schedule.to_string();
        let known = through.filter(|known| known.schedule == schedule).map(|known| known.at);
        let mut line = Line {
            job: job.clone(),
            through: known.unwrap_or(at.now),
            next: None,
            recorded: through.map_or(Timestamp::MIN, |known| known.at),
            waiting: VecDeque::new(),
            active: None,
            grown: 0,
        };
        line.next = job.schedule.next_after(line.through);
        if known.is_none() {
            line.mark(change);
        }
        for record in open {
            line.reopen(record, committed, at, change);
        }
        line
    }

    fn reopen(
        &mut self,
        record: RunRecord,
        committed: &dyn Fn(&Run) -> Option<Outcome>,
        at: Moment,
        change: &mut RunChange,
    ) {
        let was_at_work = matches!(record.state, RunState::Started | RunState::Interrupted);
        let outcome = if was_at_work { committed(&Run::of(&self.job, &record)) } else { None };
        if let Some(Outcome { rows }) = outcome {
            let (state, ended) = (RunState::Done, record.ended.or(Some(at.now)));
            return self.over(RunRecord { state, ended, rows: Some(rows), error: None, ..record }, change);
        }
        let (scheduled, is_late) = (record.scheduled, later(record.scheduled, ON_TIME, 1) < at.now);
        if !self.job.enabled {
            return self.over(record.skip(SkipReason::Disabled, scheduled, 1), change);
        }
        match record.state {
            RunState::Started => self.interrupted(record, at, change),
            RunState::Planned if record.attempt == 0 => match self.job.catch_up {
                CatchUp::None if is_late => self.over(record.skip(SkipReason::Missed, scheduled, 1), change),
                CatchUp::All => self.keep(record, at.elapsed, Place::Kept),
                CatchUp::Last | CatchUp::None => self.keep(record, at.elapsed, Place::Before),
            },
            _ => self.keep(record, at.elapsed, Place::Kept),
        }
    }

    fn interrupted(&mut self, record: RunRecord, at: Moment, change: &mut RunChange) {
        let interruptions = record.interruptions + 1;
        let record = RunRecord { state: RunState::Interrupted, ended: Some(at.now), interruptions, ..record };
        if interruptions > INTERRUPTIONS_MAX {
            let told = format!("the program ended {interruptions} times while it was at work");
            return self.over(RunRecord { state: RunState::Failed, error: Some(told), ..record }, change);
        }
        self.wait(record, at.elapsed, Place::Kept, change);
    }

    /// Decides what becomes of the times that fell due.
    pub fn plan(&mut self, at: Moment, log: &dyn RunLog, change: &mut RunChange) -> Result<(), CatalogError> {
        if at.now < CLOCK_SET {
            return Ok(());
        }
        self.follow(at.now, change);
        let now = later(at.now, self.job.delay, -1);
        let Some(first) = self.next.filter(|next| *next <= now) else { return Ok(()) };
        if !self.job.enabled {
            if later(first, OFF_MARK, 1) <= now {
                self.pass(at.now, change);
            }
            return Ok(());
        }
        let most = if self.job.catch_up == CatchUp::All { self.job.catch_up_max } else { 1 };
        let mut due = self.job.schedule.due(self.through, now, most + 2);
        let Some(&last) = due.newest.last() else { return Ok(()) };
        // Of a clock that was ahead: such a time may have its run.
        if first <= self.recorded {
            for time in std::mem::take(&mut due.newest) {
                if !self.is_recorded(time, log)? {
                    due.newest.push(time);
                }
            }
            due.count = due.newest.len() as u64;
        }
        let on_time = due.newest.pop_if(|time| later(*time, ON_TIME, 1) >= now);
        let missed = due.count - u64::from(on_time.is_some());
        self.supersede(change);
        self.make_up(first, missed, due.newest, on_time.is_some(), at, change);
        if let Some(time) = on_time {
            self.arrive(time, at, change);
        }
        self.through = last;
        self.next = self.job.schedule.next_after(last);
        self.mark(change);
        Ok(())
    }

    fn is_recorded(&self, time: Timestamp, log: &dyn RunLog) -> Result<bool, CatalogError> {
        let known = if time <= self.recorded { log.get(&self.job.name, time)? } else { None };
        Ok(known.is_some_and(|known| known.state != RunState::Skipped))
    }

    /// What waits since before a restart and never began is one that was missed, as those after it.
    fn supersede(&mut self, change: &mut RunChange) {
        let (before, rest): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|waiting| waiting.place == Place::Before);
        self.waiting = rest.into();
        for Waiting { record, .. } in before {
            let scheduled = record.scheduled;
            self.over(record.skip(SkipReason::Missed, scheduled, 1), change);
        }
    }

    /// Of `missed` times from `first` on, the last of them in `newest`: those that wait, and one run that tells of the rest.
    fn make_up(
        &mut self,
        first: Timestamp,
        missed: u64,
        newest: Vec<Timestamp>,
        is_made_up: bool,
        at: Moment,
        change: &mut RunChange,
    ) {
        let most = match self.job.catch_up {
            CatchUp::All => self.job.catch_up_max,
            CatchUp::Last => usize::from(!is_made_up),
            CatchUp::None => 0,
        };
        let (skipped, kept) = newest.split_at(newest.len().saturating_sub(most));
        if let Some(&last) = skipped.last() {
            let count = missed - kept.len() as u64;
            let record = RunRecord::planned(&self.job.name, last).skip(SkipReason::Missed, first, count);
            self.over(record, change);
        }
        for &time in kept {
            self.wait(RunRecord::planned(&self.job.name, time), at.elapsed, Place::Kept, change);
        }
    }

    /// A run that is due now.
    fn arrive(&mut self, time: Timestamp, at: Moment, change: &mut RunChange) {
        let record = RunRecord::planned(&self.job.name, time);
        let is_busy = self.active.is_some() || !self.waiting.is_empty();
        if is_busy && self.job.overlap == Overlap::Skip {
            return self.over(record.skip(SkipReason::Overlap, time, 1), change);
        }
        // Behind runs that are made up for it is one of them.
        let is_behind = self.waiting.iter().any(|waiting| waiting.place == Place::Kept);
        if is_behind && self.job.catch_up == CatchUp::All && self.waiting.len() < self.job.catch_up_max {
            return self.wait(record, at.elapsed, Place::Kept, change);
        }
        if let Some(place) = self.waiting.iter().position(|waiting| waiting.place != Place::Kept)
            && let Some(Waiting { record, .. }) = self.waiting.remove(place)
        {
            let scheduled = record.scheduled;
            self.over(record.skip(SkipReason::Overlap, scheduled, 1), change);
        }
        self.wait(record, at.elapsed, Place::Fresh, change);
    }

    /// Begins the run that waits first, if it is ready and none is at work.
    pub fn start(&mut self, at: Moment, change: &mut RunChange) -> Option<(Run, Arc<Cancel>)> {
        let Waiting { record, .. } = self.waiting.pop_front_if(|first| first.ready <= at.elapsed)?;
        let attempt = record.attempt + 1;
        let started = Some(at.now);
        let record = RunRecord { state: RunState::Started, attempt, started, ended: None, took_ms: None, ..record };
        change.records.push(record.clone());
        let (run, cancel) = (Run::of(&self.job, &record), Arc::<Cancel>::default());
        let active = Active { record, cancel: cancel.clone(), since: at.elapsed, stopped: None, is_stuck: false };
        self.active = Some(active);
        Some((run, cancel))
    }

    /// When the run that waits first was scheduled, if it could begin.
    pub fn ready(&self, at: Moment) -> Option<Timestamp> {
        let first = self.waiting.front().filter(|first| self.active.is_none() && first.ready <= at.elapsed)?;
        Some(first.record.scheduled)
    }

    /// Ends an attempt that has taken too long, unless its effect is being written. Whether that was so.
    pub fn time_out(&mut self, at: Moment, change: &mut RunChange) -> Option<Run> {
        let timeout = self.job.timeout;
        let active = self.active.as_mut().filter(|active| active.stopped.is_none())?;
        if at.elapsed.saturating_sub(active.since) < timeout || !active.cancel.set() {
            return None;
        }
        active.stopped = Some(at.elapsed);
        let (record, since) = (active.record.clone(), active.since);
        let told = format!("it took longer than {}", humantime::format_duration(timeout));
        self.fail(ended(record.clone(), since, at), RunState::TimedOut, told, at, change);
        Some(Run::of(&self.job, &record))
    }

    /// The run whose task has not come back `grace` after its time was over; told once.
    pub fn stuck(&mut self, at: Moment, grace: Duration) -> Option<Run> {
        let timeout = self.job.timeout;
        let active = self.active.as_mut().filter(|active| !active.is_stuck)?;
        if at.elapsed < active.stopped.unwrap_or(active.since + timeout) + grace {
            return None;
        }
        active.is_stuck = true;
        Some(Run::of(&self.job, &active.record))
    }

    /// The task came back. Too late, or of another attempt, it counts for nothing. Whether it held a place at work.
    pub fn end(&mut self, run: &Run, came: Result<Outcome, JobError>, at: Moment, change: &mut RunChange) -> bool {
        let is_it =
            |active: &mut Active| active.record.scheduled == run.scheduled && active.record.attempt == run.attempt;
        let Some(active) = self.active.take_if(is_it) else { return false };
        if active.stopped.is_some() {
            return false;
        }
        let record = ended(active.record, active.since, at);
        match came {
            Ok(Outcome { rows }) => {
                self.over(RunRecord { state: RunState::Done, rows: Some(rows), error: None, ..record }, change);
            }
            Err(error) => self.fail(record, RunState::Failed, error.to_string(), at, change),
        }
        true
    }

    fn fail(&mut self, record: RunRecord, state: RunState, told: String, at: Moment, change: &mut RunChange) {
        let tries = record.attempt.saturating_sub(record.interruptions);
        let record = RunRecord { error: Some(told), ..record };
        if tries > self.job.retries {
            return self.over(RunRecord { state, ..record }, change);
        }
        let wait = RETRY.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(RETRY_MAX);
        let record = RunRecord { state: RunState::Planned, ..record };
        change.records.push(record.clone());
        self.waiting.push_front(Waiting { record, ready: at.elapsed + wait, place: Place::Kept });
    }

    /// Tells the run at work to stop, because the program does. It will be run again.
    pub fn stop(&mut self, at: Moment, change: &mut RunChange) {
        if !self.job.enabled {
            self.pass(at.now, change);
        }
        let Some(active) = self.active.as_mut() else { return };
        if active.stopped.is_none() && active.cancel.set() {
            active.stopped = Some(at.elapsed);
            let record = ended(active.record.clone(), active.since, at);
            change.records.push(RunRecord { state: RunState::Interrupted, ..record });
        }
    }

    pub fn active(&self) -> Option<&Active> {
        self.active.as_ref()
    }

    /// When it wants to be looked at again: from now, and at the latest after `most`.
    pub fn rest(&self, at: Moment, grace: Duration, most: Duration) -> Duration {
        let due = self.next.filter(|_| self.job.enabled).map(|next| {
            let nanos = later(next, self.job.delay, 1).nanos().saturating_sub(at.now.nanos());
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
        });
        let ready = self.waiting.front().filter(|_| self.active.is_none()).map(|first| first.ready);
        let deadline = self.active.as_ref().filter(|active| !active.is_stuck).map(|active| match active.stopped {
            Some(stopped) => stopped + grace,
            None if at.elapsed < active.since + self.job.timeout => active.since + self.job.timeout,
            None => active.since + self.job.timeout + grace,
        });
        let timers = ready.into_iter().chain(deadline).map(|time| time.saturating_sub(at.elapsed));
        due.into_iter().chain(timers).fold(most, Duration::min)
    }

    /// The clock may have been far ahead, or not set, and is right again.
    fn follow(&mut self, now: Timestamp, change: &mut RunChange) {
        if later(now, BACK_MAX, 1) < self.through || self.through < CLOCK_SET {
            self.recorded = self.recorded.max(self.through);
            self.pass(now, change);
        }
    }

    /// Nothing up to `now` is due any more.
    fn pass(&mut self, now: Timestamp, change: &mut RunChange) {
        self.through = now;
        self.next = self.job.schedule.next_after(now);
        self.mark(change);
    }

    fn mark(&self, change: &mut RunChange) {
        let through = Through { at: self.through, schedule: self.job.schedule.to_string() };
        change.through.insert(self.job.name.clone(), through);
    }

    fn wait(&mut self, record: RunRecord, ready: Duration, place: Place, change: &mut RunChange) {
        change.records.push(record.clone());
        self.keep(record, ready, place);
    }

    fn keep(&mut self, record: RunRecord, ready: Duration, place: Place) {
        self.waiting.push_back(Waiting { record, ready, place });
    }

    fn over(&mut self, record: RunRecord, change: &mut RunChange) {
        self.grown += 1;
        change.records.push(record);
    }
}

fn ended(record: RunRecord, since: Duration, at: Moment) -> RunRecord {
    let took = at.elapsed.saturating_sub(since).as_millis();
    RunRecord { ended: Some(at.now), took_ms: u64::try_from(took).ok(), ..record }
}

/// `by` later, or earlier where `sign` is -1.
fn later(time: Timestamp, by: Duration, sign: i64) -> Timestamp {
    time.plus(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX).saturating_mul(sign))
}
