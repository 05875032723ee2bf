//! What changed between two spans of time, say a week that was well and the minutes of an incident: which series, and which
//! services, most.
//!
//! A series is held against its own past alone ([`Change`]): how far most of its new values lie from the old median, in
//! units of how far it used to stray. A service counts by its three series that changed most ([`group_scores`]). Where
//! it is known who calls whom, a service whose callers changed too comes before one whose callers noticed nothing
//! ([`with_callers`]): a cause is felt by those who wait for it.
//!
//! Scores are 0 to 1 and the same on any machine; what is equal is ordered by name.

mod change;
mod groups;
mod smirnov;

pub use change::{Change, rank_changes};
pub use groups::{group_scores, rank_groups, with_callers};
