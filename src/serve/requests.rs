//! How many requests came, how long their answers took and how many failed: by path and method since the start, and all
//! together over the last minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::ingest::OwnMetric;
use crate::model::Timestamp;

const SECOND: i64 = 1_000_000_000;
/// Seconds that the last minute has.
const RECENT: usize = 60;

/// Of a path and method.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    count: u64,
    failed: u64,
    seconds: f64,
}

/// Of a second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: i64,
    count: u64,
    failed: u64,
}

/// Counts of requests. Paths are those of the routes: what is not there is counted together.
#[derive(Debug)]
pub(super) struct Requests(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    by_path: BTreeMap<(String, String), Tally>,
    recent: [Slot; RECENT],
}

impl Default for Requests {
    fn default() -> Self {
        Requests(Mutex::new(Counts { by_path: BTreeMap::new(), recent: [Slot::default(); RECENT] }))
    }
}

impl Requests {
    pub fn note(&self, path: &str, method: &str, failed: bool, from: Timestamp, to: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = counts.by_path.entry((path.to_owned(), method.to_owned())).or_default();
        tally.count += 1;
        tally.failed += u64::from(failed);
        // The clock may have been set back meanwhile.
        tally.seconds += to.nanos().saturating_sub(from.nanos()).max(0) as f64 / 1e9;
        let second = to.nanos().div_euclid(SECOND);
        let slot = &mut counts.recent[second.rem_euclid(RECENT as i64) as usize];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot.count += 1;
        slot.failed += u64::from(failed);
    }

    /// Requests of the last minute, and those of them that failed.
    fn of_last_minute(&self, now: Timestamp) -> (u64, u64) {
        let second = now.nanos().div_euclid(SECOND);
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = counts.recent.iter().filter(|slot| (0..RECENT as i64).contains(&(second - slot.second)));
        recent.fold((0, 0), |(count, failed), slot| (count + slot.count, failed + slot.failed))
    }

    pub fn own_metrics(&self, now: Timestamp) -> Vec<OwnMetric> {
        let (count, failed) = self.of_last_minute(now);
        let by_path = self.0.lock().unwrap_or_else(PoisonError::into_inner).by_path.clone();
        let each = |name, help, of: fn(&Tally) -> f64| {
            let row = |((path, method), tally): (&(String, String), &Tally)| {
                (vec![("endpoint", path.clone()), ("method", method.clone())], of(tally))
            };
            OwnMetric::each(name, help, &by_path, row)
        };
        let took = "Time until an answer is ready, on average since the start.";
        vec![
            each("http_requests_total", "Requests answered.", |tally| tally.count as f64),
            each("http_response_seconds_total", "Time until answers were ready.", |tally| tally.seconds),
            each("http_failures_total", "Requests that failed in the server.", |tally| tally.failed as f64),
            each("optimized_response_time_seconds", took, |tally| tally.seconds / tally.count as f64),
            OwnMetric::one(
                "throughput_requests_per_second",
                "Requests of the last minute.",
                count as f64 / RECENT as f64,
            ),
            OwnMetric::one(
                "error_rate_percentage",
                "Those of them that failed in the server.",
                100.0 * failed as f64 / count.max(1) as f64,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_since_the_start_and_of_the_last_minute() {
        let (requests, at) = (Requests::default(), |seconds: i64| Timestamp::from_nanos(seconds * SECOND));
        requests.note("/write", "POST", false, at(100), at(102));
        requests.note("/write", "POST", true, at(130), at(131));
        // A clock that goes back takes no time away.
        requests.note("/health", "GET", false, at(131), at(130));
        assert_eq!(
            [131, 161, 162, 189, 190, 191].map(|now| requests.of_last_minute(at(now))),
            [(3, 1), (3, 1), (2, 1), (2, 1), (1, 1), (0, 0)]
        );
        let told = crate::ingest::own_text(&requests.own_metrics(at(140)));
        for line in [
            "# TYPE plimsoll_http_response_seconds_total counter",
            "plimsoll_http_response_seconds_total{endpoint=\"/write\",method=\"POST\"} 3",
            "plimsoll_optimized_response_time_seconds{endpoint=\"/write\",method=\"POST\"} 1.5",
            "plimsoll_http_response_seconds_total{endpoint=\"/health\",method=\"GET\"} 0",
            "plimsoll_http_failures_total{endpoint=\"/write\",method=\"POST\"} 1",
            "plimsoll_throughput_requests_per_second 0.05",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
    }
}
