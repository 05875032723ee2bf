//! What becomes of runs that are missed, late, too slow, tried again, or whose job changed; tables of a day's events.

use std::time::Duration;

use super::sim::{Sim, job, time};
use crate::catalog::{LossOfRuns, RunLog, RunState, SkipReason};
use crate::insight::jobs::{JobRow, Moment, job_rows};
use crate::model::Span;
use crate::world::Chance;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Runs of `name` as in `00:01 done`, or `00:01 missed 3` of three skipped.
fn runs(sim: &Sim, name: &str) -> Vec<String> {
    let told = |record: crate::catalog::RunRecord| {
        let clock = record.scheduled.to_string()[11..16].to_owned();
        match record.skipped {
            Some(skipped) => format!("{clock} {:?} {}", skipped.reason, skipped.count).to_lowercase(),
            None => format!("{clock} {}", record.state.name()),
        }
    };
    sim.log.range(name, Span::ALL).unwrap().into_iter().map(told).collect()
}

fn restarted(text: &str, up: u64, down: u64, again: u64) -> Sim {
    let mut sim = Sim::new(text, "2026-01-01T00:00:10Z");
    sim.run(SECOND * up as u32, SECOND * 5).unwrap();
    sim.restart(text, SECOND * down as u32, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(SECOND * again as u32, SECOND * 5).unwrap();
    sim
}

#[test]
fn missed_runs_are_made_up_for_as_the_job_says() {
    // Up to 00:01:20, down to 00:05:50 or, longer, to 02:00:20, then up for half a minute.
    let table: [(&str, &str, u64, &[&str]); 9] = [
        (
            "every = '1m'",
            "all",
            270,
            &["00:01 done", "00:02 done", "00:03 done", "00:04 done", "00:05 done", "00:06 done"],
        ),
        ("every = '1m'", "last", 270, &["00:01 done", "00:04 missed 3", "00:05 done", "00:06 done"]),
        ("every = '1m'", "none", 270, &["00:01 done", "00:04 missed 3", "00:05 done", "00:06 done"]),
        (
            "every = '1m'\ncatch_up_max = 2",
            "all",
            330,
            &["00:01 done", "00:03 missed 2", "00:04 done", "00:05 done", "00:06 done", "00:07 done"],
        ),
        ("every = '40m'", "all", 7140, &["00:40 done", "01:20 done", "02:00 done"]),
        ("every = '50m'", "last", 7140, &["00:40 missed 1", "01:30 done"]),
        ("every = '50m'", "none", 7140, &["01:30 missed 2"]),
        ("cron = '50 * * * *'", "last", 7140, &["00:50 missed 1", "01:50 done"]),
        ("cron = '50 0 * * *'", "none", 7140, &["00:50 missed 1"]),
    ];
    for (rest, catch_up, down, expected) in table {
        let text = job("a", &format!("{rest}\ncatch_up = '{catch_up}'"));
        assert_eq!(runs(&restarted(&text, 70, down, 30), "a"), expected, "{text} {down}");
    }
}

#[test]
fn a_run_that_waited_when_the_program_ended_is_missed_like_others() {
    for (catch_up, expected) in [
        ("all", ["00:01 done", "00:02 done", "00:03 done", "00:04 done"].as_slice()),
        ("last", &["00:01 done", "00:02 missed 1", "00:03 missed 1", "00:04 done"]),
        ("none", &["00:01 done", "00:02 missed 1", "00:03 missed 1", "00:04 done"]),
    ] {
        let text = job("a", &format!("every = '1m'\ncatch_up = '{catch_up}'"));
        let mut sim = Sim::new(&text, "2026-01-01T00:00:10Z");
        sim.takes.insert("a".to_owned(), SECOND * 70);
        sim.run(SECOND * 115, SECOND * 5).unwrap(); // 00:01 at work, 00:02 waits
        sim.takes.clear();
        sim.restart(&text, SECOND * 120, LossOfRuns::Nothing, &Chance::seeded(1));
        sim.run(SECOND * 30, SECOND * 5).unwrap();
        assert_eq!(runs(&sim, "a"), expected, "{catch_up}");
        let first = sim.log.get("a", time("2026-01-01T00:01:00Z")).unwrap().unwrap();
        assert_eq!((first.attempt, first.interruptions), (2, 1), "{catch_up}");
    }
}

#[test]
fn of_a_job_slower_than_its_interval_one_run_waits_or_none() {
    let table: [(&str, &[&str]); 2] = [
        (
            "queue",
            &["00:01 done", "00:02 overlap 1", "00:03 done", "00:04 overlap 1", "00:05 overlap 1", "00:06 started"],
        ),
        (
            "skip",
            &[
                "00:01 done",
                "00:02 overlap 1",
                "00:03 overlap 1",
                "00:04 started",
                "00:05 overlap 1",
                "00:06 overlap 1",
            ],
        ),
    ];
    for (overlap, expected) in table {
        let mut sim = Sim::new(&job("a", &format!("every = '1m'\noverlap = '{overlap}'")), "2026-01-01T00:00:10Z");
        sim.takes.insert("a".to_owned(), SECOND * 150);
        sim.run(MINUTE * 6, SECOND * 5).unwrap();
        assert_eq!(runs(&sim, "a"), expected, "{overlap}");
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_told_to_stop_and_its_late_result_is_dropped() {
    let mut sim = Sim::new(&job("a", "every = '2m'\ntimeout = '20s'"), "2026-01-01T00:01:10Z");
    sim.takes.insert("a".to_owned(), SECOND * 170);
    sim.run(SECOND * 230, SECOND * 5).unwrap();
    assert_eq!(sim.told, ["start a 00:02:00", "timed out a 00:02:00", "stuck a 00:02:00", "start a 00:04:00"]);
    assert_eq!(runs(&sim, "a"), ["00:02 timed_out", "00:04 started"]);
    let record = sim.log.get("a", time("2026-01-01T00:02:00Z")).unwrap().unwrap();
    assert_eq!(
        (record.error.as_deref(), record.took_ms, record.rows),
        (Some("it took longer than 20s"), Some(20_000), None)
    );
}

#[test]
fn a_failed_run_is_tried_again_as_often_as_it_may() {
    let table: [(u32, u32, &str, u32, Option<&str>); 4] = [
        (0, 1, "failed", 1, Some("no luck")),
        (2, 1, "done", 2, None),
        (2, 2, "done", 3, None),
        (2, 9, "failed", 3, Some("no luck")),
    ];
    for (retries, fails, state, attempts, error) in table {
        let mut sim = Sim::new(&job("a", &format!("every = '1h'\nretries = {retries}")), "2026-01-01T00:59:50Z");
        sim.fails.insert("a".to_owned(), fails);
        sim.run(MINUTE, SECOND).unwrap();
        let record = sim.log.newest("a", 1).unwrap().remove(0);
        let found = (record.state.name(), record.attempt, record.error.as_deref());
        assert_eq!(found, (state, attempts, error), "{retries} {fails}");
    }
}

#[test]
fn a_run_that_waits_to_be_tried_again_is_so_after_a_restart() {
    let text = job("a", "every = '1h'\nretries = 1");
    let mut sim = Sim::new(&text, "2026-01-01T00:59:58Z");
    sim.fails.insert("a".to_owned(), 1);
    sim.run(SECOND * 4, SECOND).unwrap();
    assert_eq!(runs(&sim, "a"), ["01:00 planned"]);
    sim.restart(&text, MINUTE, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(SECOND * 4, SECOND).unwrap();
    assert_eq!(runs(&sim, "a"), ["01:00 done"]);
}

#[test]
fn a_run_whose_effect_is_there_after_a_crash_is_done() {
    let text = job("a", "every = '1h'");
    for (tells, attempt) in [(true, 1), (false, 2)] {
        let mut sim = Sim::new(&text, "2026-01-01T00:59:58Z");
        sim.tells = tells;
        // Its start is two operations, its effect two: the power goes before its end is written.
        sim.power().goes_at(Some(sim.power().operations() + 5));
        sim.run(MINUTE, SECOND).unwrap_err();
        sim.restart(&text, SECOND, LossOfRuns::Unsynced, &Chance::seeded(1));
        sim.run(MINUTE, SECOND).unwrap();
        let record = sim.log.newest("a", 1).unwrap().remove(0);
        assert_eq!((record.state, record.rows, record.attempt), (RunState::Done, Some(1), attempt));
    }
}

#[test]
fn a_run_that_takes_the_program_down_with_it_is_given_up() {
    let text = job("a", "every = '1h'");
    let mut sim = Sim::new(&text, "2026-01-01T00:59:58Z");
    sim.takes.insert("a".to_owned(), MINUTE);
    for _ in 0..9 {
        sim.run(SECOND * 10, SECOND).unwrap();
        sim.restart(&text, SECOND, LossOfRuns::Nothing, &Chance::seeded(1));
    }
    let record = sim.log.newest("a", 1).unwrap().remove(0);
    assert_eq!((record.state, record.attempt, record.interruptions), (RunState::Failed, 6, 6));
    assert_eq!(record.error.as_deref(), Some("the program ended 6 times while it was at work"));
}

#[test]
fn a_clock_that_leaps_doubles_and_loses_nothing() {
    // Five minutes, a leap, five minutes.
    let table: [(i64, &str, u64, u64); 6] = [
        (-90, "last", 8, 0),
        (150, "last", 11, 1),
        (-86_000, "last", 5, 0),
        (3600, "last", 11, 59),
        (3600, "all", 70, 0),
        (-40, "none", 9, 0),
    ];
    for (leap, catch_up, done, skipped) in table {
        let mut sim = Sim::new(&job("a", &format!("every = '1m'\ncatch_up = '{catch_up}'")), "2026-01-01T12:00:10Z");
        let from = sim.at.now;
        sim.run(MINUTE * 5, SECOND * 5).unwrap();
        sim.leap(leap);
        sim.run(MINUTE * 5, SECOND * 5).unwrap();
        let to = sim.at.now.max(from.plus(300_000_000_000));
        assert_eq!(sim.account("a", from, to.plus(-5_000_000_000)), (done, skipped), "{leap} {catch_up}");
        assert!(!sim.told.iter().any(|told| told.starts_with("timed out")), "a leap is no time that passed");
    }
}

#[test]
fn a_clock_that_was_years_ahead_is_followed_back_and_nothing_is_run_twice() {
    let mut sim = Sim::new(&job("a", "every = '1m'"), "2026-01-01T12:00:10Z");
    sim.run(MINUTE * 3, SECOND * 5).unwrap();
    sim.leap(3 * 365 * 86_400);
    sim.run(MINUTE * 3, SECOND * 5).unwrap();
    sim.leap(-3 * 365 * 86_400 - 240);
    let before = sim.told.len();
    sim.run(MINUTE * 7, SECOND * 5).unwrap();
    // Back at 12:02:10: 12:03 was run, 12:04 to 12:08 were told as missed when the clock leapt, and are run now.
    let started: Vec<&str> = sim.told[before..].iter().map(|told| &told[8..13]).collect();
    assert_eq!(started, ["12:04", "12:05", "12:06", "12:07", "12:08", "12:09"]);
}

#[test]
fn a_clock_that_is_not_set_yet_starts_nothing() {
    let text = job("a", "every = '1m'\ncatch_up = 'all'");
    let mut sim = Sim::new(&text, "1970-01-01T00:00:10Z");
    sim.run(MINUTE * 3, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), [""; 0]);
    sim.leap(56 * 365 * 86_400);
    sim.run(MINUTE * 2, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), ["00:04 done", "00:05 done"], "it is new once the clock is set");
    // And at the next start the clock is not set either, for a while.
    sim.leap(-56 * 365 * 86_400);
    sim.restart(&text, MINUTE, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(MINUTE, SECOND * 5).unwrap();
    sim.leap(56 * 365 * 86_400);
    sim.run(MINUTE, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), ["00:04 done", "00:05 done", "00:06 done", "00:07 done", "00:08 done"]);
}

#[test]
fn a_new_schedule_begins_when_it_is_seen() {
    let cron = |zone: &str| job("a", &format!("cron = '0 2 * * *'\ntimezone = '{zone}'"));
    let mut sim = Sim::new(&cron("Europe/Berlin"), "2026-01-01T00:59:30Z");
    sim.run(MINUTE * 2, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), ["01:00 done"]);
    // 02:00 in New York, 07:00 in UTC, is past: it was not due when it was.
    sim.restart(&cron("America/New_York"), MINUTE * 400, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(MINUTE, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), ["01:00 done"]);
    sim.restart(&job("a", "every = '10m'"), MINUTE, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(MINUTE * 10, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), ["01:00 done", "07:50 done"]);
}

#[test]
fn a_job_that_is_turned_off_has_no_runs_and_makes_up_for_none() {
    let (on, off) = (job("a", "every = '10m'\ncatch_up = 'all'"), job("a", "every = '10m'\nenabled = false"));
    let mut sim = Sim::new(&on, "2026-01-01T00:05:00Z");
    sim.takes.insert("a".to_owned(), MINUTE);
    sim.run(MINUTE * 5 + SECOND * 10, SECOND * 5).unwrap(); // at work at 00:10
    sim.restart(&off, SECOND, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(MINUTE * 600, MINUTE).unwrap();
    assert_eq!(runs(&sim, "a"), ["00:10 disabled 1"]);
    sim.runner.stop(sim.at).unwrap();
    sim.restart(&on, SECOND, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(MINUTE * 12, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "a"), ["00:10 disabled 1", "10:20 done"]);
}

#[test]
fn a_renamed_job_is_a_new_one_and_the_old_ones_runs_stay_to_read() {
    let mut sim = Sim::new(&job("old", "every = '1m'"), "2026-01-01T00:00:10Z");
    sim.takes.insert("old".to_owned(), SECOND * 70);
    sim.run(SECOND * 115, SECOND * 5).unwrap();
    sim.restart(&job("new", "every = '1m'"), SECOND, LossOfRuns::Nothing, &Chance::seeded(1));
    sim.run(MINUTE, SECOND * 5).unwrap();
    assert_eq!(runs(&sim, "old"), ["00:01 failed", "00:02 removed 1"]);
    assert_eq!(runs(&sim, "new"), ["00:03 done"]);
    let rows = job_rows(&*sim.log, &sim.jobs, sim.at.now, 9).unwrap();
    let told = |row: &JobRow| format!("{} {} {:?}", row.job, row.state, row.next.map(|next| next.to_string()));
    let next = "Some(\"2026-01-01T00:04:00Z\")";
    assert_eq!(
        rows.iter().map(told).collect::<Vec<_>>(),
        [format!("new done {next}"), "old skipped None".to_owned(), "old failed None".to_owned()]
    );
    assert_eq!(rows[1].error.as_deref(), Some(SkipReason::Removed.told()));
}

#[test]
fn a_log_that_cannot_be_written_starts_nothing_and_loses_nothing() {
    let mut sim = Sim::new(&job("a", "every = '1m'"), "2026-01-01T00:00:59Z");
    let power = sim.power();
    power.goes_at(Some(power.operations() + 1));
    let later =
        |second: u64| Moment { now: sim.at.now.plus(second as i64 * 1_000_000_000), elapsed: SECOND * second as u32 };
    for second in [1, 2, 3] {
        assert!(sim.runner.tick(later(second)).is_err());
    }
    power.goes_at(None);
    let actions = sim.runner.tick(later(4)).unwrap();
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_eq!(runs(&sim, "a"), ["00:01 started"]);
}

#[test]
fn a_thousand_jobs_have_their_turns() {
    let text: String = (0..1000).map(|n| job(&format!("job-{n:03}"), "every = '10m'\njitter = '5m'")).collect();
    let mut sim = Sim::new(&text, "2026-01-01T00:00:10Z");
    let from = sim.at.now;
    sim.run(MINUTE * 65, SECOND * 5).unwrap();
    for job in &sim.jobs {
        assert_eq!(sim.account(&job.name, from, from.plus(3_600_000_000_000 - 1)), (6, 0), "{}", job.name);
    }
}

#[test]
fn the_history_is_cut_to_its_bound() {
    let mut sim = Sim::new(&job("a", "every = '1m'\nhistory = 50"), "2026-01-01T00:00:10Z");
    sim.run(MINUTE * 500, SECOND * 30).unwrap();
    let kept = sim.log.newest("a", 9999).unwrap();
    assert!((50..=150).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0].scheduled, time("2026-01-01T08:20:00Z"));
}
