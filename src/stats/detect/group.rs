//! One score for what belongs together: how far the series of a service lie off at once.
//!
//! It is the mean of their effects, not the largest, which of twenty series always is large; half of it smoothed, since what
//! is wrong with a service lasts. Series that never changed say nothing.

use super::tail::Tail;

/// The score from which a row is anomalous.
pub const GROUP_THRESHOLD: f64 = 1.25;
/// Of what is new in the smoothed half.
const SMOOTHING: f64 = 0.05;
/// Series from which on a mean is as steady as it gets.
const MANY: f64 = 8.0;
/// The rarity at which the threshold is reached.
const RARE: f64 = 1.5;

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    smoothed: f64,
    tail: Tail,
}

impl Group {
    /// The score of one row: `effects` are those of the series that ever changed. 1.25 and more is anomalous, 0 says nothing.
    pub fn push(&mut self, effects: impl IntoIterator<Item = f64>) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for effect in effects {
            sum += effect;
            count += 1.0;
        }
        if count == 0.0 {
            return 0.0;
        }
        let mean = sum / count;
        self.smoothed += SMOOTHING * (mean - self.smoothed);
        let effect = (mean + self.smoothed) / 2.0;
        if effect <= 0.0 {
            return 0.0;
        }
        let rarity = self.tail.score(effect).unwrap_or(0.0);
        self.tail.add(effect);
        (effect / (MANY / count).powf(0.25).max(1.0)).min(rarity * GROUP_THRESHOLD / RARE)
    }
}
