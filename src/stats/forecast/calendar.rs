//! Steps that are unlike others, as holidays: nothing is learnt from them, and ahead they behave as other days do.

use std::ops::Range;

/// A stretch of unusual steps, counted from the first of the history; those past its end lie ahead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exception {
    pub steps: Range<usize>,
    /// The first step of a stretch they behave like, as the start of some Sunday, before or after the end of the history;
    /// what counts is its phase in the longest season. `None`: ahead they are as any other.
    pub like: Option<usize>,
}

/// The history with the exceptions as gaps; `None` where that leaves it as it is.
pub(super) fn without(history: &[f64], exceptions: &[Exception]) -> Option<Vec<f64>> {
    let past = |exception: &Exception| exception.steps.start..exception.steps.end.min(history.len());
    let stretches = exceptions.iter().map(past).filter(|steps| !steps.is_empty());
    stretches.fold(None, |kept, steps| {
        let mut kept = kept.unwrap_or_else(|| history.to_vec());
        kept[steps].fill(f64::NAN);
        Some(kept)
    })
}

/// For each of `horizon` steps after `length` points the step ahead whose value is taken: itself, or for an exception the
/// nearest with the phase it is to have in `season`. All are below `horizon` or `season`, whichever is more.
pub(super) fn taken_from(exceptions: &[Exception], length: usize, horizon: usize, season: usize) -> Vec<usize> {
    let mut taken: Vec<usize> = (0..horizon).collect();
    if season == 0 {
        return taken;
    }
    for Exception { steps, like } in exceptions {
        let Some(like) = like else { continue };
        for at in steps.start.max(length)..steps.end.min(length + horizon) {
            let phase = (like % season + (at - steps.start)) % season;
            taken[at - length] = nearest(phase, at - length, length, horizon.max(season), season);
        }
    }
    taken
}

/// The step ahead of that phase that is nearest to `step`.
fn nearest(phase: usize, step: usize, length: usize, steps: usize, season: usize) -> usize {
    let first = (phase + season - length % season) % season;
    let of_phase = (first..steps).step_by(season);
    of_phase.min_by_key(|at| at.abs_diff(step)).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_gaps_in_the_past_and_other_phases_ahead() {
        let one = |steps: Range<usize>, like: Option<usize>| vec![Exception { steps, like }];
        type Case = (Vec<Exception>, usize, usize, [usize; 6]);
        let table: [Case; 6] = [
            (vec![], 12, 7, [0, 1, 2, 3, 4, 5]),
            (one(13..15, Some(5)), 12, 7, [0, 0, 1, 3, 4, 5]),
            (one(13..15, Some(7 * 3 + 4)), 12, 7, [0, 6, 0, 3, 4, 5]),
            (one(13..15, None), 12, 7, [0, 1, 2, 3, 4, 5]),
            (one(13..15, Some(5)), 12, 0, [0, 1, 2, 3, 4, 5]),
            (one(17..99, Some(0)), 12, 2, [0, 1, 2, 3, 4, 4]),
        ];
        for (exceptions, length, season, expected) in table {
            assert_eq!(taken_from(&exceptions, length, 6, season), expected, "{exceptions:?}");
        }
        assert_eq!(without(&[1.0, 2.0], &one(2..4, None)), None);
        let kept = without(&[1.0, 2.0, 3.0], &one(1..9, None)).unwrap();
        assert!(kept[0] == 1.0 && kept[1].is_nan() && kept[2].is_nan());
    }
}
