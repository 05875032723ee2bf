//! Several upstreams: which is sent to next, and which are left alone for a while.

use std::time::Duration;

use super::web::back_off;
use crate::flow::{ForwardSpec, Strategy};

/// Requests at a time to one that is well. Where a series stays with one there is one, so that its samples come in order.
const AT_ONCE: u32 = 4;
/// What the latest answer counts among those before.
const LATEST: f64 = 0.3;

/// One upstream and how it is doing.
#[derive(Debug)]
pub(super) struct Upstream {
    pub url: String,
    weight: u32,
    in_flight: u32,
    /// In a row.
    failures: u32,
    /// It is left alone until then.
    out_until: Duration,
    /// How long answers take, the latest counting most; 0 before the first.
    seconds: f64,
    /// How far its turn has come, of [`Strategy::Weighted`].
    turn: i64,
    /// How loaded it says it is, 0 to 1.
    pub utilization: Option<f64>,
}

/// All of a sink.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub all: Vec<Upstream>,
    pub strategy: Strategy,
    /// Whose turn is next, of [`Strategy::RoundRobin`].
    next: usize,
}

impl Upstreams {
    pub fn new(spec: &ForwardSpec) -> Self {
        let upstream = |spec: crate::flow::UpstreamSpec| Upstream {
            url: spec.url,
            weight: spec.weight,
            in_flight: 0,
            failures: 0,
            out_until: Duration::ZERO,
            seconds: 0.0,
            turn: 0,
            utilization: None,
        };
        Upstreams { all: spec.all().into_iter().map(upstream).collect(), strategy: spec.strategy, next: 0 }
    }

    /// One that can be sent to now, by the strategy; `None` where all are busy or left alone.
    pub fn pick(&mut self, now: Duration) -> Option<usize> {
        let able: Vec<usize> = (0..self.all.len()).filter(|&at| self.is_able(at, now)).collect();
        let least = |of: &dyn Fn(&Upstream) -> f64| {
            able.iter().copied().min_by(|&a, &b| of(&self.all[a]).total_cmp(&of(&self.all[b])))
        };
        let by_connections = |upstream: &Upstream| f64::from(upstream.in_flight) / f64::from(upstream.weight);
        let picked = match self.strategy {
            Strategy::RoundRobin | Strategy::Hash => {
                let places = self.all.len();
                able.iter().copied().min_by_key(|&at| (at + places - self.next) % places)
            }
            Strategy::Weighted => self.by_turn(&able),
            Strategy::LeastConnections => least(&by_connections),
            Strategy::LeastResponseTime => {
                least(&|upstream| upstream.seconds * f64::from(upstream.in_flight + 1) / f64::from(upstream.weight))
            }
            // One that does not say how loaded it is counts as half loaded.
            Strategy::Resource if self.all.iter().any(|upstream| upstream.utilization.is_some()) => {
                least(&|upstream| upstream.utilization.unwrap_or(0.5) + 0.1 * by_connections(upstream))
            }
            Strategy::Resource => least(&by_connections),
        }?;
        self.next = (picked + 1) % self.all.len();
        Some(picked)
    }

    /// Each goes ahead by its weight, the foremost is picked and falls back by all weights: so turns are spread evenly.
    fn by_turn(&mut self, able: &[usize]) -> Option<usize> {
        let total: i64 = able.iter().map(|&at| i64::from(self.all[at].weight)).sum();
        able.iter().for_each(|&at| self.all[at].turn += i64::from(self.all[at].weight));
        let picked = able.iter().copied().max_by_key(|&at| (self.all[at].turn, std::cmp::Reverse(at)))?;
        self.all[picked].turn -= total;
        Some(picked)
    }

    /// The one that a series belongs to, of those that are not left alone: whichever it is, another's coming and going
    /// moves no series but that one's own (rendezvous hashing).
    pub fn pick_for(&self, series: &[u8], now: Duration) -> Option<usize> {
        let able = (0..self.all.len()).filter(|&at| self.all[at].out_until <= now);
        able.max_by(|&a, &b| self.all[a].claim(series).total_cmp(&self.all[b].claim(series)))
    }

    /// Whether it can be sent to now.
    pub fn is_able(&self, at: usize, now: Duration) -> bool {
        let upstream = &self.all[at];
        let most = if self.strategy == Strategy::Hash || upstream.failures > 0 { 1 } else { AT_ONCE };
        upstream.out_until <= now && upstream.in_flight < most
    }

    /// When the next of those that are left alone is tried again.
    pub fn next_try(&self) -> Duration {
        self.all.iter().map(|upstream| upstream.out_until).min().unwrap_or_default()
    }

    pub fn sent(&mut self, at: usize) {
        self.all[at].in_flight += 1;
    }

    /// It answered. Whether it had failed before.
    pub fn answered(&mut self, at: usize, took: Duration) -> bool {
        let upstream = &mut self.all[at];
        upstream.in_flight = upstream.in_flight.saturating_sub(1);
        let (before, now) = (upstream.seconds, took.as_secs_f64());
        upstream.seconds = if before == 0.0 { now } else { before * (1.0 - LATEST) + now * LATEST };
        std::mem::take(&mut upstream.failures) > 0
    }

    /// It failed: it is left alone for a while. Whether that is new.
    pub fn failed(&mut self, at: usize, now: Duration, retry_after: Option<Duration>) -> bool {
        let upstream = &mut self.all[at];
        upstream.in_flight = upstream.in_flight.saturating_sub(1);
        // Requests that were on their way together fail together.
        if upstream.out_until <= now {
            upstream.failures += 1;
            upstream.out_until = now + back_off(upstream.failures, retry_after);
        }
        upstream.failures == 1
    }
}

impl Upstream {
    /// How much it wants a series; the largest of all gets it.
    fn claim(&self, series: &[u8]) -> f64 {
        let hash = hash(self.url.as_bytes(), series);
        // Above 0 and below 1.
        let share = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(self.weight) / share.ln()
    }
}

/// FNV-1a and a last mixing (splitmix64): the same on every machine, for ever.
fn hash(upstream: &[u8], series: &[u8]) -> u64 {
    let bytes = upstream.iter().chain(&[0xFF]).chain(series);
    let hash =
        bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

/// What a page of metrics says of how loaded its server is: the largest of its resources.
pub(super) fn utilization(page: &str) -> Option<f64> {
    let lines = page.lines().filter(|line| line.starts_with("plimsoll_resource_utilization"));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.filter(|value| value.is_finite()).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn upstreams(strategy: &str, weights: &[u32]) -> Upstreams {
        let all = weights.iter().enumerate();
        let all: Vec<String> =
            all.map(|(at, weight)| format!("{{ url = \"http://h{at}/w\", weight = {weight} }}")).collect();
        let text = format!("strategy = \"{strategy}\"\nupstreams = [{}]", all.join(", "));
        Upstreams::new(&toml::from_str(&text).unwrap())
    }

    fn picks(upstreams: &mut Upstreams, count: usize) -> Vec<usize> {
        (0..count).map(|_| upstreams.pick(NOW).unwrap()).collect()
    }

    #[test]
    fn turns_go_round_and_by_weight() {
        assert_eq!(picks(&mut upstreams("round-robin", &[1, 1, 1]), 5), [0, 1, 2, 0, 1]);
        assert_eq!(picks(&mut upstreams("weighted", &[5, 1, 1]), 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn the_least_busy_and_the_quickest_are_picked() {
        let mut all = upstreams("least-connections", &[1, 1]);
        all.sent(0);
        assert_eq!(all.pick(NOW), Some(1));
        let mut all = upstreams("least-response-time", &[1, 1]);
        all.answered(0, Duration::from_millis(200));
        all.answered(1, Duration::from_millis(100));
        assert_eq!(all.pick(NOW), Some(1));
        all.sent(1);
        all.sent(1);
        assert_eq!(all.pick(NOW), Some(0));
    }

    #[test]
    fn the_least_loaded_is_picked_and_the_least_busy_where_none_says() {
        let mut all = upstreams("resource", &[1, 1]);
        all.sent(0);
        assert_eq!(all.pick(NOW), Some(1));
        all.all[0].utilization = utilization("a 1\nplimsoll_resource_utilization{resource=\"cpu\"} 0.1\n");
        all.all[1].utilization = utilization("plimsoll_resource_utilization{resource=\"cpu\"} 0.9\n");
        assert_eq!(all.pick(NOW), Some(0));
        assert_eq!(utilization("plimsoll_up 1\n"), None);
    }

    #[test]
    fn one_that_fails_is_left_alone_longer_and_longer_and_as_long_as_it_says() {
        let mut all = upstreams("round-robin", &[1, 1]);
        assert!(all.failed(0, NOW, None));
        assert_eq!(picks(&mut all, 3), [1, 1, 1]);
        assert_eq!(all.all[0].out_until, NOW + Duration::from_secs(1));
        let later = NOW + Duration::from_secs(1);
        assert!(!all.failed(0, later, Some(Duration::from_secs(30))));
        assert_eq!(all.all[0].out_until, later + Duration::from_secs(30));
        assert!(!all.failed(0, later, None));
        assert_eq!(all.all[0].failures, 2);
        all.failed(1, later, None);
        assert_eq!((all.pick(later), all.next_try()), (None, later + Duration::from_secs(1)));
        assert!(all.answered(0, Duration::from_secs(1)));
    }

    #[test]
    fn a_series_stays_with_one_and_others_take_over_only_what_is_its_own() {
        let mut all = upstreams("hash", &[1, 1, 2]);
        let series: Vec<String> = (0..4000).map(|at| format!("cpu{{host=\"{at}\"}}")).collect();
        let of = |all: &Upstreams| -> Vec<usize> {
            series.iter().map(|series| all.pick_for(series.as_bytes(), NOW).unwrap()).collect()
        };
        let before = of(&all);
        let shares: Vec<usize> = (0..3).map(|at| before.iter().filter(|&&owner| owner == at).count()).collect();
        assert!(
            shares.iter().zip([1000, 1000, 2000]).all(|(&share, wanted)| share.abs_diff(wanted) < 150),
            "{shares:?}"
        );
        all.failed(0, NOW, None);
        let during = of(&all);
        assert!(before.iter().zip(&during).all(|(before, during)| if *before == 0 {
            *during != 0
        } else {
            before == during
        }));
        let later = NOW + Duration::from_secs(1);
        assert!(series.iter().zip(&before).all(|(series, &at)| all.pick_for(series.as_bytes(), later) == Some(at)));
    }
}
