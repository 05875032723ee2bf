//! Capacity planning: how full a resource is, what it needs, when to scale, what that costs, and an autoscaler's settings.
//!
//! Numbers come in as a [`Usage`] (a series on a regular grid) and an [`Outlook`] (its forecast); what is asked of them is a
//! [`Resource`] of the settings' `[capacity]`. [`Analysis::of`] says what they mean. Everything is reckoned in two ways:
//! *use*, in percent of what there is, and *load*, in replicas' worth, which does not change when replicas are added.
//!
//! [`Rules::tuned`] replays the history through the autoscaler of Kubernetes ([`replay`]) under several rules and takes the
//! cheapest that hold the limit; [`Autoscaler`] writes them as a HorizontalPodAutoscaler.

mod advice;
mod ahead;
mod analyse;
mod cost;
mod hpa;
mod own;
mod profile;
mod replay;
mod resource;
mod rows;
mod schedule;
mod size;
mod spec;
mod status;
#[cfg(test)]
mod tests;
mod tune;
mod usage;

pub use advice::{Advice, Grounds, advice};
pub use ahead::Ahead;
pub use analyse::{Analysis, Level};
pub use cost::{Costs, HOURS_A_MONTH, Price};
pub use hpa::{Autoscaler, Scaled, TargetRef, object_name};
pub use own::{disk_size, own_resources};
pub use profile::{HOURS_A_WEEK, Profile};
pub use replay::{Pace, Replay, Replayed, Rules, replay};
pub use resource::{Aggregate, Autoscale, Replicas, Resource};
pub use rows::{CapacityRow, Planned, autoscaling_config, capacity_rows, dashboard, forecast_of};
pub use schedule::{CronHint, Schedule};
pub use size::{Estimate, Size};
pub use spec::{CapacityFault, CapacitySpec, PriceSpec, ResourceSpec};
pub use status::Status;
pub use tune::{TuneOptions, Tuned};
pub use usage::{Outlook, Usage, together};
