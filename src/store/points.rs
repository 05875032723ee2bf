//! The samples of one series in columns: times, and values as whole numbers at one scale or as floats.
//!
//! Head, segments and merges hand this form on, so that values are scaled once, when they come in.

use super::scale::{fits, rescale, scaled, upscale};
use crate::model::{Sample, Span, Timestamp};

/// Values of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// Each is `whole / 10^scale`, bit for bit.
    Scaled {
        scale: u8,
        whole: Vec<i64>,
    },
    Floats(Vec<f64>),
}

/// Samples of one series: as many times (nanoseconds since the epoch) as values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Points {
    pub times: Vec<i64>,
    pub values: Values,
}

impl Default for Points {
    fn default() -> Self {
        Points { times: Vec::new(), values: Values::Scaled { scale: 0, whole: Vec::new() } }
    }
}

impl Values {
    fn into_floats(self) -> Vec<f64> {
        match self {
            Values::Floats(floats) => floats,
            Values::Scaled { scale, whole } => {
                let mut floats = Vec::with_capacity(whole.len());
                rescale(&whole, scale, &mut floats);
                floats
            }
        }
    }

    fn append(&mut self, mut later: Values) {
        let scale = self.scale().max(later.scale());
        if let Some(scale) = scale.filter(|&scale| self.fits(scale) && later.fits(scale)) {
            self.upscale(scale);
            later.upscale(scale);
        } else {
            self.make_floats();
            later.make_floats();
        }
        match (self, later) {
            (Values::Scaled { whole, .. }, Values::Scaled { whole: mut later, .. }) => whole.append(&mut later),
            (Values::Floats(floats), Values::Floats(mut later)) => floats.append(&mut later),
            _ => unreachable!("both were made alike"),
        }
    }

    pub fn push_whole(&mut self, scale: u8, whole: i64) {
        self.append(Values::Scaled { scale, whole: vec![whole] });
    }

    pub fn push_float(&mut self, value: f64) {
        match self {
            Values::Floats(floats) => floats.push(value),
            Values::Scaled { .. } => self.append(Values::Floats(vec![value])),
        }
    }

    /// `None` for floats.
    pub fn scale(&self) -> Option<u8> {
        match self {
            Values::Scaled { scale, .. } => Some(*scale),
            Values::Floats(_) => None,
        }
    }

    /// Whether all of it is exact at `to`, which is no smaller than its scale.
    fn fits(&self, to: u8) -> bool {
        matches!(self, Values::Scaled { scale, whole } if fits(whole, *scale, to))
    }

    fn upscale(&mut self, to: u8) {
        if let Values::Scaled { scale, whole } = self {
            upscale(whole, *scale, to);
            *scale = to;
        }
    }

    fn make_floats(&mut self) {
        let values = std::mem::replace(self, Values::Floats(Vec::new()));
        *self = Values::Floats(values.into_floats());
    }

    fn pick(&mut self, places: &[(i64, u32)]) {
        match self {
            Values::Scaled { whole, .. } => *whole = places.iter().map(|&(_, at)| whole[at as usize]).collect(),
            Values::Floats(floats) => *floats = places.iter().map(|&(_, at)| floats[at as usize]).collect(),
        }
    }

    fn take(&mut self, to: usize) -> Values {
        match self {
            Values::Scaled { scale, whole } => Values::Scaled { scale: *scale, whole: whole.drain(..to).collect() },
            Values::Floats(floats) => Values::Floats(floats.drain(..to).collect()),
        }
    }

    fn keep(&mut self, from: usize, to: usize) {
        match self {
            Values::Scaled { whole, .. } => keep(whole, from, to),
            Values::Floats(floats) => keep(floats, from, to),
        }
    }
}

fn keep<T>(column: &mut Vec<T>, from: usize, to: usize) {
    column.truncate(to);
    column.drain(..from);
}

impl Points {
    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub fn first(&self) -> Option<Timestamp> {
        self.times.first().copied().map(Timestamp::from_nanos)
    }

    pub fn last(&self) -> Option<Timestamp> {
        self.times.last().copied().map(Timestamp::from_nanos)
    }

    /// Whether each time is later than the one before.
    pub fn ordered(&self) -> bool {
        self.times.windows(2).all(|pair| pair[0] < pair[1])
    }

    /// Sorts by time; of several samples at one time the last stays.
    pub fn sort(&mut self) {
        if self.ordered() {
            return;
        }
        // Stable: mostly a few long runs, which it merges.
        let mut places: Vec<(i64, u32)> = self.times.iter().copied().zip(0..).collect();
        places.sort_by_key(|&(time, _)| time);
        // From behind, so that of equal times the last comes first.
        places.reverse();
        places.dedup_by_key(|(time, _)| *time);
        places.reverse();
        self.times.clear();
        self.times.extend(places.iter().map(|&(time, _)| time));
        self.values.pick(&places);
    }

    /// Leaves what lies within `span`; the points are sorted.
    pub fn keep_within(&mut self, span: Span) {
        let from = self.times.partition_point(|&time| time < span.start.nanos());
        let to = self.times.partition_point(|&time| time < span.end.nanos()).max(from);
        if (from, to) != (0, self.len()) {
            keep(&mut self.times, from, to);
            self.values.keep(from, to);
        }
    }

    /// Takes those up to a time away; the points are sorted.
    pub fn take_until(&mut self, until: Timestamp) -> Points {
        let to = self.times.partition_point(|&time| time <= until.nanos());
        if to == self.len() {
            return std::mem::take(self);
        }
        let times = self.times.drain(..to).collect();
        Points { times, values: self.values.take(to) }
    }

    /// Adds points behind these, whatever their times.
    pub fn append(&mut self, mut later: Points) {
        if self.is_empty() {
            *self = later;
        } else if !later.is_empty() {
            self.times.append(&mut later.times);
            self.values.append(later.values);
        }
    }

    /// Whole numbers where all values are exact at some scale.
    pub fn scale(&mut self) {
        if let Values::Floats(floats) = &self.values {
            let mut whole = Vec::new();
            if let Some(scale) = scaled(floats, &mut whole) {
                self.values = Values::Scaled { scale, whole };
            }
        }
    }

    /// Times, and as many values.
    pub fn into_columns(self) -> (Vec<i64>, Vec<f64>) {
        (self.times, self.values.into_floats())
    }

    pub fn into_samples(self) -> Vec<Sample> {
        let sample = |(time, value)| Sample { time: Timestamp::from_nanos(time), value };
        self.times.into_iter().zip(self.values.into_floats()).map(sample).collect()
    }
}

/// The points of all parts by time; of several at one time those of the later part stay. Each part is sorted.
pub(super) fn merge(parts: Vec<Points>) -> Points {
    let mut all = Points::default();
    parts.into_iter().for_each(|part| all.append(part));
    all.sort();
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::store) fn points(samples: &[(i64, f64)]) -> Points {
        let times = samples.iter().map(|&(time, _)| time).collect();
        let mut points = Points { times, values: Values::Floats(samples.iter().map(|&(_, value)| value).collect()) };
        points.scale();
        points
    }

    fn told(points: Points) -> Vec<(i64, f64)> {
        points.into_samples().iter().map(|sample| (sample.time.nanos(), sample.value)).collect()
    }

    #[test]
    fn later_parts_win() {
        let parts = vec![points(&[(1, 1.0), (5, 1.0)]), points(&[(2, 2.5), (5, 2.0)]), points(&[(1, 3.0)])];
        let merged = merge(parts);
        assert!(matches!(merged.values, Values::Scaled { scale: 1, .. }));
        assert_eq!(told(merged), [(1, 3.0), (2, 2.5), (5, 2.0)]);
    }

    #[test]
    fn what_fits_no_scale_together_is_kept_as_floats() {
        type Part = &'static [(i64, f64)];
        let cases: [(Part, Part); 3] = [
            (&[(1, 1e15)], &[(2, 0.1)]),
            (&[(1, 0.1 + 0.2)], &[(2, 7.0)]),
            (&[(1, 9_007_199_254_740_991.0)], &[(2, 0.000_000_001)]),
        ];
        for (first, second) in cases {
            let merged = merge(vec![points(first), points(second)]);
            assert!(matches!(merged.values, Values::Floats(_)), "{first:?}");
            assert_eq!(told(merged), [first, second].concat());
        }
    }

    #[test]
    fn a_span_keeps_its_own() {
        let all = [(1, 1.0), (3, 2.0), (5, 3.0)];
        let within = |start, end| {
            let mut points = points(&all);
            points.keep_within(Span::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)));
            told(points)
        };
        assert_eq!(within(1, 5), all[..2]);
        assert_eq!(within(2, 4), all[1..2]);
        assert_eq!(within(6, 9), []);
        assert_eq!(within(0, 9), all);
    }
}
