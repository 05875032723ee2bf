//! Sums of deltas: what came since a client's last export is added up, so that every counter here counts from a start.
//!
//! A delta holds for `(start, end]`, and each must begin where the one before ended, or later. One that comes again
//! changes nothing; one that reaches into time that is counted already is refused. State is in memory: after a restart,
//! or an hour without a delta, a series counts from zero again, as if its client had been restarted.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;

use foldhash::fast::FixedState;

use super::totals::Total;
use crate::model::{SeriesId, Timestamp};

const MINUTE: i64 = 60_000_000_000;
/// A sum without a delta for so long is let go.
const IDLE: i64 = 60 * MINUTE;

/// The sums of all series.
pub(super) struct Deltas {
    bytes_max: usize,
    sums: HashMap<SeriesId, Sum, FixedState>,
    /// Bytes of the totals beside the table.
    heap: usize,
    swept: Timestamp,
}

/// A series' sum so far.
#[derive(Debug, Clone)]
struct Sum {
    last: Interval,
    /// By our clock.
    seen: Timestamp,
    total: Total,
}

/// What a delta is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    /// `None` where the client does not say.
    pub start: Option<Timestamp>,
    pub end: Timestamp,
}

/// How to take a delta back.
pub(super) struct Undo {
    series: SeriesId,
    end: Timestamp,
    before: Option<Sum>,
}

impl Deltas {
    pub fn within(bytes: usize) -> Self {
        Deltas { bytes_max: bytes, sums: HashMap::default(), heap: 0, swept: Timestamp::default() }
    }

    /// Adds a delta; what it comes to, and how to take it back where it was not known before.
    ///
    /// # Errors
    /// A sentence: the time is counted already, or there is no room for a further series.
    pub fn add(
        &mut self,
        series: SeriesId,
        interval: Interval,
        delta: Total,
        now: Timestamp,
    ) -> Result<(&Total, Option<Undo>), String> {
        let (is_full, known) = (self.bytes() >= self.bytes_max, self.sums.len());
        match self.sums.entry(series) {
            Slot::Vacant(_) if is_full => Err(format!(
                "deltas of {known} series are added up, for which there is room: raise `memory`, or let the client send cumulative values"
            )),
            Slot::Vacant(slot) => {
                self.heap += delta.heap();
                let sum = slot.insert(Sum { last: interval, seen: now, total: delta });
                Ok((&sum.total, Some(Undo { series, end: interval.end, before: None })))
            }
            Slot::Occupied(slot) => {
                let sum = slot.into_mut();
                if !sum.last.takes(interval)? {
                    return Ok((&sum.total, None));
                }
                let before = sum.clone();
                sum.total.add(delta);
                (sum.last, sum.seen) = (interval, now);
                self.heap = self.heap + sum.total.heap() - before.total.heap();
                Ok((&sum.total, Some(Undo { series, end: interval.end, before: Some(before) })))
            }
        }
    }

    /// Takes deltas back whose sums were not stored: their client sends them again. Where another request added to one
    /// since, it stays.
    pub fn undo(&mut self, undone: Vec<Undo>) {
        for Undo { series, end, before } in undone.into_iter().rev() {
            let Slot::Occupied(mut slot) = self.sums.entry(series) else { continue };
            if slot.get().last.end != end {
                continue;
            }
            self.heap -= slot.get().total.heap();
            match before {
                Some(sum) => {
                    self.heap += sum.total.heap();
                    slot.insert(sum);
                }
                None => {
                    slot.remove();
                }
            }
        }
    }

    /// Lets go what is idle; looks once a minute.
    pub fn age(&mut self, now: Timestamp) {
        let since = |then: Timestamp| now.nanos().saturating_sub(then.nanos());
        if (0..MINUTE).contains(&since(self.swept)) {
            return;
        }
        self.swept = now;
        self.sums.retain(|_, sum| since(sum.seen) < IDLE);
        self.sums.shrink_to_fit();
        self.heap = self.sums.values().map(|sum| sum.total.heap()).sum();
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.sums.capacity() * (size_of::<(SeriesId, Sum)>() + 1) * 8 / 7 + self.heap
    }
}

impl Interval {
    /// Whether the delta of `next` is to be added: not if it is this one again.
    fn takes(self, next: Interval) -> Result<bool, String> {
        if next == self {
            return Ok(false);
        }
        let counted = self.end;
        if next.end <= counted {
            return Err(format!("a delta up to {}, where all up to {counted} is counted already", next.end));
        }
        match next.start {
            Some(start) if start < counted => Err(format!(
                "a delta from {start}, where all up to {counted} is counted already: each must begin where the last ended"
            )),
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: SeriesId = SeriesId(7);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn interval(start: i64, end: i64) -> Interval {
        Interval { start: (start > 0).then(|| at(start)), end: at(end) }
    }

    fn add(deltas: &mut Deltas, start: i64, end: i64, value: f64) -> Result<f64, String> {
        let added = deltas.add(SERIES, interval(start, end), Total::Number(value), at(end));
        added.map(|(total, _)| total.number().unwrap())
    }

    #[test]
    fn deltas_add_up_and_none_counts_twice() {
        let mut deltas = Deltas::within(1 << 20);
        assert_eq!(add(&mut deltas, 10, 20, 5.0), Ok(5.0));
        assert_eq!(add(&mut deltas, 20, 30, 2.0), Ok(7.0));
        assert_eq!(add(&mut deltas, 20, 30, 2.0), Ok(7.0), "the same again");
        assert!(add(&mut deltas, 10, 20, 5.0).unwrap_err().contains("counted already"), "an older one");
        assert!(add(&mut deltas, 20, 40, 9.0).unwrap_err().contains("must begin where the last ended"), "overlapping");
        assert_eq!(add(&mut deltas, 35, 40, 1.0), Ok(8.0), "after a gap");
        assert_eq!(add(&mut deltas, 0, 50, 1.0), Ok(9.0), "without a start");
    }

    #[test]
    fn what_was_not_stored_is_taken_back() {
        let mut deltas = Deltas::within(1 << 20);
        let mut undone = Vec::new();
        for (start, end) in [(10, 20), (20, 30)] {
            undone.extend(deltas.add(SERIES, interval(start, end), Total::Number(3.0), at(end)).unwrap().1);
        }
        deltas.undo(undone);
        assert_eq!(add(&mut deltas, 10, 20, 3.0), Ok(3.0), "as if none had come");
        let undone = deltas.add(SERIES, interval(20, 30), Total::Number(4.0), at(30)).unwrap().1;
        assert_eq!(add(&mut deltas, 30, 40, 1.0), Ok(8.0));
        deltas.undo(undone.into_iter().collect());
        assert_eq!(add(&mut deltas, 40, 50, 1.0), Ok(9.0), "others added to it since");
    }

    #[test]
    fn idle_sums_go_and_room_is_bounded() {
        let mut deltas = Deltas::within(100_000);
        let one = |deltas: &mut Deltas, series: u32, end: i64| {
            let added = deltas.add(SeriesId(series), interval(end - 1, end), Total::Number(1.0), at(end));
            added.map(|(total, _)| total.number().unwrap())
        };
        let taken = (0..10_000).take_while(|&series| one(&mut deltas, series, 100).is_ok()).count();
        assert!(taken > 100 && deltas.bytes() < 250_000, "{taken} {}", deltas.bytes());
        assert!(one(&mut deltas, 99_999, 100).unwrap_err().contains("raise `memory`"));
        assert_eq!(one(&mut deltas, 0, 200), Ok(2.0), "known ones go on");
        deltas.age(at(100 + 3600));
        assert_eq!(one(&mut deltas, 0, 300), Ok(3.0));
        assert_eq!(one(&mut deltas, 1, 3800), Ok(1.0), "let go, it begins anew");
    }
}
