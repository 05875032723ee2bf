//! The stages, one file a kind, and the pipelines made of them.

mod anomaly;
mod budget;
mod compress;
mod correlate;
mod door;
mod history;
mod pipeline;
mod pipelines;
mod sink;
mod source;
mod spec;
mod state;
mod told;
mod window;

pub use anomaly::AnomalySpec;
pub use budget::BudgetSpec;
pub use compress::CompressSpec;
pub use correlate::CorrelateSpec;
pub use door::Doors;
pub use pipeline::{Edges, List, PipelineFault, PipelineSpec};
pub use pipelines::{Pipelines, PipelinesError, Reloaded};
pub use sink::{SinkSpec, Takes, WriteSpec};
pub use source::{LiveSpec, ReadSpec, SourceSpec, TableSpec};
pub use spec::{Apply, StageSpec};
pub use window::{Length, WindowSpec};
