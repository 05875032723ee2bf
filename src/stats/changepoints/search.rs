//! Where a series may step: every split that chance does not explain, before they are held against one another.

use std::ops::Range;

use super::ChangePointOptions;
use super::scan::{best_split, ranks};
use crate::stats::median;

/// A window in which a split is looked for has this many of the shortest segments, or more.
const WINDOW_SEGMENTS: usize = 4;

/// Where values without gaps split, in order: binary segmentation, Scott and Knott 1974.
pub(super) fn splits(values: &[f64], options: &ChangePointOptions) -> Vec<usize> {
    let mut found = Vec::new();
    let mut open: Vec<Range<usize>> = std::iter::once(0..values.len()).collect();
    while let Some(Range { start, end }) = open.pop() {
        let inner = Segment::of(&values[start..end], options).splits();
        let edges: Vec<usize> = [0].into_iter().chain(inner).chain([end - start]).map(|at| start + at).collect();
        if edges.len() > 2 {
            found.extend(&edges[1..edges.len() - 1]);
            open.extend(edges.windows(2).map(|pair| pair[0]..pair[1]));
        }
    }
    found.sort_unstable();
    found
}

struct Segment<'a> {
    values: &'a [f64],
    ranks: Vec<f64>,
    options: &'a ChangePointOptions,
}

impl<'a> Segment<'a> {
    fn of(values: &'a [f64], options: &'a ChangePointOptions) -> Segment<'a> {
        Segment { values, ranks: ranks(values), options }
    }

    fn splits(&self) -> Vec<usize> {
        let whole = self.split_in(0..self.values.len(), self.options.p_max);
        whole.map_or_else(|| self.splits_in_windows(), |at| vec![at])
    }

    /// As a whole, what returns to where it was has no split. So windows of a half, a quarter and so on are looked at, each
    /// overlapping the next by half (seeded binary segmentation, Kovács and others 2023), until some of one length have
    /// splits. All windows share one `p_max`.
    fn splits_in_windows(&self) -> Vec<usize> {
        let count = self.values.len();
        let lengths = window_lengths(count, self.options.segment_min);
        let all: usize = lengths.iter().map(|&length| windows(count, length).count()).sum();
        let p_max = self.options.p_max / all as f64;
        let of_length = |&length: &usize| {
            let mut found: Vec<usize> =
                windows(count, length).filter_map(|window| self.split_in(window, p_max)).collect();
            found.sort_unstable();
            found.dedup_by(|next, kept| *next - *kept < self.options.segment_min);
            found
        };
        lengths.iter().map(of_length).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The best split of a window. `None` where both sides have the same median, as beside spikes.
    fn split_in(&self, window: Range<usize>, p_max: f64) -> Option<usize> {
        let split = best_split(&self.ranks[window.clone()], self.options.segment_min, p_max)?;
        let (before, after) = self.values[window.clone()].split_at(split.at);
        (median(before) != median(after)).then_some(window.start + split.at)
    }
}

/// The longest first.
fn window_lengths(count: usize, segment_min: usize) -> Vec<usize> {
    let halves = std::iter::successors(Some(count / 2), |length| Some(length / 2));
    halves.take_while(|&length| length >= segment_min.saturating_mul(WINDOW_SEGMENTS)).collect()
}

fn windows(count: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..=count - length).step_by(length / 2).map(move |start| start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_by_half_down_to_four_segments() {
        let table: [(usize, usize, &[usize]); 5] =
            [(200, 10, &[100, 50]), (160, 10, &[80, 40]), (79, 10, &[]), (33, 2, &[16, 8]), (9, usize::MAX, &[])];
        for (count, segment_min, expected) in table {
            assert_eq!(window_lengths(count, segment_min), expected, "{count}");
        }
        let expected = [0..100, 50..150, 100..200];
        assert_eq!(windows(200, 100).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn steps_there_and_back_are_both_found() {
        let levels = |at: usize, levels: [f64; 3]| levels[usize::from(at >= 200) + usize::from(at >= 230)];
        for (after, expected) in [(1.0, vec![200, 230]), (2.0, vec![200]), (3.0, vec![200, 230])] {
            let values: Vec<f64> =
                (0..400).map(|at| levels(at, [1.0, 2.0, after]) + ((at + 4) % 7) as f64 / 50.0).collect();
            assert_eq!(splits(&values, &ChangePointOptions::default()), expected, "then {after}");
        }
    }

    #[test]
    fn beside_spikes_is_no_split_and_they_hide_none() {
        let mut values = vec![1.0; 200];
        for at in [190, 193, 196, 199] {
            values[at] = 9.0;
        }
        assert_eq!(splits(&values, &ChangePointOptions::default()), [0_usize; 0]);
        values[60..80].fill(2.0);
        assert_eq!(splits(&values, &ChangePointOptions::default()), [60, 80]);
    }
}
