//! Any JSON, its numbers flattened and taken by path.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::{JsonMetric, JsonRules};
use plimsoll_fuzz::{Judge, NOW};

static RULES: LazyLock<[JsonRules; 2]> = LazyLock::new(|| {
    let text = r#"[{"name": "a", "path": "$..v", "labels": {"n": "n", "k": "~0", "o": "~1"}}, {"name": "b", "path": "/a/0"}]"#;
    let metrics: Vec<JsonMetric> = serde_json::from_str(text).expect("as in the settings");
    [JsonRules::new(&[], None, "id", true), JsonRules::new(&metrics, Some("p"), "id", false)]
});

fuzz_target!(|data: &[u8]| {
    for rules in &*RULES {
        // What is no JSON is an error.
        if let Ok(readings) = rules.read(data) {
            Judge::default().watch(&Default::default(), |gather| {
                readings.gather(NOW, &[], gather).expect("this intake takes everything");
            });
        }
    }
});
