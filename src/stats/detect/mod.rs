//! Detectors of anomalies: a value at a time, in one pass, in memory that does not grow.
//!
//! All but the plain z-score measure the same way. A value is held against what its series leads one to expect (its level, its
//! last values, the time of day); how far it lies off, in spreads, is smoothed into an *effect* ([`Residuals`]); and how rare
//! an effect of that size has been in this very series is its *score*: -log10 of the probability of one as large or larger
//! ([`Tail`]). So a score of 2.4 means the same for every series, whatever its noise looks like, and one threshold fits all.
//!
//! A score never claims more than what was seen: nothing in the first 160 values, and only so much as the length of the
//! history can bear out after that. It depends on what came before alone: cutting a series short changes no score.

mod clusters;
mod episode;
mod group;
mod residuals;
mod tail;

pub use episode::{Calm, Episode, Episodes, Heard};
pub use group::{GROUP_THRESHOLD, Group};

use serde::Deserialize;

use super::rolling::RollingZ;
use residuals::Residuals;
use tail::Tail;

/// The score from which a value is anomalous, but for the plain z-score. No more than `58 / 10^threshold` episodes a series
/// and day are to be expected where there is nothing to find, of values 15 s to 5 min apart: one in four days.
pub const THRESHOLD: f64 = 2.4;
/// The same of [`Method::ZScore`], in standard deviations.
pub const Z_THRESHOLD: f64 = 3.0;
/// Values that the plain z-score is made against.
pub const Z_WINDOW: usize = 120;
/// An effect has to be large, not only rare: a score is at most so many times it.
const OF_EFFECT: f64 = 1.2;
/// Seconds between values at which the stated rate of false episodes holds; more often, each value counts for less.
const RATED_STEP: f64 = 300.0;
const STEP_MIN: f64 = 15.0;
/// Values before the rarity of effects is learned.
const LEARNING: u32 = 60;
/// Spreads about what is expected within which nearly all values lie.
const BOUNDS: f64 = 3.0;

/// What a value is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Its level, its last values and the time of day together.
    #[default]
    Auto,
    /// Mean and standard deviation of a window before it.
    ZScore,
    /// Its level, which what is far off hardly moves, and the mean distance from it.
    Robust,
    /// The time of day; nothing before three days of it were seen.
    Seasonal,
    /// Its last values, exponentially weighted.
    Ewma,
    /// The states between which it changes: the nearest of four centres.
    KMeans,
}

impl Method {
    pub const ALL: [Method; 6] =
        [Method::Auto, Method::ZScore, Method::Robust, Method::Seasonal, Method::Ewma, Method::KMeans];

    pub const fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::ZScore => "zscore",
            Method::Robust => "robust",
            Method::Seasonal => "seasonal",
            Method::Ewma => "ewma",
            Method::KMeans => "kmeans",
        }
    }

    pub fn of_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The score from which a value is anomalous, where nobody says otherwise.
    pub const fn threshold(self) -> f64 {
        if matches!(self, Method::ZScore) { Z_THRESHOLD } else { THRESHOLD }
    }
}

/// What is said of one value, from what came before it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judged {
    /// How rare it is: -log10 of a probability, 0 and more; of the plain z-score, standard deviations and their sign.
    pub score: f64,
    pub expected: f64,
    /// One spread of the values about what is expected.
    pub scale: f64,
}

impl Judged {
    /// Bounds within which nearly all values lie: three spreads to either side.
    pub fn bounds(&self) -> (f64, f64) {
        (self.expected - BOUNDS * self.scale, self.expected + BOUNDS * self.scale)
    }
}

/// What is known of one series.
#[derive(Clone, Debug, PartialEq)]
pub enum Detector {
    Plain(Box<RollingZ>),
    Rarity(Box<Rarity>),
}

impl Detector {
    /// `window` is what [`Method::ZScore`] scores against.
    pub fn new(method: Method, window: usize) -> Detector {
        match method {
            Method::ZScore => Detector::Plain(Box::new(RollingZ::new(window))),
            _ => Detector::Rarity(Box::new(Rarity::new(method))),
        }
    }

    /// Takes the next value and judges it; times are nanoseconds and grow. `None` while too little is known, and of what is no
    /// number, which changes nothing.
    pub fn push(&mut self, time: i64, value: f64) -> Option<Judged> {
        self.push_over(time, value, f64::NEG_INFINITY)
    }

    /// The same; `None` also of what scores less than `threshold` either way, for less work.
    pub fn push_over(&mut self, time: i64, value: f64, threshold: f64) -> Option<Judged> {
        match self {
            Detector::Plain(window) => {
                let is_usual = threshold > 0.0 && window.is_surely_within(value, threshold);
                let score = if is_usual { None } else { window.score(value) };
                window.push(value);
                let judged = score.map(|score| Judged { score: score.z, expected: score.expected, scale: score.scale });
                judged.filter(|judged| judged.score.abs() >= threshold)
            }
            Detector::Rarity(rarity) => rarity.push_over(time, value, threshold),
        }
    }

    /// How long it has to be quiet for an episode to be over.
    pub fn calm(&self) -> Calm {
        match self {
            Detector::Plain(_) => Calm::Values(10),
            Detector::Rarity(rarity) => Calm::Time(rarity.residuals.quiet()),
        }
    }

    /// Smoothed distance from what was expected, in spreads, as of the last value; 0 of the plain z-score.
    pub fn effect(&self) -> f64 {
        match self {
            Detector::Plain(_) => 0.0,
            Detector::Rarity(rarity) => rarity.residuals.effect(),
        }
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        size_of_val(self)
            + match self {
                Detector::Plain(window) => size_of_val(&**window) + window.len() * 8,
                Detector::Rarity(rarity) => size_of_val(&**rarity) + rarity.residuals.size(),
            }
    }

    /// Appends what [`Detector::decode`] takes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Detector::Plain(window) => window.encode(out),
            Detector::Rarity(rarity) => {
                let mut numbers = Numbers::default();
                rarity.residuals.tell(&mut numbers);
                rarity.tail.tell(&mut numbers);
                numbers.encode(out);
            }
        }
    }

    /// Takes a state of the same method and window off the front of `bytes`. `None` where they hold none.
    pub fn decode(method: Method, bytes: &mut &[u8]) -> Option<Detector> {
        if method == Method::ZScore {
            return Some(Detector::Plain(Box::new(RollingZ::decode(bytes)?)));
        }
        let mut numbers = Numbers::decode(bytes)?;
        let mut rarity = Rarity::new(method);
        rarity.residuals.take(&mut numbers)?;
        rarity.tail.take(&mut numbers)?;
        Some(Detector::Rarity(Box::new(rarity)))
    }
}

/// A detector that learns how rare effects are.
#[derive(Clone, Debug, PartialEq)]
pub struct Rarity {
    residuals: Residuals,
    tail: Tail,
}

impl Rarity {
    fn new(method: Method) -> Rarity {
        Rarity { residuals: Residuals::new(method), tail: Tail::default() }
    }

    fn push_over(&mut self, time: i64, value: f64, threshold: f64) -> Option<Judged> {
        if !value.is_finite() {
            return None;
        }
        let found = self.residuals.push(time, value)?;
        if self.residuals.count() <= LEARNING {
            return None;
        }
        let most = OF_EFFECT * found.effect;
        let score = (most >= threshold).then(|| {
            let frequent = (RATED_STEP / self.residuals.step().max(STEP_MIN)).log10().max(0.0);
            self.tail.score(found.effect).map(|rare| (rare - frequent).min(most).max(0.0))
        });
        self.tail.add(found.effect);
        let score = score.flatten().filter(|&score| score >= threshold)?;
        Some(Judged { score, expected: found.expected, scale: found.scale })
    }
}

/// Numbers of a state, told one after another.
#[derive(Default)]
struct Numbers {
    exact: Vec<f64>,
    at: usize,
}

impl Numbers {
    fn tell_all(&mut self, numbers: impl IntoIterator<Item = f64>) {
        self.exact.extend(numbers);
    }

    fn take(&mut self) -> Option<f64> {
        let number = self.exact.get(self.at).copied();
        self.at += 1;
        number
    }

    /// Those that are zeros in a row are counted, since most of a young profile is.
    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(self.exact.len() * 8);
        let mut rest = &self.exact[..];
        while !rest.is_empty() {
            let zeros = rest.iter().take(255).take_while(|number| number.to_bits() == 0).count();
            let others = rest[zeros..].iter().take(255).take_while(|number| number.to_bits() != 0).count();
            bytes.extend([zeros as u8, others as u8]);
            rest[zeros..zeros + others].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            rest = &rest[zeros + others..];
        }
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Numbers> {
        let mut from = *bytes;
        let (length, rest) = from.split_first_chunk::<4>()?;
        from = rest;
        let mut told = from.split_off(..u32::from_le_bytes(*length) as usize)?;
        let mut exact = Vec::new();
        while let Some((&[zeros, others], rest)) = told.split_first_chunk::<2>() {
            told = rest;
            exact.resize(exact.len() + usize::from(zeros), 0.0);
            let numbers = told.split_off(..usize::from(others) * 8)?;
            exact.extend(numbers.as_chunks::<8>().0.iter().map(|eight| f64::from_le_bytes(*eight)));
        }
        *bytes = from;
        told.is_empty().then_some(Numbers { exact, at: 0 })
    }
}

#[cfg(test)]
mod tests;
