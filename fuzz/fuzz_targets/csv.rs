//! CSV, mapped and wide.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::{CsvMapping, read_csv};
use plimsoll_fuzz::{Judge, choice};

fuzz_target!(|data: &[u8]| {
    let (first, body) = choice(data);
    let named = |bit: u8, name: &str| (first & bit != 0).then(|| name.to_owned());
    let labels = if first & 8 != 0 { vec![("host".to_owned(), "{host}".to_owned())] } else { Vec::new() };
    let mapping = CsvMapping { time: named(1, "time"), value: named(2, "value"), metric: named(4, "m"), labels };
    Judge::default().watch(&Default::default(), |gather| {
        // Without a header that fits there is nothing to read.
        let _ = read_csv(&mut &body[..], &mapping, "stem", gather);
    });
});
