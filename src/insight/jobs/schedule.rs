//! When a job is due. Pure: times in, times out.
//!
//! An interval counts from the epoch, so `every = "1m"` is at whole minutes and `every = "1d"` at midnight UTC, whenever
//! the program was started. A run is known by the time it is scheduled for.

use std::time::Duration;

use super::cron::{Cron, CronFault};
use crate::model::Timestamp;

/// So many times of a cron schedule are counted; of more it is told that there were at least as many.
const COUNT_MAX: u64 = 100_000;
const DAY: i64 = 86_400_000_000_000;

/// When a job is due.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Nanoseconds from one time to the next, over 0.
    Every(i64),
    Cron(Box<Cron>),
}

/// The times that fell due in a span.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// How many; at least so many where a cron schedule has more than [`Due::COUNTED`].
    pub count: u64,
    pub first: Option<Timestamp>,
    /// The last of them, as many as were asked for, in order.
    pub newest: Vec<Timestamp>,
}

impl Due {
    /// Times of a cron schedule that are counted.
    pub const COUNTED: u64 = COUNT_MAX;
}

impl Schedule {
    /// At every multiple of `every` since the epoch; `None` where that is 0 or more than 292 years.
    pub fn every(every: Duration) -> Option<Schedule> {
        i64::try_from(every.as_nanos()).ok().filter(|nanos| *nanos > 0).map(Schedule::Every)
    }

    /// By a cron pattern in a time zone of the IANA database.
    ///
    /// # Errors
    /// What of the two is wrong.
    pub fn cron(pattern: &str, zone: &str) -> Result<Schedule, CronFault> {
        Ok(Schedule::Cron(Box::new(Cron::new(pattern, zone)?)))
    }

    /// The first time after `at`; `None` where there is none in the next four years.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(every) => at.floor(*every).nanos().checked_add(*every).map(Timestamp::from_nanos),
            Schedule::Cron(cron) => cron.next_after(at),
        }
    }

    /// The times after `from` up to `to`, in order.
    pub fn due_between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        let next = move |at: &Timestamp| self.next_after(*at).filter(|next| *next <= to);
        std::iter::successors(next(&from), next)
    }

    /// How many times there are after `from` up to `to`, and the last `most` of them.
    pub fn due(&self, from: Timestamp, to: Timestamp, most: usize) -> Due {
        let Some(first) = self.next_after(from).filter(|first| *first <= to) else { return Due::default() };
        let count = self.count(first, to);
        let newest = match self {
            Schedule::Every(every) => {
                let last = to.floor(*every);
                let back = i64::try_from(most).unwrap_or(i64::MAX).saturating_mul(*every);
                self.due_between(last.plus(-back).max(first.plus(-1)), last).collect()
            }
            Schedule::Cron(_) if count < COUNT_MAX => last(self.due_between(from, to), most),
            Schedule::Cron(_) => self.looked_back(from, to, most),
        };
        Due { count, first: Some(first), newest }
    }

    fn count(&self, first: Timestamp, to: Timestamp) -> u64 {
        match self {
            Schedule::Every(every) => to.nanos().abs_diff(first.nanos()) / every.unsigned_abs() + 1,
            Schedule::Cron(_) => (0..COUNT_MAX).zip(self.due_between(first.plus(-1), to)).count() as u64,
        }
    }

    /// The last `most`, without a look at all of a long span: of the last day, or two, or four.
    fn looked_back(&self, from: Timestamp, to: Timestamp, most: usize) -> Vec<Timestamp> {
        let mut back = DAY;
        loop {
            let start = to.plus(-back).max(from);
            let found = last(self.due_between(start, to), most);
            if found.len() == most || start == from {
                return found;
            }
            back = back.saturating_mul(2);
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Schedule::Every(every) => {
                let every = humantime::format_duration(Duration::from_nanos(every.unsigned_abs()));
                write!(f, "every {every}")
            }
            Schedule::Cron(cron) => cron.fmt(f),
        }
    }
}

fn last(times: impl Iterator<Item = Timestamp>, most: usize) -> Vec<Timestamp> {
    let mut kept = std::collections::VecDeque::new();
    for time in times {
        kept.push_back(time);
        if kept.len() > most {
            kept.pop_front();
        }
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn intervals_count_from_the_epoch() {
        let table = [
            ("1m", "2026-01-31T12:00:30Z", "2026-01-31T12:01:00Z"),
            ("1m", "2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z"),
            ("7s", "1970-01-01T00:00:13Z", "1970-01-01T00:00:14Z"),
            ("1d", "2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z"),
            ("1h", "1969-12-31T23:30:00Z", "1970-01-01T00:00:00Z"),
        ];
        for (every, at, expected) in table {
            let schedule = Schedule::every(humantime::parse_duration(every).unwrap()).unwrap();
            assert_eq!(schedule.next_after(time(at)), Some(time(expected)), "{every} {at}");
        }
        assert!(Schedule::every(Duration::ZERO).is_none());
        assert_eq!(Schedule::Every(DAY).next_after(Timestamp::MAX), None);
    }

    #[test]
    fn what_fell_due_is_counted_and_its_end_told() {
        let table = [("2026-01-01T00:00:00Z", 0), ("2026-01-01T00:00:59Z", 0), ("2026-01-01T00:10:59Z", 10)];
        let mut cases: Vec<(Schedule, &str, u64)> = Vec::new();
        for (to, count) in table {
            cases.push((Schedule::every(Duration::from_secs(60)).unwrap(), to, count));
            cases.push((Schedule::cron("* * * * *", "UTC").unwrap(), to, count));
        }
        for (schedule, to, count) in cases {
            for most in [0, 1, 3, 50] {
                let (from, to) = (time("2026-01-01T00:00:00Z"), time(to));
                let due = schedule.due(from, to, most);
                let all: Vec<Timestamp> = schedule.due_between(from, to).collect();
                assert_eq!((due.count, due.first), (count, all.first().copied()), "{schedule} {to}");
                assert_eq!(due.newest, all[all.len().saturating_sub(most)..], "{schedule} {to} {most}");
            }
        }
    }

    #[test]
    fn a_long_downtime_is_looked_at_from_its_end() {
        let (from, to) = (time("1990-01-01"), time("2026-01-01T00:00:30Z"));
        for (schedule, count) in [
            (Schedule::every(Duration::from_secs(60)).unwrap(), 18_934_560),
            (Schedule::cron("* * * * *", "Europe/Berlin").unwrap(), COUNT_MAX),
        ] {
            let due = schedule.due(from, to, 2);
            assert_eq!((due.count, due.first), (count, Some(time("1990-01-01T00:01:00Z"))), "{schedule}");
            assert_eq!(due.newest, [time("2025-12-31T23:59:00Z"), time("2026-01-01T00:00:00Z")], "{schedule}");
        }
    }
}
