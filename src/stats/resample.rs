//! From samples at any times to a regular grid, and which grid.

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Steps that people and clocks divide time by, in seconds.
const LADDER: [i64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];

/// Means of the values in each step of `step_ns`, NaN where a step has none, and the time the first step starts at
/// (a whole multiple of `step_ns` since the epoch). `times_ns` must be sorted; NaN values are gaps.
///
/// The grid has one number for every step from the first time to the last, so take a step from [`ladder_step`]. No
/// times, or a step that is not positive, give an empty grid.
pub fn to_grid(times_ns: &[i64], values: &[f64], step_ns: i64) -> (i64, Vec<f64>) {
    debug_assert!(times_ns.is_sorted(), "times must be sorted");
    let (Some(&first), Some(&last), true) = (times_ns.first(), times_ns.last(), step_ns > 0) else {
        return (0, Vec::new());
    };
    let index = |time: i64| time.div_euclid(step_ns);
    let origin = index(first);
    let steps = usize::try_from(index(last) - origin).map_or(0, |last| last + 1);
    let mut sums = vec![(0.0, 0_u32); steps];
    for (&time, &value) in times_ns.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
        let (sum, count) = &mut sums[(index(time) - origin) as usize];
        *sum += value;
        *count += 1;
    }
    // 0 / 0 is NaN: a step without values is a gap.
    let means = sums.into_iter().map(|(sum, count)| sum / f64::from(count)).collect();
    (origin.saturating_mul(step_ns), means)
}

/// The median distance between neighbouring times; equal times count once. `None` for fewer than two different times.
pub fn native_step(times_ns: &[i64]) -> Option<i64> {
    let mut gaps: Vec<i64> =
        times_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|&gap| gap > 0).collect();
    let middle = gaps.len() / 2;
    (!gaps.is_empty()).then(|| *gaps.select_nth_unstable(middle).1)
}

/// The smallest step of 1, 2, 5, 10, 15, 30 s, 1, 2, 5, 10, 15, 30 min, 1, 2, 6, 12 h and 1 d that is not finer than
/// `native_ns` and divides `span_ns` into at most `max_points` steps; past that, whole days.
pub fn ladder_step(native_ns: i64, span_ns: i64, max_points: usize) -> i64 {
    let points = i64::try_from(max_points).unwrap_or(i64::MAX).max(1);
    let needed = native_ns.max(span_ns.max(0) / points + i64::from(span_ns.max(0) % points != 0));
    let rung = LADDER.into_iter().map(|seconds| seconds * SECOND).find(|&step| step >= needed);
    rung.unwrap_or_else(|| (needed / DAY + i64::from(needed % DAY != 0)).saturating_mul(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_means_and_gaps_are_nan() {
        let (start, grid) = to_grid(&[12, 19, 20, 45], &[1.0, 3.0, f64::NAN, 7.0], 10);
        assert_eq!(start, 10);
        assert_eq!(grid.len(), 4);
        assert_eq!((grid[0], grid[3]), (2.0, 7.0));
        assert!(grid[1].is_nan() && grid[2].is_nan());
    }

    #[test]
    fn grids_before_the_epoch_start_in_the_past() {
        assert_eq!(to_grid(&[-11, -1], &[1.0, 2.0], 10), (-20, vec![1.0, 2.0]));
    }

    #[test]
    fn nothing_or_no_step_gives_an_empty_grid() {
        assert_eq!(to_grid(&[], &[], 10), (0, vec![]));
        assert_eq!(to_grid(&[1], &[1.0], 0), (0, vec![]));
    }

    #[test]
    fn the_native_step_is_the_usual_distance() {
        let table: [(&[i64], Option<i64>); 4] =
            [(&[0, 10, 20, 30, 95, 105], Some(10)), (&[5, 5, 5], None), (&[0, 0, 7, 7, 14], Some(7)), (&[], None)];
        for (times, expected) in table {
            assert_eq!(native_step(times), expected, "{times:?}");
        }
    }

    #[test]
    fn the_ladder_gives_the_finest_step_that_fits() {
        let (s, hour) = (SECOND, 3600 * SECOND);
        let table = [
            (s / 2, 100 * s, 100, s),
            (s, 101 * s, 100, 2 * s),
            (2 * s, 10 * s, 100, 2 * s),
            (11 * s, 10 * s, 100, 15 * s),
            (s, 14 * 24 * hour, 336, hour),
            (s, 365 * DAY, 100, 4 * DAY),
            (s, 0, 0, s),
        ];
        for (native, span, points, expected) in table {
            assert_eq!(ladder_step(native, span, points), expected, "{native} {span} {points}");
        }
    }
}
