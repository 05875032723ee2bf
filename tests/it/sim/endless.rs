//! Crashes and operations by chance over and over, each time from the next seed, until one fails or nobody wants more.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::crash::{Tally, enumerate, threads, told};
use super::model;

/// Rounds of a workload; operations against the map.
const ROUNDS: u64 = 20;
const OPERATIONS: u64 = 50_000;

/// `PLIMSOLL_ROUNDS` ends it; `just sim SEED` runs it.
#[test]
#[ignore = "goes on until it is interrupted: just sim SEED"]
fn for_as_long_as_wanted() {
    let began = Instant::now();
    let (mut seed, mut operations, tally) = (super::seed(), 0, Tally::default());
    let last = super::number("PLIMSOLL_ROUNDS").map_or(u64::MAX, |rounds| seed.saturating_add(rounds));
    while seed < last {
        enumerate(seed, ROUNDS, threads(), &tally);
        assert!(tally.failures().is_empty(), "{}", tally.failures().join("\n"));
        eprintln!("PLIMSOLL_SEED={seed}: {} in {:.0?}", told(&tally), began.elapsed());
        model::check(seed, OPERATIONS).unwrap_or_else(|told| panic!("{told}"));
        operations += OPERATIONS;
        eprintln!("PLIMSOLL_SEED={seed}: {operations} operations in {:.0?}", began.elapsed());
        seed += 1;
    }
    assert!(tally.images.load(Ordering::Relaxed) > 0, "nothing was done");
}
