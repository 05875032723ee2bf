//! The stages, one file a kind, and the pipelines made of them.

mod anomaly;
#[cfg(test)]
mod bench;
mod budget;
#[cfg(test)]
mod chain_tests;
mod choose;
mod compress;
mod correlate;
mod door;
mod filter;
mod held;
mod history;
mod join;
mod made;
mod pipeline;
#[cfg(test)]
mod pipeline_tests;
mod pipelines;
mod rate;
mod relabel;
mod replay;
mod route;
mod said;
mod sample;
mod series;
mod sink;
mod source;
mod spec;
mod sql;
mod state;
mod testing;
mod throttle;
mod told;
mod window;

pub use anomaly::AnomalySpec;
pub use budget::BudgetSpec;
pub use compress::CompressSpec;
pub use correlate::CorrelateSpec;
pub use door::Doors;
pub use filter::FilterSpec;
pub use join::{JoinSpec, Op};
pub use pipeline::{Edges, List, PipelineFault, PipelineSpec};
pub use pipelines::{Pipelines, PipelinesError, Reloaded};
pub use rate::RateSpec;
pub use relabel::RulesSpec;
pub use replay::{Difference, Differences, ReplayError, ReplaySpec, Replayed, digest, replay};
pub use route::{RouteSpec, Routes};
pub use said::{SaidSample, said_samples};
pub use sample::{Draw, SampleSpec};
pub use series::SeriesSpec;
pub use sink::{SinkSpec, Takes, WriteSpec};
pub use source::{LiveSpec, ReadSpec, SourceSpec, TableSpec};
pub use spec::{Apply, StageSpec};
pub use sql::SqlSpec;
pub use testing::{Chances, ExpectSpec, InputSpec, Scratch, TestRun, TestSpec, run_test};
pub use throttle::ThrottleSpec;
pub use window::{Length, WindowSpec};
