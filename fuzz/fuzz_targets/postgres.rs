//! Statements of PostgreSQL, made texts of labels: short, and the same whether literals are long or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::ingest::answers::postgres_statement;

fuzz_target!(|data: &[u8]| {
    let statement = String::from_utf8_lossy(data);
    let short = postgres_statement(&statement);
    assert!(short.chars().count() <= 161, "{short}");
    assert!(!short.ends_with(' '), "{short:?}");
    let literal = format!("SELECT '{}'", statement.replace('\'', "''"));
    assert_eq!(postgres_statement(&literal), "SELECT ?");
});
