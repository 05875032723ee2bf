//! The alarms of a snapshot, and how often two series had them together.

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampNanosecondType, UInt32Type};
use datafusion::error::Result;
use hashbrown::HashMap;

use crate::model::Table;
use crate::query::stream::of_store;
use crate::store::Snapshot;

/// Nanoseconds of quiet between alarms that no longer belong together.
pub(super) const QUIET: i64 = 300_000_000_000;

/// An episode of `anomalies`, times in nanoseconds.
pub(super) struct Alarm {
    pub series: u32,
    pub start: i64,
    pub end: i64,
    pub score: f64,
}

/// All of them, as they are stored.
pub(super) fn alarms(snapshot: &Snapshot) -> Result<Vec<Alarm>> {
    let rows = snapshot.rows(Table::Anomalies).map_err(of_store)?;
    let column = |name: &str| rows.column_by_name(name).expect("columns are of the table's schema");
    let time = |name: &str| column(name).as_primitive::<TimestampNanosecondType>().values();
    let (series, scores) = (
        column("series").as_primitive::<UInt32Type>().values(),
        column("score").as_primitive::<Float64Type>().values(),
    );
    let (starts, ends) = (time("time"), time("end"));
    let alarm = |at| Alarm { series: series[at], start: starts[at], end: ends[at], score: scores[at] };
    Ok((0..rows.num_rows()).map(alarm).collect())
}

/// Alarms by series, from which those of pairs are counted.
pub(in crate::query) struct AlarmPairs(HashMap<u32, Vec<(i64, i64)>>);

/// Alarms that begin in a window, of each of two series, and those of the first that come with one of the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::query) struct Together {
    pub a: u64,
    pub b: u64,
    pub both: u64,
}

impl AlarmPairs {
    pub fn of(snapshot: &Snapshot) -> Result<AlarmPairs> {
        Ok(AlarmPairs::new(alarms(snapshot)?))
    }

    fn new(alarms: Vec<Alarm>) -> AlarmPairs {
        let mut by_series: HashMap<u32, Vec<(i64, i64)>> = HashMap::new();
        for alarm in alarms {
            by_series.entry(alarm.series).or_default().push((alarm.start, alarm.end));
        }
        by_series.values_mut().for_each(|alarms| alarms.sort_unstable());
        AlarmPairs(by_series)
    }

    /// Of the window `from` to `to`, the end not in it.
    pub fn counts(&self, (a, b): (u32, u32), (from, to): (i64, i64)) -> Together {
        let within = |series: u32| -> &[(i64, i64)] {
            let alarms = self.0.get(&series).map_or(&[][..], Vec::as_slice);
            let place = |time: i64| alarms.partition_point(|alarm| alarm.0 < time);
            &alarms[place(from)..place(to).max(place(from))]
        };
        let (a, b) = (within(a), within(b));
        let is_near = |one: &&(i64, i64)| {
            b.iter().any(|other| one.0 <= other.1.saturating_add(QUIET) && other.0 <= one.1.saturating_add(QUIET))
        };
        Together { a: a.len() as u64, b: b.len() as u64, both: a.iter().filter(is_near).count() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_of_two_series_within_five_minutes_come_together() {
        let minute = 60_000_000_000;
        let alarm =
            |series, start: i64, end: i64| Alarm { series, start: start * minute, end: end * minute, score: 3.0 };
        let pairs = AlarmPairs::new(vec![
            alarm(1, 10, 12),
            alarm(1, 30, 31),
            alarm(1, 90, 91),
            alarm(2, 17, 18),
            alarm(2, 37, 39),
        ]);
        let table = [
            ((1, 2), (0, 60), (2, 2, 1)),
            ((2, 1), (0, 60), (2, 2, 1)),
            ((1, 2), (11, 200), (2, 2, 0)),
            ((1, 3), (0, 200), (3, 0, 0)),
            ((1, 1), (0, 200), (3, 3, 3)),
            ((1, 2), (60, 0), (0, 0, 0)),
        ];
        for (pair, (from, to), (a, b, both)) in table {
            assert_eq!(
                pairs.counts(pair, (from * minute, to * minute)),
                Together { a, b, both },
                "{pair:?} {from} {to}"
            );
        }
    }
}
