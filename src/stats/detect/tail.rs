//! How rare effects of a size are in one series: a histogram of those that there were, and beyond the largest of them a Pareto
//! tail.
//!
//! Bins grow by an eighth of an octave. What is old weighs less: a value half as much as one 11,000 later. The tail begins
//! where 3 % of all lie beyond, and at least ten; its index is the mean of the logarithms beyond (Hill 1975), drawn to 1/0.15
//! by the weight of ten values.

use std::f64::consts::LN_2;

use super::Numbers;

const BINS: usize = 64;
/// Where the first bin begins, and bins an octave.
const FIRST: f64 = 0.05;
const OCTAVE: f64 = 8.0;
/// Values in which a weight falls to a third.
const MEMORY: f64 = 16_384.0;
/// Values before anything is rare.
const KNOWN: f64 = 100.0;
/// A score may claim as much as the history bears out, and this.
const BEYOND: f64 = 0.7;
/// What lies beyond where the tail begins.
const TAIL_SHARE: f64 = 0.03;
const TAIL_COUNT: f64 = 10.0;
/// Mean of the logarithms beyond that is held true before anything is seen, and how many values that is worth.
const PRIOR: f64 = 0.15;
const PRIOR_COUNT: f64 = 10.0;
const RAREST: f64 = 1e-12;
/// The weight at which all are divided by it, so that none grows beyond what is exact.
const WEIGHT_MAX: f64 = 1e6;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tail {
    bins: [f32; BINS],
    sum: f64,
    /// Of the newest value.
    weight: f64,
    count: f64,
}

impl Default for Tail {
    fn default() -> Self {
        Tail { bins: [0.0; BINS], sum: 0.0, weight: TAIL_COUNT, count: 0.0 }
    }
}

/// Bins from the first to where an effect lies.
fn place(effect: f64) -> f64 {
    OCTAVE * (effect.max(1e-9) / FIRST).log2()
}

impl Tail {
    /// -log10 of the probability of an effect as large. `None` while too few are known.
    pub fn score(&self, effect: f64) -> Option<f64> {
        (self.count >= KNOWN).then(|| (-self.probability(effect).max(RAREST).log10()).min(self.count.log10() + BEYOND))
    }

    fn probability(&self, effect: f64) -> f64 {
        let (all, place) = (self.sum / self.weight, place(effect));
        let counted = |bin: usize| f64::from(self.bins[bin]) / self.weight;
        let enough = (TAIL_SHARE * all).max(TAIL_COUNT);
        let (mut begins, mut beyond) = (BINS, 0.0);
        while begins > 0 && beyond < enough {
            begins -= 1;
            beyond += counted(begins);
        }
        if place < begins as f64 {
            if place < 0.0 {
                return 1.0;
            }
            let bin = place as usize;
            let above: f64 = (bin + 1..BINS).map(counted).sum();
            return ((above + counted(bin) * (1.0 - place.fract()) + 1.0) / (all + 1.0)).min(1.0);
        }
        let excess: f64 = (begins..BINS).map(|bin| counted(bin) * ((bin - begins) as f64 + 0.5)).sum();
        let mean = (excess + PRIOR_COUNT * PRIOR * OCTAVE / LN_2) / (beyond + PRIOR_COUNT);
        ((beyond + 1.0) / (all + 1.0) * (-(place - begins as f64) / mean).exp()).min(1.0)
    }

    pub fn add(&mut self, effect: f64) {
        let bin = place(effect).clamp(0.0, BINS as f64 - 1.0) as usize;
        self.count += 1.0;
        if self.count + TAIL_COUNT - 1.0 < MEMORY {
            self.weight = self.count + TAIL_COUNT - 1.0;
        } else {
            self.weight *= 1.0 + 1.0 / MEMORY;
        }
        self.bins[bin] += self.weight as f32;
        self.sum += self.weight;
        if self.weight > WEIGHT_MAX {
            self.bins.iter_mut().for_each(|bin| *bin = (f64::from(*bin) / self.weight) as f32);
            self.sum /= self.weight;
            self.weight = 1.0;
        }
    }

    pub fn tell(&self, to: &mut Numbers) {
        to.tell_all([self.sum, self.weight, self.count]);
        to.tell_all(self.bins.iter().map(|&bin| f64::from(bin)));
    }

    pub fn take(&mut self, from: &mut Numbers) -> Option<()> {
        (self.sum, self.weight, self.count) = (from.take()?, from.take()?, from.take()?);
        for bin in &mut self.bins {
            *bin = from.take()? as f32;
        }
        Some(())
    }
}
