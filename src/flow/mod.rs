//! Pipelines: stages on threads, joined by bounded channels, sharded by series; and the
//! governor, which makes all of it do less while resources are short.

mod ask;
mod by_series;
pub(crate) mod codec;
mod courier;
mod delivery;
mod event;
mod fan_in;
mod feeder;
mod governor;
mod graph;
mod intake;
mod link;
mod merge;
mod meter;
mod order;
mod reading;
mod stage;
mod work;

pub use ask::Ask;
pub use courier::{Courier, Couriers, Haste, Names, NoCouriers, Outbox, Parcel};
pub use delivery::{
    BasicSpec, Delivery, FileSpec, ForwardSpec, LineFormat, Overflow, Strategy, UpstreamSpec, WebSpec, WebhookSpec,
};
pub use event::{Cut, Event, Step, Watermark};
pub use fan_in::Told;
pub use feeder::{Batches, SourceSpec, Wanted};
pub use governor::{
    Change, Compression, Effects, Governing, Governor, GovernorSpec, GovernorStats, Pace, Pressure, Reading, Usage,
    Zone,
};
pub use graph::{Does, Graph, GraphSpec, Node, QUEUE_BATCHES};
pub use intake::{Budget, Intake, Refusal, SourceStats, Sources};
pub use meter::StageStats;
pub use order::{Order, OrderSpec};
pub use reading::{NoReaders, ReadFileSpec, Readers};
pub use stage::{Dropped, History, Out, Past, Shard, Sink, Stage, StageMaker};
