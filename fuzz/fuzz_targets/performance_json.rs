//! Performance events: an object or an array of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::read_performance;
use plimsoll_fuzz::{Judge, NOW};

fuzz_target!(|data: &[u8]| {
    Judge::default().watch(&Default::default(), |gather| {
        // What is no JSON is an error.
        let _ = read_performance(data, NOW, gather);
    });
});
