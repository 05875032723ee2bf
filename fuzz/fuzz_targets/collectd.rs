//! What collectd's `write_http` sends as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::read_collectd;
use plimsoll_fuzz::Judge;

fuzz_target!(|data: &[u8]| {
    Judge::default().watch(&Default::default(), |gather| {
        // What is no JSON is an error.
        let _ = read_collectd(data, gather);
    });
});
