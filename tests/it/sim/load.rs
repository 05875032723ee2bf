//! What is written: samples from a seed, some late by hours, days and months, some for a time that has one already.

use plimsoll::model::Timestamp;
use plimsoll::model::{Batch, Labels, SeriesDef, SeriesId};
use plimsoll::store::Store;
use plimsoll::world::Chance;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// A series' number in the test, its time and its value.
pub type Point = (u32, i64, f64);

/// Gives samples around the clock's time. Series are numbered from 0 in order of first sight.
pub struct Load {
    pub chance: Chance,
    pub series: u32,
    last: Vec<(u32, i64)>,
}

/// Samples sent before that another may fall on.
const REMEMBERED: usize = 512;

impl Load {
    pub fn new(seed: u64) -> Self {
        Load { chance: Chance::seeded(seed), series: 0, last: Vec::new() }
    }

    /// Up to `most` samples, `now` being the time.
    pub fn points(&mut self, now: i64, most: u64) -> Vec<Point> {
        let count = 1 + self.chance.below(most);
        (0..count).map(|_| self.point(now)).collect()
    }

    fn point(&mut self, now: i64) -> Point {
        let again = (!self.last.is_empty() && self.chance.below(6) == 0)
            .then(|| self.last[self.chance.below(self.last.len() as u64) as usize]);
        let (series, time) = again.unwrap_or_else(|| (self.some_series(), self.time(now)));
        if self.last.len() < REMEMBERED {
            self.last.push((series, time));
        } else {
            let at = self.chance.below(REMEMBERED as u64) as usize;
            self.last[at] = (series, time);
        }
        (series, time, self.value(series))
    }

    fn some_series(&mut self) -> u32 {
        let grows = self.series < 3 || self.chance.below(20 + u64::from(self.series)) == 0;
        if grows {
            self.series += 1;
            return self.series - 1;
        }
        self.chance.below(u64::from(self.series)) as u32
    }

    fn time(&self, now: i64) -> i64 {
        let below = |bound: i64| self.chance.below(bound as u64) as i64;
        let late = match self.chance.below(20) {
            0 | 1 => below(6 * HOUR),
            2 => below(12 * DAY),
            3 => below(100 * DAY),
            _ => below(600 * SECOND),
        };
        // Most clocks tick in whole seconds; some do not.
        let tick = [SECOND, SECOND, SECOND, SECOND / 1000, SECOND / 1_000_000, 1];
        let tick = tick[self.chance.below(tick.len() as u64) as usize];
        (now - late).div_euclid(tick) * tick
    }

    fn value(&self, series: u32) -> f64 {
        let whole = self.chance.below(1000) as f64;
        match series % 4 {
            0 => whole,
            1 => whole / 4.0,
            2 => (self.chance.next_u64() >> 11) as f64 / (1_u64 << 53) as f64,
            _ if whole < 990.0 => 7.0,
            _ => -whole * 1e12,
        }
    }
}

pub fn def(series: u32) -> SeriesDef {
    SeriesDef::new(format!("m{}", series % 3), Labels::new([("n", series.to_string())]))
}

/// The number that the test has for a series of the store.
pub fn series_of(store: &Store, id: SeriesId) -> u32 {
    let def = store.registry().def(id);
    def.labels.get("n").expect("a label n").parse().expect("a number")
}

pub fn batch(store: &Store, points: &[Point]) -> Batch {
    let mut batch = Batch::default();
    for &(series, time, value) in points {
        batch.push(store.registry().intern(def(series)), Timestamp::from_nanos(time), value);
    }
    batch
}
