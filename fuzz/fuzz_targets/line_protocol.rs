//! Line protocol: nothing panics, and a body cut at a line's end gives the same samples as the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::line_protocol::{LineCache, LineOptions, Precision, read_lines};
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (first, body) = choice(data);
    let units = [Precision::Nanos, Precision::Micros, Precision::Millis, Precision::Seconds, Precision::Hours];
    let options = LineOptions { precision: units[usize::from(first) % units.len()], now: NOW };
    let (judge, cache) = (Judge::default(), LineCache::default());
    let read = |body: &[u8]| {
        let mut taken = (0, 0);
        judge.watch(&Default::default(), |gather| {
            let report = read_lines(body, 1, options, &cache, gather).expect("this intake takes everything");
            gather.flush().expect("this intake takes everything");
            taken = (gather.accepted(), gather.faults.count);
            assert!(report.lines <= body.len() as u64 + 1);
        });
        taken
    };
    // The second time every head is known.
    assert_eq!(read(body), read(body));
});
