//! What a stage with several inputs is told: their samples of one step, in the order of time for each series.

use std::sync::Arc;

use super::event::{Event, Step};
use crate::model::{Batch, SeriesId, Timestamp};

/// Puts the steps of several inputs for one step of the source together, where each brings its own series. All steer alike, but
/// for the watermarks of stages that hold samples back.
pub(super) fn gathered(steps: Vec<Step>) -> Step {
    let (mut all, mut control) = (Step::new(), Step::new());
    for (at, step) in steps.into_iter().enumerate() {
        let (steering, told): (Step, Step) = step.into_iter().partition(Event::is_control);
        all.extend(told);
        if at == 0 {
            control = steering;
        } else {
            steering.into_iter().for_each(|event| add_watermark(event, &mut control));
        }
    }
    all.append(&mut control);
    all
}

/// Adds a watermark that the other inputs do not tell, before what ends the step.
fn add_watermark(event: Event, control: &mut Step) {
    let Event::Watermark(watermark) = &event else { return };
    if !control.iter().any(|known| matches!(known, Event::Watermark(known) if known == watermark)) {
        let end = control.iter().position(|known| !matches!(known, Event::Watermark(_))).unwrap_or(control.len());
        control.insert(end, event);
    }
}

/// The same where they bring the same series. What the inputs were told in the step is later than what they were told before,
/// so within it is all that must be put in order. Of two samples of a series for one time, as where both inputs hand the same
/// one on, that of the later input counts.
pub(super) fn merged(steps: Vec<Step>) -> Step {
    let (mut batches, mut others) = (Vec::<Vec<Arc<Batch>>>::new(), Step::new());
    for event in gathered(steps) {
        match event {
            Event::Batch(batch) => add(&mut batches, batch),
            event => others.push(event),
        }
    }
    let mut step: Step = batches.into_iter().map(|of_source| Event::Batch(in_order(of_source))).collect();
    step.append(&mut others);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Cut, Watermark};

    #[test]
    fn what_only_a_later_input_is_past_is_told_before_the_step_ends() {
        let mark = |source: &str| Event::Watermark(Watermark { source: source.into(), time: Timestamp::from_nanos(5) });
        let end = || Event::Checkpoint(Cut { number: 1, last: false });
        for put_together in [gathered, merged] {
            let step = put_together(vec![vec![mark("live"), end()], vec![mark("live"), mark("held"), end()]]);
            let told: Vec<&str> = step
                .iter()
                .map(|event| match event {
                    Event::Watermark(watermark) => &*watermark.source,
                    _ => "end",
                })
                .collect();
            assert_eq!(told, ["live", "held", "end"]);
        }
    }
}
