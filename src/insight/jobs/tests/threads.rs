//! The keeper with real threads and a clock that is told.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::sim::{job, read, time};
use crate::catalog::{RunLog, RunState, RunTwin};
use crate::insight::jobs::{Cancel, JobError, Jobs, Moment, Outcome, Run, Runner};
use crate::model::Span;
use crate::world::SimClock;

/// So long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn runs_are_made_when_they_are_due_and_stop_when_told() {
    let jobs = read(&(job("quick", "every = '1m'") + &job("panics", "every = '1m'") + &job("long", "every = '1m'")));
    let (log, clock) = (Arc::<RunTwin>::default(), Arc::new(SimClock::at(time("2026-01-01T00:00:30Z"))));
    let runner = Runner::open(jobs, 4, log.clone(), &|_| None, Moment::of(&*clock)).unwrap();
    let (say, heard) = sync_channel(8);
    let say = Mutex::new(say);
    let task = move |run: &Run, cancel: &Cancel| {
        say.lock().unwrap().send(run.job.name.clone()).unwrap();
        assert_ne!(run.job.name, "panics", "at {}", run.scheduled);
        while run.job.name == "long" && !cancel.is_set() {
            std::thread::yield_now();
        }
        cancel.commit(|| Ok::<_, JobError>(Outcome { rows: 3 }))
    };
    let jobs = Jobs::start(runner, Arc::new(task), clock.clone()).unwrap();
    let mut names = Vec::new();
    // The second run of a job begins once the end of its first is written down.
    for count in [3, 2] {
        clock.advance(Duration::from_secs(45));
        jobs.look();
        let mut came: Vec<String> = (0..count).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
        came.sort();
        names.push(came.join(" "));
    }
    assert_eq!(names, ["long panics quick", "panics quick"]);
    jobs.stop();
    let first = Span::new(time("2026-01-01T00:01:00Z"), time("2026-01-01T00:02:00Z"));
    let states = |name: &str| {
        let found = log.range(name, first).unwrap();
        found.into_iter().map(|record| (record.state, record.rows, record.error)).collect::<Vec<_>>()
    };
    assert_eq!(states("quick"), [(RunState::Done, Some(3), None)]);
    assert_eq!(states("long"), [(RunState::Interrupted, None, None)]);
    let panicked = states("panics");
    assert_eq!(panicked[0].0, RunState::Failed);
    assert!(panicked[0].2.as_deref().is_some_and(|told| told.contains("it panicked")), "{panicked:?}");
}
