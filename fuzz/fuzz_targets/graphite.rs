//! Graphite's plaintext, a line at a time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::read_graphite_line;
use plimsoll_fuzz::{Judge, NOW};

fuzz_target!(|data: &[u8]| {
    let known = Default::default();
    Judge::default().watch(&known, |gather| {
        for line in data.split(|&byte| byte == b'\n') {
            let _ = read_graphite_line(line, NOW, &known, gather).expect("this intake takes everything");
        }
    });
});
