//! Remote write 1.0 and 2.0, plain and behind snappy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::RemoteWrite;
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (first, body) = choice(data);
    let version = if first & 1 == 0 { RemoteWrite::V1 } else { RemoteWrite::V2 };
    let (judge, known) = (Judge::default(), Default::default());
    // The second time every series is known.
    let read = || {
        let mut written = None;
        judge.watch(&known, |gather| {
            written = Some(version.read(body, NOW, &known, gather).expect("this intake takes everything"));
        });
        written
    };
    assert_eq!(read(), read());
});
