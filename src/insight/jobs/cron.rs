//! Cron patterns in a time zone, with a rule for the hour that is missing in spring and the one that comes twice.
//!
//! The pattern (crate `cronexpr`) is matched against the clock on the wall there, as if that were UTC; what the wall's
//! clock means is decided here, between one change of the zone's offset and the next:
//!
//! - a time that does not exist, because the clock leaps over it, is due at the moment of the leap, and once, however
//!   many times were leapt over;
//! - a time that comes twice is due the first time alone;
//! - a pattern of every hour (`*` as its hour) follows the hours that pass: nothing is made up for, nothing left out.

use std::fmt;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp as Instant};

use crate::model::Timestamp;

/// Steps of a search: more than the changes of an offset in the four years that a pattern is looked for, and the minutes
/// of an hour that comes twice.
const STEPS_MAX: usize = 4_000;
/// A time before the search, to include the moment itself: patterns are of whole minutes.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A cron pattern of five fields, and where its clock hangs.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    pattern: Crontab,
    zone: TimeZone,
    every_hour: bool,
}

/// What is wrong with a pattern or its zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CronFault {
    /// The pattern does not read, and why.
    Pattern(String),
    /// There is no such zone.
    Zone(String),
    /// It reads, and never comes: the 30th of February.
    Never,
}

impl Cron {
    /// Reads `pattern` (minute, hour, day of month, month, day of week) for the zone named `zone`.
    ///
    /// # Errors
    /// What is wrong; of several the first.
    pub fn new(pattern: &str, zone: &str) -> Result<Cron, CronFault> {
        let fields: Vec<&str> = pattern.split_ascii_whitespace().collect();
        if fields.len() != 5 {
            return Err(CronFault::Pattern(format!("it has {} fields", fields.len())));
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let text = fields.join(" ");
        let pattern =
            cronexpr::parse_crontab_with(&text, options).map_err(|error| CronFault::Pattern(short(&error)))?;
        let found = TimeZone::get(zone).map_err(|_| CronFault::Zone(zone.to_owned()))?;
        let every_hour = ["*", "*/1", "0-23"].contains(&fields[1]);
        let cron = Cron { text: format!("{text} {zone}"), pattern, zone: found, every_hour };
        cron.next_after(Timestamp::EARLIEST).ok_or(CronFault::Never)?;
        Ok(cron)
    }

    /// The first time after `at`; `None` where there is none in the next four years.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let mut from = Instant::from_nanosecond(i128::from(at.nanos())).ok()?;
        let mut back = SignedDuration::ZERO;
        for _ in 0..STEPS_MAX {
            let offset = self.zone.to_offset(from);
            let end = self.zone.following(from).next().map(|change| change.timestamp());
            let wall = self.next_on_wall(shifted(from, offset, 1)?.checked_sub(back).ok()?)?;
            let next = shifted(wall, offset, -1)?;
            match end {
                Some(end) if next >= end => {
                    let after = shifted(end, self.zone.to_offset(end), 1)?;
                    if !self.every_hour && wall < after {
                        return of_instant(end);
                    }
                    (from, back) = (end, SECOND);
                }
                _ if !self.every_hour && self.is_second(next, wall) => (from, back) = (next, SignedDuration::ZERO),
                _ => return of_instant(next),
            }
        }
        None
    }

    fn next_on_wall(&self, wall: Instant) -> Option<Instant> {
        Some(self.pattern.find_next(MakeTimestamp(wall)).ok()?.timestamp())
    }

    /// Whether the wall's clock showed this time before.
    fn is_second(&self, instant: Instant, wall: Instant) -> bool {
        let shown = TimeZone::UTC.to_datetime(wall);
        self.zone.to_ambiguous_timestamp(shown).earlier().is_ok_and(|first| first < instant)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {}", self.text)
    }
}

/// The clock on the wall as if it were UTC (`sign` 1), and back (-1).
fn shifted(instant: Instant, offset: Offset, sign: i64) -> Option<Instant> {
    instant.checked_add(SignedDuration::from_secs(sign * i64::from(offset.seconds()))).ok()
}

fn of_instant(instant: Instant) -> Option<Timestamp> {
    i64::try_from(instant.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

/// The last line of an error: the ones before it draw where.
fn short(error: &cronexpr::Error) -> String {
    let told = error.to_string();
    let line = told.lines().last().unwrap_or_default();
    line.trim_start_matches([' ', '^']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn after(pattern: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::new(pattern, zone).unwrap();
        let times = std::iter::successors(Some(time(from)), |at| cron.next_after(*at));
        times.skip(1).take(count).map(|at| at.to_string()).collect()
    }

    type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

    fn check(table: &[Case]) {
        for (pattern, zone, from, expected) in table {
            assert_eq!(after(pattern, zone, from, expected.len()), *expected, "{pattern} {zone} after {from}");
        }
    }

    const BERLIN: &str = "Europe/Berlin";
    const NEW_YORK: &str = "America/New_York";
    /// Its clock goes forward and back by half an hour.
    const LORD_HOWE: &str = "Australia/Lord_Howe";

    #[test]
    fn a_time_the_clock_leaps_over_is_due_at_the_leap_and_once() {
        check(&[
            ("30 2 * * *", BERLIN, "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
            ("*/10 2 * * *", BERLIN, "2026-03-29T00:30:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
            ("0 2,3 * * *", BERLIN, "2026-03-29T00:30:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
            ("0 3 * * *", BERLIN, "2026-03-29T00:30:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"]),
            ("30 2 * * *", NEW_YORK, "2026-03-08T00:00:00Z", &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]),
            // 02:00 to 02:30 on the 4th of October is missing there.
            ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00:00Z", &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]),
            ("45 2 * * *", LORD_HOWE, "2026-10-03T12:00:00Z", &["2026-10-03T15:45:00Z", "2026-10-04T15:45:00Z"]),
        ]);
    }

    #[test]
    fn a_time_that_comes_twice_is_due_the_first_time() {
        check(&[
            ("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
            ("59 2 * * *", BERLIN, "2026-10-25T00:59:30Z", &["2026-10-26T01:59:00Z"]),
            ("0,30 2,3 * * *", BERLIN, "2026-10-25T00:15:00Z", &["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"]),
            ("30 1 * * *", NEW_YORK, "2026-11-01T00:00:00Z", &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
            // 01:30 to 02:00 on the 5th of April comes twice there.
            ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00:00Z", &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]),
            ("15 1 * * *", LORD_HOWE, "2026-04-04T12:00:00Z", &["2026-04-04T14:15:00Z", "2026-04-05T14:45:00Z"]),
        ]);
    }

    #[test]
    fn a_pattern_of_every_hour_follows_the_hours_that_pass() {
        check(&[
            ("30 * * * *", BERLIN, "2026-03-29T00:00:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]),
            (
                "*/30 * * * *",
                BERLIN,
                "2026-10-25T00:00:00Z",
                &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"],
            ),
            (
                "*/15 * * * *",
                LORD_HOWE,
                "2026-04-04T14:40:00Z",
                &["2026-04-04T14:45:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:15:00Z", "2026-04-04T15:30:00Z"],
            ),
        ]);
    }

    #[test]
    fn patterns_mean_what_cron_says() {
        check(&[
            ("0 0 * * MON", "UTC", "2026-01-01", &["2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z"]),
            ("0 0 1,15 * *", "UTC", "2026-01-01", &["2026-01-15T00:00:00Z", "2026-02-01T00:00:00Z"]),
            ("0 0 13 * 5", "UTC", "2026-01-10", &["2026-01-13T00:00:00Z", "2026-01-16T00:00:00Z"]),
            ("0 12 29 2 *", "UTC", "2026-01-01", &["2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"]),
            ("0 0 L * *", "Asia/Kolkata", "2026-02-01", &["2026-02-27T18:30:00Z", "2026-03-30T18:30:00Z"]),
        ]);
    }

    #[test]
    fn each_day_has_one_run_and_each_hour_as_many_as_it_has() {
        for zone in [BERLIN, NEW_YORK, LORD_HOWE, "America/Sao_Paulo", "Africa/Casablanca", "UTC"] {
            let count = |pattern: &str| {
                let cron = Cron::new(pattern, zone).unwrap();
                let end = time("2027-01-01T18:00:00Z");
                let times = std::iter::successors(Some(time("2026-01-01T18:00:00Z")), |at| cron.next_after(*at));
                times.skip(1).take_while(|at| *at <= end).count()
            };
            for minute in ["0 1", "30 1", "45 1", "0 2", "15 2", "30 2", "0 3"] {
                assert_eq!(count(&format!("{minute} * * *")), 365, "{minute} {zone}");
            }
            assert_eq!(count("7,37 * * * *"), 2 * 24 * 365, "{zone}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        let pattern = |told: &str| CronFault::Pattern(told.to_owned());
        let table = [
            ("* * * *", "UTC", pattern("it has 4 fields")),
            ("0 0 * * * *", "UTC", pattern("it has 6 fields")),
            ("@daily", "UTC", pattern("it has 1 fields")),
            ("60 * * * *", "UTC", pattern("value must be in range 0..=59; found 60")),
            ("0 2 * * *", "Europe/Atlantis", CronFault::Zone("Europe/Atlantis".to_owned())),
            ("0 0 30 2 *", "UTC", CronFault::Never),
        ];
        for (text, zone, expected) in table {
            assert_eq!(Cron::new(text, zone).err(), Some(expected), "{text} {zone}");
        }
    }
}
