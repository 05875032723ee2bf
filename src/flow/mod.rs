//! Pipelines: stages on threads, joined by bounded channels, sharded by series.

mod event;
mod graph;
mod intake;
mod stage;

pub use event::Event;
pub use graph::{Graph, GraphSpec, Node, QUEUE_BATCHES, StageStats};
pub use intake::{Budget, Intake, Refusal, SourceStats, Sources};
pub use stage::{Out, Sink, Stage, StageMaker};
