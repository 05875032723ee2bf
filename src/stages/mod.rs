//! The stages, one file a kind, and the pipelines made of them.

mod anomaly;
mod budget;
mod compress;
mod correlate;
mod door;
mod pipeline;
mod pipelines;
mod spec;
mod state;
mod window;

pub use anomaly::AnomalySpec;
pub use budget::BudgetSpec;
pub use compress::CompressSpec;
pub use correlate::CorrelateSpec;
pub use door::Doors;
pub use pipeline::{PipelineFault, PipelineSpec};
pub use pipelines::Pipelines;
pub use spec::{Apply, StageSpec};
pub use window::WindowSpec;
