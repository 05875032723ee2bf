//! Which pairs of very many are worth a closer look: those whose own innovations correlate at a lag, row by row or by
//! means of some rows.
//!
//! Sums of products for each lag are a convolution, and cost a fraction of that as products of spectra. Rows are cut
//! into segments. The spectrum of a segment of one series is multiplied by that of the same rows of the other and
//! `lag_max` more on either side; the products are added over all segments, and transformed back once (overlap-save,
//! Stockham 1966). Spectra are taken at odd multiples of half the usual step (Vernet 1971): those of real numbers are
//! all complex, with no first and last that need their own arithmetic, and what wraps around lies beyond the lags.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::prepare::Prepared;

/// Innovations count for no more than this, so that no single row makes a pair.
const WITHIN: f32 = 4.0;
/// Lags of the coarse rows: as far as [`super::prepare::COARSE`] times so many rows.
const COARSE_LAG_MAX: usize = 3;
/// Frequencies multiplied side by side.
const LANES: usize = 8;
/// Lags transformed back side by side.
const LAGS: usize = 8;

/// Real parts, then imaginary ones.
type Bins = [f32; 2 * LANES];

pub(super) struct Screen {
    fine: Spectra,
    coarse: Spectra,
}

impl Screen {
    pub fn new(series: &[(usize, Prepared)], lag_max: usize) -> Screen {
        let rows = |of: fn(&Prepared) -> &[f32]| series.iter().map(|(_, series)| of(series)).collect::<Vec<_>>();
        Screen {
            fine: Spectra::new(&rows(|series| &series.innovations), lag_max),
            coarse: Spectra::new(&rows(|series| &series.coarse), COARSE_LAG_MAX),
        }
    }

    /// Whether the correlation at any lag is more than `least` standard errors.
    pub fn passes(&self, a: usize, b: usize, least: f32) -> bool {
        self.fine.strongest(a, b) > least || self.coarse.strongest(a, b) > least
    }
}

/// Of rows of one length what their lagged products are made from.
struct Spectra {
    segments: usize,
    /// Blocks of [`LANES`] frequencies.
    blocks: usize,
    /// By series, by block, by segment: spectra of the segments alone, and with the rows around them.
    still: Vec<Bins>,
    near: Vec<Bins>,
    /// By block of lags, by frequency: what takes products of spectra to standard errors.
    back: Vec<Vec<Waves>>,
}

/// Cosines and sines of a frequency at [`LAGS`] lags.
struct Waves {
    cos: [f32; LAGS],
    sin: [f32; LAGS],
}

impl Spectra {
    fn new(rows: &[&[f32]], lag_max: usize) -> Spectra {
        let points = (5 * lag_max).next_power_of_two().max(2 * LANES);
        let segment = points - 2 * lag_max;
        let length = rows.first().map_or(0, |row| row.len());
        let (segments, blocks) = (length.div_ceil(segment), points / 2 / LANES);
        let forward = forward(points, lag_max);
        let of_row = |row: &&[f32]| {
            let mut padded = vec![0.0; segments * segment + 2 * lag_max];
            padded[lag_max..][..length].copy_from_slice(&normalized(row));
            let starts = || (0..segments).map(|at| at * segment);
            let still = |waves: &[Bins]| -> Vec<Bins> {
                starts().map(|at| spectrum(&waves[lag_max..], &padded[at + lag_max..][..segment])).collect()
            };
            let near =
                |waves: &[Bins]| -> Vec<Bins> { starts().map(|at| spectrum(waves, &padded[at..][..points])).collect() };
            let by_block = || forward.chunks_exact(points);
            (by_block().flat_map(still).collect(), by_block().flat_map(near).collect())
        };
        let (still, near): (Vec<Vec<Bins>>, Vec<Vec<Bins>>) = rows.par_iter().map(of_row).unzip();
        Spectra { segments, blocks, still: still.concat(), near: near.concat(), back: back(points, lag_max, length) }
    }

    /// The largest correlation by size at any lag, in standard errors of unrelated series.
    fn strongest(&self, a: usize, b: usize) -> f32 {
        let size = self.blocks * self.segments;
        let (a, b) = (&self.still[a * size..][..size], &self.near[b * size..][..size]);
        let by_block = a.chunks_exact(self.segments).zip(b.chunks_exact(self.segments));
        let products: Vec<Bins> = by_block.map(|(a, b)| product(a, b)).collect();
        self.back.iter().map(|waves| largest(&products, waves)).fold(0.0, f32::max)
    }
}

/// Clipped, and scaled to a mean square of 1 unless all are zero.
fn normalized(row: &[f32]) -> Vec<f32> {
    let clipped = row.iter().map(|value| value.clamp(-WITHIN, WITHIN));
    let squares: f32 = clipped.clone().map(|value| value * value).sum();
    let scale = if squares > 0.0 { (row.len() as f32 / squares).sqrt() } else { 0.0 };
    clipped.map(|value| value * scale).collect()
}

/// Turn of a frequency in so many rows, of which a segment with what is around it has `points`.
fn angle(frequency: usize, rows: f64, points: usize) -> f64 {
    PI * (2 * frequency + 1) as f64 * rows / points as f64
}

/// By block of frequencies, by row from `lag_max` before the segment on: the waves that a spectrum is made with.
fn forward(points: usize, lag_max: usize) -> Vec<Bins> {
    let waves = |first: usize, row: usize| {
        let angle = |lane: usize| angle(first + lane % LANES, row as f64 - lag_max as f64, points);
        std::array::from_fn(|lane| if lane < LANES { angle(lane).cos() } else { -angle(lane).sin() } as f32)
    };
    (0..points / 2).step_by(LANES).flat_map(|first| (0..points).map(move |row| waves(first, row))).collect()
}

/// The waves of [`Spectra::back`] for rows of a `length`; zeros beyond the last lag.
fn back(points: usize, lag_max: usize, length: usize) -> Vec<Vec<Waves>> {
    let wave = |frequency: usize, lag: usize, of: fn(f64) -> f64| {
        let overlap = if lag <= lag_max { length.saturating_sub(lag) } else { 0 };
        let scale = if overlap > 0 { 2.0 / points as f64 / (overlap as f64).sqrt() } else { 0.0 };
        (of(angle(frequency, lag as f64, points)) * scale) as f32
    };
    let waves = |frequency: usize, first: usize| Waves {
        cos: std::array::from_fn(|lag| wave(frequency, first + lag, f64::cos)),
        sin: std::array::from_fn(|lag| wave(frequency, first + lag, f64::sin)),
    };
    let of_lags = |first: usize| (0..points / 2).map(|frequency| waves(frequency, first)).collect();
    (0..=lag_max).step_by(LAGS).map(of_lags).collect()
}

fn spectrum(waves: &[Bins], rows: &[f32]) -> Bins {
    let mut sums = [0.0; 2 * LANES];
    for (wave, &row) in waves.iter().zip(rows) {
        for lane in 0..2 * LANES {
            sums[lane] += wave[lane] * row;
        }
    }
    sums
}

/// Of a block of frequencies, one side's spectra turned back times the other's, summed over the segments.
fn product(a: &[Bins], b: &[Bins]) -> Bins {
    let mut sums = [0.0; 2 * LANES];
    for (a, b) in a.iter().zip(b) {
        for real in 0..LANES {
            let imaginary = LANES + real;
            sums[real] += a[real] * b[real] + a[imaginary] * b[imaginary];
            sums[imaginary] += a[real] * b[imaginary] - a[imaginary] * b[real];
        }
    }
    sums
}

/// The largest sum of products at any lag of a block either way. What the cosines make is the same for a lag and its
/// opposite, what the sines make is turned around: the larger of their sum and difference is the sum of their sizes.
fn largest(products: &[Bins], waves: &[Waves]) -> f32 {
    let (mut even, mut odd) = ([0.0; LAGS], [0.0; LAGS]);
    for (products, waves) in products.iter().zip(waves.chunks_exact(LANES)) {
        for (lane, wave) in waves.iter().enumerate() {
            for lag in 0..LAGS {
                even[lag] += products[lane] * wave.cos[lag];
                odd[lag] += products[LANES + lane] * wave.sin[lag];
            }
        }
    }
    even.iter().zip(odd).map(|(even, odd)| even.abs() + odd.abs()).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Noise;
    use super::*;

    /// Lag by lag, with plain sums.
    fn one_by_one(a: &[f32], b: &[f32], lag_max: usize) -> f32 {
        let sum = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>().abs();
        let rows = |lag: usize| ((a.len() - lag) as f32).sqrt();
        let of = |lag: usize| sum(&a[lag..], b).max(sum(a, &b[lag..])) / rows(lag);
        (0..=lag_max).map(of).fold(0.0, f32::max)
    }

    #[test]
    fn spectra_agree_with_sums_lag_by_lag() {
        for (lag_max, length) in [(0, 40), (1, 100), (3, 250), (7, 39), (8, 211), (12, 1000), (12, 137), (40, 333)] {
            let mut noise = Noise(length as u64);
            let mut rows: Vec<Vec<f32>> =
                (0..4).map(|_| (0..length).map(|_| noise.normal() as f32).collect()).collect();
            rows[3] = rows[2].iter().skip(lag_max).chain(&rows[1][..lag_max]).map(|x| -x).collect();
            let spectra = Spectra::new(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), lag_max);
            let rows: Vec<Vec<f32>> = rows.iter().map(|row| normalized(row)).collect();
            for (a, b) in [(0, 1), (1, 0), (0, 2), (2, 3), (3, 2), (1, 1)] {
                let (found, expected) = (spectra.strongest(a, b), one_by_one(&rows[a], &rows[b], lag_max));
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{a} and {b}, lag {lag_max} of {length}: {found}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn a_series_of_zeros_goes_with_none() {
        let (zeros, ones) = ([0.0; 64], [1.0; 64]);
        let spectra = Spectra::new(&[&zeros, &ones], 4);
        assert_eq!((spectra.strongest(0, 1), spectra.strongest(0, 0)), (0.0, 0.0));
        assert!((spectra.strongest(1, 1) - 8.0).abs() < 1e-4);
        assert_eq!(Spectra::new(&[], 4).still.len(), 0);
    }
}
