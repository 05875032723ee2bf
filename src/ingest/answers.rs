//! Doors to the parsers of what servers and commands answer, for the targets under `fuzz/`: text in, nothing kept.

use super::{Readings, SourceError, exec, postgres, redis};

/// What a plugin of Nagios printed before it ended with a code.
///
/// # Errors
/// Where there is nothing to take.
pub fn nagios(out: &[u8], code: Option<i32>) -> Result<Readings, SourceError> {
    exec::nagios::read(out, code, "check")
}

/// The answer of Redis to `INFO all`.
pub fn redis_info(text: &str) -> Readings {
    let mut readings = Readings::default();
    redis::info::Info::parse(text).put(&mut readings);
    readings
}

/// Lines of Redis' MONITOR, the keys in `there` being there in the end.
pub fn redis_monitor(lines: &[u8], there: &[u8]) -> Readings {
    redis::monitor::inferred(lines, there)
}

/// A statement of PostgreSQL as the text of a label.
pub fn postgres_statement(statement: &str) -> String {
    postgres::text::shorten(statement)
}
