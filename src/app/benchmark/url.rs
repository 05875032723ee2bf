//! Requests to an address: how long each answer took, to its last byte, and how many failed.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use super::measured;
use crate::app::global::WrongUsage;
use crate::insight::benchmark::BenchmarkPlan;
use crate::insight::regress::Measured;
use crate::stats::compare::Centre;
use crate::world::World;

/// Requests under way at once, at most: a thread each.
const CONCURRENCY_MAX: usize = 256;
const MILLISECONDS: f64 = 1e3;

/// What is asked.
pub(super) struct Target {
    url: String,
    concurrency: usize,
    agent: ureq::Agent,
}

/// What came of the requests so far.
#[derive(Default)]
struct Answers {
    /// Milliseconds, of those that did not fail.
    latencies: Vec<f64>,
    /// 1 of those that failed, else 0.
    failed: Vec<f64>,
    /// Why the last of them did.
    reason: String,
    /// Requests that began.
    begun: usize,
}

impl Target {
    pub(super) fn new(url: &str, concurrency: usize, timeout: Duration) -> Result<Target, WrongUsage> {
        if !url.starts_with("http://") {
            return Err(WrongUsage(format!("--url {url} cannot be: write http://HOST:PORT/PATH (no https)")));
        }
        if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
            return Err(WrongUsage(format!("--concurrency {concurrency} cannot be: write 1 to {CONCURRENCY_MAX}")));
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout));
        let config = config.max_idle_connections(concurrency).max_idle_connections_per_host(concurrency);
        Ok(Target { url: url.to_owned(), concurrency, agent: config.build().new_agent() })
    }

    /// Milliseconds until all of the answer is there, or what is wrong with it.
    fn ask(&self, world: &World) -> Result<f64, String> {
        let start = world.clock.elapsed();
        let mut answer = self.agent.get(&self.url).call().map_err(|error| error.to_string())?;
        std::io::copy(&mut answer.body_mut().as_reader(), &mut std::io::sink()).map_err(|error| error.to_string())?;
        let took = world.clock.elapsed().saturating_sub(start).as_secs_f64() * MILLISECONDS;
        if answer.status().is_success() { Ok(took) } else { Err(format!("status {}", answer.status())) }
    }
}

impl Answers {
    fn take(&mut self, answer: Result<f64, String>) {
        self.failed.push(f64::from(u8::from(answer.is_err())));
        match answer {
            Ok(latency) => self.latencies.push(latency),
            Err(reason) => self.reason = reason,
        }
    }

    /// Whether one more request is to begin. Failures count as runs, so that there is an end to them.
    fn begin(&mut self, plan: &BenchmarkPlan, elapsed: Duration) -> bool {
        let goes_on = match plan.runs {
            Some(runs) => self.begun < runs,
            None if self.latencies.is_empty() => self.begun < plan.runs_max && elapsed < plan.time_max,
            None => self.begun < plan.runs_max && !plan.is_done(&self.latencies, elapsed),
        };
        self.begun += usize::from(goes_on);
        goes_on
    }
}

/// Asks as planned, from as many threads as there are requests at once.
///
/// # Errors
/// Where none was answered with success: why the last was not.
pub(super) fn run(target: &Target, plan: &BenchmarkPlan, world: &World) -> anyhow::Result<Vec<(String, Measured)>> {
    for _ in 0..plan.warmup {
        let _ = target.ask(world); // the first that counts says what is wrong
    }
    let start = world.clock.elapsed();
    let answers = Mutex::new(Answers::default());
    let locked = || answers.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while locked().begin(plan, world.clock.elapsed().saturating_sub(start)) {
            let answer = target.ask(world);
            locked().take(answer);
        }
    };
    thread::scope(|scope| {
        (0..target.concurrency).try_for_each(|at| {
            thread::Builder::new().name(format!("benchmark-{at}")).spawn_scoped(scope, work).map(drop)
        })
    })
    .context("cannot start a thread for each request at once: lower --concurrency")?;
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    if answers.latencies.is_empty() {
        bail!("no request to {} was answered with success: {}", target.url, answers.reason);
    }
    Ok(vec![
        (target.url.clone(), measured("ms", Centre::Median, answers.latencies)),
        (format!("{} failed", target.url), measured("", Centre::Mean, answers.failed)),
    ])
}
