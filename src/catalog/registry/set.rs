//! A set of series: a bit each.

use crate::model::SeriesId;

/// Some of the series with numbers below a bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeriesSet {
    words: Vec<u64>,
    bound: usize,
}

impl SeriesSet {
    /// None of the series below `bound`.
    pub fn none(bound: usize) -> Self {
        SeriesSet { words: vec![0; bound.div_ceil(64)], bound }
    }

    /// All of them.
    pub fn all(bound: usize) -> Self {
        let mut set = SeriesSet::none(bound);
        set.invert();
        set
    }

    /// Adds a series; one at or above the bound is left out.
    pub fn insert(&mut self, series: u32) {
        if (series as usize) < self.bound {
            self.words[series as usize / 64] |= 1 << (series % 64);
        }
    }

    pub fn contains(&self, series: SeriesId) -> bool {
        series.index() < self.bound && self.words[series.index() / 64] >> (series.0 % 64) & 1 == 1
    }

    /// Keeps what `other` has, too.
    pub fn and(&mut self, other: &SeriesSet) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, with)| *word &= with);
    }

    /// Adds what `other` has.
    pub fn or(&mut self, other: &SeriesSet) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, with)| *word |= with);
    }

    /// What was in it is not, and the other way round.
    pub fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        if let Some(last) = self.words.last_mut().filter(|_| !self.bound.is_multiple_of(64)) {
            *last &= (1 << (self.bound % 64)) - 1;
        }
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(SeriesId(at as u32 * 64 + bit))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_meet_join_and_turn_over() {
        let of = |series: &[u32]| {
            let mut set = SeriesSet::none(70);
            series.iter().for_each(|&series| set.insert(series));
            set
        };
        let numbers = |set: &SeriesSet| set.iter().map(|id| id.0).collect::<Vec<_>>();
        let mut set = of(&[0, 63, 64, 69, 70, 1000]);
        assert_eq!(numbers(&set), [0, 63, 64, 69], "what is above the bound is left out");
        set.and(&of(&[63, 69, 5]));
        set.or(&of(&[5]));
        assert_eq!((numbers(&set), set.len()), (vec![5, 63, 69], 3));
        set.invert();
        assert_eq!(set.len(), 67);
        assert!(!set.contains(SeriesId(63)) && set.contains(SeriesId(64)) && !set.contains(SeriesId(70)));
        assert_eq!(SeriesSet::all(128).len(), 128);
        assert!(SeriesSet::none(0).is_empty());
    }
}
