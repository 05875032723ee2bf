//! Replicas by the hour of the week: for schedulers, and as hints for KEDA's cron trigger.
//!
//! An autoscaler comes late to every morning; a schedule is there before. The two go together: replicas are the most that
//! either asks for.

use serde::Serialize;

use super::profile::{DAYS_A_WEEK, HOURS_A_DAY};

const DAYS: [&str; DAYS_A_WEEK] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const TIMEZONE: &str = "Etc/UTC";

/// A week of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    pub timezone: &'static str,
    /// What there is outside all hints.
    pub base_replicas: u32,
    /// Each hour of the week, from Monday 00:00.
    pub hours: Vec<ScheduledHour>,
    pub cron: Vec<CronHint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduledHour {
    pub day: &'static str,
    pub hour: usize,
    pub replicas: u32,
}

/// Metadata of a trigger of type `cron`: replicas from `start` to `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CronHint {
    pub timezone: &'static str,
    pub start: String,
    pub end: String,
    pub desired_replicas: String,
}

impl Schedule {
    /// Of replicas for each hour of the week, as [`super::Analysis::replicas_by_hour`]; missing hours need none.
    pub fn of(replicas: &[u32]) -> Self {
        let at = |hour: usize| replicas.get(hour).copied().unwrap_or(0);
        let base = (0..DAYS_A_WEEK * HOURS_A_DAY).map(at).min().unwrap_or(0);
        let hours = (0..DAYS_A_WEEK * HOURS_A_DAY).map(|hour| ScheduledHour {
            day: DAYS[hour / HOURS_A_DAY],
            hour: hour % HOURS_A_DAY,
            replicas: at(hour),
        });
        // The same hours of several days are one hint.
        let mut all: Vec<(Run, Vec<usize>)> = Vec::new();
        for day in 0..DAYS_A_WEEK {
            for run in runs(day, at).into_iter().filter(|run| run.replicas > base) {
                match all.iter_mut().find(|(known, _)| *known == run) {
                    Some((_, days)) => days.push(day),
                    None => all.push((run, vec![day])),
                }
            }
        }
        let cron = all.iter().map(|(run, days)| run.hint(days)).collect();
        Schedule { timezone: TIMEZONE, base_replicas: base, hours: hours.collect(), cron }
    }
}

/// Hours of a day with the same replicas; `end` is not one of them and may be 24.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    start: usize,
    end: usize,
    replicas: u32,
}

fn runs(day: usize, at: impl Fn(usize) -> u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for hour in 0..HOURS_A_DAY {
        let replicas = at(day * HOURS_A_DAY + hour);
        match runs.last_mut().filter(|run| run.replicas == replicas) {
            Some(run) => run.end = hour + 1,
            None => runs.push(Run { start: hour, end: hour + 1, replicas }),
        }
    }
    runs
}

impl Run {
    fn hint(self, days: &[usize]) -> CronHint {
        // Cron's Sunday is 0.
        let cron = |later: usize| days.iter().map(|day| (day + 1 + later) % DAYS_A_WEEK).collect::<Vec<usize>>();
        let at = |hour: usize| format!("0 {} * * {}", hour % HOURS_A_DAY, listed(cron(hour / HOURS_A_DAY)));
        CronHint {
            timezone: TIMEZONE,
            start: at(self.start),
            end: at(self.end),
            desired_replicas: self.replicas.to_string(),
        }
    }
}

/// `1-5`, `0,6` or `*`.
fn listed(mut days: Vec<usize>) -> String {
    days.sort_unstable();
    let (first, last) = (days.first().copied().unwrap_or(0), days.last().copied().unwrap_or(0));
    if days.len() == DAYS_A_WEEK {
        return "*".to_owned();
    }
    if days.len() > 2 && last - first + 1 == days.len() {
        return format!("{first}-{last}");
    }
    days.iter().map(ToString::to_string).collect::<Vec<String>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn week(of: impl Fn(usize, usize) -> u32) -> Schedule {
        Schedule::of(&(0..168).map(|hour| of(hour / 24, hour % 24)).collect::<Vec<u32>>())
    }

    fn hints(schedule: &Schedule) -> Vec<(&str, &str, &str)> {
        schedule.cron.iter().map(|hint| (&*hint.start, &*hint.end, &*hint.desired_replicas)).collect()
    }

    #[test]
    fn the_same_hours_of_several_days_are_one_hint() {
        let office = week(|day, hour| if day < 5 && (8..18).contains(&hour) { 6 } else { 2 });
        assert_eq!((office.base_replicas, hints(&office)), (2, vec![("0 8 * * 1-5", "0 18 * * 1-5", "6")]));
        assert_eq!((office.hours[24 + 9].day, office.hours[24 + 9].replicas), ("tuesday", 6));
        let daily = week(|_, hour| if hour == 3 { 4 } else { 1 });
        assert_eq!(hints(&daily), [("0 3 * * *", "0 4 * * *", "4")]);
    }

    #[test]
    fn a_run_to_midnight_ends_on_the_next_day() {
        let late = week(|day, hour| if day >= 5 && hour >= 20 { 3 } else { 1 });
        assert_eq!(hints(&late), [("0 20 * * 0,6", "0 0 * * 0,1", "3")]);
        let whole = week(|day, _| if day == 6 { 3 } else { 1 });
        assert_eq!(hints(&whole), [("0 0 * * 0", "0 0 * * 1", "3")]);
    }

    #[test]
    fn an_even_week_needs_no_hint() {
        assert_eq!((hints(&week(|_, _| 4)), week(|_, _| 4).base_replicas), (vec![], 4));
        assert_eq!(Schedule::of(&[]).cron, []);
    }
}
