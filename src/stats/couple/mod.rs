//! Pairs of series that move together within a window, one possibly some steps after the other.
//!
//! Two series that each follow a day, or each drift, correlate with one another and mean nothing by it. So the time of
//! day is taken off each, what lies far off is clipped ([`prepare`]), and one of the two is reduced to what could not be
//! forecast from its own last values, while the other goes through the same filter: prewhitening (Box and Jenkins 1970,
//! Haugh 1976). What is left of unrelated series correlates like noise at any lag: Fisher's z (1921) has a variance of
//! 1/(n-3) ([`lags`]). Each of the two has its turn at making the filter.
//!
//! The largest of both filters and all lags counts, against as many tests as were made: its p-value is multiplied by
//! two filters, by the lags, and by the pairs (Bonferroni). Where pairs are many, those of which neither the innovations
//! nor those of the means of four rows show anything are looked at no further ([`screen`]).

mod lags;
mod prepare;
mod screen;
mod strength;
#[cfg(test)]
mod tests;
mod whiten;

use std::cmp::Ordering;

use rayon::prelude::*;
use statrs::function::erf::erfc;

use lags::{Lags, Strongest};
use prepare::Prepared;
use screen::Screen;
use strength::alike;

/// Pairs up to which all are looked at in full.
const SCREENED_FROM: usize = 100_000;
/// Series a side of a tile of pairs: as many as stay in the cache beside each other.
const TILE: usize = 16;

/// Series on one grid of time, and where the window lies.
#[derive(Clone, Debug)]
pub struct Window<'w> {
    /// Of each series what came before the window, then the window: it ends with the last row. NaN is missing.
    pub values: Vec<&'w [f64]>,
    /// Rows of the window. Where fewer than 100 of them have a value, a series is left out.
    pub window: usize,
    /// Rows of a day. Without three days that end with the window, or one before it, nothing is flagged.
    pub day: usize,
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoupleOptions {
    /// Steps that one series may follow the other by.
    pub lag_max: usize,
    /// The largest p-value that is flagged, after adjusting.
    pub p_max: f64,
    /// Of more than 100,000 pairs, those whose innovations correlate by less than so many standard errors are left out.
    pub screen: f64,
}

impl Default for CoupleOptions {
    fn default() -> Self {
        CoupleOptions { lag_max: 12, p_max: 0.01, screen: 3.0 }
    }
}

/// Two series that move together; `a < b` are their places in [`Window::values`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coupled {
    pub a: usize,
    pub b: usize,
    /// Steps by which `b` follows `a`; where negative, `a` follows `b`.
    pub lag: i32,
    /// Of the values at that lag without their time of day, clipped.
    pub pearson: f64,
    /// The same, of their ranks.
    pub spearman: f64,
    /// Correlation at that lag of what the filter leaves of both: what the p-value is of.
    pub strength: f64,
    /// How likely unrelated series are to show as much at any of the lags, in any of the pairs.
    pub p_value: f64,
    /// Rows at which both have a value at that lag.
    pub points: u32,
}

impl Coupled {
    /// Least likely by chance first, then strongest, then by place.
    fn order(&self, other: &Coupled) -> Ordering {
        let chance = self.p_value.total_cmp(&other.p_value);
        let strength = other.strength.abs().total_cmp(&self.strength.abs());
        chance.then(strength).then((self.a, self.b).cmp(&(other.a, other.b)))
    }
}

/// All pairs that move together, the least likely by chance first: the same list on any number of threads.
///
/// ```
/// use plimsoll::stats::couple::{CoupleOptions, Window, couples};
/// let cause: Vec<f64> = (0..1200_u64).map(|row| (row * row * 7919 % 1009) as f64).collect();
/// let effect: Vec<f64> = (0..1200).map(|row| if row < 3 { 0.0 } else { 2.0 * cause[row - 3] }).collect();
/// let window = Window { values: vec![&cause, &effect], window: 300, day: 288 };
/// let found = couples(&window, &CoupleOptions::default());
/// assert_eq!((found[0].a, found[0].b, found[0].lag), (0, 1, 3));
/// ```
pub fn couples(window: &Window<'_>, spec: &CoupleOptions) -> Vec<Coupled> {
    couples_where(window, spec, |_, _| true)
}

/// The same of those pairs alone that `allowed` names, asked with the lower place first. Others are not tests either:
/// the fewer are asked for, the more of them are found.
pub fn couples_where(
    window: &Window<'_>,
    spec: &CoupleOptions,
    allowed: impl Fn(usize, usize) -> bool + Sync,
) -> Vec<Coupled> {
    let mut found = Search::new(window, spec, allowed, SCREENED_FROM).run();
    found.sort_unstable_by(Coupled::order);
    found
}

/// What all threads look at.
struct Search<'s, A> {
    spec: &'s CoupleOptions,
    allowed: A,
    /// Places of the series that can be used, and what was made of them.
    series: Vec<(usize, Prepared)>,
    pairs: usize,
    screen: Option<Screen>,
}

impl<'s, A: Fn(usize, usize) -> bool + Sync> Search<'s, A> {
    fn new(window: &Window<'_>, spec: &'s CoupleOptions, allowed: A, screened_from: usize) -> Self {
        let places = window.values.par_iter().enumerate();
        let prepared = places.map(|(at, rows)| Some((at, Prepared::new(rows, window.window, window.day)?)));
        let mut search = Search { spec, allowed, series: prepared.flatten().collect(), pairs: 0, screen: None };
        search.pairs = search.count();
        search.screen = (search.pairs > screened_from).then(|| Screen::new(&search.series, spec.lag_max));
        search
    }

    fn count(&self) -> usize {
        let later = |a: usize| (a + 1..self.series.len()).filter(|&b| self.is_allowed(a, b)).count();
        (0..self.series.len()).into_par_iter().map(later).sum()
    }

    fn is_allowed(&self, a: usize, b: usize) -> bool {
        (self.allowed)(self.series[a].0, self.series[b].0)
    }

    fn run(&self) -> Vec<Coupled> {
        let tiles = self.series.len().div_ceil(TILE);
        let pairs: Vec<(usize, usize)> = (0..tiles).flat_map(|a| (a..tiles).map(move |b| (a, b))).collect();
        pairs.into_par_iter().flat_map_iter(|(a, b)| self.tile(a * TILE, b * TILE)).collect()
    }

    /// Flagged pairs of the series from one place on with those from another.
    fn tile(&self, first: usize, second: usize) -> Vec<Coupled> {
        let end = |start: usize| (start + TILE).min(self.series.len());
        let mut lags = Lags::new(self.series[first].1.adjusted.len(), self.spec.lag_max);
        let mut found = Vec::new();
        for a in first..end(first) {
            for b in second.max(a + 1)..end(second) {
                if self.is_allowed(a, b) && self.is_candidate(a, b) {
                    found.extend(self.coupled(a, b, &mut lags));
                }
            }
        }
        found
    }

    fn is_candidate(&self, a: usize, b: usize) -> bool {
        self.screen.as_ref().is_none_or(|screen| screen.passes(a, b, self.spec.screen as f32))
    }

    fn coupled(&self, a: usize, b: usize, lags: &mut Lags) -> Option<Coupled> {
        let ((place_a, a), (place_b, b)) = (&self.series[a], &self.series[b]);
        let Strongest { lag, r, score } = lags.strongest(a, b);
        let tests = (2 * (2 * self.spec.lag_max + 1) * self.pairs) as f64;
        let p_value = (erfc(score / std::f64::consts::SQRT_2) * tests).min(1.0);
        if p_value > self.spec.p_max {
            return None;
        }
        let (pearson, spearman, points) = alike(a, b, lag);
        Some(Coupled { a: *place_a, b: *place_b, lag, pearson, spearman, strength: r, p_value, points })
    }
}
