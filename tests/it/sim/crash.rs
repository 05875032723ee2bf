//! The world is stopped at every change of the disk that a workload makes, and loses power in every way there is: what
//! was acknowledged is there, once, with its last value, and rollups say what the samples say.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use super::bed::Bed;
use super::images::{Image, watch};
use super::truth::Truth;
use super::workload::{Run, settings, start, steps};

/// Images that wait to be examined.
const QUEUE: usize = 8;
const FAILURES_MAX: usize = 5;

/// What was done.
#[derive(Default, Debug)]
pub struct Tally {
    pub images: AtomicU64,
    /// Of them those of a crash during a recovery.
    pub second: AtomicU64,
    failures: Mutex<BTreeSet<String>>,
}

impl Tally {
    fn examine(&self, image: &Image) {
        self.images.fetch_add(1, Ordering::Relaxed);
        match image.examine() {
            Ok(deeper) => {
                self.second.fetch_add(deeper.len() as u64, Ordering::Relaxed);
                deeper.iter().for_each(|image| self.examine(image));
            }
            Err(told) => {
                self.failures.lock().unwrap().insert(told);
            }
        }
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().iter().cloned().collect()
    }

    fn has_failed(&self) -> bool {
        self.failures.lock().unwrap().len() >= FAILURES_MAX
    }
}

/// Runs the workload of a seed and examines the images of each of its moments on `threads` threads.
pub fn enumerate(seed: u64, rounds: u64, threads: usize, tally: &Tally) {
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&receiver, tally));
        }
        let mut run = Run::new(Bed::new(settings(seed), start()), Truth::default(), seed);
        // The workers go on to the last image when a failure ends the run.
        watch(&run, format!("PLIMSOLL_SEED={seed}"), move |image| drop(sender.send(image)));
        let plan = steps(seed, rounds);
        let outcome = run.open().and_then(|()| {
            plan.iter().enumerate().try_for_each(|(at, &step)| {
                if tally.has_failed() {
                    return Ok(());
                }
                run.step(step).map_err(|told| format!("PLIMSOLL_SEED={seed}, step {at}, {step:?}: {told}"))
            })
        });
        tally.failures.lock().unwrap().extend(outcome.err());
    });
}

fn work(images: &Mutex<Receiver<Image>>, tally: &Tally) {
    loop {
        let image = images.lock().unwrap().recv();
        match image {
            Ok(image) => tally.examine(&image),
            Err(_) => return,
        }
    }
}

#[test]
fn a_crash_at_any_moment_keeps_exactly_what_was_acknowledged() {
    let wanted = super::number("PLIMSOLL_IMAGES").unwrap_or(3000);
    let (began, tally) = (Instant::now(), Tally::default());
    let mut seed = super::seed();
    while tally.images.load(Ordering::Relaxed) < wanted && tally.failures().is_empty() {
        enumerate(seed, 14, threads(), &tally);
        eprintln!("crash: PLIMSOLL_SEED={seed}: {} in {:.1?}", told(&tally), began.elapsed());
        seed = seed.wrapping_add(1);
    }
    assert!(tally.failures().is_empty(), "{}", tally.failures().join("\n"));
}

pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

pub fn told(tally: &Tally) -> String {
    let [images, second] = [&tally.images, &tally.second].map(|count| count.load(Ordering::Relaxed));
    format!("{images} crash images, {second} of them of a second crash")
}
