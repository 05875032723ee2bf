//! Points in time and spans of it: nanoseconds since the Unix epoch, UTC.

use std::fmt;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z. Covers the years 1677 to 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

/// The text is no time that [`Timestamp`] can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no time: write RFC 3339 (2026-01-31T12:00:00Z), `2026-01-31 12:00:00` in UTC, or a number since 1970 in s, ms, us or ns"
)]
pub struct TimestampError {
    pub text: String,
}

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    pub const MAX: Timestamp = Timestamp(i64::MAX);
    /// 1971-01-01, the first that a sample may have: those before it are nearly always seconds or milliseconds taken for
    /// nanoseconds.
    pub const EARLIEST: Timestamp = Timestamp(31_536_000_000_000_000);

    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Saturates at the ends of the range.
    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis.saturating_mul(NANOS_PER_MILLI))
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Rounds towards the past.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(NANOS_PER_MILLI)
    }

    /// A number since the epoch in the unit its size suggests: below 1e11 seconds, below 1e14 milliseconds, below
    /// 1e17 microseconds, else nanoseconds. Right for every time from 1973 to 5138 in whichever unit.
    /// Parts of a second below a nanosecond are cut. `None` for what is not finite or does not fit.
    pub fn from_number(number: f64) -> Option<Self> {
        let scale = match number.abs() {
            n if n < 1e11 => 1e9,
            n if n < 1e14 => 1e6,
            n if n < 1e17 => 1e3,
            _ => 1.0,
        };
        let nanos = number * scale;
        (nanos.is_finite() && nanos.abs() < i64::MAX as f64).then_some(Timestamp(nanos as i64))
    }

    /// The same rule for whole numbers, without a float's loss.
    pub fn from_integer(number: i64) -> Option<Self> {
        let scale = match number.unsigned_abs() {
            n if n < 100_000_000_000 => 1_000_000_000,
            n if n < 100_000_000_000_000 => 1_000_000,
            n if n < 100_000_000_000_000_000 => 1_000,
            _ => 1,
        };
        number.checked_mul(scale).map(Timestamp)
    }

    /// RFC 3339, the same without an offset (read as UTC, with `T` or a blank), a date, or a number since the epoch
    /// ([`Timestamp::from_number`]).
    ///
    /// ```
    /// use plimsoll::model::Timestamp;
    /// let noon = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
    /// assert_eq!(noon, Timestamp::parse("2026-01-31 12:00:00").unwrap());
    /// assert_eq!(noon, Timestamp::parse("1769860800").unwrap());
    /// assert!(Timestamp::parse("noon").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let text = text.trim();
        let number = || match text.parse::<i64>() {
            Ok(whole) => Self::from_integer(whole),
            Err(_) => text.parse::<f64>().ok().and_then(Self::from_number),
        };
        let instant = || text.parse::<jiff::Timestamp>().ok();
        let civil = || {
            let at: jiff::civil::DateTime = text.parse().ok()?;
            at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
        };
        let nanos = |at: jiff::Timestamp| i64::try_from(at.as_nanosecond()).ok().map(Timestamp);
        number()
            .or_else(|| instant().or_else(civil).and_then(nanos))
            .ok_or_else(|| TimestampError { text: text.to_owned() })
    }

    /// The start of the step of `every` nanoseconds that this time lies in, counted from the epoch.
    pub const fn floor(self, every: i64) -> Timestamp {
        Timestamp(self.0.saturating_sub(self.0.rem_euclid(every)))
    }

    pub const fn plus(self, nanos: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(nanos))
    }

    /// Year and month in UTC, as in `2026-01`: the name of the folder its segments live in. What is older than 1970 is in
    /// its January.
    pub fn month(self) -> String {
        let at = self.max(Timestamp::from_nanos(0)).civil();
        format!("{:04}-{:02}", at.year(), at.month())
    }

    fn civil(self) -> jiff::civil::DateTime {
        let at = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        jiff::tz::TimeZone::UTC.to_datetime(at)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(at) => at.fmt(f),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

/// A span of time, `start` in it and `end` not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Span {
    /// All of time that can be stored.
    pub const ALL: Span = Span { start: Timestamp::MIN, end: Timestamp::MAX };

    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        Span { start, end }
    }

    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether samples from `first` to `last` (both in it) touch the span.
    pub fn touches(&self, first: Timestamp, last: Timestamp) -> bool {
        first < self.end && self.start <= last
    }

    pub fn intersect(&self, other: Span) -> Span {
        Span { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_unit_their_size_suggests() {
        let second = Timestamp::from_nanos(1_769_860_800_000_000_000);
        for text in ["1769860800", "1769860800000", "1769860800000000", "1769860800000000000", "1769860800.0"] {
            assert_eq!(Timestamp::parse(text), Ok(second), "{text}");
        }
    }

    #[test]
    fn floors_before_the_epoch_go_to_the_past() {
        assert_eq!(Timestamp::from_nanos(-1).floor(10), Timestamp::from_nanos(-10));
        assert_eq!(Timestamp::from_nanos(19).floor(10), Timestamp::from_nanos(10));
    }

    #[test]
    fn months_are_named_in_utc() {
        assert_eq!(Timestamp::parse("2026-01-31T23:59:59Z").unwrap().month(), "2026-01");
        assert_eq!(Timestamp::parse("1969-11-30T00:00:00Z").unwrap().month(), "1970-01");
    }
}
