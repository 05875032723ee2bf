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
    let (batches, others): (Step, Step) =
        gathered(steps).into_iter().partition(|event| matches!(event, Event::Batch(_)));
    let batches: Vec<Arc<Batch>> = batches
        .into_iter()
        .filter_map(|event| match event {
            Event::Batch(batch) => Some(batch),
            _ => None,
        })
        .collect();
    let mut step: Step = if batches.len() > 1 {
        in_order(&batches).into_iter().map(|batch| Event::Batch(Arc::new(batch))).collect()
    } else {
        batches.into_iter().map(Event::Batch).collect()
    };
    step.extend(others);
    step
}

/// A sample, and which batch brought it.
#[derive(Clone, Copy)]
struct Of {
    series: u32,
    time: i64,
    value: f64,
    batch: usize,
}

/// Batches of one source each, in which the samples of every series come in the order of time, whichever source brought them:
/// where that changes within a series, what follows is in a later batch.
fn in_order(batches: &[Arc<Batch>]) -> Vec<Batch> {
    let mut samples: Vec<Of> = Vec::with_capacity(batches.iter().map(|batch| batch.len()).sum());
    for (at, batch) in batches.iter().enumerate() {
        let of = batch.iter().map(|(series, sample)| (series.0, sample.time.nanos(), sample.value));
        samples.extend(of.map(|(series, time, value)| Of { series, time, value, batch: at }));
    }
    // Stable: of one time the later input's comes last.
    samples.sort_by_key(|of| (of.series, of.time));
    let mut rounds: Vec<Vec<Batch>> = Vec::new();
    for of_series in samples.chunk_by(|a, b| a.series == b.series) {
        let (mut round, mut before) = (0, None);
        for (at, of) in of_series.iter().enumerate() {
            if of_series.get(at + 1).is_some_and(|next| next.time == of.time) {
                continue;
            }
            let from = &batches[of.batch];
            round += usize::from(before.is_some_and(|before: &Arc<Batch>| before.source != from.source));
            before = Some(from);
            if round == rounds.len() {
                rounds.push(Vec::new());
            }
            batch_of(&mut rounds[round], from).push(SeriesId(of.series), Timestamp::from_nanos(of.time), of.value);
        }
    }
    rounds.into_iter().flatten().collect()
}

/// The batch of a round that is of the source of `from`.
fn batch_of<'r>(round: &'r mut Vec<Batch>, from: &Batch) -> &'r mut Batch {
    let known = round.iter().position(|batch| batch.source == from.source);
    let at = known.unwrap_or(round.len());
    if known.is_none() {
        round.push(from.part(0));
    }
    let batch = &mut round[at];
    batch.arrived = batch.arrived.max(from.arrived);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Cut, Watermark};

    #[test]
    fn a_series_that_sources_bring_in_turn_stays_in_the_order_of_time() {
        let batch = |source: &str, samples: &[(u32, i64, f64)]| {
            let mut batch = Batch { source: source.into(), ..Batch::default() };
            samples.iter().for_each(|&(id, time, value)| batch.push(SeriesId(id), Timestamp::from_nanos(time), value));
            Event::Batch(Arc::new(batch))
        };
        let one = vec![batch("a", &[(0, 1, 1.0), (1, 9, 9.0)]), batch("b", &[(0, 2, 2.0)]), batch("a", &[(0, 3, 3.0)])];
        let other = vec![batch("a", &[(0, 1, 1.5), (2, 4, 4.0)])];
        let told: Vec<String> = merged(vec![one, other])
            .iter()
            .filter_map(|event| match event {
                Event::Batch(batch) => Some(batch),
                _ => None,
            })
            .map(|batch| {
                let one =
                    |(id, of): (SeriesId, crate::model::Sample)| format!(" {}@{}={}", id.0, of.time.nanos(), of.value);
                format!("{}{}", batch.source, batch.iter().map(one).collect::<String>())
            })
            .collect();
        assert_eq!(told, ["a 0@1=1.5 1@9=9 2@4=4", "b 0@2=2", "a 0@3=3"]);
    }

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
