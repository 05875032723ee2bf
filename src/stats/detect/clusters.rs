//! The states between which a series changes: four centres, moved a value at a time (MacQueen's sequential k-means, 1967).
//!
//! A value far from all takes the place of the centre with the fewest values; a centre counts as a state once it has twenty.

use super::Numbers;

const CENTRES: usize = 4;
/// Values before a centre is a state.
const STATE: f64 = 20.0;
/// Spreads from every centre beyond which a value is the first of another.
const FAR: f64 = 3.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Centre {
    at: f64,
    count: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Clusters([Centre; CENTRES]);

impl Clusters {
    /// Takes a value; the nearest state as it was before, or the value itself where there is none.
    pub fn add(&mut self, value: f64, usual: f64, window: f64) -> f64 {
        let distance = |centre: &Centre| (centre.at - value).abs();
        let nearest = |least: f64| {
            let known = self.0.iter().enumerate().filter(|(_, centre)| centre.count >= least);
            known.min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b))).map(|(at, _)| at)
        };
        let state = nearest(STATE).map_or(value, |at| self.0[at].at);
        let near = nearest(1.0).filter(|&at| distance(&self.0[at]) <= FAR * usual);
        match near {
            Some(at) => {
                let centre = &mut self.0[at];
                centre.count += 1.0;
                centre.at += (value - centre.at) / centre.count.min(window);
            }
            None => {
                let fewest = self.0.iter_mut().min_by(|a, b| a.count.total_cmp(&b.count));
                fewest.into_iter().for_each(|centre| *centre = Centre { at: value, count: 1.0 });
            }
        }
        state
    }

    pub fn tell(&self, to: &mut Numbers) {
        to.tell_all(self.0.iter().flat_map(|centre| [centre.at, centre.count]));
    }

    pub fn take(&mut self, from: &mut Numbers) -> Option<()> {
        for centre in &mut self.0 {
            *centre = Centre { at: from.take()?, count: from.take()? };
        }
        Some(())
    }
}
