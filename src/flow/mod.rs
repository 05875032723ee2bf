//! Pipelines: stages on threads, joined by bounded channels, sharded by series; and the
//! governor, which makes all of it do less while resources are short.

mod event;
mod governor;
mod graph;
mod intake;
mod stage;

pub use event::Event;
pub use governor::{
    Change, Compression, Effects, Governing, Governor, GovernorSpec, GovernorStats, Pace, Pressure, Reading, Usage,
    Zone,
};
pub use graph::{Graph, GraphSpec, Node, QUEUE_BATCHES, StageStats};
pub use intake::{Budget, Intake, Refusal, SourceStats, Sources};
pub use stage::{Out, Sink, Stage, StageMaker};
