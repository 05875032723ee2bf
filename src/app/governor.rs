//! The governor as a node has it: what it looks at, and how it is doing as a row of `system.governor`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};

use super::node::Node;
use crate::flow::{Effects, GovernorStats, Reading, Sources, Usage};
use crate::ingest::{CollectorStats, Health, LoadMeter};

/// The source that changes of the zone come from.
const SOURCE: &str = "governor";

/// Starts it, where the settings want it.
///
/// # Errors
/// No thread is to be had.
pub(super) fn start(node: &mut Node) -> std::io::Result<()> {
    if !node.settings.governor.enabled {
        return Ok(());
    }
    let queue = {
        let pipelines = node.pipelines.clone();
        move || pipelines.fullness()
    };
    let (mut meter, budget) = (LoadMeter::new(), node.settings.memory.as_u64() as f64);
    let read = move || {
        let load = meter.read();
        Reading { cpu: load.cpu, memory: load.bytes / budget, queue: queue() }
    };
    node.governor.start(&node.world, node.doors.source(SOURCE), read)
}

/// One row, none where nobody looks.
pub(super) fn governor_rows(stats: Option<GovernorStats>, collectors: &[CollectorStats]) -> RecordBatch {
    let stats = stats.as_slice();
    let text =
        |of: fn(&GovernorStats) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(stats.iter().map(of))) };
    let share = |of: fn(&Usage) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(stats.iter().map(|stats| of(&stats.usage))))
    };
    let count = |of: &dyn Fn(&GovernorStats) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(stats.iter().map(of)))
    };
    let since = TimestampNanosecondArray::from_iter_values(stats.iter().map(|stats| stats.since.nanos()));
    let defers = stats.iter().map(|stats| Some(Effects::of(stats.zone).defers_heavy_work)).collect::<BooleanArray>();
    let paused = collectors.iter().filter(|collector| collector.health == Health::Paused).count() as u64;
    RecordBatch::try_from_iter([
        ("zone", text(|stats| stats.zone.name())),
        ("since", Arc::new(since.with_timezone("UTC")) as ArrayRef),
        ("utilization", share(|usage| usage.most().0)),
        ("cpu", share(|usage| usage.cpu)),
        ("memory", share(|usage| usage.memory)),
        ("queue", share(|usage| usage.queue)),
        ("most", text(|stats| stats.usage.most().1)),
        ("compression", text(|stats| Effects::of(stats.zone).compression.name())),
        ("defers_heavy_work", Arc::new(defers)),
        ("paused_sources", count(&|_| paused)),
        ("changes", count(&|stats| stats.changes)),
    ])
    .expect("columns of one length")
}
