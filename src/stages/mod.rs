//! The stages, one file a kind, and the pipelines made of them.

mod anomaly;
mod budget;
mod compress;
mod correlate;
mod door;
mod history;
mod made;
mod pipeline;
mod pipelines;
mod replay;
mod source;
mod spec;
mod state;
mod testing;
mod window;

pub use anomaly::AnomalySpec;
pub use budget::BudgetSpec;
pub use compress::CompressSpec;
pub use correlate::CorrelateSpec;
pub use door::Doors;
pub use pipeline::{List, PipelineFault, PipelineSpec};
pub use pipelines::Pipelines;
pub use replay::{Difference, Differences, ReplayError, ReplaySpec, Replayed, digest, replay};
pub use source::{LiveSpec, ReadSpec, SourceSpec};
pub use spec::{Apply, StageSpec};
pub use testing::{Chances, ExpectSpec, InputSpec, Scratch, TestRun, TestSpec, run_test};
pub use window::{Length, WindowSpec};
