//! Prometheus text and OpenMetrics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::read_prometheus;
use plimsoll_fuzz::{Judge, NOW};

fuzz_target!(|data: &[u8]| {
    let (judge, known) = (Judge::default(), Default::default());
    for _ in 0..2 {
        judge.watch(&known, |gather| {
            let lines = read_prometheus(&mut &data[..], NOW, gather).expect("a body in memory");
            assert!(gather.accepted() + gather.faults.count <= lines.max(gather.faults.count));
        });
    }
});
