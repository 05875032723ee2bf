//! The thread that runs jobs when they are due: it sleeps until something is, and each run has a thread of its own.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::runner::{Action, Moment, Runner};
use super::task::{Cancel, JobError, Outcome, Run, Task};
use crate::world::Clock;

/// Words of the handle and of tasks that may wait; who speaks when it is full waits.
const WORDS: usize = 64;

enum Word {
    Ended(Run, Result<Outcome, JobError>),
    Look,
    Stop,
}

/// Jobs that are being run. Stops them when dropped.
pub struct Jobs {
    words: SyncSender<Word>,
    thread: Option<JoinHandle<()>>,
}

struct Keeper {
    runner: Runner,
    task: Arc<dyn Task>,
    clock: Arc<dyn Clock>,
    words: SyncSender<Word>,
    threads: HashMap<(String, i64, u32), JoinHandle<()>>,
}

impl Jobs {
    /// Runs jobs from now on, as `runner` decides.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(runner: Runner, task: Arc<dyn Task>, clock: Arc<dyn Clock>) -> io::Result<Jobs> {
        let (words, heard) = sync_channel(WORDS);
        let mut keeper = Keeper { runner, task, clock, words: words.clone(), threads: HashMap::new() };
        let thread = Builder::new().name("jobs".to_owned()).spawn(move || keeper.keep(&heard))?;
        Ok(Jobs { words, thread: Some(thread) })
    }

    /// Has the clock looked at now: it was set.
    pub fn look(&self) {
        let _ = self.words.send(Word::Look); // nobody hears it once they are stopped
    }

    /// Starts no more runs, tells those at work to stop, and waits for them a while. They will be run again.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.words.send(Word::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the jobs panicked");
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

impl Keeper {
    fn keep(&mut self, heard: &Receiver<Word>) {
        loop {
            let at = Moment::of(&*self.clock);
            match self.runner.tick(at) {
                Ok(actions) => actions.into_iter().for_each(|action| self.act(action)),
                Err(error) => tracing::error!(%error, "no job is started: its run cannot be written down"),
            }
            match heard.recv_timeout(self.runner.rest(at)) {
                Ok(Word::Ended(run, came)) => self.ended(&run, came),
                Ok(Word::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.stop(heard);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(run, cancel) => self.spawn(run, cancel),
            Action::TimedOut(run) => {
                tracing::warn!(job = run.job.name, scheduled = %run.scheduled, "the job took too long and was told to stop");
            }
            Action::Stuck(run) => {
                tracing::error!(
                    job = run.job.name,
                    scheduled = %run.scheduled,
                    "the job does not stop: it runs no more until it does"
                );
            }
        }
    }

    fn spawn(&mut self, run: Run, cancel: Arc<Cancel>) {
        let (task, words, ran) = (self.task.clone(), self.words.clone(), run.clone());
        let work = move || {
            let came = guarded(|| task.run(&ran, &cancel));
            let _ = words.send(Word::Ended(ran, came)); // nobody hears it once they are stopped
        };
        match Builder::new().name(format!("job {}", run.job.name)).spawn(work) {
            Ok(thread) => {
                self.threads.insert(key(&run), thread);
            }
            Err(error) => self.ended(&run, Err(JobError::Failed(format!("there is no thread for it: {error}")))),
        }
    }

    fn ended(&mut self, run: &Run, came: Result<Outcome, JobError>) {
        if let Some(thread) = self.threads.remove(&key(run)) {
            let _ = thread.join(); // its panics were caught
        }
        if let Err(error) = &came {
            tracing::warn!(job = run.job.name, scheduled = %run.scheduled, attempt = run.attempt, %error, "the job failed");
        }
        match self.runner.ended(run, came, Moment::of(&*self.clock)) {
            Ok(actions) => actions.into_iter().for_each(|action| self.act(action)),
            Err(error) => tracing::error!(%error, "the end of a job's run cannot be written down yet"),
        }
    }

    fn stop(&mut self, heard: &Receiver<Word>) {
        if let Err(error) = self.runner.stop(Moment::of(&*self.clock)) {
            tracing::error!(%error, "the jobs that stop cannot be written down");
        }
        let until = self.clock.elapsed() + Runner::grace();
        while !self.threads.is_empty() {
            match heard.recv_timeout(until.saturating_sub(self.clock.elapsed())) {
                Ok(Word::Ended(run, came)) => self.ended(&run, came),
                Ok(Word::Look | Word::Stop) => {}
                Err(_) => break,
            }
        }
        if let Err(error) = self.runner.tick(Moment::of(&*self.clock)) {
            tracing::error!(%error, "the ends of jobs cannot be written down: they will be run again");
        }
        for (job, ..) in self.threads.keys() {
            tracing::warn!(job, "the job did not stop and is left behind");
        }
    }
}

fn key(run: &Run) -> (String, i64, u32) {
    (run.job.name.clone(), run.scheduled.nanos(), run.attempt)
}

fn guarded(work: impl FnOnce() -> Result<Outcome, JobError>) -> Result<Outcome, JobError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(JobError::Failed(format!("it panicked: {}", told.unwrap_or("no reason given"))))
    })
}
