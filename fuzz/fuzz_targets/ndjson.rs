//! A JSON object a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::read_ndjson;
use plimsoll_fuzz::Judge;

fuzz_target!(|data: &[u8]| {
    Judge::default().watch(&Default::default(), |gather| {
        read_ndjson(&mut &data[..], gather).expect("a body in memory");
    });
});
