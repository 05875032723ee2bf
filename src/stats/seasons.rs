//! Which seasons a series has: found in it, never assumed.
//!
//! Periods come up for question as peaks of the periodogram (Welch's, by augurs) and of the autocorrelation, and as
//! hints of the caller. Each must then foretell the series: with a moving mean of its own length taken out, every cycle
//! is forecast by the mean of the others, and a good share of the variance must be gone.

use augurs::seasons::PeriodogramDetector;

/// Shortest series worth asking: three cycles of a period of four.
const POINTS_MIN: usize = 12;
/// Least cycles of a season in the series.
const CYCLES_MIN: usize = 3;
/// Least share of the variance that a season foretells: that seen over many cycles, and the more the fewer were seen,
/// by this over their number. A walk without any season may well swing two or three times alike.
const SHARE_MIN: f64 = 0.1;
const SHARE_PER_CYCLE: f64 = 0.8;
/// Least autocorrelation one period apart.
const ECHO_MIN: f64 = 0.2;
/// A multiple of a period foretells what the period does. The shortest that comes this near the best is the period,
const TIE: f64 = 0.05;
/// or one up to this much longer, if better: too near to be a multiple.
const NEIGHBOUR_MAX: f64 = 1.4;
/// A period hinted at is taken for another that foretells this much more: what has a day by a hair has it by chance.
const HINT_TIE: f64 = 0.1;
/// Most points that all periods of are looked at; longer series are made into so many blocks.
const POINTS_MAX: usize = 2048;
/// Most periods of blocks that are looked at step by step.
const BLOCK_PERIODS_MAX: usize = 6;
/// Most peaks of one autocorrelation that are looked at, strongest first.
const PEAKS_MAX: usize = 24;
/// Least power of a peak of the periodogram, as a share of the highest.
const POWER_SHARE_MIN: f64 = 0.3;

/// Periods of the series in steps, ascending, at most three; empty where nothing repeats. `values` has no gaps.
/// `hints` are periods to look at besides those found (a day, a week), held to the same test.
pub fn find_seasons(values: &[f64], hints: &[usize]) -> Vec<usize> {
    seasons_of(values, hints).into_iter().map(|season| season.period).collect()
}

/// The same, with how much each foretells. Long series are looked at in blocks of several steps first.
pub fn seasons_of(values: &[f64], hints: &[usize]) -> Vec<Season> {
    if values.len() < POINTS_MIN || values.iter().any(|value| !value.is_finite()) {
        return Vec::new();
    }
    let level = without_line(values);
    let block = values.len().div_ceil(POINTS_MAX);
    let periods = if block == 1 { candidates(&level, hints) } else { through_blocks(&level, block, hints) };
    let all = periods.iter().filter_map(|&period| season(&level, period)).filter(Season::is_proven);
    let Some(main) = strongest(all.clone(), hints) else {
        return Vec::new();
    };
    let within = all.filter(|part| part.period < main.period && main.period % part.period == 0);
    let inner = strongest(within, hints).filter(|inner| inner.share >= main.share / 2.0);
    let rest = without_season(&level, main.period);
    let multiples = periods.iter().copied().filter(|&period| period > main.period && period % main.period == 0);
    let outer = strongest(multiples.filter_map(|period| season(&rest, period)), hints);
    [inner, Some(main), outer].into_iter().flatten().collect()
}

/// Periods worth testing: of the means of blocks of so many steps, each with its neighbours in steps, and the hints.
fn through_blocks(level: &[f64], block: usize, hints: &[usize]) -> Vec<usize> {
    let means: Vec<f64> =
        level.chunks_exact(block).map(|block| block.iter().sum::<f64>() / block.len() as f64).collect();
    let found = candidates(&means, &[]).into_iter().filter_map(|period| season(&means, period));
    let mut proven: Vec<Season> = found.filter(Season::is_proven).collect();
    proven.sort_by(|a, b| b.share.total_cmp(&a.share));
    proven.truncate(BLOCK_PERIODS_MAX);
    let near = |season: Season| season.period * block - block..=season.period * block + block;
    let mut periods: Vec<usize> = proven.into_iter().flat_map(near).chain(hints.iter().copied()).collect();
    periods.retain(|period| (2..=level.len() / CYCLES_MIN).contains(period));
    periods.sort_unstable();
    periods.dedup();
    periods
}

/// Something that repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Season {
    /// Steps.
    pub period: usize,
    /// Share of the variance that the season foretells; negative where it misleads.
    pub share: f64,
    /// How many times it was seen.
    pub cycles: f64,
}

impl Season {
    fn is_proven(&self) -> bool {
        self.share >= SHARE_MIN + SHARE_PER_CYCLE / self.cycles
    }
}

/// The season that foretells most, unless a shorter one, or one hinted at, foretells hardly less.
fn strongest(seasons: impl Iterator<Item = Season>, hints: &[usize]) -> Option<Season> {
    let passed: Vec<Season> = seasons.collect();
    let best = passed.iter().map(|season| season.share).max_by(f64::total_cmp)?;
    let shortest = passed.iter().find(|season| season.share >= best - TIE)?.period as f64;
    let near = passed.into_iter().filter(|season| (1.0..NEIGHBOUR_MAX).contains(&(season.period as f64 / shortest)));
    let hinted = |season: &Season| hints.contains(&season.period) && season.share >= best - HINT_TIE;
    near.max_by(|a, b| hinted(a).cmp(&hinted(b)).then(a.share.total_cmp(&b.share)))
}

/// The season of that period, if it passes. A cycle's distance to the mean of the others is `cycles / (cycles - 1)`
/// times that to the mean of all, so one pass does for leaving each out in turn.
fn season(values: &[f64], period: usize) -> Option<Season> {
    let swings = swings(values, period);
    let means = phase_means(&swings, period);
    let total: f64 = swings.iter().map(|swing| swing * swing).sum();
    let left: f64 = swings.iter().enumerate().map(|(at, swing)| (swing - means[at % period]).powi(2)).sum();
    let cycles = swings.len() as f64 / period as f64;
    let share = 1.0 - left / total * (cycles / (cycles - 1.0)).powi(2);
    let echo = autocorrelation_at(&swings, period);
    (cycles > 1.0 && share >= SHARE_MIN && echo >= ECHO_MIN).then_some(Season { period, share, cycles })
}

/// The values less their centred moving mean of one period, where it is whole.
fn swings(values: &[f64], period: usize) -> Vec<f64> {
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(values.iter().scan(0.0, |sum, value| {
            *sum += value;
            Some(*sum)
        }))
        .collect();
    let mean_from = |start: usize| (sums[start + period] - sums[start]) / period as f64;
    let starts = 0..values.len().saturating_sub(period);
    // An even period has no middle: the mean of the two windows around it.
    starts
        .map(|start| values[start + period / 2] - f64::midpoint(mean_from(start), mean_from(start + 1 - period % 2)))
        .collect()
}

fn phase_means(values: &[f64], period: usize) -> Vec<f64> {
    let mean = |phase: usize| {
        let same = values.iter().skip(phase).step_by(period);
        let count = same.len().max(1) as f64;
        same.sum::<f64>() / count
    };
    (0..period).map(mean).collect()
}

/// The series less its season, still with whatever is slower.
fn without_season(values: &[f64], period: usize) -> Vec<f64> {
    let means = phase_means(&swings(values, period), period);
    // The swings begin half a period into the values.
    let phase = |at: usize| (at + period - period / 2) % period;
    values.iter().enumerate().map(|(at, value)| value - means[phase(at)]).collect()
}

/// The series less its straight line of least squares.
fn without_line(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().map(|value| value / count).sum::<f64>();
    let across: f64 = (0..values.len()).map(|at| (at as f64 - middle).powi(2)).sum();
    let slope =
        values.iter().enumerate().map(|(at, value)| (at as f64 - middle) / across * (value - mean)).sum::<f64>();
    values.iter().enumerate().map(|(at, value)| value - mean - slope * (at as f64 - middle)).collect()
}

/// Periods worth testing, ascending.
fn candidates(level: &[f64], hints: &[usize]) -> Vec<usize> {
    let longest = level.len() / CYCLES_MIN;
    let changes: Vec<f64> = level.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut periods = hints.to_vec();
    periods.extend(echo_peaks(level, longest));
    periods.extend(echo_peaks(&changes, longest));
    periods.extend(power_peaks(level, longest));
    periods.retain(|period| (2..=longest).contains(period));
    periods.sort_unstable();
    periods.dedup();
    periods
}

/// Lags at which the autocorrelation has a peak, the highest ones.
fn echo_peaks(values: &[f64], longest: usize) -> Vec<usize> {
    let reach = (longest + 1).min(values.len().saturating_sub(1));
    let echoes: Vec<f64> = (0..=reach).map(|lag| autocorrelation_at(values, lag)).collect();
    let is_peak = |&lag: &usize| echoes[lag] > echoes[lag - 1] && echoes[lag] >= echoes[lag + 1] && echoes[lag] > 0.05;
    let mut peaks: Vec<usize> = (2..reach).filter(is_peak).collect();
    peaks.sort_by(|&a, &b| echoes[b].total_cmp(&echoes[a]));
    peaks.truncate(PEAKS_MAX);
    peaks
}

/// Correlation of the series (of mean zero) with itself `lag` steps on; 0 for a constant one.
fn autocorrelation_at(values: &[f64], lag: usize) -> f64 {
    let total: f64 = values.iter().map(|value| value * value).sum();
    if total == 0.0 || lag >= values.len() {
        return 0.0;
    }
    let (products, overlap) = (values.iter().zip(&values[lag..]).map(|(a, b)| a * b), (values.len() - lag) as f64);
    products.sum::<f64>() / total * values.len() as f64 / overlap
}

fn power_peaks(values: &[f64], longest: usize) -> Vec<usize> {
    // The detector cuts the series into segments of twice the longest period and needs room for one.
    if longest < 4 || values.iter().all(|value| *value == values[0]) {
        return Vec::new();
    }
    let detector = PeriodogramDetector::builder().min_period(2).max_period(longest as u32).build();
    let peaks = detector.periodogram(values).peaks(POWER_SHARE_MIN).map(|peak| peak.period as usize);
    peaks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    /// Noise of mean 0 and variance 1/12 (splitmix64).
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        (1..).map(move |at: u64| {
            let x = (seed << 32 | at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x ^ x >> 31) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        })
    }

    fn series(length: usize, seed: u64, of: impl Fn(f64) -> f64) -> Vec<f64> {
        noise(seed).take(length).enumerate().map(|(at, noise)| of(at as f64) + noise).collect()
    }

    fn wave(at: f64, period: f64) -> f64 {
        (at / period * TAU).sin()
    }

    /// High five days of the week and low two.
    fn weekend(at: f64) -> f64 {
        if at % 168.0 < 120.0 { 1.0 } else { -1.0 }
    }

    #[test]
    fn finds_the_seasons_that_are_there_and_no_others() {
        type Case = (&'static str, usize, fn(f64) -> f64, &'static [usize]);
        let table: [Case; 8] = [
            ("a day", 700, |t| 2.0 * wave(t, 24.0), &[24]),
            ("a day on a rising line", 700, |t| 2.0 * wave(t, 24.0) + 0.1 * t, &[24]),
            ("a day of two humps", 700, |t| wave(t, 24.0) + 1.5 * wave(t, 12.0), &[12, 24]),
            ("a day and a week", 840, |t| 3.0 * wave(t, 24.0) + 2.0 * weekend(t), &[24, 168]),
            ("an odd period", 400, |t| 2.0 * wave(t, 37.0), &[37]),
            ("a tick every ten", 300, |t| if t % 10.0 == 0.0 { 5.0 } else { 0.0 }, &[10]),
            ("noise", 600, |_| 0.0, &[]),
            ("a line", 600, |t| t, &[]),
        ];
        for (name, length, of, expected) in table {
            for seed in 0..5 {
                assert_eq!(find_seasons(&series(length, seed, of), &[]), expected, "{name}, seed {seed}");
            }
        }
    }

    #[test]
    fn hints_must_pass_the_test_too() {
        let values = series(400, 1, |t| 2.0 * wave(t, 37.0));
        assert_eq!(find_seasons(&values, &[24, 7, 0, 1, 399, 100_000]), [37]);
    }

    #[test]
    fn a_hint_decides_between_neighbours() {
        let values = series(300, 2, |t| wave(t, 24.2));
        assert_eq!(find_seasons(&values, &[24]), [24]);
        assert_eq!(find_seasons(&values, &[25]), [24], "a worse one is not taken for it");
    }

    #[test]
    fn long_series_have_their_seasons_too() {
        for (period, length) in [(1440, 7200), (1437, 8000), (288, 8064)] {
            let values = series(length, 3, |t| 2.0 * wave(t, period as f64));
            let [found] = find_seasons(&values, &[])[..] else { panic!("{period}: {:?}", find_seasons(&values, &[])) };
            assert!(found.abs_diff(period) * 100 <= period, "{found} for {period}");
        }
        let values = series(8064, 3, |t| 2.0 * wave(t, 288.0) + 2.0 * weekend(t / 12.0));
        assert_eq!(find_seasons(&values, &[288, 2016]), [288, 2016]);
    }

    #[test]
    fn random_walks_rarely_seem_seasonal() {
        let walk = |seed| {
            noise(seed).scan(0.0, |at, step| {
                *at += step;
                Some(*at)
            })
        };
        let found = |seed| find_seasons(&walk(seed).take(500).collect::<Vec<_>>(), &[24]);
        let seasonal: Vec<Vec<usize>> = (0..40).map(found).filter(|seasons| !seasons.is_empty()).collect();
        assert!(seasonal.len() <= 5, "{seasonal:?}");
    }

    #[test]
    fn odd_input_has_no_seasons() {
        for values in [vec![], vec![1.0; 100], vec![f64::NAN; 100], vec![1.0, 2.0], vec![1e300; 40]] {
            assert_eq!(find_seasons(&values, &[2, 24]), [0; 0], "{values:?}");
        }
    }
}
