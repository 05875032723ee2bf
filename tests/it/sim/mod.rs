//! The store under fire, from a seed: on a disk that loses power, fails and flips bits.
//!
//! `PLIMSOLL_SEED` picks the seed (a fixed one where there is none); a failure prints it. `PLIMSOLL_OPERATIONS` and
//! `PLIMSOLL_IMAGES` say how much is done. `just sim SEED` goes on for as long as it may.

mod bed;
mod crash;
mod endless;
mod flips;
mod images;
mod load;
mod model;
mod rolled;
mod statements;
mod truth;
mod workload;

/// `PLIMSOLL_SEED`, or the seed of every ordinary run.
fn seed() -> u64 {
    number("PLIMSOLL_SEED").filter(|&seed| seed != 0).unwrap_or(20_260_301)
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: write a whole number")))
}
