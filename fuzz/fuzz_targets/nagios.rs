//! What plugins of Nagios print.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::answers;
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (first, out) = choice(data);
    let code = (first < 200).then_some(i32::from(first) % 5);
    // What says nothing is an error.
    if let Ok(readings) = answers::nagios(out, code) {
        Judge::default().watch(&Default::default(), |gather| {
            readings.gather(NOW, &[], gather).expect("this intake takes everything");
        });
    }
});
