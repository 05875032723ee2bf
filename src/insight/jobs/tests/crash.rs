//! The power goes at every operation of a day, and at random ones again and again.

use std::time::Duration;

use super::sim::{Sim, job};
use crate::catalog::LossOfRuns;
use crate::world::Chance;

const MINUTE: Duration = Duration::from_secs(60);
/// Ticks come as often as this.
const STEP: Duration = Duration::from_secs(30);

fn every_minute_and_by_cron() -> String {
    let minute = job("minute", "every = '1m'\ncatch_up = 'all'\nhistory = 20");
    let cron = job("cron", "cron = '7,8,21 * * * *'\ntimezone = 'Europe/Berlin'\ncatch_up = 'all'\nhistory = 20");
    minute + &cron
}

/// A day in parts of ten minutes: at each operation of each part the power goes, is back within a minute or three, and
/// what should have come of it by then has.
#[test]
fn no_run_is_lost_or_doubled_wherever_the_power_goes() {
    let (text, chance) = (every_minute_and_by_cron(), Chance::seeded(7));
    let mut day = Sim::new(&text, "2026-03-28T22:30:15Z");
    let (mut crashes, part) = (0, MINUTE * 10);
    for _ in 0..24 * 6 {
        let mut whole = day.again(&chance);
        whole.run(part, STEP).unwrap();
        for operation in 1..=whole.power().operations() {
            let mut sim = day.again(&chance);
            sim.tells = chance.below(2) == 0;
            let from = sim.at.now;
            sim.power().goes_at(Some(operation));
            sim.run(part, STEP).unwrap_err();
            let loss = LossOfRuns::ALL[chance.below(4) as usize];
            sim.restart(&text, MINUTE * chance.below(4) as u32, loss, &chance);
            sim.run(MINUTE * 2, STEP).unwrap();
            let to = sim.at.now.plus(-30_000_000_000);
            sim.account("cron", from, to);
            assert_eq!(sim.account("minute", from, to).1, 0, "at {operation}: catch_up is all");
            crashes += 1;
        }
        day.run(part, STEP).unwrap();
    }
    assert!(crashes > 8_000, "{crashes}");
}

#[test]
fn a_day_of_crashes_ends_with_every_run_accounted_for() {
    for seed in 1..=4 {
        let chance = Chance::seeded(seed);
        let of = |name: &str, rest: &str| job(name, &format!("{rest}\nhistory = 5000"));
        let text = [
            of("all", "every = '1m'\ncatch_up = 'all'"),
            of("last", "every = '1m'"),
            of("none", "every = '1m'\ncatch_up = 'none'"),
            of("slow", "every = '1m'\ncatch_up = 'none'\noverlap = 'skip'"),
            of("cron", "cron = '*/5 1-4 * * *'\ntimezone = 'Europe/Berlin'\ncatch_up = 'all'"),
        ]
        .concat();
        let mut sim = Sim::new(&text, "2026-10-24T22:00:10Z");
        sim.takes.insert("slow".to_owned(), MINUTE * 2);
        let (from, mut crashes) = (sim.at.now, 0);
        while sim.at.elapsed < Duration::from_secs(86_400) {
            sim.tells = chance.below(2) == 0;
            sim.power().goes_at(Some(sim.power().operations() + 60 + chance.below(300)));
            if sim.run(MINUTE * 60, STEP).is_err() {
                crashes += 1;
                let down = Duration::from_secs(chance.below(400));
                sim.restart(&text, down, LossOfRuns::ALL[chance.below(4) as usize], &chance);
            }
        }
        sim.power().goes_at(None);
        sim.run(MINUTE * 10, STEP).unwrap();
        let to = sim.at.now.plus(-240_000_000_000);
        let count = |name: &str| sim.account(name, from, to);
        assert_eq!((count("all").1, count("cron").1), (0, 0), "seed {seed}");
        let (none, last) = (count("none"), count("last"));
        assert!(none.1 > 0 && last.0 >= none.0, "seed {seed}: {none:?} {last:?}");
        let (done, skipped) = count("slow");
        assert!(done > 100 && skipped > done, "seed {seed}: {done} {skipped}");
        assert!(crashes > 20, "seed {seed}: {crashes}");
    }
}
