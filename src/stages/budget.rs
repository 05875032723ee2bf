//! Budgets of new series: how many each source may bring in 24 hours, how many the store may hold, and what came of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::flow::SourceStats;
use crate::model::{SeriesDef, Timestamp};
use crate::stats::Distinct;

const HOUR: i64 = 3_600_000_000_000;
const HOURS: i64 = 24;
/// Bytes of the name of a metric that was refused which are kept.
const METRIC_SHOWN: usize = 1000;

/// How many series may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSpec {
    /// New ones from one source within 24 hours: this hour of the clock and the 23 before it.
    pub series_per_source: u64,
    /// In the store, of all sources and all time.
    pub series_max: u64,
}

impl Default for BudgetSpec {
    fn default() -> Self {
        BudgetSpec { series_per_source: 2_000_000, series_max: 10_000_000 }
    }
}

/// The account of one source. It begins anew when the program does.
pub(super) struct Account {
    pub name: Arc<str>,
    samples: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// New series by hour of the clock, the hours of a day over and over.
    by_hour: [u64; HOURS as usize],
    /// The hour, since the epoch, that was booked last.
    hour: i64,
    series: u64,
    refused_samples: u64,
    refused_series: Distinct,
    last_refused: Option<Box<str>>,
}

impl Account {
    pub fn new(name: &str) -> Self {
        Account { name: name.into(), samples: AtomicU64::new(0), book: Mutex::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add_samples(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Books a new series, if fewer than `budget` came in the last 24 hours.
    pub fn take(&self, now: Timestamp, budget: u64) -> bool {
        let mut book = self.book();
        book.turn(now);
        let within = book.of_day() < budget;
        if within {
            let hour = book.place();
            book.by_hour[hour] += 1;
            book.series += 1;
        }
        within
    }

    /// Takes a booking back: somebody else brought the series first.
    pub fn give_back(&self) {
        let mut book = self.book();
        let hour = book.place();
        book.by_hour[hour] = book.by_hour[hour].saturating_sub(1);
        book.series = book.series.saturating_sub(1);
    }

    /// Counts a sample of a series that was refused; `hash` is the series'.
    pub fn refuse(&self, def: &SeriesDef, hash: u64) {
        let mut book = self.book();
        book.refused_samples += 1;
        book.refused_series.add(hash);
        let metric = def.metric.get(..def.metric.floor_char_boundary(METRIC_SHOWN)).unwrap_or(&def.metric);
        if book.last_refused.as_deref() != Some(metric) {
            book.last_refused = Some(metric.into());
        }
    }

    pub fn stats(&self, now: Timestamp, budget: u64) -> SourceStats {
        let mut book = self.book();
        book.turn(now);
        SourceStats {
            source: self.name.to_string(),
            samples: self.samples.load(Ordering::Relaxed),
            series: book.series,
            series_of_day: book.of_day(),
            budget,
            refused_series: book.refused_series.estimate(),
            refused_samples: book.refused_samples,
            last_refused: book.last_refused.as_deref().map(str::to_owned),
        }
    }
}

impl Book {
    /// Empties the hours that have gone by. A clock that was set back changes nothing.
    fn turn(&mut self, now: Timestamp) {
        let hour = now.nanos().div_euclid(HOUR);
        for gone in (self.hour + 1..=hour).rev().take(HOURS as usize) {
            self.by_hour[gone.rem_euclid(HOURS) as usize] = 0;
        }
        self.hour = self.hour.max(hour);
    }

    fn place(&self) -> usize {
        self.hour.rem_euclid(HOURS) as usize
    }

    fn of_day(&self) -> u64 {
        self.by_hour.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn a_budget_comes_back_as_its_hours_go_by() {
        let account = Account::new("a");
        let at = |hour: i64| Timestamp::from_nanos(hour * HOUR + 1);
        let take = |hour, times: usize| (0..times).filter(|_| account.take(at(hour), 10)).count();
        assert_eq!(take(100, 4), 4);
        assert_eq!(take(110, 20), 6);
        assert_eq!(take(123, 1), 0, "the 23rd hour after the first still counts it");
        assert_eq!(take(124, 20), 4, "the first four are a day old");
        assert_eq!(take(90, 1), 0, "a clock that was set back gives nothing");
        assert_eq!(take(1000, 20), 10);
        account.give_back();
        assert_eq!(take(1000, 2), 1);
        assert_eq!(account.stats(at(1000), 10).series, 24);
    }

    #[test]
    fn what_was_refused_is_told() {
        let account = Account::new("a");
        let def = |n: u64| SeriesDef::new(format!("m{n}"), Labels::default());
        (0..3_u64).chain(0..3).for_each(|n| account.refuse(&def(n), (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let stats = account.stats(Timestamp::from_nanos(0), 1);
        assert_eq!((stats.refused_samples, stats.refused_series), (6, 3));
        assert_eq!(stats.last_refused.as_deref(), Some("m2"));
    }
}
