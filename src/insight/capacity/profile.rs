//! When it is busy: by hour of the day, day of the week and hour of the week, in UTC.

use super::usage::{DAY, HOUR};
use crate::stats::{median, quantile};

pub const HOURS_A_DAY: usize = 24;
pub const DAYS_A_WEEK: usize = 7;
pub const HOURS_A_WEEK: usize = HOURS_A_DAY * DAYS_A_WEEK;
/// Before a profile by hour of the week each hour must have been seen twice.
const WEEKS_MIN: i64 = 2;
/// Least share of the variance that the hour explains where there is a season at all.
const SHARE_MIN: f64 = 0.2;
/// Share that the hour of the week must explain beyond that of the day.
const WEEKLY_MORE: f64 = 0.05;
const WEEKLY: &str = "weekly";
/// Hours at least this near the busiest, of the way up from the quietest, are busy; quiet ones as near the other end.
const NEAR: f64 = 0.8;
/// Share of the values' squares below which their variance is rounding.
const ROUNDING: f64 = 1e-12;
/// What an hour needs: what was enough nineteen times of twenty.
const ENOUGH: f64 = 0.95;

/// How a series goes through the day and the week.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Median of each hour of the day; NaN of one never seen.
    pub by_hour: Vec<f64>,
    /// Median of each day of the week, Monday first.
    pub by_weekday: Vec<f64>,
    /// What was enough in each hour of the week, from Monday 00:00, nineteen times of twenty. By hour of the day where
    /// days of the week do not differ or less than two weeks are known, and on the whole where the hour never was.
    pub needed: Vec<f64>,
    /// Hours of the day near the busiest; none where the hour says nothing.
    pub peak_hours: Vec<u8>,
    pub quiet_hours: Vec<u8>,
    /// The busiest hour's median over the mean of all values.
    pub peak_to_mean: f64,
    /// Share of the variance that the hour of the day explains, and that of the week: 0 to 1.
    pub daily_share: f64,
    pub weekly_share: f64,
}

/// Hour of the week, from Monday 00:00 UTC.
pub(super) fn hour_of_week(time: i64) -> usize {
    // The epoch was a Thursday.
    (time.div_euclid(HOUR) + 3 * HOURS_A_DAY as i64).rem_euclid(HOURS_A_WEEK as i64) as usize
}

impl Profile {
    /// Of times (nanoseconds, ascending) and values; `None` where there is none.
    pub(super) fn of(values: &[(i64, f64)]) -> Option<Self> {
        let span = values.last()?.0.saturating_sub(values.first()?.0);
        let weeks_known = span >= WEEKS_MIN * DAYS_A_WEEK as i64 * DAY - 2 * HOUR;
        let all: Vec<f64> = values.iter().map(|&(_, value)| value).collect();
        let by_hour = grouped(values, HOURS_A_DAY, |hour| hour % HOURS_A_DAY);
        let by_weekday = grouped(values, DAYS_A_WEEK, |hour| hour / HOURS_A_DAY);
        let by_week = grouped(values, if weeks_known { HOURS_A_WEEK } else { 0 }, |hour| hour);
        let enough = |group: &Vec<f64>| quantile(group, ENOUGH);
        let (daily_share, weekly_share) = (explained(&by_hour, &all), explained(&by_week, &all));
        let is_weekly = season(daily_share, weekly_share) == WEEKLY;
        let needed = |hour: usize| {
            let of_week = by_week.get(hour).filter(|_| is_weekly).and_then(enough);
            of_week.or_else(|| enough(&by_hour[hour % HOURS_A_DAY])).or_else(|| enough(&all)).unwrap_or(f64::NAN)
        };
        let hours = medians(&by_hour);
        let (quiet, busy) = ends(&hours);
        let near = |from, to| if daily_share >= SHARE_MIN { hours_near(&hours, from, to) } else { Vec::new() };
        Some(Profile {
            peak_hours: near(quiet, busy),
            quiet_hours: near(busy, quiet),
            peak_to_mean: busy / mean(&all),
            needed: (0..HOURS_A_WEEK).map(needed).collect(),
            by_weekday: medians(&by_weekday),
            daily_share,
            weekly_share,
            by_hour: hours,
        })
    }

    /// `weekly` where days of the week differ, `daily` where only hours do, or `none`.
    pub fn season(&self) -> &'static str {
        season(self.daily_share, self.weekly_share)
    }
}

fn season(daily_share: f64, weekly_share: f64) -> &'static str {
    if weekly_share >= SHARE_MIN && weekly_share > daily_share + WEEKLY_MORE {
        WEEKLY
    } else if daily_share >= SHARE_MIN {
        "daily"
    } else {
        "none"
    }
}

/// The values of each of `count` groups, as `key` has it by the hour of the week; none of none.
fn grouped(values: &[(i64, f64)], count: usize, key: fn(usize) -> usize) -> Vec<Vec<f64>> {
    let mut groups = vec![Vec::new(); count];
    for &(time, value) in values {
        if let Some(group) = groups.get_mut(key(hour_of_week(time))) {
            group.push(value);
        }
    }
    groups
}

fn medians(groups: &[Vec<f64>]) -> Vec<f64> {
    groups.iter().map(|group| median(group).unwrap_or(f64::NAN)).collect()
}

/// Hours whose value is nearly all the way from `from` to `to`.
fn hours_near(hours: &[f64], from: f64, to: f64) -> Vec<u8> {
    let is_near = |value: f64| (value - from) / (to - from) >= NEAR;
    (0_u8..).zip(hours).filter(|&(_, &value)| is_near(value)).map(|(hour, _)| hour).collect()
}

pub(super) fn mean(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    values.iter().map(|value| value / count).sum()
}

/// The least and the greatest, of what is there.
fn ends(values: &[f64]) -> (f64, f64) {
    let present = values.iter().filter(|value| value.is_finite());
    present.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
}

/// Share of the variance that the group of a value explains, less what groups of that size explain by chance (the adjusted
/// R squared of an analysis of variance); 0 where nothing varies.
fn explained(groups: &[Vec<f64>], all: &[f64]) -> f64 {
    let around = |values: &[f64]| {
        let mean = mean(values);
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let (total, within) = (around(all), groups.iter().map(|group| around(group)).sum::<f64>());
    let used = groups.iter().filter(|group| !group.is_empty()).count() as f64;
    let (count, left) = (all.len() as f64, all.len() as f64 - used);
    let share = 1.0 - within / total * (count - 1.0) / left;
    // Without groups nothing is within them, and nothing is explained.
    let varies = used > 0.0 && total > ROUNDING * all.iter().map(|value| value * value).sum::<f64>();
    if varies && left > 0.0 { share.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Chance;

    /// 2026-01-05, a Monday.
    const MONDAY: i64 = 1_767_571_200 * super::super::usage::SECOND;

    fn hourly(days: i64, of: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
        (0..days * 24).map(|hour| (MONDAY + hour * HOUR, of(hour))).collect()
    }

    #[test]
    fn hours_of_the_week_begin_on_monday() {
        for (time, expected) in [(MONDAY, 0), (MONDAY - 1, 167), (MONDAY + 25 * HOUR, 25), (0, 72), (-1, 71)] {
            assert_eq!(hour_of_week(time), expected, "{time}");
        }
    }

    #[test]
    fn busy_hours_and_days_are_found() {
        let day = |hour: i64| if (9..17).contains(&(hour % 24)) { 80.0 } else { 20.0 };
        let work = |hour: i64| if hour % 168 < 120 { day(hour) } else { 10.0 };
        let profile = Profile::of(&hourly(28, work)).unwrap();
        assert_eq!(profile.peak_hours, (9..17).collect::<Vec<u8>>());
        assert_eq!(profile.quiet_hours.len(), 16);
        assert_eq!((profile.needed[8], profile.needed[9], profile.needed[5 * 24 + 9]), (20.0, 80.0, 10.0));
        assert_eq!((profile.season(), profile.by_weekday[6]), ("weekly", 10.0));
        assert!(profile.weekly_share > 0.99 && profile.daily_share < 0.9, "{profile:?}");
        let short = Profile::of(&hourly(10, day)).unwrap();
        assert_eq!((short.season(), short.needed[5 * 24 + 9], short.weekly_share), ("daily", 80.0, 0.0));
    }

    #[test]
    fn noise_has_no_season_and_nothing_no_profile() {
        let chance = Chance::seeded(7);
        let noise = Profile::of(&hourly(28, |_| chance.below(1000) as f64)).unwrap();
        assert_eq!((noise.season(), noise.peak_hours.len()), ("none", 0), "{noise:?}");
        let flat = Profile::of(&hourly(3, |_| 5.0)).unwrap();
        assert_eq!((flat.season(), flat.needed[100]), ("none", 5.0));
        assert!((flat.peak_to_mean - 1.0).abs() < 1e-12);
        let moment = Profile::of(&[(MONDAY, 3.0)]).unwrap();
        assert_eq!((moment.needed[100], moment.by_hour[0], moment.by_hour[1].is_nan()), (3.0, 3.0, true));
        assert_eq!(Profile::of(&[]), None);
    }
}
