//! What Redis answers to INFO, and what MONITOR shows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::answers;
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (first, text) = choice(data);
    let readings = match first & 1 {
        0 => answers::redis_info(&String::from_utf8_lossy(text)),
        _ => answers::redis_monitor(text, b"k"),
    };
    Judge::default().watch(&Default::default(), |gather| {
        readings.gather(NOW, &[], gather).expect("this intake takes everything");
    });
});
