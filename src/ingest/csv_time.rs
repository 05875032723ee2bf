//! Times as CSV files have them: the usual form by hand, the rest by [`Timestamp::parse`].

use crate::model::Timestamp;

pub(super) fn time_of(cell: &[u8]) -> Option<Timestamp> {
    civil_time(cell).or_else(|| Timestamp::parse(str::from_utf8(cell).ok()?).ok())
}

/// `YYYY-MM-DD[T ]HH:MM:SS[.f…][Z]` of the years 1678 to 2261, read as UTC; many times faster than
/// [`Timestamp::parse`], which takes the rest.
pub(super) fn civil_time(cell: &[u8]) -> Option<Timestamp> {
    let (head, tail) = cell.split_at_checked(19)?;
    let separators = head[4] == b'-' && head[7] == b'-' && head[13] == b':' && head[16] == b':';
    if !separators || !matches!(head[10], b'T' | b' ') {
        return None;
    }
    let (year, month, day) = (digits(&head[..4])?, digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..])?);
    let fits = (1678..=2261).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !fits {
        return None;
    }
    let nanos = match tail.strip_suffix(b"Z").unwrap_or(tail) {
        [] => 0,
        [b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
            digits(fraction)? * 10_i64.pow(9 - fraction.len() as u32)
        }
        _ => return None,
    };
    let seconds = ((days_from_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_nanos(seconds * 1_000_000_000 + nanos))
}

pub(super) fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, &byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

pub(super) fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`, for years after 0: years begin in March, so that the leap day is the last.
pub(super) fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
