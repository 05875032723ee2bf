//! Runs of one command or address, one after another: what they come to, and whether there were enough of them.
//!
//! Counts are made by rank, so that a few slow runs move nothing. How sure the median is follows from the order of the runs'
//! values alone (David and Nagaraja 2003): of n values the true one lies between two of them with the chance that a coin shows
//! heads no less and no more often than their places say.

mod plan;
mod statistics;
#[cfg(test)]
mod tests;

pub use plan::{BenchmarkPlan, PlanError};
pub use statistics::{Statistics, half_width, statistics};
