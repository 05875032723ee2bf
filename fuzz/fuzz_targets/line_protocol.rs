//! Line protocol: nothing panics, what is known gives the same samples as what is new, and an input the same as a body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::line_protocol::{LineCache, LineOptions, Precision, read_line_protocol, read_lines};
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
    let taken = read(body);
    // The second time every head is known.
    assert_eq!(taken, read(body));
    judge.watch(&Default::default(), |gather| {
        read_line_protocol(&mut &*body, options, &cache, gather).expect("memory can be read");
        gather.flush().expect("this intake takes everything");
        assert_eq!(taken, (gather.accepted(), gather.faults.count));
    });
});
