//! A world with a log of runs and a table of effects that lose power together, and a clock that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::catalog::{LossOfRuns, Power, RunLog, RunRecord, RunState, RunTwin};
use crate::insight::jobs::{Action, Cancel, Job, JobError, JobSpec, Moment, Outcome, Run, Runner, jobs};
use crate::model::Timestamp;
use crate::world::Chance;

pub(super) type Key = (String, Timestamp);

/// Rows kept under job and scheduled time: written, then synced.
#[derive(Default)]
pub(super) struct Effects {
    durable: BTreeSet<Key>,
    unsynced: Vec<Key>,
}

/// The power went.
#[derive(Debug)]
pub(super) struct Gone;

pub(super) struct Sim {
    pub jobs: Vec<Arc<Job>>,
    pub log: Arc<RunTwin>,
    effects: Mutex<Effects>,
    pub runner: Runner,
    pub at: Moment,
    at_work: Vec<(Run, Arc<Cancel>, Duration)>,
    /// How long a run takes, by its job; a second without it.
    pub takes: BTreeMap<String, Duration>,
    /// Attempts that fail, by job.
    pub fails: BTreeMap<String, u32>,
    /// Whether a task can tell after a restart what it wrote.
    pub tells: bool,
    /// Runs known to be done, through all restarts.
    done: BTreeSet<Key>,
    /// What was told, as in `start a 12:00:00`.
    pub told: Vec<String>,
}

pub(super) fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

pub(super) fn read(text: &str) -> Vec<Arc<Job>> {
    #[derive(serde::Deserialize)]
    struct File {
        job: Vec<JobSpec>,
    }
    let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    jobs(&file.job).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

pub(super) fn job(name: &str, rest: &str) -> String {
    format!("[[job]]\nname = '{name}'\nslo = true\n{rest}\n")
}

impl Sim {
    pub fn new(text: &str, now: &str) -> Sim {
        let (jobs, log) = (read(text), Arc::<RunTwin>::default());
        let at = Moment { now: time(now), elapsed: Duration::ZERO };
        let runner = Runner::open(jobs.clone(), 8, log.clone(), &|_| None, at).unwrap();
        Sim {
            jobs,
            log,
            effects: Mutex::default(),
            runner,
            at,
            at_work: Vec::new(),
            takes: BTreeMap::new(),
            fails: BTreeMap::new(),
            tells: false,
            done: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    pub fn power(&self) -> Arc<Power> {
        self.log.power.clone()
    }

    pub fn leap(&mut self, seconds: i64) {
        self.at.now = self.at.now.plus(seconds * 1_000_000_000);
    }

    fn pass(&mut self, by: Duration) {
        self.at.elapsed += by;
        self.at.now = self.at.now.plus(i64::try_from(by.as_nanos()).unwrap());
    }

    /// Lets `length` of time pass, looking at the clock every `step` and when a task comes back.
    pub fn run(&mut self, length: Duration, step: Duration) -> Result<(), Gone> {
        let end = self.at.elapsed + length;
        loop {
            self.look()?;
            if self.at.elapsed >= end {
                return Ok(());
            }
            let back = self.at_work.iter().map(|(_, _, until)| until.saturating_sub(self.at.elapsed)).min();
            self.pass(back.unwrap_or(step).min(step).min(end - self.at.elapsed));
        }
    }

    fn look(&mut self) -> Result<(), Gone> {
        while let Some(place) = self.at_work.iter().position(|(_, _, until)| *until <= self.at.elapsed) {
            let (run, cancel, _) = self.at_work.remove(place);
            let came = self.work(&run, &cancel);
            let is_done = came.is_ok();
            let actions = self.runner.ended(&run, came, self.at);
            self.act(actions.map_err(|_| Gone)?);
            if is_done && self.record(&run).is_some_and(|record| record.state == RunState::Done) {
                self.done.insert(key(&run));
            }
        }
        let actions = self.runner.tick(self.at).map_err(|_| Gone)?;
        self.act(actions);
        Ok(())
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let (word, run) = match &action {
                Action::Start(run, _) => ("start", run),
                Action::TimedOut(run) => ("timed out", run),
                Action::Stuck(run) => ("stuck", run),
            };
            let clock = run.scheduled.to_string();
            self.told.push(format!("{word} {} {}", run.job.name, &clock[11..19]));
            if let Action::Start(run, cancel) = action {
                assert!(!self.done.contains(&key(&run)), "{} is done and starts again", run.scheduled);
                let others = self.at_work.iter().filter(|(other, ..)| other.job.name == run.job.name);
                assert_eq!(others.count(), 0, "{} runs twice at once", run.job.name);
                let takes = self.takes.get(&run.job.name).copied().unwrap_or(Duration::from_secs(1));
                self.at_work.push((run, cancel, self.at.elapsed + takes));
            }
        }
    }

    fn work(&mut self, run: &Run, cancel: &Cancel) -> Result<Outcome, JobError> {
        if let Some(fails) = self.fails.get_mut(&run.job.name).filter(|fails| **fails > 0) {
            *fails -= 1;
            return Err(JobError::Failed("no luck".to_owned()));
        }
        let power = self.power();
        let gone = || JobError::Failed("the power is gone".to_owned());
        cancel.commit(|| {
            let mut effects = self.effects.lock().unwrap();
            if power.is_gone() {
                return Err(gone());
            }
            effects.unsynced.push(key(run));
            if !power.spend() || !power.spend() {
                return Err(gone());
            }
            let unsynced = std::mem::take(&mut effects.unsynced);
            effects.durable.extend(unsynced);
            Ok(Outcome { rows: 1 })
        })
    }

    fn record(&self, run: &Run) -> Option<RunRecord> {
        self.log.get(&run.job.name, run.scheduled).unwrap()
    }

    /// The power goes, and is back after `down`, with the jobs that are given then.
    pub fn restart(&mut self, text: &str, down: Duration, loss: LossOfRuns, chance: &Chance) {
        self.restart_with(read(text), down, loss, chance);
    }

    pub fn restart_with(&mut self, jobs: Vec<Arc<Job>>, down: Duration, loss: LossOfRuns, chance: &Chance) {
        self.pass(down);
        self.jobs = jobs;
        let log = Arc::new(self.log.after_power_loss(loss, chance));
        let effects = self.effects.get_mut().unwrap();
        let unsynced = std::mem::take(&mut effects.unsynced);
        let stays = |_: &Key| loss == LossOfRuns::Nothing || loss != LossOfRuns::Unsynced && chance.below(2) == 0;
        effects.durable.extend(unsynced.into_iter().filter(stays));
        let durable = effects.durable.clone();
        let committed = |run: &Run| (self.tells && durable.contains(&key(run))).then_some(Outcome { rows: 1 });
        self.runner = Runner::open(self.jobs.clone(), 8, log.clone(), &committed, self.at).unwrap();
        self.log = log;
        self.at_work.clear();
    }

    /// The same world once more, as it is on the disk; nothing is at work in it.
    pub fn again(&self, chance: &Chance) -> Sim {
        let log = Arc::new(self.log.after_power_loss(LossOfRuns::Nothing, chance));
        let effects = Effects { durable: self.effects.lock().unwrap().durable.clone(), unsynced: Vec::new() };
        Sim {
            jobs: self.jobs.clone(),
            runner: Runner::open(self.jobs.clone(), 8, log.clone(), &|_| None, self.at).unwrap(),
            log,
            effects: Mutex::new(effects),
            at: self.at,
            at_work: Vec::new(),
            takes: self.takes.clone(),
            fails: BTreeMap::new(),
            tells: self.tells,
            done: self.done.clone(),
            told: Vec::new(),
        }
    }

    /// Holds every time of a job after `from` up to `to` against its runs: each is done, with its effect, or part of one
    /// that was skipped, and none is both or neither. How many of the two there are.
    pub fn account(&self, name: &str, from: Timestamp, to: Timestamp) -> (u64, u64) {
        let job = self.jobs.iter().find(|job| job.name == name).unwrap();
        let records: Vec<RunRecord> = self.log.all().into_iter().filter(|record| record.job == name).collect();
        let effects = &self.effects.lock().unwrap().durable;
        let (mut done, mut skipped) = (0, 0);
        for time in job.schedule.due_between(from, to) {
            let is_done = records.iter().any(|record| record.scheduled == time && record.state == RunState::Done);
            let covers = |record: &&RunRecord| {
                record.skipped.is_some_and(|skipped| skipped.first <= time && time <= record.scheduled)
            };
            let covered = records.iter().filter(covers).count();
            assert_eq!(usize::from(is_done) + covered, 1, "{name} {time}: {records:#?}");
            assert_eq!(effects.contains(&(name.to_owned(), time)), is_done, "{name} {time}");
            done += u64::from(is_done);
            skipped += u64::from(!is_done);
        }
        let inside = |record: &&RunRecord| record.scheduled > from && record.scheduled <= to;
        let told: u64 = records.iter().filter(inside).filter_map(|record| Some(record.skipped?.count)).sum();
        assert_eq!(told, skipped, "{name}: {records:#?}");
        (done, skipped)
    }
}

fn key(run: &Run) -> Key {
    (run.job.name.clone(), run.scheduled)
}
