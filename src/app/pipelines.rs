//! What pipelines do, as rows of `system.pipelines` and `system.drops`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};

use crate::flow::StageStats;

pub(super) fn stage_rows(stages: &[StageStats]) -> RecordBatch {
    let text =
        |of: fn(&StageStats) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(stages.iter().map(of))) };
    let number =
        |of: fn(&StageStats) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(stages.iter().map(of))) };
    let share =
        |of: fn(&StageStats) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(stages.iter().map(of))) };
    let inputs: ArrayRef = Arc::new(StringArray::from_iter_values(stages.iter().map(|stage| stage.inputs.join(","))));
    let watermarks: TimestampNanosecondArray = stages.iter().map(|stage| stage.watermark).collect();
    let failures: ArrayRef = Arc::new(stages.iter().map(|stage| stage.failure.as_deref()).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("pipeline", text(|stage| &stage.pipeline), false),
        ("stage", text(|stage| &stage.stage), false),
        ("kind", text(|stage| stage.kind), false),
        ("inputs", inputs, false),
        ("shard", number(|stage| stage.shard as u64), false),
        ("samples", number(|stage| stage.samples), false),
        ("batches", number(|stage| stage.batches), false),
        ("late", number(|stage| stage.late), false),
        ("rows", number(|stage| stage.rows), false),
        ("dropped", number(|stage| stage.dropped.values().sum()), false),
        ("busy_seconds", share(|stage| stage.busy_seconds), false),
        ("queued", number(|stage| stage.queued), false),
        ("queue", number(|stage| stage.queue), false),
        ("lag_seconds", share(|stage| stage.lag_seconds), false),
        ("watermark", Arc::new(watermarks.with_timezone("UTC")), true),
        ("put_off", number(|stage| stage.put_off), false),
        ("failure", failures, true),
    ])
    .expect("columns of one length")
}

pub(super) fn drop_rows(stages: &[StageStats]) -> RecordBatch {
    let drops: Vec<(&StageStats, &str, u64)> = stages
        .iter()
        .flat_map(|stage| stage.dropped.iter().map(move |(reason, &count)| (stage, *reason, count)))
        .collect();
    let text = |of: &dyn Fn(&(&StageStats, &str, u64)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(drops.iter().map(of)))
    };
    let shards: ArrayRef = Arc::new(UInt64Array::from_iter_values(drops.iter().map(|drop| drop.0.shard as u64)));
    let samples: ArrayRef = Arc::new(UInt64Array::from_iter_values(drops.iter().map(|drop| drop.2)));
    RecordBatch::try_from_iter([
        ("pipeline", text(&|drop| drop.0.pipeline.clone())),
        ("stage", text(&|drop| drop.0.stage.clone())),
        ("shard", shards),
        ("reason", text(&|drop| drop.1.to_owned())),
        ("samples", samples),
    ])
    .expect("columns of one length")
}
