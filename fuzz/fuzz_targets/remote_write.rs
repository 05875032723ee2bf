//! Prometheus remote write: the first byte picks the version. What is read twice must come to the same.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::{Known, RemoteWrite};
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (version, body) = choice(data);
    let version = if version & 1 == 0 { RemoteWrite::V1 } else { RemoteWrite::V2 };
    let (judge, others, known) = (Judge::default(), Arc::default(), Known::default());
    let read = || {
        let mut told = None;
        judge.watch(&others, |gather| {
            let written = version.read(body, NOW, &known, gather).expect("this intake takes everything");
            told = Some((written, gather.faults.clone()));
        });
        told
    };
    assert_eq!(read(), read(), "known series are read as new ones are");
});
