//! What the numbers mean: objectives of service and how much of their error budgets is left, when resources run out and what
//! to do about it; whether a release is slower than the
//! one before; and the jobs that are run for such things when they are due.

pub mod benchmark;
pub mod capacity;
pub mod jobs;
pub mod regress;
pub mod slo;
