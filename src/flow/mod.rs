//! Pipelines: stages on threads, joined by bounded channels, sharded by series; and the
//! governor, which makes all of it do less while resources are short.

pub(crate) mod codec;
mod event;
mod feeder;
mod governor;
mod graph;
mod intake;
mod link;
mod meter;
mod order;
mod stage;
mod work;

pub use event::{Cut, Event, Step, Watermark};
pub use feeder::{Batches, SourceSpec, Wanted};
pub use governor::{
    Change, Compression, Effects, Governing, Governor, GovernorSpec, GovernorStats, Pace, Pressure, Reading, Usage,
    Zone,
};
pub use graph::{Does, Graph, GraphSpec, Node, QUEUE_BATCHES};
pub use intake::{Budget, Intake, Refusal, SourceStats, Sources};
pub use meter::StageStats;
pub use order::{Order, OrderSpec};
pub use stage::{Dropped, History, Out, Past, Shard, Sink, Stage, StageMaker};
