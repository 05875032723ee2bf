//! StatsD and DogStatsD: lines in, what is told at flushes out; what is held is bounded.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::{Aggregate, AggregateLimits};
use plimsoll_fuzz::{Judge, NOW};

fuzz_target!(|data: &[u8]| {
    let limits = AggregateLimits { series: 8, expire: Duration::from_secs(20) };
    let (judge, mut aggregate) = (Judge::default(), Aggregate::new(limits));
    judge.watch(&Default::default(), |gather| {
        for (at, line) in data.split(|&byte| byte == b'\n').enumerate() {
            let elapsed = Duration::from_secs(at as u64);
            let _ = aggregate.take(line, elapsed, gather).expect("this intake takes everything");
            assert!(aggregate.held() <= limits.series);
            if at % 16 == 15 {
                aggregate.tell(NOW, NOW.plus(-10_000_000_000), elapsed, gather).expect("this intake takes everything");
            }
        }
        aggregate.tell(NOW, NOW, Duration::from_secs(1 << 20), gather).expect("this intake takes everything");
        assert_eq!(aggregate.held(), 0, "all of it has expired");
    });
});
