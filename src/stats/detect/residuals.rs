//! How far a value lies from what its series leads one to expect, in spreads of what is usual.
//!
//! Up to five distances are taken: of the value from the level, of the last values from the level, of the value from the
//! last values, and of value and last values from what the time of day leads one to expect. Each is divided by its own
//! usual size: the larger of 1.25 times its mean and 0.7 times its root mean square, with a floor for series that stand
//! still. Each counts for at most ten, and their weighted mean, smoothed, is the effect.

use super::clusters::Clusters;
use super::{Method, Numbers};

/// Of what is new in exponentially weighted means of the value and of the effect.
const SMOOTHING: f64 = 0.2;
/// Days that are learned from, and the most values.
const DAYS: f64 = 7.0;
const VALUES_MIN: f64 = 64.0;
const VALUES_MAX: f64 = 2880.0;
/// Stretches of a day.
const SLOTS: usize = 96;
const DAY: f64 = 86_400.0;
const SLOT: f64 = DAY / SLOTS as f64;
/// Days of a time of day before it is asked.
const KNOWN_DAYS: f64 = 3.0;
/// Distances of one kind before they count.
const KNOWN: f64 = 20.0;
/// Most that one distance counts for.
const MOST: f64 = 10.0;
/// The mean distance of a normal distribution, and its deviation, as shares of what is called a spread.
const OF_MEAN: f64 = 1.25;
const OF_SQUARE: f64 = 0.7;
/// Least spread, as a share of the level's size, of the largest value's, and of all.
const LEAST_OF_LEVEL: f64 = 1e-3;
const LEAST_OF_LARGEST: f64 = 1e-6;
const LEAST: f64 = 1e-12;
/// Spreads beyond which a value moves the level no more.
const HUBER: f64 = 5.0;
/// How long it has to be quiet, in steps, and its bounds in seconds.
const QUIET_STEPS: f64 = 72.0;
const QUIET_STEPS_MIN: f64 = 12.0;
const QUIET: (f64, f64) = (3_600.0, 21_600.0);

/// The distances, by what they are from; the third is that of the value from those before it.
const LEVEL: usize = 0;
const SMOOTHED: usize = 1;
const DAYTIME: usize = 3;
const SMOOTHED_DAYTIME: usize = 4;
const CENTRE: usize = 5;
const KINDS: usize = 6;

/// What each counts for.
fn weights(method: Method) -> [f64; KINDS] {
    match method {
        Method::Auto | Method::ZScore => [1.0, 1.0, 2.0, 1.0, 1.0, 0.0],
        Method::Robust => [1.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        Method::Seasonal => [0.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        Method::Ewma => [0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        Method::KMeans => [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    }
}

/// Usual size of one kind of distance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spread {
    /// Means of the distance and of its square.
    mean: f64,
    square: f64,
    count: f64,
}

impl Spread {
    fn size(&self) -> f64 {
        (OF_MEAN * self.mean).max(OF_SQUARE * self.square.sqrt())
    }

    fn add(&mut self, distance: f64, most: f64) {
        self.count += 1.0;
        let share = 1.0 / self.count.min(most);
        self.mean += share * (distance.abs() - self.mean);
        self.square += share * (distance * distance - self.square);
    }
}

/// What the times of a day were worth.
#[derive(Clone, Debug, PartialEq)]
struct Profile {
    values: [f32; SLOTS],
    counts: [u16; SLOTS],
}

/// What one value comes to.
pub(super) struct Found {
    pub effect: f64,
    pub expected: f64,
    pub scale: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Residuals {
    weights: [f64; KINDS],
    level: f64,
    smoothed: f64,
    effect: f64,
    largest: f64,
    /// Seconds from value to value.
    step: f64,
    /// Nanoseconds.
    last: i64,
    count: u32,
    spreads: [Spread; KINDS],
    profile: Option<Box<Profile>>,
    clusters: Option<Box<Clusters>>,
}

impl Residuals {
    pub fn new(method: Method) -> Residuals {
        let weights = weights(method);
        let profile = Profile { values: [0.0; SLOTS], counts: [0; SLOTS] };
        Residuals {
            weights,
            level: 0.0,
            smoothed: 0.0,
            effect: 0.0,
            largest: 0.0,
            step: 1.0,
            last: 0,
            count: 0,
            spreads: [Spread::default(); KINDS],
            profile: (weights[DAYTIME] > 0.0).then(|| Box::new(profile)),
            clusters: (weights[CENTRE] > 0.0).then(Box::default),
        }
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn step(&self) -> f64 {
        self.step
    }

    pub fn effect(&self) -> f64 {
        self.effect
    }

    pub fn size(&self) -> usize {
        self.profile.as_ref().map_or(0, |_| size_of::<Profile>())
            + self.clusters.as_ref().map_or(0, |_| size_of::<Clusters>())
    }

    /// Nanoseconds without an anomaly after which the next one is another.
    pub fn quiet(&self) -> i64 {
        let seconds = (QUIET_STEPS * self.step).clamp(QUIET.0, QUIET.1).max(QUIET_STEPS_MIN * self.step);
        (seconds * 1e9) as i64
    }

    /// Takes the next value. `None` while no distance has a usual size.
    pub fn push(&mut self, time: i64, value: f64) -> Option<Found> {
        self.keep_time(time, value);
        let window = (DAYS * DAY / self.step).clamp(VALUES_MIN, VALUES_MAX);
        let of_slot = (SLOT / self.step).clamp(1.0, f64::from(u16::MAX) / DAYS);
        let slot = (time.rem_euclid(86_400_000_000_000) as f64 / 1e9 / SLOT) as usize % SLOTS;
        let (daytime, is_known) = match &self.profile {
            Some(profile) => (f64::from(profile.values[slot]), f64::from(profile.counts[slot]) >= KNOWN_DAYS * of_slot),
            None => (0.0, false),
        };
        let before = self.smoothed;
        self.smoothed += SMOOTHING * (value - self.smoothed);
        self.largest = self.largest.max(value.abs());
        let mut distances = [
            value - self.level,
            self.smoothed - self.level,
            value - before,
            value - daytime,
            self.smoothed - daytime,
            0.0,
        ];
        let usual = self.spreads[CENTRE].size().max(self.least());
        if let Some(clusters) = &mut self.clusters {
            distances[CENTRE] = value - clusters.add(value, usual, window);
        }
        let found = self.measured(value, &distances, is_known, window);
        self.learn_level(distances[LEVEL], window);
        self.learn_daytime(slot, distances[DAYTIME], DAYS * of_slot);
        found
    }

    fn keep_time(&mut self, time: i64, value: f64) {
        if self.count == 0 {
            (self.level, self.smoothed) = (value, value);
        } else {
            let passed = time.saturating_sub(self.last) as f64 / 1e9;
            if passed > 0.0 && self.count < 2 {
                self.step = passed;
            } else if passed > 0.0 {
                let share = (1.0 / f64::from(self.count)).max(0.05);
                self.step += share * (passed.clamp(self.step / 2.0, 2.0 * self.step) - self.step);
            }
        }
        self.last = time;
        self.count = self.count.saturating_add(1);
    }

    fn least(&self) -> f64 {
        LEAST_OF_LEVEL * self.level.abs() + LEAST_OF_LARGEST * self.largest + LEAST
    }

    fn measured(&mut self, value: f64, distances: &[f64; KINDS], is_known: bool, window: f64) -> Option<Found> {
        let least = self.least();
        let (mut sum, mut weight, mut closest) = (0.0, 0.0, f64::INFINITY);
        let (mut expected, mut scale) = (self.level, 0.0);
        for (kind, (&distance, spread)) in distances.iter().zip(&mut self.spreads).enumerate() {
            let of_kind = self.weights[kind];
            let of_day = matches!(kind, DAYTIME | SMOOTHED_DAYTIME);
            if of_day && !is_known || of_kind == 0.0 && kind != LEVEL {
                continue;
            }
            if spread.count >= KNOWN && of_kind > 0.0 {
                let usual = spread.size().max(least);
                sum += of_kind * (distance.abs() / usual).min(MOST);
                weight += of_kind;
                if !matches!(kind, SMOOTHED | SMOOTHED_DAYTIME) && spread.mean < closest {
                    (closest, expected, scale) = (spread.mean, value - distance, usual);
                }
            }
            spread.add(distance, window);
        }
        if weight == 0.0 {
            return None;
        }
        self.effect += SMOOTHING * (sum / weight - self.effect);
        Some(Found { effect: self.effect, expected, scale })
    }

    /// What is far off moves the level by no more than what is just off.
    fn learn_level(&mut self, distance: f64, window: f64) {
        let most = HUBER * self.spreads[LEVEL].size();
        let distance = if self.count > 10 && most > 0.0 { distance.clamp(-most, most) } else { distance };
        self.level += distance / f64::from(self.count).min(window);
    }

    fn learn_daytime(&mut self, slot: usize, distance: f64, most: f64) {
        let Some(profile) = &mut self.profile else { return };
        let count = &mut profile.counts[slot];
        *count = count.saturating_add(1);
        let (count, far) = (f64::from(*count), HUBER * self.spreads[DAYTIME].mean);
        let distance = if count > most && far > 0.0 { distance.clamp(-far, far) } else { distance };
        profile.values[slot] = (f64::from(profile.values[slot]) + distance / count.min(most)) as f32;
    }

    pub fn tell(&self, to: &mut Numbers) {
        to.tell_all([self.level, self.smoothed, self.effect, self.largest, self.step]);
        to.tell_all([f64::from_bits(self.last.cast_unsigned()), f64::from(self.count)]);
        to.tell_all(self.spreads.iter().flat_map(|spread| [spread.mean, spread.square, spread.count]));
        if let Some(profile) = &self.profile {
            to.tell_all(profile.values.iter().map(|&value| f64::from(value)));
            to.tell_all(profile.counts.iter().map(|&count| f64::from(count)));
        }
        if let Some(clusters) = &self.clusters {
            clusters.tell(to);
        }
    }

    pub fn take(&mut self, from: &mut Numbers) -> Option<()> {
        for number in [&mut self.level, &mut self.smoothed, &mut self.effect, &mut self.largest, &mut self.step] {
            *number = from.take()?;
        }
        self.last = from.take()?.to_bits().cast_signed();
        self.count = from.take()? as u32;
        for spread in &mut self.spreads {
            *spread = Spread { mean: from.take()?, square: from.take()?, count: from.take()? };
        }
        if let Some(profile) = &mut self.profile {
            for value in &mut profile.values {
                *value = from.take()? as f32;
            }
            for count in &mut profile.counts {
                *count = from.take()? as u16;
            }
        }
        self.clusters.as_mut().map_or(Some(()), |clusters| clusters.take(from))
    }
}
