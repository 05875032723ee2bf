//! OTLP in protobuf and JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::otlp::{Otlp, OtlpEncoding};
use plimsoll_fuzz::{Judge, NOW, choice};

fuzz_target!(|data: &[u8]| {
    let (first, body) = choice(data);
    let encoding = if first & 1 == 0 { OtlpEncoding::Protobuf } else { OtlpEncoding::Json };
    let (judge, known) = (Judge::default(), std::sync::Arc::default());
    let otlp = Otlp::new(std::sync::Arc::clone(&known), 1 << 20);
    for _ in 0..2 {
        judge.watch(&known, |gather| {
            // What does not decode is an error.
            if let Ok(report) = otlp.take(body, encoding, NOW, gather) {
                assert!(report.refused <= report.points);
                assert!(!encoding.answer(&report).is_empty() || report.refused == 0);
            }
        });
    }
});
