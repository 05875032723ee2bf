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

/// What a request adds, and how to take it back.
#[derive(Default)]
pub(super) struct Added {
    /// The last delta of each series, by its interval and fingerprint.
    last: HashMap<SeriesId, (Interval, u64), FixedState>,
    /// What sums were before; `None` where there was none. Of those that are not stored yet.
    before: HashMap<SeriesId, Option<Sum>, FixedState>,
}

impl Deltas {
    pub fn within(bytes: usize) -> Self {
        Deltas { bytes_max: bytes, sums: HashMap::default(), heap: 0, swept: Timestamp::default() }
    }

    /// Adds a delta; what it comes to.
    ///
    /// # Errors
    /// A sentence: the time is counted already, or there is no room for a further series or more buckets.
    pub fn add(
        &mut self,
        series: SeriesId,
        interval: Interval,
        delta: Total,
        now: Timestamp,
        added: &mut Added,
    ) -> Result<&Total, String> {
        let last = (interval, delta.fingerprint());
        added.check(series, last)?;
        let (room, known) = (self.bytes_max.saturating_sub(self.bytes()), self.sums.len());
        let is_full = room <= delta.heap();
        let sum = match self.sums.entry(series) {
            Slot::Vacant(_) if is_full => return Err(no_room(known)),
            Slot::Vacant(slot) => {
                self.heap += delta.heap();
                added.before.entry(series).or_insert(None);
                slot.insert(Sum { last: interval, seen: now, total: delta })
            }
            Slot::Occupied(slot) => {
                let sum = slot.into_mut();
                if sum.last.takes(interval)? {
                    let heap = sum.total.heap();
                    added.note(series, sum);
                    if !sum.total.add_within(delta, is_full) {
                        return Err(no_room(known));
                    }
                    (sum.last, sum.seen) = (interval, now);
                    self.heap = self.heap + sum.total.heap() - heap;
                }
                sum
            }
        };
        added.last.insert(series, last);
        Ok(&sum.total)
    }

    /// Takes back what was added and not stored: its client sends it again. Where another request added to a sum since, it
    /// stays.
    pub fn undo(&mut self, added: Added) {
        for (series, before) in added.before {
            let Slot::Occupied(mut slot) = self.sums.entry(series) else { continue };
            if added.last.get(&series).is_none_or(|(last, _)| slot.get().last.end != last.end) {
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

fn no_room(series: usize) -> String {
    format!(
        "deltas of {series} series are added up, for which there is room: raise `memory`, or let the client send cumulative values"
    )
}

impl Added {
    /// What was added up to here is stored, so it stays.
    pub fn keep(&mut self) {
        self.before.clear();
    }

    /// Keeps the sum as it was before this request, or as others made it since.
    fn note(&mut self, series: SeriesId, sum: &Sum) {
        let is_ours = self.last.get(&series).is_some_and(|(last, _)| last.end == sum.last.end);
        if !is_ours || !self.before.contains_key(&series) {
            self.before.insert(series, Some(sum.clone()));
        }
    }

    /// Of two points of a request that are one series and time, one would be lost.
    fn check(&self, series: SeriesId, (interval, fingerprint): (Interval, u64)) -> Result<(), String> {
        match self.last.get(&series) {
            Some(&(last, other)) if last == interval && other != fingerprint => Err(format!(
                "another delta up to {} of the same series is in the request: give the two an attribute that tells them apart",
                interval.end
            )),
            _ => Ok(()),
        }
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
        add_in(deltas, &mut Added::default(), start, end, value)
    }

    fn add_in(deltas: &mut Deltas, added: &mut Added, start: i64, end: i64, value: f64) -> Result<f64, String> {
        let total = deltas.add(SERIES, interval(start, end), Total::Number(value), at(end), added);
        total.map(|total| total.number().unwrap())
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
    fn two_deltas_of_one_series_and_time_in_a_request_are_told() {
        let (mut deltas, mut added) = (Deltas::within(1 << 20), Added::default());
        assert_eq!(add_in(&mut deltas, &mut added, 10, 20, 5.0), Ok(5.0));
        assert_eq!(add_in(&mut deltas, &mut added, 10, 20, 5.0), Ok(5.0), "the very same");
        added.keep();
        let told = add_in(&mut deltas, &mut added, 10, 20, 7.0).unwrap_err();
        assert!(
            told.contains("another delta up to 1970-01-01T00:00:20Z of the same series is in the request"),
            "{told}"
        );
        assert_eq!(add_in(&mut deltas, &mut Added::default(), 10, 20, 7.0), Ok(5.0), "of another request");
    }

    #[test]
    fn what_was_not_stored_is_taken_back() {
        let (mut deltas, mut added) = (Deltas::within(1 << 20), Added::default());
        for (start, end) in [(10, 20), (20, 30)] {
            add_in(&mut deltas, &mut added, start, end, 3.0).unwrap();
        }
        assert_eq!(added.before.len(), 1, "a sum a series");
        deltas.undo(added);
        assert_eq!(add(&mut deltas, 10, 20, 3.0), Ok(3.0), "as if none had come");
        let mut added = Added::default();
        add_in(&mut deltas, &mut added, 20, 30, 4.0).unwrap();
        assert_eq!(add(&mut deltas, 30, 40, 1.0), Ok(8.0));
        deltas.undo(added);
        assert_eq!(add(&mut deltas, 40, 50, 1.0), Ok(9.0), "others added to it since");
        let mut added = Added::default();
        add_in(&mut deltas, &mut added, 50, 52, 1.0).unwrap();
        add(&mut deltas, 52, 54, 1.0).unwrap();
        add_in(&mut deltas, &mut added, 54, 56, 1.0).unwrap();
        deltas.undo(added);
        assert_eq!(add(&mut deltas, 54, 56, 1.0), Ok(12.0), "others added to it between");
        let mut added = Added::default();
        add_in(&mut deltas, &mut added, 56, 60, 1.0).unwrap();
        added.keep();
        add_in(&mut deltas, &mut added, 60, 70, 1.0).unwrap();
        deltas.undo(added);
        assert_eq!(add(&mut deltas, 60, 70, 1.0), Ok(14.0), "what was stored stays");
    }

    #[test]
    fn idle_sums_go_and_room_is_bounded() {
        let mut deltas = Deltas::within(100_000);
        let one = |deltas: &mut Deltas, series: u32, end: i64| {
            let (delta, mut added) = (Total::Number(1.0), Added::default());
            let added = deltas.add(SeriesId(series), interval(end - 1, end), delta, at(end), &mut added);
            added.map(|total| total.number().unwrap())
        };
        let taken = (0..10_000).take_while(|&series| one(&mut deltas, series, 100).is_ok()).count();
        assert!(taken > 100 && deltas.bytes() < 250_000, "{taken} {}", deltas.bytes());
        assert!(one(&mut deltas, 99_999, 100).unwrap_err().contains("raise `memory`"));
        assert_eq!(one(&mut deltas, 0, 200), Ok(2.0), "known ones go on");
        deltas.age(at(100 + 3600));
        assert_eq!(one(&mut deltas, 0, 300), Ok(3.0));
        assert_eq!(one(&mut deltas, 1, 3800), Ok(1.0), "let go, it begins anew");
    }

    #[test]
    fn sums_grow_within_the_room_alone() {
        use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
        use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

        let mut deltas = Deltas::within(1 << 20);
        let one = |deltas: &mut Deltas, series: u32, end: i64, buckets: usize| {
            let positive = Some(Buckets { offset: 0, bucket_counts: vec![1; buckets] });
            let point = ExponentialHistogramDataPoint { positive, ..ExponentialHistogramDataPoint::default() };
            let (delta, mut added) = (Total::exponential(&point).unwrap(), Added::default());
            deltas.add(SeriesId(series), interval(end - 1, end), delta, at(end), &mut added).map(|_| ())
        };
        assert!((0..1000).all(|series| one(&mut deltas, series, 10, 2).is_ok()));
        let grown = (0..1000).filter(|&series| one(&mut deltas, series, 20, 320).is_ok()).count();
        assert!((10..200).contains(&grown) && deltas.bytes() <= 1 << 20, "{grown} {}", deltas.bytes());
        assert!(one(&mut deltas, 999, 30, 320).unwrap_err().contains("raise `memory`"));
        assert_eq!(one(&mut deltas, 999, 40, 2), Ok(()), "what takes no more goes on");
    }
}
