//! OTLP: the first byte chooses protobuf or JSON.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::Known;
use plimsoll::ingest::otlp::{Otlp, OtlpEncoding, OtlpError};
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (choice, body) = choice(data);
    let encoding = if choice % 2 == 0 { OtlpEncoding::Protobuf } else { OtlpEncoding::Json };
    let known: Arc<Known> = Arc::default();
    let (judge, otlp) = (Judge::default(), Otlp::new(known.clone(), 1 << 20));
    // Twice: what is known goes another way.
    for _ in 0..2 {
        judge.watch(&known, |gather| match otlp.take(body, encoding, NOW, gather) {
            Ok(report) => assert!(report.refused <= report.points && report.told.is_empty() == (report.refused == 0)),
            Err(OtlpError::Body(_)) => {}
            Err(OtlpError::Refused(refusal)) => panic!("this intake takes everything: {refusal}"),
        });
    }
});
