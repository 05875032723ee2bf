//! Lines that need no fitting: the last value, a straight line, the last cycle, the median of the last cycles.

use crate::stats::median;

/// The last value.
pub(super) fn naive(history: &[f64], steps: usize) -> Vec<f64> {
    vec![history.last().copied().unwrap_or(0.0); steps]
}

/// The line from the first value to the last.
pub(super) fn drift(history: &[f64], steps: usize) -> Vec<f64> {
    let (Some(first), Some(last)) = (history.first(), history.last()) else { return vec![0.0; steps] };
    let slope = (last - first) / (history.len() - 1).max(1) as f64;
    (1..=steps).map(|step| last + slope * step as f64).collect()
}

/// The median of the last `count` values.
pub(super) fn middle(history: &[f64], count: usize, steps: usize) -> Vec<f64> {
    vec![median(&history[history.len().saturating_sub(count)..]).unwrap_or(0.0); steps]
}

/// The last cycle again and again; empty where there is none.
pub(super) fn seasonal(history: &[f64], period: usize, steps: usize) -> Vec<f64> {
    history.len().checked_sub(period).map_or_else(Vec::new, |from| again(&history[from..], steps))
}

/// The median of each phase in the last `cycles` cycles; empty where there is no whole one.
pub(super) fn phase_medians(history: &[f64], period: usize, cycles: usize, steps: usize) -> Vec<f64> {
    let end = history.len();
    if end < period {
        return Vec::new();
    }
    let phase = |phase: usize| -> Vec<f64> {
        (1..=cycles).map_while(|back| (end + phase).checked_sub(back * period)).map(|at| history[at]).collect()
    };
    let medians: Vec<f64> = (0..period.min(steps)).map(|at| median(&phase(at)).unwrap_or(0.0)).collect();
    again(&medians, steps)
}

/// The last cycle, moved on by the usual change from one cycle to the next: the median over the last `cycles` of them.
pub(super) fn seasonal_drift(history: &[f64], period: usize, cycles: usize, steps: usize) -> Vec<f64> {
    let last = seasonal(history, period, steps);
    let recent = &history[history.len().saturating_sub((cycles + 1) * period)..];
    let changes: Vec<f64> =
        recent.iter().zip(recent.iter().skip(period)).map(|(before, after)| after - before).collect();
    let change = median(&changes).unwrap_or(0.0);
    last.into_iter().enumerate().map(|(step, value)| value + change * (step / period + 1) as f64).collect()
}

/// The straight line of least squares.
pub(super) fn line(history: &[f64], steps: usize) -> Vec<f64> {
    let (middle, mean, slope) = fitted(history);
    let from = history.len() as f64 - middle;
    (0..steps).map(|step| mean + slope * (from + step as f64)).collect()
}

/// Middle of the places, mean and slope of least squares.
pub(super) fn fitted(history: &[f64]) -> (f64, f64, f64) {
    let count = history.len().max(1) as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = history.iter().map(|value| value / count).sum::<f64>();
    let (mut across, mut along) = (f64::MIN_POSITIVE, 0.0);
    for (at, value) in history.iter().enumerate() {
        across += (at as f64 - middle).powi(2);
        along += (at as f64 - middle) * (value - mean);
    }
    (middle, mean, along / across)
}

fn again(cycle: &[f64], steps: usize) -> Vec<f64> {
    cycle.iter().copied().cycle().take(steps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_lines_are_what_they_are_named_for() {
        let history = [1.0, 5.0, 3.0, 7.0];
        let table: [(&str, Vec<f64>, &[f64]); 9] = [
            ("naive", naive(&history, 3), &[7.0, 7.0, 7.0]),
            ("drift", drift(&history, 3), &[9.0, 11.0, 13.0]),
            ("line", line(&history, 3), &[8.0, 9.6, 11.2]),
            ("middle", middle(&history, 3, 3), &[5.0, 5.0, 5.0]),
            ("seasonal", seasonal(&history, 2, 3), &[3.0, 7.0, 3.0]),
            ("too short a history", seasonal(&history, 9, 3), &[]),
            ("phase medians", phase_medians(&history, 2, 4, 3), &[2.0, 6.0, 2.0]),
            ("of the last cycle", phase_medians(&history, 2, 1, 3), &[3.0, 7.0, 3.0]),
            ("seasonal drift", seasonal_drift(&history, 2, 4, 3), &[5.0, 9.0, 7.0]),
        ];
        for (name, found, expected) in table {
            assert!(
                found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
                "{name}: {found:?}"
            );
        }
    }
}
