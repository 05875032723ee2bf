//! The sources that the settings name, and how they are doing as rows of `system.collectors`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};

use crate::config::Settings;
use crate::ingest::{CollectorStats, OwnSource, Planned, Priority, SourceSpec, TellOwn};
use crate::model::Timestamp;
use crate::world::World;

/// All sources, enabled or not.
pub(super) fn planned(settings: &Settings, world: &World) -> Vec<Planned> {
    settings.all_sources().iter().flat_map(|source| source.plan(world)).collect()
}

/// The program itself, where the settings want it.
pub(super) fn own_source(settings: &Settings, tell: TellOwn) -> Option<Planned> {
    let interval = settings.collect.own_interval;
    let spec = SourceSpec {
        id: "own".to_owned(),
        name: "This program".to_owned(),
        kind: "own",
        priority: Priority::Low,
        enabled: true,
        interval,
        timeout: SourceSpec::usual_timeout(interval),
        labels: Vec::new(),
    };
    settings.collect.own.then(|| Planned { spec, source: Box::new(OwnSource::new(tell)) })
}

pub(super) fn collector_rows(collectors: &[CollectorStats]) -> RecordBatch {
    type Of<T> = fn(&CollectorStats) -> T;
    let text = |of: fn(&CollectorStats) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(collectors.iter().map(of)))
    };
    let number = |of: Of<u64>| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(collectors.iter().map(of))) };
    let seconds = |of: Of<f64>| -> ArrayRef { Arc::new(Float64Array::from_iter_values(collectors.iter().map(of))) };
    let time = |of: Of<Option<Timestamp>>| -> ArrayRef {
        let times = collectors.iter().map(|collector| of(collector).map(Timestamp::nanos));
        Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let enabled: ArrayRef =
        Arc::new(collectors.iter().map(|collector| Some(collector.spec.enabled)).collect::<BooleanArray>());
    let intervals = collectors.iter().map(|collector| collector.interval_now.map(|interval| interval.as_secs_f64()));
    let intervals: ArrayRef = Arc::new(intervals.collect::<Float64Array>());
    let errors = collectors.iter().map(|collector| collector.last_error.as_deref());
    let errors: ArrayRef = Arc::new(errors.collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("id", text(|collector| &collector.spec.id), false),
        ("name", text(|collector| &collector.spec.name), false),
        ("kind", text(|collector| collector.spec.kind), false),
        ("priority", text(|collector| collector.spec.priority.name()), false),
        ("enabled", enabled, false),
        ("interval_seconds", seconds(|collector| collector.spec.interval.as_secs_f64()), false),
        ("interval_now_seconds", intervals, true),
        ("timeout_seconds", seconds(|collector| collector.spec.timeout.as_secs_f64()), false),
        ("health", text(|collector| collector.health.name()), false),
        ("failures", number(|collector| collector.failures.into()), false),
        ("passes", number(|collector| collector.passes), false),
        ("failed_passes", number(|collector| collector.failed_passes), false),
        ("samples", number(|collector| collector.samples), false),
        ("refused", number(|collector| collector.refused), false),
        ("last_pass", time(|collector| collector.last_pass), true),
        ("took_seconds", seconds(|collector| collector.took.as_secs_f64()), false),
        ("last_error", errors, true),
        ("next_pass", time(|collector| collector.next_pass), true),
    ])
    .expect("columns of one length")
}
