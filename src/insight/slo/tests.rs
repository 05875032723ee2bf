//! Burn rates worked out by hand, the incidents of the workbook, and any moment of random histories against sums made anew.

use serde::Deserialize;

use super::rules::{DAY, HOUR, MINUTE};
use super::*;
use crate::model::{Span, Timestamp};

#[derive(Deserialize)]
pub(super) struct File {
    slo: Vec<SloSpec>,
}

pub(super) fn specs(text: &str) -> Vec<SloSpec> {
    toml::from_str::<File>(text).unwrap_or_else(|error| panic!("{error}\n{text}")).slo
}

/// Of keys beside the name.
pub(super) fn slo(keys: &str) -> Slo {
    let text = format!("[[slo]]\nname = \"a\"\nobjective = 99.9\n{keys}");
    Slo::from_specs(&specs(&text)).unwrap_or_else(|faults| panic!("{faults:?}")).remove(0)
}

/// 99.9 % over 30 days.
fn usual() -> Slo {
    slo("availability = { up = \"up\" }")
}

pub(super) fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// A row a minute from 0 to `end`, of 60 000 asked; the share that goes wrong is told by minute.
pub(super) fn minutes(end: i64, bad: impl Fn(i64) -> f64) -> Vec<Count> {
    let row = |minute: i64| Count { time: at(minute * MINUTE), good: 60_000.0 * (1.0 - bad(minute)), total: 60_000.0 };
    (0..end / MINUTE).map(row).collect()
}

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() <= 1e-9 * expected.abs().max(1.0))
}

// --- the arithmetic ------------------------------------------------------------------------------------------------------

#[test]
fn budgets_and_burn_rates_are_as_worked_out_by_hand() {
    // A tenth of a percent may fail. In 30 days of a row an hour, one hour of 1 % and the rest well: 1/720 of 1 % failed.
    let slo = usual();
    let rows = (0..720).map(|hour| Count {
        time: at(hour * HOUR),
        good: if hour == 719 { 990.0 } else { 1000.0 },
        total: 1000.0,
    });
    let status = History::new(&slo, rows.collect()).at(at(720 * HOUR));
    assert_eq!((status.good, status.total, status.spent, status.budget), (719_990.0, 720_000.0, 10.0, 720.0));
    assert!(near(status.sli, 719_990.0 / 720_000.0) && near(status.remaining, 710.0 / 720.0), "{status:?}");
    for (window, expected) in [("1h", 10.0), ("2h", 5.0), ("6h", 10.0 / 6.0), ("1d", 10.0 / 24.0), ("3d", 10.0 / 72.0)]
    {
        assert!(near(status.burn(window), expected), "{window}: {status:?}");
    }
    // Shorter windows than the rows have none within.
    assert_eq!((status.burn("5m"), status.data_share), (None, 1.0));
    // At ten times the rate, what is left of 30 days lasts a tenth of that.
    let expected = 720.0 + 720.0 * (710.0 / 720.0) / 10.0;
    assert_eq!(status.exhausted_at.unwrap().nanos() / MINUTE, (expected * 60.0) as i64);
}

#[test]
fn a_budget_that_is_just_spent_is_no_violation_and_one_more_is() {
    let slo = usual();
    for (bad, remaining, is_violated) in [(0.0, 1.0, false), (1.0, 0.0, false), (2.0, -1.0, true)] {
        let rows = vec![Count { time: at(0), good: 1000.0 - bad, total: 1000.0 }];
        let status = History::new(&slo, rows).at(at(MINUTE));
        assert!(near(status.remaining, remaining), "{status:?}");
        assert_eq!(status.is_violated(), is_violated, "{status:?}");
    }
}

#[test]
fn what_left_the_window_counts_no_more() {
    let slo = slo("availability = { up = \"up\" }\nwindow = \"1d\"");
    let history = History::new(&slo, minutes(3 * DAY, |minute| f64::from(u8::from(minute < 10))));
    let spent = [(10 * MINUTE, 600_000.0), (DAY, 600_000.0), (DAY + 4 * MINUTE, 360_000.0), (DAY + 10 * MINUTE, 0.0)];
    for (moment, expected) in spent {
        assert_eq!(history.at(at(moment)).spent, expected, "{moment}");
    }
}

#[test]
fn where_it_is_spent_it_is_told_since_when() {
    let slo = slo("availability = { up = \"up\" }\nwindow = \"1d\"");
    // Of a day 1.44 minutes may fail: the second minute at full length is too much, once a day is known.
    let history = History::new(&slo, minutes(3 * DAY, |minute| f64::from(u8::from((1500..1510).contains(&minute)))));
    for moment in [1502, 1600, 2800] {
        assert_eq!(history.at(at(moment * MINUTE)).exhausted_at, Some(at(1502 * MINUTE)), "{moment}");
    }
    let told = |moment: i64| history.at(at(moment * MINUTE)).exhausted_at;
    assert_eq!(told(1500), None);
    // The whole budget but a minute's third is left to burn at the rate of the last hour: 1000/60 for one bad minute.
    assert!(told(1501).is_some_and(|ending| ending > at(1501 * MINUTE) && ending < at(1540 * MINUTE)));
    assert_eq!(told(1509 + 1440), None);
}

// --- no data ---------------------------------------------------------------------------------------------------------------

#[test]
fn no_data_is_no_data() {
    let slo = usual();
    let status = History::new(&slo, Vec::new()).at(at(30 * DAY));
    assert_eq!((status.sli, status.remaining, status.data_share, status.alert), (None, None, 0.0, None));
    assert!(!status.is_violated() && status.burns.iter().all(|burn| burn.rate.is_none()));
    assert_eq!(History::new(&slo, Vec::new()).span(), None);
    // Of numbers that are none, too.
    let nan = Count { time: at(0), good: f64::NAN, total: 1.0 };
    assert_eq!(History::new(&slo, vec![nan]).span(), None);
}

#[test]
fn a_time_without_traffic_is_known_and_neither_good_nor_bad() {
    let slo = usual();
    let rows = (0..43_200).map(|minute| {
        let total = if minute < 40_000 { 10.0 } else { 0.0 };
        Count { time: at(minute * MINUTE), good: if minute < 400 { 0.0 } else { total }, total }
    });
    let history = History::new(&slo, rows.collect());
    let status = history.at(at(30 * DAY));
    assert_eq!((status.total, status.spent, status.data_share), (400_000.0, 4_000.0, 1.0));
    assert_eq!((status.burn("1h"), status.alert, status.exhausted_at), (None, None, Some(at(2 * MINUTE - MINUTE))));
    // Trouble in the last hour with traffic alerts no more once that hour is out of the short windows.
    assert_eq!(history.at(at(39_999 * MINUTE)).burn("6h"), Some(0.0));
}

#[test]
fn how_much_of_the_window_is_known_is_told_at_whatever_pace_samples_come() {
    let slo = usual();
    // Every so many minutes, over so many days of thirty.
    for (pace, days, expected) in [(1, 30, 1.0), (5, 30, 1.0), (1, 15, 0.5), (5, 3, 0.1)] {
        let rows =
            (0..days * DAY / MINUTE / pace).map(|row| Count { time: at(row * pace * MINUTE), good: 1.0, total: 1.0 });
        let status = History::new(&slo, rows.collect()).at(at(30 * DAY));
        assert!(near(Some(status.data_share), expected), "{pace} {days}: {}", status.data_share);
    }
}

#[test]
fn a_sample_holds_until_the_next_and_no_longer_than_it_is_asked_about() {
    // Every ten minutes from 0 to 20 and from 60 on, over half an hour.
    let slo = slo("availability = { up = \"up\" }\nwindow = \"30m\"");
    let rows = [0, 10, 20, 60, 70].map(|minute| Count { time: at(minute * MINUTE), good: 1.0, total: 1.0 });
    let history = History::new(&slo, rows.to_vec());
    for (moment, known) in [(5, 5.0), (30, 30.0), (35, 25.0), (45, 15.0), (64, 4.0), (80, 20.0), (85, 20.0)] {
        let status = history.at(at(moment * MINUTE));
        assert!(near(Some(status.data_share), known / 30.0), "{moment}: {}", status.data_share);
    }
}

#[test]
fn an_ending_is_told_where_it_is_within_a_window() {
    let slo = usual();
    // An hour at a burn rate takes that many 720ths of the budget; the rest lasts the window over the rate.
    for (burn, expected) in
        [(2.0, Some(15.0 * 718.0 / 720.0)), (0.999, Some(30.0 * 719.001 / 720.0 / 0.999)), (0.99, None)]
    {
        let history = History::new(&slo, minutes(60 * DAY, |minute| if minute < 86_340 { 0.0 } else { burn / 1e3 }));
        let ending = history.at(at(60 * DAY)).exhausted_at.map(|ending| ending.nanos() - 60 * DAY);
        let days = ending.map(|nanos| nanos as f64 / DAY as f64);
        let is_well =
            expected.map_or(days.is_none(), |expected: f64| days.is_some_and(|days| (days - expected).abs() < 1e-6));
        assert!(is_well, "{burn}: {days:?}");
    }
}

#[test]
fn the_first_minutes_of_a_history_are_no_large_share_of_a_budget() {
    let slo = usual();
    // 1 % from the first minute on burns ten times: a page once it has lasted 6/10 of six hours.
    let history = History::new(&slo, minutes(DAY, |_| 0.01));
    let found = episodes(history.over(Span::new(at(0), at(DAY)), MINUTE));
    let pages: Vec<i64> =
        found.iter().filter(|one| one.severity == Severity::Page).map(|one| one.since.nanos() / MINUTE).collect();
    assert_eq!(pages, [217]);
}

#[test]
fn times_at_the_ends_of_what_can_be_stored_are_times() {
    let slo = usual();
    let rows = [i64::MIN, -1, 0, i64::MAX].map(|time| Count { time: at(time), good: 1.0, total: 2.0 });
    let history = History::new(&slo, rows.to_vec());
    for (moment, total) in [(i64::MIN, 0.0), (0, 2.0), (1, 4.0), (i64::MAX, 0.0)] {
        assert_eq!(history.at(at(moment)).total, total, "{moment}");
    }
}

// --- incidents -------------------------------------------------------------------------------------------------------------

/// Page and ticket: minutes from the beginning of the trouble to the first moment at which it was the most urgent alert, and
/// from its end to when it was over.
fn incident(bad: f64, lasts: i64) -> [Option<(i64, Option<i64>)>; 2] {
    const START: i64 = 10 * DAY / MINUTE;
    let slo = usual();
    let during = START..START + lasts;
    let history = History::new(&slo, minutes(20 * DAY, |minute| if during.contains(&minute) { bad } else { 0.0 }));
    let span = Span::new(at((START - 60) * MINUTE), at(20 * DAY));
    let found = episodes(history.over(span, MINUTE));
    [Severity::Page, Severity::Ticket].map(|severity| {
        let first = found.iter().find(|one| one.severity == severity)?;
        let last = found.iter().rfind(|one| one.severity == severity)?;
        let since = first.since.nanos() / MINUTE - START;
        Some((since, last.until.map(|until| until.nanos() / MINUTE - START - lasts)))
    })
}

/// Detection takes as long as the long window's threshold is a share of the burn rate (the workbook's formula: (1 - SLO) /
/// error ratio x window x burn rate), in whole minutes and beyond it; it is over once the short window has forgotten.
#[test]
fn the_incidents_of_the_workbook_are_found_and_over_when_it_says() {
    const DAYS: i64 = DAY / MINUTE;
    type Told = Option<(i64, Option<i64>)>;
    let table: [(f64, i64, Told, Told); 8] = [
        // All fails for ten minutes: 60 x 14.4 / 1000 = 0.864 minutes. The page of six hours is over after its short window, 30
        // minutes; a ticket is left for 6 hours, since 10 x 1000 / 4320 is more than once in three days.
        (1.0, 10, Some((1, Some(30))), Some((40, Some(360)))),
        // The same of a minute is 2.8 times in six hours, no page; 16.7 times in an hour, a page for as long as five minutes.
        (1.0, 1, Some((1, Some(5))), None),
        // A tenth: 60 x 14.4 / 100 = 8.64 minutes.
        (0.1, 60, Some((9, Some(29))), Some((89, Some(357)))),
        // Ten times: beyond 360 x 6 / 10 = 216 minutes; three times a day's worth would be 432.
        (0.01, DAYS, Some((217, Some(12))), Some((1452, Some(324)))),
        // Five times: no page; 1440 x 3 / 5 = 864 minutes.
        (0.005, 2 * DAYS, None, Some((865, Some(288)))),
        // Twice: no page ever; 4320 / 2 = 2160 minutes, a day and a half.
        (0.002, 5 * DAYS, None, Some((2161, Some(180)))),
        // As much as may: nothing.
        (0.001, 9 * DAYS, None, None),
        (0.0005, 9 * DAYS, None, None),
    ];
    for (bad, lasts, page, ticket) in table {
        assert_eq!(incident(bad, lasts), [page, ticket], "{bad} for {lasts} minutes");
    }
}

// --- against sums made anew --------------------------------------------------------------------------------------------------

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Rows with gaps, bursts of errors, minutes without traffic, in no order.
fn random(chance: &mut Chance, count: u64) -> Vec<Count> {
    let (mut minute, mut rows) = (0, Vec::new());
    for _ in 0..count {
        minute += 1 + if chance.below(50) == 0 { chance.below(600) as i64 } else { 0 };
        let total = chance.below(200);
        let bad = if chance.below(20) == 0 { chance.below(total + 1) } else { 0 };
        rows.push(Count { time: at(minute * MINUTE), good: (total - bad) as f64, total: total as f64 });
    }
    for place in (1..rows.len()).rev() {
        rows.swap(place, chance.below(place as u64 + 1) as usize);
    }
    rows
}

fn anew(rows: &[Count], length: i64, moment: i64) -> (f64, f64) {
    let within = rows.iter().filter(|row| (moment - length..moment).contains(&row.time.nanos()));
    within.fold((0.0, 0.0), |(good, total), row| (good + row.good, total + row.total))
}

#[test]
fn any_moment_of_a_random_history_is_as_if_summed_anew() {
    for seed in 0..20 {
        println!("seed {seed}");
        let chance = &mut Chance(seed);
        let (slo, rows) = (slo("availability = { up = \"up\" }\nwindow = \"2d\""), random(chance, 5000));
        let history = History::new(&slo, rows.clone());
        let end = history.span().unwrap().end.nanos();
        for _ in 0..50 {
            let moment = chance.below(end as u64 + DAY as u64) as i64;
            let status = history.at(at(moment));
            let (good, total) = anew(&rows, slo.window, moment);
            assert_eq!((status.good, status.total), (good, total), "seed {seed} at {moment}");
            for burn in status.burns {
                let (good, total) = anew(&rows, burn.length, moment);
                let expected = (total > 0.0).then(|| (total - good) / total / slo.allowed());
                assert_eq!(burn.rate, expected, "seed {seed} at {moment}");
            }
        }
    }
}

#[test]
fn since_when_a_budget_is_spent_is_as_if_looked_for_anew() {
    for seed in 100..103 {
        println!("seed {seed}");
        let slo = slo("objective = 97\navailability = { up = \"up\" }\nwindow = \"6h\""
            .replace("objective = 97\n", "")
            .as_str());
        let slo = Slo { objective: 97.0, ..slo };
        let mut rows = random(&mut Chance(seed), 1500);
        let history = History::new(&slo, rows.clone());
        rows.sort_by_key(|row| row.time);
        let mut since = None;
        for row in &rows {
            let end = row.time.nanos() + MINUTE;
            let (good, total) = anew(&rows, slo.window, end);
            let is_spent = total > 0.0 && (total - good) / total > 0.03 * (1.0 + 1e-9);
            since = is_spent.then(|| since.unwrap_or(end));
            let status = history.at(at(end));
            assert_eq!(status.is_violated(), is_spent, "seed {seed} at {end}");
            if is_spent {
                assert_eq!(status.exhausted_at.map(Timestamp::nanos), since, "seed {seed} at {end}");
            }
        }
    }
}
