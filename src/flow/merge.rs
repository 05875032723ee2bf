//! What a stage with several inputs is told: their samples of one step, in the order of time for each series.

use std::sync::Arc;

use super::event::{Event, Step};
use crate::model::{Batch, SeriesId, Timestamp};

/// Takes the steps of several inputs for one step of the source. What the inputs were told in it is later than what they
/// were told before, so within a step is all that must be put in order. Of two samples of a series for one time, as where
/// both inputs hand the same one on, that of the later input counts. What steers is taken from the first.
pub(super) fn merged(steps: Vec<Step>) -> Step {
    let (mut batches, mut others, mut control) = (Vec::<Vec<Arc<Batch>>>::new(), Step::new(), Step::new());
    for (at, step) in steps.into_iter().enumerate() {
        for event in step {
            match event {
                Event::Batch(batch) => add(&mut batches, batch),
                event if !event.is_control() => others.push(event),
                event if at == 0 => control.push(event),
                _ => {}
            }
        }
    }
    let mut step: Step = batches.into_iter().map(|of_source| Event::Batch(in_order(of_source))).collect();
    step.append(&mut others);
    step.append(&mut control);
    step
}

/// Puts a batch to those of its source.
fn add(batches: &mut Vec<Vec<Arc<Batch>>>, batch: Arc<Batch>) {
    match batches.iter_mut().find(|of_source| of_source[0].source == batch.source) {
        Some(of_source) => of_source.push(batch),
        None => batches.push(vec![batch]),
    }
}

fn in_order(mut batches: Vec<Arc<Batch>>) -> Arc<Batch> {
    if batches.len() == 1
        && let Some(batch) = batches.pop()
    {
        return batch;
    }
    let mut samples: Vec<(u32, i64, f64)> = Vec::new();
    for batch in &batches {
        samples.extend(batch.iter().map(|(series, sample)| (series.0, sample.time.nanos(), sample.value)));
    }
    // Stable: of one time the later input's comes last.
    samples.sort_by_key(|&(series, time, _)| (series, time));
    let mut merged = batches[0].part(samples.len());
    merged.arrived = batches.iter().map(|batch| batch.arrived).max().unwrap_or_default();
    for (at, &(series, time, value)) in samples.iter().enumerate() {
        let is_last = samples.get(at + 1).is_none_or(|next| (next.0, next.1) != (series, time));
        if is_last {
            merged.push(SeriesId(series), Timestamp::from_nanos(time), value);
        }
    }
    Arc::new(merged)
}
